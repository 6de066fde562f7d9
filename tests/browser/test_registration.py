"""Tenant Registration in a browser: what scripts add, and the same without them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask.sessions import SecureCookieSessionInterface
from playwright.sync_api import Locator, Page, expect

from blueprints.security import SESSION_TOKEN
from extensions import db
from models import RequestState, SignInSession, SubscriptionRequest
from services import passwords, sign_ins
from tests.browser.installation import Installation
from tests.browser.people import OPERATOR, OpenPerson, Person
from tests.support.requests import make_prospect

pytestmark = pytest.mark.xdist_group("journeys")

_numbers = itertools.count(1)
SECRET = "slow copper lighthouse"
AT_A_REQUEST = re.compile(r"/tenant-creation-management/\d+$")

Typed = dict[str, str]


@pytest.fixture
def names() -> Typed:
    """A tenant's names that no other test has."""
    number = next(_numbers)
    return {
        "Name": f"Lighthouse{number}",
        "Short Name": f"lh{number}",
        "UPN Suffix": f"lighthouse{number}.example",
        "User Name": "lhAdmin",
        "ANI": "02 555 12 12",
    }


CONTACT = {
    "Company": "Lighthouse Keepers",
    "Street": "Harbour Street 12",
    "City": "Ostend",
    "Contact person": "Ada Keeper",
    "Phone": "02 555 12 13",
}


class Registrant:
    """Somebody at the wizard."""

    def __init__(self, person: Person) -> None:
        self.person = person
        self.page: Page = person.page

    def begin(self) -> Registrant:
        self.page.goto("/tenant-registration/drafts")
        self.page.get_by_role(
            "button", name=re.compile("New registration|on a customer’s behalf")
        ).click()
        return self.sees_tab("Template")

    def sees_tab(self, label: str) -> Registrant:
        expect(self.page.locator("[aria-current=step]")).to_contain_text(label)
        self.page.wait_for_load_state()
        return self

    def go_to(self, label: str) -> Registrant:
        self.tab(label).click()
        return self.sees_tab(label)

    def tab(self, label: str) -> Locator:
        return self.page.get_by_role("button", name=re.compile(f"^{label}\\b"))

    def field(self, label: str) -> Locator:
        return self.page.get_by_label(label, exact=True)

    def fill(self, typed: Typed) -> Registrant:
        for label, text in typed.items():
            self.field(label).fill(text)
        return self

    def pick(self, template: str) -> Registrant:
        self.page.get_by_role("radio", name=template).check()
        return self

    def choose_password(self) -> Registrant:
        return self.fill({"Password": SECRET, "Confirm Password": SECRET})

    def create(self, **options: Any) -> None:
        # The first one is what the Enter key presses.
        self.page.locator(".wizard-end").get_by_role("button", name="Create Tenant").click(
            **options
        )

    def is_saved(self, do: Callable[[], object]) -> None:
        """Do something, and wait until the page has saved it by itself."""
        with self.page.expect_response(re.compile(r"/draft(\?checked=1)?$")):
            do()

    def said(self, field: str) -> Locator:
        return self.page.locator(f"#{field}-said")

    def error(self, field: str) -> Locator:
        return self.page.locator(f"#{field}-error")

    @property
    def draft_id(self) -> int:
        found = re.search(r"/tenant-registration/(\d+)", self.page.url)
        assert found
        return int(found.group(1))


OpenProspect = Callable[..., Registrant]


@pytest.fixture
def open_prospect(installation: Installation, open_person: OpenPerson) -> OpenProspect:
    """`open_prospect()`: a prospect who has followed his link, and begun a registration."""

    def open_one(**options: Any) -> Registrant:
        person: Person = open_person(**options)
        person.expects(409, 422)
        person.context.add_cookies([session_cookie(installation)])
        return Registrant(person).begin()

    return open_one


