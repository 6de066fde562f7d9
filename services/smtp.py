"""A connection to the mail server that stays open and says what became of each mail.

`smtplib` waits for an answer after each command: four round trips per mail. Where the server offers
PIPELINING (RFC 2920), MAIL, RCPT and DATA leave together here, and directly behind the final dot of
the mail before: one round trip per mail. A message itself leaves only after the server's 354 to its
own DATA, so that at most one mail per connection can be accepted without our knowing.

A connection never waits by itself, so one thread can drive many: `offer` puts mails in line,
`advance` writes what the network takes, reads what it has and returns the mails that ended, and
`wait_for_any` sleeps until one of several can go on. `send` does it all for a single mail. A mail
ends in an `Answer`, whatever the network does.
"""

import re
import select
import smtplib
import ssl
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Any, NamedTuple, Self

from services.mail_headers import dot_stuff
from services.smtp_opening import (
    ServerUnavailable,
    SmtpClient,
    SmtpServer,
    network_words,
    open_client,
    server_words,
)

__all__ = [
    "Answer",
    "Mail",
    "Outcome",
    "ServerUnavailable",
    "SmtpConnection",
    "SmtpServer",
    "Stage",
    "connect",
    "too_large_words",
    "wait_for_any",
]

_QUIT_TIMEOUT = 2.0
_TLS_RECORD = 16_384
_READ_SIZE = 65_536
_LONGEST_REPLY = 65_536
_IN_LINE_PIPELINED = 3
"""One whose answer is awaited, one whose envelope is on its way, one to go with the next write."""
_IN_LINE_PLAIN = 2
_CLOSED = "The mail server closed the connection."
_TOO_SLOW = "The mail server did not answer in time."
_NONSENSE = "The mail server's answer makes no sense."
_CODES = {b"%d" % code: code for code in range(200, 600)}
# Refusals of MAIL that speak of the session, not of the mail (RFC 3207, RFC 4954).
_SESSION_CODES = frozenset({421, 530, 538})
_ADDRESS = r"[^\s<>\x00-\x1f\x7f]+@[^\s<>@\x00-\x1f\x7f]+"
_ADDRESSES = re.compile(rf"(?:{_ADDRESS})?>{_ADDRESS}")
# What nearly every read is: the message accepted, and the next envelope, up to the 354.
_ALL_WELL = re.compile(rb"(2\d\d) ([^\n]*)\n2\d\d [^\n]*\n2\d\d [^\n]*\n354[ \r][^\n]*\n")


class Outcome(StrEnum):
    ACCEPTED = "accepted"
    TRANSIENT = "transient"
    PERMANENT = "permanent"


class Stage(StrEnum):
    """The command that the deciding answer belongs to."""

    CONNECTION = "connection"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    MESSAGE = "message"
    EMPTY_MESSAGE = "empty message"


class Answer(NamedTuple):
    """What became of one mail.

    `code` and `text` are the server's words, or None and ours. `in_doubt` says that the mail went
    out whole and the server's answer to it is unknown. `server_down` says that the fault is the
    server's or the connection's: other mails would meet it too. `stage` is `mail` where the server
    refused the sender.
    """

    outcome: Outcome
    code: int | None
    text: str
    in_doubt: bool
    connection_usable: bool
    server_down: bool = False
    stage: Stage = Stage.MESSAGE


@dataclass(slots=True)
class Mail:
    """One message to one recipient.

    `message` is ready for the wire: CRLF line ends only, the last line ended, no line that starts
    with a dot. `tag` is the caller's, to know the mail again. `tail` follows `message` and is the
    same for many mails, which share its bytes: their attachments.
    """

    envelope_from: str
    rcpt: str
    message: bytes = field(repr=False)
    smtputf8: bool = False
    tag: Any = None
    tail: bytes = field(default=b"", repr=False)

    @property
    def size(self) -> int:
        """Bytes, without the closing dot."""
        return len(self.message) + len(self.tail)


_ENVELOPE = (Stage.MAIL, Stage.RCPT, Stage.DATA)
_NOTHING: deque[tuple[Stage, bytes]] = deque()


