"""A receiver of webhooks for tests: keeps what it is sent, and answers as it is told to."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Received:
    """One request, with the headers' names in small letters; `connection` tells them apart."""

    path: str
    headers: dict[str, str]
    body: bytes
    connection: tuple[str, int]

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def is_signed_with(self, secret: str) -> bool:
        """Whether it bears a signature of Standard Webhooks, checked without the project's code."""
        key = base64.b64decode(secret[len("whsec_") :])
        told = b".".join([self.id.encode(), self.headers["webhook-timestamp"].encode(), self.body])
        wanted = base64.b64encode(hmac.new(key, told, hashlib.sha256).digest()).decode()
        assert abs(int(self.headers["webhook-timestamp"]) - time.time()) < 300
        return f"v1,{wanted}" in self.headers["webhook-signature"].split(" ")


@dataclass(frozen=True)
class Reply:
    """How to answer; `raw` is written instead of an answer, `drip` puts seconds between bytes."""

    status: int = 200
    body: bytes = b"thanks"
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    drip: float = 0.0
    hang: float = 0.0


class Receiver:
    """`with Receiver() as receiver:` listens on a port of its own, on loopback.

    Answers with `replies`, one after the other, and then with `then` for ever.
    """

    def __init__(
        self,
        *,
        then: Reply | Callable[[Received], Reply] = Reply(),
        context: ssl.SSLContext | None = None,
        address: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.requests: list[Received] = []
        self.replies: list[Reply] = []
        self.then = then
        self.closing = threading.Event()
        self.connections = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                receiver.connections += 1
                super().setup()

            def do_POST(self) -> None:
                receiver._answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            address_family = socket.AF_INET6 if ":" in address else socket.AF_INET

            def handle_error(self, *_: Any) -> None:
                """Who hangs up on purpose is no news."""

        self._server = Server((address, port), Handler)
        if context is not None:
            # The handshake is made by the connection's own thread, with its first read.
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks"

    def __enter__(self) -> Receiver:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def reply(self, *replies: Reply) -> None:
        """What to answer next, in this order."""
        self.replies.extend(replies)

    @property
    def ids(self) -> list[str]:
        return [each.id for each in list(self.requests)]

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        received = Received(handler.path, headers, body, handler.client_address[:2])
        self.requests.append(received)
        chosen = self.then(received) if callable(self.then) else self.then
        reply = self.replies.pop(0) if self.replies else chosen
        if reply.hang:
            self.closing.wait(reply.hang)
        written = reply.raw
        if written is None:
            lines = {"Content-Length": str(len(reply.body)), **reply.headers}
            head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
            written = f"HTTP/1.1 {reply.status} Said\r\n{head}\r\n".encode() + reply.body
        else:
            handler.close_connection = True
        if reply.headers.get("Connection") == "close":
            handler.close_connection = True
        for part in _parts(written, reply.drip):
            handler.wfile.write(part)
            handler.wfile.flush()
            if reply.drip and self.closing.wait(reply.drip):
                return


def _parts(written: bytes, drip: float) -> Iterable[bytes]:
    if not drip:
        return [written] if written else []
    return [written[at : at + 1] for at in range(len(written))]
