"""Targets of webhooks: which addresses may be called, and a connection to exactly those.

Whoever may make a webhook could otherwise have Foyer call what only Foyer can reach: services on
its own machine, its network, the metadata service of a cloud. So a name is looked up once, each of
its addresses has to be a public one, and the connection goes to the address that was checked, while
TLS verifies the name. Redirects are not followed, proxies of the environment not asked, and an
answer is read for so long and so far only.
"""

from __future__ import annotations

import http.client
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import idna

from extensions import get_settings
from services.errors import InvalidInput

LONGEST_URL = 2000
MOST_READ = 64 * 1024
"""Bytes of an answer that are read; the connection is given up where there are more."""

_KEPT = 500
_LOOK_UP_SECONDS = 5.0
_CHUNK = 4096
_EXAMPLE = "Write an address such as https://hooks.example.com/foyer."
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?")
_PORTS = {"http": 80, "https": 443}

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class TargetRefused(Exception):
    """The target may not be called, or has no address; the message is for people."""


class NoAnswer(Exception):
    """There was no whole answer; the message says why, for people."""


@dataclass(frozen=True, slots=True)
class Target:
    """An address that was parsed; `host` is ASCII, an IPv6 address without its brackets."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def parse_target(url: str) -> Target:
    """Read a webhook's address. Raises InvalidInput naming `url`."""
    if not url:
        raise InvalidInput("url", f"The address is missing. {_EXAMPLE}")
    if len(url) > LONGEST_URL:
        raise InvalidInput(
            "url", f"The address has {len(url):,} characters. The limit is {LONGEST_URL:,}."
        )
    try:
        # The parser takes line breaks and tabs out, and a backslash for a letter of the host.
        if not url.isprintable() or " " in url or "\\" in url:
            raise ValueError
        parts = urlsplit(url)
        port = parts.port
        host = parts.hostname or ""
    except ValueError:
        raise InvalidInput("url", f"The address cannot be read. {_EXAMPLE}") from None
    scheme = parts.scheme.lower()
    if scheme not in _PORTS:
        raise InvalidInput("url", f"The address must begin with https:// or http://. {_EXAMPLE}")
    if "@" in parts.netloc:
        raise InvalidInput(
            "url",
            "The address contains a user name or a password. Leave them out: "
            "each message is signed, which tells the receiver that it is ours.",
        )
    if parts.fragment or url.endswith("#"):
        raise InvalidInput("url", "The address has a part after #, which is never sent. Remove it.")
    if not url.isascii() and not (parts.path + parts.query).isascii():
        raise InvalidInput(
            "url",
            "Write letters beyond ASCII in the path as a server expects them, such as %C3%A9.",
        )
    if port == 0:
        raise InvalidInput("url", "The port is 0. Write one from 1 to 65535.")
    path = parts.path or "/"
    if parts.query:
        path = f"{path}?{parts.query}"
    return Target(scheme, _ascii_host(host), port or _PORTS[scheme], path)


def _ascii_host(host: str) -> str:
    with suppress(ValueError):
        if "%" not in host:  # A zone, which only links of this machine have.
            return str(ipaddress.ip_address(host))
    try:
        if not host.isascii():
            host = idna.encode(host, uts46=True).decode()
    except (idna.IDNAError, UnicodeError):
        host = ""
    host = host.lower()
    if not _HOST.fullmatch(host) or len(host) > 253:
        raise InvalidInput("url", f"The address names no host that can exist. {_EXAMPLE}")
    return host


# --- Which addresses ---------------------------------------------------------------------------


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public network, also where it wraps another."""
    try:
        found: Address = ipaddress.ip_address(address)
    except ValueError:  # With a zone, for example, which only links of this machine have.
        return False
    if isinstance(found, ipaddress.IPv4Address):
        return _is_public_v4(found)
    if found in _NAT64:
        return _is_public_v4(_last_four(found))
    # 6to4, Teredo, mapped and compatible addresses wrap others; nobody serves webhooks there.
    if found not in _GLOBAL_UNICAST or any(found in each for each in _NOT_GLOBAL):
        return False
    return found.is_global and not found.is_multicast


def _is_public_v4(address: ipaddress.IPv4Address) -> bool:
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and address not in _RELAYS
    )


def _last_four(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address:
    return ipaddress.IPv4Address(address.packed[-4:])


_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NOT_GLOBAL = tuple(map(ipaddress.IPv6Network, ("2001::/23", "2002::/16", "3fff::/20")))
_RELAYS = ipaddress.IPv4Network("192.88.99.0/24")


def look_up(host: str, port: int) -> list[str]:
    """The IP addresses of a name, as the system finds them; none where it has none."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(each[4][0]) for each in found))


def find_address(target: Target) -> str:
    """The IP address to call. Raises TargetRefused where one of them may not be called.

    All of a name's addresses have to be public: of several, nobody can tell which would be taken.
    """
    addresses = _look_up_in_time(target)
    if not addresses:
        raise TargetRefused(f"The name {target.host} has no address.")
    if not get_settings().webhook_private_targets:
        for each in addresses:
            if not is_public(each):
                raise TargetRefused(
                    f"{_named(target.host, each)} is no public address, so it is not called."
                )
    return addresses[0]


def _named(host: str, address: str) -> str:
    return address if host == address else f"{host} leads to {address}, which"


def _look_up_in_time(target: Target) -> list[str]:
    """The system's resolver has time-outs of its own, which are longer than anybody waits."""
    found: list[list[str]] = []

    def ask() -> None:
        found.append(look_up(target.host, target.port))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_LOOK_UP_SECONDS)
    if not found:
        raise TargetRefused(f"The name {target.host} was not found in time.")
    return found[0]


