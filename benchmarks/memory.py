"""Memory of processes: the proportional share (PSS) where Linux tells it, and what is resident."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import BenchmarkError

_SHARE = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)
_RESIDENT = re.compile(r"^Rss:\s+(\d+) kB", re.MULTILINE)


def pss_of(pid: int | str) -> int:
    """Bytes that a process has for itself plus its share of what it has with others; 0 if gone."""
    return _read(pid)[0]


def pss_of_this_process() -> int:
    return pss_of("self")


def _read(pid: int | str) -> tuple[int, int]:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0, 0
    share, resident = _SHARE.search(text), _RESIDENT.search(text)
    if share is None or resident is None:
        return 0, 0
    return int(share[1]) * 1024, int(resident[1]) * 1024


@dataclass
class Peaks:
    """The highest figures that any of the processes had, in bytes."""

    pss: int = 0
    rss: int = 0
    samples: int = 0


@contextmanager
def watched(pids: Callable[[], Iterable[int]], every: float) -> Iterator[Peaks]:
    """Look at what `pids` names, again and again, for as long as the block runs."""
    if not sys.platform.startswith("linux"):
        raise BenchmarkError("Memory is measured on Linux only.")
    peaks = Peaks()
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(every):
            for pid in pids():
                pss, rss = _read(pid)
                peaks.pss, peaks.rss = max(peaks.pss, pss), max(peaks.rss, rss)
            peaks.samples += 1

    watcher = threading.Thread(target=watch, name="memory", daemon=True)
    watcher.start()
    try:
        yield peaks
    finally:
        ended.set()
        watcher.join()
