"""The general parameters for Smart Queues: which there are, what each may be, how it is written.

A value is kept as JSON: an address, number, time zone or language as text, a count as a number,
a day's opening hours as spans, `[["09:00", "12:30"], ["13:30", "17:00"]]`, none of them on a day
that is closed. Forms show and send texts; `text_of` and `read_value` turn one into the other.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from email_validator import EmailNotValidError, validate_email

from config import LANGUAGES
from models import fold, is_storable
from services import countries, phone_numbers
from services.errors import InvalidInput

LONGEST_TEXT = 320
MOST_SPANS = 4

Spans = list[list[str]]


class ParameterKind(StrEnum):
    EMAIL = "email"
    COUNT = "count"
    PHONE = "phone"
    HOURS = "hours"
    ZONE = "zone"
    LANGUAGE = "language"


class ParameterGroup(StrEnum):
    CALLBACKS = "Callbacks"
    CALLERS = "What callers see and hear"
    OPENING = "Opening hours"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One of the general parameters; `minimum` and `maximum` are those of a count, in `unit`.

    A required one may be missing in a draft, but not in what is published.
    """

    name: str
    label: str
    kind: ParameterKind
    group: ParameterGroup
    default: Any = ""
    help: str = ""
    is_required: bool = False
    minimum: int = 0
    maximum: int = 0
    unit: str = ""


_OFFICE_HOURS: Spans = [["09:00", "17:00"]]
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

_DECLARED = (
    Parameter(
        "callback_folder_email",
        "Callback Folder e-mail address",
        ParameterKind.EMAIL,
        ParameterGroup.CALLBACKS,
        help="Callbacks that nobody took in time are sent to this mailbox.",
        is_required=True,
    ),
    Parameter(
        "callback_expiry_hours",
        "Callback expiry",
        ParameterKind.COUNT,
        ParameterGroup.CALLBACKS,
        default=24,
        help="Hours until a callback that nobody took goes to the Callback Folder, 1 to 168.",
        minimum=1,
        maximum=168,
        unit="hour",
    ),
    Parameter(
        "callback_retries",
        "Callback retries",
        ParameterKind.COUNT,
        ParameterGroup.CALLBACKS,
        default=3,
        help="How often a caller who does not answer is called again, 0 to 10 times.",
        minimum=0,
        maximum=10,
        unit="time",
    ),
    Parameter(
        "callback_retry_minutes",
        "Time between retries",
        ParameterKind.COUNT,
        ParameterGroup.CALLBACKS,
        default=15,
        help="Minutes until the caller is called again, 1 to 240.",
        minimum=1,
        maximum=240,
        unit="minute",
    ),
    Parameter(
        "number_shown",
        "Number shown",
        ParameterKind.PHONE,
        ParameterGroup.CALLERS,
        help="What people whom you call back see. Without one, the number of the line.",
    ),
    Parameter(
        "greeting_language",
        "Greeting language",
        ParameterKind.LANGUAGE,
        ParameterGroup.CALLERS,
        default="en",
        help="The language in which queues greet and announce.",
    ),
    Parameter(
        "time_zone",
        "Time zone",
        ParameterKind.ZONE,
        ParameterGroup.OPENING,
        default="UTC",
        help="The opening hours are in this zone, in summer and in winter.",
    ),
    *(
        Parameter(
            f"opening_hours_{day.lower()}",
            day,
            ParameterKind.HOURS,
            ParameterGroup.OPENING,
            default=_OFFICE_HOURS if day not in {"Saturday", "Sunday"} else [],
        )
        for day in _DAYS
    ),
)

PARAMETERS: Mapping[str, Parameter] = {each.name: each for each in _DECLARED}
"""All of them by name, in the order of the page."""


def default_values() -> dict[str, Any]:
    return {name: each.default for name, each in PARAMETERS.items()}


def title_of(parameter: Parameter) -> str:
    """The label where it stands alone: "Opening hours on Monday"."""
    if parameter.kind is ParameterKind.HOURS:
        return f"Opening hours on {parameter.label}"
    return parameter.label


