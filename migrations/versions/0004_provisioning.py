"""Service templates, subscription requests, provisioning, general parameters

Revision ID: 0004
Revises: 0003
Create Date: 2026-11-21 08:00:00
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_CUSTOMER_COLUMNS = (
    "company",
    "street",
    "postal_code",
    "city",
    "region",
    "country",
    "time_zone",
    "platform_reference",
    "template_version_id",
    "options",
)


def upgrade() -> None:
    op.create_table(
        "local_platform_tenants",
        sa.Column(
            "reference",
            sa.String(length=64).with_variant(sa.String(length=64, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column(
            "upn_suffix",
            sa.String(length=253).with_variant(sa.String(length=253, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("suspended", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("reference", name=op.f("pk_local_platform_tenants")),
        sa.UniqueConstraint("upn_suffix", name=op.f("uq_local_platform_tenants_upn_suffix")),
    )
    op.create_table(
        "number_sequences",
        sa.Column(
            "name",
            sa.String(length=32).with_variant(sa.String(length=32, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("last", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_number_sequences")),
    )
    op.create_table(
        "off_peak_exceptions",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("all_day", sa.Boolean(), nullable=False),
        sa.Column("note", sa.String(length=100), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("day", name=op.f("pk_off_peak_exceptions")),
    )
    op.create_table(
        "off_peak_windows",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("days", sa.String(length=7), nullable=False),
        sa.Column("from_minute", sa.Integer(), nullable=False),
        sa.Column("to_minute", sa.Integer(), nullable=False),
        sa.CheckConstraint("days <> ''", name=op.f("ck_off_peak_windows_days_given")),
        sa.CheckConstraint(
            "from_minute BETWEEN 0 AND 1439", name=op.f("ck_off_peak_windows_from_in_day")
        ),
        sa.CheckConstraint(
            "to_minute BETWEEN 0 AND 1439", name=op.f("ck_off_peak_windows_to_in_day")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_off_peak_windows")),
    )
    op.create_table(
        "service_templates",
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
            "audience",
            sa.Enum(
                "everybody",
                "invited",
                "staff",
                name="audience",
                native_enum=False,
                create_constraint=True,
            ),
            nullable=False,
        ),
        sa.Column("position", sa.Integer(), server_default="0", nullable=False),
        sa.Column(
            "published_version_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=True,
        ),
        sa.Column("archived_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("name <> ''", name=op.f("ck_service_templates_name_given")),
        sa.CheckConstraint(
            "archived_at IS NULL OR published_version_id IS NULL",
            name=op.f("ck_service_templates_archived_is_unpublished"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_templates")),
        sa.UniqueConstraint("name_key", name=op.f("uq_service_templates_name_key")),
    )
    op.create_table(
        "service_template_versions",
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
        sa.Column("description", sa.String(length=1000), server_default="", nullable=False),
        sa.Column("group_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("needs_approval", sa.Boolean(), nullable=False),
        sa.Column(
            "start_rule",
            sa.Enum(
                "immediate",
                "off_peak",
                "at_approval",
                name="startrule",
                native_enum=False,
                create_constraint=True,
            ),
            nullable=False,
        ),
        sa.Column("connector", sa.String(length=32), server_default="local", nullable=False),
        sa.Column("application_url", sa.String(length=500), server_default="", nullable=False),
        sa.Column("setup_instructions", sa.Text(), server_default="", nullable=False),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.Column("must_replace", sa.JSON(), nullable=False),
        sa.Column(
            "created_by_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "start_rule <> 'at_approval' OR needs_approval",
            name=op.f("ck_service_template_versions_chosen_by_an_approver"),
        ),
        sa.CheckConstraint("number > 0", name=op.f("ck_service_template_versions_number_positive")),
        sa.ForeignKeyConstraint(
            ["created_by_id"],
            ["users.id"],
            name=op.f("fk_service_template_versions_created_by_id_users"),
        ),
        sa.ForeignKeyConstraint(
            ["group_id"], ["groups.id"], name=op.f("fk_service_template_versions_group_id_groups")
        ),
        sa.ForeignKeyConstraint(
            ["template_id"],
            ["service_templates.id"],
            name=op.f("fk_service_template_versions_template_id_service_templates"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_template_versions")),
        sa.UniqueConstraint(
            "template_id", "number", name=op.f("uq_service_template_versions_template_id_number")
        ),
    )
    with op.batch_alter_table(
        "service_templates", reflect_kwargs={"resolve_fks": False}
    ) as changes:
        changes.create_foreign_key(
            "fk_service_templates_published_version",
            "service_template_versions",
            ["published_version_id"],
            ["id"],
        )
    op.create_table(
        "general_parameters",
        sa.Column(
            "customer_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("draft", sa.JSON(), nullable=False),
        sa.Column("must_replace", sa.JSON(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "changed_by_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.ForeignKeyConstraint(
            ["changed_by_id"], ["users.id"], name=op.f("fk_general_parameters_changed_by_id_users")
        ),
        sa.ForeignKeyConstraint(
            ["customer_id"],
            ["customers.id"],
            name=op.f("fk_general_parameters_customer_id_customers"),
        ),
        sa.PrimaryKeyConstraint("customer_id", name=op.f("pk_general_parameters")),
    )
    op.create_table(
        "general_parameters_versions",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column(
            "customer_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("values", sa.JSON(), nullable=False),
        sa.Column("restored_from", sa.Integer(), nullable=True),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "published_by_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.CheckConstraint(
            "number > 0", name=op.f("ck_general_parameters_versions_number_positive")
        ),
        sa.ForeignKeyConstraint(
            ["customer_id"],
            ["customers.id"],
            name=op.f("fk_general_parameters_versions_customer_id_customers"),
        ),
        sa.ForeignKeyConstraint(
            ["published_by_id"],
            ["users.id"],
            name=op.f("fk_general_parameters_versions_published_by_id_users"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_general_parameters_versions")),
        sa.UniqueConstraint(
            "customer_id", "number", name=op.f("uq_general_parameters_versions_customer_id_number")
        ),
    )
    op.create_table(
        "provisioning_policy",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("time_zone", sa.String(length=64), nullable=False),
        sa.Column("max_runs", sa.Integer(), nullable=False),
        sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "paused_by_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column("pause_reason", sa.String(length=500), server_default="", nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_provisioning_policy_one_row")),
        sa.CheckConstraint(
            "max_runs BETWEEN 1 AND 100", name=op.f("ck_provisioning_policy_max_runs_limited")
        ),
        sa.ForeignKeyConstraint(
            ["paused_by_id"], ["users.id"], name=op.f("fk_provisioning_policy_paused_by_id_users")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_provisioning_policy")),
    )
    op.create_table(
        "registration_links",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("email", sa.String(length=320), nullable=False),
        sa.Column(
            "email_key",
            sa.String(length=320).with_variant(sa.String(length=320, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("language", sa.String(length=8), server_default="en", nullable=False),
        sa.Column("address", sa.String(length=64), server_default="", nullable=False),
        sa.Column(
            "invited_by_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column(
            "template_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column("group_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("message", sa.String(length=1000), server_default="", nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=True),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("mailed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("answer", sa.String(length=500), server_default="", nullable=False),
        sa.CheckConstraint("email_key <> ''", name=op.f("ck_registration_links_email_given")),
        sa.CheckConstraint(
            "used_at IS NULL OR ended_at IS NULL",
            name=op.f("ck_registration_links_used_or_ended"),
        ),
        sa.CheckConstraint(
            "invited_by_id IS NOT NULL OR (template_id IS NULL AND group_id IS NULL)",
            name=op.f("ck_registration_links_presets_by_staff"),
        ),
        sa.ForeignKeyConstraint(
            ["group_id"], ["groups.id"], name=op.f("fk_registration_links_group_id_groups")
        ),
        sa.ForeignKeyConstraint(
            ["invited_by_id"], ["users.id"], name=op.f("fk_registration_links_invited_by_id_users")
        ),
        sa.ForeignKeyConstraint(
            ["template_id"],
            ["service_templates.id"],
            name=op.f("fk_registration_links_template_id_service_templates"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_registration_links")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_registration_links_token_hash")),
    )
    op.create_index("ix_registration_links_of_group", "registration_links", ["group_id", "id"])
    op.create_index("ix_registration_links_of_email", "registration_links", ["email_key", "id"])
    for name, column, rows in (
        ("wishes", "requested_at", "invited_by_id IS NULL"),
        ("open_invitations", "expires_at", "invited_by_id IS NOT NULL AND used_at IS NULL"),
        ("unmailed", "requested_at", "mailed_at IS NULL AND ended_at IS NULL"),
    ):
        op.create_index(
            f"ix_registration_links_{name}",
            "registration_links",
            [column],
            sqlite_where=sa.text(rows),
            postgresql_where=sa.text(rows),
        )

    op.create_table(
        "request_counts",
        sa.Column("group_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "draft",
                "submitted",
                "awaiting_approval",
                "changes_requested",
                "scheduled",
                "provisioning",
                "failed",
                "rolling_back",
                "completed",
                "rejected",
                "cancelled",
                name="requeststate",
                native_enum=False,
                create_constraint=True,
            ),
            nullable=False,
        ),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.CheckConstraint("requests >= 0", name=op.f("ck_request_counts_not_negative")),
        sa.ForeignKeyConstraint(
            ["group_id"], ["groups.id"], name=op.f("fk_request_counts_group_id_groups")
        ),
        sa.PrimaryKeyConstraint("group_id", "state", name=op.f("pk_request_counts")),
    )
    op.create_table(
        "service_options",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column(
            "version_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column(
            "name",
            sa.String(length=32).with_variant(sa.String(length=32, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("label", sa.String(length=64), nullable=False),
        sa.Column("help", sa.String(length=255), server_default="", nullable=False),
        sa.Column(
            "kind",
            sa.Enum(
                "choice",
                "count",
                "yes_no",
                name="optionkind",
                native_enum=False,
                create_constraint=True,
            ),
            nullable=False,
        ),
        sa.Column("choices", sa.JSON(), nullable=False),
        sa.Column("minimum", sa.Integer(), nullable=True),
        sa.Column("maximum", sa.Integer(), nullable=True),
        sa.Column("default", sa.String(length=64), nullable=False),
        sa.CheckConstraint(
            "kind <> 'count' OR (minimum IS NOT NULL AND maximum >= minimum)",
            name=op.f("ck_service_options_count_limited"),
        ),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["service_template_versions.id"],
            name=op.f("fk_service_options_version_id_service_template_versions"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_options")),
        sa.UniqueConstraint("version_id", "name", name=op.f("uq_service_options_version_id_name")),
    )
    op.create_table(
        "service_template_bundles",
        sa.Column(
            "version_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column(
            "bundle_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.ForeignKeyConstraint(
            ["bundle_id"],
            ["bundles.id"],
            name=op.f("fk_service_template_bundles_bundle_id_bundles"),
        ),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["service_template_versions.id"],
            name=op.f("fk_service_template_bundles_version_id_service_template_versions"),
        ),
        sa.PrimaryKeyConstraint(
            "version_id", "bundle_id", name=op.f("pk_service_template_bundles")
        ),
    )
    op.create_index(
        "ix_service_template_bundles_bundle_id", "service_template_bundles", ["bundle_id"]
    )

    op.create_table(
        "service_template_email_templates",
        sa.Column(
            "version_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column(
            "template_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.ForeignKeyConstraint(
            ["template_id"],
            ["email_templates.id"],
            name=op.f("fk_service_template_email_templates_template_id_email_templates"),
        ),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["service_template_versions.id"],
            name=op.f("fk_service_template_email_templates_version_id_service_template_versions"),
        ),
        sa.PrimaryKeyConstraint(
            "version_id", "template_id", name=op.f("pk_service_template_email_templates")
        ),
    )
    op.create_index(
        "ix_service_template_email_templates_template_id",
        "service_template_email_templates",
        ["template_id"],
    )

    op.create_table(
        "subscription_requests",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column(
            "state",
            sa.Enum(
                "draft",
                "submitted",
                "awaiting_approval",
                "changes_requested",
                "scheduled",
                "provisioning",
                "failed",
                "rolling_back",
                "completed",
                "rejected",
                "cancelled",
                name="requeststate",
                native_enum=False,
                create_constraint=True,
            ),
            nullable=False,
        ),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column(
            "created_by_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column(
            "invitation_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column("group_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column(
            "template_version_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=True,
        ),
        sa.Column("draft", sa.JSON(), nullable=False),
        sa.Column("draft_version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("name", sa.String(length=64), server_default="", nullable=False),
        sa.Column(
            "name_key",
            sa.String(length=64).with_variant(sa.String(length=64, collation="C"), "postgresql"),
            server_default="",
            nullable=False,
        ),
        sa.Column("short_name", sa.String(length=16), server_default="", nullable=False),
        sa.Column(
            "short_name_key",
            sa.String(length=16).with_variant(sa.String(length=16, collation="C"), "postgresql"),
            server_default="",
            nullable=False,
        ),
        sa.Column(
            "upn_suffix",
            sa.String(length=253).with_variant(sa.String(length=253, collation="C"), "postgresql"),
            server_default="",
            nullable=False,
        ),
        sa.Column("admin_login", sa.String(length=320), server_default="", nullable=False),
        sa.Column("password_hash", sa.String(length=255), nullable=True),
        sa.Column("password_seal", sa.LargeBinary(), nullable=True),
        sa.Column("ani", sa.String(length=16), server_default="", nullable=False),
        sa.Column("company", sa.String(length=128), server_default="", nullable=False),
        sa.Column("street", sa.String(length=200), server_default="", nullable=False),
        sa.Column("postal_code", sa.String(length=16), server_default="", nullable=False),
        sa.Column("city", sa.String(length=100), server_default="", nullable=False),
        sa.Column("region", sa.String(length=100), server_default="", nullable=False),
        sa.Column("country", sa.String(length=2), server_default="", nullable=False),
        sa.Column("contact_name", sa.String(length=128), server_default="", nullable=False),
        sa.Column("contact_phone", sa.String(length=32), server_default="", nullable=False),
        sa.Column("contact_email", sa.String(length=320), server_default="", nullable=False),
        sa.Column(
            "contact_email_key",
            sa.String(length=320).with_variant(sa.String(length=320, collation="C"), "postgresql"),
            server_default="",
            nullable=False,
        ),
        sa.Column("language", sa.String(length=8), server_default="en", nullable=False),
        sa.Column("time_zone", sa.String(length=64), server_default="", nullable=False),
        sa.Column("domain_token", sa.String(length=64), server_default="", nullable=False),
        sa.Column("domain_proved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("comment", sa.String(length=2000), server_default="", nullable=False),
        sa.Column("scheduled_for", sa.DateTime(timezone=True), nullable=True),
        sa.Column("off_peak", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column(
            "customer_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("submitted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "password_seal IS NULL OR state NOT IN ('completed', 'rejected', 'cancelled')",
            name=op.f("ck_subscription_requests_ended_has_no_seal"),
        ),
        sa.CheckConstraint(
            "state <> 'scheduled' OR scheduled_for IS NOT NULL",
            name=op.f("ck_subscription_requests_has_a_time"),
        ),
        sa.CheckConstraint(
            "state = 'draft' OR submitted_at IS NOT NULL",
            name=op.f("ck_subscription_requests_has_submit_time"),
        ),
        sa.CheckConstraint(
            (
                "state IN ('draft', 'completed', 'rejected', 'cancelled') OR (name_key "
                "<> '' AND short_name_key <> '' AND upn_suffix <> '' AND contact_email "
                "<> '' AND template_version_id IS NOT NULL AND group_id IS NOT NULL)"
            ),
            name=op.f("ck_subscription_requests_open_is_complete"),
        ),
        sa.ForeignKeyConstraint(
            ["created_by_id"],
            ["users.id"],
            name=op.f("fk_subscription_requests_created_by_id_users"),
        ),
        sa.ForeignKeyConstraint(
            ["customer_id"],
            ["customers.id"],
            name=op.f("fk_subscription_requests_customer_id_customers"),
        ),
        sa.ForeignKeyConstraint(
            ["group_id"], ["groups.id"], name=op.f("fk_subscription_requests_group_id_groups")
        ),
        sa.ForeignKeyConstraint(
            ["invitation_id"],
            ["registration_links.id"],
            name=op.f("fk_subscription_requests_invitation_id_registration_links"),
        ),
        sa.ForeignKeyConstraint(
            ["template_version_id"],
            ["service_template_versions.id"],
            name=op.f("fk_subscription_requests_template_version_id_service_template_versions"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subscription_requests")),
        sa.UniqueConstraint("customer_id", name=op.f("uq_subscription_requests_customer_id")),
    )
    op.create_index(
        "ix_subscription_requests_state_by_submitted",
        "subscription_requests",
        ["state", "submitted_at", "id"],
    )
    op.create_index(
        "ix_subscription_requests_state_by_changed",
        "subscription_requests",
        ["state", "changed_at", "id"],
    )
    op.create_index(
        "ix_subscription_requests_state_by_name",
        "subscription_requests",
        ["state", "name_key", "id"],
    )
    op.create_index(
        "ix_subscription_requests_state_by_short_name",
        "subscription_requests",
        ["state", "short_name_key", "id"],
    )
    op.create_index(
        "ix_subscription_requests_state_by_upn_suffix",
        "subscription_requests",
        ["state", "upn_suffix", "id"],
    )
    op.create_index(
        "ix_subscription_requests_state_by_email",
        "subscription_requests",
        ["state", "contact_email_key", "id"],
    )
    op.create_index(
        "ix_subscription_requests_group_by_submitted",
        "subscription_requests",
        ["group_id", "state", "submitted_at", "id"],
    )
    op.create_index(
        "ix_subscription_requests_group_by_changed",
        "subscription_requests",
        ["group_id", "state", "changed_at", "id"],
    )
    op.create_index(
        "ix_subscription_requests_group_by_name",
        "subscription_requests",
        ["group_id", "state", "name_key", "id"],
    )
    op.create_index(
        "ix_subscription_requests_group_by_short_name",
        "subscription_requests",
        ["group_id", "state", "short_name_key", "id"],
    )
    op.create_index(
        "ix_subscription_requests_group_by_upn_suffix",
        "subscription_requests",
        ["group_id", "state", "upn_suffix", "id"],
    )
    op.create_index(
        "ix_subscription_requests_group_by_email",
        "subscription_requests",
        ["group_id", "state", "contact_email_key", "id"],
    )
    op.create_index(
        "ix_subscription_requests_due",
        "subscription_requests",
        ["scheduled_for", "id"],
        sqlite_where=sa.text("state = 'scheduled'"),
        postgresql_where=sa.text("state = 'scheduled'"),
    )
    op.create_index(
        "ix_subscription_requests_of_author",
        "subscription_requests",
        ["created_by_id", "state", "id"],
    )
    op.create_index(
        "uq_subscription_requests_held_name",
        "subscription_requests",
        ["name_key"],
        unique=True,
        sqlite_where=sa.text("state NOT IN ('draft', 'completed', 'rejected', 'cancelled')"),
        postgresql_where=sa.text("state NOT IN ('draft', 'completed', 'rejected', 'cancelled')"),
    )
    op.create_index(
        "uq_subscription_requests_held_short_name",
        "subscription_requests",
        ["short_name_key"],
        unique=True,
        sqlite_where=sa.text("state NOT IN ('draft', 'completed', 'rejected', 'cancelled')"),
        postgresql_where=sa.text("state NOT IN ('draft', 'completed', 'rejected', 'cancelled')"),
    )
    op.create_index(
        "uq_subscription_requests_held_upn_suffix",
        "subscription_requests",
        ["upn_suffix"],
        unique=True,
        sqlite_where=sa.text("state NOT IN ('draft', 'completed', 'rejected', 'cancelled')"),
        postgresql_where=sa.text("state NOT IN ('draft', 'completed', 'rejected', 'cancelled')"),
    )

    op.create_table(
        "provisioning_runs",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column(
            "request_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column(
            "state",
            sa.Enum(
                "running",
                "failed",
                "rolling_back",
                "completed",
                "rolled_back",
                name="runstate",
                native_enum=False,
                create_constraint=True,
            ),
            nullable=False,
        ),
        sa.Column("lease_token", sa.String(length=64), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(lease_token IS NULL) = (lease_expires_at IS NULL)",
            name=op.f("ck_provisioning_runs_lease_is_whole"),
        ),
        sa.ForeignKeyConstraint(
            ["request_id"],
            ["subscription_requests.id"],
            name=op.f("fk_provisioning_runs_request_id_subscription_requests"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_provisioning_runs")),
        sa.UniqueConstraint("request_id", name=op.f("uq_provisioning_runs_request_id")),
    )
    op.create_index(
        "ix_provisioning_runs_open",
        "provisioning_runs",
        ["next_attempt_at"],
        sqlite_where=sa.text("state IN ('running', 'rolling_back')"),
        postgresql_where=sa.text("state IN ('running', 'rolling_back')"),
    )
    op.create_index(
        "ix_provisioning_runs_leased",
        "provisioning_runs",
        ["lease_expires_at"],
        sqlite_where=sa.text("lease_token IS NOT NULL"),
        postgresql_where=sa.text("lease_token IS NOT NULL"),
    )

    op.create_table(
        "request_transitions",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column(
            "request_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column(
            "from_state",
            sa.Enum(
                "draft",
                "submitted",
                "awaiting_approval",
                "changes_requested",
                "scheduled",
                "provisioning",
                "failed",
                "rolling_back",
                "completed",
                "rejected",
                "cancelled",
                name="from_state",
                native_enum=False,
                create_constraint=True,
            ),
            nullable=False,
        ),
        sa.Column(
            "to_state",
            sa.Enum(
                "draft",
                "submitted",
                "awaiting_approval",
                "changes_requested",
                "scheduled",
                "provisioning",
                "failed",
                "rolling_back",
                "completed",
                "rejected",
                "cancelled",
                name="to_state",
                native_enum=False,
                create_constraint=True,
            ),
            nullable=False,
        ),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("actor_login", sa.String(length=320), nullable=False),
        sa.Column("reason", sa.String(length=2000), server_default="", nullable=False),
        sa.Column("scheduled_for", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["actor_id"], ["users.id"], name=op.f("fk_request_transitions_actor_id_users")
        ),
        sa.ForeignKeyConstraint(
            ["request_id"],
            ["subscription_requests.id"],
            name=op.f("fk_request_transitions_request_id_subscription_requests"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_request_transitions")),
    )
    op.create_index(
        "ix_request_transitions_of_request", "request_transitions", ["request_id", "id"]
    )

    op.create_table(
        "provisioning_steps",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("run_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column(
            "name",
            sa.Enum(
                "reserve_names",
                "create_customer",
                "clone_template",
                "create_on_platform",
                "create_administrator",
                "check",
                "notify",
                name="stepname",
                native_enum=False,
                create_constraint=True,
            ),
            nullable=False,
        ),
        sa.Column(
            "state",
            sa.Enum(
                "pending",
                "running",
                "waiting",
                "done",
                "failed",
                "undoing",
                "undone",
                name="stepstate",
                native_enum=False,
                create_constraint=True,
            ),
            nullable=False,
        ),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("output", sa.Text(), server_default="", nullable=False),
        sa.Column("error", sa.String(length=2000), server_default="", nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["provisioning_runs.id"],
            name=op.f("fk_provisioning_steps_run_id_provisioning_runs"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_provisioning_steps")),
        sa.UniqueConstraint("run_id", "name", name=op.f("uq_provisioning_steps_run_id_name")),
        sa.UniqueConstraint(
            "run_id", "position", name=op.f("uq_provisioning_steps_run_id_position")
        ),
    )
    op.create_table(
        "request_notifications",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column(
            "request_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column(
            "transition_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column(
            "kind",
            sa.Enum(
                "request_scheduled",
                "request_completed",
                "request_failed",
                "request_rejected",
                "request_cancelled",
                "request_changes",
                name="notificationkind",
                native_enum=False,
                create_constraint=True,
            ),
            nullable=False,
        ),
        sa.Column("email", sa.String(length=320), nullable=False),
        sa.Column("language", sa.String(length=8), nullable=False),
        sa.Column("message_id", sa.String(length=200), nullable=False),
        sa.Column(
            "resent_by_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("mailed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("answer", sa.String(length=500), server_default="", nullable=False),
        sa.ForeignKeyConstraint(
            ["request_id"],
            ["subscription_requests.id"],
            name=op.f("fk_request_notifications_request_id_subscription_requests"),
        ),
        sa.ForeignKeyConstraint(
            ["resent_by_id"], ["users.id"], name=op.f("fk_request_notifications_resent_by_id_users")
        ),
        sa.ForeignKeyConstraint(
            ["transition_id"],
            ["request_transitions.id"],
            name=op.f("fk_request_notifications_transition_id_request_transitions"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_request_notifications")),
        sa.UniqueConstraint("message_id", name=op.f("uq_request_notifications_message_id")),
    )
    op.create_index(
        "ix_request_notifications_of_request", "request_notifications", ["request_id", "id"]
    )
    op.create_index(
        "uq_request_notifications_one_waiting",
        "request_notifications",
        ["transition_id"],
        unique=True,
        sqlite_where=sa.text("mailed_at IS NULL AND failed_at IS NULL"),
        postgresql_where=sa.text("mailed_at IS NULL AND failed_at IS NULL"),
    )
    op.create_index(
        "ix_request_notifications_unmailed",
        "request_notifications",
        ["next_attempt_at"],
        sqlite_where=sa.text("mailed_at IS NULL AND failed_at IS NULL"),
        postgresql_where=sa.text("mailed_at IS NULL AND failed_at IS NULL"),
    )
    op.create_index(
        "uq_request_notifications_once",
        "request_notifications",
        ["transition_id"],
        unique=True,
        sqlite_where=sa.text("resent_by_id IS NULL"),
        postgresql_where=sa.text("resent_by_id IS NULL"),
    )

    with op.batch_alter_table("customers", reflect_kwargs={"resolve_fks": False}) as batch_op:
        batch_op.add_column(
            sa.Column("company", sa.String(length=128), server_default="", nullable=False)
        )
        batch_op.add_column(
            sa.Column("street", sa.String(length=200), server_default="", nullable=False)
        )
        batch_op.add_column(
            sa.Column("postal_code", sa.String(length=16), server_default="", nullable=False)
        )
        batch_op.add_column(
            sa.Column("city", sa.String(length=100), server_default="", nullable=False)
        )
        batch_op.add_column(
            sa.Column("region", sa.String(length=100), server_default="", nullable=False)
        )
        batch_op.add_column(
            sa.Column("country", sa.String(length=2), server_default="", nullable=False)
        )
        batch_op.add_column(
            sa.Column("time_zone", sa.String(length=64), server_default="", nullable=False)
        )
        batch_op.add_column(
            sa.Column("platform_reference", sa.String(length=64), server_default="", nullable=False)
        )
        batch_op.add_column(
            sa.Column(
                "template_version_id",
                sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
                nullable=True,
            )
        )
        batch_op.add_column(sa.Column("options", sa.JSON(), server_default="{}", nullable=False))
        batch_op.create_foreign_key(
            batch_op.f("fk_customers_template_version_id_service_template_versions"),
            "service_template_versions",
            ["template_version_id"],
            ["id"],
        )
        _change_statuses(batch_op, ("creating", "active", "suspended", "deleted"))
    with op.batch_alter_table(
        "local_platform_accounts", reflect_kwargs={"resolve_fks": False}
    ) as changes:
        changes.add_column(
            sa.Column(
                "tenant_reference",
                sa.String(length=64).with_variant(
                    sa.String(length=64, collation="C"), "postgresql"
                ),
                nullable=True,
            )
        )
        changes.create_foreign_key(
            "fk_local_platform_accounts_tenant",
            "local_platform_tenants",
            ["tenant_reference"],
            ["reference"],
            ondelete="CASCADE",
        )
        changes.create_index("ix_local_platform_accounts_tenant_reference", ["tenant_reference"])

    op.create_index(
        "ix_users_administrators",
        "users",
        ["customer_id", "id"],
        sqlite_where=sa.text("role = 'customer_admin'"),
        postgresql_where=sa.text("role = 'customer_admin'"),
    )
    _replace_throttles("sign_in_throttles", "throttles", "attempts")
    _give_defaults()


def _replace_throttles(old: str, new: str, counted: str) -> None:
    """What they remember is of minutes."""
    op.drop_table(old)
    op.create_table(
        new,
        sa.Column(
            "key",
            sa.String(length=400).with_variant(sa.String(length=400, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column(counted, sa.Integer(), nullable=False),
        sa.Column("blocked_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f(f"pk_{new}")),
    )
    op.create_index(op.f(f"ix_{new}_updated_at"), new, ["updated_at"])


def _change_statuses(changes: Any, words: tuple[str, ...]) -> None:
    """A customer that is being created is none of those that there were."""
    listed = ", ".join(f"'{word}'" for word in words)
    changes.drop_constraint(op.f("ck_customers_customerstatus"), type_="check")
    changes.create_check_constraint(
        op.f("ck_customers_customerstatus"), sa.text(f"status IN ({listed})")
    )


def _give_defaults() -> None:
    """Nights are off-peak until the provider says otherwise; numbers go on from the highest."""
    op.execute("INSERT INTO provisioning_policy (id, time_zone, max_runs) VALUES (1, 'UTC', 4)")
    op.execute(
        "INSERT INTO off_peak_windows (days, from_minute, to_minute) VALUES ('1234567', 1320, 360)"
    )
    op.execute(
        "INSERT INTO number_sequences (name, last) "
        "SELECT 'custno', coalesce(max(custno), 1000) FROM customers"
    )
    op.execute("INSERT INTO number_sequences (name, last) VALUES ('web_id', 0)")


def downgrade() -> None:
    _replace_throttles("throttles", "sign_in_throttles", "failures")
    op.drop_index("ix_users_administrators", table_name="users")
    op.execute("UPDATE customers SET status = 'deleted' WHERE status = 'creating'")
    with op.batch_alter_table(
        "local_platform_accounts", reflect_kwargs={"resolve_fks": False}
    ) as changes:
        changes.drop_index("ix_local_platform_accounts_tenant_reference")
        changes.drop_constraint("fk_local_platform_accounts_tenant", type_="foreignkey")
        changes.drop_column("tenant_reference")
    with op.batch_alter_table("customers", reflect_kwargs={"resolve_fks": False}) as changes:
        changes.drop_constraint(
            "fk_customers_template_version_id_service_template_versions", type_="foreignkey"
        )
        _change_statuses(changes, ("active", "suspended", "deleted"))
        for column in _CUSTOMER_COLUMNS:
            changes.drop_column(column)
    with op.batch_alter_table(
        "service_templates", reflect_kwargs={"resolve_fks": False}
    ) as changes:
        changes.drop_constraint("fk_service_templates_published_version", type_="foreignkey")
    for table in (
        "request_notifications",
        "provisioning_steps",
        "provisioning_runs",
        "request_transitions",
        "request_counts",
        "subscription_requests",
        "registration_links",
        "service_template_email_templates",
        "service_template_bundles",
        "service_options",
        "service_template_versions",
        "service_templates",
        "general_parameters_versions",
        "general_parameters",
        "provisioning_policy",
        "off_peak_windows",
        "off_peak_exceptions",
        "number_sequences",
        "local_platform_tenants",
    ):
        op.drop_table(table)
