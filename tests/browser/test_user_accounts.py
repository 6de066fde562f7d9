"""An administrator gets a supervisor: a profile, a new user, and what that one then may do."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from models import User
from tests.browser.installation import Installation, Tenant
from tests.browser.looking import Check
from tests.browser.people import NEW_PASSWORD, OpenPerson, secrets_in

pytestmark = pytest.mark.xdist_group("journeys")


def test_a_supervisor_is_made_and_looks_after_users_alone(
    installation: Installation, tenant: Tenant, open_person: OpenPerson, check: Check
) -> None:
    admin = open_person(tenant.admin)
    admin.expects(422)
    page = admin.page
    admin.open_users()

    page.get_by_role("link", name="Permission profiles").click()
    page.get_by_role("link", name="New profile").first.click()
    page.get_by_label("Name", exact=True).fill("Front desk")
    page.get_by_label("Suspend and resume users").check()
    page.get_by_role("button", name="Make the profile").click()
    expect(page.locator(".error-summary")).to_be_focused()
    check(page, "profile, refused")
    page.get_by_label("See users", exact=True).check()
    page.get_by_role("button", name="Make the profile").click()
    admin.sees_heading("Front desk")

    page.goto(f"/customers/{tenant.web_id}/users/new")
    page.get_by_label("Last name").fill("Lovelace")
    login = f"ada@{tenant.suffix}"
    page.get_by_label("User name").fill("ada")
    expect(page.locator("#user_name-final")).to_have_text(f"Final login: {login}")
    page.get_by_label("Bundle").select_option(index=1)
    page.get_by_label("Role").select_option(label="Supervisor: Front desk")
    page.get_by_role("button", name="Add user").click()
    expect(page.locator(".error-summary")).to_contain_text("needs an e-mail address")
    check(page, "new user, refused")
    page.get_by_label("E-mail address").fill(login)
    page.get_by_role("button", name="Add user").click()
    admin.sees_heading("Lovelace")
    expect(page.locator("#toasts")).to_contain_text("is on its way")
    admin.wait_for_mail(login)
    portal = secrets_in(admin.open_mail(login))[1]

    ada = open_person()
    ada.expects(403)
    ada.sign_in(login, portal)
    ada.sees_heading("Choose your own password")
    ada.page.get_by_label("Current password").fill(portal)
    ada.page.get_by_label("New password", exact=True).fill(NEW_PASSWORD)
    ada.page.get_by_label("New password again").fill(NEW_PASSWORD)
    ada.page.get_by_role("main").locator("button[type=submit]").click()
    ada.open_users()
    expect(ada.page.get_by_role("link", name="Add a user")).to_have_count(0)
    first, second = installation.users_of(tenant.web_id, User.last_name != "Lovelace")[:2]
    ada.tick(first.full_name)
    ada.tick(second.full_name)
    ada.sees_selected(2)
    ada.choose_action("Suspend")
    ada.sees_heading("Suspend 2 users")
    check(ada.page, "suspending two")
    ada.page.get_by_role("button", name="Suspend 2 users").click()
    expect(ada.row(first.full_name)).to_contain_text("Suspended")
    ada.page.get_by_role("button", name="Undo").click()
    expect(ada.row(first.full_name)).not_to_contain_text("Suspended")
    refused = ada.page.goto(f"/customers/{tenant.web_id}/users/new")
    assert refused is not None
    assert refused.status == 403

    # Without the item the next page is closed.
    page.goto(f"/customers/{tenant.web_id}/profiles")
    page.get_by_role("link", name="Front desk").click()
    page.get_by_role("link", name="Edit").click()
    page.get_by_label("Suspend and resume users").uncheck()
    page.get_by_role("button", name="Save").click()
    ada.page.goto(f"/customers/{tenant.web_id}/users")
    expect(ada.page.get_by_label(f"Select {first.full_name}")).to_have_count(0)
