"""Breaths: where work that nobody waits for lets go of the processor for a moment.

The system hands a processor on at the ticks of its clock, 4 ms apart where it has 250 a second. A
page that has lost its turn to a worker waits that long, unless the worker sleeps before. So a chunk
of deliveries is worked through in pieces of about 2 ms, with a breath between them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")

PIECE = 250
"""Rows between two breaths."""
_SECONDS = 50e-6

_is_patient = False


def be_patient() -> None:
    """Breathe from now on, for as long as this process lives."""
    global _is_patient  # noqa: PLW0603 - a process works on one job
    _is_patient = True


def breathe() -> None:
    if _is_patient:
        time.sleep(_SECONDS)


def paced(items: Iterable[Item]) -> Iterable[Item]:
    """The same items, with breaths between them."""
    return _breathing(items) if _is_patient else items


def pieces(rows: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """The rows in pieces, with breaths between them; all in one where nobody has patience."""
    size = PIECE if _is_patient else max(1, len(rows))
    for start in range(0, len(rows), size):
        if start:
            breathe()
        yield rows[start : start + size]


def _breathing(items: Iterable[Item]) -> Iterator[Item]:
    for position, item in enumerate(items, 1):
        yield item
        if not position % PIECE:
            breathe()
