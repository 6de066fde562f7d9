"""The mails about a request: how each looks, and sending one again."""

from __future__ import annotations

from flask import Blueprint, Response, flash, request, url_for

from blueprints.forms import LARGEST_ID
from blueprints.htmx import go, respond
from blueprints.mailings.frames import frame_mail
from blueprints.security import current_actor, requires
from config import LANGUAGES
from models import NotificationKind, RequestNotification
from services import request_notifications
from services.actors import Permission
from services.errors import Conflict, NotFound

notifications_bp = Blueprint(
    "request_notifications",
    __name__,
    url_prefix=(
        f"/tenant-creation-management/<int(max={LARGEST_ID}):request_id>"
        f"/notifications/<int(max={LARGEST_ID}):notification_id>"
    ),
)

_WORDS = {
    NotificationKind.SCHEDULED: "Planned start",
    NotificationKind.COMPLETED: "Tenant is ready",
    NotificationKind.FAILED: "Set-up has stopped",
    NotificationKind.REJECTED: "Rejection",
    NotificationKind.CANCELLED: "Cancellation",
    NotificationKind.CHANGES_REQUESTED: "Changes needed",
}


@notifications_bp.app_template_filter("notification_words")
def notification_words(kind: str) -> str:
    """What a notification tells, in a word or two."""
    return _WORDS[NotificationKind(kind)]


@notifications_bp.get("")
@requires(Permission.REQUESTS_READ)
def show(request_id: int, notification_id: int) -> Response:
    """The mail as its reader gets it, or as he would in another language."""
    notification = _get(request_id, notification_id)
    language = _language(notification)
    return respond(
        "tenant_creation/notification.html",
        notification=notification,
        mail=request_notifications.preview(current_actor(), notification_id, language),
        language_shown=language,
        languages=LANGUAGES,
        is_staff=current_actor().is_staff,
    )


@notifications_bp.get("/mail")
@requires(Permission.REQUESTS_READ)
def mail_frame(request_id: int, notification_id: int) -> Response:
    """The mail alone, as its HTML, for the frame on its page."""
    notification = _get(request_id, notification_id)
    mail = request_notifications.preview(current_actor(), notification_id, _language(notification))
    return frame_mail(mail.html)


@notifications_bp.post("/resend")
@requires(Permission.REQUESTS_MANAGE)
def resend(request_id: int, notification_id: int) -> Response:
    """Mail it again; `clear` ends the suppression of the address."""
    _get(request_id, notification_id)
    try:
        sent = request_notifications.resend(
            current_actor(), notification_id, clear_suppression=bool(request.form.get("clear"))
        )
    except Conflict as error:
        flash(error.message, "attention")
    else:
        if sent.id == notification_id:
            flash("This notification had not been mailed yet. It is tried now.", "good")
        else:
            flash(f"The notification is sent to {sent.email} again.", "good")
    return go(url_for("tenant_creation.show", request_id=request_id))


def _get(request_id: int, notification_id: int) -> RequestNotification:
    found = request_notifications.get_notification(current_actor(), notification_id)
    if found.request_id != request_id:
        raise NotFound("There is no such notification of this request.")
    return found


def _language(notification: RequestNotification) -> str:
    """What the address asks for, else the notification's own, as one of the mails' languages."""
    for each in (request.args.get("language", ""), notification.language.partition("-")[0]):
        if each in LANGUAGES:
            return each
    return next(iter(LANGUAGES))
