"""Provisioning: turns scheduled requests into customers, under the pause switch and the cap.

A worker holds a run by a lease, which a thread renews while the process lives. Only who holds a
lease works, so that the cap on runs at once is a number of leases: they are given out one at a
time, under a lock on the policy. Every transaction begins by proving that the lease is held still,
which keeps a worker that was only asleep from writing. A run that waits for its next try, or whose
time slice is over, gives its lease and so its place to others.
"""

from __future__ import annotations

import logging
import random
import secrets
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

import sqlalchemy as sa
from flask import Flask, current_app
from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import selectinload

from connectors import ConnectorRefused, ConnectorUnavailable, get_connector
from extensions import db, get_settings, queues
from models import (
    ProvisioningPolicy,
    ProvisioningRun,
    ProvisioningStep,
    RequestState,
    RequestTransition,
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
from services.provisioning_steps import LABELS, STEPS, PlatformCall, StepFault, load_order
from services.request_notifications import start_mail
from services.request_transitions import Moved, move
from services.transactions import run_transaction

log = logging.getLogger(__name__)
T = TypeVar("T")

SLICE_SECONDS = 10.0
"""A run that has worked for so long lets others have their turn, between two steps."""

_GRACE = timedelta(seconds=1)
"""A lease counts for so much longer than it is valid, so that clocks need not agree exactly."""

_SAFETY_SECONDS = 1.0
_BREAKDOWNS = 10
"""Attempts beyond the allowed ones that a step may have begun and not ended: workers die."""

_REPLAN_MOST = 200
_LONGEST_ERROR = 2000
_MISSED = "Its off-peak window is over before its turn came. It starts in the next one."
_MISSED_PAUSED = (
    "Its off-peak window is over, and provisioning was paused. It starts in the next one."
)
_chance = random.SystemRandom()

_RUNS, _STEPS = table_of(ProvisioningRun), table_of(ProvisioningStep)
_REQUESTS, _POLICY = table_of(SubscriptionRequest), table_of(ProvisioningPolicy)
# Words that indexes are conditional on must not be parameters: the planner has to see them.
_IS_OPEN = _RUNS.c.state.in_([sa.literal_column("'running'"), sa.literal_column("'rolling_back'")])
_IS_SCHEDULED = _REQUESTS.c.state == sa.literal_column("'scheduled'")


class _LeaseLost(Exception):
    """Somebody else has the run by now, or may have it any moment."""


# --- What others call ----------------------------------------------------------------------------


def start(request_id: int) -> None:
    """Ask workers to look at a request. Call it after the commit; harmless twice.

    The rows are there, so the sweep finds them when the queue is down.
    """
    try:
        queues.enqueue("default", "jobs.provisioning.provision", request_id)
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
        places = policy.max_runs - _count_leases(connection, now)
        if places <= 0:
            return []
        waiting = connection.scalars(
            sa.select(_RUNS.c.request_id)
            .where(_may_be_taken(now))
            .order_by(_RUNS.c.next_attempt_at)
            .limit(places)
        ).all()
        scheduled = connection.scalars(
            sa.select(_REQUESTS.c.id)
            .where(_may_begin(now, policy))
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
            .where(_IS_SCHEDULED, _REQUESTS.c.scheduled_for <= now, _REQUESTS.c.off_peak)
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


# --- Places and leases ---------------------------------------------------------------------------


def _count_leases(connection: sa.Connection, now: datetime) -> int:
    return (
        connection.scalar(
            sa.select(sa.func.count()).where(
                _RUNS.c.lease_token.is_not(None), _RUNS.c.lease_expires_at > now - _GRACE
            )
        )
        or 0
    )


def _may_be_taken(now: datetime) -> sa.ColumnElement[bool]:
    """Runs that are due and that nobody holds."""
    return sa.and_(
        _IS_OPEN,
        _RUNS.c.next_attempt_at <= now,
        sa.or_(_RUNS.c.lease_token.is_(None), _RUNS.c.lease_expires_at <= now - _GRACE),
    )


def _may_begin(now: datetime, policy: provisioning_policy.Policy) -> sa.ColumnElement[bool]:
    """Requests whose time has come; off-peak ones only while it is off-peak."""
    due = sa.and_(_IS_SCHEDULED, _REQUESTS.c.scheduled_for <= now)
    if off_peak.is_open(now, policy):
        return due
    return sa.and_(due, sa.not_(_REQUESTS.c.off_peak))


@dataclass(slots=True)
class _Lease:
    """A run in this worker's hands. `held_until` is in this process's monotonic seconds."""

    run_id: int
    request_id: int
    token: str
    held_until: float

    def is_held(self) -> bool:
        return time.monotonic() < self.held_until - _SAFETY_SECONDS


def _claim(request_id: int) -> _Lease | None:
    """Take a request's run, or begin it; None when it is not due or there is no place."""
    started = time.monotonic()
    token = secrets.token_hex(16)

    def work(connection: sa.Connection) -> int | None:
        # An update of nothing locks the policy on both databases: places are given out one by one.
        connection.execute(sa.update(_POLICY).values(max_runs=_POLICY.c.max_runs))
        policy = provisioning_policy.load(connection)
        now = utcnow()
        if policy.paused or _count_leases(connection, now) >= policy.max_runs:
            return None
        lease = {"lease_token": token, "lease_expires_at": now + _lease_time()}
        run_id: int | None = connection.execute(
            sa.update(_RUNS)
            .where(_RUNS.c.request_id == request_id, _may_be_taken(now))
            .values(**lease)
            .returning(_RUNS.c.id)
        ).scalar_one_or_none()
        if run_id is not None:
            return run_id
        version = connection.scalar(
            sa.select(_REQUESTS.c.version).where(
                _REQUESTS.c.id == request_id, _may_begin(now, policy)
            )
        )
        return None if version is None else _begin_run(connection, request_id, version, lease)

    if not _is_worth_a_claim(request_id):
        return None
    try:
        run_id = run_transaction(work)
    except Conflict:
        return None
    if run_id is None:
        return None
    return _Lease(run_id, request_id, token, started + get_settings().lease_seconds)


def _is_worth_a_claim(request_id: int) -> bool:
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
            for position, name in enumerate(STEPS, start=1)
        ],
    )
    return run_id


