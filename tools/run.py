"""Start Foyer whole on this machine: `python -m tools.run`, which is what `make run` does.

Web, workers and scheduler run under one supervisor, together with a Valkey server unless REDIS_URL
is set and a mail server with its mailbox page unless MAIL_SERVER is set. When one part ends,
everything ends, and the last line says which part it was: a half-running Foyer only looks as if it
worked.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TextIO

from config import Settings, SettingsError
from tools import ports, valkey
from tools.supervisor import Supervisor

ROOT = Path(__file__).resolve().parent.parent
WEB_PORT, SMTP_PORT, MAILBOX_PORT = 8000, 8025, 8026
WORKERS = 2
READY_SECONDS = 60.0
PREVIOUS_RUN_SECONDS = 15.0

Environment = dict[str, str]


class RunError(Exception):
    """Foyer cannot be started here; the message says why and what to do."""


def main() -> int:
    """Run until asked to stop. Returns 0 then, 1 after a failure, 2 when a setting is wrong."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)
    try:
        return _run()
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    except (RunError, valkey.ValkeyError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


def _run() -> int:
    var_dir = Path(os.environ.get("VAR_DIR", "").strip() or ROOT / "var").resolve()
    var_dir.mkdir(parents=True, exist_ok=True)
    with _only_run(var_dir) as lock:
        os.environ["VAR_DIR"] = str(var_dir)
        notes = _choose_addresses()
        settings = Settings.from_env(os.environ)
        _describe_run(lock, settings)
        sign_ins = _prepare(settings)
        supervisor = Supervisor(sys.stdout)
        _add_parts(supervisor, settings)
        supervisor.on_start(lambda: _announce(supervisor, settings, notes, sign_ins))
        code = supervisor.run()
    for failure in supervisor.ended_first:
        print(f"{failure}, so that everything was stopped. Its last words are above.", flush=True)
    if supervisor.asked_to_stop:
        supervisor.print_plain("Foyer has stopped.")
    return code


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def _only_run(var_dir: Path) -> Iterator[TextIO]:
    """Hold the folder for this run; the system frees it when the run's last process is gone.

    Raises RunError when another run has it, and waits a while for one that is ending.
    """
    with (var_dir / "run.json").open("a+") as lock:
        deadline = time.monotonic() + PREVIOUS_RUN_SECONDS
        while not _try_lock(lock):
            _check_that_it_ends(lock, deadline)
            time.sleep(0.1)
        yield lock


def _try_lock(lock: TextIO) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _check_that_it_ends(lock: TextIO, deadline: float) -> None:
    lock.seek(0)
    try:
        run = json.loads(lock.read())
        pid, address = int(run["pid"]), str(run["address"])
    except (ValueError, KeyError, TypeError):
        pid, address = 0, "an address not known yet"
    if (pid and _is_alive(pid)) or time.monotonic() > deadline:
        raise RunError(
            f"Foyer is already running here, at {address}. Stop it first, or give this one "
            "a folder of its own: VAR_DIR=/path/to/folder make run"
        )


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _describe_run(lock: TextIO, settings: Settings) -> None:
    """Leave where this run is found, for whoever starts a second one."""
    lock.seek(0)
    lock.truncate()
    json.dump({"pid": os.getpid(), "address": settings.public_url}, lock)
    lock.flush()


def _choose_addresses() -> list[str]:
    """Put the ports to use into the environment; return a sentence for each surprise."""
    notes: list[str] = []
    taken: set[int] = set()

    def choose(name: str, usual: int, purpose: str) -> int:
        port = _choose_port(name, usual, purpose, frozenset(taken), notes)
        taken.add(port)
        return port

    os.environ["PORT"] = str(choose("PORT", WEB_PORT, "Foyer"))
    if _is_set("MAIL_SERVER") or _is_production():
        return notes
    os.environ["MAIL_PORT"] = str(choose("MAIL_PORT", SMTP_PORT, "the mail server"))
    os.environ["MAILBOX_PORT"] = str(choose("MAILBOX_PORT", MAILBOX_PORT, "the mailbox"))
    os.environ["MAIL_SERVER"] = ports.HOST
    for ceiling in ("MAIL_MAX_PER_SECOND", "MAIL_MAX_PER_SECOND_PER_DOMAIN"):
        if not _is_set(ceiling):  # Their defaults spare a real mail server.
            os.environ[ceiling] = "0"
    os.environ.setdefault("MAILBOX_URL", f"http://{ports.HOST}:{os.environ['MAILBOX_PORT']}/")
    return notes


def _choose_port(
    name: str, usual: int, purpose: str, taken: frozenset[int], notes: list[str]
) -> int:
    given = os.environ.get(name, "").strip()
    if given:
        if not given.isdecimal() or not 1 <= int(given) <= 65535:
            raise SettingsError([f"{name} is {given!r}. Write a number from 1 to 65535."])
        if int(given) in taken or not ports.is_free(int(given)):
            raise SettingsError([f"{name} is {given}, and that port is taken. Choose another."])
        return int(given)
    port = ports.first_free(usual, taken=taken)
    if port != usual:
        notes.append(f"Port {usual} is taken, so {purpose} uses {port}.")
    return port


def _prepare(settings: Settings) -> str:
    """In development, bring the database up to date and fill in demo data.

    Returns what the demo command says about signing in.
    """
    if settings.is_production:
        return ""
    _step("Bringing the database up to date", "db", "upgrade")
    return _step("Preparing the demo data", "demo")


def _step(sentence: str, *arguments: str) -> str:
    """Run a Flask command to its end and return its standard output; raises RunError."""
    print(sentence, flush=True)
    with subprocess.Popen(
        _flask(*arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as command:
        try:
            output, errors = command.communicate()
        except BaseException:
            command.terminate()
            raise
    if command.returncode:
        raise RunError(
            f"{sentence} failed (exit code {command.returncode}):\n{output}{errors}".rstrip()
        )
    return output.strip()


def _add_parts(supervisor: Supervisor, settings: Settings) -> None:
    os.environ["PYTHONUNBUFFERED"] = "1"
    # macOS ends a forked work-horse that touches its frameworks unless told otherwise.
    os.environ.setdefault("OBJC_DISABLE_INITIALIZE_FORK_SAFETY", "YES")
    os.chdir(ROOT)
    if not _is_set("REDIS_URL"):
        directory = settings.var_dir / "valkey"
        directory.mkdir(exist_ok=True)
        socket = settings.var_dir / "valkey.sock"
        supervisor.add("queue", valkey.command(socket, directory), serves=True)
    if "MAILBOX_PORT" in os.environ:
        supervisor.add("mail", _mail_command(settings), serves=True)
    supervisor.add("web", [sys.executable, "-m", "gunicorn", "--config", "gunicorn.conf.py"])
    for number in range(1, WORKERS + 1):
        supervisor.add(f"worker {number}", _flask("worker"))
    supervisor.add("scheduler", _flask("scheduler"))


def _mail_command(settings: Settings) -> list[str]:
    return [
        *(sys.executable, "-m", "localmail"),
        *("--smtp-port", os.environ["MAIL_PORT"]),
        *("--http-port", os.environ["MAILBOX_PORT"]),
        *("--database", str(settings.var_dir / "mailbox.db")),
        *("--foyer-url", settings.public_url),
    ]


def _flask(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "flask", "--app", "app", *arguments]


def _announce(supervisor: Supervisor, settings: Settings, notes: list[str], sign_ins: str) -> None:
    """Wait until Foyer answers, then say where it is and who can sign in."""
    ready = _wait_until_ready(supervisor, settings.port)
    if supervisor.is_stopping:
        return
    lines = [f"Foyer    {settings.public_url}"]
    if settings.mailbox_url:
        lines.append(f"Mailbox  {settings.mailbox_url}")
    if not ready:
        lines.append(f"It did not get ready within {READY_SECONDS:.0f} s; see the lines above.")
    text = "\n".join([*notes, *lines])
    parts = [text, sign_ins, "Ctrl-C stops everything."]
    rule = "─" * 72
    supervisor.print_plain("\n".join(["", rule, "\n\n".join(filter(None, parts)), rule, ""]))


def _wait_until_ready(supervisor: Supervisor, port: int) -> bool:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and not supervisor.is_stopping:
        try:
            with urllib.request.urlopen(f"http://{ports.HOST}:{port}/readyz", timeout=5):
                return True
        except OSError:
            time.sleep(0.1)
    return False


def _is_set(name: str) -> bool:
    return bool(os.environ.get(name, "").strip())


def _is_production() -> bool:
    return os.environ.get("FOYER_ENV", "").strip() == "production"


if __name__ == "__main__":
    sys.exit(main())
