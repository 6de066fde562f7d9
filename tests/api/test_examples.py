"""The examples of docs/api.md, run as they stand against a real server, and the seed's own call."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from services.demo_data import API_CREDENTIAL
from tests.browser.installation import Installation
from tests.support.databases import Templates
from tests.support.pages import Page
from tests.support.work import ROOT, wait_until

pytestmark = [
    pytest.mark.xdist_group("api examples"),
    pytest.mark.timeout(180),
    pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl"),
]

PAGE = (ROOT / "docs" / "api.md").read_text()
ADMIN = "admin@kenton-electronics.com"
_PASSWORD = re.compile(r"\b[A-HJ-NP-Za-km-z2-9]{20}\b")
LOGIN = "prpkeAdmin@kenton-electronics.com"


@pytest.fixture(scope="module")
def installation(
    _templates: Callable[[str], Templates], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    with (
        _templates("sqlite").copy("demo") as url,
        Installation(url, tmp_path_factory.mktemp("api")) as made,
    ):
        yield made


def blocks(language: str) -> str:
    """All examples in a language, one after the other as somebody reads them."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert len(found) >= 3
    return "\n".join(found)


def run(command: list[str], text: str, installation: Installation) -> str:
    name, secret = API_CREDENTIAL
    done = subprocess.run(
        command,
        input=text.replace("http://127.0.0.1:8000", installation.url),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={
            "PATH": os.environ["PATH"],
            "FOYER": installation.url,
            "FOYER_NAME": name,
            "FOYER_SECRET": secret,
        },
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_examples_with_curl(installation: Installation) -> None:
    mailed = len(installation.mails_to(ADMIN))

    shown = run(["bash", "-eu"], blocks("sh"), installation)

    assert '"web_id":"CQ001"' in shown
    assert "x-request-id: order-4711-attempt-1" in shown.lower()
    wait_until(lambda: len(installation.mails_to(ADMIN)) == mailed + 1)


def test_the_examples_with_python(installation: Installation) -> None:
    mailed = len(installation.mails_to(ADMIN))

    shown = run([sys.executable, "-W", "error", "-"], blocks("python"), installation)

    lines = shown.splitlines()
    assert lines[0] == "KentonElectronics CQ001"
    assert {"1001 KentonElectronics", "1002 Harborlight", "1003 Ostrava"} <= set(lines)
    assert [each for each in lines if each.startswith("now version")]
    assert "204" in lines
    assert lines[-1] == "colour This field is not known here."
    wait_until(lambda: len(installation.mails_to(ADMIN)) == mailed + 1)


SEED = r"""curl --location --request POST 'https://benzine.telcoinabox.com/tiab/api/v1/group//customer//send-welcome-email' \
--header 'Content-Type: application/json' \
--header 'Authorization: Basic Og==' \
--data-raw '{}'"""  # noqa: E501 - as its page has it
"""The request sample of the Octane REST API's page, without numbers and credentials."""


def test_the_first_clients_call(installation: Installation) -> None:
    """Verbatim but for host, numbers and credentials: 204, a mail, and its password signs in."""
    earlier = len(installation.mails_to(ADMIN))
    secret = base64.b64encode(":".join(API_CREDENTIAL).encode()).decode()
    command = (
        SEED.replace("https://benzine.telcoinabox.com", installation.url)
        .replace("/group//customer//", "/group/1/customer/1001/")
        .replace("Og==", secret)
    )

    shown = run(["bash", "-eu"], command + " --silent --include", installation)

    head, _, body = shown.replace("\r", "").partition("\n\n")
    assert re.match(r"HTTP/1\.1 204 ", head)
    assert re.search(r"^content-type: text/plain", head, re.IGNORECASE | re.MULTILINE)
    assert body == ""
    wait_until(lambda: len(installation.mails_to(ADMIN)) == earlier + 1)
    text = installation.mails_to(ADMIN)[0]["text"]
    portal, _application = _PASSWORD.findall(text)
    assert signs_in(installation, LOGIN, portal)


def signs_in(installation: Installation, login: str, password: str) -> bool:
    with requests.Session() as session:
        page = Page(session.get(f"{installation.url}/login", timeout=10).text)
        form = next(
            form for form in page.all("form") if form.get("action", "").startswith("/login")
        )
        fields = {**page.fields(form), "login": login, "password": password}
        answer = session.post(
            f"{installation.url}{form.get('action')}",
            data=fields,
            timeout=10,
            allow_redirects=False,
        )
        return answer.status_code == 303


def test_the_page_names_every_problem() -> None:
    from blueprints.api.problems import PROBLEMS

    for name in PROBLEMS:
        assert f"`{name}`" in PAGE, name


def test_the_page_is_linked() -> None:
    assert "docs/api.md" in Path(ROOT / "README.md").read_text()
