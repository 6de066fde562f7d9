"""Claims: disjoint, fenced, and never in the way of what a reader has proved."""

from __future__ import annotations

import threading
import time
from collections import Counter
from datetime import timedelta

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import (
    Delivery,
    DeliveryClaim,
    DeliveryState,
    MailingState,
    SignInSession,
    Throttle,
    User,
    WelcomeState,
    utcnow,
)
from services import claim_recovery, delivery_claims, passwords, seals, sign_ins
from services.delivery_claims import Claim
from services.delivery_results import Outcome, Result, record_results
from services.errors import InvalidInput
from tests.support.claims import (
    claim,
    counters,
    end_with,
    expire,
    fresh_mailing,
    must_claim,
    rows_of,
)
from tests.support.factories import actor_for, find_customer, make_user
from tests.support.promises import start_welcome

ADMIN = "prpkeAdmin@kenton-electronics.com"
OLD = "old-password-that-works"
CHOSEN = "chosen-since-by-the-reader"


@pytest.fixture
def users(app_context: Flask) -> list[User]:
    customer = find_customer("CQ001")
    return [make_user(customer, password=OLD) for _ in range(5)]


def start(users: list[User]) -> int:
    return start_welcome(actor_for(ADMIN), "CQ001", users, enqueue=False)


def signs_in(user: User, password: str) -> bool:
    db.session.execute(sa.delete(Throttle))
    db.session.commit()
    db.session.expire_all()
    try:
        sign_ins.sign_in(user.login, password)
    except InvalidInput:
        return False
    return True


def fresh(user: User) -> User:
    db.session.rollback()
    return db.session.get_one(User, user.id, populate_existing=True)


# --- Taking ------------------------------------------------------------------------------------


def test_workers_at_once_take_disjoint_rows_and_together_all(app_context: Flask) -> None:
    customer = find_customer("CQ001")
    people = [make_user(customer) for _ in range(25)]
    mailing_id = start(people)
    gate = threading.Barrier(5)
    found: list[Claim] = []
    failures: list[BaseException] = []

    def work() -> None:
        with app_context.app_context():
            gate.wait()
            try:
                while (held := claim(mailing_id, 3)) is not None:
                    found.append(held)
            except BaseException as error:  # noqa: BLE001
                failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    taken = Counter(each.id for held in found for each in held.deliveries)
    assert set(taken.values()) == {1}
    # A worker that finds the rest locked may leave; what it left is still there to take.
    while (held := claim(mailing_id)) is not None:
        taken.update(each.id for each in held.deliveries)
    assert sum(taken.values()) == len(taken) == 25
    assert counters(mailing_id) == {"sending": 25}
    tokens = {row.claim_token for row in rows_of(mailing_id)}
    assert tokens == set(db.session.scalars(sa.select(DeliveryClaim.token)))


def test_a_claim_takes_no_more_than_its_limit_in_the_order_due(users: list[User]) -> None:
    mailing_id = start(users)
    late = rows_of(mailing_id)[0]
    late.next_attempt_at = utcnow()
    db.session.commit()
    held = must_claim(mailing_id, 3)
    assert [each.user_id for each in held.deliveries] == [user.id for user in users[1:4]]
    assert counters(mailing_id) == {"queued": 2, "sending": 3}


def test_what_is_due_later_waits(users: list[User]) -> None:
    mailing_id = start(users)
    db.session.execute(sa.update(Delivery).values(next_attempt_at=utcnow() + timedelta(minutes=1)))
    db.session.commit()
    assert claim(mailing_id) is None
    assert db.session.scalars(sa.select(DeliveryClaim)).all() == [], "an empty claim was left"


def test_everything_a_repeat_needs_is_committed_before_anything_is_sent(
    users: list[User],
) -> None:
    mailing_id = start(users)
    held = must_claim(mailing_id)
    for row, each in zip(rows_of(mailing_id), held.deliveries, strict=True):
        assert row.state is DeliveryState.SENDING
        assert (row.message_id, row.dated_at) == (each.message_id, each.dated_at)
        assert row.seal is not None
        assert seals.unseal(seals.sealer(), row.seal) == each.credentials
        assert passwords.verify(row.pending_hash, each.credentials.portal)
        assert each.credentials.portal != each.credentials.application
    assert len({each.message_id for each in held.deliveries}) == len(users)
    assert len({each.credentials.portal for each in held.deliveries}) == len(users)


