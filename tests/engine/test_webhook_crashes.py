"""Workers killed with `kill -9` while they send webhook messages: none is lost, none is changed."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from flask import Flask

from config import Settings
from extensions import db
from models import (
    Delivery,
    DeliveryState,
    MessageState,
    User,
    UserStatus,
    WebhookEndpoint,
    WebhookEvent,
    utcnow,
)
from services import demo_data
from services.webhook_deliveries import start_waiting
from tests.support.crashing_sender import POINTS, send_and_die
from tests.support.factories import actor_for, find_customer
from tests.support.promises import start_welcome
from tests.support.smtp_sink import SmtpSink
from tests.support.webhook_receiver import Received, Receiver, Reply
from tests.support.webhooks import (
    SECRET,
    attempts,
    fresh,
    make_due,
    make_endpoint,
    make_message,
    messages,
    seconds_between,
    send_all,
)
from tests.support.work import Process, work_queues

_QUICK = {
    "WEBHOOK_PRIVATE_TARGETS": "yes",
    "WEBHOOK_TIMEOUT": "1",
    "WEBHOOK_RETRY_DELAYS": "0.2,0.2,0.2,0.2,0.2,0.2,0.2,0.2,0.2",
    "SELECTION_LIMIT": "500",
    "LEASE_SECONDS": "2",
    "SWEEP_SECONDS": "0.5",
    "DELIVERY_CHUNK": "40",
}


@pytest.fixture
def settings_changes() -> dict[str, str]:
    return _QUICK


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


def check_all_told(receiver: Receiver, names: list[str]) -> None:
    """Each message came at least once, signed, and each time it came it was the same."""
    received = list(receiver.requests)
    assert set(names) == {each.id for each in received}
    assert all(each.is_signed_with(SECRET) for each in received)
    bodies = {(each.id, each.body) for each in received}
    assert len(bodies) == len(names)


@pytest.mark.parametrize("point", POINTS)
def test_a_worker_killed_at_any_point_repeats_the_same_messages(
    app_context: Flask, receiver: Receiver, point: str
) -> None:
    endpoint = make_endpoint(receiver.url)
    made = [make_message(endpoint) for _ in range(5)]
    endpoint_id, ids = endpoint.id, [each.id for each in made]
    send_and_die(endpoint_id, point)
    make_due()
    send_all(endpoint_id)
    assert {each.state for each in messages()} == {MessageState.DELIVERED}
    check_all_told(receiver, [f"msg_{each}" for each in ids])
    # Only those that went out and were not recorded come twice.
    assert max(Counter(receiver.ids).values()) <= 2
    assert all(len(attempts(each)) == 1 for each in ids)


def test_a_dead_workers_lease_expires(app_context: Flask, receiver: Receiver) -> None:
    endpoint = make_endpoint(receiver.url)
    endpoint_id = make_message(endpoint).endpoint_id
    send_and_die(endpoint_id, "after the claim")
    held = fresh(endpoint_id)
    assert held.claim_token is not None
    left = seconds_between(utcnow(), held.claimed_until)
    assert 0 < left <= 1 + 1 + 2  # A batch, one attempt that takes all its time, the lease.


@pytest.mark.timeout(240)
def test_a_mailing_is_told_of_whoever_dies(
    app_context: Flask, settings: Settings, sink: SmtpSink
) -> None:
    """Workers that are killed all the time, a receiver that fails now and then, no message lost."""
    moments = random.Random()

    def moody(_: Received) -> Reply:
        return Reply(moments.choice([200, 200, 200, 500, 404]))

    demo_data.add_bulk_customer("CQ900", 300)
    customer = find_customer("CQ900")
    users = list(
        db.session.scalars(
            sa.select(User)
            .where(User.customer_id == customer.id, User.status == UserStatus.ACTIVE)
            .limit(300)
        )
    )
    with Receiver(then=moody) as receiver:
        make_endpoint(
            receiver.url, events=[WebhookEvent.DELIVERY_ENDED], group_id=customer.group_id
        )
        mailing_id = start_welcome(actor_for("landlord@foyer.example"), "CQ900", users)
        db.session.rollback()
        scheduler = Process(settings, "scheduler")
        workers = [Process(settings, module="tests.support.hasty_worker") for _ in range(2)]
        try:
            deadline = time.monotonic() + 200
            kills = 0
            while not is_told(mailing_id):
                assert time.monotonic() < deadline
                if kills < 8:
                    kills += 1
                    time.sleep(moments.uniform(0.3, 1.5))
                    number = moments.randrange(2)
                    workers[number].kill()
                    workers[number] = Process(settings, module="tests.support.hasty_worker")
                else:
                    receiver.then = Reply()
                    time.sleep(0.2)
        finally:
            for process in (scheduler, *workers):
                process.kill()
        check_all_told(receiver, [f"msg_{each.id}" for each in messages()])
        states = Counter(each.json["data"]["delivery_id"] for each in unique(receiver))
    ended = db.session.scalars(
        sa.select(Delivery.id).where(
            Delivery.mailing_id == mailing_id, Delivery.state == DeliveryState.SENT
        )
    ).all()
    assert states == Counter(ended)


def unique(receiver: Receiver) -> list[Received]:
    return list({each.id: each for each in receiver.requests}.values())


def is_told(mailing_id: int) -> bool:
    db.session.rollback()
    under_way = db.session.scalar(
        sa.select(sa.func.count(Delivery.id)).where(
            Delivery.mailing_id == mailing_id,
            Delivery.state.in_([DeliveryState.QUEUED, DeliveryState.SENDING]),
        )
    )
    noted = messages()
    return not under_way and all(each.state is not MessageState.WAITING for each in noted)


def test_an_endpoint_that_is_dead_keeps_no_worker_busy(
    app_context: Flask, receiver: Receiver
) -> None:
    """A hundred messages wait for one that hangs; another endpoint is served meanwhile."""
    with Receiver(then=Reply(hang=20)) as dead:
        hanging, living = make_endpoint(dead.url), make_endpoint(receiver.url)
        for _ in range(100):
            make_message(hanging)
        made = [f"msg_{make_message(living).id}" for _ in range(10)]
        start_waiting()
        db.session.remove()
        started = time.monotonic()
        work_queues(app_context)
        assert time.monotonic() - started < 10
        assert receiver.ids == made
        assert len(dead.requests) == 1
        assert db.session.get_one(WebhookEndpoint, hanging.id).claim_token is None
