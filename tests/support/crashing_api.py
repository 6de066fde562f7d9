"""A process that is killed, as by `kill -9`, at a named point of one call of the API.

`main(point, key, path)` — see POINTS.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from app import create_app
from services import idempotency
from tests.support.api import Caller


def die(*_: Any) -> None:
    if idempotency._held.get() is not None:
        os.kill(os.getpid(), signal.SIGKILL)


def _around_keeping(*, before: bool) -> None:
    original = idempotency.keep_answer

    def wrapper(*args: Any) -> None:
        if not before:
            original(*args)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(idempotency, "keep_answer", wrapper)  # noqa: B010 - mypy holds signatures the same


POINTS: dict[str, Callable[[], None]] = {
    "before the commit": lambda: sa.event.listen(Session, "before_commit", die),
    "inside the commit, the mark written": lambda: sa.event.listen(sa.engine.Engine, "commit", die),
    "after the commit": lambda: sa.event.listen(Session, "after_commit", die),
    "before the answer is kept": lambda: _around_keeping(before=True),
    "after the answer is kept": lambda: _around_keeping(before=False),
}


def main(point: str, key: str, path: str) -> None:
    POINTS[point]()
    Caller(create_app()).post(path, headers={"Idempotency-Key": key})
