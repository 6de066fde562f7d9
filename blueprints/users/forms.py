"""What the Users tab is sent: ticked boxes and where the reader goes next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wtforms import Field, StringField
from wtforms.validators import Length

from blueprints.forms import Form
from services.errors import InvalidInput

LARGEST_ID = 2**63 - 1
MOST_IDS = 500
"""More than the largest page shows and the largest selection may mail."""


class IdsField(Field):  # type: ignore[misc]
    """Ids of rows, from repeated values or from one with commas between."""

    data: list[int]

    def process_formdata(self, valuelist: Sequence[Any]) -> None:
        self.data = parse_ids(valuelist)

    def process_data(self, value: Any) -> None:
        self.data = list(value or [])


def parse_ids(values: Sequence[str]) -> list[int]:
    """The ids in `values`, each once. Raises InvalidInput for what is none, or for too many."""
    words = [word for value in values for word in value.split(",") if word]
    if len(words) > MOST_IDS:
        raise InvalidInput("users", f"{len(words):,} users were named. {MOST_IDS} is the most.")
    if not all(len(word) < 20 and word.isascii() and word.isdecimal() for word in words):
        raise InvalidInput("users", "A user named in this request is not one.")
    ids = dict.fromkeys(int(word) for word in words)
    if any(not 0 < each <= LARGEST_ID for each in ids):
        raise InvalidInput("users", "A user named in this request is not one.")
    return list(ids)


class SelectionForm(Form):
    """The form around the list. `at` is the list's query, `go` the query that comes next.

    `go` is "search" when the reader searches; what for is in `q`.
    """

    selected = IdsField()
    shown = IdsField()
    at = StringField(validators=[Length(max=2000)])
    go = StringField(validators=[Length(max=2000)])
    q = StringField(validators=[Length(max=200)])
    action = StringField(validators=[Length(max=40)])
