"""Domain names that tenants use as UPN suffix.

A suffix is a registrable domain or a name below one, by IDNA 2008 with the mapping of UTS 46 for
what people type. It is stored in its ASCII form, which every system can sign in with.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from dataclasses import dataclass
from functools import cache

import idna
from publicsuffixlist import PublicSuffixList

from services.errors import InvalidInput

MAX_LENGTH = 253
_MAX_TYPED = 1000
_EXAMPLE = "Write a domain of your own, such as kenton-electronics.com."
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_WEB_HOST = "www."
_DOTS = ".\u3002\uff0e\uff61"  # Those that UTS 46 takes for one.

_UNOWNABLE = frozenset({"example", "test"})
_EXAMPLES = frozenset({"example.com", "example.net", "example.org"})
"""RFC 2606: nobody can own them, which suits demonstrations and tests."""

_LOCAL = frozenset({"alt", "arpa", "home", "internal", "invalid", "lan", "local", "localhost"})
_LOCAL |= {"corp", "onion", "localdomain", "intranet", "private"}

_SPOOFED = ("LATIN", "GREEK", "CYRILLIC", "ARMENIAN", "CHEROKEE")
"""Scripts with letters that look the same; of these, a word has letters of one."""


@dataclass(frozen=True, slots=True)
class DomainName:
    """Both ways of writing one name: `ascii` is stored and signed in with, `unicode` is shown."""

    ascii: str
    unicode: str

    @property
    def is_international(self) -> bool:
        return self.ascii != self.unicode


def parse_suffix(text: str, *, allow_reserved: bool, field: str = "upn_suffix") -> DomainName:
    """Read a UPN suffix as people paste it.

    Of an address ("@kenton.com", "info@kenton.com", "https://www.kenton.com/contact") it is the
    domain; capitals, full-width letters and a dot at the end do not matter. `allow_reserved`
    takes names that nobody can own (`.example`, `.test`), too. Raises InvalidInput.
    """
    if len(text) > _MAX_TYPED:
        raise InvalidInput(
            field, f"The UPN suffix has {len(text):,} characters. The limit is {MAX_LENGTH}."
        )
    pasted = _domain_in(text)
    if _is_address(pasted):
        raise InvalidInput(field, f"The UPN suffix is an IP address. {_EXAMPLE}")
    name = _encode(pasted, field)
    if any(mixes_scripts(label) for label in name.unicode.split(".")):
        raise InvalidInput(
            field,
            "The UPN suffix mixes letters of scripts that look alike, such as Latin and Cyrillic. "
            "Type it again in one script.",
        )
    _check_ownable(name, allow_reserved, field)
    return name


def show_name(stored: str) -> DomainName:
    """A stored name in both forms."""
    try:
        return DomainName(stored, idna.decode(stored))
    except UnicodeError:
        return DomainName(stored, stored)


def mixes_scripts(word: str) -> bool:
    """Whether letters that look alike stand side by side: a Cyrillic a between Latin ones."""
    found = {unicodedata.name(letter, "").partition(" ")[0] for letter in word if letter.isalpha()}
    return len(found.intersection(_SPOOFED)) > 1


def _domain_in(text: str) -> str:
    typed = text.strip()
    address = _SCHEME.sub("", typed, count=1)
    host = re.split(r"[/?#\\]", address, maxsplit=1)[0].rpartition("@")[2]
    if address != typed:
        host = re.sub(r":\d*$", "", host)
        if host.lower().startswith(_WEB_HOST):
            host = host[len(_WEB_HOST) :]
    return host.strip().rstrip(_DOTS)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        last = host.rpartition(".")[2].lower()
        return last.isdigit() or re.fullmatch(r"0x[0-9a-f]*", last) is not None
    return True


def _encode(pasted: str, field: str) -> DomainName:
    try:
        encoded = idna.encode(pasted, uts46=True, std3_rules=True, transitional=False).decode()
        return DomainName(encoded, idna.decode(encoded))
    except UnicodeError as error:
        raise InvalidInput(field, _fault_of(pasted, error)) from None


def _fault_of(pasted: str, error: UnicodeError) -> str:
    said = str(error)
    if not pasted or "Empty" in said:
        return f"The UPN suffix has nothing between two dots or before the first. {_EXAMPLE}"
    if "Domain too long" in said:
        return f"The UPN suffix is too long for a domain name. The limit is {MAX_LENGTH}."
    if "too long" in said:
        return "A part of the UPN suffix between two dots is too long. The limit is 63."
    if "hyphen" in said:
        return "A part of the UPN suffix begins or ends with a hyphen, which no domain does."
    if any(letter.isspace() for letter in pasted):
        return f"The UPN suffix has a space in it. {_EXAMPLE}"
    for letter in pasted:
        if letter.isascii() and letter.isprintable() and not (letter.isalnum() or letter in "-."):
            return f"The UPN suffix has the character {letter}, which no domain name has."
    return f"The UPN suffix has a character that no domain name has. {_EXAMPLE}"


def _check_ownable(name: DomainName, allow_reserved: bool, field: str) -> None:
    labels = name.ascii.split(".")
    top = labels[-1]
    if len(labels) == 1:
        raise InvalidInput(field, f"The UPN suffix {name.unicode} has no dot. {_EXAMPLE}")
    if top in _LOCAL:
        raise InvalidInput(
            field, f"The UPN suffix ends with .{top}, which exists in local networks only."
        )
    if top in _UNOWNABLE or ".".join(labels[-2:]) in _EXAMPLES:
        if allow_reserved:
            return
        raise InvalidInput(
            field, f"The UPN suffix {name.unicode} is reserved for examples. {_EXAMPLE}"
        )
    suffixes = _public_suffixes()
    if suffixes.publicsuffix(name.ascii) is None:
        shown = name.unicode.rpartition(".")[2]
        raise InvalidInput(
            field, f"The UPN suffix ends with .{shown}, which is not a top-level domain."
        )
    if suffixes.privatesuffix(name.ascii) is None:
        raise InvalidInput(
            field,
            f"The UPN suffix {name.unicode} belongs to everybody who registers a domain below it. "
            f"{_EXAMPLE}",
        )


@cache
def _public_suffixes() -> PublicSuffixList:
    return PublicSuffixList(accept_unknown=False)


def ascii_login(login: str) -> str:
    """A login as it is stored: with the domain in its ASCII form, where it has one."""
    name, at, domain = login.rpartition("@")
    if not at or domain.isascii():
        return login
    try:
        return f"{name}@{idna.encode(domain, uts46=True, transitional=False).decode()}"
    except idna.IDNAError:
        return login


def shown_login(login: str) -> str:
    """A login as its reader writes it: with the domain in Unicode, where that differs."""
    name, at, domain = login.rpartition("@")
    if "xn--" not in domain:
        return login
    try:
        return f"{name}{at}{idna.decode(domain)}"
    except idna.IDNAError:
        return login
