"""Keyset paging: every page costs the same, wherever it lies."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

import sqlalchemy as sa

T = TypeVar("T")

PAGE_SIZES = (25, 50, 100)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A page of rows with the cursors of its neighbours, None where there is none."""

    rows: list[T]
    previous: str | None
    next: str | None


def encode_cursor(direction: str, value: Any, row_id: int) -> str:
    """A cursor: `direction` is "a" (rows after) or "b" (rows before) the row named."""
    if isinstance(value, datetime):
        value = value.isoformat()
    raw = json.dumps([direction, value, row_id], separators=(",", ":"), ensure_ascii=False)
    return base64.urlsafe_b64encode(raw.encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[str, Any, int] | None:
    """The parts of a cursor, or None for anything that is not one."""
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        direction, value, row_id = json.loads(raw)
        str(value).encode()  # A lone surrogate is a string to JSON and to no database.
        str(value).encode()  # Lone surrogates are JSON, but no text for a database.
    except (ValueError, TypeError, binascii.Error, RecursionError):
        return None
    if direction not in ("a", "b") or type(row_id) is not int or not 0 <= row_id < 2**63:
        return None
    return (direction, value, row_id) if isinstance(value, str) and "\0" not in value else None


def keyset_page(
    fetch: Callable[[sa.Select[Any]], Sequence[T]],
    query: sa.Select[Any],
    *,
    key: sa.ColumnElement[Any],
    row_id: sa.ColumnElement[int],
    key_of: Callable[[T], tuple[Any, int]],
    parse_key: Callable[[str], Any] = str,
    descending: bool = False,
    size: int = 25,
    cursor: str = "",
) -> Page[T]:
    """A page of `query` ordered by (`key`, `row_id`).

    `key_of` gives the same pair for a row. A cursor that cannot be read gives the first page.
    """
    place = decode_cursor(cursor) if cursor else None
    backwards = False
    if place is not None:
        direction, raw, last_id = place
        try:
            value = parse_key(raw)
        except ValueError:
            place = None
        else:
            backwards = direction == "b"
            pair = sa.tuple_(key, row_id)
            border = sa.tuple_(sa.literal(value, key.type), sa.literal(last_id, row_id.type))
            query = query.where(pair < border if backwards != descending else pair > border)
    falling = descending != backwards
    order = (key.desc(), row_id.desc()) if falling else (key.asc(), row_id.asc())
    found = list(fetch(query.order_by(*order).limit(size + 1)))
    more = len(found) > size
    rows = found[:size]
    if backwards:
        rows.reverse()
    has_previous = more if backwards else place is not None
    has_next = True if backwards else more
    return Page(
        rows=rows,
        previous=encode_cursor("b", *key_of(rows[0])) if rows and has_previous else None,
        next=encode_cursor("a", *key_of(rows[-1])) if rows and has_next else None,
    )


def parse_id_key(raw: str) -> int:
    """The key of a list that is ordered by id alone; ValueError for what cannot be one."""
    value = int(raw) if len(raw) < 20 else -1
    if not 0 <= value < 2**63:
        raise ValueError("not the id of a row")
    return value
