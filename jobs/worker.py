"""The worker process: an RQ worker whose jobs run inside the application."""

from __future__ import annotations

import gc
import time

from flask import Flask
from redis.exceptions import RedisError
from rq import Worker
from rq.job import Job
from rq.queue import Queue
from rq.serializers import JSONSerializer

from extensions import Queues, db, queues


class FoyerWorker(Worker):
    """Runs each job in a forked child with an application context and connections of its own."""

    app: Flask

    def perform_job(self, job: Job, queue: Queue) -> bool:
        with self.app.app_context():
            # The parent's connections must not be used, nor closed, by this child.
            db.engine.dispose(close=False)
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
