"""Subscription requests: who sees which, the list of Tenant Creation Management, its counters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import joinedload

from extensions import db
from models import (
    ApiCredential,
    Group,
    ProvisioningRun,
    ProvisioningStep,
    RequestCount,
    RequestState,
    RequestTransition,
    RunState,
    ServiceTemplateVersion,
    StepName,
    StepState,
    SubscriptionRequest,
    fold,
    is_storable,
    prefix_range,
)
from services.actors import Actor, Permission, groups_given_to, groups_of
from services.audit_events import record_event
from services.bulk_rows import among
from services.csv_export import as_text
from services.errors import NotFound
from services.paging import Page, Strand, merged_page, parse_time_key
from services.request_states import ENDED, Waiting, waiting_for

S = RequestState
R = SubscriptionRequest

SEARCH_CAP = 500
"""Matches that a search takes, so that a short term costs as little as a long one."""

OWN_CAP = 2000

_SUBMITTED = tuple(state for state in RequestState if state is not S.DRAFT)
_OPEN = tuple(state for state in _SUBMITTED if state not in ENDED)


class RequestSort(StrEnum):
    """Orders of the list. LONGEST_WAITING is of open requests alone, by their last change."""

    NEWEST = "newest"
    OLDEST = "oldest"
    NAME = "name"
    LONGEST_WAITING = "waiting"


@dataclass(frozen=True, slots=True)
class RequestFilter:
    """What the list is asked for; the same values stand in its URL."""

    search: str = ""
    waiting: Waiting | None = None
    state: RequestState | None = None
    group_id: int | None = None
    sort: RequestSort = RequestSort.NEWEST

    @property
    def is_filtered(self) -> bool:
        return bool(
            self.search.strip()
            or self.waiting
            or self.state
            or self.group_id
            or self.sort is RequestSort.LONGEST_WAITING
        )


@dataclass(frozen=True, slots=True)
class RequestPage(Page[SubscriptionRequest]):
    """A page of the list; `is_cut` where more than SEARCH_CAP requests match the search."""

    is_cut: bool = False


# --- Scope -----------------------------------------------------------------------------------


def requests_in_scope(actor: Actor) -> sa.ColumnElement[bool]:
    """The condition on `subscription_requests` that keeps an actor to what is his.

    Prospects see what they made; staff what was submitted in their groups, and their own drafts.
    """
    if not actor.may(Permission.REQUESTS_READ):
        return sa.false()
    own = _is_own(actor)
    if not actor.is_staff:
        return own
    submitted = R.state != S.DRAFT
    if not actor.all_groups:
        submitted &= R.group_id.in_(groups_of(actor))
    return submitted | own & (R.state == S.DRAFT)


def _is_own(actor: Actor) -> sa.ColumnElement[bool]:
    """Whether the actor made a request himself. An API credential acts as staff: it owns none."""
    return sa.false() if actor.user_id is None else R.created_by_id == actor.user_id


def _is_others(actor: Actor) -> sa.ColumnElement[bool]:
    """The opposite, for requests that a credential made as well: those have no author."""
    return sa.true() if actor.user_id is None else R.created_by_id.is_distinct_from(actor.user_id)


def get_request(actor: Actor, request_id: int) -> SubscriptionRequest:
    """A request with what its page shows. Raises Forbidden by role, NotFound outside the scope."""
    actor.require(Permission.REQUESTS_READ)
    found = db.session.scalar(
        sa.select(R)
        .where(R.id == request_id, requests_in_scope(actor))
        .options(
            *_LISTED,
            joinedload(R.template_version).selectinload(ServiceTemplateVersion.options),
            joinedload(R.template_version).selectinload(ServiceTemplateVersion.bundles),
        )
        .execution_options(populate_existing=True)
    )
    if found is None:
        raise NotFound("There is no such request, or it is not yours to see.")
    return found


def get_request_of(actor: Actor, group: Group, request_id: int) -> SubscriptionRequest:
    """A submitted request of `group`, as `get_request` gives it."""
    found = get_request(actor, request_id)
    if found.group_id != group.id or found.state is S.DRAFT:
        raise NotFound(f"The group {group.groupno} has no such request.")
    return found


def get_requests(actor: Actor, request_ids: Iterable[int]) -> list[SubscriptionRequest]:
    """Those of the requests that are in the actor's scope, in the order of `request_ids`."""
    actor.require(Permission.REQUESTS_READ)
    wanted = list(request_ids)
    rows = db.session.scalars(
        sa.select(R)
        .where(among(db.session.connection(), R.id.expression, wanted), requests_in_scope(actor))
        .options(*_LISTED)
        .execution_options(populate_existing=True)
    )
    found = {row.id: row for row in rows}
    return [found[each] for each in wanted if each in found]


