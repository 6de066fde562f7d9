"""A small LMTP or SMTP server that a mail server hands returned mails to.

It takes one recipient per mail, and only such as name a delivery, so that one answer after the
message is the answer for its one recipient, as LMTP wants it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiosmtpd.lmtp import LMTP
from aiosmtpd.smtp import SMTP, Envelope, Session
from flask import Flask

from services.bounces import LARGEST_MESSAGE, find_bounced_delivery, record_bounce

log = logging.getLogger(__name__)

_THREADS = 4
_IDLE_SECONDS = 300


class _Handler:
    def __init__(self, app: Flask, pool: ThreadPoolExecutor) -> None:
        self._app = app
        self._pool = pool

    # aiosmtpd finds its hooks by these names.
    async def handle_RCPT(  # noqa: N802
        self,
        server: SMTP,
        session: Session,
        envelope: Envelope,
        address: str,
        rcpt_options: list[str],
    ) -> str:
        if envelope.rcpt_tos:
            return "452 4.5.3 One recipient at a time"
        with self._app.app_context():
            if find_bounced_delivery(address) is None:
                return "550 5.1.1 This is not the address of a mail sent from here"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        raw, recipient = envelope.original_content or b"", envelope.rcpt_tos[0]
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._record, raw, recipient)

    def _record(self, raw: bytes, recipient: str) -> str:
        with self._app.app_context():
            result = record_bounce(raw, recipient)
        log.info("%s", result.sentence)
        return f"{'451 4.3.0' if result.try_again else '250 2.0.0'} {result.sentence}"

    async def handle_exception(self, error: Exception) -> str:
        log.error("a returned mail could not be taken", exc_info=error)
        return "451 4.3.0 A fault here: try again later"


def make_server(protocol: str, handler: Any) -> SMTP:
    """The protocol of one connection; lines may be long, because reports quote whatever came."""
    base: type[SMTP] = LMTP if protocol == "lmtp" else SMTP

    class Server(base):  # type: ignore[misc, valid-type]
        line_length_limit = LARGEST_MESSAGE

    server: SMTP = Server(
        handler,
        data_size_limit=LARGEST_MESSAGE,
        enable_SMTPUTF8=True,
        hostname="localhost",
        ident="Foyer bounces",
        timeout=_IDLE_SECONDS,
    )
    return server


async def serve(
    app: Flask, address: str, ended: asyncio.Event, on_start: Callable[[str], None]
) -> None:
    """Listen at `address`, as BOUNCE_LISTEN has it, until `ended` is set.

    `on_start` gets the address that is listened on. Raises OSError when it is taken.
    """
    parts = urlsplit(address)
    logging.getLogger("mail.log").setLevel(logging.WARNING)  # It tells every command otherwise.
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(_THREADS) as pool:
        handler = _Handler(app, pool)

        def factory() -> Any:
            return make_server(parts.scheme, handler)

        if parts.hostname:
            server = await loop.create_server(factory, parts.hostname, parts.port)
            at = f"{parts.hostname}:{server.sockets[0].getsockname()[1]}"
        else:
            server = await loop.create_unix_server(factory, parts.path)
            # The mail server is another user; its folder says who may come near.
            Path(parts.path).chmod(0o666)  # noqa: ASYNC240
            at = parts.path
        on_start(f"{parts.scheme}://{at}")
        async with server:
            await ended.wait()
    if not parts.hostname:
        Path(parts.path).unlink(missing_ok=True)  # noqa: ASYNC240


async def serve_until_stopped(app: Flask, address: str, on_start: Callable[[str], None]) -> None:
    """Listen until SIGINT or SIGTERM."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, ended.set)
    await serve(app, address, ended, on_start)
