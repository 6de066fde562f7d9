"""An operator and a request: approve, schedule, watch it fail, retry; with scripts and without."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta

import pytest
from playwright.sync_api import Locator, expect

from extensions import db
from models import RequestState, StartRule, SubscriptionRequest, utcnow
from services import request_passwords
from tests.browser.installation import Installation
from tests.browser.people import OPERATOR, OpenPerson, Person
from tests.support.provisioning import make_version
from tests.support.requests import make_request, pass_on

pytestmark = pytest.mark.xdist_group("journeys")

URL = "/tenant-creation-management"
PASSWORD = "slow copper lighthouse"

with_and_without_scripts = pytest.mark.parametrize("scripts", [True, False], ids=["js", "no-js"])


class Platform:
    """The platform that refuses, until it is told otherwise."""

    def __init__(self, installation: Installation) -> None:
        self._path = installation.settings.var_dir / "faulty-connector.json"

    def refuses(self, name: str) -> None:
        rule = {"do": "refuse", "operation": "create_tenant", "tenant": name}
        self._path.write_text(json.dumps({"rules": [rule]}))

    def is_mended(self) -> None:
        self._path.unlink(missing_ok=True)


@pytest.fixture
def platform(installation: Installation) -> Iterator[Platform]:
    platform = Platform(installation)
    yield platform
    platform.is_mended()


def ask_for_tenant(
    installation: Installation, state: RequestState = RequestState.AWAITING_APPROVAL
) -> SubscriptionRequest:
    """A request for a tenant on the platform that can fail; its approver chooses the start."""
    with installation.app.app_context():
        hashed, sealed = request_passwords.seal_password(PASSWORD)
        version = make_version("faulty", needs_approval=True, start_rule=StartRule.AT_APPROVAL)
        request = make_request(state, version, password_hash=hashed, password_seal=sealed)
        db.session.expunge_all()
        db.session.remove()
    return request


def go_on(installation: Installation, request: SubscriptionRequest, state: RequestState) -> None:
    """What somebody else, or the system, does meanwhile."""
    with installation.app.app_context():
        pass_on(db.session.get_one(SubscriptionRequest, request.id), state)
        db.session.remove()


class Desk:
    """An operator at Tenant Creation Management."""

    def __init__(self, person: Person, *, has_scripts: bool) -> None:
        self.person = person
        self.page = person.page
        self.has_scripts = has_scripts

    def opens(self, request: SubscriptionRequest) -> None:
        self.page.goto(f"{URL}?q={request.name}")
        self.page.get_by_role("link", name=request.name, exact=True).click()
        self.person.sees_heading(request.name)

    def sees(self, word: str) -> None:
        """Where the request stands, sooner or later, without a hand on the page."""
        expect(self.page.locator("#request-word")).to_contain_text(word, timeout=30_000)

    def step(self, name: str) -> Locator:
        return self.page.locator(f"#step-{name}")

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def follow(self, name: str) -> None:
        self.page.get_by_role("link", name=name, exact=True).click()
        self.page.wait_for_load_state()


@pytest.fixture
def desk(open_person: OpenPerson, scripts: bool) -> Desk:
    person = open_person(OPERATOR, java_script_enabled=scripts)
    person.sees_heading("Customers")
    return Desk(person, has_scripts=scripts)


@with_and_without_scripts
def test_approving_scheduling_watching_a_failure_and_retrying(
    installation: Installation, platform: Platform, desk: Desk
) -> None:
    request = ask_for_tenant(installation)
    platform.refuses(request.name)
    page = desk.page
    page.get_by_role("link", name="Tenant Creation Management").click()
    desk.opens(request)
    desk.sees("Waiting for you")
    # Approved for a time.
    desk.follow("Approve")
    page.get_by_label("At a time").check()
    at = utcnow() + timedelta(days=3)
    page.get_by_label("Day and time").fill(f"{at:%Y-%m-%dT%H:%M}")
    desk.press("Approve the request")
    desk.sees(f"Scheduled for {at.day} {at:%B %Y, %H:%M}")
    expect(page.get_by_text("Approved.", exact=True)).to_be_visible()
    # Then sooner, and it fails before one's eyes.
    desk.press("Start now")
    desk.sees("Stuck")
    expect(desk.step("create_customer")).to_contain_text("Done")
    failed = desk.step("create_on_platform")
    expect(failed).to_contain_text("Failed")
    expect(failed).to_contain_text("The application platform refused.")
    expect(desk.step("check")).to_contain_text("Waiting")
    expect(page.locator("#request-timeline")).to_contain_text("Provisioning failed")
    # Mended, it goes on from there.
    platform.is_mended()
    desk.press("Retry from the failed step")
    desk.sees("Done")
    expect(desk.step("notify")).to_contain_text("Done")
    expect(page.locator("#request-notifications")).to_contain_text("Mailed", timeout=30_000)
    expect(page.locator("#request-actions").get_by_role("button")).to_have_count(0)
    desk.person.wait_for_mail(request.contact_email)
    page.get_by_role("link", name=re.compile(rf"^{request.name} \(")).click()
    expect(page).to_have_url(re.compile(r"/customers/\w+$"))


@with_and_without_scripts
def test_rolling_back_says_what_that_means_first(
    installation: Installation, platform: Platform, desk: Desk
) -> None:
    request = ask_for_tenant(installation)
    platform.refuses(request.name)
    desk.opens(request)
    desk.follow("Approve")
    desk.page.get_by_label("Now", exact=True).check()
    desk.press("Approve the request")
    desk.sees("Stuck")
    desk.follow("Roll back")
    expect(desk.page.get_by_text("This cannot be undone.")).to_be_visible()
    desk.page.get_by_label("Why is it rolled back").fill("They changed their minds")
    desk.press("Roll back and cancel")
    desk.sees("Cancelled")
    expect(desk.step("create_customer")).to_contain_text("Undone")
    expect(desk.page.locator("#request-timeline")).to_contain_text("They changed their minds")


@pytest.mark.parametrize("scripts", [True])
def test_the_list_changes_by_itself_and_keeps_its_ticks(
    installation: Installation, desk: Desk
) -> None:
    one, two = ask_for_tenant(installation), ask_for_tenant(installation)
    page = desk.page
    page.goto(URL)
    desk.person.sees_heading("Tenant Creation Management")
    page.get_by_label(f"Select {one.name}", exact=True).check()
    page.get_by_label(f"Select {two.name}", exact=True).check()
    go_on(installation, two, RequestState.CHANGES_REQUESTED)
    expect(page.locator(f"#request-{two.id}-word")).to_contain_text("Waiting for the registrant")
    expect(page.get_by_label(f"Select {two.name}", exact=True)).to_be_checked()
    # What changed is left alone, and said so.
    page.get_by_label("Select an Action").select_option(label="Approve")
    desk.press("Continue")
    desk.person.sees_heading("Approve 1 request")
    expect(page.get_by_text("1 request will be left alone")).to_be_visible()
    page.get_by_label("In the next off-peak hours").check()
    desk.press("Approve 1 request")
    desk.person.sees_heading("Tenant Creation Management")
    expect(page.get_by_text("1 request was approved.")).to_be_visible()


@with_and_without_scripts
def test_filters_search_and_order_of_the_list(installation: Installation, desk: Desk) -> None:
    request = ask_for_tenant(installation, RequestState.REJECTED)
    other = ask_for_tenant(installation)
    page = desk.page
    page.goto(URL)
    page.get_by_role("link", name=re.compile("^Rejected")).click()
    expect(page).to_have_url(re.compile("where=rejected"))
    expect(page.get_by_role("link", name=request.name, exact=True)).to_be_visible()
    expect(page.get_by_role("link", name=other.name, exact=True)).to_have_count(0)
    search = page.get_by_role("searchbox")
    search.fill(request.upn_suffix)
    if not desk.has_scripts:  # With them the search comes as one types.
        search.press("Enter")
    expect(page).to_have_url(re.compile(f"q={request.upn_suffix}"))
    expect(page).to_have_url(re.compile("where=rejected"))
    expect(page.locator("#requests-table tbody tr")).to_have_count(1)
    page.get_by_role("link", name="Clear all", exact=True).click()
    expect(page.get_by_role("list", name="Filters that are on")).to_have_count(0)
    page.get_by_text("Order", exact=True).click()
    page.get_by_role("link", name="Longest waiting first").click()
    expect(page.get_by_role("list", name="Filters that are on")).to_contain_text("Open requests")
