"""Signing in as a customer's administrator, on the pages: banner, refusals, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa
from flask import Flask

from blueprints.security import access_demanded
from extensions import db
from models import AuditEvent, GeneralParameters, SignInSession, UserStatus, utcnow
from tests.support.factories import find_customer, find_user
from tests.support.pages import CheckingClient, Page

OPERATOR = "operator@foyer.example"
ADMIN = "prpkeAdmin@kenton-electronics.com"
PATH = "/customers/CQ001/sign-in-as"
SignInAs = Callable[[str], CheckingClient]

pytestmark = pytest.mark.parametrize("engine_name", ["sqlite"])


@pytest.fixture
def client(app: Flask, sign_in_as: SignInAs) -> CheckingClient:
    """An operator who is signed in as the administrator of CQ001."""
    client = sign_in_as(OPERATOR)
    with app.app_context():
        admin = find_user(ADMIN).id
    response = client.submit(PATH, {"administrator": admin, "reason": "ticket 7"})
    assert (response.status_code, response.location) == (303, "/customers/CQ001")
    return client


def token(client: CheckingClient) -> str:
    form = client.page("/customers/CQ001").one("form", action="/impersonation/end")
    value: str = Page.fields(Page(""), form)["csrf_token"][0]
    return value


def has_banner(page: Page) -> bool:
    return (
        bool(page.all("section", class_="impersonation")) or "You are signed in as" in page.text()
    )


def test_every_page_says_as_whom_one_is_signed_in(client: CheckingClient) -> None:
    for path in ("/customers/CQ001", "/customers/CQ001/users", "/account/services"):
        assert has_banner(client.page(path)), path
    page = client.page("/customers/CQ001")
    assert "of KentonElectronics" in page.text()
    assert "recorded under your own name" in page.text()
    links = {link.get("href") for link in page.all("a")}
    assert "/customers" not in links
    assert "/account/profile" not in links
    assert "/customers/CQ001/users" in links


def test_one_sees_what_the_administrator_sees_and_nothing_else(client: CheckingClient) -> None:
    for path in ("/customers", "/bundles", "/sp/commands", PATH, "/customers/CQ001/details"):
        assert client.get(path).status_code == 403, path
    assert client.get("/customers/CQ002").status_code == 404
    assert client.get("/").location == "/customers/CQ001"


def own_affairs(app: Flask) -> Iterator[tuple[str, str]]:
    free = {"account.services", "account.setup_file", "account.sign_out", "impersonations.end"}
    for rule in app.url_map.iter_rules():
        demanded = access_demanded(app.view_functions[rule.endpoint])
        if demanded == "signed in" and rule.endpoint not in free:
            path = rule.rule
            for name in rule.arguments:
                path = path.replace(f"<{name}>", "1")
            for method in sorted((rule.methods or set()) & {"GET", "POST"}):
                yield method, path if "<" not in path else path[: path.index("<")] + "1"


def test_what_is_the_administrators_own_affair_is_refused(
    app: Flask, client: CheckingClient
) -> None:
    refused = list(own_affairs(app))
    assert ("POST", "/account/password") in refused
    assert ("GET", "/account/profile") in refused
    sent = token(client)
    with app.app_context():
        before = find_user(ADMIN).password_hash
    for method, path in refused:
        response = client.open(path, method=method, data={"csrf_token": sent})
        assert response.status_code in {403, 404}, (method, path, response.status_code)
        if response.status_code == 403:
            assert "own affair" in response.text
            assert has_banner(Page(response.text))
    assert ("GET", "/account/password") in refused
    fragment = client.get("/account/password", headers={"HX-Request": "true"})
    assert fragment.status_code == 403
    assert fragment.headers["HX-Reswap"] == "none"
    with app.app_context():
        assert find_user(ADMIN).password_hash == before


def test_a_change_bears_both_names(app: Flask, client: CheckingClient) -> None:
    sent = token(client)
    page = client.page("/customers/CQ001/general-parameters")
    form = next(
        form
        for form in page.all("form")
        if form.get("method") == "post" and "general-parameters" in (form.get("action") or "")
    )
    data = {**page.fields(form), "csrf_token": sent, "callback_retries": "1"}
    assert client.post(form.get("action"), data=data).status_code in {200, 303}
    with app.app_context():
        draft = db.session.get(GeneralParameters, find_customer("CQ001").id)
        assert draft is not None
        assert draft.changed_by_id == find_user(OPERATOR).id
        event = db.session.scalars(
            sa.select(AuditEvent).order_by(AuditEvent.id.desc()).limit(1)
        ).one()
        assert (event.actor_login, event.behalf_login) == (OPERATOR, ADMIN)


def test_the_banner_leads_back(app: Flask, client: CheckingClient) -> None:
    response = client.post("/impersonation/end", data={"csrf_token": token(client)})
    assert (response.status_code, response.location) == (303, "/customers/CQ001/details")
    page = client.page("/customers/CQ001/details")
    assert not has_banner(page)
    assert client.get("/customers").status_code == 200
    assert client.submit("/impersonation/end").location == "/"


def test_what_was_meant_as_somebody_else_is_not_done_as_oneself(
    app: Flask, client: CheckingClient
) -> None:
    sent = token(client)
    with app.app_context():
        db.session.execute(sa.update(SignInSession).values(behalf_until=utcnow()))
        db.session.commit()
        before = db.session.scalar(sa.select(sa.func.max(AuditEvent.id)))
    response = client.post(
        "/customers/CQ001/suspend", data={"csrf_token": sent, "reason": "by mistake"}
    )
    assert (response.status_code, response.location) == (303, "/")
    page = client.page("/customers")
    assert "You are yourself again" in page.text()
    assert not has_banner(page)
    with app.app_context():
        assert find_customer("CQ001").status == "active"
        events = db.session.scalars(
            sa.select(AuditEvent.action).where(AuditEvent.id > (before or 0))
        ).all()
        assert events == ["impersonation.ended"]


def test_it_ends_when_the_member_of_staff_is_suspended(app: Flask, client: CheckingClient) -> None:
    with app.app_context():
        find_user(OPERATOR).status = UserStatus.SUSPENDED
        db.session.commit()
    response = client.get("/customers/CQ001")
    assert response.location == "/login?next=/customers/CQ001"


def test_signing_out_is_signing_out_altogether(app: Flask, client: CheckingClient) -> None:
    response = client.post("/account/sign-out", data={"csrf_token": token(client)})
    assert response.location == "/login"
    with app.app_context():
        assert db.session.scalars(sa.select(SignInSession)).all() == []
        last = db.session.scalars(
            sa.select(AuditEvent.action).order_by(AuditEvent.id.desc()).limit(2)
        ).all()
        assert set(last) == {"impersonation.ended", "sign_in.ended"}


def test_an_administrator_who_must_change_his_password_does_not_stand_in_the_way(
    app: Flask, client: CheckingClient
) -> None:
    with app.app_context():
        find_user(ADMIN).must_change_password = True
        db.session.commit()
    assert client.get("/customers/CQ001").status_code == 200


def test_who_and_why_are_asked_and_kept_when_something_is_missing(
    app: Flask, sign_in_as: SignInAs
) -> None:
    client = sign_in_as(OPERATOR)
    for data in ({}, {"administrator": "x"}, {"administrator": "9" * 40, "reason": "<script>"}):
        response = client.submit(PATH, data)
        assert response.status_code == 422
        assert "Choose one of the active administrators" in response.text or "Write why" in (
            response.text
        )
    assert "&lt;script&gt;" in response.text
    with app.app_context():
        for session in db.session.scalars(sa.select(SignInSession)):
            assert session.behalf_id is None
