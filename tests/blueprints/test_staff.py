"""Staff and sign-in policies as pages, from the invitation to the end."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import Role, SignInPolicy, StaffInvitation, User, UserStatus
from services import second_factors
from services.demo_data import PASSWORD
from tests.support.factories import find_customer, find_user, make_user
from tests.support.pages import CheckingClient, Page
from tests.support.smtp_sink import SmtpSink

LANDLORD = "landlord@foyer.example"
OPERATOR = "operator@foyer.example"
NEW = "violet teapot on the moon"
ANNA = {
    "first_name": "Anna",
    "last_name": "Berg",
    "email": "anna.berg@foyer.example",
    "language": "en",
    "role": "operator",
    "reach": "all",
}

SignInAs = Callable[[str], CheckingClient]


@pytest.fixture
def landlord(sign_in_as: SignInAs) -> CheckingClient:
    return sign_in_as(LANDLORD)


def id_of(app: Flask, login: str) -> int:
    with app.app_context():
        return find_user(login).id


def untouched(client: CheckingClient, path: str) -> dict[str, Any]:
    """The fields of the page's form as they stand there."""
    page = client.page(path)
    (form,) = [each for each in page.all("form") if each.get("action") == path]
    return page.fields(form)


def errors_of(text: str) -> str:
    page = Page(text)
    return " ".join(page.text(each) for each in page.all("ul") if each.get("class") == "error-list")


def test_somebody_is_invited_and_gets_in(
    app: Flask,
    landlord: CheckingClient,
    client: CheckingClient,
    sink: SmtpSink,
    work: Callable[[], None],
) -> None:
    response = landlord.submit("/staff/invite", ANNA)
    assert response.status_code == 303
    shown = landlord.page(response.location)
    assert "The invitation is on its way" in shown.text()
    work()
    assert "Invited, and not been here yet" in landlord.get(response.location).text
    found = re.search(r"/staff/welcome/[\w-]+", sink.mails[0].text)
    assert found
    path = found.group(0)
    for _ in range(2):  # Mail scanners look, too.
        page = client.page(path)
        assert ANNA["email"] in page.text()
    assert client.get(path).headers["Referrer-Policy"] == "no-referrer"
    refused = client.submit(path, {"new": "tooshort", "repeat": "tooshort"})
    assert refused.status_code == 422
    assert client.submit(path, {"new": NEW, "repeat": NEW}).location == "/customers"
    assert "Welcome, Anna Berg." in client.get("/account/profile").text
    assert client.get(path).status_code == 410
    assert client.submit(path, {"new": NEW, "repeat": NEW}).status_code == 410
    listed = landlord.page("/staff?q=anna")
    assert "Active" in listed.text(listed.one("tbody"))


def test_whose_role_needs_one_sets_a_second_factor_up_at_once(
    app: Flask,
    landlord: CheckingClient,
    client: CheckingClient,
    sink: SmtpSink,
    work: Callable[[], None],
) -> None:
    seen = untouched(landlord, "/sign-in-policies")["seen"][0]
    data = {"roles": ["operator", "auditor"], "seen": seen}
    assert landlord.submit("/sign-in-policies", data).status_code == 303
    page = landlord.page("/sign-in-policies")
    boxes = [each.get("value") for each in page.all("input", name="roles", checked="")]
    assert boxes == ["operator", "auditor"]
    landlord.submit("/staff/invite", ANNA)
    work()
    found = re.search(r"/staff/welcome/[\w-]+", sink.mails[0].text)
    assert found
    response = client.submit(found.group(0), {"new": NEW, "repeat": NEW})
    assert client.get(response.location).location == "/account/second-factors"


def test_a_policy_that_somebody_else_has_changed_is_not_overwritten(
    app: Flask, landlord: CheckingClient
) -> None:
    with app.app_context():
        db.session.add(SignInPolicy(role=Role.AUDITOR, second_factor=True))
        db.session.commit()
    response = landlord.submit("/sign-in-policies", {"roles": ["user"], "seen": ""})
    assert response.status_code == 409
    page = Page(response.text)
    assert page.one("input", name="seen").get("value") == "auditor"
    assert [each.get("value") for each in page.all("input", name="roles", checked="")] == ["user"]