# --- From texts to values ------------------------------------------------------------------------


def read_value(parameter: Parameter, typed: str, *, country: str = "") -> Any:
    """The value that `typed` means. Raises InvalidInput with the parameter's name.

    `country` is where a number is that is written without its country. An empty text is a missing
    value, of opening hours a closed day.
    """
    text = typed.strip()
    if len(text) > LONGEST_TEXT:
        raise InvalidInput(
            parameter.name,
            f"{title_of(parameter)} has {len(text):,} characters. The limit is {LONGEST_TEXT}.",
        )
    if not is_storable(text):
        raise InvalidInput(
            parameter.name,
            f"{title_of(parameter)} contains a character that cannot be seen. Type it by hand.",
        )
    try:
        return _READERS[parameter.kind](parameter, text, country)
    except ValueError as error:
        raise InvalidInput(parameter.name, str(error)) from None


def _read_email(parameter: Parameter, text: str, _country: str) -> str:
    if not text:
        return ""
    try:
        return validate_email(text, check_deliverability=False).normalized
    except EmailNotValidError:
        raise ValueError(
            f"{parameter.label} is not an e-mail address. Write it like callbacks@example.com."
        ) from None


def _read_count(parameter: Parameter, text: str, _country: str) -> int:
    wanted = f"{parameter.label} is a whole number from {parameter.minimum} to {parameter.maximum}."
    if not (text.isascii() and text.isdecimal() and len(text) <= 6):
        raise ValueError(f"{wanted} Write it in digits.")
    count = int(text)
    if not parameter.minimum <= count <= parameter.maximum:
        raise ValueError(f"{wanted} {count:,} is outside of it.")
    return count


def _read_phone(parameter: Parameter, text: str, country: str) -> str:
    if not text:
        return ""
    try:
        number = phone_numbers.parse_number(
            text, country, field=parameter.name, label=parameter.label
        )
    except InvalidInput as error:
        raise ValueError(error.message) from None
    return number.e164


def _read_zone(parameter: Parameter, text: str, _country: str) -> str:
    if not countries.is_time_zone(text):
        raise ValueError(f"{parameter.label} is not one of the list. Choose the nearest city.")
    return text


def _read_language(parameter: Parameter, text: str, _country: str) -> str:
    if text not in LANGUAGES:
        raise ValueError(f"{parameter.label} is one of {', '.join(LANGUAGES.values())}.")
    return text


_TO = "\u2013"  # The dash between two times.
_CLOSED = {"", "closed", "-", _TO, "\u2014"}
_ALL_DAY = {"24h", "24 h", "24 hours", "all day", "open"}
_SEPARATORS = re.compile(r"\s*(?:[,;+&]|\band\b)\s*")
_DASH = re.compile(r"\s*(?:[-\u2013\u2014]|\bto\b|\buntil\b)\s*")
_TIME = re.compile(r"([0-9]{1,2})(?:[:.h]?([0-9]{2})|h)?(?:\s?([ap])\.?m\.?)?", re.IGNORECASE)
_EXAMPLE = f"Write them like 09:00{_TO}12:30, 13:30{_TO}17:00, or closed."


def _read_hours(parameter: Parameter, text: str, _country: str) -> Spans:
    words = " ".join(text.casefold().split())
    if words in _CLOSED:
        return []
    if words in _ALL_DAY:
        return [["00:00", "24:00"]]
    parts = _SEPARATORS.split(words)
    if len(parts) > MOST_SPANS:
        raise ValueError(
            f"{title_of(parameter)} have {len(parts)} spans. {MOST_SPANS} is the most."
        )
    spans = sorted(_read_span(parameter, part) for part in parts)
    for (_, earlier_end), (later_start, _) in itertools.pairwise(spans):
        if later_start < earlier_end:
            raise ValueError(
                f"{title_of(parameter)} overlap: one span starts at {_clock(later_start)}, before "
                f"another ends at {_clock(earlier_end)}."
            )
    return [[_clock(start), _clock(end)] for start, end in spans]


