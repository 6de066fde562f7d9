"""Users: everybody who signs in, from the provider's staff to a customer's users."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa
from flask_login import UserMixin
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import ID, Base, IntPk, key_type, never_first, utcnow, word_type
from models.bundles import Bundle
from models.customers import Customer
from models.permission_profiles import PermissionProfile
from models.welcomes import Welcome


class Role(StrEnum):
    LANDLORD = "landlord"
    OPERATOR = "operator"
    AUDITOR = "auditor"
    CUSTOMER_ADMIN = "customer_admin"
    SUPERVISOR = "supervisor"
    USER = "user"
    PROSPECT = "prospect"


STAFF_ROLES = frozenset({Role.LANDLORD, Role.OPERATOR, Role.AUDITOR})
CUSTOMER_ROLES = frozenset({Role.CUSTOMER_ADMIN, Role.SUPERVISOR, Role.USER})


class UserStatus(StrEnum):
    ACTIVE = "active"
    SUSPENDED = "suspended"
    DELETED = "deleted"


ADMINISTRATORS = sa.text("role = 'customer_admin'")
"""A customer's administrators, in the words of the index that finds them among a million users."""

SUPERVISORS = sa.text("profile_id IS NOT NULL")
"""A customer's supervisors, likewise."""

STAFF = sa.text("role IN ('landlord', 'operator', 'auditor')")
"""The provider's staff, in the words of the index that finds it among a million users."""


class User(Base, UserMixin):  # type: ignore[misc]
    """A person who signs in.

    The `_key` columns hold the folded texts that are searched by prefix and, for the login, unique.
    `unconfirmed_hash` is of the password in a mail that may have arrived although its delivery
    failed in the end; it signs in until a later mail is accepted or a password is chosen.
    """

    __tablename__ = "users"
    __table_args__ = (
        sa.ForeignKeyConstraint(
            ["customer_id", "bundle_id"],
            ["customer_bundles.customer_id", "customer_bundles.bundle_id"],
            name="fk_users_bundle_of_customer",
        ),
        sa.ForeignKeyConstraint(
            ["customer_id", "profile_id"],
            ["permission_profiles.customer_id", "permission_profiles.id"],
            name="fk_users_profile_of_customer",
        ),
        sa.CheckConstraint(
            "(role IN ('customer_admin', 'supervisor', 'user')) = (customer_id IS NOT NULL)",
            name="customer_by_role",
        ),
        sa.CheckConstraint("bundle_id IS NULL OR customer_id IS NOT NULL", name="bundle_needs"),
        sa.CheckConstraint("profile_id IS NULL OR role = 'supervisor'", name="profile_by_role"),
        sa.CheckConstraint(
            "role <> 'supervisor' OR profile_id IS NOT NULL OR status = 'deleted'",
            name="supervisor_has_profile",
        ),
        sa.CheckConstraint("login <> ''", name="login_given"),
        sa.Index("ix_users_by_name", "customer_id", "name_key", "id"),
        sa.Index("ix_users_by_surname", "customer_id", "surname_key", "id"),
        sa.Index("ix_users_by_login", "customer_id", "login_key", "id"),
        sa.Index("ix_users_by_email", "customer_id", "email_key", "id"),
        sa.Index("ix_users_by_extension", "customer_id", "extension", "id"),
        sa.Index("ix_users_by_bundle", "customer_id", "bundle_id", "name_key", "id"),
        sa.Index("ix_users_of_bundle", "bundle_id", "status"),
        sa.Index("ix_users_by_status", "customer_id", "status", "name_key", "id"),
        sa.Index(
            "ix_users_administrators",
            "customer_id",
            "id",
            sqlite_where=ADMINISTRATORS,
            postgresql_where=ADMINISTRATORS,
        ),
        sa.Index(
            "ix_users_supervisors",
            "customer_id",
            "profile_id",
            "id",
            sqlite_where=SUPERVISORS,
            postgresql_where=SUPERVISORS,
        ),
        sa.Index("ix_users_staff", "name_key", "id", sqlite_where=STAFF, postgresql_where=STAFF),
    )

    id: Mapped[IntPk]
    customer_id: Mapped[int | None] = mapped_column(sa.ForeignKey("customers.id"))
    bundle_id: Mapped[int | None] = mapped_column(ID)  # Its key is composite, so it infers none.
    profile_id: Mapped[int | None] = mapped_column(ID)
    role: Mapped[Role] = mapped_column(word_type(Role))
    status: Mapped[UserStatus] = mapped_column(
        word_type(UserStatus), default=UserStatus.ACTIVE, server_default="active"
    )
    login: Mapped[str] = mapped_column(sa.String(320))
    login_key: Mapped[str] = mapped_column(key_type(320), unique=True)
    first_name: Mapped[str] = mapped_column(sa.String(64), default="", server_default="")
    last_name: Mapped[str] = mapped_column(sa.String(64), default="", server_default="")
    name_key: Mapped[str] = mapped_column(key_type(260), default="", server_default="")
    surname_key: Mapped[str] = mapped_column(key_type(130), default="", server_default="")
    email: Mapped[str] = mapped_column(sa.String(320), default="", server_default="")
    email_key: Mapped[str] = mapped_column(key_type(320), default="", server_default="")
    extension: Mapped[str] = mapped_column(key_type(16), default="", server_default="")
    language: Mapped[str] = mapped_column(sa.String(8), default="en", server_default="en")
    password_hash: Mapped[str | None] = mapped_column(sa.String(255))
    unconfirmed_hash: Mapped[str | None] = mapped_column(sa.String(255))
    must_change_password: Mapped[bool] = mapped_column(default=False, server_default=sa.false())
    all_groups: Mapped[bool] = mapped_column(default=False, server_default=sa.false())
    has_second_factor: Mapped[bool] = mapped_column(default=False, server_default=sa.false())
    """Whether he has a confirmed key for one-time codes, or a passkey."""
    last_sign_in_at: Mapped[datetime | None]
    version: Mapped[int] = mapped_column(default=1, server_default="1")
    """Counts the changes to what is known of the person; mails and sign-ins are none."""
    created_at: Mapped[datetime] = mapped_column(default=utcnow)

    customer: Mapped[Customer | None] = relationship(foreign_keys=[customer_id])
    bundle: Mapped[Bundle | None] = relationship(
        primaryjoin=lambda: sa.orm.foreign(User.bundle_id) == Bundle.id, viewonly=True
    )
    profile: Mapped[PermissionProfile | None] = relationship(
        primaryjoin=lambda: sa.orm.foreign(User.profile_id) == PermissionProfile.id, viewonly=True
    )
    welcome: Mapped[Welcome] = relationship(viewonly=True)
    """Made and taken away by the database, along with the user."""

    @property
    def full_name(self) -> str:
        return f"{self.first_name} {self.last_name}".strip() or self.shown_login

    @property
    def shown_login(self) -> str:
        """The login as people know it; a prospect knows his e-mail address alone."""
        return self.email if self.role is Role.PROSPECT else self.login

    @property
    def is_staff(self) -> bool:
        return self.role in STAFF_ROLES


sa.Index(
    "ix_users_by_sign_in",
    User.__table__.c.customer_id,
    never_first("last_sign_in_at"),
    User.__table__.c.id,
)


class UserGroup(Base):
    """A group that a member of staff is limited to; staff with `all_groups` needs none."""

    __tablename__ = "user_groups"

    user_id: Mapped[int] = mapped_column(
        sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    group_id: Mapped[int] = mapped_column(sa.ForeignKey("groups.id"), primary_key=True, index=True)
