"""Transactions on Core connections, repeated when the database asks for it; upserts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError

from extensions import db

T = TypeVar("T")

_RETRY_STATES = {"40001", "40P01"}  # serialization failure, deadlock


def run_transaction(work: Callable[[sa.Connection], T], attempts: int = 5) -> T:
    """Run `work(connection)` in one transaction and commit it.

    A deadlock, a serialization failure or a locked SQLite file repeats the whole of `work`, which
    must therefore keep nothing from a failed attempt.
    """
    for attempt in range(1, attempts + 1):
        try:
            with db.engine.begin() as connection:
                return work(connection)
        except DBAPIError as error:
            if attempt == attempts or not _is_worth_repeating(error):
                raise
            time.sleep(0.02 * 2**attempt)
    raise AssertionError("unreachable")


def run_session_transaction(work: Callable[[], T], attempts: int = 5) -> T:
    """Run `work()`, which commits the session, and repeat it as `run_transaction` does."""
    for attempt in range(1, attempts + 1):
        try:
            return work()
        except DBAPIError as error:
            db.session.rollback()
            if attempt == attempts or not _is_worth_repeating(error):
                raise
            time.sleep(0.02 * 2**attempt)
    raise AssertionError("unreachable")


def work_without_transaction() -> None:
    """Have the session work statement by statement: each sees its own moment and commits itself.

    For reading, and for work that is one statement; it changes nothing in a transaction that has
    begun. It spares PostgreSQL the ways there and back for BEGIN and its end, and the planning of
    every statement: with a transaction that ends by ROLLBACK, its driver has what it prepared
    forgotten. SQLite has none of this to spare.
    """
    if db.engine.dialect.name == "postgresql" and not db.session().in_transaction():
        db.session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})


def upsert(table: sa.Table) -> Any:
    """An INSERT of the current database that knows ON CONFLICT."""
    dialect = postgresql if db.engine.dialect.name == "postgresql" else sqlite
    return dialect.insert(table)


def _is_worth_repeating(error: DBAPIError) -> bool:
    if getattr(error.orig, "sqlstate", None) in _RETRY_STATES:
        return True
    return getattr(error.orig, "sqlite_errorname", "").startswith("SQLITE_BUSY")