_LISTED = (
    joinedload(R.template_version).joinedload(ServiceTemplateVersion.template),
    joinedload(R.group),
    joinedload(R.customer),
    joinedload(R.created_by),
    joinedload(R.credential).load_only(ApiCredential.name),
)


def has_submitted(actor: Actor) -> bool:
    """Whether the actor has asked for a tenant himself; drafts do not count."""
    own = sa.select(R.id).where(_is_own(actor), R.state.in_(_SUBMITTED))
    return db.session.execute(own.limit(1)).first() is not None


def list_groups(actor: Actor) -> list[Group]:
    """The groups whose requests a member of staff sees, by number; none for others."""
    if not actor.is_staff:
        return []
    query = sa.select(Group).order_by(Group.groupno)
    if not actor.all_groups:
        query = query.where(Group.id.in_(groups_of(actor)))
    return list(db.session.scalars(query))


def waiting_of(actor: Actor, request: SubscriptionRequest) -> Waiting:
    """The word for where a request stands, as the actor sees it."""
    is_author = actor.user_id is not None and request.created_by_id == actor.user_id
    return waiting_for(request.state, is_staff=actor.is_staff, is_author=is_author)


# --- The list --------------------------------------------------------------------------------


def list_requests(
    actor: Actor, wanted: RequestFilter, *, size: int = 25, cursor: str = ""
) -> RequestPage:
    """A page of the requests in the actor's scope, with template, group and author loaded.

    Costs the same however many there are: indexes hold the requests of a state, and of a group's
    state, in each order, and the page is merged from those. Raises Forbidden.
    """
    actor.require(Permission.REQUESTS_READ)
    matches, is_cut = None, False
    if wanted.search.strip():
        matches, is_cut = _search(actor, wanted)
    page = merged_page(
        lambda statement: db.session.execute(statement).all(),
        _strands(actor, wanted, matches),
        load=lambda ids: get_requests(actor, ids),
        parse_key=str if wanted.sort is RequestSort.NAME else parse_time_key,
        descending=wanted.sort is RequestSort.NEWEST,
        size=size,
        cursor=cursor,
    )
    return RequestPage(page.rows, page.previous, page.next, is_cut)


_KEYS: Mapping[RequestSort, sa.ColumnElement[Any]] = {
    RequestSort.NEWEST: R.submitted_at.expression,
    RequestSort.OLDEST: R.submitted_at.expression,
    RequestSort.NAME: R.name_key.expression,
    RequestSort.LONGEST_WAITING: R.changed_at.expression,
}
_SEARCHED = (R.name_key, R.short_name_key, R.upn_suffix, R.contact_email_key)


def _strands(actor: Actor, wanted: RequestFilter, matches: list[int] | None) -> list[Strand]:
    """The parts that the list is merged from, each in the order of an index or short."""
    row_id, key = R.id.expression, _KEYS[wanted.sort]

    def short(ids: list[int]) -> Strand:
        # What has not been submitted has its place by its beginning.
        started = sa.func.coalesce(R.submitted_at, R.created_at)
        is_by_time = wanted.sort in (RequestSort.NEWEST, RequestSort.OLDEST)
        found = among(db.session.connection(), row_id, ids)
        return Strand(sa.select(R).where(found), started if is_by_time else key, row_id)

    if matches is not None:
        return [short(matches)]
    return [
        short(_find_own(actor, wanted)),
        *(Strand(sa.select(R).where(part), key, row_id) for part in _parts(actor, wanted)),
    ]


