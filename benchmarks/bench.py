"""What the parts of the benchmark share: the sizes, the installations, the sinks, the records."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.bare import load_mails
from benchmarks.installations import Installation, open_installation
from benchmarks.processes import python, run
from benchmarks.records import Records, Sample
from benchmarks.rival import Way
from benchmarks.sinks import HOST, Sink, bulk_sink, scripted_sink, settled_count

BULK_CUSTOMER = "BULK"
_SAMPLE_CUSTOMER = "SAMPLE"
_SAMPLE_USERS = 24


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured: recipients of each kind of mailing, rounds, mailings in a round."""

    rounds: int = 5
    recipients: int = 20_000
    rival: int = 4_000
    far: int = 8_000
    steady: int = 100_000
    steady_mailings: int = 2
    few: int = 1_000
    many: int = 1_000_000
    requests: int = 100
    quick: bool = False


QUICK = Sizes(
    rounds=2,
    recipients=5_000,
    rival=1_000,
    far=1_000,
    steady=10_000,
    steady_mailings=1,
    many=50_000,
    requests=30,
    quick=True,
)


class Bench:
    """Makes each shared thing when it is first wanted; `close` ends everything."""

    def __init__(self, sizes: Sizes, folder: Path) -> None:
        self.sizes = sizes
        self.folder = folder
        self.records = Records()
        self.round = 0
        self._stack = ExitStack()
        self._installations: dict[str, Installation] = {}
        self._sinks: dict[bool, Sink] = {}
        self._mails: Path | None = None
        self._customers: set[tuple[str, str]] = set()
        self.rival_way: Way | None = None

    def close(self) -> None:
        self._stack.close()

    def installation(self, engine: str) -> Installation:
        """The installation on `engine` with the customer of the bulk mailings."""
        if engine not in self._installations:
            made = self._stack.enter_context(open_installation(engine, self.folder / engine))
            made.add_customer(BULK_CUSTOMER, self.sizes.recipients)
            self._installations[engine] = made
        return self._installations[engine]

    def customer(self, engine: str, web_id: str, users: int) -> Installation:
        """The installation on `engine`, with a further customer."""
        installation = self.installation(engine)
        if (engine, web_id) not in self._customers:
            installation.add_customer(web_id, users)
            self._customers.add((engine, web_id))
        return installation

    @contextmanager
    def own_installation(self, engine: str, name: str) -> Iterator[Installation]:
        """An installation for one part alone, gone after it."""
        with open_installation(engine, self.folder / f"{name}-{engine}") as made:
            yield made

    def sink(self, *, pipelining: bool = True) -> Sink:
        if pipelining not in self._sinks:
            opened = bulk_sink(self.folder, pipelining=pipelining)
            self._sinks[pipelining] = self._stack.enter_context(opened)
        return self._sinks[pipelining]

    def mails(self) -> Path:
        """A file with welcome mails, in all languages, that the engine has sent to a sink."""
        if self._mails is None:
            installation = self.installation("sqlite")
            installation.add_customer(_SAMPLE_CUSTOMER, _SAMPLE_USERS)
            with (
                scripted_sink(self.folder, keep=True) as sink,
                installation.working(sink) as crew,
            ):
                confirmed = installation.confirm(_SAMPLE_CUSTOMER)
                installation.wait_for_end(confirmed.mailing_id, crew)
                settled_count(sink, _SAMPLE_USERS)
            self._mails = sink.program.log.with_suffix(".mails")
        return self._mails

    def send_bare(self, series: str, sink: Sink) -> None:
        """Record what one bare smtplib connection reaches at `sink`."""
        count, before = self.sizes.recipients, sink.accepted()
        report = run(
            python("-m", "benchmarks.bare", str(sink.port), str(count), str(self.mails())),
            os.environ,
        )
        self._add_arrived(series, sink, before, json.loads(report)["seconds"])

    def send_by_source(self, series: str, sink: Sink, source: str, sessions: int) -> None:
        """Record what Postfix's smtp-source reaches: one text of the same mean length, no more."""
        mails = load_mails(self.mails())
        length = round(sum(len(message) for *_, message in mails) / len(mails))
        # With -d the sessions stay open; otherwise each mail would pay for one.
        options = ["-d", "-s", str(sessions), "-m", str(self.sizes.recipients), "-l", str(length)]
        before, started = sink.accepted(), time.perf_counter()
        run([source, *options, f"{HOST}:{sink.port}"], os.environ)
        self._add_arrived(series, sink, before, time.perf_counter() - started, length=length)

    def _add_arrived(
        self, series: str, sink: Sink, before: int, seconds: float, **details: Any
    ) -> None:
        """Record a rate, with a fault unless every mail arrived since the sink had `before`."""
        count = self.sizes.recipients
        accepted = settled_count(sink, before + count) - before
        faults = [f"{accepted:,} of {count:,} arrived"] if accepted != count else []
        self.records.add(series, count / seconds, faults=faults, **details)

    def send_bulk(
        self, series: str, installation: Installation, sink: Sink, customer: str, **changes: str
    ) -> Sample:
        """Record the rate of one mailing, from the confirmation to the last recorded result."""
        before = sink.accepted()
        with installation.working(sink, changes=changes) as crew:
            confirmed = installation.confirm(customer)
            ended_at = installation.wait_for_end(confirmed.mailing_id, crew)
        seconds = ended_at - confirmed.began_at
        accepted = settled_count(sink, before + confirmed.recipients) - before
        return self.records.add(
            series,
            confirmed.recipients / seconds,
            faults=installation.find_faults(confirmed, accepted),
            seconds=seconds,
            recipients=confirmed.recipients,
        )
