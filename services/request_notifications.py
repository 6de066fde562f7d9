"""Notifications about requests: mailed by a job, found by the sweep, sent again on request.

A row is written with the transition that it tells of. It ends as mailed, or as failed with the
words of who refused it. Until then a job takes it for a while (`claimed_at`); a mail server that
asks to come back later is obeyed, and one that is down is waited for as long as it takes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta

import sqlalchemy as sa
from redis.exceptions import RedisError
from sqlalchemy.orm import joinedload

from extensions import db, get_settings, queues
from models import (
    RequestNotification,
    RequestTransition,
    SubscriptionRequest,
    Suppression,
    fold,
    utcnow,
)
from services import (
    mail_lines,
    messages,
    notification_texts,
    subscription_requests,
    suppressions,
    system_mails,
)
from services.actors import Actor, Permission
from services.audit_events import insert_event
from services.errors import Conflict, NotFound
from services.request_transitions import Moved
from services.smtp import ServerUnavailable
from services.transactions import run_transaction

log = logging.getLogger(__name__)

_CLAIM_LASTS = timedelta(minutes=5)
_MOST_AT_ONCE = 500
_MOST_SHOWN = 100
_GONE = "There is no such notification, or it is not yours to see."


# --- Mailing -----------------------------------------------------------------------------------


def start_mail(moves: Iterable[Moved]) -> None:
    """Ask workers to mail what `moves` have noted. Call it after the commit."""
    _enqueue(each.notification_id for each in moves if each.notification_id is not None)


def _enqueue(notification_ids: Iterable[int]) -> None:
    try:
        for notification_id in notification_ids:
            queues.enqueue("default", "jobs.requests.mail_notification", notification_id)
    except RedisError as error:
        log.warning(
            "notifications wait for the sweep, the queue does not answer: %s",
            type(error).__name__,
        )


def list_unmailed() -> list[int]:
    """Ids of notifications that are due, the oldest first; none while the line is blocked."""
    if mail_lines.find_block() is not None:
        return []
    return list(
        db.session.scalars(
            sa.select(RequestNotification.id)
            .where(_is_due(utcnow()))
            .order_by(RequestNotification.next_attempt_at)
            .limit(_MOST_AT_ONCE)
        )
    )


def _is_due(now: datetime) -> sa.ColumnElement[bool]:
    """Neither mailed nor given up, and no job has been at it for a while."""
    return sa.and_(
        _is_waiting(),
        RequestNotification.next_attempt_at <= now,
        sa.or_(
            RequestNotification.claimed_at.is_(None),
            RequestNotification.claimed_at < now - _CLAIM_LASTS,
        ),
    )


def _is_waiting() -> sa.ColumnElement[bool]:
    return sa.and_(RequestNotification.mailed_at.is_(None), RequestNotification.failed_at.is_(None))


def mail_notification(notification_id: int) -> bool:
    """Mail a notification that is due; False when it was not mailed now.

    One job at a time works on it. After a crash between the server's answer and our commit it is
    sent once more as the same message, with the same Message-ID and date.
    """
    claimed = db.session.execute(
        sa.update(RequestNotification)
        .where(RequestNotification.id == notification_id, _is_due(utcnow()))
        .values(claimed_at=utcnow(), attempts=RequestNotification.attempts + 1)
        .returning(RequestNotification.attempts)
    ).one_or_none()
    db.session.commit()
    if claimed is None:
        return False
    notification = _load(notification_id)
    suppression = _find_suppression(notification.email)
    if suppression is not None:
        _note(notification, failed_at=utcnow(), answer=_not_sent(suppression))
        return False
    try:
        _send(notification)
    except system_mails.MailRefused as error:
        _note(notification, failed_at=utcnow(), answer=str(error))
    except system_mails.MailDelayed as error:
        _delay(notification, str(error), claimed.attempts)
    except ServerUnavailable as error:
        # Nobody's fault who gets mail: no attempt is charged, however long it takes.
        wait = timedelta(seconds=get_settings().mail_down_delays[-1])
        _note(
            notification,
            answer=error.reason,
            attempts=claimed.attempts - 1,
            next_attempt_at=utcnow() + wait,
        )
    else:
        _note(notification, mailed_at=utcnow(), answer="")
        return True
    return False


def _delay(notification: RequestNotification, answer: str, attempts: int) -> None:
    """Wait longer each time, and give up after the last of DELIVERY_RETRY_DELAYS."""
    delays = get_settings().delivery_retry_delays
    now = utcnow()
    if attempts > len(delays):
        _note(notification, failed_at=now, answer=answer)
    else:
        wait = timedelta(seconds=delays[attempts - 1])
        _note(notification, answer=answer, next_attempt_at=now + wait)


def _note(notification: RequestNotification, *, answer: str, **values: datetime | int) -> None:
    """Let go of the notification, with what became of it. One that ended meanwhile stays so."""
    db.session.execute(
        sa.update(RequestNotification)
        .where(RequestNotification.id == notification.id, _is_waiting())
        .values(claimed_at=None, answer=answer[:500], **values)
    )
    db.session.commit()


def _load(notification_id: int) -> RequestNotification:
    return db.session.get_one(
        RequestNotification,
        notification_id,
        populate_existing=True,
        options=[
            joinedload(RequestNotification.transition),
            joinedload(RequestNotification.resent_by),
            joinedload(RequestNotification.request).options(
                joinedload(SubscriptionRequest.created_by),
                joinedload(SubscriptionRequest.template_version),
            ),
        ],
    )


def _send(notification: RequestNotification) -> None:
    values = notification_texts.values_of(notification)
    prepared = notification_texts.prepare(notification)
    db.session.commit()  # No transaction is open while the server thinks.
    system_mails.send(
        prepared,
        values,
        to_name=values["full name"],
        to_address=notification.email,
        message_id=notification.message_id,
        date=notification.created_at,
    )


def _find_suppression(email: str) -> Suppression | None:
    return db.session.scalar(sa.select(Suppression).where(Suppression.email_key == fold(email)))


def _not_sent(suppression: Suppression) -> str:
    return f"Not sent, for this address gets no mail: {suppression.reason}"


# --- On the request's page ---------------------------------------------------------------------


def list_notifications(request: SubscriptionRequest) -> list[RequestNotification]:
    """What was or will be mailed about a request, the newest first, with who asked for it again.

    No more than a hundred. The caller has checked that the reader may see the request.
    """
    return list(
        db.session.scalars(
            sa.select(RequestNotification)
            .where(RequestNotification.request_id == request.id)
            .options(
                joinedload(RequestNotification.transition),
                joinedload(RequestNotification.resent_by),
            )
            .order_by(RequestNotification.id.desc())
            .limit(_MOST_SHOWN)
        )
    )


def get_notification(actor: Actor, notification_id: int) -> RequestNotification:
    """A notification with its request and transition. Raises NotFound, Forbidden."""
    actor.require(Permission.REQUESTS_READ)
    found = db.session.scalar(
        sa.select(RequestNotification.id)
        .join(SubscriptionRequest, SubscriptionRequest.id == RequestNotification.request_id)
        .where(
            RequestNotification.id == notification_id,
            subscription_requests.requests_in_scope(actor),
        )
    )
    if found is None:
        raise NotFound(_GONE)
    return _load(found)


def preview(actor: Actor, notification_id: int, language: str = "") -> messages.RenderedMessage:
    """A notification as its reader gets it, or as he would in another of the mails' languages.

    Raises NotFound outside the actor's scope.
    """
    notification = get_notification(actor, notification_id)
    return notification_texts.prepare(notification, language).preview(
        notification_texts.values_of(notification, language)
    )


def find_suppression(request: SubscriptionRequest) -> Suppression | None:
    """Why the request's contact gets no mail now, None when nothing stands in its way."""
    return _find_suppression(request.contact_email)


