"""Audit events: who did what, when, from where; never a secret. The table takes new rows alone."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from models.base import ID, Base, IntPk, key_type, utcnow


def _newest(name: str, *columns: str, where: str = "") -> sa.Index:
    """The events that have these columns in common, in the order of the list."""
    index = f"ix_audit_events_{name}"
    if not where:
        return sa.Index(index, *columns, "at", "id")
    condition = sa.text(where)
    return sa.Index(index, *columns, "at", "id", sqlite_where=condition, postgresql_where=condition)


class AuditEvent(Base):
    """`action` is `noun.past`; `object_type` and `object_id` name what it was done to.

    `behalf_id` and `behalf_login` are of the person that the actor was signed in as. `group_id` is
    the group that the object was in, which decides who of the staff reads the event. `detail` has
    `before` and `after`, by field, where something was changed. Nothing here refers to other
    tables: what is gone stays on record, and triggers refuse to change a row or to take it away.
    """

    __tablename__ = "audit_events"
    __table_args__ = (
        _newest("by_time"),
        _newest("by_actor", "actor_key"),
        _newest("by_action", "action"),
        _newest("of_customer", "customer_id", where="customer_id IS NOT NULL"),
        _newest("of_customer_by_action", "customer_id", "action", where="customer_id IS NOT NULL"),
        _newest("of_group", "group_id", where="group_id IS NOT NULL"),
        _newest("of_group_by_action", "group_id", "action", where="group_id IS NOT NULL"),
        _newest("of_object", "object_type", "object_id", where="object_id IS NOT NULL"),
        _newest("on_behalf", where="behalf_id IS NOT NULL"),
        sa.CheckConstraint("action LIKE '%_.%_'", name="action_is_noun_past"),
    )

    id: Mapped[IntPk]
    at: Mapped[datetime] = mapped_column(default=utcnow)
    actor_id: Mapped[int | None] = mapped_column(ID)
    actor_login: Mapped[str] = mapped_column(sa.String(320), default="")
    actor_key: Mapped[str] = mapped_column(key_type(320), default="", server_default="")
    behalf_id: Mapped[int | None] = mapped_column(ID)
    behalf_login: Mapped[str] = mapped_column(sa.String(320), default="", server_default="")
    address: Mapped[str] = mapped_column(sa.String(64), default="")
    action: Mapped[str] = mapped_column(sa.String(64))
    customer_id: Mapped[int | None] = mapped_column(ID)
    group_id: Mapped[int | None] = mapped_column(ID)
    object_type: Mapped[str] = mapped_column(sa.String(32), default="")
    object_id: Mapped[int | None] = mapped_column(sa.BigInteger)
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)
