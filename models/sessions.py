"""Signed-in sessions, what is selected in them, reset links and throttles."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import Base, IntPk, key_type, utcnow
from models.users import User


class SignInSession(Base):
    """A browser that is signed in. The cookie carries the token, the row only its hash.

    `behalf` is the customer's administrator that a member of staff is signed in as, until
    `behalf_until` at the latest.
    """

    __tablename__ = "sign_in_sessions"
    __table_args__ = (
        sa.CheckConstraint("(behalf_id IS NULL) = (behalf_until IS NULL)", name="behalf_ends"),
    )

    id: Mapped[IntPk]
    token_hash: Mapped[str] = mapped_column(sa.String(64), unique=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id"), index=True)
    address: Mapped[str] = mapped_column(sa.String(64), default="")
    user_agent: Mapped[str] = mapped_column(sa.String(255), default="")
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    last_seen_at: Mapped[datetime] = mapped_column(default=utcnow, index=True)
    confirmed_at: Mapped[datetime | None]
    """When its person proved once more who he is; the sign-in was the first time."""

    lacks_second_factor = False
    """Whether its person has to set up a second factor first; known of sessions that were found."""

    behalf_id: Mapped[int | None] = mapped_column(sa.ForeignKey("users.id"))
    behalf_until: Mapped[datetime | None]

    user: Mapped[User] = relationship(foreign_keys=[user_id])
    behalf: Mapped[User | None] = relationship(foreign_keys=[behalf_id])


class SelectedUser(Base):
    """A user that is ticked on the Users tab; the selection outlives pages and filters."""

    __tablename__ = "selected_users"

    session_id: Mapped[int] = mapped_column(
        sa.ForeignKey("sign_in_sessions.id", ondelete="CASCADE"), primary_key=True
    )
    customer_id: Mapped[int] = mapped_column(sa.ForeignKey("customers.id"), primary_key=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id"), primary_key=True)


class ResetLink(Base):
    """A wish to choose a new password. The link is made, hashed and mailed by the job."""

    __tablename__ = "reset_links"

    id: Mapped[IntPk]
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id"), index=True)
    requested_at: Mapped[datetime] = mapped_column(default=utcnow, index=True)
    token_hash: Mapped[str | None] = mapped_column(sa.String(64), unique=True)
    claimed_at: Mapped[datetime | None]
    mailed_at: Mapped[datetime | None]
    used_at: Mapped[datetime | None]


class Throttle(Base):
    """Attempts counted per key (a login, a network), and the wait that follows too many."""

    __tablename__ = "throttles"

    key: Mapped[str] = mapped_column(key_type(400), primary_key=True)
    attempts: Mapped[int] = mapped_column(default=0)
    blocked_until: Mapped[datetime]
    updated_at: Mapped[datetime] = mapped_column(default=utcnow, index=True)
