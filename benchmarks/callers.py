"""Callers of the API: keep-alive connections that ask as fast as they are answered.

Everything that goes over the wire is made beforehand and answers are read no further than their
length, so that the callers cost little beside what they measure.
"""

from __future__ import annotations

import base64
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.processes import BenchmarkError
from benchmarks.sinks import HOST
from services.demo_data import API_CREDENTIAL

_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Burst:
    """Requests per second of a burst, and the time of each in seconds, in order of length."""

    per_second: float
    times: Sequence[float]
    faults: tuple[str, ...]

    @property
    def p99(self) -> float:
        return self.times[int(len(self.times) * 0.99)]


def request_bytes(method: str, path: str, body: bytes = b"") -> bytes:
    """A request of the demo credential, as it goes over the wire."""
    credential = base64.b64encode(":".join(API_CREDENTIAL).encode()).decode()
    head = f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Basic {credential}\r\n"
    if method == "POST":
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def page_request(path: str, cookies: Mapping[str, str] | None = None) -> bytes:
    """A request for a page, with the cookies of somebody who has signed in."""
    head = f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n"
    if cookies:
        head += f"Cookie: {'; '.join(f'{name}={value}' for name, value in cookies.items())}\r\n"
    return head.encode() + b"\r\n"


def send_burst(port: int, requests: Sequence[bytes], status: int, connections: int) -> Burst:
    """Send `requests` over so many connections at once; every answer must have `status`."""
    times: list[float] = []
    faults: list[str] = []

    def call(mine: Sequence[bytes]) -> None:
        try:
            with socket.create_connection((HOST, port), timeout=60) as link:
                own = []
                for each in mine:
                    began = time.perf_counter()
                    link.sendall(each)
                    answered = _read_answer(link)
                    own.append(time.perf_counter() - began)
                    if answered != status:
                        faults.append(f"{each[:60]!r} was answered with {answered}")
                times.extend(own)
        except (OSError, BenchmarkError) as error:
            faults.append(f"{type(error).__name__}: {error}")

    threads = [
        threading.Thread(target=call, args=(requests[number::connections],))
        for number in range(connections)
    ]
    began = time.perf_counter()
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    seconds = time.perf_counter() - began
    return Burst(len(requests) / seconds, sorted(times) or [0.0], tuple(faults[:1]))


def _read_answer(link: socket.socket) -> int:
    """Read one answer with Content-Length, or without a body; returns its status."""
    data = link.recv(65536)
    while _END not in data:
        if not (more := link.recv(65536)):
            raise BenchmarkError("the server closed the connection")
        data += more
    head, _, body = data.partition(_END)
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    left = length - len(body)
    while left > 0:
        if not (more := link.recv(65536)):
            raise BenchmarkError("the server closed the connection")
        left -= len(more)
    return int(head.split(b" ", 2)[1])
