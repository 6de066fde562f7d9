"""Staff signs in as an administrator and comes back, suspends the customer, and lets it in."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.installation import Tenant
from tests.browser.looking import Check
from tests.browser.people import LANDLORD, OpenPerson

pytestmark = pytest.mark.xdist_group("journeys")


def test_a_customer_is_looked_after_by_the_provider(
    tenant: Tenant, open_person: OpenPerson, check: Check
) -> None:
    admin = open_person(tenant.admin)
    landlord = open_person(LANDLORD)
    landlord.expects(403, 422)
    page = landlord.page
    details = f"/customers/{tenant.web_id}/details"

    page.goto("/customers")
    page.get_by_label("Search customers").press_sequentially(tenant.web_id.lower())
    expect(page.locator("#customers-table tbody tr")).to_have_count(1)
    page.locator("#filter-state").click()
    page.get_by_role("link", name="Active", exact=True).click()
    expect(page.get_by_label("Filters that are on").locator(".chip")).to_have_count(2)
    check(page, "customers, searched and filtered")
    page.get_by_role("link", name="Details of").click()
    page.get_by_role("link", name="Sign in as administrator").click()
    page.get_by_role("main").get_by_role("button", name="Sign in as administrator").click()
    expect(page.locator(".error-summary")).to_be_focused()
    check(page, "signing in as an administrator, refused")
    page.get_by_label("Reason").fill("Ticket 7: cannot find the Users tab")
    page.get_by_role("main").get_by_role("button", name="Sign in as administrator").click()
    banner = page.get_by_role("region", name="Signed in as someone else")
    expect(banner).to_contain_text("You are signed in as")
    page.get_by_role("link", name="Users", exact=True).click()
    expect(banner).to_be_visible()
    check(page, "Users on behalf of an administrator")
    page.goto("/account/password")
    expect(page.get_by_role("heading", level=1)).to_contain_text("own affair")
    check(page, "an administrator's own affair")
    banner.get_by_role("button", name="Return to yourself").click()
    expect(page.locator("#toasts")).to_contain_text("You are yourself again")
    expect(banner).to_have_count(0)

    page.get_by_role("link", name="Suspend", exact=True).click()
    page.get_by_label("Reason").fill("Unpaid")
    page.get_by_role("button", name="Suspend").click()
    expect(page.locator("#toasts")).to_contain_text("is suspended")
    check(page, "details of a suspended customer")
    admin.page.goto(tenant.users_path)
    admin.sees_heading("Sign in")
    page.get_by_role("link", name="Resume").click()
    page.get_by_label("Reason").fill("Paid")
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("#toasts")).to_contain_text("is active again")

    page.goto(f"/customers/{tenant.web_id}/delete")
    page.get_by_label("Reason").fill("Contract ended")
    page.get_by_role("button", name=f"Delete {tenant.web_id}").click()
    expect(page.locator(".error-summary")).to_contain_text(f"Type {tenant.web_id} to confirm")
    expect(page.get_by_label("Reason")).to_have_value("Contract ended")
    check(page, "deleting a customer, refused")
    page.goto(details)
    expect(page.get_by_text("Being deleted")).to_have_count(0)
