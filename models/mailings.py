"""Mailings: one action that sends mail, with counters kept beside its deliveries."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.api_credentials import ApiCredential
from models.base import Base, IntPk, utcnow, word_type
from models.command_runs import CommandRun
from models.customers import Customer
from models.email_templates import EmailTemplateVersion
from models.users import User


class MailingState(StrEnum):
    """CANCELLING finishes the deliveries whose mail may already be with the server."""

    RUNNING = "running"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    FINISHED = "finished"


class Lane(StrEnum):
    """The queue a mailing is worked on, so that a bulk mailing never delays a single resend."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


COUNTERS = ("queued", "sending", "sent", "bounced", "failed", "skipped", "cancelled")


class Mailing(Base):
    """One action that sends a template to recipients that were frozen when it was confirmed.

    `customer_id` is empty where the recipients belong to several customers: those are named by
    MailingCustomer. `created_by_id` is empty where the mailing was started from a terminal, or by
    an API credential.
    """

    __tablename__ = "mailings"
    __table_args__ = (
        sa.UniqueConstraint("created_by_id", "confirmation"),
        sa.CheckConstraint(
            " AND ".join(f"{name} >= 0" for name in COUNTERS), name="counters_not_negative"
        ),
        sa.CheckConstraint(f"total = {' + '.join(COUNTERS)}", name="counters_add_up"),
        sa.CheckConstraint(
            "state NOT IN ('finished', 'cancelled') OR queued + sending = 0", name="ended_is_done"
        ),
        sa.Index("ix_mailings_of_customer", "customer_id", "id"),
        sa.Index(
            "ix_mailings_open",
            "id",
            sqlite_where=sa.text("queued + sending > 0"),
            postgresql_where=sa.text("queued + sending > 0"),
        ),
        sa.Index("uq_mailings_command_line", "command_run_id", "command_line", unique=True),
    )

    id: Mapped[IntPk]
    customer_id: Mapped[int | None] = mapped_column(sa.ForeignKey("customers.id"))
    template_version_id: Mapped[int] = mapped_column(sa.ForeignKey("email_template_versions.id"))
    created_by_id: Mapped[int | None] = mapped_column(sa.ForeignKey("users.id"))
    credential_id: Mapped[int | None] = mapped_column(sa.ForeignKey("api_credentials.id"))
    confirmation: Mapped[str] = mapped_column(sa.String(64))
    command_run_id: Mapped[int | None] = mapped_column(sa.ForeignKey("command_runs.id"))
    command_line: Mapped[int | None]
    lane: Mapped[Lane] = mapped_column(word_type(Lane))
    state: Mapped[MailingState] = mapped_column(
        word_type(MailingState), default=MailingState.RUNNING
    )
    resets_portal_password: Mapped[bool]
    resets_application_password: Mapped[bool]
    total: Mapped[int] = mapped_column(default=0)
    queued: Mapped[int] = mapped_column(default=0)
    sending: Mapped[int] = mapped_column(default=0)
    sent: Mapped[int] = mapped_column(default=0)
    bounced: Mapped[int] = mapped_column(default=0, server_default="0")
    failed: Mapped[int] = mapped_column(default=0)
    skipped: Mapped[int] = mapped_column(default=0)
    cancelled: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    customer: Mapped[Customer | None] = relationship()
    template_version: Mapped[EmailTemplateVersion] = relationship()
    created_by: Mapped[User | None] = relationship()
    command_run: Mapped[CommandRun | None] = relationship()
    credential: Mapped[ApiCredential | None] = relationship()

    @property
    def author(self) -> str:
        """Who started it, as people know him."""
        if self.created_by is not None:
            return self.created_by.full_name
        if self.credential is not None:
            return f"API credential {self.credential.name}"
        return self.command_run.actor_login if self.command_run is not None else ""

    @property
    def waiting(self) -> int:
        """Deliveries that have not ended."""
        return self.queued + self.sending

    @property
    def is_open(self) -> bool:
        return self.state not in {MailingState.FINISHED, MailingState.CANCELLED}


class MailingCustomer(Base):
    """A customer whose users a mailing goes to."""

    __tablename__ = "mailing_customers"
    __table_args__ = (sa.Index("ix_mailing_customers_of_customer", "customer_id", "mailing_id"),)

    mailing_id: Mapped[int] = mapped_column(
        sa.ForeignKey("mailings.id", ondelete="CASCADE"), primary_key=True
    )
    customer_id: Mapped[int] = mapped_column(sa.ForeignKey("customers.id"), primary_key=True)


class AcceptedWelcome(Base):
    """A welcome mail that the API has accepted and that no mailing has been made of yet.

    One row without an index is all that the caller waits for. `recipients` are frozen: id, address
    and skip reason of each. The worker that makes the mailing takes the row away with it.
    """

    __tablename__ = "accepted_welcomes"

    id: Mapped[IntPk]
    customer_id: Mapped[int] = mapped_column(sa.ForeignKey("customers.id"))
    template_version_id: Mapped[int] = mapped_column(sa.ForeignKey("email_template_versions.id"))
    created_by_id: Mapped[int | None] = mapped_column(sa.ForeignKey("users.id"))
    credential_id: Mapped[int | None] = mapped_column(sa.ForeignKey("api_credentials.id"))
    actor_login: Mapped[str] = mapped_column(sa.String(320))
    address: Mapped[str] = mapped_column(sa.String(64))
    recipients: Mapped[list[Any]] = mapped_column(sa.JSON)
    accepted_at: Mapped[datetime] = mapped_column(default=utcnow)


class MailLine(Base):
    """The way to the mail server; blocked for a while when the server is down."""

    __tablename__ = "mail_lines"

    name: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    blocked_until: Mapped[datetime | None]
    failures: Mapped[int] = mapped_column(default=0)
    reason: Mapped[str] = mapped_column(sa.String(500), default="")
