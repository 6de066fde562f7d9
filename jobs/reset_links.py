"""Jobs that mail reset links."""

from __future__ import annotations

from services import reset_links
from services.smtp import ServerUnavailable
from services.system_mails import MailDelayed


def mail_reset_link(link_id: int) -> None:
    """Make and mail a link to choose a new password.

    Triggered by the request and by the sweep, which repeats it for an hour while the mail server is
    down. Idempotent: a link that was mailed, or that another job is mailing, is left alone. A crash
    after the server's answer mails a second link, and then only that one works.
    """
    try:
        reset_links.mail_reset_link(link_id)
    except (ServerUnavailable, MailDelayed):
        return  # The row still says that no mail went out; the sweep looks again.
