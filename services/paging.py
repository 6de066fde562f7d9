"""Keyset paging: every page costs the same, wherever it lies."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
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
    elif isinstance(value, int):
        value = str(value)
    raw = json.dumps([direction, value, row_id], separators=(",", ":"), ensure_ascii=False)
    return base64.urlsafe_b64encode(raw.encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[str, Any, int] | None:
    """The parts of a cursor, or None for anything that is not one."""
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        direction, value, row_id = json.loads(raw)
        str(value).encode()  # A lone surrogate is a string to JSON and to no database.
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
    place = _read_place(cursor, parse_key)
    strand = Strand(query, key, row_id)
    found = fetch(_beyond(strand, place, descending=descending, size=size))
    rows, previous, following = _cut(list(found), place, key_of, size)
    return Page(rows, previous, following)


@dataclass(frozen=True, slots=True)
class Strand:
    """A part of a list that lies in the list's order: the rows of `query` by (`key`, `row_id`).

    Of these `bounded_page` shows the ones that fulfil `keep`, which no index needs to know.
    """

    query: sa.Select[Any]
    key: sa.ColumnElement[Any]
    row_id: sa.ColumnElement[int]
    keep: sa.ColumnElement[bool] | None = None


_STRANDS_AT_ONCE = 100


def merged_page(
    fetch: Callable[[sa.Select[Any]], Sequence[Any]],
    strands: Sequence[Strand],
    *,
    load: Callable[[list[int]], list[T]],
    parse_key: Callable[[str], Any] = str,
    descending: bool = False,
    size: int = 25,
    cursor: str = "",
) -> Page[T]:
    """A page of what `strands` have together, in the order of their keys.

    Where an index holds each strand in that order, the page costs the same however many rows there
    are: an IN over the same values would have all of its rows sorted. `fetch` answers a statement
    of (key, id); `load` gives the rows of ids in their order, without those that are gone.
    """
    place = _read_place(cursor, parse_key)
    falling = descending != (place is not None and place.backwards)
    pairs: list[tuple[Any, int]] = []
    for start in range(0, len(strands), _STRANDS_AT_ONCE):
        parts = [
            sa.select(
                _beyond(each, place, descending=descending, size=size)
                .with_only_columns(each.key.label("key"), each.row_id.label("id"))
                .subquery()
            )
            for each in strands[start : start + _STRANDS_AT_ONCE]
        ]
        columns = sa.union_all(*parts).subquery().c
        order = [each.desc() if falling else each.asc() for each in (columns.key, columns.id)]
        together = sa.select(columns.key, columns.id).order_by(*order).limit(size + 1)
        pairs += [(key, row_id) for key, row_id in fetch(together)]
    pairs.sort(reverse=falling)
    shown, previous, following = _cut(pairs[: size + 1], place, lambda pair: pair, size)
    return Page(load([row_id for _, row_id in shown]), previous, following)


@dataclass(frozen=True, slots=True)
class BoundedPage(Page[T]):
    """A page that may end early: `reached` is the key up to which rows were looked at, then."""

    reached: Any = None


def bounded_page(
    fetch: Callable[[sa.Select[Any]], Sequence[Any]],
    strands: Sequence[Strand],
    *,
    load: Callable[[list[int]], list[T]],
    most: int,
    parse_key: Callable[[str], Any] = str,
    descending: bool = False,
    size: int = 25,
    cursor: str = "",
) -> BoundedPage[T]:
    """A page of what `strands` have together, each row once, as `merged_page` makes it.

    Of a strand with `keep` up to `most` rows are looked at, however few of them fulfil it. Where
    that does not fill the page, it ends there, and the next one goes on from that row.
    """
    place = _read_place(cursor, parse_key)
    falling = descending != (place is not None and place.backwards)
    pairs: set[tuple[Any, int]] = set()
    for start in range(0, len(strands), _STRANDS_AT_ONCE):
        parts = [
            sa.select(_kept(each, place, most, descending=descending, size=size).subquery())
            for each in strands[start : start + _STRANDS_AT_ONCE]
        ]
        together = sa.union_all(*parts).subquery().c
        found = fetch(sa.select(together.key, together.id))
        pairs |= {(key, row_id) for key, row_id in found}
    ordered = sorted(pairs, reverse=falling)
    horizon = None
    if len(ordered) <= size:
        edges = [
            (key, row_id)
            for each in strands
            if each.keep is not None
            for key, row_id in fetch(
                _looked_at(each, place, most, descending=descending).offset(most - 1).limit(1)
            )
        ]
        if edges:
            horizon = max(edges) if falling else min(edges)
            ordered = [
                each for each in ordered if (each >= horizon if falling else each <= horizon)
            ]
    rows, previous, following = _cut(ordered[: size + 1], place, lambda pair: pair, size)
    if horizon is not None:
        backwards = place is not None and place.backwards
        previous = encode_cursor("b", *horizon) if backwards else previous
        following = following if backwards and rows else encode_cursor("a", *horizon)
    shown = load([row_id for _, row_id in rows])
    return BoundedPage(shown, previous, following, horizon[0] if horizon else None)


def _looked_at(
    strand: Strand, place: _Place | None, most: int, *, descending: bool
) -> sa.Select[Any]:
    """The next rows of a strand as (key, id), no more than `most`."""
    found = _beyond(strand, place, descending=descending, size=most - 1)
    return found.with_only_columns(strand.key.label("key"), strand.row_id.label("id"))


def _kept(
    strand: Strand, place: _Place | None, most: int, *, descending: bool, size: int
) -> sa.Select[Any]:
    """The next rows of a strand that fulfil its `keep`, one more than fit on the page."""
    if strand.keep is None:
        return _looked_at(strand, place, size + 1, descending=descending)
    seen = (
        _looked_at(strand, place, most, descending=descending)
        .add_columns(sa.type_coerce(strand.keep, sa.Boolean).label("kept"))
        .subquery()
    )
    falling = descending != (place is not None and place.backwards)
    order = [each.desc() if falling else each.asc() for each in (seen.c.key, seen.c.id)]
    return sa.select(seen.c.key, seen.c.id).where(seen.c.kept).order_by(*order).limit(size + 1)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a cursor points: beyond this pair, or `backwards` from it."""

    backwards: bool
    value: Any
    row_id: int


