"""Jobs of the delivery engine."""

from __future__ import annotations

import time
from contextlib import nullcontext

from extensions import Queues, db, get_settings, queues
from jobs.sweeping import sweeping
from models import Lane, Mailing
from services import deliveries, webhook_deliveries, welcome_mails

_BEFORE_BULK = Queues.NAMES[: Queues.NAMES.index("webhooks")]
"""What somebody waits for; webhooks can wait until a slice has ended."""
_DELIVER = "jobs.deliveries.deliver_mailing"


def deliver_mailing(mailing_id: int) -> None:
    """Send a mailing's due deliveries for one time slice, and come back for the rest.

    While nothing else waits it goes on at once: to come back costs the connections, what had been
    claimed and a moment of both cores. So it sweeps meanwhile, too.

    Triggered by the confirmation, by resume and retry, by itself and by the sweep. Idempotent: the
    rows decide what is left. A crash leaves a claim that expires; the sweep then starts this again.
    """
    mailing = db.session.get(Mailing, mailing_id)
    if mailing is None:
        return
    lane = mailing.lane
    db.session.rollback()

    def interrupted() -> bool:
        return lane is Lane.BULK and queues.makes_room(_BEFORE_BULK)

    def others_wait() -> bool:
        return (
            queues.is_stopping()
            or queues.holds_other_work(_DELIVER, mailing_id)
            or bool(webhook_deliveries.list_due())
        )

    with sweeping() if lane is Lane.BULK else nullcontext():
        goes_on = deliveries.deliver_mailing(mailing_id, interrupted, others_wait)
    webhook_deliveries.start_waiting()
    if goes_on:
        queues.enqueue(lane.value, _DELIVER, mailing_id)


def deliver_waiting(lane: str) -> None:
    """Send the small mailings of a lane that nobody is at, for one time slice.

    Triggered by whoever accepts one, by itself and by the sweep. Idempotent, like
    `deliver_mailing`, which it does for one after the other.
    """
    queues.begin_looking(lane)
    ends_at = time.monotonic() + get_settings().delivery_slice_seconds
    while welcome_mails.begin_accepted():
        pass
    for mailing_id in deliveries.list_unattended(Lane(lane)):
        if time.monotonic() >= ends_at or deliveries.deliver_mailing(mailing_id):
            queues.wake(lane)
            return
