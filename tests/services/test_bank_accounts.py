"""Bank accounts: read as people write them, refused without a word of the number, masked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import AccountScheme
from services import bank_accounts
from services.errors import InvalidInput

IBANS = {
    "BE": "BE68539007547034",
    "DE": "DE89370400440532013000",
    "FR": "FR1420041010050500013M02606",
    "GB": "GB29NWBK60161331926819",
    "MT": "MT84MALT011000012345MTLCAST001S",
    "NL": "NL91ABNA0417164300",
    "NO": "NO9386011117947",
    "SE": "SE4550000000058398257466",
}
"""The examples of the registry."""


@pytest.mark.parametrize("country", IBANS)
def test_ibans_of_the_registry_are_read(country: str) -> None:
    iban = IBANS[country]
    spaced = " ".join(iban[at : at + 4] for at in range(0, len(iban), 4))
    for typed in (iban, iban.lower(), spaced, f" {spaced} "):
        account = bank_accounts.parse_iban(typed)
        assert (account.scheme, account.number) == (AccountScheme.IBAN, iban)
        assert account.masked == f"•••• {iban[-4:]}"


def mod_97(country: str, bban: str) -> str:
    """The IBAN with the check digits that its own text gives."""
    digits = "".join(str(int(letter, 36)) for letter in f"{bban}{country}00")
    return f"{country}{98 - int(digits) % 97:02}{bban}"


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("", "does not begin with"),
        ("DE8937040044053201300", "check digits"),
        ("DE89370400440532013001", "check digits"),
        ("DE98370400440532013000", "check digits"),
        (mod_97("DE", "37040044053201300"), "form of its country"),
        (mod_97("DE", "3704004405320130001"), "form of its country"),
        (mod_97("NL", "0BNA0417164300"), "form of its country"),
        (mod_97("US", "37040044053201300"), "form of its country"),
        ("DE8937040044053201300٣", "does not begin with"),
        ("DE89 3704 0044 0532 0130 00 XXXXXXXXXXXXXXX", "does not begin with"),
        ("D" * 65, "does not begin with"),
        ("DE89\x00370400440532013000", "does not begin with"),
        ("\ud800" * 22, "does not begin with"),
    ],
)
def test_what_is_no_iban_is_refused_in_words_without_it(typed: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why) as caught:
        bank_accounts.parse_iban(typed)
    assert caught.value.field == "iban"
    assert not any(letter.isdigit() for letter in caught.value.message.replace("15 to 34", ""))


def test_check_digits_that_the_calculation_never_gives_are_refused() -> None:
    """MOD 97 alone takes 02 and 99 for the same; only the first is ever given out."""
    bban = next(
        f"{number:018}" for number in range(200) if mod_97("DE", f"{number:018}")[2:4] == "02"
    )
    assert bank_accounts.parse_iban(f"DE02{bban}").number == f"DE02{bban}"
    with pytest.raises(InvalidInput, match="check digits"):
        bank_accounts.parse_iban(f"DE99{bban}")


@given(st.integers(0, 21), st.sampled_from("0123456789"))
def test_one_wrong_digit_is_always_found(place: int, digit: str) -> None:
    iban = IBANS["DE"]
    wrong = iban[:place] + digit + iban[place + 1 :]
    if wrong != iban:
        with pytest.raises(InvalidInput):
            bank_accounts.parse_iban(wrong)


@pytest.mark.parametrize("bsb", ["062-000", "062000", "062 000", " 062-000 "])
@pytest.mark.parametrize("number", ["12345678", "1234 5678", "1234-5678"])
def test_australian_accounts_are_read(bsb: str, number: str) -> None:
    account = bank_accounts.parse_bsb(bsb, number)
    assert (account.scheme, account.bsb, account.number) == ("bsb", "062-000", "12345678")
    assert account.masked == "•••• 5678"


@pytest.mark.parametrize(
    ("number", "masked"),
    [
        ("12345", "•••• 45"),
        ("123456", "•••• 456"),
        ("1234567", "•••• 567"),
        ("123456789", "•••• 6789"),
    ],
)
def test_never_more_than_half_of_a_number_is_shown(number: str, masked: str) -> None:
    assert bank_accounts.parse_bsb("062-000", number).masked == masked


@pytest.mark.parametrize(
    "bsb", ["", "62-000", "0620-00", "062--000", "06200a", "٠٦٢٠٠٠", "062-0000"]
)
def test_what_is_no_bsb_is_refused(bsb: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        bank_accounts.parse_bsb(bsb, "12345678")
    assert caught.value.field == "bsb"


@pytest.mark.parametrize(
    "number", ["", "1234", "1234567890", "1234x", "00000", "000000000", "١٢٣٤٥"]
)
def test_what_is_no_account_number_is_refused(number: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        bank_accounts.parse_bsb("062-000", number)
    assert caught.value.field == "account_number"


def test_an_account_survives_its_dump_and_never_shows_in_its_repr() -> None:
    for account in (
        bank_accounts.parse_bsb("062-000", "123456789"),
        bank_accounts.parse_iban(IBANS["MT"]),
    ):
        assert bank_accounts.load(account.dump()) == account
        assert account.number not in repr(account)
        assert "062" not in repr(account)
