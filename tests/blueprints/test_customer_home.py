"""A customer's home: what is left to do, how things stand, and who starts there."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from flask import Flask

from extensions import db
from models import AccountScheme, Customer, Role, WelcomeState
from services import customer_overviews, direct_debits
from tests.support.factories import (
    actor_for,
    find_customer,
    make_customer,
    make_user,
    make_welcome,
)
from tests.support.pages import CheckingClient, Page
from tests.support.parameters import publish_parameters
from tests.support.promises import start_welcome

OPERATOR = "operator@foyer.example"
AUDITOR = "auditor@foyer.example"

SignInAs = Callable[[str], CheckingClient]


@pytest.fixture
def tenant(app: Flask) -> tuple[str, str]:
    """Web ID and administrator's login of a customer as its creation leaves it."""
    with app.app_context():
        customer = make_customer()
        return customer.web_id, make_user(customer, role=Role.CUSTOMER_ADMIN).login


def change(app: Flask, web_id: str, do: Callable[[Customer], Any]) -> None:
    with app.app_context():
        do(find_customer(web_id))


def do_everything(app: Flask, web_id: str) -> None:
    with app.app_context():
        customer = find_customer(web_id)
        publish_parameters(actor_for(OPERATOR), customer)
        make_user(customer, welcome_state=WelcomeState.SENT)
        make_user(customer, role=Role.CUSTOMER_ADMIN)


def steps(page: Page) -> tuple[list[str], list[str]]:
    """What is left and what is done, as the checklist says it."""
    (box,) = [each for each in page.root.iter() if each.get("id") == "checklist"]
    texts = [page.text(each) for each in box.iter("li")]
    left = [text for text in texts if "to do" in text]
    return left, [text.removesuffix(" is done") for text in texts if text.endswith("is done")]


def test_a_new_customer_sees_what_to_do_first(
    tenant: tuple[str, str], sign_in_as: SignInAs
) -> None:
    web_id, admin = tenant
    page = sign_in_as(admin).page(f"/customers/{web_id}")
    left, done = steps(page)
    assert len(left) == 4
    assert done == []
    assert left[0].startswith("Set the Callback Folder e-mail address Required, to do")
    assert "Required" not in " ".join(left[1:])
    assert "0 of 4 done" in page.text()
    base = f"/customers/{web_id}"
    assert page.one("a", href=f"{base}/general-parameters#callback_folder_email") is not None
    assert page.one("a", href=f"{base}/users?mailed=never") is not None
    assert page.one("a", href=f"{base}/users/import") is not None
    assert page.one("a", href=f"{base}/users/new") is not None


def test_each_link_of_the_checklist_leads_to_a_page_with_what_it_names(
    tenant: tuple[str, str], sign_in_as: SignInAs
) -> None:
    web_id, admin = tenant
    client = sign_in_as(admin)
    page = client.page(f"/customers/{web_id}")
    (box,) = [each for each in page.root.iter() if each.get("id") == "checklist"]
    links = {each.get("href") for each in box.iter("a")}
    assert len(links) == 4
    for link in links:
        path, _, fragment = link.partition("#")
        found = client.page(path)
        assert not fragment or [each for each in found.root.iter() if each.get("id") == fragment]


def test_what_is_done_is_folded(app: Flask, tenant: tuple[str, str], sign_in_as: SignInAs) -> None:
    web_id, admin = tenant
    change(app, web_id, lambda customer: publish_parameters(actor_for(OPERATOR), customer))
    page = sign_in_as(admin).page(f"/customers/{web_id}")
    left, done = steps(page)
    assert len(left) == 3
    assert done == ["Set the Callback Folder e-mail address"]
    assert "1 of 4 done" in page.text()
    (folded,) = [each for each in page.all("details") if "checklist-done" in each.get("class", "")]
    assert folded.get("open") is None
    assert "Set the Callback Folder" in page.text(folded)


