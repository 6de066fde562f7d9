"""Suppressions: addresses that get no mail."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, IntPk, key_type, utcnow


class Suppression(Base):
    """`delivery_id` is the bounced delivery that put the address here, if one did."""

    __tablename__ = "suppressions"
    __table_args__ = (sa.CheckConstraint("email_key <> ''", name="email_given"),)

    id: Mapped[IntPk]
    email_key: Mapped[str] = mapped_column(key_type(320), unique=True)
    reason: Mapped[str] = mapped_column(sa.String(255))
    delivery_id: Mapped[int | None] = mapped_column(sa.ForeignKey("deliveries.id"))
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
