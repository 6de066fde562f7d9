"""Bounces: mails that our server had accepted and another one sent back.

A returned mail counts when the address it came back to names one of our deliveries, with a
signature that only we can make (`services/bounce_addresses.py`). Whatever else is sent here
changes nothing.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from extensions import get_settings
from models import (
    Delivery,
    DeliveryState,
    EmailTemplate,
    EmailTemplateVersion,
    Mailing,
    TemplateKind,
    User,
    Welcome,
    WelcomeState,
    utcnow,
)
from services.actors import SYSTEM
from services.audit_events import insert_event
from services.bounce_addresses import BounceAddresses
from services.bounce_reports import Report, Verdict, read_report
from services.suppressions import suppress
from services.transactions import run_transaction
from services.webhook_events import note_ended

log = logging.getLogger(__name__)

LARGEST_MESSAGE = 1024 * 1024
"""Bytes of a returned mail that are taken; our own mails are a small fraction of that."""


class BounceOutcome(StrEnum):
    """KNOWN was recorded before. DEFERRED could not be recorded yet and has to be sent again."""

    RECORDED = "recorded"
    KNOWN = "known"
    IGNORED = "ignored"
    DEFERRED = "deferred"


@dataclass(frozen=True, slots=True)
class BounceResult:
    """What became of a returned mail; `sentence` is for a log and holds no address."""

    outcome: BounceOutcome
    sentence: str
    delivery_id: int | None = None

    @property
    def try_again(self) -> bool:
        return self.outcome is BounceOutcome.DEFERRED


def find_bounced_delivery(address: str) -> int | None:
    """The delivery that an envelope recipient names, None for any other address."""
    return BounceAddresses(get_settings()).find_delivery(address)


def record_bounce(raw: bytes, recipient: str | None) -> BounceResult:
    """Take a returned mail: `raw` is the message, `recipient` the address it came back to.

    Without a `recipient`, or where it names no delivery, the message's headers are asked. The same
    mail may come any number of times, also at once. Never raises.
    """
    report = read_report(raw[:LARGEST_MESSAGE])
    addresses = BounceAddresses(get_settings())
    found = map(addresses.find_delivery, (recipient or "", *report.addressed_to))
    delivery_id = next((each for each in found if each is not None), None)
    if delivery_id is None:
        return _ignored("it did not come back to the address of a delivery.")
    if report.verdict is Verdict.NO_REPORT:
        return _ignored("it reports no failure.", delivery_id)
    if report.verdict is Verdict.NOT_FINAL:
        return _ignored("it reports a delay or a success.", delivery_id)
    try:
        return run_transaction(lambda connection: _record(connection, delivery_id, report))
    except SQLAlchemyError as error:
        log.error("a bounce was not recorded: %s", type(error).__name__)
        return BounceResult(
            BounceOutcome.DEFERRED, "The database cannot record it now.", delivery_id
        )


def _ignored(why: str, delivery_id: int | None = None) -> BounceResult:
    about = "" if delivery_id is None else f" to delivery {delivery_id}"
    return BounceResult(BounceOutcome.IGNORED, f"Ignored the mail{about}: {why}", delivery_id)


def _record(connection: sa.Connection, delivery_id: int, report: Report) -> BounceResult:
    now = utcnow()
    # The condition decides between two at once, and takes SQLite's one write lock first.
    bounced = connection.execute(
        sa.update(Delivery)
        .where(Delivery.id == delivery_id, Delivery.state == DeliveryState.SENT)
        .values(state=DeliveryState.BOUNCED, bounced_at=now, bounce_reason=report.reason)
        .returning(Delivery.mailing_id, Delivery.user_id, Delivery.email, Delivery.sent_at)
    ).one_or_none()
    if bounced is None:
        return _not_recorded(connection, delivery_id)
    connection.execute(
        sa.update(Welcome)
        .where(
            Welcome.user_id == bounced.user_id,
            Welcome.state == WelcomeState.SENT,
            Welcome.at <= bounced.sent_at,  # A later one has its own fate.
            _is_welcome(bounced.mailing_id),
        )
        .values(state=WelcomeState.FAILED, at=now)
    )
    connection.execute(
        sa.update(Mailing)
        .where(Mailing.id == bounced.mailing_id)
        .values(sent=Mailing.sent - 1, bounced=Mailing.bounced + 1)
    )
    note_ended(connection, [delivery_id])
    is_hard = report.verdict is Verdict.HARD
    if is_hard:
        suppress(connection, bounced.email, report.explanation, delivery_id)
    insert_event(
        connection,
        SYSTEM,
        "delivery.bounced",
        customer_id=connection.scalar(
            sa.select(User.customer_id).where(User.id == bounced.user_id)
        ),
        object_type="delivery",
        object_id=delivery_id,
        detail={
            "before": {"state": str(DeliveryState.SENT)},
            "after": {"state": str(DeliveryState.BOUNCED)},
            "mailing": bounced.mailing_id,
            "status": report.status,
            "suppressed": is_hard,
        },
    )
    status = f" ({report.status})" if report.status else ""
    and_then = " Its address gets no more mail." if is_hard else ""
    return BounceResult(
        BounceOutcome.RECORDED,
        f"Delivery {delivery_id} has bounced{status}.{and_then}",
        delivery_id,
    )


def _is_welcome(mailing_id: int) -> sa.ColumnElement[bool]:
    return sa.exists().where(
        Mailing.id == mailing_id,
        EmailTemplateVersion.id == Mailing.template_version_id,
        EmailTemplate.id == EmailTemplateVersion.template_id,
        EmailTemplate.kind == TemplateKind.WELCOME,
    )


def _not_recorded(connection: sa.Connection, delivery_id: int) -> BounceResult:
    """Why a delivery was not there to bounce.

    A report can be faster than our own record of the mail it is about. It is not kept here: its
    sender keeps it, and comes again. A delivery that ended otherwise has said so already.
    """
    state = connection.scalar(sa.select(Delivery.state).where(Delivery.id == delivery_id))
    if state is DeliveryState.BOUNCED:
        return BounceResult(
            BounceOutcome.KNOWN, f"Delivery {delivery_id} has bounced before.", delivery_id
        )
    if state in {DeliveryState.QUEUED, DeliveryState.SENDING, DeliveryState.SENT}:
        return BounceResult(
            BounceOutcome.DEFERRED, f"Delivery {delivery_id} is still under way.", delivery_id
        )
    why = "there is no such delivery." if state is None else f"the delivery is {state} already."
    return _ignored(why, delivery_id)
