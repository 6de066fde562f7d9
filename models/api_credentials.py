"""API credentials: how other systems sign in to the REST API, and what they asked for once."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import Base, IntPk, key_type, utcnow, word_type
from models.groups import Group
from models.users import User


class ApiScope(StrEnum):
    """What a credential may do: READ looks, WRITE changes, SEND mails."""

    READ = "read"
    WRITE = "write"
    SEND = "send"


class CredentialState(StrEnum):
    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


class ApiCredential(Base):
    """A name and a secret for HTTP Basic, limited to groups unless `all_groups`.

    The secret is machine-made and kept as a hash. After a rotation the one before signs in until
    `previous_until`. `networks` are the networks it may come from, in CIDR notation; with none it
    may come from anywhere. `confirmation` is the random word of the form that made it: a form that
    is sent again makes no second one.
    """

    __tablename__ = "api_credentials"
    __table_args__ = (
        sa.UniqueConstraint("created_by_id", "confirmation"),
        sa.CheckConstraint("name <> ''", name="name_given"),
        sa.CheckConstraint("may_read OR may_write OR may_send", name="may_something"),
        sa.CheckConstraint(
            "(previous_hash IS NULL) = (previous_until IS NULL)", name="previous_ends"
        ),
    )

    id: Mapped[IntPk]
    name: Mapped[str] = mapped_column(key_type(64), unique=True)
    description: Mapped[str] = mapped_column(sa.String(200), default="", server_default="")
    may_read: Mapped[bool] = mapped_column(default=False, server_default=sa.false())
    may_write: Mapped[bool] = mapped_column(default=False, server_default=sa.false())
    may_send: Mapped[bool] = mapped_column(default=False, server_default=sa.false())
    all_groups: Mapped[bool] = mapped_column(default=False, server_default=sa.false())
    secret_hash: Mapped[str] = mapped_column(sa.String(255))
    previous_hash: Mapped[str | None] = mapped_column(sa.String(255))
    previous_until: Mapped[datetime | None]
    networks: Mapped[list[str]] = mapped_column(sa.JSON, default=list, server_default="[]")
    version: Mapped[int] = mapped_column(default=1, server_default="1")
    confirmation: Mapped[str | None] = mapped_column(sa.String(64))
    created_by_id: Mapped[int | None] = mapped_column(sa.ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    rotated_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    last_used_from: Mapped[str] = mapped_column(sa.String(64), default="", server_default="")

    created_by: Mapped[User | None] = relationship()
    groups: Mapped[list[Group]] = relationship(
        secondary="api_credential_groups", order_by=Group.groupno, viewonly=True
    )

    @property
    def scopes(self) -> frozenset[ApiScope]:
        granted = {
            ApiScope.READ: self.may_read,
            ApiScope.WRITE: self.may_write,
            ApiScope.SEND: self.may_send,
        }
        return frozenset(scope for scope, is_granted in granted.items() if is_granted)

    def state_at(self, now: datetime) -> CredentialState:
        if self.revoked_at is not None:
            return CredentialState.REVOKED
        if self.expires_at is not None and self.expires_at <= now:
            return CredentialState.EXPIRED
        return CredentialState.ACTIVE

    def has_overlap_at(self, now: datetime) -> bool:
        """Whether the secret before the last rotation still signs in."""
        return self.previous_until is not None and self.previous_until > now


class ApiCredentialGroup(Base):
    """A group that a credential is limited to."""

    __tablename__ = "api_credential_groups"

    credential_id: Mapped[int] = mapped_column(
        sa.ForeignKey("api_credentials.id", ondelete="CASCADE"), primary_key=True
    )
    group_id: Mapped[int] = mapped_column(sa.ForeignKey("groups.id"), primary_key=True)


class KeyState(StrEnum):
    """OPEN until the work of the request is committed, ANSWERED once its answer is kept, too."""

    OPEN = "open"
    DONE = "done"
    ANSWERED = "answered"


class IdempotencyKey(Base):
    """A POST that was sent with an Idempotency-Key, and its answer for whoever repeats it.

    `fingerprint` is of method, path and body. An OPEN one belongs to a request that is under way
    until `expires_at`. DONE is written in the transaction that does the work, so that a request
    whose answer was lost in a crash is never carried out again. `answer` is sealed.
    """

    __tablename__ = "idempotency_keys"
    __table_args__ = (
        sa.UniqueConstraint("credential_id", "key"),
        sa.CheckConstraint("(state = 'answered') = (answer IS NOT NULL)", name="answered_has_it"),
    )

    id: Mapped[IntPk]
    credential_id: Mapped[int] = mapped_column(
        sa.ForeignKey("api_credentials.id", ondelete="CASCADE")
    )
    key: Mapped[str] = mapped_column(key_type(255))
    fingerprint: Mapped[str] = mapped_column(sa.String(64))
    state: Mapped[KeyState] = mapped_column(word_type(KeyState), default=KeyState.OPEN)
    token: Mapped[str] = mapped_column(sa.String(32))
    expires_at: Mapped[datetime]
    answer: Mapped[bytes | None] = mapped_column(sa.LargeBinary)
    created_at: Mapped[datetime] = mapped_column(default=utcnow, index=True)
