"""A worker that is killed, as by `kill -9`, at a named point of sending webhook messages."""

from __future__ import annotations

import os
import signal
import traceback
import warnings
from collections.abc import Callable
from typing import Any

from extensions import db
from services import webhook_deliveries
from services.webhook_deliveries import _Slice
from services.webhook_targets import Caller
from tests.support.crashing_worker import die_at


def _point(owner: Any, name: str, **how: Any) -> Callable[[], None]:
    return lambda: die_at(owner, name, **how)


POINTS: dict[str, Callable[[], None]] = {
    "before the claim": _point(webhook_deliveries, "_claim", before=True),
    "after the claim": _point(webhook_deliveries, "_claim"),
    "before the bodies are written": _point(webhook_deliveries, "_freeze", before=True),
    "when the bodies are written, before their commit": _point(webhook_deliveries, "_freeze"),
    "when the bodies are committed": _point(_Slice, "_take"),
    "before the first message": _point(Caller, "post", before=True),
    "after the first answer": _point(Caller, "post"),
    "before the third message": _point(Caller, "post", before=True, calls=3),
    "after the last answer": _point(_Slice, "_send"),
    "before the results": _point(_Slice, "_record", before=True),
    "inside the results, before their commit": _point(webhook_deliveries, "_record_results"),
    "after the results": _point(_Slice, "_record"),
    "before it lets go": _point(webhook_deliveries, "_let_go", before=True),
    "when it has let go": _point(webhook_deliveries, "_let_go"),
}


def send_and_die(endpoint_id: int, point: str) -> None:
    """Send an endpoint's messages in a child process, as a worker does, until it dies."""
    db.session.remove()
    db.engine.dispose()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # That threads are not forked.
        pid = os.fork()
    if not pid:
        signal.alarm(60)
        try:
            POINTS[point]()
            webhook_deliveries.send_messages(endpoint_id)
        except BaseException:  # noqa: BLE001 - whatever it is, the child must not go on with the tests
            traceback.print_exc()
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), f"it did not come to the point {point!r}"
    assert os.WTERMSIG(status) == signal.SIGKILL
