"""Errors in commands: what is wrong where, what was expected there, and how that is shown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.command_spelling import FORBIDDEN, REPLACEMENT, shortened
from services.errors import ServiceError

MAX_ERRORS = 1_000


@dataclass(frozen=True)
class Place:
    """Characters of a line; line and column are counted from 1."""

    line: int
    column: int
    length: int


@dataclass(frozen=True)
class CommandError:
    """What is wrong where, and what was expected there.

    Line and column are counted from 1, column and length in characters. The place is always one
    of characters that were written, so that it can be underlined.
    """

    line: int
    column: int
    length: int
    message: str
    expected: str

    def __str__(self) -> str:
        return f"Line {self.line}, column {self.column}: {self.message} Expected: {self.expected}."


class CommandErrors(ServiceError):
    """Every error of a text, in the order of their places."""

    def __init__(self, errors: Iterable[CommandError]) -> None:
        self.errors = tuple(sorted(errors, key=lambda error: (error.line, error.column)))
        super().__init__("\n".join(str(error) for error in self.errors))


def limit_errors(errors: Sequence[CommandError]) -> list[CommandError]:
    """Return the errors that are told: MAX_ERRORS, and a last one when there are more."""
    if len(errors) <= MAX_ERRORS:
        return [*errors]
    more = errors[MAX_ERRORS]
    return [
        *errors[:MAX_ERRORS],
        CommandError(
            more.line,
            more.column,
            more.length,
            f"There are more than {MAX_ERRORS:,} errors. The first {MAX_ERRORS:,} are listed.",
            "fewer errors",
        ),
    ]


@dataclass(frozen=True)
class Excerpt:
    """The part of a line around an error, fit to be shown; `marked` is what to underline."""

    before: str
    marked: str
    after: str


def excerpt(line: str, error: CommandError, *, context: int = 40) -> Excerpt:
    """Return what to show of the error's line: `context` characters on each side.

    What is left out becomes "…", control characters become U+FFFD, tabs become spaces.
    """
    start = error.column - 1
    end = start + error.length
    shown = FORBIDDEN.sub(REPLACEMENT, line).replace("\t", " ")
    before, marked, after = shown[:start], shown[start:end], shown[end:]
    return Excerpt(
        before if len(before) <= context else f"…{before[len(before) - context :]}",
        shortened(marked, 2 * context),
        shortened(after, context),
    )
