"""The plan in words and bars, as its page shows it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime

from blueprints.provisioning.forms import DAY_NAMES, write_clock
from services import off_peak
from services.notification_texts import format_moment
from services.off_peak import Stretch, Window
from services.provisioning_policy import Day, Policy

WIDTH = 240
"""Of a day's bar, in the units of its drawing: ten for an hour."""


@dataclass(frozen=True, slots=True)
class DayLine:
    """A date with its off-peak hours in words, and as (left, width) of WIDTH."""

    date: date
    label: str
    hours: str
    bars: list[tuple[float, float]]
    note: str


def describe_days(days: Collection[Day], policy: Policy) -> list[DayLine]:
    """A line for each date, the first of which is today."""
    return [_describe_day(day, policy, is_today=not number) for number, day in enumerate(days)]


def _describe_day(day: Day, policy: Policy, *, is_today: bool) -> DayLine:
    length = day.whole.end - day.whole.start
    bars = [
        (
            round((each.start - day.whole.start) / length * WIDTH, 2),
            round((each.end - each.start) / length * WIDTH, 2),
        )
        for each in day.hours
    ]
    label = f"{DAY_NAMES[day.date.weekday()]} {day.date.day} {day.date:%B}"
    return DayLine(
        date=day.date,
        label=f"{label}, today" if is_today else label,
        hours=_hours(day, policy),
        bars=bars,
        note=_note(day),
    )


def _hours(day: Day, policy: Policy) -> str:
    if not day.hours:
        return "None"
    if day.hours == [day.whole]:
        return "All day"
    return ", ".join(
        f"{_clock(each.start, policy)} to {_clock(each.end, policy, day.whole)}"
        for each in day.hours
    )


def _clock(moment: datetime, policy: Policy, whole: Stretch | None = None) -> str:
    if whole is not None and moment == whole.end:
        return "24:00"
    return f"{moment.astimezone(policy.zone):%H:%M}"


def _note(day: Day) -> str:
    hours = (day.whole.end - day.whole.start).total_seconds() / 3600
    notes = [day.note or "Exception"] if day.exception is not None else []
    if hours != 24:
        notes.append(f"The clocks are changed, so it has {hours:g} hours")
    return " · ".join(notes)


def describe_window(window: Window) -> str:
    """`Monday to Friday, 22:00 to 06:00 the next day`."""
    if window.from_minute == window.to_minute == 0:
        return f"{_name_days(window.days)}, all day"
    end = write_clock(window.to_minute)
    if window.to_minute == window.from_minute:
        end = f"{end} the next day, 24 hours"
    elif window.ends_next_day and window.to_minute:
        end = f"{end} the next day"
    elif not window.to_minute:
        end = "24:00"
    return f"{_name_days(window.days)}, {write_clock(window.from_minute)} to {end}"


def _name_days(days: Collection[int]) -> str:
    numbers = sorted(days)
    if len(numbers) == 7:
        return "Every day"
    names = [DAY_NAMES[number - 1] for number in numbers]
    if len(numbers) > 2 and numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"{names[0]} to {names[-1]}"
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]


def describe_next(now: datetime, policy: Policy) -> str:
    """When off-peak starts come next, in a sentence, by the clocks of the policy's zone."""
    found = off_peak.find_stretch(now, policy)
    if found is None:
        return "No off-peak hours are planned. Requests that wait for them cannot be scheduled."
    if found.start > now:
        begin = format_moment(found.start, policy.zone, "en")
        end = format_moment(found.end, policy.zone, "en")
        return f"The next off-peak hours are from {begin} until {end}."
    end_at = off_peak.end_of(now, policy)
    if end_at is None:
        return "It is off-peak now, and no end is in sight."
    return f"It is off-peak now, until {format_moment(end_at, policy.zone, 'en')}."
