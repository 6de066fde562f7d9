"""What is noted for webhooks: each event once, in its own transaction, for who wants to know."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from config import Settings
from extensions import db
from models import (
    Delivery,
    DeliveryState,
    Mailing,
    RequestState,
    RequestTransition,
    SkipReason,
    User,
    WebhookEvent,
    utcnow,
)
from services import (
    claim_recovery,
    delivery_results,
    mailing_controls,
    sign_ins,
    webhook_bodies,
)
from services.actors import SYSTEM
from services.bounces import record_bounce
from services.delivery_journal import Journal
from services.delivery_results import Outcome
from services.request_transitions import move
from services.transactions import run_transaction
from tests.support import dsns
from tests.support.bounces import address_of
from tests.support.claims import end_with, expire, fresh_mailing, must_claim, rows_of
from tests.support.factories import actor_for, find_customer, make_customer, make_user
from tests.support.promises import start_welcome
from tests.support.provisioning import customer_of, make_due, make_version, provision_all
from tests.support.requests import make_request, make_service_template
from tests.support.webhooks import fresh, group, make_endpoint, make_message, messages

LANDLORD = "landlord@foyer.example"
DELIVERY = WebhookEvent.DELIVERY_ENDED

Bodies = Callable[[], list[dict[str, Any]]]


def make_users(count: int, web_id: str = "CQ001") -> list[User]:
    customer = find_customer(web_id)
    return [make_user(customer) for _ in range(count)]


def start(users: list[User]) -> int:
    return start_welcome(actor_for(LANDLORD), "CQ001", users, enqueue=False)


def told() -> list[tuple[int, str]]:
    """Which delivery is told of, and as what."""
    return [(each.object_id, each.reached) for each in messages()]


def ids_of(mailing_id: int) -> list[int]:
    return [row.id for row in rows_of(mailing_id)]


def steer(mailing_id: int, transition: mailing_controls.Transition) -> None:
    mailing_controls.change_state(actor_for(LANDLORD), fresh_mailing(mailing_id), transition)
    db.session.commit()


# --- Deliveries --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "state", "values"),
    [
        (Outcome.SENT, "sent", {"code": 250}),
        (Outcome.FAILED, "failed", {"code": 550}),
        (Outcome.SKIPPED, "skipped", {"skip_reason": SkipReason.SUPPRESSED}),
    ],
)
def test_every_end_of_a_delivery_is_noted(
    app_context: Flask, outcome: Outcome, state: str, values: dict[str, Any]
) -> None:
    endpoint = make_endpoint(events=[DELIVERY])
    mailing_id = start(make_users(3))
    assert end_with(must_claim(mailing_id), outcome, **values)
    assert told() == [(each, state) for each in ids_of(mailing_id)]
    assert {(each.endpoint_id, each.event) for each in messages()} == {(endpoint.id, DELIVERY)}


@pytest.mark.parametrize("outcome", [Outcome.RETRY, Outcome.RELEASED])
def test_what_goes_back_in_line_has_not_ended(app_context: Flask, outcome: Outcome) -> None:
    make_endpoint()
    mailing_id = start(make_users(2))
    end_with(must_claim(mailing_id), outcome)
    assert messages() == []


def test_who_was_skipped_at_the_confirmation_is_not_told_of(app_context: Flask) -> None:
    make_endpoint()
    users = make_users(2)
    users[0].email = users[0].email_key = ""
    db.session.commit()
    mailing_id = start(users)
    assert [row.state for row in rows_of(mailing_id)].count(DeliveryState.SKIPPED) == 1
    assert messages() == []


def test_the_states_of_one_chunk_are_told_apart(app_context: Flask) -> None:
    make_endpoint()
    mailing_id = start(make_users(4))
    held = must_claim(mailing_id)
    outcomes = [Outcome.SENT, Outcome.FAILED, Outcome.RETRY, Outcome.SENT]
    delivery_results.record_results(
        held,
        [
            delivery_results.Result(each, outcome)
            for each, outcome in zip(held.deliveries, outcomes, strict=True)
        ],
    )
    wanted = {Outcome.SENT: "sent", Outcome.FAILED: "failed"}
    ends = zip(held.deliveries, outcomes, strict=True)
    assert sorted(told()) == sorted(
        (each.id, wanted[outcome]) for each, outcome in ends if outcome in wanted
    )


def test_nobody_else_is_told(app_context: Flask) -> None:
    mine = make_endpoint(events=[DELIVERY])
    also = make_endpoint(events=[DELIVERY, WebhookEvent.CUSTOMER_CREATED])
    make_endpoint(events=[WebhookEvent.CUSTOMER_CREATED, WebhookEvent.REQUEST_STATE_CHANGED])
    make_endpoint(groupno=2)
    make_endpoint(disabled_at=utcnow())
    make_endpoint(deleted_at=utcnow())
    mailing_id = start(make_users(2))
    end_with(must_claim(mailing_id), Outcome.SENT)
    assert sorted((each.endpoint_id, each.object_id) for each in messages()) == sorted(
        (endpoint.id, delivery) for endpoint in (mine, also) for delivery in ids_of(mailing_id)
    )


def test_a_claim_that_has_expired_notes_nothing(app_context: Flask) -> None:
    make_endpoint()
    mailing_id = start(make_users(2))
    held = must_claim(mailing_id)
    expire(held)
    assert not end_with(held, Outcome.SENT)
    assert messages() == []


def test_a_transaction_that_is_rolled_back_notes_nothing(
    app_context: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_endpoint()
    mailing_id = start(make_users(2))
    held = must_claim(mailing_id)

    def broken(*_: object) -> None:
        raise RuntimeError("before the commit")

    monkeypatch.setattr(delivery_results, "_count", broken)
    with pytest.raises(RuntimeError):
        end_with(held, Outcome.SENT)
    assert messages() == []


def test_what_a_dead_workers_journal_says_is_noted(app_context: Flask, settings: Settings) -> None:
    make_endpoint()
    mailing_id = start(make_users(3))
    held = must_claim(mailing_id)
    journal = Journal.open(settings.var_dir, held.token)
    journal.note(held.deliveries[0].id, 250)
    journal.close()
    assert expire(held) == 2
    assert told() == [(held.deliveries[0].id, "sent")]


def test_a_reader_who_signs_in_ends_his_delivery(app_context: Flask) -> None:
    make_endpoint()
    (user,) = make_users(1)
    mailing_id = start([user])
    held = must_claim(mailing_id)
    password = held.deliveries[0].credentials.portal
    expire(held)
    assert messages() == []
    sign_ins.sign_in(user.login, password)
    assert told() == [(ids_of(mailing_id)[0], "sent")]


def test_a_reader_who_signs_in_while_it_is_sent(app_context: Flask) -> None:
    make_endpoint()
    (user,) = make_users(1)
    mailing_id = start([user])
    held = must_claim(mailing_id)
    sign_ins.sign_in(user.login, held.deliveries[0].credentials.portal)
    assert messages() == []
    expire(held)
    assert told() == [(ids_of(mailing_id)[0], "sent")]


@pytest.mark.parametrize("has_endpoint", [True, False])
def test_a_cancelled_mailing(app_context: Flask, has_endpoint: bool) -> None:
    if has_endpoint:
        make_endpoint()
        make_endpoint()
    mailing_id = start(make_users(5))
    held = must_claim(mailing_id, 2)
    steer(mailing_id, mailing_controls.CANCEL)
    under_way = {each.id for each in held.deliveries}
    cancelled = [(each, "cancelled") for each in ids_of(mailing_id) if each not in under_way]
    assert sorted(told()) == sorted(cancelled * 2 * has_endpoint)
    assert fresh_mailing(mailing_id).cancelled == 3
    end_with(held, Outcome.RETRY)  # Handed back, they are cancelled too.
    claim_recovery.cancel_leftovers()
    everything = [(each, "cancelled") for each in ids_of(mailing_id)]
    assert sorted(told()) == sorted(everything * 2 * has_endpoint)
    assert fresh_mailing(mailing_id).cancelled == 5


@pytest.mark.parametrize("has_endpoint", [True, False])
def test_a_newer_mail_replaces_an_older_one(app_context: Flask, has_endpoint: bool) -> None:
    if has_endpoint:
        make_endpoint()
    users = make_users(3)
    older = start(users)
    start(users[:2])
    replaced = [row.id for row in rows_of(older) if row.skip_reason is SkipReason.REPLACED]
    assert len(replaced) == 2
    assert sorted(told()) == sorted((each, "skipped") for each in replaced * has_endpoint)
    assert fresh_mailing(older).skipped == 2


def test_a_newer_mail_adopts_an_older_ones_credentials(app_context: Flask) -> None:
    make_endpoint()
    users = make_users(2)
    older = start(users)
    expire(must_claim(older))
    newer = start(users)
    must_claim(newer)
    assert sorted(told()) == [(each, "skipped") for each in ids_of(older)]


def test_a_bounce_is_an_end_of_its_own(app_context: Flask) -> None:
    make_endpoint()
    mailing_id = start(make_users(1))
    end_with(must_claim(mailing_id), Outcome.SENT)
    (delivery_id,) = ids_of(mailing_id)
    for _ in range(2):
        record_bounce(dsns.postfix(address_of(delivery_id)), None)
    assert told() == [(delivery_id, "sent"), (delivery_id, "bounced")]


def test_a_million_deliveries_that_nobody_is_told_of_cost_no_statement(
    app_context: Flask,
) -> None:
    """A chunk's transaction runs as many statements as without webhooks, one more with them."""
    start_of = {}
    for name in ("nobody", "somebody"):
        if name == "somebody":
            make_endpoint(events=[DELIVERY])
        mailing_id = start(make_users(3))
        with statements() as run:
            held = must_claim(mailing_id)
            end_with(held, Outcome.SENT)
        start_of[name] = len(run)
        assert any("webhook_messages" in each for each in run) is (name == "somebody")
    assert start_of["somebody"] == start_of["nobody"] + 1


