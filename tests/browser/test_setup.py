"""Setup instructions with files, and a service template from nothing to published."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.installation import Tenant
from tests.browser.people import LANDLORD, OpenPerson
from tests.support.attachments import PDF, PNG

pytestmark = pytest.mark.xdist_group("journeys")


def test_files_are_attached_and_a_service_template_is_made(
    tenant: Tenant, open_person: OpenPerson, check: Callable[..., None]
) -> None:
    landlord = open_person(LANDLORD)
    landlord.expects(422)
    page = landlord.page

    page.goto(f"/customers/{tenant.web_id}/setup")
    for name, content in (("First steps.pdf", PDF), ("Zoë’s plan.png", PNG)):
        page.get_by_label("File", exact=True).set_input_files(
            {"name": name, "mimeType": "application/octet-stream", "buffer": content}
        )
        page.get_by_role("button", name="Attach file").click()
        expect(page.locator("#toasts")).to_contain_text(f"{name} is attached")
    page.get_by_role("button", name="Move Zoë’s plan.png up").click()
    expect(page.locator(".setup-file bdi")).to_have_text(["Zoë’s plan.png", "First steps.pdf"])
    page.get_by_label("File", exact=True).set_input_files(
        {"name": "a.pdf", "mimeType": "application/pdf", "buffer": b"MZ"}
    )
    page.get_by_role("button", name="Attach file").click()
    expect(page.locator(".error-summary")).to_be_focused()
    page.locator(".setup-remove summary").first.click()
    check(page, "setup instructions, refused, asking")

    page.goto("/service-templates/new")
    page.get_by_label("Name", exact=True).fill("Bakery")
    page.get_by_role("button", name="Add an option").click()
    option = page.get_by_role("group", name="Option 1")
    expect(option).to_be_focused()
    expect(page.get_by_label("Name", exact=True)).to_have_value("Bakery")
    option.get_by_label("Label").fill("Ovens")
    option.get_by_label("Kind").select_option(label="A number")
    expect(option.get_by_label("Choices")).to_be_hidden()
    option.get_by_label("Lowest").fill("1")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".error-summary")).to_contain_text("No group is chosen")
    check(page, "service template, refused")
    option.get_by_label("Highest").fill("9")
    page.get_by_label("Group").select_option(index=1)
    page.get_by_role("group", name="Bundles").get_by_role("checkbox").first.check()
    page.get_by_role("button", name="Save", exact=True).click()
    landlord.sees_heading("Bakery")
    page.get_by_label("Who may pick it").select_option(label="Staff only")
    page.get_by_role("button", name="Publish version 1").click()
    expect(page.locator("#toasts")).to_contain_text("offered to staff alone")
    check(page, "service template")
    page.get_by_role("link", name="Version 1", exact=True).click()
    landlord.sees_heading("Version 1 of Bakery")
    check(page, "version of a service template")
    page.goto("/service-templates")
    check(page, "service templates")
