"""An SMTP server for tests that keeps what it accepts and misbehaves as told.

It runs in a thread of the test process and takes connections from any process on this machine:

    with SmtpSink() as sink:
        sink.refuse("ada@example.org", 451, "Try later", times=2)
        sink.hang(Stage.END, times=1)
        ...
        sink.wait_for(25)
        assert sink.mails[0].text.startswith("Hello")

Rules are tried in the order in which they were made; the first that fits is used.
"""

import asyncio
import base64
import datetime
import email
import email.policy
import ipaddress
import ssl
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.headerregistry import HeaderRegistry
from email.message import EmailMessage
from enum import StrEnum
from functools import cached_property, lru_cache
from types import TracebackType
from typing import Self, cast

# The standard library parses a header each time somebody looks at it, and slowly: most are alike
# in all mails.
_POLICY = email.policy.default.clone(header_factory=lru_cache(1_000)(HeaderRegistry()))


class Stage(StrEnum):
    """Where a rule takes hold: at a command, inside the message, or at its end."""

    CONNECT = "connect"
    EHLO = "ehlo"
    STARTTLS = "starttls"
    AUTH = "auth"
    RSET = "rset"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    BODY = "body"
    END = "end"


class Action(StrEnum):
    REPLY = "reply"
    HANG = "hang"
    CLOSE = "close"
    ACCEPT_AND_CLOSE = "accept and close"


@dataclass
class Rule:
    """`times` is how often it is used before it is spent; None is for ever."""

    stage: Stage
    action: Action
    address: str | None = None
    code: int = 0
    text: str = ""
    times: int | None = None


@dataclass(frozen=True)
class SinkMail:
    """One accepted mail; `data` is as sent, with the dot-stuffing undone."""

    number: int
    sender: str
    recipient: str
    recipients: tuple[str, ...]
    data: bytes = field(repr=False)
    received_at: float
    session: int

    @cached_property
    def message(self) -> EmailMessage:
        return email.message_from_bytes(self.data, policy=_POLICY)

    @cached_property
    def text(self) -> str:
        return self._body("plain")

    @cached_property
    def html(self) -> str:
        return self._body("html")

    @property
    def message_id(self) -> str:
        return str(self.message["Message-ID"])

    def _body(self, kind: str) -> str:
        part = self.message.get_body((kind,))
        return "" if part is None else str(part.get_content())


class _ClosedError(Exception):
    """The session ends."""


