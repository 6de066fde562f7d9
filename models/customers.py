"""Customers, which are called tenants before and during their creation."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import Base, IntPk, key_type, utcnow, word_type
from models.groups import Group


class CustomerStatus(StrEnum):
    """CREATING until provisioning has completed: nobody signs in, and no list shows it."""

    CREATING = "creating"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    DELETED = "deleted"


def _searched() -> list[sa.Index]:
    """What the list of a group is searched by, within a status."""
    return [
        sa.Index(f"ix_customers_in_group_by_{name}", "group_id", "status", column, "id")
        for name, column in (
            ("name", "name_key"),
            ("short_name", "short_name_key"),
            ("web_id", "web_id"),
            ("upn_suffix", "upn_suffix"),
        )
    ]


class Customer(Base):
    """A company served. `options` are the service options it was registered with, by name;
    `platform_reference` is its name on the application platform, given when it was created there.
    """

    __tablename__ = "customers"
    __table_args__ = (
        sa.CheckConstraint("custno > 0", name="custno_positive"),
        sa.CheckConstraint("web_id <> '' AND web_id = upper(web_id)", name="web_id_upper"),
        sa.CheckConstraint("upn_suffix = lower(upn_suffix)", name="upn_suffix_lower"),
        sa.Index("ix_customers_by_number", "group_id", "custno"),
        sa.Index("ix_customers_group_id_name_key", "group_id", "name_key", "id"),
        *_searched(),
    )

    id: Mapped[IntPk]
    group_id: Mapped[int] = mapped_column(sa.ForeignKey("groups.id"))
    custno: Mapped[int] = mapped_column(unique=True)
    web_id: Mapped[str] = mapped_column(key_type(16), unique=True)
    name: Mapped[str] = mapped_column(sa.String(64))
    name_key: Mapped[str] = mapped_column(key_type(64), unique=True)
    short_name: Mapped[str] = mapped_column(sa.String(16))
    short_name_key: Mapped[str] = mapped_column(key_type(16), unique=True)
    upn_suffix: Mapped[str] = mapped_column(key_type(253), unique=True)
    ani: Mapped[str] = mapped_column(sa.String(16), default="", server_default="")
    contact_name: Mapped[str] = mapped_column(sa.String(128), default="", server_default="")
    contact_email: Mapped[str] = mapped_column(sa.String(320), default="", server_default="")
    contact_phone: Mapped[str] = mapped_column(sa.String(32), default="", server_default="")
    company: Mapped[str] = mapped_column(sa.String(128), default="", server_default="")
    street: Mapped[str] = mapped_column(sa.String(200), default="", server_default="")
    postal_code: Mapped[str] = mapped_column(sa.String(16), default="", server_default="")
    city: Mapped[str] = mapped_column(sa.String(100), default="", server_default="")
    region: Mapped[str] = mapped_column(sa.String(100), default="", server_default="")
    country: Mapped[str] = mapped_column(sa.String(2), default="", server_default="")
    time_zone: Mapped[str] = mapped_column(sa.String(64), default="", server_default="")
    language: Mapped[str] = mapped_column(sa.String(8), default="en", server_default="en")
    setup_instructions: Mapped[str] = mapped_column(sa.Text, default="", server_default="")
    setup_version: Mapped[int] = mapped_column(default=1, server_default="1")
    """Counts the changes of the setup instructions and their files."""
    attachments_version: Mapped[int] = mapped_column(default=0, server_default="0")
    """The `setup_version` that last changed the files, 0 while there are none."""
    application_url: Mapped[str] = mapped_column(sa.String(500), default="", server_default="")
    connector: Mapped[str] = mapped_column(sa.String(32), default="local", server_default="local")
    platform_reference: Mapped[str] = mapped_column(sa.String(64), default="", server_default="")
    template_version_id: Mapped[int | None] = mapped_column(
        sa.ForeignKey("service_template_versions.id")
    )
    options: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")
    status: Mapped[CustomerStatus] = mapped_column(
        word_type(CustomerStatus), default=CustomerStatus.ACTIVE, server_default="active"
    )
    version: Mapped[int] = mapped_column(default=1, server_default="1")
    """Counts the changes that people and other systems make, so that none overwrites another."""
    created_at: Mapped[datetime] = mapped_column(default=utcnow)

    group: Mapped[Group] = relationship()
