"""UPN suffixes: what people paste, both forms, and what is no domain of their own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services import domain_names
from services.domain_names import DomainName
from services.errors import InvalidInput


def parse(text: str, *, allow_reserved: bool = False) -> DomainName:
    return domain_names.parse_suffix(text, allow_reserved=allow_reserved)


def refusal(text: str) -> str:
    with pytest.raises(InvalidInput) as caught:
        parse(text)
    assert caught.value.field == "upn_suffix"
    return caught.value.message


@pytest.mark.parametrize(
    "typed",
    [
        "kenton-electronics.com",
        "Kenton-Electronics.COM",
        " kenton-electronics.com. ",
        "@kenton-electronics.com",
        "info@kenton-electronics.com",
        "https://kenton-electronics.com",
        "HTTPS://www.Kenton-Electronics.com:8443/contact?a=b#c",
        "http://user:secret@kenton-electronics.com/",
        "kenton-electronics.com/contact",
        "ｋenton-electronics。com",
        "kenton\u00ad-electronics.com",
    ],
)
def test_a_suffix_is_read_from_what_people_paste(typed: str) -> None:
    assert parse(typed) == DomainName("kenton-electronics.com", "kenton-electronics.com")


@pytest.mark.parametrize(
    ("typed", "stored", "shown"),
    [
        ("München.DE", "xn--mnchen-3ya.de", "münchen.de"),
        ("mu\u0308nchen.de", "xn--mnchen-3ya.de", "münchen.de"),
        ("xn--mnchen-3ya.de", "xn--mnchen-3ya.de", "münchen.de"),
        ("faß.de", "xn--fa-hia.de", "faß.de"),
        ("кентон.рф", "xn--e1ajkaex.xn--p1ai", "кентон.рф"),
        ("例え.jp", "xn--r8jz45g.jp", "例え.jp"),
        ("sales.kenton.co.uk", "sales.kenton.co.uk", "sales.kenton.co.uk"),
        ("www.kenton.com", "www.kenton.com", "www.kenton.com"),
        ("kenton.github.io", "kenton.github.io", "kenton.github.io"),
    ],
)
def test_a_suffix_has_a_form_to_store_and_one_to_show(typed: str, stored: str, shown: str) -> None:
    assert parse(typed) == DomainName(stored, shown)
    assert domain_names.show_name(stored) == DomainName(stored, shown)
    assert parse(typed).is_international is (stored != shown)


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("com", "has no dot"),
        ("localhost", "has no dot"),
        ("co.uk", "belongs to everybody"),
        ("github.io", "belongs to everybody"),
        ("kenton.nosuchdomain", "ends with .nosuchdomain, which is not a top-level domain"),
        ("kenton.local", "exists in local networks only"),
        ("kenton.example", "is reserved for examples"),
        ("kenton.test", "is reserved for examples"),
        ("mail.example.com", "is reserved for examples"),
        ("192.0.2.1", "is an IP address"),
        ("http://192.0.2.1/", "is an IP address"),
        ("[2001:db8::1]", "is an IP address"),
        ("2001:db8::1", "is an IP address"),
        ("1.2.3", "is an IP address"),
        ("127.0x1", "is an IP address"),
        ("kenton_electronics.com", "has the character _"),
        ("kenton's.com", "has the character '"),
        ("ken ton.com", "has a space"),
        ("-kenton.com", "hyphen"),
        ("kenton..com", "between two dots"),
        (".", "between two dots"),
        ("@", "between two dots"),
        ("https://", "between two dots"),
        (f"{'k' * 64}.com", "The limit is 63"),
        (f"{'k' * 60}.{'k' * 60}.{'k' * 60}.{'k' * 60}.{'k' * 60}.com", "The limit is 253"),
        ("k" * 1_000_000, "The UPN suffix has 1,000,000 characters. The limit is 253"),
        ("💩.la", "character that no domain name has"),
        ("kenton\0.com", "character that no domain name has"),
        ("kenton\ud800.com", "character that no domain name has"),
        ("kenton\u202e.com", "character that no domain name has"),
        ("xn--a.com", "character that no domain name has"),
        ("k\u0435nton.com", "scripts that look alike"),
        ("xn--knton-3ve.com", "scripts that look alike"),
        ("kent\u03bfn.com", "scripts that look alike"),
        ("'; DROP TABLE customers; --", "has a space"),
        ("<script>.com", "has the character <"),
    ],
)
def test_what_is_no_domain_of_ones_own_is_refused_with_the_reason(typed: str, told: str) -> None:
    assert told in refusal(typed)


def test_names_that_nobody_owns_suit_demonstrations() -> None:
    assert parse("bergmann.example", allow_reserved=True).ascii == "bergmann.example"
    assert parse("shop.bergmann.test", allow_reserved=True).ascii == "shop.bergmann.test"
    with pytest.raises(InvalidInput):
        parse("example", allow_reserved=True)


def test_a_name_that_is_none_is_shown_as_it_is_stored() -> None:
    assert domain_names.show_name("xn--a.com") == DomainName("xn--a.com", "xn--a.com")
    assert domain_names.show_name("") == DomainName("", "")


_LABELS = st.text(st.sampled_from("abz09-_.@/:[]xnäßеΩ字א \0\ud800．"), max_size=30)


@given(st.one_of(_LABELS, st.text(max_size=40), _LABELS.map("{}.com".format)))
def test_whatever_is_typed_a_suffix_is_stored_as_a_host_name_or_refused(typed: str) -> None:
    try:
        name = parse(typed, allow_reserved=True)
    except InvalidInput:
        return
    assert name.ascii == name.ascii.lower()
    assert name.ascii.isascii()
    assert len(name.ascii) <= 253
    assert all(1 <= len(label) <= 63 for label in name.ascii.split("."))
    assert set(name.ascii) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.")
    assert parse(name.ascii, allow_reserved=True) == name
    assert parse(name.unicode, allow_reserved=True) == name