def test_the_clear_credentials_do_not_show_themselves(users: list[User]) -> None:
    held = must_claim(start(users))
    shown = repr(held) + str(held.deliveries[0])
    assert held.deliveries[0].credentials.portal not in shown
    assert held.deliveries[0].credentials.application not in shown


def test_the_old_password_works_until_the_results_are_in(users: list[User]) -> None:
    held = must_claim(start(users))
    assert signs_in(users[0], OLD)
    assert end_with(held, Outcome.SENT, code=250)
    assert not signs_in(users[0], OLD)
    assert signs_in(users[0], held.deliveries[0].credentials.portal)


# --- Expiring ----------------------------------------------------------------------------------


def test_an_expired_claim_returns_in_doubt_with_the_same_message(users: list[User]) -> None:
    mailing_id = start(users)
    first = must_claim(mailing_id)
    assert expire(first) == len(users)
    assert counters(mailing_id) == {"queued": len(users)}
    assert all(row.in_doubt and row.claim_token is None for row in rows_of(mailing_id))
    second = must_claim(mailing_id)
    for before, after in zip(first.deliveries, second.deliveries, strict=True):
        assert after.credentials == before.credentials
        assert after.message_id == before.message_id
        assert abs(after.dated_at - before.dated_at) < timedelta(milliseconds=1)
        assert after.in_doubt


def test_a_claim_that_lives_is_left_alone(users: list[User]) -> None:
    held = must_claim(start(users))
    assert claim_recovery.expire_claims() == 0
    assert end_with(held, Outcome.SENT, code=250)


def test_a_renewed_claim_lives_on_and_a_lost_one_cannot_be_renewed(users: list[User]) -> None:
    held = must_claim(start(users))
    db.session.execute(sa.update(DeliveryClaim).values(expires_at=utcnow() - timedelta(seconds=1)))
    db.session.commit()
    renewed = delivery_claims.renew_claims([held.token, "unknown"])
    assert set(renewed) == {held.token}
    assert renewed[held.token] > time.monotonic()
    assert claim_recovery.expire_claims() == 0
    expire(held)
    assert delivery_claims.renew_claims([held.token]) == {}


