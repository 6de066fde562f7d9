"""Working the queues in tests: in this process for speed, or by real worker processes."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import flask.cli
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
        # Workers that stand back would wait for the tests beside them, longer than their leases.
        "BULK_NICENESS": "0",
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

    `module` runs instead, where it is given: its `main` with `command` as arguments. The process is
    forked from one that has imported the application, and knows nothing of this one. As a context
    it is killed at the end.
    """

    def __init__(self, settings: Settings, *command: str, module: str = "", **changes: str) -> None:
        self.log = settings.var_dir / f"{(module or command[0])}-{time.monotonic_ns()}.log"
        self._process = _FORKS.Process(
            target=_become, args=(module, command, environment(settings, **changes), self.log)
        )
        self._process.start()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def wait(self, seconds: float) -> int:
        """Its exit code once it has ended, -9 after kill -9; AssertionError after `seconds`."""
        self._process.join(seconds)
        assert self._process.exitcode is not None, f"goes on after {seconds} s"
        return self._process.exitcode

    def kill(self) -> None:
        """kill -9, its work-horses included."""
        for pid in [*_descendants(self.pid), self.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.join()

    def kill_child(self) -> None:
        """kill -9 to what it does at the moment; the process itself goes on."""
        for pid in _descendants(self.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def is_alive(self) -> bool:
        return self._process.is_alive()


_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        "app",
        "cli",
        "flask.cli",
        "jobs.deliveries",
        "jobs.provisioning",
        "jobs.sweeps",
        "jobs.worker",
    ]
)


def _become(module: str, command: tuple[str, ...], env: dict[str, str], log: Path) -> None:
    """Make the forked process what was asked for."""
    os.setsid()
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(env)
    with log.open("wb") as output:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(output.fileno(), stream.fileno())
    if module:
        importlib.import_module(module).main(*command)
    else:
        sys.argv = ["flask", "--app", "app", *command]
        flask.cli.main()


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
