"""Importing users: the pages, with and without scripts."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest
from flask import Flask

from extensions import db
from models import User
from services import user_imports
from tests.support.factories import actor_for, find_customer, find_user
from tests.support.pages import CheckingClient, Page
from tests.support.user_imports import (
    BUNDLE,
    SUFFIX,
    csv_file,
    people,
    person,
    sheet_of,
    text_row,
    users_named,
    workbook,
)

ADMIN = "prpkeAdmin@kenton-electronics.com"
URL = "/customers/CQ001/users"
SignInAs = Callable[[str], CheckingClient]


@pytest.fixture
def alice(sign_in_as: SignInAs) -> CheckingClient:
    """The administrator of CQ001."""
    return sign_in_as(ADMIN)


def send_file(client: CheckingClient, content: bytes, name: str = "people.csv") -> Any:
    """Upload a file. The body is made here: the client leaves the file of a large one open."""
    parts = [
        f'--x\r\nContent-Disposition: form-data; name="csrf_token"\r\n\r\n{client.token()}\r\n',
        f'--x\r\nContent-Disposition: form-data; name="file"; filename="{quoted(name)}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n",
    ]
    body = "".join(parts).encode() + content + b"\r\n--x--\r\n"
    return client.post(f"{URL}/imports", data=body, content_type="multipart/form-data; boundary=x")


def quoted(name: str) -> str:
    """A file's name as browsers write it into a header."""
    return name.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")


def uploaded(client: CheckingClient, content: bytes, name: str = "people.csv") -> str:
    """The address of an import that was uploaded."""
    response = send_file(client, content, name)
    assert response.status_code == 303, response.text
    return str(response.location)


def press(client: CheckingClient, address: str, action: str, **changes: Any) -> Any:
    """Send a form of a page as it stands, but for `changes`."""
    page = client.page(address)
    (form,) = [each for each in page.all("form") if each.get("action", "").endswith(action)]
    return client.post(form.get("action"), data=page.fields(form) | changes)


def checked(client: CheckingClient, work: Any, content: bytes, **changes: Any) -> str:
    address = uploaded(client, content)
    assert press(client, address, "/check", **changes).status_code == 303
    work()
    return address


def figures(page: Page) -> dict[str, str]:
    found = {}
    for item in page.one("ul", aria_label="Rows by state").iter("li"):
        label, _, number = page.text(item).rpartition(" ")
        found[label] = number
    return found


def test_a_file_becomes_users_without_scripts(
    app: Flask, alice: CheckingClient, work: Callable[[], None]
) -> None:
    page = alice.page(URL)
    (link,) = [each for each in page.all("a") if page.text(each) == "Import users"]
    page = alice.page(link.get("href"))
    assert f"@{SUFFIX}" in page.text(page.one("main"))
    address = uploaded(alice, csv_file(person("adele"), person("bert", email="?"), person("carl")))
    page = alice.page(address)
    assert "CSV, UTF-8, comma between the cells" in page.text(page.one("main"))
    chosen = [
        next(option.get("value") for option in each.iter("option") if "selected" in option.attrib)
        for each in page.all("select")
        if each.get("name", "").startswith("column-")
    ]
    assert chosen == ["login", "first_name", "last_name", "email", "extension", "bundle"]
    assert "adele@mail.example" in page.text(page.one("table"))

    response = press(alice, address, "/check")
    assert response.status_code == 303
    page = alice.page(address)
    assert page.all("progress")
    assert page.all("meta", http_equiv="refresh"), "the page does not come again by itself"
    work()
    page = alice.page(address)
    assert figures(page) == {"To add": "2", "With faults": "1"}
    assert "The e-mail address" in page.text(page.one("li", id="user-import-row-3"))
    assert page.text(page.one("button", class_="button button-primary")) == "Add 2 users"

    page = alice.page(f"{address}/rows/3")
    assert page.one("input", name="email").get("value") == "?"
    assert page.one("input", name="email").get("aria-invalid") == "true"
    response = press(alice, f"{address}/rows/3", "/rows/3", email="bert@")
    assert response.status_code == 422
    assert Page(response.text).one("input", name="email").get("value") == "bert@"
    response = press(alice, f"{address}/rows/3", "/rows/3", email="bert@mail.example")
    assert response.status_code == 303
    page = alice.page(address)
    assert figures(page) == {"To add": "3", "With faults": "0"}

    assert press(alice, address, "/start").status_code == 303
    work()
    page = alice.page(address)
    assert figures(page) == {"Added": "3", "Failed": "0"}
    assert page.text(page.one("h1")) == "people.csv"
    with app.app_context():
        assert len(users_named(find_customer("CQ001"))) == 3
    page = alice.page(f"{URL}/imports")
    assert "people.csv" in page.text(page.one("tbody"))

    assert press(alice, address, "/undo").status_code == 303
    work()
    assert figures(alice.page(address))["Deleted again"] == "3"
    with app.app_context():
        assert users_named(find_customer("CQ001")) == []


