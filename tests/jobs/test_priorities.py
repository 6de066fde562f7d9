"""Bulk mail stands back behind pages, also where Linux groups processes by session."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import priorities

NICENESS = 7
_GROUPS = Path("/proc/self/autogroup")

# A worker of its own session, and a job that it forks for each word on its command line.
_WORKER = """
import json, os, sys
from pathlib import Path
from jobs import priorities

if "--own-session" in sys.argv:
    os.setsid()

def state(pid):
    group = Path(f"/proc/{pid}/autogroup")
    said = group.read_text().split() if group.exists() else []
    return {
        "nice": os.getpriority(os.PRIO_PROCESS, pid),
        "policy": os.sched_getscheduler(pid) if hasattr(os, "SCHED_BATCH") else None,
        "session": int(said[-1]) if said else None,
    }

for word in sys.argv[1].split(","):
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.setpgrp()
        getattr(priorities, word)(int(sys.argv[2]))
        os.write(writing, json.dumps(state(os.getpid())).encode())
        os._exit(0)
    os.waitpid(child, 0)
    print(os.read(reading, 1000).decode(), json.dumps(state(os.getpid())), sep="\\n")
"""


def _work(
    *words: str, niceness: int = NICENESS, own_session: bool = True
) -> list[dict[str, int | None]]:
    """What each job was after its word, and what its worker was then, in turn."""
    leading = ["--own-session"] if own_session else []
    done = subprocess.run(
        [sys.executable, "-c", _WORKER, ",".join(words), str(niceness), *leading],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
        cwd=Path(__file__).parents[2],
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def _where_grouped(niceness: int) -> int | None:
    """What a session's niceness should be; None on a system that does not group by session."""
    return niceness if _GROUPS.exists() else None


def test_a_bulk_job_is_nice_and_does_not_push_others_aside() -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    job, worker = _work("stand_back")
    assert job["nice"] == min(19, before + NICENESS)
    assert worker["nice"] == before
    if hasattr(os, "SCHED_BATCH"):
        assert job["policy"] == os.SCHED_BATCH
        assert worker["policy"] == os.sched_getscheduler(0)


def test_a_worker_that_leads_a_session_stands_back_as_a_whole_until_somebody_waits() -> None:
    during, _, after, worker = _work("stand_back", "stand_in_front")
    assert during["session"] == _where_grouped(NICENESS)
    assert after["session"] == worker["session"] == _where_grouped(0)


def test_a_worker_with_a_machine_of_its_own_stands_where_it_is() -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    job, worker = _work("stand_back", niceness=0)
    assert job["nice"] == worker["nice"] == before
    assert job["policy"] == worker["policy"]
    assert job["session"] == worker["session"] == _where_grouped(0)


def test_a_session_that_others_share_is_left_alone() -> None:
    # The file is empty for processes of the session that the machine started with.
    said = _GROUPS.read_text().split() if _GROUPS.exists() else []
    ours = int(said[-1]) if said else None
    job, worker = _work("stand_back", own_session=False)
    assert job["session"] == worker["session"] == ours


def test_where_nothing_can_be_changed_the_job_runs_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "getsid", lambda _pid: os.getppid())
    for missing in (tmp_path / "missing", tmp_path):
        monkeypatch.setattr(priorities, "_SESSION", missing)
        priorities.stand_in_front(NICENESS)
