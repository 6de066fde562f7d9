"""E-mail templates, their versions, texts per language, and assignment to customers."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import Base, IntPk, key_type, utcnow, word_type
from models.users import User


class TemplateKind(StrEnum):
    """WELCOME and PASSWORD_RESET are chosen by their action, GENERAL ones by name."""

    WELCOME = "welcome"
    PASSWORD_RESET = "password_reset"  # noqa: S105
    GENERAL = "general"


class EmailTemplate(Base):
    __tablename__ = "email_templates"
    __table_args__ = (
        sa.CheckConstraint("name <> ''", name="name_given"),
        sa.Index("ix_email_templates_by_kind", "kind", "name_key", "id"),
    )

    id: Mapped[IntPk]
    name: Mapped[str] = mapped_column(sa.String(64))
    name_key: Mapped[str] = mapped_column(key_type(64), unique=True)
    kind: Mapped[TemplateKind] = mapped_column(word_type(TemplateKind))
    archived_at: Mapped[datetime | None]
    version: Mapped[int] = mapped_column(default=1, server_default="1")
    """Counts the changes that people make, so that none overwrites another."""
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class EmailTemplateVersion(Base):
    """One state of a template. It never changes: a mailing keeps the version it began with."""

    __tablename__ = "email_template_versions"
    __table_args__ = (
        sa.UniqueConstraint("template_id", "number"),
        sa.CheckConstraint("number > 0", name="number_positive"),
    )

    id: Mapped[IntPk]
    template_id: Mapped[int] = mapped_column(sa.ForeignKey("email_templates.id"))
    number: Mapped[int]
    note: Mapped[str] = mapped_column(sa.String(200), default="", server_default="")
    restored_from: Mapped[int | None]
    created_by_id: Mapped[int | None] = mapped_column(sa.ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(default=utcnow)

    template: Mapped[EmailTemplate] = relationship()
    created_by: Mapped[User | None] = relationship()
    texts: Mapped[list[EmailTemplateText]] = relationship(order_by="EmailTemplateText.language")


class EmailTemplateText(Base):
    """One language of a version. `text_made` says that the text was made from the HTML."""

    __tablename__ = "email_template_texts"

    version_id: Mapped[int] = mapped_column(
        sa.ForeignKey("email_template_versions.id"), primary_key=True
    )
    language: Mapped[str] = mapped_column(sa.String(8), primary_key=True)
    subject: Mapped[str] = mapped_column(sa.String(255))
    text: Mapped[str] = mapped_column(sa.Text)
    html: Mapped[str] = mapped_column(sa.Text)
    text_made: Mapped[bool] = mapped_column(default=False, server_default=sa.false())


class CustomerEmailTemplate(Base):
    """A template that a customer's administrators may use."""

    __tablename__ = "customer_email_templates"

    customer_id: Mapped[int] = mapped_column(sa.ForeignKey("customers.id"), primary_key=True)
    template_id: Mapped[int] = mapped_column(
        sa.ForeignKey("email_templates.id"), primary_key=True, index=True
    )
