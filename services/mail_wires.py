"""The worker's connections to the mail server: opened anew when they break, left when it is down.

A connection that breaks may be one mail's fault; several in a row are the server's, and block the
line for all.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from extensions import get_settings
from services import mail_lines
from services.smtp import (
    Answer,
    Mail,
    Outcome,
    ServerUnavailable,
    SmtpConnection,
    SmtpServer,
    Stage,
    connect,
    wait_for_any,
)

_TROUBLES_THAT_BLOCK = 3
_CLOSING_DOWN = 421
TOO_LARGE = 552
"""The code for a message that is larger than the server takes (RFC 1870)."""


def smtp_server() -> SmtpServer:
    """The mail server of the settings."""
    settings = get_settings()
    return SmtpServer(
        host=settings.mail_server,
        port=settings.mail_port,
        use_tls=settings.mail_use_tls,
        use_ssl=settings.mail_use_ssl,
        username=settings.mail_username or None,
        password=settings.mail_password or None,
        timeout=settings.mail_timeout,
    )


class MailWires:
    """Up to `count` connections, driven by one thread."""

    def __init__(self, count: int, on_acceptance: Callable[[Mail, int], None]) -> None:
        """`on_acceptance` is told of each mail and its code before the next message leaves."""
        self._server = smtp_server()
        self._on_acceptance = on_acceptance
        self._wanted = count
        self._open: list[SmtpConnection] = []
        self._carried: dict[SmtpConnection, int] = {}
        self._troubles = 0
        self._proven = False
        self.blocked = False

    def open(self) -> bool:
        """Connect what is not connected; False, with the line blocked, when the server is down.

        A server that takes fewer connections than wanted is used with those.
        """
        if self.blocked:
            return False
        missing = self._wanted - len(self._open)
        if missing > 0:
            self._connect(missing)
        return bool(self._open)

    def _connect(self, count: int) -> None:
        if count == 1:
            attempts = [self._try_to_connect()]
        else:
            with ThreadPoolExecutor(count) as pool:
                attempts = list(pool.map(lambda _: self._try_to_connect(), range(count)))
        for each in attempts:
            if isinstance(each, SmtpConnection):
                self._open.append(each)
                self._carried[each] = 0
        refusals = [each for each in attempts if isinstance(each, ServerUnavailable)]
        if refusals and self._open:
            self._wanted = len(self._open)
        elif refusals:
            self._block(refusals[0].reason)

    def _try_to_connect(self) -> SmtpConnection | ServerUnavailable:
        try:
            return connect(self._server, on_acceptance=self._on_acceptance)
        except ServerUnavailable as error:
            return error

    def find_free(self) -> SmtpConnection | None:
        """The connection with most room for a mail, None when all are full."""
        best: SmtpConnection | None = None
        for each in self._open:
            if each.can_take() and (best is None or each.in_line < best.in_line):
                best = each
        return best

    def busy(self) -> bool:
        """Whether a mail is under way."""
        return any([each.in_line for each in self._open])  # noqa: C419 - half the price

    def advance(self) -> tuple[list[tuple[Mail, Answer]], list[Mail]]:
        """Let all connections go on; returns the mails that ended, and those that have to go anew.

        The latter were in line on a connection that is gone, and certainly never left.
        """
        ended: list[tuple[Mail, Answer]] = []
        anew: list[Mail] = []
        for connection in list(self._open):
            for mail, answer in connection.advance():
                if self._note(connection, answer, mail):
                    ended.append((mail, answer))
                else:
                    anew.append(mail)
            if not connection.usable:
                anew += connection.take_back()
                self._drop(connection)
        return ended, anew

    def wait(self, seconds: float) -> None:
        """Sleep until a connection can go on, at most `seconds`."""
        wait_for_any(self._open, seconds)

    def close(self) -> None:
        for connection in list(self._open):
            connection.close()
            self._drop(connection)

    def _note(self, connection: SmtpConnection, answer: Answer, mail: Mail) -> bool:
        """Learn from an answer; False when it was not about this mail, which has to go anew."""
        if answer.outcome is Outcome.ACCEPTED:
            self._troubles = 0
            self._carried[connection] += 1
            if not self._proven:
                self._proven = True
                mail_lines.open_line()
            return True
        if answer.code == _CLOSING_DOWN and self._carried[connection]:
            return False  # As many mails as it takes on one connection.
        if concerns_all_mail(answer, mail.smtputf8):
            self._block(answer.text)
            return False
        if not answer.connection_usable:
            self._troubles += 1
            if self._troubles >= _TROUBLES_THAT_BLOCK:
                self._block(answer.text)
        return True

    def _drop(self, connection: SmtpConnection) -> None:
        self._open.remove(connection)
        del self._carried[connection]

    def _block(self, reason: str) -> None:
        if not self.blocked:
            self.blocked = True
            mail_lines.block_line(reason)


def concerns_all_mail(answer: Answer, needs_smtputf8: bool) -> bool:
    """Whether the next mail would meet the same answer: closing down, or the sender is refused.

    552 is about the size of this one message, and SMTPUTF8 is asked for by few recipients.
    """
    if answer.code == _CLOSING_DOWN:
        return True
    if answer.stage is not Stage.MAIL or answer.code is None:
        return False
    return answer.code != TOO_LARGE and not needs_smtputf8
