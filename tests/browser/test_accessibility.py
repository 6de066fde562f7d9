"""Pages in states that only people bring them to, without a violation that axe knows.

Every page as a link opens it is looked at by test_crawl.py.
"""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from extensions import db
from models import RequestState, StartRule, User, WebhookAttempt, utcnow
from tests.browser.installation import Installation, Tenant
from tests.browser.looking import Check
from tests.browser.people import ADMIN, AUDITOR, LANDLORD, OPERATOR, OpenPerson, Person
from tests.support.requests import make_request, make_service_template
from tests.support.smtp_sink import SmtpSink, Stage
from tests.support.webhooks import make_endpoint, make_message

pytestmark = pytest.mark.xdist_group("pages")


def test_pages_before_the_sign_in(open_person: OpenPerson, check: Check) -> None:
    person = open_person()
    person.expects(404, 410, 422)
    page = person.page
    page.goto("/login")
    person.fill_sign_in("nobody@nowhere.example", "wrong")
    expect(page.get_by_role("alert")).to_be_visible()
    check(page, "sign in, refused")
    page.goto("/password/forgot?sent=1")
    check(page, "forgot password, sent")
    page.goto("/password/choose/unknown")
    check(page, "link that no longer works")
    page.goto("/nowhere")
    check(page, "not found")
    page.goto("/login")
    page.get_by_role("button", name="Dark theme").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    check(page, "sign in, dark by choice")


def test_the_pages_of_getting_in(
    installation: Installation, open_person: OpenPerson, check: Check
) -> None:
    email = "looking@getting-in.example"
    person = open_person()
    person.expects(410, 422)
    page = person.page
    page.goto("/tenant-registration")
    page.get_by_label("E-mail address").fill("nobody@x")
    page.get_by_role("button", name="Send me the link").click()
    expect(page.get_by_role("alert")).to_be_visible()
    check(page, "start of registration, refused")
    page.get_by_label("E-mail address").fill(email)
    page.get_by_role("button", name="Send me the link").click()
    person.sees_heading("Look into your mail")
    check(page, "start of registration, sent")
    page.goto("/tenant-registration/link/unknown")
    check(page, "registration link that does not work")
    person.wait_for_mail(email)
    mailbox = person.open_mail(email)
    address = mailbox.frame_locator("iframe").locator("a.button").get_attribute("href") or ""
    mailbox.close()
    page.goto(address)
    check(page, "registration link")

    operator = open_person(OPERATOR)
    page = operator.page
    page.goto(address)
    expect(page.get_by_text("You are signed in as")).to_be_visible()
    check(page, "registration link, for somebody else")
    page.goto("/tenant-registration/invitations?q=zzzz")
    check(page, "invitations, none found")
    page.goto("/tenant-registration/invitations/new")
    long_one = f"{'long.' * 10}name@a-domain-that-is-as-long.example"
    page.get_by_label("E-mail address", exact=True).fill(long_one)
    page.get_by_role("button", name="Send the invitation").click()
    operator.sees_heading("Invitations")
    check(page, "invitations")

    person.page.get_by_role("button", name="Go to Tenant Registration").click()
    person.page.goto("/account/profile")
    check(person.page, "profile of a prospect")


def test_pages_of_a_user(
    installation: Installation, tenant: Tenant, open_person: OpenPerson, check: Check
) -> None:
    user, *_ = installation.users_of(tenant.web_id)
    person = open_person()
    page = person.page
    page.goto("/password/forgot")
    page.get_by_label("Login").fill(user.login)
    page.get_by_role("button", name="Send the link").click()
    person.wait_for_mail(user.email)
    mailbox = person.open_mail(user.email)
    link = mailbox.frame_locator("iframe").locator("a[href*='/password/choose/']").first
    address = link.get_attribute("href") or ""
    mailbox.close()
    page.goto(address)
    check(page, "choose a password")

    installation.give_password(user.login, tenant.admin)
    person.sign_in(user.login)
    person.sees_heading("My services")
    check(page, "my services")
    page.goto("/account/profile")
    check(page, "my profile")
    installation.must_change_password(user.login)
    page.goto("/account/services")
    person.sees_heading("Choose your own password")
    check(page, "forced change of password")


