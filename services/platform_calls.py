"""Calls to application platforms: for no longer than one may take, and their faults in words."""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable
from typing import Any

from flask import Flask, current_app

from connectors import Connector, ConnectorRefused, ConnectorUnavailable, get_connector
from extensions import db, get_settings
from services.provisioning_steps import PlatformCall, StepFault

log = logging.getLogger(__name__)


def ask_platform(call: PlatformCall, find: Callable[[str], Connector] = get_connector) -> Any:
    """Let the platform do it, for PROVISIONING_TIMEOUT seconds at most. Raises StepFault.

    A call cannot be ended from outside, so it has a thread of its own, which is left behind when
    its time is up. It ends at the latest with the process, a child that the worker forks for each
    job, and what it still does is harmless: the next try asks for the same. No transaction is open
    meanwhile. `find` gives the connector of a name.
    """
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    answers: list[Any] = []
    faults: list[Exception] = []

    def ask() -> None:
        with app.app_context():
            try:
                answers.append(call.do(find(call.connector)))
            except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
                faults.append(error)
            finally:
                db.session.remove()

    limit = get_settings().provisioning_timeout
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(limit)
    if faults:
        raise _fault_of(call, faults[0]) from None
    if not answers:
        raise StepFault(
            f"The application platform did not answer within {limit:g} seconds.", transient=True
        )
    return answers[0]


def _fault_of(call: PlatformCall, error: Exception) -> StepFault:
    """What operators are told of a call that failed, without the secret it was made with."""
    if isinstance(error, ConnectorUnavailable | ConnectorRefused):
        reason = str(error)
        if call.secret:
            reason = reason.replace(call.secret, "…")
        return StepFault(reason, transient=isinstance(error, ConnectorUnavailable))
    if isinstance(error, KeyError) and error.args == (call.connector,):
        return StepFault(f"There is no connector named {call.connector}.")
    log_failure(f"connector {call.connector}", error)
    return StepFault(
        f"The connector {call.connector} failed ({type(error).__name__}).", transient=True
    )


def log_failure(what: str, error: Exception) -> None:
    """Where it failed, but not in which words: those of foreign code may hold a password."""
    where = "".join(traceback.format_tb(error.__traceback__))
    log.error("%s failed: %s\n%s", what, type(error).__name__, where)
