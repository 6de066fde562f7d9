"""Command runs, mailings to several customers, bounces

Two partial indexes on deliveries go: each cost a write per claim and per result, and what they
answered is found as fast through the indexes that stay.

Revision ID: 0002
Revises: 0001
Create Date: 2026-11-21 05:00:00
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

_OLD_DELIVERY_CHECKS = {
    "deliverystate": "state IN ('queued', 'sending', 'sent', 'failed', 'skipped', 'cancelled')",
    "sent_has_time": "(state = 'sent') = (sent_at IS NOT NULL)",
}
_NEW_DELIVERY_CHECKS = {
    "deliverystate": (
        "state IN ('queued', 'sending', 'sent', 'bounced', 'failed', 'skipped', 'cancelled')"
    ),
    "sent_has_time": "(state IN ('sent', 'bounced')) = (sent_at IS NOT NULL)",
    "bounced_has_time": "(state = 'bounced') = (bounced_at IS NOT NULL)",
    "pending_is_sealed": "pending_hash IS NULL OR seal IS NOT NULL",
}


def _counter_checks(counters: tuple[str, ...]) -> dict[str, str]:
    return {
        "counters_not_negative": " AND ".join(f"{name} >= 0" for name in counters),
        "counters_add_up": f"total = {' + '.join(counters)}",
    }


_OLD_COUNTERS = _counter_checks(("queued", "sending", "sent", "failed", "skipped", "cancelled"))
_NEW_COUNTERS = _counter_checks(
    ("queued", "sending", "sent", "bounced", "failed", "skipped", "cancelled")
)


def _changes_of(table: str) -> Any:
    # Tables that are only referred to need not be read, nor their indexes over expressions.
    return op.batch_alter_table(table, reflect_kwargs={"resolve_fks": False})


def _change_checks(
    changes: Any, table: str, drop: Iterable[str], add: Mapping[str, str] | None = None
) -> None:
    for name in drop:
        changes.drop_constraint(op.f(f"ck_{table}_{name}"), type_="check")
    for name, text in (add or {}).items():
        changes.create_check_constraint(op.f(f"ck_{table}_{name}"), sa.text(text))


def _create_delivery_indexes() -> None:
    """Made anew by hand, so that SQLite's new table has them with their conditions."""
    for name, columns, where, unique in (
        ("ix_deliveries_due", ["mailing_id", "next_attempt_at", "id"], "state = 'queued'", False),
        ("uq_deliveries_one_seal_per_user", ["user_id"], "seal IS NOT NULL", True),
    ):
        op.create_index(
            name,
            "deliveries",
            columns,
            unique=unique,
            sqlite_where=sa.text(where),
            postgresql_where=sa.text(where),
        )


def _create_open_index() -> None:
    where = sa.text("queued + sending > 0")
    op.create_index(
        "ix_mailings_open", "mailings", ["id"], sqlite_where=where, postgresql_where=where
    )


