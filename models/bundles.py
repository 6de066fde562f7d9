"""Bundles: named service packages, assigned to customers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from models.base import ID, Base, IntPk, key_type, table_of, word_type
from models.customers import Customer, CustomerStatus


class Bundle(Base):
    """An archived one stays with whoever has it, and is offered no more."""

    __tablename__ = "bundles"
    __table_args__ = (sa.CheckConstraint("name <> ''", name="name_given"),)

    id: Mapped[IntPk]
    name: Mapped[str] = mapped_column(sa.String(64), unique=True)
    services: Mapped[str] = mapped_column(sa.String(500), default="", server_default="")
    version: Mapped[int] = mapped_column(default=1, server_default="1")
    archived_at: Mapped[datetime | None]


def _copied(column: str) -> Any:
    """A default that takes the value of the customer's column over, for each row."""

    def read(context: Any) -> Any:
        customers = table_of(Customer)
        wanted = sa.select(customers.c[column]).where(
            customers.c.id == context.get_current_parameters()["customer_id"]
        )
        return context.connection.scalar(wanted)

    return read


class CustomerBundle(Base):
    """A bundle that a customer may give to its users.

    `group_id`, `status` and `name_key` are copies of the customer's, so that an index holds the
    customers of a bundle in the order of the list. Whoever changes the customer's changes these.
    """

    __tablename__ = "customer_bundles"
    __table_args__ = (
        sa.Index("ix_customer_bundles_by_name", "bundle_id", "status", "name_key", "customer_id"),
        sa.Index(
            "ix_customer_bundles_in_group_by_name",
            "bundle_id",
            "group_id",
            "status",
            "name_key",
            "customer_id",
        ),
    )

    customer_id: Mapped[int] = mapped_column(sa.ForeignKey("customers.id"), primary_key=True)
    bundle_id: Mapped[int] = mapped_column(
        sa.ForeignKey("bundles.id"), primary_key=True, index=True
    )
    group_id: Mapped[int] = mapped_column(ID, default=_copied("group_id"))
    status: Mapped[CustomerStatus] = mapped_column(
        word_type(CustomerStatus), default=_copied("status")
    )
    name_key: Mapped[str] = mapped_column(key_type(64), default=_copied("name_key"))
