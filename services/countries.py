"""Countries and time zones by name, in the languages of the mails, for selects.

Names are CLDR's, by Babel; zones and their countries are those of the time zone database.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from zoneinfo import available_timezones

from babel import Locale
from babel.dates import get_timezone_location

from config import LANGUAGES

_NO_COUNTRY = frozenset("CP CQ DG EA EU EZ IC QO UN XA XB ZZ".split())
"""Codes of CLDR that are a part of a country, several of them, or none."""


@dataclass(frozen=True, slots=True)
class Choice:
    """`code` is what is stored: ISO 3166 ("BE") or the IANA name of a zone ("Europe/Brussels")."""

    code: str
    name: str


@cache
def list_countries(language: str = "en") -> list[Choice]:
    """Every country, by name."""
    names = _locale(language).territories
    return sorted(
        (Choice(code, names[code]) for code in _country_codes()), key=lambda each: _plain(each.name)
    )


@cache
def list_time_zones(language: str = "en") -> list[Choice]:
    """Every time zone that people live in, by name ("Belgium, Brussels"); UTC is the last."""
    locale = _locale(language)
    zones = [Choice(zone, _zone_name(zone, country, locale)) for zone, country in _zones().items()]
    return [*sorted(zones, key=lambda each: _plain(each.name)), Choice("UTC", "UTC")]


def country_name(code: str, language: str = "en") -> str:
    """The name of a country; the code itself when it is unknown."""
    return str(_locale(language).territories[code]) if is_country(code) else code


def time_zone_name(code: str, language: str = "en") -> str:
    """The name of a zone as `list_time_zones` has it; the code itself when it is unknown."""
    return next((each.name for each in list_time_zones(language) if each.code == code), code)


def is_country(code: str) -> bool:
    return code in _country_codes()


def is_time_zone(code: str) -> bool:
    """Whether it is a zone of the time zone database, older names ("Asia/Calcutta") included."""
    return code == "UTC" or code in _zones() or ("/" in code and code in _known_zones())


def find_time_zone(country: str) -> str:
    """The first zone of a country; empty when it has none."""
    return next((zone for zone, of in _zones().items() if of == country), "")


@cache
def _country_codes() -> frozenset[str]:
    named = [frozenset(_locale(language).territories) for language in LANGUAGES]
    codes = {code for code in named[0].intersection(*named) if len(code) == 2 and code.isalpha()}
    return frozenset(codes - _NO_COUNTRY)


@cache
def _zones() -> dict[str, str]:
    """Country by zone, in the order of the database: the one most lived in is a country's first."""
    table = files("tzdata").joinpath("zoneinfo", "zone.tab").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in table.splitlines() if not line.startswith("#"))
    return {row[2]: row[0] for row in rows}


@cache
def _known_zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _zone_name(zone: str, country: str, locale: Locale) -> str:
    where = str(locale.territories.get(country, country))
    city = get_timezone_location(zone, locale=locale, return_city=True)
    return where if city == where else f"{where}, {city}"


def _locale(language: str) -> Locale:
    return Locale(language if language in LANGUAGES else "en")


def _plain(name: str) -> str:
    """Sorts Åland with the A, as people look for it."""
    decomposed = unicodedata.normalize("NFKD", name.casefold())
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))