class _Reply(NamedTuple):
    code: int
    raw: bytes

    @property
    def text(self) -> str:
        return server_words(self.raw)

    @property
    def positive(self) -> bool:
        return 200 <= self.code < 300


@dataclass(slots=True)
class _Transit:
    """A mail in line: MAIL, RCPT and DATA, those that wait for an answer, the first refused."""

    mail: Mail
    envelope: bytes
    unsent: deque[tuple[Stage, bytes]]
    refusal: tuple[Stage, _Reply] | None = None


def connect(
    server: SmtpServer,
    *,
    tls_context: ssl.SSLContext | None = None,
    pipelining: bool = True,
    on_acceptance: Callable[[Mail, int], None] | None = None,
) -> "SmtpConnection":
    """Open a connection, secured and signed in as `server` says. Raises ServerUnavailable.

    `tls_context` replaces the one that trusts the machine's certificates. `pipelining=False` never
    pipelines. `on_acceptance` is told of each mail and its code before the next message leaves.
    """
    return SmtpConnection(
        server, tls_context=tls_context, pipelining=pipelining, on_acceptance=on_acceptance
    )


def wait_for_any(connections: Sequence["SmtpConnection"], seconds: float) -> None:
    """Sleep until one of the connections can `advance`, at most `seconds`."""
    poll = select.poll()
    for connection in connections:
        connection.register(poll)
        seconds = min(seconds, connection.seconds_left())
    poll.poll(max(seconds, 0) * 1000)


