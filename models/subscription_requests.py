"""Subscription requests: what Create Tenant submits, its transitions, counters, notifications."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.api_credentials import ApiCredential
from models.base import Base, IntPk, key_type, utcnow, word_type
from models.customers import Customer
from models.groups import Group
from models.registration_links import RegistrationLink
from models.service_templates import ServiceTemplateVersion
from models.users import User


class RequestState(StrEnum):
    """Where a request stands; services/request_states.py declares the ways between them.

    SUBMITTED is passed within the transaction that submits. SCHEDULED waits for `scheduled_for`,
    which for an immediate start has come already.
    """

    DRAFT = "draft"
    SUBMITTED = "submitted"
    AWAITING_APPROVAL = "awaiting_approval"
    CHANGES_REQUESTED = "changes_requested"
    SCHEDULED = "scheduled"
    PROVISIONING = "provisioning"
    FAILED = "failed"
    ROLLING_BACK = "rolling_back"
    COMPLETED = "completed"
    REJECTED = "rejected"
    CANCELLED = "cancelled"


_FREE = "('draft', 'completed', 'rejected', 'cancelled')"
HOLDS_NAMES = sa.text(f"state NOT IN {_FREE}")
"""The requests that hold their names: the condition of the indexes that keep these unique."""


def _held(name: str, column: str) -> sa.Index:
    """Unique among the open requests; a customer's names are unique in its own table."""
    return sa.Index(
        name,
        column,
        unique=True,
        sqlite_where=HOLDS_NAMES,
        postgresql_where=HOLDS_NAMES,
    )


_ORDERS = {
    "submitted": "submitted_at",
    "changed": "changed_at",
    "name": "name_key",
    "short_name": "short_name_key",
    "upn_suffix": "upn_suffix",
    "email": "contact_email_key",
}


def _orders() -> list[sa.Index]:
    """What the list sorts and searches by, within a state and within a state of a group."""
    return [
        sa.Index(f"ix_subscription_requests_{scope}_by_{name}", *columns, column, "id")
        for scope, columns in (("state", ("state",)), ("group", ("group_id", "state")))
        for name, column in _ORDERS.items()
    ]


