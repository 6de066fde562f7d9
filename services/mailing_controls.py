"""Steering a mailing: pause, resume, cancel, try the failed ones again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from extensions import db
from models import (
    Delivery,
    DeliveryState,
    Mailing,
    MailingState,
    utcnow,
)
from models.deliveries import in_state
from models.mailings import COUNTERS
from services.actors import Actor, Permission
from services.errors import Conflict
from services.mailing_ends import cancel_waiting
from services.mailings import record_mailing_event


@dataclass(frozen=True, slots=True)
class Transition:
    """A step that a person can make a mailing take; `and_then` goes on in its transaction."""

    allowed: frozenset[MailingState]
    state: MailingState
    event: str
    and_then: Callable[[sa.Connection, int], None] | None = None


PAUSE = Transition(frozenset({MailingState.RUNNING}), MailingState.PAUSED, "mailing.paused")
RESUME = Transition(frozenset({MailingState.PAUSED}), MailingState.RUNNING, "mailing.resumed")
CANCEL = Transition(
    frozenset({MailingState.RUNNING, MailingState.PAUSED}),
    MailingState.CANCELLING,
    "mailing.cancelled",
    cancel_waiting,
)


def pause_mailing(actor: Actor, mailing: Mailing) -> None:
    """Stop handing out deliveries; those under way end. Raises Conflict unless it runs."""
    _change_and_commit(actor, mailing, PAUSE)


def resume_mailing(actor: Actor, mailing: Mailing) -> None:
    """Go on; the caller enqueues `deliver_mailing`. Raises Conflict unless it is paused."""
    _change_and_commit(actor, mailing, RESUME)


def cancel_mailing(actor: Actor, mailing: Mailing) -> None:
    """Cancel what waits; mails that may already be with the server are finished first.

    Raises Conflict unless the mailing is open.
    """
    _change_and_commit(actor, mailing, CANCEL)


def retry_failed(actor: Actor, mailing: Mailing) -> int:
    """Put the failed deliveries back in line with new credentials; the caller enqueues.

    Returns how many. Raises Conflict when none has failed or the mailing was cancelled.
    """
    actor.require(Permission.MAILINGS_SEND)
    connection = db.session.connection()
    retried = connection.execute(
        sa.update(Delivery)
        .where(Delivery.mailing_id == mailing.id, in_state(DeliveryState.FAILED))
        .values(
            state=DeliveryState.QUEUED,
            attempts=0,
            next_attempt_at=utcnow(),
            message_id=None,
            dated_at=None,
            in_doubt=False,
            application_password_set=False,
            answer_code=None,
            answer="",
        )
    ).rowcount
    changed = connection.execute(
        sa.update(Mailing)
        .where(
            Mailing.id == mailing.id,
            Mailing.state.in_([MailingState.RUNNING, MailingState.PAUSED, MailingState.FINISHED]),
        )
        .values(
            failed=Mailing.failed - retried,
            queued=Mailing.queued + retried,
            state=sa.case(
                (Mailing.state == MailingState.PAUSED, MailingState.PAUSED.value),
                else_=MailingState.RUNNING.value,
            ),
            finished_at=None,
        )
    ).rowcount
    if not retried or not changed:
        db.session.rollback()
        raise Conflict(
            "Nothing in this mailing has failed." if not retried else "This mailing is cancelled."
        )
    record_mailing_event(actor, mailing, "mailing.retried", {"deliveries": retried})
    db.session.commit()
    return retried


def _change_and_commit(actor: Actor, mailing: Mailing, transition: Transition) -> None:
    try:
        change_state(actor, mailing, transition)
    except Conflict:
        db.session.rollback()
        raise
    db.session.commit()


def change_state(actor: Actor, mailing: Mailing, transition: Transition) -> None:
    """Make a mailing take a step, in the caller's transaction.

    Raises Conflict when its state does not allow that; the caller then rolls back.
    """
    actor.require(Permission.MAILINGS_SEND)
    connection = db.session.connection()
    before = mailing.state
    changed = connection.execute(
        sa.update(Mailing)
        .where(Mailing.id == mailing.id, Mailing.state.in_(transition.allowed))
        .values(state=transition.state)
    ).rowcount
    db.session.refresh(mailing)
    if not changed:
        raise Conflict(f"This mailing is {mailing.state}, so this cannot be done any more.")
    counters = {name: getattr(mailing, name) for name in COUNTERS}
    if transition.and_then is not None:
        transition.and_then(connection, mailing.id)
        db.session.refresh(mailing)
    states = {"before": {"state": str(before)}, "after": {"state": str(mailing.state)}}
    record_mailing_event(actor, mailing, transition.event, {**states, **counters})
