"""An e-mail template from nothing to a customer's administrator, with a preview while one types."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.installation import Installation, Tenant
from tests.browser.looking import Check
from tests.browser.people import OPERATOR, OpenPerson

pytestmark = pytest.mark.xdist_group("journeys")


def test_a_template_is_written_previewed_tested_and_assigned(
    installation: Installation, tenant: Tenant, open_person: OpenPerson, check: Check
) -> None:
    operator = open_person(OPERATOR)
    operator.expects(422)
    page = operator.page
    page.goto("/email-templates/new")
    mail = page.frame_locator("iframe[name=draft]").locator("body")
    page.get_by_label("Name", exact=True).fill(f"Notice for {tenant.web_id}")
    page.get_by_label("English subject").fill("Moving house")
    page.get_by_label("English HTML").fill("<h1>Hello </h1>")
    for _ in range(5):
        page.keyboard.press("ArrowLeft")
    page.get_by_role("button", name="((first name))").click()
    expect(page.get_by_label("English HTML")).to_have_value("<h1>Hello ((first name))</h1>")
    expect(mail).to_contain_text("Hello Ada")
    page.keyboard.type(" ((extention))")
    told = page.locator("#template-check")
    expect(told).to_contain_text("Did you mean “((extension))”?")
    check(page, "editor, with a fault")
    page.get_by_label("English HTML").fill("<h1>Hello ((first name))</h1><script>x</script>")
    expect(told).to_contain_text("Taken out of the English HTML")
    page.get_by_text("Phone, 375 px").click()
    expect(page.locator("iframe[name=draft]")).to_have_css("width", "375px")
    page.get_by_role("button", name="Send test to me").click()
    expect(page.locator("#toasts")).to_contain_text("on its way to operator@foyer.example")
    operator.wait_for_mail("operator@foyer.example")
    page.get_by_role("button", name="Save", exact=True).click()
    operator.sees_heading(f"Notice for {tenant.web_id}")
    check(page, "template")

    page.get_by_role("link", name="Assign it to customers").click()
    page.get_by_role("textbox", name="Web IDs").fill(tenant.web_id.lower())
    check(page, "customers to assign to")
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("button", name="Assign to 1 customer").click()
    operator.sees_heading(f"Customers of Notice for {tenant.web_id}")
    check(page, "customers of a template")
    page.goto("/email-templates")
    page.get_by_role("link", name=f"Notice for {tenant.web_id}", exact=True).click()

    page.get_by_role("link", name="Edit").click()
    user, *_ = installation.users_of(tenant.web_id)
    page.get_by_label("For the login").fill(user.login)
    expect(told).to_contain_text(f"({user.login})")
    page.get_by_label("English subject").fill("Moved house")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_role("link", name="Versions").click()
    page.get_by_role("link", name="Version 1").click()
    page.get_by_role("link", name="What changed since").click()
    expect(page.locator("ins")).to_have_text("+Moved house")
    check(page, "versions compared")
    page.get_by_role("button", name="Restore version 1").click()
    expect(page.locator("#toasts")).to_contain_text("Version 3 says what version 1 said.")


def test_without_scripts_the_preview_comes_by_a_button(open_person: OpenPerson) -> None:
    operator = open_person(OPERATOR, java_script_enabled=False)
    page = operator.page
    page.goto("/email-templates/new?from=voicemail-update")
    page.get_by_label("English HTML").fill("<p>Dear ((full name))</p>")
    page.get_by_role("button", name="Show the mail").click()
    expect(page.frame_locator("iframe[name=draft]").locator("body")).to_contain_text(
        "Dear Ada Kenton"
    )
    expect(page.get_by_label("English HTML")).to_have_value("<p>Dear ((full name))</p>")
    page.get_by_role("button", name="Check").click()
    expect(page.locator("#template-check")).to_contain_text("There is no text in")
    expect(page.get_by_label("English HTML")).to_have_value("<p>Dear ((full name))</p>")
