"""Results: what became of a claimed chunk, recorded in one transaction.

An accepted delivery promotes its portal password and wipes its seal. Nothing is recorded for a
claim that has expired meanwhile: its deliveries are back in line and will be sent again, unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache
from typing import Any

import sqlalchemy as sa

from extensions import get_settings
from models import (
    Delivery,
    DeliveryClaim,
    DeliveryState,
    Mailing,
    MailingState,
    SignInSession,
    SkipReason,
    TemplateKind,
    User,
    Welcome,
    WelcomeState,
    table_of,
    utcnow,
)
from models.deliveries import in_state
from services.breaths import paced
from services.bulk_rows import among, among_ids, find_by_index, ids_parameter, update_rows
from services.delivery_claims import Claim, ClaimedDelivery, MailingJob
from services.mailing_ends import cancel_waiting, end_mailing_if_done
from services.transactions import run_transaction
from services.webhook_events import note_ended

_LONGEST_ANSWER = 500
PROVED_BY_READER = "The reader signed in with the password of this mail."
NOTED_IN_JOURNAL = "Accepted. The worker ended before it could keep the server's words."


class Outcome(StrEnum):
    """RELEASED deliveries were not tried: they go back in line, due again after `wait` seconds."""

    SENT = "sent"
    FAILED = "failed"
    RETRY = "retry"
    SKIPPED = "skipped"
    RELEASED = "released"


@dataclass(slots=True)
class Result:
    delivery: ClaimedDelivery
    outcome: Outcome
    code: int | None = None
    answer: str = ""
    in_doubt: bool = False
    skip_reason: SkipReason | None = None
    application_password_set: bool = False
    wait: float = 0.0


def after_trouble(
    delivery: ClaimedDelivery, code: int | None, answer: str, *, in_doubt: bool = False
) -> Result:
    """A transient refusal: another try later, or the end when the tries are used up."""
    tries = len(get_settings().delivery_retry_delays) + 1
    doubt = delivery.in_doubt or in_doubt
    if delivery.attempts + 1 < tries:
        return Result(delivery, Outcome.RETRY, code, answer, in_doubt=doubt)
    return Result(
        delivery, Outcome.FAILED, code, f"Gave up after {tries} tries. {answer}", in_doubt=doubt
    )


def record_results(claim: Claim, results: list[Result]) -> bool:
    """Record `results`, one for each delivery of `claim`, and end the claim.

    Returns False, with nothing recorded, when the claim has expired.
    """

    def work(connection: sa.Connection) -> bool:
        return _record(connection, claim, results)

    return run_transaction(work)


def record_journal(
    connection: sa.Connection, job: MailingJob, token: str, accepted: Mapping[int, int]
) -> None:
    """Record as sent what a dead worker's journal says the server took: codes by delivery id.

    The claim's row has been deleted already; its deliveries still bear `token`.
    """
    find_by_index(connection)
    rows = connection.execute(
        sa.select(Delivery.id, Delivery.user_id, Delivery.pending_hash)
        .where(*_held_under(job.id, token), among(connection, Delivery.id.expression, accepted))
        .with_for_update()
    ).all()
    sent = _Sent()
    for row in rows:
        said = (row.id, accepted[row.id], NOTED_IN_JOURNAL, job.resets_application)
        sent.add(said, row.user_id, row.pending_hash)
    _end_as_sent(connection, job, token, sent, utcnow())
    if job.is_told:
        note_ended(connection, [row.id for row in rows])
    connection.execute(
        sa.update(Mailing)
        .where(Mailing.id == job.id)
        .values(sending=Mailing.sending - len(rows), sent=Mailing.sent + len(rows))
    )


def _held_under(mailing_id: Any, token: Any) -> tuple[sa.ColumnElement[bool], ...]:
    """The deliveries of a claim, by an index that needs no upkeep of its own."""
    deliveries = table_of(Delivery).c
    return (
        deliveries.mailing_id == mailing_id,
        in_state(DeliveryState.SENDING),
        deliveries.claim_token == token,
    )


def _record(connection: sa.Connection, claim: Claim, results: list[Result]) -> bool:
    job = claim.mailing
    if not connection.execute(_claim_deletion(), {"claim": claim.token}).rowcount:
        return False
    find_by_index(connection)
    now = utcnow()
    proved = _lock_and_find_proved(connection, job, claim.token)
    grouped: dict[Outcome, list[Result]] = {outcome: [] for outcome in Outcome}
    for result in paced(results):
        settled = _as_proved(result) if result.delivery.id in proved else result
        grouped[settled.outcome].append(settled)
    sent = _Sent()
    for each in paced(grouped[Outcome.SENT]):
        delivery = each.delivery
        pending = None if delivery.id in proved else delivery.pending_hash
        sent.add(_said(each), delivery.user_id, pending)
    # All of users before any of their welcomes, or two at once could wait for one another.
    _keep_what_may_have_arrived(connection, grouped, proved)
    _end_as_sent(connection, job, claim.token, sent, now)
    _update_others(connection, claim, grouped, now)
    if job.is_told:
        ended = (Outcome.SENT, Outcome.FAILED, Outcome.SKIPPED)
        note_ended(connection, [each.delivery.id for name in ended for each in grouped[name]])
    if job.kind is TemplateKind.WELCOME:
        failed = [each.delivery.user_id for each in grouped[Outcome.FAILED]]
        _note_welcomes(connection, failed, WelcomeState.FAILED, now)
    _count(connection, claim, {outcome: len(group) for outcome, group in grouped.items()})
    return True


@cache
def _claim_deletion() -> sa.Delete:
    claims = table_of(DeliveryClaim)
    return sa.delete(claims).where(claims.c.token == sa.bindparam("claim"))


def _lock_and_find_proved(connection: sa.Connection, job: MailingJob, token: str) -> set[int]:
    """Lock the claim's rows; returns those whose reader has signed in with their password.

    Such a reader may have chosen another password since, so that nothing of his may change.
    """
    if not job.resets_portal:
        return set()
    held = {"mailing_id": job.id, "claim": token}
    return set(connection.scalars(_proved_statement(), held))


@cache
def _proved_statement() -> sa.Select[tuple[int]]:
    deliveries = table_of(Delivery).c
    held = (
        sa.select(deliveries.id, deliveries.pending_hash.is_(None).label("is_proved"))
        .where(*_held_under(sa.bindparam("mailing_id"), sa.bindparam("claim")))
        .with_for_update()
        .cte("held")
    )
    return sa.select(held.c.id).where(held.c.is_proved)


def _as_proved(result: Result) -> Result:
    """SENT, for sending that mail again would bring back a password that may be gone."""
    if result.outcome in {Outcome.SENT, Outcome.SKIPPED}:
        return result
    return replace(result, outcome=Outcome.SENT, code=None, answer=PROVED_BY_READER)


_Said = tuple[int, int | None, str, bool]
"""A delivery's id, answer code, answer, and whether the application password was set."""


