"""Foundation

Revision ID: 0001
Revises:
Create Date: 2026-11-21 02:17:54.041826
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "bundles",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("services", sa.String(length=500), server_default="", nullable=False),
        sa.CheckConstraint("name <> ''", name=op.f("ck_bundles_name_given")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bundles")),
        sa.UniqueConstraint("name", name=op.f("uq_bundles_name")),
    )
    op.create_table(
        "email_templates",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column(
            "name_key",
            sa.String(length=64).with_variant(sa.String(length=64, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column(
            "kind",
            sa.Enum(
                "welcome",
                "password_reset",
                "general",
                name="templatekind",
                native_enum=False,
                create_constraint=True,
            ),
            nullable=False,
        ),
        sa.Column("archived_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("name <> ''", name=op.f("ck_email_templates_name_given")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_email_templates")),
        sa.UniqueConstraint("name_key", name=op.f("uq_email_templates_name_key")),
    )
    op.create_table(
        "groups",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("groupno", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.CheckConstraint("groupno > 0", name=op.f("ck_groups_groupno_positive")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_groups")),
        sa.UniqueConstraint("groupno", name=op.f("uq_groups_groupno")),
        sa.UniqueConstraint("name", name=op.f("uq_groups_name")),
    )
    op.create_table(
        "mail_lines",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("blocked_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(length=500), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_mail_lines")),
    )
    op.create_table(
        "sign_in_throttles",
        sa.Column(
            "key",
            sa.String(length=400).with_variant(sa.String(length=400, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("blocked_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_sign_in_throttles")),
    )
    with op.batch_alter_table("sign_in_throttles", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_sign_in_throttles_updated_at"), ["updated_at"], unique=False
        )

    op.create_table(
        "suppressions",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column(
            "email_key",
            sa.String(length=320).with_variant(sa.String(length=320, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("reason", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("email_key <> ''", name=op.f("ck_suppressions_email_given")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_suppressions")),
        sa.UniqueConstraint("email_key", name=op.f("uq_suppressions_email_key")),
    )
    op.create_table(
        "customers",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("group_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("custno", sa.Integer(), nullable=False),
        sa.Column(
            "web_id",
            sa.String(length=16).with_variant(sa.String(length=16, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column(
            "name_key",
            sa.String(length=64).with_variant(sa.String(length=64, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("short_name", sa.String(length=16), nullable=False),
        sa.Column(
            "short_name_key",
            sa.String(length=16).with_variant(sa.String(length=16, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column(
            "upn_suffix",
            sa.String(length=253).with_variant(sa.String(length=253, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("ani", sa.String(length=16), server_default="", nullable=False),
        sa.Column("contact_name", sa.String(length=128), server_default="", nullable=False),
        sa.Column("contact_email", sa.String(length=320), server_default="", nullable=False),
        sa.Column("contact_phone", sa.String(length=32), server_default="", nullable=False),
        sa.Column("language", sa.String(length=8), server_default="en", nullable=False),
        sa.Column("setup_instructions", sa.Text(), server_default="", nullable=False),
        sa.Column("application_url", sa.String(length=500), server_default="", nullable=False),
        sa.Column("connector", sa.String(length=32), server_default="local", nullable=False),
        sa.Column(
            "status",
            sa.Enum(
                "active",
                "suspended",
                "deleted",
                name="customerstatus",
                native_enum=False,
                create_constraint=True,
            ),
            server_default="active",
            nullable=False,
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "web_id <> '' AND web_id = upper(web_id)", name=op.f("ck_customers_web_id_upper")
        ),
        sa.CheckConstraint("custno > 0", name=op.f("ck_customers_custno_positive")),
        sa.CheckConstraint(
            "upn_suffix = lower(upn_suffix)", name=op.f("ck_customers_upn_suffix_lower")
        ),
        sa.ForeignKeyConstraint(
            ["group_id"], ["groups.id"], name=op.f("fk_customers_group_id_groups")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_customers")),
        sa.UniqueConstraint("custno", name=op.f("uq_customers_custno")),
        sa.UniqueConstraint("name_key", name=op.f("uq_customers_name_key")),
        sa.UniqueConstraint("short_name_key", name=op.f("uq_customers_short_name_key")),
        sa.UniqueConstraint("upn_suffix", name=op.f("uq_customers_upn_suffix")),
        sa.UniqueConstraint("web_id", name=op.f("uq_customers_web_id")),
    )
    with op.batch_alter_table("customers", schema=None) as batch_op:
        batch_op.create_index(
            "ix_customers_group_id_name_key", ["group_id", "name_key", "id"], unique=False
        )

    op.create_table(
        "customer_bundles",
        sa.Column(
            "customer_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column(
            "bundle_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.ForeignKeyConstraint(
            ["bundle_id"], ["bundles.id"], name=op.f("fk_customer_bundles_bundle_id_bundles")
        ),
        sa.ForeignKeyConstraint(
            ["customer_id"],
            ["customers.id"],
            name=op.f("fk_customer_bundles_customer_id_customers"),
        ),
        sa.PrimaryKeyConstraint("customer_id", "bundle_id", name=op.f("pk_customer_bundles")),
    )
    with op.batch_alter_table("customer_bundles", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_customer_bundles_bundle_id"), ["bundle_id"], unique=False
        )

    op.create_table(
        "customer_email_templates",
        sa.Column(
            "customer_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column(
            "template_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.ForeignKeyConstraint(
            ["customer_id"],
            ["customers.id"],
            name=op.f("fk_customer_email_templates_customer_id_customers"),
        ),
        sa.ForeignKeyConstraint(
            ["template_id"],
            ["email_templates.id"],
            name=op.f("fk_customer_email_templates_template_id_email_templates"),
        ),
        sa.PrimaryKeyConstraint(
            "customer_id", "template_id", name=op.f("pk_customer_email_templates")
        ),
    )
    with op.batch_alter_table("customer_email_templates", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_customer_email_templates_template_id"), ["template_id"], unique=False
        )

    op.create_table(
        "users",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column(
            "customer_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column("bundle_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
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
        sa.Column(
            "status",
            sa.Enum(
                "active",
                "suspended",
                "deleted",
                name="userstatus",
                native_enum=False,
                create_constraint=True,
            ),
            server_default="active",
            nullable=False,
        ),
        sa.Column("login", sa.String(length=320), nullable=False),
        sa.Column(
            "login_key",
            sa.String(length=320).with_variant(sa.String(length=320, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("first_name", sa.String(length=64), server_default="", nullable=False),
        sa.Column("last_name", sa.String(length=64), server_default="", nullable=False),
        sa.Column(
            "name_key",
            sa.String(length=260).with_variant(sa.String(length=260, collation="C"), "postgresql"),
            server_default="",
            nullable=False,
        ),
        sa.Column(
            "surname_key",
            sa.String(length=130).with_variant(sa.String(length=130, collation="C"), "postgresql"),
            server_default="",
            nullable=False,
        ),
        sa.Column("email", sa.String(length=320), server_default="", nullable=False),
        sa.Column(
            "email_key",
            sa.String(length=320).with_variant(sa.String(length=320, collation="C"), "postgresql"),
            server_default="",
            nullable=False,
        ),
        sa.Column(
            "extension",
            sa.String(length=16).with_variant(sa.String(length=16, collation="C"), "postgresql"),
            server_default="",
            nullable=False,
        ),
        sa.Column("language", sa.String(length=8), server_default="en", nullable=False),
        sa.Column("password_hash", sa.String(length=255), nullable=True),
        sa.Column("unconfirmed_hash", sa.String(length=255), nullable=True),
        sa.Column("must_change_password", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("all_groups", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column(
            "welcome_state",
            sa.Enum(
                "never",
                "sent",
                "failed",
                name="welcomestate",
                native_enum=False,
                create_constraint=True,
            ),
            server_default="never",
            nullable=False,
        ),
        sa.Column("welcome_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_sign_in_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "(role IN ('customer_admin', 'supervisor', 'user')) = (customer_id IS NOT NULL)",
            name=op.f("ck_users_customer_by_role"),
        ),
        sa.CheckConstraint("login <> ''", name=op.f("ck_users_login_given")),
        sa.CheckConstraint(
            "bundle_id IS NULL OR customer_id IS NOT NULL", name=op.f("ck_users_bundle_needs")
        ),
        sa.ForeignKeyConstraint(
            ["customer_id", "bundle_id"],
            ["customer_bundles.customer_id", "customer_bundles.bundle_id"],
            name="fk_users_bundle_of_customer",
        ),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["customers.id"], name=op.f("fk_users_customer_id_customers")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("login_key", name=op.f("uq_users_login_key")),
    )
    with op.batch_alter_table("users", schema=None) as batch_op:
        batch_op.create_index(
            "ix_users_by_bundle", ["customer_id", "bundle_id", "name_key", "id"], unique=False
        )
        batch_op.create_index("ix_users_by_email", ["customer_id", "email_key", "id"], unique=False)
        batch_op.create_index(
            "ix_users_by_extension", ["customer_id", "extension", "id"], unique=False
        )
        batch_op.create_index("ix_users_by_login", ["customer_id", "login_key", "id"], unique=False)
        batch_op.create_index("ix_users_by_name", ["customer_id", "name_key", "id"], unique=False)
        batch_op.create_index(
            "ix_users_by_status", ["customer_id", "status", "name_key", "id"], unique=False
        )
        batch_op.create_index(
            "ix_users_by_surname", ["customer_id", "surname_key", "id"], unique=False
        )
        batch_op.create_index(
            "ix_users_by_welcome", ["customer_id", "welcome_state", "name_key", "id"], unique=False
        )

    op.create_table(
        "audit_events",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("actor_login", sa.String(length=320), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column(
            "customer_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column("object_type", sa.String(length=32), nullable=False),
        sa.Column("object_id", sa.BigInteger(), nullable=True),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.CheckConstraint("action LIKE '%_.%_'", name=op.f("ck_audit_events_action_is_noun_past")),
        sa.ForeignKeyConstraint(
            ["actor_id"], ["users.id"], name=op.f("fk_audit_events_actor_id_users")
        ),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["customers.id"], name=op.f("fk_audit_events_customer_id_customers")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_events")),
    )
    with op.batch_alter_table("audit_events", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_audit_events_at"), ["at"], unique=False)
        batch_op.create_index("ix_audit_events_of_customer", ["customer_id", "id"], unique=False)

    op.create_table(
        "email_template_versions",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column(
            "template_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column(
            "created_by_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("number > 0", name=op.f("ck_email_template_versions_number_positive")),
        sa.ForeignKeyConstraint(
            ["created_by_id"],
            ["users.id"],
            name=op.f("fk_email_template_versions_created_by_id_users"),
        ),
        sa.ForeignKeyConstraint(
            ["template_id"],
            ["email_templates.id"],
            name=op.f("fk_email_template_versions_template_id_email_templates"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_email_template_versions")),
        sa.UniqueConstraint(
            "template_id", "number", name=op.f("uq_email_template_versions_template_id_number")
        ),
    )
    op.create_table(
        "local_platform_accounts",
        sa.Column("user_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("password_hash", sa.String(length=255), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users.id"],
            name=op.f("fk_local_platform_accounts_user_id_users"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_local_platform_accounts")),
    )
    op.create_table(
        "reset_links",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("user_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=True),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("mailed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_reset_links_user_id_users")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reset_links")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_reset_links_token_hash")),
    )
    with op.batch_alter_table("reset_links", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_reset_links_requested_at"), ["requested_at"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_reset_links_user_id"), ["user_id"], unique=False)

    op.create_table(
        "sign_in_sessions",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("user_agent", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_sign_in_sessions_user_id_users")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sign_in_sessions")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_sign_in_sessions_token_hash")),
    )
    with op.batch_alter_table("sign_in_sessions", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_sign_in_sessions_last_seen_at"), ["last_seen_at"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_sign_in_sessions_user_id"), ["user_id"], unique=False)

    op.create_table(
        "user_groups",
        sa.Column("user_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("group_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.ForeignKeyConstraint(
            ["group_id"], ["groups.id"], name=op.f("fk_user_groups_group_id_groups")
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_user_groups_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("user_id", "group_id", name=op.f("pk_user_groups")),
    )
    op.create_table(
        "email_template_texts",
        sa.Column(
            "version_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("language", sa.String(length=8), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("html", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["email_template_versions.id"],
            name=op.f("fk_email_template_texts_version_id_email_template_versions"),
        ),
        sa.PrimaryKeyConstraint("version_id", "language", name=op.f("pk_email_template_texts")),
    )
    op.create_table(
        "mailings",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column(
            "customer_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column(
            "template_version_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=False,
        ),
        sa.Column(
            "created_by_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("confirmation", sa.String(length=64), nullable=False),
        sa.Column(
            "lane",
            sa.Enum("interactive", "bulk", name="lane", native_enum=False, create_constraint=True),
            nullable=False,
        ),
        sa.Column(
            "state",
            sa.Enum(
                "running",
                "paused",
                "cancelling",
                "cancelled",
                "finished",
                name="mailingstate",
                native_enum=False,
                create_constraint=True,
            ),
            nullable=False,
        ),
        sa.Column("resets_portal_password", sa.Boolean(), nullable=False),
        sa.Column("resets_application_password", sa.Boolean(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("queued", sa.Integer(), nullable=False),
        sa.Column("sending", sa.Integer(), nullable=False),
        sa.Column("sent", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("skipped", sa.Integer(), nullable=False),
        sa.Column("cancelled", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state NOT IN ('finished', 'cancelled') OR queued + sending = 0",
            name=op.f("ck_mailings_ended_is_done"),
        ),
        sa.CheckConstraint(
            "queued >= 0 AND sending >= 0 AND sent >= 0 "
            "AND failed >= 0 AND skipped >= 0 AND cancelled >= 0",
            name=op.f("ck_mailings_counters_not_negative"),
        ),
        sa.CheckConstraint(
            "total = queued + sending + sent + failed + skipped + cancelled",
            name=op.f("ck_mailings_counters_add_up"),
        ),
        sa.ForeignKeyConstraint(
            ["created_by_id"], ["users.id"], name=op.f("fk_mailings_created_by_id_users")
        ),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["customers.id"], name=op.f("fk_mailings_customer_id_customers")
        ),
        sa.ForeignKeyConstraint(
            ["template_version_id"],
            ["email_template_versions.id"],
            name=op.f("fk_mailings_template_version_id_email_template_versions"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mailings")),
        sa.UniqueConstraint(
            "created_by_id", "confirmation", name=op.f("uq_mailings_created_by_id_confirmation")
        ),
    )
    with op.batch_alter_table("mailings", schema=None) as batch_op:
        batch_op.create_index("ix_mailings_of_customer", ["customer_id", "id"], unique=False)
        batch_op.create_index(
            "ix_mailings_open",
            ["id"],
            unique=False,
            sqlite_where=sa.text("queued + sending > 0"),
            postgresql_where=sa.text("queued + sending > 0"),
        )

    op.create_table(
        "selected_users",
        sa.Column(
            "session_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column(
            "customer_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("user_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["customers.id"], name=op.f("fk_selected_users_customer_id_customers")
        ),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["sign_in_sessions.id"],
            name=op.f("fk_selected_users_session_id_sign_in_sessions"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_selected_users_user_id_users")
        ),
        sa.PrimaryKeyConstraint(
            "session_id", "customer_id", "user_id", name=op.f("pk_selected_users")
        ),
    )
    op.create_table(
        "deliveries",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column(
            "mailing_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("user_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "queued",
                "sending",
                "sent",
                "failed",
                "skipped",
                "cancelled",
                name="deliverystate",
                native_enum=False,
                create_constraint=True,
            ),
            nullable=False,
        ),
        sa.Column(
            "skip_reason",
            sa.Enum(
                "no_address",
                "recently_mailed",
                "suspended",
                "deleted",
                "suppressed",
                "address_changed",
                "replaced",
                name="skipreason",
                native_enum=False,
                create_constraint=True,
            ),
            nullable=True,
        ),
        sa.Column("email", sa.String(length=320), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("claim_token", sa.String(length=32), nullable=True),
        sa.Column("message_id", sa.String(length=255), nullable=True),
        sa.Column("dated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("seal", sa.LargeBinary(), nullable=True),
        sa.Column("pending_hash", sa.String(length=255), nullable=True),
        sa.Column("in_doubt", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column(
            "application_password_set", sa.Boolean(), server_default=sa.false(), nullable=False
        ),
        sa.Column("answer_code", sa.Integer(), nullable=True),
        sa.Column("answer", sa.String(length=500), server_default="", nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "(seal IS NULL AND pending_hash IS NULL) OR state IN ('queued', 'sending')",
            name=op.f("ck_deliveries_secrets_are_wiped"),
        ),
        sa.CheckConstraint(
            "(state = 'sending') = (claim_token IS NOT NULL)",
            name=op.f("ck_deliveries_sending_is_claimed"),
        ),
        sa.CheckConstraint(
            "(state = 'sent') = (sent_at IS NOT NULL)", name=op.f("ck_deliveries_sent_has_time")
        ),
        sa.CheckConstraint(
            "(state = 'skipped') = (skip_reason IS NOT NULL)",
            name=op.f("ck_deliveries_skipped_has_reason"),
        ),
        sa.CheckConstraint("attempts >= 0", name=op.f("ck_deliveries_attempts_not_negative")),
        sa.ForeignKeyConstraint(
            ["mailing_id"], ["mailings.id"], name=op.f("fk_deliveries_mailing_id_mailings")
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_deliveries_user_id_users")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
        sa.UniqueConstraint("mailing_id", "user_id", name=op.f("uq_deliveries_mailing_id_user_id")),
    )
    with op.batch_alter_table("deliveries", schema=None) as batch_op:
        batch_op.create_index("ix_deliveries_by_state", ["mailing_id", "state", "id"], unique=False)
        batch_op.create_index(
            "ix_deliveries_claimed",
            ["claim_token"],
            unique=False,
            sqlite_where=sa.text("claim_token IS NOT NULL"),
            postgresql_where=sa.text("claim_token IS NOT NULL"),
        )
        batch_op.create_index(
            "ix_deliveries_due",
            ["mailing_id", "next_attempt_at", "id"],
            unique=False,
            sqlite_where=sa.text("state = 'queued'"),
            postgresql_where=sa.text("state = 'queued'"),
        )
        batch_op.create_index("ix_deliveries_of_mailing", ["mailing_id", "id"], unique=False)
        batch_op.create_index("ix_deliveries_of_user", ["user_id", "id"], unique=False)
        batch_op.create_index(
            "ix_deliveries_pending",
            ["user_id"],
            unique=False,
            sqlite_where=sa.text("pending_hash IS NOT NULL"),
            postgresql_where=sa.text("pending_hash IS NOT NULL"),
        )
        batch_op.create_index(
            "uq_deliveries_one_seal_per_user",
            ["user_id"],
            unique=True,
            sqlite_where=sa.text("seal IS NOT NULL"),
            postgresql_where=sa.text("seal IS NOT NULL"),
        )

    op.create_table(
        "delivery_claims",
        sa.Column("token", sa.String(length=32), nullable=False),
        sa.Column(
            "mailing_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("worker", sa.String(length=128), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["mailing_id"], ["mailings.id"], name=op.f("fk_delivery_claims_mailing_id_mailings")
        ),
        sa.PrimaryKeyConstraint("token", name=op.f("pk_delivery_claims")),
    )
    with op.batch_alter_table("delivery_claims", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_delivery_claims_expires_at"), ["expires_at"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_delivery_claims_mailing_id"), ["mailing_id"], unique=False
        )

    op.create_index(
        "ix_users_by_sign_in",
        "users",
        ["customer_id", sa.text("coalesce(last_sign_in_at, '1970-01-01 00:00:00.000000')"), "id"],
    )
    op.create_index(
        "ix_users_by_welcome_at",
        "users",
        ["customer_id", sa.text("coalesce(welcome_at, '1970-01-01 00:00:00.000000')"), "id"],
    )


def downgrade() -> None:
    with op.batch_alter_table("delivery_claims", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_delivery_claims_mailing_id"))
        batch_op.drop_index(batch_op.f("ix_delivery_claims_expires_at"))

    op.drop_table("delivery_claims")
    with op.batch_alter_table("deliveries", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_deliveries_one_seal_per_user",
            sqlite_where=sa.text("seal IS NOT NULL"),
            postgresql_where=sa.text("seal IS NOT NULL"),
        )
        batch_op.drop_index(
            "ix_deliveries_pending",
            sqlite_where=sa.text("pending_hash IS NOT NULL"),
            postgresql_where=sa.text("pending_hash IS NOT NULL"),
        )
        batch_op.drop_index("ix_deliveries_of_user")
        batch_op.drop_index("ix_deliveries_of_mailing")
        batch_op.drop_index(
            "ix_deliveries_due",
            sqlite_where=sa.text("state = 'queued'"),
            postgresql_where=sa.text("state = 'queued'"),
        )
        batch_op.drop_index(
            "ix_deliveries_claimed",
            sqlite_where=sa.text("claim_token IS NOT NULL"),
            postgresql_where=sa.text("claim_token IS NOT NULL"),
        )
        batch_op.drop_index("ix_deliveries_by_state")

    op.drop_table("deliveries")
    op.drop_table("selected_users")
    with op.batch_alter_table("mailings", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_mailings_open",
            sqlite_where=sa.text("queued + sending > 0"),
            postgresql_where=sa.text("queued + sending > 0"),
        )
        batch_op.drop_index("ix_mailings_of_customer")

    op.drop_table("mailings")
    op.drop_table("email_template_texts")
    op.drop_table("user_groups")
    with op.batch_alter_table("sign_in_sessions", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_sign_in_sessions_user_id"))
        batch_op.drop_index(batch_op.f("ix_sign_in_sessions_last_seen_at"))

    op.drop_table("sign_in_sessions")
    with op.batch_alter_table("reset_links", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_reset_links_user_id"))
        batch_op.drop_index(batch_op.f("ix_reset_links_requested_at"))

    op.drop_table("reset_links")
    op.drop_table("local_platform_accounts")
    op.drop_table("email_template_versions")
    with op.batch_alter_table("audit_events", schema=None) as batch_op:
        batch_op.drop_index("ix_audit_events_of_customer")
        batch_op.drop_index(batch_op.f("ix_audit_events_at"))

    op.drop_table("audit_events")
    with op.batch_alter_table("users", schema=None) as batch_op:
        batch_op.drop_index("ix_users_by_welcome")
        batch_op.drop_index("ix_users_by_surname")
        batch_op.drop_index("ix_users_by_status")
        batch_op.drop_index("ix_users_by_name")
        batch_op.drop_index("ix_users_by_login")
        batch_op.drop_index("ix_users_by_extension")
        batch_op.drop_index("ix_users_by_email")
        batch_op.drop_index("ix_users_by_bundle")

    op.drop_table("users")
    with op.batch_alter_table("customer_email_templates", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_customer_email_templates_template_id"))

    op.drop_table("customer_email_templates")
    with op.batch_alter_table("customer_bundles", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_customer_bundles_bundle_id"))

    op.drop_table("customer_bundles")
    with op.batch_alter_table("customers", schema=None) as batch_op:
        batch_op.drop_index("ix_customers_group_id_name_key")

    op.drop_table("customers")
    op.drop_table("suppressions")
    with op.batch_alter_table("sign_in_throttles", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_sign_in_throttles_updated_at"))

    op.drop_table("sign_in_throttles")
    op.drop_table("mail_lines")
    op.drop_table("groups")
    op.drop_table("email_templates")
    op.drop_table("bundles")
