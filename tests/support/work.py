"""Working the queues in tests: in this process for speed, or by real worker processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from flask import Flask
from rq import SimpleWorker
from rq.serializers import JSONSerializer

from config import Settings
from extensions import Queues, queues

ROOT = Path(__file__).resolve().parents[2]


class _DeafWorker(SimpleWorker):
    """A worker that nobody gives orders by way of the queue: to end that takes RQ a second."""

    def subscribe(self) -> None:
        """Wait for no orders."""

    def unsubscribe(self) -> None:
        """There is nothing to end."""


def work_queues(app: Flask) -> None:
    """Run every queued job in this process, until the queues are empty."""
    with app.app_context():
        worker = _DeafWorker(
            [queues[name] for name in Queues.NAMES],
            connection=queues.connection,
            serializer=JSONSerializer,
        )
        worker.log_job_description = False
        worker.work(burst=True, logging_level="ERROR", with_scheduler=False)


def environment(settings: Settings, **changes: str) -> dict[str, str]:
    """The environment in which another process finds the same parts as `settings`."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "FOYER_ENV": "testing",
        "VAR_DIR": str(settings.var_dir),
        "SECRET_KEY": settings.secret_key,
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "MAIL_SERVER": settings.mail_server,
        "MAIL_PORT": str(settings.mail_port),
        "MAIL_TIMEOUT": str(settings.mail_timeout),
        "MAIL_MAX_PER_SECOND": str(settings.mail_max_per_second),
        "MAIL_MAX_PER_SECOND_PER_DOMAIN": str(settings.mail_max_per_second_per_domain),
        "PUBLIC_URL": settings.public_url,
        "LEASE_SECONDS": str(settings.lease_seconds),
        "SWEEP_SECONDS": str(settings.sweep_seconds),
        "DELIVERY_CHUNK": str(settings.delivery_chunk),
        "DELIVERY_CONNECTIONS": str(settings.delivery_connections),
        "DELIVERY_SLICE_SECONDS": str(settings.delivery_slice_seconds),
        "DELIVERY_RETRY_DELAYS": ",".join(map(str, settings.delivery_retry_delays)),
        "PROVISIONING_TIMEOUT": str(settings.provisioning_timeout),
        "PROVISIONING_RETRY_DELAYS": ",".join(map(str, settings.provisioning_retry_delays)),
        "WEBHOOK_PRIVATE_TARGETS": "yes" if settings.webhook_private_targets else "no",
        "WEBHOOK_TIMEOUT": str(settings.webhook_timeout),
        "WEBHOOK_RETRY_DELAYS": ",".join(map(str, settings.webhook_retry_delays)),
        "MAIL_DOWN_DELAYS": ",".join(map(str, settings.mail_down_delays)),
        **changes,
    }


class Process:
    """A `flask` command in a session of its own, so that its children can be killed with it.

    `module` runs instead, where it is given.
    """

    def __init__(self, settings: Settings, *command: str, module: str = "", **changes: str) -> None:
        self.log = settings.var_dir / f"{(module or command[0])}-{time.monotonic_ns()}.log"
        started = [module] if module else ["flask", "--app", "app"]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *started, *command],
                cwd=ROOT,
                env=environment(settings, **changes),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """kill -9, its work-horses included."""
        for pid in [*_descendants(self.pid), self.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def kill_child(self) -> None:
        """kill -9 to what it does at the moment; the process itself goes on."""
        for pid in _descendants(self.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def is_alive(self) -> bool:
        return self._process.poll() is None


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    for child in _children(pid):
        found += [*_descendants(child), child]
    return found


def _children(pid: int) -> list[int]:
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [int(each) for each in listed.split()]


def wait_until(condition: Callable[[], bool], seconds: float = 60, every: float = 0.1) -> None:
    """Wait for a condition; AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {condition}"
        time.sleep(every)
