"""Jobs about second factors."""

from __future__ import annotations

from services import security_notices


def mail_notice(notice_id: int) -> None:
    """Mail a person what happened to his second factors.

    Triggered by the change and by the sweep. Idempotent: a notice that was mailed, or that another
    job is mailing, is left alone. A crash after the server's answer mails the same message once
    more.
    """
    security_notices.mail_notice(notice_id)