def test_rows_are_corrected_in_their_place(alice: CheckingClient, work: Callable[[], None]) -> None:
    address = checked(alice, work, csv_file(person("adele", extension="x"), person("bert")))
    fragment = alice.fragment(f"{address}/rows/2")
    form = fragment.one("form")
    assert form.get("hx-target") == "#user-import-row-2"
    data = fragment.fields(form) | {"csrf_token": alice.token()}
    headers = {"HX-Request": "true"}
    wrong = alice.post(f"{address}/rows/2", data=data | {"extension": "y"}, headers=headers)
    assert wrong.status_code == 422
    assert Page(wrong.text).one("li", id="user-import-row-2") is not None
    right = alice.post(f"{address}/rows/2", data=data | {"extension": "7"}, headers=headers)
    page = Page(right.text)
    assert right.status_code == 200
    assert page.one("div", id="user-imports-summary").get("hx-swap-oob") == "true"
    assert page.text(page.one("button", class_="button button-primary")) == "Add 2 users"
    assert "Row 2 is right now" in page.text()
    back = alice.fragment(f"{address}/rows/2?shown=row")
    assert not back.all("form", method="post", action=f"{address}/rows/2")


def test_progress_is_polled_until_it_leads_to_the_end(
    alice: CheckingClient, work: Callable[[], None]
) -> None:
    address = uploaded(alice, csv_file(*people(3)))
    press(alice, address, "/check")
    headers = {"HX-Request": "true"}
    response = alice.get(f"{address}/progress", headers=headers)
    assert "HX-Redirect" not in response.headers
    assert Page(response.text).one("div", id="user-imports-progress").get("hx-trigger")
    work()
    response = alice.get(f"{address}/progress", headers=headers)
    assert response.headers["HX-Redirect"] == address
    assert not Page(response.text).one("div", id="user-imports-progress").get("hx-trigger")
    assert alice.get(f"{address}/progress").status_code == 302


@pytest.mark.parametrize(
    ("content", "name", "reason"),
    [
        (b"", "x.csv", "The file is empty."),
        (b"\xd0\xcf\x11\xe0" + b"x" * 600, "x.xls", "of the old kind (.xls)"),
        (b"PK\x03\x04nonsense", "x.xlsx", "The workbook is damaged."),
        (bytes(range(256)) * 20, "x.png", "neither CSV nor .xlsx"),
        (b"a" * 1_200_000, "x.csv", None),
    ],
)
def test_what_is_no_table_is_refused_in_words(
    alice: CheckingClient, content: bytes, name: str, reason: str | None
) -> None:
    response = send_file(alice, content, name)
    if reason is None:
        assert response.status_code == 303
        response = press(alice, response.location, "/layout")
        assert response.status_code == 422
        reason = "a line of more than"
    assert response.status_code == 422
    assert reason in response.text
    assert alice.submit(f"{URL}/imports").status_code == 422


@pytest.mark.parametrize("settings_changes", [{"USER_IMPORT_MEGABYTES": "1"}])
def test_a_file_beyond_the_limit_is_refused_in_words(alice: CheckingClient) -> None:
    response = send_file(alice, b"login\n" + b"x\n" * 700_000)
    assert response.status_code == 422
    assert "The limit is 1 MB." in response.text
    assert send_file(alice, b"x\n" * 3_000_000).status_code == 413


