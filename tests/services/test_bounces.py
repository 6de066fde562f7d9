"""What a returned mail does to its delivery, its user, its mailing and its address."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import OperationalError

from extensions import db
from models import (
    AuditEvent,
    Delivery,
    DeliveryState,
    Mailing,
    SkipReason,
    Suppression,
    TemplateKind,
    User,
    WelcomeState,
    utcnow,
)
from services import bounces, passwords
from services.bounces import BounceOutcome, record_bounce
from tests.support import dsns
from tests.support.bounces import ADMIN, address_of, read_again, send_welcome
from tests.support.claims import counters
from tests.support.factories import actor_for, find_customer, make_user
from tests.support.promises import start_welcome

pytestmark = pytest.mark.usefixtures("no_suppressions")

one_database = pytest.mark.parametrize("engine_name", ["sqlite"])


@pytest.fixture
def no_suppressions(app_context: Flask) -> None:
    """The demo data begin with one."""
    db.session.execute(sa.delete(Suppression))
    db.session.commit()


def suppressions() -> list[Suppression]:
    db.session.rollback()
    return list(db.session.scalars(sa.select(Suppression).order_by(Suppression.id)))


def events() -> list[AuditEvent]:
    query = sa.select(AuditEvent).where(AuditEvent.action == "delivery.bounced")
    return list(db.session.scalars(query))


def come_back(delivery_id: int, build: Callable[[str], bytes] = dsns.postfix) -> BounceOutcome:
    """Its report comes back by its address."""
    address = address_of(delivery_id)
    return record_bounce(build(address), address).outcome


def set_state(delivery_id: int, state: DeliveryState, **values: Any) -> None:
    """Put a sent delivery, and its mailing's counters, into another state."""
    values = {"sent_at": None, **values}
    db.session.execute(
        sa.update(Delivery).where(Delivery.id == delivery_id).values(state=state, **values)
    )
    mailing_id = db.session.get_one(Delivery, delivery_id).mailing_id
    name = state.value
    db.session.execute(
        sa.update(Mailing)
        .where(Mailing.id == mailing_id)
        .values(sent=0, state="running", finished_at=None, **{name: 1})
    )
    db.session.commit()


# --- What is recorded --------------------------------------------------------------------------


@pytest.mark.parametrize("build", dsns.HARD.values(), ids=dsns.HARD.keys())
@one_database
def test_a_hard_bounce_ends_the_delivery_and_suppresses_its_address(
    build: Callable[[str], bytes],
) -> None:
    delivery_id = send_welcome()
    before = utcnow()
    assert come_back(delivery_id, build) is BounceOutcome.RECORDED
    delivery = read_again(delivery_id)
    assert delivery.state is DeliveryState.BOUNCED
    assert delivery.bounced_at is not None
    assert delivery.bounced_at >= before
    assert delivery.bounce_reason
    assert delivery.sent_at is not None
    (suppression,) = suppressions()
    assert suppression.email_key == delivery.email.lower()
    assert suppression.delivery_id == delivery_id
    assert suppression.reason.endswith(".")


@pytest.mark.parametrize("build", dsns.SOFT.values(), ids=dsns.SOFT.keys())
@one_database
def test_a_soft_bounce_ends_the_delivery_and_leaves_its_address(
    build: Callable[[str], bytes],
) -> None:
    delivery_id = send_welcome()
    assert come_back(delivery_id, build) is BounceOutcome.RECORDED
    assert read_again(delivery_id).state is DeliveryState.BOUNCED
    assert suppressions() == []


@pytest.mark.parametrize("build", dsns.NOTHING.values(), ids=dsns.NOTHING.keys())
@one_database
def test_what_is_no_failure_changes_nothing(build: Callable[[str], bytes]) -> None:
    delivery_id = send_welcome()
    assert come_back(delivery_id, build) is BounceOutcome.IGNORED
    assert read_again(delivery_id).state is DeliveryState.SENT
    assert (suppressions(), events()) == ([], [])