class SmtpSink:
    """The server and its mails. All methods may be called from the test's thread at any time.

    `implicit_tls` speaks TLS from the first byte, `starttls` offers it. `auth` is the one user
    name and password that can sign in. `answers_data_without_recipients` is what DATA gets when
    every RCPT was refused: 554, 503 or 354. `mails_per_connection`, `dsn` (RFC 3461) and `largest`,
    the bytes that SIZE states, may be set at any time.
    """

    host = "127.0.0.1"

    def __init__(
        self,
        *,
        port: int = 0,
        pipelining: bool = True,
        smtputf8: bool = True,
        starttls: ssl.SSLContext | None = None,
        implicit_tls: ssl.SSLContext | None = None,
        auth: tuple[str, str] | None = None,
        answers_data_without_recipients: int = 554,
    ) -> None:
        self.port = port
        self.pipelining = pipelining
        self.smtputf8 = smtputf8
        self.starttls = starttls
        self.implicit_tls = implicit_tls
        self.auth = auth
        self.answers_data_without_recipients = answers_data_without_recipients
        self.mails: list[SinkMail] = []
        self.commands: list[str] = []
        self.sessions = 0
        self.hanging = 0
        self.mails_per_connection: int | None = None
        self.dsn = False
        self.largest = 52_428_800
        self._rules: list[Rule] = []
        self._delays: dict[Stage, float] = {}
        self._changed = threading.Condition()
        self._released = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stop: asyncio.Event | None = None

    # Running

    def start(self) -> Self:
        """Listen; on the same port as before when it was stopped."""
        if self._thread is not None:
            raise RuntimeError("already started")
        ready = threading.Event()
        failure: list[BaseException] = []

        def run() -> None:
            try:
                asyncio.run(self._serve(ready))
            except BaseException as error:  # noqa: BLE001 - raised again in start()
                failure.append(error)
                ready.set()

        self._thread = threading.Thread(target=run, name="smtp-sink", daemon=True)
        self._thread.start()
        ready.wait()
        if failure:
            self._thread = None
            raise failure[0]
        return self

    def stop(self) -> None:
        """Stop listening and cut every connection. Mails and rules stay. May be called twice."""
        if self._thread is None:
            return
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    async def _serve(self, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        sessions: set[asyncio.Task[None]] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = cast("asyncio.Task[None]", asyncio.current_task())
            sessions.add(task)
            self.sessions += 1
            try:
                await _Session(self, reader, writer, self.sessions).run()
            except (_ClosedError, OSError, asyncio.CancelledError):
                pass
            finally:
                writer.transport.abort()
                sessions.discard(task)

        server = await asyncio.start_server(serve, self.host, self.port, ssl=self.implicit_tls)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await self._stop.wait()
        server.close()
        for task in list(sessions):
            task.cancel()
        await asyncio.gather(*sessions, return_exceptions=True)

    # What tests read

    def wait_for(self, count: int, timeout: float = 10.0) -> list[SinkMail]:
        """Return the mails once there are `count`. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.mails) >= count, timeout):
                raise TimeoutError(f"{len(self.mails)} of {count} mails after {timeout} s")
            return list(self.mails)

    def wait_until_hanging(self, count: int = 1, timeout: float = 10.0) -> None:
        """Return once `count` sessions hang. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.hanging >= count, timeout):
                raise TimeoutError(f"{self.hanging} of {count} sessions hang after {timeout} s")

    def mails_to(self, address: str) -> list[SinkMail]:
        """Return the mails for one recipient, oldest first."""
        return [mail for mail in list(self.mails) if mail.recipient == address]

    def clear(self) -> None:
        """Forget mails and commands."""
        with self._changed:
            self.mails.clear()
            self.commands.clear()

    # What tests tell it

    def behave(self) -> None:
        """Forget every rule and delay, and let go of what hangs."""
        with self._changed:
            self._rules.clear()
            self._delays.clear()
        self.release()

    def refuse(
        self,
        address: str | None,
        code: int,
        text: str = "Refused",
        *,
        at: Stage = Stage.RCPT,
        times: int | None = None,
    ) -> None:
        """Answer `code` for one recipient, or for all (None), at RCPT or another stage."""
        self._add(Rule(at, Action.REPLY, address, code, text, times))

    def answer(self, stage: Stage, code: int, text: str = "", *, times: int | None = None) -> None:
        """Answer `code` to everything at `stage`."""
        self._add(Rule(stage, Action.REPLY, None, code, text, times))

    def hang(self, stage: Stage, *, address: str | None = None, times: int | None = None) -> None:
        """Say nothing at `stage` until `release()`; then go on as if nothing had been."""
        self._add(Rule(stage, Action.HANG, address, times=times))

    def close(
        self,
        stage: Stage,
        *,
        address: str | None = None,
        accept: bool = False,
        times: int | None = None,
    ) -> None:
        """Cut the connection at `stage` without an answer.

        At BODY that is after the first bytes of the message; at END after its final dot, having
        kept the mail if `accept`.
        """
        action = Action.ACCEPT_AND_CLOSE if accept else Action.CLOSE
        self._add(Rule(stage, action, address, times=times))

    def delay(self, stage: Stage, seconds: float) -> None:
        """Wait before each answer at `stage`."""
        with self._changed:
            self._delays[stage] = seconds

    def release(self) -> None:
        """Let go of every session that hangs now."""
        with self._changed:
            self._released += 1

    def _add(self, rule: Rule) -> None:
        with self._changed:
            self._rules.append(rule)

    # What sessions ask

    def _take_rule(self, stage: Stage, addresses: tuple[str, ...]) -> Rule | None:
        if not self._rules:
            return None
        with self._changed:
            for rule in self._rules:
                fits = rule.address is None or rule.address in addresses
                if rule.stage is stage and fits:
                    if rule.times is not None:
                        rule.times -= 1
                        if rule.times <= 0:
                            self._rules.remove(rule)
                    return rule
        return None

    async def _hang(self) -> None:
        with self._changed:
            until = self._released + 1
            self.hanging += 1
            self._changed.notify_all()
        try:
            while self._released < until:  # noqa: ASYNC110 - released from another thread
                await asyncio.sleep(0.01)
        finally:
            with self._changed:
                self.hanging -= 1

    def _keep(self, sender: str, recipients: tuple[str, ...], data: bytes, session: int) -> None:
        with self._changed:
            number = len(self.mails)
            self.mails.append(
                SinkMail(number, sender, recipients[0], recipients, data, time.time(), session)
            )
            self._changed.notify_all()


