"""The words of a tenant: what they may be, and that nothing else gets through."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import fold, is_storable
from services import tenant_rules
from services.errors import InvalidInput

SEED = "must not contain spaces, underscores, or special characters"
HOSTILE = [
    "Kenton\0",
    "Kenton\ud800",
    "Kenton\u202eson",
    "Kenton\u200b",
    "Kenton\u3164",  # A letter that shows nothing.
    "Kenton\u02bc",  # An apostrophe that is a letter.
    "Kenton\ufe0f",
    "Z" + "\u0301" * 4,
    "\u0301Kenton",
    "Kenton😀",
    "Kenton Electronics",
    "Kenton_Electronics",
    "Kenton-Electronics",
    "O'Neil",
    "<b>Kenton</b>",
    "Kenton';--",
    "Kenton\r\nBcc",
    "A&B",
]


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ("KentonElectronics", "KentonElectronics"),
        ("  Kenton ", "Kenton"),
        ("3M", "3M"),
        ("e\u0301lan", "élan"),
        ("Ｋenton", "Kenton"),
        ("SociétéGénérale", "SociétéGénérale"),
        ("株式会社ケントン", "株式会社ケントン"),
        ("कंपनी", "कंपनी"),
        ("שלום", "שלום"),
        ("شركة٢", "شركة٢"),
        ("Кентон", "Кентон"),
        ("ab", "ab"),
        ("x" * 64, "x" * 64),
    ],
)
def test_a_name_is_of_letters_and_digits_of_any_script(typed: str, stored: str) -> None:
    assert tenant_rules.check_name(typed) == stored


@pytest.mark.parametrize("typed", HOSTILE)
@pytest.mark.parametrize("field", ["name", "short_name"])
def test_a_name_with_anything_else_is_refused_in_the_words_of_the_portal(
    field: str, typed: str
) -> None:
    check = getattr(tenant_rules, f"check_{field}")
    with pytest.raises(InvalidInput) as caught:
        check(typed[:16] if field == "short_name" else typed)
    assert caught.value.field == field
    assert SEED in caught.value.message


def test_a_refused_name_comes_with_a_proposal() -> None:
    with pytest.raises(InvalidInput, match="Write KentonElectronics, for example"):
        tenant_rules.check_name("Kenton Electronics")
    with pytest.raises(InvalidInput, match=r"special characters\.$"):
        tenant_rules.check_name("😀😀")


@pytest.mark.parametrize("typed", ["K\u0435nton", "Kent\u03bfn", "\u0555dessa"])
def test_letters_that_look_alike_do_not_stand_side_by_side(typed: str) -> None:
    with pytest.raises(InvalidInput, match="look alike"):
        tenant_rules.check_name(typed)


@pytest.mark.parametrize(
    ("check", "typed", "told"),
    [
        (tenant_rules.check_name, "", "The name has 0 of at least 2"),
        (tenant_rules.check_name, "a", "The name has 1 of at least 2"),
        (tenant_rules.check_name, "a" * 65, "The name has 65 characters. The limit is 64"),
        (tenant_rules.check_name, "a" * 1_000_000, "The name has 1,000,000 characters"),
        (tenant_rules.check_name, "ß" * 33, "The name has 66 letters"),
        (tenant_rules.check_name, "\ufdfa" * 64, "The limit is 64"),
        (tenant_rules.check_short_name, "k", "The short name has 1 of at least 2"),
        (tenant_rules.check_short_name, "k" * 17, "The short name has 17 characters. The limit"),
        (tenant_rules.check_short_name, "ké", "letters a to z"),
        (tenant_rules.check_user_name, "a", "The user name has 1 of at least 2"),
        (tenant_rules.check_user_name, "a" * 62, "The user name has 62 characters. The limit"),
        (tenant_rules.check_user_name, "a" * 10**6, "The user name has 1,000,000 characters"),
    ],
)
def test_lengths_are_told_with_their_limit(check, typed: str, told: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check(typed)
    assert told in caught.value.message


@pytest.mark.parametrize("typed", ["admin", "Administrator", "ROOT", "Ｆoyer", "sp", "Konos"])
def test_words_that_stand_for_somebody_else_are_reserved(typed: str) -> None:
    for check in (tenant_rules.check_name, tenant_rules.check_short_name):
        with pytest.raises(InvalidInput, match="is reserved"):
            check(typed)


def test_the_name_of_the_provider_is_reserved() -> None:
    with pytest.raises(InvalidInput, match="FoyerCommunications is reserved"):
        tenant_rules.check_name("FoyerCommunications", provider="Foyer Communications")
    assert tenant_rules.check_name("FoyerCommunications", provider="") == "FoyerCommunications"
    assert tenant_rules.check_short_name("fc", provider="Foyer Communications") == "fc"


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("KentonElectronics", "ke"),
        ("Kenton", "kenton"),
        ("kenton", "kenton"),
        ("IBMDeutschland", "ibmd"),
        ("Kenton24", "k24"),
        ("Harborlighting", "harborli"),
        ("Štěpánek", "stepanek"),
        ("StraßenBau", "sb"),
        ("Kenton Electronics", "ke"),
        ("", ""),
        ("K", ""),
        ("株式会社", ""),
        ("Admin", ""),
        ("SarahPlumbing", "sarahplu"),  # Not sp, which is reserved.
        ("ABCD" * 16, "abcdabcdabcdabcd"),
    ],
)
def test_a_short_name_is_suggested_from_the_name(name: str, short: str) -> None:
    assert tenant_rules.suggest_short_name(name) == short


@pytest.mark.parametrize("typed", ["keAdmin", "ke.admin", "ke-admin.2", "a1", "x" * 61, "12"])
def test_a_user_name_is_of_letters_digits_dots_and_hyphens(typed: str) -> None:
    assert tenant_rules.check_user_name(typed) == typed


@pytest.mark.parametrize(
    "typed",
    [
        *(".ke", "ke.", "-ke", "ke-", "k..e", "k--e", "k.-e", "k e", "k_e", "kê", "ke@x"),
        *("ke\0", "k\ne", "ke\ud800", "ke\u202e", "k'e", "<i>"),
    ],
)
def test_a_user_name_of_anything_else_is_refused(typed: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        tenant_rules.check_user_name(typed)
    assert caught.value.field == "user_name"


def test_the_final_id_is_prefixed_and_as_long_as_an_address_may_be() -> None:
    login = tenant_rules.check_login("keAdmin", "kenton-electronics.com")
    assert login == "prpkeAdmin@kenton-electronics.com"
    suffix = f"{'a' * 63}.{'b' * 63}.{'c' * 63}.com"  # 195 characters.
    assert len(tenant_rules.check_login("x" * 55, suffix)) == 254
    with pytest.raises(InvalidInput, match=r"has 255 characters\. The limit is 254") as caught:
        tenant_rules.check_login("x" * 56, suffix)
    assert caught.value.field == "upn_suffix"


@given(st.text(max_size=80))
def test_whatever_is_typed_a_name_is_kept_as_its_columns_hold_it_or_refused(typed: str) -> None:
    try:
        name = tenant_rules.check_name(typed)
    except InvalidInput:
        return
    assert is_storable(name)
    assert 2 <= len(name) <= 64
    assert len(fold(name)) <= 64
    assert unicodedata.normalize("NFC", name) == name
    assert not any(unicodedata.category(letter)[0] in "ZCPS" for letter in name)
    assert tenant_rules.check_name(name) == name


@given(st.text(max_size=40))
def test_whatever_is_typed_what_goes_into_logins_is_plain(typed: str) -> None:
    for check, shape in (
        (tenant_rules.check_short_name, r"[A-Za-z0-9]{2,16}"),
        (tenant_rules.check_user_name, r"[A-Za-z0-9][A-Za-z0-9.-]{0,59}[A-Za-z0-9]"),
    ):
        try:
            word = check(typed)
        except InvalidInput:
            continue
        assert re.fullmatch(shape, word)


@given(st.text(max_size=80))
def test_a_suggestion_is_a_short_name(name: str) -> None:
    if suggested := tenant_rules.suggest_short_name(name):
        assert tenant_rules.check_short_name(suggested) == suggested == suggested.lower()