class SubscriptionRequest(Base):
    """A tenant that somebody asks for, from the first field of the draft to its end.

    `draft` keeps what was typed, right or wrong, by tab ("template", "tenant", "contact") and
    field, never a password; the columns below it are filled when it is submitted.
    `draft_version` counts the changes of the draft, `version` those of the request.
    `password_hash` is of the administrator's password; `password_seal` holds it for the platform,
    and is wiped when the request ends.
    """

    __tablename__ = "subscription_requests"
    __table_args__ = (
        sa.CheckConstraint(
            f"state IN {_FREE} OR (name_key <> '' AND short_name_key <> '' AND upn_suffix <> '' "
            "AND contact_email <> '' AND template_version_id IS NOT NULL AND group_id IS NOT NULL)",
            name="open_is_complete",
        ),
        sa.CheckConstraint("state <> 'scheduled' OR scheduled_for IS NOT NULL", name="has_a_time"),
        sa.CheckConstraint(
            "password_seal IS NULL OR state NOT IN ('completed', 'rejected', 'cancelled')",
            name="ended_has_no_seal",
        ),
        sa.CheckConstraint("state = 'draft' OR submitted_at IS NOT NULL", name="has_submit_time"),
        sa.CheckConstraint(
            "(created_by_id IS NULL) <> (credential_id IS NULL)", name="asked_by_somebody"
        ),
        _held("uq_subscription_requests_held_name", "name_key"),
        _held("uq_subscription_requests_held_short_name", "short_name_key"),
        _held("uq_subscription_requests_held_upn_suffix", "upn_suffix"),
        sa.Index("ix_subscription_requests_of_author", "created_by_id", "state", "id"),
        *_orders(),
        sa.Index(
            "ix_subscription_requests_due",
            "scheduled_for",
            "id",
            sqlite_where=sa.text("state = 'scheduled'"),
            postgresql_where=sa.text("state = 'scheduled'"),
        ),
    )

    id: Mapped[IntPk]
    state: Mapped[RequestState] = mapped_column(word_type(RequestState), default=RequestState.DRAFT)
    version: Mapped[int] = mapped_column(default=1, server_default="1")
    created_by_id: Mapped[int | None] = mapped_column(sa.ForeignKey("users.id"))
    credential_id: Mapped[int | None] = mapped_column(sa.ForeignKey("api_credentials.id"))
    invitation_id: Mapped[int | None] = mapped_column(sa.ForeignKey("registration_links.id"))
    group_id: Mapped[int | None] = mapped_column(sa.ForeignKey("groups.id"))
    template_version_id: Mapped[int | None] = mapped_column(
        sa.ForeignKey("service_template_versions.id")
    )
    draft: Mapped[dict[str, Any]] = mapped_column(default=dict)
    draft_version: Mapped[int] = mapped_column(default=1, server_default="1")
    options: Mapped[dict[str, Any]] = mapped_column(default=dict)
    name: Mapped[str] = mapped_column(sa.String(64), default="", server_default="")
    name_key: Mapped[str] = mapped_column(key_type(64), default="", server_default="")
    short_name: Mapped[str] = mapped_column(sa.String(16), default="", server_default="")
    short_name_key: Mapped[str] = mapped_column(key_type(16), default="", server_default="")
    upn_suffix: Mapped[str] = mapped_column(key_type(253), default="", server_default="")
    admin_login: Mapped[str] = mapped_column(sa.String(320), default="", server_default="")
    password_hash: Mapped[str | None] = mapped_column(sa.String(255))
    password_seal: Mapped[bytes | None] = mapped_column(sa.LargeBinary)
    ani: Mapped[str] = mapped_column(sa.String(16), default="", server_default="")
    company: Mapped[str] = mapped_column(sa.String(128), default="", server_default="")
    street: Mapped[str] = mapped_column(sa.String(200), default="", server_default="")
    postal_code: Mapped[str] = mapped_column(sa.String(16), default="", server_default="")
    city: Mapped[str] = mapped_column(sa.String(100), default="", server_default="")
    region: Mapped[str] = mapped_column(sa.String(100), default="", server_default="")
    country: Mapped[str] = mapped_column(sa.String(2), default="", server_default="")
    contact_name: Mapped[str] = mapped_column(sa.String(128), default="", server_default="")
    contact_phone: Mapped[str] = mapped_column(sa.String(32), default="", server_default="")
    contact_email: Mapped[str] = mapped_column(sa.String(320), default="", server_default="")
    contact_email_key: Mapped[str] = mapped_column(key_type(320), default="", server_default="")
    language: Mapped[str] = mapped_column(sa.String(8), default="en", server_default="en")
    time_zone: Mapped[str] = mapped_column(sa.String(64), default="", server_default="")
    domain_token: Mapped[str] = mapped_column(sa.String(64), default="", server_default="")
    domain_proved_at: Mapped[datetime | None]
    comment: Mapped[str] = mapped_column(sa.String(2000), default="", server_default="")
    """What the provider asked to be changed, or why it was rejected or cancelled."""
    scheduled_for: Mapped[datetime | None]
    off_peak: Mapped[bool] = mapped_column(default=False, server_default=sa.false())
    """Planned by the off-peak windows: it starts inside one, or waits for the next."""
    customer_id: Mapped[int | None] = mapped_column(sa.ForeignKey("customers.id"), unique=True)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    changed_at: Mapped[datetime] = mapped_column(default=utcnow)
    submitted_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]

    created_by: Mapped[User | None] = relationship(foreign_keys=[created_by_id])
    credential: Mapped[ApiCredential | None] = relationship()
    invitation: Mapped[RegistrationLink | None] = relationship()
    group: Mapped[Group | None] = relationship()
    template_version: Mapped[ServiceTemplateVersion | None] = relationship()
    customer: Mapped[Customer | None] = relationship()

    @property
    def author(self) -> str:
        """Who asked for it, as people know him."""
        if self.created_by is not None:
            return self.created_by.full_name
        return f"API credential {self.credential.name}" if self.credential is not None else ""


