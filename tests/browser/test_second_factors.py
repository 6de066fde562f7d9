"""A new member of staff: invited by mail, an app without scripts, then a passkey."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.installation import Installation, path_of
from tests.browser.looking import Check
from tests.browser.people import LANDLORD, NEW_PASSWORD, OpenPerson, Person
from tests.support.authenticators import code_of

pytestmark = pytest.mark.xdist_group("journeys")

CODE = re.compile(r"(?:[a-z2-9]{4}-){5}[a-z2-9]{4}")


def add_authenticator(page: Page) -> None:
    """One that is built into the machine, and whose person always confirms."""
    cdp = page.context.new_cdp_session(page)
    cdp.send("WebAuthn.enable")
    cdp.send(
        "WebAuthn.addVirtualAuthenticator",
        {
            "options": {
                "protocol": "ctap2",
                "transport": "internal",
                "hasResidentKey": True,
                "hasUserVerification": True,
                "isUserVerified": True,
                "automaticPresenceSimulation": True,
            }
        },
    )


def invite(landlord: Person, email: str) -> None:
    page = landlord.page
    page.get_by_role("navigation", name="Areas").get_by_role("link", name="Staff").click()
    landlord.sees_heading("Staff")
    page.get_by_role("link", name="Invite", exact=True).click()
    page.get_by_label("First name").fill("Nora")
    page.get_by_label("Last name").fill("Lind")
    page.get_by_label("E-mail address").fill(email)
    page.get_by_label("Auditor", exact=True).check()
    page.get_by_role("button", name="Send the invitation").click()
    landlord.sees_heading("Nora Lind")
    landlord.wait_for_mail(email)


def link_to(landlord: Person, email: str) -> str:
    mailbox = landlord.open_mail(email)
    link = mailbox.frame_locator("iframe").locator("a[href*='/staff/welcome/']").first
    return path_of(link.get_attribute("href") or "")


def choose_password(person: Person, link: str) -> None:
    page = person.page
    page.goto(link)
    page.get_by_label("New password", exact=True).fill(NEW_PASSWORD)
    page.get_by_label("New password again").fill(NEW_PASSWORD)
    page.get_by_role("button", name="Save and go on").click()
    person.sees_heading("Customers")


def set_up_app(person: Person) -> tuple[str, list[str]]:
    """The key, and the recovery codes."""
    page = person.page
    page.goto("/account/second-factors")
    expect(page.get_by_text("Passkeys belong to a host name")).to_be_visible()
    page.get_by_role("button", name="Set up an app").click()
    expect(page.get_by_role("img", name="QR code")).to_be_visible()
    secret = page.locator("#totp-key").inner_text()
    page.get_by_label("Code from the app").fill(code_of(secret))
    page.get_by_role("button", name="Confirm").click()
    person.sees_heading("Keep your recovery codes")
    codes = CODE.findall(page.locator(".recovery-codes").inner_text())
    page.get_by_role("link", name="I have kept them").click()
    person.sees_heading("Second factors")
    return secret, codes


def sign_out(person: Person) -> None:
    person.page.locator(".account-summary").click()
    person.page.get_by_role("button", name="Sign out").click()
    person.sees_heading("Sign in")


def test_from_the_invitation_to_a_passkey(
    installation: Installation, open_person: OpenPerson
) -> None:
    email = "nora.lind@foyer.example"
    landlord = open_person(LANDLORD)
    landlord.sees_heading("Customers")
    invite(landlord, email)
    link = link_to(landlord, email)

    nora = open_person(java_script_enabled=False)
    choose_password(nora, link)
    secret, codes = set_up_app(nora)
    assert len(codes) == 10
    sign_out(nora)
    nora.fill_sign_in(email, NEW_PASSWORD)
    nora.sees_heading("One more step")
    nora.page.get_by_label("Code").fill(code_of(secret, steps=1))
    nora.page.get_by_role("button", name="Sign in", exact=True).click()
    nora.sees_heading("Customers")

    at_name = installation.url.replace("127.0.0.1", "localhost")  # Passkeys need a name.
    nora = open_person()
    page = nora.page
    add_authenticator(page)
    page.goto(f"{at_name}/login")
    nora.fill_sign_in(email, NEW_PASSWORD)
    page.get_by_role("link", name="Use a recovery code instead").click()
    page.get_by_label("Code").fill(codes[0])
    page.get_by_role("button", name="Sign in", exact=True).click()
    nora.sees_heading("Customers")
    page.goto(f"{at_name}/account/second-factors/passkeys/new")
    page.get_by_label("Name", exact=True).fill("This laptop")
    page.get_by_role("button", name="Make the passkey").click()
    nora.sees_heading("Second factors")
    expect(page.locator(".factor-name")).to_contain_text("This laptop")
    sign_out(nora)
    page.get_by_role("button", name="Sign in with a passkey").click()
    nora.sees_heading("Customers")
    sign_out(nora)
    nora.fill_sign_in(email, NEW_PASSWORD)
    nora.sees_heading("One more step")
    page.get_by_role("button", name="Use the passkey").click()
    nora.sees_heading("Customers")

    landlord.page.reload()
    landlord.page.get_by_role("button", name="End all sessions").click()
    expect(landlord.page.locator("#toasts")).to_contain_text("is signed out everywhere")
    page.goto(f"{at_name}/customers")
    nora.sees_heading("Sign in")


def test_what_a_browser_refuses_is_told(
    installation: Installation, open_person: OpenPerson
) -> None:
    """Nobody at the machine: the passkey is asked for and does not come."""
    person = open_person()
    page = person.page
    page.goto(f"{installation.url.replace('127.0.0.1', 'localhost')}/login")
    page.evaluate(
        """() => {
          const refuse = async () => { throw new DOMException("", "NotAllowedError"); };
          navigator.credentials.get = refuse;
        }"""
    )
    page.get_by_role("button", name="Sign in with a passkey").click()
    expect(page.get_by_text("Nothing was done: no passkey was given")).to_be_visible()


def test_the_pages_on_the_way(
    installation: Installation, open_person: OpenPerson, check: Check
) -> None:
    email = "ida.lund@foyer.example"
    landlord = open_person(LANDLORD)
    landlord.expects(422)
    landlord.sees_heading("Customers")
    page = landlord.page
    page.goto("/staff/invite")
    page.get_by_role("button", name="Send the invitation").click()
    check(page, "invite to the staff, refused")
    page.get_by_role("link", name="Cancel").click()
    landlord.sees_heading("Staff")
    invite(landlord, email)
    page.reload()
    check(page, "somebody who is invited")
    link = link_to(landlord, email)

    ida = open_person()
    page = ida.page
    page.goto(link)
    check(page, "choose a password as new staff")
    choose_password(ida, link)
    page.goto("/account/second-factors")
    page.get_by_role("button", name="Set up an app").click()
    check(page, "set up an authenticator app")
    secret = page.locator("#totp-key").inner_text()
    page.get_by_label("Code from the app").fill(code_of(secret))
    page.get_by_role("button", name="Confirm").click()
    ida.sees_heading("Keep your recovery codes")
    check(page, "recovery codes")
    page.goto("/account/second-factors")
    check(page, "second factors")
    page.goto("/account/second-factors/app/remove")
    check(page, "remove the app")
    page.goto(f"{installation.url.replace('127.0.0.1', 'localhost')}/login")
    check(page, "sign in, with passkeys")
    ida.fill_sign_in(email, NEW_PASSWORD)
    ida.sees_heading("One more step")
    check(page, "second step")
    page.get_by_role("link", name="Use a recovery code instead").click()
    check(page, "second step, recovery code")
    page.get_by_role("link", name="Use the authenticator app instead").click()
    page.get_by_label("Code").fill(code_of(secret, steps=1))
    page.get_by_role("button", name="Sign in", exact=True).click()
    ida.sees_heading("Customers")