def _read_place(cursor: str, parse_key: Callable[[str], Any]) -> _Place | None:
    parts = decode_cursor(cursor) if cursor else None
    if parts is None:
        return None
    direction, raw, row_id = parts
    try:
        return _Place(direction == "b", parse_key(raw), row_id)
    except ValueError:
        return None


def _beyond(strand: Strand, place: _Place | None, *, descending: bool, size: int) -> sa.Select[Any]:
    """The next rows of a strand, one more than fit on the page."""
    query, key, row_id = strand.query, strand.key, strand.row_id
    falling = descending
    if place is not None:
        falling = descending != place.backwards
        pair = sa.tuple_(key, row_id)
        border = sa.tuple_(sa.literal(place.value, key.type), sa.literal(place.row_id, row_id.type))
        query = query.where(pair < border if falling else pair > border)
    order = (key.desc(), row_id.desc()) if falling else (key.asc(), row_id.asc())
    return query.order_by(*order).limit(size + 1)


def _cut(
    found: list[T], place: _Place | None, key_of: Callable[[T], tuple[Any, int]], size: int
) -> tuple[list[T], str | None, str | None]:
    """The rows of the page in the list's order, and the cursors of its neighbours."""
    more = len(found) > size
    rows = found[:size]
    backwards = place is not None and place.backwards
    if backwards:
        rows.reverse()
    has_previous = more if backwards else place is not None
    has_next = backwards or more
    return (
        rows,
        encode_cursor("b", *key_of(rows[0])) if rows and has_previous else None,
        encode_cursor("a", *key_of(rows[-1])) if rows and has_next else None,
    )


def parse_id_key(raw: str) -> int:
    """The key of a list that is ordered by id alone; ValueError for what cannot be one."""
    value = int(raw) if len(raw) < 20 else -1
    if not 0 <= value < 2**63:
        raise ValueError("not the id of a row")
    return value


def parse_time_key(raw: str) -> datetime:
    """The key of a list that is ordered by an aware time; ValueError for what cannot be one."""
    parsed = datetime.fromisoformat(raw)
    try:
        return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    except OverflowError:
        raise ValueError("beyond what a time can be") from None
