"""Jobs of importing users."""

from __future__ import annotations

from redis.exceptions import RedisError

from extensions import Queues, queues
from services import user_import_runs

_QUEUE = "default"


def work_on_import(import_id: int) -> None:
    """Check, write or undo an import's rows for one time slice, and come back for the rest.

    Triggered by whoever checks, begins or undoes an import, by itself and by the sweep. Idempotent:
    the rows decide what is left, and an import that another worker holds is left alone. A crash
    leaves whole chunks and a lease that expires; the sweep then starts this again.
    """
    if user_import_runs.work_on_import(import_id, _is_somebody_waiting):
        queues.enqueue(_QUEUE, "jobs.user_imports.work_on_import", import_id)


def _is_somebody_waiting() -> bool:
    try:
        return any(queues[name].count for name in Queues.NAMES)
    except RedisError:
        return False
