"""Tenant Registration by its forms alone: three tabs, Create Tenant, two windows, bad input."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from werkzeug.test import TestResponse

from extensions import db
from models import (
    Audience,
    RequestState,
    RequestTransition,
    ServiceTemplate,
    StartRule,
    SubscriptionRequest,
    User,
)
from services import domain_proofs, passwords, provisioning_policy
from services.errors import Conflict
from services.registration_drafts import FIELDS, LABELS, Tab
from tests.blueprints.test_bad_input import TEXTS
from tests.support.pages import CheckingClient, Page, check_page, sign_in
from tests.support.requests import (
    actor_of,
    make_operator,
    make_prospect,
    make_service_template,
    pass_on,
)

PASSWORD = "quiet harbour lantern"
TENANT = {
    "name": "NorthwindTraders",
    "short_name": "nwt",
    "upn_suffix": "northwind-traders.example",
    "user_name": "nwAdmin",
    "password": PASSWORD,
    "confirmation": PASSWORD,
    "ani": "02 555 12 12",
}
CONTACT = {
    "company": "Northwind Traders",
    "street": "Harbour Street 12",
    "postal_code": "1000",
    "city": "Brussels",
    "country": "BE",
    "contact_name": "Ada Northwind",
    "contact_phone": "+32 2 555 12 12",
    "contact_email": "ada@northwind.example",
    "language": "nl",
    "time_zone": "Europe/Brussels",
}

SignInAs = Callable[[str], CheckingClient]


class Window:
    """A draft in one browser window: what its page shows is what it sends."""

    def __init__(self, client: CheckingClient, draft_id: int) -> None:
        self.client = client
        self.draft_id = draft_id
        self.page: Page

    def url(self, tab: str) -> str:
        return f"/tenant-registration/{self.draft_id}/{tab}"

    def open(self, tab: str) -> Window:
        self.page = self.client.page(self.url(tab))
        return self

    @property
    def form(self) -> Any:
        return self.page.one("form", id="wizard")

    @property
    def fields(self) -> dict[str, Any]:
        return self.page.fields(self.form)

    def press(self, go: str, **typed: Any) -> TestResponse:
        """Type and press a button; the window shows what comes back."""
        data = {**self.fields, "go": go, **typed}
        response = self.client.post(self.form.get("action"), data=data)
        if response.status_code != 303:
            self.page = check_page(response)
        elif "/tenant-registration/" in response.location:
            self.page = self.client.page(response.location)
        return response

    def type_on(self, tab: str, typed: dict[str, str]) -> TestResponse:
        return self.open(tab).press("stay", **typed)

    def save_by_itself(self, **typed: Any) -> Page:
        """What a script sends while one types; returns the fragments that come back."""
        data = {**self.fields, **typed}
        headers = {"HX-Request": "true"}
        response = self.client.post(f"{self.form.get('action')}/draft", data=data, headers=headers)
        assert response.status_code == 200
        return Page(response.text)

    def value(self, name: str) -> str:
        (value,) = self.fields[name]
        return str(value)

    def badge(self, tab: str) -> str:
        return self.page.text(self.page.one("span", id=f"wizard-{tab}-state"))

    def error(self, field: str) -> str:
        return self.page.text(self.page.one("p", id=f"{field}-error"))

    def said(self, field: str) -> str:
        return self.page.text(self.page.one("p", id=f"{field}-said"))

    @property
    def versions(self) -> dict[str, tuple[str, str]]:
        """What this window and the other one have, by the label of the field."""
        (listed,) = self.page.all("dl", **{"class": "versions"})
        shown = {}
        for row in listed.iter("div"):
            here, there = ("".join(each.itertext()) for each in row.iter("dd"))
            label = "".join(next(row.iter("dt")).itertext())
            shown[label] = (
                here.removeprefix("Here"),
                there.removeprefix("In the other window"),
            )
        return shown

    @property
    def text(self) -> str:
        return self.page.text(self.page.one("main"))

    @property
    def next_words(self) -> str:
        return self.page.text(self.page.one("p", id="wizard-next"))


@pytest.fixture
def prospect(app: Flask) -> User:
    with app.app_context():
        return make_prospect(email="ada@northwind.example", first_name="Ada", language="fr")


@pytest.fixture
def client(app: Flask, prospect: User) -> CheckingClient:
    return sign_in(app, prospect.login)


def begin(client: CheckingClient) -> Window:
    """A registration begun with the button, open on its first tab."""
    response = client.submit("/tenant-registration/drafts")
    assert response.status_code == 303
    found = re.fullmatch(r"/tenant-registration/(\d+)/template", response.location)
    assert found
    return Window(client, int(found.group(1))).open("template")


@pytest.fixture
def window(client: CheckingClient) -> Window:
    return begin(client)


def template_id(app: Flask, name: str) -> str:
    with app.app_context():
        query = sa.select(ServiceTemplate.id).where(ServiceTemplate.name == name)
        return str(db.session.scalars(query).one())


def fill(app: Flask, window: Window, template: str = "Business") -> Window:
    """All three tabs, without a fault."""
    window.type_on("template", {"template": template_id(app, template)})
    window.type_on("tenant", TENANT)
    window.type_on("contact", CONTACT)
    return window


def stored(app: Flask, draft_id: int) -> SubscriptionRequest:
    with app.app_context():
        found = db.session.get_one(SubscriptionRequest, draft_id)
        db.session.remove()
        return found


def steps_of(app: Flask, draft_id: int) -> list[str]:
    with app.app_context():
        query = sa.select(RequestTransition.to_state).where(
            RequestTransition.request_id == draft_id
        )
        return [str(each) for each in db.session.scalars(query.order_by(RequestTransition.id))]


# --- From the first field to Create Tenant -------------------------------------------------------


def test_a_tenant_is_registered_without_scripts(app: Flask, window: Window) -> None:
    business = template_id(app, "Business")
    lines, recording = f"option-{business}-lines", f"option-{business}-recording"
    typed = {"template": business, lines: "40", recording: ["no", "yes"]}
    assert window.press("next", **typed).location.endswith("/tenant")
    assert window.press("next", **TENANT).location.endswith("/contact")
    response = window.press("create", **CONTACT)
    assert response.status_code == 303
    assert response.location == f"/tenant-creation-management/{window.draft_id}"

    request = stored(app, window.draft_id)
    assert request.state is RequestState.AWAITING_APPROVAL
    assert request.options == {"lines": 40, "numbers": "Keep ours", "recording": True}
    assert (request.name, request.short_name) == ("NorthwindTraders", "nwt")
    assert request.admin_login == "prpnwAdmin@northwind-traders.example"
    assert request.ani == "+3225551212"
    assert (request.company, request.city, request.country) == (
        "Northwind Traders",
        "Brussels",
        "BE",
    )
    assert (request.contact_email, request.language) == ("ada@northwind.example", "nl")
    assert passwords.verify(request.password_hash, PASSWORD)
    assert PASSWORD not in repr(request.draft)


def test_a_template_without_approval_is_scheduled_at_once(app: Flask, window: Window) -> None:
    assert fill(app, window, "Starter").press("create").status_code == 303
    assert stored(app, window.draft_id).state is RequestState.SCHEDULED


def test_the_tabs_can_be_filled_in_any_order_and_submitted_from_any(
    app: Flask, window: Window
) -> None:
    window.type_on("contact", CONTACT)
    window.type_on("template", {"template": template_id(app, "Business")})
    window.open("tenant")
    assert window.press("create", **TENANT).location == (
        f"/tenant-creation-management/{window.draft_id}"
    )


def test_every_button_that_leaves_a_tab_keeps_what_was_typed_right_or_wrong(
    window: Window,
) -> None:
    for number, (go, leads_to) in enumerate(
        {
            "template": "/template",
            "tenant": "/tenant",
            "contact": "/contact",
            "next": "/contact",
            "close": "/drafts",
            "stay": "/tenant",
            "unheard-of": "/tenant",
        }.items()
    ):
        name = f"Not a name {number}"
        assert window.open("tenant").press(go, name=name).location.endswith(leads_to)
        assert window.open("tenant").value("name") == name


def test_a_draft_goes_on_in_another_browser_at_the_first_tab_that_is_not_complete(
    app: Flask, prospect: User, window: Window
) -> None:
    window.press("close", template=template_id(app, "Starter"))
    elsewhere = sign_in(app, prospect.login)
    drafts = elsewhere.page("/tenant-registration/drafts")
    assert "Starter, 1 of 3 tabs complete" in drafts.text()
    response = elsewhere.get(f"/tenant-registration/{window.draft_id}")
    assert response.location.endswith(f"/{window.draft_id}/tenant")


def test_the_own_address_and_what_is_known_is_filled_in(window: Window) -> None:
    window.open("contact")
    assert window.value("contact_email") == "ada@northwind.example"
    assert window.value("language") == "fr"


def test_the_options_of_every_template_are_kept(app: Flask, window: Window) -> None:
    starter, business = template_id(app, "Starter"), template_id(app, "Business")
    window.press("stay", template=starter, **{f"option-{business}-lines": "77"})
    assert window.value(f"option-{business}-lines") == "77"
    assert window.value("template") == starter
    box = window.page.one("input", id=f"option-{starter}-voicemail_to_email")
    assert box.get("checked") is not None
    window.press("stay", **{f"option-{starter}-voicemail_to_email": "no"})
    box = window.page.one("input", id=f"option-{starter}-voicemail_to_email")
    assert box.get("checked") is None


def test_a_suggested_short_name_is_taken_over_by_its_button(window: Window) -> None:
    window.type_on("tenant", {"name": "NorthwindTraders"})
    (button,) = window.page.all("button", name="use_short_name")
    assert button.get("value") == "nt"
    window.press("", use_short_name="nt", upn_suffix="typed.example")
    assert window.value("short_name") == "nt"
    assert window.value("upn_suffix") == "typed.example"
    assert not window.page.all("button", name="use_short_name")


# --- What is said --------------------------------------------------------------------------------


def test_badges_say_where_something_is_to_do(app: Flask, window: Window) -> None:
    assert [window.badge(tab) for tab in Tab] == ["Empty"] * 3
    window.press("stay", template=template_id(app, "Starter"))
    window.type_on("tenant", {"name": "Northwind Traders"})
    assert [window.badge(tab) for tab in Tab] == ["Complete", "Needs attention", "Empty"]


def test_a_fault_stands_at_its_field_and_what_is_missing_is_named(window: Window) -> None:
    window.type_on("tenant", {"name": "Northwind Traders", "upn_suffix": "com"})
    assert "must not contain spaces" in window.error("name")
    assert window.error("upn_suffix")
    assert window.error("ani") == ""
    assert "Still missing: Short Name, User Name, ANI, Password" in window.text
    assert not window.page.all("div", **{"class": "error-summary"})


def test_what_is_right_is_confirmed_quietly(window: Window) -> None:
    typed = {**TENANT, "upn_suffix": "müller.example", "ani": "02/555.12.12"}
    window.type_on("tenant", typed)
    assert "müller.example" in window.said("upn_suffix")
    assert "xn--mller-kva.example" in window.said("upn_suffix")
    assert "prpnwAdmin@müller.example" in window.said("user_name")
    assert "+32 2 555 12 12" in window.said("ani")
    assert "02 555 12 12" in window.said("ani")


def test_what_is_chosen_stands_beside_the_form(app: Flask, window: Window) -> None:
    fill(app, window)
    summary = window.page.text(window.page.one("aside", id="wizard-summary"))
    for shown in ("Business", "25", "NorthwindTraders", "Ada Northwind", "Belgium"):
        assert shown in summary


@pytest.mark.parametrize(
    ("rule", "needs_approval", "words"),
    [
        (StartRule.IMMEDIATE, False, "The tenant is set up at once. A mail to"),
        (StartRule.OFF_PEAK, False, "The tenant is set up during off-peak hours, which"),
        (StartRule.IMMEDIATE, True, "looks at the request first. Once it is approved, the tenant"),
        (StartRule.OFF_PEAK, True, "is approved, the tenant is set up during off-peak hours"),
        (StartRule.AT_APPROVAL, True, "With the approval it says when the tenant is set up."),
    ],
)
def test_below_the_last_button_stands_what_happens_then(
    app: Flask, window: Window, rule: StartRule, needs_approval: bool, words: str
) -> None:
    assert window.next_words == "Choose a template to see what happens then, and when."
    with app.app_context():
        version = make_service_template(start_rule=rule, needs_approval=needs_approval)
        chosen = str(version.template_id)
    window.type_on("template", {"template": chosen})
    assert words in window.next_words
    assert "ada@northwind.example" in window.next_words


def test_without_off_peak_hours_the_provider_says_when(
    app: Flask, window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: Any) -> None:
        raise Conflict("There are none.")

    monkeypatch.setattr(provisioning_policy, "plan_start", none)
    window.press("stay", template=template_id(app, "Business"))
    assert "since no off-peak hours are planned" in window.next_words


# --- The password --------------------------------------------------------------------------------


def test_a_password_never_comes_back(app: Flask, window: Window) -> None:
    window.open("tenant")
    for typed in (
        {"password": PASSWORD, "confirmation": PASSWORD},
        {"password": PASSWORD, "confirmation": f"{PASSWORD}s"},
        {"password": "short", "confirmation": "short"},
        {"password": PASSWORD, "confirmation": PASSWORD, "go": "create"},
    ):
        response = window.press(str(typed.pop("go", "stay")), **typed)
        for shown in (response.text, window.client.get(window.url("tenant")).text):
            assert PASSWORD not in shown
            assert "short" not in re.findall(r'type="password"[^>]*value="([^"]*)"', shown)
    assert window.open("tenant").value("password") == ""


def test_a_password_that_is_set_stays_until_another_is_typed(app: Flask, window: Window) -> None:
    window.type_on("tenant", TENANT)
    assert "Password is set. Type a new one to change it." in window.text
    window.press("stay", name="NorthwindFreight")
    assert passwords.verify(stored(app, window.draft_id).password_hash, PASSWORD)
    other = "slow copper lighthouse"
    window.press("stay", password=other, confirmation=other)
    assert passwords.verify(stored(app, window.draft_id).password_hash, other)


def test_two_passwords_that_differ_are_told_at_the_second(window: Window) -> None:
    window.type_on("tenant", {"password": PASSWORD, "confirmation": "something else entirely"})
    assert "differ" in window.error("confirmation")
    assert "Password is set" not in window.text


# --- Create Tenant, with faults ------------------------------------------------------------------


def test_create_tenant_opens_the_first_faulty_tab_with_links_to_all_faults(
    app: Flask, window: Window
) -> None:
    window.press("stay", template=template_id(app, "Business"))
    window.type_on("tenant", {**TENANT, "name": "Northwind Traders", "ani": ""})
    window.open("contact")
    response = window.press("create", **{**CONTACT, "country": "", "city": ""})
    assert response.status_code == 422
    assert window.form.get("action") == window.url("tenant")
    assert window.form.get("data-address") == f"{window.url('tenant')}?checked=1"
    assert [window.badge(tab) for tab in Tab] == ["Complete", "Needs attention", "Needs attention"]
    (summary,) = window.page.all("div", **{"class": "error-summary"})
    assert "4 things to correct" in window.page.text(summary)
    links = [link.get("href") for link in summary.iter("a")]
    elsewhere = f"{window.url('contact')}?checked=1"
    assert links == ["#name", "#ani", elsewhere]
    assert window.error("ani") == "ANI is missing."

    there = window.client.page(elsewhere)
    (summary,) = there.all("div", **{"class": "error-summary"})
    anchors = [link.get("href") for link in summary.iter("a")]
    assert anchors == ["#city", "#country", f"{window.url('tenant')}?checked=1"]
    for anchor in ("city", "country"):
        assert there.all("input", id=anchor) or there.all("select", id=anchor)
    assert stored(app, window.draft_id).state is RequestState.DRAFT


def test_without_a_template_its_group_of_cards_is_the_first_fault(window: Window) -> None:
    response = window.open("contact").press("create")
    assert response.status_code == 422
    assert [window.badge(tab) for tab in Tab] == ["Needs attention"] * 3
    (summary,) = window.page.all("div", **{"class": "error-summary"})
    anchor = next(summary.iter("a")).get("href").removeprefix("#")
    assert window.page.one("input", id=anchor).get("name") == "template"
    assert window.error("template")


def test_a_fault_in_an_option_stands_at_the_option(app: Flask, window: Window) -> None:
    fill(app, window)
    lines = f"option-{template_id(app, 'Business')}-lines"
    response = window.open("template").press("create", **{lines: "4000"})
    assert response.status_code == 422
    assert "from 5 to 500" in window.error(lines)
    assert window.value(lines) == "4000"
    (summary,) = window.page.all("div", **{"class": "error-summary"})
    assert [link.get("href") for link in summary.iter("a")] == [f"#{lines}"]


def test_a_name_that_somebody_took_meanwhile_is_told_at_its_field(
    app: Flask, window: Window
) -> None:
    fill(app, window)
    with app.app_context():
        rival = make_prospect().login
    other = begin(sign_in(app, rival))
    assert fill(app, other).press("create").status_code == 303
    assert window.open("contact").press("create").status_code == 422
    assert "taken" in window.error("name")
    assert rival not in window.text


# --- Accepted once -------------------------------------------------------------------------------


def test_create_tenant_pressed_again_leads_to_the_same_request(app: Flask, window: Window) -> None:
    fill(app, window)
    data = {**window.fields, "go": "create"}
    answers = [window.client.post(window.url("contact"), data=data) for _ in range(3)]
    assert {(each.status_code, each.location) for each in answers} == {
        (303, f"/tenant-creation-management/{window.draft_id}")
    }
    assert steps_of(app, window.draft_id) == ["submitted", "awaiting_approval"]


def test_the_back_button_after_create_tenant_leads_to_the_request(
    app: Flask, window: Window
) -> None:
    fill(app, window).press("create")
    client, request = window.client, f"/tenant-creation-management/{window.draft_id}"
    for path in ("template", "tenant", "contact", "discard", ""):
        response = client.get(window.url(path).rstrip("/"))
        assert (response.status_code, response.location) == (303, request), path
    data = {**window.fields, "go": "next", "company": "Another"}
    assert client.post(window.url("contact"), data=data).location == request
    assert client.submit(window.url("discard")).location == request
    assert stored(app, window.draft_id).company == "Northwind Traders"


# --- Two windows ---------------------------------------------------------------------------------


@pytest.fixture
def second(window: Window) -> Window:
    """The same draft in another window, as it was when both were opened."""
    window.type_on("tenant", {"name": "First", "short_name": "fst"})
    return Window(window.client, window.draft_id).open("tenant")


def test_the_second_window_is_told_and_shown_both_versions(
    app: Flask, window: Window, second: Window
) -> None:
    window.press("stay", name="FromHere", ani="+32 2 555 12 12")
    response = second.press("next", name="FromThere", user_name="admin")
    assert response.status_code == 409
    assert "This draft was changed in another window" in second.text
    assert second.versions == {
        "Name": ("FromThere", "FromHere"),
        "User Name": ("admin", "Empty"),
        "ANI": ("Empty", "+32 2 555 12 12"),
    }
    assert second.value("name") == "FromThere"
    assert stored(app, window.draft_id).draft["tenant"]["name"] == "FromHere"


def test_either_version_can_be_gone_on_with(window: Window, second: Window) -> None:
    window.press("stay", name="FromHere")
    second.press("next", name="FromThere")
    (take,) = [
        link
        for link in second.page.all("a")
        if second.page.text(link) == "Take what the other window saved"
    ]
    assert Window(second.client, second.draft_id).open("tenant").value("name") == "FromHere"
    assert take.get("href") == second.url("tenant")
    assert second.press("stay").status_code == 303
    assert window.open("tenant").value("name") == "FromThere"


def test_faults_of_the_other_window_are_not_told_of_this_ones_words(
    window: Window, second: Window
) -> None:
    window.press("stay", name="From Here")
    assert window.error("name")
    assert second.press("stay", name="FromThere").status_code == 409
    assert second.error("name") == ""


def test_windows_on_different_tabs_are_in_nobodys_way(window: Window, second: Window) -> None:
    contact = Window(window.client, window.draft_id).open("contact")
    assert second.press("stay", name="FromThere").status_code == 303
    assert contact.press("stay", city="Ghent").status_code == 303
    assert window.open("tenant").value("name") == "FromThere"
    assert window.open("contact").value("city") == "Ghent"


def test_both_versions_of_a_choice_are_shown_in_words(app: Flask, window: Window) -> None:
    other = Window(window.client, window.draft_id).open("template")
    starter, business = template_id(app, "Starter"), template_id(app, "Business")
    window.press("stay", template=starter)
    box = f"option-{business}-recording"
    assert other.press("stay", template=business, **{box: ["no", "yes"]}).status_code == 409
    assert other.versions == {
        "Template": ("Business", "Starter"),
        "Call recording (Business)": ("Yes", "No"),
    }
    contact = Window(window.client, window.draft_id).open("contact")
    window.open("contact").press("stay", country="FR")
    assert contact.press("stay", country="DE").status_code == 409
    assert contact.versions == {"Country": ("Germany", "France")}


def test_what_another_window_changed_is_seen_before_it_is_submitted(
    app: Flask, window: Window
) -> None:
    fill(app, window)
    other = Window(window.client, window.draft_id).open("tenant")
    other.press("stay", name="NorthwindFreight")
    assert window.press("create").status_code == 409
    assert "nothing was submitted" in window.text
    assert "NorthwindFreight" in window.text
    assert stored(app, window.draft_id).state is RequestState.DRAFT
    assert window.press("create").status_code == 303
    assert stored(app, window.draft_id).name == "NorthwindFreight"


def test_a_password_in_the_second_window_has_to_be_typed_again(
    window: Window, second: Window
) -> None:
    window.press("stay", name="FromHere")
    typed = {"name": "FromThere", "password": PASSWORD, "confirmation": PASSWORD}
    assert second.press("stay", **typed).status_code == 409
    assert "The password that you typed here was not kept." in second.text
    assert PASSWORD not in second.page.text()


# --- Saved while one types -----------------------------------------------------------------------


def test_a_saving_by_itself_brings_back_what_there_is_to_say(window: Window) -> None:
    window.open("tenant")
    back = window.save_by_itself(**{**TENANT, "name": "Northwind Traders", "ani": "1"})
    places = {each.get("id") for each in back.root.iter() if each.get("hx-swap-oob")}
    assert places >= {
        "wizard-version",
        "wizard-saved",
        "wizard-next",
        "wizard-summary",
        *(f"wizard-{tab}-state" for tab in Tab),
        *(f"{name}-{line}" for name in FIELDS[Tab.TENANT] for line in ("error", "said")),
    }
    assert "must not contain spaces" in back.text(back.one("p", id="name-error"))
    assert back.text(back.one("p", id="ani-error"))
    assert back.text(back.one("p", id="short_name-error")) == ""
    assert "Strength:" in back.text(back.one("p", id="password-said"))
    assert back.text(back.one("span", id="wizard-tenant-state")) == "Needs attention"
    version = back.one("input", id="wizard-version").get("value")
    window.open("tenant")
    assert version == window.value("draft_version")
    assert window.value("short_name") == "nwt"


@pytest.mark.parametrize("tab", Tab)
def test_what_comes_back_has_its_place_on_the_page(window: Window, tab: Tab) -> None:
    window.open(tab)
    ids = {each.get("id") for each in window.page.root.iter()}
    back = window.save_by_itself()
    places = {each.get("id") for each in back.root.iter() if each.get("hx-swap-oob")}
    assert places <= ids


def test_half_a_password_is_not_kept_by_itself(app: Flask, window: Window) -> None:
    window.open("tenant").save_by_itself(password=PASSWORD, confirmation="quiet")
    request = stored(app, window.draft_id)
    assert request.password_hash is None
    assert not request.draft.get("password_fault")
    window.open("tenant").save_by_itself(password=PASSWORD, confirmation=PASSWORD)
    assert passwords.verify(stored(app, window.draft_id).password_hash, PASSWORD)


def test_a_window_that_was_overtaken_is_told_while_it_types(
    app: Flask, window: Window, second: Window
) -> None:
    window.press("stay", name="FromHere")
    back = second.save_by_itself(name="FromThere")
    assert "This draft was changed in another window" in back.text()
    (button,) = back.all("button", name="go")
    assert button.get("value") == "stay"
    assert stored(app, window.draft_id).draft["tenant"]["name"] == "FromHere"
    assert second.press("stay", name="FromThere").status_code == 409


def test_a_window_on_what_was_submitted_is_led_to_the_request(app: Flask, window: Window) -> None:
    fill(app, window)
    data = {**window.fields, "city": "Ghent"}
    window.press("create")
    response = window.client.post(
        f"{window.url('contact')}/draft", data=data, headers={"HX-Request": "true"}
    )
    assert response.headers["HX-Redirect"] == f"/tenant-creation-management/{window.draft_id}"


def test_without_htmx_a_saving_leads_back_to_the_tab(window: Window) -> None:
    data = {**window.open("tenant").fields, "name": "Kept"}
    response = window.client.post(f"{window.url('tenant')}/draft", data=data)
    assert response.location == window.url("tenant")
    assert window.open("tenant").value("name") == "Kept"


# --- Whose, and which ----------------------------------------------------------------------------


def test_nobody_sees_anothers_draft(app: Flask, window: Window) -> None:
    window.type_on("tenant", {"name": "Secretive"})
    with app.app_context():
        strangers = [make_prospect().login, "landlord@foyer.example", "operator@foyer.example"]
    for login in strangers:
        stranger = sign_in(app, login)
        token = stranger.token()
        assert "Secretive" not in stranger.page("/tenant-registration/drafts").text()
        for path in ("", "/template", "/tenant", "/contact", "/discard"):
            address = f"/tenant-registration/{window.draft_id}{path}"
            assert stranger.get(address).status_code == 404
        for path in ("/tenant", "/tenant/draft", "/discard"):
            data = {"csrf_token": token, "draft_version": "1", "name": "Mine", "go": "create"}
            address = f"/tenant-registration/{window.draft_id}{path}"
            assert stranger.post(address, data=data).status_code == 404
    assert stored(app, window.draft_id).draft["tenant"] == {"name": "Secretive"}


@pytest.mark.parametrize("draft_id", ["0", "999999999", str(2**63 - 1), str(10**30), "-1", "x"])
def test_a_draft_that_is_none_is_not_there(client: CheckingClient, draft_id: str) -> None:
    for path in ("", "/tenant", "/discard", "/elsewhere"):
        assert client.get(f"/tenant-registration/{draft_id}{path}").status_code == 404


def test_only_what_is_offered_can_be_seen_and_picked(app: Flask, window: Window) -> None:
    cards = {each.get("value") for each in window.page.all("input", name="template")}
    assert cards == {template_id(app, "Starter"), template_id(app, "Business")}
    invited = template_id(app, "Contact centre")
    fill(app, window)
    assert window.open("template").press("create", template=invited).status_code == 422
    assert "not offered" in window.error("template")
    operator = begin(sign_in(app, "operator@foyer.example"))
    assert len(operator.page.all("input", name="template")) == 3
    assert "By invitation" in operator.text


def test_staff_registers_on_a_customers_behalf(app: Flask) -> None:
    client = sign_in(app, "operator@foyer.example")
    page = client.page("/tenant-registration/drafts")
    assert "Register on a customer’s behalf" in page.text()
    window = begin(client).open("contact")
    assert window.value("contact_email") == ""
    assert fill(app, window, "Contact centre").press("create").status_code == 303
    request = stored(app, window.draft_id)
    assert request.contact_email == "ada@northwind.example"
    with app.app_context():
        author = db.session.get_one(User, request.created_by_id)
        assert author.login == "operator@foyer.example"


def test_where_nothing_is_offered_the_page_says_so(app: Flask, window: Window) -> None:
    with app.app_context():
        db.session.execute(sa.update(ServiceTemplate).values(audience=Audience.INVITED))
        db.session.commit()
    assert "No service template is offered to you" in window.open("template").text
    assert window.press("create").status_code == 422


# --- Discard, and changes that were asked for ----------------------------------------------------


def test_a_draft_is_discarded_after_its_consequence_was_shown(app: Flask, window: Window) -> None:
    window.type_on("tenant", {"name": "Northwind"})
    page = window.client.page(window.url("discard"))
    assert "cannot be brought back" in page.text()
    assert "Northwind" in page.text()
    form = page.one("form", action=window.url("discard"))
    response = window.client.post(form.get("action"), data=page.fields(form))
    assert response.location == "/tenant-registration/drafts"
    assert "Northwind" not in page.text(window.client.page(response.location).one("main"))
    assert window.client.get(window.url("tenant")).status_code == 404
    with app.app_context():
        assert db.session.get(SubscriptionRequest, window.draft_id) is None


def test_what_the_provider_wants_changed_is_submitted_again(app: Flask, window: Window) -> None:
    fill(app, window).press("create")
    with app.app_context():
        request = db.session.get_one(SubscriptionRequest, window.draft_id)
        pass_on(request, RequestState.CHANGES_REQUESTED, comment="Which <b>number</b>\ndo you use?")
    drafts = window.client.page("/tenant-registration/drafts")
    assert "Changes requested" in drafts.text()
    assert not [a for a in drafts.all("a") if "discard" in (a.get("href") or "")]
    window.open("tenant")
    assert "Which <b>number</b>" in window.text
    labels = {window.page.text(each) for each in window.page.all("button", name="go")}
    assert "Submit again" in labels
    assert "Create Tenant" not in labels
    assert window.press("create", ani="+32 2 555 13 13").status_code == 303
    again = stored(app, window.draft_id)
    assert again.state is RequestState.AWAITING_APPROVAL
    assert again.ani == "+3225551313"


def test_a_request_that_was_returned_is_not_discarded(app: Flask, window: Window) -> None:
    fill(app, window).press("create")
    with app.app_context():
        request = db.session.get_one(SubscriptionRequest, window.draft_id)
        pass_on(request, RequestState.CHANGES_REQUESTED)
    discard = window.url("discard")
    there = f"/tenant-creation-management/{window.draft_id}"
    assert window.client.get(discard).location == there
    assert window.client.submit(discard).status_code == 409
    assert stored(app, window.draft_id).state is RequestState.CHANGES_REQUESTED


def test_who_has_too_many_drafts_is_told(
    client: CheckingClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.registration_drafts.MOST_DRAFTS", 1)
    begin(client).open("tenant").press("stay", name="One")
    response = client.submit("/tenant-registration/drafts", follow_redirects=True)
    assert "registrations that are not submitted" in response.text


# --- Proof of the domain -------------------------------------------------------------------------


class Records:
    """A name server that knows these TXT records, or does not answer."""

    def __init__(self) -> None:
        self.texts: dict[str, list[str]] | None = {}

    def find_texts(self, name: str) -> list[str]:
        if self.texts is None:
            raise domain_proofs.ResolverSilent
        return self.texts.get(name, [])


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> Records:
    server = Records()
    monkeypatch.setattr(domain_proofs, "DnsResolver", lambda: server)
    return server


@pytest.mark.parametrize("settings_changes", [{"DOMAIN_PROOF": "yes"}])
def test_a_domain_is_proven_by_its_record(app: Flask, window: Window, records: Records) -> None:
    assert not window.open("tenant").page.all("code", id="domain-name")
    window.type_on("tenant", TENANT)
    name = window.page.text(window.page.one("code", id="domain-name"))
    value = window.page.text(window.page.one("code", id="domain-value"))
    assert name == "_foyer-challenge.northwind-traders.example"

    assert window.press("prove", ani="+32 2 555 14 14").status_code == 422
    assert "no TXT record" in window.text
    assert window.value("ani") == "+32 2 555 14 14"
    records.texts = {name: ["something else"]}
    assert window.press("prove").status_code == 422
    records.texts = None
    assert window.press("prove").status_code == 422
    assert "No name server answered" in window.text
    records.texts = {name: [value]}
    assert window.press("prove").status_code == 303
    assert "The domain is proven to be yours" in window.text
    fill(app, window)
    assert window.press("create").status_code == 303


@pytest.mark.parametrize("settings_changes", [{"DOMAIN_PROOF": "yes"}])
def test_without_its_proof_a_domain_is_not_submitted(app: Flask, window: Window) -> None:
    assert fill(app, window).press("create").status_code == 422
    assert "not proved yet" in window.error("upn_suffix")
    back = window.save_by_itself(upn_suffix="other.example")
    assert back.text(back.one("code", id="domain-name")) == "_foyer-challenge.other.example"


def test_a_wish_for_proof_is_harmless_where_none_is_asked_for(window: Window) -> None:
    assert window.open("tenant").press("prove", upn_suffix="com").status_code == 422
    assert window.press("prove", upn_suffix="fine.example").status_code == 303


# --- Bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize("tab", Tab)
def test_every_field_takes_anything_and_shows_it_harmlessly(
    app: Flask, window: Window, tab: Tab
) -> None:
    business = template_id(app, "Business")
    names = [*FIELDS[tab], "password", "confirmation"]
    names += [f"option-{business}-{each}" for each in ("lines", "numbers", "recording")]
    page, where = window.open(tab).page, window.url(tab)
    token = window.fields["csrf_token"]
    for text in TEXTS:
        version = page.one("input", id="wizard-version").get("value")
        data = {**dict.fromkeys(names, text), "csrf_token": token, "draft_version": version}
        saved = window.client.post(f"{where}/draft", data=data, headers={"HX-Request": "true"})
        assert saved.status_code == 200, text
        back = Page(saved.text)
        assert not back.all("script"), text
        data["draft_version"] = back.one("input", id="wizard-version").get("value")
        response = window.client.post(where, data={**data, "go": "create"})
        assert response.status_code == 422, text
        page = check_page(response)  # Which has no script of its own, nor style.
    for path in ("/tenant-registration/drafts", window.url("discard"), window.url(tab)):
        window.client.page(path)


def test_a_hostile_suggestion_is_as_good_as_typed(window: Window) -> None:
    for text in TEXTS:
        window.open("tenant")
        assert window.press("", use_short_name=text).status_code == 303


def test_fields_twice_files_and_none_at_all_are_no_failure(window: Window) -> None:
    window.open("tenant")
    data = {**window.fields, "name": ["One", "Two"], "go": ["next", "create"]}
    assert window.client.post(window.url("tenant"), data=data).status_code == 303
    assert window.open("tenant").value("name") == "Two"
    kept = {
        "csrf_token": window.fields["csrf_token"],
        "draft_version": window.value("draft_version"),
    }
    assert window.client.post(window.url("tenant"), data=kept).status_code == 303
    assert window.open("tenant").value("name") == "Two"


@pytest.mark.parametrize("version", ["", "x", "-1", "1.5", "²", str(10**30), "9" * 5000, "\0"])
def test_a_page_without_its_version_changes_nothing(
    app: Flask, window: Window, version: str
) -> None:
    window.open("tenant")
    response = window.client.post(
        window.url("tenant"), data={**window.fields, "draft_version": version, "name": "Lost"}
    )
    assert response.status_code == 400
    assert "tenant" not in stored(app, window.draft_id).draft


def test_a_version_of_the_future_shows_both(window: Window) -> None:
    window.open("tenant")
    assert window.press("stay", draft_version="2147483647", name="Early").status_code == 409
    assert window.versions == {"Name": ("Early", "Empty")}


def test_labels_are_those_of_the_product(window: Window) -> None:
    window.open("tenant")
    labels = [window.page.text(each) for each in window.form.iter("label")]
    wanted = [LABELS[name] for name in ("name", "short_name", "upn_suffix", "user_name")]
    assert labels == [*wanted, "Password", "Confirm Password", "ANI"]


def test_limited_staff_sees_the_templates_of_its_groups(app: Flask) -> None:
    with app.app_context():
        version = make_service_template(audience=Audience.STAFF)
        operator = make_operator(version.group)
        name = version.template.name
        login = actor_of(operator).login
    window = begin(sign_in(app, login))
    assert len(window.page.all("input", name="template")) == 1
    assert f"{name} Staff only" in window.text
