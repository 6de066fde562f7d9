"""Permission profiles as pages: item by item, copies, overtaken edits, refused deletions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import PermissionProfile, Role
from services.actors import DELEGABLE
from tests.support.factories import find_customer, make_profile, make_user
from tests.support.pages import CheckingClient, check_page

SignInAs = Callable[[str], CheckingClient]

ADMIN = "prpkeAdmin@kenton-electronics.com"
URL = "/customers/CQ001/profiles"
HOSTILE = ("<script>alert(1)</script>", "=cmd|' /C calc'!A0", "((first name))", "{{ 7 * 7 }}",
           "a\r\nb", "x" * 300, "\u202ex", "a\0b", "")  # fmt: skip


@pytest.fixture
def alice(sign_in_as: SignInAs) -> CheckingClient:
    return sign_in_as(ADMIN)


def fill(client: CheckingClient, path: str, **changes: Any) -> Any:
    page = client.page(path)
    form = next(each for each in page.all("form") if each.get("action") == path)
    return client.post(path, data=page.fields(form) | changes)


def rows(app: Flask) -> dict[str, list[str]]:
    with app.app_context():
        of_kenton = PermissionProfile.customer_id == find_customer("CQ001").id
        found = db.session.scalars(sa.select(PermissionProfile).where(of_kenton)).all()
        return {each.name: each.permissions for each in found}


def test_a_profile_is_made_item_by_item(app: Flask, alice: CheckingClient) -> None:
    assert "nobody can be made a supervisor" in alice.page(URL).text()
    page = alice.page(f"{URL}/new")
    boxes = page.all("input", name="permissions")
    assert {box.get("value") for box in boxes} == DELEGABLE
    assert "Needs See users and See mailings." in page.text()
    response = fill(
        alice, f"{URL}/new", name="Front desk", permissions=["users.read", "users.suspend"]
    )
    page = alice.page(response.location)
    assert "Front desk is made" in page.text()
    assert "Suspend and resume users, allowed" in page.text()
    assert "Delete users, not allowed" in page.text()
    assert rows(app) == {"Front desk": ["users.read", "users.suspend"]}
    assert "See users, Suspend and resume users" in alice.page(URL).text()


def test_what_is_refused_keeps_what_was_chosen(app: Flask, alice: CheckingClient) -> None:
    response = fill(alice, f"{URL}/new", name="", permissions=["mailings.send", "users.delete"])
    assert response.status_code == 422
    page = check_page(response)
    assert "Give it a name." in page.text()
    response = fill(alice, f"{URL}/new", name="X", permissions=["mailings.send"])
    assert response.status_code == 422
    page = check_page(response)
    assert "Send mails needs See users and See mailings." in page.text()
    ticked = [
        box.get("value")
        for box in page.all("input", name="permissions")
        if box.get("checked") is not None
    ]
    assert ticked == ["mailings.send"]
    assert page.one("input", name="name").get("value") == "X"
    assert rows(app) == {}


def test_a_copy_starts_from_the_other(app: Flask, alice: CheckingClient) -> None:
    with app.app_context():
        made = make_profile(find_customer("CQ001"), "users.read", name="Front desk").id
    path = f"{URL}/new?from={made}"
    response = fill(alice, path)
    assert response.status_code == 303
    assert rows(app) == {"Front desk": ["users.read"], "Front desk copy": ["users.read"]}
    assert fill(alice, path).status_code == 422
    with app.app_context():
        foreign = make_profile(find_customer("CQ002")).id
    for strange in (foreign, 0, "x", 10**30):
        assert alice.get(f"{URL}/new?from={strange}").status_code == 404


def test_an_edit_that_comes_second_is_told(
    app: Flask, alice: CheckingClient, sign_in_as: SignInAs
) -> None:
    with app.app_context():
        path = f"{URL}/{make_profile(find_customer('CQ001'), 'users.read', name='Desk').id}/edit"
    page = alice.page(path)
    mine = page.fields(page.one("form", action=path)) | {"name": "Mine", "permissions": []}
    fill(sign_in_as("operator@foyer.example"), path, name="Theirs")
    response = alice.post(path, data=mine)
    assert response.status_code == 409
    page = check_page(response)
    assert "It is called Theirs now and allows: See users." in page.text()
    assert page.one("input", name="name").get("value") == "Mine"
    again = page.fields(page.one("form", action=path))
    assert alice.post(path, data=again).status_code == 303
    assert rows(app) == {"Mine": []}
    for version in ("", "x", "-1", "9" * 30):
        assert alice.post(path, data={**again, "version": version}).status_code == 400


def test_a_profile_in_use_is_not_deleted(app: Flask, alice: CheckingClient) -> None:
    with app.app_context():
        kenton = find_customer("CQ001")
        profile = make_profile(kenton, name="Front desk").id
        user = make_user(kenton, role=Role.SUPERVISOR, profile_id=profile)
        name, user_id = user.full_name, user.id
    path = f"{URL}/{profile}/delete"
    page = alice.page(path)
    assert "1 supervisor has Front desk" in page.text()
    assert not page.all("form", action=path)
    response = alice.submit(path)
    assert response.status_code == 409
    check_page(response)
    link = next(each for each in page.all("a") if page.text(each) == "Show who has it")
    listed = alice.page(link.get("href"))
    assert name in listed.text()
    assert "Permission profile: Front desk" in listed.text()
    assert len(listed.all("tr", data_row="")) == 1
    alice.submit("/customers/CQ001/users/actions/delete", {"users": str(user_id)})
    page = alice.page(path)
    form = page.one("form", action=path)
    assert alice.post(path, data=page.fields(form)).location == URL
    assert rows(app) == {}


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_are_refused_or_harmless(alice: CheckingClient, text: str) -> None:
    response = fill(alice, f"{URL}/new", name=text, permissions=[text, "users.read"])
    assert response.status_code in {303, 422}
    if response.status_code == 303:
        response = alice.get(response.location)
        assert "<script>alert" not in alice.page(URL).source
    assert "<script>alert" not in response.text
    assert ">49<" not in response.text


def test_an_auditor_sees_profiles_and_edits_none(app: Flask, sign_in_as: SignInAs) -> None:
    with app.app_context():
        profile = make_profile(find_customer("CQ001"), "users.read", name="Front desk").id
    client = sign_in_as("auditor@foyer.example")
    for path in (URL, f"{URL}/{profile}"):
        page = client.page(path)
        labels = {page.text(each) for each in page.one("main").iter("a")}
        assert not labels & {"New profile", "Edit", "Delete", "Make a copy"}
