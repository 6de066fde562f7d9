"""Rotation of SEAL_KEYS for seals that rest for long: they are made anew with the newest key.

Seals of deliveries end within hours, and are left to the keys that made them.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from extensions import db, get_settings
from models import DirectDebit, SubscriptionRequest, TotpFactor, WebhookEndpoint, table_of
from services.seals import SealBox, SealBroken, sealer
from services.transactions import run_transaction

_AT_ONCE = 200


def lasting_seals() -> list[tuple[sa.Column[int], sa.Column[bytes]]]:
    """The columns that hold them, each with the primary key of its table."""
    debits, requests, endpoints, factors = (
        table_of(model).c
        for model in (DirectDebit, SubscriptionRequest, WebhookEndpoint, TotpFactor)
    )
    return [
        (debits.customer_id, debits.account_seal),
        (requests.id, requests.password_seal),
        (endpoints.id, endpoints.secret_seal),
        (endpoints.id, endpoints.previous_seal),
        (factors.id, factors.secret_seal),
    ]


@dataclass(frozen=True, slots=True)
class Resealed:
    """How many seals were made anew, and how many no key opens."""

    resealed: int
    broken: int


def reseal() -> Resealed:
    """Seal anew what an earlier key has sealed. What changes meanwhile is left as it is then.

    Can be broken off and repeated.
    """
    newest, all_keys = SealBox(get_settings().seal_keys[:1]), sealer()
    resealed = broken = 0
    for row_id, column in lasting_seals():
        last = 0
        while rows := _next_rows(row_id, column, last):
            for number, seal in rows:
                last = number
                if _opens(newest, seal):
                    continue
                try:
                    clear = all_keys.decrypt(seal)
                except SealBroken:
                    broken += 1
                    continue
                resealed += _replace(row_id, column, number, seal, all_keys.encrypt(clear))
    return Resealed(resealed, broken)


def _opens(box: SealBox, seal: bytes) -> bool:
    try:
        box.decrypt(seal)
    except SealBroken:
        return False
    return True


def _next_rows(
    row_id: sa.Column[int], column: sa.Column[bytes], last: int
) -> list[tuple[int, bytes]]:
    query = (
        sa.select(row_id, column)
        .where(row_id > last, column.is_not(None))
        .order_by(row_id)
        .limit(_AT_ONCE)
    )
    with db.engine.connect() as connection:
        return [(number, seal) for number, seal in connection.execute(query)]


def _replace(
    row_id: sa.Column[int], column: sa.Column[bytes], number: int, seal: bytes, new: bytes
) -> int:
    statement = (
        sa.update(column.table).where(row_id == number, column == seal).values({column: new})
    )
    return run_transaction(lambda connection: connection.execute(statement).rowcount)