def test_the_users_tab(open_person: OpenPerson, check: Check) -> None:
    admin = open_person(ADMIN)
    admin.open_users()
    admin.expects(422)
    page = admin.page
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    check(page, "keys")
    page.keyboard.press("Escape")

    page.locator("#filter-bundle").click()
    expect(page.get_by_role("button", name="Stand4PhoneNextGenBundle")).to_be_visible()
    check(page, "users, menu open")
    page.get_by_role("button", name="Stand4PhoneNextGenBundle").click()
    expect(admin.rows).to_have_count(20)
    check(page, "users, filtered")
    page.get_by_label("Select all on this page").check()
    admin.sees_selected(20)
    check(page, "users, selected")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("alert")).to_be_visible()
    check(page, "users, refused")
    page.get_by_label("Search users").fill("zzzz")
    expect(page.get_by_text("No user matches these filters.")).to_be_visible()
    check(page, "users, empty")
    page.locator(".account-menu summary").click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    check(page, "person's menu")


def test_the_pages_of_a_mailing(
    installation: Installation, open_person: OpenPerson, check: Check
) -> None:
    tenant = installation.add_tenant(12)
    users = installation.users_of(tenant.web_id)
    admin = open_person(tenant.admin)
    page = admin.page
    page.goto(f"/customers/{tenant.web_id}/mailings")
    check(page, "mailings, none")
    with installation.other_mail_server() as sink:
        _follow_a_mailing(admin, tenant, users, sink, check)
    page.goto(f"/customers/{tenant.web_id}/mailings")
    check(page, "mailings")
    page.goto(f"{tenant.users_path}/{users[0].id}")
    check(page, "user")
    page.goto(tenant.users_path)
    check(page, "users, mailed")


def _follow_a_mailing(
    admin: Person, tenant: Tenant, users: list[User], sink: SmtpSink, check: Check
) -> None:
    page = admin.page
    page.goto(tenant.users_path)
    for user in users[:8]:
        admin.tick(user.full_name)
    admin.choose_action("Resend Welcome Mail")
    expect(admin.send_button).to_be_visible()
    check(page, "confirmation")
    sink.refuse(users[1].email, 550, "5.1.1 No such mailbox")
    sink.hang(Stage.END)
    admin.send()
    sink.wait_until_hanging()
    admin.sees_state("Running")
    expect(admin.count_of("sending")).to_have_text("5")
    check(page, "mailing, running")
    page.locator("summary", has_text="Cancel").click()
    expect(page.get_by_role("button", name="Cancel the waiting mails")).to_be_visible()
    check(page, "mailing, about to be cancelled")
    sink.release()
    sink.behave()
    sink.refuse(users[1].email, 550, "5.1.1 No such mailbox")
    page.reload()
    admin.sees_state("Finished with failures")
    check(page, "mailing, finished with failures")


def test_suppressed_addresses(open_person: OpenPerson, check: Check) -> None:
    admin = open_person(ADMIN)
    page = admin.page
    page.goto("/customers/CQ001/suppressed")
    page.get_by_label("Select all on this page").check()
    expect(page.locator(".selection-count")).to_contain_text("1 of 1 selected")
    check(page, "suppressed addresses, selected")
    page.get_by_role("button", name="Clear").click()
    expect(page.get_by_role("button", name="Clear this address")).to_be_visible()
    check(page, "clearing an address")
    page.locator(".people a").click()
    expect(page.get_by_text("is suppressed")).to_be_visible()
    check(page, "user whose address is suppressed")
    page.goto("/customers/CQ001/suppressed?q=zzzz")
    check(page, "suppressed addresses, none found")


