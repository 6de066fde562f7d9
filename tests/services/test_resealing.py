"""Rotation of keys: what rests for long is sealed anew, and then the old key can go."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet
from flask import Flask

from extensions import db
from models import AccountScheme, DirectDebit, RequestState, SubscriptionRequest
from models.base import Base
from services import (
    bank_accounts,
    direct_debits,
    request_passwords,
    resealing,
    seals,
    second_factors,
)
from services.resealing import Resealed
from tests.support.factories import actor_for, find_customer, find_user
from tests.support.requests import make_request

SHORT_LIVED = {"deliveries.seal", "idempotency_keys.answer"}
FILES = {"attachments.content", "user_import_pieces.content"}


def rotate(app: Flask, *keys: str) -> None:
    object.__setattr__(app.extensions["settings"], "seal_keys", keys)


@pytest.fixture
def sealed(app_context: Flask) -> tuple[int, int]:
    """A customer with a bank account, and a request with a password."""
    customer = find_customer("CQ001")
    direct_debits.set_direct_debit(
        actor_for("operator@foyer.example"),
        customer,
        scheme=AccountScheme.IBAN,
        iban="DE89370400440532013000",
        holder="Kenton",
        mandate="K-1",
        mandate_signed_on=date(2026, 11, 2),
    )
    seal = request_passwords.seal_password("violet-anchor-42-piano")[1]
    request = make_request(RequestState.AWAITING_APPROVAL, password_seal=seal)
    return customer.id, request.id


def opened(customer_id: int, request_id: int) -> tuple[str, str]:
    debit = db.session.get_one(DirectDebit, customer_id, populate_existing=True)
    request = db.session.get_one(SubscriptionRequest, request_id, populate_existing=True)
    assert request.password_seal is not None
    account = bank_accounts.load(seals.sealer().decrypt(debit.account_seal))
    return account.number, request_passwords.open_password(request.password_seal)


CLEAR = ("DE89370400440532013000", "violet-anchor-42-piano")


def test_after_it_the_old_key_can_go(app_context: Flask, sealed: tuple[int, int]) -> None:
    (old,) = app_context.extensions["settings"].seal_keys
    new = Fernet.generate_key().decode()
    assert resealing.reseal() == Resealed(0, 0)
    rotate(app_context, new, old)
    assert opened(*sealed) == CLEAR
    assert resealing.reseal() == Resealed(2, 0)
    assert resealing.reseal() == Resealed(0, 0)
    rotate(app_context, new)
    assert opened(*sealed) == CLEAR
    debit = db.session.get_one(DirectDebit, sealed[0], populate_existing=True)
    assert debit.version == 1


def test_what_no_key_opens_is_counted_and_left(app_context: Flask, sealed: tuple[int, int]) -> None:
    (old,) = app_context.extensions["settings"].seal_keys
    rotate(app_context, Fernet.generate_key().decode())
    assert resealing.reseal() == Resealed(0, 2)
    result = app_context.test_cli_runner().invoke(args=["reseal"])
    assert result.exit_code == 1
    assert "None of SEAL_KEYS opens 2 of the secrets." in result.output
    rotate(app_context, old)
    assert opened(*sealed) == CLEAR
    assert app_context.test_cli_runner().invoke(args=["reseal"]).output == "Sealed anew: 0.\n"


def test_what_was_set_meanwhile_is_not_overwritten(
    app_context: Flask, sealed: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    (old,) = app_context.extensions["settings"].seal_keys
    rotate(app_context, Fernet.generate_key().decode(), old)
    newer = seals.sealer().encrypt(b'["iban", "NEWER", ""]')
    original = resealing._replace

    def overtaken(row_id: Any, column: Any, number: int, seal: bytes, new: bytes) -> int:
        if column.table.name == "direct_debits":
            db.session.execute(sa.update(DirectDebit).values(account_seal=newer))
            db.session.commit()
        return original(row_id, column, number, seal, new)

    monkeypatch.setattr(resealing, "_replace", overtaken)
    assert resealing.reseal() == Resealed(1, 0)
    assert opened(*sealed)[0] == "NEWER"


def test_more_than_fit_into_one_look_are_all_sealed_anew(
    app_context: Flask, sealed: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resealing, "_AT_ONCE", 1)
    seal = request_passwords.seal_password("x")[1]
    for _ in range(3):
        make_request(RequestState.AWAITING_APPROVAL, password_seal=seal)
    (old,) = app_context.extensions["settings"].seal_keys
    rotate(app_context, Fernet.generate_key().decode(), old)
    assert resealing.reseal() == Resealed(5, 0)


def test_every_column_with_a_seal_is_thought_of() -> None:
    """A new one rests for long, or is named above as one that ends by itself or is no seal."""
    known = {f"{column.table.name}.{column.name}" for _, column in resealing.lasting_seals()}
    binary = {
        f"{table.name}.{column.name}"
        for table in Base.metadata.tables.values()
        for column in table.columns
        if isinstance(column.type, sa.LargeBinary)
    }
    assert binary == known | SHORT_LIVED | FILES


def test_the_key_of_an_authenticator_app_outlives_the_key_that_sealed_it(
    app_context: Flask,
) -> None:
    (old,) = app_context.extensions["settings"].seal_keys
    user = find_user("operator@foyer.example")
    second_factors.begin_app(user)
    before = second_factors.find_setup(user)
    new = Fernet.generate_key().decode()
    rotate(app_context, new, old)
    assert resealing.reseal() == Resealed(1, 0)
    rotate(app_context, new)
    assert second_factors.find_setup(user) == before
    assert before is not None
    rotate(app_context, Fernet.generate_key().decode())
    assert second_factors.find_setup(user) is None