def _read_span(parameter: Parameter, text: str) -> tuple[int, int]:
    """From and to, in minutes after midnight."""
    ends = _DASH.split(text)
    if len(ends) != 2:
        raise ValueError(f"{title_of(parameter)} cannot be read. {_EXAMPLE}")
    start, end = (_read_time(parameter, each) for each in ends)
    if start >= end:
        raise ValueError(
            f"{title_of(parameter)}: {_clock(start)} is not before {_clock(end)}. Write hours "
            f"over midnight on two days: {_clock(start)}{_TO}24:00, and from 00:00 on the next."
        )
    return start, end


def _read_time(parameter: Parameter, text: str) -> int:
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{title_of(parameter)} cannot be read. {_EXAMPLE}")
    hour, minute = int(match[1]), int(match[2] or 0)
    half = match[3]
    if half and 1 <= hour <= 12:
        hour = hour % 12 + (12 if half.casefold() == "p" else 0)
    elif half:
        hour = 99
    total = hour * 60 + minute
    if minute > 59 or total > 24 * 60:
        raise ValueError(f"{title_of(parameter)}: there is no time {text}. {_EXAMPLE}")
    return total


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


_READERS = {
    ParameterKind.EMAIL: _read_email,
    ParameterKind.COUNT: _read_count,
    ParameterKind.PHONE: _read_phone,
    ParameterKind.HOURS: _read_hours,
    ParameterKind.ZONE: _read_zone,
    ParameterKind.LANGUAGE: _read_language,
}


# --- From values to texts ------------------------------------------------------------------------


def text_of(parameter: Parameter, value: Any) -> str:
    """The text that a form shows for a value, and of one that is none the text it is."""
    if parameter.kind is ParameterKind.HOURS and isinstance(value, list):
        spans = [each for each in value if isinstance(each, list) and len(each) == 2]
        if len(spans) == len(value):
            return ", ".join(f"{start}{_TO}{end}" for start, end in spans) or "closed"
    if value is None:
        return ""
    if parameter.kind is ParameterKind.PHONE:
        number = phone_numbers.show_number(str(value))
        return number.international if number else str(value)
    return str(value)


def shown_text(parameter: Parameter, value: Any) -> str:
    """A value as it is read, in lists and comparisons."""
    text = text_of(parameter, value)
    if parameter.kind is ParameterKind.LANGUAGE:
        return LANGUAGES.get(text, text)
    if parameter.kind is ParameterKind.COUNT and isinstance(value, int):
        return f"{value} {parameter.unit}{'' if value == 1 else 's'}"
    if parameter.kind is ParameterKind.HOURS:
        return text[:1].upper() + text[1:]
    if parameter.kind is ParameterKind.ZONE:
        return countries.time_zone_name(text)
    return text or "Not set"


def is_same(parameter: Parameter, one: Any, other: Any) -> bool:
    """Whether two values mean the same; addresses do whatever their case."""
    if parameter.kind is ParameterKind.EMAIL:
        return fold(str(one)) == fold(str(other))
    return bool(one == other)


# --- What may be published -----------------------------------------------------------------------


def find_faults(values: Mapping[str, Any], must_replace: Mapping[str, Any]) -> dict[str, str]:
    """Why these values cannot be published: a sentence for each parameter that stands in the way.

    `must_replace` has the stand-ins of the service template, by name.
    """
    faults = {}
    for name, parameter in PARAMETERS.items():
        value = values[name]
        if parameter.is_required and not value:
            faults[name] = f"{title_of(parameter)} is missing. Enter it before you publish."
        elif name in must_replace and is_same(parameter, value, must_replace[name]):
            faults[name] = (
                f"{title_of(parameter)} is still {shown_text(parameter, value)}, which only stands "
                "in for your own. Replace it before you publish."
            )
        else:
            try:
                read_value(parameter, text_of(parameter, value))
            except InvalidInput as error:
                faults[name] = error.message
    return faults
