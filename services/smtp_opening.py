"""Opening a connection to the mail server: reach it, secure it, sign in.

What goes wrong becomes one sentence for people, without secrets.
"""

import re
import smtplib
import socket
import ssl
from dataclasses import dataclass, field

_TEXT_LENGTH = 500
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


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


class SmtpClient(smtplib.SMTP):
    """smtplib's connection, sign-in and good-bye; mails go over its socket directly."""

    def open_socket(self) -> socket.socket:
        """Return the socket. Raises ServerUnavailable when it is closed."""
        if self.sock is None:
            raise ServerUnavailable("The connection is closed.")
        return self.sock


class _TlsClient(smtplib.SMTP_SSL, SmtpClient):
    """The same over TLS from the first byte."""


def server_words(raw: bytes) -> str:
    """What the server said, on one line without control characters, at most 500 characters."""
    text = raw.decode("utf-8", "replace").strip()
    if text.isprintable() and len(text) <= _TEXT_LENGTH and "  " not in text:
        return text
    return " ".join(_CONTROLS.sub(" ", text).split())[:_TEXT_LENGTH]


def network_words(error: OSError) -> str:
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


def open_client(server: SmtpServer, tls_context: ssl.SSLContext | None) -> SmtpClient:
    # Reading the machine's certificates costs more than everything else here.
    wants_tls = server.use_ssl or server.use_tls
    context = tls_context or (ssl.create_default_context() if wants_tls else None)
    client: SmtpClient | None = None
    try:
        # No host yet: smtplib would connect at once, and hide the socket when the greeting is bad.
        if server.use_ssl:
            client = _TlsClient(
                local_hostname=server.local_hostname,
                timeout=server.connect_timeout,
                context=context,
            )
        else:
            client = SmtpClient(
                local_hostname=server.local_hostname, timeout=server.connect_timeout
            )
        # starttls() checks the certificate against the name that the constructor was not given.
        client._host = server.host  # type: ignore[attr-defined]
        reason = _greet(client, server, context)
    except (OSError, smtplib.SMTPException, ServerUnavailable, UnicodeError) as error:
        reason = _sentence(error, server)
    if client is not None and reason is None:
        return client
    if client is not None:
        client.close()
    raise ServerUnavailable(reason or "The mail server cannot be reached.")


def _greet(client: SmtpClient, server: SmtpServer, context: ssl.SSLContext | None) -> str | None:
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
    return f"{what}: {code} {server_words(text)}".rstrip()


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
            words = network_words(error)
        case _:
            words = str(error)
    if server.password:
        words = words.replace(server.password, "…")
    return words


def _as_bytes(text: bytes | str) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "replace")
