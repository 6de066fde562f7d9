"""Attachments of setup instructions; versions of service templates that restore others

Revision ID: 0012
Revises: 0011
Create Date: 2026-11-21 14:50:00
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

_IN_ORDER = {
    "ix_service_templates_in_use": "archived_at IS NULL",
    "ix_service_templates_archived": "archived_at IS NOT NULL",
}


def _changes(table: str) -> Any:
    # Resolving would load the tables that are referred to, in an order that cannot be.
    return op.batch_alter_table(table, reflect_kwargs={"resolve_fks": False})


def upgrade() -> None:
    with _changes("customers") as changes:
        changes.add_column(
            sa.Column("setup_version", sa.Integer(), server_default="1", nullable=False)
        )
        changes.add_column(
            sa.Column("attachments_version", sa.Integer(), server_default="0", nullable=False)
        )
    for name, condition in _IN_ORDER.items():
        op.create_index(
            name,
            "service_templates",
            ["position", "id"],
            sqlite_where=sa.text(condition),
            postgresql_where=sa.text(condition),
        )
    with _changes("service_template_versions") as changes:
        changes.add_column(sa.Column("restored_from", sa.Integer(), nullable=True))
    op.create_table(
        "attachments",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("customer_id", _ID, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column(
            "name_key",
            sa.String(length=100).with_variant(sa.String(length=100, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("content_type", sa.String(length=64), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("created_by_id", _ID, nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("name <> ''", name=op.f("ck_attachments_name_given")),
        sa.CheckConstraint("size > 0", name=op.f("ck_attachments_not_empty")),
        sa.ForeignKeyConstraint(
            ["created_by_id"],
            ["users.id"],
            name=op.f("fk_attachments_created_by_id_users"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["customer_id"],
            ["customers.id"],
            name=op.f("fk_attachments_customer_id_customers"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attachments")),
        sa.UniqueConstraint(
            "customer_id", "name_key", name=op.f("uq_attachments_customer_id_name_key")
        ),
    )


def downgrade() -> None:
    op.drop_table("attachments")
    with _changes("service_template_versions") as changes:
        changes.drop_column("restored_from")
    for name in _IN_ORDER:
        op.drop_index(name, table_name="service_templates")
    with _changes("customers") as changes:
        changes.drop_column("attachments_version")
        changes.drop_column("setup_version")
