"""Notifications about requests: mailed by a job, found by the sweep, sent again on request.

A row is written with the transition that it tells of; what happens to it then, noted_mails.py says.
"""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy.orm import joinedload

from extensions import db
from models import (
    RequestNotification,
    RequestTransition,
    SubscriptionRequest,
    Suppression,
    utcnow,
)
from services import (
    messages,
    noted_mails,
    notification_texts,
    subscription_requests,
    suppressions,
    system_mails,
    webhook_deliveries,
)
from services.actors import Actor, Permission
from services.audit_events import insert_event
from services.errors import Conflict, NotFound
from services.request_transitions import Moved
from services.transactions import run_transaction

_MOST_SHOWN = 100
_GONE = "There is no such notification, or it is not yours to see."


# --- Mailing -----------------------------------------------------------------------------------


def start_mail(moves: Iterable[Moved]) -> None:
    """Ask workers to mail, and to tell webhooks, of `moves`. Call it after the commit."""
    made = list(moves)
    _mails.enqueue(each.notification_id for each in made if each.notification_id is not None)
    if made:
        webhook_deliveries.start_waiting()


def list_unmailed() -> list[int]:
    """Ids of notifications that are due, the oldest first; none while the line is blocked."""
    return _mails.list_unmailed()


def mail_notification(notification_id: int) -> bool:
    """Mail a notification that is due; False when it was not mailed now."""
    return _mails.mail(notification_id)


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


_mails = noted_mails.NotedMails(
    RequestNotification, "jobs.requests.mail_notification", _load, _send
)


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
    return noted_mails.find_suppression(request.contact_email)


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
    suppression = noted_mails.find_suppression(request.contact_email)
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
            .where(of_same, _mails.is_waiting())
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
        _mails.enqueue([sent_id])
    return _load(sent_id)
