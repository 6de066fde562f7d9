"""Sending webhook messages: one worker per endpoint at a time, the oldest first, until they arrive.

A worker holds an endpoint under a lease. It freezes the bodies of a few messages and commits, sends
them over one connection, and records what came of it in one more transaction, which proves that
the lease is held still. So a crash repeats the same messages: same `webhook-id`, same body.

A message that fails waits longer each time. An endpoint that does not answer, or is slow to refuse,
rests as a whole, so that a dead one does not keep a worker busy however many messages wait for it.
"""

from __future__ import annotations

import logging
import random
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import sqlalchemy as sa
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from extensions import db, get_settings, queues
from models import (
    MessageState,
    WebhookAttempt,
    WebhookEndpoint,
    WebhookMessage,
    table_of,
    utcnow,
)
from services import seals
from services.actors import SYSTEM
from services.audit_events import insert_event
from services.errors import InvalidInput
from services.transactions import run_transaction
from services.webhook_bodies import build_bodies
from services.webhook_signatures import sign
from services.webhook_targets import Caller, NoAnswer, TargetRefused, parse_target

log = logging.getLogger(__name__)

SLICE_SECONDS = 10.0
DISABLED_AFTER = timedelta(days=5)
"""An endpoint of which every attempt has failed for so long is disabled."""
KEPT_FOR = timedelta(days=30)
"""How long messages are kept after their end, and wait for an endpoint that is disabled."""

_BATCH = 50
_BATCH_SECONDS = 1.0
_SLOW_SECONDS = 1.0
"""A refusal that took longer lets the endpoint rest."""
_SHORTEST_REST, _LONGEST_REST = 1.0, 300.0
_LONGEST_RETRY_AFTER = 86_400.0
_LONGEST_REQUESTED_REST = 3600.0
_MOST_ENDPOINTS = 200
_DELETED_AT_ONCE = 1000
_DELETIONS = 10
_chance = random.SystemRandom()

_ENDPOINTS, _MESSAGES = table_of(WebhookEndpoint), table_of(WebhookMessage)
_IS_LIVE = sa.and_(_ENDPOINTS.c.deleted_at.is_(None), _ENDPOINTS.c.disabled_at.is_(None))
# A word that an index is conditional on must not be a parameter: the planner has to see it.
_IS_WAITING = _MESSAGES.c.state == sa.literal_column("'waiting'")


# --- Who sends ---------------------------------------------------------------------------------


def start(endpoint_id: int) -> None:
    """Ask a worker to send what waits for an endpoint. Call it after the commit; harmless twice.

    The rows are there, so the sweep finds them when the queue is down.
    """
    try:
        queues.enqueue("webhooks", "jobs.webhooks.send_messages", endpoint_id)
    except RedisError as error:
        log.warning(
            "webhook %s waits for the sweep, the queue does not answer: %s",
            endpoint_id,
            type(error).__name__,
        )


def start_waiting() -> None:
    """Ask workers to send what is due and nobody is sending. Harmless twice."""
    for endpoint_id in list_due():
        start(endpoint_id)


def list_due() -> list[int]:
    """Ids of endpoints with messages that are due, but for those that rest or are at work."""
    now = utcnow()
    with db.engine.connect() as connection:
        return list(
            connection.scalars(
                sa.select(_ENDPOINTS.c.id)
                .where(_is_free(now), sa.exists().where(*_is_due(_ENDPOINTS.c.id, now)))
                .order_by(_ENDPOINTS.c.id)
                .limit(_MOST_ENDPOINTS)
            )
        )


def _is_free(now: datetime) -> sa.ColumnElement[bool]:
    until = _ENDPOINTS.c.claimed_until
    return sa.and_(_IS_LIVE, sa.or_(until.is_(None), until <= now))


def _is_due(endpoint_id: Any, now: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        _MESSAGES.c.endpoint_id == endpoint_id,
        _IS_WAITING,
        _MESSAGES.c.next_attempt_at <= now,
    )


# --- The lease ---------------------------------------------------------------------------------


class _LeaseLost(Exception):
    """Somebody else has the endpoint by now, or it was disabled or deleted."""


@dataclass(frozen=True, slots=True)
class _Lease:
    endpoint_id: int
    token: str


def _lease_time() -> timedelta:
    """Long enough for a batch with one attempt that takes all its time."""
    settings = get_settings()
    return timedelta(seconds=_BATCH_SECONDS + settings.webhook_timeout + settings.lease_seconds)


