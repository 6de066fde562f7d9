"""Alembic's environment: the application's engine and metadata."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context
from flask import current_app

from extensions import db
from models.base import UtcDateTime

target_metadata = db.metadata


def render_item(kind: str, item: object, _context: object) -> str | bool:
    """Write our own types as what they are in the database, so that migrations outlive them."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    return False


def run_migrations() -> None:
    if context.is_offline_mode():
        context.configure(
            url=current_app.config["SQLALCHEMY_DATABASE_URI"],
            target_metadata=target_metadata,
            literal_binds=True,
        )
        with context.begin_transaction():
            context.run_migrations()
        return
    with db.engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            # A table that is made anew would take what refers to it along.
            connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
            # Its driver leaves DDL outside transactions unless one is begun by hand.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        context.configure(
            connection=connection,
            target_metadata=target_metadata,
            render_item=render_item,
            compare_type=True,
            render_as_batch=True,
            transactional_ddl=True,
        )
        with context.begin_transaction():
            context.run_migrations()
        if connection.dialect.name == "sqlite":
            _check_foreign_keys(connection)
        connection.commit()
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA foreign_keys = ON")


def _check_foreign_keys(connection: sa.Connection) -> None:
    """Refuse the whole migration when a row would refer to nothing."""
    if broken := connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall():
        raise RuntimeError(f"{len(broken)} rows refer to rows that are gone, first {broken[0]}")


run_migrations()
