"""Customers: the list that staff see, and the list of a group for other systems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import joinedload

from extensions import db
from models import (
    Customer,
    CustomerBundle,
    CustomerStatus,
    Group,
    fold,
    is_storable,
    prefix_range,
    table_of,
)
from models.customers import CLOSING
from services.actors import Actor, Permission, groups_of
from services.bulk_rows import among
from services.paging import Page, Strand, keyset_page, merged_page, parse_id_key

SEARCH_CAP = 500
"""Matches by short name, web ID and UPN suffix that a search of a group takes of each."""

SHOWN_STATUSES = (CustomerStatus.ACTIVE, CustomerStatus.SUSPENDED)
"""Those that lists know; a tenant in the making is seen by its request alone."""

_AT_ONCE = 100
_C = table_of(Customer).c
_B = table_of(CustomerBundle).c


class CustomerSort(StrEnum):
    NAME = "name"
    CUSTNO = "custno"


class CustomerState(StrEnum):
    """The filter by state; CLOSING are those suspended ones whose deletion was asked for."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    CLOSING = "closing"


@dataclass(frozen=True, slots=True)
class CustomerFilter:
    """What the list is asked for; the same values stand in its URL.

    A search, a bundle and CLOSING come by name: no index holds what they find in another order.
    """

    search: str = ""
    group_id: int | None = None
    bundle_id: int | None = None
    state: CustomerState | None = None
    sort: CustomerSort = CustomerSort.NAME
    descending: bool = False

    @property
    def is_filtered(self) -> bool:
        return bool(self.search.strip() or self.group_id or self.bundle_id or self.state)

    @property
    def is_sortable(self) -> bool:
        return not (self.search.strip() or self.bundle_id or self.state is CustomerState.CLOSING)

    @property
    def order(self) -> CustomerSort:
        """The order that the rows are in."""
        return self.sort if self.is_sortable else CustomerSort.NAME


_EVERYWHERE = CustomerFilter()


def list_customers(
    actor: Actor,
    wanted: CustomerFilter = _EVERYWHERE,
    *,
    size: int = 25,
    cursor: str = "",
) -> Page[Customer]:
    """A page of the customers in the actor's scope, with their groups loaded.

    `search` begins the name, or up to SEARCH_CAP short names, web IDs and UPN suffixes each, or is
    a custno. Indexes hold the customers of a status, of a group's status, and of a bundle's, so
    that a page costs the same however many there are. Raises Forbidden.
    """
    actor.require(Permission.CUSTOMERS_READ)
    term = fold(wanted.search)
    if not is_storable(term):
        return Page([], None, None)
    parts = _parts_of(actor, wanted)
    strands = _find_strands(wanted, parts, term)
    by_number = wanted.order is CustomerSort.CUSTNO
    return merged_page(
        lambda statement: db.session.execute(statement).all(),
        strands,
        load=_load_customers,
        parse_key=parse_id_key if by_number else str,
        descending=wanted.descending,
        size=size,
        cursor=cursor,
    )


@dataclass(frozen=True, slots=True)
class _Part:
    """A status of a group's customers, or of all where `group_id` is None."""

    group_id: int | None
    status: CustomerStatus

    def among(self, columns: Any) -> sa.ColumnElement[bool]:
        """The condition on a table with copies of both columns."""
        mine = columns.status == sa.literal(self.status, _C.status.type)
        return mine if self.group_id is None else sa.and_(columns.group_id == self.group_id, mine)


def _parts_of(actor: Actor, wanted: CustomerFilter) -> list[_Part]:
    statuses: tuple[CustomerStatus, ...] = SHOWN_STATUSES
    if wanted.state is not None:
        is_active = wanted.state is CustomerState.ACTIVE
        statuses = (CustomerStatus.ACTIVE if is_active else CustomerStatus.SUSPENDED,)
    groups: Sequence[int | None]
    if actor.all_groups:
        groups = [wanted.group_id]
    else:
        groups = list(db.session.scalars(groups_of(actor)))
        if wanted.group_id is not None:
            groups = [each for each in groups if each == wanted.group_id]
    return [_Part(group_id, status) for group_id in groups for status in statuses]


def _find_strands(wanted: CustomerFilter, parts: Sequence[_Part], term: str) -> list[Strand]:
    strands = [_strand(wanted, part) for part in parts]
    if not term:
        return strands
    named = [replace(each, query=each.query.where(_begins(each.key, term))) for each in strands]
    otherwise = _find_otherwise([part.among(_C) for part in parts], term)
    if term.isdecimal() and len(term) < 10:
        otherwise.append(_number(parts, int(term)))
    found = _ids_of(otherwise)
    if not found:
        return named
    others = among(db.session.connection(), _C.id, found)
    rest = sa.select(_C.id).where(others, ~_begins(_C.name_key, term))
    if wanted.bundle_id is not None:
        rest = rest.where(
            sa.exists().where(_B.customer_id == _C.id, _B.bundle_id == wanted.bundle_id)
        )
    if wanted.state is CustomerState.CLOSING:
        rest = rest.where(CLOSING)
    return [*named, Strand(rest, _C.name_key, _C.id)]