def _parts(actor: Actor, wanted: RequestFilter) -> list[sa.ColumnElement[bool]]:
    """Of staff: what was submitted in their groups, each part with its values in an index."""
    if not actor.is_staff:
        return []
    groups: dict[RequestState, list[int]] | None = None
    if wanted.group_id is not None or not actor.all_groups:
        groups = _find_groups_with(actor, wanted.group_id)
    parts = []
    for state in _states_of(wanted, _SUBMITTED):
        part = R.state == state
        if wanted.waiting is not None:
            if waiting_for(state, is_staff=True, is_author=False) is not wanted.waiting:
                continue
            if waiting_for(state, is_staff=True, is_author=True) is not wanted.waiting:
                part &= _is_others(actor)
        if groups is None:
            parts.append(part)
        else:
            parts += [part & (R.group_id == each) for each in groups.get(state, ())]
    return parts


def _find_own(actor: Actor, wanted: RequestFilter) -> list[int]:
    """What belongs to the list because the actor made it, by the index of authors.

    Of prospects everything, of staff their drafts and what waits for them as its author alone: not
    more than a person makes, so up to OWN_CAP.
    """
    states = []
    for state in _states_of(wanted, tuple(RequestState)):
        word = waiting_for(state, is_staff=actor.is_staff, is_author=True)
        if wanted.waiting not in (None, word):
            continue
        as_other = waiting_for(state, is_staff=actor.is_staff, is_author=False)
        is_among_parts = actor.is_staff and wanted.waiting in (None, as_other)
        if state is S.DRAFT or not is_among_parts:
            states.append(state)
    if not states or actor.user_id is None:
        return []
    query = sa.select(R.id).where(_is_own(actor), R.state.in_(states))
    if actor.is_staff:
        query = query.where(requests_in_scope(actor))
        if wanted.group_id is not None:  # A draft gets its group when it is submitted.
            query = query.where(R.group_id == wanted.group_id, R.state != S.DRAFT)
    return list(db.session.scalars(query.order_by(R.id.desc()).limit(OWN_CAP)))


def _find_groups_with(actor: Actor, group_id: int | None) -> dict[RequestState, list[int]]:
    """By state, the actor's groups that have requests in it; of one group if given."""
    query = sa.select(RequestCount.state, RequestCount.group_id).where(RequestCount.requests > 0)
    if group_id is not None:
        query = query.where(RequestCount.group_id == group_id)
    if not actor.all_groups:
        query = query.where(RequestCount.group_id.in_(groups_of(actor)))
    found: dict[RequestState, list[int]] = {}
    for state, each in db.session.execute(query):
        found.setdefault(state, []).append(each)
    return found


def _states_of(wanted: RequestFilter, states: Sequence[RequestState]) -> list[RequestState]:
    if wanted.state is not None:
        return [state for state in states if state is wanted.state]
    if wanted.sort is not RequestSort.LONGEST_WAITING or wanted.waiting is not None:
        return list(states)
    return [state for state in states if state in _OPEN]


def _search(actor: Actor, wanted: RequestFilter) -> tuple[list[int], bool]:
    """Ids of up to SEARCH_CAP requests that match, and whether there are more.

    What is searched for begins the name, the short name, the UPN suffix or the contact's address,
    or is the number. Each part is read by an index of its own, and no further than the cap.
    """
    term = fold(wanted.search)
    if not is_storable(term):
        return [], False
    lowest, beyond = prefix_range(term)
    own = among(db.session.connection(), R.id.expression, _find_own(actor, wanted))
    begins = sa.or_(*((column >= lowest) & (column < beyond) for column in _SEARCHED))
    selects, parts = [sa.select(R.id).where(own, begins)], _parts(actor, wanted)
    selects += [
        sa.select(
            sa.select(R.id)
            .where(part, column >= lowest, column < beyond)
            .order_by(column, R.id)
            .limit(SEARCH_CAP + 1)
            .subquery()
            .c.id
        )
        for column in _SEARCHED
        for part in parts
    ]
    found = dict.fromkeys(_find_number(actor, wanted, term.removeprefix("#")))
    for start in range(0, len(selects), _SELECTS_AT_ONCE):
        together = sa.union_all(*selects[start : start + _SELECTS_AT_ONCE]).subquery()
        # One request may match in every column.
        some = sa.select(together.c.id).limit((SEARCH_CAP + 1) * len(_SEARCHED))
        found |= dict.fromkeys(db.session.scalars(some))
        if len(found) > SEARCH_CAP:
            return list(found)[:SEARCH_CAP], True
    return list(found), False


