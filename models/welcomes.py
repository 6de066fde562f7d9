"""Welcomes: how the last welcome mail to each user ended."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from models.base import ID, Base, key_type, never_first, word_type


class WelcomeState(StrEnum):
    """How the last welcome mail to a user ended; what is under way is read from deliveries."""

    NEVER = "never"
    SENT = "sent"
    FAILED = "failed"


class Welcome(Base):
    """One row for each user, apart from his because every mailing changes it.

    The database makes it with the user's, and has `customer_id` and `name_key` follow his: they
    stand here because users are listed and sorted by these along with `state` and `at`.
    """

    __tablename__ = "welcomes"
    __table_args__ = (
        sa.Index("ix_welcomes_by_state", "customer_id", "state", "name_key", "user_id"),
    )

    user_id: Mapped[int] = mapped_column(
        sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    customer_id: Mapped[int | None] = mapped_column(ID)
    name_key: Mapped[str] = mapped_column(key_type(260), default="", server_default="")
    state: Mapped[WelcomeState] = mapped_column(
        word_type(WelcomeState), default=WelcomeState.NEVER, server_default="never"
    )
    at: Mapped[datetime | None]


sa.Index(
    "ix_welcomes_by_time",
    Welcome.__table__.c.customer_id,
    never_first("at"),
    Welcome.__table__.c.user_id,
)
