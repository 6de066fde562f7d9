"""Every customer always has a Welcome: an assigned template of that kind that is not archived.

Whatever could take the last one away from a customer, or makes a customer with what there is,
calls `hold` first: all of them stand in line for one row, and look at what the one before left.
"""

from __future__ import annotations

import sqlalchemy as sa

from models import (
    Customer,
    CustomerEmailTemplate,
    CustomerStatus,
    EmailTemplate,
    TemplateKind,
    table_of,
)
from services.errors import Conflict
from services.transactions import upsert

_TEMPLATES = table_of(EmailTemplate)
_ASSIGNED = table_of(CustomerEmailTemplate)
_CUSTOMERS = table_of(Customer)

MOST_COUNTED = 1000
"""A refusal counts up to so many customers, and says "more than" of others."""

_NAMED = 3


def hold(connection: sa.Connection) -> None:
    """Let nobody else take Welcomes away, or give first ones, until the transaction ends."""
    first = sa.select(sa.func.min(_TEMPLATES.c.id)).where(_TEMPLATES.c.kind == TemplateKind.WELCOME)
    connection.execute(
        sa.update(_TEMPLATES)
        .where(_TEMPLATES.c.id == first.scalar_subquery())
        .values(kind=_TEMPLATES.c.kind)
    )


def has_welcome(*, but: int = 0) -> sa.ColumnElement[bool]:
    """The condition on `customers`: it has a Welcome other than the template `but`."""
    return sa.exists().where(
        _ASSIGNED.c.customer_id == _CUSTOMERS.c.id,
        _ASSIGNED.c.template_id != but,
        _TEMPLATES.c.id == _ASSIGNED.c.template_id,
        _TEMPLATES.c.kind == TemplateKind.WELCOME,
        _TEMPLATES.c.archived_at.is_(None),
    )


def require_another(
    connection: sa.Connection,
    template_id: int,
    name: str,
    chosen: sa.ColumnElement[bool] | None = None,
) -> None:
    """Raise Conflict where customers who have this Welcome would have none without it.

    `chosen` are those who would lose it, all by default; then it must not be the last one at all,
    because new customers need one, too. The caller holds the Welcomes.
    """
    losing = sa.and_(
        _CUSTOMERS.c.status != CustomerStatus.DELETED,
        sa.exists().where(
            _ASSIGNED.c.customer_id == _CUSTOMERS.c.id, _ASSIGNED.c.template_id == template_id
        ),
        ~has_welcome(but=template_id),
    )
    if chosen is not None:
        losing = sa.and_(losing, chosen)
    rows = connection.execute(
        sa.select(_CUSTOMERS.c.web_id).where(losing).limit(MOST_COUNTED + 1)
    ).all()
    if rows:
        raise Conflict(_sentence(name, [row.web_id for row in rows]))
    if chosen is None and not connection.scalar(sa.select(_another(template_id))):
        raise Conflict(
            f"{name} is the only Welcome, and every new customer gets one. Make another one first."
        )


def _another(template_id: int) -> sa.ColumnElement[bool]:
    return sa.exists().where(
        _TEMPLATES.c.kind == TemplateKind.WELCOME,
        _TEMPLATES.c.archived_at.is_(None),
        _TEMPLATES.c.id != template_id,
    )


def _sentence(name: str, web_ids: list[str]) -> str:
    shown = sorted(web_ids[:_NAMED])
    rest = len(web_ids) - len(shown)
    if len(web_ids) > MOST_COUNTED:
        who = f"{', '.join(shown)} and more than {MOST_COUNTED - len(shown):,} other customers have"
    elif rest:
        word = "customer" if rest == 1 else "customers"
        who = f"{', '.join(shown)} and {rest:,} other {word} have"
    elif len(shown) == 1:
        who = f"{shown[0]} has"
    else:
        who = f"{', '.join(shown[:-1])} and {shown[-1]} have"
    return (
        f"{who} no other Welcome than {name}, and every customer needs one. Assign another Welcome "
        "first."
    )


def give_to_those_without(connection: sa.Connection, template_id: int) -> int:
    """Assign a Welcome to every customer who has none; returns to how many."""
    wanted = sa.select(_CUSTOMERS.c.id, sa.literal(template_id)).where(
        _CUSTOMERS.c.status != CustomerStatus.DELETED, ~has_welcome(but=template_id)
    )
    return connection.execute(
        upsert(_ASSIGNED)
        .from_select(["customer_id", "template_id"], wanted)
        .on_conflict_do_nothing(),
        execution_options={"preserve_rowcount": True},
    ).rowcount