class RequestTransition(Base):
    """One line of a request's timeline."""

    __tablename__ = "request_transitions"
    __table_args__ = (sa.Index("ix_request_transitions_of_request", "request_id", "id"),)

    id: Mapped[IntPk]
    request_id: Mapped[int] = mapped_column(sa.ForeignKey("subscription_requests.id"))
    from_state: Mapped[RequestState] = mapped_column(word_type(RequestState, "from_state"))
    to_state: Mapped[RequestState] = mapped_column(word_type(RequestState, "to_state"))
    at: Mapped[datetime] = mapped_column(default=utcnow)
    actor_id: Mapped[int | None] = mapped_column(sa.ForeignKey("users.id"))
    actor_login: Mapped[str] = mapped_column(sa.String(320), default="")
    reason: Mapped[str] = mapped_column(sa.String(2000), default="", server_default="")
    scheduled_for: Mapped[datetime | None]

    actor: Mapped[User | None] = relationship()


class RequestCount(Base):
    """How many requests of a group are in a state; drafts are not counted."""

    __tablename__ = "request_counts"
    __table_args__ = (sa.CheckConstraint("requests >= 0", name="not_negative"),)

    group_id: Mapped[int] = mapped_column(sa.ForeignKey("groups.id"), primary_key=True)
    state: Mapped[RequestState] = mapped_column(word_type(RequestState), primary_key=True)
    requests: Mapped[int] = mapped_column(default=0)


class NotificationKind(StrEnum):
    """Named as the folder of its texts below templates/email."""

    SCHEDULED = "request_scheduled"
    COMPLETED = "request_completed"
    FAILED = "request_failed"
    REJECTED = "request_rejected"
    CANCELLED = "request_cancelled"
    CHANGES_REQUESTED = "request_changes"


_UNMAILED = sa.text("mailed_at IS NULL AND failed_at IS NULL")


class RequestNotification(Base):
    """A mail about a request to its contact. Written with the transition, mailed by a job.

    A repeat after a crash has the same Message-ID. `resent_by_id` marks one that staff asked for
    again; without it there is one per transition, and one at a time waits to be mailed. A job is
    at it since `claimed_at`; without one it waits for `next_attempt_at`. `answer` has the words of
    who refused it last.
    """

    __tablename__ = "request_notifications"
    __table_args__ = (
        sa.Index("ix_request_notifications_of_request", "request_id", "id"),
        sa.Index(
            "uq_request_notifications_once",
            "transition_id",
            unique=True,
            sqlite_where=sa.text("resent_by_id IS NULL"),
            postgresql_where=sa.text("resent_by_id IS NULL"),
        ),
        sa.Index(
            "uq_request_notifications_one_waiting",
            "transition_id",
            unique=True,
            sqlite_where=_UNMAILED,
            postgresql_where=_UNMAILED,
        ),
        sa.Index(
            "ix_request_notifications_unmailed",
            "next_attempt_at",
            sqlite_where=_UNMAILED,
            postgresql_where=_UNMAILED,
        ),
    )

    id: Mapped[IntPk]
    request_id: Mapped[int] = mapped_column(sa.ForeignKey("subscription_requests.id"))
    transition_id: Mapped[int] = mapped_column(sa.ForeignKey("request_transitions.id"))
    kind: Mapped[NotificationKind] = mapped_column(word_type(NotificationKind))
    email: Mapped[str] = mapped_column(sa.String(320))
    language: Mapped[str] = mapped_column(sa.String(8))
    message_id: Mapped[str] = mapped_column(sa.String(200), unique=True)
    resent_by_id: Mapped[int | None] = mapped_column(sa.ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    claimed_at: Mapped[datetime | None]
    next_attempt_at: Mapped[datetime] = mapped_column(default=utcnow)
    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    mailed_at: Mapped[datetime | None]
    failed_at: Mapped[datetime | None]
    answer: Mapped[str] = mapped_column(sa.String(500), default="", server_default="")

    request: Mapped[SubscriptionRequest] = relationship()
    transition: Mapped[RequestTransition] = relationship()
    resent_by: Mapped[User | None] = relationship()
