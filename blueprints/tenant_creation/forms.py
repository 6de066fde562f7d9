"""What the pages of a request send, and times by the provider's clocks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from wtforms import (
    BooleanField,
    Field,
    HiddenField,
    IntegerField,
    RadioField,
    StringField,
    TextAreaField,
)
from wtforms.fields.choices import SelectChoice
from wtforms.validators import InputRequired, Length, NumberRange, Optional, ValidationError
from wtforms.widgets import HiddenInput

from blueprints.forms import LARGEST_ID, Form, IdsField
from services.errors import InvalidInput
from services.request_actions import MOST_AT_ONCE, Start

_LONGEST_CHOSEN = 40 * MOST_AT_ONCE


class LocalTimeField(StringField):  # type: ignore[misc]
    """A day and a time by the clocks of `zone`; `moment` is the aware time that was typed.

    A time that comes twice, when clocks are put back, means the first of the two.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.zone: ZoneInfo = ZoneInfo("UTC")
        self.moment: datetime | None = None

    def pre_validate(self, form: Any) -> None:
        text = (self.data or "").strip()
        if not text:
            return
        try:
            naive = datetime.fromisoformat(text)
            moment = naive.replace(tzinfo=self.zone)
            back = moment.astimezone(UTC).astimezone(self.zone)
        except (ValueError, OverflowError):
            raise ValidationError(
                "This is no day and time. Write them like 2026-03-09 22:30."
            ) from None
        if naive.tzinfo is not None:
            raise ValidationError("Leave out the time zone: it is " + self.zone.key + ".")
        if back.replace(tzinfo=None) != naive:
            raise ValidationError(
                f"{naive:%H:%M} is skipped on {naive.day} {naive:%B %Y}, because clocks in "
                f"{self.zone.key} are put forward. Choose a time before or after that."
            )
        self.moment = moment


STARTS = [
    SelectChoice(Start.NOW.value, "Now"),
    SelectChoice(Start.OFF_PEAK.value, "In the next off-peak hours"),
    SelectChoice(Start.AT.value, "At a time"),
]


class ActionForm(Form):
    """One form for every action: each page shows the fields that its action has."""

    version = IntegerField(
        widget=HiddenInput(), validators=[InputRequired(), NumberRange(1, LARGEST_ID)]
    )
    reason = TextAreaField("Reason")
    start = RadioField("When provisioning starts", choices=STARTS, validators=[Optional()])
    at = LocalTimeField("Day and time", validators=[Length(max=40)])

    def chosen_start(self) -> Start | None:
        return Start(self.start.data) if self.start.data else None


class SelectionForm(Form):
    """The form around the list. `here` is its query; `all` means whatever that shows."""

    selected = IdsField()
    all = BooleanField()
    here = StringField(validators=[Length(max=2000)])
    action = StringField(validators=[Length(max=40)])


class ChosenField(Field):  # type: ignore[misc]
    """Requests with the version that was seen, as `id.version` with commas between."""

    widget = HiddenInput()
    data: dict[int, int]

    def process_formdata(self, valuelist: Sequence[Any]) -> None:
        self.data = parse_chosen(",".join(valuelist))

    def process_data(self, value: Any) -> None:
        self.data = dict(value or {})

    def _value(self) -> str:
        return ",".join(f"{request_id}.{version}" for request_id, version in self.data.items())


def parse_chosen(text: str) -> dict[int, int]:
    """Versions by id. Raises InvalidInput for what is malformed, or too long."""
    chosen = {}
    refused = InvalidInput("requests", "This page is incomplete. Choose the requests again.")
    if len(text) > _LONGEST_CHOSEN:
        raise refused
    for part in filter(None, text.split(",")):
        request_id, _, version = part.partition(".")
        if not all(
            len(word) < 20 and word.isascii() and word.isdecimal() for word in (request_id, version)
        ):
            raise refused
        if not (0 < int(request_id) <= LARGEST_ID and 0 < int(version) <= LARGEST_ID):
            raise refused
        chosen[int(request_id)] = int(version)
    return chosen


class ManyForm(Form):
    """What the confirmation of a bulk action sends."""

    chosen = ChosenField()
    back = HiddenField(validators=[Length(max=2000)])
    start = RadioField("When provisioning starts", choices=STARTS, validators=[Optional()])
    at = LocalTimeField("Day and time", validators=[Length(max=40)])

    def chosen_start(self) -> Start | None:
        return Start(self.start.data) if self.start.data else None
