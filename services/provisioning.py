"""Provisioning: turns scheduled requests into customers, under the pause switch and the cap."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from datetime import datetime

import sqlalchemy as sa
from redis.exceptions import RedisError
from sqlalchemy.orm import selectinload

from extensions import db, queues
from models import (
    ProvisioningRun,
    ProvisioningStep,
    RequestState,
    RunState,
    StepState,
    SubscriptionRequest,
    table_of,
    utcnow,
)
from services import off_peak, provisioning_policy
from services.actors import SYSTEM
from services.errors import Conflict
from services.provisioning_leases import (
    IS_SCHEDULED,
    claim,
    count_leases,
    may_be_taken,
    may_begin,
)
from services.provisioning_runs import Slice
from services.request_notifications import start_mail
from services.request_transitions import Moved, move
from services.transactions import run_transaction

log = logging.getLogger(__name__)

_REPLAN_MOST = 200
_MISSED = "Its off-peak window is over before its turn came. It starts in the next one."
_MISSED_PAUSED = (
    "Its off-peak window is over, and provisioning was paused. It starts in the next one."
)
_chance = random.SystemRandom()
_RUNS, _STEPS = table_of(ProvisioningRun), table_of(ProvisioningStep)
_REQUESTS = table_of(SubscriptionRequest)


def start(request_id: int) -> None:
    """Ask workers to look at a request. Call it after the commit; harmless twice.

    The rows are there, so the sweep finds them when the queue is down.
    """
    try:
        queues.enqueue("provisioning", "jobs.provisioning.provision", request_id)
    except RedisError as error:
        log.warning(
            "request %s waits for the sweep, the queue does not answer: %s",
            request_id,
            type(error).__name__,
        )


def start_due() -> None:
    """Ask workers to look at what is due, as far as the cap has places. Harmless twice."""
    for request_id in list_due():
        start(request_id)


def reopen_run(connection: sa.Connection, request_id: int) -> None:
    """Let a failed run go on at the step that failed, with its tries counted anew.

    In the transaction that moves the request from FAILED to PROVISIONING. Steps that a roll back
    has undone are done again. Raises Conflict when the run has not failed.
    """
    run_id = _reopen(connection, request_id, RunState.RUNNING)
    connection.execute(
        sa.update(_STEPS)
        .where(_STEPS.c.run_id == run_id, _STEPS.c.state != StepState.DONE)
        .values(state=StepState.PENDING, attempts=0, output="", error="")
    )


def begin_roll_back(connection: sa.Connection, request_id: int) -> None:
    """Let a failed run be undone from its last step to its first.

    In the transaction that moves the request from FAILED to ROLLING_BACK; the reason of that
    transition becomes the reason of the cancellation. Raises Conflict when the run has not failed.
    """
    run_id = _reopen(connection, request_id, RunState.ROLLING_BACK)
    connection.execute(
        sa.update(_STEPS).where(_STEPS.c.run_id == run_id).values(attempts=0, error="")
    )


def _reopen(connection: sa.Connection, request_id: int, state: RunState) -> int:
    run_id: int | None = connection.execute(
        sa.update(_RUNS)
        .where(_RUNS.c.request_id == request_id, _RUNS.c.state == RunState.FAILED)
        .values(state=state, next_attempt_at=utcnow(), ended_at=None)
        .returning(_RUNS.c.id)
    ).scalar_one_or_none()
    if run_id is None:
        raise Conflict("There is no failed provisioning of this request.")
    return run_id


def get_run(request_id: int) -> ProvisioningRun | None:
    """The run of a request with its steps in order, None before it began."""
    return db.session.scalar(
        sa.select(ProvisioningRun)
        .where(ProvisioningRun.request_id == request_id)
        .options(selectinload(ProvisioningRun.steps))
        .execution_options(populate_existing=True)
    )


def list_due() -> list[int]:
    """Requests to work on now, the longest due first: as many as the cap has places for."""
    with db.engine.connect() as connection:
        policy = provisioning_policy.load(connection)
        if policy.paused:
            return []
        now = utcnow()
        places = policy.max_runs - count_leases(connection, now)
        if places <= 0:
            return []
        waiting = connection.scalars(
            sa.select(_RUNS.c.request_id)
            .where(may_be_taken(now))
            .order_by(_RUNS.c.next_attempt_at, _RUNS.c.id)
            .limit(places)
        ).all()
        scheduled = connection.scalars(
            sa.select(_REQUESTS.c.id)
            .where(may_begin(now, policy))
            .order_by(_REQUESTS.c.scheduled_for, _REQUESTS.c.id)
            .limit(places - len(waiting))
        ).all()
        return [*waiting, *scheduled]


def replan_missed() -> int:
    """Put off-peak requests whose window ended before their turn came into the next one.

    Returns how many there were; a few hundred at most, the others the next time.
    """
    now = utcnow()
    with db.engine.connect() as connection:
        policy = provisioning_policy.load(connection)
        if off_peak.is_open(now, policy):
            return 0
        planned = off_peak.next_start(now, policy)
        if planned is None:
            return 0
        missed = connection.scalars(
            sa.select(_REQUESTS.c.id)
            .where(IS_SCHEDULED, _REQUESTS.c.scheduled_for <= now, _REQUESTS.c.off_peak)
            .order_by(_REQUESTS.c.scheduled_for, _REQUESTS.c.id)
            .limit(_REPLAN_MOST)
        ).all()
    reason = _MISSED_PAUSED if policy.paused else _MISSED
    moves = [
        moved
        for request_id in missed
        if (moved := _reschedule(request_id, now, planned, reason)) is not None
    ]
    start_mail(moves)
    return len(moves)


def _reschedule(request_id: int, now: datetime, planned: datetime, reason: str) -> Moved | None:
    def work(connection: sa.Connection) -> Moved:
        found = connection.execute(
            sa.select(_REQUESTS.c.version, _REQUESTS.c.scheduled_for, _REQUESTS.c.off_peak)
            .where(_REQUESTS.c.id == request_id)
            .with_for_update()
        ).one()
        if not found.off_peak or found.scheduled_for > now:
            raise Conflict("Somebody else has planned it anew.")
        return move(
            connection,
            request_id,
            RequestState.SCHEDULED,
            RequestState.SCHEDULED,
            actor=SYSTEM,
            reason=reason,
            version=found.version,
            scheduled_for=planned,
            off_peak=True,
        )

    try:
        return run_transaction(work)
    except Conflict:
        return None


def provision(request_id: int, interrupted: Callable[[], bool] = lambda: False) -> int | None:
    """Work on a request for one time slice; returns the request that is due next, if any.

    `interrupted` is asked between two steps and ends the slice early, for what goes first. Nothing
    is done while provisioning is paused, all places are taken, or the request is not due.
    """
    lease = claim(request_id)
    if lease is not None:
        Slice(lease, interrupted).run()
    due = list_due()
    if lease is None:  # Whoever holds it, or whatever it waits for, is no reason to ask again.
        due = [each for each in due if each != request_id]
    # Any of them: workers that end at the same moment should not all ask for the same one.
    return _chance.choice(due) if due else None
