"""`python -m benchmarks`, which is what `make bench` runs."""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from sqlalchemy.exc import SQLAlchemyError

from benchmarks import plot, report
from benchmarks.bench import QUICK, Bench, Sizes
from benchmarks.parts import (
    api,
    crash,
    lists,
    million,
    rates,
    requests,
    resending,
    steady,
    user_imports,
)
from benchmarks.processes import ROOT, BenchmarkError
from benchmarks.records import Finding, Row, Verdict
from benchmarks.sinks import find_smtp_source
from config import SettingsError

RESULTS = ROOT / "var" / "bench"

Part = Callable[[Bench], None]

INTERLEAVED: dict[str, tuple[Part, ...]] = {
    "bare": (rates.bare,),
    "source": (rates.bare, rates.source),
    "engine-sqlite": (rates.bare, rates.engine_sqlite),
    "engine-postgresql": (rates.bare, rates.engine_postgresql),
    "plain-sqlite": (rates.bare_plain, rates.plain_sqlite),
    "plain-postgresql": (rates.bare_plain, rates.plain_postgresql),
    "post-office": (rates.engine_sqlite, rates.rival),
    "far": (rates.far,),
    "steady-sqlite": (steady.steady_sqlite,),
    "steady-postgresql": (steady.steady_postgresql,),
}
"""What each of these parts does every round; what several of them need is done once a round."""

TOGETHER: tuple[tuple[Part, ...], ...] = (
    (rates.rival, rates.engine_sqlite, rates.bare, rates.source, rates.engine_postgresql),
    (rates.plain_sqlite, rates.bare_plain, rates.plain_postgresql),
    (rates.far,),
    (steady.steady_sqlite,),
    (steady.steady_postgresql,),
)
"""What is compared follows on one another, for machines are not equally fast at all times."""

ALONE: dict[str, Part] = {
    "users-tab": resending.users_tab,
    "crash": crash.crash,
    "api-sqlite": api.api_sqlite,
    "api-postgresql": api.api_postgresql,
    "requests-sqlite": requests.requests_sqlite,
    "requests-postgresql": requests.requests_postgresql,
    "lists-sqlite": lists.lists_sqlite,
    "lists-postgresql": lists.lists_postgresql,
    "imports-sqlite": user_imports.imports_sqlite,
    "imports-postgresql": user_imports.imports_postgresql,
    "million-sqlite": million.million_sqlite,
    "million-postgresql": million.million_postgresql,
}
"""Parts that count their rounds themselves."""

ROWS: tuple[Row, ...] = (
    *rates.ROWS,
    *million.ROWS,
    *steady.ROWS,
    *resending.ROWS,
    *api.ROWS,
    *requests.ROWS,
    *lists.ROWS,
    *user_imports.ROWS,
    *crash.ROWS,
)


def main(arguments: Sequence[str]) -> int:
    """Measure and report. Returns 1 when a row failed, 2 for arguments that make no sense."""
    try:
        rows, sizes, options = _read(arguments)
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _stop)
    into: Path = options.into.resolve()
    into.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="parts-", dir=into))
    bench = Bench(sizes, folder)
    try:
        findings = _run(bench, rows, options)
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130
    except (BenchmarkError, SettingsError) as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        bench.close()
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if any(each.verdict is Verdict.FAILED for each in findings) else 0


def _read(arguments: Sequence[str]) -> tuple[list[Row], Sizes, argparse.Namespace]:
    known = [row.name for row in ROWS]
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rows", metavar="NAMES", help=f"some of {','.join(known)}")
    parser.add_argument("--quick", action="store_true", help="smaller counts, two rounds")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--recipients", type=int, help="of each mailing whose rate is measured")
    parser.add_argument("--into", type=Path, default=RESULTS, help="folder for the results")
    parser.add_argument("--publish", action="store_true", help="write README, docs and plot anew")
    options = parser.parse_args(arguments)
    sizes = QUICK if options.quick else Sizes()
    for name in ("rounds", "recipients"):
        if (value := getattr(options, name)) is not None:
            if not 1 <= value <= 1_000_000:
                raise BenchmarkError(f"--{name} is {value}. Write a number from 1 to 1000000.")
            sizes = dataclasses.replace(sizes, **{name: value})
    if options.rows:
        wanted = options.rows.split(",")
    else:
        wanted = [name for name in known if name != "source" or find_smtp_source()]
    if unknown := [name for name in wanted if name not in known]:
        raise BenchmarkError(f"There is no row {unknown[0]!r}. The rows are: {', '.join(known)}.")
    return [row for row in ROWS if row.name in wanted], sizes, options


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _run(bench: Bench, rows: list[Row], options: argparse.Namespace) -> list[Finding]:
    began_at, started = datetime.now(UTC), time.monotonic()
    machine = report.describe_machine()
    if machine["load_at_start"] > machine["cores"] / 4:
        print(f"This machine is busy (load {machine['load_at_start']}): figures will be off.")
    wanted = {row.part for row in rows}
    _interleave(bench, wanted)
    for name, part in ALONE.items():
        if name in wanted:
            _try(bench, [name], part)
    findings = [row.judge(bench.records) for row in rows]
    settings = report.describe_settings(bench.installation("sqlite").settings())
    base = options.into.resolve() / f"{began_at:%Y%m%dT%H%M%SZ}"
    seconds = time.monotonic() - started
    report.write_json(base.with_suffix(".json"), bench, findings, machine, settings, seconds)
    summary = report.describe_run(machine, settings, bench.sizes)
    markdown = f"{report.markdown_table(findings)}\n{summary}\n"
    base.with_suffix(".md").write_text(markdown)
    picture = plot.draw(bench.records)
    if picture is not None:
        base.with_suffix(".svg").write_text(picture)
    print(f"\n{report.terminal_table(findings)}\n\n{summary}")
    print(f"{seconds:.0f} s. Every round: {os.path.relpath(base.with_suffix('.json'))}")
    if options.publish:
        report.publish(markdown, picture)
    return findings


def _interleave(bench: Bench, wanted: Iterable[str]) -> None:
    """Every part once a round; each round begins elsewhere and turns the order around."""
    chosen = [name for name in INTERLEAVED if name in wanted]
    needed = {part for name in chosen for part in INTERLEAVED[name]}
    groups = [kept for group in TOGETHER if (kept := [part for part in group if part in needed])]
    for number in range(1, bench.sizes.rounds + 1):
        bench.round = number
        first = (number - 1) % max(1, len(groups))
        for group in groups[first:] + groups[:first]:
            for part in group if number % 2 else reversed(group):
                users = [name for name in chosen if part in INTERLEAVED[name]]
                if not all(name in bench.records.broken for name in users):
                    _try(bench, users, part)


def _try(bench: Bench, names: Sequence[str], part: Part) -> None:
    """Run a part; what breaks it fails its rows and leaves the others alone."""
    label = part.__name__.replace("_", " ")
    print(f"round {bench.round}/{bench.sizes.rounds}: {label} … ", end="", flush=True)
    counts = {name: len(samples) for name, samples in bench.records.samples.items()}
    started = time.monotonic()
    try:
        part(bench)
    except (BenchmarkError, SQLAlchemyError, OSError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        for name in names:
            bench.records.broken[name] = reason
        print(f"FAILED: {reason}", flush=True)
        return
    fresh = [
        f"{sample.value:,.4g}"
        for name, samples in bench.records.samples.items()
        for sample in samples[counts.get(name, 0) :]
    ]
    print(f"{', '.join(fresh)} ({time.monotonic() - started:.1f} s)", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
