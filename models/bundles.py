"""Bundles: named service packages, assigned to customers."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, IntPk


class Bundle(Base):
    __tablename__ = "bundles"
    __table_args__ = (sa.CheckConstraint("name <> ''", name="name_given"),)

    id: Mapped[IntPk]
    name: Mapped[str] = mapped_column(sa.String(64), unique=True)
    services: Mapped[str] = mapped_column(sa.String(500), default="", server_default="")


class CustomerBundle(Base):
    """A bundle that a customer may give to its users."""

    __tablename__ = "customer_bundles"

    customer_id: Mapped[int] = mapped_column(sa.ForeignKey("customers.id"), primary_key=True)
    bundle_id: Mapped[int] = mapped_column(
        sa.ForeignKey("bundles.id"), primary_key=True, index=True
    )
