"""A worker that is killed, as by `kill -9`, at a named point of its work on an import."""

from __future__ import annotations

import os
import signal
import traceback
import warnings
from collections.abc import Callable
from typing import Any

from extensions import db
from services import user_import_runs
from services.user_import_runs import Slice
from tests.support.crashing_worker import die_at


def _point(owner: Any, name: str, **how: Any) -> Callable[[], None]:
    return lambda: die_at(owner, name, **how)


CHECK_POINTS: dict[str, Callable[[], None]] = {
    "after the claim": _point(user_import_runs, "claim"),
    "inside the second chunk, before its commit": _point(Slice, "_stage", calls=2),
    "after the second chunk": _point(Slice, "_is_over", calls=2),
    "before the check ends": _point(user_import_runs, "let_go", before=True),
}
IMPORT_POINTS: dict[str, Callable[[], None]] = {
    "after the claim": _point(user_import_runs, "claim"),
    "before the second chunk is inserted": _point(
        user_import_runs, "insert_users", before=True, calls=2
    ),
    "inside the second chunk, after its users": _point(user_import_runs, "insert_users", calls=2),
    "inside the second chunk, before its commit": _point(Slice, "_write", calls=2),
    "after the second chunk": _point(Slice, "_is_over", calls=2),
    "inside the end, before its commit": _point(Slice, "_conclude"),
    "after the end": _point(Slice, "_finish"),
}


def work_and_die(import_id: int, prepare: Callable[[], None]) -> None:
    """Work on an import in a child process, as a worker does, until it dies where told."""
    db.session.remove()
    db.engine.dispose()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # That threads are not forked.
        pid = os.fork()
    if not pid:
        signal.alarm(60)
        try:
            prepare()
            user_import_runs.work_on_import(import_id, lambda: False)
        except BaseException:  # noqa: BLE001 - whatever it is, the child must not go on with the tests
            traceback.print_exc()
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), "it did not come to that point"
    assert os.WTERMSIG(status) == signal.SIGKILL


def work_and_be_killed(import_id: int, seconds: float) -> bool:
    """The same, killed after a while; False when the work was done before."""
    db.session.remove()
    db.engine.dispose()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if not pid:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        try:
            user_import_runs.work_on_import(import_id, lambda: False)
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)
