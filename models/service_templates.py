"""Service templates: what a tenant is cloned from, in versions that never change."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import Base, IntPk, key_type, utcnow, word_type
from models.bundles import Bundle
from models.email_templates import EmailTemplate
from models.groups import Group

if TYPE_CHECKING:
    from models.users import User


class Audience(StrEnum):
    """Who may pick a published template; staff may pick every one."""

    EVERYBODY = "everybody"
    INVITED = "invited"
    STAFF = "staff"


class StartRule(StrEnum):
    """When provisioning starts once nothing stands in its way."""

    IMMEDIATE = "immediate"
    OFF_PEAK = "off_peak"
    AT_APPROVAL = "at_approval"


class OptionKind(StrEnum):
    CHOICE = "choice"
    COUNT = "count"
    YES_NO = "yes_no"


class ServiceTemplate(Base):
    """A template under its name. It can be picked while `published_version_id` is set."""

    __tablename__ = "service_templates"
    __table_args__ = (
        sa.CheckConstraint("name <> ''", name="name_given"),
        sa.CheckConstraint(
            "archived_at IS NULL OR published_version_id IS NULL", name="archived_is_unpublished"
        ),
        *(
            sa.Index(
                f"ix_service_templates_{name}",
                "position",
                "id",
                sqlite_where=sa.text(condition),
                postgresql_where=sa.text(condition),
            )
            for name, condition in (
                ("in_use", "archived_at IS NULL"),
                ("archived", "archived_at IS NOT NULL"),
            )
        ),
    )

    id: Mapped[IntPk]
    name: Mapped[str] = mapped_column(sa.String(64))
    name_key: Mapped[str] = mapped_column(key_type(64), unique=True)
    audience: Mapped[Audience] = mapped_column(word_type(Audience))
    position: Mapped[int] = mapped_column(default=0, server_default="0")
    published_version_id: Mapped[int | None] = mapped_column(
        sa.ForeignKey(
            "service_template_versions.id",
            name="fk_service_templates_published_version",
            use_alter=True,
        )
    )
    archived_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)

    published_version: Mapped[ServiceTemplateVersion | None] = relationship(
        foreign_keys=[published_version_id], post_update=True
    )


class ServiceTemplateVersion(Base):
    """One state of a template. It never changes: a request keeps the version it was made with.

    `parameters` are the general parameters that a tenant starts with, by name;
    `must_replace` names those whose value stands in for one that only the tenant knows.
    """

    __tablename__ = "service_template_versions"
    __table_args__ = (
        sa.UniqueConstraint("template_id", "number"),
        sa.CheckConstraint("number > 0", name="number_positive"),
        sa.CheckConstraint(
            "start_rule <> 'at_approval' OR needs_approval", name="chosen_by_an_approver"
        ),
    )

    id: Mapped[IntPk]
    template_id: Mapped[int] = mapped_column(sa.ForeignKey("service_templates.id"))
    number: Mapped[int]
    description: Mapped[str] = mapped_column(sa.String(1000), default="", server_default="")
    group_id: Mapped[int] = mapped_column(sa.ForeignKey("groups.id"))
    needs_approval: Mapped[bool]
    start_rule: Mapped[StartRule] = mapped_column(word_type(StartRule))
    connector: Mapped[str] = mapped_column(sa.String(32), default="local", server_default="local")
    application_url: Mapped[str] = mapped_column(sa.String(500), default="", server_default="")
    setup_instructions: Mapped[str] = mapped_column(sa.Text, default="", server_default="")
    parameters: Mapped[dict[str, Any]] = mapped_column(default=dict)
    must_replace: Mapped[list[str]] = mapped_column(sa.JSON, default=list)
    created_by_id: Mapped[int | None] = mapped_column(
        # A user belongs to a customer, a customer to a version: somewhere the ring has to open.
        sa.ForeignKey(
            "users.id", name="fk_service_template_versions_created_by_id_users", use_alter=True
        )
    )
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    restored_from: Mapped[int | None]
    """The number of the version that this one says again."""

    template: Mapped[ServiceTemplate] = relationship(foreign_keys=[template_id])
    created_by: Mapped[User | None] = relationship(foreign_keys=[created_by_id])
    group: Mapped[Group] = relationship()
    options: Mapped[list[ServiceOption]] = relationship(order_by="ServiceOption.position")
    bundles: Mapped[list[Bundle]] = relationship(
        secondary="service_template_bundles", order_by="Bundle.name"
    )
    email_templates: Mapped[list[EmailTemplate]] = relationship(
        secondary="service_template_email_templates", order_by="EmailTemplate.name_key"
    )


class ServiceOption(Base):
    """What a registrant may choose within a template.

    A CHOICE has `choices` (words, the default among them), a COUNT `minimum` and `maximum`; the
    default is kept as text: a choice's word, a decimal number, "yes" or "no".
    """

    __tablename__ = "service_options"
    __table_args__ = (
        sa.UniqueConstraint("version_id", "name"),
        sa.CheckConstraint(
            "kind <> 'count' OR (minimum IS NOT NULL AND maximum >= minimum)", name="count_limited"
        ),
    )

    id: Mapped[IntPk]
    version_id: Mapped[int] = mapped_column(sa.ForeignKey("service_template_versions.id"))
    position: Mapped[int]
    name: Mapped[str] = mapped_column(key_type(32))
    label: Mapped[str] = mapped_column(sa.String(64))
    help: Mapped[str] = mapped_column(sa.String(255), default="", server_default="")
    kind: Mapped[OptionKind] = mapped_column(word_type(OptionKind))
    choices: Mapped[list[str]] = mapped_column(sa.JSON, default=list)
    minimum: Mapped[int | None]
    maximum: Mapped[int | None]
    default: Mapped[str] = mapped_column(sa.String(64))


class ServiceTemplateBundle(Base):
    """A bundle that a new tenant is given."""

    __tablename__ = "service_template_bundles"

    version_id: Mapped[int] = mapped_column(
        sa.ForeignKey("service_template_versions.id"), primary_key=True
    )
    bundle_id: Mapped[int] = mapped_column(
        sa.ForeignKey("bundles.id"), primary_key=True, index=True
    )


class ServiceTemplateEmailTemplate(Base):
    """An e-mail template that a new tenant may use."""

    __tablename__ = "service_template_email_templates"

    version_id: Mapped[int] = mapped_column(
        sa.ForeignKey("service_template_versions.id"), primary_key=True
    )
    template_id: Mapped[int] = mapped_column(
        sa.ForeignKey("email_templates.id"), primary_key=True, index=True
    )
