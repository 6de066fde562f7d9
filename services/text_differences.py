"""The difference of two texts, line by line, for people to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import StrEnum

CONTEXT = 2
"""Unchanged lines that are shown around what differs."""

_MOST_PAIRS = 1_000_000
"""Lines times lines that are compared; what is longer is shown as replaced whole."""


class Change(StrEnum):
    SAME = "same"
    REMOVED = "removed"
    ADDED = "added"


@dataclass(frozen=True, slots=True)
class Line:
    change: Change
    text: str


Hunk = list[Line]
"""Lines that follow one another; between two hunks, unchanged lines are left out."""


def compare_texts(before: str, after: str) -> list[Hunk]:
    """What differs, nothing for texts that have the same lines."""
    old, new = before.rstrip().splitlines(), after.rstrip().splitlines()
    if old == new:
        return []
    start = _common(old, new)
    end = _common(old[start:][::-1], new[start:][::-1])
    inner_old, inner_new = old[start : len(old) - end], new[start : len(new) - end]
    lines = [
        *(Line(Change.SAME, each) for each in old[:start]),
        *_compare(inner_old, inner_new),
        *(Line(Change.SAME, each) for each in old[len(old) - end :]),
    ]
    return _hunks(lines)


def _common(old: Sequence[str], new: Sequence[str]) -> int:
    count = 0
    for one, other in zip(old, new, strict=False):
        if one != other:
            break
        count += 1
    return count


def _compare(old: list[str], new: list[str]) -> list[Line]:
    if len(old) * len(new) > _MOST_PAIRS:
        return _replaced(old, new)
    lines: list[Line] = []
    for tag, i, j, k, m in SequenceMatcher(None, old, new).get_opcodes():
        if tag == "equal":
            lines += (Line(Change.SAME, each) for each in old[i:j])
        else:
            lines += _replaced(old[i:j], new[k:m])
    return lines


def _replaced(old: list[str], new: list[str]) -> list[Line]:
    return [
        *(Line(Change.REMOVED, each) for each in old),
        *(Line(Change.ADDED, each) for each in new),
    ]


def _hunks(lines: list[Line]) -> list[Hunk]:
    shown: set[int] = set()
    for number, line in enumerate(lines):
        if line.change is not Change.SAME:
            shown.update(range(number - CONTEXT, number + CONTEXT + 1))
    hunks: list[Hunk] = []
    last = None
    for number, line in enumerate(lines):
        if number not in shown:
            continue
        if last is None or number != last + 1:
            hunks.append([])
        hunks[-1].append(line)
        last = number
    return hunks
