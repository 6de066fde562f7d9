"""What must hold after any mailing, whatever happened on the way."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable

import sqlalchemy as sa

from extensions import db, queues
from models import (
    CommandSource,
    Delivery,
    DeliveryState,
    LocalPlatformAccount,
    Mailing,
    TemplateKind,
    User,
)
from services import command_runs, mailing_confirmations, passwords
from services.actors import Actor
from services.email_templates import find_template_of_kind, get_current_version
from tests.support.factories import find_customer
from tests.support.smtp_sink import SinkMail, SmtpSink

_PASSWORD = re.compile(r"\b[A-HJ-NP-Za-km-z2-9]{20}\b")


def passwords_in(mail: SinkMail) -> tuple[str, str]:
    """Portal and application password of a welcome mail."""
    found = _PASSWORD.findall(mail.text)
    assert len(found) == 2, "a welcome mail carries two passwords"
    return found[0], found[1]


def start_welcome(
    actor: Actor,
    web_id: str,
    users: Iterable[User],
    *,
    enqueue: bool = True,
    confirmation: str = "",
) -> int:
    """Confirm a welcome mailing to `users` and enqueue it; returns its id."""
    template = find_template_of_kind(TemplateKind.WELCOME)
    assert template is not None
    mailing = mailing_confirmations.confirm_mailing(
        actor,
        find_customer(web_id),
        get_current_version(template).id,
        [user.id for user in users],
        include_recent=True,
        confirmation=confirmation or secrets.token_urlsafe(24),
    )
    if enqueue:
        queues.enqueue(mailing.lane.value, "jobs.deliveries.deliver_mailing", mailing.id)
    return mailing.id


def start_by_command(actor: Actor, text: str) -> int:
    """Submit and run one command as the window does, and start its mailing; returns its id."""
    planned = command_runs.submit(actor, text, source=CommandSource.WINDOW)
    done = command_runs.run(actor, planned.id)
    (mailing,) = command_runs.started_mailings(done)
    queues.start_mailing(mailing.lane.value, mailing.id, mailing.waiting)
    return mailing.id


def has_ended(mailing_id: int) -> bool:
    """Asked again and again: in a session of its own, as a rollback looks at all that is loaded."""
    db.session.rollback()
    with sa.orm.Session(db.engine) as session:
        ended = not session.get_one(Mailing, mailing_id).is_open
    if ended:
        db.session.expire_all()
    return ended


def check_promises(mailing_id: int, sink: SmtpSink) -> int:
    """Assert promises 1, 2, 3 and 5 for an ended mailing; returns how many mails came twice."""
    db.session.rollback()
    db.session.expire_all()
    mailing = db.session.get_one(Mailing, mailing_id)
    rows = db.session.scalars(
        sa.select(Delivery)
        .where(Delivery.mailing_id == mailing_id)
        .options(sa.orm.joinedload(Delivery.user))
    ).all()
    accounts = _accounts(mailing_id)
    by_address: dict[str, list[SinkMail]] = {}
    for mail in sink.mails:
        by_address.setdefault(mail.recipient.lower(), []).append(mail)
    counted = dict.fromkeys(DeliveryState, 0)
    repeats = 0
    for row in rows:
        counted[row.state] += 1
        mails = by_address.get(row.email.lower(), [])
        assert row.seal is None, "a seal outlived its delivery"
        assert row.pending_hash is None
        if row.state is DeliveryState.SENT:
            assert mails, f"{row.email} is recorded as sent, and got nothing"
            assert mails[-1].message_id == row.message_id
        elif row.state is DeliveryState.SKIPPED:
            assert not mails, f"{row.email} was skipped ({row.skip_reason}), and got a mail"
        if not mails:
            continue
        repeats += len(mails) - 1
        portal, application = passwords_in(mails[-1])
        for mail in mails:
            same = mail.message_id == mails[-1].message_id
            assert same, "a repeat is another message"
            assert passwords_in(mail) == (portal, application), "a repeat has other credentials"
        works = passwords.verify(row.user.password_hash, portal) or passwords.verify(
            row.user.unconfirmed_hash, portal
        )
        assert works, f"the newest mail to {row.email} does not sign in"
        assert passwords.verify(accounts[row.user_id], application)
    assert {name: getattr(mailing, name) for name in ("sent", "failed", "skipped")} == {
        "sent": counted[DeliveryState.SENT],
        "failed": counted[DeliveryState.FAILED],
        "skipped": counted[DeliveryState.SKIPPED],
    }
    assert mailing.total == len(rows)
    return repeats


def _accounts(mailing_id: int) -> dict[int, str]:
    """The password hashes on the platform of those a mailing goes to, by their users."""
    hashes = (
        sa.select(LocalPlatformAccount.user_id, LocalPlatformAccount.password_hash)
        .join(Delivery, Delivery.user_id == LocalPlatformAccount.user_id)
        .where(Delivery.mailing_id == mailing_id)
    )
    return {row.user_id: row.password_hash for row in db.session.execute(hashes)}
