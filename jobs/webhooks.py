"""Jobs that send webhook messages."""

from __future__ import annotations

from redis.exceptions import RedisError

from extensions import Queues, queues
from models import Lane
from services import webhook_deliveries

_QUEUE = "webhooks"
_BEFORE = Queues.NAMES[: Queues.NAMES.index(_QUEUE)]


def send_messages(endpoint_id: int) -> None:
    """Send an endpoint's due messages for one time slice, and come back for the rest.

    Triggered by whatever notes an event, by replays, by itself and by the sweep. Idempotent: the
    rows decide what is left, and an endpoint that another worker holds is left alone. A crash
    leaves a lease that expires; the sweep then starts this again, with the same messages.
    """
    goes_on = webhook_deliveries.send_messages(endpoint_id, lambda: _count(*_BEFORE) > 0)
    # Bulk mail comes after this queue: where it waits, the sweep starts this again a little later.
    if goes_on and not _count(Lane.BULK.value):
        webhook_deliveries.start(endpoint_id)


def _count(*names: str) -> int:
    try:
        return sum(queues[name].count for name in names)
    except RedisError:
        return 0
