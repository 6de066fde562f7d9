"""Create Tenant: a draft without faults becomes a subscription request, once.

One transaction takes the draft in the version that was checked, holds its names by entering
SUBMITTED, then looks once more at the customers: whoever else holds a name at that moment has
committed it either in an open request, where a unique index refuses ours, or in a customer, where
the look finds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from extensions import db
from models import Customer, RequestState, StartRule, SubscriptionRequest, table_of, utcnow
from services import provisioning, provisioning_policy, registration_drafts, request_notifications
from services.actors import Actor
from services.errors import Conflict, ServiceError
from services.registration_drafts import DraftCheck, StaleDraft
from services.request_states import EDITABLE, HOLDS_NAMES
from services.request_transitions import Moved, count, move
from services.transactions import run_transaction

_TRIES = 5
MOST_UNSEEN = 3
"""Tenants that a prospect gets without anybody of the provider looking at one."""

_MANY = f"After {MOST_UNSEEN} registrations by one person the provider looks at the further ones."
_NO_WINDOW = "No off-peak hours are planned, so the provider chooses when to start."


class DraftFaults(ServiceError):
    """The draft cannot be submitted yet; `check` has every fault."""

    def __init__(self, check: DraftCheck) -> None:
        super().__init__("Some details are missing or need a change.")
        self.check = check


class Taken(Exception):
    """Somebody took a name, or changed the draft, since it was checked."""


@dataclass(frozen=True, slots=True)
class _Draft:
    """The draft as it was read and checked."""

    id: int
    state: RequestState
    version: int
    draft_version: int
    group_id: int | None
    submitted_at: datetime | None


def submit(actor: Actor, request_id: int, *, draft_version: int) -> SubscriptionRequest:
    """Check everything again and submit; pressed again, the request is returned as it is.

    A template with approval waits for it, and so does every one after MOST_UNSEEN of a prospect's;
    others are scheduled by their start rule, or wait for the provider, too, when there are no
    off-peak hours to start in. Raises DraftFaults, StaleDraft
    when another window changed the draft since, NotFound and Forbidden.
    """
    for _ in range(_TRIES):
        request = registration_drafts.find_own(actor, request_id)
        if request.state not in EDITABLE:
            return request
        if request.draft_version != draft_version:
            raise StaleDraft(request, None, {}, {})
        checked = registration_drafts.check(request)
        version = checked.template_version
        if not checked.is_ready or version is None:
            raise DraftFaults(checked)
        draft = _Draft(
            request.id,
            request.state,
            request.version,
            request.draft_version,
            request.group_id,
            request.submitted_at,
        )
        work = partial(
            _submit,
            actor=actor,
            draft=draft,
            values=checked.values,
            needs_approval=version.needs_approval,
            rule=version.start_rule,
        )
        db.session.commit()  # Gives its connection back, which the transaction below may need.
        try:
            moved = run_transaction(work)
        except (Taken, IntegrityError, Conflict):
            continue
        follow_up(moved)
        return registration_drafts.find_own(actor, request_id)
    raise Conflict(
        "Others are registering tenants with the same names at this moment. Try again in a minute."
    )


def _submit(
    connection: sa.Connection,
    *,
    actor: Actor,
    draft: _Draft,
    values: dict[str, Any],
    needs_approval: bool,
    rule: StartRule,
) -> list[Moved]:
    _take(connection, draft)
    _change_group(connection, draft, values["group_id"])
    return enter(
        connection,
        actor,
        draft.id,
        draft.state,
        version=draft.version,
        values={"comment": "", "submitted_at": draft.submitted_at or utcnow(), **values},
        needs_approval=needs_approval,
        rule=rule,
    )


def enter(
    connection: sa.Connection,
    actor: Actor,
    request_id: int,
    state: RequestState,
    *,
    version: int,
    values: dict[str, Any],
    needs_approval: bool,
    rule: StartRule,
) -> list[Moved]:
    """Take what was checked through SUBMITTED to what follows, in the caller's transaction.

    `values` are its columns. Raises Taken, or the database's IntegrityError, when somebody has one
    of the names, and Conflict when the request is not as it was seen. After the commit, hand the
    result to `follow_up`.
    """
    submitted = move(
        connection,
        request_id,
        state,
        RequestState.SUBMITTED,
        actor=actor,
        version=version,
        **values,
    )
    _look_at_customers(connection, values)
    to_state, reason, further = _next(
        connection,
        utcnow(),
        needs_approval=needs_approval,
        rule=rule,
        has_many=_has_many(connection, actor, request_id),
    )
    waits = move(
        connection,
        request_id,
        RequestState.SUBMITTED,
        to_state,
        actor=actor,
        reason=reason,
        **further,
    )
    return [submitted, waits]


def _take(connection: sa.Connection, draft: _Draft) -> None:
    """Let one of several presses go on; the others find the draft's version gone."""
    request = table_of(SubscriptionRequest)
    taken = connection.execute(
        sa.update(request)
        .where(
            request.c.id == draft.id,
            request.c.state == draft.state,
            request.c.draft_version == draft.draft_version,
        )
        .values(draft_version=draft.draft_version + 1)
    )
    if not taken.rowcount:
        raise Taken


