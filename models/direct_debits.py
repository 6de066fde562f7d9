"""Direct debits: the bank accounts that customers pay from, and the notices about changes."""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import Base, IntPk, utcnow, word_type
from models.customers import Customer


class AccountScheme(StrEnum):
    """How a bank account is named: an Australian BSB with account number, or an IBAN."""

    BSB = "bsb"
    IBAN = "iban"


class DirectDebit(Base):
    """What a customer pays from. The account is sealed; `masked` is all that is ever shown."""

    __tablename__ = "direct_debits"
    __table_args__ = (
        sa.CheckConstraint("holder <> ''", name="holder_given"),
        sa.CheckConstraint("version > 0", name="version_positive"),
    )

    customer_id: Mapped[int] = mapped_column(sa.ForeignKey("customers.id"), primary_key=True)
    version: Mapped[int] = mapped_column(default=1, server_default="1")
    scheme: Mapped[AccountScheme] = mapped_column(word_type(AccountScheme))
    account_seal: Mapped[bytes] = mapped_column(sa.LargeBinary)
    masked: Mapped[str] = mapped_column(sa.String(64))
    holder: Mapped[str] = mapped_column(sa.String(70))
    mandate: Mapped[str] = mapped_column(sa.String(35))
    mandate_signed_on: Mapped[date]
    changed_by: Mapped[str] = mapped_column(sa.String(320), default="", server_default="")
    changed_at: Mapped[datetime] = mapped_column(default=utcnow)

    customer: Mapped[Customer] = relationship()


_UNMAILED = sa.text("mailed_at IS NULL AND failed_at IS NULL")


class DirectDebitNotice(Base):
    """A mail to the contact about changed direct debit details.

    Written in the transaction of the change and mailed by a job; a repeat after a crash has the
    same Message-ID. A job is at it since `claimed_at`; without one it waits for `next_attempt_at`.
    """

    __tablename__ = "direct_debit_notices"
    __table_args__ = (
        sa.Index("ix_direct_debit_notices_of_customer", "customer_id", "id"),
        sa.Index(
            "ix_direct_debit_notices_unmailed",
            "next_attempt_at",
            sqlite_where=_UNMAILED,
            postgresql_where=_UNMAILED,
        ),
    )

    id: Mapped[IntPk]
    customer_id: Mapped[int] = mapped_column(sa.ForeignKey("customers.id"))
    email: Mapped[str] = mapped_column(sa.String(320))
    language: Mapped[str] = mapped_column(sa.String(8))
    masked: Mapped[str] = mapped_column(sa.String(64))
    holder: Mapped[str] = mapped_column(sa.String(70))
    message_id: Mapped[str] = mapped_column(sa.String(200), unique=True)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    claimed_at: Mapped[datetime | None]
    next_attempt_at: Mapped[datetime] = mapped_column(default=utcnow)
    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    mailed_at: Mapped[datetime | None]
    failed_at: Mapped[datetime | None]
    answer: Mapped[str] = mapped_column(sa.String(500), default="", server_default="")

    customer: Mapped[Customer] = relationship()
