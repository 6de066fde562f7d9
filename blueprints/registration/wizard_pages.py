"""What the pages of Tenant Registration show of a draft."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from blueprints.registration.wizard_forms import make_form
from extensions import get_settings
from models import (
    OptionKind,
    RequestState,
    ServiceOption,
    ServiceTemplateVersion,
    StartRule,
    SubscriptionRequest,
    utcnow,
)
from services import provisioning_policy
from services.countries import is_time_zone
from services.errors import Conflict
from services.passwords import Strength
from services.registration_drafts import (
    DraftCheck,
    StaleDraft,
    Tab,
    TabState,
    Verdicts,
    form_values,
)
from services.service_templates import option_field

TAB_LABELS = {Tab.TEMPLATE: "Template", Tab.TENANT: "Tenant", Tab.CONTACT: "Contact"}
TABS = tuple(TAB_LABELS)

_BADGES = {
    TabState.EMPTY: ("neutral", "circle-dashed", "Empty"),
    TabState.COMPLETE: ("good", "circle-check", "Complete"),
    TabState.FAULTY: ("attention", "triangle-alert", "Needs attention"),
}


@dataclass(frozen=True, slots=True)
class TabShown:
    """A tab with its badge; `colour` is one of the states that pages have."""

    name: Tab
    label: str
    colour: str
    symbol: str
    word: str
    is_current: bool


def tabs_of(
    check: DraftCheck, current: Tab | None = None, *, is_checked: bool = False
) -> list[TabShown]:
    """The tabs with their badges; once all was checked, an empty tab needs attention, too."""
    shown = []
    for tab, label in TAB_LABELS.items():
        state = check.tabs[tab]
        if is_checked and check.faults_of(tab):
            state = TabState.FAULTY
        shown.append(TabShown(tab, label, *_BADGES[state], is_current=tab is current))
    return shown


def tab_after(tab: Tab) -> Tab | None:
    """The tab that follows; None after the last."""
    follows = TABS.index(tab) + 1
    return TABS[follows] if follows < len(TABS) else None


def first_open(check: DraftCheck) -> Tab:
    """The first tab that is not complete; the last one when all are."""
    return next((tab for tab in TABS if check.tabs[tab] is not TabState.COMPLETE), TABS[-1])


def first_faulty(check: DraftCheck) -> Tab:
    """The first tab with a fault."""
    return next((tab for tab in TABS if check.faults_of(tab)), TABS[0])


def summary_of(check: DraftCheck) -> list[tuple[str, list[tuple[str, str]]]]:
    """What is chosen so far: label and value of each line, under its tab's heading."""
    return [
        (label, [(line.label, line.value) for line in check.summary if line.tab is tab])
        for tab, label in TAB_LABELS.items()
    ]


@dataclass(frozen=True, slots=True)
class FaultsElsewhere:
    """How many faults another tab has."""

    tab: Tab
    label: str
    count: int


def faults_elsewhere(check: DraftCheck, current: Tab) -> list[FaultsElsewhere]:
    return [
        FaultsElsewhere(tab, label, len(check.faults_of(tab)))
        for tab, label in TAB_LABELS.items()
        if tab is not current and check.faults_of(tab)
    ]


@dataclass(frozen=True, slots=True)
class DraftShown:
    """A draft in the list: what it is called, its template, and how many tabs are complete."""

    draft: SubscriptionRequest
    title: str
    template: str
    complete: int
    is_returned: bool

    @classmethod
    def of(cls, draft: SubscriptionRequest, check: DraftCheck) -> DraftShown:
        typed = form_values(draft, Tab.TENANT).get("name", "").strip()
        version = check.template_version
        return cls(
            draft,
            typed[:64] or "Unnamed tenant",
            version.template.name if version else "",
            sum(state is TabState.COMPLETE for state in check.tabs.values()),
            draft.state is RequestState.CHANGES_REQUESTED,
        )


# --- Two windows ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FieldVersions:
    """What a field holds in the draft, and what it holds in this window."""

    label: str
    stored: str
    typed: str


def versions_of(
    tab: Tab, error: StaleDraft, offered: Iterable[ServiceTemplateVersion]
) -> list[FieldVersions]:
    """The fields of a tab that another window changed, in words."""
    words = _words_of(tab, offered)
    return [
        FieldVersions(
            label,
            choices.get(error.stored[name], error.stored[name]),
            choices.get(error.typed[name], error.typed[name]),
        )
        for name, (label, choices) in words.items()
        if name in error.stored and name in error.typed
    ]


