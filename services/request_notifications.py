"""Notifications about requests: mailed by a job, found by the sweep, sent again on request."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from redis.exceptions import RedisError

from extensions import queues
from models import RequestNotification, SubscriptionRequest
from services import messages
from services.actors import Actor
from services.request_transitions import Moved

log = logging.getLogger(__name__)


def start_mail(moves: Iterable[Moved]) -> None:
    """Ask workers to mail what `moves` have noted. Call it after the commit."""
    try:
        for moved in moves:
            if moved.notification_id is not None:
                queues.enqueue("default", "jobs.requests.mail_notification", moved.notification_id)
    except RedisError as error:
        log.warning(
            "notifications wait for the sweep, the queue does not answer: %s",
            type(error).__name__,
        )


def list_notifications(request: SubscriptionRequest) -> list[RequestNotification]:
    """What was or will be mailed about a request, the newest first. The caller checked access."""
    raise NotImplementedError


def preview(actor: Actor, notification_id: int) -> messages.RenderedMessage:
    """A notification as its reader gets it. Raises NotFound outside the actor's scope."""
    raise NotImplementedError


def resend(actor: Actor, notification_id: int) -> RequestNotification:
    """Mail a notification again, to the request's contact as it is now.

    Pressed twice it is one mail. Raises NotFound, Forbidden.
    """
    raise NotImplementedError
