"""Provisioning: turns scheduled requests into customers, under the pause switch and the cap."""

from __future__ import annotations

import sqlalchemy as sa

from models import ProvisioningRun


def start(request_id: int) -> None:
    """Ask workers to look at a request. Call it after the commit; harmless twice.

    The rows are there, so the sweep finds them when the queue is down.
    """
    raise NotImplementedError


def start_due() -> None:
    """Ask workers to look at what is due, as far as the cap has places. Harmless twice."""
    raise NotImplementedError


def reopen_run(connection: sa.Connection, request_id: int) -> None:
    """Let a failed run go on at the step that failed, with its tries counted anew.

    In the transaction that moves the request from FAILED to PROVISIONING.
    """
    raise NotImplementedError


def begin_roll_back(connection: sa.Connection, request_id: int) -> None:
    """Let a failed run be undone from its last step to its first.

    In the transaction that moves the request from FAILED to ROLLING_BACK; the reason of that
    transition becomes the reason of the cancellation.
    """
    raise NotImplementedError


def get_run(request_id: int) -> ProvisioningRun | None:
    """The run of a request with its steps in order, None before it began."""
    raise NotImplementedError


def provision(request_id: int) -> int | None:
    """Work on a request for one time slice; returns the request that is due next, if any."""
    raise NotImplementedError


def replan_missed() -> int:
    """Put off-peak requests whose window ended before their turn came into the next one.

    Returns how many there were.
    """
    raise NotImplementedError
