"""Deliveries: a mailing's row for one recipient, and the claims workers hold on them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import Base, IntPk, table_of, utcnow, word_type
from models.mailings import Mailing
from models.users import User


class DeliveryState(StrEnum):
    """BOUNCED was accepted by our server and sent back later by another."""

    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    BOUNCED = "bounced"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


class SkipReason(StrEnum):
    """Why a recipient gets no mail. The last three can also come up after the confirmation."""

    NO_ADDRESS = "no_address"
    RECENTLY_MAILED = "recently_mailed"
    SUSPENDED = "suspended"
    DELETED = "deleted"
    SUPPRESSED = "suppressed"
    ADDRESS_CHANGED = "address_changed"
    REPLACED = "replaced"


_QUEUED = sa.text("state = 'queued'")
_NOT_QUEUED = sa.text("state <> 'queued'")
_SEALED = sa.text("seal IS NOT NULL")
UNMAILED = sa.text(
    "application_password_set AND state IN ('bounced', 'failed', 'skipped', 'cancelled')"
)
"""Ended without a mail, though the application password had been changed."""


def in_state(state: DeliveryState) -> sa.ColumnElement[bool]:
    """Whether a delivery is in a state, in the very words of the index that holds those."""
    column: sa.ColumnElement[str] = table_of(Delivery).c.state
    is_in_it = column == sa.literal_column(f"'{state.value}'")
    if state is DeliveryState.QUEUED:
        return is_in_it
    return sa.and_(is_in_it, column != sa.literal_column("'queued'"))


class Delivery(Base):
    """One recipient of one mailing.

    `seal` holds the encrypted credentials from the first claim until the delivery ends, and
    `pending_hash` the hash of the portal password among them; a sealed row without it belongs to a
    reader who has already signed in with that password. `in_doubt` says that the server may have
    accepted the message although no answer was recorded. `dated_at` is the message's Date.

    Those of a mailing are written in the order of user ids, so that their own ids have the same
    order.
    """

    __tablename__ = "deliveries"
    __table_args__ = (
        sa.UniqueConstraint("mailing_id", "user_id"),
        sa.CheckConstraint(
            "(state = 'skipped') = (skip_reason IS NOT NULL)", name="skipped_has_reason"
        ),
        sa.CheckConstraint(
            "(state = 'sending') = (claim_token IS NOT NULL)", name="sending_is_claimed"
        ),
        sa.CheckConstraint(
            "(seal IS NULL AND pending_hash IS NULL) OR state IN ('queued', 'sending')",
            name="secrets_are_wiped",
        ),
        sa.CheckConstraint(
            "(state IN ('sent', 'bounced')) = (sent_at IS NOT NULL)", name="sent_has_time"
        ),
        sa.CheckConstraint(
            "(state = 'bounced') = (bounced_at IS NOT NULL)", name="bounced_has_time"
        ),
        sa.CheckConstraint("pending_hash IS NULL OR seal IS NOT NULL", name="pending_is_sealed"),
        sa.CheckConstraint("attempts >= 0", name="attempts_not_negative"),
        sa.Index(
            "ix_deliveries_in_state",
            "mailing_id",
            "state",
            "user_id",
            sqlite_where=_NOT_QUEUED,
            postgresql_where=_NOT_QUEUED,
        ),
        sa.Index(
            "ix_deliveries_due",
            "mailing_id",
            "next_attempt_at",
            "user_id",
            sqlite_where=_QUEUED,
            postgresql_where=_QUEUED,
        ),
        sa.Index("ix_deliveries_of_user", "user_id", "id"),
        sa.Index(
            "ix_deliveries_unmailed",
            "mailing_id",
            "id",
            sqlite_where=UNMAILED,
            postgresql_where=UNMAILED,
        ),
        sa.Index(
            "uq_deliveries_one_seal_per_user",
            "user_id",
            unique=True,
            sqlite_where=_SEALED,
            postgresql_where=_SEALED,
        ),
    )

    id: Mapped[IntPk]
    mailing_id: Mapped[int] = mapped_column(sa.ForeignKey("mailings.id"))
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id"))
    state: Mapped[DeliveryState] = mapped_column(word_type(DeliveryState))
    skip_reason: Mapped[SkipReason | None] = mapped_column(word_type(SkipReason))
    email: Mapped[str] = mapped_column(sa.String(320))
    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    next_attempt_at: Mapped[datetime] = mapped_column(default=utcnow)
    claim_token: Mapped[str | None] = mapped_column(sa.String(32))
    message_id: Mapped[str | None] = mapped_column(sa.String(255))
    dated_at: Mapped[datetime | None]
    seal: Mapped[bytes | None]
    pending_hash: Mapped[str | None] = mapped_column(sa.String(255))
    in_doubt: Mapped[bool] = mapped_column(default=False, server_default=sa.false())
    application_password_set: Mapped[bool] = mapped_column(default=False, server_default=sa.false())
    answer_code: Mapped[int | None]
    answer: Mapped[str] = mapped_column(sa.String(500), default="", server_default="")
    sent_at: Mapped[datetime | None]
    bounced_at: Mapped[datetime | None]
    bounce_reason: Mapped[str] = mapped_column(sa.String(500), default="", server_default="")
    created_at: Mapped[datetime] = mapped_column(default=utcnow)

    mailing: Mapped[Mailing] = relationship()
    user: Mapped[User] = relationship()


class DeliveryClaim(Base):
    """A worker's lease on a chunk of deliveries; it is renewed while the worker lives."""

    __tablename__ = "delivery_claims"

    token: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    mailing_id: Mapped[int] = mapped_column(sa.ForeignKey("mailings.id"), index=True)
    worker: Mapped[str] = mapped_column(sa.String(128))
    expires_at: Mapped[datetime] = mapped_column(index=True)