def test_columns_that_cannot_be_are_refused_and_stay_as_chosen(alice: CheckingClient) -> None:
    address = uploaded(alice, csv_file(person("adele")))
    sent = {"column-0": "", "column-1": "last_name", "column-2": "last_name", "mode": "update"}
    response = press(alice, address, "/check", **sent)
    assert response.status_code == 422
    page = Page(response.text)
    assert "Two columns are the field “Last name”" in page.text(
        page.one("div", class_="error-summary")
    )
    second = page.one("select", name="column-1")
    assert [each.get("value") for each in second.iter("option") if "selected" in each.attrib] == [
        "last_name"
    ]
    update = page.one("input", name="mode", value="update")
    assert "checked" in update.attrib
    response = press(alice, address, "/check", mode="other")
    assert response.status_code == 422


def test_a_workbook_and_its_sheet(alice: CheckingClient, work: Callable[[], None]) -> None:
    first = sheet_of([text_row(1, "Notes")])
    second = sheet_of(
        [text_row(1, "Login", "Last name", "Bundle"), text_row(2, f"adele@{SUFFIX}", "A", BUNDLE)]
    )
    address = uploaded(alice, workbook(first, second, names=["One", "Two"]), "people.xlsx")
    assert press(alice, address, "/layout", sheet="1").status_code == 303
    page = alice.page(address)
    assert "sheet “Two”" in page.text(page.one("main"))
    assert press(alice, address, "/layout", sheet="7").status_code == 422
    assert press(alice, address, "/check").status_code == 303
    work()
    assert figures(alice.page(address)) == {"To add": "1", "With faults": "0"}


def test_faulty_rows_are_downloaded_with_a_reason(
    alice: CheckingClient, work: Callable[[], None]
) -> None:
    hostile = "=cmd|' /C calc'!A0"
    address = checked(alice, work, csv_file(person("adele", extension=hostile), person("bert")))
    response = press(alice, address, "/faults")
    assert response.mimetype == "text/csv"
    rows = list(csv.reader(io.StringIO(response.text.removeprefix("\ufeff"))))
    assert rows[0][-1] == "Reason"
    assert len(rows) == 2
    assert rows[1][4] == f"'{hostile}"
    assert "up to 16 digits" in rows[1][-1]
    again = uploaded(alice, response.data)
    page = alice.page(again)
    assert hostile in page.text(page.one("table")) or f"'{hostile}" in page.text(page.one("table"))


