"""Statements that the API sends with every call: compiled once, executed by the driver itself.

Executing a short statement through SQLAlchemy costs several times what the database takes for it
(docs/decisions/0029-prepared-statements.md). Whatever runs less than hundreds of times a second
goes through the session or a connection.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap
from typing import Any

import sqlalchemy as sa

Processor = Callable[[Any], Any] | None

_COMMITTING = {"sqlite": ("isolation_level", None, ""), "postgresql": ("autocommit", True, False)}
"""How a driver is told that each statement commits itself: attribute, value, usual value."""


@dataclass(frozen=True, slots=True)
class PreparedStatement:
    """A statement in a driver's words, with the conversions of its values and of its columns.

    Each execution has a connection of the engine's pool for itself and commits by itself. Errors
    are SQLAlchemy's, and a connection that is lost leaves the pool, as with other statements.
    Listeners of the engine's cursor events do not hear of it.
    """

    text: str
    bound: tuple[tuple[str, Processor], ...]
    fixed: Mapping[str, Any]
    columns: tuple[Processor, ...]
    is_positional: bool

    @classmethod
    def compile(cls, statement: sa.Executable, dialect: sa.Dialect) -> PreparedStatement:
        """For a SELECT, or a statement that returns no rows. Raises ValueError for an open IN.

        The number of values of an open IN differs from execution to execution.
        """
        compiled: Any = statement.compile(dialect=dialect)  # type: ignore[attr-defined]
        if compiled.post_compile_params:
            raise ValueError("a prepared statement takes no list of values")
        names = compiled.positiontup if compiled.positional else list(compiled.binds)
        bound = []
        fixed = {}
        for name in names:
            bind = compiled.binds[name]
            process = bind.type.dialect_impl(dialect).bind_processor(dialect)
            bound.append((name, process))
            if not bind.required:
                fixed[name] = bind.effective_value
        columns = tuple(
            column.type.dialect_impl(dialect).result_processor(dialect, None)
            for column in getattr(statement, "selected_columns", ())
        )
        return cls(str(compiled), tuple(bound), fixed, columns, bool(compiled.positional))

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
        given = {**self.fixed, **values}
        converted = starmap(
            lambda name, process: given[name] if process is None else process(given[name]),
            self.bound,
        )
        parameters: Any
        if self.is_positional:
            parameters = tuple(converted)
        else:
            parameters = dict(zip((name for name, _ in self.bound), converted, strict=True))
        loaded: Any = engine.dialect.loaded_dbapi
        mode, each_commits, usual = _COMMITTING[engine.dialect.name]
        pooled: Any = None
        is_lost = False
        try:
            pooled = engine.raw_connection()
            driver = pooled.driver_connection
            setattr(driver, mode, each_commits)
            cursor = driver.execute(self.text, parameters)
            rows = cursor.fetchall() if self.columns else ()
            count = cursor.rowcount
            cursor.close()
        except loaded.Error as error:
            is_lost = pooled is not None and engine.dialect.is_disconnect(
                error, pooled.dbapi_connection, None
            )
            raise sa.exc.DBAPIError.instance(
                self.text,
                None,
                error,
                loaded.Error,
                hide_parameters=True,
                connection_invalidated=is_lost,
                dialect=engine.dialect,
            ) from error
        finally:
            if is_lost:
                pooled.invalidate()
                engine.dispose()  # Where one is lost, the others are.
            elif pooled is not None:
                setattr(pooled.driver_connection, mode, usual)
                pooled.close()
        return rows, count