_SELECTS_AT_ONCE = 100


def _find_number(actor: Actor, wanted: RequestFilter, number: str) -> list[int]:
    """The request of that number, if the filter shows it."""
    if not (number.isascii() and number.isdecimal() and len(number) < 19):
        return []
    return [
        each.id
        for each in get_requests(actor, [int(number)])
        if wanted.waiting in (None, waiting_of(actor, each))
        and wanted.group_id in (None, each.group_id)
        and each.state in _states_of(wanted, tuple(RequestState))
    ]


@dataclass(frozen=True, slots=True)
class CurrentStep:
    """The step at which a run is, or where it failed: `position` from 1 of `total`."""

    name: StepName
    state: StepState
    position: int
    total: int


def find_current_steps(request_ids: Iterable[int]) -> dict[int, CurrentStep]:
    """By request, the first step of its run that is not behind it; none before and after the run.

    While a run is undone, that is the last step which is not undone yet.
    """
    rows = db.session.execute(
        sa.select(
            ProvisioningRun.request_id,
            ProvisioningRun.state.label("run_state"),
            ProvisioningStep.name,
            ProvisioningStep.state,
        )
        .join(ProvisioningStep, ProvisioningStep.run_id == ProvisioningRun.id)
        .where(ProvisioningRun.request_id.in_(list(request_ids)))
        .order_by(ProvisioningRun.request_id, ProvisioningStep.position)
    )
    found = {}
    for request_id, group in groupby(rows, key=lambda row: row.request_id):
        steps = list(group)
        if steps[0].run_state in (RunState.COMPLETED, RunState.ROLLED_BACK):
            continue
        busy = [n for n, each in enumerate(steps) if each.state in _AT_WORK]
        undone = [n for n, each in enumerate(steps) if each.state is not StepState.DONE]
        at = busy[0] if busy else undone[0] if undone else len(steps) - 1
        step = steps[at]
        found[request_id] = CurrentStep(step.name, step.state, at + 1, len(steps))
    return found


_AT_WORK = (StepState.RUNNING, StepState.WAITING, StepState.FAILED, StepState.UNDOING)


# --- Counters --------------------------------------------------------------------------------


def count_by_waiting(actor: Actor, group_id: int | None = None) -> dict[Waiting, int]:
    """How many requests the list has of each word that they have for the actor, without its search;
    of one group if given. Raises Forbidden."""
    actor.require(Permission.REQUESTS_READ)
    is_staff = actor.is_staff
    counts = dict.fromkeys(Waiting, 0)
    own = _count_own(actor, group_id)
    for state, number in own.items():
        counts[waiting_for(state, is_staff=is_staff, is_author=True)] += number
    if is_staff:
        for state, number in _count_submitted(actor, group_id).items():
            counts[waiting_for(state, is_staff=True, is_author=False)] += number - own[state]
    return counts


def _count_submitted(actor: Actor, group_id: int | None) -> dict[RequestState, int]:
    """Of what staff sees of everybody, by the counters that are kept. Drafts are none of it."""
    statement = _submitted_counts(
        actor.all_groups, actor.credential_id is not None, group_id is not None
    )
    values = {"actor": actor.credential_id or actor.user_id, "group": group_id}
    counts: dict[RequestState, int] = dict.fromkeys(_SUBMITTED, 0)
    for state, number in db.session.connection().execute(statement, values):
        counts[state] = int(number)
    return counts


def _count_own(actor: Actor, group_id: int | None) -> dict[RequestState, int]:
    """Of what the actor made himself, read by the index of authors; of staff his drafts and what
    has another word for its author."""
    counts = dict.fromkeys(RequestState, 0)
    if actor.user_id is not None:  # An API credential acts as staff: it owns none.
        statement = _own_counts(actor.is_staff, actor.all_groups, group_id is not None)
        values = {"actor": actor.user_id, "group": group_id}
        for state, number in db.session.connection().execute(statement, values):
            counts[state] = number
    return counts


