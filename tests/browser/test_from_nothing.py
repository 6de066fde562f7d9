"""From the empty database to users with their welcome mail, by pages only."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.installation import Installation
from tests.browser.people import NEW_PASSWORD, OpenPerson, Person, secrets_in
from tests.browser.test_getting_in import ask_for_link, follow_link
from tests.browser.test_registration import AT_A_REQUEST, CONTACT, SECRET, Registrant
from tests.support.work import wait_until

pytestmark = [pytest.mark.xdist_group("journeys"), pytest.mark.timeout(300)]

LANDLORD, PASSWORD = "ada@provider.example", "amber window orchard"


def test_a_provider_gets_from_an_empty_database_to_users_with_their_welcome_mail(
    empty_installation: Installation, open_person: OpenPerson
) -> None:
    empty_installation.run_command(
        "create-landlord",
        *("--email", LANDLORD, "--first-name", "Ada", "--last-name", "Provider"),
        typed=f"{PASSWORD}\n{PASSWORD}\n",
    )
    landlord = open_person(at=empty_installation)
    landlord.sign_in(LANDLORD, PASSWORD)
    landlord.sees_heading("Customers")
    expect(landlord.page.locator("#prepare")).to_contain_text("0 of 4 done")
    make_group(landlord)
    make_bundle(landlord)
    make_email_templates(landlord)
    publish_service_template(landlord)
    make_customer(landlord)
    add_user(landlord, "Plainly", "Nora", "Quist", "nora@plain.example")
    sign_in_by_mail(open_person(at=empty_installation), "nora@plain.example")

    owner = open_person(at=empty_installation)
    administrator = open_person(at=empty_installation)
    register(owner, administrator, "owner@wizard.example")
    add_user(administrator, "", "Odd", "Lund", "odd@wizard.example")
    sign_in_by_mail(open_person(at=empty_installation), "odd@wizard.example")


def go_to(person: Person, area: str) -> Page:
    areas = person.page.get_by_role("navigation", name="Areas")
    areas.get_by_role("link", name=area, exact=True).click()
    return person.page


def fill(page: Page, **typed: str) -> None:
    for label, text in typed.items():
        words = re.escape(label.replace("_", " "))
        page.get_by_label(re.compile(rf"^{words}( optional)?$")).fill(text)


def make_group(landlord: Person) -> None:
    page = landlord.page
    page.get_by_role("link", name="Make a group").click()
    landlord.sees_heading("New group")
    fill(page, Number="1", Name="Direct")
    page.get_by_role("button", name="Create group").click()
    landlord.sees_heading("Direct")


def make_bundle(landlord: Person) -> None:
    page = go_to(landlord, "Customers")
    page.get_by_role("link", name="Make a bundle").click()
    fill(page, Name="DeskBundle", Services="Desk phone\nVoicemail")
    page.get_by_role("button", name="Create bundle").click()
    landlord.sees_heading("DeskBundle")


def make_email_templates(landlord: Person) -> None:
    """A Welcome of the provider's own words, and a notice that starts from one that Foyer has."""
    for kind, start, name in (
        ("Welcome mail", "Welcome", "Hello from Ada"),
        ("General, chosen by its name", "Voicemail update", "Voicemail has moved"),
    ):
        page = go_to(landlord, "E-mail templates")
        page.get_by_role("link", name="New template").first.click()
        landlord.sees_heading("New e-mail template")
        page.get_by_text("Start from").click()
        page.get_by_role("link", name=start, exact=True).click()
        expect(page.get_by_role("radio", name=kind)).to_be_checked()
        fill(page, Name=name)
        page.get_by_label("English subject").fill(f"{name}, ((first name))")
        expect(page.locator("#template-check")).to_contain_text(name)
        page.get_by_role("button", name="Save").click()
        landlord.sees_heading(name)


