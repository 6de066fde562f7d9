"""Domain names that tenants use as UPN suffix: IDNA 2008, under a public suffix, not alone one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DomainName:
    """Both ways of writing one name: `ascii` is stored and signed in with, `unicode` is shown."""

    ascii: str
    unicode: str

    @property
    def is_international(self) -> bool:
        return self.ascii != self.unicode


def parse_suffix(text: str, *, allow_reserved: bool, field: str = "upn_suffix") -> DomainName:
    """Read a UPN suffix as people paste it: with capitals, "@", "https://" or a dot at its end.

    `allow_reserved` takes names that nobody can own (`.example`, `.test`), too. Raises
    InvalidInput.
    """
    raise NotImplementedError


def show_name(stored: str) -> DomainName:
    """A stored name in both forms."""
    raise NotImplementedError
