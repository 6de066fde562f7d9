"""A new tenant's administrator: from the first sign-in to parameters that are published."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from playwright.sync_api import Locator, expect

from extensions import db
from models import ServiceTemplateVersion
from services import general_parameters
from services.demo_data import PASSWORD
from services.transactions import run_transaction
from tests.browser.installation import Installation, Tenant, path_of
from tests.browser.people import NEW_PASSWORD, OPERATOR, OpenPerson, Person
from tests.support.factories import find_customer

pytestmark = pytest.mark.xdist_group("journeys")

MAILBOX = "Callback Folder e-mail address"


@pytest.fixture
def new_tenant(installation: Installation) -> Tenant:
    """As provisioning leaves it: parameters of the template, a password to be changed."""
    tenant = installation.add_tenant(1)
    with installation.app.app_context():
        customer = find_customer(tenant.web_id)
        version = db.session.scalars(sa.select(ServiceTemplateVersion).limit(1)).one()
        run_transaction(
            lambda connection: general_parameters.clone_into(connection, customer.id, version)
        )
        db.session.remove()
    installation.must_change_password(tenant.admin)
    return tenant


def choose_password(person: Person) -> None:
    page = person.page
    person.sees_heading("Choose your own password")
    page.get_by_label("Current password").fill(PASSWORD)
    page.get_by_label("New password", exact=True).fill(NEW_PASSWORD)
    page.get_by_label("New password again").fill(NEW_PASSWORD)
    page.get_by_role("main").locator("button[type=submit]").click()


def step(person: Person, title: str) -> Locator:
    return person.page.locator("#checklist .checklist-item").filter(has_text=title)


@pytest.mark.parametrize("scripts", [True, False])
def test_the_first_thing_a_new_administrator_does_is_to_set_the_callback_folder(
    new_tenant: Tenant, open_person: OpenPerson, scripts: bool
) -> None:
    admin = open_person(new_tenant.admin, java_script_enabled=scripts)
    admin.expects(422)
    page = admin.page
    choose_password(admin)

    expect(page.locator("#checklist h2")).to_contain_text("To set up")
    assert path_of(page.url) == f"/customers/{new_tenant.web_id}"
    first = page.locator("#checklist .checklist-item").first
    expect(first).to_contain_text("Required")
    first.get_by_role("link", name=f"Set the {MAILBOX}").click()

    admin.sees_heading("General parameters")
    expect(page.get_by_label(MAILBOX)).to_have_value("callbacks@foyer.example")
    expect(page.locator("#callback_folder_email-notes")).to_contain_text("Only stands in")
    page.get_by_role("button", name="Publish").click()
    expect(page.locator(".error-summary")).to_contain_text("only stands in for your own")
    if scripts:
        expect(page.locator(".error-summary")).to_be_focused()

    page.get_by_label(MAILBOX).fill(f"callbacks@{new_tenant.suffix}")
    page.get_by_label("Tuesday", exact=True).fill("8-12, 1pm-5pm")
    if scripts:
        understood = page.locator("#opening_hours_tuesday-understood")
        expect(understood).to_have_text("08:00\u201312:00, 13:00\u201317:00")
    page.get_by_role("button", name="Publish").click()
    expect(page.locator("#toasts")).to_contain_text("Version 1 is published.")
    expect(page.get_by_label("Tuesday", exact=True)).to_have_value(
        "08:00\u201312:00, 13:00\u201317:00"
    )

    page.get_by_role("link", name="Home", exact=True).click()
    expect(step(admin, "Set the Callback Folder")).not_to_contain_text("Required")
    done = page.locator("details.checklist-done")
    expect(done.locator("summary")).to_contain_text("2 done")
    done.locator("summary").click()
    expect(done).to_contain_text("Set the Callback Folder")


def test_two_editors_learn_of_each_other_and_an_earlier_version_comes_back(
    installation: Installation, open_person: OpenPerson
) -> None:
    tenant = installation.add_tenant(1)
    address = f"/customers/{tenant.web_id}/general-parameters"
    admin, operator = open_person(tenant.admin), open_person(OPERATOR)
    operator.sees_heading("Customers")
    operator.expects(409)
    page, other = admin.page, operator.page
    page.goto(address)
    page.get_by_label(MAILBOX).fill(f"callbacks@{tenant.suffix}")
    page.get_by_role("button", name="Publish").click()
    expect(page.locator("#toasts")).to_contain_text("Version 1 is published.")

    other.goto(address)
    page.get_by_label("Callback retries").fill("7")
    page.get_by_role("button", name="Save draft").click()
    expect(page.locator("#toasts")).to_contain_text("The draft is saved.")
    expect(page.locator("#callback_retries-notes")).to_contain_text("Published: 3 times")
    other.get_by_label("Callback retries").fill("8")
    other.get_by_role("button", name="Publish").click()
    expect(other.get_by_role("main")).to_contain_text("changed this draft while you had it open")
    expect(other.locator("#callback_retries-notes")).to_contain_text("Saved meanwhile: 7 times")
    other.get_by_role("button", name="Publish").click()
    expect(other.locator("#toasts")).to_contain_text("Version 2 is published.")

    page.goto(address)
    page.get_by_role("link", name="Version 1", exact=True).click()
    admin.sees_heading("Version 1")
    row = page.get_by_role("row").filter(has_text="Callback retries")
    expect(row).to_contain_text("8 times")
    expect(row).to_contain_text("Differs")
    page.get_by_role("button", name="Restore version 1").click()
    admin.sees_heading("General parameters")
    expect(page.get_by_label("Callback retries")).to_have_value("3")
    expect(page.locator("#toasts")).to_contain_text("Version 3 is published.")
