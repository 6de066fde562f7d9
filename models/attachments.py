"""Attachments: the files that go with a customer's setup instructions."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import Base, IntPk, key_type, utcnow
from models.customers import Customer
from models.users import User


class Attachment(Base):
    """A file of a customer; the list is in the order of `position`, then `id`.

    `content` is as it was uploaded, `size` its length in bytes, `content_type` one of those that
    the rules for attachments know.
    """

    __tablename__ = "attachments"
    __table_args__ = (
        sa.CheckConstraint("name <> ''", name="name_given"),
        sa.CheckConstraint("size > 0", name="not_empty"),
        sa.UniqueConstraint("customer_id", "name_key"),
    )

    id: Mapped[IntPk]
    customer_id: Mapped[int] = mapped_column(sa.ForeignKey("customers.id", ondelete="CASCADE"))
    position: Mapped[int]
    name: Mapped[str] = mapped_column(sa.String(100))
    name_key: Mapped[str] = mapped_column(key_type(100))
    content_type: Mapped[str] = mapped_column(sa.String(64))
    size: Mapped[int]
    content: Mapped[bytes] = mapped_column(sa.LargeBinary, deferred=True)
    created_by_id: Mapped[int | None] = mapped_column(
        sa.ForeignKey("users.id", ondelete="SET NULL")
    )
    created_at: Mapped[datetime] = mapped_column(default=utcnow)

    customer: Mapped[Customer] = relationship()
    created_by: Mapped[User | None] = relationship()
