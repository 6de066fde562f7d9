"""What happens at the same moment, and what only a few mails do: nobody else pays for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from config import Settings
from extensions import db, queues
from jobs.sweeps import sweep
from models import (
    Customer,
    CustomerEmailTemplate,
    CustomerStatus,
    DeliveryState,
    EmailTemplate,
    EmailTemplateText,
    EmailTemplateVersion,
    LocalPlatformAccount,
    MailingState,
    Suppression,
    TemplateKind,
    User,
    UserStatus,
    Welcome,
    WelcomeState,
    fold,
)
from services import (
    deliveries,
    delivery_claims,
    mail_wires,
    mailing_confirmations,
    mailing_controls,
    passwords,
    reset_links,
    sign_ins,
    smtp,
    system_mails,
)
from services.bounce_addresses import BounceAddresses
from services.delivery_results import Outcome
from services.email_templates import find_template_of_kind, get_current_version
from services.errors import Conflict, InvalidInput, Throttled
from tests.support.claims import (
    claim,
    counters,
    end_with,
    expire,
    fresh_mailing,
    must_claim,
    rows_of,
)
from tests.support.factories import actor_for, find_customer, make_customer, make_user, save
from tests.support.promises import passwords_in, start_welcome
from tests.support.smtp_sink import SmtpSink, Stage

ADMIN = "prpkeAdmin@kenton-electronics.com"
OLD = "old-password-that-works"


@pytest.fixture
def kenton(app_context: Flask) -> Customer:
    return find_customer("CQ001")


@pytest.fixture
def users(kenton: Customer) -> list[User]:
    return [make_user(kenton, password=OLD) for _ in range(3)]


def start(users: list[User]) -> int:
    return start_welcome(actor_for(ADMIN), "CQ001", users, enqueue=False)


def start_template(template: EmailTemplate, users: list[User], word: str = "w" * 20) -> int:
    return mailing_confirmations.confirm_mailing(
        actor_for(ADMIN),
        find_customer("CQ001"),
        get_current_version(template).id,
        [user.id for user in users],
        include_recent=True,
        confirmation=word,
    ).id


def template_with(customer: Customer, **texts: str) -> EmailTemplate:
    """A template with the given text per language."""
    template = save(EmailTemplate(name="Own", name_key=fold("Own"), kind=TemplateKind.GENERAL))
    version = save(EmailTemplateVersion(template_id=template.id, number=1))
    for language, text in texts.items():
        save(
            EmailTemplateText(
                version_id=version.id, language=language, subject="Own", text=text, html=text
            )
        )
    save(CustomerEmailTemplate(customer_id=customer.id, template_id=template.id))
    return template


def in_thread(app: Flask, work: Callable[[], Any]) -> threading.Thread:
    def run() -> None:
        with app.app_context():
            work()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


# --- Cancelling ------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", [Outcome.RETRY, Outcome.RELEASED])
def test_what_comes_back_after_a_cancellation_is_cancelled_too(
    users: list[User], outcome: Outcome
) -> None:
    mailing_id = start(users)
    held = must_claim(mailing_id)
    mailing_controls.cancel_mailing(actor_for(ADMIN), fresh_mailing(mailing_id))
    assert end_with(held, outcome)
    assert fresh_mailing(mailing_id).state is MailingState.CANCELLED
    assert counters(mailing_id) == {"cancelled": 3}
    assert all(row.seal is None for row in rows_of(mailing_id))


def test_a_cancellation_does_not_wait_for_a_claim(
    app_context: Flask, users: list[User], engine_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if engine_name == "sqlite":
        return  # One writer at a time: there is nothing to wait for in a circle.
    mailing_id, admin = start(users), actor_for(ADMIN)
    inside = threading.Event()
    seal_rows = delivery_claims._seal_rows

    def slowly(*args: Any) -> None:
        inside.set()
        time.sleep(0.4)
        seal_rows(*args)

    monkeypatch.setattr(delivery_claims, "_seal_rows", slowly)
    held: list[Any] = []
    mailing = fresh_mailing(mailing_id)
    db.session.rollback()
    thread = in_thread(app_context, lambda: held.append(claim(mailing_id)))
    inside.wait()
    mailing_controls.cancel_mailing(admin, mailing)
    thread.join()
    assert end_with(held[0], Outcome.RELEASED)
    assert fresh_mailing(mailing_id).state is MailingState.CANCELLED


def test_trying_again_does_not_resume_what_is_paused(users: list[User]) -> None:
    mailing_id, admin = start(users), actor_for(ADMIN)
    end_with(must_claim(mailing_id, 1), Outcome.FAILED, code=550, answer="no")
    mailing_controls.pause_mailing(admin, fresh_mailing(mailing_id))
    mailing_controls.retry_failed(admin, fresh_mailing(mailing_id))
    assert fresh_mailing(mailing_id).state is MailingState.PAUSED


# --- Mails that carry different passwords ------------------------------------------------------


def test_a_mail_without_the_portal_password_waits_for_one_in_doubt_that_has_it(
    kenton: Customer, users: list[User]
) -> None:
    only_application = template_with(kenton, en="<p>((application password))</p>")
    first = start(users[:1])
    expire(must_claim(first))
    second = start_template(only_application, users[:1])
    assert claim(second) is None
    end_with(must_claim(first), Outcome.SENT)
    end_with(must_claim(second), Outcome.SENT)
    assert rows_of(first)[0].state is DeliveryState.SENT


def test_a_mail_that_carries_less_leaves_a_waiting_welcome_in_line(
    kenton: Customer, users: list[User]
) -> None:
    only_application = template_with(kenton, en="<p>((application password))</p>")
    first = start(users[:1])
    end_with(must_claim(first), Outcome.RETRY, code=451, answer="later")
    end_with(must_claim(start_template(only_application, users[:1])), Outcome.SENT)
    (row,) = rows_of(first)
    assert row.state is DeliveryState.QUEUED
    assert row.seal is None
    assert not row.application_password_set


def test_resetting_a_password_does_not_take_a_welcome_mail_away(users: list[User]) -> None:
    welcome = start(users[:1])
    reset = find_template_of_kind(TemplateKind.PASSWORD_RESET)
    assert reset is not None
    start_template(reset, users[:1])
    assert counters(welcome) == {"queued": 1}


def test_languages_that_carry_different_passwords_are_refused(
    kenton: Customer, users: list[User]
) -> None:
    template = template_with(kenton, en="<p>((portal password))</p>", de="<p>((login))</p>")
    with pytest.raises(Conflict, match="different passwords"):
        start_template(template, users)


# --- One mail's trouble --------------------------------------------------------------------------


def test_a_server_that_is_slow_to_greet_gets_its_mails(
    users: list[User], sink: SmtpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    mailing_id = start(users)
    connect = smtp.connect

    def slowly(*args: Any, **kwargs: Any) -> Any:
        time.sleep(2.2)
        return connect(*args, **kwargs)

    monkeypatch.setattr(mail_wires, "connect", slowly)
    deliveries.deliver_mailing(mailing_id)
    assert sink.mails


def test_a_fault_of_ours_is_charged_to_its_delivery_alone(
    users: list[User], sink: SmtpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    mailing_id = start(users)
    compose = deliveries.Composer.compose

    def broken(self: Any, delivery: Any, tag: Any = None) -> Any:
        if delivery.user_id == users[1].id:
            raise LookupError("nobody foresaw this")
        return compose(self, delivery, tag)

    monkeypatch.setattr(deliveries.Composer, "compose", broken)
    deliveries.deliver_mailing(mailing_id)
    assert counters(mailing_id) == {"sent": 2, "queued": 1}
    assert sorted(row.attempts for row in rows_of(mailing_id)) == [1, 1, 1]


def test_an_address_that_the_server_cannot_spell_does_not_stop_the_line(
    kenton: Customer, users: list[User], sink: SmtpSink, settings: Settings
) -> None:
    odd = make_user(kenton, email="jürgen@kenton-electronics.com")
    mailing_id = start([odd, *users])
    delivery = next(row for row in rows_of(mailing_id) if row.user_id == odd.id)
    sender = BounceAddresses(settings).address_for(delivery.id)
    sink.refuse(sender, 555, "No SMTPUTF8 here", at=Stage.MAIL)
    deliveries.deliver_mailing(mailing_id)
    assert counters(mailing_id) == {"sent": 3, "failed": 1}


@pytest.mark.parametrize("most", [1, 2])
def test_a_server_that_takes_few_mails_on_a_connection_is_met_with_new_ones(
    users: list[User], sink: SmtpSink, most: int
) -> None:
    sink.mails_per_connection = most
    mailing_id = start(users)
    while deliveries.deliver_mailing(mailing_id):
        pass
    assert counters(mailing_id) == {"sent": 3}
    assert {row.attempts for row in rows_of(mailing_id)} == {1}
    assert len(sink.mails) == 3


def test_a_worker_that_wakes_late_touches_no_password(users: list[User], sink: SmtpSink) -> None:
    first = start(users[:1])
    asleep = must_claim(first)
    expire(asleep)
    asleep.expires_at = 0.0
    end_with(must_claim(first), Outcome.SENT)
    deliveries.deliver_mailing(start(users[:1]))
    mails = len(sink.mails)
    _, application = passwords_in(sink.mails[-1])
    wires = mail_wires.MailWires(1, deliveries._note_in_journal)
    slice_ = deliveries._Slice(asleep.mailing, wires, 5, lambda: False, lambda: True)
    chunk = slice_._begin_chunk(asleep)
    assert [result.outcome for result in chunk.results] == [Outcome.RELEASED]
    account = db.session.get_one(LocalPlatformAccount, users[0].id, populate_existing=True)
    assert passwords.verify(account.password_hash, application)
    assert len(sink.mails) == mails


# --- Signing in ----------------------------------------------------------------------------------


def test_a_sign_in_that_a_reset_overtakes_is_refused(
    app_context: Flask, users: list[User], monkeypatch: pytest.MonkeyPatch
) -> None:
    held, login = must_claim(start(users[:1])), users[0].login
    verify, overtaken = passwords.verify, threading.Event()

    def and_then_reset(stored: str | None, password: str) -> bool:
        result = verify(stored, password)
        if not overtaken.is_set():
            overtaken.set()
            in_thread(app_context, lambda: end_with(held, Outcome.SENT)).join()
        return result

    monkeypatch.setattr(passwords, "verify", and_then_reset)
    with pytest.raises(InvalidInput):
        sign_ins.sign_in(login, OLD)


def test_a_password_typed_as_a_login_is_not_kept(app_context: Flask) -> None:
    with pytest.raises(InvalidInput):
        sign_ins.sign_in("My-Secret-Passw0rd", "x")
    kept = db.session.execute(sa.text("SELECT * FROM audit_events")).all()
    assert kept
    assert "My-Secret-Passw0rd" not in str(kept)


def test_guesses_from_elsewhere_do_not_slow_the_owner_down(users: list[User]) -> None:
    for _ in range(5):
        try:
            sign_ins.sign_in(users[0].login, "a guess", address="198.51.100.7")
        except (InvalidInput, Throttled):
            continue
    user, _ = sign_ins.sign_in(users[0].login, OLD, address="192.0.2.1")
    assert user.id == users[0].id


def test_a_reader_who_proves_a_welcome_mail_has_been_mailed(users: list[User]) -> None:
    mailing_id = start(users[:1])
    held = must_claim(mailing_id)
    expire(held)
    sign_ins.sign_in(users[0].login, held.deliveries[0].credentials.portal)
    user = db.session.get_one(User, users[0].id, populate_existing=True)
    assert user.welcome.state is WelcomeState.SENT


@pytest.mark.parametrize("engine_name", ["postgresql"])
def test_a_reader_who_waits_for_his_row_does_not_hold_his_welcome_meanwhile(
    app_context: Flask, users: list[User]
) -> None:
    """Results are recorded in the same order; in another, two could wait for one another."""
    held, user_id, login = must_claim(start(users[:1])), users[0].id, users[0].login
    expire(held)
    password = held.deliveries[0].credentials.portal
    db.session.rollback()
    with db.engine.begin() as other:
        # As an UPDATE of his password holds it.
        his_row = sa.select(User.id).where(User.id == user_id)
        other.execute(his_row.with_for_update(key_share=True))
        reader = in_thread(app_context, lambda: sign_ins.sign_in(login, password))
        waiting = sa.text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        for _ in range(200):
            with db.engine.connect() as connection:
                if connection.scalar(waiting):
                    break
            time.sleep(0.05)
        else:
            raise AssertionError("the reader does not wait")
        his = sa.select(Welcome.user_id).where(Welcome.user_id == user_id)
        assert other.scalar(his.with_for_update(nowait=True)) == user_id
    reader.join()
    user = db.session.get_one(User, user_id, populate_existing=True)
    assert user.welcome.state is WelcomeState.SENT


# --- Reset links ---------------------------------------------------------------------------------


def test_one_job_at_a_time_mails_a_link(
    app_context: Flask, users: list[User], sink: SmtpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    link_id = reset_links.request_reset(users[0].login)
    assert link_id is not None
    send, entered = system_mails.send, threading.Event()

    def slowly(*args: Any, **kwargs: Any) -> None:
        entered.set()
        time.sleep(0.3)
        send(*args, **kwargs)

    monkeypatch.setattr(system_mails, "send", slowly)
    first = in_thread(app_context, lambda: reset_links.mail_reset_link(link_id))
    entered.wait()
    assert reset_links.list_unmailed() == []
    assert not reset_links.mail_reset_link(link_id)
    first.join()
    assert len(sink.mails) == 1


def test_links_go_only_to_those_who_may_sign_in(
    kenton: Customer, users: list[User], sink: SmtpSink
) -> None:
    elsewhere = make_user(make_customer(status=CustomerStatus.SUSPENDED))
    assert reset_links.request_reset(elsewhere.login) is None
    suspended, suppressed = users[:2]
    asked = [reset_links.request_reset(user.login) for user in (suspended, suppressed)]
    suspended.status = UserStatus.SUSPENDED
    save(Suppression(email_key=suppressed.email_key, reason="550 gone"))
    for link_id in asked:
        assert link_id is not None
        assert not reset_links.mail_reset_link(link_id)
    assert not sink.mails


def test_sweeps_do_not_pile_up_jobs_for_links(users: list[User]) -> None:
    for user in users:
        reset_links.request_reset(user.login)
    for _ in range(5):
        sweep()
    assert queues["default"].count == len(users)
