"""Welcome mails that other systems ask for: accepted as one row, made a mailing by the worker."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa
from flask import Flask
from redis import Redis

from config import Settings
from extensions import _ASKED_FOR, db, queues
from jobs.deliveries import deliver_waiting
from jobs.sweeps import sweep
from models import (
    AcceptedWelcome,
    AuditEvent,
    Customer,
    CustomerEmailTemplate,
    Delivery,
    DeliveryState,
    EmailTemplateText,
    Lane,
    Mailing,
    Role,
    SkipReason,
    User,
    UserStatus,
    utcnow,
)
from services import audit_events, deliveries, sign_ins, welcome_mails
from services.actors import Actor
from services.email_templates import get_current_version
from services.errors import Conflict, Forbidden
from tests.support.factories import actor_for, find_customer, make_customer, make_user, make_welcome
from tests.support.promises import passwords_in
from tests.support.smtp_sink import SmtpSink
from tests.support.work import work_queues

LANDLORD = "landlord@foyer.example"
ADMIN = "admin@kenton-electronics.com"


def accept(login: str = LANDLORD, web_id: str = "CQ001") -> None:
    resend(actor_for(login), find_customer(web_id))


def resend(actor: Actor, customer: Customer) -> None:
    welcome_mails.resend_to_administrators(actor, customer.group.groupno, customer.custno)


def count(model: type) -> int:
    return db.session.scalar(sa.select(sa.func.count()).select_from(model)) or 0


def test_what_is_accepted_becomes_a_mailing(app_context: Flask) -> None:
    accept()
    accepted = db.session.scalars(sa.select(AcceptedWelcome)).one()
    at = accepted.accepted_at
    assert (count(Mailing), count(Delivery), count(AuditEvent)) == (0, 0, 0)

    assert welcome_mails.begin_accepted() == 1

    db.session.expire_all()
    assert count(AcceptedWelcome) == 0
    mailing = db.session.scalars(sa.select(Mailing)).one()
    landlord = actor_for(LANDLORD)
    assert (mailing.total, mailing.queued, mailing.skipped) == (1, 1, 0)
    assert (mailing.created_by_id, mailing.created_at) == (landlord.user_id, at)
    assert mailing.resets_portal_password
    assert mailing.resets_application_password
    event = db.session.scalars(sa.select(AuditEvent)).one()
    assert (event.action, event.actor_login, event.at) == ("mailing.confirmed", LANDLORD, at)
    assert event.object_id == mailing.id
    assert event.detail == {"template": "Welcome", "version": 1, "recipients": 1, "skipped": 0}
    assert welcome_mails.begin_accepted() == 0


def test_recipients_are_those_of_the_moment_of_acceptance(app_context: Flask) -> None:
    customer = find_customer("CQ001")
    suspended = make_user(customer, role=Role.CUSTOMER_ADMIN, status=UserStatus.SUSPENDED)
    accept()
    make_user(customer, role=Role.CUSTOMER_ADMIN)

    welcome_mails.begin_accepted()

    found = db.session.scalars(sa.select(Delivery).order_by(Delivery.user_id)).all()
    assert [(each.email, each.skip_reason) for each in found] == [
        (ADMIN, None),
        (suspended.email, SkipReason.SUSPENDED),
    ]
    mailing = db.session.scalars(sa.select(Mailing)).one()
    assert (mailing.total, mailing.queued, mailing.skipped) == (2, 1, 1)


def test_a_later_one_takes_the_place_of_one_that_waits(app_context: Flask) -> None:
    accept()
    accept()
    assert welcome_mails.begin_accepted() == 2

    first, second = db.session.scalars(sa.select(Delivery).order_by(Delivery.mailing_id)).all()
    assert (first.state, first.skip_reason) == (DeliveryState.SKIPPED, SkipReason.REPLACED)
    assert second.state is DeliveryState.QUEUED


def test_several_workers_make_each_mailing_once(app: Flask) -> None:
    with app.app_context():
        for number in range(12):
            customer = make_customer()
            make_user(customer, role=Role.CUSTOMER_ADMIN)
            make_welcome(customer)
            resend(actor_for(LANDLORD), customer)
            assert count(AcceptedWelcome) == number + 1
        db.session.remove()
    made: list[int] = []
    gate = threading.Barrier(4)

    def begin() -> None:
        with app.app_context():
            gate.wait()
            made.append(welcome_mails.begin_accepted())

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    with app.app_context():
        assert sum(made) == 12
        assert (count(Mailing), count(Delivery), count(AcceptedWelcome)) == (12, 12, 0)


def test_a_failure_half_way_leaves_what_was_accepted(
    app_context: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept()
    accept(web_id="CQ002")
    real, calls = audit_events.insert_event, []

    def failing(*arguments: object, **options: object) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("the process ends here")
        real(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(welcome_mails, "insert_event", failing)
    with pytest.raises(RuntimeError):
        welcome_mails.begin_accepted()
    assert (count(Mailing), count(AcceptedWelcome)) == (0, 2)

    monkeypatch.undo()
    assert welcome_mails.begin_accepted() == 2
    assert (count(Mailing), count(AcceptedWelcome)) == (2, 0)


def test_a_queue_that_was_emptied_loses_nothing(
    app: Flask, settings: Settings, sink: SmtpSink, work: Callable[[], None]
) -> None:
    with app.app_context():
        accept()
        queues.wake("interactive")
    with Redis.from_url(settings.redis_url) as connection:
        connection.flushall()
    with app.app_context():
        sweep()
    work()

    (mail,) = sink.mails_to(ADMIN)
    with app.app_context():
        portal, _ = passwords_in(mail)
        assert sign_ins.sign_in("prpkeAdmin@kenton-electronics.com", portal, address="127.0.0.1")


def test_one_job_sends_what_many_ask_for(app: Flask, sink: SmtpSink) -> None:
    with app.app_context():
        for web_id in ("CQ001", "CQ002", "CQ003"):
            accept(web_id=web_id)
            queues.wake("interactive")
        assert queues["interactive"].count == 1
    work_queues(app)
    assert len(sink.wait_for(3)) == 3


def test_mailings_that_wait_for_another_try_do_not_stand_in_the_way(app_context: Flask) -> None:
    accept()
    accept(web_id="CQ002")
    welcome_mails.begin_accepted()
    first, second = db.session.scalars(sa.select(Mailing.id).order_by(Mailing.id))
    db.session.execute(
        sa.update(Delivery)
        .where(Delivery.mailing_id == first)
        .values(next_attempt_at=utcnow() + timedelta(hours=1))
    )
    db.session.commit()
    assert deliveries.list_unattended(Lane.INTERACTIVE) == [second]
    assert deliveries.list_unattended(Lane.BULK) == []


def test_who_accepts_while_the_job_looks_asks_anew(app_context: Flask) -> None:
    queues.wake("interactive")
    queues["interactive"].empty()
    deliver_waiting("interactive")
    queues.wake("interactive")
    assert queues["interactive"].count == 1


def test_the_job_finds_what_is_accepted_while_it_is_known_to_be_asked_for(
    app_context: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who accepts then asks for no other job."""
    waited: list[float] = []

    def accept_one(seconds: float) -> None:
        if not waited:
            accept()
            queues.wake("interactive")
        waited.append(seconds)

    monkeypatch.setattr("extensions.time.sleep", accept_one)
    monkeypatch.setattr("extensions._ASKED_FOR", 3600)  # Accepting is not that fast in a test.
    queues.wake("interactive")
    queues["interactive"].empty()
    deliver_waiting("interactive")
    assert waited[0] > _ASKED_FOR
    assert queues["interactive"].count == 0
    assert (count(Mailing), count(AcceptedWelcome)) == (1, 0)


