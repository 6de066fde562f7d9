"""Whether a large mailing slows down as it goes on."""

from __future__ import annotations

import bisect
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import linear_regression

from benchmarks.bench import Bench
from benchmarks.records import Records, Row
from benchmarks.sinks import Sink

_CUSTOMER = "STEADY"
_EVERY = 0.02


class Curve:
    """How many mails the sink had at which time."""

    def __init__(self, points: list[tuple[float, int]]) -> None:
        self._times = [at for at, _ in points]
        self._counts = [count for _, count in points]

    def time_of(self, count: float) -> float:
        """When the count was reached, between two looks by proportion."""
        after = min(bisect.bisect_left(self._counts, count), len(self._counts) - 1)
        low, high = self._counts[after - 1], self._counts[after]
        start, end = self._times[after - 1], self._times[after]
        return end if high <= low else start + (end - start) * (count - low) / (high - low)

    def rate(self, first: float, last: float) -> float:
        """Mails per second from one share of all mails to another."""
        total = self._counts[-1]
        return (last - first) * total / (self.time_of(last * total) - self.time_of(first * total))

    def tenths(self, margin: float) -> list[float]:
        """Mails per second in each tenth of what lies between the margins."""
        width = (1 - 2 * margin) / 10
        return [self.rate(margin + each * width, margin + (each + 1) * width) for each in range(10)]


def ends_of_line(values: Sequence[float]) -> tuple[float, float]:
    """Where the straight line through evenly spaced values begins and ends.

    All of them count, because on a shared machine any tenth may be a fifth slower than its
    neighbours, the first and the last included.
    """
    places = range(len(values))
    slope, start = linear_regression(places, values)
    return start, start + slope * places[-1]


@contextmanager
def _watched(sink: Sink) -> Iterator[list[tuple[float, int]]]:
    """Look at the sink's counter as long as the block runs."""
    before = sink.accepted()
    points: list[tuple[float, int]] = [(time.monotonic(), 0)]
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_EVERY):
            points.append((time.monotonic(), sink.accepted() - before))

    watcher = threading.Thread(target=watch, name="arrivals", daemon=True)
    watcher.start()
    try:
        yield points
    finally:
        ended.set()
        watcher.join()


def _steady(bench: Bench, engine: str) -> None:
    """The first and the last tenth by the line through all ten of them.

    Without the moments of starting and running dry: what two workers hold alone is 2 %.
    """
    installation = bench.customer(engine, _CUSTOMER, bench.sizes.steady)
    margin = 0.04 if bench.sizes.steady >= 100_000 else 0.06
    with _watched(bench.sink()) as points:
        sample = bench.send_bulk(f"steady-rate-{engine}", installation, bench.sink(), _CUSTOMER)
    tenths = Curve(points).tenths(margin)
    first, last = ends_of_line(tenths)
    bench.records.add(
        f"steady-{engine}",
        100 * (1 - last / first),
        faults=sample.faults,
        first=first,
        last=last,
        tenths=[round(each) for each in tenths],
    )


def steady_sqlite(bench: Bench) -> None:
    _steady_round(bench, "sqlite")


def steady_postgresql(bench: Bench) -> None:
    _steady_round(bench, "postgresql")


def _steady_round(bench: Bench, engine: str) -> None:
    """More than one, for along a single mailing the machine may gain or lose a fifth itself."""
    for _ in range(bench.sizes.steady_mailings):
        _steady(bench, engine)


def _row(engine: str, label: str) -> Row:
    series = f"steady-{engine}"

    def note(records: Records) -> str:
        first, last = records.detail(series, "first"), records.detail(series, "last")
        recipients = records.detail(f"steady-rate-{engine}", "recipients")
        return f"{recipients:,.0f} recipients, {first:,.0f} then {last:,.0f} mails/s"

    return Row(
        name=series,
        title=f"Rate from the first to the last tenth, {label}: falls by",
        part=series,
        series=(series,),
        evaluate=lambda records: records.median(series),
        shown=lambda percent: f"{percent:.1f} %",
        target="< 5 %",
        limit=5.0,
        at_least=False,
        note=note,
    )


ROWS = (_row("sqlite", "SQLite"), _row("postgresql", "PostgreSQL"))
