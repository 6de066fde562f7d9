"""What dead workers held: noted as sent where their journal says so, else back in line.

A worker notes every acceptance in a journal on its own machine before it records a chunk's results.
So after a `kill -9` only the mails whose answer it had not read yet are sent again, one per
connection at most, as the same messages. A claim of a worker on another machine, or one whose
journal is gone, goes back whole.
"""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa

from extensions import db, get_settings
from models import Delivery, DeliveryClaim, DeliveryState, Mailing, MailingState, utcnow
from services import delivery_journal
from services.delivery_claims import HOST, find_mailing_job
from services.delivery_results import PROVED_BY_READER, record_journal
from services.mailing_ends import cancel_waiting, end_mailing_if_done
from services.transactions import run_transaction

_ORPHAN_AGE = timedelta(hours=1)


def expire_claims() -> int:
    """Give back what dead workers held; returns how many deliveries went back in line, in doubt.

    A sealed delivery whose reader has meanwhile signed in with its password has arrived: it ends as
    sent.
    """
    folder = get_settings().var_dir

    def work(connection: sa.Connection) -> tuple[int, list[str]]:
        dead = connection.execute(
            sa.delete(DeliveryClaim)
            .where(DeliveryClaim.expires_at < utcnow())
            .returning(DeliveryClaim.token, DeliveryClaim.mailing_id, DeliveryClaim.worker)
        ).all()
        returned = 0
        for token, mailing_id, worker in sorted(dead, key=lambda claim: claim.mailing_id):
            if worker.rpartition(":")[0] == HOST:
                accepted = delivery_journal.read(folder, token)
                job = find_mailing_job(connection, mailing_id)
                if accepted and job is not None:
                    record_journal(connection, job, token, accepted)
            returned += _give_back(connection, token, mailing_id)
        return returned, [claim.token for claim in dead]

    returned, tokens = run_transaction(work)
    for token in tokens:
        delivery_journal.remove(folder, token)
    return returned


def _give_back(connection: sa.Connection, token: str, mailing_id: int) -> int:
    """End the claim's remaining deliveries where the reader has signed in; the rest waits again."""
    held = sa.and_(
        Delivery.mailing_id == mailing_id,
        Delivery.state == DeliveryState.SENDING,
        Delivery.claim_token == token,
    )
    arrived = connection.execute(
        sa.update(Delivery)
        .where(
            held,
            Delivery.seal.is_not(None),
            Delivery.pending_hash.is_(None),
            sa.exists().where(Mailing.id == Delivery.mailing_id, Mailing.resets_portal_password),
        )
        .values(
            state=DeliveryState.SENT,
            sent_at=utcnow(),
            seal=None,
            claim_token=None,
            in_doubt=False,
            answer=PROVED_BY_READER,
        )
    ).rowcount
    queued = connection.execute(
        sa.update(Delivery)
        .where(held)
        .values(state=DeliveryState.QUEUED, claim_token=None, in_doubt=True)
    ).rowcount
    connection.execute(
        sa.update(Mailing)
        .where(Mailing.id == mailing_id)
        .values(
            sending=Mailing.sending - queued - arrived,
            queued=Mailing.queued + queued,
            sent=Mailing.sent + arrived,
        )
    )
    end_mailing_if_done(connection, mailing_id)
    return queued


def cancel_leftovers() -> None:
    """Cancel what a claim that came to nothing left waiting in mailings being cancelled."""

    def work(connection: sa.Connection) -> None:
        for mailing_id in connection.scalars(
            sa.select(Mailing.id)
            .where(Mailing.state == MailingState.CANCELLING, Mailing.queued > 0)
            .order_by(Mailing.id)
        ).all():
            cancel_waiting(connection, mailing_id)

    run_transaction(work)


def remove_orphaned_journals() -> None:
    """Remove journals whose claim ended while its worker was killed."""
    with db.engine.connect() as connection:
        tokens = set(connection.scalars(sa.select(DeliveryClaim.token)))
    delivery_journal.remove_orphans(get_settings().var_dir, tokens, utcnow() - _ORPHAN_AGE)