def test_all_of_it_is_told_once_and_in_one_piece() -> None:
    delivery_id = send_welcome()
    assert come_back(delivery_id) is BounceOutcome.RECORDED
    delivery = read_again(delivery_id)
    assert counters(delivery.mailing_id) == {"bounced": 1}
    assert delivery.user.welcome.state is WelcomeState.FAILED
    (event,) = events()
    assert (event.actor_login, event.actor_id) == ("system", None)
    assert event.customer_id == find_customer("CQ001").id
    assert (event.object_type, event.object_id) == ("delivery", delivery_id)
    assert event.detail == {
        "before": {"state": "sent"},
        "after": {"state": "bounced"},
        "mailing": delivery.mailing_id,
        "status": "5.1.1",
        "suppressed": True,
    }


def test_the_password_of_the_mail_stays() -> None:
    """The server has accepted it: it is the one that the newest mail carries."""
    user = make_user(find_customer("CQ001"), password="the-one-that-was-mailed")
    delivery_id = send_welcome(user)
    come_back(delivery_id)
    again = read_again(delivery_id).user
    assert passwords.verify(again.password_hash, "the-one-that-was-mailed")


@pytest.mark.parametrize("build", dsns.HARD.values(), ids=dsns.HARD.keys())
@one_database
def test_no_secret_of_the_returned_mail_rests(build: Callable[[str], bytes]) -> None:
    delivery_id = send_welcome()
    come_back(delivery_id, build)
    with db.engine.connect() as connection:
        for table in db.metadata.sorted_tables:
            for row in connection.execute(sa.select(table)):
                assert dsns.SECRET not in repr(row), table.name


# --- The user ----------------------------------------------------------------------------------


def test_an_older_mail_that_comes_back_says_nothing_of_the_newer() -> None:
    user = make_user(find_customer("CQ001"))
    older, newer = send_welcome(user), send_welcome(user)
    come_back(older, lambda to: dsns.postfix(to, status="5.2.2", words="552 full"))
    assert read_again(older).state is DeliveryState.BOUNCED
    assert read_again(older).user.welcome.state is WelcomeState.SENT
    come_back(newer)
    assert read_again(newer).user.welcome.state is WelcomeState.FAILED


def test_a_mail_of_another_kind_says_nothing_of_the_welcome_mail() -> None:
    delivery_id = send_welcome()
    delivery = read_again(delivery_id)
    delivery.mailing.template_version.template.kind = TemplateKind.GENERAL
    db.session.commit()
    come_back(delivery_id)
    delivery = read_again(delivery_id)
    assert delivery.state is DeliveryState.BOUNCED
    assert delivery.user.welcome.state is WelcomeState.SENT


def test_the_address_that_bounced_is_suppressed_not_one_that_the_user_has_since() -> None:
    user = make_user(find_customer("CQ001"), email="Old@Nowhere.example")
    delivery_id = send_welcome(user)
    db.session.execute(
        sa.update(User)
        .where(User.id == user.id)
        .values(email="new@x.example", email_key="new@x.example")
    )
    db.session.commit()
    come_back(delivery_id)
    assert [each.email_key for each in suppressions()] == ["old@nowhere.example"]


def test_an_address_that_is_suppressed_already_keeps_its_first_reason() -> None:
    delivery_id = send_welcome()
    key = read_again(delivery_id).email.lower()
    db.session.add(Suppression(email_key=key, reason="Asked for by its owner."))
    db.session.commit()
    assert come_back(delivery_id) is BounceOutcome.RECORDED
    assert [(each.reason, each.delivery_id) for each in suppressions()] == [
        ("Asked for by its owner.", None)
    ]


# --- Again, and at once ------------------------------------------------------------------------


def test_the_same_report_again_changes_nothing() -> None:
    delivery_id = send_welcome()
    come_back(delivery_id)
    first = read_again(delivery_id)
    kept = (first.bounced_at, first.bounce_reason)
    for build in (dsns.postfix, dsns.gmail, dsns.qmail):
        assert come_back(delivery_id, build) is BounceOutcome.KNOWN
    again = read_again(delivery_id)
    assert (again.bounced_at, again.bounce_reason) == kept
    assert (again.mailing.sent, again.mailing.bounced, len(events())) == (0, 1, 1)