def test_when_all_is_done_one_line_is_left(
    app: Flask, tenant: tuple[str, str], sign_in_as: SignInAs
) -> None:
    web_id, admin = tenant
    do_everything(app, web_id)
    page = sign_in_as(admin).page(f"/customers/{web_id}")
    left, done = steps(page)
    assert left == []
    assert len(done) == 4
    (box,) = [each for each in page.root.iter() if each.get("id") == "checklist"]
    assert box.tag == "details"
    assert page.text(next(box.iter("summary"))) == "Everything is set up"


def test_the_overview_says_how_things_stand(
    app: Flask,
    tenant: tuple[str, str],
    sign_in_as: SignInAs,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    web_id, admin = tenant
    client = sign_in_as(admin)
    page = client.page(f"/customers/{web_id}")
    assert "No bundle is assigned yet." in page.text()
    assert "No mail has been sent" in page.text()
    with app.app_context():
        customer = find_customer(web_id)
        make_welcome(customer)
        start_welcome(actor_for(OPERATOR), web_id, [make_user(customer)], enqueue=False)
    monkeypatch.setattr(customer_overviews, "COUNT_CAP", 1)
    page = client.page(f"/customers/{web_id}")
    assert "More than 1 active" in page.text()
    assert "0 of 1" in page.text()
    with app.app_context():
        suffix = find_customer(web_id).upn_suffix
    assert f"name@{suffix}" in page.text()
    assert "/login" in page.text()


@pytest.mark.parametrize("login", [OPERATOR, AUDITOR])
def test_staff_sees_it_under_customers(
    tenant: tuple[str, str], sign_in_as: SignInAs, login: str
) -> None:
    web_id, _ = tenant
    page = sign_in_as(login).page(f"/customers/{web_id}")
    trail = next(each for each in page.all("nav") if each.get("aria-label") == "Breadcrumbs")
    assert "Customers" in page.text(trail)
    assert len(steps(page)[0]) == 4


def test_an_administrator_starts_here_and_finds_it_in_his_navigation(
    tenant: tuple[str, str], sign_in_as: SignInAs
) -> None:
    web_id, admin = tenant
    client = sign_in_as(admin)
    home = f"/customers/{web_id}"
    assert client.get("/").location == home
    page = client.page(home)
    areas = next(each for each in page.all("nav") if each.get("aria-label") == "Areas")
    links = {page.text(each): each for each in areas.iter("a")}
    assert list(links)[:3] == ["Home", "Users", "Mailings"]
    assert links["Home"].get("href") == home
    assert links["Home"].get("aria-current") == "page"
    assert links["General parameters"].get("href") == f"{home}/general-parameters"


def test_a_suspended_customer_is_marked(
    app: Flask, tenant: tuple[str, str], sign_in_as: SignInAs
) -> None:
    web_id, _ = tenant
    with app.app_context():
        customer = find_customer(web_id)
        customer.status = type(customer.status).SUSPENDED
        db.session.commit()
    assert "Suspended" in sign_in_as(OPERATOR).page(f"/customers/{web_id}").text()


# --- Direct debit --------------------------------------------------------------------------------


@pytest.mark.parametrize("login", [OPERATOR, AUDITOR])
def test_staff_sees_the_direct_debit_masked(app: Flask, sign_in_as: SignInAs, login: str) -> None:
    client = sign_in_as(login)
    before = client.page("/customers/CQ001").text()
    assert "None is set. Other systems set it by the REST API." in before
    with app.app_context():
        direct_debits.set_direct_debit(
            actor_for(OPERATOR),
            find_customer("CQ001"),
            scheme=AccountScheme.IBAN,
            iban="DE89370400440532013000",
            holder="Kenton Electronics Ltd",
            mandate="KENTON-2026-1",
            mandate_signed_on=date(2026, 11, 2),
        )
    shown = client.page("/customers/CQ001").text()
    assert "•••• 3000" in shown
    assert "KENTON-2026-1, signed on 2 November 2026" in shown
    assert "0532013000" not in shown


def test_a_customers_own_people_are_not_shown_it(app: Flask, sign_in_as: SignInAs) -> None:
    page = sign_in_as("prpkeAdmin@kenton-electronics.com").page("/customers/CQ001")
    assert "Direct debit" not in page.text()