def _claim(endpoint_id: int) -> _Lease | None:
    token, now = secrets.token_hex(16), utcnow()

    def work(connection: sa.Connection) -> int:
        return connection.execute(
            sa.update(_ENDPOINTS)
            .where(_ENDPOINTS.c.id == endpoint_id, _is_free(now))
            .values(claim_token=token, claimed_until=now + _lease_time())
        ).rowcount

    return _Lease(endpoint_id, token) if run_transaction(work) else None


def _hold(connection: sa.Connection, lease: _Lease, **values: Any) -> Any:
    """Begin a transaction of the lease's holder, and renew it; returns the endpoint's row.

    Raises _LeaseLost.
    """
    changes = {"claimed_until": utcnow() + _lease_time(), **values}
    found = connection.execute(
        sa.update(_ENDPOINTS)
        .where(_ENDPOINTS.c.id == lease.endpoint_id, _ENDPOINTS.c.claim_token == lease.token)
        .values(**changes)
        .returning(*_ENDPOINTS.c)
    ).one_or_none()
    if found is None:
        raise _LeaseLost
    return found


def _let_go(lease: _Lease, rest: float) -> None:
    until = utcnow() + timedelta(seconds=rest) if rest else None
    run_transaction(
        lambda connection: _hold(connection, lease, claim_token=None, claimed_until=until)
    )


# --- A time slice ------------------------------------------------------------------------------


def send_messages(endpoint_id: int, interrupted: Callable[[], bool] = lambda: False) -> bool:
    """Send an endpoint's due messages for one time slice; returns whether more are due.

    Nothing is done while another worker sends, or the endpoint rests or is disabled. `interrupted`
    is asked between two messages and ends the slice early, for what goes first.
    """
    lease = _claim(endpoint_id)
    if lease is None:
        return False
    try:
        return _Slice(lease, interrupted).run()
    except _LeaseLost:
        log.warning("webhook %s: the lease was lost", endpoint_id)
    except SQLAlchemyError as error:
        log.warning("webhook %s broke off: %s", endpoint_id, type(error).__name__)
    return False


@dataclass(frozen=True, slots=True)
class _Result:
    """What came of one attempt; `status` is None where there was no answer."""

    message_id: int
    attempts: int
    at: datetime
    seconds: float
    status: int | None
    answer: str
    retry_after: float = 0.0

    @property
    def is_delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def rest(self) -> float:
        """Seconds for which the endpoint rests after it at least; 0 to go on at once."""
        if self.is_delivered:
            return 0.0
        if self.status in {429, 503} and self.retry_after:
            return min(self.retry_after, _LONGEST_REQUESTED_REST)
        return _SHORTEST_REST if self.status is None or self.seconds >= _SLOW_SECONDS else 0.0


