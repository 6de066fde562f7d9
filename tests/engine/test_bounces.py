"""A mail goes out, comes back, and is told: with a real worker's sending and a real listener."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import Delivery, DeliveryState, Suppression, User, WelcomeState
from services import passwords
from services.bounce_addresses import BounceAddresses
from tests.support import dsns
from tests.support.bounces import ADMIN, hand_over, listening
from tests.support.claims import counters
from tests.support.factories import actor_for, find_customer, make_user
from tests.support.pages import CheckingClient
from tests.support.promises import passwords_in, start_welcome
from tests.support.smtp_sink import SmtpSink


def deliveries(mailing_id: int) -> dict[str, Delivery]:
    db.session.rollback()
    db.session.expire_all()
    rows = db.session.scalars(sa.select(Delivery).where(Delivery.mailing_id == mailing_id))
    return {each.email: each for each in rows}


def test_a_mail_that_comes_back_finds_its_delivery(
    app: Flask,
    sink: SmtpSink,
    work: Callable[[], None],
    sign_in_as: Callable[[str], CheckingClient],
) -> None:
    with app.app_context():
        db.session.execute(sa.delete(Suppression))
        customer = find_customer("CQ001")
        people = [make_user(customer) for _ in range(3)]
        lost = people[0]
        mailing_id = start_welcome(actor_for(ADMIN), "CQ001", people)
    work()
    senders = {mail.recipient: mail.sender for mail in sink.mails}
    with app.app_context():
        ours = BounceAddresses(app.extensions["settings"])
        rows = deliveries(mailing_id)
        assert {each: ours.find_delivery(senders[each]) for each in senders} == {
            email: row.id for email, row in rows.items()
        }
    (mail,) = [each for each in sink.mails if each.recipient == lost.email]
    returned = dsns.postfix("undisclosed-recipients:;", returned=mail.data)
    with listening(app, "lmtp://127.0.0.1:0") as at:
        assert hand_over(at, mail.sender, returned)[0] == 250
    with app.app_context():
        rows = deliveries(mailing_id)
        assert rows[lost.email].state is DeliveryState.BOUNCED
        assert counters(mailing_id) == {"sent": 2, "bounced": 1}
        user = db.session.get_one(User, lost.id)
        assert user.welcome.state is WelcomeState.FAILED
        # Promise 2 is about what our server accepted: its password goes on working.
        assert passwords.verify(user.password_hash, passwords_in(mail)[0])
        # And promise 5: what came back carried both passwords, and neither is kept.
        everything = [
            repr(row)
            for table in db.metadata.sorted_tables
            for row in db.session.execute(sa.select(table))
        ]
        assert not [row for row in everything if any(each in row for each in passwords_in(mail))]
    page = sign_in_as(ADMIN).page("/customers/CQ001/suppressed")
    assert lost.email in page.text()


def test_the_systems_own_mails_keep_their_sender(
    client: CheckingClient, sink: SmtpSink, work: Callable[[], None]
) -> None:
    client.submit("/password/forgot", {"login": ADMIN})
    work()
    assert [mail.sender for mail in sink.mails] == ["welcome@foyer.example"]
