"""Telephone numbers: every common way of writing one, and why another is refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services import phone_numbers
from services.errors import InvalidInput
from services.phone_numbers import PhoneNumber


def parse(text: str, country: str = "BE") -> PhoneNumber:
    return phone_numbers.parse_number(text, country, field="ani", label="ANI")


@pytest.mark.parametrize(
    "typed",
    [
        "02 555 01 23",
        "02/555.01.23",
        "(02) 555-0123",
        "025550123",
        "+32 2 555 01 23",
        "+32 (0)2 555 01 23",
        "0032 2 555 01 23",
        "tel:+32-2-555-01-23",
        "＋３２ ２ ５５５ ０１ ２３",
        "٠٢ ٥٥٥ ٠١ ٢٣",
        "\u202a+32 2 555 01 23\u202c",  # As address books put it on the clipboard.
    ],
)
def test_a_number_is_read_however_it_is_written(typed: str) -> None:
    assert parse(typed) == PhoneNumber("+3225550123", "02 555 01 23", "+32 2 555 01 23", "BE")


@pytest.mark.parametrize(
    ("typed", "country", "e164"),
    [
        ("020 7946 0958", "GB", "+442079460958"),
        ("(212) 555-0100", "US", "+12125550100"),
        ("1-800-FLOWERS", "US", "+18003569377"),
        ("06 12345678", "NL", "+31612345678"),
        ("030 123456", "DE", "+4930123456"),
        ("+800 1234 5678", "BE", "+80012345678"),
        ("+3225550123", "", "+3225550123"),
    ],
)
def test_a_number_without_its_country_is_of_the_given_one(
    typed: str, country: str, e164: str
) -> None:
    assert parse(typed, country).e164 == e164


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("112", "ANI 112 is too short"),
        ("+32 2 555 01 23 45 67", "is too long for a number of its country"),
        ("+999 123 456 789", "no country code that exists"),
        ("hello", "is not a telephone number"),
        ("+", "is not a telephone number"),
        ("02 555 01 23 ext. 12", "ends with the extension 12. Write the number without it"),
        ("1" * 80, "more digits"),
        ("1" * 1_000_000, "ANI has 1,000,000 characters. The limit is 100"),
        ("02 555\0 01 23", "a character that is none"),
        ("02 555\ud800 01 23", "a character that is none"),
        ("'; DROP TABLE users", "is not a telephone number"),
        ("<script>alert(1)</script>", "is not a telephone number"),
    ],
)
def test_what_cannot_be_a_number_is_refused_with_the_reason(typed: str, told: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(typed)
    assert caught.value.field == "ani"
    assert told in caught.value.message


def test_a_number_without_its_area_is_told_so() -> None:
    with pytest.raises(InvalidInput, match="lacks its area code"):
        parse("555 0123", "US")


def test_a_stored_number_is_shown_again() -> None:
    assert phone_numbers.show_number("+3225550123") == parse("02 555 01 23")
    for none in ("", "02 555 01 23", "nothing", "+999"):
        assert phone_numbers.show_number(none) is None


@given(
    st.one_of(st.text(max_size=120), st.from_regex(r"[+0][0-9 ()./-]{2,25}", fullmatch=True)),
    st.sampled_from(["BE", "DE", "US", "GB", "JP", ""]),
)
def test_whatever_is_typed_a_number_is_kept_as_e164_or_refused(typed: str, country: str) -> None:
    try:
        number = parse(typed, country)
    except InvalidInput:
        return
    assert re.fullmatch(r"\+[1-9][0-9]{1,14}", number.e164)
    assert len(number.country) in {0, 2}