class _Slice:
    """One time slice of one endpoint."""

    def __init__(self, lease: _Lease, interrupted: Callable[[], bool]) -> None:
        self._lease = lease
        self._interrupted = interrupted
        self._ends_at = time.monotonic() + SLICE_SECONDS
        self._caller: Caller | None = None
        self._url = ""
        self._secrets: list[str] = []

    def run(self) -> bool:
        rest = 0.0
        try:
            while True:
                taken = self._take()
                if not taken:
                    return False
                results = self._send(taken)
                rest, is_over = self._record(results)
                if rest or is_over:
                    return False
                if self._is_over():
                    return True
        finally:
            if self._caller is not None:
                self._caller.close()
            _let_go(self._lease, rest)

    def _is_over(self) -> bool:
        return time.monotonic() >= self._ends_at or self._interrupted()

    def _take(self) -> Sequence[Any]:
        """The next messages, with bodies that will not change again."""

        def work(connection: sa.Connection) -> tuple[Any, list[Any]]:
            endpoint = _hold(connection, self._lease)
            if endpoint.disabled_at is not None or endpoint.deleted_at is not None:
                return endpoint, []
            due = list(
                connection.execute(
                    sa.select(_MESSAGES)
                    .where(*_is_due(self._lease.endpoint_id, utcnow()))
                    .order_by(_MESSAGES.c.next_attempt_at, _MESSAGES.c.id)
                    .limit(_BATCH)
                )
            )
            _freeze(connection, [each for each in due if each.body is None])
            ids = [each.id for each in due]
            frozen = {
                each.id: each
                for each in connection.execute(
                    sa.select(_MESSAGES.c.id, _MESSAGES.c.attempts, _MESSAGES.c.body).where(
                        _MESSAGES.c.id.in_(ids)
                    )
                )
            }
            return endpoint, [frozen[each] for each in ids]

        endpoint, taken = run_transaction(work)
        if self._url != endpoint.url:
            if self._caller is not None:
                self._caller.close()
            self._url, self._caller = endpoint.url, None
        self._secrets = _open_secrets(endpoint)
        return taken

    def _send(self, taken: Sequence[Any]) -> list[_Result]:
        results: list[_Result] = []
        batch_ends_at = time.monotonic() + _BATCH_SECONDS
        for message in taken:
            if results and (time.monotonic() >= batch_ends_at or self._is_over()):
                break
            result = self._attempt(message)
            results.append(result)
            if result.rest or result.status == 410:
                break
        return results

    def _attempt(self, message: Any) -> _Result:
        at, started = utcnow(), time.monotonic()
        status, answer, retry_after = None, "", 0.0
        try:
            said = self._find_caller().post(message.body.encode(), self._headers(message, at))
        except (TargetRefused, NoAnswer, InvalidInput) as error:
            answer = str(error)
        except Exception as error:  # noqa: BLE001 - one fault here must not stop all others
            log.error("webhook %s: %s", self._lease.endpoint_id, type(error).__name__)
            answer = "It was not sent because of a fault here."
        else:
            status, answer = said.status, said.text
            retry_after = parse_retry_after(said.retry_after, at)
        seconds = time.monotonic() - started
        return _Result(
            message.id, message.attempts + 1, at, seconds, status, answer[:500], retry_after
        )

    def _find_caller(self) -> Caller:
        if not self._secrets:
            raise NoAnswer("The secret cannot be opened: its key is not in SEAL_KEYS. Rotate it.")
        if self._caller is None:
            self._caller = Caller(parse_target(self._url), get_settings().webhook_timeout)
        return self._caller

    def _headers(self, message: Any, at: datetime) -> dict[str, str]:
        name, timestamp = message_name(message.id), str(int(at.timestamp()))
        body = message.body.encode()
        return {
            "Content-Type": "application/json",
            "User-Agent": "Foyer-Webhooks/1",
            "webhook-id": name,
            "webhook-timestamp": timestamp,
            "webhook-signature": " ".join(
                sign(secret, name, timestamp, body) for secret in self._secrets
            ),
        }

    def _record(self, results: Sequence[_Result]) -> tuple[float, bool]:
        """Write what came of the attempts; returns the rest to take, and whether it is disabled."""

        def work(connection: sa.Connection) -> tuple[float, bool]:
            endpoint = _hold(connection, self._lease)
            _record_results(connection, results)
            failing_since = endpoint.failing_since
            for each in results:
                failing_since = None if each.is_delivered else failing_since or each.at
            changes: dict[str, Any] = {}
            if failing_since != endpoint.failing_since:
                changes["failing_since"] = failing_since
            reason = _reason_to_disable(results[-1], failing_since)
            if reason and endpoint.disabled_at is None:
                changes |= {
                    "disabled_at": utcnow(),
                    "disabled_reason": reason,
                    "version": endpoint.version + 1,
                }
                insert_event(
                    connection,
                    SYSTEM,
                    "webhook.disabled",
                    object_type="webhook",
                    object_id=endpoint.id,
                    group_id=endpoint.group_id,
                    detail={
                        "before": {"state": "enabled"},
                        "after": {"state": "disabled"},
                        "reason": reason,
                    },
                )
            if changes:
                connection.execute(
                    sa.update(_ENDPOINTS).where(_ENDPOINTS.c.id == endpoint.id).values(**changes)
                )
            return _rest(results[-1], failing_since), bool(reason)

        return run_transaction(work)


def message_name(message_id: int) -> str:
    """The `webhook-id` of a message, the same for each attempt and each replay."""
    return f"msg_{message_id}"


def _freeze(connection: sa.Connection, messages: Sequence[Any]) -> None:
    if not messages:
        return
    bodies = build_bodies(connection, messages)
    connection.execute(
        sa.update(_MESSAGES)
        .where(_MESSAGES.c.id == sa.bindparam("which"), _MESSAGES.c.body.is_(None))
        .values(body=sa.bindparam("written")),
        [{"which": message_id, "written": body} for message_id, body in bodies.items()],
    )


def _open_secrets(endpoint: Any) -> list[str]:
    """The endpoint's secret, and the one before while it is valid; none where no key fits."""
    box = seals.sealer()
    sealed = [endpoint.secret_seal]
    if endpoint.previous_seal is not None and endpoint.previous_until > utcnow():
        sealed.append(endpoint.previous_seal)
    try:
        return [box.decrypt(each).decode() for each in sealed]
    except seals.SealBroken:
        return []


