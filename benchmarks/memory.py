"""Memory of processes: the proportional share (PSS) where Linux tells it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)
_EVERY = 0.5


def pss_of(pid: int | str) -> int:
    """Bytes that a process has for itself plus its share of what it has with others; 0 if gone."""
    try:
        found = _PSS.search(Path(f"/proc/{pid}/smaps_rollup").read_text())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def pss_of_this_process() -> int:
    return pss_of("self")


@dataclass
class Peaks:
    """The highest figures seen, of one process and of all together."""

    one: int = 0
    all: int = 0
    samples: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def note(self, figures: Iterable[int]) -> None:
        listed = list(figures)
        with self._lock:
            self.one = max([self.one, *listed])
            self.all = max(self.all, sum(listed))
            self.samples += 1


@contextmanager
def watched(pids: Callable[[], Iterable[int]], every: float = _EVERY) -> Iterator[Peaks]:
    """Sample the memory of what `pids` returns at each look, for as long as the block runs."""
    peaks = Peaks()
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(every):
            peaks.note(pss_of(pid) for pid in pids())

    watcher = threading.Thread(target=watch, name="memory", daemon=True)
    watcher.start()
    try:
        yield peaks
    finally:
        ended.set()
        watcher.join()
