"""A worker that is killed, as by `kill -9`, at a named point of its first delivery.

`main(point)` — see POINTS. Work-horse and worker die together.
"""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable
from typing import Any

from app import create_app
from connectors.local import LocalConnector
from jobs.worker import make_worker, wait_for_queue
from services import deliveries, delivery_claims, delivery_results
from services.delivery_journal import Journal
from services.smtp import SmtpConnection

_worker_pids: list[int] = []


def die() -> None:
    for pid in (*_worker_pids, os.getpid()):
        os.kill(pid, signal.SIGKILL)


def die_at(owner: Any, name: str, *, before: bool = False, calls: int = 1) -> None:
    """Die before or after the `calls`-th call of `owner.name`, whichever thread makes it."""
    original = getattr(owner, name)
    numbers = itertools.count(1)

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        is_the_one = next(numbers) == calls
        if before and is_the_one:
            die()
        result = original(*args, **kwargs)
        if is_the_one:
            die()
        return result

    setattr(owner, name, wrapper)


def _once_a_message_has_left(number: int) -> None:
    """Die before the answer to the `number`-th message is read; the message is with the server."""
    read = SmtpConnection._read
    numbers = itertools.count(1)

    def wrapper(self: SmtpConnection) -> None:
        if self._message_has_left and not self._unsent and next(numbers) == number:
            time.sleep(0.2)
            die()
        read(self)

    SmtpConnection._read = wrapper  # type: ignore[method-assign]


POINTS: dict[str, Callable[[], None]] = {
    "before the claim": lambda: die_at(delivery_claims, "claim_deliveries", before=True),
    "inside the claim, before its commit": lambda: die_at(delivery_claims, "_seal_rows"),
    "after the claim": lambda: die_at(delivery_claims, "claim_deliveries"),
    "before the platform": lambda: die_at(LocalConnector, "set_passwords", before=True),
    "after the platform": lambda: die_at(LocalConnector, "set_passwords"),
    "before the first mail": lambda: die_at(SmtpConnection, "offer", before=True),
    "inside a mail, before its message": lambda: die_at(
        SmtpConnection, "_send_message", before=True, calls=3
    ),
    "after a mail went out, before the answer is read": lambda: _once_a_message_has_left(3),
    "after an answer, before it is noted": lambda: die_at(Journal, "note", before=True, calls=5),
    "when an answer is noted, before the next mail": lambda: die_at(Journal, "note", calls=5),
    "after an answer": lambda: die_at(deliveries._Slice, "_note_answer", calls=7),
    "when all have been answered": lambda: die_at(
        deliveries._Slice, "_record", before=True, calls=2
    ),
    "before the results": lambda: die_at(deliveries, "record_results", before=True),
    "inside the results, before their commit": lambda: die_at(delivery_results, "_count"),
    "after the results": lambda: die_at(deliveries, "record_results"),
    "before the job is put back": lambda: die_at(deliveries, "deliver_mailing"),
}


def main(point: str) -> None:
    _worker_pids.append(os.getpid())
    POINTS[point]()
    app = create_app()
    with app.app_context():
        wait_for_queue(15)
        make_worker(app).work(logging_level="WARNING")
