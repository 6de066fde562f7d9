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
from models.deliveries import in_state
from services import delivery_journal
from services.delivery_claims import find_mailing_job, machine_name, worker_name
from services.delivery_results import PROVED_BY_READER, record_journal
from services.mailing_ends import cancel_waiting, end_mailing_if_done
from services.transactions import run_transaction
from services.webhook_events import end_deliveries

_ORPHAN_AGE = timedelta(hours=1)
_GRACE_OF_OTHERS = timedelta(seconds=4)


def expire_claims() -> int:
    """Give back what dead workers held; returns how many deliveries went back in line, in doubt.

    Claims of another machine get a few seconds more, for its own workers can read the journal.
    """
    now = utcnow()
    return _recover(
        sa.or_(
            sa.and_(_is_ours(), DeliveryClaim.expires_at < now),
            DeliveryClaim.expires_at < now - _GRACE_OF_OTHERS,
        )
    )


def expire_claims_of_this_machine() -> int:
    """The same for this machine's claims alone; costs one read when there is nothing to do."""
    return _recover(sa.and_(_is_ours(), DeliveryClaim.expires_at < utcnow()))


def recover_claims_of(pid: int) -> int:
    """Give back at once what a child process of this machine held, which is known to be dead."""
    return _recover(DeliveryClaim.worker == worker_name(pid))


def _is_ours() -> sa.ColumnElement[bool]:
    return DeliveryClaim.worker.startswith(f"{machine_name()}:", autoescape=True)


def _recover(which: sa.ColumnElement[bool]) -> int:
    with db.engine.connect() as connection:
        if connection.scalar(sa.select(DeliveryClaim.token).where(which).limit(1)) is None:
            return 0
    folder = get_settings().var_dir

    def work(connection: sa.Connection) -> tuple[int, list[str]]:
        dead = connection.execute(
            sa.delete(DeliveryClaim)
            .where(which)
            .returning(DeliveryClaim.token, DeliveryClaim.mailing_id, DeliveryClaim.worker)
        ).all()
        returned = 0
        for token, mailing_id, worker in sorted(dead, key=lambda claim: claim.mailing_id):
            if worker.startswith(f"{machine_name()}:"):
                _record_journal(connection, token, mailing_id)
            returned += _give_back(connection, token, mailing_id)
        return returned, [claim.token for claim in dead]

    returned, tokens = run_transaction(work)
    for token in tokens:
        delivery_journal.remove(folder, token)
    return returned


def _record_journal(connection: sa.Connection, token: str, mailing_id: int) -> None:
    accepted = delivery_journal.read(get_settings().var_dir, token)
    job = find_mailing_job(connection, mailing_id)
    if accepted and job is not None:
        record_journal(connection, job, token, accepted)


def _give_back(connection: sa.Connection, token: str, mailing_id: int) -> int:
    """Put the claim's remaining deliveries back in line, in doubt; returns how many.

    A sealed one whose reader has meanwhile signed in with its password has arrived and ends as
    sent.
    """
    held = sa.and_(
        Delivery.mailing_id == mailing_id,
        in_state(DeliveryState.SENDING),
        Delivery.claim_token == token,
    )
    arrived = end_deliveries(
        connection,
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
        ),
        DeliveryState.SENT,
    )
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
