"""Mail servers that accept everything and count it, each in a process of its own.

`smtp-sink` is Postfix's, written in C. Where it is not installed aiosmtpd stands in, which is
slower; results say which it was. `scripted` is ours: it can answer late, and remembers what came.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmarks.processes import BenchmarkError, Program, python, wait_until

HOST = "127.0.0.1"
_PLACES = ("/usr/sbin", "/usr/lib/postfix/sbin", "/usr/local/sbin")
_COUNTED = re.compile(rb"mesg=(\d+)\r")


def find_smtp_sink() -> str | None:
    """The path of Postfix's smtp-sink: SMTP_SINK, PATH, then where distributions put it."""
    wanted = os.environ.get("SMTP_SINK", "").strip()
    if wanted and not os.access(wanted, os.X_OK):
        raise BenchmarkError(f"SMTP_SINK is {wanted!r}, and that is no program.")
    return wanted or _find("smtp-sink")


def find_smtp_source() -> str | None:
    """The path of Postfix's smtp-source, which is installed with its smtp-sink."""
    return _find("smtp-source")


def _find(name: str) -> str | None:
    places = (f"{place}/{name}" for place in _PLACES)
    return shutil.which(name) or next((each for each in places if os.access(each, os.X_OK)), None)


class Sink(ABC):
    """A running mail server."""

    kind: str
    pipelining: bool

    def __init__(self, port: int, program: Program) -> None:
        self.port = port
        self.program = program

    @abstractmethod
    def accepted(self) -> int:
        """How many mails it has accepted since it started."""


class PostfixSink(Sink):
    """Postfix's. It prints its counters after every mail; the last ones in its log count."""

    kind = "smtp-sink"

    def accepted(self) -> int:
        counts = _COUNTED.findall(_tail(self.program.log))
        return int(counts[-1]) if counts else 0


class AiosmtpdSink(Sink):
    """Python's. Its process writes how many it has."""

    kind = "aiosmtpd"

    def accepted(self) -> int:
        lines = _tail(self.program.log).rpartition(b"\n")[0].split()
        return int(lines[-1]) if lines and lines[-1].isdigit() else 0


@dataclass(frozen=True, slots=True)
class Arrival:
    """One mail at the scripted sink; times are of the system's clock."""

    at: float
    connection: int
    recipient: str
    message_id: str


class ScriptedSink(Sink):
    """Ours. Its journal has a line per mail, its figures are written four times a second."""

    kind = "scripted"

    @cached_property
    def folder(self) -> Path:
        return self.program.log.parent

    def accepted(self) -> int:
        return int(self.figures()["mails"])

    def figures(self) -> dict[str, int]:
        """`mails`, `flights` (how often a client waited before it went on), `open`, `cut`."""
        path = self.program.log.with_suffix(".figures")
        # A new one is written beside it and renamed, so that it is always whole.
        figures: dict[str, int] = json.loads(path.read_text()) if path.exists() else {"mails": 0}
        return figures

    def arrivals(self) -> list[Arrival]:
        """Every mail so far, in the order of arrival. The figures may be a moment behind."""
        found = []
        with self.program.log.with_suffix(".journal").open() as journal:
            for line in journal:
                if line.endswith("\n"):
                    at, connection, recipient, message_id = line.rstrip("\n").split("\t")
                    found.append(Arrival(float(at), int(connection), recipient, message_id))
        return found


@contextmanager
def bulk_sink(folder: Path, *, pipelining: bool = True) -> Iterator[Sink]:
    """The sink that rates are measured against: Postfix's, or aiosmtpd where it is absent."""
    port = free_port()
    log = folder / f"sink-{port}.log"
    path = find_smtp_sink()
    sink: Sink
    if path is not None:
        command = [path, "-c", *([] if pipelining else ["-p"]), *_account(), f"{HOST}:{port}"]
        sink = PostfixSink(port, Program("smtp-sink", [*command, "1000"], log, os.environ))
    else:
        options = [] if pipelining else ["--no-pipelining"]
        command = python("-m", "benchmarks.aiosmtpd_server", str(port), *options)
        sink = AiosmtpdSink(port, Program("aiosmtpd", command, log, os.environ))
    with _running(sink, pipelining):
        yield sink


@contextmanager
def scripted_sink(
    folder: Path, *, delay: float = 0.0, keep: bool = False
) -> Iterator[ScriptedSink]:
    """A sink that answers each command `delay` seconds after it came.

    With `keep` it stores the mails whole, in the file that `benchmarks.mails` reads.
    """
    port = free_port()
    log = folder / f"scripted-{port}.log"
    options = ["--delay", str(delay), *(["--keep"] if keep else [])]
    command = python("-m", "benchmarks.scripted_server", str(port), str(log), *options)
    sink = ScriptedSink(port, Program("the scripted sink", command, log, os.environ))
    with _running(sink, pipelining=True):
        yield sink


@contextmanager
def _running(sink: Sink, pipelining: bool) -> Iterator[None]:
    sink.pipelining = pipelining
    with sink.program:
        wait_until(lambda: _answers(sink), f"Starting {sink.program.name}", 15)
        yield


def _answers(sink: Sink) -> bool:
    sink.program.require_alive()
    try:
        with socket.create_connection((HOST, sink.port), timeout=5) as connection:
            return connection.recv(100).startswith(b"220")
    except OSError:
        return False


def _account() -> list[str]:
    """smtp-sink refuses to go on as root."""
    return ["-u", "nobody"] if os.geteuid() == 0 else []


def free_port() -> int:
    """A port that nobody has at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _tail(path: Path, length: int = 400) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - length))
        return file.read()


def settled_count(sink: Sink, expected: int, seconds: float = 3.0) -> int:
    """What the sink counts, once it counts `expected` or has had time to."""
    deadline = time.monotonic() + seconds
    while (count := sink.accepted()) < expected and time.monotonic() < deadline:
        time.sleep(0.05)
    return count
