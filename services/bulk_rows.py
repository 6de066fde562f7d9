"""Bulk rows: a great many into one table, past the statement machinery.

PostgreSQL takes them by COPY, SQLite by its driver's own executemany: several times as fast as
Core's insert, which builds every statement's parameters in Python.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import sqlalchemy as sa

_BATCH = 10_000


def load_rows(
    connection: sa.Connection,
    table: sa.Table,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
) -> None:
    """Insert `rows`, each with a value for each of `columns`, in the connection's transaction.

    Memory does not grow with the number of rows. Raises the driver's errors, constraints included.
    """
    converted = _converted(connection.dialect, [table.c[name] for name in columns], rows)
    names = ", ".join(columns)
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name == "postgresql":
        with (
            driver.cursor() as cursor,
            cursor.copy(f"COPY {table.name} ({names}) FROM STDIN") as copy,
        ):
            for row in converted:
                copy.write_row(row)
        return
    marks = ", ".join("?" * len(columns))
    insert = f"INSERT INTO {table.name} ({names}) VALUES ({marks})"  # noqa: S608 - names of ours
    while batch := list(islice(converted, _BATCH)):
        driver.executemany(insert, batch)


def _converted(
    dialect: sa.Dialect, columns: Sequence[sa.Column[Any]], rows: Iterable[Sequence[Any]]
) -> Iterable[Sequence[Any]]:
    """The rows as the driver wants them: words of enums, times of the database."""
    processors: list[tuple[int, Callable[[Any], Any]]] = [
        (position, processor)
        for position, column in enumerate(columns)
        if type(column.type) is not sa.String
        and (processor := column.type.dialect_impl(dialect).bind_processor(dialect)) is not None
    ]
    for row in rows:
        values = list(row)
        for position, process in processors:
            values[position] = process(values[position])
        yield values


@contextmanager
def rebuilt_indexes(connection: sa.Connection, table: sa.Table) -> Iterator[None]:
    """Drop the table's plain indexes and build them again afterwards, in the same transaction.

    Worth it where the new rows outnumber the old ones. Nobody else can use the table meanwhile.
    """
    indexes = [index for index in table.indexes if not index.unique]
    for index in indexes:
        index.drop(connection)
    yield
    for index in indexes:
        index.create(connection)
