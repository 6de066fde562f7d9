"""How a job stands back: bulk mail leaves the machine to pages, and to mails somebody waits for.

Niceness alone does that only among the processes of one session where Linux groups processes by
session (`sched_autogroup_enabled`, sched(7)): there a worker that leads a session of its own has
the niceness of the whole session lowered too. Where a service manager or a container has grouped
them otherwise, the weight of that group decides, which is the operator's to give.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from pathlib import Path

from services import breaths

_SESSION = Path("/proc/self/autogroup")
_SESSION_NICENESS = re.compile(r"nice (-?\d+)\s*$")
_TRIES = 3
_BETWEEN_TRIES = 0.1
"""Linux takes one change in so many seconds, of all processes without privileges."""


def stand_back(niceness: int) -> None:
    """For a job that nobody waits for; to be called by the process that a worker has forked.

    With a niceness of 0 it keeps its priority, and only breathes.
    """
    breaths.be_patient()
    if not niceness:
        return
    os.nice(niceness)
    with suppress(AttributeError, OSError):  # Linux alone has it; a container may forbid it.
        # What wakes up a thousand times a second would take a page's place each time.
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    _change_session(0, niceness)


def stand_in_front(niceness: int) -> None:
    """For a job that somebody may wait for, after one that stood back in the same session."""
    if niceness:
        _change_session(niceness, 0)


def _change_session(before: int, after: int) -> None:
    """Change the niceness of the worker's session, where it leads one and nobody else set another.

    Does its best: a job runs all the same where this is not possible.
    """
    if os.getsid(0) != os.getppid():
        return
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(_BETWEEN_TRIES)
        try:
            found = _SESSION_NICENESS.search(_SESSION.read_text())
            if found is not None and int(found[1]) == before:
                _SESSION.write_text(str(after))
        except BlockingIOError:
            continue
        except OSError:
            pass
        return
