"""Sending webhook messages: signed, in order, repeated until they arrive, and never lost."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ConnectionError as NoQueue

from extensions import db, queues
from jobs import sweeps
from jobs import webhooks as jobs
from models import (
    AuditEvent,
    MessageState,
    RequestState,
    WebhookAttempt,
    WebhookEndpoint,
    WebhookEvent,
    WebhookMessage,
    utcnow,
)
from services import webhook_deliveries
from services.actors import SYSTEM
from services.request_notifications import start_mail
from services.request_transitions import move
from services.transactions import run_transaction
from services.webhook_deliveries import list_due, parse_retry_after, send_messages
from tests.support.requests import make_request, make_service_template
from tests.support.webhook_receiver import Received, Receiver, Reply
from tests.support.webhooks import (
    SECRET,
    attempts,
    fresh,
    group,
    make_due,
    make_endpoint,
    make_message,
    messages,
    seal,
    seconds_between,
    send_all,
)
from tests.support.work import work_queues

LOCAL = {"WEBHOOK_PRIVATE_TARGETS": "yes", "WEBHOOK_TIMEOUT": "0.5"}


@pytest.fixture
def settings_changes(request: pytest.FixtureRequest) -> dict[str, str]:
    return {**LOCAL, **getattr(request, "param", {})}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


@pytest.fixture
def endpoint(app_context: Flask, receiver: Receiver) -> WebhookEndpoint:
    return make_endpoint(receiver.url)


def state_of(message: WebhookMessage) -> MessageState:
    (found,) = [each for each in messages() if each.id == message.id]
    return found.state


def clear_queue() -> None:
    queues["webhooks"].empty()


# --- What is sent ------------------------------------------------------------------------------


def test_a_message_is_posted_signed_and_noted(
    endpoint: WebhookEndpoint, receiver: Receiver
) -> None:
    message = make_message(endpoint)
    assert not send_messages(endpoint.id)
    (request,) = receiver.requests
    assert request.id == f"msg_{message.id}"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"].startswith("Foyer-Webhooks/")
    assert request.is_signed_with(SECRET)
    assert request.json["type"] == "endpoint.test"
    assert request.json["data"] == {"webhook_id": endpoint.id}
    (sent,) = messages()
    assert (sent.state, sent.attempts, sent.body) == (
        MessageState.DELIVERED,
        1,
        request.body.decode(),
    )
    assert sent.ended_at is not None
    (attempt,) = attempts(message.id)
    assert (attempt.status, attempt.answer) == (200, "thanks")
    assert 0 <= attempt.milliseconds < 5000
    found = fresh(endpoint.id)
    assert (found.claim_token, found.claimed_until, found.failing_since) == (None, None, None)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_every_2xx_is_a_delivery(
    endpoint: WebhookEndpoint, receiver: Receiver, status: int
) -> None:
    receiver.reply(Reply(status, b""))
    message = make_message(endpoint)
    send_messages(endpoint.id)
    assert state_of(message) is MessageState.DELIVERED


@pytest.mark.parametrize("status", [301, 400, 401, 404, 408, 422, 500, 502, 599])
def test_everything_else_is_tried_again(
    endpoint: WebhookEndpoint, receiver: Receiver, status: int
) -> None:
    receiver.reply(Reply(status, b"no " * 1000))
    message = make_message(endpoint)
    before = utcnow()
    send_messages(endpoint.id)
    (waiting,) = messages()
    assert (waiting.state, waiting.attempts, waiting.ended_at) == (MessageState.WAITING, 1, None)
    wait = (waiting.next_attempt_at - before).total_seconds()
    assert 4 <= wait <= 16  # Five seconds, give or take a fifth, and what the attempt took.
    (attempt,) = attempts(message.id)
    assert (attempt.status, len(attempt.answer)) == (status, 500)
    assert fresh(endpoint.id).failing_since is not None
    make_due()
    send_messages(endpoint.id)
    assert state_of(message) is MessageState.DELIVERED
    assert fresh(endpoint.id).failing_since is None
    first, second = receiver.requests
    assert (first.id, first.body) == (second.id, second.body)
    assert [each.status for each in attempts(message.id)] == [status, 200]


def test_the_oldest_go_first_over_one_connection(
    endpoint: WebhookEndpoint, receiver: Receiver
) -> None:
    made = [make_message(endpoint) for _ in range(120)]
    late = utcnow() - timedelta(hours=1)
    db.session.execute(
        sa.update(WebhookMessage)
        .where(WebhookMessage.id == made[-1].id)
        .values(next_attempt_at=late)
    )
    db.session.commit()
    send_all(endpoint.id)
    wanted = [made[-1], *made[:-1]]
    assert receiver.ids == [f"msg_{each.id}" for each in wanted]
    assert receiver.connections == 1
    assert {each.state for each in messages()} == {MessageState.DELIVERED}


def test_what_is_not_due_waits(endpoint: WebhookEndpoint, receiver: Receiver) -> None:
    make_message(endpoint, next_attempt_at=utcnow() + timedelta(minutes=1))
    make_message(make_endpoint(receiver.url))
    assert not send_messages(endpoint.id)
    assert receiver.requests == []


def test_a_slice_ends_when_it_is_asked_to(endpoint: WebhookEndpoint, receiver: Receiver) -> None:
    for _ in range(3):
        make_message(endpoint)
    assert send_messages(endpoint.id, lambda: True)
    assert len(receiver.requests) == 1
    assert send_messages(endpoint.id, lambda: True)
    assert len(receiver.requests) == 2
    assert [each.state for each in messages()].count(MessageState.DELIVERED) == 2


def test_a_slice_ends_by_itself(
    endpoint: WebhookEndpoint, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_deliveries, "SLICE_SECONDS", 0.0)
    for _ in range(3):
        make_message(endpoint)
    assert send_messages(endpoint.id)
    assert len(receiver.requests) == 1


# --- Secrets -----------------------------------------------------------------------------------


def test_both_secrets_sign_during_a_rotation(app_context: Flask, receiver: Receiver) -> None:
    other = "whsec_" + "b3RoZXIgc2VjcmV0IG9mIHRoaXMgdGVzdCBoZXJlIQ=="
    endpoint = make_endpoint(
        receiver.url, previous_seal=seal(other), previous_until=utcnow() + timedelta(hours=1)
    )
    make_message(endpoint)
    send_messages(endpoint.id)
    assert receiver.requests[-1].is_signed_with(SECRET)
    assert receiver.requests[-1].is_signed_with(other)
    assert len(receiver.requests[-1].headers["webhook-signature"].split(" ")) == 2
    db.session.execute(
        sa.update(WebhookEndpoint).values(previous_until=utcnow() - timedelta(seconds=1))
    )
    make_message(endpoint)
    send_messages(endpoint.id)
    assert not receiver.requests[-1].is_signed_with(other)
    assert receiver.requests[-1].is_signed_with(SECRET)
    sweeps.sweep()
    assert fresh(endpoint.id).previous_seal is None
    assert fresh(endpoint.id).previous_until is None


def test_a_secret_that_no_key_opens_sends_nothing(app_context: Flask, receiver: Receiver) -> None:
    endpoint = make_endpoint(receiver.url)
    db.session.execute(sa.update(WebhookEndpoint).values(secret_seal=b"\x01" + b"x" * 60))
    message = make_message(endpoint)
    send_messages(endpoint.id)
    assert receiver.requests == []
    (attempt,) = attempts(message.id)
    assert "SEAL_KEYS" in attempt.answer
    assert state_of(message) is MessageState.WAITING


# --- Failures ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings_changes", [{"WEBHOOK_RETRY_DELAYS": "10,100,1000"}], indirect=True
)
def test_waits_grow_and_end(endpoint: WebhookEndpoint, receiver: Receiver) -> None:
    receiver.then = Reply(500)
    message = make_message(endpoint)
    for wanted in (10, 100, 1000):
        before = utcnow()
        send_messages(endpoint.id)
        (waiting,) = messages()
        assert waiting.state is MessageState.WAITING
        wait = (waiting.next_attempt_at - before).total_seconds()
        assert wanted * 0.8 <= wait <= wanted * 1.2 + 5
        make_due()
    send_messages(endpoint.id)
    (failed,) = messages()
    assert (failed.state, failed.attempts) == (MessageState.FAILED, 4)
    assert failed.ended_at is not None
    make_due()
    send_messages(endpoint.id)
    assert len(attempts(message.id)) == 4


def test_waits_are_not_all_the_same(endpoint: WebhookEndpoint, receiver: Receiver) -> None:
    receiver.then = Reply(500)
    for _ in range(5):
        make_message(endpoint)
    send_messages(endpoint.id)
    waits = {(each.next_attempt_at - each.occurred_at).total_seconds() for each in messages()}
    assert max(waits) - min(waits) > 0.01


@pytest.mark.parametrize("reply", [Reply(hang=5), Reply(raw=b"")], ids=["hangs", "hangs up"])
def test_no_answer_is_noted_and_the_endpoint_rests(
    endpoint: WebhookEndpoint, receiver: Receiver, reply: Reply
) -> None:
    receiver.then = reply
    made = [make_message(endpoint) for _ in range(3)]
    assert not send_messages(endpoint.id)
    assert len(receiver.requests) == 1
    (attempt,) = attempts(made[0].id)
    assert attempt.status is None
    assert attempt.answer
    found = fresh(endpoint.id)
    assert found.claim_token is None
    assert found.claimed_until is not None
    assert list_due() == []
    assert not send_messages(endpoint.id)
    assert len(receiver.requests) == 1
    receiver.then = Reply()
    make_due()
    send_all(endpoint.id)
    assert {each.state for each in messages()} == {MessageState.DELIVERED}


def test_the_longer_it_fails_the_longer_it_rests(
    endpoint: WebhookEndpoint, receiver: Receiver
) -> None:
    receiver.then = Reply(raw=b"")
    make_message(endpoint)
    rests = []
    for failing in (timedelta(0), timedelta(minutes=5), timedelta(days=2)):
        make_due()
        since = utcnow() - failing if failing else None
        db.session.execute(sa.update(WebhookEndpoint).values(failing_since=since))
        db.session.commit()
        before = utcnow()
        send_messages(endpoint.id)
        rests.append(seconds_between(before, fresh(endpoint.id).claimed_until))
    first, second, third = rests
    assert 1 <= first < 20
    assert 30 <= second < 60
    assert 300 <= third < 330


def test_one_message_that_is_refused_holds_up_no_other(
    endpoint: WebhookEndpoint, receiver: Receiver
) -> None:
    made = [make_message(endpoint) for _ in range(5)]
    receiver.then = lambda request: Reply(400 if request.id == f"msg_{made[1].id}" else 200)
    send_all(endpoint.id)
    states = [state_of(each) for each in made]
    assert states.count(MessageState.DELIVERED) == 4
    assert states[1] is MessageState.WAITING
    assert fresh(endpoint.id).failing_since is None  # It takes others.


@pytest.mark.parametrize("status", [429, 503])
def test_who_asks_for_a_rest_gets_it(
    endpoint: WebhookEndpoint, receiver: Receiver, status: int
) -> None:
    receiver.reply(Reply(status, headers={"Retry-After": "120"}))
    made = [make_message(endpoint) for _ in range(2)]
    before = utcnow()
    assert not send_messages(endpoint.id)
    assert len(receiver.requests) == 1
    refused = messages()[0]
    assert refused.id == made[0].id
    assert 120 <= (refused.next_attempt_at - before).total_seconds() < 150
    assert 120 <= seconds_between(before, fresh(endpoint.id).claimed_until) < 150


def test_retry_after_has_limits(endpoint: WebhookEndpoint, receiver: Receiver) -> None:
    receiver.reply(Reply(503, headers={"Retry-After": "9" * 50}))
    make_message(endpoint)
    before = utcnow()
    send_messages(endpoint.id)
    (refused,) = messages()
    assert 86_400 <= (refused.next_attempt_at - before).total_seconds() < 86_430
    assert 3600 <= seconds_between(before, fresh(endpoint.id).claimed_until) < 3630


NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("", 0),
        ("0", 0),
        (" 30 ", 30),
        ("99999999999999999999", 86_400),
        ("Sat, 21 Nov 2026 12:01:00 GMT", 60),
        ("Sat, 21 Nov 2026 11:59:00 GMT", 0),
        ("Sat, 21 Nov 2026 12:01:00", 60),
        ("Sat, 21 Nov 2026 13:01:00 +0100", 60),
        ("Sun, 21 Nov 2100 12:00:00 GMT", 86_400),
        ("-5", 0),
        ("1.5", 0),
        ("soon", 0),
        ("٣٠", 0),
    ],
)
def test_retry_after_is_read(header: str, seconds: float) -> None:
    assert parse_retry_after(header, NOON) == seconds


@given(st.text())
def test_any_retry_after_is_read(header: str) -> None:
    assert 0 <= parse_retry_after(header, NOON) <= 86_400


def test_410_disables_the_endpoint(endpoint: WebhookEndpoint, receiver: Receiver) -> None:
    receiver.reply(Reply(410))
    for _ in range(2):
        make_message(endpoint)
    version = endpoint.version
    assert not send_messages(endpoint.id)
    found = fresh(endpoint.id)
    assert found.disabled_at is not None
    assert "410" in found.disabled_reason
    assert found.version == version + 1
    event = db.session.scalars(sa.select(AuditEvent).order_by(AuditEvent.id.desc())).first()
    assert event is not None
    assert (event.action, event.actor_login) == ("webhook.disabled", "system")
    make_due()
    assert list_due() == []
    assert not send_messages(endpoint.id)
    assert len(receiver.requests) == 1
    assert {each.state for each in messages()} == {MessageState.WAITING}


@pytest.mark.parametrize(("days", "is_disabled"), [(4.9, False), (5.1, True)])
def test_who_fails_for_five_days_is_disabled(
    endpoint: WebhookEndpoint, receiver: Receiver, days: float, is_disabled: bool
) -> None:
    receiver.then = Reply(500)
    make_message(endpoint)
    db.session.execute(
        sa.update(WebhookEndpoint).values(failing_since=utcnow() - timedelta(days=days))
    )
    db.session.commit()
    send_messages(endpoint.id)
    found = fresh(endpoint.id)
    assert (found.disabled_at is not None) is is_disabled
    assert ("5 days" in found.disabled_reason) is is_disabled


def test_one_success_in_five_days_is_enough(endpoint: WebhookEndpoint, receiver: Receiver) -> None:
    receiver.reply(Reply(200), Reply(500))
    for _ in range(2):
        make_message(endpoint)
    db.session.execute(
        sa.update(WebhookEndpoint).values(failing_since=utcnow() - timedelta(days=9))
    )
    db.session.commit()
    send_all(endpoint.id)
    found = fresh(endpoint.id)
    assert found.disabled_at is None
    assert seconds_between(utcnow(), found.failing_since) > -60


@pytest.mark.parametrize("settings_changes", [{"WEBHOOK_PRIVATE_TARGETS": "no"}], indirect=True)
def test_a_private_target_is_refused_at_the_attempt(
    endpoint: WebhookEndpoint, receiver: Receiver
) -> None:
    message = make_message(endpoint)
    send_messages(endpoint.id)
    assert receiver.connections == 0
    (attempt,) = attempts(message.id)
    assert (attempt.status, attempt.answer) == (
        None,
        "127.0.0.1 is no public address, so it is not called.",
    )


def test_a_fault_of_ours_harms_one_attempt(
    endpoint: WebhookEndpoint, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = make_message(endpoint)

    def broken(*_: object) -> None:
        raise RuntimeError(f"with a secret: {SECRET}")

    monkeypatch.setattr(webhook_deliveries, "sign", broken)
    send_messages(endpoint.id)
    (attempt,) = attempts(message.id)
    assert SECRET not in attempt.answer
    assert attempt.status is None


# --- Leases ------------------------------------------------------------------------------------


def test_one_worker_at_a_time(app_context: Flask, receiver: Receiver) -> None:
    endpoint = make_endpoint(receiver.url)
    made = [make_message(endpoint) for _ in range(30)]
    threads = [
        threading.Thread(target=send_in_context, args=(app_context, endpoint.id)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    send_all(endpoint.id)
    assert receiver.ids == [f"msg_{each.id}" for each in made]


def send_in_context(app: Flask, endpoint_id: int) -> None:
    with app.app_context():
        send_messages(endpoint_id)
        db.session.remove()


def test_who_lost_the_lease_records_nothing(endpoint: WebhookEndpoint, receiver: Receiver) -> None:
    """Another has it: what this one sent is sent again, as the same message."""
    message = make_message(endpoint)

    engine = db.engine

    def steal(_: Received) -> Reply:
        with engine.begin() as connection:
            connection.execute(sa.update(WebhookEndpoint).values(claim_token="somebody-else"))
        receiver.then = Reply()
        return Reply()

    receiver.then = steal
    assert not send_messages(endpoint.id)
    assert attempts(message.id) == []
    assert state_of(message) is MessageState.WAITING
    assert fresh(endpoint.id).claim_token == "somebody-else"
    make_due()
    send_all(endpoint.id)
    first, second = receiver.requests
    assert (first.id, first.body) == (second.id, second.body)


def test_a_lease_keeps_others_away_until_it_expires(
    endpoint: WebhookEndpoint, receiver: Receiver
) -> None:
    make_message(endpoint)
    later = utcnow() + timedelta(seconds=5)
    db.session.execute(sa.update(WebhookEndpoint).values(claim_token="x", claimed_until=later))
    db.session.commit()
    assert list_due() == []
    assert not send_messages(endpoint.id)
    db.session.execute(
        sa.update(WebhookEndpoint).values(claimed_until=utcnow() - timedelta(seconds=1))
    )
    db.session.commit()
    assert list_due() == [endpoint.id]
    send_messages(endpoint.id)
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("change", ["disabled_at", "deleted_at"])
def test_who_is_disabled_meanwhile_gets_no_more(
    endpoint: WebhookEndpoint, receiver: Receiver, change: str
) -> None:
    for _ in range(webhook_deliveries._BATCH + 5):
        make_message(endpoint)

    engine = db.engine

    def disable(_: Received) -> Reply:
        receiver.then = Reply()
        with engine.begin() as connection:
            connection.execute(sa.update(WebhookEndpoint).values({change: utcnow()}))
        return Reply()

    receiver.then = disable
    assert not send_messages(endpoint.id)
    assert len(receiver.requests) == webhook_deliveries._BATCH


def test_a_new_address_counts_at_once(endpoint: WebhookEndpoint, receiver: Receiver) -> None:
    for _ in range(webhook_deliveries._BATCH + 5):
        make_message(endpoint)

    engine = db.engine

    def change(_: Received) -> Reply:
        receiver.then = Reply()
        with engine.begin() as connection:
            connection.execute(sa.update(WebhookEndpoint).values(url=f"{receiver.url}/new"))
        return Reply()

    receiver.then = change
    send_all(endpoint.id)
    paths = [path for path, _ in itertools.groupby(each.path for each in receiver.requests)]
    assert paths == ["/hooks", "/hooks/new"]


# --- Jobs and the sweep ------------------------------------------------------------------------


def test_an_emptied_queue_loses_nothing(endpoint: WebhookEndpoint, receiver: Receiver) -> None:
    make_message(endpoint)
    webhook_deliveries.start(endpoint.id)
    clear_queue()
    sweeps.sweep()
    (job,) = queues["webhooks"].jobs
    assert (job.func_name, job.args) == ("jobs.webhooks.send_messages", [endpoint.id])
    jobs.send_messages(endpoint.id)
    assert len(receiver.requests) == 1
    clear_queue()
    sweeps.sweep()
    assert queues["webhooks"].count == 0


def test_a_queue_that_is_down_is_no_fault(
    endpoint: WebhookEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise NoQueue

    make_message(endpoint)
    monkeypatch.setattr(type(queues), "enqueue", broken)
    webhook_deliveries.start_waiting()


def test_a_job_comes_back_for_the_rest_unless_bulk_mail_waits(
    endpoint: WebhookEndpoint, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_deliveries, "SLICE_SECONDS", 0.0)
    for _ in range(3):
        make_message(endpoint)
    jobs.send_messages(endpoint.id)
    assert queues["webhooks"].count == 1
    clear_queue()
    queues.enqueue("bulk", "jobs.deliveries.deliver_mailing", 1)
    jobs.send_messages(endpoint.id)
    assert queues["webhooks"].count == 0
    assert len(receiver.requests) == 2
    sweeps.sweep()
    assert queues["webhooks"].count == 1


def test_what_somebody_waits_for_goes_first(endpoint: WebhookEndpoint, receiver: Receiver) -> None:
    for _ in range(3):
        make_message(endpoint)
    queues.enqueue("interactive", "jobs.deliveries.deliver_mailing", 1)
    jobs.send_messages(endpoint.id)
    assert len(receiver.requests) == 1


def test_old_messages_are_deleted_with_their_attempts(endpoint: WebhookEndpoint) -> None:
    def make(days: float | None) -> int:
        if days is None:
            return make_message(endpoint, occurred_at=utcnow() - timedelta(days=90)).id
        ended = utcnow() - timedelta(days=days)
        message = make_message(endpoint, state=MessageState.DELIVERED, ended_at=ended)
        db.session.add(WebhookAttempt(message_id=message.id, milliseconds=1))
        db.session.commit()
        return message.id

    old, young, waiting = make(30.1), make(29.9), make(None)
    sweeps.sweep()
    assert [each.id for each in messages()] == [young, waiting]
    assert attempts(old) == []
    assert len(attempts(young)) == 1


def test_what_nobody_will_take_ends(endpoint: WebhookEndpoint, receiver: Receiver) -> None:
    gone = make_endpoint(deleted_at=utcnow())
    long_since = make_endpoint(disabled_at=utcnow() - timedelta(days=31))
    lately = make_endpoint(disabled_at=utcnow() - timedelta(days=29))
    made = [make_message(each) for each in (gone, long_since, lately, endpoint)]
    sweeps.sweep()
    assert [state_of(each) for each in made] == [
        MessageState.FAILED,
        MessageState.FAILED,
        MessageState.WAITING,
        MessageState.WAITING,
    ]


def test_events_are_sent_without_the_sweep(
    app_context: Flask, receiver: Receiver, engine_name: str
) -> None:
    """From the transition of a request to the receiver, by jobs alone."""
    request = make_request(
        RequestState.AWAITING_APPROVAL, make_service_template(group_id=group().id)
    )
    make_endpoint(receiver.url, events=[WebhookEvent.REQUEST_STATE_CHANGED])
    states = (RequestState.AWAITING_APPROVAL, RequestState.REJECTED)
    start_mail([run_transaction(lambda each: move(each, request.id, *states, actor=SYSTEM))])
    db.session.remove()
    work_queues(app_context)
    assert receiver.requests[0].json["data"]["to_state"] == "rejected"
