"""The SMTP side: accept everything that is well-formed, answer 250 when it is stored."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from localmail.messages import subject_of
from localmail.store import Incoming, MailStore

HOST = "127.0.0.1"
LARGEST_MESSAGE = 25 * 1024 * 1024

_log = logging.getLogger(__name__)


class _Handler:
    def __init__(self, store: MailStore) -> None:
        self._store = store

    # aiosmtpd finds its hooks by these names.
    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Store the mail, then accept it."""
        raw = envelope.original_content or b""
        mail = Incoming(envelope.mail_from or "", envelope.rcpt_tos, subject_of(raw), raw)
        try:
            message_id = await asyncio.wrap_future(self._store.add(mail))
        except sqlite3.Error:
            _log.exception("A mail could not be stored")
            return "451 4.3.0 The mailbox cannot be written now"
        return f"250 2.0.0 Kept as message {message_id}"


class MailServer:
    """An SMTP server on 127.0.0.1 in a thread of its own; port 0 takes a free one."""

    def __init__(self, store: MailStore, port: int) -> None:
        self._controller = _Controller(
            _Handler(store),
            hostname=HOST,
            port=port,
            server_hostname="localhost",
            ready_timeout=15,
            ident="Foyer local mail",
            enable_SMTPUTF8=True,
            data_size_limit=LARGEST_MESSAGE,
        )

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._controller.port)

    def start(self) -> None:
        """Listen; raises OSError when the port is taken."""
        self._controller.start()

    def stop(self) -> None:
        """Close all connections and end the thread."""
        with contextlib.suppress(AssertionError):  # not started
            self._controller.stop()


class _Controller(Controller):
    def _trigger_server(self) -> None:
        """Make the base class's first connection, a test, go to the port that was really taken."""
        if isinstance(self.server, asyncio.Server):
            self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()  # type: ignore[no-untyped-call]
