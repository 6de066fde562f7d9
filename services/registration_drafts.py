"""Drafts of subscription requests: kept as they are typed, checked as a whole.

A draft is a request that may be edited: one in DRAFT, or in CHANGES_REQUESTED. It belongs to
who began it; for everybody else it does not exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from models import ServiceTemplateVersion, SubscriptionRequest
from services.actors import Actor
from services.domain_names import DomainName
from services.errors import Conflict
from services.passwords import Strength
from services.phone_numbers import PhoneNumber


class Tab(StrEnum):
    TEMPLATE = "template"
    TENANT = "tenant"
    CONTACT = "contact"


FIELDS: Mapping[Tab, tuple[str, ...]] = {
    Tab.TEMPLATE: ("template",),
    Tab.TENANT: ("name", "short_name", "upn_suffix", "user_name", "ani"),
    Tab.CONTACT: (
        "company",
        "street",
        "postal_code",
        "city",
        "region",
        "country",
        "contact_name",
        "contact_phone",
        "contact_email",
        "language",
        "time_zone",
    ),
}
"""The fields of each tab as the form names them. The template tab has the id of the template and
its options besides (service_templates.option_field); the tenant tab "password" and
"confirmation", which are never kept."""


class TabState(StrEnum):
    """A tab is faulty, too, while a field that is needed is missing in it."""

    EMPTY = "empty"
    COMPLETE = "complete"
    FAULTY = "faulty"


@dataclass(frozen=True, slots=True)
class Fault:
    """`is_missing` where nothing is wrong but that nothing was typed yet."""

    tab: Tab
    field: str
    message: str
    is_missing: bool = False


@dataclass(frozen=True, slots=True)
class SummaryLine:
    """A line of what is chosen so far; only what is right."""

    tab: Tab
    label: str
    value: str


@dataclass(frozen=True, slots=True)
class DraftCheck:
    """`values` are the columns of the request that is made of a draft without faults."""

    tabs: Mapping[Tab, TabState]
    faults: list[Fault]
    summary: list[SummaryLine]
    template_version: ServiceTemplateVersion | None
    values: dict[str, Any] = field(repr=False)

    @property
    def is_ready(self) -> bool:
        return not self.faults

    def faults_of(self, tab: Tab) -> list[Fault]:
        return [each for each in self.faults if each.tab is tab]


@dataclass(frozen=True, slots=True)
class Verdict:
    """On one field as it is typed: `message` is the fault, or when `ok` a quiet confirmation."""

    ok: bool
    message: str = ""


@dataclass(frozen=True, slots=True)
class Verdicts:
    """On what is typed. `fields` has those that were typed and are not empty."""

    fields: Mapping[str, Verdict]
    short_name: str = ""
    """A suggestion that is free, while nothing is typed in its field."""
    login: str = ""
    """The final ID, as soon as user name and suffix are right."""
    suffix: DomainName | None = None
    ani: PhoneNumber | None = None
    strength: Strength | None = None


class StaleDraft(Conflict):
    """Another window changed the same tab since; nothing of what was typed here is kept yet.

    `current` is the draft as it is stored, `stored` and `typed` hold both texts of the fields that
    differ. Saving `typed` again with `current.draft_version` goes on with this window's.
    `had_password`: a password was typed, and has to be typed again.
    """

    def __init__(
        self,
        current: SubscriptionRequest,
        tab: Tab | None,
        stored: Mapping[str, str],
        typed: Mapping[str, str],
        *,
        had_password: bool,
    ) -> None:
        super().__init__("This registration was changed in another window since you opened it.")
        self.current = current
        self.tab = tab
        self.stored = stored
        self.typed = typed
        self.had_password = had_password


class NotEditable(Conflict):
    """It was submitted already; `request_id` has a page in Tenant Creation Management."""

    def __init__(self, request_id: int) -> None:
        super().__init__("This registration was submitted already.")
        self.request_id = request_id


def start_draft(
    actor: Actor, *, invitation_id: int | None = None, template_id: int | None = None
) -> SubscriptionRequest:
    """Begin a registration; an invitation presets its template.

    Without `invitation_id`, a prospect's accepted invitation that has led to no request yet is
    used. Raises NotFound for an invitation of somebody else or a template that is not offered, and
    Conflict when the actor has too many drafts.
    """
    raise NotImplementedError


def get_draft(actor: Actor, request_id: int) -> SubscriptionRequest:
    """The actor's own draft. Raises NotFound, and NotEditable when it was submitted."""
    raise NotImplementedError


def list_drafts(actor: Actor) -> list[SubscriptionRequest]:
    """The actor's own drafts, the one changed last first."""
    raise NotImplementedError


def form_values(request: SubscriptionRequest, tab: Tab) -> dict[str, str]:
    """What the fields of a tab show: what was typed, or what is prefilled. Never a password.

    On the template tab the options of every template that was looked at are in it, by field.
    """
    raise NotImplementedError


def has_password(request: SubscriptionRequest) -> bool:
    """Whether a good password is set."""
    return request.password_hash is not None


def save_tab(
    actor: Actor,
    request_id: int,
    tab: Tab,
    typed: Mapping[str, str],
    *,
    draft_version: int,
    password: str = "",
    confirmation: str = "",
) -> SubscriptionRequest:
    """Keep what was typed on a tab, right or wrong; fields that are not in `typed` stay.

    `draft_version` is that of the page. When another window changed this very tab since,
    StaleDraft is raised. A change of other tabs loses nothing: then the draft that is returned is
    more than one version ahead of `draft_version`. Saving what is there already changes nothing.

    The password that was typed last counts: a good one is hashed and sealed, a refused one leaves
    none set, with a fault that `check` tells until a good one is typed. Both fields empty leave it
    as it is.
    """
    raise NotImplementedError


def check(request: SubscriptionRequest) -> DraftCheck:
    """Everything that is wrong or missing, by tab, and what is chosen so far."""
    raise NotImplementedError


def check_field(actor: Actor, request_id: int, tab: Tab, typed: Mapping[str, str]) -> Verdicts:
    """Judge what is being typed on a tab; nothing is saved.

    `typed` may be one field or all, "password" and "confirmation" among them. What is not in it is
    taken from the draft.
    """
    raise NotImplementedError


def discard(actor: Actor, request_id: int) -> None:
    """Delete a draft with all that was typed. Raises Conflict for one that was submitted before."""
    raise NotImplementedError


def delete_stale_drafts() -> int:
    """Delete drafts that nobody touched for 30 days, some at a time; how many that were."""
    raise NotImplementedError
