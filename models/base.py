"""The declarative base, column types and key functions that every model shares."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, mapped_column


class UtcDateTime(sa.TypeDecorator[datetime]):
    """An aware UTC time; refuses naive ones. SQLite keeps it as text that sorts by time."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("naive datetime")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def key_type(length: int) -> sa.String:
    """A string compared byte by byte on both databases, so that a prefix is an index range."""
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def word_type(enum: type[StrEnum], name: str = "") -> sa.Enum:
    """A StrEnum kept as its value, with a CHECK of the words.

    The CHECK is named after the enum, or `name` where a table has two columns of it.
    """
    return sa.Enum(
        enum,
        native_enum=False,
        create_constraint=True,
        length=max(len(word.value) for word in enum),
        values_callable=lambda words: [word.value for word in words],
        validate_strings=True,
        name=name or enum.__name__.lower(),
    )


class Base(DeclarativeBase):
    metadata = sa.MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: UtcDateTime(),
        dict[str, Any]: sa.JSON(),
    }


ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
"""The type of ids; SQLite counts up by itself in no other column than an INTEGER."""

IntPk = Annotated[int, mapped_column(ID, primary_key=True, autoincrement=True)]


def table_of(model: type[Base]) -> sa.Table:
    """The table of a model, for statements that go past the ORM."""
    table = model.__table__
    if not isinstance(table, sa.Table):
        raise TypeError(f"{model.__name__} is not mapped to a table")
    return table


def utcnow() -> datetime:
    return datetime.now(UTC)


def fold(text: str) -> str:
    """The key under which `text` is unique and found: NFKC, casefolded, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def is_storable(text: str) -> bool:
    """Whether both databases keep `text`: neither a NUL nor half a surrogate pair is in it."""
    if "\0" in text:
        return False
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


LONG_AGO = "1970-01-01 00:00:00.000000"
"""Stands for "never" where a list sorts by a time that may be missing.

With six digits, because SQLite keeps times as text and compares them so.
"""


def never_first(column: str) -> sa.ColumnElement[datetime]:
    """`column` with "never" as the earliest time, as its index has it."""
    return sa.literal_column(f"coalesce({column}, '{LONG_AGO}')")


def prefix_range(prefix: str) -> tuple[str, str]:
    """Lowest key that starts with `prefix`, and the lowest that sorts after all of them."""
    return prefix, prefix + "\U0010ffff"
