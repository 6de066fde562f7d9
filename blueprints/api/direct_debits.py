"""Direct debit in the Customer section of the API."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from flask import Response
from pydantic import Field

from blueprints.api.fields import Given, Line, Shown, Utc
from blueprints.api.operations import Answer, Call, answer, no_content, operation
from models import AccountScheme, ApiScope, DirectDebit
from services import direct_debits

_TAG = "Customer"
_PATH = "/group/<groupno>/customer/<custno>/direct-debit"

_Typed = Annotated[Line, Field(max_length=64)]


class DirectDebitGiven(Given):
    """An account is named by `bsb` and `account_number`, or by `iban`, as `scheme` says."""

    scheme: AccountScheme
    bsb: _Typed | None = Field(default=None, description="Six digits, as in `062-000`.")
    account_number: _Typed | None = Field(default=None, description="Five to nine digits.")
    iban: _Typed | None = Field(
        default=None,
        description="Of any country, spaces or not. Its form and check digits are checked.",
    )
    holder: Annotated[Line, Field(min_length=1, max_length=700)] = Field(
        description=f"Who the account belongs to, at most {direct_debits.HOLDER_LENGTH} characters."
    )
    mandate: Annotated[Line, Field(min_length=1, max_length=350)] = Field(
        description=f"Your reference of the mandate, at most {direct_debits.MANDATE_LENGTH} "
        "characters that banks pass on: A to Z, digits, spaces and / - ? : ( ) . , ' +"
    )
    mandate_signed_on: date


class DirectDebitShown(Shown):
    """What a customer pays from. Nobody is shown the account in full."""

    scheme: AccountScheme
    account: str = Field(description="Masked: the last characters of the account or IBAN.")
    holder: str
    mandate: str
    mandate_signed_on: date
    version: int = Field(description="Also its ETag; for If-Match.")
    changed_at: Utc


def _answer(found: DirectDebit) -> Response:
    shown = DirectDebitShown(
        scheme=found.scheme,
        account=found.masked,
        holder=found.holder,
        mandate=found.mandate,
        mandate_signed_on=found.mandate_signed_on,
        version=found.version,
        changed_at=found.changed_at,
    )
    return answer(shown, version=found.version)


@operation(
    "GET",
    _PATH,
    id="getDirectDebit",
    tag=_TAG,
    summary="Get Customer Direct Debit",
    scope=ApiScope.READ,
    answers={
        200: Answer("What the customer pays from.", DirectDebitShown, headers=("ETag",)),
        204: Answer("No direct debit is set."),
    },
)
def get_direct_debit(call: Call) -> Response:
    """The direct debit details of a customer, the account masked."""
    found = direct_debits.find_direct_debit(call.actor, call.customer)
    return no_content() if found is None else _answer(found)


@operation(
    "POST",
    _PATH,
    id="setDirectDebit",
    tag=_TAG,
    summary="Set Customer Direct Debit",
    scope=ApiScope.WRITE,
    body=DirectDebitGiven,
    updates=True,
    conflicts=True,
    answers={200: Answer("What is set now.", DirectDebitShown, headers=("ETag",))},
    example={
        "scheme": "bsb",
        "bsb": "062-000",
        "account_number": "12345678",
        "holder": "Kenton Electronics Ltd",
        "mandate": "KENTON-2026-1",
        "mandate_signed_on": "2026-11-02",
    },
)
def set_direct_debit(call: Call) -> Response:
    """Set what the customer pays from, in place of what was set before. The customer's contact is
    told by mail, with the account masked; setting the same again changes nothing and mails nothing.
    The account is kept encrypted and cannot be read back."""
    given: DirectDebitGiven = call.body
    found = direct_debits.set_direct_debit(
        call.actor, call.customer, **dict(given), versions=call.versions
    )
    return _answer(found)