def _lease_time() -> timedelta:
    return timedelta(seconds=get_settings().lease_seconds)


def _hold(connection: sa.Connection, lease: _Lease) -> None:
    """Begin a transaction of the lease's holder, and renew it. Raises _LeaseLost."""
    started = time.monotonic()
    mine = sa.and_(_RUNS.c.id == lease.run_id, _RUNS.c.lease_token == lease.token)
    # The row is locked before the time is looked at: waiting for the lock must not cost it.
    connection.execute(sa.update(_RUNS).where(mine).values(lease_token=lease.token))
    now = utcnow()
    held = connection.execute(
        sa.update(_RUNS)
        .where(mine, _RUNS.c.lease_expires_at > now)
        .values(lease_expires_at=now + _lease_time())
    )
    if not held.rowcount:
        raise _LeaseLost
    lease.held_until = started + get_settings().lease_seconds


def _let_go(connection: sa.Connection, lease: _Lease, wait: float = 0.0, **values: Any) -> None:
    """Give up lease and place, in a transaction that has begun with `_hold`."""
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


# --- Working on a run ----------------------------------------------------------------------------


def provision(request_id: int, interrupted: Callable[[], bool] = lambda: False) -> int | None:
    """Work on a request for one time slice; returns the request that is due next, if any.

    `interrupted` is asked between two steps and ends the slice early, for what goes first. Nothing
    is done while provisioning is paused, all places are taken, or the request is not due.
    """
    lease = _claim(request_id)
    if lease is not None:
        _Slice(lease, interrupted).run()
    due = list_due()
    if lease is None:  # Whoever holds it, or whatever it waits for, is no reason to ask again.
        due = [each for each in due if each != request_id]
    # Any of them: workers that end at the same moment should not all ask for the same one.
    return _chance.choice(due) if due else None


@dataclass(frozen=True, slots=True)
class _Attempt:
    step: Any
    undoing: bool
    call: PlatformCall | None


