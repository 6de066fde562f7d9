"""Mails of commands, as the mail server gets them: several customers, every promise kept."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db, queues
from models import Delivery, DeliveryState, Mailing, MailingState, User
from services import command_runs, passwords
from services.actors import Actor
from services.command_plans import MailingPlan
from tests.support.commands import ENTRY, PREMIUM, STANDARD, submit
from tests.support.factories import actor_for
from tests.support.promises import check_promises, passwords_in
from tests.support.smtp_sink import SmtpSink

_PASSWORD = re.compile(r"\b[A-HJ-NP-Za-km-z2-9]{20}\b")


@pytest.fixture
def operator(app_context: Flask) -> Actor:
    return actor_for("operator@foyer.example")


def run(actor: Actor, *lines: str) -> list[int]:
    """Submit and run; the ids of the mailings, which workers have been told of."""
    done = command_runs.run(actor, submit(actor, *lines).id)
    started = command_runs.started_mailings(done)
    for mailing in started:
        queues.start_mailing(mailing.lane.value, mailing.id, mailing.waiting)
    return [mailing.id for mailing in started]


def test_every_recipient_of_every_customer_gets_a_mail_that_works(
    operator: Actor, sink: SmtpSink, work: Callable[[], None]
) -> None:
    text = f"$$RESEND WELCOME EMAIL$$ {ENTRY};{STANDARD};{PREMIUM}|CQ001;CQ002;CQ003;CQ101"
    plan = command_runs.check(operator, text)
    (mailing_id,) = run(operator, text)
    work()
    mailing = db.session.get_one(Mailing, mailing_id, populate_existing=True)
    assert (mailing.state, mailing.sent) == (MailingState.FINISHED, plan.recipients)
    assert len(sink.mails) == plan.recipients == 57 + 30 + 30 + 12
    assert check_promises(mailing_id, sink) == 0
    (planned,) = plan.mailings
    assert isinstance(planned, MailingPlan)
    assert planned.message is not None
    first = sink.mails_to(planned.first.email)[0]
    portal, application = passwords_in(first)
    shown = first.text.replace("\r\n", "\n").replace(portal, "•" * 8).replace(application, "•" * 8)
    assert shown.strip() == planned.message.text.strip()
    assert first.message["Subject"] == planned.message.subject


def test_two_lines_to_the_same_users_send_one_mail_each(
    operator: Actor, sink: SmtpSink, work: Callable[[], None]
) -> None:
    ids = run(
        operator,
        f"$$RESEND WELCOME EMAIL$$ {ENTRY}|CQ002",
        f"$$RESEND WELCOME EMAIL$$ {ENTRY}|CQ001;CQ002;CQ003",
    )
    work()
    addresses = [mail.recipient for mail in sink.mails]
    assert len(addresses) == len(set(addresses)) == 30 + 37 + 20
    skipped = set(
        db.session.scalars(
            sa.select(Delivery.email).where(
                Delivery.mailing_id == ids[1],
                Delivery.state == DeliveryState.SKIPPED,
                Delivery.email != "",
            )
        )
    )
    assert len(skipped) == 30 + 2
    by_mailing = [_mails_of(sink, mailing_id) for mailing_id in ids]
    assert [len(mails) for mails in by_mailing] == [30, 57]
    for user in db.session.scalars(
        sa.select(User).where(User.email.in_([mail.recipient for mail in sink.mails]))
    ):
        (mail,) = sink.mails_to(user.email)
        assert passwords.verify(user.password_hash, passwords_in(mail)[0])


def _mails_of(sink: SmtpSink, mailing_id: int) -> list[str]:
    sent = sa.select(Delivery.message_id).where(
        Delivery.mailing_id == mailing_id, Delivery.state == DeliveryState.SENT
    )
    known = set(db.session.scalars(sent))
    return [mail.message_id for mail in sink.mails if mail.message_id in known]


def test_the_last_mail_works_when_commands_to_different_customers_meet(
    operator: Actor, sink: SmtpSink, work: Callable[[], None]
) -> None:
    """The older mail carries more, so it is not replaced: some users get both."""
    done = command_runs.run(
        operator, submit(operator, f"$$RESEND WELCOME EMAIL$$ {STANDARD}|CQ001;CQ101").id
    )
    (older,) = command_runs.started_mailings(done)
    (newer,) = run(operator, f"$$SEND EMAIL$$ Password reset|{ENTRY};{STANDARD}|CQ001;CQ002")
    queues.start_mailing(older.lane.value, older.id, older.waiting)
    work()
    assert db.session.get_one(Mailing, older.id, populate_existing=True).sent == 32
    assert db.session.get_one(Mailing, newer, populate_existing=True).sent == 57 + 30
    for user in db.session.scalars(sa.select(User).where(User.bundle_id.is_not(None))):
        if mails := sink.mails_to(user.email):
            portal = _PASSWORD.findall(mails[-1].text)[0]
            assert passwords.verify(user.password_hash, portal), user.login
    assert len(sink.mails) == 32 + 87
