"""What each of the general parameters may be, and that texts and values mean the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from config import LANGUAGES
from services.countries import list_time_zones
from services.errors import InvalidInput
from services.parameter_rules import (
    LONGEST_TEXT,
    PARAMETERS,
    ParameterKind,
    default_values,
    find_faults,
    is_same,
    read_value,
    shown_text,
    text_of,
)

EMAIL = PARAMETERS["callback_folder_email"]
EXPIRY = PARAMETERS["callback_expiry_hours"]
RETRIES = PARAMETERS["callback_retries"]
NUMBER = PARAMETERS["number_shown"]
ZONE = PARAMETERS["time_zone"]
LANGUAGE = PARAMETERS["greeting_language"]
MONDAY = PARAMETERS["opening_hours_monday"]

OFFICE = [["09:00", "12:30"], ["13:30", "17:00"]]
ALL_DAY = [["00:00", "24:00"]]


def refusal(parameter: Any, typed: str, country: str = "") -> str:
    with pytest.raises(InvalidInput) as refused:
        read_value(parameter, typed, country=country)
    assert refused.value.field == parameter.name
    return refused.value.message


# --- Reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "hours"),
    [
        ("09:00\u201312:30, 13:30\u201317:00", OFFICE),
        ("9-12.30 and 13h30 to 5pm", OFFICE),
        ("13:30-17:00; 0900 until 1230", OFFICE),
        ("  9 AM - 12:30 p.m. ,  1:30pm\u201417 ", OFFICE),
        ("closed", []),
        ("CLOSED", []),
        ("", []),
        ("-", []),
        ("24 hours", ALL_DAY),
        ("0-24", ALL_DAY),
        ("12am-12pm", [["00:00", "12:00"]]),
        ("9-12, 12-17", [["09:00", "12:00"], ["12:00", "17:00"]]),
    ],
)
def test_opening_hours_are_read_as_people_write_them(typed: str, hours: Any) -> None:
    assert read_value(MONDAY, typed) == hours


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("whenever", "Opening hours on Monday cannot be read."),
        ("9", "cannot be read"),
        ("9-12-15", "cannot be read"),
        ("9-25", "there is no time 25"),
        ("9-24:01", "there is no time 24:01"),
        ("9:60-12", "there is no time 9:60"),
        ("9-13pm", "there is no time 13pm"),
        ("0am-4", "there is no time 0am"),
        (
            "17-9",
            "17:00 is not before 09:00. Write hours over midnight on two days: 17:00",
        ),
        ("9-9", "09:00 is not before 09:00"),
        ("9-13, 12-17", "one span starts at 12:00, before another ends at 13:00"),
        ("1-2,3-4,5-6,7-8,9-10", "have 5 spans. 4 is the most."),
        ("\u0669-\u0661\u0667", "cannot be read"),
        (",,,", "cannot be read"),
    ],
)
def test_opening_hours_that_mean_nothing_are_refused_with_a_reason(typed: str, says: str) -> None:
    assert says in refusal(MONDAY, typed)


@pytest.mark.parametrize(("typed", "count"), [("1", 1), ("168", 168), (" 24 ", 24), ("007", 7)])
def test_counts_are_read_within_their_limits(typed: str, count: int) -> None:
    assert read_value(EXPIRY, typed) == count


@pytest.mark.parametrize("typed", ["0", "169", "", "-1", "1.5", "1e2", "nan", "\u0663", "9" * 400])
def test_counts_beyond_their_limits_are_refused_naming_them(typed: str) -> None:
    message = refusal(EXPIRY, typed)
    assert "Callback expiry" in message
    assert "1 to 168" in message or "limit is 320" in message


def test_none_is_a_number_of_retries() -> None:
    assert read_value(RETRIES, "0") == 0


def test_addresses_are_read_in_every_script_and_without_the_blanks_around_them() -> None:
    assert read_value(EMAIL, " callbacks@kenton.example ") == "callbacks@kenton.example"
    assert (
        read_value(EMAIL, "r\u00fcckruf@m\u00fcller.example") == "r\u00fcckruf@m\u00fcller.example"
    )
    assert read_value(EMAIL, "") == ""


@pytest.mark.parametrize("typed", ["callbacks", "a b@c.example", "a@b@c.example", "a@-.example"])
def test_what_is_no_address_is_refused(typed: str) -> None:
    assert "is not an e-mail address" in refusal(EMAIL, typed)


def test_a_number_is_read_in_its_country_and_kept_internationally() -> None:
    assert read_value(NUMBER, "02 555 01 23", country="BE") == "+3225550123"
    assert read_value(NUMBER, "+32 (0)2 555-01-23") == "+3225550123"
    assert read_value(NUMBER, "") == ""
    assert "Number shown" in refusal(NUMBER, "02 555 01 23")
    assert "Number shown" in refusal(NUMBER, "+32 1", "BE")


def test_only_zones_and_languages_that_exist_can_be_chosen() -> None:
    assert read_value(ZONE, "America/New_York") == "America/New_York"
    assert "Time zone" in refusal(ZONE, "Europe/Atlantis")
    assert "Time zone" in refusal(ZONE, "../../etc/passwd")
    assert "Time zone" in refusal(ZONE, "")
    assert read_value(LANGUAGE, "nl") == "nl"
    assert "English, Deutsch" in refusal(LANGUAGE, "tlh")


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize("typed", ["\0", "a\0b", "\ud800", "x" * (LONGEST_TEXT + 1), "\u202e"])
def test_no_parameter_takes_what_cannot_be_kept(name: str, typed: str) -> None:
    assert refusal(PARAMETERS[name], typed)


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize("typed", ["\0", "a\0b", "\ud800"])
def test_what_no_database_keeps_is_said_to_be_invisible(name: str, typed: str) -> None:
    assert "contains a character that cannot be seen" in refusal(PARAMETERS[name], typed)


@pytest.mark.parametrize("name", PARAMETERS)
@settings(deadline=None)
@given(typed=st.text(max_size=60))
def test_any_text_is_read_or_refused_and_what_is_read_can_be_read_again(
    name: str, typed: str
) -> None:
    parameter = PARAMETERS[name]
    try:
        value = read_value(parameter, typed, country="BE")
    except InvalidInput:
        return
    assert read_value(parameter, text_of(parameter, value)) == value


_minutes = st.integers(0, 24 * 60)
_spans = st.lists(_minutes, min_size=2, max_size=8, unique=True).map(
    lambda times: [
        [f"{at // 60:02}:{at % 60:02}" for at in pair]
        for pair in zip(*[iter(sorted(times))] * 2, strict=False)
    ]
)
VALUES: dict[ParameterKind, SearchStrategy[Any]] = {
    ParameterKind.EMAIL: st.sampled_from(["", "a@b.example", "\u00fc@m\u00fc.example"]),
    ParameterKind.PHONE: st.sampled_from(["", "+3225550123", "+12025550123", "+80012345678"]),
    ParameterKind.HOURS: _spans,
    ParameterKind.ZONE: st.sampled_from([each.code for each in list_time_zones()]),
    ParameterKind.LANGUAGE: st.sampled_from(sorted(LANGUAGES)),
}


@settings(deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("name", PARAMETERS)
def test_a_value_is_the_same_after_it_was_shown_and_sent_back(name: str, data: Any) -> None:
    parameter = PARAMETERS[name]
    values: SearchStrategy[Any]
    if parameter.kind is ParameterKind.COUNT:
        values = st.integers(parameter.minimum, parameter.maximum)
    else:
        values = VALUES[parameter.kind]
    value = data.draw(values)
    assert read_value(parameter, text_of(parameter, value)) == value
    assert shown_text(parameter, value)


# --- Showing -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameter", "value", "shown"),
    [
        (EXPIRY, 1, "1 hour"),
        (EXPIRY, 24, "24 hours"),
        (NUMBER, "+3225550123", "+32 2 555 01 23"),
        (NUMBER, "", "Not set"),
        (LANGUAGE, "nl", "Nederlands"),
        (MONDAY, [], "Closed"),
        (MONDAY, OFFICE, "09:00\u201312:30, 13:30\u201317:00"),
        (EMAIL, "", "Not set"),
    ],
)
def test_values_are_shown_in_words(parameter: Any, value: Any, shown: str) -> None:
    assert shown_text(parameter, value) == shown


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize("value", [None, 7, "x", [], [1], [["a"]], [[1, 2]], {"a": 1}, True, 1e99])
def test_a_template_with_something_else_in_it_can_be_shown_all_the_same(
    name: str, value: Any
) -> None:
    assert isinstance(text_of(PARAMETERS[name], value), str)
    assert isinstance(shown_text(PARAMETERS[name], value), str)


# --- What may be published -----------------------------------------------------------------------


def complete(**changes: Any) -> dict[str, Any]:
    return default_values() | {"callback_folder_email": "callbacks@kenton.example"} | changes


def test_the_defaults_lack_nothing_but_the_callback_folder() -> None:
    assert find_faults(complete(), {}) == {}
    faults = find_faults(default_values(), {})
    assert list(faults) == ["callback_folder_email"]
    assert "is missing" in faults["callback_folder_email"]


def test_a_stand_in_cannot_be_published_however_it_is_written() -> None:
    stand_in = {"callback_folder_email": "callbacks@foyer.example", "callback_retries": 3}
    values = complete(callback_folder_email="Callbacks@Foyer.example")
    faults = find_faults(values, stand_in)
    assert list(faults) == ["callback_folder_email", "callback_retries"]
    assert "only stands in for your own" in faults["callback_folder_email"]
    assert find_faults(complete(callback_retries=4), stand_in) == {}


def test_a_faulty_value_cannot_be_published() -> None:
    values = complete(time_zone="Europe/Atlantis", callback_retries="many", opening_hours_friday=7)
    faults = find_faults(values, {})
    assert list(faults) == ["callback_retries", "time_zone", "opening_hours_friday"]


def test_addresses_are_the_same_in_any_case_and_nothing_else_is() -> None:
    assert is_same(EMAIL, "A@b.example", "a@B.example")
    assert not is_same(EMAIL, "a@b.example", "c@b.example")
    assert not is_same(ZONE, "utc", "UTC")