def _said(result: Result) -> _Said:
    delivery_id, has_application = _with_application(result)
    return delivery_id, result.code, result.answer[:_LONGEST_ANSWER], has_application


def _with_application(result: Result) -> tuple[int, bool]:
    delivery = result.delivery
    return delivery.id, delivery.application_password_set or result.application_password_set


class _Sent:
    """Deliveries that were accepted, with the portal passwords to promote."""

    def __init__(self) -> None:
        self.rows: list[_Said] = []
        self.user_ids: list[int] = []
        self.promoted: list[tuple[int, str]] = []

    def add(self, said: _Said, user_id: int, pending_hash: str | None) -> None:
        self.rows.append(said)
        self.user_ids.append(user_id)
        if pending_hash is not None:
            self.promoted.append((user_id, pending_hash))


def _end_as_sent(
    connection: sa.Connection, job: MailingJob, token: str, sent: _Sent, now: datetime
) -> None:
    """Wipe seals; promote portal passwords, end the sessions of the old ones, note the welcome."""
    update_rows(
        connection,
        table_of(Delivery),
        _SAID_COLUMNS,
        sent.rows,
        same={"state": DeliveryState.SENT, "sent_at": now, "in_doubt": False, **_WIPED},
        computed=_TRIED,
        where={"claim_token": token},
    )
    update_rows(
        connection,
        table_of(User),
        ("password_hash",),
        sent.promoted,
        same={
            "unconfirmed_hash": None,
            "must_change_password": get_settings().change_generated_password,
        },
    )
    if sent.promoted:
        owners = ids_parameter(connection, [each for each, _ in sent.promoted])
        connection.execute(_sessions_deletion(connection.dialect.name), {"ids": owners})
    if job.kind is TemplateKind.WELCOME:
        _note_welcomes(connection, sent.user_ids, WelcomeState.SENT, now)