def session_cookie(installation: Installation) -> Any:
    """What the browser of a new prospect has after his link."""
    app, token = installation.app, f"browser-session-{next(_numbers)}"
    with app.app_context():
        prospect = make_prospect(first_name="Ada", last_name="Keeper")
        db.session.add(SignInSession(token_hash=sign_ins._token_hash(token), user_id=prospect.id))
        db.session.commit()
        db.session.remove()
    serializer = SecureCookieSessionInterface().get_signing_serializer(app)
    assert serializer is not None
    value = serializer.dumps({SESSION_TOKEN: token})
    return {"name": app.config["SESSION_COOKIE_NAME"], "value": value, "url": installation.url}


@pytest.fixture
def registrant(open_prospect: OpenProspect) -> Registrant:
    return open_prospect()


def stored(installation: Installation, draft_id: int) -> SubscriptionRequest:
    with installation.app.app_context():
        found = db.session.get_one(SubscriptionRequest, draft_id)
        db.session.remove()
        return found


def requests_named(installation: Installation, name: str) -> int:
    with installation.app.app_context():
        query = sa.select(sa.func.count()).where(SubscriptionRequest.name == name)
        found = db.session.scalar(query)
        db.session.remove()
        return found or 0


def fill_all(registrant: Registrant, names: Typed, template: str = "Business") -> Registrant:
    registrant.pick(template).go_to("Tenant").fill(names).choose_password()
    return registrant.go_to("Contact").fill(CONTACT)


def test_a_prospect_registers_a_tenant(
    installation: Installation, registrant: Registrant, names: Typed
) -> None:
    page, draft_id = registrant.page, registrant.draft_id
    options = page.get_by_role("group", name="Options of Business")
    expect(options).to_be_hidden()
    registrant.is_saved(registrant.pick("Business").field("Telephone lines").first.focus)
    expect(options).to_be_visible()
    expect(registrant.tab("Template")).to_contain_text("Complete")
    expect(page.locator("#wizard-next")).to_contain_text("looks at the request first")
    options.get_by_label("Telephone lines").fill("40")
    page.get_by_role("button", name="Go on to Tenant").click()

    registrant.sees_tab("Tenant").fill({**names, "Short Name": ""})
    expect(registrant.said("short_name")).to_contain_text("Suggested")
    page.get_by_role("button", name=re.compile("^Use ")).click()
    expect(registrant.field("Short Name")).not_to_have_value("")
    expect(registrant.said("user_name")).to_contain_text(f"prplhAdmin@{names['UPN Suffix']}")
    expect(registrant.said("ani")).to_contain_text("+32 2 555 12 12")
    registrant.choose_password()
    expect(registrant.said("password")).to_contain_text("Strength: ")
    expect(page.locator("#wizard-summary")).to_contain_text(names["Name"])
    page.get_by_role("button", name="Go on to Contact").click()

    registrant.sees_tab("Contact").fill(CONTACT).create()
    expect(page).to_have_url(AT_A_REQUEST)
    request = stored(installation, draft_id)
    assert request.state is RequestState.AWAITING_APPROVAL
    assert request.options["lines"] == 40
    assert passwords.verify(request.password_hash, SECRET)
    page.go_back()
    expect(page).to_have_url(AT_A_REQUEST)
    assert requests_named(installation, names["Name"]) == 1


def test_a_prospect_registers_a_tenant_without_scripts(
    installation: Installation, open_prospect: OpenProspect, names: Typed
) -> None:
    registrant = open_prospect(java_script_enabled=False).pick("Business")
    page, draft_id = registrant.page, registrant.draft_id
    options = page.get_by_role("group", name="Options of Business")
    options.get_by_label("Call recording").check()
    registrant.go_to("Contact").fill(CONTACT)
    registrant.go_to("Tenant").fill({**names, "Name": "Light House"}).choose_password()
    registrant.create()
    expect(page.get_by_role("alert")).to_contain_text("One thing to correct")
    page.get_by_role("alert").get_by_role("link").click()
    expect(registrant.field("Name")).to_be_focused()
    expect(page.get_by_text("Password is set")).to_be_visible()
    registrant.fill({"Name": names["Name"]}).create()
    expect(page).to_have_url(AT_A_REQUEST)
    request = stored(installation, draft_id)
    assert request.options["recording"] is True
    assert passwords.verify(request.password_hash, SECRET)


