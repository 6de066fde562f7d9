"""What is done with users at once: the page that asks, the outcome, the way back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import Role, User, UserStatus
from tests.support.factories import find_customer, find_user, make_customer, make_user
from tests.support.pages import CheckingClient, Page, check_page

SignInAs = Callable[[str], CheckingClient]

ADMIN = "prpkeAdmin@kenton-electronics.com"
URL = "/customers/CQ001/users"
STANDARD = "Stand4PhoneNextGenBundle"


@pytest.fixture
def alice(sign_in_as: SignInAs) -> CheckingClient:
    return sign_in_as(ADMIN)


@pytest.fixture
def three(app: Flask) -> list[int]:
    with app.app_context():
        kenton = find_customer("CQ001")
        return [make_user(kenton, last_name=f"Aaa{number}").id for number in range(3)]


def choose(client: CheckingClient, action: str, ids: list[int]) -> Page:
    """The page that asks, reached from the list as a browser without scripts does."""
    page = client.page(URL)
    form = page.one("form", id="users-form")
    data = page.fields(form) | {
        "selected": [str(each) for each in ids],
        "shown": ",".join(map(str, ids)),
        "action": action,
    }
    response = client.post(form.get("action"), data=data)
    assert response.status_code == 303, response.text
    return client.page(response.location)


def confirm(client: CheckingClient, page: Page, change: str, **changes: Any) -> Any:
    form = page.one("form", action=f"{URL}/actions/{change}")
    return client.post(form.get("action"), data=page.fields(form) | changes)


def statuses(app: Flask, ids: list[int]) -> list[str]:
    with app.app_context():
        found = {user.id: user for user in db.session.scalars(sa.select(User))}
        return [found[each].status.value for each in ids]


def test_a_selection_is_suspended_and_taken_back(
    app: Flask, alice: CheckingClient, three: list[int]
) -> None:
    page = choose(alice, "suspend", three)
    assert "3 users will be suspended" in page.text()
    assert "From this moment they cannot sign in" in page.text()
    assert "Nothing has been changed yet" in page.text()
    assert statuses(app, three) == ["active"] * 3

    response = confirm(alice, page, "suspend")

    assert statuses(app, three) == ["suspended"] * 3
    page = alice.page(response.location)
    assert "3 users are suspended, and signed out everywhere." in page.text()
    assert not [box for box in page.all("input", data_select_row="") if box.get("checked")]
    undo = page.one("form", action=f"{URL}/actions/resume")
    assert alice.post(undo.get("action"), data=page.fields(undo)).status_code == 303
    assert statuses(app, three) == ["active"] * 3


def test_who_stays_as_he_is_is_listed_with_the_reason(
    app: Flask, alice: CheckingClient, three: list[int]
) -> None:
    with app.app_context():
        kenton = find_customer("CQ001")
        barred = make_user(kenton, status=UserStatus.SUSPENDED).id
        me = find_user(ADMIN).id
    page = choose(alice, "suspend", [three[0], barred, me])
    (left_out,) = [
        each for each in page.all("section") if each.get("aria-labelledby") == "left-out"
    ]
    assert "2 will stay as they are" in page.text(left_out)
    assert "Suspended already" in page.text(left_out)
    assert "This is you" in page.text(left_out)
    confirm(alice, page, "suspend")
    assert statuses(app, [three[0], me]) == ["suspended", "active"]


def test_the_last_administrator_is_protected_from_the_operator_too(
    app: Flask, sign_in_as: SignInAs
) -> None:
    client = sign_in_as("operator@foyer.example")
    with app.app_context():
        admin = find_user(ADMIN).id
    for change in ("suspend", "delete"):
        page = client.page(f"{URL}/actions/{change}?user={admin}")
        assert "would be left without an active administrator" in page.text()
        assert "Nobody will be changed" in page.text()
        data = {"users": str(admin)}
        page = client.page(client.submit(f"{URL}/actions/{change}", data).location)
        assert "Nobody was changed. 1 was left out." in page.text()
    assert statuses(app, [admin]) == ["active"]


def test_one_user_is_suspended_and_resumed_from_his_page(
    app: Flask, alice: CheckingClient, three: list[int]
) -> None:
    path = f"{URL}/{three[0]}"
    page = alice.page(path)
    link = next(each for each in page.all("a") if page.text(each) == "Suspend")
    page = alice.page(link.get("href"))
    assert page.text(page.one("h1")) == "Suspend Given Aaa0"
    response = confirm(alice, page, "suspend")
    assert response.location == path
    page = alice.page(path)
    resume = [
        form
        for form in page.one("main").iter("form")
        if form.get("action") == f"{URL}/actions/resume"
    ]
    assert alice.post(f"{URL}/actions/resume", data=page.fields(resume[0])).location == path
    assert "active again" in alice.page(path).text()
    assert statuses(app, three[:1]) == ["active"]


def test_a_bundle_is_given_to_the_selection(
    app: Flask, alice: CheckingClient, three: list[int]
) -> None:
    page = choose(alice, "bundle", three)
    response = confirm(alice, page, "bundle", bundle="")
    assert response.status_code == 422
    page = check_page(response)
    assert "Choose a bundle." in page.text()
    response = confirm(alice, page, "bundle", bundle="<script>alert(1)</script>")
    assert response.status_code == 422
    assert "has no bundle" in response.text
    assert "<script>alert" not in response.text
    response = confirm(alice, page, "bundle", bundle=STANDARD)
    assert "3 users are given the new bundle." in alice.page(response.location).text()
    with app.app_context():
        found = [db.session.get_one(User, each).bundle for each in three]
        names = {bundle.name if bundle is not None else "" for bundle in found}
    assert names == {STANDARD}


def test_many_are_deleted_only_when_their_number_is_typed(
    app: Flask, alice: CheckingClient, three: list[int]
) -> None:
    page = choose(alice, "delete", three)
    assert "This cannot be undone" in page.text()
    for typed in ("", "2", "three", "\0", "9" * 400):
        response = confirm(alice, page, "delete", typed=typed)
        assert response.status_code == 422
        assert "Type 3 to confirm" in response.text
    assert statuses(app, three) == ["active"] * 3
    response = confirm(alice, page, "delete", typed="3")
    assert response.location == URL
    page = alice.page(URL)
    assert "3 users are deleted." in page.text()
    assert statuses(app, three) == ["deleted"] * 3
    assert "Aaa0" not in alice.page(f"{URL}?q=Aaa").text(alice.page(URL).one("main"))


def test_one_is_deleted_by_one_button(app: Flask, alice: CheckingClient, three: list[int]) -> None:
    page = alice.page(f"{URL}/actions/delete?user={three[0]}")
    assert "Delete Given Aaa0 for good" in page.text()
    assert confirm(alice, page, "delete").location == URL
    assert statuses(app, three) == ["deleted", "active", "active"]
    page = alice.page(f"{URL}/{three[0]}")
    assert "This user was deleted" in page.text()
    assert "Aaa0" not in page.source


def test_without_a_selection_there_is_nothing_to_ask(alice: CheckingClient) -> None:
    for change in ("suspend", "resume", "delete", "bundle"):
        response = alice.get(f"{URL}/actions/{change}")
        assert response.location == URL
        assert "No user is selected" in alice.page(URL).text()
        response = alice.submit(f"{URL}/actions/{change}", {"bundle": STANDARD})
        assert response.status_code == 400
    assert alice.get(f"{URL}/actions/promote").status_code == 404


def test_strangers_and_nonsense_among_the_users_change_nobody(
    app: Flask, alice: CheckingClient
) -> None:
    with app.app_context():
        foreign = make_user(find_customer("CQ002")).id
        before = [tuple(row) for row in db.session.execute(sa.select(User.__table__))]
    for users in (str(foreign), "0", "-1", "x", "1e3", str(10**30), "9" * 400, "\0", "\x00,1" * 9):
        for change in ("suspend", "resume", "delete", "bundle"):
            data = {"users": users, "bundle": STANDARD, "typed": "1"}
            response = alice.submit(f"{URL}/actions/{change}", data)
            assert response.status_code in {303, 400}, (users, response.status_code)
            response = alice.get(f"{URL}/actions/{change}", query_string={"user": users})
            assert response.status_code in {200, 303, 400}, (users, response.status_code)
            assert "Harborlight" not in response.text
    with app.app_context():
        assert [tuple(row) for row in db.session.execute(sa.select(User.__table__))] == before


def test_more_than_can_be_changed_at_once_are_refused(alice: CheckingClient) -> None:
    ids = ",".join(str(each) for each in range(1, 502))
    response = alice.submit(f"{URL}/actions/suspend", {"users": ids})
    assert response.status_code == 400
    assert "500 is the most" in response.text


def test_a_customer_without_bundles_offers_none(app: Flask, sign_in_as: SignInAs) -> None:
    with app.app_context():
        customer = make_customer()
        web_id = customer.web_id
        admin = make_user(customer, role=Role.CUSTOMER_ADMIN).login
    page = sign_in_as(admin).page(f"/customers/{web_id}/users")
    options = [page.text(each) for each in page.one("select", id="selection-action").iter("option")]
    assert "Suspend" in options
    assert "Change bundle" not in options