def test_a_refused_invitation_keeps_what_was_typed(landlord: CheckingClient) -> None:
    typed = {**ANNA, "last_name": "", "email": "nobody", "login": "a b", "reach": "chosen"}
    response = landlord.submit("/staff/invite", typed)
    assert response.status_code == 422
    page = Page(response.text)
    assert page.one("input", name="email").get("value") == "nobody"
    assert page.one("input", name="login").get("value") == "a b"
    response = landlord.submit("/staff/invite", {**typed, "last_name": "Berg"})
    said = errors_of(response.text)
    for words in ("e-mail address", "The login consists", "at least one"):
        assert words in said
    response = landlord.submit("/staff/invite", {**ANNA, "login": OPERATOR})
    assert "is taken" in errors_of(response.text)


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "=cmd|' /C calc'!A0", "((first name))", "مرحبا", "a" * 64]
)
def test_hostile_names_are_text_on_pages_and_in_mails(
    landlord: CheckingClient, sink: SmtpSink, work: Callable[[], None], text: str
) -> None:
    response = landlord.submit("/staff/invite", {**ANNA, "first_name": text, "last_name": text})
    assert response.status_code == 303
    for path in ("/staff", response.location, f"{response.location}/edit"):
        page = landlord.page(path)
        assert text in page.text() or text in page.source
        assert "<script>alert" not in page.source
    work()
    (mail,) = sink.mails
    assert text in mail.text
    assert "<script>alert" not in mail.html


def test_a_member_is_changed_and_the_second_editor_is_told(
    app: Flask, landlord: CheckingClient
) -> None:
    path = f"/staff/{id_of(app, OPERATOR)}/edit"
    first, second = untouched(landlord, path), untouched(landlord, path)
    assert landlord.submit(path, {**first, "first_name": "Omari"}).status_code == 303
    overtaken = landlord.submit(path, {**second, "first_name": "Omarion"})
    assert overtaken.status_code == 409
    page = Page(overtaken.text)
    assert page.one("input", name="first_name").get("value") == "Omarion"
    (form,) = [each for each in page.all("form") if each.get("action") == path]
    assert landlord.submit(path, page.fields(form)).status_code == 303
    with app.app_context():
        assert find_user(OPERATOR).first_name == "Omarion"
    assert landlord.submit(path, {**ANNA, "version": ""}).status_code == 400


def test_one_can_suspend_resume_and_delete_others_but_not_oneself(
    app: Flask, landlord: CheckingClient, sign_in_as: SignInAs, client: CheckingClient
) -> None:
    operator, one = sign_in_as(OPERATOR), f"/staff/{id_of(app, OPERATOR)}"
    landlord.submit(f"{one}/suspend", untouched(landlord, f"{one}/suspend"))
    assert operator.get("/customers").status_code == 302
    assert client.submit("/login", {"login": OPERATOR, "password": PASSWORD}).status_code == 422
    shown = landlord.page(one)
    (form,) = [each for each in shown.all("form") if each.get("action") == f"{one}/resume"]
    landlord.submit(f"{one}/resume", shown.fields(form))
    assert client.submit("/login", {"login": OPERATOR, "password": PASSWORD}).status_code == 303
    wrong = landlord.submit(f"{one}/delete", {**untouched(landlord, f"{one}/delete"), "login": "x"})
    assert wrong.status_code == 422
    data = {**untouched(landlord, f"{one}/delete"), "login": OPERATOR}
    assert landlord.submit(f"{one}/delete", data).location == "/staff"
    assert landlord.get(one).status_code == 404
    assert client.get("/customers").status_code == 302
    own = f"/staff/{id_of(app, LANDLORD)}"
    assert not landlord.page(own).all("a", href=f"{own}/suspend")
    landlord.submit(f"{own}/suspend", untouched(landlord, f"{own}/suspend"))
    assert "You cannot suspend yourself" in landlord.get(own).text
    edited = untouched(landlord, f"{own}/edit") | {"role": "auditor"}
    assert "your own role" in errors_of(landlord.submit(f"{own}/edit", edited).text)
    with app.app_context():
        assert find_user(LANDLORD).status is UserStatus.ACTIVE


