"""Permission profiles: what a customer's supervisors may do, item by item."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, IntPk, key_type, utcnow


class PermissionProfile(Base):
    """A named list of permissions of one customer. `permissions` are their words, each once."""

    __tablename__ = "permission_profiles"
    __table_args__ = (
        sa.UniqueConstraint("customer_id", "name_key"),
        sa.UniqueConstraint("customer_id", "id"),  # What users refer to, so that it is their own.
        sa.CheckConstraint("name <> ''", name="name_given"),
    )

    id: Mapped[IntPk]
    customer_id: Mapped[int] = mapped_column(sa.ForeignKey("customers.id"))
    name: Mapped[str] = mapped_column(sa.String(64))
    name_key: Mapped[str] = mapped_column(key_type(260))
    permissions: Mapped[list[str]] = mapped_column(sa.JSON(), default=list)
    version: Mapped[int] = mapped_column(default=1, server_default="1")
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
