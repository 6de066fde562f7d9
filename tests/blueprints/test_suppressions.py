"""Suppressed addresses as pages show them, and clearing them without scripts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import Suppression
from services.bounces import record_bounce
from tests.support import dsns
from tests.support.bounces import ADMIN, address_of, read_again, send_welcome
from tests.support.factories import find_customer, make_user, save
from tests.support.pages import CheckingClient, Page

AUDITOR, LANDLORD = "auditor@foyer.example", "landlord@foyer.example"
URL = "/customers/CQ001/suppressed"
HOSTILE = '550 5.1.1 <script>alert("x")</script> {{ 7 * 7 }} \u202e\x1b[31m'

SignInAs = Callable[[str], CheckingClient]
one_database = pytest.mark.parametrize("engine_name", ["sqlite"])


@pytest.fixture
def bounced(app: Flask) -> tuple[int, int]:
    """Ids of a user whose welcome mail came back for good, and of the delivery."""
    with app.app_context():
        db.session.execute(sa.delete(Suppression))
        db.session.commit()
        user = make_user(find_customer("CQ001"), email="ada@nowhere.example", first_name="Ada")
        delivery_id = send_welcome(user)
        record_bounce(dsns.postfix(address_of(delivery_id), words=HOSTILE), None)
        return user.id, delivery_id


def rows(page: Page) -> list[str]:
    return [page.text(row) for row in page.all("tr", data_row="")]


def suppressed(app: Flask) -> set[str]:
    with app.app_context():
        return set(db.session.scalars(sa.select(Suppression.email_key)))


def test_the_list_says_who_why_and_since_when(
    app: Flask, bounced: tuple[int, int], sign_in_as: SignInAs
) -> None:
    page = sign_in_as(ADMIN).page(URL)
    (row,) = rows(page)
    assert "ada@nowhere.example" in row
    assert "Ada Name" in row
    assert "The mailbox does not exist." in row
    assert "Welcome" in row
    with app.app_context():
        mailing_id = read_again(bounced[1]).mailing_id
    client = sign_in_as(ADMIN)
    link = page.one("a", href=f"/customers/CQ001/mailings/{mailing_id}")
    assert client.get(link.get("href")).status_code == 200
    person = page.one("a", href=f"/customers/CQ001/users/{bounced[0]}")
    assert page.text(person).startswith("Ada Name")


def test_hostile_words_of_a_server_are_text(bounced: tuple[int, int], sign_in_as: SignInAs) -> None:
    client = sign_in_as(ADMIN)
    for path in (URL, f"/customers/CQ001/users/{bounced[0]}"):
        response = client.get(path)
        assert '<script>alert("x")' not in response.text
        assert "{{ 7 * 7 }}" in response.text
        assert "\u202e" not in response.text
        assert "\x1b" not in response.text


@one_database
def test_an_auditor_reads_and_cannot_select(bounced: tuple[int, int], sign_in_as: SignInAs) -> None:
    page = sign_in_as(AUDITOR).page(URL)
    assert len(rows(page)) == 1
    assert not page.all("input", name="address")
    assert "Clear" not in page.text(page.one("main"))
    shown = sign_in_as(AUDITOR).page(f"/customers/CQ001/users/{bounced[0]}")
    assert "Mail to ada@nowhere.example is suppressed" in shown.text()
    assert not [a for a in shown.all("a") if "/clear" in a.get("href", "")]


def test_clearing_is_confirmed_on_a_page_that_says_what_happens(
    app: Flask, bounced: tuple[int, int], sign_in_as: SignInAs
) -> None:
    client = sign_in_as(ADMIN)
    page = client.page(URL)
    form = page.one("form", id="suppressions-form")
    box = page.one("input", name="address")
    confirmation = client.page(f"{form.get('action')}?address={box.get('value')}")
    text = confirmation.text(confirmation.one("main"))
    assert "The next mail to this address is sent again" in text
    assert "ada@nowhere.example" in text
    assert suppressed(app) == {"ada@nowhere.example"}
    sending = confirmation.one("form", action=f"{URL}/clear")
    response = client.post(f"{URL}/clear", data=confirmation.fields(sending))
    assert response.status_code == 303
    after = client.page(response.location)
    assert "Cleared ada@nowhere.example. The next mail is sent again." in after.text()
    assert "No address of a user of KentonElectronics is suppressed." in after.text()
    assert suppressed(app) == set()
    again = client.post(f"{URL}/clear", data=confirmation.fields(sending))
    assert "not suppressed any more" in client.page(again.location).text()


@one_database
def test_several_are_cleared_at_once(
    app: Flask, bounced: tuple[int, int], sign_in_as: SignInAs
) -> None:
    with app.app_context():
        make_user(find_customer("CQ001"), email="bob@nowhere.example")
        save(Suppression(email_key="bob@nowhere.example", reason="The mailbox is disabled."))
    client = sign_in_as(LANDLORD)
    ids = [box.get("value") for box in client.page(URL).all("input", name="address")]
    page = client.page(f"{URL}/clear?address={ids[0]}&address={ids[1]}")
    assert page.text(page.one("h1")) == "Send to these addresses again"
    form = page.one("form", action=f"{URL}/clear")
    after = client.post(f"{URL}/clear", data=page.fields(form), follow_redirects=True)
    assert "Cleared 2 addresses." in after.text
    assert suppressed(app) == set()


def test_from_a_users_page_and_back(
    app: Flask, bounced: tuple[int, int], sign_in_as: SignInAs
) -> None:
    client = sign_in_as(ADMIN)
    shown = f"/customers/CQ001/users/{bounced[0]}"
    page = client.page(shown)
    (link,) = [a for a in page.all("a") if "/suppressed/clear" in a.get("href", "")]
    confirmation = client.page(link.get("href"))
    assert [a for a in confirmation.all("a", href=shown) if confirmation.text(a) == "Back"]
    form = confirmation.one("form", action=f"{URL}/clear")
    response = client.post(f"{URL}/clear", data=confirmation.fields(form))
    assert response.location == shown
    assert "is suppressed" not in client.page(shown).text(client.page(shown).one("main"))
    assert suppressed(app) == set()


@one_database
def test_nothing_selected_is_told(bounced: tuple[int, int], sign_in_as: SignInAs) -> None:
    client = sign_in_as(ADMIN)
    response = client.get(f"{URL}/clear")
    assert response.location == URL
    assert "No address is selected. Tick at least one." in client.page(URL).text()


@one_database
@pytest.mark.parametrize(
    "address",
    ["x", "-1", "0", "1.5", "9" * 30, "1;2", "\0", "٣", ",".join(map(str, range(1, 600)))],
)
def test_what_is_no_address_is_refused(
    app: Flask, bounced: tuple[int, int], sign_in_as: SignInAs, address: str
) -> None:
    client = sign_in_as(ADMIN)
    looked = client.get(f"{URL}/clear", query_string={"address": address})
    assert (looked.status_code, looked.location) == (303, URL)
    done = client.submit(f"{URL}/clear", {"address": address})
    assert done.status_code in {303, 400}
    assert suppressed(app) == {"ada@nowhere.example"}


@one_database
def test_an_address_of_another_customer_is_as_one_that_is_not_there(
    app: Flask, bounced: tuple[int, int], sign_in_as: SignInAs
) -> None:
    with app.app_context():
        make_user(find_customer("CQ002"), email="secret@harborlight.example")
        row = save(Suppression(email_key="secret@harborlight.example", reason="x"))
        foreign = row.id
    client = sign_in_as(ADMIN)
    answers = [client.get(f"{URL}/clear?address={each}") for each in (foreign, 999_999)]
    assert [each.location for each in answers] == [URL, URL]
    client.submit(f"{URL}/clear", {"address": str(foreign)})
    assert "secret@harborlight.example" in suppressed(app)
    assert "secret" not in client.get(URL).text


@one_database
def test_a_user_named_to_go_back_to_is_the_customers(
    app: Flask, bounced: tuple[int, int], sign_in_as: SignInAs
) -> None:
    with app.app_context():
        stranger = make_user(find_customer("CQ002")).id
    client = sign_in_as(LANDLORD)
    for named in (str(stranger), "x", "999999", "-1", "//evil.example"):
        response = client.get(f"{URL}/clear", query_string={"user": named})
        assert response.location == URL


def test_search_and_fragment(bounced: tuple[int, int], sign_in_as: SignInAs) -> None:
    client = sign_in_as(ADMIN)
    assert len(rows(client.fragment(f"{URL}?q=ada"))) == 1
    nothing = client.fragment(f"{URL}?q=zzz")
    assert "starts with “zzz”" in nothing.text()
    assert nothing.source.lstrip().startswith('<div id="suppressions-table"')
    assert client.page(f"{URL}?q=zzz&size=50").one("a", href=f"{URL}?size=50") is not None


@one_database
@pytest.mark.parametrize("parameter", ["q", "size", "cursor"])
@pytest.mark.parametrize("value", ["\0", "x" * 5000, "\ud800", "-1", "'", "٢٥", "<b>"])
def test_any_address_is_answered(
    bounced: tuple[int, int], sign_in_as: SignInAs, parameter: str, value: str
) -> None:
    value = value.encode("utf-8", "replace").decode()
    response = sign_in_as(ADMIN).get(URL, query_string={parameter: value})
    assert response.status_code == 200


@one_database
def test_the_users_tab_leads_there(sign_in_as: SignInAs) -> None:
    for login in (ADMIN, AUDITOR):
        page = sign_in_as(login).page("/customers/CQ001/users")
        assert page.one("a", href=URL).text == "Suppressed addresses"


@one_database
def test_who_has_no_address_suppressed_is_told_so(
    app: Flask, bounced: tuple[int, int], sign_in_as: SignInAs
) -> None:
    page = sign_in_as(LANDLORD).page("/customers/CQ002/suppressed")
    assert "No address of a user of Harborlight is suppressed." in page.text()
    assert not rows(page)
