"""Prepare .venv from the locks: `python tools/setup.py run`, `dev` or `bench`.

Runs under the system's Python, so it uses the standard library only. It is safe to run twice, at
the same time as itself, and after an installation that was interrupted: a stamp with the lock's
fingerprint is written only when everything is installed, and one process at a time works.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
# Each lock holds everything of the one before it, so that installing it satisfies both.
LOCKS = {
    "run": ROOT / "requirements" / "run.txt",
    "dev": ROOT / "requirements" / "dev.txt",
    "bench": ROOT / "requirements" / "bench.txt",
}
SATISFIES = {"run": ("run",), "dev": ("run", "dev"), "bench": ("run", "dev", "bench")}


class SetupError(Exception):
    """The environment cannot be prepared; the message says what to do."""


def main(arguments: list[str]) -> int:
    """Prepare the set of packages that `arguments` names; return an exit code."""
    if len(arguments) != 1 or arguments[0] not in LOCKS:
        print(f"Usage: setup.py {'|'.join(LOCKS)}", file=sys.stderr)
        return 2
    try:
        prepare(arguments[0])
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped. The next make carries on from here.", file=sys.stderr)
        return 130
    return 0


def prepare(kind: str) -> None:
    """Bring .venv to the state that the lock of `kind` describes.

    Raises SetupError when Python lacks venv or pip, or when an installation fails.
    """
    with _alone() as lock:
        if _is_current(kind):
            return
        started = time.monotonic()
        if not _works():
            _create()
        for name in LOCKS:
            _stamp(name).unlink(missing_ok=True)
        print(f"Installing packages from {LOCKS[kind].relative_to(ROOT)}", flush=True)
        _install(LOCKS[kind], lock)
        for name in SATISFIES[kind]:
            _stamp(name).write_text(_fingerprint(name))
        print(f"Packages are ready ({time.monotonic() - started:.0f} s)", flush=True)


@contextmanager
def _alone() -> Iterator[int]:
    """Hold the set-up lock and give its descriptor.

    The system frees it when this process and those that got the descriptor end, however they end.
    """
    directory = ROOT / "var"
    directory.mkdir(exist_ok=True)
    with (directory / "setup.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another make is preparing .venv; waiting for it", flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle.fileno()


def _is_current(kind: str) -> bool:
    try:
        return _stamp(kind).read_text() == _fingerprint(kind) and _python().exists()
    except OSError:
        return False


def _fingerprint(kind: str) -> str:
    """Name the lock's content and the place it is installed in: a moved .venv does not work."""
    content = LOCKS[kind].read_bytes() + os.fsencode(VENV)
    return hashlib.sha256(content).hexdigest()


def _stamp(kind: str) -> Path:
    return VENV / f"foyer-{kind}.stamp"


def _python() -> Path:
    return VENV / "bin" / "python"


def _works() -> bool:
    """Whether .venv's Python starts, is new enough, sits where it was made, and has pip."""
    check = f"import pip, sys; sys.exit(sys.version_info < (3, 11) or sys.prefix != {str(VENV)!r})"
    try:
        done = subprocess.run([_python(), "-c", check], capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


def _create() -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    remedy = (
        f"Python {version} at {sys.executable} has no {{missing}}. On Debian or Ubuntu install it: "
        f"apt-get install python{version}-venv"
    )
    for module in ("venv", "ensurepip"):
        try:
            __import__(module)
        except ImportError:
            raise SetupError(remedy.format(missing=module)) from None
    print(f"Creating .venv with Python {version}", flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(VENV)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        details = (done.stdout + done.stderr).strip()
        raise SetupError(f"The virtual environment could not be created.\n{details}")


def _install(requirements: Path, alone: int) -> None:
    """Install exactly what the lock names; only wheels, so that no unchecked build tool runs.

    pip holds the set-up lock, too: should this process be killed, the next one waits for pip.
    """
    command: list[str | Path] = [
        *(_python(), "-m", "pip", "install"),
        *("--quiet", "--no-input", "--disable-pip-version-check"),
        *("--require-hashes", "--only-binary", ":all:", "--no-deps"),
        *("--requirement", requirements),
    ]
    done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, pass_fds=[alone])
    if done.returncode:
        raise SetupError(
            "The packages could not be installed; pip's words are above. "
            "Check the connection to the package index and run make again."
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
