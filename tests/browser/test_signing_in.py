"""Sessions that end under an open page, and passwords that were forgotten."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.installation import Installation, Tenant, path_of
from tests.browser.people import NEW_PASSWORD, OpenPerson
from tests.support.smtp_sink import Stage

pytestmark = pytest.mark.xdist_group("journeys")


def test_a_search_after_the_session_has_ended_leads_to_the_sign_in_and_back(
    installation: Installation, tenant: Tenant, open_person: OpenPerson
) -> None:
    admin = open_person(tenant.admin)
    admin.open_users()
    admin.expects(401)
    page = admin.page
    page.get_by_role("button", name="Login", exact=True).click()
    expect(page).to_have_url(re.compile(r"\?sort=login"))
    installation.end_sessions(tenant.admin)

    page.get_by_label("Search users").press_sequentially("a")
    admin.sees_heading("Sign in")
    expect(page.get_by_text("Your session has ended")).to_be_visible()
    expect(page.locator("#users-table")).to_have_count(0)
    expect(page).to_have_url(re.compile("/login"))
    admin.fill_sign_in(tenant.admin)
    admin.sees_heading("Users")
    assert path_of(page.url) == f"{tenant.users_path}?sort=login"
    expect(page.locator("th[aria-sort]")).to_have_text("Login")


def test_a_poll_after_the_session_has_ended_leads_to_the_sign_in_and_back(
    installation: Installation, tenant: Tenant, open_person: OpenPerson
) -> None:
    admin = open_person(tenant.admin)
    admin.open_users()
    admin.expects(401)
    page = admin.page
    with installation.other_mail_server() as sink:
        sink.hang(Stage.END)
        admin.tick(installation.users_of(tenant.web_id)[0].full_name)
        admin.choose_action("Resend Welcome Mail")
        admin.send()
        sink.wait_until_hanging()
        admin.sees_state("Running")
        mailing = page.url
        installation.end_sessions(tenant.admin)

        admin.sees_heading("Sign in")
        admin.fill_sign_in(tenant.admin)
        admin.sees_state("Running")
        assert page.url == mailing
        sink.behave()
        admin.sees_state("Finished")


def test_a_forgotten_password_is_chosen_anew_once(
    installation: Installation, tenant: Tenant, open_person: OpenPerson
) -> None:
    user, *_ = installation.users_of(tenant.web_id)
    person = open_person()
    person.expects(410, 422)
    page = person.page
    page.goto("/")
    page.get_by_role("link", name="Choose a new password").click()
    page.get_by_label("Login").fill(user.login)
    page.get_by_role("button", name="Send the link").click()
    person.sees_heading("Look into your mail")

    person.wait_for_mail(user.email)
    mailbox = person.open_mail(user.email)
    link = mailbox.frame_locator("iframe").locator("a[href*='/password/choose/']").first
    address = link.get_attribute("href") or ""
    assert address.startswith(installation.url)
    with person.context.expect_page() as opened:
        link.click()
    choosing = opened.value
    expect(choosing.get_by_role("heading", level=1)).to_have_text("Choose a new password")
    choosing.get_by_label("New password", exact=True).fill(NEW_PASSWORD)
    choosing.get_by_label("New password again").fill(NEW_PASSWORD + "!")
    choosing.get_by_role("button", name="Save the new password").click()
    expect(choosing.get_by_role("alert")).to_contain_text("The two new passwords differ.")
    choosing.get_by_label("New password", exact=True).fill(NEW_PASSWORD)
    choosing.get_by_label("New password again").fill(NEW_PASSWORD)
    choosing.get_by_role("button", name="Save the new password").click()
    expect(choosing.get_by_role("heading", level=1)).to_have_text("Sign in")
    expect(choosing.locator("#toasts")).to_contain_text("Your password is changed.")

    page.goto(address)
    person.sees_heading("This link no longer works")
    person.sign_in(user.login, NEW_PASSWORD)
    person.sees_heading("My services")


def test_an_unknown_login_gets_the_same_answer(open_person: OpenPerson) -> None:
    person = open_person()
    person.page.goto("/password/forgot")
    person.page.get_by_label("Login").fill("nobody@nowhere.example")
    person.page.get_by_role("button", name="Send the link").click()
    person.sees_heading("Look into your mail")
