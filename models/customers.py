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


_LISTED = {
    "name": "name_key",
    "short_name": "short_name_key",
    "web_id": "web_id",
    "upn_suffix": "upn_suffix",
    "custno": "custno",
}
CLOSING = sa.text("delete_after IS NOT NULL")
"""Customers whose deletion has been asked for: the condition of the indexes that find them."""
_UNFINISHED = sa.text("follow_up_at IS NOT NULL")


def _searched() -> list[sa.Index]:
    """What lists are searched and sorted by: within a status, and within one of a group."""
    return [
        sa.Index(f"ix_customers_{scope}_by_{name}", *columns, column, "id")
        for scope, columns in (("of_status", ("status",)), ("in_group", ("group_id", "status")))
        for name, column in _LISTED.items()
    ]


def _closing(name: str, *columns: str) -> sa.Index:
    return sa.Index(name, *columns, sqlite_where=CLOSING, postgresql_where=CLOSING)


class Customer(Base):
    """A company served. `options` are the service options it was registered with, by name;
    `platform_reference` is its name on the application platform, given when it was created there.

    One whose deletion was asked for is suspended until `delete_after`; `suspended_at` is set where
    it was suspended for itself, before or without that. What a change of its state has still to
    bring about, on the platform or among its rows, is due at `follow_up_at`.
    """

    __tablename__ = "customers"
    __table_args__ = (
        sa.CheckConstraint("custno > 0", name="custno_positive"),
        sa.CheckConstraint("web_id <> '' AND web_id = upper(web_id)", name="web_id_upper"),
        sa.CheckConstraint("upn_suffix = lower(upn_suffix)", name="upn_suffix_lower"),
        sa.Index("ix_customers_by_number", "group_id", "custno"),
        sa.Index("ix_customers_group_id_name_key", "group_id", "name_key", "id"),
        *_searched(),
        sa.CheckConstraint("delete_after IS NULL OR status = 'suspended'", name="closing_is_out"),
        sa.CheckConstraint("follow_up_attempts >= 0", name="follow_ups_not_negative"),
        _closing("ix_customers_closing", "delete_after", "id"),
        _closing("ix_customers_closing_by_name", "name_key", "id"),
        _closing("ix_customers_closing_in_group_by_name", "group_id", "name_key", "id"),
        sa.Index(
            "ix_customers_follow_up",
            "follow_up_at",
            "id",
            sqlite_where=_UNFINISHED,
            postgresql_where=_UNFINISHED,
        ),
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
    suspended_at: Mapped[datetime | None]
    suspended_reason: Mapped[str] = mapped_column(sa.String(500), default="", server_default="")
    delete_asked_at: Mapped[datetime | None]
    delete_after: Mapped[datetime | None]
    delete_reason: Mapped[str] = mapped_column(sa.String(500), default="", server_default="")
    deleted_at: Mapped[datetime | None]
    follow_up_at: Mapped[datetime | None]
    follow_up_attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    follow_up_error: Mapped[str] = mapped_column(sa.String(500), default="", server_default="")
    version: Mapped[int] = mapped_column(default=1, server_default="1")
    """Counts the changes that people and other systems make, so that none overwrites another."""
    created_at: Mapped[datetime] = mapped_column(default=utcnow)

    group: Mapped[Group] = relationship()

    @property
    def is_closing(self) -> bool:
        """Whether its deletion was asked for and can still be taken back."""
        return self.delete_after is not None