class _Slice:
    """One time slice of one run."""

    def __init__(self, lease: _Lease, interrupted: Callable[[], bool]) -> None:
        self._lease = lease
        self._interrupted = interrupted
        self._app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
        self._stop = threading.Event()

    def run(self) -> None:
        keeper = threading.Thread(target=self._keep_lease, daemon=True)
        keeper.start()
        try:
            self._work()
        except _LeaseLost:
            log.warning("request %s: the lease was lost", self._lease.request_id)
        except Exception:
            log.exception("request %s broke off; its lease will expire", self._lease.request_id)
        finally:
            self._stop.set()
            keeper.join()

    def _keep_lease(self) -> None:
        with self._app.app_context():
            while not self._stop.wait(get_settings().lease_seconds / 4):
                try:
                    run_transaction(lambda connection: _hold(connection, self._lease))
                except _LeaseLost:
                    return
                except SQLAlchemyError as error:
                    log.warning("the lease was not renewed: %s", type(error).__name__)

    def _work(self) -> None:
        ends_at = time.monotonic() + SLICE_SECONDS
        while (attempt := self._begin()) is not None:
            try:
                answer = self._ask(attempt.call)
                goes_on = self._end(attempt, answer)
            except _LeaseLost:
                raise
            except Exception as error:  # noqa: BLE001 - the fault says what it was
                self._fail(attempt.step, _fault_of(error))
                return
            if not goes_on:
                return
            if time.monotonic() >= ends_at or self._interrupted():
                self._transact(lambda connection: _let_go(connection, self._lease))
                return

    def _transact(self, work: Callable[[sa.Connection], T]) -> T:
        def fenced(connection: sa.Connection) -> T:
            if connection.dialect.name == "postgresql":
                # A query must not hold a worker for longer than a platform may.
                limit = int(get_settings().provisioning_timeout * 1000)
                connection.execute(
                    sa.select(sa.func.set_config("statement_timeout", str(limit), True))
                )
            _hold(connection, self._lease)
            return work(connection)

        return run_transaction(fenced)

    def _begin(self) -> _Attempt | None:
        """Begin the next attempt; None when the run has ended, failed or must wait."""
        fault: StepFault | None = None
        step: Any = None
        moves: list[Moved] = []

        def work(connection: sa.Connection) -> _Attempt | None:
            nonlocal fault, step
            fault, step = None, None
            moves.clear()
            if connection.scalar(sa.select(_POLICY.c.paused_at)) is not None:
                _let_go(connection, self._lease)
                return None
            undoing = self._is_rolling_back(connection)
            step = self._next_step(connection, undoing)
            if step is None:
                moves.append(self._finish(connection, undoing))
                return None
            if step.attempts > len(get_settings().provisioning_retry_delays) + _BREAKDOWNS:
                fault = StepFault("Its worker died each time. Its log says why.")
                return None
            _set_step(
                connection,
                step.id,
                state=StepState.UNDOING if undoing else StepState.RUNNING,
                attempts=step.attempts + 1,
                started_at=utcnow(),
                ended_at=None,
            )
            step = connection.execute(sa.select(_STEPS).where(_STEPS.c.id == step.id)).one()
            order = load_order(connection, self._lease.request_id)
            does = STEPS[step.name]
            prepare = does.prepare_undo if undoing else does.prepare
            savepoint = connection.begin_nested()
            try:
                call = prepare(connection, order)
            except Exception as error:  # noqa: BLE001 - the fault says what it was
                savepoint.rollback()  # The attempt has begun all the same, and counts.
                fault = _fault_of(error)
                return None
            savepoint.commit()
            return _Attempt(step, undoing, call)

        attempt = self._transact(work)
        start_mail(moves)
        if fault is not None:
            self._fail(step, fault)
        return attempt

    def _is_rolling_back(self, connection: sa.Connection) -> bool:
        state = connection.scalar(sa.select(_RUNS.c.state).where(_RUNS.c.id == self._lease.run_id))
        return state is RunState.ROLLING_BACK

    def _next_step(self, connection: sa.Connection, undoing: bool) -> Any:
        """The first step to do, or the last one to undo, which may have had an effect."""
        steps = sa.select(_STEPS).where(_STEPS.c.run_id == self._lease.run_id).limit(1)
        if undoing:
            steps = steps.where(
                _STEPS.c.started_at.is_not(None), _STEPS.c.state != StepState.UNDONE
            ).order_by(_STEPS.c.position.desc())
        else:
            steps = steps.where(_STEPS.c.state != StepState.DONE).order_by(_STEPS.c.position)
        return connection.execute(steps).one_or_none()

    def _ask(self, call: PlatformCall | None) -> Any:
        """Let the platform do it, for no longer than it may take.

        A call cannot be ended from outside, so it has a thread of its own, which is left behind
        when its time is up. The job ends then, and its process, a child of the worker's, with it.
        """
        if call is None:
            return None
        if not self._lease.is_held():
            raise _LeaseLost
        answers: list[Any] = []
        faults: list[Exception] = []

        def ask() -> None:
            with self._app.app_context():
                try:
                    answers.append(call.do(get_connector(call.connector)))
                except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
                    faults.append(error)
                finally:
                    db.session.remove()

        limit = get_settings().provisioning_timeout
        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        thread.join(limit)
        if faults:
            raise _platform_fault(call, faults[0]) from None
        if not answers:
            raise StepFault(
                f"The application platform did not answer within {limit:g} seconds.",
                transient=True,
            )
        return answers[0]

    def _end(self, attempt: _Attempt, answer: Any) -> bool:
        """Record that a step is done or undone, and with the last the run; whether it goes on."""
        moves: list[Moved] = []

        def work(connection: sa.Connection) -> None:
            moves.clear()
            order = load_order(connection, self._lease.request_id)
            step = STEPS[attempt.step.name]
            if attempt.undoing:
                step.record_undo(connection, order)
                values: dict[str, Any] = {"state": StepState.UNDONE}
            else:
                output = step.record(connection, order, answer)
                values = {"state": StepState.DONE, "output": output}
            _set_step(connection, attempt.step.id, ended_at=utcnow(), error="", **values)
            if self._next_step(connection, attempt.undoing) is None:
                moves.append(self._finish(connection, attempt.undoing))

        self._transact(work)
        start_mail(moves)
        return not moves

    def _finish(self, connection: sa.Connection, undone: bool) -> Moved:
        """End the run and move its request, in the transaction that records the last step."""
        state = RunState.ROLLED_BACK if undone else RunState.COMPLETED
        _let_go(connection, self._lease, state=state, ended_at=utcnow())
        request_id = self._lease.request_id
        values: dict[str, Any] = {"password_hash": None}
        if not undone:
            came_from, goes_to, reason = RequestState.PROVISIONING, RequestState.COMPLETED, ""
        else:
            came_from, goes_to = RequestState.ROLLING_BACK, RequestState.CANCELLED
            reason = values["comment"] = _reason_of_roll_back(connection, request_id)
        return move(
            connection, request_id, came_from, goes_to, actor=SYSTEM, reason=reason, **values
        )

    def _fail(self, step: Any, fault: StepFault) -> None:
        """Let the run wait for its next try, or fail where another is of no use."""
        delays = get_settings().provisioning_retry_delays
        moves: list[Moved] = []

        def work(connection: sa.Connection) -> None:
            moves.clear()
            error = fault.reason[:_LONGEST_ERROR]
            if fault.transient and step.attempts <= len(delays):
                _set_step(
                    connection, step.id, state=StepState.WAITING, error=error, ended_at=utcnow()
                )
                wait = delays[step.attempts - 1] * _chance.uniform(0.75, 1.25)
                _let_go(connection, self._lease, wait)
                return
            _set_step(connection, step.id, state=StepState.FAILED, error=error, ended_at=utcnow())
            undoing = self._is_rolling_back(connection)
            _let_go(connection, self._lease, state=RunState.FAILED, ended_at=utcnow())
            moves.append(
                move(
                    connection,
                    self._lease.request_id,
                    RequestState.ROLLING_BACK if undoing else RequestState.PROVISIONING,
                    RequestState.FAILED,
                    actor=SYSTEM,
                    reason=_reason_of_failure(step.name, error, undoing),
                )
            )

        self._transact(work)
        start_mail(moves)