class _Session:
    """One connection."""

    def __init__(
        self,
        sink: SmtpSink,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        number: int,
    ) -> None:
        self.sink = sink
        self.reader = reader
        self.writer = writer
        self.number = number
        self.buffer = bytearray()
        self.replies: list[bytes] = []
        self.sender: str | None = None
        self.recipients: tuple[str, ...] = ()
        self.refused = False
        self.secured = sink.implicit_tls is not None
        self.carried = 0

    async def run(self) -> None:
        await self._answer(Stage.CONNECT, 220, "sink ESMTP")
        while True:
            line = (await self._until(b"\r\n")).decode("utf-8", "replace")
            self.sink.commands.append(line)
            verb = line[:4].upper()
            match verb:
                case "EHLO" | "HELO":
                    await self._answer(Stage.EHLO, 250, *self._extensions())
                case "MAIL":
                    await self._mail(line)
                case "RCPT":
                    await self._rcpt(line)
                case "DATA":
                    await self._data()
                case "RSET":
                    self._reset()
                    await self._answer(Stage.RSET, 250, "Reset")
                case "STAR":
                    await self._start_tls()
                case "AUTH":
                    await self._auth(line)
                case "NOOP":
                    self._say(250, "OK")
                case "QUIT":
                    self._say(221, "Bye")
                    await self._flush()
                    return
                case _:
                    self._say(500, "Unknown command")

    def _extensions(self) -> list[str]:
        names = ["sink", "8BITMIME", f"SIZE {self.sink.largest}"]
        if self.sink.pipelining:
            names.append("PIPELINING")
        if self.sink.smtputf8:
            names.append("SMTPUTF8")
        if self.sink.dsn:
            names.append("DSN")
        if self.sink.starttls and not self.secured:
            names.append("STARTTLS")
        if self.sink.auth:
            names.append("AUTH PLAIN")
        return names

    async def _mail(self, line: str) -> None:
        if self.sender is not None:
            self._say(503, "Nested MAIL")
            return
        address, _, options = line.partition("<")[2].partition(">")
        if not address.isascii() and "SMTPUTF8" not in options:
            self._say(553, "SMTPUTF8 is needed")
        elif self.carried == self.sink.mails_per_connection:
            self._say(421, "Enough for one connection")
            await self._flush()
            raise _ClosedError
        elif await self._answer(Stage.MAIL, 250, "Sender OK", addresses=(address,)):
            self.sender = address

    async def _rcpt(self, line: str) -> None:
        address = line.partition("<")[2].partition(">")[0]
        if self.sender is None:
            self._say(503, "MAIL first")
        elif await self._answer(Stage.RCPT, 250, "Recipient OK", addresses=(address,)):
            self.recipients += (address,)

    async def _data(self) -> None:
        if self.sender is None:
            self._say(503, "MAIL first")
            return
        if not self.recipients and self.sink.answers_data_without_recipients != 354:
            self._say(self.sink.answers_data_without_recipients, "No valid recipients")
            return
        if not await self._answer(Stage.DATA, 354, "Go on", addresses=self.recipients):
            return
        await self._flush()
        rule = self.sink._take_rule(Stage.BODY, self.recipients)
        if rule is not None:
            await self._read()
            if rule.action is not Action.HANG:
                raise _ClosedError
            await self.sink._hang()
        # The end of the first line may be the end of an empty message.
        self.buffer[:0] = b"\r\n"
        data = (await self._until(b"\r\n.\r\n"))[2:]
        data = (data + b"\r\n").replace(b"\r\n..", b"\r\n.")
        if data.startswith(b".."):
            data = data[1:]
        await self._end(data)

    async def _end(self, data: bytes) -> None:
        sender, recipients = self.sender or "", self.recipients
        self._reset()
        if not recipients:
            self._say(554, "No valid recipients")
            return
        if await self._answer(
            Stage.END, 250, "Accepted", addresses=recipients, mail=(sender, data)
        ):
            self.carried += 1
            self.sink._keep(sender, recipients, data, self.number)

    async def _start_tls(self) -> None:
        if self.sink.starttls is None:
            self._say(502, "Not offered")
        elif await self._answer(Stage.STARTTLS, 220, "Go on"):
            await self._flush()
            await self.writer.start_tls(self.sink.starttls)
            self.secured = True
            self._reset()

    async def _auth(self, line: str) -> None:
        given = base64.b64decode(line.split()[2]).decode().split("\0")[1:]
        if self.sink.auth is None or given != list(self.sink.auth):
            # As careless as a server can be: it repeats what it got.
            self._say(535, f"Wrong user name or password: {given[-1]}")
            return
        await self._answer(Stage.AUTH, 235, "Welcome")

    def _reset(self) -> None:
        self.sender, self.recipients = None, ()

    async def _answer(
        self,
        stage: Stage,
        code: int,
        *lines: str,
        addresses: tuple[str, ...] = (),
        mail: tuple[str, bytes] | None = None,
    ) -> bool:
        """Answer as the rules say, else with `code`. Returns whether the answer was `code`."""
        if delay := self.sink._delays.get(stage):
            await self._flush()
            await asyncio.sleep(delay)
        rule = self.sink._take_rule(stage, addresses)
        while rule is not None and rule.action is Action.HANG:
            await self._flush()
            await self.sink._hang()
            rule = None
        if rule is None:
            self._say(code, *lines)
            return True
        if rule.action is Action.REPLY:
            self._say(rule.code, rule.text)
            if rule.code == 421:
                await self._flush()
                raise _ClosedError
            return rule.code == code
        await self._flush()
        if rule.action is Action.ACCEPT_AND_CLOSE and mail is not None:
            self.sink._keep(mail[0], addresses, mail[1], self.number)
        raise _ClosedError

    def _say(self, code: int, *lines: str) -> None:
        for line in lines[:-1]:
            self.replies.append(f"{code}-{line}\r\n".encode())
        self.replies.append(f"{code} {lines[-1]}\r\n".encode())

    async def _flush(self) -> None:
        if self.replies:
            self.writer.write(b"".join(self.replies))
            self.replies.clear()
            await self.writer.drain()

    async def _read(self) -> None:
        await self._flush()
        chunk = await self.reader.read(1 << 18)
        if not chunk:
            raise _ClosedError
        self.buffer += chunk

    async def _until(self, end: bytes) -> bytes:
        """Return what comes before `end`. Answers are sent only when there is nothing to read."""
        start = 0
        while (found := self.buffer.find(end, start)) < 0:
            start = max(0, len(self.buffer) - len(end))
            await self._read()
        data = bytes(self.buffer[:found])
        del self.buffer[: found + len(end)]
        return data


@contextmanager
def tls_contexts() -> Iterator[tuple[ssl.SSLContext, ssl.SSLContext]]:
    """Give a server's and a trusting client's context for a fresh certificate of 127.0.0.1."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sink")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    public = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        file.write(private + public)
        file.flush()
        server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        server.load_cert_chain(file.name)
    client = ssl.create_default_context(cadata=public.decode())
    yield server, client
