"""A mailing on its way: pause, resume, cancel, retry, and a mail server that is down."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from models import User
from tests.browser.installation import Installation, Tenant
from tests.browser.people import OpenPerson, Person
from tests.support.smtp_sink import SmtpSink, Stage

pytestmark = pytest.mark.xdist_group("journeys")


@pytest.fixture
def slow_server(installation: Installation) -> Iterator[SmtpSink]:
    """A mail server that the test can hold."""
    with installation.other_mail_server() as sink:
        yield sink


@pytest.fixture
def tenant(installation: Installation) -> Tenant:
    """A customer with 25 users of each bundle. The administrator has none."""
    return installation.add_tenant(50)


@pytest.fixture
def admin(tenant: Tenant, open_person: OpenPerson) -> Person:
    person = open_person(tenant.admin)
    person.open_users()
    return person


def send_to(admin: Person, users: list[User]) -> None:
    for user in users:
        admin.tick(user.full_name)
    _send(admin, len(users))


def send_to_bundle(admin: Person) -> None:
    """Resend to everybody who has the bundle Entry. The administrator himself is not among them:
    a new password would sign him out.
    """
    page = admin.page
    page.get_by_text("Bundle", exact=True).first.click()
    page.get_by_role("button", name="Entry3PhoneNextGenBundle").click()
    expect(page.get_by_role("list", name="Filters that are on")).to_be_visible()
    page.get_by_label("Select all on this page").check()
    _send(admin, 25)


def _send(admin: Person, count: int) -> None:
    admin.sees_selected(count)
    admin.choose_action("Resend Welcome Mail")
    admin.send()
    expect(admin.page.locator("#mailings-state")).to_be_visible()


def count_mails(server: SmtpSink, tenant: Tenant) -> int:
    """Those to the tenant: mails of other journeys may still be on their way."""
    return sum(each.recipient.endswith(f"@{tenant.suffix}") for each in server.mails)


def test_a_paused_mailing_waits_and_goes_on(
    slow_server: SmtpSink, tenant: Tenant, admin: Person
) -> None:
    slow_server.hang(Stage.END)
    send_to_bundle(admin)
    slow_server.wait_until_hanging()
    admin.sees_state("Running")
    expect(admin.count_of("sending")).to_have_text("5")

    admin.page.get_by_role("button", name="Pause").click()
    admin.sees_state("Paused")
    expect(admin.page.locator("#toasts")).to_contain_text(
        "Paused. Mails that are under way are finished first."
    )
    slow_server.behave()
    expect(admin.count_of("sending")).to_have_text("0")
    expect(admin.count_of("sent")).to_have_text("5")
    expect(admin.count_of("queued")).to_have_text("20")
    expect(admin.page.get_by_role("button", name="Pause")).to_have_count(0)
    assert count_mails(slow_server, tenant) == 5

    admin.page.get_by_role("button", name="Resume").click()
    expect(admin.page.locator("#toasts")).to_contain_text("Resumed.")
    admin.sees_state("Finished")
    admin.sees_figures("Finished. 25 of 25 sent.")
    assert count_mails(slow_server, tenant) == 25


def test_a_cancelled_mailing_sends_what_is_under_way_and_no_more(
    slow_server: SmtpSink, tenant: Tenant, admin: Person
) -> None:
    slow_server.hang(Stage.END)
    send_to_bundle(admin)
    slow_server.wait_until_hanging()
    expect(admin.count_of("sending")).to_have_text("5")

    admin.page.locator("summary", has_text="Cancel").click()
    expect(admin.page.get_by_text("This cannot be undone.")).to_be_visible()
    admin.page.get_by_role("button", name="Cancel the waiting mails").click()
    expect(admin.page.locator("#toasts")).to_contain_text("Cancelled 20 mails that waited.")
    slow_server.behave()
    admin.sees_state("Cancelled")
    admin.sees_figures("Cancelled. 5 of 25 sent, 20 cancelled.")
    assert count_mails(slow_server, tenant) == 5


def test_a_failed_mail_shows_the_words_of_the_server_and_is_sent_again(
    installation: Installation, tenant: Tenant, slow_server: SmtpSink, admin: Person
) -> None:
    users = installation.users_of(tenant.web_id)[:3]
    refused = users[1]
    slow_server.refuse(refused.email, 550, "5.1.1 No such mailbox")
    send_to(admin, users)
    admin.sees_state("Finished with failures")
    admin.sees_figures("2 of 3 sent, 1 failed")
    page = admin.page
    expect(page.get_by_text("550 5.1.1 No such mailbox").first).to_be_visible()
    page.get_by_role("link", name="Failed").click()
    expect(page.locator("#mailings-deliveries tbody tr")).to_have_count(1)
    expect(page.locator("#mailings-deliveries tbody tr")).to_contain_text(refused.full_name)
    assert "state=failed" in page.url

    slow_server.behave()
    page.get_by_role("button", name="Retry 1 failed").click()
    expect(page.locator("#toasts")).to_contain_text("Trying 1 mail again.")
    admin.sees_state("Finished")
    admin.sees_figures("Finished. 3 of 3 sent.")
    assert len(slow_server.mails_to(refused.email)) == 1


def test_a_mail_server_that_is_down_is_told_and_loses_nothing(
    installation: Installation, tenant: Tenant, admin: Person
) -> None:
    users = installation.users_of(tenant.web_id)[:2]
    installation.stop_mail()
    try:
        send_to(admin, users)
        notice = admin.page.locator(".notice", has_text="The mail server does not answer")
        expect(notice).to_be_visible()
        expect(notice).to_contain_text("Nothing is lost. The next try is")
    finally:
        installation.start_mail()
    admin.sees_state("Finished")
    expect(notice).to_have_count(0)
    for user in users:
        assert len(installation.mails_to(user.email)) == 1
