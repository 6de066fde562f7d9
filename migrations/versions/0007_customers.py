"""Customers: suspension, deletion with a grace period, lists; bundles and groups; impersonation

Revision ID: 0007
Revises: 0006
Create Date: 2026-11-21 14:50:00
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_SEARCHED = {
    "name": "name_key",
    "short_name": "short_name_key",
    "web_id": "web_id",
    "upn_suffix": "upn_suffix",
}
_CLOSING = sa.text("delete_after IS NOT NULL")
_UNFINISHED = sa.text("follow_up_at IS NOT NULL")
_CLOSING_INDEXES = {
    "ix_customers_closing": ["delete_after", "id"],
    "ix_customers_closing_by_name": ["name_key", "id"],
    "ix_customers_closing_in_group_by_name": ["group_id", "name_key", "id"],
}


def _changes(table: str) -> Any:
    # Resolving would load the tables that are referred to, in an order that cannot be.
    return op.batch_alter_table(table, reflect_kwargs={"resolve_fks": False})


def upgrade() -> None:
    with _changes("customers") as batch:
        batch.add_column(sa.Column("suspended_at", sa.DateTime(timezone=True), nullable=True))
        batch.add_column(
            sa.Column("suspended_reason", sa.String(length=500), server_default="", nullable=False)
        )
        batch.add_column(sa.Column("delete_asked_at", sa.DateTime(timezone=True), nullable=True))
        batch.add_column(sa.Column("delete_after", sa.DateTime(timezone=True), nullable=True))
        batch.add_column(
            sa.Column("delete_reason", sa.String(length=500), server_default="", nullable=False)
        )
        batch.add_column(sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))
        batch.add_column(sa.Column("follow_up_at", sa.DateTime(timezone=True), nullable=True))
        batch.add_column(
            sa.Column("follow_up_attempts", sa.Integer(), server_default="0", nullable=False)
        )
        batch.add_column(
            sa.Column("follow_up_error", sa.String(length=500), server_default="", nullable=False)
        )
        batch.create_check_constraint(
            op.f("ck_customers_closing_is_out"),
            "delete_after IS NULL OR status = 'suspended'",
        )
        batch.create_check_constraint(
            op.f("ck_customers_follow_ups_not_negative"), "follow_up_attempts >= 0"
        )
    for name, column in {**_SEARCHED, "custno": "custno"}.items():
        op.create_index(f"ix_customers_of_status_by_{name}", "customers", ["status", column, "id"])
    op.create_index(
        "ix_customers_in_group_by_custno", "customers", ["group_id", "status", "custno", "id"]
    )
    for name, columns in _CLOSING_INDEXES.items():
        op.create_index(
            name, "customers", columns, sqlite_where=_CLOSING, postgresql_where=_CLOSING
        )
    op.create_index(
        "ix_customers_follow_up",
        "customers",
        ["follow_up_at", "id"],
        sqlite_where=_UNFINISHED,
        postgresql_where=_UNFINISHED,
    )
    with _changes("bundles") as batch:
        batch.add_column(sa.Column("version", sa.Integer(), server_default="1", nullable=False))
        batch.add_column(sa.Column("archived_at", sa.DateTime(timezone=True), nullable=True))
    _copy_into_assignments()
    with _changes("sign_in_sessions") as batch:
        batch.add_column(sa.Column("behalf_id", _ID, nullable=True))
        batch.add_column(sa.Column("behalf_until", sa.DateTime(timezone=True), nullable=True))
        batch.create_foreign_key(
            op.f("fk_sign_in_sessions_behalf_id_users"), "users", ["behalf_id"], ["id"]
        )
        batch.create_check_constraint(
            op.f("ck_sign_in_sessions_behalf_ends"),
            "(behalf_id IS NULL) = (behalf_until IS NULL)",
        )
    op.create_index("ix_users_of_bundle", "users", ["bundle_id", "status"])
    op.create_index("ix_user_groups_group_id", "user_groups", ["group_id"])


def _copy_into_assignments() -> None:
    """What lists of a bundle's customers are ordered and limited by, beside the bundle."""
    with _changes("customer_bundles") as batch:
        batch.add_column(sa.Column("group_id", _ID, nullable=True))
        batch.add_column(sa.Column("status", sa.String(length=9), nullable=True))
        batch.add_column(
            sa.Column(
                "name_key",
                sa.String(length=64).with_variant(
                    sa.String(length=64, collation="C"), "postgresql"
                ),
                nullable=True,
            )
        )
    for column in ("group_id", "status", "name_key"):
        op.execute(
            f"UPDATE customer_bundles SET {column} = (SELECT customers.{column} FROM customers "  # noqa: S608 - names of ours
            "WHERE customers.id = customer_bundles.customer_id)"
        )
    with _changes("customer_bundles") as batch:
        batch.alter_column("group_id", existing_type=_ID, nullable=False)
        batch.alter_column("status", existing_type=sa.String(length=9), nullable=False)
        batch.alter_column(
            "name_key",
            existing_type=sa.String(length=64).with_variant(
                sa.String(length=64, collation="C"), "postgresql"
            ),
            nullable=False,
        )
        batch.create_check_constraint(
            op.f("ck_customer_bundles_customerstatus"),
            "status IN ('creating', 'active', 'suspended', 'deleted')",
        )
    op.create_index(
        "ix_customer_bundles_by_name",
        "customer_bundles",
        ["bundle_id", "status", "name_key", "customer_id"],
    )
    op.create_index(
        "ix_customer_bundles_in_group_by_name",
        "customer_bundles",
        ["bundle_id", "group_id", "status", "name_key", "customer_id"],
    )


def downgrade() -> None:
    op.drop_index("ix_user_groups_group_id", "user_groups")
    op.drop_index("ix_users_of_bundle", "users")
    with _changes("sign_in_sessions") as batch:
        batch.drop_constraint(op.f("ck_sign_in_sessions_behalf_ends"), type_="check")
        batch.drop_constraint(op.f("fk_sign_in_sessions_behalf_id_users"), type_="foreignkey")
        batch.drop_column("behalf_until")
        batch.drop_column("behalf_id")
    op.drop_index("ix_customer_bundles_in_group_by_name", "customer_bundles")
    op.drop_index("ix_customer_bundles_by_name", "customer_bundles")
    with _changes("customer_bundles") as batch:
        batch.drop_constraint(op.f("ck_customer_bundles_customerstatus"), type_="check")
        batch.drop_column("name_key")
        batch.drop_column("status")
        batch.drop_column("group_id")
    with _changes("bundles") as batch:
        batch.drop_column("archived_at")
        batch.drop_column("version")
    op.drop_index("ix_customers_follow_up", "customers")
    for name in _CLOSING_INDEXES:
        op.drop_index(name, "customers")
    op.drop_index("ix_customers_in_group_by_custno", "customers")
    for name in (*_SEARCHED, "custno"):
        op.drop_index(f"ix_customers_of_status_by_{name}", "customers")
    with _changes("customers") as batch:
        batch.drop_constraint(op.f("ck_customers_follow_ups_not_negative"), type_="check")
        batch.drop_constraint(op.f("ck_customers_closing_is_out"), type_="check")
        for column in (
            "follow_up_error",
            "follow_up_attempts",
            "follow_up_at",
            "deleted_at",
            "delete_reason",
            "delete_after",
            "delete_asked_at",
            "suspended_reason",
            "suspended_at",
        ):
            batch.drop_column(column)
