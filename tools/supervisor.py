"""Run several programs as one: shared output, one end.

honcho's manager starts them, prefixes their output, and ends everything when one of them ends.
Added here is what a clean end needs beyond that:

- Each program leads a session of its own, and the whole session is ended. honcho signals process
  groups, which misses those that RQ makes for its work-horses.
- Servers that others rely on are stopped after the others.
- Signals are taken by a thread, for a handler that prints can interrupt a print, and Python refuses
  that.
- When the supervisor itself is killed, the relay that reads a program's output ends that program.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TextIO

from honcho.manager import Manager
from honcho.printer import Printer
from honcho.process import Process

GRACE_SECONDS = 8.0
_START_SECONDS = 10.0
_LOOK_SECONDS = 0.25
_SAME_WISH_SECONDS = 1.0
_PR_SET_PDEATHSIG = 1
_STOP_SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})


class Supervisor(Manager):  # type: ignore[misc]
    """Starts programs, relays their output, and ends them together."""

    def __init__(self, output: TextIO) -> None:
        # The relays need this process's own objects and must be its children.
        multiprocessing.set_start_method("fork", force=True)
        super().__init__(_OutputPrinter(output, self._lose_output))
        self._process_ctor = _Relay
        self._terminating: bool = False
        self._served_last: set[str] = set()
        self._on_start: list[Callable[[], None]] = []
        self._hurry = threading.Event()
        self._stopper: threading.Thread | None = None
        self._signals = frozenset(
            number for number in _STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN
        )
        self.asked_to_stop = False
        self.ended_first: list[str] = []

    def add(self, name: str, command: list[str], *, serves: bool = False) -> None:
        """Add a program. One that `serves` the others is stopped after them."""
        self.add_process(name, command, env=dict(os.environ))
        if serves:
            self._served_last.add(name)

    def on_start(self, action: Callable[[], None]) -> None:
        """Have `action` run in a thread of its own when all programs have been started."""
        self._on_start.append(action)

    def say(self, text: str) -> None:
        """Print a line among the programs' output."""
        self._system_print(f"{text}\n")

    def print_plain(self, text: str) -> None:
        """Print text without a prefix."""
        self._printer.print_plain(text)

    @property
    def is_stopping(self) -> bool:
        """Whether the end has begun."""
        return self._terminating

    def run(self) -> int:
        """Run until a program ends or a signal asks to stop.

        Returns 0 when asked to stop, 1 when a program ended by itself.
        """
        # Blocked before a thread or child is made, so that all inherit it; `_await_signals` waits.
        signal.pthread_sigmask(signal.SIG_BLOCK, self._signals)
        try:
            self.loop()
        finally:
            if self._stopper is not None:
                self._stopper.join()
            self._end(self._processes, at_once=True)
        return 0 if self.asked_to_stop else 1

    def terminate(self) -> None:
        """Begin the end; returns at once, for the caller goes on to relay the last output."""
        if self._terminating:
            return
        self._terminating = True
        if not self.asked_to_stop:
            self.ended_first = [
                f"{name} {_ending(part['returncode'])}"
                for name, part in self._processes.items()
                if "returncode" in part
            ]
            # Nobody has ended: a signal that was ignored from the start came by honcho's own way.
            self.asked_to_stop = not self.ended_first
        self._stopper = threading.Thread(target=self._stop_in_order, name="stopper")
        self._stopper.start()

    def kill(self) -> None:
        """Do nothing: honcho calls this five seconds into the end, which `_stop_in_order` times."""

    def _start(self) -> None:
        super()._start()
        threading.Thread(target=self._await_signals, name="signals", daemon=True).start()
        for action in self._on_start:
            threading.Thread(target=action, name="on-start", daemon=True).start()

    def _await_signals(self) -> None:
        first = 0.0
        while True:
            number = signal.sigwait(self._signals)
            if self._terminating:
                # One wish often comes twice, to the process and to its group.
                if time.monotonic() - first > _SAME_WISH_SECONDS:
                    self._hurry.set()
            else:
                first = time.monotonic()
                self.asked_to_stop = True
                self.say(f"Stopping ({signal.Signals(number).name})")
                self.terminate()

    def _lose_output(self) -> None:
        self.asked_to_stop = True
        self.terminate()

    def _stop_in_order(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not self._all_started() and time.monotonic() < deadline:
            time.sleep(0.05)
        self._end([name for name in self._processes if name not in self._served_last])
        self._end(self._served_last)

    def _end(self, names: Iterable[str], *, at_once: bool = False) -> None:
        """End programs with all that they started; give them time unless `at_once`."""
        sessions = {
            name: part["pid"]
            for name, part in self._processes.items()
            if name in names and "pid" in part
        }
        if not at_once:
            for leader in sessions.values():
                _signal_group(leader, signal.SIGTERM)
            deadline = time.monotonic() + GRACE_SECONDS
            while time.monotonic() < deadline and not self._hurry.is_set():
                if not session_members(sessions.values()):
                    return
                time.sleep(0.05)
        kill_sessions(sessions.values())


class _OutputPrinter(Printer):  # type: ignore[misc]
    """Prints; when nobody reads any more (a closed terminal, `| head`), says so once."""

    def __init__(self, output: TextIO, on_loss: Callable[[], None]) -> None:
        super().__init__(output)
        self._on_loss = on_loss
        self._lock = threading.Lock()
        self._lost = False

    def write(self, message: Any) -> None:
        """Print a prefixed message."""
        self._guarded(lambda: super(_OutputPrinter, self).write(message))

    def print_plain(self, text: str) -> None:
        """Print text as it is."""
        self._guarded(lambda: print(text, file=self.output, flush=True))

    def _guarded(self, write: Callable[[], None]) -> None:
        with self._lock:
            if self._lost:
                return
            try:
                write()
            except OSError:
                self._lost = True
        if self._lost:
            self._on_loss()


class _Relay(Process):  # type: ignore[misc]
    """Runs in a process of its own: starts one program, hands on its output, outlives it."""

    def __init__(self, cmd: list[str], **options: Any) -> None:
        super().__init__(cmd, **options)
        self._supervisor = os.getpid()
        self._child_ctor = self._start_program

    def _start_program(
        self, command: list[str], *, env: dict[str, str], cwd: str | None
    ) -> subprocess.Popen[bytes]:
        try:
            program = _popen(command, env, cwd)
        except OSError as error:
            # honcho waits for a program that never started; this one starts, explains, and ends.
            explain = "import sys; sys.exit(sys.argv[1])"
            program = _popen([sys.executable, "-c", explain, f"{command[0]}: {error}"], env, cwd)
        threading.Thread(
            target=self._end_with_supervisor, args=(program.pid,), name="watch", daemon=True
        ).start()
        return program

    def _end_with_supervisor(self, leader: int) -> None:
        while os.getppid() == self._supervisor:
            time.sleep(_LOOK_SECONDS)
        _signal_group(leader, signal.SIGTERM)
        deadline = time.monotonic() + GRACE_SECONDS
        while session_members([leader]) and time.monotonic() < deadline:
            time.sleep(0.05)
        kill_sessions([leader])
        os._exit(1)


def session_members(leaders: Iterable[int]) -> list[int]:
    """List the living processes of the sessions that `leaders` lead or led."""
    wanted = set(leaders)
    return [pid for pid in _all_pids() if _session_of(pid) in wanted and not _is_zombie(pid)]


def kill_sessions(leaders: Iterable[int]) -> None:
    """Kill all processes of these sessions, those started meanwhile too."""
    wanted = list(leaders)
    deadline = time.monotonic() + _START_SECONDS
    while (members := session_members(wanted)) and time.monotonic() < deadline:
        for pid in members:
            _signal(os.kill, pid, signal.SIGKILL)
        time.sleep(0.02)


def _popen(command: list[str], env: dict[str, str], cwd: str | None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=_before_exec,  # noqa: PLW1509 - the relay has one thread at this moment
    )


def _before_exec() -> None:
    """Undo the supervisor's signal mask; on Linux, end when the relay is killed, too."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _load_libc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    return ctypes.CDLL(None)


_libc = _load_libc()


def _all_pids() -> list[int]:
    processes = Path("/proc")
    if (processes / "self").exists():
        return [int(entry.name) for entry in processes.iterdir() if entry.name.isdigit()]
    listing = subprocess.run(["ps", "-axo", "pid="], capture_output=True, text=True, check=True)
    return [int(pid) for pid in listing.stdout.split()]


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _is_zombie(pid: int) -> bool:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return False
    return bool(fields) and fields[0] == "Z"


def _signal_group(leader: int, number: signal.Signals) -> None:
    _signal(os.killpg, leader, number)


def _signal(send: Callable[[int, int], None], target: int, number: signal.Signals) -> None:
    try:
        send(target, number)
    except (ProcessLookupError, PermissionError):
        return


def _ending(returncode: int) -> str:
    if returncode < 0:
        return f"was killed by {signal.Signals(-returncode).name}"
    return f"ended by itself (exit code {returncode})"
