"""Accounts on the local application platform, the one that stands in where there is no other."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, utcnow


class LocalPlatformAccount(Base):
    """`tenant_reference` is of the tenant it was created in; older accounts have none."""

    __tablename__ = "local_platform_accounts"

    user_id: Mapped[int] = mapped_column(
        sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    password_hash: Mapped[str] = mapped_column(sa.String(255))
    tenant_reference: Mapped[str | None] = mapped_column(
        sa.ForeignKey(
            "local_platform_tenants.reference",
            name="fk_local_platform_accounts_tenant",
            ondelete="CASCADE",
        ),
        index=True,
    )
    changed_at: Mapped[datetime] = mapped_column(default=utcnow)
