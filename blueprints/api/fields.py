"""The base of what the API takes and gives, and the types of its fields."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer

from models import is_storable
from services.paging import decode_cursor

T = TypeVar("T")

LARGEST_ID = 2**63 - 1


class Given(BaseModel):
    """What a caller sends: unknown fields are refused by name, types are not guessed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Nothing(Given):
    """An empty object."""


class Shown(BaseModel):
    """What the API answers; made from rows or from keywords."""

    model_config = ConfigDict(
        from_attributes=True, frozen=True, json_schema_serialization_defaults_required=True
    )


def _one_line(text: str) -> str:
    if not is_storable(text) or not text.isprintable():
        raise ValueError("It contains a character that cannot be seen.")
    return text.strip()


def _paragraphs(text: str) -> str:
    if not is_storable(text) or not all(each.isprintable() or each in "\n\t" for each in text):
        raise ValueError("It contains a character that cannot be seen.")
    return text.strip()


Line = Annotated[str, AfterValidator(_one_line)]
"""A text without line breaks or control characters."""

Paragraphs = Annotated[str, AfterValidator(_paragraphs)]

RowId = Annotated[int, Field(ge=1, le=LARGEST_ID)]

Utc = Annotated[
    datetime,
    PlainSerializer(lambda at: at.isoformat(timespec="milliseconds").replace("+00:00", "Z")),
    Field(json_schema_extra={"format": "date-time"}),
]
"""A time in UTC, as `2026-11-21T09:30:00.000Z`."""


def _known_cursor(text: str) -> str:
    if text and decode_cursor(text) is None:
        raise ValueError("It is none that a list of this API has given.")
    return text


class ListQuery(BaseModel):
    """What every list can be asked for; lists with filters add theirs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cursor: Annotated[str, Field(max_length=1000), AfterValidator(_known_cursor)] = Field(
        default="", description="Where to go on: `next` of the page before."
    )
    limit: int = Field(default=25, ge=1, le=100, description="Rows per page.")


class Listing(Shown, Generic[T]):
    """A page of a list. `next` is the cursor of the page after it, null on the last one."""

    items: list[T]
    next: str | None = None
