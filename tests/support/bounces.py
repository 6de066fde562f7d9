"""Deliveries that have been sent, and a listener that takes their returned mails."""

from __future__ import annotations

import asyncio
import smtplib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from flask import Flask

from extensions import db, get_settings
from models import (
    Delivery,
    DeliveryState,
    Mailing,
    MailingState,
    User,
    Welcome,
    WelcomeState,
    utcnow,
)
from services.bounce_addresses import BounceAddresses
from services.bounce_listener import serve
from tests.support.factories import actor_for, find_customer, make_user, note_welcomes
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
    note_welcomes(Welcome.user_id == user.id, state=WelcomeState.SENT, at=now)
    return delivery_id


def address_of(delivery_id: int) -> str:
    """Where the mail of a delivery comes back to."""
    return BounceAddresses(get_settings()).address_for(delivery_id)


def read_again(delivery_id: int) -> Delivery:
    """The delivery as the database has it now, its user and mailing too."""
    db.session.rollback()
    db.session.expire_all()
    return db.session.get_one(Delivery, delivery_id)


@contextmanager
def listening(app: Flask, address: str) -> Iterator[str]:
    """A listener in a thread; gives the address that it really listens on."""
    started = threading.Event()
    at: list[str] = []
    stop: list[Callable[[], object]] = []

    async def run() -> None:
        ended, loop = asyncio.Event(), asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(ended.set))

        def on_start(where: str) -> None:
            at.append(where)
            started.set()

        await serve(app, address, ended, on_start)

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        assert started.wait(15)
        yield at[0]
    finally:
        stop[0]()
        thread.join(15)
        assert not thread.is_alive()


def connect(at: str) -> smtplib.SMTP:
    scheme, _, place = at.partition("://")
    kind = smtplib.LMTP if scheme == "lmtp" else smtplib.SMTP
    host, _, port = place.rpartition(":")
    connection = kind(host or place, int(port) if host else 0, timeout=15)
    connection.ehlo_or_helo_if_needed()
    return connection


def hand_over(at: str, recipient: str, raw: bytes) -> tuple[int, bytes]:
    """The listener's last answer to one mail."""
    with connect(at) as connection:
        assert connection.mail("") == (250, b"OK")
        code, text = connection.rcpt(recipient)
        return (code, text) if code != 250 else connection.data(raw)
