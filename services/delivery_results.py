"""Results: what became of a claimed chunk, recorded in one transaction.

An accepted delivery promotes its portal password and wipes its seal. Nothing is recorded for a
claim that has expired meanwhile: its deliveries are back in line and will be sent again, unchanged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
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
    WelcomeState,
    table_of,
    utcnow,
)
from services.bulk_rows import update_rows
from services.delivery_claims import Claim, ClaimedDelivery, MailingJob
from services.mailing_ends import cancel_waiting, end_mailing_if_done
from services.transactions import run_transaction

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
    rows = connection.execute(
        sa.select(Delivery.id, Delivery.user_id, Delivery.pending_hash, Delivery.attempts)
        .where(_held_under(job, token), Delivery.id.in_(accepted))
        .with_for_update()
    ).all()
    unproven = {row.id for row in rows if row.pending_hash is not None}
    outcomes = [
        _Ended(row.id, row.user_id, row.pending_hash, accepted[row.id], NOTED_IN_JOURNAL)
        for row in rows
    ]
    now = utcnow()
    _end_as_sent(connection, job, token, outcomes, unproven, now)
    connection.execute(
        sa.update(Mailing)
        .where(Mailing.id == job.id)
        .values(sending=Mailing.sending - len(rows), sent=Mailing.sent + len(rows))
    )


def _held_under(job: MailingJob, token: str) -> sa.ColumnElement[bool]:
    """The deliveries of a claim, by an index that needs no upkeep of its own."""
    return sa.and_(
        Delivery.mailing_id == job.id,
        Delivery.state == sa.literal_column("'sending'"),
        Delivery.claim_token == token,
    )


def _record(connection: sa.Connection, claim: Claim, results: list[Result]) -> bool:
    ended = connection.execute(
        sa.delete(DeliveryClaim).where(DeliveryClaim.token == claim.token)
    ).rowcount
    if not ended:
        return False
    now = utcnow()
    unproven = set(
        connection.scalars(
            sa.select(Delivery.id)
            .where(_held_under(claim.mailing, claim.token), Delivery.pending_hash.is_not(None))
            .with_for_update()
        )
    )
    results = [_unless_proved(claim, each, unproven) for each in results]
    grouped: dict[Outcome, list[Result]] = {}
    for result in results:
        grouped.setdefault(result.outcome, []).append(result)
    sent = [
        _Ended(
            each.delivery.id,
            each.delivery.user_id,
            each.delivery.pending_hash,
            each.code,
            each.answer[:500],
            each.delivery.application_password_set or each.application_password_set,
        )
        for each in grouped.pop(Outcome.SENT, [])
    ]
    _end_as_sent(connection, claim.mailing, claim.token, sent, unproven, now)
    _update_others(connection, claim, grouped, now)
    _keep_what_may_have_arrived(connection, grouped, unproven)
    if claim.mailing.kind is TemplateKind.WELCOME and Outcome.FAILED in grouped:
        failed = [(each.delivery.user_id,) for each in grouped[Outcome.FAILED]]
        update_rows(
            connection,
            table_of(User),
            (),
            failed,
            same={"welcome_state": WelcomeState.FAILED, "welcome_at": now},
        )
    _count(connection, claim, results)
    return True


def _unless_proved(claim: Claim, result: Result, unproven: set[int]) -> Result:
    """The result, or SENT where the reader has meanwhile signed in with the mail's password.

    Sending that mail again would bring back a password that he may have changed since.
    """
    is_proved = claim.mailing.resets_portal and result.delivery.id not in unproven
    if not is_proved or result.outcome in {Outcome.SENT, Outcome.SKIPPED}:
        return result
    return replace(result, outcome=Outcome.SENT, code=None, answer=PROVED_BY_READER)


@dataclass(frozen=True, slots=True)
class _Ended:
    """A delivery that the server accepted."""

    id: int
    user_id: int
    pending_hash: str | None
    code: int | None
    answer: str
    application_password_set: bool = True


def _end_as_sent(
    connection: sa.Connection,
    job: MailingJob,
    token: str,
    sent: Sequence[_Ended],
    unproven: set[int],
    now: datetime,
) -> None:
    """Wipe the seals; promote portal passwords, end the sessions of the old ones, note the welcome.

    A delivery that is no longer `unproven` was promoted by its reader, who may have chosen another
    password since.
    """
    update_rows(
        connection,
        table_of(Delivery),
        ("answer_code", "answer", "application_password_set"),
        [
            (
                each.id,
                each.code,
                each.answer,
                each.application_password_set and job.resets_application,
            )
            for each in sent
        ],
        same={"state": DeliveryState.SENT, "sent_at": now, "in_doubt": False, **_WIPED},
        computed=_TRIED,
        where={"claim_token": token},
    )
    promoted = [(each.user_id, each.pending_hash) for each in sent if each.id in unproven]
    others = [(each.user_id,) for each in sent if each.id not in unproven]
    welcomed: dict[str, Any] = (
        {"welcome_state": WelcomeState.SENT, "welcome_at": now}
        if job.kind is TemplateKind.WELCOME
        else {}
    )
    users = table_of(User)
    update_rows(
        connection,
        users,
        ("password_hash",),
        promoted,
        same={
            "unconfirmed_hash": None,
            "must_change_password": get_settings().change_generated_password,
            **welcomed,
        },
    )
    if promoted:
        connection.execute(
            sa.delete(SignInSession).where(
                SignInSession.user_id.in_([user_id for user_id, _ in promoted])
            )
        )
    if welcomed:
        update_rows(connection, users, (), others, same=welcomed)


_WIPED: dict[str, Any] = {"claim_token": None, "seal": None, "pending_hash": None}
_TRIED = {"attempts": "attempts + 1"}


def _update_others(
    connection: sa.Connection, claim: Claim, grouped: dict[Outcome, list[Result]], now: datetime
) -> None:
    """The deliveries that were not accepted."""
    table = table_of(Delivery)
    held = {"claim_token": claim.token}
    delays = get_settings().delivery_retry_delays

    def said(result: Result) -> tuple[int, int | None, str, bool]:
        delivery_id, has_application = _with_application(result)
        return delivery_id, result.code, result.answer[:500], has_application

    words = ("answer_code", "answer", "application_password_set")
    update_rows(
        connection,
        table,
        words,
        [said(each) for each in grouped.get(Outcome.FAILED, [])],
        same={"state": DeliveryState.FAILED, **_WIPED},
        computed=_TRIED,
        where=held,
    )
    update_rows(
        connection,
        table,
        (*words, "skip_reason"),
        [(*said(each), each.skip_reason) for each in grouped.get(Outcome.SKIPPED, [])],
        same={"state": DeliveryState.SKIPPED, **_WIPED},
        where=held,
    )
    update_rows(
        connection,
        table,
        (*words, "next_attempt_at", "in_doubt"),
        [
            (
                *said(each),
                now + timedelta(seconds=delays[min(each.delivery.attempts, len(delays) - 1)]),
                each.in_doubt,
            )
            for each in grouped.get(Outcome.RETRY, [])
        ],
        same={"state": DeliveryState.QUEUED, "claim_token": None},
        computed=_TRIED,
        where=held,
    )
    released = grouped.get(Outcome.RELEASED, [])
    waits_again = {"state": DeliveryState.QUEUED, "claim_token": None}
    update_rows(
        connection,
        table,
        ("application_password_set",),
        [_with_application(each) for each in released if not each.wait],
        same=waits_again,
        where=held,
    )
    update_rows(
        connection,
        table,
        ("application_password_set", "next_attempt_at"),
        [
            (*_with_application(each), now + timedelta(seconds=each.wait))
            for each in released
            if each.wait
        ],
        same=waits_again,
        where=held,
    )


def _with_application(result: Result) -> tuple[int, bool]:
    delivery = result.delivery
    return delivery.id, delivery.application_password_set or result.application_password_set


def _keep_what_may_have_arrived(
    connection: sa.Connection, grouped: dict[Outcome, list[Result]], unproven: set[int]
) -> None:
    """A failed mail that may have arrived all the same keeps signing in."""
    doubtful = [
        (each.delivery.user_id, each.delivery.pending_hash)
        for outcome in (Outcome.FAILED, Outcome.SKIPPED)
        for each in grouped.get(outcome, [])
        if (each.in_doubt or each.delivery.in_doubt) and each.delivery.id in unproven
    ]
    update_rows(connection, table_of(User), ("unconfirmed_hash",), doubtful)


def _count(connection: sa.Connection, claim: Claim, results: list[Result]) -> None:
    counts = Counter(result.outcome for result in results)
    state = connection.scalar(
        sa.update(Mailing)
        .where(Mailing.id == claim.mailing.id)
        .values(
            sending=Mailing.sending - len(results),
            queued=Mailing.queued + counts[Outcome.RETRY] + counts[Outcome.RELEASED],
            sent=Mailing.sent + counts[Outcome.SENT],
            failed=Mailing.failed + counts[Outcome.FAILED],
            skipped=Mailing.skipped + counts[Outcome.SKIPPED],
        )
        .returning(Mailing.state)
    )
    if state is MailingState.CANCELLING:  # It was cancelled while these were under way.
        cancel_waiting(connection, claim.mailing.id)
    end_mailing_if_done(connection, claim.mailing.id)