def test_two_sweeps_at_once_return_a_claim_once(app_context: Flask, users: list[User]) -> None:
    mailing_id = start(users)
    must_claim(mailing_id)
    db.session.execute(sa.update(DeliveryClaim).values(expires_at=utcnow() - timedelta(seconds=1)))
    db.session.commit()
    gate = threading.Barrier(3)
    found: list[int] = []

    def sweep() -> None:
        with app_context.app_context():
            gate.wait()
            found.append(claim_recovery.expire_claims())

    threads = [threading.Thread(target=sweep) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [0, 0, len(users)]
    assert counters(mailing_id) == {"queued": len(users)}


# --- A worker that comes back from the dead ----------------------------------------------------


@pytest.mark.parametrize("outcome", Outcome)
def test_results_of_a_worker_whose_claim_expired_are_not_recorded(
    users: list[User], outcome: Outcome
) -> None:
    mailing_id = start(users)
    zombie = must_claim(mailing_id)
    expire(zombie)
    before = [(row.state, row.seal, row.attempts) for row in rows_of(mailing_id)]
    assert not end_with(zombie, outcome, code=250, skip_reason=None)
    assert [(row.state, row.seal, row.attempts) for row in rows_of(mailing_id)] == before
    assert counters(mailing_id) == {"queued": len(users)}
    assert fresh(users[0]).welcome.state is WelcomeState.NEVER
    assert signs_in(users[0], OLD)


def test_a_zombie_does_not_disturb_the_worker_that_took_over(users: list[User]) -> None:
    mailing_id = start(users)
    zombie = must_claim(mailing_id)
    expire(zombie)
    heir = must_claim(mailing_id)
    assert not end_with(zombie, Outcome.FAILED, code=550)
    assert end_with(heir, Outcome.SENT, code=250)
    assert counters(mailing_id) == {"sent": len(users)}
    assert fresh_mailing(mailing_id).state is MailingState.FINISHED
    assert not end_with(heir, Outcome.SENT, code=250), "recorded twice"
    assert counters(mailing_id) == {"sent": len(users)}


# --- A reader who is quicker than we are -------------------------------------------------------


@pytest.mark.parametrize("outcome", [Outcome.SENT, Outcome.FAILED, Outcome.RETRY, Outcome.RELEASED])
def test_a_password_chosen_since_is_not_overwritten_by_a_late_result(
    users: list[User], outcome: Outcome
) -> None:
    """He signs in with the mail in his hands, chooses a password, and then the result comes in."""
    user = users[0]
    mailing_id = start([user])
    held = must_claim(mailing_id)
    mailed = held.deliveries[0].credentials.portal
    assert signs_in(user, mailed)
    assert fresh(user).must_change_password
    sign_ins.change_password(fresh(user), current=mailed, new=CHOSEN, token="t")
    sessions = db.session.scalars(sa.select(SignInSession.id)).all()
    assert end_with(held, outcome, code=451, in_doubt=outcome is Outcome.RETRY)
    assert signs_in(user, CHOSEN)
    assert not signs_in(user, mailed)
    assert not fresh(user).must_change_password
    assert set(sessions) <= set(db.session.scalars(sa.select(SignInSession.id)))
    assert all(row.pending_hash is None for row in rows_of(mailing_id))


@pytest.mark.parametrize("outcome", [Outcome.RETRY, Outcome.RELEASED, Outcome.FAILED])
def test_a_mail_whose_reader_has_signed_in_is_not_sent_again(
    users: list[User], outcome: Outcome
) -> None:
    """A repeat would carry a password that he may have changed: the newest mail would not work."""
    user = users[0]
    mailing_id = start([user])
    held = must_claim(mailing_id)
    assert signs_in(user, held.deliveries[0].credentials.portal)
    assert end_with(held, outcome, code=451, in_doubt=True)
    (row,) = rows_of(mailing_id)
    assert row.state is DeliveryState.SENT
    assert row.seal is None
    assert counters(mailing_id) == {"sent": 1}
    assert fresh_mailing(mailing_id).state is MailingState.FINISHED
    assert claim(mailing_id) is None


def test_signing_in_with_a_mail_in_flight_promotes_and_ends_other_sessions(
    users: list[User],
) -> None:
    user = users[0]
    _, token = sign_ins.sign_in(user.login, OLD)
    held = must_claim(start([user]))
    assert signs_in(user, held.deliveries[0].credentials.portal)
    assert sign_ins.find_session(token) is None
    assert not signs_in(user, OLD)
    assert signs_in(user, held.deliveries[0].credentials.portal)


def test_signing_in_with_a_mail_in_doubt_ends_its_delivery(users: list[User]) -> None:
    user, others = users[0], users[1:]
    mailing_id = start(users)
    held = must_claim(mailing_id)
    expire(held)
    mailed = {each.user_id: each.credentials.portal for each in held.deliveries}
    assert signs_in(user, mailed[user.id])
    row = next(row for row in rows_of(mailing_id) if row.user_id == user.id)
    assert row.state is DeliveryState.SENT
    assert row.seal is None
    assert "signed in" in row.answer
    assert counters(mailing_id) == {"queued": len(others), "sent": 1}
    again = must_claim(mailing_id)
    assert user.id not in {each.user_id for each in again.deliveries}


def test_a_dead_workers_mail_whose_reader_has_signed_in_ends_as_sent(users: list[User]) -> None:
    user = users[0]
    mailing_id = start([user])
    held = must_claim(mailing_id)
    assert signs_in(user, held.deliveries[0].credentials.portal)
    assert expire(held) == 0
    (row,) = rows_of(mailing_id)
    assert row.state is DeliveryState.SENT
    assert fresh_mailing(mailing_id).state is MailingState.FINISHED
    assert not end_with(held, Outcome.SENT, code=250)


def test_a_wrong_password_does_not_promote(users: list[User]) -> None:
    held = must_claim(start(users[:1]))
    assert not signs_in(users[0], held.deliveries[0].credentials.application)
    assert not signs_in(users[0], "guess")
    assert signs_in(users[0], OLD)


def test_a_mail_that_may_have_arrived_works_though_its_delivery_failed(users: list[User]) -> None:
    """Refused at the second try, when the first may have been accepted."""
    user = users[0]
    mailing_id = start([user])
    held = must_claim(mailing_id)
    mailed = held.deliveries[0].credentials.portal
    expire(held)
    again = must_claim(mailing_id)
    assert end_with(again, Outcome.FAILED, code=550)
    (row,) = rows_of(mailing_id)
    assert (row.seal, row.pending_hash) == (None, None)
    assert signs_in(user, OLD)
    assert signs_in(user, mailed)
    assert not signs_in(user, OLD)
    assert fresh(user).unconfirmed_hash is None


def test_a_mail_that_was_surely_refused_changes_nothing(users: list[User]) -> None:
    user = users[0]
    held = must_claim(start([user]))
    assert end_with(held, Outcome.FAILED, code=550)
    assert not signs_in(user, held.deliveries[0].credentials.portal)
    assert fresh(user).unconfirmed_hash is None
    assert signs_in(user, OLD)


# --- Results -----------------------------------------------------------------------------------


def test_a_mixed_chunk_is_counted_and_wiped_row_by_row(users: list[User]) -> None:
    mailing_id = start(users)
    held = must_claim(mailing_id)
    outcomes = [Outcome.SENT, Outcome.FAILED, Outcome.RETRY, Outcome.RELEASED, Outcome.SENT]
    results = [
        Result(each, outcome, 250, "x" * 900, in_doubt=outcome is Outcome.RETRY)
        for each, outcome in zip(held.deliveries, outcomes, strict=True)
    ]
    before = utcnow()
    assert record_results(held, results)
    assert counters(mailing_id) == {"sent": 2, "failed": 1, "queued": 2}
    sent, failed, retried, released, _ = rows_of(mailing_id)
    assert (sent.state, sent.seal, sent.attempts) == (DeliveryState.SENT, None, 1)
    assert sent.sent_at is not None
    assert (failed.state, failed.seal, len(failed.answer)) == (DeliveryState.FAILED, None, 500)
    assert retried.seal is not None
    assert retried.in_doubt
    assert retried.next_attempt_at > before
    assert retried.attempts == 1
    assert released.seal is not None
    assert not released.in_doubt
    assert released.attempts == 0
    states = [fresh(user).welcome.state for user in users]
    assert states[:2] == [WelcomeState.SENT, WelcomeState.FAILED]
    assert states[2:4] == [WelcomeState.NEVER, WelcomeState.NEVER]
    assert db.session.scalars(sa.select(DeliveryClaim)).all() == []


@pytest.fixture
def settings_changes() -> dict[str, str]:
    return {"DELIVERY_RETRY_DELAYS": "60,300,900"}


def test_retries_wait_longer_each_time(users: list[User]) -> None:
    from services.delivery_results import after_trouble

    mailing_id = start(users[:1])
    for delay in (60, 300, 900):
        held = must_claim(mailing_id)
        result = after_trouble(held.deliveries[0], 451, "Later")
        assert result.outcome is Outcome.RETRY
        before = utcnow()
        record_results(held, [result])
        (row,) = rows_of(mailing_id)
        wait = row.next_attempt_at - before
        assert timedelta(seconds=delay) <= wait < timedelta(seconds=delay + 5)
        assert claim(mailing_id) is None
        row.next_attempt_at = utcnow()
        db.session.commit()
    held = must_claim(mailing_id)
    result = after_trouble(held.deliveries[0], 451, "Later")
    assert result.outcome is Outcome.FAILED
    assert result.answer == "Gave up after 4 tries. Later"
