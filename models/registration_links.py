"""Registration links: how a prospect gets in, by his own wish or by an invitation."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import Base, IntPk, key_type, utcnow
from models.groups import Group
from models.service_templates import ServiceTemplate
from models.users import User


def _partial(name: str, column: str, rows: str) -> sa.Index:
    """An index of those rows alone that somebody still looks for."""
    condition = sa.text(rows)
    return sa.Index(
        f"ix_registration_links_{name}",
        column,
        sqlite_where=condition,
        postgresql_where=condition,
    )


class InvitationState(StrEnum):
    """What became of an invitation, as its inviter sees it."""

    WAITING = "waiting"
    MAILED = "mailed"
    ACCEPTED = "accepted"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    FAILED = "failed"


class RegistrationLink(Base):
    """A single-use link to Tenant Registration. The job makes, hashes and mails its token.

    An invitation is a link with `invited_by_id`; it may name the template to begin with, and the
    group whose operators see it. `address` is where the wish came from. `answer` has the words of
    who refused the mail last; a link that ended with one was refused for good.
    """

    __tablename__ = "registration_links"
    __table_args__ = (
        sa.CheckConstraint("email_key <> ''", name="email_given"),
        sa.CheckConstraint(
            "invited_by_id IS NOT NULL OR (template_id IS NULL AND group_id IS NULL)",
            name="presets_by_staff",
        ),
        sa.CheckConstraint("used_at IS NULL OR ended_at IS NULL", name="used_or_ended"),
        sa.Index("ix_registration_links_of_email", "email_key", "id"),
        sa.Index("ix_registration_links_of_group", "group_id", "id"),
        _partial("wishes", "requested_at", "invited_by_id IS NULL"),
        _partial("open_invitations", "expires_at", "invited_by_id IS NOT NULL AND used_at IS NULL"),
        _partial("unmailed", "requested_at", "mailed_at IS NULL AND ended_at IS NULL"),
    )

    id: Mapped[IntPk]
    email: Mapped[str] = mapped_column(sa.String(320))
    email_key: Mapped[str] = mapped_column(key_type(320))
    language: Mapped[str] = mapped_column(sa.String(8), default="en", server_default="en")
    address: Mapped[str] = mapped_column(sa.String(64), default="", server_default="")
    invited_by_id: Mapped[int | None] = mapped_column(sa.ForeignKey("users.id"))
    template_id: Mapped[int | None] = mapped_column(sa.ForeignKey("service_templates.id"))
    group_id: Mapped[int | None] = mapped_column(sa.ForeignKey("groups.id"))
    message: Mapped[str] = mapped_column(sa.String(1000), default="", server_default="")
    requested_at: Mapped[datetime] = mapped_column(default=utcnow)
    expires_at: Mapped[datetime]
    token_hash: Mapped[str | None] = mapped_column(sa.String(64), unique=True)
    claimed_at: Mapped[datetime | None]
    mailed_at: Mapped[datetime | None]
    used_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    """When it stopped to work before it was used: withdrawn, replaced, or refused for good."""
    answer: Mapped[str] = mapped_column(sa.String(500), default="", server_default="")

    invited_by: Mapped[User | None] = relationship()
    template: Mapped[ServiceTemplate | None] = relationship()
    group: Mapped[Group | None] = relationship()

    def state_at(self, now: datetime) -> InvitationState:
        """What an invitation's list says of it at `now` (aware)."""
        if self.used_at is not None:
            return InvitationState.ACCEPTED
        if self.ended_at is not None:
            return InvitationState.FAILED if self.answer else InvitationState.WITHDRAWN
        if self.expires_at <= now:
            return InvitationState.EXPIRED
        return InvitationState.WAITING if self.mailed_at is None else InvitationState.MAILED
