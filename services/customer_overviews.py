"""What a customer's home shows: how many users, which bundles, the last mailings."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from extensions import db
from models import Bundle, Customer, Mailing, User, UserStatus
from services import mailings, users
from services.actors import Actor, Permission

COUNT_CAP = 1000
"""Users are counted up to here: a count over a million would make everybody's first page slow."""

_NEWEST = 5


@dataclass(frozen=True, slots=True)
class CappedCount:
    """`number`, or more than that where `is_more`."""

    number: int
    is_more: bool


@dataclass(frozen=True, slots=True)
class CustomerOverview:
    """`mailings` are the newest, with template and author loaded."""

    active: CappedCount
    suspended: CappedCount
    bundles: list[Bundle]
    mailings: list[Mailing]


def get_overview(actor: Actor, customer: Customer) -> CustomerOverview:
    """Raises Forbidden."""
    actor.require(Permission.USERS_READ)
    return CustomerOverview(
        active=_count(customer, UserStatus.ACTIVE),
        suspended=_count(customer, UserStatus.SUSPENDED),
        bundles=users.list_bundles_of(customer),
        mailings=mailings.list_mailings(actor, customer, size=_NEWEST).rows,
    )


def _count(customer: Customer, status: UserStatus) -> CappedCount:
    some = (
        sa.select(sa.literal(1))
        .select_from(User)
        .where(User.customer_id == customer.id, User.status == status)
        .limit(COUNT_CAP + 1)
        .subquery()
    )
    found = db.session.scalar(sa.select(sa.func.count()).select_from(some)) or 0
    return CappedCount(min(found, COUNT_CAP), found > COUNT_CAP)