def publish_service_template(landlord: Person) -> None:
    page = go_to(landlord, "Customers")
    expect(page.locator("#prepare")).to_contain_text("3 of 4 done")
    page.get_by_role("link", name="Publish a service template").click()
    page.get_by_role("main").get_by_role("link", name="New template").last.click()
    landlord.sees_heading("New service template")
    fill(page, Name="Small office", Description="Desk phones, ready a minute after you ask.")
    page.get_by_label("Group", exact=True).select_option(label="1, Direct")
    page.get_by_label("Requests have to be approved").uncheck()
    page.get_by_label("Start", exact=True).select_option(label="At once")
    page.get_by_label("DeskBundle").check()
    page.get_by_label("Hello from Ada").check()
    page.get_by_label("Voicemail has moved").check()
    page.get_by_role("button", name="Save", exact=True).last.click()
    landlord.sees_heading("Small office")
    page.get_by_label("Who may pick it").select_option(label="Everybody")
    page.get_by_role("button", name="Publish version 1").click()
    expect(page.get_by_role("main")).to_contain_text("Version 1 is offered to everybody.")


def make_customer(landlord: Person) -> None:
    """Without the wizard; the worker provisions it."""
    page = go_to(landlord, "Customers")
    page.get_by_role("main").get_by_role("link", name="New customer").last.click()
    landlord.sees_heading("New customer")
    page.get_by_role("radio", name="Small office").check()
    fill(page, Name="Plainly", Short_Name="pl", UPN_Suffix="plain.example", User_Name="plAdmin")
    fill(page, ANI="02 555 12 12", **{name.replace(" ", "_"): CONTACT[name] for name in CONTACT})
    page.get_by_label("E-mail address", exact=True).fill("office@plain.example")
    page.get_by_role("button", name="Create customer").click()
    expect(page).to_have_url(AT_A_REQUEST)
    expect(page.get_by_role("main")).to_contain_text("Open the tenant and notify")
    expect(page.locator("main .pill").first).to_contain_text("Done")
    page.get_by_role("main").get_by_role("link", name="Plainly").first.click()


def add_user(person: Person, customer: str, first: str, last: str, email: str) -> None:
    """A user of the customer, its bundle and the welcome mail at once."""
    page = person.page
    if customer:
        go_to(person, "Customers").get_by_role("link", name=customer, exact=True).click()
    else:
        go_to(person, "Users")
    person.sees_heading("Users")
    page.get_by_role("main").get_by_role("link", name="Add a user").first.click()
    person.sees_heading("Add a user")
    fill(page, First_name=first, Last_name=last)
    page.get_by_label("User name").fill(first.lower())
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Bundle").select_option(label="DeskBundle")
    expect(page.get_by_label("Send it now")).to_be_checked()
    page.get_by_role("button", name="Add user").click()


def sign_in_by_mail(user: Person, email: str) -> None:
    """The password in the mail that came lets its reader in, who chooses one of his own."""
    user.wait_for_mail(email)
    mailbox = user.open_mail(email)
    expect(mailbox.get_by_role("heading", level=1)).to_contain_text("Hello from Ada")
    login, password, *_ = secrets_in(mailbox)
    user.sign_in(login, password)
    user.sees_heading("Choose your own password")
    fill(user.page, Current_password=password)
    fill(user.page, New_password=NEW_PASSWORD, New_password_again=NEW_PASSWORD)
    user.page.get_by_role("button", name="Save and go on").click()
    user.sees_heading("My services")
    expect(user.page.get_by_role("main")).to_contain_text("DeskBundle")


def register(owner: Person, administrator: Person, email: str) -> None:
    """The same service template through the wizard; at the end its administrator is signed in."""
    ask_for_link(owner, email)
    page = follow_link(owner, email)
    page.get_by_role("button", name="Go to Tenant Registration").click()
    registrant = Registrant(owner)
    registrant.page = page
    registrant.begin().pick("Small office").go_to("Tenant")
    registrant.fill(
        {
            "Name": "Wizardly",
            "Short Name": "wz",
            "UPN Suffix": "wizard.example",
            "User Name": "wzAdmin",
            "ANI": "02 555 12 13",
        }
    ).choose_password()
    registrant.go_to("Contact").fill({**CONTACT, "Contact person": "Willa Journey"})
    registrant.create()
    expect(page).to_have_url(AT_A_REQUEST)
    wait_until(lambda: len(owner.at.mails_to(email)) == 2)
    administrator.sign_in("prpwzAdmin@wizard.example", SECRET)
    administrator.sees_heading("Wizardly")