@cache
def _submitted_counts(
    all_groups: bool, by_credential: bool, of_group: bool
) -> sa.Select[RequestState, int]:
    """Built once for each kind of reader: building it takes longer than asking."""
    query = sa.select(RequestCount.state, sa.func.sum(RequestCount.requests))
    if of_group:
        query = query.where(RequestCount.group_id == sa.bindparam("group"))
    if not all_groups:
        query = query.where(
            RequestCount.group_id.in_(groups_given_to(sa.bindparam("actor"), by_credential))
        )
    return query.where(RequestCount.state != S.DRAFT).group_by(RequestCount.state)


@cache
def _own_counts(is_staff: bool, all_groups: bool, of_group: bool) -> sa.Select[RequestState, int]:
    query = sa.select(R.state, sa.func.count()).where(R.created_by_id == sa.bindparam("actor"))
    if is_staff:
        query = query.where(sa.or_(*(R.state == state for state in _OTHERWISE_TO_AUTHORS)))
        if not all_groups:
            mine = R.group_id.in_(groups_given_to(sa.bindparam("actor"), False))
            query = query.where(sa.or_(R.state == S.DRAFT, mine))
    if of_group:
        query = query.where(R.group_id == sa.bindparam("group"), R.state != S.DRAFT)
    return query.group_by(R.state)


_OTHERWISE_TO_AUTHORS = (
    S.DRAFT,
    *(
        state
        for state in _SUBMITTED
        if waiting_for(state, is_staff=True, is_author=True)
        is not waiting_for(state, is_staff=True, is_author=False)
    ),
)


# --- The timeline ----------------------------------------------------------------------------

TIMELINE_CAP = 200


def list_transitions(request: SubscriptionRequest) -> list[RequestTransition]:
    """The newest TIMELINE_CAP lines of the timeline, the newest last, with their actors."""
    newest = db.session.scalars(
        sa.select(RequestTransition)
        .where(RequestTransition.request_id == request.id)
        .options(joinedload(RequestTransition.actor))
        .order_by(RequestTransition.id.desc())
        .limit(TIMELINE_CAP)
    )
    return list(newest)[::-1]


# --- Export ----------------------------------------------------------------------------------

EXPORT_HEADER = (
    "Number",
    "Name",
    "Short name",
    "UPN suffix",
    "Administrator",
    "Template",
    "Group",
    "Where it stands",
    "State",
    "Company",
    "Contact",
    "E-mail",
    "Phone",
    "Country",
    "Submitted at (UTC)",
    "Last change at (UTC)",
    "Planned for (UTC)",
    "Ended at (UTC)",
    "Reason or comment",
)

_EXPORTED_AT_ONCE = 500


def export_requests(actor: Actor, wanted: RequestFilter) -> Iterator[tuple[str, ...]]:
    """Rows of EXPORT_HEADER, all that the filter shows in the list's order.

    The export is audited when it begins. Rows are read in pages, so memory stays flat.
    """
    actor.require(Permission.REQUESTS_READ)
    record_event(
        actor, "requests.exported", object_type="request", detail={"filtered": wanted.is_filtered}
    )
    db.session.commit()
    return _export_rows(actor, wanted)


def _export_rows(actor: Actor, wanted: RequestFilter) -> Iterator[tuple[str, ...]]:
    cursor: str | None = ""
    while cursor is not None:
        page = list_requests(actor, wanted, size=_EXPORTED_AT_ONCE, cursor=cursor)
        for each in page.rows:
            values = (
                each.id,
                name_of(each),
                each.short_name,
                each.upn_suffix,
                each.admin_login,
                template_name_of(each),
                each.group.name if each.group else "",
                waiting_of(actor, each),
                each.state,
                each.company,
                each.contact_name,
                each.contact_email,
                each.contact_phone,
                each.country,
                each.submitted_at,
                each.changed_at,
                each.scheduled_for,
                each.ended_at,
                each.comment,
            )
            yield tuple(as_text(value) for value in values)
        db.session.expunge_all()
        cursor = page.next


def name_of(request: SubscriptionRequest) -> str:
    """The tenant's name, as far as it is known."""
    typed = request.draft.get("tenant")
    name = typed.get("name") if isinstance(typed, dict) else None
    return request.name or (name.strip() if isinstance(name, str) else "") or "Draft without a name"


def template_name_of(request: SubscriptionRequest) -> str:
    version = request.template_version
    return version.template.name if version else ""