def test_invitations_are_sent_again_and_withdrawn(app: Flask, landlord: CheckingClient) -> None:
    one = landlord.submit("/staff/invite", ANNA).location
    shown = landlord.page(one)
    (form,) = [each for each in shown.all("form") if each.get("action") == f"{one}/resend"]
    assert landlord.submit(f"{one}/resend", shown.fields(form)).status_code == 303
    for seen in ("", "x", "2026-01-01", "2026-01-01T00:00:00"):
        assert landlord.submit(f"{one}/resend", {"seen": seen}).status_code == 400
    assert "is free again" in landlord.get(f"{one}/withdraw").text
    assert landlord.submit(f"{one}/withdraw").location == "/staff"
    with app.app_context():
        assert db.session.scalars(sa.select(StaffInvitation)).all() == []
        gone = db.session.scalar(sa.select(User).where(User.login == ANNA["email"]))
        assert gone is None


def test_a_landlord_ends_the_sessions_of_others(
    app: Flask, landlord: CheckingClient, sign_in_as: SignInAs
) -> None:
    one = f"/staff/{id_of(app, OPERATOR)}"
    first, second, third = (sign_in_as(OPERATOR) for _ in range(3))
    page = landlord.page(one)
    forms = [each for each in page.all("form") if each.get("action") == f"{one}/sessions/end"]
    fields = [page.fields(each) for each in forms]
    assert len(forms) == 4
    landlord.submit(f"{one}/sessions/end", fields[0])
    alive = [each.get("/customers").status_code == 200 for each in (first, second, third)]
    assert sorted(alive) == [False, True, True]
    landlord.submit(f"{one}/sessions/end")
    assert all(each.get("/customers").status_code == 302 for each in (first, second, third))
    for session in ("x", "-1", "9" * 30, "٣"):
        data = {"session": session}
        assert landlord.submit(f"{one}/sessions/end", data).status_code == 400
    own = f"/staff/{id_of(app, LANDLORD)}"
    landlord.submit(f"{own}/sessions/end")
    assert landlord.get("/staff").status_code == 200


def test_second_factors_of_staff_and_of_users_are_reset(
    app: Flask, landlord: CheckingClient, sign_in_as: SignInAs
) -> None:
    with app.app_context():
        for login in (OPERATOR, make_user(find_customer("CQ001")).login):
            user = find_user(login)
            second_factors.begin_app(user)
            db.session.execute(sa.text("UPDATE totp_factors SET confirmed_at = created_at"))
            second_factors.note_whether(user)
            db.session.commit()
        people = {find_user(OPERATOR).id: "/staff/", user.id: "/customers/CQ001/users/"}
    for person, back in people.items():
        path = f"/staff/second-factors/{person}/reset"
        assert "Make sure that you speak with" in landlord.get(path).text
        assert landlord.submit(path).location == f"{back}{person}"
        with app.app_context():
            assert not db.session.get_one(User, person).has_second_factor
    link = f"/staff/second-factors/{user.id}/reset"
    with app.app_context():
        db.session.execute(sa.update(User).values(has_second_factor=True))
        db.session.commit()
    shown = landlord.page(f"/customers/CQ001/users/{user.id}")
    assert shown.all("a", href=link)
    other = sign_in_as("prpkeAdmin@kenton-electronics.com")
    assert not other.page(f"/customers/CQ001/users/{user.id}").all("a", href=link)


def test_the_list_keeps_its_state_in_the_address(landlord: CheckingClient) -> None:
    page = landlord.page("/staff?role=operator&status=active&q=omar")
    assert page.one("table")
    chips = [page.text(each) for each in page.all("a") if each.get("class") == "chip"]
    for words in ("Search: omar", "Role: Operator", "Status: Active"):
        assert any(each.startswith(words) for each in chips), chips
    fragment = landlord.fragment("/staff?role=auditor")
    assert fragment.one("div", id="staff-table")
    assert "Marchand" in fragment.text()
    for query in ("role=nonsense", "status=%00", "group=-1", "group=9999999999999", "cursor=x"):
        assert landlord.get(f"/staff?{query}").status_code == 200
    assert "Nobody matches" in landlord.get("/staff?group=99").text
