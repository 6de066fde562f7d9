"""The extensions, unbound; `create_app` binds them."""

from __future__ import annotations

import logging
import math
import sqlite3
import time
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from flask import Flask, current_app
from flask_login import LoginManager
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from flask_wtf import CSRFProtect
from redis import Redis
from redis.exceptions import RedisError
from rq import Queue, Worker, get_current_job
from rq.serializers import JSONSerializer

from config import Settings
from models.base import Base

log = logging.getLogger(__name__)

db = SQLAlchemy(metadata=Base.metadata, session_options={"expire_on_commit": False})
migrate = Migrate(compare_type=True, render_as_batch=True)
login_manager = LoginManager()
csrf = CSRFProtect()


_WAKE_SECONDS = 5
"""After so long another job is asked for, should the first have been lost."""

_ASKED_FOR = 0.02
_LOOKS_AFTER = 0.025
"""A job begins to look so many seconds after nobody holds its key any more. So it finds what is
committed within `_ASKED_FOR` of a moment at which it was known to be asked for."""

_LOOKED_THROUGH = 64
"""Of more jobs, some are taken to be others'."""

_ROOM_MILLISECONDS = 500
"""For so long a worker that makes room for a job keeps others from doing it, too."""

_SWEEP_KEY = "foyer:sweep"
"""Held from the taking of a turn to sweep until the next is free."""


class Queues:
    """The named RQ queues of this installation, worked in the order they are listed."""

    NAMES = ("interactive", "default", "provisioning", "webhooks", "bulk")

    def init_app(self, app: Flask) -> None:
        settings: Settings = app.extensions["settings"]
        app.extensions["queues"] = Redis.from_url(
            settings.redis_url, socket_timeout=30, socket_connect_timeout=5
        )
        app.extensions["queues_asked"] = {}

    @property
    def connection(self) -> Redis:
        """The current application's connection pool to Redis or Valkey."""
        connection: Redis = current_app.extensions["queues"]
        return connection

    def __getitem__(self, name: str) -> Queue:
        if name not in self.NAMES:
            raise KeyError(name)
        return Queue(name, connection=self.connection, serializer=JSONSerializer)

    def enqueue(self, name: str, job: str, *args: str | int) -> None:
        """Put `job` (dotted name) with scalar arguments on the queue `name`."""
        self[name].enqueue(job, args=args, job_timeout=300, result_ttl=0, failure_ttl=86_400)

    def holds_other_work(self, job: str, *args: str | int) -> bool:
        """Whether anything waits on any queue but more of the same `job` with these arguments."""
        for name in self.NAMES:
            queue = self[name]
            if queue.count > _LOOKED_THROUGH:
                return True
            waiting = queue.get_jobs(0, _LOOKED_THROUGH)
            if any((each.func_name, tuple(each.args)) != (job, args) for each in waiting):
                return True
        return False

    def makes_room(self, names: Sequence[str]) -> bool:
        """Whether the caller is to leave his work for what waits on the queues `names`.

        As many workers are as there are jobs, or for one sweep all of them would begin anew. Half a
        second later the question is open again, should one of them still be held up.
        """
        waiting = sum(self[name].count for name in names)
        return any(
            self.connection.set(f"foyer:room:{place}", 1, nx=True, px=_ROOM_MILLISECONDS)
            for place in range(min(waiting, _LOOKED_THROUGH))
        )

    def is_stopping(self) -> bool:
        """Whether the worker of the current job ends after it."""
        job = get_current_job()
        if job is None or not job.worker_name:
            return False
        # What RQ notes of a worker that was asked to stop.
        worker = f"{Worker.redis_worker_namespace_prefix}{job.worker_name}"
        return bool(self.connection.hexists(worker, "shutdown_requested_date"))

    def start_mailing(self, lane: str, mailing_id: int, waiting: int) -> None:
        """Ask workers to look at a mailing with `waiting` deliveries, several where it is large.

        Call it after the commit. The rows are there, so the sweep finds them when the queue is
        down.
        """
        settings = get_settings()
        chunks = -(-waiting // settings.delivery_chunk)
        try:
            for _ in range(min(chunks, settings.delivery_jobs)):
                self.enqueue(lane, "jobs.deliveries.deliver_mailing", mailing_id)
        except RedisError as error:
            log.warning(
                "mailing %s waits for the sweep, the queue does not answer: %s",
                mailing_id,
                type(error).__name__,
            )

    def wake(self, lane: str) -> None:
        """Ask a worker to look for small mailings of a lane; one job, however many ask at once.

        Call it after the commit. The sweep finds them when the queue is down. Hundreds of calls a
        second ask the queue's server but now and then: a job that is known to be asked for waits
        for a moment before it looks.
        """
        asked: dict[str, float] = current_app.extensions["queues_asked"]
        now = time.monotonic()
        if now - asked.get(lane, -math.inf) < _ASKED_FOR:
            return
        try:
            if self.connection.set(self._wake_key(lane), 1, nx=True, ex=_WAKE_SECONDS):
                self.enqueue(lane, "jobs.deliveries.deliver_waiting", lane)
            asked[lane] = now
        except RedisError as error:
            log.warning(
                "small mailings wait for the sweep, the queue does not answer: %s",
                type(error).__name__,
            )

    def begin_looking(self, lane: str) -> None:
        """What the job that `wake` asks for does first: from here on it is to be asked for anew."""
        self.connection.delete(self._wake_key(lane))
        time.sleep(_LOOKS_AFTER)

    @staticmethod
    def _wake_key(lane: str) -> str:
        """Held from the asking until the job begins to look."""
        return f"foyer:wake:{lane}"

    def take_turn_to_sweep(self, interval: float) -> bool:
        """Whether it is time for a sweep, and the caller's to do: once in 0.9 `interval` (seconds).

        Jobs that sweep by themselves ask all the time: in the rest of the interval they are first.
        """
        return bool(self.connection.set(_SWEEP_KEY, 1, nx=True, px=int(interval * 900)))

    def enqueue_sweep(self, interval: float) -> float:
        """Ask for a sweep, unless somebody else has the turn; returns when to come back.

        That is in so many seconds: `interval` after whichever sweep was the last.
        """
        if self.take_turn_to_sweep(interval):
            self["interactive"].enqueue("jobs.sweeps.sweep", job_timeout=300, result_ttl=0, ttl=60)
            return interval
        return max(self.connection.pttl(_SWEEP_KEY), 0) / 1000 + interval / 10


queues = Queues()


def get_settings() -> Settings:
    """The settings of the current application."""
    settings: Settings = current_app.extensions["settings"]
    return settings


@sa.event.listens_for(sa.engine.Engine, "connect")
def _prepare_sqlite(connection: Any, _record: Any) -> None:
    """WAL lets readers go on beside the writer; FULL keeps a commit over a power cut."""
    if not isinstance(connection, sqlite3.Connection):
        return
    cursor = connection.cursor()
    cursor.execute("PRAGMA busy_timeout = 30000")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    # 5 MB. Freezing a million recipients fills it, and sorts and logs them in as much each.
    cursor.execute("PRAGMA cache_size = -5000")
    # Bulk mail changes the same index pages again and again: copy them back every 64 MB, not 4.
    cursor.execute("PRAGMA wal_autocheckpoint = 16000")
    cursor.close()
