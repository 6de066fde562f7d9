"""Jobs of provisioning."""

from __future__ import annotations

import time

from redis.exceptions import RedisError

from extensions import Queues, queues
from services import provisioning

_SLICE_SECONDS = 10.0
_QUEUE = "provisioning"
_BEFORE = Queues.NAMES[: Queues.NAMES.index(_QUEUE)]


def provision(request_id: int) -> None:
    """Work on a request's run, then on those that are due next, for one time slice.

    Triggered by whatever schedules, retries or rolls back a request, by itself and by the sweep.
    Idempotent: the rows decide what is left to do, and a request that is not due, or that another
    worker holds, is left alone. A crash leaves a lease that expires; the sweep then starts this
    again, at the step that was broken off.
    """
    ends_at = time.monotonic() + _SLICE_SECONDS
    following: int | None = request_id
    while following is not None:
        following = provisioning.provision(following, _is_somebody_waiting)
        if following is not None and (time.monotonic() >= ends_at or _is_somebody_waiting()):
            provisioning.start(following)
            return


def _is_somebody_waiting() -> bool:
    """Whether there are mails that somebody waits for."""
    try:
        return any(queues[name].count for name in _BEFORE)
    except RedisError:
        return False