def test_pages_of_api_credentials(open_person: OpenPerson, check: Check) -> None:
    landlord = open_person(LANDLORD)
    landlord.expects(422)
    page = landlord.page
    page.goto("/api-credentials/new")
    page.get_by_label("Name", exact=True).fill("No Name")
    page.get_by_label("Networks").fill("nowhere")
    page.get_by_role("button", name="Make the credential").click()
    expect(page.get_by_role("alert")).to_be_visible()
    check(page, "new credential, refused")
    name = "a-long-name-" * 4 + "indeed"
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Description").fill("What it is for is a long story. " * 5)
    for scope in ("Read", "Write", "Send"):
        page.get_by_label(scope, exact=True).check()
    page.get_by_label("1 Direct").check()
    page.get_by_label("Networks").fill("2001:db8:85a3:8d3:1319:8a2e:370:7348\n192.0.2.0/24")
    page.get_by_role("button", name="Make the credential").click()
    landlord.sees_heading(f"{name} is made")
    check(page, "secret of a credential")
    page.get_by_role("link", name="I have copied it").click()
    landlord.sees_heading(name)
    check(page, "credential")
    page.get_by_role("link", name="Rotate").first.click()
    page.get_by_label("Works for another day").check()
    page.get_by_role("button", name="Make a new secret").click()
    landlord.sees_heading(f"The new secret of {name}")
    page.get_by_role("link", name="I have copied it").click()
    expect(page.get_by_role("button", name="End the overlap now")).to_be_visible()
    check(page, "credential with two secrets")
    page.get_by_role("link", name="Rotate").first.click()
    page.get_by_label("Works for another hour").check()
    check(page, "rotation, the second")
    page.goto("/api-credentials")
    page.locator("#filter-state").click()
    expect(page.get_by_role("link", name="Revoked", exact=True)).to_be_visible()
    check(page, "credentials, menu open")
    page.goto("/api-credentials?q=zzzz")
    check(page, "credentials, none found")
    page.goto("/api-credentials?q=a-long-name")
    page.locator("#credentials-table tbody").get_by_role("link", name=name, exact=True).click()
    page.get_by_role("link", name="Edit").click()
    landlord.sees_heading(f"Edit {name}")
    check(page, "edit a credential")
    page.goto(page.url.replace("/edit", "/revoke"))
    check(page, "revoke a credential")
    page.get_by_label("Its name").fill(name)
    page.get_by_role("button", name="Revoke for good").click()
    expect(page.get_by_text("It signs in no more")).to_be_visible()
    check(page, "credential, revoked")


def test_pages_of_webhooks(
    installation: Installation, open_person: OpenPerson, check: Check
) -> None:
    with installation.app.app_context():
        address = "https://hooks.example.com/looked/a-path-that-is-as-long-as-some-are?token=abc"
        endpoint = make_endpoint(address, failing_since=utcnow(), description="Our CRM. " * 20)
        disabled = make_endpoint("https://looked.example.com/", disabled_at=utcnow())
        body = '{"type":"endpoint.test","data":{"words":"' + "long " * 60 + '"}}'
        message = make_message(endpoint, attempts=2, body=body)
        waiting = make_message(endpoint)
        db.session.add(
            WebhookAttempt(message_id=message.id, milliseconds=4, status=500, answer="No " * 160)
        )
        db.session.add(WebhookAttempt(message_id=message.id, milliseconds=9000, answer="Late."))
        db.session.commit()
        here = f"/webhooks/{endpoint.id}"
        messages = [f"{here}/messages/{each.id}" for each in (message, waiting)]
        elsewhere = f"/webhooks/{disabled.id}"
    landlord = open_person(LANDLORD)
    page = landlord.page
    page.goto("/webhooks")
    check(page, "webhooks")
    for number, each in enumerate((here, f"{here}?state=failed", elsewhere, *messages)):
        page.goto(each)
        check(page, f"webhook, page {number}")
    page.goto(f"{here}/disable")
    check(page, "disable a webhook")
    page.goto(f"{here}/rotate-secret")
    check(page, "rotate a secret of a webhook")
    page.get_by_role("button", name="Make a new secret").click()
    expect(page.get_by_text("Copy the secret now")).to_be_visible()
    check(page, "new secret of a webhook")
    page.goto(f"{here}/rotate-secret")
    check(page, "rotate a secret again")


def test_pages_of_the_staff(open_person: OpenPerson, check: Check) -> None:
    operator = open_person(OPERATOR)
    page = operator.page
    operator.sees_heading("Customers")
    page.goto("/customers?q=zzzz")
    check(page, "customers, empty")
    auditor = open_person(AUDITOR)
    auditor.expects(403)
    auditor.page.goto("/customers/CQ002/users")
    check(auditor.page, "users, for an auditor")
    auditor.page.goto("/customers/CQ002/mailings/new?template=1&user=1")
    check(auditor.page, "forbidden")