def resend(
    actor: Actor, notification_id: int, *, clear_suppression: bool = False
) -> RequestNotification:
    """Mail a notification again, to the request's contact and in his language as they are now.

    Pressed twice on one page it is one mail: whoever has seen the second can ask for a third. One
    that waits to be mailed is tried at once instead. Mail to a suppressed address needs
    `clear_suppression`, which ends the suppression.

    Raises NotFound, Forbidden, and Conflict for a suppressed address.
    """
    notification = get_notification(actor, notification_id)
    actor.require(Permission.REQUESTS_MANAGE)
    request = notification.request
    suppression = _find_suppression(request.contact_email)
    if suppression is not None and not clear_suppression:
        raise Conflict(
            f"{request.contact_email} gets no mail: {suppression.reason} "
            "Clear the address to send to it again."
        )

    def work(connection: sa.Connection) -> tuple[int, bool]:
        if suppression is not None:
            suppressions.clear_address(connection, actor, request.contact_email)
        # One after the other: PostgreSQL locks here, SQLite with the first change.
        connection.execute(
            sa.select(RequestTransition.id)
            .where(RequestTransition.id == notification.transition_id)
            .with_for_update()
        )
        of_same = RequestNotification.transition_id == notification.transition_id
        waiting = connection.execute(
            sa.update(RequestNotification)
            .where(of_same, _is_waiting())
            .values(next_attempt_at=utcnow())
            .returning(RequestNotification.id)
        ).scalar_one_or_none()
        if waiting is not None:
            return waiting, True
        newest = connection.scalar(sa.select(sa.func.max(RequestNotification.id)).where(of_same))
        if newest is not None and newest != notification.id:
            return newest, False
        added = connection.execute(
            sa.insert(RequestNotification)
            .values(
                request_id=request.id,
                transition_id=notification.transition_id,
                kind=notification.kind,
                email=request.contact_email,
                language=request.language,
                message_id=system_mails.new_message_id(),
                resent_by_id=actor.user_id,
            )
            .returning(RequestNotification.id)
        ).scalar_one()
        insert_event(
            connection,
            actor,
            "request_notification.resent",
            customer_id=request.customer_id,
            object_type="request",
            object_id=request.id,
            detail={"kind": str(notification.kind), "email": request.contact_email},
        )
        return added, True

    sent_id, is_due = run_transaction(work)
    if is_due:
        _enqueue([sent_id])
    return _load(sent_id)
