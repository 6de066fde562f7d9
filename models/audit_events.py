"""Audit events: who did what, when, from where; never a secret."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, IntPk, utcnow


class AuditEvent(Base):
    """`action` is `noun.past`; `object_type` and `object_id` name what it was done to.

    `behalf_id` and `behalf_login` are of the person that the actor was signed in as.
    """

    __tablename__ = "audit_events"
    __table_args__ = (
        sa.Index("ix_audit_events_of_customer", "customer_id", "id"),
        sa.CheckConstraint("action LIKE '%_.%_'", name="action_is_noun_past"),
    )

    id: Mapped[IntPk]
    at: Mapped[datetime] = mapped_column(default=utcnow, index=True)
    actor_id: Mapped[int | None] = mapped_column(sa.ForeignKey("users.id"))
    actor_login: Mapped[str] = mapped_column(sa.String(320), default="")
    behalf_id: Mapped[int | None] = mapped_column(sa.ForeignKey("users.id"))
    behalf_login: Mapped[str] = mapped_column(sa.String(320), default="", server_default="")
    address: Mapped[str] = mapped_column(sa.String(64), default="")
    action: Mapped[str] = mapped_column(sa.String(64))
    customer_id: Mapped[int | None] = mapped_column(sa.ForeignKey("customers.id"))
    object_type: Mapped[str] = mapped_column(sa.String(32), default="")
    object_id: Mapped[int | None] = mapped_column(sa.BigInteger)
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)
