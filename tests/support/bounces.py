"""Deliveries that have been sent, and their returned mails."""

from __future__ import annotations

import sqlalchemy as sa

from extensions import db, get_settings
from models import Delivery, DeliveryState, Mailing, MailingState, User, WelcomeState, utcnow
from services.bounce_addresses import BounceAddresses
from tests.support.factories import actor_for, find_customer, make_user
from tests.support.promises import start_welcome

ADMIN = "prpkeAdmin@kenton-electronics.com"


def send_welcome(user: User | None = None, *, admin: str = ADMIN, web_id: str = "CQ001") -> int:
    """A delivery of a welcome mail to `user` that our server has accepted; returns its id."""
    user = user or make_user(find_customer(web_id))
    mailing_id = start_welcome(actor_for(admin), web_id, [user], enqueue=False)
    now = utcnow()
    delivery_id = db.session.scalars(
        sa.update(Delivery)
        .where(Delivery.mailing_id == mailing_id, Delivery.state == DeliveryState.QUEUED)
        .values(state=DeliveryState.SENT, sent_at=now, answer="2.0.0 Ok", answer_code=250)
        .returning(Delivery.id)
    ).one()
    db.session.execute(
        sa.update(Mailing)
        .where(Mailing.id == mailing_id)
        .values(sent=1, queued=0, state=MailingState.FINISHED, finished_at=now)
    )
    db.session.execute(
        sa.update(User)
        .where(User.id == user.id)
        .values(welcome_state=WelcomeState.SENT, welcome_at=now)
    )
    db.session.commit()
    return delivery_id


def address_of(delivery_id: int) -> str:
    """Where the mail of a delivery comes back to."""
    return BounceAddresses(get_settings()).address_for(delivery_id)


def read_again(delivery_id: int) -> Delivery:
    """The delivery as the database has it now, its user and mailing too."""
    db.session.rollback()
    db.session.expire_all()
    return db.session.get_one(Delivery, delivery_id)
