"""System mails: Foyer's own, one at a time, over the same kind of connection as deliveries."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import datetime

from extensions import get_settings
from models import utcnow
from services import mail_headers, messages
from services.mail_wires import concerns_all_mail, smtp_server
from services.smtp import Outcome, ServerUnavailable, connect


class MailRefused(Exception):
    """The server refused for good; trying again is of no use."""


class MailDelayed(Exception):
    """The server is down or asks to come back later."""


def new_message_id() -> str:
    """A Message-ID that nothing else has, for a row to keep."""
    domain = get_settings().mail_default_sender.rpartition("@")[2]
    return f"<{secrets.token_hex(16)}@{domain}>"


def send(
    prepared: messages.PreparedMessage,
    values: Mapping[str, str],
    *,
    to_name: str,
    to_address: str,
    message_id: str = "",
    date: datetime | None = None,
) -> None:
    """Send one mail and wait for the server's answer.

    With `message_id` and `date` (aware) of a row, what is sent again after a crash is the same
    message; without them it is a new one.

    Raises MailRefused or MailDelayed with the server's words, and ServerUnavailable where the fault
    is the server's or the connection's, so that other mails would meet it, too.
    """
    sender = get_settings().mail_default_sender
    try:
        recipient, needs_smtputf8 = mail_headers.envelope_address(to_address)
        message = prepared.render(
            values,
            to_name=to_name,
            to_address=to_address,
            message_id=message_id or new_message_id(),
            date=date or utcnow(),
        )
    except mail_headers.MessageError as error:
        raise MailRefused(str(error)) from error
    connection = connect(smtp_server())
    try:
        answer = connection.send(sender, recipient, message, smtputf8=needs_smtputf8)
    finally:
        connection.close()
    if answer.outcome is Outcome.ACCEPTED:
        return
    if answer.server_down or concerns_all_mail(answer, needs_smtputf8):
        raise ServerUnavailable(answer.text)
    if answer.outcome is Outcome.TRANSIENT:
        raise MailDelayed(answer.text)
    raise MailRefused(answer.text)
