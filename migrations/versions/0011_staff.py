"""Staff: invitations, second factors, passkeys, policies of signing in

Revision ID: 0011
Revises: 0010
Create Date: 2026-11-21 14:50:00
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_STAFF = sa.text("role IN ('landlord', 'operator', 'auditor')")


def upgrade() -> None:
    # By itself, since a column is no reason to write every user anew.
    op.add_column(
        "users",
        sa.Column("has_second_factor", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    op.create_index(
        "ix_users_staff", "users", ["name_key", "id"], sqlite_where=_STAFF, postgresql_where=_STAFF
    )
    op.add_column(
        "sign_in_sessions", sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True)
    )
    op.create_table(
        "sign_in_policies",
        sa.Column(
            "role",
            sa.Enum(
                "landlord",
                "operator",
                "auditor",
                "customer_admin",
                "supervisor",
                "user",
                "prospect",
                name="role",
                native_enum=False,
                create_constraint=True,
            ),
            nullable=False,
        ),
        sa.Column("second_factor", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.CheckConstraint(
            "role <> 'prospect'", name=op.f("ck_sign_in_policies_role_with_password")
        ),
        sa.PrimaryKeyConstraint("role", name=op.f("pk_sign_in_policies")),
    )
    op.create_table(
        "passkey_challenges",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column(
            "challenge",
            sa.String(length=64).with_variant(sa.String(length=64, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column(
            "purpose",
            sa.Enum(
                "register",
                "second_step",
                "sign_in",
                name="challengepurpose",
                native_enum=False,
                create_constraint=True,
            ),
            nullable=False,
        ),
        sa.Column("user_id", _ID, nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users.id"],
            name=op.f("fk_passkey_challenges_user_id_users"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_passkey_challenges")),
        sa.UniqueConstraint("challenge", name=op.f("uq_passkey_challenges_challenge")),
    )
    op.create_index(
        op.f("ix_passkey_challenges_created_at"), "passkey_challenges", ["created_at"], unique=False
    )
    op.create_index(
        op.f("ix_passkey_challenges_user_id"), "passkey_challenges", ["user_id"], unique=False
    )
    op.create_table(
        "passkeys",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column(
            "credential_id",
            sa.String(length=1400).with_variant(
                sa.String(length=1400, collation="C"), "postgresql"
            ),
            nullable=False,
        ),
        sa.Column("credential", sa.String(length=8000), nullable=False),
        sa.Column("signatures", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("name <> ''", name=op.f("ck_passkeys_name_given")),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_passkeys_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_passkeys")),
        sa.UniqueConstraint("credential_id", name=op.f("uq_passkeys_credential_id")),
    )
    op.create_index(op.f("ix_passkeys_user_id"), "passkeys", ["user_id"], unique=False)
    op.create_table(
        "pending_sign_ins",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("password_mark", sa.String(length=64), nullable=False),
        sa.Column("address", sa.String(length=64), server_default="", nullable=False),
        sa.Column("user_agent", sa.String(length=255), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users.id"],
            name=op.f("fk_pending_sign_ins_user_id_users"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pending_sign_ins")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_pending_sign_ins_token_hash")),
    )
    op.create_index(
        op.f("ix_pending_sign_ins_created_at"), "pending_sign_ins", ["created_at"], unique=False
    )
    op.create_index(
        op.f("ix_pending_sign_ins_user_id"), "pending_sign_ins", ["user_id"], unique=False
    )
    op.create_table(
        "recovery_codes",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("code_hash", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users.id"],
            name=op.f("fk_recovery_codes_user_id_users"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recovery_codes")),
    )
    op.create_index(op.f("ix_recovery_codes_user_id"), "recovery_codes", ["user_id"], unique=False)
    op.create_table(
        "security_notices",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("user_id", _ID, nullable=False),
        sa.Column(
            "kind",
            sa.Enum(
                "totp_added",
                "totp_removed",
                "passkey_added",
                "passkey_removed",
                "recovery_codes_made",
                "recovery_code_used",
                "factors_reset",
                name="securitynoticekind",
                native_enum=False,
                create_constraint=True,
            ),
            nullable=False,
        ),
        sa.Column("name", sa.String(length=64), server_default="", nullable=False),
        sa.Column("address", sa.String(length=64), server_default="", nullable=False),
        sa.Column("email", sa.String(length=320), nullable=False),
        sa.Column("language", sa.String(length=8), nullable=False),
        sa.Column("message_id", sa.String(length=200), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("mailed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("answer", sa.String(length=500), server_default="", nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users.id"],
            name=op.f("fk_security_notices_user_id_users"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_security_notices")),
        sa.UniqueConstraint("message_id", name=op.f("uq_security_notices_message_id")),
    )
    op.create_index(
        "ix_security_notices_unmailed",
        "security_notices",
        ["next_attempt_at"],
        unique=False,
        sqlite_where=sa.text("mailed_at IS NULL AND failed_at IS NULL"),
        postgresql_where=sa.text("mailed_at IS NULL AND failed_at IS NULL"),
    )
    op.create_index(
        op.f("ix_security_notices_user_id"), "security_notices", ["user_id"], unique=False
    )
    op.create_table(
        "staff_invitations",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("invited_by_id", _ID, nullable=True),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=True),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("mailed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("accepted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("answer", sa.String(length=500), server_default="", nullable=False),
        sa.ForeignKeyConstraint(
            ["invited_by_id"], ["users.id"], name=op.f("fk_staff_invitations_invited_by_id_users")
        ),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users.id"],
            name=op.f("fk_staff_invitations_user_id_users"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_staff_invitations")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_staff_invitations_token_hash")),
        sa.UniqueConstraint("user_id", name=op.f("uq_staff_invitations_user_id")),
    )
    op.create_index(
        "ix_staff_invitations_unmailed",
        "staff_invitations",
        ["requested_at"],
        unique=False,
        sqlite_where=sa.text("mailed_at IS NULL AND failed_at IS NULL AND accepted_at IS NULL"),
        postgresql_where=sa.text("mailed_at IS NULL AND failed_at IS NULL AND accepted_at IS NULL"),
    )
    op.create_table(
        "totp_factors",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("secret_seal", sa.LargeBinary(), nullable=False),
        sa.Column("last_step", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users.id"],
            name=op.f("fk_totp_factors_user_id_users"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_totp_factors")),
    )
    op.create_index(
        "uq_totp_factors_confirmed",
        "totp_factors",
        ["user_id"],
        unique=True,
        sqlite_where=sa.text("confirmed_at IS NOT NULL"),
        postgresql_where=sa.text("confirmed_at IS NOT NULL"),
    )
    op.create_index(
        "uq_totp_factors_unconfirmed",
        "totp_factors",
        ["user_id"],
        unique=True,
        sqlite_where=sa.text("confirmed_at IS NULL"),
        postgresql_where=sa.text("confirmed_at IS NULL"),
    )


def downgrade() -> None:
    for table in (
        "totp_factors",
        "staff_invitations",
        "security_notices",
        "recovery_codes",
        "pending_sign_ins",
        "passkeys",
        "passkey_challenges",
        "sign_in_policies",
    ):
        op.drop_table(table)
    op.drop_column("sign_in_sessions", "confirmed_at")
    op.drop_index("ix_users_staff", table_name="users")
    op.drop_column("users", "has_second_factor")