def test_the_pages_of_commands(
    installation: Installation, open_person: OpenPerson, check: Check
) -> None:
    tenant = installation.add_tenant(12)
    resend = f"$$RESEND WELCOME EMAIL$$ Entry3PhoneNextGenBundle|{tenant.web_id}"
    operator = open_person(OPERATOR)
    operator.expects(422)
    page = operator.page

    def submit(text: str) -> None:
        page.goto("/sp/commands")
        page.get_by_label("Commands", exact=True).fill(text)
        page.get_by_role("button", name="Submit").click()

    submit(f"# {'x' * 300}\n{resend};{resend}\n$$HELPP$$\n$$PAUSE MAILING$$ {'9' * 300}")
    expect(page.get_by_role("alert")).to_be_visible()
    check(page, "command window, errors")
    submit(f"{resend}\n$$LIST BUNDLES$$\n{resend.replace('Entry3', 'Stand4')}\n$$HELP$$")
    operator.sees_heading("Dry run")
    check(page, "dry run")
    page.get_by_role("button", name="Run").or_(operator.send_button).click()
    operator.sees_heading("Commands run")
    expect(page.locator("#commands-progress")).to_contain_text("Finished.")
    check(page, "commands run")
    page.get_by_text("What the dry run said").click()
    check(page, "commands run, with the dry run")
    page.get_by_role("link", name=re.compile(r"^Mailing \d+$")).first.click()
    operator.sees_state("Finished")
    submit("$$LIST CUSTOMERS$$\n$$HELP$$")
    operator.sees_heading("Answer")
    check(page, "answers")
    page.goto("/sp/commands?by=me&state=done")
    page.locator("#filter-state").click()
    check(page, "history, menu open")


def test_the_pages_of_tenant_registration(open_person: OpenPerson, check: Check) -> None:
    operator = open_person(OPERATOR)
    operator.expects(409, 422)
    page = operator.page
    page.goto("/tenant-registration/drafts")
    check(page, "drafts, none")
    page.get_by_role("button", name="Register on a customer’s behalf").click()
    expect(page.get_by_role("radio", name="Starter")).to_be_visible()
    page.get_by_role("radio", name="Business").check()
    page.get_by_role("button", name="Go on to Tenant").click()
    expect(page.get_by_label("UPN Suffix")).to_be_visible()
    check(page, "tenant, empty")
    name, suffix = page.get_by_label("Name", exact=True), page.get_by_label("UPN Suffix")
    address = page.url
    name.fill("Lighthouse Keepers")
    suffix.fill("müller.example")
    page.get_by_label("User Name").fill("lhAdmin")
    page.get_by_label("Password", exact=True).fill("slow copper lighthouse")
    expect(page.locator("#password-said")).to_contain_text("Strength")
    check(page, "tenant, as it is typed")
    page.locator(".wizard-end").get_by_role("button", name="Create Tenant").click()
    expect(page.get_by_role("alert")).to_be_visible()
    check(page, "tenant, refused")
    page.goto(address.removesuffix("/tenant") + "/contact")
    expect(page.get_by_label("Company", exact=True)).to_be_visible()
    check(page, "contact")
    page.goto(address)
    other = operator.context.new_page()
    other.goto(address)
    other.get_by_label("Name", exact=True).fill("Lighthouse")
    other.get_by_role("button", name="Save and close").click()
    expect(other.get_by_role("heading", name="Drafts")).to_be_visible()
    check(other, "drafts")
    name.fill("Beacon")
    page.get_by_role("button", name="Show both versions").click()
    expect(page.locator(".versions")).to_be_visible()
    check(page, "tenant, both versions")
    page.goto("/tenant-registration/drafts")
    page.get_by_role("link", name="Discard").first.click()
    check(page, "discarding a draft")
    page.get_by_role("button", name="Discard the draft").click()
    expect(page.get_by_text("The draft is discarded.")).to_be_visible()


_SHOWN_STATES = (
    RequestState.AWAITING_APPROVAL,
    RequestState.CHANGES_REQUESTED,
    RequestState.FAILED,
    RequestState.REJECTED,
)
"""Those in which nothing happens by itself, for the worker would find it lacking."""


