"""From the landing page into the wizard, with the mail read from the mailbox."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.people import OPERATOR, OpenPerson, Person
from tests.support.work import wait_until

pytestmark = pytest.mark.xdist_group("journeys")

_numbers = itertools.count(1)
AT_A_TAB = re.compile(r"/tenant-registration/\d+/template$")

both_ways = pytest.mark.parametrize(
    "options", [{}, {"java_script_enabled": False}], ids=["scripts", "no scripts"]
)


@pytest.fixture
def email() -> str:
    """An address that no other test has."""
    return f"newcomer{next(_numbers)}@getting-in.example"


def ask_for_link(person: Person, email: str) -> None:
    page = person.page
    page.goto("/")
    page.get_by_role("link", name="Register a tenant").click()
    person.sees_heading("Register a tenant")
    page.get_by_label("E-mail address").fill(email)
    page.get_by_role("button", name="Send me the link").click()
    person.sees_heading("Look into your mail")


def follow_link(person: Person, email: str) -> Page:
    """The page that the link in the newest mail opens, in a tab of its own."""
    person.wait_for_mail(email)
    mailbox = person.open_mail(email)
    frame = mailbox.frame_locator("iframe")
    link = frame.locator("a.button")
    assert (link.get_attribute("href") or "").startswith(person.at.url)
    with person.context.expect_page() as opened:
        link.click()
    landed = opened.value
    expect(landed.get_by_role("heading", level=1)).to_have_text("Tenant Registration")
    mailbox.close()
    return landed


@both_ways
def test_a_stranger_comes_from_the_landing_page_to_the_wizard_and_back(
    open_person: OpenPerson, email: str, options: dict[str, Any]
) -> None:
    person = open_person(**options)
    person.expects(410)
    ask_for_link(person, email)
    landed = follow_link(person, email)
    address = landed.url
    expect(landed.get_by_text(email)).to_be_visible()
    landed.get_by_role("button", name="Go to Tenant Registration").click()
    expect(landed.get_by_role("heading", name="Three tabs to fill in")).to_be_visible()
    landed.get_by_role("button", name="New registration").click()
    expect(landed).to_have_url(AT_A_TAB)
    draft = landed.url

    landed.locator(".account-summary").click()
    landed.get_by_role("button", name="Sign out").click()
    expect(landed.get_by_role("heading", level=1)).to_have_text("Register a tenant")
    landed.goto(address)
    expect(landed.get_by_role("heading", level=1)).to_have_text("This link does not work")
    landed.get_by_role("link", name="Get a new link").click()
    landed.get_by_label("E-mail address").fill(email)
    landed.get_by_role("button", name="Send me the link").click()
    expect(landed.get_by_role("heading", level=1)).to_have_text("Look into your mail")
    landed.close()
    wait_until(lambda: len(person.at.mails_to(email)) == 2)
    again = follow_link(person, email)
    again.get_by_role("button", name="Go to Tenant Registration").click()
    expect(again.get_by_role("heading", name="Drafts")).to_be_visible()
    again.goto(draft)
    expect(again.locator("[aria-current=step]")).to_contain_text("Template")


@both_ways
def test_an_invited_begins_with_the_template_that_was_meant_for_him(
    open_person: OpenPerson, email: str, options: dict[str, Any]
) -> None:
    operator = open_person(OPERATOR, **options)
    page = operator.page
    page.get_by_role("link", name="Tenant Registration").click()
    page.get_by_role("link", name="Invitations").click()
    operator.sees_heading("Invitations")
    page.get_by_role("link", name="Invite").first.click()
    page.get_by_label("E-mail address", exact=True).fill(email)
    page.get_by_label("Language of the mail").select_option(label="Nederlands")
    page.get_by_label("Template").select_option(label="Contact centre")
    page.get_by_role("textbox", name="Message optional").fill("Zoals afgesproken.\n\nOmar")
    page.get_by_role("button", name="Send the invitation").click()
    operator.sees_heading("Invitations")
    row = page.locator("tbody tr").filter(has_text=email)
    expect(row).to_contain_text("Contact centre")
    expect(page.locator("#toasts")).to_contain_text(f"{email} is invited.")

    invited = open_person(**options)
    landed = follow_link(invited, email)
    landed.get_by_role("button", name="Go to Tenant Registration").click()
    landed.get_by_role("button", name=re.compile("^Template")).click()
    expect(landed.get_by_role("radio", name="Contact centre")).to_be_checked()
    page.reload()
    expect(row).to_contain_text("Accepted")
    expect(row.get_by_role("button")).to_have_count(0)


def test_a_link_opened_by_somebody_else_who_is_signed_in_asks_first(
    open_person: OpenPerson, email: str
) -> None:
    person = open_person(OPERATOR)
    person.page.goto("/login")
    stranger = open_person()
    ask_for_link(stranger, email)
    landed = follow_link(person, email)
    expect(landed.get_by_text("You are signed in as Omar Nasser")).to_be_visible()
    person.page.goto("/customers")
    person.sees_heading("Customers")
    landed.get_by_role("button", name="Go to Tenant Registration").click()
    expect(landed.get_by_role("button", name="New registration")).to_be_visible()
    person.expects(403)
    person.page.reload()
    expect(person.page.get_by_role("heading", level=1)).not_to_have_text("Customers")
