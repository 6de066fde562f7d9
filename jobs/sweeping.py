"""Sweeps beside work that would otherwise break off for each of them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask, current_app
from redis.exceptions import RedisError

from extensions import get_settings, queues
from jobs.sweeps import sweep

log = logging.getLogger(__name__)

_ASKS_PER_INTERVAL = 30
_SHORTEST_WAIT = 0.1
"""Seconds between two asks, however short the interval."""
_PATIENCE = 5.0
"""Seconds that the end of a block waits for a sweep."""


@contextmanager
def sweeping() -> Iterator[None]:
    """Sweep whenever it is time as long as the block runs, in a thread beside it.

    It asks before the scheduler does, which then finds the turn taken.
    """
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    ended = threading.Event()
    interval = get_settings().sweep_seconds
    sweeper = threading.Thread(
        target=_sweep_in_turn, args=(app, interval, ended), name="sweeper", daemon=True
    )
    sweeper.start()
    try:
        yield
    finally:
        ended.set()
        # One that waits for a lock is left behind and ends with the process.
        sweeper.join(_PATIENCE)


def _sweep_in_turn(app: Flask, interval: float, ended: threading.Event) -> None:
    while not ended.wait(max(interval / _ASKS_PER_INTERVAL, _SHORTEST_WAIT)):
        try:
            with app.app_context():
                if _has_turn(interval):
                    sweep()
        except Exception:
            log.exception("a sweep broke off; the next one begins anew")


def _has_turn(interval: float) -> bool:
    try:
        return queues.take_turn_to_sweep(interval)
    except RedisError as error:
        log.warning("the queue does not answer: %s", type(error).__name__)
        return False
