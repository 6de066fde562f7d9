"""Bank accounts for direct debit: an Australian BSB with account number, or an IBAN.

What is checked: a BSB has six digits and an account number five to nine, not all of them zero,
which is all that the format of Australian direct entry files lays down (neither has a check
digit). An IBAN has the characters and the length of its country in the SWIFT registry, and check
digits that fit (ISO 13616, by ISO 7064 MOD 97-10). That an account exists is known to its bank
alone. No sentence repeats a number: refusals end up in logs.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

from stdnum import iban as registry
from stdnum.exceptions import InvalidChecksum, ValidationError

from models import AccountScheme
from services.errors import InvalidInput

_BSB = re.compile(r"(\d{3})-?(\d{3})", re.ASCII)
_ACCOUNT = re.compile(r"\d{5,9}", re.ASCII)
_IBAN = re.compile(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}", re.ASCII)
_CHECK_DIGITS = range(2, 99)  # What the calculation yields; 00, 01 and 99 would fit as well.
_MOST_SHOWN = 4
_LONGEST_TYPED = 64


@dataclass(frozen=True, slots=True)
class BankAccount:
    """`number` is an account number or an IBAN without spaces; `bsb` is `062-000` or empty."""

    scheme: AccountScheme
    number: str = field(repr=False)
    bsb: str = field(default="", repr=False)

    @property
    def masked(self) -> str:
        """`•••• 4321`: the last four characters, and never more than half of them."""
        shown = min(_MOST_SHOWN, len(self.number) // 2)
        return f"•••• {self.number[-shown:]}"

    def dump(self) -> bytes:
        """The account in clear, to be sealed."""
        return json.dumps([self.scheme, self.number, self.bsb]).encode()


def load(data: bytes) -> BankAccount:
    """The account that `dump` wrote."""
    scheme, number, bsb = json.loads(data)
    return BankAccount(AccountScheme(scheme), number, bsb)


def parse_bsb(bsb: str, account_number: str) -> BankAccount:
    """Read an Australian account. Raises InvalidInput naming `bsb` or `account_number`."""
    found = _BSB.fullmatch(_compact(bsb))
    if found is None:
        raise InvalidInput("bsb", "The BSB is not six digits, as in 062-000.")
    number = _compact(account_number).replace("-", "")
    if _ACCOUNT.fullmatch(number) is None:
        raise InvalidInput("account_number", "The account number does not have 5 to 9 digits.")
    if not number.strip("0"):
        raise InvalidInput("account_number", "The account number is all zeros.")
    return BankAccount(AccountScheme.BSB, number, f"{found[1]}-{found[2]}")


def parse_iban(text: str) -> BankAccount:
    """Read an IBAN of any country, with or without spaces. Raises InvalidInput naming `iban`."""
    number = _compact(text).upper()
    if _IBAN.fullmatch(number) is None:
        raise InvalidInput(
            "iban",
            "The IBAN does not begin with two letters and two digits, or does not have 15 to 34 "
            "letters and digits in all.",
        )
    try:
        registry.validate(number, check_country=False)
    except InvalidChecksum:
        raise _mistyped() from None
    except ValidationError:
        raise InvalidInput("iban", "The IBAN does not have the form of its country's.") from None
    if int(number[2:4]) not in _CHECK_DIGITS:
        raise _mistyped()
    return BankAccount(AccountScheme.IBAN, number)


def _mistyped() -> InvalidInput:
    return InvalidInput(
        "iban", "The check digits of the IBAN do not fit: a character is wrong, missing or moved."
    )


def _compact(text: str) -> str:
    return "".join(text[:_LONGEST_TYPED].split()) if len(text) <= _LONGEST_TYPED else ""
