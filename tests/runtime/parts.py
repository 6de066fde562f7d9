"""Programs for the supervisor's tests: `python parts.py supervise …` runs it over the others.

Each writes its process id, and those it started, below the folder it is given.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tools.supervisor import Supervisor


def supervise(folder: Path, *kinds: str) -> int:
    """Run one part of each kind; `kind+` marks a part that serves the others."""
    supervisor = Supervisor(sys.stdout)
    for kind in kinds:
        name = kind.rstrip("+")
        command = [sys.executable, __file__, "part", str(folder), name]
        if name == "missing":
            command = ["/nowhere/program"]
        supervisor.add(name, command, serves=kind.endswith("+"))
    code = supervisor.run()
    for sentence in supervisor.ended_first:
        print(sentence)
    return code


def part(folder: Path, kind: str) -> int:
    """Behave as `kind` says, until stopped."""
    if kind == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if kind == "late":
        signal.signal(signal.SIGTERM, lambda *_: _note_end(folder, kind, after=0.5))
    if kind == "server":
        signal.signal(signal.SIGTERM, lambda *_: _note_end(folder, kind))
    if kind == "forking":
        # As RQ does for a work-horse: a process group of its own, and deaf to SIGTERM.
        code = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
        horse = subprocess.Popen([sys.executable, "-c", code], process_group=0)
        (folder / "horse.pid").write_text(str(horse.pid))
    print(f"{kind} is running", flush=True)
    (folder / f"{kind}.pid").write_text(str(os.getpid()))
    if kind == "failing":
        time.sleep(0.3)
        return 7
    while True:
        time.sleep(600)


def _note_end(folder: Path, kind: str, *, after: float = 0) -> None:
    time.sleep(after)
    with (folder / "ends").open("a") as ends:
        ends.write(f"{kind}\n")
    os._exit(0)


if __name__ == "__main__":
    action, directory, *rest = sys.argv[1:]
    work = supervise if action == "supervise" else part
    sys.exit(work(Path(directory), *rest))
