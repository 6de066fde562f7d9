"""Steering a mailing: pause, resume, cancel, try the failed ones again."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from extensions import db
from models import (
    Delivery,
    DeliveryState,
    Mailing,
    MailingState,
    utcnow,
)
from models.mailings import COUNTERS
from services.actors import Actor, Permission
from services.delivery_claims import cancel_waiting
from services.errors import Conflict
from services.mailings import record_mailing_event


def pause_mailing(actor: Actor, mailing: Mailing) -> None:
    """Stop handing out deliveries; those under way end. Raises Conflict unless it runs."""
    _change_state(actor, mailing, {MailingState.RUNNING}, MailingState.PAUSED, "mailing.paused")


def resume_mailing(actor: Actor, mailing: Mailing) -> None:
    """Go on; the caller enqueues `deliver_mailing`. Raises Conflict unless it is paused."""
    _change_state(actor, mailing, {MailingState.PAUSED}, MailingState.RUNNING, "mailing.resumed")


def cancel_mailing(actor: Actor, mailing: Mailing) -> None:
    """Cancel what waits; mails that may already be with the server are finished first.

    Raises Conflict unless the mailing is open.
    """
    _change_state(
        actor,
        mailing,
        {MailingState.RUNNING, MailingState.PAUSED},
        MailingState.CANCELLING,
        "mailing.cancelled",
        and_then=cancel_waiting,
    )


def retry_failed(actor: Actor, mailing: Mailing) -> int:
    """Put the failed deliveries back in line with new credentials; the caller enqueues.

    Returns how many. Raises Conflict when none has failed or the mailing was cancelled.
    """
    actor.require(Permission.MAILINGS_SEND)
    connection = db.session.connection()
    retried = connection.execute(
        sa.update(Delivery)
        .where(Delivery.mailing_id == mailing.id, Delivery.state == DeliveryState.FAILED)
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


def _change_state(
    actor: Actor,
    mailing: Mailing,
    allowed: set[MailingState],
    state: MailingState,
    event: str,
    and_then: Any = None,
) -> None:
    actor.require(Permission.MAILINGS_SEND)
    connection = db.session.connection()
    changed = connection.execute(
        sa.update(Mailing)
        .where(Mailing.id == mailing.id, Mailing.state.in_(allowed))
        .values(state=state)
    ).rowcount
    if not changed:
        db.session.rollback()
        db.session.refresh(mailing)
        raise Conflict(f"This mailing is {mailing.state}, so this cannot be done any more.")
    if and_then is not None:
        and_then(connection, mailing.id)
    record_mailing_event(actor, mailing, event, {name: getattr(mailing, name) for name in COUNTERS})
    db.session.commit()