def _words_of(
    tab: Tab, offered: Iterable[ServiceTemplateVersion]
) -> dict[str, tuple[str, dict[str, str]]]:
    """The label of each field of a tab, and the words of its choices where it has some."""
    if tab is not Tab.TEMPLATE:
        return {
            each.name: (each.label.text, dict(getattr(each, "choices", None) or {}))
            for each in make_form(tab, {})
        }
    versions = list(offered)
    names = {str(each.template_id): each.template.name for each in versions}
    yes_no = {"yes": "Yes", "no": "No"}
    options = {
        option_field(each, option): (
            f"{option.label} ({each.template.name})",
            yes_no if option.kind is OptionKind.YES_NO else {},
        )
        for each in versions
        for option in each.options
    }
    return {"template": ("Template", names), **options}


# --- What is said at a field ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FieldSaid:
    """What stands above a field when it is wrong, and what below it.

    `suggestion` is a value that may be taken over, `strength` that of a password.
    """

    error: str = ""
    text: str = ""
    suggestion: str = ""
    strength: Strength | None = None


def said_of(names: Iterable[str], verdicts: Verdicts) -> dict[str, FieldSaid]:
    """What there is to say on each of a tab's fields, by its name."""
    said = {}
    for name in names:
        verdict = verdicts.fields.get(name)
        error = verdict.message if verdict and not verdict.ok else ""
        text = verdict.message if verdict and verdict.ok else ""
        said[name] = FieldSaid(
            error,
            text,
            verdicts.short_name if name == "short_name" else "",
            verdicts.strength if name == "password" and not error else None,
        )
    return said


# --- The Template tab ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OptionShown:
    option: ServiceOption
    field: str
    value: str
    error: str


@dataclass(frozen=True, slots=True)
class Card:
    """A template that may be picked, with what was typed in its options."""

    version: ServiceTemplateVersion
    is_chosen: bool
    options: list[OptionShown]
    start: str


def cards_of(
    offered: Iterable[ServiceTemplateVersion], values: Mapping[str, str], errors: Mapping[str, str]
) -> list[Card]:
    return [
        Card(
            version,
            values.get("template") == str(version.template_id),
            [
                OptionShown(option, field, values.get(field, option.default), errors.get(field, ""))
                for option in version.options
                for field in (option_field(version, option),)
            ],
            describe_start(version),
        )
        for version in offered
    ]


# --- What will happen, and when ------------------------------------------------------------------

_STARTS = {
    (False, StartRule.IMMEDIATE): "Set up at once",
    (False, StartRule.OFF_PEAK): "Set up during off-peak hours",
    (True, StartRule.IMMEDIATE): "{provider} approves the request, then it is set up at once",
    (True, StartRule.OFF_PEAK): (
        "{provider} approves the request, then it is set up during off-peak hours"
    ),
    (True, StartRule.AT_APPROVAL): "{provider} approves the request and says when it is set up",
}


def describe_start(version: ServiceTemplateVersion) -> str:
    """The template's rule, in a line of its card."""
    words = _STARTS[version.needs_approval, version.start_rule]
    return words.format(provider=get_settings().provider_name)


def describe_next(check: DraftCheck, zone: str) -> str:
    """What the last button will do then, and when; `zone` is the registrant's, or empty."""
    version = check.template_version
    if version is None:
        return "Choose a template to see what happens then, and when."
    provider = get_settings().provider_name
    reader = check.values.get("contact_email") or "the contact"
    start = "The tenant is set up at once."
    if version.start_rule is StartRule.OFF_PEAK:
        start = _describe_off_peak(provider, zone)
    if version.needs_approval:
        start = f"Once it is approved, {start[0].lower()}{start[1:]}"
        if version.start_rule is StartRule.AT_APPROVAL:
            start = "With the approval it says when the tenant is set up."
        start = f"{provider} looks at the request first. {start}"
    return f"{start} A mail to {reader} says when it is ready."


def _describe_off_peak(provider: str, zone: str) -> str:
    """With the next off-peak hours on the registrant's clock, or else the provider's."""
    now = utcnow()
    try:
        planned = provisioning_policy.plan_start(now)
    except Conflict:
        return f"The tenant is set up when {provider} says so, since no off-peak hours are planned."
    if planned <= now:
        return "The tenant is set up during off-peak hours, which is now."
    clock = ZoneInfo(zone) if is_time_zone(zone) else provisioning_policy.load().zone
    local = planned.astimezone(clock)
    when = f"{local:%A} {local.day} {local:%B} at {local:%H:%M %Z}"
    return f"The tenant is set up during off-peak hours, which begin on {when}."
