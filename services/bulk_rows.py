"""Bulk rows: a great many written into one table, past the statement machinery.

Core builds the parameters of every row in Python, which costs more than the database's own work.
SQLite takes rows by its driver's executemany; PostgreSQL takes new ones by COPY, and changes as one
statement over arrays, which is several times as fast as a statement per row.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from itertools import islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

_BATCH = 10_000
_WORD = re.compile(r"[a-z_]+")


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


def update_rows(
    connection: sa.Connection,
    table: sa.Table,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    same: Mapping[str, Any] | None = None,
    computed: Mapping[str, str] | None = None,
    where: Mapping[str, Any] | None = None,
) -> int:
    """Update rows by id; returns how many there were.

    Each of `rows` is an id and a value for each of `columns`. `same` are values that all of them
    get, `computed` are SQL expressions, `where` are columns that must still have these values.
    """
    if not rows:
        return 0
    dialect, conditions = connection.dialect, where or {}
    changes = [f"{name} = {text}" for name, text in (computed or {}).items()]
    times: dict[str, Any] = {}
    for name, value in (same or {}).items():
        if (literal := _literal(value)) is None:
            times[name] = value
        else:
            changes.append(f"{name} = {literal}")
    values = list(_converted(dialect, [table.c[name] for name in ("id", *columns)], rows))
    ((*parameters,),) = _converted(
        dialect,
        [table.c[name] for name in (*times, *conditions)],
        [(*times.values(), *conditions.values())],
    )
    before, behind = parameters[: len(times)], parameters[len(times) :]
    if dialect.name == "postgresql":
        settings = [
            *(f"{name} = v.{name}" for name in columns),
            *(f"{name} = {_typed(table.c[name])}" for name in times),
            *changes,
        ]
        result = connection.exec_driver_sql(
            f"UPDATE {table.name} SET {', '.join(settings)} "  # noqa: S608 - names of ours
            f"FROM unnest({_arrays(table, ('id', *columns))}) AS v ({', '.join(('id', *columns))}) "
            f"WHERE {table.name}.id = v.id"
            # In coalesce, or PostgreSQL would go by these, which it takes for the rarer.
            + "".join(f" AND coalesce({table.name}.{name} = %s, false)" for name in conditions),
            (*before, *map(list, zip(*values, strict=True)), *behind),
        )
        return result.rowcount
    settings = [*(f"{name} = ?" for name in (*columns, *times)), *changes]
    driver: Any = connection.connection.driver_connection
    cursor = driver.executemany(
        f"UPDATE {table.name} SET {', '.join(settings)} WHERE id = ?"  # noqa: S608
        + "".join(f" AND {name} = ?" for name in conditions),
        [(*row[1:], *before, row[0], *behind) for row in values],
    )
    return int(cursor.rowcount)


def _literal(value: Any) -> str | None:
    """A constant as SQL, which saves a parameter for every row; None for what needs one."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, StrEnum) and _WORD.fullmatch(value):
        return f"'{value.value}'"
    return None


def find_by_index(connection: sa.Connection) -> None:
    """Have PostgreSQL look up a chunk's rows one by one for the rest of the transaction.

    It takes a large table that it knows little of for a small one, and would read all of it, or
    compare every row in hand with every other, to find the thousand that an index leads to.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(_BY_INDEX)


_BY_INDEX = "SELECT " + ", ".join(
    f"set_config('{name}', 'off', true)"
    for name in ("enable_seqscan", "enable_hashjoin", "enable_mergejoin", "enable_material", "jit")
)


def upsert_rows(
    connection: sa.Connection,
    table: sa.Table,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
) -> None:
    """Insert rows, or update those whose first column, the primary key, is there already."""
    if not rows:
        return
    values = list(_converted(connection.dialect, [table.c[name] for name in columns], rows))
    names = ", ".join(columns)
    changes = ", ".join(f"{name} = excluded.{name}" for name in columns[1:])
    conflict = f"ON CONFLICT ({columns[0]}) DO UPDATE SET {changes}"
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(
            f"INSERT INTO {table.name} ({names}) "  # noqa: S608 - names of ours
            f"SELECT * FROM unnest({_arrays(table, columns)}) {conflict}",
            tuple(map(list, zip(*values, strict=True))),
        )
        return
    marks = ", ".join("?" * len(columns))
    driver: Any = connection.connection.driver_connection
    driver.executemany(
        f"INSERT INTO {table.name} ({names}) VALUES ({marks}) {conflict}",  # noqa: S608
        values,
    )


def among(
    connection: sa.Connection, column: sa.ColumnElement[Any], ids: Iterable[int]
) -> sa.ColumnElement[bool]:
    """`column IN ids` as one parameter, where IN would build one for each of hundreds."""
    return among_ids(connection.dialect.name, column, ids_parameter(connection, ids))


def among_ids(dialect: str, column: sa.ColumnElement[Any], *value: Any) -> sa.ColumnElement[bool]:
    """The same for a statement that is kept: give it `ids_parameter` as the parameter `ids`."""

    def parameter(kind: Any) -> sa.BindParameter[Any]:
        if value:
            return sa.bindparam("ids", value[0], type_=kind, unique=True)
        return sa.bindparam("ids", type_=kind)

    if dialect == "postgresql":
        return column == sa.any_(parameter(sa.ARRAY(sa.BigInteger)))
    listed = sa.func.json_each(parameter(sa.String)).table_valued("value")
    return column.in_(sa.select(listed.c.value))


def ids_parameter(connection: sa.Connection, ids: Iterable[int]) -> Any:
    wanted = list(ids)
    return wanted if connection.dialect.name == "postgresql" else json.dumps(wanted)


def _arrays(table: sa.Table, columns: Sequence[str]) -> str:
    # Binary, %b: as text every element is escaped, which takes ten times as long.
    return ", ".join(f"{_typed(table.c[name], '%b')}[]" for name in columns)


def _typed(column: sa.Column[Any], mark: str = "%s") -> str:
    """A parameter with its type; texts without their length, which a cast would cut to."""
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    kind = "TEXT" if isinstance(column.type, sa.String) else column.type.compile(dialect)
    return f"{mark}::{kind}"


def _converted(
    dialect: sa.Dialect, columns: Sequence[sa.Column[Any]], rows: Iterable[Sequence[Any]]
) -> Iterable[Sequence[Any]]:
    """The rows as the driver wants them: words of enums, times of the database."""
    processors: list[tuple[int, Callable[[Any], Any]]] = [
        (position, _remembering(processor))
        for position, column in enumerate(columns)
        if type(column.type) is not sa.String
        and (processor := column.type.dialect_impl(dialect).bind_processor(dialect)) is not None
    ]
    if not processors:
        yield from rows
        return
    for row in rows:
        values = list(row)
        for position, process in processors:
            values[position] = process(values[position])
        yield values


def _remembering(process: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The same for a run of rows that share one object, such as the time of a chunk."""
    last: list[Any] = [None, process(None)]

    def convert(value: Any) -> Any:
        if value is not last[0]:
            last[:] = value, process(value)
        return last[1]

    return convert


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