class statements:  # noqa: N801 - it reads as a word in a with
    """The statements that are run meanwhile."""

    def __enter__(self) -> list[str]:
        self._run: list[str] = []
        sa.event.listen(db.engine, "before_cursor_execute", self._note)
        return self._run

    def __exit__(self, *_: object) -> None:
        sa.event.remove(db.engine, "before_cursor_execute", self._note)

    def _note(self, _connection: Any, _cursor: Any, statement: str, *_: object) -> None:
        self._run.append(statement)


# --- Requests and customers --------------------------------------------------------------------


def test_every_transition_is_noted_with_the_line_of_the_timeline(app_context: Flask) -> None:
    endpoint = make_endpoint()
    make_endpoint(groupno=2)
    request = make_request(
        RequestState.AWAITING_APPROVAL, make_service_template(group_id=group().id)
    )
    lines = db.session.scalars(
        sa.select(RequestTransition)
        .where(RequestTransition.request_id == request.id)
        .order_by(RequestTransition.id)
    ).all()
    assert [line.to_state for line in lines] == [
        RequestState.SUBMITTED,
        RequestState.AWAITING_APPROVAL,
    ]
    noted = messages(endpoint.id)
    assert [each.object_id for each in noted] == [line.id for line in lines]
    assert [each.occurred_at for each in noted] == [line.at for line in lines]
    assert {each.event for each in noted} == {WebhookEvent.REQUEST_STATE_CHANGED}
    assert len(messages()) == 2


