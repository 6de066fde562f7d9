"""Numbers and times as the reader writes them: the template filters of every page."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, tzinfo

from flask import Flask

_THOUSANDS = {"en": ",", "de": ".", "fr": "\u202f", "nl": "."}
# strftime would take several times as long, and a list shows fifty times.
_MONTHS = (
    "January February March April May June July August September October November December".split()
)
_TWO_DIGITS = [f"{number:02}" for number in range(60)]
_STEPS = ((60, "minute", 3600), (3600, "hour", 86_400), (86_400, "day", 30 * 86_400))


def format_number(value: int, language: str = "en") -> str:
    """`1204` as `1,204`, with the separator of `language` (English where unknown)."""
    return f"{value:,}".replace(",", _THOUSANDS.get(language, ","))


def format_exact_time(at: datetime, zone: tzinfo = UTC) -> str:
    """The aware time `at` in full, in `zone`: `3 February 2026, 14:05:09 CET`."""
    local = at.astimezone(zone)
    clock = f"{_TWO_DIGITS[local.hour]}:{_TWO_DIGITS[local.minute]}:{_TWO_DIGITS[local.second]}"
    return f"{local.day} {_MONTHS[local.month - 1]} {local.year:04}, {clock} {local.tzname()}"


def format_relative_time(at: datetime, now: datetime) -> str:
    """How far the aware time `at` is from `now`, in words; the date beyond thirty days."""
    seconds = (now - at).total_seconds()
    distance = abs(seconds)
    if distance < 45:
        return "just now" if seconds >= 0 else "in a moment"
    for unit, word, limit in _STEPS:
        count = max(1, round(distance / unit))
        if count * unit < limit:
            words = f"{count} {word}{'' if count == 1 else 's'}"
            return f"{words} ago" if seconds >= 0 else f"in {words}"
    return f"{at.day} {_MONTHS[at.month - 1][:3]} {at.year:04}"


def format_duration(seconds: int) -> str:
    """A duration, roundly: `5 seconds`, `2 minutes`, `3 hours`."""
    for unit, word in ((3600, "hour"), (60, "minute")):
        if seconds >= unit * 1.5:
            return f"{round(seconds / unit)} {word}s"
        if seconds >= unit:
            return f"a{'n' if word == 'hour' else ''} {word}"
    return f"{max(1, seconds)} second{'' if seconds <= 1 else 's'}"


def format_rate(per_second: float, language: str = "en") -> str:
    """A rate of mails in words, per minute where that is more telling; empty for none."""
    if not per_second:
        return ""
    if per_second < 1:
        return f"{per_second * 60:.0f} mails a minute"
    return f"{format_number(round(per_second), language)} mails a second"


def register_formats(
    app: Flask, *, zone: Callable[[], tzinfo], language: Callable[[], str]
) -> None:
    """Add the filters `number`, `duration`, `rate`, `exact_time` and `relative_time`.

    `zone` and `language` answer for the reader of the page being rendered.
    """
    app.add_template_filter(lambda value: format_number(value, language()), "number")
    app.add_template_filter(format_duration, "duration")
    app.add_template_filter(lambda value: format_rate(value, language()), "rate")
    app.add_template_filter(lambda at: format_exact_time(at, zone()), "exact_time")
    app.add_template_filter(
        lambda at: format_relative_time(at.astimezone(zone()), datetime.now(UTC)), "relative_time"
    )
