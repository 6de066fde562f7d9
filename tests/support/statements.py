"""What is asked of the database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from extensions import db


@contextmanager
def noted_statements(about: str = "") -> Iterator[list[tuple[str, Any]]]:
    """Statements as they are sent, with their values: those in which `about` stands."""
    asked: list[tuple[str, Any]] = []

    def note(_c: object, _cursor: object, statement: str, values: Any, *_rest: object) -> None:
        if about in statement:
            asked.append((statement, values))

    sa.event.listen(db.engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        sa.event.remove(db.engine, "before_cursor_execute", note)


def sqlite_plan_of(statement: str, values: Any) -> list[str]:
    """How SQLite goes about it."""
    with db.engine.connect() as connection:
        found = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
        return [each.detail for each in found]


def rows_looked_at(statement: str, values: Any, *tables: str) -> float:
    """How many rows of `tables` PostgreSQL looks at for it. It is executed."""
    with db.engine.connect() as connection:
        explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}"
        (plan,) = connection.exec_driver_sql(explain, values).scalar_one()
        connection.rollback()
    return sum(_looked_at(plan["Plan"], tables))


def _looked_at(node: dict[str, Any], tables: tuple[str, ...]) -> Iterator[float]:
    if node.get("Relation Name") in tables:
        removed = node.get("Rows Removed by Filter", 0)
        yield (node["Actual Rows"] + removed) * node["Actual Loops"]
    for each in node.get("Plans", ()):
        yield from _looked_at(each, tables)
