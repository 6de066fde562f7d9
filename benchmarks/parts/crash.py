"""A worker killed with kill -9 while it sends."""

from __future__ import annotations

import random
import time

import sqlalchemy as sa

from benchmarks.bench import BULK_CUSTOMER, Bench
from benchmarks.installations import Installation
from benchmarks.processes import BenchmarkError, Program, wait_until
from benchmarks.records import Records, Row
from benchmarks.sinks import Arrival, ScriptedSink, scripted_sink, settled_count
from models import Delivery, DeliveryClaim, DeliveryState

_LONGEST = 120.0


def crash(bench: Bench) -> None:
    """As often as there are rounds, each time at another moment."""
    installation = bench.installation("sqlite")
    for number in range(1, bench.sizes.rounds + 1):
        bench.round = number
        _crash_once(bench, installation)


def _crash_once(bench: Bench, installation: Installation) -> None:
    connections = installation.settings().delivery_connections
    with scripted_sink(bench.folder) as sink, installation.working(sink) as crew:
        confirmed = installation.confirm(BULK_CUSTOMER)
        _wait_for_moment(sink, confirmed.recipients)
        orphans = _kill_while_it_sends(installation, crew[0])
        killed_at = time.time()
        wait_until(lambda: _all_sent(installation, orphans), "The orphans", _LONGEST)
        seconds = time.time() - killed_at
        installation.wait_for_end(confirmed.mailing_id, crew[1:])
        settled_count(sink, confirmed.recipients)
        time.sleep(0.5)  # For the journal, which is written four times a second.
        arrivals = sink.arrivals()
    repeats = len(arrivals) - len({each.recipient for each in arrivals})
    faults = installation.find_faults(confirmed, len(arrivals), repeats) + _differing(arrivals)
    details = {"orphans": len(orphans), "repeats": repeats, "connections": connections}
    bench.records.add("crash-seconds", seconds, faults=faults, **details)
    bench.records.add("crash-repeats", repeats / connections, faults=faults, **details)


def _wait_for_moment(sink: ScriptedSink, recipients: int) -> None:
    moment = recipients * random.uniform(0.1, 0.6)
    wait_until(lambda: sink.accepted() >= moment, "Beginning to send", _LONGEST, every=0.01)


def _kill_while_it_sends(installation: Installation, worker: Program) -> list[int]:
    """Kill a worker that holds claims; return the deliveries in its hands."""
    pids: list[int] = []

    def holds_claims() -> bool:
        pids[:] = worker.members()
        return bool(_claims_of(installation, pids))

    wait_until(holds_claims, "Finding the worker at work", 10, every=0.005)
    worker.kill()
    orphans = installation.read(
        sa.select(Delivery.id).where(
            Delivery.claim_token.in_(_claims_of(installation, pids)),
            Delivery.state == DeliveryState.SENDING,
        )
    )
    if not orphans:
        raise BenchmarkError("The killed worker had nothing in its hands.")
    return [row.id for row in orphans]


def _claims_of(installation: Installation, pids: list[int]) -> list[str]:
    claims = installation.read(sa.select(DeliveryClaim.token, DeliveryClaim.worker))
    mine = {str(pid) for pid in pids}
    return [row.token for row in claims if row.worker.rpartition(":")[2] in mine]


def _all_sent(installation: Installation, ids: list[int]) -> bool:
    left = sa.select(sa.func.count().label("left")).where(
        Delivery.id.in_(ids), Delivery.state != DeliveryState.SENT
    )
    return bool(installation.read(left)[0].left == 0)


def _differing(arrivals: list[Arrival]) -> list[str]:
    """A repeat must be the same message."""
    pairs = {(each.recipient, each.message_id) for each in arrivals}
    others = len(pairs) - len({recipient for recipient, _ in pairs})
    return [f"{others} recipients got two different mails"] if others else []


def _about_seconds(records: Records) -> str:
    return f"the longest of {len(records.samples['crash-seconds'])} kills"


def _about_repeats(records: Records) -> str:
    repeats = [sample.details["repeats"] for sample in records.samples["crash-repeats"]]
    connections = records.detail("crash-repeats", "connections")
    return f"{', '.join(map(str, repeats))} repeats, {connections:g} connections; the most counts"


ROWS = (
    Row(
        name="crash-seconds",
        title="A worker killed with kill -9: what it held is sent after",
        part="crash",
        series=("crash-seconds",),
        evaluate=lambda records: max(records.values("crash-seconds")),
        shown=lambda seconds: f"{seconds:.1f} s",
        target="≤ 30 s",
        limit=30.0,
        at_least=False,
        note=_about_seconds,
    ),
    Row(
        name="crash-repeats",
        title="Repeated mails per connection that the killed worker had open",
        part="crash",
        series=("crash-repeats",),
        evaluate=lambda records: max(records.values("crash-repeats")),
        shown=lambda repeats: f"{repeats:.2f}",
        target="≤ 1",
        limit=1.0,
        at_least=False,
        note=_about_repeats,
    ),
)
