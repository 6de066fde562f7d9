"""Rates of bulk mail beside one bare connection, interleaved round by round."""

from __future__ import annotations

from benchmarks.bench import BULK_CUSTOMER, Bench
from benchmarks.records import Records, Row


def bare(bench: Bench) -> None:
    """The unit: a connection of smtplib that sends ready-made bytes."""
    bench.send_bare("bare", bench.sink())


def engine_sqlite(bench: Bench) -> None:
    installation = bench.installation("sqlite")
    bench.send_bulk("engine-sqlite", installation, bench.sink(), BULK_CUSTOMER)


def engine_postgresql(bench: Bench) -> None:
    installation = bench.installation("postgresql")
    bench.send_bulk("engine-postgresql", installation, bench.sink(), BULK_CUSTOMER)


def bare_plain(bench: Bench) -> None:
    """The same unit at a sink that does not offer PIPELINING."""
    bench.send_bare("bare-plain", bench.sink(pipelining=False))


def plain_sqlite(bench: Bench) -> None:
    sink = bench.sink(pipelining=False)
    bench.send_bulk("plain-sqlite", bench.installation("sqlite"), sink, BULK_CUSTOMER)


def plain_postgresql(bench: Bench) -> None:
    sink = bench.sink(pipelining=False)
    bench.send_bulk("plain-postgresql", bench.installation("postgresql"), sink, BULK_CUSTOMER)


def per_second(rate: float) -> str:
    return f"{rate:,.0f} mails/s"


def times(ratio: float) -> str:
    return f"{ratio:.2f} ×"


def _beside(name: str, title: str, unit: str, limit: float) -> Row:
    """A row for a rate that is judged by its ratio to a unit."""

    def note(records: Records) -> str:
        return f"{per_second(records.median(name))}, unit {per_second(records.median(unit))}"

    return Row(
        name=name,
        title=title,
        part=name,
        series=(name, unit),
        evaluate=lambda records: records.ratio(name, unit),
        shown=times,
        target=f"≥ {limit:.1f} ×",
        limit=limit,
        note=note,
    )


ROWS = (
    Row(
        name="bare",
        title="One bare smtplib connection, ready-made bytes (the unit)",
        part="bare",
        series=("bare",),
        evaluate=lambda records: records.median("bare"),
        shown=per_second,
    ),
    _beside("engine-sqlite", "Bulk welcome mail, two workers, SQLite ÷ unit", "bare", 2.5),
    _beside("engine-postgresql", "The same on PostgreSQL ÷ unit", "bare", 2.0),
    _beside("plain-sqlite", "To a sink without PIPELINING, SQLite ÷ unit there", "bare-plain", 1.0),
    _beside(
        "plain-postgresql", "The same without PIPELINING on PostgreSQL ÷ unit", "bare-plain", 1.0
    ),
)
