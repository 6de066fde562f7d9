"""Imports of users

Revision ID: 0010
Revises: 0009
Create Date: 2026-11-21 14:50:00
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_COUNTERS = (
    "faulty",
    "to_add",
    "to_update",
    "same",
    "added",
    "updated",
    "unchanged",
    "failed",
    "undone",
    "kept",
)
_WORKED_ON = sa.text("state IN ('checking', 'importing', 'undoing')")
_UNWIPED = sa.text("wiped_at IS NULL")


def _text(name: str, length: int) -> sa.Column[Any]:
    return sa.Column(name, sa.String(length=length), server_default="", nullable=False)


def _flag(name: str, default: Any) -> sa.Column[Any]:
    return sa.Column(name, sa.Boolean(), server_default=default, nullable=False)


def _list(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.JSON(), server_default="[]", nullable=False)


def _count(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Integer(), server_default="0", nullable=False)


def _moment(name: str, *, nullable: bool) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "user_imports",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("customer_id", _ID, nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "uploaded",
                "checking",
                "checked",
                "failed",
                "importing",
                "finished",
                "cancelled",
                "undoing",
                "undone",
                name="importstate",
                native_enum=False,
                create_constraint=True,
            ),
            server_default="uploaded",
            nullable=False,
        ),
        sa.Column("created_by_id", _ID, nullable=True),
        sa.Column("actor_login", sa.String(length=320), nullable=False),
        sa.Column("behalf_id", _ID, nullable=True),
        _text("behalf_login", 320),
        _text("address", 64),
        _flag("only_users", sa.false()),
        sa.Column("file_name", sa.String(length=200), nullable=False),
        sa.Column("file_bytes", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        _text("encoding", 16),
        _text("delimiter", 4),
        _list("sheets"),
        _count("sheet"),
        _flag("has_headings", sa.true()),
        _list("head"),
        _list("headings"),
        _list("columns"),
        _flag("updates", sa.false()),
        _flag("empties", sa.false()),
        _flag("sends_welcome", sa.false()),
        sa.Column("share", sa.Float(), server_default="0", nullable=False),
        _count("read_to"),
        _text("problem", 500),
        *map(_count, _COUNTERS),
        sa.Column("mailing_id", _ID, nullable=True),
        sa.Column("lease_token", sa.String(length=32), nullable=True),
        _moment("lease_expires_at", nullable=True),
        _moment("created_at", nullable=False),
        _moment("changed_at", nullable=False),
        _moment("started_at", nullable=True),
        _moment("finished_at", nullable=True),
        _moment("wiped_at", nullable=True),
        sa.CheckConstraint(
            " AND ".join(f"{name} >= 0" for name in _COUNTERS),
            name=op.f("ck_user_imports_counters_not_negative"),
        ),
        sa.CheckConstraint(
            "(lease_token IS NULL) = (lease_expires_at IS NULL)",
            name=op.f("ck_user_imports_lease_is_whole"),
        ),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["customers.id"], name=op.f("fk_user_imports_customer_id_customers")
        ),
        sa.ForeignKeyConstraint(
            ["created_by_id"], ["users.id"], name=op.f("fk_user_imports_created_by_id_users")
        ),
        sa.ForeignKeyConstraint(
            ["behalf_id"], ["users.id"], name=op.f("fk_user_imports_behalf_id_users")
        ),
        sa.ForeignKeyConstraint(
            ["mailing_id"], ["mailings.id"], name=op.f("fk_user_imports_mailing_id_mailings")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user_imports")),
    )
    op.create_index("ix_user_imports_of_customer", "user_imports", ["customer_id", "id"])
    op.create_index(
        "ix_user_imports_worked_on",
        "user_imports",
        ["id"],
        sqlite_where=_WORKED_ON,
        postgresql_where=_WORKED_ON,
    )
    op.create_index(
        "ix_user_imports_to_wipe",
        "user_imports",
        ["changed_at"],
        sqlite_where=_UNWIPED,
        postgresql_where=_UNWIPED,
    )
    op.create_table(
        "user_import_pieces",
        sa.Column("import_id", _ID, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["import_id"],
            ["user_imports.id"],
            name=op.f("fk_user_import_pieces_import_id_user_imports"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("import_id", "position", name=op.f("pk_user_import_pieces")),
    )
    op.create_table(
        "user_import_rows",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("import_id", _ID, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column(
            "state",
            sa.Enum(*_COUNTERS, name="importrowstate", native_enum=False, create_constraint=True),
            nullable=False,
        ),
        sa.Column(
            "login_key",
            sa.String(length=320).with_variant(sa.String(length=320, collation="C"), "postgresql"),
            server_default="",
            nullable=False,
        ),
        sa.Column("cells", sa.JSON(), nullable=False),
        _list("faults"),
        sa.Column("user_id", _ID, nullable=True),
        sa.ForeignKeyConstraint(
            ["import_id"],
            ["user_imports.id"],
            name=op.f("fk_user_import_rows_import_id_user_imports"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user_import_rows")),
        sa.UniqueConstraint(
            "import_id", "position", name=op.f("uq_user_import_rows_import_id_position")
        ),
    )
    op.create_index(
        "ix_user_import_rows_by_state", "user_import_rows", ["import_id", "state", "position"]
    )
    op.create_index("ix_user_import_rows_by_login", "user_import_rows", ["import_id", "login_key"])


def downgrade() -> None:
    op.drop_table("user_import_rows")
    op.drop_table("user_import_pieces")
    op.drop_table("user_imports")
