"""What a placeholder will be empty for, among the users of the customers who have a template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from models import (
    Bundle,
    Customer,
    CustomerEmailTemplate,
    CustomerStatus,
    TemplateKind,
    User,
    UserStatus,
)

MOST_USERS = 10_000
"""So many users are looked at; where there are more, it is said what is true of these."""


@dataclass(frozen=True, slots=True)
class EmptyValue:
    """A placeholder that has no value for `empty` of `users` users of `customers` customers.

    `is_sample` says that there may be more users than those, `leaves_gap` that it stands outside
    optional parts somewhere.
    """

    placeholder: str
    empty: int
    users: int
    customers: int
    is_sample: bool
    leaves_gap: bool

    @property
    def sentence(self) -> str:
        users = f"the first {self.users:,} users" if self.is_sample else _count(self.users, "user")
        of = f"{self.empty:,} of {users} of {_count(self.customers, 'customer')}"
        left_out = "" if self.leaves_gap else " The optional part is left out for them."
        return f"“(({self.placeholder}))” is empty for {of}.{left_out}"


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


_EMPTY: Mapping[str, sa.ColumnElement[bool]] = {
    "last name": User.last_name == "",
    "extension": User.extension == "",
    "bundle": User.bundle_id.is_(None),
    "services": sa.func.coalesce(Bundle.services, "") == "",
    "application link": Customer.application_url == "",
    "setup instructions": Customer.setup_instructions == "",
}
"""The placeholders that can be without a value, and for whom they are."""


def find_empty_values(
    connection: Any, template_id: int, kind: TemplateKind, placeholders: Mapping[str, bool]
) -> list[EmptyValue]:
    """Which of `placeholders` are empty for active users; True stands for those that leave a gap.

    `connection` may be a session. It costs as much as MOST_USERS rows, however many there are.
    """
    asked = [name for name in placeholders if name in _EMPTY]
    if not asked:
        return []
    users = (
        sa.select(
            Customer.id.label("customer_id"),
            *(sa.case((_EMPTY[name], 1), else_=0).label(_label(name)) for name in asked),
        )
        .select_from(User)
        .join(Customer, Customer.id == User.customer_id)
        .outerjoin(Bundle, Bundle.id == User.bundle_id)
        .where(
            User.status == UserStatus.ACTIVE,
            Customer.status.in_((CustomerStatus.ACTIVE, CustomerStatus.SUSPENDED)),
        )
        .limit(MOST_USERS)
    )
    if kind is not TemplateKind.PASSWORD_RESET:  # Which belongs to all.
        users = users.join(
            CustomerEmailTemplate, CustomerEmailTemplate.customer_id == Customer.id
        ).where(CustomerEmailTemplate.template_id == template_id)
    looked_at = users.subquery().c
    row = connection.execute(
        sa.select(
            sa.func.count().label("users"),
            sa.func.count(looked_at.customer_id.distinct()).label("customers"),
            *(sa.func.sum(looked_at[_label(name)]).label(_label(name)) for name in asked),
        )
    ).one()
    is_sample = row.users == MOST_USERS
    return [
        EmptyValue(
            placeholder=name,
            empty=empty,
            users=row.users,
            customers=row.customers,
            is_sample=is_sample,
            leaves_gap=placeholders[name],
        )
        for name in asked
        if (empty := int(getattr(row, _label(name)) or 0))
    ]


def _label(name: str) -> str:
    return f"empty_{name.replace(' ', '_')}"
