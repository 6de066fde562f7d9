"""Two indexes less for each delivery that is written, one less for each that is changed

Within a mailing, users' ids have the order of the deliveries' own, so that the unique index lists
them, too; and those that are queued have an index of their own already. That ends with the user:
SQLite cannot begin in the middle of equal times by a table's own id.

Revision ID: 0014
Revises: 0013
Create Date: 2026-11-22 08:20:00
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_QUEUED = sa.text("state = 'queued'")
_NOT_QUEUED = sa.text("state <> 'queued'")


def upgrade() -> None:
    op.drop_index("ix_deliveries_of_mailing", "deliveries")
    op.drop_index("ix_deliveries_by_state", "deliveries")
    op.create_index(
        "ix_deliveries_in_state",
        "deliveries",
        ["mailing_id", "state", "user_id"],
        sqlite_where=_NOT_QUEUED,
        postgresql_where=_NOT_QUEUED,
    )
    _make_due_anew("user_id")


def downgrade() -> None:
    _make_due_anew("id")
    op.drop_index("ix_deliveries_in_state", "deliveries")
    op.create_index("ix_deliveries_by_state", "deliveries", ["mailing_id", "state", "id"])
    op.create_index("ix_deliveries_of_mailing", "deliveries", ["mailing_id", "id"])


def _make_due_anew(last: str) -> None:
    op.drop_index("ix_deliveries_due", "deliveries")
    op.create_index(
        "ix_deliveries_due",
        "deliveries",
        ["mailing_id", "next_attempt_at", last],
        sqlite_where=_QUEUED,
        postgresql_where=_QUEUED,
    )
