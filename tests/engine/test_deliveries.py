"""The delivery engine in one process: what the rows, the mailbox and the sign-in say afterwards."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import (
    Delivery,
    DeliveryState,
    LocalPlatformAccount,
    Mailing,
    MailingState,
    SkipReason,
    User,
)
from services import passwords, sign_ins
from services.errors import InvalidInput
from tests.support.factories import actor_for, find_customer
from tests.support.promises import passwords_in, start_welcome
from tests.support.smtp_sink import SmtpSink

ADMIN = "prpkeAdmin@kenton-electronics.com"


def users_of(web_id: str, count: int, offset: int = 20) -> list[User]:
    """Users with a bundle, in the order they were made; from the 20th on all get mail."""
    customer = find_customer(web_id)
    return list(
        db.session.scalars(
            sa.select(User)
            .where(User.customer_id == customer.id, User.bundle_id.is_not(None))
            .order_by(User.id)
            .offset(offset)
            .limit(count)
        )
    )


def confirm(users: list[User]) -> int:
    return start_welcome(actor_for(ADMIN), "CQ001", users)


def signs_in(login: str, password: str) -> bool:
    try:
        sign_ins.sign_in(login, password)
    except InvalidInput:
        return False
    return True


def test_a_welcome_mail_carries_passwords_that_work(
    app_context: Flask, sink: SmtpSink, work: Callable[[], None]
) -> None:
    users = users_of("CQ001", 5)
    mailing_id = confirm(users)
    work()
    db.session.expire_all()
    mailing = db.session.get_one(Mailing, mailing_id)
    assert mailing.state is MailingState.FINISHED
    assert (mailing.sent, mailing.waiting, mailing.failed) == (5, 0, 0)
    assert len(sink.mails) == 5
    for user in users:
        (mail,) = sink.mails_to(user.email)
        portal, application = passwords_in(mail)
        account = db.session.get_one(LocalPlatformAccount, user.id)
        assert passwords.verify(account.password_hash, application)
        assert signs_in(user.login, portal)
        assert not signs_in(user.login, "foyer-demo-1")
        assert db.session.get_one(User, user.id).must_change_password
        delivery = db.session.scalars(
            sa.select(Delivery).where(
                Delivery.mailing_id == mailing_id, Delivery.user_id == user.id
            )
        ).one()
        assert delivery.state is DeliveryState.SENT
        assert delivery.message_id == mail.message_id
        assert delivery.seal is None
        assert delivery.pending_hash is None


def test_the_old_password_stays_until_the_server_accepts(
    app_context: Flask, sink: SmtpSink, work
) -> None:
    (user,) = users_of("CQ001", 1)
    sink.refuse(user.email, 550, "No such mailbox")
    mailing_id = confirm([user])
    work()
    db.session.expire_all()
    delivery = db.session.scalars(
        sa.select(Delivery).where(Delivery.mailing_id == mailing_id)
    ).one()
    assert delivery.state is DeliveryState.FAILED
    assert delivery.answer_code == 550
    assert "No such mailbox" in delivery.answer
    assert delivery.application_password_set
    assert signs_in(user.login, "foyer-demo-1")


def test_recipients_who_must_not_get_a_mail_are_skipped_with_the_reason(
    app_context: Flask, sink: SmtpSink, work
) -> None:
    users = users_of("CQ001", 20, offset=0)
    mailing_id = confirm(users)
    work()
    db.session.expire_all()
    skipped = db.session.scalars(
        sa.select(Delivery.skip_reason)
        .where(Delivery.mailing_id == mailing_id, Delivery.state == DeliveryState.SKIPPED)
        .order_by(Delivery.user_id)
    ).all()
    assert skipped == [SkipReason.NO_ADDRESS, SkipReason.SUSPENDED, SkipReason.SUPPRESSED]
    assert len(sink.mails) == 17


def test_the_same_confirmation_makes_one_mailing(app_context: Flask, sink: SmtpSink) -> None:
    users = users_of("CQ001", 2)
    word = "the-very-same-confirmation"
    made = {start_welcome(actor_for(ADMIN), "CQ001", users, confirmation=word) for _ in range(3)}
    assert len(made) == 1
    assert db.session.scalar(sa.select(sa.func.count()).select_from(Delivery)) == 2
