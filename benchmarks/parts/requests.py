"""Tenant Creation Management with very many requests: its list with the counters, and a search.

Two installations answer in turn, one with a thousand requests and one with very many: to somebody
who works for all groups, and to somebody who works for three of twenty.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import sqlalchemy as sa

from benchmarks.bench import Bench
from benchmarks.installations import Installation
from benchmarks.records import Records, Row
from benchmarks.request_rows import LIMITED, add_requests
from benchmarks.web import Browser, serving
from models import SubscriptionRequest

_FEW = 1_000
_LIST = "/tenant-creation-management"
_OPERATOR = "operator@foyer.example"
_WARM = 5


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the two: a browser for each reader, and the name of a request to search for."""

    readers: dict[str, Browser]
    name: str

    def pages(self) -> dict[str, tuple[Browser, str]]:
        """Where each page is found; all of them are full, but for the search of one name."""
        paths = {
            "list": _LIST,
            "done": f"{_LIST}?where=done",
            "by name": f"{_LIST}?where=done&sort=name",
        }
        found = {
            f"{reader}, {name}": (browser, path)
            for reader, browser in self.readers.items()
            for name, path in paths.items()
        }
        return found | {
            "all groups, search": (self.readers["all groups"], f"{_LIST}?q={self.name}")
        }


def _measure(bench: Bench, engine: str) -> None:
    with ExitStack() as stack:
        # Both are filled before anybody signs in: a connection is not kept open for minutes.
        filled = [
            stack.enter_context(_filled(bench, engine, number))
            for number in (_FEW, bench.sizes.many)
        ]
        few, many = (stack.enter_context(_side(bench, each)) for each in filled)
        pages = {name: (few.pages()[name], many.pages()[name]) for name in few.pages()}
        for name, sides in pages.items():
            times: tuple[list[float], list[float]] = ([], [])
            faults = []
            for number in range(_WARM + bench.sizes.requests):
                # In turn, for machines are not equally fast at all times.
                order = (0, 1) if number % 2 else (1, 0)
                for side in order:
                    browser, path = sides[side]
                    answer = browser.get(path)
                    if answer.status != 200:
                        faults.append(f"{path} answered {answer.status}")
                    if number >= _WARM:
                        times[side].append(answer.seconds)
            before, after = map(statistics.median, times)
            bench.records.add(
                f"requests-{engine}-{name}",
                after / before,
                faults=faults[:1],
                few=before,
                many=after,
                requests=bench.sizes.many,
            )


@contextmanager
def _filled(bench: Bench, engine: str, number: int) -> Iterator[Installation]:
    with bench.own_installation(engine, f"requests-{number}") as installation:
        with installation.database.begin() as connection:
            add_requests(connection, number)
        if engine == "postgresql":
            # What autovacuum does in its own time.
            database = installation.database.execution_options(isolation_level="AUTOCOMMIT")
            with database.connect() as connection:
                connection.execute(sa.text("VACUUM ANALYZE"))
        yield installation


@contextmanager
def _side(bench: Bench, installation: Installation) -> Iterator[_Side]:
    newest = sa.select(SubscriptionRequest.name).order_by(SubscriptionRequest.id.desc())
    name = installation.read(newest.limit(1))[0].name
    with serving(installation, bench.sink()) as web:
        readers = {"all groups": web.browser(_OPERATOR), "three groups": web.browser(LIMITED)}
        yield _Side(readers, name)


def requests_sqlite(bench: Bench) -> None:
    _measure(bench, "sqlite")


def requests_postgresql(bench: Bench) -> None:
    _measure(bench, "postgresql")


# --- Rows --------------------------------------------------------------------------------------

_PAGES = (
    *(f"{who}, {page}" for who in ("all groups", "three groups")
      for page in ("list", "done", "by name")),
    "all groups, search",
)  # fmt: skip


def _row(engine: str, label: str) -> Row:
    series = {name: f"requests-{engine}-{name}" for name in _PAGES}

    def note(records: Records) -> str:
        number = records.detail(next(iter(series.values())), "requests")
        shown = "; ".join(
            f"{name} {records.detail(each, 'few') * 1000:.0f} and "
            f"{records.detail(each, 'many') * 1000:.0f}"
            for name, each in series.items()
        )
        return f"{number:,.0f} requests, medians in ms: {shown}"

    return Row(
        name=f"requests-{engine}",
        title=f"List and counters of requests, very many ÷ 1,000, {label}",
        part=f"requests-{engine}",
        series=tuple(series.values()),
        evaluate=lambda records: max(map(records.median, series.values())),
        shown=lambda ratio: f"{ratio:.2f} ×",
        target="≤ 1.5 ×",
        limit=1.5,
        at_least=False,
        note=note,
    )


ROWS = (_row("sqlite", "SQLite"), _row("postgresql", "PostgreSQL"))
