"""Rates of bulk mail beside one bare connection, interleaved round by round."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import sqlalchemy as sa

from benchmarks.bench import BULK_CUSTOMER, Bench
from benchmarks.installations import WORKERS
from benchmarks.processes import BenchmarkError, python, run
from benchmarks.records import Records, Row
from benchmarks.rival import Way
from benchmarks.sinks import find_smtp_source, scripted_sink, settled_count

SESSIONS = 4
PLAIN_CONNECTIONS = 4
FAR_SECONDS = 0.02
FAR_CONNECTIONS = 8
_FAR_CUSTOMER = "FAR"


def bare(bench: Bench) -> None:
    """The unit: a connection of smtplib that sends ready-made bytes."""
    bench.send_bare("bare", bench.sink())


def source(bench: Bench) -> None:
    """What two cores can send and take here when nothing has to be made, kept or recorded."""
    path = find_smtp_source()
    if path is None:
        raise BenchmarkError("smtp-source is not installed; it comes with Postfix.")
    bench.send_by_source("source", bench.sink(), path, SESSIONS)


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
    _send_plain(bench, "sqlite")


def plain_postgresql(bench: Bench) -> None:
    _send_plain(bench, "postgresql")


def _send_plain(bench: Bench, engine: str) -> None:
    """Where each mail takes four round trips, more connections have more of them at once."""
    bench.send_bulk(
        f"plain-{engine}",
        bench.installation(engine),
        bench.sink(pipelining=False),
        BULK_CUSTOMER,
        DELIVERY_CONNECTIONS=str(PLAIN_CONNECTIONS),
    )


def rival(bench: Bench) -> None:
    """django-post-office, set the way that was fastest when several were tried."""
    if bench.rival_way is None:
        bench.rival_way = _fastest_way(bench)
    count = bench.sizes.rival
    rate, faults = _rival_rate(bench, bench.rival_way, count)
    bench.records.add("post-office", rate, faults=faults, way=str(bench.rival_way))


def _fastest_way(bench: Bench) -> Way:
    """Try what its documentation offers on smaller mailings."""
    count = max(250, bench.sizes.rival // 4)
    rates = {way: _rival_rate(bench, way, count)[0] for way in _ways(bench)}
    for way, rate in rates.items():
        bench.records.add("post-office-tried", rate, way=str(way))
    return max(rates, key=lambda way: rates[way])


def _ways(bench: Bench) -> list[Way]:
    database = bench.installation("postgresql").database
    with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("CREATE DATABASE post_office"))
    address = database.url.set(database="post_office").render_as_string(hide_password=False)
    batch = bench.sizes.rival
    return [
        Way(batch=batch, templates=True),
        Way(batch=batch, templates=True, threads=4),
        Way(batch=batch, templates=True, processes=3),
        Way(batch=batch),
        Way(batch=batch, processes=3),
        Way(batch=batch, database=address, templates=True),
        Way(batch=batch, database=address, templates=True, processes=3),
    ]


def _rival_rate(bench: Bench, way: Way, count: int) -> tuple[float, list[str]]:
    """Mails per second, queued and sent, and what went wrong."""
    sink = bench.sink()
    before = sink.accepted()
    mails = str(bench.mails())
    way = replace(way, batch=min(way.batch, count))
    report = run(
        python("-m", "benchmarks.rival", str(sink.port), str(count), mails, way.as_json()),
        os.environ,
    )
    done = json.loads(report.strip().splitlines()[-1])
    accepted = settled_count(sink, before + count) - before
    found = {"arrived": accepted, "are recorded as sent": int(done["sent"])}
    faults = [f"{each:,} of {count:,} {what}" for what, each in found.items() if each != count]
    return count / done["seconds"], faults


def far(bench: Bench) -> None:
    """A server whose every answer comes 20 ms after the command."""
    installation = bench.customer("sqlite", _FAR_CUSTOMER, bench.sizes.far)
    # A fresh sink each time: what it has counted is this round's.
    with scripted_sink(bench.folder, delay=FAR_SECONDS) as sink:
        connections = {"DELIVERY_CONNECTIONS": str(FAR_CONNECTIONS)}
        sample = bench.send_bulk("far", installation, sink, _FAR_CUSTOMER, **connections)
        flights = sink.figures()["flights"]
    if not flights:
        raise BenchmarkError("The far sink counted no round trips.")
    sample.details["round_trips"] = flights / sample.details["recipients"]


def _share_of_ideal(records: Records) -> float:
    """The rate of one round trip per mail only counts for an engine that needs no more."""
    trips = max(1, round(records.detail("far", "round_trips")))
    return records.median("far") / (WORKERS * FAR_CONNECTIONS / trips / FAR_SECONDS)


def _about_far(records: Records) -> str:
    trips = records.detail("far", "round_trips")
    ideal = WORKERS * FAR_CONNECTIONS / max(1, round(trips)) / FAR_SECONDS
    return (
        f"{per_second(records.median('far'))} of {ideal:,.0f}; "
        f"{WORKERS} × {FAR_CONNECTIONS} connections, {trips:.2f} round trips per mail"
    )


def _about_rival(records: Records) -> str:
    way = records.samples["post-office"][0].details["way"]
    return f"{per_second(records.median('post-office'))}; {way}"


def _about_source(records: Records) -> str:
    length = records.detail("source", "length")
    return (
        f"{per_second(records.median('source'))}; {SESSIONS} sessions, {length:,.0f} bytes a mail, "
        "no PIPELINING, nothing rendered, kept or recorded"
    )


def per_second(rate: float) -> str:
    return f"{rate:,.0f} mails/s"


def times(ratio: float) -> str:
    return f"{ratio:.2f} ×"


def _beside(name: str, title: str, unit: str, limit: float, connections: int | None = None) -> Row:
    """A row for a rate that is judged by its ratio to a unit.

    `connections` are those per worker where they are not what the settings say.
    """

    def note(records: Records) -> str:
        rates = f"{per_second(records.median(name))}, unit {per_second(records.median(unit))}"
        return f"{rates}; {WORKERS} × {connections} connections" if connections else rates

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
    Row(
        name="source",
        title="For comparison: Postfix's own smtp-source, in C ÷ unit",
        part="source",
        series=("source", "bare"),
        evaluate=lambda records: records.ratio("source", "bare"),
        shown=times,
        note=_about_source,
    ),
    _beside("engine-sqlite", "Bulk welcome mail, two workers, SQLite ÷ unit", "bare", 2.5),
    _beside("engine-postgresql", "The same on PostgreSQL ÷ unit", "bare", 2.0),
    _beside(
        "plain-sqlite",
        "To a sink without PIPELINING, SQLite ÷ unit there",
        "bare-plain",
        1.0,
        PLAIN_CONNECTIONS,
    ),
    _beside(
        "plain-postgresql",
        "The same without PIPELINING on PostgreSQL ÷ unit",
        "bare-plain",
        1.0,
        PLAIN_CONNECTIONS,
    ),
    Row(
        name="post-office",
        title="Bulk welcome mail on SQLite ÷ django-post-office",
        part="post-office",
        series=("engine-sqlite", "post-office"),
        evaluate=lambda records: records.ratio("engine-sqlite", "post-office"),
        shown=times,
        target="≥ 8.0 ×",
        limit=8.0,
        note=_about_rival,
    ),
    Row(
        name="far",
        title="A server that answers after 20 ms ÷ what its connections allow",
        part="far",
        series=("far",),
        evaluate=_share_of_ideal,
        shown=times,
        target="≥ 0.8 ×",
        limit=0.8,
        note=_about_far,
    ),
)
