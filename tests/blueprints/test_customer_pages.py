"""A customer from its making to its end, its bundles and groups, on pages without scripts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import Bundle, Customer, CustomerBundle, RequestState, SubscriptionRequest, User
from tests.support.factories import find_customer, make_bundle, make_customer, make_user
from tests.support.pages import CheckingClient, Page, check_page
from tests.support.registrations import CONTACT, TENANT, find_template

LANDLORD = "landlord@foyer.example"
OPERATOR = "operator@foyer.example"
SignInAs = Callable[[str], CheckingClient]
HOSTILE = (
    "<script>alert(1)</script>",
    "=cmd|' /C calc'!A0",
    "((first name))",
    "a\r\nBcc: x@y.example",
    "x" * 300,
    "\u202eevil",
    "a\0b",
    "\ud800",
)
pytestmark = pytest.mark.parametrize("engine_name", ["sqlite"])


@pytest.fixture
def client(sign_in_as: SignInAs) -> CheckingClient:
    return sign_in_as(LANDLORD)


def errors(response: Any) -> str:
    page = Page(response.text)
    lists = [each for each in page.all("ul") if "error-list" in (each.get("class") or "")]
    return " ".join(page.text(each) for each in lists)


def form_of(page: Page, path: str) -> dict[str, Any]:
    return page.fields(next(each for each in page.all("form") if each.get("action") == path))


# --- Without the wizard --------------------------------------------------------------------------


def order(app: Flask, **changes: str) -> dict[str, str]:
    with app.app_context():
        group, template = find_customer("CQ001").group_id, find_template("Starter").id
    return {"group": str(group), "template": str(template), **TENANT, **CONTACT, **changes}


def test_a_customer_is_created_on_one_page_and_is_there_when_its_request_is_through(
    app: Flask, client: CheckingClient, work: Callable[[], None]
) -> None:
    assert client.page("/customers").one("a", href="/customers/new") is not None
    client.page("/customers/new")
    response = client.submit("/customers/new", order(app))
    assert response.status_code == 303, errors(response)
    with app.app_context():
        request = db.session.scalars(
            sa.select(SubscriptionRequest).where(SubscriptionRequest.name == "Bergmann")
        ).one()
        assert response.location == f"/tenant-creation-management/{request.id}"
        assert request.state in {RequestState.SCHEDULED, RequestState.AWAITING_APPROVAL}
    client.page(response.location)
    if request.state is RequestState.SCHEDULED:
        work()
        with app.app_context():
            made = db.session.scalars(sa.select(Customer).where(Customer.name == "Bergmann")).one()
            logins = db.session.scalars(sa.select(User.login).where(User.customer_id == made.id))
            assert logins.all() == ["prpbmAdmin@bergmann.example"]


def test_every_fault_is_told_and_nothing_typed_is_lost(app: Flask, client: CheckingClient) -> None:
    typed = order(app, group="", ani="12", contact_email="nobody", city="")
    response = client.submit("/customers/new", typed)
    assert response.status_code == 422
    said = errors(response)
    for word in ("group", "ANI", "e-mail address", "City"):
        assert word.lower() in said.lower(), (word, said)
    page = check_page(response)
    kept = form_of(page, "/customers/new")
    for name, value in typed.items():
        if name not in {"group", "template"}:
            assert kept[name] == [value], name
    assert kept["template"] == [typed["template"]]
    response = client.submit("/customers/new", {**typed, "template": ""})
    assert "Choose a service template." in errors(response)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_are_refused_or_shown_as_text(
    app: Flask, client: CheckingClient, text: str
) -> None:
    sent = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    for path, fields in (
        ("/customers/new", [*TENANT, *CONTACT, "group", "template"]),
        ("/customers/CQ001/details/edit", [*CONTACT, "ani"]),
        ("/customers/CQ001/details/group", ["group"]),
        ("/customers/CQ001/delete", ["web_id", "reason"]),
        ("/customers/CQ001/sign-in-as", ["administrator"]),
        ("/customers/CQ001/bundles/assign", ["bundle"]),
        ("/bundles/new", ["name", "services"]),
        ("/bundles/1/assign", ["whose", "web_ids", "group"]),
        ("/groups/new", ["groupno"]),
    ):
        data = {"version": "1", **dict.fromkeys(fields, sent)}
        response = client.submit(path, data)
        assert response.status_code in {422, 409}, (path, response.status_code)
        check_page(response)
        assert "<script>alert" not in response.text


# --- Details -------------------------------------------------------------------------------------


def test_details_are_changed_and_who_was_overtaken_keeps_his_text(
    app: Flask, client: CheckingClient
) -> None:
    path = "/customers/CQ001/details/edit"
    form = form_of(client.page(path), path)
    first = {**form, **CONTACT, "ani": "+32 2 555 12 12", "contact_name": "First Editor"}
    second = {**form, **CONTACT, "ani": "+32 2 555 12 12", "contact_name": "Second Editor"}
    assert client.submit(path, first).location == "/customers/CQ001/details"
    assert "First Editor" in client.page("/customers/CQ001/details").text()
    response = client.submit(path, second)
    assert response.status_code == 409
    kept = form_of(check_page(response), path)
    assert kept["contact_name"] == ["Second Editor"]
    assert client.submit(path, kept).status_code == 303
    with app.app_context():
        assert find_customer("CQ001").contact_name == "Second Editor"
    for version in ("", "x", "9" * 30):
        assert client.submit(path, {**first, "version": version}).status_code == 400


def test_a_customer_is_suspended_resumed_deleted_and_restored(
    app: Flask, client: CheckingClient
) -> None:
    details = "/customers/CQ002/details"
    assert errors(client.submit("/customers/CQ002/suspend", {"reason": " "})).startswith("Write")
    assert client.submit("/customers/CQ002/suspend", {"reason": "<b>unpaid"}).location == details
    page = client.page(details)
    assert "Reason: <b>unpaid" in page.text()
    assert client.get("/customers/CQ002/suspend").location == details
    client.page("/customers/CQ002/resume")
    client.submit("/customers/CQ002/resume", {"reason": "paid"})
    response = client.submit("/customers/CQ002/delete", {"reason": "x", "web_id": "CQ001"})
    assert "Type CQ002 to confirm" in errors(response)
    assert form_of(check_page(response), "/customers/CQ002/delete")["reason"] == ["x"]
    client.submit("/customers/CQ002/delete", {"reason": "ended", "web_id": "CQ002"})
    page = client.page(details)
    assert "It will be deleted" in page.text()
    assert "Being deleted" in client.page("/customers?state=closing").text()
    assert client.get("/customers/CQ002/resume").location == details
    client.page("/customers/CQ002/restore")
    assert client.submit("/customers/CQ002/restore", {"reason": "no"}).location == details
    with app.app_context():
        assert find_customer("CQ002").status == "active"


def test_a_customer_changes_its_group(app: Flask, client: CheckingClient) -> None:
    path = "/customers/CQ001/details/group"
    page = client.page(path)
    choices = [option.get("value") for option in page.one("select", id="group").iter("option")]
    form = form_of(page, path)
    other = next(each for each in choices if each != form["group"][0])
    assert client.submit(path, {**form, "group": other}).status_code == 303
    with app.app_context():
        assert find_customer("CQ001").group_id == int(other)
    assert client.submit(path, {**form, "group": other}).status_code == 409


# --- Bundles and groups --------------------------------------------------------------------------


def test_a_bundle_with_users_is_removed_by_moving_them(app: Flask, client: CheckingClient) -> None:
    with app.app_context():
        customer = make_customer(web_id="MOVE1")
        old, new, third = (make_bundle(customer) for _ in range(3))
        extra = make_bundle()
        for _ in range(2):
            make_user(customer, bundle_id=old.id)
    base = "/customers/MOVE1/bundles"
    details = "/customers/MOVE1/details#bundles"
    assert client.submit(f"{base}/assign", {"bundle": extra.id}).location == details
    assert client.submit(f"{base}/{third.id}/remove").location == details
    response = client.submit(f"{base}/{old.id}/remove")
    assert response.location == f"{base}/{old.id}/move"
    page = client.page(response.location)
    assert "2 users of" in page.text()
    assert "still have" in page.text()
    assert client.submit(f"{base}/{old.id}/move", {"target": str(old.id)}).status_code == 422
    moved = client.submit(f"{base}/{old.id}/move", {"target": str(new.id), "remove": "y"})
    assert moved.location == details
    assert "2 users were moved" in client.page("/customers/MOVE1/details").text()
    assert client.get(f"{base}/{old.id}/move").status_code == 404
    with app.app_context():
        left = db.session.scalars(
            sa.select(CustomerBundle.bundle_id).where(
                CustomerBundle.customer_id == find_customer("MOVE1").id
            )
        )
        assert set(left) == {new.id, extra.id}


def test_bundles_are_made_and_given_to_many_and_the_kept_are_named(
    app: Flask, client: CheckingClient
) -> None:
    response = client.submit("/bundles/new", {"name": "Gold", "services": "Phone\nApp"})
    path = response.location
    client.page(path)
    assert "already" in errors(client.submit("/bundles/new", {"name": "gold"}))
    client.page(f"{path}/assign")
    wrong = client.submit(f"{path}/assign", {"whose": "named", "web_ids": "CQ001 ZZ9"})
    assert wrong.status_code == 422
    assert form_of(check_page(wrong), f"{path}/assign")["web_ids"][0].strip() == "CQ001 ZZ9"
    client.submit(f"{path}/assign", {"whose": "named", "web_ids": "cq001, CQ002"})
    assert "2 customers" in client.page(path).text()
    with app.app_context():
        gold = db.session.scalars(sa.select(Bundle).where(Bundle.name == "Gold")).one()
        make_user(find_customer("CQ002"), bundle_id=gold.id)
    assert "Gold" in client.page(f"/customers?bundle={gold.id}").text()
    client.submit(f"{path}/remove", {"whose": "named", "web_ids": "CQ001 CQ002"})
    page = client.page(path)
    assert "removed from 1 customer. Users still have it at Harborlight (CQ002)" in page.text()
    stale = {"version": "1", "services": "Mine"}
    assert client.submit(f"{path}/edit", {"version": "1", "services": "Theirs"}).status_code == 303
    overtaken = client.submit(f"{path}/edit", stale)
    assert overtaken.status_code == 409
    assert "Mine" in overtaken.text
    client.submit(f"{path}/archive")
    assert "Gold" in client.page("/bundles?archived=1").text()
    client.submit(f"{path}/restore")
    assert "Gold" in client.page("/bundles").text()


def test_groups_are_made_and_renamed(client: CheckingClient) -> None:
    response = client.submit("/groups/new", {"groupno": "88", "name": "<i>West</i>"})
    assert response.location == "/groups/88"
    assert "<i>West</i>" in client.page("/groups/88").text()
    wrong = client.submit("/groups/new", {"groupno": "٣", "name": ""})
    assert wrong.status_code == 422
    assert form_of(check_page(wrong), "/groups/new")["groupno"] == ["٣"]
    path = "/groups/88/rename"
    form = form_of(client.page(path), path)
    client.submit(path, {**form, "name": "East"})
    overtaken = client.submit(path, {**form, "name": "North"})
    assert overtaken.status_code == 409
    assert client.submit(path, form_of(Page(overtaken.text), path)).status_code == 303
    assert "North" in client.page("/groups").text()


def test_an_operator_is_offered_what_he_may_do(sign_in_as: SignInAs) -> None:
    page = sign_in_as(OPERATOR).page("/customers/CQ001/details")
    links = {link.get("href") for link in page.all("a")}
    assert {"/customers/CQ001/suspend", "/customers/CQ001/sign-in-as"} <= links
    assert "/customers/CQ001/details/group" not in links
    page = sign_in_as("auditor@foyer.example").page("/customers/CQ001/details")
    links = {link.get("href") for link in page.all("a")}
    assert not [each for each in links if (each and "suspend" in each) or "sign-in-as" in str(each)]
    assert "/groups" not in links
