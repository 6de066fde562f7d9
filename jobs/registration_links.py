"""Jobs that mail the links of prospects."""

from __future__ import annotations

from services import registration_links
from services.smtp import ServerUnavailable
from services.system_mails import MailDelayed


def mail_registration_link(link_id: int) -> None:
    """Make and mail a link to Tenant Registration, asked for or sent as an invitation.

    Triggered by the request and by the sweep, which repeats it while the mail server is down: a
    wish for an hour, an invitation for a day. Idempotent: a link that was mailed, or that another
    job is mailing, is left alone. A crash after the server's answer mails a second link, and then
    only that one works.
    """
    try:
        registration_links.mail_link(link_id)
    except (ServerUnavailable, MailDelayed):
        return  # The row still says that no mail went out; the sweep looks again.
