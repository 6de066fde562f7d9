"""Jobs of customers."""

from __future__ import annotations

from redis.exceptions import RedisError

from extensions import Queues, queues
from services import customer_follow_ups

_QUEUE = "provisioning"
_BEFORE = Queues.NAMES[: Queues.NAMES.index(_QUEUE)]


def follow_up(customer_id: int) -> None:
    """Do what a change of a customer's state has left to do, for one time slice.

    Triggered by suspending, resuming, deleting and restoring a customer, by itself and by the
    sweep. Idempotent: the row says what is due, and one that is not, or that another worker holds,
    is left alone. Faults of the platform are tried later each time. A crash leaves a row that is
    due again when the lease is over.
    """
    if customer_follow_ups.follow_up(customer_id, _is_somebody_waiting):
        customer_follow_ups.start(customer_id)


def _is_somebody_waiting() -> bool:
    """Whether there are mails that somebody waits for."""
    try:
        return any(queues[name].count for name in _BEFORE)
    except RedisError:
        return False
