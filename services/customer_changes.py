"""Changes of customers: how they are reached, in which language, at what time of the day.

Name, short name and UPN suffix are what a tenant is known by on its platform and in every login:
they do not change.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import sqlalchemy as sa

from extensions import db
from models import Customer, table_of
from services import registration_checks
from services.actors import Actor, Permission
from services.audit_events import insert_event
from services.customers import SHOWN_STATUSES
from services.errors import Conflict, InvalidInputs, NotFound, Stale
from services.registration_checks import FIELDS, Tab
from services.transactions import run_transaction

CHANGEABLE = ("ani", *FIELDS[Tab.CONTACT])
"""Fields as Tenant Registration names them; the same rules judge them."""

STALE = "The customer was changed since you read it. Read it again."

_TRIES = 5
_TABLE = table_of(Customer)


class _Overtaken(Exception):
    """Somebody else changed the row since it was read."""


def update_customer(
    actor: Actor,
    customer: Customer,
    typed: Mapping[str, str],
    *,
    versions: Collection[int] | None = None,
) -> Customer:
    """Change some of CHANGEABLE; what is as it was makes no new version.

    The caller has found the customer in the actor's scope. `versions` are those that he has seen,
    None when any will do. Raises Forbidden, InvalidInputs with every fault, and Stale.
    """
    actor.require(Permission.CUSTOMERS_EDIT)
    if unknown := set(typed).difference(CHANGEABLE):
        raise ValueError(f"not changeable: {sorted(unknown)}")
    columns, faults = registration_checks.check_details(actor, typed, country=customer.country)
    if faults:
        raise InvalidInputs([(fault.field, fault.message) for fault in faults])
    values = {name: value for name, value in columns.items() if name in CHANGEABLE}
    customer_id = customer.id
    db.session.commit()  # Gives its connection back, which the transaction below may need.
    for _ in range(_TRIES):
        try:
            run_transaction(
                lambda connection: _update(connection, actor, customer_id, values, versions)
            )
        except _Overtaken:
            continue
        db.session.refresh(customer)
        return customer
    raise Conflict("The customer is being changed by others. Try again in a moment.")


def reload_customer(customer: Customer) -> Customer:
    """The customer as it is now, for who was overtaken."""
    db.session.refresh(customer)
    return customer


def _update(
    connection: sa.Connection,
    actor: Actor,
    customer_id: int,
    values: Mapping[str, Any],
    versions: Collection[int] | None,
) -> None:
    found = connection.execute(
        sa.select(_TABLE.c.version, *(_TABLE.c[name] for name in values)).where(
            _TABLE.c.id == customer_id, _TABLE.c.status.in_(SHOWN_STATUSES)
        )
    ).one_or_none()
    if found is None:
        raise NotFound("There is no such customer, or it is not yours to see.")
    if versions is not None and found.version not in versions:
        raise Stale(STALE)
    before = found._mapping
    changed = {name: value for name, value in values.items() if value != before[name]}
    if not changed:
        return
    updated = connection.execute(
        sa.update(_TABLE)
        .where(_TABLE.c.id == customer_id, _TABLE.c.version == found.version)
        .values(version=found.version + 1, **changed)
    )
    if not updated.rowcount:
        raise _Overtaken
    insert_event(
        connection,
        actor,
        "customer.updated",
        customer_id=customer_id,
        object_type="customer",
        object_id=customer_id,
        detail={
            "before": {name: before[name] for name in changed},
            "after": changed,
        },
    )
