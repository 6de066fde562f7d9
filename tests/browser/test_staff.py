"""What the provider's staff sees, and what nobody sees who should not."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.installation import Installation
from tests.browser.people import ADMIN, AUDITOR, OPERATOR, OpenPerson

pytestmark = pytest.mark.xdist_group("journeys")


def test_an_operator_goes_from_the_customers_to_the_users_of_one(
    open_person: OpenPerson,
) -> None:
    operator = open_person(OPERATOR)
    page = operator.page
    operator.sees_heading("Customers")
    page.get_by_label("Search customers").press_sequentially("harb")
    expect(page.locator("#customers-table tbody tr")).to_have_count(1)
    page.get_by_role("link", name="Harborlight", exact=True).click()
    operator.sees_heading("Users")
    expect(page.get_by_role("main")).to_contain_text("Harborlight (CQ002)")
    expect(page.locator("[data-select-row]")).to_have_count(25)
    page.get_by_role("navigation", name="Breadcrumbs").get_by_role("link", name="Customers").click()
    operator.sees_heading("Customers")


def test_an_auditor_reads_and_is_offered_nothing_to_do(open_person: OpenPerson) -> None:
    auditor = open_person(AUDITOR)
    auditor.expects(403)
    page = auditor.page
    page.get_by_role("link", name="Harborlight", exact=True).click()
    auditor.sees_heading("Users")
    expect(auditor.rows).to_have_count(25)
    expect(page.get_by_role("main").get_by_role("checkbox")).to_have_count(0)
    expect(page.get_by_label("Select an Action")).to_have_count(0)
    page.get_by_label("Name, login, e-mail, extension").press_sequentially("zzzz")
    expect(page.get_by_text("No user matches these filters.")).to_be_visible()
    page.get_by_role("link", name="Clear all filters").click()
    auditor.rows.first.get_by_role("link").click()
    expect(page.get_by_role("link", name="Resend Welcome Mail")).to_have_count(0)

    page.goto("/customers/CQ002/mailings/new?template=1&user=1")
    auditor.sees_heading("You may not do that")


def test_a_user_of_another_customer_is_not_there(
    installation: Installation, open_person: OpenPerson
) -> None:
    stranger, *_ = installation.users_of("CQ002")
    admin = open_person(ADMIN)
    admin.expects(404)
    for path in (
        f"/customers/CQ001/users/{stranger.id}",
        f"/customers/CQ002/users/{stranger.id}",
        "/customers/CQ002/users",
    ):
        admin.page.goto(path)
        admin.sees_heading("There is nothing here")
        expect(admin.page.get_by_role("main")).not_to_contain_text(stranger.last_name)
    admin.page.get_by_role("link", name="Go to the start page").click()
    admin.sees_heading("KentonElectronics")
