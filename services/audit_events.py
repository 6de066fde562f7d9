"""The audit trail: one row per change, written in the transaction that makes the change."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from extensions import db
from models import AuditEvent, table_of, utcnow
from services.actors import Actor

_INSERT = sa.insert(table_of(AuditEvent))


def record_event(
    actor: Actor,
    action: str,
    *,
    customer_id: int | None = None,
    object_type: str = "",
    object_id: int | None = None,
    detail: dict[str, Any] | None = None,
) -> None:
    """Add an event to the session; the caller commits. `detail` must not hold a secret."""
    values = _values(actor, action, customer_id, object_type, object_id, detail)
    db.session.add(AuditEvent(**values))


def insert_event(
    connection: sa.Connection,
    actor: Actor,
    action: str,
    *,
    customer_id: int | None = None,
    object_type: str = "",
    object_id: int | None = None,
    detail: dict[str, Any] | None = None,
    at: datetime | None = None,
) -> None:
    """The same in a transaction of a Core connection; `at` is now unless it was before."""
    values = _values(actor, action, customer_id, object_type, object_id, detail)
    connection.execute(_INSERT, {"at": at or utcnow(), **values})


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
    if details:
        connection.execute(
            sa.insert(AuditEvent),
            [
                _values(actor, action, customer_id, object_type, object_id, detail)
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
        "behalf_id": actor.behalf_id,
        "behalf_login": actor.behalf_login,
        "address": actor.address[:64],
        "action": action,
        "customer_id": customer_id,
        "object_type": object_type,
        "object_id": object_id,
        "detail": detail or {},
    }
