"""Bulk rows: a great many written into one table, past the statement machinery.

Core builds the parameters of every row in Python, which costs more than the database's own work.
New rows go in by the driver's executemany on SQLite and by COPY on PostgreSQL. Changes are one
statement over a list of rows, JSON there and arrays here: a statement per row takes twice as long,
and several times as long on PostgreSQL. What all rows have in common is not in the list.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from functools import cache
from itertools import islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from services.breaths import paced, pieces

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
    """Update rows by their key of one column, most often the id; returns how many there were.

    Each of `rows` is a key and a value for each of `columns`. `same` are values that all of them
    get, `computed` are SQL expressions, `where` are columns that must still have these values.
    """
    if not rows:
        return 0
    ids, *cells = zip(*rows, strict=True)
    given, conditions = dict(same or {}), where or {}
    own: dict[str, Sequence[Any]] = {}
    for name, values in zip(columns, cells, strict=True):
        if values.count(values[0]) == len(values):
            given[name] = values[0]
        else:
            own[name] = values
    changes = [f"{name} = {text}" for name, text in (computed or {}).items()]
    parameters: dict[str, Any] = {}
    for name, value in given.items():
        if (literal := _literal(value)) is None:
            parameters[name] = value
        else:
            changes.append(f"{name} = {literal}")
    dialect = connection.dialect
    statement = _update_statement(
        dialect.name, table, tuple(own), tuple(parameters), tuple(changes), tuple(conditions)
    )

    def converted(values: Mapping[str, Sequence[Any]]) -> list[Sequence[Any]]:
        return [_converted_values(dialect, table.c[name], each) for name, each in values.items()]

    lists = [ids, *converted(own)]
    before = [each for (each,) in converted({name: (value,) for name, value in parameters.items()})]
    behind = [each for (each,) in converted({name: (value,) for name, value in conditions.items()})]
    if dialect.name == "postgresql":
        result = connection.exec_driver_sql(statement, (*before, *map(list, lists), *behind))
        return result.rowcount
    driver: Any = connection.connection.driver_connection
    if _fits_json(table, own):
        together = lists[0] if not own else list(zip(*lists, strict=True))
        return sum(
            driver.execute(statement, (*before, json.dumps(piece), *behind)).rowcount
            for piece in pieces(together)
        )
    _, *others = lists
    changed = zip(*others, strict=True)
    given_rows = (
        (*before, *each, row_id, *behind) for row_id, each in zip(ids, changed, strict=True)
    )
    return int(driver.executemany(statement, paced(given_rows)).rowcount)


@cache
def _update_statement(
    dialect: str,
    table: sa.Table,
    own: tuple[str, ...],
    parameters: tuple[str, ...],
    changes: tuple[str, ...],
    conditions: tuple[str, ...],
) -> str:
    """The statement that changes many rows: on SQLite one by one only where JSON cannot say it."""
    name = table.name
    (key,) = table.primary_key.columns.keys()
    if dialect == "postgresql":
        columns = (key, *own)
        settings = [f"{each} = {_typed(table.c[each])}" for each in parameters]
        settings += [f"{each} = v.{each}" for each in own]
        source = f"FROM unnest({_arrays(table, columns)}) AS v ({', '.join(columns)})"
        which = f"{name}.{key} = v.{key}"
        # In coalesce, or PostgreSQL would go by these, which it takes for the rarer.
        held = [f"coalesce({name}.{each} = %s, false)" for each in conditions]
    else:
        settings = [f"{each} = ?" for each in parameters]
        held = [f"+{name}.{each} = ?" for each in conditions]  # With a plus, by no index.
        if not _fits_json(table, own):
            settings += [f"{each} = ?" for each in own]
            source, which = "", f"{key} = ?"
        elif own:
            settings += [f"{each} = {_in_json(at)}" for at, each in enumerate(own, 1)]
            source, which = "FROM json_each(?) AS v", f"{name}.{key} = {_in_json(0)}"
        else:
            source, which = "", f"{key} IN (SELECT value FROM json_each(?))"  # noqa: S608 - ours
    return (
        f"UPDATE {name} SET {', '.join((*settings, *changes))} {source} "  # noqa: S608 - names of ours
        f"WHERE {' AND '.join((which, *held))}"
    )


def _in_json(position: int) -> str:
    return f"json_extract(v.value, '$[{position}]')"


def _fits_json(table: sa.Table, columns: Iterable[str]) -> bool:
    """Whether JSON can carry the columns' values to SQLite: all but bytes."""
    return not any(isinstance(table.c[name].type, sa.LargeBinary) for name in columns)


def _literal(value: Any) -> str | None:
    """A constant as SQL, which saves a parameter for every row; None for what needs one."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, StrEnum) and _WORD.fullmatch(value):
        return f"'{value.value}'"
    return None


def analyse(connection: sa.Connection, table: sa.Table) -> None:
    """Have PostgreSQL count rows that were written by the thousand.

    Until its own turn comes it plans as if none of them existed, and looks through all of them for
    each, or takes the wrong one of several indexes, which `find_by_index` does not prevent.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text(f"ANALYZE {table.name}"))


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
    dialect = connection.dialect
    cells = [
        _converted_values(dialect, table.c[name], values)
        for name, values in zip(columns, zip(*rows, strict=True), strict=True)
    ]
    statement = _upsert_statement(dialect.name, table, tuple(columns))
    if dialect.name == "postgresql":
        connection.exec_driver_sql(statement, tuple(map(list, cells)))
        return
    driver: Any = connection.connection.driver_connection
    driver.executemany(statement, paced(zip(*cells, strict=True)))


@cache
def _upsert_statement(dialect: str, table: sa.Table, columns: tuple[str, ...]) -> str:
    names = ", ".join(columns)
    changes = ", ".join(f"{name} = excluded.{name}" for name in columns[1:])
    source = (
        f"SELECT * FROM unnest({_arrays(table, columns)})"  # noqa: S608 - names of ours
        if dialect == "postgresql"
        else f"VALUES ({', '.join('?' * len(columns))})"
    )
    return (
        f"INSERT INTO {table.name} ({names}) {source} "
        f"ON CONFLICT ({columns[0]}) DO UPDATE SET {changes}"
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
    """The rows as the driver wants them."""
    processors = [
        (position, processor)
        for position, column in enumerate(columns)
        if (processor := _processor(dialect, column)) is not None
    ]
    if not processors:
        yield from rows
        return
    for row in rows:
        values = list(row)
        for position, process in processors:
            values[position] = process(values[position])
        yield values


def _converted_values(
    dialect: sa.Dialect, column: sa.Column[Any], values: Sequence[Any]
) -> Sequence[Any]:
    """Values of one column as the driver wants them."""
    processor = _processor(dialect, column)
    return values if processor is None else list(map(processor, values))


def _processor(dialect: sa.Dialect, column: sa.Column[Any]) -> Callable[[Any], Any] | None:
    """What turns words of enums and times into what the database keeps; None for what it keeps."""
    if type(column.type) is sa.String:
        return None
    processor = column.type.dialect_impl(dialect).bind_processor(dialect)
    return None if processor is None else _remembering(processor)


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
