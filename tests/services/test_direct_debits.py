"""Direct debits: sealed, masked, told to who pays, once per change."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet
from flask import Flask

from config import LANGUAGES, Settings
from extensions import db, queues
from jobs import sweeps
from models import (
    AccountScheme,
    ApiScope,
    AuditEvent,
    Customer,
    DirectDebit,
    DirectDebitNotice,
    Suppression,
    utcnow,
)
from services import bank_accounts, direct_debit_notices, direct_debits, noted_mails, seals
from services.actors import Actor
from services.errors import Conflict, Forbidden, InvalidInputs, ServiceError, Stale
from tests.support.factories import actor_for, find_customer, save
from tests.support.smtp_sink import SmtpSink

OPERATOR, AUDITOR = "operator@foyer.example", "auditor@foyer.example"
BSB: dict[str, Any] = {
    "scheme": AccountScheme.BSB,
    "bsb": "062-000",
    "account_number": "98765432",
    "holder": "Kenton Electronics Ltd",
    "mandate": "KENTON-2026-1",
    "mandate_signed_on": date(2026, 11, 2),
}
IBAN: dict[str, Any] = {
    "scheme": AccountScheme.IBAN,
    "iban": "DE89 3704 0044 0532 0130 00",
    **{name: BSB[name] for name in ("holder", "mandate", "mandate_signed_on")},
}
IN_CLEAR = re.compile(r"98765432|062-?000|0532013000|DE8937")


@pytest.fixture
def customer(app_context: Flask) -> Customer:
    found = find_customer("CQ001")
    found.contact_email = "ada@kenton-electronics.com"
    found.contact_name = "Ada Kenton"
    db.session.commit()
    return found


@pytest.fixture
def operator(app_context: Flask) -> Actor:
    return actor_for(OPERATOR)


def row(customer: Customer) -> DirectDebit:
    return db.session.get_one(DirectDebit, customer.id, populate_existing=True)


def notices() -> list[DirectDebitNotice]:
    query = sa.select(DirectDebitNotice).order_by(DirectDebitNotice.id)
    return list(db.session.scalars(query.execution_options(populate_existing=True)))


def events() -> list[AuditEvent]:
    query = sa.select(AuditEvent).where(AuditEvent.action == "direct_debit.set")
    return list(db.session.scalars(query.order_by(AuditEvent.id)))


def opened(found: DirectDebit) -> bank_accounts.BankAccount:
    return bank_accounts.load(seals.sealer().decrypt(found.account_seal))


# --- Setting -------------------------------------------------------------------------------------


def test_it_is_sealed_masked_and_recorded(customer: Customer, operator: Actor) -> None:
    assert direct_debits.find_direct_debit(operator, customer) is None
    made = direct_debits.set_direct_debit(operator, customer, **BSB)
    assert (made.version, made.scheme, made.masked) == (1, "bsb", "•••• 5432")
    assert (made.holder, made.mandate) == ("Kenton Electronics Ltd", "KENTON-2026-1")
    assert made.mandate_signed_on == date(2026, 11, 2)
    assert made.changed_by == OPERATOR
    account = opened(made)
    assert (account.bsb, account.number) == ("062-000", "98765432")
    (event,) = events()
    assert event.detail["before"] is None
    assert event.detail["after"] == {
        "scheme": "bsb",
        "account": "•••• 5432",
        "holder": "Kenton Electronics Ltd",
        "mandate": "KENTON-2026-1",
        "mandate_signed_on": "2026-11-02",
    }
    assert (event.customer_id, event.actor_login) == (customer.id, OPERATOR)


def test_another_account_replaces_it_and_both_are_on_record(
    customer: Customer, operator: Actor
) -> None:
    direct_debits.set_direct_debit(operator, customer, **BSB)
    made = direct_debits.set_direct_debit(operator, customer, **IBAN)
    assert (made.version, made.scheme, made.masked) == (2, "iban", "•••• 3000")
    assert opened(made).number == "DE89370400440532013000"
    event = events()[-1]
    assert event.detail["before"]["account"] == "•••• 5432"
    assert event.detail["after"]["account"] == "•••• 3000"
    assert event.detail["account_changed"] is True
    assert len(notices()) == 2


def test_an_account_that_looks_the_same_masked_is_another_one(
    customer: Customer, operator: Actor
) -> None:
    direct_debits.set_direct_debit(operator, customer, **BSB)
    made = direct_debits.set_direct_debit(
        operator, customer, **{**BSB, "account_number": "11115432"}
    )
    assert (made.version, opened(made).number) == (2, "11115432")
    assert events()[-1].detail["account_changed"] is True


def test_the_same_again_changes_nothing_and_mails_nothing(
    customer: Customer, operator: Actor
) -> None:
    direct_debits.set_direct_debit(operator, customer, **BSB)
    seal = row(customer).account_seal
    again = direct_debits.set_direct_debit(
        operator, customer, **{**BSB, "bsb": "062 000", "account_number": "9876 5432"}
    )
    assert (again.version, again.account_seal) == (1, seal)
    assert len(notices()) == len(events()) == 1


@pytest.mark.parametrize(
    "change",
    [{"holder": "Kenton"}, {"mandate": "K-2"}, {"mandate_signed_on": date(2026, 11, 3)}],
    ids=["holder", "mandate", "day"],
)
def test_every_other_detail_is_a_change_too(
    customer: Customer, operator: Actor, change: dict[str, Any]
) -> None:
    direct_debits.set_direct_debit(operator, customer, **BSB)
    seal = row(customer).account_seal
    made = direct_debits.set_direct_debit(operator, customer, **{**BSB, **change})
    assert (made.version, made.account_seal) == (2, seal)
    assert events()[-1].detail["account_changed"] is False


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"bsb": None}, {"bsb"}),
        ({"account_number": None}, {"account_number"}),
        ({"iban": "DE89370400440532013000"}, {"iban"}),
        ({"scheme": AccountScheme.IBAN}, {"iban", "bsb", "account_number"}),
        ({"bsb": "62-000", "holder": " ", "mandate": "Ä"}, {"bsb", "holder", "mandate"}),
        ({"account_number": "1234"}, {"account_number"}),
        ({"holder": "x" * 71}, {"holder"}),
        ({"holder": "Ken\u202eton"}, {"holder"}),
        ({"mandate": ""}, {"mandate"}),
        ({"mandate": "x" * 36}, {"mandate"}),
        ({"mandate_signed_on": date(1969, 12, 31)}, {"mandate_signed_on"}),
        ({"mandate_signed_on": date(9999, 12, 31)}, {"mandate_signed_on"}),
    ],
)
def test_every_fault_is_told_and_no_number_is_repeated(
    customer: Customer, operator: Actor, changes: dict[str, Any], fields: set[str]
) -> None:
    with pytest.raises(InvalidInputs) as caught:
        direct_debits.set_direct_debit(operator, customer, **{**BSB, **changes})
    assert {name for name, _ in caught.value.faults} == fields
    assert not re.search(IN_CLEAR.pattern.replace("|062-?000", ""), str(caught.value))
    assert direct_debits.find_direct_debit(operator, customer) is None
    assert not notices()


def test_a_signature_of_today_anywhere_on_earth_is_taken(
    customer: Customer, operator: Actor
) -> None:
    today = (utcnow() + timedelta(hours=14)).date()
    made = direct_debits.set_direct_debit(operator, customer, **{**BSB, "mandate_signed_on": today})
    assert made.mandate_signed_on == today


def test_who_only_reads_sets_nothing(customer: Customer) -> None:
    reader = Actor.from_credential(1, "reader", [ApiScope.READ], all_groups=True)
    for actor in (actor_for(AUDITOR), reader, actor_for("prpkeAdmin@kenton-electronics.com")):
        with pytest.raises(Forbidden):
            direct_debits.set_direct_debit(actor, customer, **BSB)
    writer = Actor.from_credential(1, "writer", [ApiScope.WRITE], all_groups=True)
    with pytest.raises(Forbidden):
        direct_debits.find_direct_debit(writer, customer)


# --- Versions and races --------------------------------------------------------------------------


def test_what_was_changed_meanwhile_is_not_overwritten(customer: Customer, operator: Actor) -> None:
    with pytest.raises(Stale):
        direct_debits.set_direct_debit(operator, customer, **BSB, versions={1})
    direct_debits.set_direct_debit(operator, customer, **BSB)
    with pytest.raises(Stale):
        direct_debits.set_direct_debit(operator, customer, **IBAN, versions={2, 7})
    assert row(customer).scheme is AccountScheme.BSB
    assert direct_debits.set_direct_debit(operator, customer, **IBAN, versions={1}).version == 2


def at_once(app: Flask, jobs: list[Callable[[], object]]) -> list[object]:
    gate = threading.Barrier(len(jobs))
    outcomes: list[object] = []

    def run(job: Callable[[], object]) -> None:
        with app.app_context():
            gate.wait()
            try:
                outcomes.append(job())
            except ServiceError as error:
                outcomes.append(error)

    db.session.commit()
    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def test_several_at_once_are_one_after_the_other(
    app_context: Flask, customer: Customer, operator: Actor
) -> None:
    def setting(number: int) -> Callable[[], object]:
        details = {**BSB, "account_number": f"1000{number}"}
        return lambda: direct_debits.set_direct_debit(operator, customer, **details).version

    outcomes = at_once(app_context, [setting(number) for number in range(4)])
    done = [each for each in outcomes if not isinstance(each, Conflict)]
    assert row(customer).version == len(done) == len(notices()) == len(events())
    accounts = [event.detail["before"] and event.detail["before"]["account"] for event in events()]
    assert accounts == [None, *(event.detail["after"]["account"] for event in events()[:-1])]


def test_of_two_who_saw_the_same_one_is_told(
    app_context: Flask, customer: Customer, operator: Actor
) -> None:
    direct_debits.set_direct_debit(operator, customer, **BSB)

    def setting(number: int) -> Callable[[], object]:
        details = {**BSB, "account_number": f"2000{number}"}
        return lambda: direct_debits.set_direct_debit(operator, customer, **details, versions={1})

    outcomes = at_once(app_context, [setting(number) for number in range(2)])
    assert sorted(type(each).__name__ for each in outcomes) == ["DirectDebit", "Stale"]
    assert row(customer).version == 2


# --- Keys ----------------------------------------------------------------------------------------


def rotate(app: Flask, *keys: str) -> None:
    settings: Settings = app.extensions["settings"]
    object.__setattr__(settings, "seal_keys", keys)


def test_a_new_key_in_front_changes_nothing(
    app_context: Flask, customer: Customer, operator: Actor
) -> None:
    direct_debits.set_direct_debit(operator, customer, **BSB)
    (old,) = app_context.extensions["settings"].seal_keys
    rotate(app_context, Fernet.generate_key().decode(), old)
    assert direct_debits.set_direct_debit(operator, customer, **BSB).version == 1
    assert len(notices()) == 1


def test_an_account_whose_key_is_gone_can_be_set_again(
    app_context: Flask, customer: Customer, operator: Actor
) -> None:
    direct_debits.set_direct_debit(operator, customer, **BSB)
    rotate(app_context, Fernet.generate_key().decode())
    made = direct_debits.set_direct_debit(operator, customer, **BSB)
    assert (made.version, opened(made).number) == (2, "98765432")


# --- The notice ----------------------------------------------------------------------------------


def test_the_contact_is_told_by_a_job(app: Flask, sink: SmtpSink, work: Callable[[], None]) -> None:
    with app.app_context():
        customer = find_customer("CQ001")
        customer.contact_email, customer.contact_name = "ada@kenton.example", "Ada Kenton"
        customer.time_zone = "Europe/Brussels"
        db.session.commit()
        direct_debits.set_direct_debit(actor_for(OPERATOR), customer, **IBAN)
    work()
    (mail,) = sink.mails_to("ada@kenton.example")
    assert mail.message["Subject"] == "The direct debit of KentonElectronics was changed"
    for body in (mail.text, mail.html):
        assert "•••• 3000" in body
        assert "Kenton Electronics Ltd" in body
        assert "Central European" in body
        assert not IN_CLEAR.search(body)
    with app.app_context():
        (notice,) = notices()
        assert notice.mailed_at is not None
        assert notice.message_id == mail.message_id


@pytest.mark.parametrize("engine_name", ["sqlite"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_contact_is_told_in_his_language(
    customer: Customer, operator: Actor, sink: SmtpSink, language: str
) -> None:
    customer.language = language
    db.session.commit()
    direct_debits.set_direct_debit(operator, customer, **BSB)
    assert direct_debit_notices.mail_notice(notices()[0].id)
    mail = sink.mails[-1]
    assert mail.message["Content-Language"] == language
    greeting = {"en": "Hello", "de": "Guten Tag", "fr": "Bonjour", "nl": "Hallo"}[language]
    for body in (mail.text, mail.html):
        assert f"{greeting} Ada Kenton," in body
        assert "•••• 5432" in body
        assert not re.search(r"\(\(|\)\)|\[\[|\]\]", body)


def test_without_an_address_nobody_is_told(customer: Customer, operator: Actor) -> None:
    customer.contact_email = ""
    db.session.commit()
    assert direct_debits.set_direct_debit(operator, customer, **BSB).version == 1
    assert not notices()


def test_a_suppressed_contact_is_not_mailed_and_the_row_says_why(
    customer: Customer, operator: Actor, sink: SmtpSink
) -> None:
    save(Suppression(email_key="ada@kenton-electronics.com", reason="It bounced."))
    direct_debits.set_direct_debit(operator, customer, **BSB)
    (notice,) = notices()
    assert not direct_debit_notices.mail_notice(notice.id)
    (notice,) = notices()
    assert notice.failed_at is not None
    assert "It bounced." in notice.answer
    assert not sink.mails


def test_a_refusal_for_now_is_tried_again_and_one_for_good_is_not(
    customer: Customer, operator: Actor, sink: SmtpSink
) -> None:
    sink.refuse("ada@kenton-electronics.com", 451, "Later", times=1)
    direct_debits.set_direct_debit(operator, customer, **BSB)
    (notice,) = notices()
    assert not direct_debit_notices.mail_notice(notice.id)
    (notice,) = notices()
    assert (notice.failed_at, notice.attempts) == (None, 1)
    assert notice.next_attempt_at > utcnow()
    assert direct_debit_notices.list_unmailed() == []
    be_due(notice)
    assert direct_debit_notices.mail_notice(notice.id)
    sink.refuse("ada@kenton-electronics.com", 550, "Nobody here")
    direct_debits.set_direct_debit(operator, customer, **IBAN)
    assert not direct_debit_notices.mail_notice(notices()[-1].id)
    assert notices()[-1].failed_at is not None
    assert "Nobody here" in notices()[-1].answer


def be_due(notice: DirectDebitNotice) -> None:
    db.session.execute(
        sa.update(DirectDebitNotice)
        .where(DirectDebitNotice.id == notice.id)
        .values(next_attempt_at=utcnow() - timedelta(seconds=1))
    )
    db.session.commit()


def test_an_emptied_queue_loses_no_notice(
    app: Flask, sink: SmtpSink, work: Callable[[], None]
) -> None:
    with app.app_context():
        customer = find_customer("CQ001")
        customer.contact_email = "ada@kenton.example"
        db.session.commit()
        direct_debits.set_direct_debit(actor_for(OPERATOR), customer, **BSB)
        queues.connection.flushall()
        sweeps.sweep()
    work()
    assert len(sink.mails_to("ada@kenton.example")) == 1


class Killed(BaseException):
    """Stands for `kill -9`: nothing of ours runs after it."""


def test_a_repeat_after_a_crash_is_the_same_message(
    customer: Customer, operator: Actor, sink: SmtpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct_debits.set_direct_debit(operator, customer, **BSB)
    (notice,) = notices()
    with monkeypatch.context() as patch:

        def killed(*_: Any, **__: Any) -> None:
            raise Killed

        patch.setattr(noted_mails.NotedMails, "_note", killed)
        with pytest.raises(Killed):
            direct_debit_notices.mail_notice(notice.id)
    db.session.rollback()
    assert not direct_debit_notices.mail_notice(notice.id), "the lease holds"
    db.session.execute(
        sa.update(DirectDebitNotice).values(claimed_at=utcnow() - timedelta(minutes=6))
    )
    db.session.commit()
    assert direct_debit_notices.mail_notice(notice.id)
    first, second = sink.mails
    assert first.data == second.data
    assert first.message_id == notice.message_id
    assert not direct_debit_notices.mail_notice(notice.id)
