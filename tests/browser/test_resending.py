"""Resend Welcome Mail from the Users tab to the sign-in with the mailed password."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from models import UserStatus
from models.users import User
from tests.browser.installation import Installation, Tenant, path_of
from tests.browser.people import ADMIN, NEW_PASSWORD, OpenPerson, Person, secrets_in
from tests.support.work import wait_until

pytestmark = pytest.mark.xdist_group("journeys")


def test_a_user_gets_in_with_the_password_from_the_resent_mail(
    each_installation: Installation, open_person: OpenPerson
) -> None:
    installation = each_installation
    nameless, *_ = installation.users_of("CQ001", User.email_key == "")
    chosen = _mailable(installation, "CQ001")
    first_page, second_page = chosen[:2], chosen[30:32]
    admin = open_person(ADMIN, at=installation)
    admin.open_users()
    page = admin.page
    expect(admin.rows).to_have_count(25)

    _look_around(admin, nameless)
    _select_on_two_pages(admin, first_page, second_page)
    admin.choose_action("Resend Welcome Mail")

    admin.sees_heading("Resend Welcome Mail")
    gets = page.get_by_role("region", name="4 users will get it")
    for user in (*first_page, *second_page):
        expect(gets).to_contain_text(user.full_name)
    expect(page.get_by_role("region", name="1 will not")).to_contain_text(nameless.full_name)
    expect(page.get_by_role("region", name="1 will not")).to_contain_text("No e-mail address")
    expect(page.get_by_text("Both passwords of these 4 users will be reset")).to_be_visible()
    mail = page.frame_locator("iframe")
    expect(mail.locator("h1")).to_contain_text(first_page[0].full_name)
    expect(mail.locator("code.secret").nth(1)).to_have_text("••••••••")
    expect(admin.send_button).to_have_text("Reset passwords and send to 4")

    admin.send()
    admin.sees_state("Finished")
    admin.sees_figures("Finished. 4 of 4 sent.")
    expect(admin.count_of("skipped")).to_have_text("1")
    expect(page.locator("#mailings-said")).to_have_text(re.compile("^$|Finished. 4 of 4 sent."))
    _check_that_it_asks_no_more(admin)

    _sign_in_with_mail(admin, first_page[0], open_person)


def test_the_same_without_javascript(installation: Installation, open_person: OpenPerson) -> None:
    tenant = installation.add_tenant(60)
    users = installation.users_of(tenant.web_id)
    first_page, second_page = users[:2], users[30:32]
    admin = open_person(tenant.admin, java_script_enabled=False)
    admin.open_users()
    page = admin.page

    page.get_by_label("Search users").fill(users[5].login)
    page.get_by_label("Search users").press("Enter")
    expect(admin.rows).to_have_count(1)
    page.get_by_role("button", name="Clear all").click()
    expect(admin.rows).to_have_count(25)
    page.get_by_text("Bundle", exact=True).first.click()
    page.get_by_role("button", name="Stand4PhoneNextGenBundle").click()
    expect(page.get_by_role("list", name="Filters that are on")).to_contain_text("Stand4Phone")
    page.get_by_role("button", name="Clear all").click()
    page.get_by_role("button", name="Login", exact=True).click()
    expect(page.locator("th[aria-sort]")).to_have_text("Login")
    page.get_by_role("button", name="Name", exact=True).click()
    _select_on_two_pages(admin, first_page, second_page, counts_at_once=False)
    admin.choose_action("Resend Welcome Mail")

    expect(page.get_by_role("region", name="4 users will get it")).to_be_visible()
    admin.send()
    expect(page).to_have_url(re.compile(r"/mailings/\d+$"))
    # The page asks by itself every few seconds; whoever is impatient reloads it.
    wait_until(lambda: installation.all_deliveries_ended(tenant.web_id))
    page.reload()
    admin.sees_state("Finished")
    admin.sees_figures("4 of 4 sent")
    expect(page.locator("meta[http-equiv=refresh]")).to_have_count(0)

    _sign_in_with_mail(admin, second_page[1], open_person, java_script_enabled=False)


def _mailable(installation: Installation, web_id: str) -> list[User]:
    """Users to whom nothing bars a mail in English: before the suppressed one in the demo data."""
    return installation.users_of(
        web_id,
        User.email_key != "",
        User.status == UserStatus.ACTIVE,
        User.extension != "2015",
    )


def _look_around(admin: Person, nameless: User) -> None:
    """Search, filter and sort; the one who has no address is ticked on the way."""
    page = admin.page
    page.get_by_label("Search users").press_sequentially(nameless.login[:8])
    expect(admin.row(nameless.full_name)).to_be_visible()
    expect(admin.rows).to_have_count(1)
    expect(page).to_have_url(re.compile(r"[?&]q="))
    admin.tick(nameless.full_name)
    admin.sees_selected(1)
    page.get_by_label("Search users").fill("")
    expect(admin.rows).to_have_count(25)

    page.get_by_text("Bundle", exact=True).first.click()
    page.get_by_role("button", name="Stand4PhoneNextGenBundle").click()
    expect(admin.rows).to_have_count(20)
    expect(page).to_have_url(re.compile(r"[?&]bundle=\d+"))
    admin.sees_selected(1)
    page.get_by_role("button", name="Clear all").click()
    expect(admin.rows).to_have_count(25)

    by_login = sorted(user.login for user in admin.at.users_of("CQ001"))
    page.get_by_role("button", name="Login", exact=True).click()
    expect(page.locator("th[aria-sort=ascending]")).to_have_text("Login")
    expect(admin.rows.first).to_contain_text(by_login[0])
    page.get_by_role("button", name="Login", exact=True).click()
    expect(page.locator("th[aria-sort=descending]")).to_have_text("Login")
    expect(admin.rows.first).to_contain_text(by_login[-1])
    page.get_by_role("button", name="Name", exact=True).click()
    expect(page.locator("th[aria-sort=ascending]")).to_have_text("Name")


def _select_on_two_pages(
    admin: Person, first: list[User], second: list[User], *, counts_at_once: bool = True
) -> None:
    page = admin.page
    before = int(page.locator("[data-selection-count]").inner_text())
    for user in first:
        admin.tick(user.full_name)
    if counts_at_once:
        admin.sees_selected(before + 2)
    page.get_by_role("button", name="Next").click()
    expect(admin.row(second[0].full_name)).to_be_visible()
    admin.sees_selected(before + 2)
    for user in second:
        admin.tick(user.full_name)
    page.get_by_role("button", name="Previous").click()
    expect(page.get_by_label(f"Select {first[0].full_name}", exact=True)).to_be_checked()
    admin.sees_selected(before + 4)


def _check_that_it_asks_no_more(admin: Person) -> None:
    asked = [url for url in admin.requests if "/progress" in url]
    assert asked, "the page followed its mailing"
    for _ in range(3):
        admin.page.evaluate("document.body.dispatchEvent(new CustomEvent('foyer-tick'))")
    admin.page.evaluate("fetch('/healthz').then(answer => answer.text())")
    assert [url for url in admin.requests if "/progress" in url] == asked


def _sign_in_with_mail(admin: Person, user: User, open_person: OpenPerson, **options: bool) -> None:
    mailbox = admin.open_mail(user.email)
    login, portal, same_login, application = secrets_in(mailbox)
    assert login == same_login == user.login
    assert portal != application

    person = open_person(at=admin.at, **options)
    person.sign_in(user.login, portal)
    person.sees_heading("Choose your own password")
    person.page.goto("/account/services")
    person.sees_heading("Choose your own password")
    person.page.get_by_label("Current password").fill(portal)
    person.page.get_by_label("New password", exact=True).fill(NEW_PASSWORD)
    person.page.get_by_label("New password again").fill(NEW_PASSWORD)
    person.page.get_by_role("button", name="Save and go on").click()
    person.sees_heading("My services")
    expect(person.page.get_by_role("main")).to_contain_text("PhoneNextGenBundle")
    person.page.get_by_role("link", name="My profile").first.click()
    person.sees_heading("My profile")
    expect(person.page.get_by_role("main")).to_contain_text(user.login)


def test_more_than_the_limit_is_refused_and_nothing_is_lost(
    installation: Installation, open_person: OpenPerson
) -> None:
    tenant = installation.add_tenant(60)
    admin = open_person(tenant.admin)
    admin.open_users()
    admin.expects(422)
    page = admin.page
    page.get_by_role("navigation", name="Pages").get_by_role("button", name="50").click()
    expect(admin.rows).to_have_count(50)
    page.get_by_label("Select all on this page").check()
    admin.sees_selected(50)
    expect(
        page.get_by_text("Mails to more than 25 at once are for the service provider")
    ).to_be_visible()
    admin.choose_action("Resend Welcome Mail")

    refusal = page.get_by_role("alert")
    expect(refusal).to_contain_text("50 users are selected.")
    expect(refusal).to_contain_text("up to 25 at a time")
    expect(refusal).to_contain_text("$$RESEND WELCOME EMAIL$$ <bundle>|<customer>")
    expect(refusal).to_be_focused()
    admin.sees_selected(50)
    expect(page.get_by_label("Select an Action")).to_have_value(re.compile("mail-"))
    page.goto(tenant.users_path)
    admin.sees_selected(50)
    assert installation.count_mailings(tenant.web_id) == 0
    assert not _mails_of(installation, tenant)

    page.get_by_role("button", name="Clear", exact=True).click()
    expect(page.locator("[data-select-row]:checked")).to_have_count(0)


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without"])
def test_sending_twice_sends_once(
    installation: Installation, tenant: Tenant, open_person: OpenPerson, scripts: bool
) -> None:
    users = installation.users_of(tenant.web_id)[:3]
    admin = open_person(tenant.admin, java_script_enabled=scripts)
    admin.open_users()
    page = admin.page
    for user in users:
        admin.tick(user.full_name)
    admin.choose_action("Resend Welcome Mail")
    expect(admin.send_button).to_have_text("Reset passwords and send to 3")
    admin.send_button.dblclick()
    expect(page).to_have_url(re.compile(r"/mailings/\d+$"))
    page.reload()
    wait_until(lambda: installation.all_deliveries_ended(tenant.web_id))
    page.reload()
    admin.sees_state("Finished")
    _go_back_and_try_again(page, admin)

    wait_until(lambda: installation.all_deliveries_ended(tenant.web_id))
    assert installation.count_mailings(tenant.web_id) == 1
    for user in users:
        assert len(installation.mails_to(user.email)) == 1
    assert len(_mails_of(installation, tenant)) == 3


def _go_back_and_try_again(page: Page, admin: Person) -> None:
    """Back to the confirmation, as far as the browser still has it."""
    page.go_back()
    if "/mailings/new" in path_of(page.url) and admin.send_button.count():
        admin.send()
        expect(page).to_have_url(re.compile(r"/mailings/\d+$"))
    else:
        expect(page.get_by_text("No user is selected").first).to_be_visible()


def test_who_is_among_the_recipients_is_told_that_it_ends_the_session(
    installation: Installation, tenant: Tenant, open_person: OpenPerson
) -> None:
    other, *_ = installation.users_of(tenant.web_id)
    admin = open_person(tenant.admin)
    admin.open_users()
    admin.expects(401)
    page = admin.page
    admin.tick(other.full_name)
    page.get_by_label("Search users").fill(tenant.admin)
    expect(admin.rows).to_have_count(1)
    page.get_by_label("Select all on this page").check()
    admin.sees_selected(2)
    admin.choose_action("Resend Welcome Mail")
    expect(page.get_by_text("You are among them")).to_be_visible()
    admin.send()
    admin.sees_heading("Sign in")

    admin.wait_for_mail(f"admin@{tenant.suffix}")
    _, portal, *_ = secrets_in(admin.open_mail(f"admin@{tenant.suffix}"))
    page.bring_to_front()
    admin.fill_sign_in(tenant.admin, portal)
    admin.sees_heading("Choose your own password")
    admin.wait_for_mail(other.email)


def _mails_of(installation: Installation, tenant: Tenant) -> list[str]:
    found = [to for mail in installation.mails_to("") for to in mail["to"]]
    return [address for address in found if address.endswith(f"@{tenant.suffix}")]


def test_a_tick_is_kept_by_whoever_leaves_at_once(
    installation: Installation, tenant: Tenant, open_person: OpenPerson
) -> None:
    admin = open_person(tenant.admin)
    admin.open_users()
    user = installation.users_of(tenant.web_id)[0]
    admin.page.get_by_role("checkbox", name=f"Select {user.full_name}").evaluate(
        """box => { box.click(); location.href = location.pathname + "/" + box.value; }"""
    )
    admin.sees_heading(user.full_name)
    wait_until(lambda: installation.count_selected(tenant.web_id) == 1)


def test_a_tick_is_kept_by_whoever_leaves_while_it_is_being_saved(
    installation: Installation, tenant: Tenant, open_person: OpenPerson
) -> None:
    admin = open_person(tenant.admin)
    admin.open_users()
    user = installation.users_of(tenant.web_id)[0]
    saving = f"**/customers/{tenant.web_id}/users/selection"
    # Nobody answers the first request; it is dropped with its page.
    admin.page.route(saving, lambda route: None, times=1)
    with admin.page.expect_request(saving):
        admin.page.get_by_role("checkbox", name=f"Select {user.full_name}").check()
    admin.page.goto(f"/customers/{tenant.web_id}/users/{user.id}")
    admin.sees_heading(user.full_name)
    wait_until(lambda: installation.count_selected(tenant.web_id) == 1)