def test_whoever_leaves_in_the_middle_of_a_word_finds_it_again(registrant: Registrant) -> None:
    page, draft_id = registrant.page, registrant.draft_id
    registrant.go_to("Tenant")
    registrant.field("Name").press_sequentially("Half")
    page.get_by_role("link", name="My profile").first.click()
    registrant.person.sees_heading("My profile")
    page.goto(f"/tenant-registration/{draft_id}/tenant")
    expect(registrant.field("Name")).to_have_value("Half")
    registrant.field("Name").press("End")
    registrant.field("Name").press_sequentially("way")
    page.reload()
    expect(registrant.field("Name")).to_have_value("Halfway")
    page.go_back()
    page.go_forward()
    expect(registrant.field("Name")).to_have_value("Halfway")
    registrant.field("Name").press("End")
    registrant.is_saved(lambda: registrant.field("Name").press_sequentially("There"))
    expect(page.locator("[data-stale]")).to_have_count(0)


def test_an_error_waits_until_its_field_is_left(registrant: Registrant) -> None:
    registrant.go_to("Tenant")
    name = registrant.field("Name")
    registrant.is_saved(lambda: name.fill("Light House"))
    expect(registrant.error("name")).to_be_hidden()
    registrant.field("ANI").focus()
    expect(registrant.error("name")).to_be_visible()
    expect(name).to_have_attribute("aria-invalid", "true")
    registrant.is_saved(lambda: name.fill("LightHouse"))
    expect(registrant.error("name")).to_be_hidden()
    expect(name).not_to_have_attribute("aria-invalid", "true")
    expect(registrant.tab("Tenant")).to_contain_text("Needs attention")


def test_create_tenant_leads_to_the_first_fault_and_its_address(
    registrant: Registrant, names: Typed
) -> None:
    page = registrant.page
    registrant.pick("Starter").go_to("Tenant").fill({**names, "ANI": "12"}).choose_password()
    registrant.go_to("Contact").create()
    summary = page.get_by_role("alert")
    expect(summary).to_be_focused()
    expect(page).to_have_url(re.compile(r"/tenant\?checked=1$"))
    expect(registrant.tab("Contact")).to_contain_text("Needs attention")
    summary.get_by_role("link").first.click()
    expect(registrant.field("ANI")).to_be_focused()
    registrant.field("ANI").fill("02 555 12 12")
    summary.get_by_role("link", name=re.compile("^Contact")).click()
    registrant.sees_tab("Contact")
    expect(page.get_by_role("alert")).to_contain_text("Company is missing.")
    registrant.fill(CONTACT).create()
    expect(page).to_have_url(AT_A_REQUEST)


def test_a_double_click_creates_one_request(
    installation: Installation, registrant: Registrant, names: Typed
) -> None:
    fill_all(registrant, names)
    registrant.create(click_count=2)
    expect(registrant.page).to_have_url(AT_A_REQUEST)
    assert requests_named(installation, names["Name"]) == 1


def test_a_button_pressed_while_a_saving_is_under_way_does_not_overtake_itself(
    registrant: Registrant,
) -> None:
    page = registrant.page
    registrant.go_to("Tenant")

    held: list[tuple[Any, Any]] = []
    page.route("**/draft", lambda route: held.append((route, route.fetch())), times=1)
    registrant.field("Name").fill("Lighthouse")
    while not held:  # The server has saved it, and the page does not know yet.
        page.wait_for_timeout(20)
    registrant.field("Short Name").fill("lh")
    registrant.tab("Contact").click()
    route, response = held.pop()
    route.fulfill(response=response)
    registrant.sees_tab("Contact").go_to("Tenant")
    expect(registrant.field("Name")).to_have_value("Lighthouse")
    expect(registrant.field("Short Name")).to_have_value("lh")


