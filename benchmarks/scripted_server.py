"""The scripted sink, run as a process: `python -m benchmarks.scripted_server PORT LOG`.

It answers every command `--delay` seconds after the command came, so that pipelined commands do not
add up, as with a server far away. Beside LOG it keeps a journal of what came, and its figures.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

_DOT = b"\r\n.\r\n"
_FIGURES_EVERY = 0.25
_GREETING = b"220 sink.example ESMTP\r\n"
_EXTENSIONS = b"250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n"
_ENVELOPE = (b"MAIL", b"RCPT", b"DATA")


@dataclass
class Store:
    """What the server has seen."""

    delay: float
    journal: TextIO
    kept: TextIO | None
    mails: int = 0
    flights: int = 0
    open: int = 0
    cut: int = 0


class Session(asyncio.Protocol):
    """One connection."""

    _numbers = itertools.count(1)

    def __init__(self, store: Store) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._number = next(self._numbers)
        self._buffer = b""
        self._unanswered: deque[bytes] = deque()
        self._in_message = False
        self._sender = self._recipient = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - narrows the type
        self._transport = transport
        self._store.open += 1
        transport.write(_GREETING)

    def connection_lost(self, _error: Exception | None) -> None:
        self._store.open -= 1
        if self._sender or self._buffer:
            self._store.cut += 1

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._take_message() if self._in_message else self._take_command():
            pass

    def _take_command(self) -> bool:
        line, end, rest = self._buffer.partition(b"\r\n")
        if not end:
            return False
        self._buffer = rest
        word = line[:4].upper()
        if word in _ENVELOPE:
            self._count_flight()
        match word:
            case b"EHLO" | b"HELO":
                self._answer(_EXTENSIONS)
            case b"MAIL":
                self._sender = _address(line)
                self._answer(b"250 2.1.0 Ok\r\n")
            case b"RCPT":
                self._recipient = _address(line)
                self._answer(b"250 2.1.5 Ok\r\n")
            case b"DATA":
                self._in_message = True
                self._answer(b"354 Go on\r\n")
            case b"QUIT":
                self._answer(b"221 2.0.0 Bye\r\n")
            case _:
                self._answer(b"250 2.0.0 Ok\r\n")
        return True

    def _take_message(self) -> bool:
        message, end, rest = self._buffer.partition(_DOT)
        if not end:
            return False
        self._buffer = rest
        self._in_message = False
        self._count_flight()
        self._note(message)
        self._answer(b"250 2.0.0 Accepted\r\n")
        return True

    def _note(self, message: bytes) -> None:
        store = self._store
        store.mails += 1
        message_id = _header(message, b"\r\nMessage-ID: ")
        store.journal.write(f"{time.time()}\t{self._number}\t{self._recipient}\t{message_id}\n")
        if store.kept is not None:
            mail = {
                "sender": self._sender,
                "recipient": self._recipient,
                "message": (message + b"\r\n").replace(b"\r\n..", b"\r\n.").decode("utf-8"),
            }
            store.kept.write(json.dumps(mail) + "\n")
        self._sender = self._recipient = ""

    def _count_flight(self) -> None:
        """A command that comes while nothing is unanswered had to wait for the last answer."""
        if not self._unanswered:
            self._store.flights += 1

    def _answer(self, answer: bytes) -> None:
        if not self._store.delay:
            self._transport.write(answer)
            return
        self._unanswered.append(answer)
        self._loop.call_later(self._store.delay, self._send_first)

    def _send_first(self) -> None:
        answer = self._unanswered.popleft()
        self._transport.write(answer)
        if answer.startswith(b"221"):
            self._transport.close()


def _address(line: bytes) -> str:
    return line.partition(b"<")[2].partition(b">")[0].decode("utf-8", "replace")


def _header(message: bytes, name: bytes) -> str:
    return (b"\r\n" + message).partition(name)[2].partition(b"\r\n")[0].decode("ascii", "replace")


async def serve(port: int, log: Path, delay: float, keep: bool) -> None:
    """Listen until stopped."""
    journal = log.with_suffix(".journal").open("w", buffering=1 if keep else 1 << 16)
    kept = log.with_suffix(".mails").open("w", buffering=1) if keep else None
    with journal:
        store = Store(delay, journal, kept)
        loop = asyncio.get_running_loop()
        async with await loop.create_server(lambda: Session(store), "127.0.0.1", port):
            while True:
                _write_figures(store, log)
                await asyncio.sleep(_FIGURES_EVERY)


def _write_figures(store: Store, log: Path) -> None:
    store.journal.flush()
    figures = {name: getattr(store, name) for name in ("mails", "flights", "open", "cut")}
    fresh = log.with_suffix(".new")
    fresh.write_text(json.dumps(figures))
    fresh.rename(log.with_suffix(".figures"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("log", type=Path)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    asyncio.run(serve(options.port, options.log, options.delay, options.keep))
