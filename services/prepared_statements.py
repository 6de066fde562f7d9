"""Statements that the API sends with every call: compiled once, executed by the driver itself.

Executing a short statement through SQLAlchemy costs several times what the database takes for it
(docs/decisions/0029-prepared-statements.md). Whatever runs less than hundreds of times a second
goes through the session or a connection.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

Processor = Callable[[Any], Any] | None

_COMMITTING = {"sqlite": ("isolation_level", None, ""), "postgresql": ("autocommit", True, False)}
"""How a driver is told that each statement commits itself: attribute, value, usual value."""


@dataclass(frozen=True, slots=True)
class PreparedStatement:
    """A statement in a driver's words, with the conversions of its values and of its columns.

    Each execution has a connection of the engine's pool for itself and commits by itself. Errors
    are SQLAlchemy's, as with other statements; the connection is closed then, and with the first
    that is lost the whole pool is made anew. Listeners of the engine's cursor events do not hear
    of it.
    """

    text: str
    order: tuple[str, ...] | None
    """The names of the values where the driver wants them by place."""
    given: tuple[tuple[str, Processor], ...]
    fixed: Mapping[str, Any]
    """Converted already."""
    columns: tuple[Processor, ...]

    @classmethod
    def compile(cls, statement: sa.Executable, dialect: sa.Dialect) -> PreparedStatement:
        """For a SELECT, or a statement that returns no rows. Raises ValueError for an open IN.

        The number of values of an open IN differs from execution to execution.
        """
        compiled: Any = statement.compile(dialect=dialect)  # type: ignore[attr-defined]
        if compiled.post_compile_params or compiled.literal_execute_params:
            raise ValueError("a prepared statement takes no list of values")
        if compiled.positional:
            names = compiled.positiontup
        else:
            names = list(dict.fromkeys(compiled.bind_names.values()))
        given = []
        fixed = {}
        for name in names:
            bind = compiled.binds[name]
            process = bind.type.dialect_impl(dialect).bind_processor(dialect)
            if bind.required:
                given.append((name, process))
            else:
                value = bind.effective_value
                fixed[name] = value if process is None else process(value)
        columns = tuple(
            column.type.dialect_impl(dialect).result_processor(dialect, None)
            for column in getattr(statement, "selected_columns", ())
        )
        order = tuple(names) if compiled.positional else None
        return cls(str(compiled), order, tuple(given), fixed, columns)

    def fetch(self, engine: sa.Engine, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """The rows of a SELECT, each as a tuple in the order of its columns."""
        rows, _ = self._run(engine, values)
        for_row = [(at, process) for at, process in enumerate(self.columns) if process is not None]
        found = []
        for row in rows:
            converted = list(row)
            for at, process in for_row:
                converted[at] = process(converted[at])
            found.append(tuple(converted))
        return found

    def execute(self, engine: sa.Engine, values: Mapping[str, Any]) -> int:
        """Execute what returns no rows; returns how many it has written."""
        _, count = self._run(engine, values)
        return count

    def _run(
        self, engine: sa.Engine, values: Mapping[str, Any]
    ) -> tuple[Sequence[Sequence[Any]], int]:
        named = dict(self.fixed)
        for name, process in self.given:
            named[name] = values[name] if process is None else process(values[name])
        parameters = named if self.order is None else [named[name] for name in self.order]
        loaded: Any = engine.dialect.loaded_dbapi
        mode, each_commits, usual = _COMMITTING[engine.dialect.name]
        pool = engine.pool
        pooled: Any = None
        try:
            pooled = engine.raw_connection()
            driver = pooled.driver_connection
            setattr(driver, mode, each_commits)
            cursor = driver.execute(self.text, parameters)
            rows = cursor.fetchall() if self.columns else ()
            count = cursor.rowcount
            cursor.close()
            setattr(driver, mode, usual)
        except BaseException as error:
            is_lost = _is_lost(engine, pooled, error)
            if pooled is not None:
                pooled.invalidate()  # Nobody knows what it was in the middle of.
            if is_lost and engine.pool is pool:
                engine.dispose()  # Where one is lost, the others are.
            if not isinstance(error, loaded.Error):
                raise
            raise sa.exc.DBAPIError.instance(
                self.text,
                None,
                error,
                loaded.Error,
                hide_parameters=True,
                connection_invalidated=is_lost,
                dialect=engine.dialect,
            ) from error
        pooled.close()
        return rows, count


def _is_lost(engine: sa.Engine, pooled: Any, error: BaseException) -> bool:
    loaded: Any = engine.dialect.loaded_dbapi
    if pooled is None or not isinstance(error, loaded.Error):
        return False
    lost: bool = engine.dialect.is_disconnect(error, pooled.dbapi_connection, None)
    return lost
