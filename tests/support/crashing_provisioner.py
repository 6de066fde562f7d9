"""A worker that is killed, as by `kill -9`, at a named point of its work on a request."""

from __future__ import annotations

import os
import signal
import traceback
import warnings
from collections.abc import Callable
from typing import Any

from connectors.local import LocalConnector
from extensions import db
from services import general_parameters, provisioning, provisioning_leases, provisioning_runs
from services.provisioning_runs import Slice
from services.provisioning_steps import STEPS
from tests.support.crashing_worker import die_at

_PLATFORM = ("create_tenant", "create_account", "health")
_REMOVAL = ("remove_account", "remove_tenant")


def _point(owner: Any, name: str, **how: Any) -> Callable[[], None]:
    return lambda: die_at(owner, name, **how)


POINTS: dict[str, Callable[[], None]] = {
    "before the claim": _point(provisioning, "claim", before=True),
    "inside the claim, before its commit": _point(provisioning_leases, "_begin_run"),
    "after the claim": _point(provisioning, "claim"),
    "inside the clone, before its commit": _point(general_parameters, "clone_into"),
    "before the mail is asked for": _point(provisioning_runs, "start_mail", before=True),
    "when all is done": _point(Slice, "run"),
    **{
        f"{where} {name} is written, before its commit": _point(
            step, "record", before=where == "before"
        )
        for name, step in STEPS.items()
        for where in ("before", "after")
    },
    **{
        f"{when} the platform's {call}": _point(LocalConnector, call, before=when == "before")
        for call in _PLATFORM
        for when in ("before", "after")
    },
    **{
        f"after beginning {number}": _point(Slice, "_begin", calls=number) for number in range(1, 7)
    },
    **{f"after answer {number}": _point(Slice, "_end", calls=number) for number in (1, 2, 3)},
}
UNDO_POINTS: dict[str, Callable[[], None]] = {
    **{
        f"{where} {name} is taken away, before its commit": _point(
            step, "record_undo", before=where == "before"
        )
        for name, step in list(STEPS.items())[:-1]
        for where in ("before", "after")
    },
    **{
        f"{when} the platform's {call}": _point(LocalConnector, call, before=when == "before")
        for call in _REMOVAL
        for when in ("before", "after")
    },
    "before the mail is asked for": _point(provisioning_runs, "start_mail", before=True),
    "when all is undone": _point(Slice, "run"),
}


def provision_and_die(request_id: int, point: str) -> None:
    """Work on a request in a child process, as a worker does, until it dies at `point`."""
    db.session.remove()
    db.engine.dispose()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # That threads are not forked.
        pid = os.fork()
    if not pid:
        signal.alarm(60)
        try:
            {**UNDO_POINTS, **POINTS}[point]()
            provisioning.provision(request_id)
        except BaseException:  # noqa: BLE001 - whatever it is, the child must not go on with the tests
            traceback.print_exc()
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), f"it did not come to the point {point!r}"
    assert os.WTERMSIG(status) == signal.SIGKILL
