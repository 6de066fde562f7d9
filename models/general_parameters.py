"""General parameters for Smart Queues: a customer's draft and its published versions."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import Base, IntPk, utcnow
from models.users import User


class GeneralParameters(Base):
    """A customer's draft, one row per customer.

    `draft` has the values by name. `must_replace` maps names to the template's stand-in values:
    while the draft has one of them still, it cannot be published. `version` counts the changes of
    the draft, so that nobody overwrites what he has not seen.
    """

    __tablename__ = "general_parameters"

    customer_id: Mapped[int] = mapped_column(sa.ForeignKey("customers.id"), primary_key=True)
    version: Mapped[int] = mapped_column(default=1, server_default="1")
    draft: Mapped[dict[str, Any]] = mapped_column(default=dict)
    must_replace: Mapped[dict[str, Any]] = mapped_column(default=dict)
    changed_at: Mapped[datetime] = mapped_column(default=utcnow)
    changed_by_id: Mapped[int | None] = mapped_column(sa.ForeignKey("users.id"))

    changed_by: Mapped[User | None] = relationship()


class GeneralParametersVersion(Base):
    """A published state. It never changes; restoring one publishes a new one."""

    __tablename__ = "general_parameters_versions"
    __table_args__ = (
        sa.UniqueConstraint("customer_id", "number"),
        sa.CheckConstraint("number > 0", name="number_positive"),
    )

    id: Mapped[IntPk]
    customer_id: Mapped[int] = mapped_column(sa.ForeignKey("customers.id"))
    number: Mapped[int]
    values: Mapped[dict[str, Any]] = mapped_column(default=dict)
    restored_from: Mapped[int | None]
    published_at: Mapped[datetime] = mapped_column(default=utcnow)
    published_by_id: Mapped[int | None] = mapped_column(sa.ForeignKey("users.id"))

    published_by: Mapped[User | None] = relationship()