def check_target(url: str) -> Target:
    """Parse an address that somebody wants to save, and see where it leads.

    Raises InvalidInput naming `url`.
    """
    target = parse_target(url)
    try:
        find_address(target)
    except TargetRefused as error:
        raise InvalidInput("url", str(error)) from None
    return target


# --- Calling -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver said; `text` is the beginning of it, `retry_after` its header."""

    status: int
    text: str
    retry_after: str


class Caller:
    """Posts to one target over one connection, which stays open between calls.

    The target's address is found and checked with the first call; later ones go to the same.
    `seconds` is what a call may take in all, from the connection to the end of the answer.
    """

    def __init__(self, target: Target, seconds: float) -> None:
        self._target = target
        self._seconds = seconds
        self._connection: _Connection | None = None
        self._address = ""

    def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Raises TargetRefused before anything is sent, and NoAnswer."""
        if not self._address:
            self._address = find_address(self._target)
        deadline = time.monotonic() + self._seconds
        was_open = self._connection is not None and self._connection.sock is not None
        try:
            return self._post(body, headers, deadline)
        except _Dropped as error:
            if not was_open:
                raise NoAnswer(str(error)) from None
        # It was closed for being idle, at the moment it was used again: once more over a new one.
        try:
            return self._post(body, headers, deadline)
        except _Dropped as error:
            raise NoAnswer(str(error)) from None

    def _post(self, body: bytes, headers: Mapping[str, str], deadline: float) -> Answer:
        if self._connection is None:
            self._connection = _Connection(self._target, self._address)
        connection = self._connection
        with _Watch(connection, deadline) as watch:
            try:
                connection.wait_no_longer_than(deadline)
                connection.request("POST", self._target.path, body=body, headers=dict(headers))
                response = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                self.close()
                raise self._fault(error, watch.has_barked) from None
            text, is_whole = _read(response)
        if not is_whole or response.will_close or watch.has_barked:
            self.close()
        return Answer(response.status, text, response.headers.get("Retry-After", "")[:100])

    def _fault(self, error: Exception, is_late: bool) -> Exception:
        if is_late or isinstance(error, TimeoutError):
            return NoAnswer(f"No answer within {self._seconds:g} seconds.")
        if isinstance(error, ssl.SSLCertVerificationError):
            return NoAnswer(f"The certificate is not accepted: {error.verify_message}.")
        if isinstance(error, ConnectionRefusedError):
            return NoAnswer("The connection was refused.")
        if isinstance(error, ConnectionError | ssl.SSLEOFError):
            return _Dropped("The connection was closed without an answer.")
        if isinstance(error, ssl.SSLError):
            return NoAnswer(f"TLS failed: {error.reason or 'unknown reason'}.")
        if isinstance(error, http.client.HTTPException):
            return NoAnswer("The answer is not HTTP.")
        reason = getattr(error, "strerror", None) or type(error).__name__
        return NoAnswer(f"There is no connection: {reason}.")

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close_for_good()
            self._connection = None


def _read(response: http.client.HTTPResponse) -> tuple[str, bool]:
    """The beginning of a body, and whether it was read to its end. The status counts anyway."""
    parts: list[bytes] = []
    size = 0
    try:
        while size <= MOST_READ:
            part = response.read1(_CHUNK)
            if not part:
                break
            parts.append(part)
            size += len(part)
    except (OSError, ValueError, http.client.HTTPException):
        size = MOST_READ + 1
    is_whole = size <= MOST_READ and not response.length
    response.close()  # Or the connection would take the answer for unread.
    beginning = b"".join(parts)[: 4 * _KEPT].decode("utf-8", "replace")
    shown = "".join(each if each.isprintable() else " " for each in beginning)
    return " ".join(shown.split())[:_KEPT], is_whole


class _Dropped(Exception):
    """The connection was closed before any answer."""


class _Connection(http.client.HTTPConnection):
    """A connection to an address that was checked, with TLS for the target's name."""

    def __init__(self, target: Target, address: str) -> None:
        super().__init__(target.host, target.port)
        self.default_port = _PORTS[target.scheme]
        self._target = target
        self._address = address
        self._guard: socket.socket | None = None

    def connect(self) -> None:
        made = socket.create_connection((self._address, self._target.port), self.timeout)
        self.sock = made
        # A second handle on the same connection: TLS takes the first one away while it begins.
        self._guard = made.dup()
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._target.scheme == "https":
            context = ssl.create_default_context()
            self.sock = context.wrap_socket(made, server_hostname=self._target.host.rstrip("."))

    def wait_no_longer_than(self, deadline: float) -> None:
        self.timeout = max(deadline - time.monotonic(), 0.001)
        if self.sock is not None:
            self.sock.settimeout(self.timeout)

    def shut(self) -> None:
        """End whatever is under way, from another thread."""
        if (guard := self._guard) is not None:
            with suppress(OSError):
                guard.shutdown(socket.SHUT_RDWR)

    def close_for_good(self) -> None:
        guard, self._guard = self._guard, None
        with suppress(OSError):
            self.close()
        if guard is not None:
            guard.close()


class _Watch:
    """Shuts the connection at the deadline: time-outs of sockets begin anew with every byte."""

    def __init__(self, connection: _Connection, deadline: float) -> None:
        self._connection = connection
        self._timer = threading.Timer(max(deadline - time.monotonic(), 0.001), self._bark)
        self._timer.daemon = True
        self.has_barked = False

    def _bark(self) -> None:
        self.has_barked = True
        self._connection.shut()

    def __enter__(self) -> _Watch:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