def _strand(wanted: CustomerFilter, part: _Part) -> Strand:
    if wanted.bundle_id is not None:
        query = sa.select(_B.customer_id).where(_B.bundle_id == wanted.bundle_id, part.among(_B))
        if wanted.state is CustomerState.CLOSING:
            query = query.join(table_of(Customer), _C.id == _B.customer_id).where(
                _C.delete_after.is_not(None)
            )
        return Strand(query, _B.name_key, _B.customer_id)
    if wanted.state is CustomerState.CLOSING:
        # That they are suspended goes without saying; said, SQLite would look at all of those.
        query = sa.select(_C.id).where(CLOSING)
        if part.group_id is not None:
            query = query.where(_C.group_id == part.group_id)
        return Strand(query, _C.name_key, _C.id)
    key = _C.custno if wanted.order is CustomerSort.CUSTNO else _C.name_key
    return Strand(sa.select(_C.id).where(part.among(_C)), key, _C.id)


def _number(parts: Sequence[_Part], number: int) -> sa.Select[int]:
    mine = sa.or_(sa.false(), *(part.among(_C) for part in parts))
    return sa.select(_C.id).where(_C.custno == number, mine)


def _load_customers(ids: list[int]) -> list[Customer]:
    found = {
        customer.id: customer
        for customer in db.session.scalars(
            sa.select(Customer)
            .where(among(db.session.connection(), _C.id, ids))
            .options(joinedload(Customer.group))
        )
    }
    return [found[each] for each in ids if each in found]


# --- A group's, for other systems ----------------------------------------------------------------

LISTED = tuple(
    "id custno web_id name name_key short_name upn_suffix ani status language time_zone company "
    "contact_name contact_email contact_phone street postal_code city region country options "
    "version created_at".split()
)
"""The columns of a row that `list_group` gives, in their order."""

_ROW: sa.Select[Any] = sa.select(*(_C[name] for name in LISTED))


def list_group(
    actor: Actor,
    group: Group,
    *,
    search: str = "",
    status: CustomerStatus | None = None,
    size: int = 25,
    cursor: str = "",
) -> Page[sa.Row[Any]]:
    """Rows of a group's customers by name. The caller has found the group in the actor's scope.

    `search` begins the name, or up to SEARCH_CAP short names, web IDs and UPN suffixes each.
    Indexes hold each of these within a group and a status, so that a page costs the same however
    many customers there are. Raises Forbidden.
    """
    actor.require(Permission.CUSTOMERS_READ)
    term = fold(search)
    if not is_storable(term):
        return Page([], None, None)
    if term:
        return _search_group(group, term, status, size, cursor)
    shown = _C.status.in_(SHOWN_STATUSES) if status is None else _C.status == status
    return keyset_page(
        lambda statement: db.session.execute(statement).all(),
        _ROW.where(_C.group_id == group.id, shown),
        key=_C.name_key,
        row_id=_C.id,
        key_of=lambda row: (row.name_key, row.id),
        size=size,
        cursor=cursor,
    )


def _search_group(
    group: Group, term: str, status: CustomerStatus | None, size: int, cursor: str
) -> Page[sa.Row[Any]]:
    """The names that begin with `term` in their order, merged with what matches otherwise."""
    parts = [
        sa.and_(_C.group_id == group.id, _C.status == each)
        for each in (SHOWN_STATUSES if status is None else (status,))
    ]
    by_name = _begins(_C.name_key, term)
    others = among(db.session.connection(), _C.id, _ids_of(_find_otherwise(parts, term)))
    return merged_page(
        lambda statement: db.session.execute(statement).all(),
        [
            *(Strand(sa.select(_C.id).where(part, by_name), _C.name_key, _C.id) for part in parts),
            Strand(sa.select(_C.id).where(others, ~by_name), _C.name_key, _C.id),
        ],
        load=_load,
        size=size,
        cursor=cursor,
    )


def _find_otherwise(parts: Sequence[sa.ColumnElement[bool]], term: str) -> list[sa.Select[int]]:
    """Selects of the customers whose short name, web ID or suffix begins with `term`, capped."""
    return [
        sa.select(
            sa.select(_C.id)
            .where(part, _begins(column, key))
            .order_by(column, _C.id)
            .limit(SEARCH_CAP)
            .subquery()
            .c.id
        )
        for column, key in (
            (_C.short_name_key, term),
            (_C.web_id, term.upper()),
            (_C.upn_suffix, term),
        )
        for part in parts
    ]


def _ids_of(selects: Sequence[sa.Select[int]]) -> list[int]:
    """What they find together, each id once."""
    found: dict[int, None] = {}
    for start in range(0, len(selects), _AT_ONCE):
        together = sa.union_all(*selects[start : start + _AT_ONCE])
        found |= dict.fromkeys(db.session.scalars(together))
    return list(found)


def _begins(column: sa.ColumnElement[str], prefix: str) -> sa.ColumnElement[bool]:
    lowest, beyond = prefix_range(prefix)
    return sa.and_(column >= lowest, column < beyond)


def _load(ids: list[int]) -> list[sa.Row[Any]]:
    rows = db.session.execute(_ROW.where(among(db.session.connection(), _C.id, ids)))
    found = {row.id: row for row in rows}
    return [found[each] for each in ids if each in found]
