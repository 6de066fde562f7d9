"""The audit trail: on whose behalf, in which group, append-only, found at a million rows

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
_KEY = sa.String(length=320).with_variant(sa.String(length=320, collation="C"), "postgresql")
_TABLE = "audit_events"
_REFERRED = {"actor_id": "users", "customer_id": "customers"}
_INDEXES: dict[str, tuple[tuple[str, ...], str]] = {
    "by_time": ((), ""),
    "by_actor": (("actor_key",), ""),
    "by_action": (("action",), ""),
    "of_customer": (("customer_id",), "customer_id IS NOT NULL"),
    "of_customer_by_action": (("customer_id", "action"), "customer_id IS NOT NULL"),
    "of_group": (("group_id",), "group_id IS NOT NULL"),
    "of_group_by_action": (("group_id", "action"), "group_id IS NOT NULL"),
    "of_object": (("object_type", "object_id"), "object_id IS NOT NULL"),
    "on_behalf": ((), "behalf_id IS NOT NULL"),
}
_REFUSED = "audit_events takes new rows alone"
_SQLITE_TRIGGERS = {
    "audit_events_no_update": "BEFORE UPDATE ON audit_events",
    "audit_events_no_delete": "BEFORE DELETE ON audit_events",
    # INSERT OR REPLACE takes a row away without a DELETE that a trigger would see.
    "audit_events_no_replace": (
        "BEFORE INSERT ON audit_events WHEN EXISTS (SELECT 1 FROM audit_events WHERE id = new.id)"
    ),
}


def _changes(table: str) -> Any:
    # Resolving would load the tables that are referred to, in an order that cannot be.
    return op.batch_alter_table(table, reflect_kwargs={"resolve_fks": False})


def upgrade() -> None:
    with _changes(_TABLE) as batch:
        batch.add_column(sa.Column("behalf_id", _ID, nullable=True))
        batch.add_column(
            sa.Column("behalf_login", sa.String(length=320), server_default="", nullable=False)
        )
        batch.add_column(sa.Column("actor_key", _KEY, server_default="", nullable=False))
        batch.add_column(sa.Column("group_id", _ID, nullable=True))
        for column, referred in _REFERRED.items():
            batch.drop_constraint(op.f(f"fk_audit_events_{column}_{referred}"), type_="foreignkey")
        batch.drop_index("ix_audit_events_of_customer")
        batch.drop_index(op.f("ix_audit_events_at"))
    op.execute(
        "UPDATE audit_events SET actor_key = lower(actor_login), group_id = "
        "(SELECT group_id FROM customers WHERE customers.id = audit_events.customer_id)"
    )
    for name, (columns, condition) in _INDEXES.items():
        where = {f"{engine}_where": sa.text(condition) for engine in ("sqlite", "postgresql")}
        op.create_index(
            f"ix_audit_events_{name}", _TABLE, [*columns, "at", "id"], **where if condition else {}
        )
    if op.get_bind().dialect.name == "sqlite":
        for name, when in _SQLITE_TRIGGERS.items():
            op.execute(f"CREATE TRIGGER {name} {when} BEGIN SELECT RAISE(ABORT, '{_REFUSED}'); END")
        return
    op.execute(
        "CREATE FUNCTION refuse_change_of_audit_events() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{_REFUSED}' USING ERRCODE = 'restrict_violation'; END $$"
    )
    op.execute(
        "CREATE TRIGGER audit_events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE "
        "ON audit_events FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_audit_events()"
    )


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for name in _SQLITE_TRIGGERS:
            op.execute(f"DROP TRIGGER {name}")
    else:
        op.execute("DROP TRIGGER audit_events_append_only ON audit_events")
        op.execute("DROP FUNCTION refuse_change_of_audit_events()")
    for name in _INDEXES:
        op.drop_index(f"ix_audit_events_{name}", _TABLE)
    for column, referred in _REFERRED.items():
        # The trail outlives what it names; the older table does not.
        op.execute(
            f"UPDATE audit_events SET {column} = NULL "  # noqa: S608 - names of ours
            f"WHERE {column} NOT IN (SELECT id FROM {referred})"
        )
    with _changes(_TABLE) as batch:
        batch.drop_column("group_id")
        batch.drop_column("actor_key")
        batch.drop_column("behalf_login")
        batch.drop_column("behalf_id")
        for column, referred in _REFERRED.items():
            batch.create_foreign_key(
                op.f(f"fk_audit_events_{column}_{referred}"), referred, [column], ["id"]
            )
        batch.create_index(op.f("ix_audit_events_at"), ["at"], unique=False)
        batch.create_index("ix_audit_events_of_customer", ["customer_id", "id"], unique=False)
