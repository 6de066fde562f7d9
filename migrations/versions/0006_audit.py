"""The audit trail: on whose behalf, append-only, found at a million rows

Revision ID: 0006
Revises: 0005
Create Date: 2026-11-21 14:50:00
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _changes(table: str) -> Any:
    # Resolving would load the tables that are referred to, in an order that cannot be.
    return op.batch_alter_table(table, reflect_kwargs={"resolve_fks": False})


def upgrade() -> None:
    with _changes("audit_events") as batch:
        batch.add_column(sa.Column("behalf_id", _ID, nullable=True))
        batch.add_column(
            sa.Column("behalf_login", sa.String(length=320), server_default="", nullable=False)
        )
        batch.create_foreign_key(
            op.f("fk_audit_events_behalf_id_users"), "users", ["behalf_id"], ["id"]
        )


def downgrade() -> None:
    with _changes("audit_events") as batch:
        batch.drop_constraint(op.f("fk_audit_events_behalf_id_users"), type_="foreignkey")
        batch.drop_column("behalf_login")
        batch.drop_column("behalf_id")
