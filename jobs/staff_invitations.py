"""Jobs that mail invitations of staff."""

from __future__ import annotations

from services import staff_invitations
from services.smtp import ServerUnavailable
from services.system_mails import MailDelayed


def mail_invitation(invitation_id: int) -> None:
    """Make and mail the link by which a new member of staff chooses a password.

    Triggered by the invitation and by the sweep, which repeats it for a day while the mail server
    is down. Idempotent: an invitation that was mailed, or that another job is mailing, is left
    alone. A crash after the server's answer mails a second link, and then only that one works.
    """
    try:
        staff_invitations.mail_invitation(invitation_id)
    except (ServerUnavailable, MailDelayed):
        return  # The row still says that no mail went out; the sweep looks again.