def _change_group(connection: sa.Connection, draft: _Draft, group_id: int) -> None:
    """Another template may belong to another group: the request is counted there from now on."""
    if draft.group_id in {None, group_id}:
        return
    request = table_of(SubscriptionRequest)
    connection.execute(sa.update(request).where(request.c.id == draft.id).values(group_id=group_id))
    if draft.group_id is not None:
        count(connection, draft.group_id, draft.state, RequestState.DRAFT)
    count(connection, group_id, RequestState.DRAFT, draft.state)


def _look_at_customers(connection: sa.Connection, values: dict[str, Any]) -> None:
    taken = sa.select(Customer.id).where(
        sa.or_(
            Customer.name_key == values["name_key"],
            Customer.short_name_key == values["short_name_key"],
            Customer.upn_suffix == values["upn_suffix"],
        )
    )
    if connection.execute(taken.limit(1)).first() is not None:
        raise Taken


def _has_many(connection: sa.Connection, actor: Actor, request_id: int) -> bool:
    """Whether a prospect has as many tenants as he gets by himself; staff has no limit."""
    if actor.is_staff:
        return False
    request = table_of(SubscriptionRequest)
    others = (
        sa.select(request.c.id)
        .where(
            request.c.created_by_id == actor.user_id,
            request.c.id != request_id,
            request.c.state.in_(HOLDS_NAMES | {RequestState.COMPLETED}),
        )
        .limit(MOST_UNSEEN)
    )
    return len(connection.execute(others).all()) >= MOST_UNSEEN


def _next(
    connection: sa.Connection,
    now: datetime,
    *,
    needs_approval: bool,
    rule: StartRule,
    has_many: bool,
) -> tuple[RequestState, str, dict[str, Any]]:
    """State, reason and columns that follow SUBMITTED."""
    if needs_approval or rule is StartRule.AT_APPROVAL:
        return RequestState.AWAITING_APPROVAL, "", {}
    if has_many:
        return RequestState.AWAITING_APPROVAL, _MANY, {}
    if rule is StartRule.IMMEDIATE:
        return RequestState.SCHEDULED, "", {"scheduled_for": now, "off_peak": False}
    try:
        planned = provisioning_policy.plan_start(now, connection)
    except Conflict:
        return RequestState.AWAITING_APPROVAL, _NO_WINDOW, {}
    return RequestState.SCHEDULED, "", {"scheduled_for": planned, "off_peak": True}


def follow_up(moved: list[Moved]) -> None:
    """Mail and start what a submission has brought about. Call it after the commit."""
    request_notifications.start_mail(moved)
    if moved[-1].to_state is RequestState.SCHEDULED:
        provisioning.start(moved[-1].request_id)
