"""How welcome mails to users ended, in a table of their own

Every change of a column that stands in an index makes an entry in all of the table's indexes on
PostgreSQL; users have a dozen. The rows come and follow by themselves, see `models.welcomes`.

Revision ID: 0013
Revises: 0012
Create Date: 2026-11-22 01:40:00
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_NAME_KEY = sa.String(length=260).with_variant(sa.String(length=260, collation="C"), "postgresql")
_NEVER = "coalesce({}, '1970-01-01 00:00:00.000000')"

_SQLITE_TRIGGERS = {
    "users_have_a_welcome": (
        "AFTER INSERT ON users BEGIN INSERT INTO welcomes (user_id, customer_id, name_key) "
        "VALUES (new.id, new.customer_id, new.name_key); END"
    ),
    "welcomes_follow_users": (
        "AFTER UPDATE OF customer_id, name_key ON users BEGIN UPDATE welcomes "
        "SET customer_id = new.customer_id, name_key = new.name_key WHERE user_id = new.id; END"
    ),
}
_POSTGRESQL_TRIGGERS = {
    # Once for all rows of a statement, which may be a hundred thousand.
    "users_have_a_welcome": (
        "AFTER INSERT ON users REFERENCING NEW TABLE AS added FOR EACH STATEMENT",
        "INSERT INTO welcomes (user_id, customer_id, name_key) "
        "SELECT id, customer_id, name_key FROM added; RETURN NULL;",
    ),
    "welcomes_follow_users": (
        "AFTER UPDATE OF customer_id, name_key ON users FOR EACH ROW",
        "UPDATE welcomes SET customer_id = new.customer_id, name_key = new.name_key "
        "WHERE user_id = new.id; RETURN NULL;",
    ),
}
_ROOM = {"users": 45, "local_platform_accounts": 45}
"""Percent of a page that new rows fill: a welcome mail changes each row of it once."""


def _changes(table: str) -> Any:
    # Resolving would load the tables that are referred to, in an order that cannot be.
    return op.batch_alter_table(table, reflect_kwargs={"resolve_fks": False})


def upgrade() -> None:
    op.create_table(
        "welcomes",
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("customer_id", _ID, nullable=True),
        sa.Column("name_key", _NAME_KEY, server_default="", nullable=False),
        sa.Column("state", _words(), server_default="never", nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_welcomes_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_welcomes")),
    )
    op.execute(
        "INSERT INTO welcomes (user_id, customer_id, name_key, state, at) "
        "SELECT id, customer_id, name_key, welcome_state, welcome_at FROM users"
    )
    op.create_index(
        "ix_welcomes_by_state", "welcomes", ["customer_id", "state", "name_key", "user_id"]
    )
    op.create_index(
        "ix_welcomes_by_time", "welcomes", ["customer_id", sa.text(_NEVER.format("at")), "user_id"]
    )
    for name in ("ix_users_by_welcome", "ix_users_by_welcome_at"):
        op.drop_index(name, "users")
    indexes = _put_by_indexes()
    with _changes("users") as changes:
        changes.drop_constraint("welcomestate", type_="check")
        changes.drop_column("welcome_at")
        changes.drop_column("welcome_state")
    _make_indexes_again(indexes)
    if op.get_bind().dialect.name == "sqlite":
        for name, text in _SQLITE_TRIGGERS.items():
            op.execute(f"CREATE TRIGGER {name} {text}")
        return
    for name, (when, text) in _POSTGRESQL_TRIGGERS.items():
        op.execute(
            f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {text} END $$"
        )
        op.execute(f"CREATE TRIGGER {name} {when} EXECUTE FUNCTION {name}()")
    for table, percent in _ROOM.items():
        op.execute(f"ALTER TABLE {table} SET (fillfactor = {percent})")
    op.execute("ANALYZE welcomes")  # Or it would be planned with as a table of no rows.


def downgrade() -> None:
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    for name in _SQLITE_TRIGGERS:
        op.execute(f"DROP TRIGGER {name}" if is_sqlite else f"DROP TRIGGER {name} ON users")
        if not is_sqlite:
            op.execute(f"DROP FUNCTION {name}()")
    if not is_sqlite:
        for table in _ROOM:
            op.execute(f"ALTER TABLE {table} RESET (fillfactor)")
    indexes = _put_by_indexes()
    with _changes("users") as changes:
        changes.add_column(
            sa.Column("welcome_state", _words(), server_default="never", nullable=False)
        )
        changes.add_column(sa.Column("welcome_at", sa.DateTime(timezone=True), nullable=True))
    _make_indexes_again(indexes)
    op.execute(
        "UPDATE users SET welcome_state = welcomes.state, welcome_at = welcomes.at "
        "FROM welcomes WHERE welcomes.user_id = users.id AND welcomes.state <> 'never'"
    )
    op.create_index(
        "ix_users_by_welcome", "users", ["customer_id", "welcome_state", "name_key", "id"]
    )
    op.create_index(
        "ix_users_by_welcome_at",
        "users",
        ["customer_id", sa.text(_NEVER.format("welcome_at")), "id"],
    )
    op.drop_table("welcomes")


def _words() -> sa.Enum:
    return sa.Enum(
        "never", "sent", "failed", name="welcomestate", native_enum=False, create_constraint=True
    )


def _put_by_indexes() -> list[str]:
    """Drop SQLite's indexes of users, whose table is made anew; returns how to make them again.

    A batch would make them in an order of chance, lose conditions and expressions, and have the
    planner choose differently where two seem as good.
    """
    connection = op.get_bind()
    if connection.dialect.name != "sqlite":
        return []
    found = connection.execute(
        sa.text(
            "SELECT name, sql FROM sqlite_master "
            "WHERE type = 'index' AND tbl_name = 'users' AND sql IS NOT NULL ORDER BY rowid"
        )
    ).all()
    for name, _ in found:
        op.drop_index(name, "users")
    return [text for _, text in found]


def _make_indexes_again(statements: list[str]) -> None:
    for text in statements:
        op.execute(sa.text(text.replace(":", "\\:")))
