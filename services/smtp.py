"""A connection to the mail server that stays open and says what became of each mail.

`smtplib` waits for an answer after each command. Where the server offers PIPELINING (RFC 2920), the
envelope here goes out in one write and its answers are read afterwards, which saves two round trips
per mail. A mail ends in an `Answer`, whatever the network does.
"""

import re
import select
import smtplib
import socket
import ssl
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Self

from services.mail_headers import dot_stuff

_TEXT_LENGTH = 500
_QUIT_TIMEOUT = 2.0
_TLS_SLICE = 16_384
# Refusals of MAIL that speak of the session, not of the mail (RFC 3207, RFC 4954).
_SESSION_CODES = frozenset({421, 530, 538})
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_ADDRESS = re.compile(r"[^\s<>\x00-\x1f\x7f]+@[^\s<>@\x00-\x1f\x7f]+")


@dataclass(frozen=True, kw_only=True)
class SmtpServer:
    """Where mail is handed over. Times in seconds; `timeout` holds for each read and write.

    `use_ssl` is TLS from the first byte, `use_tls` is STARTTLS. Certificates are verified.
    """

    host: str
    port: int
    use_tls: bool = False
    use_ssl: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    timeout: float = 30.0
    connect_timeout: float = 10.0
    local_hostname: str | None = None


class ServerUnavailable(Exception):
    """No connection that could carry mail. `reason` is a sentence without secrets."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


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


@dataclass(frozen=True)
class Answer:
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


class _BrokenError(Exception):
    """The connection broke, or the server's answer makes no sense."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(text)


@dataclass(frozen=True)
class _Reply:
    code: int
    text: str

    @property
    def positive(self) -> bool:
        return 200 <= self.code < 300


class _Client(smtplib.SMTP):
    """smtplib's connection and sign-in, with reads and writes of our own for mail."""

    def write(self, data: bytes) -> None:
        """Hand over all of `data`. Raises _BrokenError."""
        try:
            self.open_socket().sendall(data)
        except OSError as error:
            raise _BrokenError(_network_words(error)) from None

    def write_message(self, data: bytes) -> bool:
        """Hand over a message with its end. Returns False when the connection broke before that.

        Raises _BrokenError when it broke and the end may have left.
        """
        sock = self.open_socket()
        view = memoryview(data)
        # Nothing of a failed plain write has left. A TLS record may have, in part or whole.
        step, doubt = (_TLS_SLICE, _TLS_SLICE) if isinstance(sock, ssl.SSLSocket) else (None, 0)
        sent = 0
        while sent < len(data):
            try:
                sent += sock.send(view[sent : sent + step] if step else view[sent:])
            except OSError as error:
                if sent + doubt > len(data) - len(b".\r\n"):
                    raise _BrokenError(_network_words(error)) from None
                return False
        return True

    def reply(self) -> _Reply:
        """Read one answer. Raises _BrokenError."""
        try:
            code, text = self.getreply()
        except smtplib.SMTPServerDisconnected as error:
            timed_out = isinstance(error.__context__, TimeoutError)
            raise _BrokenError(
                "The mail server did not answer in time."
                if timed_out
                else "The mail server closed the connection."
            ) from None
        except smtplib.SMTPException:
            raise _BrokenError("The mail server's answer makes no sense.") from None
        except OSError as error:
            raise _BrokenError(_network_words(error)) from None
        if not 200 <= code <= 599:
            raise _BrokenError("The mail server's answer makes no sense.")
        return _Reply(code, _server_words(text))

    def something_to_read(self) -> bool:
        """Tell whether the server spoke or hung up unasked."""
        poll = select.poll()
        try:
            poll.register(self.open_socket(), select.POLLIN)
            return bool(poll.poll(0))
        except (OSError, ValueError, _BrokenError):
            return True

    def open_socket(self) -> socket.socket:
        """Return the socket. Raises _BrokenError when it is closed."""
        if self.sock is None:
            raise _BrokenError("The connection is closed.")
        return self.sock


class _TlsClient(smtplib.SMTP_SSL, _Client):
    """The same over TLS from the first byte."""


def _server_words(raw: bytes) -> str:
    text = raw.decode("utf-8", "replace")
    return " ".join(_CONTROLS.sub(" ", text).split())[:_TEXT_LENGTH]


