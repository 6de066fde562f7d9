"""Journeys of people through a real installation, in Chromium.

The tests of one group share an installation; each one that mails has a customer of its own, or the
users of CQ001 that no other test touches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.browser.installation import Installation, Tenant
from tests.browser.looking import DESKTOP, Check, look_at
from tests.browser.people import OpenPerson, Person
from tests.support.databases import Templates
from tools import chromium

_FLAGS = (
    "--no-sandbox",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)

MakeInstallation = Callable[..., AbstractContextManager[Installation]]


@pytest.fixture(scope="session")
def base_url() -> None:
    """In the place of pytest-base-url's, which pytest 9 warns of; each window has an address."""


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    path = chromium.find()
    if path is None:
        pytest.skip("there is no Chromium; `python -m tools.chromium` installs it on Debian")
    return {**browser_type_launch_args, "executable_path": str(path), "args": list(_FLAGS)}


@pytest.fixture(scope="session")
def _make_installation(
    _templates: Callable[[str], Templates], tmp_path_factory: pytest.TempPathFactory
) -> MakeInstallation:
    @contextmanager
    def make(engine: str, kind: str = "demo") -> Iterator[Installation]:
        with (
            _templates(engine).copy(kind) as url,
            Installation(url, tmp_path_factory.mktemp("f")) as made,
        ):
            yield made

    return make


@pytest.fixture(scope="session")
def installation(
    browser_type_launch_args: dict[str, Any], _make_installation: MakeInstallation
) -> Iterator[Installation]:
    """Foyer on SQLite, once per test process. Not where the browser is missing."""
    with _make_installation("sqlite") as made:
        yield made


@pytest.fixture
def each_installation(
    request: pytest.FixtureRequest, engine_name: str, _make_installation: MakeInstallation
) -> Iterator[Installation]:
    """Foyer on SQLite, and once more on PostgreSQL."""
    if engine_name == "sqlite":
        yield request.getfixturevalue("installation")
        return
    request.getfixturevalue("browser_type_launch_args")
    with _make_installation(engine_name) as made:
        yield made


@pytest.fixture
def empty_installation(
    browser_type_launch_args: dict[str, Any], _make_installation: MakeInstallation
) -> Iterator[Installation]:
    """Foyer on SQLite as it is after its migrations, without anybody in it."""
    with _make_installation("sqlite", "empty") as made:
        yield made


@pytest.fixture
def tenant(installation: Installation) -> Tenant:
    """A customer with 30 users."""
    return installation.add_tenant()


@pytest.fixture
def open_person(new_context: Any, request: pytest.FixtureRequest) -> Iterator[OpenPerson]:
    """`open_person(login)`: somebody signed in, in a window of his own; without login, a stranger.

    Everybody's console must have stayed empty at the end.
    """
    opened: list[Person] = []

    def open_one(login: str = "", *, at: Installation | None = None, **options: Any) -> Person:
        where = at or request.getfixturevalue("installation")
        options = {"viewport": DESKTOP, "reduced_motion": "reduce", **options}
        person = Person(where, new_context(base_url=where.url, **options))
        opened.append(person)
        if login:
            person.sign_in(login)
        return person

    yield open_one
    for person in opened:
        person.check_clean()


@pytest.fixture
def check() -> Iterator[Check]:
    """`check(page, name)`: look at a page in both themes and widths; all faults are told last."""
    faults: list[str] = []

    def look(page: Page, name: str, *, without: tuple[str, ...] = ()) -> None:
        faults.extend(look_at(page, name, without=without))

    yield look
    assert not faults, "\n" + "\n".join(faults)