def upgrade() -> None:
    op.create_table(
        "command_runs",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("actor_id", ID, nullable=True),
        sa.Column("actor_login", sa.String(length=320), nullable=False),
        sa.Column(
            "source",
            sa.Enum(
                "window",
                "terminal",
                name="commandsource",
                native_enum=False,
                create_constraint=True,
            ),
            nullable=False,
        ),
        sa.Column(
            "state",
            sa.Enum(
                "planned",
                "done",
                "refused",
                name="commandrunstate",
                native_enum=False,
                create_constraint=True,
            ),
            nullable=False,
        ),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("plan", sa.JSON(), nullable=False),
        sa.Column("outcome", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ran_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state = 'planned') = (ran_at IS NULL)", name=op.f("ck_command_runs_ended_has_time")
        ),
        sa.ForeignKeyConstraint(
            ["actor_id"], ["users.id"], name=op.f("fk_command_runs_actor_id_users")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_command_runs")),
    )
    op.create_index("ix_command_runs_of_actor", "command_runs", ["actor_id", "id"])
    op.create_index("ix_command_runs_by_state", "command_runs", ["state", "id"])

    op.drop_index("ix_mailings_open", "mailings")
    with _changes_of("mailings") as changes:
        changes.add_column(sa.Column("command_run_id", ID, nullable=True))
        changes.create_foreign_key(
            op.f("fk_mailings_command_run_id_command_runs"),
            "command_runs",
            ["command_run_id"],
            ["id"],
        )
        changes.add_column(sa.Column("command_line", sa.Integer(), nullable=True))
        changes.add_column(sa.Column("bounced", sa.Integer(), server_default="0", nullable=False))
        changes.alter_column("created_by_id", existing_type=ID, nullable=True)
        _change_checks(changes, "mailings", _OLD_COUNTERS, _NEW_COUNTERS)
    _create_open_index()
    op.create_index(
        "uq_mailings_command_line", "mailings", ["command_run_id", "command_line"], unique=True
    )
    op.create_table(
        "mailing_customers",
        sa.Column("mailing_id", ID, nullable=False),
        sa.Column("customer_id", ID, nullable=False),
        sa.ForeignKeyConstraint(
            ["customer_id"],
            ["customers.id"],
            name=op.f("fk_mailing_customers_customer_id_customers"),
        ),
        sa.ForeignKeyConstraint(
            ["mailing_id"],
            ["mailings.id"],
            name=op.f("fk_mailing_customers_mailing_id_mailings"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("mailing_id", "customer_id", name=op.f("pk_mailing_customers")),
    )
    op.create_index(
        "ix_mailing_customers_of_customer", "mailing_customers", ["customer_id", "mailing_id"]
    )
    op.execute(
        "INSERT INTO mailing_customers (mailing_id, customer_id) "
        "SELECT id, customer_id FROM mailings WHERE customer_id IS NOT NULL"
    )

    for name in (
        "ix_deliveries_claimed",
        "ix_deliveries_pending",
        "ix_deliveries_due",
        "uq_deliveries_one_seal_per_user",
    ):
        op.drop_index(name, "deliveries")
    with _changes_of("deliveries") as changes:
        changes.add_column(sa.Column("bounced_at", sa.DateTime(timezone=True), nullable=True))
        changes.add_column(
            sa.Column("bounce_reason", sa.String(length=500), server_default="", nullable=False)
        )
        _change_checks(changes, "deliveries", _OLD_DELIVERY_CHECKS, _NEW_DELIVERY_CHECKS)
    _create_delivery_indexes()
    with _changes_of("suppressions") as changes:
        changes.add_column(sa.Column("delivery_id", ID, nullable=True))
        changes.create_foreign_key(
            op.f("fk_suppressions_delivery_id_deliveries"), "deliveries", ["delivery_id"], ["id"]
        )


def downgrade() -> None:
    """What 0001 has no words for becomes the nearest that it has."""
    with _changes_of("suppressions") as changes:
        changes.drop_constraint(op.f("fk_suppressions_delivery_id_deliveries"), type_="foreignkey")
        changes.drop_column("delivery_id")

    for name in ("ix_deliveries_due", "uq_deliveries_one_seal_per_user"):
        op.drop_index(name, "deliveries")
    with _changes_of("deliveries") as changes:
        _change_checks(changes, "deliveries", _NEW_DELIVERY_CHECKS)
    op.execute("UPDATE deliveries SET state = 'sent' WHERE state = 'bounced'")
    with _changes_of("deliveries") as changes:
        changes.drop_column("bounced_at")
        changes.drop_column("bounce_reason")
        _change_checks(changes, "deliveries", (), _OLD_DELIVERY_CHECKS)
    _create_delivery_indexes()
    _create_partial_index("ix_deliveries_claimed", "claim_token", "claim_token IS NOT NULL")
    _create_partial_index("ix_deliveries_pending", "user_id", "pending_hash IS NOT NULL")

    op.drop_table("mailing_customers")
    op.drop_index("uq_mailings_command_line", "mailings")
    op.drop_index("ix_mailings_open", "mailings")
    op.execute("UPDATE mailings SET sent = sent + bounced, bounced = 0")
    op.execute(
        "UPDATE mailings SET created_by_id = (SELECT min(id) FROM users WHERE role = 'landlord') "
        "WHERE created_by_id IS NULL"
    )
    with _changes_of("mailings") as changes:
        _change_checks(changes, "mailings", _NEW_COUNTERS, _OLD_COUNTERS)
        changes.drop_constraint(op.f("fk_mailings_command_run_id_command_runs"), type_="foreignkey")
        changes.drop_column("command_run_id")
        changes.drop_column("command_line")
        changes.drop_column("bounced")
        changes.alter_column("created_by_id", existing_type=ID, nullable=False)
    _create_open_index()
    op.drop_table("command_runs")


def _create_partial_index(name: str, column: str, where: str) -> None:
    op.create_index(
        name,
        "deliveries",
        [column],
        sqlite_where=sa.text(where),
        postgresql_where=sa.text(where),
    )
