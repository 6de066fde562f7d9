"""Fixtures: every test of the application runs on SQLite and on PostgreSQL, with a real queue."""

from __future__ import annotations

import gc
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from redis import Redis
from redis.exceptions import RedisError

from app import create_app
from config import Settings
from extensions import db
from tests.support import databases
from tests.support.databases import Templates, make_settings
from tests.support.kept import Kept, parse_rules_once
from tests.support.pages import CheckingClient, sign_in
from tests.support.smtp_sink import SmtpSink
from tests.support.work import work_queues
from tools import valkey

_MINUTES = 300
"""The limit, in seconds, of those tests that take minutes; others of some length wait a lot."""


def pytest_collection_finish() -> None:
    """What is loaded by now stays: looking through it for cycles took a quarter of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What may take minutes comes first, so that no process has it to itself at the end."""
    items.sort(key=_may_take_minutes, reverse=True)


def _may_take_minutes(item: pytest.Item) -> bool:
    limit = item.get_closest_marker("timeout")
    return limit is not None and limit.args[0] >= _MINUTES


@pytest.fixture(scope="session")
def _templates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Templates]]:
    made: dict[str, Templates] = {}

    def get(engine: str) -> Templates:
        if engine not in made:
            made[engine] = Templates(engine, tmp_path_factory.mktemp(engine))
        return made[engine]

    yield get
    for templates in made.values():
        templates.close()


@pytest.fixture(scope="session")
def queue_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real Valkey server."""
    folder = tmp_path_factory.mktemp("q")
    socket = folder / "v.sock"
    with subprocess.Popen(valkey.command(socket, folder), stdout=subprocess.DEVNULL) as server:
        url = f"unix://{socket}"
        with Redis.from_url(url) as connection:
            _wait_for(connection)
        yield url
        server.terminate()


def _wait_for(connection: Redis) -> None:
    deadline = time.monotonic() + 15
    while True:
        try:
            connection.ping()
        except RedisError:
            assert time.monotonic() < deadline, "Valkey does not start"
            time.sleep(0.05)
        else:
            return


@pytest.fixture(params=databases.ENGINES)
def engine_name(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def sink() -> Iterator[SmtpSink]:
    """A scripted mail server; the application of the test sends to it."""
    with SmtpSink() as server:
        yield server


@pytest.fixture
def settings_changes() -> dict[str, str]:
    """Override this fixture, or parametrise it, to change settings."""
    return {}


@pytest.fixture
def settings(
    request: pytest.FixtureRequest,
    _templates: Callable[[str], Templates],
    engine_name: str,
    queue_url: str,
    tmp_path: Path,
    settings_changes: dict[str, str],
) -> Iterator[Settings]:
    kind = "empty" if request.node.get_closest_marker("empty_database") else "demo"
    changes = {"REDIS_URL": queue_url, **settings_changes}
    if "sink" in request.fixturenames:
        server = request.getfixturevalue("sink")
        changes |= {"MAIL_SERVER": "127.0.0.1", "MAIL_PORT": str(server.port)}
    with Redis.from_url(queue_url) as connection:
        connection.flushall()
    with _templates(engine_name).copy(kind) as url:
        yield make_settings(url, tmp_path, **changes)


@pytest.fixture(scope="session")
def _kept() -> Kept:
    parse_rules_once()
    return Kept()


@pytest.fixture
def app(settings: Settings, _kept: Kept) -> Iterator[Flask]:
    """The application over the demo data (`@pytest.mark.empty_database`: over nothing)."""
    made = create_app(settings)
    made.test_client_class = CheckingClient
    _kept.share_with(made)
    yield made
    with made.app_context():
        _kept.keep_from(made)
        db.session.remove()
        db.engine.dispose()


@pytest.fixture
def app_context(app: Flask) -> Iterator[Flask]:
    """The application with a context pushed, for tests of services. Not together with `client`."""
    with app.app_context():
        yield app


@pytest.fixture
def client(app: Flask) -> CheckingClient:
    """Nobody signed in; every page it gets is checked."""
    client = app.test_client()
    assert isinstance(client, CheckingClient)
    return client


@pytest.fixture
def sign_in_as(app: Flask) -> Callable[[str], CheckingClient]:
    """`sign_in_as(login)`: a client with that person signed in."""
    return lambda login: sign_in(app, login)


@pytest.fixture
def work(app: Flask) -> Callable[[], None]:
    """`work()`: run the queued jobs until there are none."""
    return lambda: work_queues(app)