def test_a_transition_that_is_rolled_back_is_not_noted(app_context: Flask) -> None:
    make_endpoint()
    request = make_request(
        RequestState.AWAITING_APPROVAL, make_service_template(group_id=group().id)
    )
    before = len(messages())

    def work(connection: sa.Connection) -> None:
        move(
            connection,
            request.id,
            RequestState.AWAITING_APPROVAL,
            RequestState.REJECTED,
            actor=SYSTEM,
        )
        raise RuntimeError("before the commit")

    with pytest.raises(RuntimeError):
        run_transaction(work)
    assert len(messages()) == before


def test_a_customer_is_noted_when_it_is_complete(app_context: Flask, settings: Settings) -> None:
    endpoint = make_endpoint(events=[WebhookEvent.CUSTOMER_CREATED])
    make_endpoint(events=[WebhookEvent.CUSTOMER_CREATED], groupno=2)
    request_id = make_due(make_version(group_id=group().id), settings=settings)
    assert messages() == []
    assert provision_all(request_id) is RequestState.COMPLETED
    (noted,) = messages()
    assert noted.endpoint_id == endpoint.id
    assert noted.object_id == customer_of(request_id).id


# --- What is told ------------------------------------------------------------------------------


@pytest.fixture
def bodies(app_context: Flask) -> Bodies:
    """`bodies()`: what would be sent of everything noted, by the type of the message."""

    def build() -> list[dict[str, Any]]:
        noted = messages()
        with db.engine.connect() as connection:
            made = webhook_bodies.build_bodies(connection, noted)
        return [json.loads(made[each.id]) for each in noted]

    return build


