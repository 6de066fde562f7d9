"""Direct debits: which bank account a customer pays from.

The account rests sealed, and nothing but its last characters is ever shown, mailed or recorded.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from extensions import db
from models import AccountScheme, Customer, DirectDebit, table_of, utcnow
from services import bank_accounts, direct_debit_notices, seals
from services.actors import Actor, Permission
from services.audit_events import insert_event
from services.bank_accounts import BankAccount
from services.errors import Conflict, InvalidInput, InvalidInputs, Stale
from services.registration_checks import clean_text
from services.transactions import run_transaction

HOLDER_LENGTH = 70
MANDATE_LENGTH = 35
_EARLIEST = date(1970, 1, 1)
_EAST_OF_GREENWICH = timedelta(hours=14)
_MANDATE = re.compile(r"[A-Za-z0-9/?:().,'+-]+(?: +[A-Za-z0-9/?:().,'+-]+)*")
_TRIES = 5
_TABLE = table_of(DirectDebit)

STALE = "The direct debit was changed since you read it. Read it again."


@dataclass(frozen=True, slots=True)
class _Details:
    account: BankAccount
    holder: str
    mandate: str
    mandate_signed_on: date


class _Overtaken(Exception):
    """Somebody else changed the row since it was read."""


def find_direct_debit(actor: Actor, customer: Customer) -> DirectDebit | None:
    """What a customer pays from; the caller has found the customer in the actor's scope.

    Raises Forbidden.
    """
    actor.require(Permission.CUSTOMERS_READ)
    return db.session.get(DirectDebit, customer.id, populate_existing=True)


def set_direct_debit(
    actor: Actor,
    customer: Customer,
    *,
    scheme: AccountScheme,
    bsb: str | None = None,
    account_number: str | None = None,
    iban: str | None = None,
    holder: str,
    mandate: str,
    mandate_signed_on: date,
    versions: Collection[int] | None = None,
) -> DirectDebit:
    """Set what a customer pays from, and note a mail about it to the customer's contact.

    Setting what is set already changes nothing. `versions` are those that the caller has seen, None
    when any will do. Raises Forbidden, InvalidInputs with every fault, and Stale.
    """
    actor.require(Permission.CUSTOMERS_EDIT)
    details = _check(scheme, bsb, account_number, iban, holder, mandate, mandate_signed_on)
    customer_id = customer.id
    db.session.commit()  # Gives its connection back, which the transaction below may need.
    for _ in range(_TRIES):
        try:
            notice_id = run_transaction(
                lambda connection: _set(connection, actor, customer_id, details, versions)
            )
        except (_Overtaken, IntegrityError):
            continue
        if notice_id is not None:
            direct_debit_notices.start_mail(notice_id)
        return db.session.get_one(DirectDebit, customer_id, populate_existing=True)
    raise Conflict("The direct debit is being changed by others. Try again in a moment.")


# --- What is right -------------------------------------------------------------------------------


def _check(
    scheme: AccountScheme,
    bsb: str | None,
    account_number: str | None,
    iban: str | None,
    holder: str,
    mandate: str,
    mandate_signed_on: date,
) -> _Details:
    faults: list[tuple[str, str]] = []
    account = None
    try:
        account = _read_account(scheme, bsb, account_number, iban)
    except InvalidInputs as error:
        faults += error.faults
    except InvalidInput as error:
        faults.append((error.field, error.message))
    try:
        holder = clean_text(holder, "holder", "The holder", HOLDER_LENGTH)
    except InvalidInput as error:
        faults.append((error.field, error.message))
    mandate = " ".join(mandate.split())
    if len(mandate) > MANDATE_LENGTH or not _MANDATE.fullmatch(mandate):
        faults.append(
            (
                "mandate",
                f"The mandate's reference is not 1 to {MANDATE_LENGTH} of the letters A to Z, "
                "digits, spaces and / - ? : ( ) . , ' +, which is what banks pass on.",
            )
        )
    # It may be tomorrow already where it was signed.
    if mandate_signed_on > (utcnow() + _EAST_OF_GREENWICH).date():
        faults.append(("mandate_signed_on", "The day of the signature is still to come."))
    elif mandate_signed_on < _EARLIEST:
        faults.append(("mandate_signed_on", f"The day of the signature is before {_EARLIEST}."))
    if faults or account is None:
        raise InvalidInputs(faults)
    return _Details(account, holder, mandate, mandate_signed_on)


def _read_account(
    scheme: AccountScheme, bsb: str | None, account_number: str | None, iban: str | None
) -> BankAccount:
    given = {"bsb": bsb, "account_number": account_number, "iban": iban}
    wanted = {"iban"} if scheme is AccountScheme.IBAN else {"bsb", "account_number"}
    faults = [
        (
            name,
            f"The scheme {scheme} needs it."
            if name in wanted
            else f"It does not belong to the scheme {scheme}.",
        )
        for name, value in given.items()
        if (value is None) == (name in wanted)
    ]
    if faults:
        raise InvalidInputs(faults)
    if scheme is AccountScheme.IBAN:
        return bank_accounts.parse_iban(iban or "")
    return bank_accounts.parse_bsb(bsb or "", account_number or "")


# --- The transaction -----------------------------------------------------------------------------


def _set(
    connection: sa.Connection,
    actor: Actor,
    customer_id: int,
    details: _Details,
    versions: Collection[int] | None,
) -> int | None:
    """Write the details; returns the notice to be mailed, None when there is none."""
    found = connection.execute(
        sa.select(_TABLE).where(_TABLE.c.customer_id == customer_id).with_for_update()
    ).one_or_none()
    if versions is not None and (found is None or found.version not in versions):
        raise Stale(STALE)
    same_account = found is not None and _open(found.account_seal) == details.account
    after = _shown(
        details.account.scheme,
        details.account.masked,
        details.holder,
        details.mandate,
        details.mandate_signed_on,
    )
    before = None
    if found is not None:
        before = _shown(
            found.scheme, found.masked, found.holder, found.mandate, found.mandate_signed_on
        )
        if same_account and before == after:
            return None
    values = {
        "scheme": details.account.scheme,
        "masked": details.account.masked,
        "holder": details.holder,
        "mandate": details.mandate,
        "mandate_signed_on": details.mandate_signed_on,
        "changed_by": actor.login,
        "changed_at": utcnow(),
    }
    if not same_account:
        values["account_seal"] = seals.sealer().encrypt(details.account.dump())
    if found is None:
        connection.execute(sa.insert(_TABLE).values(customer_id=customer_id, version=1, **values))
    else:
        changed = connection.execute(
            sa.update(_TABLE)
            .where(_TABLE.c.customer_id == customer_id, _TABLE.c.version == found.version)
            .values(version=found.version + 1, **values)
        )
        if not changed.rowcount:
            raise _Overtaken
    insert_event(
        connection,
        actor,
        "direct_debit.set",
        customer_id=customer_id,
        object_type="direct_debit",
        object_id=customer_id,
        detail={"before": before, "after": after, "account_changed": not same_account},
    )
    return direct_debit_notices.note(
        connection, customer_id, details.account.masked, details.holder
    )


def _open(seal: bytes) -> BankAccount | None:
    """None for a seal whose key is gone: then any account is another one."""
    try:
        return bank_accounts.load(seals.sealer().decrypt(seal))
    except seals.SealBroken:
        return None


def _shown(
    scheme: AccountScheme, masked: str, holder: str, mandate: str, signed_on: date
) -> dict[str, Any]:
    """What the audit trail may know."""
    return {
        "scheme": str(scheme),
        "account": masked,
        "holder": holder,
        "mandate": mandate,
        "mandate_signed_on": signed_on.isoformat(),
    }
