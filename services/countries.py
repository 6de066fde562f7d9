"""Countries and time zones by name, in the languages of the mails, for selects."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Choice:
    """`code` is what is stored: ISO 3166 ("BE") or the IANA name of a zone ("Europe/Brussels")."""

    code: str
    name: str


def list_countries(language: str = "en") -> list[Choice]:
    """Every country, by name."""
    raise NotImplementedError


def list_time_zones(language: str = "en") -> list[Choice]:
    """Every time zone that people live in, by name ("Belgium, Brussels")."""
    raise NotImplementedError


def country_name(code: str, language: str = "en") -> str:
    """The name of a country; the code itself when it is unknown."""
    raise NotImplementedError


def time_zone_name(code: str, language: str = "en") -> str:
    """The name of a zone as `list_time_zones` has it; the code itself when it is unknown."""
    raise NotImplementedError


def is_country(code: str) -> bool:
    raise NotImplementedError


def is_time_zone(code: str) -> bool:
    """Whether it is a zone of the time zone database, older names ("Asia/Calcutta") included."""
    raise NotImplementedError


def find_time_zone(country: str) -> str:
    """The first zone of a country; empty when it has none."""
    raise NotImplementedError
