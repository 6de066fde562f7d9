"""The audit trail: one row per change, written in the transaction that makes the change."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from extensions import db
from models import AuditEvent
from services.actors import Actor


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
) -> None:
    """The same in a transaction of a Core connection."""
    values = _values(actor, action, customer_id, object_type, object_id, detail)
    connection.execute(sa.insert(AuditEvent).values(values))


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
        "address": actor.address[:64],
        "action": action,
        "customer_id": customer_id,
        "object_type": object_type,
        "object_id": object_id,
        "detail": detail or {},
    }
