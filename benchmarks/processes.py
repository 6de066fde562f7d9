"""Child processes: each in a session of its own, with its output in a file, and an end in time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tools.supervisor import kill_sessions, session_members

ROOT = Path(__file__).resolve().parent.parent
_GRACE_SECONDS = 10.0


class BenchmarkError(Exception):
    """The benchmark, or one part of it, cannot go on; the message says why."""


class Program:
    """A program that runs until it is stopped, or until the block that uses it ends."""

    def __init__(
        self, name: str, command: Sequence[str | Path], log: Path, environ: Mapping[str, str]
    ) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def members(self) -> list[int]:
        """Its process and those that it started."""
        return session_members([self.pid])

    def require_alive(self) -> None:
        """Raise BenchmarkError with the program's last words when it has ended."""
        if not self.is_alive():
            raise BenchmarkError(
                f"{self.name} ended with exit code {self._process.returncode}: {self.last_words()}"
            )

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return " / ".join(lines[-3:]) or "it wrote nothing"

    def stop(self) -> None:
        """Ask it to end, and end it with all that it started when it does not."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_SECONDS)
        self.kill()

    def kill(self) -> None:
        """kill -9, with all that it started."""
        kill_sessions([self.pid])
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def run(command: Sequence[str | Path], environ: Mapping[str, str], seconds: float = 600) -> str:
    """Run a program to its end; return its standard output. Raises BenchmarkError."""
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BenchmarkError(f"{_shown(command)} did not end within {seconds:g} s.") from None
    if done.returncode:
        words = (done.stdout + done.stderr).strip().splitlines()[-5:]
        raise BenchmarkError(f"{_shown(command)} failed: {' / '.join(words)}")
    return done.stdout


def python(*arguments: str) -> list[str]:
    """The command line of this interpreter."""
    return [sys.executable, *arguments]


def wait_until(
    condition: Callable[[], bool], what: str, seconds: float, every: float = 0.05
) -> None:
    """Wait for a condition. Raises BenchmarkError after `seconds`, naming `what` was awaited."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            raise BenchmarkError(f"{what} took more than {seconds:g} s.")
        time.sleep(every)


def _shown(command: Sequence[str | Path]) -> str:
    return " ".join(Path(each).name if position == 0 else str(each)
                    for position, each in enumerate(command))[:120]  # fmt: skip
