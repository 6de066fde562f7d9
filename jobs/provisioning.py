"""Jobs of provisioning."""

from __future__ import annotations

from redis.exceptions import RedisError

from extensions import queues
from models import Lane
from services import provisioning


def provision(request_id: int) -> None:
    """Work on a request's run for one time slice, then ask for the request that is due next.

    Triggered by whatever schedules, retries or rolls back a request, by itself and by the sweep.
    Idempotent: the rows decide what is left to do, and a request that is not due, or that another
    worker holds, is left alone. A crash leaves a lease that expires; the sweep then starts this
    again, at the step that was broken off.
    """

    def interrupted() -> bool:
        try:
            return bool(queues[Lane.INTERACTIVE.value].count)
        except RedisError:
            return False

    following = provisioning.provision(request_id, interrupted)
    if following is not None:
        provisioning.start(following)