def test_the_pages_of_tenant_creation(
    open_person: OpenPerson, check: Check, installation: Installation
) -> None:
    with installation.app.app_context():
        version = make_service_template(start_rule=StartRule.AT_APPROVAL)
        made = {state: make_request(state, version).id for state in _SHOWN_STATES}
        db.session.remove()
    operator = open_person(OPERATOR)
    operator.expects(422)
    page, url = operator.page, "/tenant-creation-management"
    operator.sees_heading("Customers")
    page.goto(f"{url}?q=tenant&sort=waiting")
    page.locator("[data-select-row]").first.check()
    check(page, "requests, selected")
    page.goto(f"{url}?q=zzzz")
    check(page, "requests, empty")
    for state, request_id in made.items():
        page.goto(f"{url}/{request_id}")
        check(page, f"request, {state}")
    waiting = made[RequestState.AWAITING_APPROVAL]
    page.goto(f"{url}/{waiting}/approve")
    check(page, "approve")
    page.goto(f"{url}/{waiting}/reject")
    page.get_by_role("button", name="Reject the request").click()
    expect(page.get_by_role("alert")).to_be_visible()
    check(page, "reject, refused")
    page.goto(f"{url}?where=for_you")
    page.get_by_label("Select all on this page").check()
    page.get_by_label("Select an Action").select_option(label="Approve")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Approve")
    check(page, "approve several")


def test_the_mailbox_and_its_mails(
    installation: Installation, tenant: Tenant, open_person: OpenPerson, check: Check
) -> None:
    user = installation.users_of(tenant.web_id)[0]
    admin = open_person(tenant.admin)
    admin.open_users()
    admin.tick(user.full_name)
    admin.choose_action("Resend Welcome Mail")
    admin.send()
    admin.sees_state("Finished")
    mailbox = admin.open_mail(user.email)
    check(mailbox, "mail")
    mailbox.get_by_role("link", name="Text").click()
    expect(mailbox.locator("pre")).to_contain_text(user.login)
    check(mailbox, "mail, as text")
    mailbox.goto(f"{installation.mailbox_url}?live=off")
    check(mailbox, "mailbox")
    html = installation.mails_to(user.email)[0]["html"]
    blank = admin.context.new_page()
    blank.set_content(html)
    # A mail is no page: what reads it brings the landmarks.
    check(blank, "welcome mail", without=("landmark-one-main", "region"))


def test_the_home_of_a_customer_and_its_general_parameters(
    installation: Installation, open_person: OpenPerson, check: Check
) -> None:
    tenant = installation.add_tenant(1)
    home = f"/customers/{tenant.web_id}"
    admin = open_person(tenant.admin)
    admin.expects(409, 422)
    page = admin.page
    expect(page.locator("#checklist")).to_be_visible()
    check(page, "home of a customer")
    page.get_by_text("1 done", exact=True).click()
    check(page, "home of a customer, with what is done")
    page.goto(f"{home}/general-parameters")
    check(page, "general parameters, nothing published")
    page.get_by_label("Friday", exact=True).fill("whenever")
    page.get_by_role("button", name="Publish").click()
    expect(page.locator(".error-summary")).to_be_visible()
    check(page, "general parameters, refused")
    page.get_by_label("Friday", exact=True).fill("9-12")
    page.get_by_label("Callback Folder e-mail address").fill(f"callbacks@{tenant.suffix}")
    stale = open_person(tenant.admin)
    expect(stale.page.locator("#checklist")).to_be_visible()
    stale.page.goto(f"{home}/general-parameters")
    page.get_by_role("button", name="Publish").click()
    expect(page.locator("#toasts")).to_contain_text("Version 1 is published.")
    stale.expects(409)
    stale.page.get_by_label("Friday", exact=True).fill("10-12")
    stale.page.get_by_role("button", name="Save draft").click()
    expect(stale.page.locator("#opening_hours_friday-notes")).to_be_visible()
    check(stale.page, "general parameters, changed meanwhile")
    page.get_by_label("Callback retries").fill("9")
    page.get_by_role("button", name="Publish").click()
    expect(page.locator("#toasts")).to_contain_text("Version 2 is published.")
    page.get_by_label("Callback retries").fill("8")
    page.get_by_role("button", name="Save draft").click()
    page.get_by_text("Discard changes").click()
    check(page, "general parameters, with a draft")
    page.goto(f"{home}/general-parameters/versions/1?with=draft")
    check(page, "a version beside the draft")
    auditor = open_person(AUDITOR)
    auditor.sees_heading("Customers")
    auditor.page.goto(f"{home}/general-parameters")
    check(auditor.page, "general parameters, to read")


def test_the_documentation_of_the_api_opens_at_an_operation(open_person: OpenPerson) -> None:
    page = open_person().page
    page.goto("/api/v1/docs#sendWelcomeEmail")
    expect(page.get_by_role("heading", name="Send Welcome Email")).to_be_in_viewport()
