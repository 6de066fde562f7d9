"""Countries and time zones for selects, in four languages."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest

from config import LANGUAGES
from services import countries


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_country_and_zone_has_a_name_of_its_own(language: str) -> None:
    for choices, least in (
        (countries.list_countries(language), 245),
        (countries.list_time_zones(language), 400),
    ):
        assert len(choices) >= least
        assert len({each.code for each in choices}) == len(choices)
        assert len({each.name for each in choices}) == len(choices)
        assert all(each.name.strip() for each in choices)


@pytest.mark.parametrize(
    ("language", "belgium", "brussels"),
    [
        ("en", "Belgium", "Belgium, Brussels"),
        ("de", "Belgien", "Belgien, Brüssel"),
        ("fr", "Belgique", "Belgique, Bruxelles"),
        ("nl", "België", "België, Brussel"),
        ("xx", "Belgium", "Belgium, Brussels"),
    ],
)
def test_names_are_in_the_language_that_is_asked_for(
    language: str, belgium: str, brussels: str
) -> None:
    assert countries.country_name("BE", language) == belgium
    assert countries.time_zone_name("Europe/Brussels", language) == brussels


def test_names_sort_as_people_look_for_them() -> None:
    names = [each.name for each in countries.list_countries("de")]
    assert names.index("Afghanistan") < names.index("Ägypten") < names.index("Belgien")
    assert countries.list_time_zones()[-1].code == "UTC"


def test_zones_are_those_of_the_database_whatever_their_age() -> None:
    for zone in countries.list_time_zones():
        assert countries.is_time_zone(zone.code)
        ZoneInfo(zone.code)
    assert countries.is_time_zone("Asia/Calcutta")
    for none in ("", "Europe", "Brussels", "../etc/passwd", "Europe/Nowhere", "Factory", "a\0b"):
        assert not countries.is_time_zone(none)
        assert countries.time_zone_name(none) == none


def test_countries_are_those_that_exist() -> None:
    for code in ("BE", "XK", "TW", "AQ"):
        assert countries.is_country(code)
    for none in ("", "be", "EU", "UN", "ZZ", "XX", "001", "Belgium"):
        assert not countries.is_country(none)
        assert countries.country_name(none) == none


def test_a_country_has_a_first_zone() -> None:
    assert countries.find_time_zone("BE") == "Europe/Brussels"
    assert countries.find_time_zone("US") == "America/New_York"
    assert countries.find_time_zone("AU") == "Australia/Lord_Howe"
    assert countries.find_time_zone("XX") == ""
