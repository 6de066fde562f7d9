"""CSV that spreadsheets open harmlessly, and that reads back as what it was."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_MARK = "'"
_BOM = "\ufeff"  # Spreadsheets take a file without it for their own old encoding.


def defuse(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula: an apostrophe goes before its start.

    One goes also before a start that has some already, so that `undefuse` knows what was there.
    """
    return f"{_MARK}{cell}" if cell.lstrip(_MARK).startswith(_FORMULA_STARTS) else cell


def undefuse(cell: str) -> str:
    """What `defuse` was given, of what it gave."""
    if cell.startswith(_MARK) and cell.lstrip(_MARK).startswith(_FORMULA_STARTS):
        return cell[1:]
    return cell


def as_text(value: Any) -> str:
    """A column's value as a cell; aware times in UTC, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    return str(value)


def stream_csv(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Lines of CSV in pieces of a few hundred rows."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    buffer.write(_BOM)
    writer.writerow([defuse(cell) for cell in header])
    for number, row in enumerate(rows, start=1):
        writer.writerow([defuse(cell) for cell in row])
        if number % 500 == 0:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()
