"""Invitations of staff: the link by which a new member chooses a password."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import Base, IntPk, utcnow
from models.users import User


class StaffInvitationState(StrEnum):
    """What became of an invitation."""

    WAITING = "waiting"
    MAILED = "mailed"
    ACCEPTED = "accepted"
    EXPIRED = "expired"
    FAILED = "failed"


_UNMAILED = sa.text("mailed_at IS NULL AND failed_at IS NULL AND accepted_at IS NULL")


class StaffInvitation(Base):
    """The single-use link of a new member of staff. The job makes, hashes and mails its token.

    Until it is accepted its person is suspended. `answer` has the words of who refused the mail
    last; withdrawing an invitation deletes it and the person, who has never been there.
    """

    __tablename__ = "staff_invitations"
    __table_args__ = (
        sa.Index(
            "ix_staff_invitations_unmailed",
            "requested_at",
            sqlite_where=_UNMAILED,
            postgresql_where=_UNMAILED,
        ),
    )

    id: Mapped[IntPk]
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), unique=True)
    invited_by_id: Mapped[int | None] = mapped_column(sa.ForeignKey("users.id"))
    requested_at: Mapped[datetime] = mapped_column(default=utcnow)
    expires_at: Mapped[datetime]
    token_hash: Mapped[str | None] = mapped_column(sa.String(64), unique=True)
    claimed_at: Mapped[datetime | None]
    mailed_at: Mapped[datetime | None]
    failed_at: Mapped[datetime | None]
    accepted_at: Mapped[datetime | None]
    answer: Mapped[str] = mapped_column(sa.String(500), default="", server_default="")

    user: Mapped[User] = relationship(foreign_keys=[user_id])
    invited_by: Mapped[User | None] = relationship(foreign_keys=[invited_by_id])

    def state_at(self, now: datetime) -> StaffInvitationState:
        """What the list says of it at `now` (aware)."""
        if self.accepted_at is not None:
            return StaffInvitationState.ACCEPTED
        if self.failed_at is not None:
            return StaffInvitationState.FAILED
        if self.expires_at <= now:
            return StaffInvitationState.EXPIRED
        if self.mailed_at is None:
            return StaffInvitationState.WAITING
        return StaffInvitationState.MAILED
