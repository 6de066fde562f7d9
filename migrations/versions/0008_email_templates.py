"""E-mail templates: what is edited, notes of versions, texts made from the HTML

Revision ID: 0008
Revises: 0007
Create Date: 2026-11-21 14:50:00
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "email_templates", sa.Column("version", sa.Integer(), server_default="1", nullable=False)
    )
    op.create_index(
        "ix_email_templates_by_kind", "email_templates", ["kind", "name_key", "id"], unique=False
    )
    op.add_column(
        "email_template_versions",
        sa.Column("note", sa.String(length=200), server_default="", nullable=False),
    )
    op.add_column("email_template_versions", sa.Column("restored_from", sa.Integer()))
    op.add_column(
        "email_template_texts",
        sa.Column("text_made", sa.Boolean(), server_default=sa.false(), nullable=False),
    )


def downgrade() -> None:
    op.drop_column("email_template_texts", "text_made")
    op.drop_column("email_template_versions", "restored_from")
    op.drop_column("email_template_versions", "note")
    op.drop_index("ix_email_templates_by_kind", "email_templates")
    op.drop_column("email_templates", "version")