def _record_results(connection: sa.Connection, results: Sequence[_Result]) -> None:
    connection.execute(
        sa.insert(WebhookAttempt),
        [
            {
                "message_id": each.message_id,
                "at": each.at,
                "milliseconds": min(round(each.seconds * 1000), 2**31 - 1),
                "status": each.status,
                "answer": each.answer,
            }
            for each in results
        ],
    )
    now = utcnow()
    waiting = sa.update(_MESSAGES).where(_MESSAGES.c.id == sa.bindparam("which"), _IS_WAITING)
    ended: list[dict[str, Any]] = []
    waits: list[dict[str, Any]] = []
    for each in results:
        values: dict[str, Any] = {"which": each.message_id, "tried": each.attempts}
        delays = get_settings().webhook_retry_delays
        if each.is_delivered:
            ended.append({**values, "outcome": MessageState.DELIVERED})
        elif each.attempts > len(delays):
            ended.append({**values, "outcome": MessageState.FAILED})
        else:
            wait = delays[each.attempts - 1] * _chance.uniform(0.8, 1.2)
            after = timedelta(seconds=max(wait, each.retry_after))
            waits.append({**values, "next_at": now + after})
    if ended:
        connection.execute(
            waiting.values(
                state=sa.bindparam("outcome", type_=_MESSAGES.c.state.type),
                attempts=sa.bindparam("tried"),
                ended_at=now,
            ),
            ended,
        )
    if waits:
        next_at = sa.bindparam("next_at", type_=_MESSAGES.c.next_attempt_at.type)
        connection.execute(
            waiting.values(attempts=sa.bindparam("tried"), next_attempt_at=next_at), waits
        )


def _reason_to_disable(last: _Result, failing_since: datetime | None) -> str:
    if last.status == 410:
        return "The receiver answered 410 Gone: it wants no more messages."
    if failing_since is not None and last.at - failing_since >= DISABLED_AFTER:
        return f"Every attempt has failed for {DISABLED_AFTER.days} days."
    return ""


def _rest(last: _Result, failing_since: datetime | None) -> float:
    """Seconds: the longer an endpoint has failed, the longer it rests."""
    if not last.rest or failing_since is None:
        return last.rest
    failing = (last.at - failing_since).total_seconds()
    return max(last.rest, min(failing / 10, _LONGEST_REST))


def parse_retry_after(header: str, now: datetime) -> float:
    """Seconds to wait at least, as a Retry-After asks for in seconds or as a date; a day at most.

    0 for what cannot be read.
    """
    text = header.strip()
    if text.isascii() and text.isdecimal():
        return min(float(text[:10]), _LONGEST_RETRY_AFTER)
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return 0.0
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return min(max((at - now).total_seconds(), 0.0), _LONGEST_RETRY_AFTER)


# --- Tidying up --------------------------------------------------------------------------------


def tidy_up() -> None:
    """Delete messages a month after their end, give up on those that nobody will take any more, and
    wipe secrets that are not valid any more. Costs three reads when there is nothing to do."""
    for _ in range(_DELETIONS):
        if not run_transaction(_delete_old):
            break
    run_transaction(_give_up_undeliverable)
    run_transaction(_wipe_previous_secrets)


def _delete_old(connection: sa.Connection) -> bool:
    """Returns whether there may be more."""
    old = connection.scalars(
        sa.select(_MESSAGES.c.id)
        .where(_MESSAGES.c.ended_at < utcnow() - KEPT_FOR)
        .order_by(_MESSAGES.c.ended_at)
        .limit(_DELETED_AT_ONCE)
    ).all()
    if old:
        connection.execute(sa.delete(_MESSAGES).where(_MESSAGES.c.id.in_(old)))
    return len(old) == _DELETED_AT_ONCE


def _give_up_undeliverable(connection: sa.Connection) -> None:
    """What waits for an endpoint that is deleted, or has been disabled for as long as is kept."""
    now = utcnow()
    gone = sa.or_(_ENDPOINTS.c.deleted_at.is_not(None), _ENDPOINTS.c.disabled_at < now - KEPT_FOR)
    undeliverable = connection.scalars(
        sa.select(_MESSAGES.c.id)
        .where(
            _IS_WAITING,
            _MESSAGES.c.endpoint_id.in_(sa.select(_ENDPOINTS.c.id).where(gone)),
        )
        .limit(_DELETED_AT_ONCE)
    ).all()
    if undeliverable:
        connection.execute(
            sa.update(_MESSAGES)
            .where(_MESSAGES.c.id.in_(undeliverable), _IS_WAITING)
            .values(state=MessageState.FAILED, ended_at=now)
        )


def _wipe_previous_secrets(connection: sa.Connection) -> None:
    over = _ENDPOINTS.c.previous_until < utcnow()
    if connection.scalar(sa.select(_ENDPOINTS.c.id).where(over).limit(1)) is not None:
        connection.execute(
            sa.update(_ENDPOINTS).where(over).values(previous_seal=None, previous_until=None)
        )
