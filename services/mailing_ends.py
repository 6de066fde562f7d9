"""How a mailing comes to its end: nothing left to do, or cancelled."""

from __future__ import annotations

from functools import cache

import sqlalchemy as sa

from models import Delivery, DeliveryState, Mailing, MailingState, table_of, utcnow
from models.deliveries import in_state
from services.webhook_events import end_deliveries


def cancel_waiting(connection: sa.Connection, mailing_id: int) -> None:
    """Cancel what waits of a mailing that is being cancelled, but for what is in doubt.

    Rows that a worker is just claiming are passed over, or the two would wait for each other; they
    are cancelled when that worker hands them back.
    """
    waiting = (
        sa.select(Delivery.id)
        .where(
            Delivery.mailing_id == mailing_id,
            in_state(DeliveryState.QUEUED),
            Delivery.in_doubt.is_(False),
        )
        .with_for_update(skip_locked=True)
    )
    if connection.dialect.name == "postgresql":
        waiting = sa.select(waiting.cte("waiting").c.id)
    cancelled = end_deliveries(
        connection,
        sa.update(Delivery)
        .where(Delivery.id.in_(waiting))
        .values(state=DeliveryState.CANCELLED, seal=None, pending_hash=None),
        DeliveryState.CANCELLED,
    )
    connection.execute(
        sa.update(Mailing)
        .where(Mailing.id == mailing_id)
        .values(queued=Mailing.queued - cancelled, cancelled=Mailing.cancelled + cancelled)
    )
    end_mailing_if_done(connection, mailing_id)


def end_mailing_if_done(connection: sa.Connection, mailing_id: int) -> None:
    """Mark the mailing as finished, or as cancelled, once nothing of it is left to do."""
    connection.execute(_end_statement(), {"which": mailing_id, "now": utcnow()})


@cache
def _end_statement() -> sa.Update:
    """Built once, for every chunk asks."""
    mailings = table_of(Mailing)
    columns = mailings.c
    return (
        sa.update(mailings)
        .where(
            columns.id == sa.bindparam("which"),
            columns.queued + columns.sending == 0,
            columns.state.in_([MailingState.RUNNING, MailingState.PAUSED, MailingState.CANCELLING]),
        )
        .values(
            state=sa.case(
                (columns.state == MailingState.CANCELLING, MailingState.CANCELLED.value),
                else_=MailingState.FINISHED.value,
            ),
            finished_at=sa.bindparam("now"),
        )
    )
