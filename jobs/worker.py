"""The worker process: an RQ worker whose jobs run inside the application."""

from __future__ import annotations

import gc
import logging
import time
from typing import TYPE_CHECKING, Any

from flask import Flask
from redis.exceptions import RedisError
from rq import Worker
from rq.job import Job
from rq.queue import Queue
from rq.serializers import JSONSerializer
from sqlalchemy.exc import SQLAlchemyError

from extensions import Queues, db, get_settings, queues
from jobs import priorities
from models import Lane
from services import claim_recovery, sqlite_settings

if TYPE_CHECKING:
    from resource import struct_rusage

log = logging.getLogger(__name__)


class FoyerWorker(Worker):
    """Runs each job in a forked child with an application context and connections of its own."""

    app: Flask

    def work(self, *args: Any, **kwargs: Any) -> bool:
        """Work until stopped, in a process of its own that has used no database yet."""
        sqlite_settings.drop_needless_locks()
        worked: bool = super().work(*args, **kwargs)
        return worked

    def handle_work_horse_killed(
        self, job: Job, retpid: int, ret_val: int, rusage: struct_rusage | None
    ) -> None:
        """Somebody killed the child: what it held goes on at once, not when its lease expires."""
        super().handle_work_horse_killed(job, retpid, ret_val, rusage)  # type: ignore[no-untyped-call]
        with self.app.app_context():
            try:
                claim_recovery.recover_claims_of(retpid)
            except SQLAlchemyError:
                log.exception("the claims of a killed process will expire instead")
            finally:
                # No connection may be open when the next child is forked.
                db.engine.dispose()

    def perform_job(self, job: Job, queue: Queue) -> bool:
        with self.app.app_context():
            # The parent's connections must not be used, nor closed, by this child.
            db.engine.dispose(close=False)
            if queue.name == Lane.BULK.value:
                priorities.stand_back(get_settings().bulk_niceness)
            else:
                priorities.stand_in_front(get_settings().bulk_niceness)
            # Chunks of deliveries are many objects that live and die together: looking through
            # them for cycles all the time cost a sixth of the rate.
            gc.freeze()
            gc.set_threshold(50_000, 20, 100)
            done: bool = super().perform_job(job, queue)
            return done


def wait_for_queue(seconds: float) -> None:
    """Wait until the queue server answers; raises its RedisError after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            queues.connection.ping()
        except RedisError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.1)
        else:
            return


def make_worker(app: Flask) -> FoyerWorker:
    """A worker of all queues, the first of them first. Needs an application context."""
    worker = FoyerWorker(
        [queues[name] for name in Queues.NAMES],
        connection=queues.connection,
        serializer=JSONSerializer,
        job_monitoring_interval=5,
    )
    worker.app = app
    return worker
