"""Permission profiles of supervisors

Revision ID: 0009
Revises: 0008
Create Date: 2026-11-21 14:50:00
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_CHECKS = {
    "profile_by_role": "profile_id IS NULL OR role = 'supervisor'",
    "supervisor_has_profile": (
        "role <> 'supervisor' OR profile_id IS NOT NULL OR status = 'deleted'"
    ),
}


def _changes(table: str) -> Any:
    # Resolving would load the tables that are referred to, in an order that cannot be.
    return op.batch_alter_table(table, reflect_kwargs={"resolve_fks": False})


def upgrade() -> None:
    op.create_table(
        "permission_profiles",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("customer_id", _ID, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column(
            "name_key",
            sa.String(length=260).with_variant(sa.String(length=260, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("permissions", sa.JSON(), nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("name <> ''", name=op.f("ck_permission_profiles_name_given")),
        sa.ForeignKeyConstraint(
            ["customer_id"],
            ["customers.id"],
            name=op.f("fk_permission_profiles_customer_id_customers"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_permission_profiles")),
        sa.UniqueConstraint(
            "customer_id", "id", name=op.f("uq_permission_profiles_customer_id_id")
        ),
        sa.UniqueConstraint(
            "customer_id", "name_key", name=op.f("uq_permission_profiles_customer_id_name_key")
        ),
    )
    op.add_column("users", sa.Column("profile_id", _ID, nullable=True))
    _give_supervisors_a_profile()
    indexes = _put_by_indexes()
    with _changes("users") as changes:
        changes.create_foreign_key(
            "fk_users_profile_of_customer",
            "permission_profiles",
            ["customer_id", "profile_id"],
            ["customer_id", "id"],
        )
        for name, text in _CHECKS.items():
            changes.create_check_constraint(op.f(f"ck_users_{name}"), sa.text(text))
    _make_indexes_again(indexes)
    op.create_index(
        "ix_users_supervisors",
        "users",
        ["customer_id", "profile_id", "id"],
        sqlite_where=sa.text("profile_id IS NOT NULL"),
        postgresql_where=sa.text("profile_id IS NOT NULL"),
    )


def downgrade() -> None:
    """Supervisors keep their role, which without a profile allows nothing."""
    op.drop_index("ix_users_supervisors", "users")
    indexes = _put_by_indexes()
    with _changes("users") as changes:
        for name in _CHECKS:
            changes.drop_constraint(op.f(f"ck_users_{name}"), type_="check")
        changes.drop_constraint("fk_users_profile_of_customer", type_="foreignkey")
        changes.drop_column("profile_id")
    _make_indexes_again(indexes)
    op.drop_table("permission_profiles")


def _give_supervisors_a_profile() -> None:
    """Those who are supervisors already go on without any permission, as until now."""
    connection = op.get_bind()
    users = sa.table(
        "users",
        *(sa.column(name) for name in ("customer_id", "profile_id", "role", "status")),
    )
    profiles = sa.table(
        "permission_profiles",
        sa.column("id"),
        sa.column("customer_id"),
        sa.column("name"),
        sa.column("name_key"),
        sa.column("permissions", sa.JSON()),
        sa.column("created_at", sa.DateTime(timezone=True)),
    )
    supervisors = sa.and_(users.c.role == "supervisor", users.c.status != "deleted")
    found = connection.scalars(sa.select(users.c.customer_id).where(supervisors).distinct()).all()
    for customer_id in found:
        made = sa.insert(profiles).values(
            customer_id=customer_id,
            name="Supervisors",
            name_key="supervisors",
            permissions=[],
            created_at=datetime.now(UTC),
        )
        profile_id = connection.scalar(made.returning(profiles.c.id))
        connection.execute(
            sa.update(users)
            .where(supervisors, users.c.customer_id == customer_id)
            .values(profile_id=profile_id)
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