def test_a_report_again_does_not_undo_a_clearing() -> None:
    delivery_id = send_welcome()
    come_back(delivery_id)
    db.session.execute(sa.delete(Suppression))
    db.session.commit()
    assert come_back(delivery_id) is BounceOutcome.KNOWN
    assert suppressions() == []


def test_the_same_report_several_times_at_once_counts_once(app_context: Flask) -> None:
    delivery_id = send_welcome()
    address = address_of(delivery_id)
    raw = dsns.exchange(address)
    barrier = threading.Barrier(6)
    outcomes: list[BounceOutcome] = []

    def come() -> None:
        with app_context.app_context():
            barrier.wait()
            outcomes.append(record_bounce(raw, address).outcome)

    threads = [threading.Thread(target=come) for _ in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(outcomes) == [BounceOutcome.KNOWN] * 5 + [BounceOutcome.RECORDED]
    delivery = read_again(delivery_id)
    assert (delivery.mailing.sent, delivery.mailing.bounced) == (0, 1)
    assert (len(suppressions()), len(events())) == (1, 1)


def test_two_users_with_one_address_bounce_at_once(app_context: Flask) -> None:
    customer = find_customer("CQ001")
    ids = [send_welcome(make_user(customer, email="both@nowhere.example")) for _ in range(4)]
    barrier = threading.Barrier(4)

    def come(delivery_id: int) -> None:
        with app_context.app_context():
            barrier.wait()
            come_back(delivery_id)

    threads = [threading.Thread(target=come, args=(each,)) for each in ids]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert {read_again(each).state for each in ids} == {DeliveryState.BOUNCED}
    assert len(suppressions()) == 1


# --- Which delivery ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "recipient", [None, "", "bounces@foyer.example", "postmaster@foyer.example", "\0", "@" * 1000]
)
@one_database
def test_the_headers_name_the_delivery_where_the_envelope_does_not(recipient: str | None) -> None:
    delivery_id = send_welcome()
    raw = dsns.gmail(address_of(delivery_id))
    assert record_bounce(raw, recipient).outcome is BounceOutcome.RECORDED
    assert read_again(delivery_id).state is DeliveryState.BOUNCED


@one_database
def test_the_envelope_goes_before_the_headers() -> None:
    meant, other = send_welcome(), send_welcome()
    record_bounce(dsns.gmail(address_of(other)), address_of(meant))
    assert read_again(meant).state is DeliveryState.BOUNCED
    assert read_again(other).state is DeliveryState.SENT


@pytest.mark.parametrize(
    "forge",
    [
        lambda address, number: f"bounces+{number}-0123456789abcdef@foyer.example",
        lambda address, number: f"bounces+{number}@foyer.example",
        lambda address, number: address.replace(str(number), str(number + 1), 1),
        lambda address, number: address[:-20] + "0" + address[-19:],
    ],
)
@one_database
def test_without_a_valid_signature_nothing_is_believed(forge: Callable[[str, int], str]) -> None:
    """Nor because of a Message-ID, which anybody can write."""
    delivery_id = send_welcome()
    delivery = read_again(delivery_id)
    delivery.message_id = "<17.0123456789abcdef@foyer.example>"
    db.session.commit()
    forged = forge(address_of(delivery_id), delivery_id)
    assert record_bounce(dsns.gmail(forged), forged).outcome is BounceOutcome.IGNORED
    assert read_again(delivery_id).state is DeliveryState.SENT


@one_database
def test_a_delivery_that_is_not_there_any_more_is_ignored() -> None:
    address = address_of(2**63 - 1)
    result = record_bounce(dsns.postfix(address), address)
    assert result.outcome is BounceOutcome.IGNORED
    assert "no such delivery" in result.sentence


# --- A report that overtakes our own record ----------------------------------------------------


