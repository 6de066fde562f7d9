"""Jobs of the delivery engine."""

from __future__ import annotations

from extensions import Queues, db, queues
from models import Lane, Mailing
from services import deliveries

_BEFORE_BULK = [name for name in Queues.NAMES if name != Lane.BULK.value]


def deliver_mailing(mailing_id: int) -> None:
    """Send a mailing's due deliveries for one time slice, and come back for the rest.

    Triggered by the confirmation, by resume and retry, by itself and by the sweep. Idempotent: the
    rows decide what is left. A crash leaves a claim that expires; the sweep then starts this again.
    """
    mailing = db.session.get(Mailing, mailing_id)
    if mailing is None:
        return
    lane = mailing.lane
    db.session.rollback()

    def interrupted() -> bool:
        return lane is Lane.BULK and any(queues[name].count for name in _BEFORE_BULK)

    if deliveries.deliver_mailing(mailing_id, interrupted):
        queues.enqueue(lane.value, "jobs.deliveries.deliver_mailing", mailing_id)
