"""An index of deliveries that ended without a mail after the application password was changed

Without it, a mailing's page looks through all of its recipients for them.

Revision ID: 0003
Revises: 0002
Create Date: 2026-11-21 06:25:00
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_UNMAILED = sa.text(
    "application_password_set AND state IN ('bounced', 'failed', 'skipped', 'cancelled')"
)


def upgrade() -> None:
    op.create_index(
        "ix_deliveries_unmailed",
        "deliveries",
        ["mailing_id", "id"],
        sqlite_where=_UNMAILED,
        postgresql_where=_UNMAILED,
    )


def downgrade() -> None:
    op.drop_index("ix_deliveries_unmailed", "deliveries")