def _set_step(connection: sa.Connection, step_id: int, **values: Any) -> None:
    connection.execute(sa.update(_STEPS).where(_STEPS.c.id == step_id).values(**values))


def _reason_of_failure(name: StepName, error: str, undoing: bool) -> str:
    label = f"Undo: {LABELS[name]}" if undoing else LABELS[name]
    return f"{label}: {error}"[:_LONGEST_ERROR]


def _reason_of_roll_back(connection: sa.Connection, request_id: int) -> str:
    """What was given as the reason when the roll back began, last."""
    return (
        connection.scalar(
            sa.select(RequestTransition.reason)
            .where(
                RequestTransition.request_id == request_id,
                RequestTransition.to_state == RequestState.ROLLING_BACK,
            )
            .order_by(RequestTransition.id.desc())
            .limit(1)
        )
        or ""
    )


def _platform_fault(call: PlatformCall, error: Exception) -> StepFault:
    """What operators are told of a call that failed, without the secret it was made with."""
    if isinstance(error, ConnectorUnavailable | ConnectorRefused):
        reason = str(error)
        if call.secret:
            reason = reason.replace(call.secret, "…")
        return StepFault(reason, transient=isinstance(error, ConnectorUnavailable))
    if isinstance(error, KeyError) and error.args == (call.connector,):
        return StepFault(f"There is no connector named {call.connector}.")
    _log(f"connector {call.connector}", error)
    return StepFault(
        f"The connector {call.connector} failed ({type(error).__name__}).", transient=True
    )


def _fault_of(error: Exception) -> StepFault:
    if isinstance(error, StepFault):
        return error
    _log("a provisioning step", error)
    if isinstance(error, DBAPIError):
        return StepFault(
            f"The database did not do it ({type(error.orig).__name__}).", transient=True
        )
    return StepFault(f"Foyer failed ({type(error).__name__}); its log says where.", transient=True)


def _log(what: str, error: Exception) -> None:
    """Where it failed, but not in which words: those of foreign code may hold a password."""
    where = "".join(traceback.format_tb(error.__traceback__))
    log.error("%s failed: %s\n%s", what, type(error).__name__, where)