def _network_words(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "The mail server did not answer in time."
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"The mail server's certificate is not valid: {error.verify_message}."
    if isinstance(error, ssl.SSLError):
        return f"TLS with the mail server failed: {error.reason or 'no reason given'}."
    if isinstance(error, socket.gaierror):
        return "The mail server's name cannot be found."
    if isinstance(error, ConnectionRefusedError):
        return "The mail server refuses connections."
    if isinstance(error, (ConnectionError, BrokenPipeError)):
        return "The mail server closed the connection."
    return f"The network failed: {error.strerror or type(error).__name__}."


def connect(
    server: SmtpServer, *, tls_context: ssl.SSLContext | None = None, pipelining: bool = True
) -> "SmtpConnection":
    """Open a connection, secured and signed in as `server` says. Raises ServerUnavailable.

    `tls_context` replaces the one that trusts the machine's certificates. `pipelining=False` never
    pipelines.
    """
    return SmtpConnection(server, tls_context=tls_context, pipelining=pipelining)


def _open(server: SmtpServer, tls_context: ssl.SSLContext | None) -> _Client:
    context = tls_context or ssl.create_default_context()
    client: _Client | None = None
    try:
        # No host yet: smtplib would connect at once, and hide the socket when the greeting is bad.
        if server.use_ssl:
            client = _TlsClient(
                local_hostname=server.local_hostname,
                timeout=server.connect_timeout,
                context=context,
            )
        else:
            client = _Client(local_hostname=server.local_hostname, timeout=server.connect_timeout)
        # starttls() checks the certificate against the name that the constructor was not given.
        client._host = server.host  # type: ignore[attr-defined]
        reason = _greet(client, server, context)
    except (OSError, smtplib.SMTPException, _BrokenError, UnicodeError) as error:
        reason = _sentence(error, server)
    if client is not None and reason is None:
        return client
    if client is not None:
        client.close()
    raise ServerUnavailable(reason or "The mail server cannot be reached.")


def _greet(client: _Client, server: SmtpServer, context: ssl.SSLContext) -> str | None:
    """Connect, secure and sign in. Returns what the server refused, if it did."""
    code, text = client.connect(server.host, server.port)
    if code != 220:
        return _refusal("The mail server is not ready", code, text)
    sock = client.open_socket()
    sock.settimeout(server.timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.ehlo_or_helo_if_needed()
    if server.use_tls and not server.use_ssl:
        if not client.has_extn("starttls"):
            return "The mail server does not offer STARTTLS."
        code, text = client.starttls(context=context)
        if code != 220:
            return _refusal("The mail server refuses STARTTLS", code, text)
        client.ehlo_or_helo_if_needed()
    if server.username:
        client.login(server.username, server.password or "")
    return None


def _refusal(what: str, code: int, text: bytes) -> str:
    return f"{what}: {code} {_server_words(text)}".rstrip()


def _sentence(error: Exception, server: SmtpServer) -> str:
    """Say why connecting failed. A server that echoes the password does not get it repeated."""
    match error:
        case smtplib.SMTPAuthenticationError():
            words = _refusal(
                "The mail server refuses the user name and password",
                error.smtp_code,
                _as_bytes(error.smtp_error),
            )
        case smtplib.SMTPResponseException():
            words = _refusal(
                "The mail server refuses the session", error.smtp_code, _as_bytes(error.smtp_error)
            )
        case smtplib.SMTPNotSupportedError():
            words = "The mail server does not offer a way to sign in."
        case smtplib.SMTPServerDisconnected():
            timed_out = isinstance(error.__context__, TimeoutError)
            words = (
                "The mail server did not answer in time."
                if timed_out
                else "The mail server closed the connection."
            )
        case smtplib.SMTPException():
            words = "The mail server offers no way to sign in that is supported."
        case UnicodeError():
            words = "The mail server's name, user name or password has unusable characters."
        case OSError():
            words = _network_words(error)
        case _:
            words = str(error)
    if server.password:
        words = words.replace(server.password, "…")
    return words


def _as_bytes(text: bytes | str) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "replace")


class SmtpConnection:
    """One open connection. Not for use by several threads at once."""

    def __init__(
        self,
        server: SmtpServer,
        *,
        tls_context: ssl.SSLContext | None = None,
        pipelining: bool = True,
    ) -> None:
        self._server = server
        self._tls_context = tls_context
        self._may_pipeline = pipelining
        self._closed = False
        self._adopt(_open(server, tls_context))

    def _adopt(self, client: _Client) -> None:
        self._client = client
        self._usable = True
        self._needs_reset = False
        self._pipelines = self._may_pipeline and client.has_extn("pipelining")

    @property
    def usable(self) -> bool:
        """Whether another mail can be sent over this connection."""
        return self._usable

    @property
    def pipelines(self) -> bool:
        return self._pipelines

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
        if self._usable:
            try:
                if self._client.sock is not None:
                    self._client.sock.settimeout(_QUIT_TIMEOUT)
                self._client.quit()
            except (OSError, smtplib.SMTPException, ValueError):
                pass
        self._closed = True
        self._abandon()

    def _abandon(self) -> None:
        self._usable = False
        self._client.close()

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
        if self._client.something_to_read():
            self._abandon()
            try:
                self._adopt(_open(self._server, self._tls_context))
            except ServerUnavailable as error:
                return self._down(error.reason)
        envelope, refusal = self._envelope(envelope_from, rcpt, len(message), smtputf8)
        if refusal is not None:
            return refusal
        commands = [(Stage.CONNECTION, b"RSET\r\n")] if self._needs_reset else []
        commands += envelope
        decided = self._send_pipelined(commands) if self._pipelines else self._send_plain(commands)
        return decided if decided is not None else self._send_message(message)

    def _envelope(
        self, envelope_from: str, rcpt: str, size: int, smtputf8: bool
    ) -> tuple[list[tuple[Stage, bytes]], Answer | None]:
        """Return the commands of one mail, or the answer when this server cannot take it."""
        client = self._client
        if smtputf8 and not client.has_extn("smtputf8"):
            return [], self._refused_here(
                "The mail server does not accept addresses with letters beyond ASCII before the @ "
                "(SMTPUTF8 is not offered)."
            )
        addresses = (rcpt,) if not envelope_from else (envelope_from, rcpt)
        for address in addresses:
            if not _ADDRESS.fullmatch(address) or not (smtputf8 or address.isascii()):
                return [], self._refused_here("The e-mail address is not valid.")
        options = ""
        if client.has_extn("size"):
            options += f" SIZE={size}"
        if smtputf8:
            options += " SMTPUTF8"
            if client.has_extn("8bitmime"):
                options += " BODY=8BITMIME"
        return [
            (Stage.MAIL, f"MAIL FROM:<{envelope_from}>{options}\r\n".encode()),
            (Stage.RCPT, f"RCPT TO:<{rcpt}>\r\n".encode()),
            (Stage.DATA, b"DATA\r\n"),
        ], None

    def _send_plain(self, commands: list[tuple[Stage, bytes]]) -> Answer | None:
        """Send command by command. Returns the refusal, or None when the server wants the mail."""
        stage = Stage.CONNECTION
        try:
            for stage, command in commands:
                self._client.write(command)
                reply = self._client.reply()
                if not _goes_on(stage, reply):
                    self._needs_reset = stage is not Stage.CONNECTION
                    return self._refused(stage, reply)
        except _BrokenError as fault:
            return self._broken(fault, stage)
        return None

    def _send_pipelined(self, commands: list[tuple[Stage, bytes]]) -> Answer | None:
        """Send all commands at once. Returns as `_send_plain` does."""
        first_refusal: tuple[Stage, _Reply] | None = None
        wants_message = False
        stage = Stage.CONNECTION
        try:
            self._client.write(b"".join(command for _, command in commands))
            for stage, _ in commands:
                reply = self._client.reply()
                if not _goes_on(stage, reply) and first_refusal is None:
                    first_refusal = (stage, reply)
                if reply.code == 421:
                    self._abandon()
                    break
                wants_message = stage is Stage.DATA and reply.code == 354
            if first_refusal is None:
                return None
            if wants_message:
                self._end_unwanted_message(first_refusal[0])
            else:
                self._needs_reset = True
        except _BrokenError as fault:
            self._abandon()
            if first_refusal is None:
                return self._broken(fault, stage)
        return self._refused(*first_refusal)

    def _end_unwanted_message(self, refused: Stage) -> None:
        """End a message that the server waits for although it refused the envelope.

        With its only recipient refused, an empty message goes nowhere. Was it another command that
        was refused, the recipient may stand, so an empty mail could reach a person: hang up.
        Raises _BrokenError.
        """
        if refused is not Stage.RCPT:
            self._abandon()
            return
        self._client.write(b".\r\n")
        reply = self._client.reply()
        self._needs_reset = not reply.positive
        if reply.code == 421:
            self._abandon()

    def _send_message(self, message: bytes) -> Answer:
        body = dot_stuff(message)
        if not body.endswith(b"\r\n"):
            body += b"\r\n"
        try:
            if not self._client.write_message(body + b".\r\n"):
                return self._broken(
                    _BrokenError("The mail server closed the connection."), Stage.MESSAGE
                )
            reply = self._client.reply()
        except _BrokenError as fault:
            return self._broken(fault, Stage.MESSAGE, in_doubt=True)
        self._needs_reset = False
        if reply.positive:
            return Answer(Outcome.ACCEPTED, reply.code, reply.text, False, True)
        return self._refused(Stage.MESSAGE, reply)

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

    def _broken(self, fault: _BrokenError, stage: Stage, *, in_doubt: bool = False) -> Answer:
        self._abandon()
        return Answer(Outcome.TRANSIENT, None, fault.text, in_doubt, False, True, stage)

    def _down(self, text: str) -> Answer:
        return Answer(Outcome.TRANSIENT, None, text, False, False, True, Stage.CONNECTION)


def _goes_on(stage: Stage, reply: _Reply) -> bool:
    return reply.code == 354 if stage is Stage.DATA else reply.positive
