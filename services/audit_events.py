"""The audit trail: one row per change, written in the transaction that makes the change."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from extensions import db
from models import AuditEvent, Customer, fold, table_of, utcnow
from services.actors import Actor

_GROUP_OF_CUSTOMER = (
    sa.select(Customer.group_id).where(Customer.id == sa.bindparam("of_customer")).scalar_subquery()
)
_INSERT = sa.insert(table_of(AuditEvent))
_INSERT_OF_CUSTOMER = _INSERT.values(group_id=_GROUP_OF_CUSTOMER)


def record_event(
    actor: Actor,
    action: str,
    *,
    customer_id: int | None = None,
    group_id: int | None = None,
    object_type: str = "",
    object_id: int | None = None,
    detail: dict[str, Any] | None = None,
) -> None:
    """Add an event to the session; the caller commits. `detail` must not hold a secret.

    What was changed stands in `detail` as `before` and `after`, each a value by field. `group_id`
    is needed for what belongs to a group, but to no customer: a customer's is looked up.
    """
    insert_event(
        db.session.connection(),
        actor,
        action,
        customer_id=customer_id,
        group_id=group_id,
        object_type=object_type,
        object_id=object_id,
        detail=detail,
    )


def insert_event(
    connection: sa.Connection,
    actor: Actor,
    action: str,
    *,
    customer_id: int | None = None,
    group_id: int | None = None,
    object_type: str = "",
    object_id: int | None = None,
    detail: dict[str, Any] | None = None,
    at: datetime | None = None,
) -> None:
    """The same in a transaction of a Core connection; `at` is now unless it was before."""
    values = _values(actor, action, customer_id, object_type, object_id, detail)
    values["at"] = at or utcnow()
    if group_id is None and customer_id is not None:
        connection.execute(_INSERT_OF_CUSTOMER, {**values, "of_customer": customer_id})
    else:
        connection.execute(_INSERT, {**values, "group_id": group_id})


def insert_events(
    connection: sa.Connection,
    actor: Actor,
    action: str,
    *,
    customer_id: int | None = None,
    object_type: str,
    details: Mapping[int, dict[str, Any]],
) -> None:
    """The same for each of many objects: `details` by their ids."""
    if not details:
        return
    group_id = None
    if customer_id is not None:
        group_id = connection.scalar(sa.select(Customer.group_id).where(Customer.id == customer_id))
    connection.execute(
        _INSERT,
        [
            {
                **_values(actor, action, customer_id, object_type, object_id, detail),
                "at": utcnow(),
                "group_id": group_id,
            }
            for object_id, detail in details.items()
        ],
    )


def _values(
    actor: Actor,
    action: str,
    customer_id: int | None,
    object_type: str,
    object_id: int | None,
    detail: dict[str, Any] | None,
) -> dict[str, Any]:
    return {
        "actor_id": actor.user_id,
        "actor_login": actor.login,
        "actor_key": fold(actor.login)[:320],
        "behalf_id": actor.behalf_id,
        "behalf_login": actor.behalf_login,
        "address": actor.address[:64],
        "action": action,
        "customer_id": customer_id,
        "object_type": object_type,
        "object_id": object_id,
        "detail": detail or {},
    }
