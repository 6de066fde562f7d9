"""Telephone numbers: read as people write them, kept as E.164, shown nationally and abroad."""

from __future__ import annotations

from dataclasses import dataclass


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
    raise NotImplementedError


def show_number(e164: str) -> PhoneNumber | None:
    """A stored number as it is shown; None for what is no number."""
    raise NotImplementedError
