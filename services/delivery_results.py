"""Results: what became of a claimed chunk, recorded in one transaction.

An accepted delivery promotes its portal password and wipes its seal. Nothing is recorded for a
claim that has expired meanwhile: its deliveries are back in line and will be sent again, unchanged.
"""

from __future__ import annotations

from collections import Counter
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
from services.delivery_claims import (
    PROVED_BY_READER,
    Claim,
    ClaimedDelivery,
    cancel_waiting,
    end_mailing_if_done,
)
from services.transactions import run_transaction


class Outcome(StrEnum):
    """RELEASED deliveries were not tried: they go back to the line as they were."""

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
            .where(Delivery.claim_token == claim.token, Delivery.pending_hash.is_not(None))
            .with_for_update()
        )
    )
    results = [_unless_proved(claim, each, unproven) for each in results]
    _update_deliveries(connection, claim, results, now)
    _update_users(connection, claim, results, unproven, now)
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


def _update_deliveries(
    connection: sa.Connection, claim: Claim, results: list[Result], now: datetime
) -> None:
    grouped: dict[Outcome, list[dict[str, Any]]] = {}
    delays = get_settings().delivery_retry_delays
    for result in results:
        delivery = result.delivery
        values: dict[str, Any] = {
            "b_id": delivery.id,
            "b_application": delivery.application_password_set or result.application_password_set,
        }
        if result.outcome is not Outcome.RELEASED:
            values |= {"b_code": result.code, "b_answer": result.answer[:500]}
        if result.outcome is Outcome.RETRY:
            delay = delays[min(delivery.attempts, len(delays) - 1)]
            values |= {"b_next": now + timedelta(seconds=delay), "b_doubt": result.in_doubt}
        elif result.outcome is Outcome.SKIPPED:
            values["b_reason"] = result.skip_reason
        grouped.setdefault(result.outcome, []).append(values)

    table = table_of(Delivery)
    ended: dict[str, Any] = {"claim_token": None, "seal": None, "pending_hash": None}
    tried: dict[str, Any] = {
        "attempts": table.c.attempts + 1,
        "answer_code": sa.bindparam("b_code"),
        "answer": sa.bindparam("b_answer"),
        "application_password_set": sa.bindparam("b_application"),
    }
    changes: dict[Outcome, dict[str, Any]] = {
        Outcome.SENT: {
            **tried,
            **ended,
            "state": DeliveryState.SENT,
            "sent_at": now,
            "in_doubt": False,
        },
        Outcome.FAILED: {**tried, **ended, "state": DeliveryState.FAILED},
        Outcome.RETRY: {
            **tried,
            "state": DeliveryState.QUEUED,
            "claim_token": None,
            "next_attempt_at": sa.bindparam("b_next"),
            "in_doubt": sa.bindparam("b_doubt"),
        },
        Outcome.SKIPPED: {
            **ended,
            "state": DeliveryState.SKIPPED,
            "skip_reason": sa.bindparam("b_reason", type_=table.c.skip_reason.type),
            "answer": sa.bindparam("b_answer"),
            "answer_code": sa.bindparam("b_code"),
            "application_password_set": sa.bindparam("b_application"),
        },
        Outcome.RELEASED: {
            "state": DeliveryState.QUEUED,
            "claim_token": None,
            "application_password_set": sa.bindparam("b_application"),
        },
    }
    for outcome, rows in grouped.items():
        connection.execute(
            sa.update(table)
            .where(table.c.id == sa.bindparam("b_id"), table.c.claim_token == claim.token)
            .values(changes[outcome]),
            rows,
        )


def _update_users(
    connection: sa.Connection,
    claim: Claim,
    results: list[Result],
    unproven: set[int],
    now: datetime,
) -> None:
    """Promote portal passwords, end the sessions of the old ones, note the last welcome mail.

    A delivery that is no longer `unproven` was promoted by its reader, who may have chosen another
    password since.
    """
    table = table_of(User)
    promoted = [
        result.delivery
        for result in results
        if result.outcome is Outcome.SENT and result.delivery.id in unproven
    ]
    if promoted:
        connection.execute(
            sa.update(table)
            .where(table.c.id == sa.bindparam("b_id"))
            .values(
                password_hash=sa.bindparam("b_hash"),
                unconfirmed_hash=None,
                must_change_password=get_settings().change_generated_password,
            ),
            [{"b_id": each.user_id, "b_hash": each.pending_hash} for each in promoted],
        )
        connection.execute(
            sa.delete(SignInSession).where(
                SignInSession.user_id.in_([each.user_id for each in promoted])
            )
        )
    may_have_arrived = [
        {"b_id": result.delivery.user_id, "b_hash": result.delivery.pending_hash}
        for result in results
        if result.outcome in {Outcome.FAILED, Outcome.SKIPPED}
        and (result.in_doubt or result.delivery.in_doubt)
        and result.delivery.id in unproven
    ]
    if may_have_arrived:
        connection.execute(
            sa.update(table)
            .where(table.c.id == sa.bindparam("b_id"))
            .values(unconfirmed_hash=sa.bindparam("b_hash")),
            may_have_arrived,
        )
    if claim.mailing.kind is TemplateKind.WELCOME:
        for outcome, state in (
            (Outcome.SENT, WelcomeState.SENT),
            (Outcome.FAILED, WelcomeState.FAILED),
        ):
            ids = [each.delivery.user_id for each in results if each.outcome is outcome]
            if ids:
                connection.execute(
                    sa.update(table)
                    .where(table.c.id.in_(ids))
                    .values(welcome_state=state, welcome_at=now)
                )


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