def test_nobody_to_mail_and_nothing_to_say_are_refused(app_context: Flask) -> None:
    lonely, silent = make_customer(), make_customer()
    make_welcome(lonely)
    make_user(silent, role=Role.CUSTOMER_ADMIN)
    actor = actor_for(LANDLORD)
    with pytest.raises(Conflict, match="no administrator who can be mailed"):
        resend(actor, lonely)
    make_user(lonely, role=Role.CUSTOMER_ADMIN, status=UserStatus.SUSPENDED)
    with pytest.raises(Conflict, match="no administrator who can be mailed"):
        resend(actor, lonely)
    with pytest.raises(Conflict, match="no welcome mail among its e-mail templates"):
        resend(actor, silent)
    assert count(AcceptedWelcome) == 0


def test_languages_that_carry_different_passwords_are_refused(app_context: Flask) -> None:
    customer = make_customer()
    make_user(customer, role=Role.CUSTOMER_ADMIN)
    template = make_welcome(customer)
    version = get_current_version(template)
    db.session.execute(
        sa.update(EmailTemplateText)
        .where(EmailTemplateText.version_id == version.id, EmailTemplateText.language == "nl")
        .values(text="Hallo", html="<p>Hallo</p>")
    )
    db.session.commit()
    with pytest.raises(Conflict, match="different passwords"):
        resend(actor_for(LANDLORD), customer)
    assert count(AcceptedWelcome) == 0


def test_a_text_that_cannot_be_filled_is_refused(app_context: Flask) -> None:
    customer = make_customer()
    make_user(customer, role=Role.CUSTOMER_ADMIN)
    version = get_current_version(make_welcome(customer))
    db.session.execute(
        sa.update(EmailTemplateText)
        .where(EmailTemplateText.version_id == version.id)
        .values(text="((shoe size))")
    )
    db.session.commit()
    with pytest.raises(Conflict, match="cannot be sent"):
        resend(actor_for(LANDLORD), customer)
    assert count(AcceptedWelcome) == 0


def test_who_may_not_send_is_refused(app_context: Flask) -> None:
    auditor = actor_for("auditor@foyer.example")
    with pytest.raises(Forbidden):
        resend(auditor, find_customer("CQ001"))
    assert count(AcceptedWelcome) == 0


def test_only_templates_of_the_customer_count(app_context: Flask) -> None:
    db.session.execute(
        sa.delete(CustomerEmailTemplate).where(
            CustomerEmailTemplate.customer_id == find_customer("CQ001").id
        )
    )
    db.session.commit()
    with pytest.raises(Conflict, match="no welcome mail"):
        accept()


def test_users_are_no_administrators(app_context: Flask) -> None:
    accept()
    welcome_mails.begin_accepted()
    mailed = db.session.scalars(sa.select(User.role).join(Delivery, Delivery.user_id == User.id))
    assert set(mailed) == {Role.CUSTOMER_ADMIN}


def test_the_system_itself_may_not(app_context: Flask) -> None:
    with pytest.raises(Forbidden):
        resend(Actor(None, "x", None), find_customer("CQ001"))
