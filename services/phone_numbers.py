"""Telephone numbers: read as people write them, kept as E.164, shown nationally and abroad.

Refused is what cannot be a number by its length. Whether a number is in use is not asked: number
ranges are opened faster than lists of them are published.
"""

from __future__ import annotations

from dataclasses import dataclass

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumberFormat, ValidationResult

from models import is_storable
from services.errors import InvalidInput

MAX_TYPED = 100
_MAX_E164 = 16  # A plus and 15 digits, which is the limit of the standard.
_EXAMPLE = "Write it as in +32 2 555 01 23, or as you dial it in your country."


@dataclass(frozen=True, slots=True)
class PhoneNumber:
    """`e164` is what is stored; `country` is ISO 3166, empty for numbers of no country."""

    e164: str
    national: str
    international: str
    country: str


def parse_number(text: str, country: str, *, field: str, label: str) -> PhoneNumber:
    """Read a number; one without a country code is of `country`.

    `label` names the field in the sentences of the InvalidInput that is raised.
    """
    if len(text) > MAX_TYPED:
        raise InvalidInput(
            field, f"{label} has {len(text):,} characters. The limit is {MAX_TYPED}."
        )
    if not is_storable(text):
        raise InvalidInput(field, f"{label} has a character that is none. {_EXAMPLE}")
    try:
        number = phonenumbers.parse(text, country or None)
    except NumberParseException as error:
        raise InvalidInput(field, _not_parsed(error, label)) from None
    if number.extension:
        raise InvalidInput(
            field,
            f"{label} ends with the extension {number.extension}. Write the number without it.",
        )
    reason = phonenumbers.is_possible_number_with_reason(number)
    shown = _show(number)
    if reason != ValidationResult.IS_POSSIBLE:
        raise InvalidInput(field, _not_possible(reason, label, text.strip()))
    if len(shown.e164) > _MAX_E164:
        raise InvalidInput(
            field, _not_possible(ValidationResult.TOO_LONG, label, shown.international)
        )
    return shown


def show_number(e164: str) -> PhoneNumber | None:
    """A stored number as it is shown; None for what is no number."""
    try:
        return _show(phonenumbers.parse(e164))
    except NumberParseException:
        return None


def _show(number: phonenumbers.PhoneNumber) -> PhoneNumber:
    country = phonenumbers.region_code_for_number(number) or ""
    return PhoneNumber(
        phonenumbers.format_number(number, PhoneNumberFormat.E164),
        phonenumbers.format_number(number, PhoneNumberFormat.NATIONAL),
        phonenumbers.format_number(number, PhoneNumberFormat.INTERNATIONAL),
        country if country.isalpha() else "",  # "001" stands for the whole world.
    )


def _not_parsed(error: NumberParseException, label: str) -> str:
    if error.error_type == NumberParseException.INVALID_COUNTRY_CODE:
        return f"{label} begins with no country code that exists. {_EXAMPLE}"
    if error.error_type == NumberParseException.TOO_LONG:
        return f"{label} has more digits than a telephone number can have. {_EXAMPLE}"
    if error.error_type in {
        NumberParseException.TOO_SHORT_NSN,
        NumberParseException.TOO_SHORT_AFTER_IDD,
    }:
        return f"{label} is too short for a telephone number. {_EXAMPLE}"
    return f"{label} is not a telephone number. {_EXAMPLE}"


def _not_possible(reason: int, label: str, typed: str) -> str:
    match reason:
        case ValidationResult.TOO_SHORT:
            return f"{label} {typed} is too short for a number of its country. {_EXAMPLE}"
        case ValidationResult.TOO_LONG:
            return f"{label} {typed} is too long for a number of its country. {_EXAMPLE}"
        case ValidationResult.IS_POSSIBLE_LOCAL_ONLY:
            return f"{label} {typed} lacks its area code. {_EXAMPLE}"
        case ValidationResult.INVALID_COUNTRY_CODE:
            return f"{label} {typed} begins with no country code that exists. {_EXAMPLE}"
        case _:
            return f"{label} {typed} has a length that no number of its country has. {_EXAMPLE}"
