"""Second factors: keys for one-time codes, recovery codes, passkeys, and which roles need one."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import Base, IntPk, key_type, utcnow, word_type
from models.users import Role, User


def _one_per_user(name: str, rows: str) -> sa.Index:
    condition = sa.text(rows)
    return sa.Index(
        f"uq_totp_factors_{name}",
        "user_id",
        unique=True,
        sqlite_where=condition,
        postgresql_where=condition,
    )


class TotpFactor(Base):
    """A key that an authenticator app makes one-time codes of, sealed.

    It counts once a code of it has confirmed it. While another one is set up there are two.
    `last_step` is the number of the 30 seconds whose code was accepted last: each is accepted once.
    """

    __tablename__ = "totp_factors"
    __table_args__ = (
        _one_per_user("confirmed", "confirmed_at IS NOT NULL"),
        _one_per_user("unconfirmed", "confirmed_at IS NULL"),
    )

    id: Mapped[IntPk]
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"))
    secret_seal: Mapped[bytes] = mapped_column(sa.LargeBinary)
    last_step: Mapped[int] = mapped_column(sa.BigInteger, default=0, server_default="0")
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    confirmed_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class RecoveryCode(Base):
    """A code that stands in for a second factor, once. Only its hash is kept."""

    __tablename__ = "recovery_codes"

    id: Mapped[IntPk]
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), index=True)
    code_hash: Mapped[str] = mapped_column(sa.String(255))
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    used_at: Mapped[datetime | None]


class Passkey(Base):
    """A passkey of a person. Ids and public keys are base64url without padding.

    `signatures` is the counter that some of them keep, 0 where they keep none.
    """

    __tablename__ = "passkeys"
    __table_args__ = (sa.CheckConstraint("name <> ''", name="name_given"),)

    id: Mapped[IntPk]
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(sa.String(64))
    credential_id: Mapped[str] = mapped_column(key_type(1400), unique=True)
    credential: Mapped[str] = mapped_column(sa.String(8000))
    signatures: Mapped[int] = mapped_column(sa.BigInteger, default=0, server_default="0")
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    last_used_at: Mapped[datetime | None]

    user: Mapped[User] = relationship()


class ChallengePurpose(StrEnum):
    """What a passkey is asked for."""

    REGISTER = "register"
    SECOND_STEP = "second_step"
    SIGN_IN = "sign_in"


class PasskeyChallenge(Base):
    """What a passkey has to sign, once. It is no secret; `user_id` is whose passkey is asked."""

    __tablename__ = "passkey_challenges"

    id: Mapped[IntPk]
    challenge: Mapped[str] = mapped_column(key_type(64), unique=True)
    purpose: Mapped[ChallengePurpose] = mapped_column(word_type(ChallengePurpose))
    user_id: Mapped[int | None] = mapped_column(
        sa.ForeignKey("users.id", ondelete="CASCADE"), index=True
    )
    created_at: Mapped[datetime] = mapped_column(default=utcnow, index=True)


class PendingSignIn(Base):
    """A sign-in whose password was right and whose second step is awaited.

    The cookie carries the token, the row only its hash. `password_mark` tells whether the password
    has been changed since.
    """

    __tablename__ = "pending_sign_ins"

    id: Mapped[IntPk]
    token_hash: Mapped[str] = mapped_column(sa.String(64), unique=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), index=True)
    password_mark: Mapped[str] = mapped_column(sa.String(64))
    address: Mapped[str] = mapped_column(sa.String(64), default="", server_default="")
    user_agent: Mapped[str] = mapped_column(sa.String(255), default="", server_default="")
    created_at: Mapped[datetime] = mapped_column(default=utcnow, index=True)

    user: Mapped[User] = relationship()


class SignInPolicy(Base):
    """What a role needs to sign in. A role without a row needs a password."""

    __tablename__ = "sign_in_policies"
    __table_args__ = (sa.CheckConstraint("role <> 'prospect'", name="role_with_password"),)

    role: Mapped[Role] = mapped_column(word_type(Role), primary_key=True)
    second_factor: Mapped[bool] = mapped_column(default=False, server_default=sa.false())


class SecurityNoticeKind(StrEnum):
    """What somebody is told that happened to his account."""

    TOTP_ADDED = "totp_added"
    TOTP_REMOVED = "totp_removed"
    PASSKEY_ADDED = "passkey_added"
    PASSKEY_REMOVED = "passkey_removed"
    RECOVERY_CODES_MADE = "recovery_codes_made"
    RECOVERY_CODE_USED = "recovery_code_used"
    FACTORS_RESET = "factors_reset"


_UNMAILED = sa.text("mailed_at IS NULL AND failed_at IS NULL")


class SecurityNotice(Base):
    """A mail that tells a person of a change to his second factors, written with the change."""

    __tablename__ = "security_notices"
    __table_args__ = (
        sa.Index(
            "ix_security_notices_unmailed",
            "next_attempt_at",
            sqlite_where=_UNMAILED,
            postgresql_where=_UNMAILED,
        ),
    )

    id: Mapped[IntPk]
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), index=True)
    kind: Mapped[SecurityNoticeKind] = mapped_column(word_type(SecurityNoticeKind))
    name: Mapped[str] = mapped_column(sa.String(64), default="", server_default="")
    address: Mapped[str] = mapped_column(sa.String(64), default="", server_default="")
    email: Mapped[str] = mapped_column(sa.String(320))
    language: Mapped[str] = mapped_column(sa.String(8))
    message_id: Mapped[str] = mapped_column(sa.String(200), unique=True)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    claimed_at: Mapped[datetime | None]
    next_attempt_at: Mapped[datetime] = mapped_column(default=utcnow)
    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    mailed_at: Mapped[datetime | None]
    failed_at: Mapped[datetime | None]
    answer: Mapped[str] = mapped_column(sa.String(500), default="", server_default="")

    user: Mapped[User] = relationship()
