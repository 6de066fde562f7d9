"""Every list with very many rows, beside the same list of few, and beside a bare Flask page of it.

Two installations answer in turn, one with a thousand rows of everything and one with very many;
then Foyer and the bare pages do, on the larger one, both under gunicorn with the same settings.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import sqlalchemy as sa

from benchmarks.bare_lists import CUSTOMER, LISTS, READER
from benchmarks.bench import Bench
from benchmarks.callers import page_request, send_burst
from benchmarks.customer_rows import add_customers
from benchmarks.installations import Installation
from benchmarks.list_rows import add_events, add_mailings
from benchmarks.processes import python, wait_until
from benchmarks.records import Records, Row
from benchmarks.request_rows import add_requests
from benchmarks.sinks import free_port
from benchmarks.web import Browser, is_ready, serving

_FEW = 1_000
_WARM = 5
_CONNECTIONS = 4

# The first page of each list, then what people look for: by name, by number, by who and what.
_PATHS = {
    "users": f"/customers/{CUSTOMER}/users",
    "users by login": f"/customers/{CUSTOMER}/users?sort=login&order=desc",
    "users, search": f"/customers/{CUSTOMER}/users?q=dana",
    "customers": "/customers",
    "customers, search": "/customers?q=B77",
    "mailings": "/sp/mailings",
    "requests": "/tenant-creation-management?where=done",
    "audit": "/audit",
    "audit by actor": "/audit?actor=actor77",
    "audit by customer and action": "/audit?customer=CQ001&action=user.changed",
}
_FIRST = {name: _PATHS[name] for name in LISTS}


@dataclass(frozen=True, slots=True)
class _Side:
    """An installation that is served, with a reader who has signed in."""

    installation: Installation
    port: int
    browser: Browser


def _measure(bench: Bench, engine: str) -> None:
    with ExitStack() as stack:
        # Both are filled before anybody signs in: a connection is not kept open for minutes.
        filled = [
            stack.enter_context(_filled(bench, engine, number))
            for number in (_FEW, bench.sizes.many)
        ]
        few, many = (stack.enter_context(_side(bench, each)) for each in filled)
        for name, path in _PATHS.items():
            _compare_sizes(bench, f"lists-{engine}-{name}", path, few, many)
        bare_port = stack.enter_context(_serving_bare(many.installation))
        for name, path in _FIRST.items():
            _compare_with_bare(bench, f"lists-{engine}-{name}", path, f"/{name}", many, bare_port)


def _compare_sizes(bench: Bench, series: str, path: str, few: _Side, many: _Side) -> None:
    times: tuple[list[float], list[float]] = ([], [])
    faults = []
    for number in range(_WARM + bench.sizes.requests):
        # In turn, for machines are not equally fast at all times.
        for side in (0, 1) if number % 2 else (1, 0):
            answer = (few, many)[side].browser.get(path)
            if answer.status != 200 or "data-row" not in answer.text:
                faults.append(f"{path} answered {answer.status}, or no rows")
            if number >= _WARM:
                times[side].append(answer.seconds)
    before, after = map(statistics.median, times)
    bench.records.add(
        series,
        after / before,
        faults=faults[:1],
        few=before,
        many=after,
        rows=bench.sizes.many,
    )


def _compare_with_bare(
    bench: Bench, series: str, path: str, bare_path: str, foyer: _Side, bare_port: int
) -> None:
    number = 2 * bench.sizes.requests
    ours = [page_request(path, foyer.browser.cookies)] * number
    bare = [page_request(bare_path)] * number
    for port, requests in ((foyer.port, ours), (bare_port, bare)):
        send_burst(port, requests[:20], 200, 2)
    for _ in range(bench.sizes.rounds):
        for kind, port, requests in (("page", foyer.port, ours), ("bare", bare_port, bare)):
            burst = send_burst(port, requests, 200, _CONNECTIONS)
            bench.records.add(f"{series}-{kind}", burst.per_second, faults=burst.faults)


@contextmanager
def _filled(bench: Bench, engine: str, number: int) -> Iterator[Installation]:
    with bench.own_installation(engine, f"lists-{number}") as installation:
        installation.add_customer(CUSTOMER, number)
        with installation.database.begin() as connection:
            add_mailings(connection, number)
            add_events(connection, number)
            add_requests(connection, number)
            add_customers(connection, number, mailed=0)
        if engine == "postgresql":
            # What autovacuum does in its own time.
            database = installation.database.execution_options(isolation_level="AUTOCOMMIT")
            with database.connect() as connection:
                connection.execute(sa.text("VACUUM ANALYZE"))
        yield installation


@contextmanager
def _side(bench: Bench, installation: Installation) -> Iterator[_Side]:
    with serving(installation, bench.sink()) as web:
        yield _Side(installation, web.port, web.browser(READER))


@contextmanager
def _serving_bare(installation: Installation) -> Iterator[int]:
    port = free_port()
    command = python(
        "-m", "gunicorn", "--config", "gunicorn.conf.py", "benchmarks.bare_lists:create_app()"
    )
    with installation.start("bare lists", command, PORT=str(port)) as program:
        wait_until(lambda: is_ready(program, port, "/customers", 200), "Starting it", 30)
        yield port


def lists_sqlite(bench: Bench) -> None:
    _measure(bench, "sqlite")


def lists_postgresql(bench: Bench) -> None:
    _measure(bench, "postgresql")


# --- Rows --------------------------------------------------------------------------------------


def _size_row(engine: str, label: str) -> Row:
    series = {name: f"lists-{engine}-{name}" for name in _PATHS}

    def note(records: Records) -> str:
        number = records.detail(next(iter(series.values())), "rows")
        shown = "; ".join(
            f"{name} {records.detail(each, 'few') * 1000:.0f} and "
            f"{records.detail(each, 'many') * 1000:.0f}"
            for name, each in series.items()
        )
        return f"{number:,.0f} rows of each, medians in ms: {shown}"

    return Row(
        name=f"lists-{engine}",
        title=f"Lists of users, customers, mailings, requests, audit: very many ÷ 1,000, {label}",
        part=f"lists-{engine}",
        series=tuple(series.values()),
        evaluate=lambda records: max(map(records.median, series.values())),
        shown=lambda ratio: f"{ratio:.2f} ×",
        target="≤ 1.5 ×",
        limit=1.5,
        at_least=False,
        note=note,
    )


def _bare_row(engine: str, label: str) -> Row:
    series = {
        name: (f"lists-{engine}-{name}-page", f"lists-{engine}-{name}-bare") for name in _FIRST
    }

    def note(records: Records) -> str:
        return "; ".join(
            f"{name} {records.median(page):,.0f}/s and {records.median(bare):,.0f}/s, "
            f"{records.ratio(page, bare):.2f} ×"
            for name, (page, bare) in series.items()
        )

    return Row(
        name=f"lists-bare-{engine}",
        title=f"The slowest of these lists ÷ a bare Flask page of the same rows, {label}",
        part=f"lists-{engine}",
        series=tuple(name for pair in series.values() for name in pair),
        evaluate=lambda records: min(records.ratio(*pair) for pair in series.values()),
        shown=lambda ratio: f"{ratio:.2f} ×",
        target="≥ 0.4 ×",
        limit=0.4,
        note=note,
    )


ROWS = tuple(
    make(engine, label)
    for engine, label in (("sqlite", "SQLite"), ("postgresql", "PostgreSQL"))
    for make in (_size_row, _bare_row)
)