def test_a_delivery_in_words(bodies: Bodies) -> None:
    make_endpoint(events=[DELIVERY])
    (user,) = make_users(1)
    mailing_id = start([user])
    end_with(must_claim(mailing_id), Outcome.FAILED, code=550, answer="5.1.1 unknown")
    (body,) = bodies()
    assert body["type"] == "delivery.ended"
    assert body["timestamp"] == messages()[0].occurred_at.isoformat(
        timespec="milliseconds"
    ).replace("+00:00", "Z")
    assert body["data"] == {
        "delivery_id": ids_of(mailing_id)[0],
        "mailing_id": mailing_id,
        "groupno": 1,
        "custno": 1001,
        "user_id": user.id,
        "login": user.login,
        "email": user.email,
        "state": "failed",
        "skip_reason": None,
        "attempts": 1,
        "answer_code": 550,
        "answer": "5.1.1 unknown",
        "sent_at": None,
        "bounced_at": None,
        "bounce_reason": "",
    }


def test_an_end_is_told_as_it_was_although_more_has_happened(bodies: Bodies) -> None:
    make_endpoint(events=[DELIVERY])
    mailing_id = start(make_users(2))
    held = must_claim(mailing_id)
    delivery_results.record_results(
        held,
        [
            delivery_results.Result(held.deliveries[0], Outcome.SENT, 250, "2.0.0 taken"),
            delivery_results.Result(held.deliveries[1], Outcome.FAILED, 550, "5.1.1 unknown"),
        ],
    )
    record_bounce(dsns.postfix(address_of(held.deliveries[0].id)), None)
    mailing_controls.retry_failed(actor_for(LANDLORD), fresh_mailing(mailing_id))
    end_with(must_claim(mailing_id), Outcome.SENT, code=250, answer="2.0.0 taken later")
    sent, failed, bounced, later = (each["data"] for each in bodies())
    assert (sent["state"], sent["answer"], sent["bounced_at"]) == ("sent", "2.0.0 taken", None)
    assert sent["bounce_reason"] == ""
    assert (failed["state"], failed["answer_code"], failed["answer"]) == ("failed", None, "")
    assert failed["sent_at"] is None
    assert (later["state"], later["answer"]) == ("sent", "2.0.0 taken later")
    assert bounced["state"] == "bounced"
    assert bounced["sent_at"] == sent["sent_at"] is not None
    assert bounced["bounced_at"] is not None
    assert bounced["bounce_reason"]


def test_requests_and_customers_in_words(bodies: Bodies, settings: Settings) -> None:
    make_endpoint()
    request_id = make_due(make_version(group_id=group().id), settings=settings)
    provision_all(request_id)
    customer = customer_of(request_id)
    told_of = bodies()
    assert [
        (each["data"]["from_state"], each["data"]["to_state"], each["data"]["custno"])
        for each in told_of
        if each["type"] == "request.state_changed"
    ] == [
        ("draft", "submitted", None),
        ("submitted", "scheduled", None),
        ("scheduled", "provisioning", None),
        ("provisioning", "completed", customer.custno),
    ]
    of_request = told_of[0]["data"]
    assert (of_request["request_id"], of_request["groupno"]) == (request_id, 1)
    assert of_request["name"] == customer.name
    (of_customer,) = [each["data"] for each in told_of if each["type"] == "customer.created"]
    assert of_customer == {
        "groupno": 1,
        "custno": customer.custno,
        "web_id": customer.web_id,
        "name": customer.name,
        "short_name": customer.short_name,
        "upn_suffix": customer.upn_suffix,
    }


def test_what_is_gone_is_told_by_its_id(bodies: Bodies) -> None:
    endpoint = make_endpoint()
    for event in WebhookEvent:
        make_message(endpoint, event=event, object_id=10**12)
    assert [each["data"] for each in bodies()] == [
        {"delivery_id": 10**12, "state": ""},
        {"transition_id": 10**12},
        {},
        {"webhook_id": 10**12},
    ]


def test_a_customer_of_another_group(app_context: Flask) -> None:
    """Its users' mails are told to that group's endpoints alone, also within one mailing."""
    endpoint = make_endpoint(groupno=2)
    elsewhere = make_customer(group_id=group(2).id)
    mine, theirs = make_user(find_customer("CQ001")), make_user(elsewhere)
    mailing_id = start([mine])
    db.session.execute(
        sa.update(Delivery).where(Delivery.mailing_id == mailing_id).values(user_id=theirs.id)
    )
    db.session.commit()
    end_with(must_claim(mailing_id), Outcome.SENT)
    assert [each.endpoint_id for each in messages()] == [endpoint.id]
    assert fresh(endpoint.id).failing_since is None
    assert db.session.get_one(Mailing, mailing_id).sent == 1