class SmtpConnection:
    """One open connection. Not for use by several threads at once."""

    def __init__(
        self,
        server: SmtpServer,
        *,
        tls_context: ssl.SSLContext | None = None,
        pipelining: bool = True,
        on_acceptance: Callable[[Mail, int], None] | None = None,
    ) -> None:
        self._server = server
        self._on_acceptance = on_acceptance
        self._tls_context = tls_context
        self._may_pipeline = pipelining
        self._line: deque[_Transit] = deque()
        self._ended: list[tuple[Mail, Answer]] = []
        self._adopt(open_client(server, tls_context))

    def _adopt(self, client: SmtpClient) -> None:
        self._client = client
        self._socket = client.open_socket()
        self._socket.setblocking(False)
        self._is_tls = isinstance(self._socket, ssl.SSLSocket)
        self._usable = True
        self._needs_reset = False
        self._pipelines = self._may_pipeline and client.has_extn("pipelining")
        self._places = _IN_LINE_PIPELINED if self._pipelines else _IN_LINE_PLAIN
        self._size_option = client.has_extn("size")
        self._largest = _number(client.esmtp_features.get("size", ""))
        self._dsn_option = client.has_extn("dsn")
        self._begun = 0
        self._message_has_left = False
        self._awaited: deque[Stage] = deque()
        self._unsent = bytearray()
        self._written = 0
        self._queued = 0
        self._message_end = 0
        self._unread = b""
        self._words = b""
        self._write_fault = ""
        self._last_progress = time.monotonic()

    @property
    def usable(self) -> bool:
        """Whether another mail can be sent over this connection."""
        return self._usable

    @property
    def pipelines(self) -> bool:
        return self._pipelines

    @property
    def in_line(self) -> int:
        """Mails that were offered and have not ended."""
        return len(self._line)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Say good-bye, briefly, and close. May be called twice."""
        if self._usable and not self._awaited and not self._unsent:
            try:
                self._socket.settimeout(_QUIT_TIMEOUT)
                self._client.quit()
            except (OSError, smtplib.SMTPException, ValueError):
                pass
        self._abandon()

    def _abandon(self) -> None:
        self._usable = False
        self._awaited.clear()
        self._unsent.clear()
        self._client.close()

    # --- One mail ---------------------------------------------------------------------------

    def send(self, envelope_from: str, rcpt: str, message: bytes, smtputf8: bool = False) -> Answer:
        """Send one message to one recipient and say what became of it.

        `message` has CRLF line ends and is not dot-stuffed. Raises ValueError for bare CR or LF,
        which servers disagree about and which could smuggle in a second message; never for what
        the server or the network does. A connection that the server gave up while it was idle is
        opened anew first.
        """
        ends = message.count(b"\r\n")
        if message.count(b"\n") != ends or message.count(b"\r") != ends:
            raise ValueError("message must have CRLF line ends only")
        if not self._usable:
            return self._down("The connection is closed.")
        if self.has_been_left():
            self._abandon()
            try:
                self._adopt(open_client(self._server, self._tls_context))
            except ServerUnavailable as error:
                return self._down(error.reason)
        body = dot_stuff(message)
        if not body.endswith(b"\r\n"):
            body += b"\r\n"
        if (refused := self.offer(Mail(envelope_from, rcpt, body, smtputf8))) is not None:
            return refused
        while True:
            for _, answer in self.advance():
                return answer
            if not self.usable:
                self.take_back()
                return self._down(_CLOSED)
            wait_for_any([self], self._server.timeout)

    def has_been_left(self) -> bool:
        """Whether the server spoke or hung up while no mail was under way."""
        poll = select.poll()
        try:
            poll.register(self._socket, select.POLLIN)
            return bool(poll.poll(0))
        except (OSError, ValueError):
            return True

    # --- Many mails -------------------------------------------------------------------------

    def can_take(self) -> bool:
        """Whether `offer` may be called."""
        return self._usable and len(self._line) < self._places

    def offer(self, mail: Mail) -> Answer | None:
        """Put a mail in line; its answer comes from `advance`.

        Returns the answer at once where this server cannot take the mail at all.
        """
        envelope = self._envelope(mail)
        if isinstance(envelope, Answer):
            return envelope
        self._line.append(_Transit(mail, envelope, _NOTHING))
        self._begin()
        return None

    def advance(self) -> list[tuple[Mail, Answer]]:
        """Write what the network takes, read what it has; returns the mails that have ended.

        Call it again after `offer`, and when `wait_for_any` returns. When the connection is no
        longer usable afterwards, `take_back` has the mails whose message never left.
        """
        if self._usable:
            self._write()
            self._read()
            self._write()
            if self.usable and self.seconds_left() <= 0:
                self._break(_TOO_SLOW)
        ended, self._ended = self._ended, []
        return ended

    def take_back(self) -> list[Mail]:
        """The mails in line whose message has not left, once the connection is not usable."""
        mails = [transit.mail for transit in self._line]
        self._line.clear()
        return mails

    def register(self, poll: "select.poll") -> None:
        """Have `poll` wake up when this connection can go on."""
        if self._usable:
            poll.register(self._socket, select.POLLIN | (select.POLLOUT if self._unsent else 0))

    def seconds_left(self) -> float:
        """How long the server may still stay silent."""
        if not self._awaited and not self._unsent:
            return self._server.timeout
        return self._last_progress + self._server.timeout - time.monotonic()

    def _envelope(self, mail: Mail) -> bytes | Answer:
        """The commands of one mail, or the answer when this server cannot take it."""
        if not _ADDRESSES.fullmatch(f"{mail.envelope_from}>{mail.rcpt}"):
            return self._refused_here("The e-mail address is not valid.")
        options = f" SIZE={len(mail.message)}" if self._size_option else ""
        if mail.tail and self._size_option:
            if 0 < self._largest < mail.size:
                return self._refused_here(too_large_words(mail, self._largest))
            options = f" SIZE={mail.size}"
        if self._dsn_option:
            # A report needs no more of a mail than its headers: the rest carries passwords.
            options += " RET=HDRS"
        command = f"MAIL FROM:<{mail.envelope_from}>{options}\r\n"
        envelope = f"{command}RCPT TO:<{mail.rcpt}>\r\nDATA\r\n"
        if not mail.smtputf8:
            if not envelope.isascii():
                return self._refused_here("The e-mail address is not valid.")
            return envelope.encode()
        if not self._client.has_extn("smtputf8"):
            return self._refused_here(
                "The mail server does not accept addresses with letters beyond ASCII before the @ "
                "(SMTPUTF8 is not offered)."
            )
        body = " BODY=8BITMIME" if self._client.has_extn("8bitmime") else ""
        return envelope.replace("\r\n", f" SMTPUTF8{body}\r\n", 1).encode()

    def _begin(self) -> None:
        """Let the next envelope leave: alone, or directly behind the message before it."""
        while self._begun < len(self._line) and (
            not self._begun or (self._begun == 1 and self._pipelines and self._message_has_left)
        ):
            transit = self._line[self._begun]
            reset: bytes = b""
            stages: tuple[Stage, ...] = _ENVELOPE
            if self._needs_reset and not self._begun:
                reset, stages = b"RSET\r\n", (Stage.CONNECTION, *_ENVELOPE)
                self._needs_reset = False
            self._begun += 1
            if self._pipelines:
                self._queue(reset + transit.envelope, stages)
            else:
                commands = (reset + transit.envelope).splitlines(keepends=True)
                transit.unsent = deque(zip(stages, commands, strict=True))
                self._command(transit)

    def _command(self, transit: _Transit) -> None:
        stage, command = transit.unsent.popleft()
        self._queue(command, (stage,))

    def _queue(self, data: bytes, awaited: tuple[Stage, ...]) -> None:
        if not self._awaited and not self._unsent:
            self._last_progress = time.monotonic()
        self._unsent += data
        self._queued += len(data)
        self._awaited.extend(awaited)

    # --- The network ------------------------------------------------------------------------

    def _write(self) -> None:
        while self._unsent:
            # A part of it for TLS, which would copy all of a large message each time.
            part = self._unsent[:_TLS_RECORD] if self._is_tls else self._unsent
            try:
                count = self._socket.send(part)
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                return
            except OSError as error:
                # What the server said before it hung up may still be there to read.
                self._write_fault = network_words(error)
                self._unsent.clear()
                return
            self._written += count
            self._last_progress = time.monotonic()
            if count == len(self._unsent):
                self._unsent.clear()
            else:
                del self._unsent[:count]

    def _read(self) -> None:
        while self._usable:
            try:
                data = self._socket.recv(_READ_SIZE)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                if self._write_fault:
                    self._break(self._write_fault)
                return
            except OSError as error:
                self._break(network_words(error))
                return
            if not data:
                self._break(_CLOSED)
                return
            self._last_progress = time.monotonic()
            self._unread += data
            self._take_replies()
            if not self._is_tls:  # TLS may hold decrypted bytes that no poll would tell of.
                return

    def _take_replies(self) -> None:
        """Handle every complete reply among the bytes read."""
        if self._expects_all_well() and (found := _ALL_WELL.fullmatch(self._unread)):
            self._awaited.clear()
            self._unread = b""
            self._end_accepted(int(found[1]), found[2])
            self._send_message()
            return
        *lines, self._unread = self._unread.split(b"\n")
        for line in lines:
            code = _CODES.get(line[:3])
            if code is None or not self._awaited:
                self._break(_NONSENSE)
                return
            words = self._words + b" " + line[4:] if self._words else line[4:]
            if line[3:4] == b"-":
                self._words = words[:_LONGEST_REPLY]
                continue
            self._words = b""
            self._handle(code, words)
            if not self._usable:
                return
        if len(self._unread) > _LONGEST_REPLY:
            self._break(_NONSENSE)

    def _expects_all_well(self) -> bool:
        """Whether a message and the envelope behind it are all that is under way."""
        return len(self._awaited) == 4 and self._awaited[0] is Stage.MESSAGE and not self._words

    def _break(self, fault: str) -> None:
        """The connection broke: end the mail that is under way, if one is."""
        if not self._begun:
            self._abandon()
            return
        refusal = self._line[0].refusal
        if refusal is not None:
            self._abandon()
            self._end(self._refused(*refusal))
            return
        stage = self._awaited[0] if self._awaited else Stage.MESSAGE
        in_doubt = self._message_has_left and self._may_have_been_heard()
        self._abandon()
        self._end(Answer(Outcome.TRANSIENT, None, fault, in_doubt, False, True, stage))

    def _may_have_been_heard(self) -> bool:
        """Whether the end of the message may have reached the server.

        Nothing of a failed plain write has left. A TLS record may have, in part or whole.
        """
        written = self._written + (_TLS_RECORD if self._is_tls else 0)
        return written > self._message_end - len(b".\r\n")

    # --- What the server says ---------------------------------------------------------------

    def _handle(self, code: int, words: bytes) -> None:
        stage = self._awaited.popleft()
        if stage is Stage.MESSAGE and code < 300:
            self._end_accepted(code, words)
            return
        reply = _Reply(code, words)
        if stage is Stage.MESSAGE:
            self._end(self._refused(stage, reply))
        elif stage is Stage.EMPTY_MESSAGE:
            self._needs_reset = not reply.positive
            if reply.code == 421:
                self._abandon()
            self._end_refused()
        elif self._pipelines:
            self._handle_pipelined(stage, reply)
        elif not _goes_on(stage, reply):
            self._needs_reset = stage is not Stage.CONNECTION
            self._end(self._refused(stage, reply))
        elif stage is Stage.DATA:
            self._send_message()
        else:
            self._command(self._line[0])

    def _handle_pipelined(self, stage: Stage, reply: _Reply) -> None:
        transit = self._line[0]
        if transit.refusal is None and not _goes_on(stage, reply):
            transit.refusal = (stage, reply)
        if reply.code == 421:
            self._abandon()
            self._end_refused()
        elif stage is not Stage.DATA:
            return
        elif transit.refusal is None:
            self._send_message()
        elif reply.code != 354:
            self._needs_reset = True
            self._end_refused()
        elif transit.refusal[0] is Stage.RCPT:
            # The server waits for a message although its only recipient was refused: an empty one
            # goes nowhere.
            self._queue(b".\r\n", (Stage.EMPTY_MESSAGE,))
        else:
            # The recipient may stand, so that an empty mail could reach a person: hang up.
            self._abandon()
            self._end_refused()

    def _send_message(self) -> None:
        mail = self._line[0].mail
        self._unsent += mail.message
        self._queued += len(mail.message)
        if mail.tail:
            self._unsent += mail.tail
            self._queued += len(mail.tail)
        self._queue(b".\r\n", (Stage.MESSAGE,))
        self._message_end = self._queued
        self._message_has_left = True
        self._begin()

    def _end_accepted(self, code: int, words: bytes) -> None:
        if self._on_acceptance is not None:
            self._on_acceptance(self._line[0].mail, code)
        self._end(Answer(Outcome.ACCEPTED, code, server_words(words), False, True))

    def _end_refused(self) -> None:
        refusal = self._line[0].refusal
        if refusal is None:
            raise RuntimeError("nothing was refused")
        self._end(self._refused(*refusal))

    def _end(self, answer: Answer) -> None:
        self._ended.append((self._line.popleft().mail, answer))
        self._begun -= 1
        self._message_has_left = False
        if self._usable:
            self._begin()

    def _refused(self, stage: Stage, reply: _Reply) -> Answer:
        session = stage in (Stage.CONNECTION, Stage.MAIL) and reply.code in _SESSION_CODES
        down = session or stage is Stage.CONNECTION or reply.code == 421
        # A 3xx or 2xx where it has no meaning leaves the two sides out of step.
        if down or reply.code < 400:
            self._abandon()
        outcome = Outcome.PERMANENT if reply.code >= 500 and not down else Outcome.TRANSIENT
        return Answer(outcome, reply.code, reply.text, False, self._usable, down, stage)

    def _refused_here(self, text: str) -> Answer:
        return Answer(Outcome.PERMANENT, None, text, False, True, False, Stage.CONNECTION)

    def _down(self, text: str) -> Answer:
        return Answer(Outcome.TRANSIENT, None, text, False, False, True, Stage.CONNECTION)


def _goes_on(stage: Stage, reply: _Reply) -> bool:
    return reply.code == 354 if stage is Stage.DATA else reply.positive


def _number(text: str) -> int:
    """A limit that the server states; 0 for none."""
    return int(text) if len(text) < 19 and text.isascii() and text.isdecimal() else 0


def too_large_words(mail: Mail, largest: int = 0) -> str:
    """What to say of a mail that the server finds too large for its attachments' sake.

    `largest` is the server's limit in bytes, 0 where it does not say.
    """
    limit = f" The server takes {largest / 1_000_000:.1f} MB at most." if largest else ""
    return (
        f"The mail server does not take a mail of {mail.size / 1_000_000:.1f} MB, which this one "
        f"has with the files of the setup instructions.{limit} Remove files, or have the server "
        "take larger mails; then send it again."
    )
