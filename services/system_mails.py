"""System mails: Foyer's own, one at a time, over the same kind of connection as deliveries."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from extensions import get_settings
from models import utcnow
from services import mail_headers, messages
from services.mail_wires import smtp_server
from services.smtp import Outcome, connect


class MailRefused(Exception):
    """The server refused for good; trying again is of no use."""


class MailDelayed(Exception):
    """The server is down or asks to come back later."""


def send(
    prepared: messages.PreparedMessage,
    values: Mapping[str, str],
    *,
    to_name: str,
    to_address: str,
) -> None:
    """Send one mail and wait for the server's answer.

    Raises MailRefused or MailDelayed with the server's words, ServerUnavailable from connecting.
    """
    sender = get_settings().mail_default_sender
    try:
        recipient, needs_smtputf8 = mail_headers.envelope_address(to_address)
        message = prepared.render(
            values,
            to_name=to_name,
            to_address=to_address,
            message_id=f"<{secrets.token_hex(16)}@{sender.rpartition('@')[2]}>",
            date=utcnow(),
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
    if answer.outcome is Outcome.TRANSIENT:
        raise MailDelayed(answer.text)
    raise MailRefused(answer.text)
