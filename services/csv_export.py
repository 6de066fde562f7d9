"""CSV that spreadsheets open harmlessly."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_BOM = "\ufeff"  # Spreadsheets take a file without it for their own old encoding.


def defuse(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula: an apostrophe goes before its start."""
    return f"'{cell}" if cell.startswith(_FORMULA_STARTS) else cell


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
    writer.writerow(header)
    for number, row in enumerate(rows, start=1):
        writer.writerow([defuse(cell) for cell in row])
        if number % 500 == 0:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()