def _note_welcomes(
    connection: sa.Connection, user_ids: Sequence[int], state: WelcomeState, now: datetime
) -> None:
    rows = [(each,) for each in user_ids]
    update_rows(connection, table_of(Welcome), (), rows, same={"state": state, "at": now})


@cache
def _sessions_deletion(dialect: str) -> sa.Delete:
    sessions = table_of(SignInSession)
    return sa.delete(sessions).where(among_ids(dialect, sessions.c.user_id))


_SAID_COLUMNS = ("answer_code", "answer", "application_password_set")
_WIPED: dict[str, Any] = {"claim_token": None, "seal": None, "pending_hash": None}
_WAITS_AGAIN: dict[str, Any] = {"state": DeliveryState.QUEUED, "claim_token": None}
_TRIED = {"attempts": "attempts + 1"}


def _update_others(
    connection: sa.Connection, claim: Claim, grouped: dict[Outcome, list[Result]], now: datetime
) -> None:
    """The deliveries that were not accepted."""

    def update(columns: tuple[str, ...], rows: list[Any], **changes: Any) -> None:
        held = {"claim_token": claim.token}
        update_rows(connection, table_of(Delivery), columns, rows, where=held, **changes)

    delays = get_settings().delivery_retry_delays
    update(
        _SAID_COLUMNS,
        [_said(each) for each in grouped[Outcome.FAILED]],
        same={"state": DeliveryState.FAILED, **_WIPED},
        computed=_TRIED,
    )
    update(
        (*_SAID_COLUMNS, "skip_reason"),
        [(*_said(each), each.skip_reason) for each in grouped[Outcome.SKIPPED]],
        same={"state": DeliveryState.SKIPPED, **_WIPED},
    )
    update(
        (*_SAID_COLUMNS, "next_attempt_at", "in_doubt"),
        [
            (
                *_said(each),
                now + timedelta(seconds=delays[min(each.delivery.attempts, len(delays) - 1)]),
                each.in_doubt,
            )
            for each in grouped[Outcome.RETRY]
        ],
        same=_WAITS_AGAIN,
        computed=_TRIED,
    )
    update(
        ("application_password_set",),
        [_with_application(each) for each in grouped[Outcome.RELEASED] if not each.wait],
        same=_WAITS_AGAIN,
    )
    update(
        ("application_password_set", "next_attempt_at"),
        [
            (*_with_application(each), now + timedelta(seconds=each.wait))
            for each in grouped[Outcome.RELEASED]
            if each.wait
        ],
        same=_WAITS_AGAIN,
    )


def _keep_what_may_have_arrived(
    connection: sa.Connection, grouped: dict[Outcome, list[Result]], proved: set[int]
) -> None:
    """A failed mail that may have arrived all the same keeps signing in."""
    doubtful = [
        (each.delivery.user_id, each.delivery.pending_hash)
        for outcome in (Outcome.FAILED, Outcome.SKIPPED)
        for each in grouped[outcome]
        if (each.in_doubt or each.delivery.in_doubt)
        and each.delivery.pending_hash is not None
        and each.delivery.id not in proved
    ]
    update_rows(connection, table_of(User), ("unconfirmed_hash",), doubtful)


def _count(connection: sa.Connection, claim: Claim, counts: Mapping[Outcome, int]) -> None:
    state = connection.scalar(
        _count_statement(),
        {
            "which": claim.mailing.id,
            "all": sum(counts.values()),
            "back": counts[Outcome.RETRY] + counts[Outcome.RELEASED],
            "more_sent": counts[Outcome.SENT],
            "more_failed": counts[Outcome.FAILED],
            "more_skipped": counts[Outcome.SKIPPED],
        },
    )
    if state is MailingState.CANCELLING:  # It was cancelled while these were under way.
        cancel_waiting(connection, claim.mailing.id)
    end_mailing_if_done(connection, claim.mailing.id)


@cache
def _count_statement() -> Any:
    mailings = table_of(Mailing)
    columns = mailings.c
    return (
        sa.update(mailings)
        .where(columns.id == sa.bindparam("which"))
        .values(
            sending=columns.sending - sa.bindparam("all"),
            queued=columns.queued + sa.bindparam("back"),
            sent=columns.sent + sa.bindparam("more_sent"),
            failed=columns.failed + sa.bindparam("more_failed"),
            skipped=columns.skipped + sa.bindparam("more_skipped"),
        )
        .returning(columns.state)
    )
