"""A worker's time slice on one run: attempt after attempt, each step's fault told and counted.

A step is begun and recorded in transactions that hold the lease; what it asks of the platform
stands between two of them. A run that waits for its next try, or whose slice is over, gives its
lease and so its place to others.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa
from flask import Flask, current_app
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from connectors import get_connector
from extensions import get_settings
from models import (
    ProvisioningPolicy,
    ProvisioningStep,
    RequestState,
    RequestTransition,
    RunState,
    StepName,
    StepState,
    table_of,
    utcnow,
)
from services.actors import SYSTEM
from services.platform_calls import ask_platform, log_failure
from services.provisioning_leases import Lease, LeaseLost, hold, let_go
from services.provisioning_steps import LABELS, STEPS, Order, PlatformCall, StepFault, load_order
from services.request_notifications import start_mail
from services.request_transitions import Moved, move
from services.transactions import run_transaction

log = logging.getLogger(__name__)
T = TypeVar("T")

SLICE_SECONDS = 10.0
"""A run that has worked for so long lets others have their turn, between two steps."""

_BREAKDOWNS = 10
"""Attempts beyond the allowed ones that a step may have begun and not ended: workers die."""

_LONGEST_ERROR = 2000
_chance = random.SystemRandom()
_STEPS, _POLICY = table_of(ProvisioningStep), table_of(ProvisioningPolicy)


@dataclass(frozen=True, slots=True)
class _Attempt:
    step: Any
    call: PlatformCall | None


class Slice:
    """One time slice of one run."""

    def __init__(self, lease: Lease, interrupted: Callable[[], bool]) -> None:
        self._lease = lease
        self._interrupted = interrupted
        self._app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
        self._stop = threading.Event()

    def run(self) -> None:
        keeper = threading.Thread(target=self._keep_lease, daemon=True)
        keeper.start()
        try:
            self._work()
        except LeaseLost:
            log.warning("request %s: the lease was lost", self._lease.request_id)
        except Exception as error:  # noqa: BLE001 - whatever it was, the sweep starts it again
            what = f"request {self._lease.request_id} broke off, its lease will expire;"
            log_failure(what, error)
        finally:
            self._stop.set()
            keeper.join()

    def _keep_lease(self) -> None:
        with self._app.app_context():
            while not self._stop.wait(get_settings().lease_seconds / 4):
                try:
                    run_transaction(lambda connection: hold(connection, self._lease))
                except LeaseLost:
                    return
                except SQLAlchemyError as error:
                    log.warning("the lease was not renewed: %s", type(error).__name__)

    def _work(self) -> None:
        ends_at = time.monotonic() + SLICE_SECONDS
        while (attempt := self._begin()) is not None:
            if attempt.call is not None and not self._end(attempt):
                return
            if time.monotonic() >= ends_at or self._interrupted():
                self._transact(lambda connection, _: let_go(connection, self._lease))
                return

    def _transact(self, work: Callable[[sa.Connection, bool], T]) -> T:
        """Run `work(connection, undoing)` in a transaction that holds the lease."""

        def held(connection: sa.Connection) -> T:
            if connection.dialect.name == "postgresql":
                # A query must not keep a worker for longer than a platform may.
                limit = int(get_settings().provisioning_timeout * 1000)
                connection.execute(
                    sa.select(sa.func.set_config("statement_timeout", str(limit), True))
                )
            state = hold(connection, self._lease)
            return work(connection, state is RunState.ROLLING_BACK)

        return run_transaction(held)

    def _begin(self) -> _Attempt | None:
        """Begin the next step; one that asks nothing of the platform is recorded with it.

        None when the run has ended, has failed or has to wait.
        """
        found: list[tuple[Any, StepFault]] = []
        moves: list[Moved] = []

        def work(connection: sa.Connection, undoing: bool) -> _Attempt | None:
            found.clear()
            moves.clear()
            if connection.scalar(sa.select(_POLICY.c.paused_at)) is not None:
                let_go(connection, self._lease)
                return None
            step = self._next_step(connection, undoing)
            if step is None:
                moves.append(self._finish(connection, undoing))
                return None
            if step.attempts > len(get_settings().provisioning_retry_delays) + _BREAKDOWNS:
                found.append((step, StepFault("Its worker died each time. Its log says why.")))
                return None
            step = _note_attempt(connection, step, undoing)
            order = load_order(connection, self._lease.request_id)
            does = STEPS[step.name]
            savepoint = connection.begin_nested()
            try:
                call = (does.prepare_undo if undoing else does.prepare)(connection, order)
                if call is None:
                    moves.extend(self._record(connection, step, undoing, order, None))
            except Exception as error:  # noqa: BLE001 - the fault says what it was
                savepoint.rollback()  # The attempt has begun all the same, and counts.
                found.append((step, _fault_of(error)))
                return None
            savepoint.commit()
            return None if moves else _Attempt(step, call)

        attempt = self._transact(work)
        if moves:
            start_mail(moves)
        for step, fault in found:
            self._fail(step, fault)
        return attempt

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
        """Let the platform do it, unless somebody else has taken the run over meanwhile."""
        if call is None:
            return None
        if not self._lease.is_held():
            raise LeaseLost
        return ask_platform(call, get_connector)

    def _end(self, attempt: _Attempt) -> bool:
        """Ask the platform and record what came of it; whether the run goes on."""
        moves: list[Moved] = []

        def work(connection: sa.Connection, undoing: bool) -> None:
            moves.clear()
            order = load_order(connection, self._lease.request_id)
            moves.extend(self._record(connection, attempt.step, undoing, order, answer))

        try:
            answer = self._ask(attempt.call)
            self._transact(work)
        except LeaseLost:
            raise
        except Exception as error:  # noqa: BLE001 - the fault says what it was
            self._fail(attempt.step, _fault_of(error))
            return False
        if moves:
            start_mail(moves)
        return not moves

    def _record(
        self, connection: sa.Connection, step: Any, undoing: bool, order: Order, answer: Any
    ) -> list[Moved]:
        """Write that a step is done or undone; with the last one the run ends."""
        does = STEPS[step.name]
        if undoing:
            does.record_undo(connection, order)
            values: dict[str, Any] = {"state": StepState.UNDONE}
        else:
            output = does.record(connection, order, answer)
            values = {"state": StepState.DONE, "output": output}
        _set_step(connection, step.id, ended_at=utcnow(), error="", **values)
        if self._next_step(connection, undoing) is not None:
            return []
        return [self._finish(connection, undoing)]

    def _finish(self, connection: sa.Connection, undone: bool) -> Moved:
        """End the run and move its request, in the transaction that records the last step."""
        state = RunState.ROLLED_BACK if undone else RunState.COMPLETED
        let_go(connection, self._lease, state=state, ended_at=utcnow())
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

        def work(connection: sa.Connection, undoing: bool) -> None:
            moves.clear()
            error = fault.reason[:_LONGEST_ERROR]
            if fault.transient and step.attempts <= len(delays):
                _set_step(
                    connection, step.id, state=StepState.WAITING, error=error, ended_at=utcnow()
                )
                wait = delays[step.attempts - 1] * _chance.uniform(0.75, 1.25)
                let_go(connection, self._lease, wait)
                return
            _set_step(connection, step.id, state=StepState.FAILED, error=error, ended_at=utcnow())
            let_go(connection, self._lease, state=RunState.FAILED, ended_at=utcnow())
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
        if moves:
            start_mail(moves)


def _note_attempt(connection: sa.Connection, step: Any, undoing: bool) -> Any:
    """The step as it is with its next attempt begun."""
    return connection.execute(
        sa.update(_STEPS)
        .where(_STEPS.c.id == step.id)
        .values(
            state=StepState.UNDOING if undoing else StepState.RUNNING,
            attempts=step.attempts + 1,
            started_at=utcnow(),
            ended_at=None,
        )
        .returning(_STEPS)
    ).one()


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


def _fault_of(error: Exception) -> StepFault:
    if isinstance(error, StepFault):
        return error
    log_failure("a provisioning step", error)
    if isinstance(error, DBAPIError):
        return StepFault(
            f"The database did not do it ({type(error.orig).__name__}).", transient=True
        )
    return StepFault(f"Foyer failed ({type(error).__name__}); its log says where.", transient=True)
