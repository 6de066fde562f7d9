"""Places and leases: who works on which run, and never more at once than the cap allows.

A worker holds a run by a lease, which a thread renews while the process lives. Only who holds a
lease works, so that the cap on runs at once is a number of leases: they are given out one at a
time, under a lock on the policy. Every transaction of a worker begins by proving that the lease is
held still, which keeps one that was only asleep from writing.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from extensions import db, get_settings
from models import (
    ProvisioningPolicy,
    ProvisioningRun,
    ProvisioningStep,
    RequestState,
    RunState,
    StepName,
    StepState,
    SubscriptionRequest,
    table_of,
    utcnow,
)
from services import off_peak, provisioning_policy
from services.actors import SYSTEM
from services.errors import Conflict
from services.request_transitions import move
from services.transactions import run_transaction

_GRACE = timedelta(seconds=1)
"""A lease counts for so much longer than it is valid, so that clocks need not agree exactly."""

_SAFETY_SECONDS = 1.0

_RUNS, _STEPS = table_of(ProvisioningRun), table_of(ProvisioningStep)
_REQUESTS, _POLICY = table_of(SubscriptionRequest), table_of(ProvisioningPolicy)
# Words that indexes are conditional on must not be parameters: the planner has to see them.
_IS_OPEN = _RUNS.c.state.in_([sa.literal_column("'running'"), sa.literal_column("'rolling_back'")])
IS_SCHEDULED = _REQUESTS.c.state == sa.literal_column("'scheduled'")


class LeaseLost(Exception):
    """Somebody else has the run by now, or may have it any moment."""


def count_leases(connection: sa.Connection, now: datetime) -> int:
    return (
        connection.scalar(
            sa.select(sa.func.count()).where(
                _RUNS.c.lease_token.is_not(None), _RUNS.c.lease_expires_at > now - _GRACE
            )
        )
        or 0
    )


def may_be_taken(now: datetime) -> sa.ColumnElement[bool]:
    """Runs that are due and that nobody holds."""
    return sa.and_(
        _IS_OPEN,
        _RUNS.c.next_attempt_at <= now,
        sa.or_(_RUNS.c.lease_token.is_(None), _RUNS.c.lease_expires_at <= now - _GRACE),
    )


def may_begin(now: datetime, policy: provisioning_policy.Policy) -> sa.ColumnElement[bool]:
    """Requests whose time has come; off-peak ones only while it is off-peak."""
    due = sa.and_(IS_SCHEDULED, _REQUESTS.c.scheduled_for <= now)
    if off_peak.is_open(now, policy):
        return due
    return sa.and_(due, sa.not_(_REQUESTS.c.off_peak))


@dataclass(slots=True)
class Lease:
    """A run in this worker's hands. `held_until` is in this process's monotonic seconds."""

    run_id: int
    request_id: int
    token: str
    held_until: float

    def is_held(self) -> bool:
        return time.monotonic() < self.held_until - _SAFETY_SECONDS


def claim(request_id: int) -> Lease | None:
    """Take a request's run, or begin it; None when it is not due or there is no place."""
    started = time.monotonic()
    token = secrets.token_hex(16)

    def work(connection: sa.Connection) -> int | None:
        # An update of nothing locks the policy on both databases: places are given out one by one.
        connection.execute(sa.update(_POLICY).values(max_runs=_POLICY.c.max_runs))
        policy = provisioning_policy.load(connection)
        now = utcnow()
        if policy.paused or count_leases(connection, now) >= policy.max_runs:
            return None
        lease = {"lease_token": token, "lease_expires_at": now + _lease_time()}
        run_id: int | None = connection.execute(
            sa.update(_RUNS)
            .where(_RUNS.c.request_id == request_id, may_be_taken(now))
            .values(**lease)
            .returning(_RUNS.c.id)
        ).scalar_one_or_none()
        if run_id is not None:
            return run_id
        version = connection.scalar(
            sa.select(_REQUESTS.c.version).where(
                _REQUESTS.c.id == request_id, may_begin(now, policy)
            )
        )
        return None if version is None else _begin_run(connection, request_id, version, lease)

    if not _is_worth_aclaim(request_id):
        return None
    try:
        run_id = run_transaction(work)
    except Conflict:
        return None
    if run_id is None:
        return None
    return Lease(run_id, request_id, token, started + get_settings().lease_seconds)


def _is_worth_aclaim(request_id: int) -> bool:
    """Whether the request is in a state to be worked on; spares the lock for what is not."""
    with db.engine.connect() as connection:
        state = connection.scalar(sa.select(_REQUESTS.c.state).where(_REQUESTS.c.id == request_id))
    return state in {
        RequestState.SCHEDULED,
        RequestState.PROVISIONING,
        RequestState.ROLLING_BACK,
    }


def _begin_run(
    connection: sa.Connection, request_id: int, version: int, lease: dict[str, Any]
) -> int:
    """The request's transition, its run and all its steps, in the transaction of the claim."""
    move(
        connection,
        request_id,
        RequestState.SCHEDULED,
        RequestState.PROVISIONING,
        actor=SYSTEM,
        version=version,
    )
    now = utcnow()
    run_id: int = connection.execute(
        sa.insert(_RUNS)
        .values(
            request_id=request_id,
            state=RunState.RUNNING,
            next_attempt_at=now,
            started_at=now,
            **lease,
        )
        .returning(_RUNS.c.id)
    ).scalar_one()
    connection.execute(
        sa.insert(_STEPS),
        [
            {"run_id": run_id, "position": position, "name": name, "state": StepState.PENDING}
            for position, name in enumerate(StepName, start=1)
        ],
    )
    return run_id


def _lease_time() -> timedelta:
    return timedelta(seconds=get_settings().lease_seconds)


def hold(connection: sa.Connection, lease: Lease) -> RunState:
    """Begin a transaction of the lease's holder, and renew it; returns the run's state.

    Raises LeaseLost.
    """
    started = time.monotonic()
    mine = sa.and_(_RUNS.c.id == lease.run_id, _RUNS.c.lease_token == lease.token)
    # The row is locked before the time is looked at: waiting for the lock must not cost it.
    connection.execute(sa.update(_RUNS).where(mine).values(lease_token=lease.token))
    now = utcnow()
    state: RunState | None = connection.execute(
        sa.update(_RUNS)
        .where(mine, _RUNS.c.lease_expires_at > now)
        .values(lease_expires_at=now + _lease_time())
        .returning(_RUNS.c.state)
    ).scalar_one_or_none()
    if state is None:
        raise LeaseLost
    lease.held_until = started + get_settings().lease_seconds
    return state


def let_go(connection: sa.Connection, lease: Lease, wait: float = 0.0, **values: Any) -> None:
    """Give up lease and place, in a transaction that has begun with `hold`."""
    connection.execute(
        sa.update(_RUNS)
        .where(_RUNS.c.id == lease.run_id)
        .values(
            lease_token=None,
            lease_expires_at=None,
            next_attempt_at=utcnow() + timedelta(seconds=wait),
            **values,
        )
    )
