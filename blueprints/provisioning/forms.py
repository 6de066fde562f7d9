"""The forms of the plan of provisioning."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from wtforms import (
    Field,
    HiddenField,
    IntegerField,
    RadioField,
    SelectField,
    StringField,
)
from wtforms.fields.choices import SelectChoice
from wtforms.validators import AnyOf, InputRequired, NumberRange

from blueprints.forms import DayField, Form, at_most, one_line, strip
from services.countries import is_time_zone, list_time_zones
from services.errors import InvalidInput
from services.provisioning_policy import LONGEST_NOTE, LONGEST_REASON, MOST_RUNS

DAY_NAMES = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

_CLOCK = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])(?::00)?")
_HOW_MANY = f"Runs at once: write a whole number from 1 to {MOST_RUNS}."


class DaysField(Field):  # type: ignore[misc]
    """Check boxes of weekdays; the value is a frozenset of ISO numbers."""

    def process_data(self, value: Any) -> None:
        self.data = frozenset(value or ())

    def process_formdata(self, valuelist: Sequence[Any]) -> None:
        numbers = {str(number): number for number in range(1, 8)}
        self.data = frozenset(numbers[each] for each in valuelist if each in numbers)


class ClockField(Field):  # type: ignore[misc]
    """A time of day; the value is in minutes after midnight."""

    def process_formdata(self, valuelist: Sequence[Any]) -> None:
        found = _CLOCK.fullmatch(str(valuelist[0]).strip()) if valuelist else None
        if found is None:
            self.data = None
            raise ValueError(
                f"{self.label.text}: write a time from 00:00 to 23:59. Midnight is 00:00."
            )
        self.data = int(found[1]) * 60 + int(found[2])

    @property
    def typed(self) -> str:
        """What stands in the field: what was typed, right or wrong."""
        if self.raw_data:
            return str(self.raw_data[0])[:20]
        return write_clock(self.data) if self.data is not None else ""


class _NumberField(IntegerField):  # type: ignore[misc]
    def process_formdata(self, valuelist: Sequence[Any]) -> None:
        try:
            super().process_formdata(valuelist)
        except ValueError:
            raise ValueError(_HOW_MANY) from None


class PlanForm(Form):
    """What every change of the plan carries: the version of it that its author saw."""

    version = HiddenField()

    @property
    def seen(self) -> int:
        """That version. Raises InvalidInput where a page sends none."""
        written = str(self.version.data or "")
        if not re.fullmatch(r"[0-9]{1,9}", written):
            raise InvalidInput("version", "This page is incomplete. Open it again.")
        return int(written)


class WindowForm(PlanForm):
    days = DaysField("Days on which it begins")
    from_time = ClockField("From")
    to_time = ClockField("Until")


class ExceptionForm(PlanForm):
    day = DayField("Date", validators=[InputRequired("Choose a date.")])
    kind = RadioField(
        "On this date",
        choices=[
            SelectChoice("all_day", "It is off-peak all day"),
            SelectChoice("none", "There are no off-peak hours"),
        ],
        default="all_day",
        validate_choice=False,
        validators=[AnyOf(["all_day", "none"], message="Choose what the date is.")],
    )
    note = StringField("Note", filters=[strip], validators=[at_most(LONGEST_NOTE), one_line])


class LimitsForm(PlanForm):
    max_runs = _NumberField(
        "Runs at once",
        validators=[InputRequired(_HOW_MANY), NumberRange(1, MOST_RUNS, message=_HOW_MANY)],
    )
    time_zone = SelectField("Time zone", validate_choice=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        zones = [SelectChoice(each.code, each.name) for each in list_time_zones()]
        chosen = self.time_zone.data or ""
        if is_time_zone(chosen) and chosen not in {each.value for each in zones}:
            zones.append(SelectChoice(chosen, chosen))  # An older name, such as Asia/Calcutta.
        self.time_zone.choices = zones


class PauseForm(Form):
    reason = StringField(
        "Reason",
        filters=[strip],
        validators=[
            InputRequired("Say why, for whoever looks at a request that waits."),
            at_most(LONGEST_REASON),
            one_line,
        ],
    )


def write_clock(minute: int) -> str:
    """Minutes after midnight as a clock shows them: `22:00`."""
    return f"{minute // 60:02}:{minute % 60:02}"
