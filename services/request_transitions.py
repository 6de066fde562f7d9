"""The one way a request changes its state: row, timeline, counters, notification, audit."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from extensions import get_settings
from models import (
    NotificationKind,
    RequestCount,
    RequestNotification,
    RequestState,
    RequestTransition,
    SubscriptionRequest,
    table_of,
    utcnow,
)
from services.actors import Actor
from services.audit_events import insert_event
from services.errors import Conflict
from services.request_states import ENDED, may_move
from services.transactions import upsert
from services.webhook_events import note_transition

_SOON = timedelta(minutes=2)
_NOTIFIED: dict[RequestState, NotificationKind] = {
    RequestState.SCHEDULED: NotificationKind.SCHEDULED,
    RequestState.COMPLETED: NotificationKind.COMPLETED,
    RequestState.FAILED: NotificationKind.FAILED,
    RequestState.REJECTED: NotificationKind.REJECTED,
    RequestState.CANCELLED: NotificationKind.CANCELLED,
    RequestState.CHANGES_REQUESTED: NotificationKind.CHANGES_REQUESTED,
}

SOMEBODY_ELSE = "Somebody else changed this request a moment ago. Look at what it is now."


@dataclass(frozen=True, slots=True)
class Moved:
    """A transition that was written; `notification_id` is to be mailed after the commit."""

    request_id: int
    transition_id: int
    to_state: RequestState
    notification_id: int | None


def move(
    connection: sa.Connection,
    request_id: int,
    from_state: RequestState,
    to_state: RequestState,
    *,
    actor: Actor,
    reason: str = "",
    version: int | None = None,
    **values: Any,
) -> Moved:
    """Take a request from one state to another in the caller's transaction.

    `values` are further columns of the request, `scheduled_for` among them, with `off_peak=True`
    where the windows chose it. `version` is what the actor saw; without it only the state is
    compared. Raises Conflict when the request is not (any more) as it was seen, and ValueError for
    a way that the state machine does not have.

    After the commit, hand the result to `request_notifications.start_mail`.
    """
    if not may_move(from_state, to_state):
        raise ValueError(f"no way leads from {from_state} to {to_state}")
    now = utcnow()
    request = table_of(SubscriptionRequest)
    values |= {"state": to_state, "version": request.c.version + 1, "changed_at": now}
    if to_state in ENDED:
        values |= {"ended_at": now, "password_seal": None}
    if to_state is RequestState.SCHEDULED:
        values.setdefault("off_peak", False)
    condition = (request.c.id == request_id) & (request.c.state == from_state)
    if version is not None:
        condition &= request.c.version == version
    moved = connection.execute(
        sa.update(request)
        .where(condition)
        .values(**values)
        .returning(
            request.c.group_id,
            request.c.customer_id,
            request.c.contact_email,
            request.c.language,
            request.c.scheduled_for,
        )
    ).one_or_none()
    if moved is None:
        raise Conflict(SOMEBODY_ELSE)
    transition_id = connection.execute(
        sa.insert(RequestTransition)
        .values(
            request_id=request_id,
            from_state=from_state,
            to_state=to_state,
            at=now,
            actor_id=actor.user_id,
            actor_login=actor.login,
            reason=reason,
            scheduled_for=moved.scheduled_for if to_state is RequestState.SCHEDULED else None,
        )
        .returning(RequestTransition.id)
    ).scalar_one()
    count(connection, moved.group_id, from_state, to_state)
    note_transition(connection, moved.group_id, transition_id, now)
    insert_event(
        connection,
        actor,
        f"request.{to_state}",
        customer_id=moved.customer_id,
        group_id=moved.group_id,
        object_type="request",
        object_id=request_id,
        detail={
            "before": {"state": str(from_state)},
            "after": {"state": str(to_state)},
            **({"reason": reason} if reason else {}),
        },
    )
    notification_id = _note_mail(connection, request_id, transition_id, from_state, to_state, moved)
    return Moved(request_id, transition_id, to_state, notification_id)


def count(
    connection: sa.Connection,
    group_id: int,
    from_state: RequestState,
    to_state: RequestState,
    number: int = 1,
) -> None:
    """Keep the counters of a group; drafts are not counted. Rows are locked in order of state."""
    if from_state is to_state:
        return
    table = table_of(RequestCount)
    changes = {from_state: -number, to_state: number}
    for state in sorted(changes):
        if state is RequestState.DRAFT:
            continue
        # Both rows of a way are there from the first request on, so that none is below zero.
        added = upsert(table).values(
            group_id=group_id, state=state, requests=max(changes[state], 0)
        )
        connection.execute(
            added.on_conflict_do_update(
                index_elements=["group_id", "state"],
                set_={"requests": table.c.requests + changes[state]},
            )
        )


def _note_mail(
    connection: sa.Connection,
    request_id: int,
    transition_id: int,
    from_state: RequestState,
    to_state: RequestState,
    moved: sa.Row[Any],
) -> int | None:
    kind = _NOTIFIED.get(to_state)
    if kind is None or not _is_news(connection, request_id, from_state, to_state, moved):
        return None
    sender = get_settings().mail_default_sender
    return connection.execute(
        sa.insert(RequestNotification)
        .values(
            request_id=request_id,
            transition_id=transition_id,
            kind=kind,
            email=moved.contact_email,
            language=moved.language,
            message_id=f"<{secrets.token_hex(16)}@{sender.rpartition('@')[2]}>",
            created_at=utcnow(),
        )
        .returning(RequestNotification.id)
    ).scalar_one()


def _is_news(
    connection: sa.Connection,
    request_id: int,
    from_state: RequestState,
    to_state: RequestState,
    moved: sa.Row[Any],
) -> bool:
    """An immediate start is not announced, and a failure once, however often it is retried."""
    if to_state is RequestState.SCHEDULED:
        planned: datetime = moved.scheduled_for
        return planned > utcnow() + _SOON
    if to_state is RequestState.FAILED:
        told = sa.select(RequestNotification.id).where(
            RequestNotification.request_id == request_id,
            RequestNotification.kind == NotificationKind.FAILED,
        )
        return connection.execute(told.limit(1)).first() is None
    return True
