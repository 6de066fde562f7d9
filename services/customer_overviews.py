"""What a customer's home shows: how many users, which bundles, the last mailings."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from models import Bundle, Customer, Mailing, User, UserStatus
from services import mailings, users
from services.actors import Actor, Permission
from services.capped_counts import COUNT_CAP, CappedCount, count_up_to

_NEWEST = 5


@dataclass(frozen=True, slots=True)
class CustomerOverview:
    """`mailings` are the newest, with template and author loaded; none for who may not see them."""

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
        mailings=(
            mailings.list_mailings(actor, customer, size=_NEWEST).rows
            if actor.may(Permission.MAILINGS_READ)
            else []
        ),
    )


def _count(customer: Customer, status: UserStatus) -> CappedCount:
    return count_up_to(
        sa.select(User.id).where(User.customer_id == customer.id, User.status == status),
        COUNT_CAP,
    )
