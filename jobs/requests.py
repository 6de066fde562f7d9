"""Jobs about subscription requests."""

from __future__ import annotations

from services import request_notifications


def mail_notification(notification_id: int) -> None:
    """Mail a notification about a request to its contact.

    Triggered by the transition that it tells of, by resending, and by the sweep. Idempotent: one
    that was mailed, or that another job is mailing, is left alone. A crash after the server's
    answer mails the same message once more.
    """
    request_notifications.mail_notification(notification_id)
