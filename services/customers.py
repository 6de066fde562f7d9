"""Customers: the list that staff see."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import joinedload

from extensions import db
from models import Customer, fold, prefix_range
from services.actors import Actor, Permission, customers_in_scope
from services.paging import Page, keyset_page


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
