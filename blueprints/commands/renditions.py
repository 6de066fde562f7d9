"""A text of commands as a page shows it: lines with numbers, and what is wrong in them marked."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.command_language import CommandError, split_lines

MOST_LINES = 40
"""Of a longer text only the lines with errors are shown, each with its neighbours."""

# How much is shown at both ends of a run: of what is marked or stands alone, and of the rest.
_LONGEST_RUN = 400
_CONTEXT = 60
# What has no shape of its own, or would turn the order of what stands around it.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)


@dataclass(frozen=True, slots=True)
class Part:
    """Characters of a line; `errors` are the numbers, from 1, of the errors that point at them.

    `starts` are those of them that begin here.
    """

    text: str
    errors: tuple[int, ...] = ()
    starts: tuple[int, ...] = ()

    @property
    def descriptions(self) -> str:
        """The ids of what is said about it, for aria-describedby."""
        return " ".join(f"error-{number}" for number in self.errors)


@dataclass(frozen=True, slots=True)
class Line:
    """A line with its number; `skipped` says how many lines before it are not shown."""

    number: int
    parts: tuple[Part, ...]
    skipped: int


@dataclass(frozen=True, slots=True)
class Rendition:
    lines: tuple[Line, ...]
    skipped_after: int


def render_text(text: str, errors: Sequence[CommandError] = ()) -> Rendition:
    """The text with its errors marked, however long it is: what does not matter is left out."""
    written = split_lines(text)
    by_line: dict[int, list[tuple[int, CommandError]]] = defaultdict(list)
    for number, error in enumerate(errors, start=1):
        by_line[error.line].append((number, error))
    lines: list[Line] = []
    last = 0
    for number in _shown_numbers(len(written), by_line):
        parts = _split(written[number - 1], by_line.get(number, ()))
        lines.append(Line(number, tuple(parts), number - last - 1))
        last = number
    return Rendition(tuple(lines), len(written) - last)


def _shown_numbers(count: int, faulty: Iterable[int]) -> list[int]:
    if count <= MOST_LINES:
        return list(range(1, count + 1))
    wanted = {near for number in faulty for near in (number - 1, number, number + 1)}
    wanted = wanted or set(range(1, MOST_LINES + 1))
    return sorted(number for number in wanted if 1 <= number <= count)


def _split(line: str, errors: Iterable[tuple[int, CommandError]]) -> list[Part]:
    """Cut a line wherever an error begins or ends."""
    spans = [
        (number, error.column - 1, min(error.column - 1 + error.length, len(line)))
        for number, error in errors
    ]
    cuts = sorted({0, len(line), *(at for _, start, end in spans for at in (start, end))})
    parts = []
    for start, end in itertools.pairwise(cuts):
        over = tuple(number for number, first, last in spans if first <= start < last)
        begins = tuple(number for number, first, _ in spans if first == start)
        shown = _shorten(line[start:end], _CONTEXT if spans and not over else _LONGEST_RUN)
        parts.append(Part(_UNSEEN.sub("\ufffd", shown), over, begins))
    return parts


def _shorten(text: str, ends: int) -> str:
    """Without its middle where it is longer than two `ends`."""
    return text if len(text) <= 2 * ends + 20 else f"{text[:ends]} … {text[-ends:]}"
