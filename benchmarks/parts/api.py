"""The REST API beside bare Flask views: accepting welcome mails, and listing customers.

Both run under gunicorn with the same settings, on the same database, and are asked in turn. No
worker runs meanwhile: what is measured is the accepting, not the sending.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from benchmarks import bare_api
from benchmarks.bench import Bench
from benchmarks.callers import request_bytes, send_burst
from benchmarks.customer_rows import FIRST_CUSTNO, GROUPNO, add_customers
from benchmarks.installations import Installation
from benchmarks.processes import python, wait_until
from benchmarks.records import Records, Row
from benchmarks.sinks import free_port
from benchmarks.web import is_ready, serving

_CONNECTIONS = 4
_MAILED = 1_000
_LIST = f"/api/v1/group/{GROUPNO}/customer"


def _measure(bench: Bench, engine: str) -> None:
    with (
        _filled(bench, engine) as installation,
        serving(installation, bench.sink(), API_RATE_LIMIT="0") as foyer,
        _serving_bare(installation) as bare_port,
    ):
        number = 10 * bench.sizes.requests
        sends = [
            request_bytes(
                "POST", f"{_LIST}/{FIRST_CUSTNO + each % _MAILED}/send-welcome-email", b"{}"
            )
            for each in range(number)
        ]
        inserts = [request_bytes("POST", "/insert", b"{}")] * number
        lists = [request_bytes("GET", f"{_LIST}?limit=100")] * (number // 2)
        bare_lists = [request_bytes("GET", f"/list/{GROUPNO}")] * (number // 2)
        for port, requests in (
            (foyer.port, sends[:100]),
            (bare_port, inserts[:100]),
            (foyer.port, lists[:50]),
            (bare_port, bare_lists[:50]),
        ):
            send_burst(port, requests, 204 if requests[0].startswith(b"POST") else 200, 2)
        for _ in range(bench.sizes.rounds):
            for series, port, requests, status in (
                ("send", foyer.port, sends, 204),
                ("send-bare", bare_port, inserts, 204),
                ("list", foyer.port, lists, 200),
                ("list-bare", bare_port, bare_lists, 200),
            ):
                burst = send_burst(port, requests, status, _CONNECTIONS)
                bench.records.add(
                    f"api-{engine}-{series}",
                    burst.per_second,
                    faults=burst.faults,
                    p99=burst.p99,
                    customers=bench.sizes.many,
                )
            _compare_refusals(bench, engine, foyer.port)


def _compare_refusals(bench: Bench, engine: str, port: int) -> None:
    """Refusals in turn, a few at a time: the difference that is looked for is very small."""
    number = bench.sizes.requests
    # CQ101 is in another group than the credential; nobody has the other number.
    paths = {
        "foreign": request_bytes("GET", "/api/v1/group/2/customer/2001"),
        "missing": request_bytes("GET", "/api/v1/group/2/customer/2999"),
    }
    times: dict[str, list[float]] = {name: [] for name in paths}
    faults: list[str] = []
    for turn in range(20):
        for name in sorted(paths, reverse=bool(turn % 2)):
            burst = send_burst(port, [paths[name]] * number, 403, 1)
            times[name] += burst.times
            faults += burst.faults
    for name, found in times.items():
        per_second = 1 / statistics.median(found)
        bench.records.add(f"api-{engine}-{name}", per_second, faults=faults[:1])


@contextmanager
def _filled(bench: Bench, engine: str) -> Iterator[Installation]:
    with bench.own_installation(engine, "api") as installation:
        with installation.database.begin() as connection:
            add_customers(connection, bench.sizes.many, mailed=_MAILED)
            number = "BIGINT GENERATED ALWAYS AS IDENTITY" if engine == "postgresql" else "INTEGER"
            connection.execute(
                sa.text(f"CREATE TABLE {bare_api.TABLE} (id {number} PRIMARY KEY, note TEXT)")
            )
        if engine == "postgresql":
            database = installation.database.execution_options(isolation_level="AUTOCOMMIT")
            with database.connect() as connection:
                connection.execute(sa.text("VACUUM ANALYZE"))
        yield installation


@contextmanager
def _serving_bare(installation: Installation) -> Iterator[int]:
    port = free_port()
    command = python(
        "-m", "gunicorn", "--config", "gunicorn.conf.py", "benchmarks.bare_api:create_app()"
    )
    with installation.start("bare web", command, PORT=str(port)) as program:
        wait_until(lambda: is_ready(program, port, f"/list/{GROUPNO}", 403), "Starting it", 30)
        yield port


def api_sqlite(bench: Bench) -> None:
    _measure(bench, "sqlite")


def api_postgresql(bench: Bench) -> None:
    _measure(bench, "postgresql")


# --- Rows --------------------------------------------------------------------------------------


def _row(engine: str, label: str, kind: str, title: str) -> Row:
    ours, bare = f"api-{engine}-{kind}", f"api-{engine}-{kind}-bare"

    def note(records: Records) -> str:
        return (
            f"{records.median(ours):,.0f}/s, p99 {records.detail(ours, 'p99') * 1000:.1f} ms; bare "
            f"{records.median(bare):,.0f}/s, p99 {records.detail(bare, 'p99') * 1000:.1f} ms; "
            f"{records.detail(ours, 'customers'):,.0f} customers, {_CONNECTIONS} connections"
        )

    return Row(
        name=f"api-{kind}-{engine}",
        title=f"{title}, {label}",
        part=f"api-{engine}",
        series=(ours, bare),
        evaluate=lambda records: records.ratio(ours, bare),
        shown=lambda ratio: f"{ratio:.2f} ×",
        target="≥ 0.5 ×",
        limit=0.5,
        note=note,
    )


def _difference(records: Records, engine: str) -> float:
    """How far apart the times of a foreign customer and of none are, as a ratio of at least 1."""
    ratio = records.ratio(f"api-{engine}-foreign", f"api-{engine}-missing")
    return max(ratio, 1 / ratio)


def _isolation_row(engine: str, label: str) -> Row:
    series = (f"api-{engine}-foreign", f"api-{engine}-missing")
    return Row(
        name=f"api-isolation-{engine}",
        title=f"Another group's customer ÷ one that does not exist, time of the refusal, {label}",
        part=f"api-{engine}",
        series=series,
        evaluate=lambda records: _difference(records, engine),
        shown=lambda ratio: f"{ratio:.3f} ×",
        target="≤ 1.05 ×",
        limit=1.05,
        at_least=False,
    )


ROWS = tuple(
    row
    for engine, label in (("sqlite", "SQLite"), ("postgresql", "PostgreSQL"))
    for row in (
        _row(engine, label, "send", "send-welcome-email ÷ a bare Flask view that inserts a row"),
        _row(
            engine,
            label,
            "list",
            "List Customers, 100 of very many ÷ a bare Flask view of the same query",
        ),
        _isolation_row(engine, label),
    )
)
"""The parts of the benchmark: each measures, and says by which rows it is judged."""
