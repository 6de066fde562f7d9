"""API credentials, idempotency keys, webhooks, direct debits; versions of customers and users

Revision ID: 0005
Revises: 0004
Create Date: 2026-11-21 11:30:00
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_SEARCHED = {
    "name": "name_key",
    "short_name": "short_name_key",
    "web_id": "web_id",
    "upn_suffix": "upn_suffix",
}


def _changes(table: str) -> Any:
    # Resolving would load the tables that are referred to, in an order that cannot be.
    return op.batch_alter_table(table, reflect_kwargs={"resolve_fks": False})


def upgrade() -> None:
    op.create_table(
        "api_credentials",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column(
            "name",
            sa.String(length=64).with_variant(sa.String(length=64, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("description", sa.String(length=200), server_default="", nullable=False),
        sa.Column("may_read", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("may_write", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("may_send", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("all_groups", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("secret_hash", sa.String(length=255), nullable=False),
        sa.Column("previous_hash", sa.String(length=255), nullable=True),
        sa.Column("previous_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("networks", sa.JSON(), server_default="[]", nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("confirmation", sa.String(length=64), nullable=True),
        sa.Column("created_by_id", _ID, nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("rotated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_from", sa.String(length=64), server_default="", nullable=False),
        sa.CheckConstraint("name <> ''", name=op.f("ck_api_credentials_name_given")),
        sa.CheckConstraint(
            "(previous_hash IS NULL) = (previous_until IS NULL)",
            name=op.f("ck_api_credentials_previous_ends"),
        ),
        sa.CheckConstraint(
            "may_read OR may_write OR may_send", name=op.f("ck_api_credentials_may_something")
        ),
        sa.ForeignKeyConstraint(
            ["created_by_id"], ["users.id"], name=op.f("fk_api_credentials_created_by_id_users")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_credentials")),
        sa.UniqueConstraint(
            "created_by_id",
            "confirmation",
            name=op.f("uq_api_credentials_created_by_id_confirmation"),
        ),
        sa.UniqueConstraint("name", name=op.f("uq_api_credentials_name")),
    )
    op.create_table(
        "api_credential_groups",
        sa.Column("credential_id", _ID, nullable=False),
        sa.Column("group_id", _ID, nullable=False),
        sa.ForeignKeyConstraint(
            ["credential_id"],
            ["api_credentials.id"],
            name=op.f("fk_api_credential_groups_credential_id_api_credentials"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["group_id"], ["groups.id"], name=op.f("fk_api_credential_groups_group_id_groups")
        ),
        sa.PrimaryKeyConstraint("credential_id", "group_id", name=op.f("pk_api_credential_groups")),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("credential_id", _ID, nullable=False),
        sa.Column(
            "key",
            sa.String(length=255).with_variant(sa.String(length=255, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "open",
                "done",
                "answered",
                name="keystate",
                native_enum=False,
                create_constraint=True,
            ),
            nullable=False,
        ),
        sa.Column("token", sa.String(length=32), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "(state = 'answered') = (answer IS NOT NULL)",
            name=op.f("ck_idempotency_keys_answered_has_it"),
        ),
        sa.ForeignKeyConstraint(
            ["credential_id"],
            ["api_credentials.id"],
            name=op.f("fk_idempotency_keys_credential_id_api_credentials"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_idempotency_keys")),
        sa.UniqueConstraint(
            "credential_id", "key", name=op.f("uq_idempotency_keys_credential_id_key")
        ),
    )
    op.create_index(
        "ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"], unique=False
    )
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("group_id", _ID, nullable=False),
        sa.Column("url", sa.String(length=2000), nullable=False),
        sa.Column("description", sa.String(length=200), server_default="", nullable=False),
        sa.Column("secret_seal", sa.LargeBinary(), nullable=False),
        sa.Column("previous_seal", sa.LargeBinary(), nullable=True),
        sa.Column("previous_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("created_by", sa.String(length=320), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("failing_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("disabled_reason", sa.String(length=200), server_default="", nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("claim_token", sa.String(length=32), nullable=True),
        sa.Column("claimed_until", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("url <> ''", name=op.f("ck_webhook_endpoints_url_given")),
        sa.CheckConstraint(
            "(previous_seal IS NULL) = (previous_until IS NULL)",
            name=op.f("ck_webhook_endpoints_previous_ends"),
        ),
        sa.ForeignKeyConstraint(
            ["group_id"], ["groups.id"], name=op.f("fk_webhook_endpoints_group_id_groups")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_endpoints")),
    )
    op.create_index(
        "ix_webhook_endpoints_of_group", "webhook_endpoints", ["group_id", "id"], unique=False
    )
    op.create_table(
        "webhook_subscriptions",
        sa.Column("endpoint_id", _ID, nullable=False),
        sa.Column(
            "event",
            sa.Enum(
                "delivery.ended",
                "request.state_changed",
                "customer.created",
                "endpoint.test",
                name="webhookevent",
                native_enum=False,
                create_constraint=True,
            ),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["endpoint_id"],
            ["webhook_endpoints.id"],
            name=op.f("fk_webhook_subscriptions_endpoint_id_webhook_endpoints"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("endpoint_id", "event", name=op.f("pk_webhook_subscriptions")),
    )
    op.create_table(
        "webhook_messages",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("endpoint_id", _ID, nullable=False),
        sa.Column(
            "event",
            sa.Enum(
                "delivery.ended",
                "request.state_changed",
                "customer.created",
                "endpoint.test",
                name="webhookevent",
                native_enum=False,
                create_constraint=True,
            ),
            nullable=False,
        ),
        sa.Column("object_id", sa.BigInteger(), nullable=False),
        sa.Column("reached", sa.String(length=16), server_default="", nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("body", sa.Text(), nullable=True),
        sa.Column(
            "state",
            sa.Enum(
                "waiting",
                "delivered",
                "failed",
                name="messagestate",
                native_enum=False,
                create_constraint=True,
            ),
            server_default="waiting",
            nullable=False,
        ),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state = 'waiting') = (ended_at IS NULL)",
            name=op.f("ck_webhook_messages_waiting_has_no_end"),
        ),
        sa.CheckConstraint("attempts >= 0", name=op.f("ck_webhook_messages_attempts_not_negative")),
        sa.ForeignKeyConstraint(
            ["endpoint_id"],
            ["webhook_endpoints.id"],
            name=op.f("fk_webhook_messages_endpoint_id_webhook_endpoints"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_messages")),
    )
    op.create_index(
        "ix_webhook_messages_by_state",
        "webhook_messages",
        ["endpoint_id", "state", "id"],
        unique=False,
    )
    op.create_index(
        "ix_webhook_messages_due",
        "webhook_messages",
        ["endpoint_id", "next_attempt_at", "id"],
        unique=False,
        sqlite_where=sa.text("state = 'waiting'"),
        postgresql_where=sa.text("state = 'waiting'"),
    )
    op.create_index("ix_webhook_messages_ended_at", "webhook_messages", ["ended_at"], unique=False)
    op.create_index(
        "ix_webhook_messages_of_endpoint", "webhook_messages", ["endpoint_id", "id"], unique=False
    )
    op.create_table(
        "webhook_attempts",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("message_id", _ID, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("milliseconds", sa.Integer(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("answer", sa.String(length=500), server_default="", nullable=False),
        sa.ForeignKeyConstraint(
            ["message_id"],
            ["webhook_messages.id"],
            name=op.f("fk_webhook_attempts_message_id_webhook_messages"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_attempts")),
    )
    op.create_index(
        "ix_webhook_attempts_of_message", "webhook_attempts", ["message_id", "id"], unique=False
    )
    op.create_table(
        "direct_debits",
        sa.Column("customer_id", _ID, nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column(
            "scheme",
            sa.Enum("bsb", "iban", name="accountscheme", native_enum=False, create_constraint=True),
            nullable=False,
        ),
        sa.Column("account_seal", sa.LargeBinary(), nullable=False),
        sa.Column("masked", sa.String(length=64), nullable=False),
        sa.Column("holder", sa.String(length=70), nullable=False),
        sa.Column("mandate", sa.String(length=35), nullable=False),
        sa.Column("mandate_signed_on", sa.Date(), nullable=False),
        sa.Column("changed_by", sa.String(length=320), server_default="", nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("holder <> ''", name=op.f("ck_direct_debits_holder_given")),
        sa.CheckConstraint("version > 0", name=op.f("ck_direct_debits_version_positive")),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["customers.id"], name=op.f("fk_direct_debits_customer_id_customers")
        ),
        sa.PrimaryKeyConstraint("customer_id", name=op.f("pk_direct_debits")),
    )
    op.create_table(
        "direct_debit_notices",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("customer_id", _ID, nullable=False),
        sa.Column("email", sa.String(length=320), nullable=False),
        sa.Column("language", sa.String(length=8), nullable=False),
        sa.Column("masked", sa.String(length=64), nullable=False),
        sa.Column("holder", sa.String(length=70), nullable=False),
        sa.Column("message_id", sa.String(length=200), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("mailed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("answer", sa.String(length=500), server_default="", nullable=False),
        sa.ForeignKeyConstraint(
            ["customer_id"],
            ["customers.id"],
            name=op.f("fk_direct_debit_notices_customer_id_customers"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_direct_debit_notices")),
        sa.UniqueConstraint("message_id", name=op.f("uq_direct_debit_notices_message_id")),
    )
    op.create_index(
        "ix_direct_debit_notices_of_customer",
        "direct_debit_notices",
        ["customer_id", "id"],
        unique=False,
    )
    op.create_index(
        "ix_direct_debit_notices_unmailed",
        "direct_debit_notices",
        ["next_attempt_at"],
        unique=False,
        sqlite_where=sa.text("mailed_at IS NULL AND failed_at IS NULL"),
        postgresql_where=sa.text("mailed_at IS NULL AND failed_at IS NULL"),
    )
    op.create_table(
        "accepted_welcomes",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("customer_id", _ID, nullable=False),
        sa.Column("template_version_id", _ID, nullable=False),
        sa.Column("created_by_id", _ID, nullable=True),
        sa.Column("credential_id", _ID, nullable=True),
        sa.Column("actor_login", sa.String(length=320), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("recipients", sa.JSON(), nullable=False),
        sa.Column("accepted_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["created_by_id"], ["users.id"], name=op.f("fk_accepted_welcomes_created_by_id_users")
        ),
        sa.ForeignKeyConstraint(
            ["credential_id"],
            ["api_credentials.id"],
            name=op.f("fk_accepted_welcomes_credential_id_api_credentials"),
        ),
        sa.ForeignKeyConstraint(
            ["customer_id"],
            ["customers.id"],
            name=op.f("fk_accepted_welcomes_customer_id_customers"),
        ),
        sa.ForeignKeyConstraint(
            ["template_version_id"],
            ["email_template_versions.id"],
            name=op.f("fk_accepted_welcomes_template_version_id_email_template_versions"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accepted_welcomes")),
    )
    op.add_column(
        "customers", sa.Column("version", sa.Integer(), server_default="1", nullable=False)
    )
    op.create_index("ix_customers_by_number", "customers", ["group_id", "custno"], unique=False)
    for name, column in _SEARCHED.items():
        op.create_index(
            f"ix_customers_in_group_by_{name}",
            "customers",
            ["group_id", "status", column, "id"],
            unique=False,
        )
    op.add_column("users", sa.Column("version", sa.Integer(), server_default="1", nullable=False))
    # Both databases add this without a look at the rows; a batch would copy a table of a million.
    number = "BIGINT" if op.get_bind().dialect.name == "postgresql" else "INTEGER"
    op.execute(
        f"ALTER TABLE mailings ADD COLUMN credential_id {number} "
        "CONSTRAINT fk_mailings_credential_id_api_credentials REFERENCES api_credentials (id)"
    )
    with _changes("subscription_requests") as changes:
        changes.add_column(sa.Column("credential_id", _ID, nullable=True))
        changes.alter_column("created_by_id", existing_type=_ID, nullable=True)
        changes.create_foreign_key(
            "fk_subscription_requests_credential_id_api_credentials",
            "api_credentials",
            ["credential_id"],
            ["id"],
        )
        changes.create_check_constraint(
            op.f("ck_subscription_requests_asked_by_somebody"),
            "(created_by_id IS NULL) <> (credential_id IS NULL)",
        )


def downgrade() -> None:
    """Refuses to lose requests that came in by the API."""
    asked = sa.table("subscription_requests", sa.column("credential_id"))
    if op.get_bind().scalar(sa.select(asked).where(asked.c.credential_id.is_not(None)).limit(1)):
        raise RuntimeError(
            "Subscription requests came in by the API. The version before cannot show them: "
            "it asks for the person behind each."
        )
    with _changes("subscription_requests") as changes:
        changes.drop_constraint(op.f("ck_subscription_requests_asked_by_somebody"), type_="check")
        changes.drop_constraint(
            "fk_subscription_requests_credential_id_api_credentials", type_="foreignkey"
        )
        changes.alter_column("created_by_id", existing_type=_ID, nullable=False)
        changes.drop_column("credential_id")
    with _changes("mailings") as changes:
        changes.drop_column("credential_id")
    op.drop_column("users", "version")
    op.drop_index("ix_customers_by_number", "customers")
    for name in _SEARCHED:
        op.drop_index(f"ix_customers_in_group_by_{name}", "customers")
    op.drop_column("customers", "version")
    for table in (
        "accepted_welcomes",
        "direct_debit_notices",
        "direct_debits",
        "webhook_attempts",
        "webhook_messages",
        "webhook_subscriptions",
        "webhook_endpoints",
        "idempotency_keys",
        "api_credential_groups",
        "api_credentials",
    ):
        op.drop_table(table)
