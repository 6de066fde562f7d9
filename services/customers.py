"""Customers: the list that staff see, and the list of a group for other systems."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import joinedload

from extensions import db
from models import Customer, CustomerStatus, Group, fold, is_storable, prefix_range, table_of
from services.actors import Actor, Permission, customers_in_scope
from services.bulk_rows import among
from services.paging import Page, Strand, keyset_page, merged_page

SEARCH_CAP = 500
"""Matches by short name, web ID and UPN suffix that a search of a group takes of each."""

SHOWN_STATUSES = (CustomerStatus.ACTIVE, CustomerStatus.SUSPENDED)
"""Those that lists know; a tenant in the making is seen by its request alone."""


def list_customers(
    actor: Actor, *, search: str = "", size: int = 25, cursor: str = ""
) -> Page[Customer]:
    """Customers in the actor's scope by name; `search` is a prefix of name, web ID or suffix."""
    actor.require(Permission.CUSTOMERS_READ)
    query = sa.select(Customer).where(customers_in_scope(actor)).options(joinedload(Customer.group))
    if term := fold(search):
        lowest, beyond = prefix_range(term)
        upper_lowest, upper_beyond = prefix_range(term.upper())
        query = query.where(
            sa.or_(
                sa.and_(Customer.name_key >= lowest, Customer.name_key < beyond),
                sa.and_(Customer.web_id >= upper_lowest, Customer.web_id < upper_beyond),
                sa.and_(Customer.upn_suffix >= lowest, Customer.upn_suffix < beyond),
                sa.and_(Customer.short_name_key >= lowest, Customer.short_name_key < beyond),
            )
        )
    return keyset_page(
        lambda statement: db.session.scalars(statement).all(),
        query,
        key=Customer.name_key.expression,
        row_id=Customer.id.expression,
        key_of=lambda customer: (customer.name_key, customer.id),
        size=size,
        cursor=cursor,
    )


# --- A group's, for other systems ----------------------------------------------------------------

_C = table_of(Customer).c
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
    others = among(db.session.connection(), _C.id, _find_otherwise(parts, term))
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


def _find_otherwise(parts: Sequence[sa.ColumnElement[bool]], term: str) -> list[int]:
    """Ids of customers whose short name, web ID or suffix begins with `term`."""
    selects = [
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
    return list(dict.fromkeys(db.session.scalars(sa.union_all(*selects))))


def _begins(column: sa.ColumnElement[str], prefix: str) -> sa.ColumnElement[bool]:
    lowest, beyond = prefix_range(prefix)
    return sa.and_(column >= lowest, column < beyond)


def _load(ids: list[int]) -> list[sa.Row[Any]]:
    rows = db.session.execute(_ROW.where(among(db.session.connection(), _C.id, ids)))
    found = {row.id: row for row in rows}
    return [found[each] for each in ids if each in found]
