"""What people do with subscription requests: approve, send back, plan, cancel, mend.

Each action is one transaction, in which the request must still be as its actor saw it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import aliased

from extensions import db
from models import (
    RequestState,
    RequestTransition,
    ServiceTemplateVersion,
    StartRule,
    SubscriptionRequest,
    User,
    is_storable,
    utcnow,
)
from services import provisioning, provisioning_policy, request_notifications
from services.actors import Actor, Permission
from services.bulk_rows import among
from services.errors import Conflict, InvalidInput
from services.request_states import AUTHOR_ACTIONS, STAFF_ACTIONS, RequestAction
from services.request_transitions import Moved, move
from services.subscription_requests import get_request, requests_in_scope
from services.transactions import run_transaction

LONGEST_REASON = 2000
MOST_AT_ONCE = 500
"""Requests that one bulk action takes; one transaction must not hold the counters for long."""

LATEST_START = timedelta(days=365)
_THIS_MINUTE = timedelta(minutes=1)

A = RequestAction
S = RequestState
R = SubscriptionRequest


class Start(StrEnum):
    """When provisioning begins: at once, in the next off-peak window, or at a time."""

    NOW = "now"
    OFF_PEAK = "off_peak"
    AT = "at"


_ACTION_OF = {Start.NOW: A.START_NOW, Start.OFF_PEAK: A.SCHEDULE_OFF_PEAK, Start.AT: A.SCHEDULE_AT}


class RequestChanged(Conflict):
    """Somebody was faster: `message` says who, and what the request is now."""


@dataclass(frozen=True, slots=True)
class BulkOutcome:
    """What a bulk action did, by id; `refused` has a sentence for each that it left alone."""

    done: list[int] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)


def available_actions(actor: Actor, request: SubscriptionRequest) -> tuple[RequestAction, ...]:
    """What the actor may do with the request as it is now, the usual one first."""
    if actor.may(Permission.REQUESTS_MANAGE):
        return STAFF_ACTIONS.get(request.state, ())
    if not actor.is_staff and request.created_by_id == actor.user_id:
        return AUTHOR_ACTIONS.get(request.state, ())
    return ()


# --- One request -------------------------------------------------------------------------------
#
# All raise NotFound outside the actor's scope, Forbidden by role, InvalidInput, and RequestChanged
# when the request is not (any more) what `version` was.


def approve(
    actor: Actor,
    request_id: int,
    *,
    version: int,
    start: Start | None = None,
    at: datetime | None = None,
) -> SubscriptionRequest:
    """Accept a request, which plans its start.

    `start`, and the aware time `at`, count where the template leaves the start to the approver;
    otherwise its own rule does. Raises Conflict, too, when no off-peak hours are planned.
    """

    def values(request: SubscriptionRequest, connection: sa.Connection) -> dict[str, Any]:
        if request.template_version is None:
            raise ValueError("a submitted request without a template")
        chosen = _start_by(request.template_version.start_rule, start)
        return {"comment": "", **_plan(chosen, at, connection)}

    return _act(actor, request_id, A.APPROVE, version, S.SCHEDULED, values)


def reject(actor: Actor, request_id: int, *, version: int, reason: str) -> SubscriptionRequest:
    """End a request for good; the contact is told the reason."""
    reason = _checked_reason(reason, required="Write why the request is rejected")
    return _act(actor, request_id, A.REJECT, version, S.REJECTED, _comment(reason), reason)


def ask_for_changes(
    actor: Actor, request_id: int, *, version: int, reason: str
) -> SubscriptionRequest:
    """Give a request back to its registrant with a comment."""
    reason = _checked_reason(reason, required="Write what has to be changed")
    values = _comment(reason)
    return _act(actor, request_id, A.ASK_FOR_CHANGES, version, S.CHANGES_REQUESTED, values, reason)


def start_now(actor: Actor, request_id: int, *, version: int) -> SubscriptionRequest:
    """Let a planned request begin at once."""
    return _schedule(actor, request_id, version, Start.NOW)


def schedule_off_peak(actor: Actor, request_id: int, *, version: int) -> SubscriptionRequest:
    """Move the start to the next off-peak moment. Raises Conflict, too, when there is none."""
    return _schedule(actor, request_id, version, Start.OFF_PEAK)


def schedule_at(
    actor: Actor, request_id: int, *, version: int, at: datetime
) -> SubscriptionRequest:
    """Move the start to the aware time `at`; a refusal names it in its own zone."""
    return _schedule(actor, request_id, version, Start.AT, at)


def cancel(actor: Actor, request_id: int, *, version: int, reason: str = "") -> SubscriptionRequest:
    """End a request for which nothing runs yet; its registrant may, too."""
    reason = _checked_reason(reason)
    return _act(actor, request_id, A.CANCEL, version, S.CANCELLED, _comment(reason), reason)


def retry(actor: Actor, request_id: int, *, version: int) -> SubscriptionRequest:
    """Let a failed run go on at the step that failed."""
    then = provisioning.reopen_run
    return _act(actor, request_id, A.RETRY, version, S.PROVISIONING, and_then=then)


def roll_back(
    actor: Actor, request_id: int, *, version: int, reason: str = ""
) -> SubscriptionRequest:
    """Undo what a failed run has made; then the request ends as cancelled."""
    reason, then = _checked_reason(reason), provisioning.begin_roll_back
    return _act(
        actor, request_id, A.ROLL_BACK, version, S.ROLLING_BACK, reason=reason, and_then=then
    )


Values = Callable[[SubscriptionRequest, sa.Connection], dict[str, Any]]


def _schedule(
    actor: Actor, request_id: int, version: int, start: Start, at: datetime | None = None
) -> SubscriptionRequest:
    def values(request: SubscriptionRequest, connection: sa.Connection) -> dict[str, Any]:
        return _plan(start, at, connection)

    return _act(actor, request_id, _ACTION_OF[start], version, S.SCHEDULED, values)


def _comment(reason: str) -> Values:
    return lambda request, connection: {"comment": reason}


def _act(
    actor: Actor,
    request_id: int,
    action: RequestAction,
    version: int,
    to_state: RequestState,
    values: Values | None = None,
    reason: str = "",
    and_then: Callable[[sa.Connection, int], None] | None = None,
) -> SubscriptionRequest:
    request = get_request(actor, request_id)
    require_role(actor, request, action)
    if action not in available_actions(actor, request):
        raise _changed(actor, request)

    def work(connection: sa.Connection) -> Moved:
        moved = move(
            connection,
            request_id,
            request.state,
            to_state,
            actor=actor,
            reason=reason,
            version=version,
            **(values(request, connection) if values else {}),
        )
        if and_then is not None:
            and_then(connection, request_id)
        return moved

    try:
        moved = run_transaction(work)
    except Conflict:
        now = get_request(actor, request_id)
        if now.version == version:
            raise
        raise _changed(actor, now) from None
    _go_on([moved])
    return get_request(actor, request_id)


def require_role(actor: Actor, request: SubscriptionRequest, action: RequestAction) -> None:
    """Raise Forbidden unless the actor may do this to the request in some state."""
    is_author = not actor.is_staff and request.created_by_id == actor.user_id
    if not (is_author and any(action in each for each in AUTHOR_ACTIONS.values())):
        actor.require(Permission.REQUESTS_MANAGE)


def _go_on(moves: Iterable[Moved]) -> None:
    """After the commit: mail what was noted, and look at what may run now."""
    moves = list(moves)
    request_notifications.start_mail(moves)
    at_work = [each.request_id for each in moves if each.to_state in _LOOKED_AT]
    for request_id in at_work:
        provisioning.start(request_id)


_LOOKED_AT = frozenset({S.SCHEDULED, S.PROVISIONING, S.ROLLING_BACK})


# --- Rules -------------------------------------------------------------------------------------


def _start_by(rule: StartRule, chosen: Start | None) -> Start:
    match rule:
        case StartRule.IMMEDIATE:
            return Start.NOW
        case StartRule.OFF_PEAK:
            return Start.OFF_PEAK
        case StartRule.AT_APPROVAL:
            if chosen is None:
                raise InvalidInput("start", "Choose when provisioning starts.")
            return chosen


def _plan(start: Start, at: datetime | None, connection: sa.Connection) -> dict[str, Any]:
    now = utcnow()
    match start:
        case Start.NOW:
            return {"scheduled_for": now}
        case Start.OFF_PEAK:
            planned = provisioning_policy.plan_start(now, connection)
            return {"scheduled_for": planned, "off_peak": True}
        case Start.AT:
            return {"scheduled_for": _checked_time(at, now)}


def _checked_time(at: datetime | None, now: datetime) -> datetime:
    if at is None:
        raise InvalidInput("at", "Choose the day and the time at which provisioning starts.")
    latest = (now + LATEST_START).astimezone(at.tzinfo)
    until = f"{latest.day} {latest:%B %Y, %H:%M}"
    shown = f"{at.day} {at:%B %Y, %H:%M %Z}"
    if at < now - _THIS_MINUTE:
        raise InvalidInput("at", f"{shown} has passed. Choose a time from now until {until}.")
    if at > now + LATEST_START:
        raise InvalidInput(
            "at", f"{shown} is more than a year ahead. Choose a time from now until {until}."
        )
    return at


def _checked_reason(reason: str, *, required: str = "") -> str:
    reason = reason.replace("\r\n", "\n").replace("\r", "\n").strip()
    if required and not reason:
        raise InvalidInput("reason", f"{required}. The contact of the request is told.")
    if len(reason) > LONGEST_REASON:
        raise InvalidInput(
            "reason",
            f"The text has {len(reason):,} characters. The limit is {LONGEST_REASON:,}.",
        )
    if not is_storable(reason):
        raise InvalidInput(
            "reason", "The text contains a character that cannot be kept. Type it by hand."
        )
    return reason


# --- Several at once ---------------------------------------------------------------------------


def approve_many(
    actor: Actor,
    chosen: Mapping[int, int],
    *,
    start: Start | None = None,
    at: datetime | None = None,
) -> BulkOutcome:
    """Approve up to MOST_AT_ONCE requests, `chosen` by id with the version that was seen.

    `start` and `at` are for those whose templates leave the start to the approver. One transaction;
    those that changed meanwhile are left alone and told. Raises Forbidden, InvalidInput.
    """
    if at is not None or start is Start.AT:
        _checked_time(at, utcnow())

    def values(row: sa.Row[Any], connection: sa.Connection) -> dict[str, Any]:
        return {"comment": "", **_plan(_start_by(row.start_rule, start), at, connection)}

    return _act_on_many(actor, chosen, A.APPROVE, values)


def schedule_many(
    actor: Actor, chosen: Mapping[int, int], *, start: Start, at: datetime | None = None
) -> BulkOutcome:
    """Plan up to MOST_AT_ONCE requests anew, as `approve_many`."""
    if start is Start.AT:
        _checked_time(at, utcnow())

    def values(row: sa.Row[Any], connection: sa.Connection) -> dict[str, Any]:
        return _plan(start, at, connection)

    return _act_on_many(actor, chosen, _ACTION_OF[start], values)


def _act_on_many(
    actor: Actor,
    chosen: Mapping[int, int],
    action: RequestAction,
    values: Callable[[sa.Row[Any], sa.Connection], dict[str, Any]],
) -> BulkOutcome:
    actor.require(Permission.REQUESTS_MANAGE)
    if not chosen:
        raise InvalidInput("requests", "No request is chosen. Tick at least one.")
    if len(chosen) > MOST_AT_ONCE:
        raise InvalidInput(
            "requests", f"{len(chosen):,} requests are chosen. The limit is {MOST_AT_ONCE:,}."
        )

    def work(connection: sa.Connection) -> tuple[list[Moved], dict[int, str]]:
        moves, refused = [], dict.fromkeys(chosen, "")
        for row in _lock(connection, actor, chosen):
            if action not in STAFF_ACTIONS.get(row.state, ()):
                continue
            try:
                to_be = values(row, connection)
            except (Conflict, InvalidInput) as error:
                refused[row.id] = error.message
                continue
            with suppress(Conflict):
                moves.append(
                    move(
                        connection,
                        row.id,
                        row.state,
                        S.SCHEDULED,
                        actor=actor,
                        version=chosen[row.id],
                        **to_be,
                    )
                )
                del refused[row.id]
        return moves, refused

    moves, refused = run_transaction(work)
    _go_on(moves)
    changed = _describe_changes(actor, [each for each, why in refused.items() if not why])
    gone = "There is no such request, or it is not yours to see."
    return BulkOutcome(
        [each.request_id for each in moves],
        {each: why or changed.get(each, gone) for each, why in refused.items()},
    )


def _lock(connection: sa.Connection, actor: Actor, ids: Iterable[int]) -> list[sa.Row[Any]]:
    """The requests in scope, held until the end of the transaction.

    They are locked by id and given by group, the order in which counters are then locked: two bulk
    actions at once wait for each other and do not block one another.
    """
    rows: Sequence[Any] = connection.execute(
        sa.select(R.id, R.state, R.version, R.group_id, ServiceTemplateVersion.start_rule)
        .join(ServiceTemplateVersion, ServiceTemplateVersion.id == R.template_version_id)
        .where(among(connection, R.id.expression, ids), requests_in_scope(actor))
        .order_by(R.id)
        .with_for_update(of=R)
    ).all()
    return sorted(rows, key=lambda row: (row.group_id or 0, row.id))


# --- Who was faster ----------------------------------------------------------------------------

NOW_WORDS: Mapping[RequestState, str] = {
    S.DRAFT: "is a draft",
    S.SUBMITTED: "has been submitted",
    S.AWAITING_APPROVAL: "waits for approval",
    S.CHANGES_REQUESTED: "is with its registrant for changes",
    S.SCHEDULED: "is scheduled",
    S.PROVISIONING: "is being provisioned",
    S.FAILED: "has failed",
    S.ROLLING_BACK: "is being rolled back",
    S.COMPLETED: "is completed",
    S.REJECTED: "is rejected",
    S.CANCELLED: "is cancelled",
}


def _changed(actor: Actor, request: SubscriptionRequest) -> RequestChanged:
    said = _describe_changes(actor, [request.id])[request.id]
    return RequestChanged(f"{said} What you asked for was not done.")


def _describe_changes(actor: Actor, request_ids: list[int]) -> dict[int, str]:
    """A sentence for each: who changed it last, and what it is now."""
    if not request_ids:
        return {}
    line, each = aliased(RequestTransition), aliased(RequestTransition)
    newest = sa.select(sa.func.max(each.id)).where(each.request_id == R.id).scalar_subquery()
    rows = db.session.execute(
        sa.select(R.id, R.state, line.actor_id, User)
        .select_from(R)
        .outerjoin(line, line.id == newest)
        .outerjoin(User, User.id == line.actor_id)
        .where(among(db.session.connection(), R.id.expression, request_ids))
        .where(requests_in_scope(actor))
    )
    said = {}
    for row in rows:
        now = NOW_WORDS[row.state]
        if row.actor_id is not None and row.actor_id == actor.user_id:
            said[row.id] = f"You changed this request in the meantime: it {now}."
        elif row.actor_id is None:
            said[row.id] = f"This request has gone on in the meantime: it {now}."
        else:
            who = row.User.full_name if actor.is_staff else "The provider"
            said[row.id] = f"{who} changed this request in the meantime: it {now}."
    return said