@pytest.mark.parametrize(
    ("state", "values"),
    [
        (DeliveryState.QUEUED, {}),
        (DeliveryState.QUEUED, {"in_doubt": True}),
        (DeliveryState.SENDING, {"claim_token": "x" * 32}),
    ],
    ids=["queued", "in doubt", "sending"],
)
def test_a_report_that_is_too_fast_comes_again(
    state: DeliveryState, values: dict[str, Any]
) -> None:
    """Its sender keeps it, so that nothing is lost: it takes effect once the result is recorded."""
    delivery_id = send_welcome()
    set_state(delivery_id, state, **values)
    assert come_back(delivery_id) is BounceOutcome.DEFERRED
    assert read_again(delivery_id).state is state
    assert (suppressions(), events()) == ([], [])
    mailing_id = read_again(delivery_id).mailing_id
    db.session.execute(
        sa.update(Delivery)
        .where(Delivery.id == delivery_id)
        .values(state=DeliveryState.SENT, sent_at=utcnow(), claim_token=None)
    )
    db.session.execute(
        sa.update(Mailing).where(Mailing.id == mailing_id).values(queued=0, sending=0, sent=1)
    )
    db.session.commit()
    assert come_back(delivery_id) is BounceOutcome.RECORDED
    assert read_again(delivery_id).state is DeliveryState.BOUNCED


@pytest.mark.parametrize(
    ("state", "values"),
    [
        (DeliveryState.FAILED, {"answer": "554 no"}),
        (DeliveryState.SKIPPED, {"skip_reason": SkipReason.REPLACED}),
        (DeliveryState.CANCELLED, {}),
    ],
    ids=["failed", "skipped", "cancelled"],
)
def test_a_delivery_that_ended_otherwise_stays_so(
    state: DeliveryState, values: dict[str, Any]
) -> None:
    delivery_id = send_welcome()
    set_state(delivery_id, state, **values)
    assert come_back(delivery_id) is BounceOutcome.IGNORED
    assert read_again(delivery_id).state is state
    assert suppressions() == []


@one_database
def test_a_database_that_does_not_answer_defers_it(monkeypatch: pytest.MonkeyPatch) -> None:
    delivery_id = send_welcome()

    def fail(_work: Any) -> None:
        raise OperationalError("UPDATE", {}, Exception("database is locked"))

    with monkeypatch.context() as patch:
        patch.setattr(bounces, "run_transaction", fail)
        assert come_back(delivery_id) is BounceOutcome.DEFERRED
    assert come_back(delivery_id) is BounceOutcome.RECORDED


@one_database
def test_a_write_that_fails_in_the_middle_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    delivery_id = send_welcome()

    def fail(*_args: Any) -> None:
        raise OperationalError("INSERT", {}, Exception("disk full"))

    with monkeypatch.context() as patch:
        patch.setattr(bounces, "suppress", fail)
        assert come_back(delivery_id) is BounceOutcome.DEFERRED
    delivery = read_again(delivery_id)
    assert delivery.state is DeliveryState.SENT
    assert (delivery.mailing.sent, delivery.mailing.bounced) == (1, 0)
    assert delivery.user.welcome.state is WelcomeState.SENT


@one_database
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.binary(max_size=500), st.one_of(st.none(), st.text(max_size=100)))
def test_any_bytes_to_anybody_are_taken_without_harm(raw: bytes, recipient: str | None) -> None:
    assert record_bounce(raw, recipient).outcome is BounceOutcome.IGNORED


@one_database
def test_a_very_long_mail_is_read_as_far_as_need_be() -> None:
    delivery_id = send_welcome()
    address = address_of(delivery_id)
    raw = dsns.postfix(address) + b"x" * (3 * bounces.LARGEST_MESSAGE)
    assert record_bounce(raw, address).outcome is BounceOutcome.RECORDED


def test_who_is_suppressed_gets_no_further_mail() -> None:
    user = make_user(find_customer("CQ001"))
    come_back(send_welcome(user))
    db.session.rollback()
    newest = sa.select(Delivery).where(Delivery.user_id == user.id).order_by(Delivery.id.desc())
    start_welcome(actor_for(ADMIN), "CQ001", [user], enqueue=False)
    delivery = db.session.scalars(newest.limit(1)).one()
    assert (delivery.state, delivery.skip_reason) == (
        DeliveryState.SKIPPED,
        SkipReason.SUPPRESSED,
    )