HOSTILE = [
    "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>",
    "=cmd|' /C calc'!A0",
    "((first name))",
    "{{ 7 * 7 }}",
    "a\r\nBcc: thief@evil.example",
    "x" * 300,
    "\u202eevil\u2066",
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_texts_are_texts_on_every_page(
    alice: CheckingClient, work: Callable[[], None], text: str
) -> None:
    row = [text] * 6
    address = uploaded(alice, csv_file(row, person("adele"), headings=[text] * 6), f"{text}.csv")
    response = press(alice, address, "/check", **{"column-0": "login", "column-2": "last_name"})
    assert response.status_code == 303
    work()
    for path in (address, f"{address}?state=faulty", f"{address}/rows/2", f"{URL}/imports"):
        body = alice.get(path).text
        assert "<script>alert" not in body
        assert "<img src=x" not in body
    response = press(alice, f"{address}/rows/2", "/rows/2", login=text, last_name=text)
    assert response.status_code in {303, 422}
    assert "<script>alert" not in response.text


def test_positions_and_ids_beyond_any_row_are_not_there(
    alice: CheckingClient, work: Callable[[], None]
) -> None:
    address = checked(alice, work, csv_file(person("adele")))
    for path in (
        f"{address}/rows/99",
        f"{address}/rows/{10**30}",
        f"{URL}/imports/{10**30}",
        f"{URL}/imports/{2**62}",
        "/customers/CQ002/users/imports",
    ):
        assert alice.get(path).status_code == 404, path
    for state in ("nonsense", "%00", "faulty&cursor=x"):
        assert alice.get(f"{address}?state={state}").status_code == 200
    long = alice.submit(f"{address}/rows/2", {"login": "x" * 3000})
    assert long.status_code == 422
    assert "The limit is" in long.text


ANYTHING = ["\0", "\ud800", "-1", "9" * 400, "'; DROP TABLE users; --", "x" * 5000, ""]


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_every_address_answers_whatever_is_sent(
    app: Flask, alice: CheckingClient, work: Callable[[], None]
) -> None:
    address = checked(alice, work, csv_file(person("adele", extension="x")))
    waiting = uploaded(alice, csv_file(person("bert")))
    names = "encoding delimiter sheet headed mode empty sends_welcome column-0 login email shown"
    token = alice.token()
    rules = [rule for rule in app.url_map.iter_rules() if rule.endpoint.startswith("user_imports.")]
    assert len(rules) > 10
    for rule in rules:
        path = rule.rule.replace("<web_id>", "CQ001")
        for start in (waiting, address):
            here = re.sub(r".*<[^>]*import_id>", start, path)
            here = re.sub(r"<[^>]*position>", "2", here)
            for text in ANYTHING:
                sent = dict.fromkeys([*names.split(), "state", "cursor"], text)
                query = urlencode(sent, errors="surrogatepass")
                if "GET" in (rule.methods or set()):
                    assert alice.get(f"{here}?{query}").status_code < 500, here
                else:
                    response = alice.post(
                        here,
                        data=f"{query}&csrf_token={token}",
                        content_type="application/x-www-form-urlencoded",
                    )
                    assert response.status_code < 500, here
                    response.close()  # A download is written while it is read.


def test_an_import_of_another_customer_is_not_there(
    app: Flask, alice: CheckingClient, sign_in_as: SignInAs
) -> None:
    with app.app_context():
        operator = actor_for("operator@foyer.example")
        theirs = user_imports.create_import(
            operator, find_customer("CQ002"), "x.csv", io.BytesIO(csv_file(person("adele")))
        )
        number = theirs.id
    for action in ("", "/progress", "/rows/2"):
        assert alice.get(f"{URL}/imports/{number}{action}").status_code == 404
    for action in ("/check", "/layout", "/start", "/cancel", "/undo", "/reopen", "/faults"):
        assert alice.submit(f"{URL}/imports/{number}{action}").status_code == 404
    auditor = sign_in_as("auditor@foyer.example")
    assert auditor.get(f"/customers/CQ002/users/imports/{number}").status_code == 403


def test_discarding_and_what_is_too_late(alice: CheckingClient, work: Callable[[], None]) -> None:
    address = checked(alice, work, csv_file(person("adele")))
    response = press(alice, address, "/cancel")
    assert response.status_code == 303
    assert "people.csv is discarded" in alice.page(response.location).text()
    for action in ("/check", "/layout", "/start", "/cancel", "/undo", "/reopen"):
        sent = {"encoding": "utf-8-sig", "delimiter": "comma", "column-0": "login"}
        assert alice.submit(address + action, sent).status_code == 409, action
    assert alice.page(address).text()


def test_welcome_mails_follow_and_are_linked(
    app: Flask, alice: CheckingClient, work: Callable[[], None], sink: Any
) -> None:
    address = checked(alice, work, csv_file(*people(2)), sends_welcome="y")
    assert "Then a welcome mail" in alice.page(address).text()
    press(alice, address, "/start")
    work()
    page = alice.page(address)
    (link,) = [each for each in page.all("a") if page.text(each) == "Welcome mails"]
    assert alice.get(link.get("href")).status_code == 200
    assert {mail.recipient for mail in sink.mails} == {
        f"imported{number}@mail.example" for number in (1, 2)
    }
    with app.app_context():
        user = find_user(f"imported1@{SUFFIX}")
        assert user.password_hash is not None
        assert db.session.query(User).filter_by(last_name="Imported").count() == 2