def test_two_windows_on_one_draft_are_told_so(registrant: Registrant) -> None:
    registrant.go_to("Tenant")
    page = registrant.page
    other = Registrant(registrant.person)
    other.page = registrant.person.context.new_page()
    other.page.goto(page.url)
    registrant.is_saved(lambda: registrant.field("Name").fill("FromHere"))
    other.is_saved(lambda: other.field("Name").fill("FromThere"))
    notice = other.page.get_by_role("alert")
    expect(notice).to_contain_text("This draft was changed in another window")
    other.field("Short Name").fill("there")
    notice.get_by_role("button", name="Show both versions").click()
    expect(other.page.locator(".versions")).to_contain_text("FromHere")
    expect(other.field("Name")).to_have_value("FromThere")
    expect(other.field("Short Name")).to_have_value("there")
    other.page.get_by_role("button", name="Keep what is here").click()
    expect(other.page.locator("[data-stale]")).to_have_count(0)
    expect(other.field("Name")).to_have_value("FromThere")
    page.reload()
    expect(registrant.field("Name")).to_have_value("FromThere")
    expect(registrant.field("Short Name")).to_have_value("there")


def test_the_wizard_by_keyboard_alone(
    installation: Installation, registrant: Registrant, names: Typed
) -> None:
    page, draft_id, press = registrant.page, registrant.draft_id, registrant.page.keyboard.press
    page.get_by_role("radio", name="Starter").focus()
    press("Space")
    press("ArrowDown")
    expect(page.get_by_role("radio", name="Business")).to_be_checked()
    press("Tab")
    expect(
        page.get_by_role("group", name="Options of Business").locator("input").nth(0)
    ).to_be_focused()
    press("Enter")
    registrant.sees_tab("Tenant").fill(names).choose_password()
    registrant.tab("Contact").focus()
    press("Enter")
    registrant.sees_tab("Contact").fill(CONTACT)
    press("Enter")
    expect(page).to_have_url(AT_A_REQUEST)
    assert stored(installation, draft_id).state is RequestState.AWAITING_APPROVAL


def test_what_was_said_is_not_said_again(registrant: Registrant) -> None:
    page = registrant.page
    registrant.go_to("Tenant")
    registrant.is_saved(lambda: registrant.field("Name").fill("Lighthouse"))
    expect(registrant.said("name")).to_contain_text("is free")
    page.evaluate("document.getElementById('name-said').dataset.mine = ''")
    registrant.is_saved(lambda: registrant.field("ANI").fill("02 555 12 12"))
    expect(registrant.said("ani")).to_contain_text("+32")
    expect(page.locator("#name-said[data-mine]")).to_have_count(1)


def test_staff_begins_and_discards_a_registration(open_person: OpenPerson) -> None:
    person: Person = open_person(OPERATOR)
    person.page.get_by_role("link", name="Tenant Registration").click()
    person.sees_heading("Tenant Registration")
    registrant = Registrant(person).begin()
    for template in ("Starter", "Business", "Contact centre"):
        expect(person.page.get_by_role("radio", name=template)).to_be_visible()
    registrant.go_to("Tenant").fill({"Name": "Forlorn"})
    person.page.get_by_role("link", name="Discard this draft").click()
    person.sees_heading("Discard this draft")
    expect(person.page.locator(".lead")).to_have_text("Forlorn")
    person.page.get_by_role("button", name="Discard the draft").click()
    person.sees_heading("Tenant Registration")
    expect(person.page.get_by_text("Forlorn")).to_have_count(0)
