"""Webhooks: where other systems are told of what happened, and every attempt to tell them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import Base, IntPk, utcnow, word_type
from models.groups import Group


class WebhookEvent(StrEnum):
    """What can be told; the name is the `type` of the message.

    ENDPOINT_TEST is sent on request alone, to see whether an endpoint works.
    """

    DELIVERY_ENDED = "delivery.ended"
    REQUEST_STATE_CHANGED = "request.state_changed"
    CUSTOMER_CREATED = "customer.created"
    ENDPOINT_TEST = "endpoint.test"


class WebhookEndpoint(Base):
    """An address that is told of events in its group.

    Its secret is sealed; after a rotation messages are signed with the one before, too, until
    `previous_until`. `disabled_at` is set by a person, or by the system with the reason when
    every attempt has failed since `failing_since` for too long. A deleted one keeps its messages.
    While a worker sends, `claim_token` is its lease; without one, `claimed_until` is a pause.
    """

    __tablename__ = "webhook_endpoints"
    __table_args__ = (
        sa.CheckConstraint("url <> ''", name="url_given"),
        sa.CheckConstraint(
            "(previous_seal IS NULL) = (previous_until IS NULL)", name="previous_ends"
        ),
        sa.Index("ix_webhook_endpoints_of_group", "group_id", "id"),
    )

    id: Mapped[IntPk]
    group_id: Mapped[int] = mapped_column(sa.ForeignKey("groups.id"))
    url: Mapped[str] = mapped_column(sa.String(2000))
    description: Mapped[str] = mapped_column(sa.String(200), default="", server_default="")
    secret_seal: Mapped[bytes] = mapped_column(sa.LargeBinary)
    previous_seal: Mapped[bytes | None] = mapped_column(sa.LargeBinary)
    previous_until: Mapped[datetime | None]
    version: Mapped[int] = mapped_column(default=1, server_default="1")
    created_by: Mapped[str] = mapped_column(sa.String(320), default="", server_default="")
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    failing_since: Mapped[datetime | None]
    disabled_at: Mapped[datetime | None]
    disabled_reason: Mapped[str] = mapped_column(sa.String(200), default="", server_default="")
    deleted_at: Mapped[datetime | None]
    claim_token: Mapped[str | None] = mapped_column(sa.String(32))
    claimed_until: Mapped[datetime | None]

    group: Mapped[Group] = relationship()
    subscriptions: Mapped[list[WebhookSubscription]] = relationship(
        lazy="selectin", order_by="WebhookSubscription.event"
    )

    @property
    def events(self) -> list[WebhookEvent]:
        return [each.event for each in self.subscriptions]


class WebhookSubscription(Base):
    """An event that an endpoint is told of."""

    __tablename__ = "webhook_subscriptions"

    endpoint_id: Mapped[int] = mapped_column(
        sa.ForeignKey("webhook_endpoints.id", ondelete="CASCADE"), primary_key=True
    )
    event: Mapped[WebhookEvent] = mapped_column(word_type(WebhookEvent), primary_key=True)


class MessageState(StrEnum):
    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"


_WAITING = sa.text("state = 'waiting'")


class WebhookMessage(Base):
    """One event for one endpoint, written in the transaction in which it happened.

    `object_id` names what it is about: the delivery, the request's transition, the customer, or
    the endpoint itself. `reached` is the state in which a delivery ended, which may change again
    before the message is sent. `body` is frozen when it is sent first, so that every attempt and
    every replay is the same.
    """

    __tablename__ = "webhook_messages"
    __table_args__ = (
        sa.CheckConstraint("(state = 'waiting') = (ended_at IS NULL)", name="waiting_has_no_end"),
        sa.CheckConstraint("attempts >= 0", name="attempts_not_negative"),
        sa.Index("ix_webhook_messages_of_endpoint", "endpoint_id", "id"),
        sa.Index("ix_webhook_messages_by_state", "endpoint_id", "state", "id"),
        sa.Index(
            "ix_webhook_messages_due",
            "endpoint_id",
            "next_attempt_at",
            "id",
            sqlite_where=_WAITING,
            postgresql_where=_WAITING,
        ),
        sa.Index("ix_webhook_messages_ended_at", "ended_at"),
    )

    id: Mapped[IntPk]
    endpoint_id: Mapped[int] = mapped_column(sa.ForeignKey("webhook_endpoints.id"))
    event: Mapped[WebhookEvent] = mapped_column(word_type(WebhookEvent))
    object_id: Mapped[int] = mapped_column(sa.BigInteger)
    reached: Mapped[str] = mapped_column(sa.String(16), default="", server_default="")
    occurred_at: Mapped[datetime] = mapped_column(default=utcnow)
    body: Mapped[str | None] = mapped_column(sa.Text)
    state: Mapped[MessageState] = mapped_column(
        word_type(MessageState), default=MessageState.WAITING, server_default="waiting"
    )
    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    next_attempt_at: Mapped[datetime] = mapped_column(default=utcnow)
    ended_at: Mapped[datetime | None]

    endpoint: Mapped[WebhookEndpoint] = relationship()


class WebhookAttempt(Base):
    """One try to deliver a message; `status` is the answer's, empty where there was none."""

    __tablename__ = "webhook_attempts"
    __table_args__ = (sa.Index("ix_webhook_attempts_of_message", "message_id", "id"),)

    id: Mapped[IntPk]
    message_id: Mapped[int] = mapped_column(
        sa.ForeignKey("webhook_messages.id", ondelete="CASCADE")
    )
    at: Mapped[datetime] = mapped_column(default=utcnow)
    milliseconds: Mapped[int]
    status: Mapped[int | None]
    answer: Mapped[str] = mapped_column(sa.String(500), default="", server_default="")
