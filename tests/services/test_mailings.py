"""Mailings: confirmed once, frozen, replaced, cancelled and retried without breaking a promise."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import (
    AuditEvent,
    Customer,
    CustomerStatus,
    Delivery,
    DeliveryClaim,
    DeliveryState,
    Mailing,
    MailingState,
    Role,
    SkipReason,
    Suppression,
    User,
    UserStatus,
    fold,
    utcnow,
)
from models.mailings import COUNTERS
from services import (
    claim_recovery,
    mailing_confirmations,
    mailing_controls,
    mailings,
    seals,
)
from services.actors import SYSTEM, Actor
from services.delivery_claims import Claim, claim_deliveries, find_mailing_job
from services.delivery_results import Outcome, Result, record_results
from services.email_templates import get_current_version
from services.errors import Conflict, Forbidden, InvalidInput, NotFound
from services.seals import Credentials
from tests.support.factories import (
    actor_for,
    find_customer,
    make_customer,
    make_template,
    make_user,
    make_welcome,
    save,
)
from tests.support.promises import check_promises, start_welcome
from tests.support.smtp_sink import SmtpSink

ADMIN = "prpkeAdmin@kenton-electronics.com"


@pytest.fixture
def admin(app_context: Flask) -> Actor:
    return actor_for(ADMIN)


@pytest.fixture
def kenton(app_context: Flask) -> Customer:
    return find_customer("CQ001")


def start(admin: Actor, users: list[User], **options: Any) -> Mailing:
    mailing_id = start_welcome(admin, "CQ001", users, enqueue=False, **options)
    return db.session.get_one(Mailing, mailing_id)


def again(mailing: Mailing) -> Mailing:
    db.session.rollback()
    return db.session.get_one(Mailing, mailing.id, populate_existing=True)


def rows_of(mailing: Mailing) -> list[Delivery]:
    db.session.rollback()
    return list(
        db.session.scalars(
            sa.select(Delivery)
            .where(Delivery.mailing_id == mailing.id)
            .order_by(Delivery.id)
            .execution_options(populate_existing=True)
        )
    )


def claim(mailing: Mailing, limit: int = 50) -> Claim | None:
    db.session.rollback()
    with db.engine.connect() as connection:
        job = find_mailing_job(connection, mailing.id)
    assert job is not None
    return claim_deliveries(job, limit, "foyer.example")


def die(mailing: Mailing) -> None:
    """The worker that holds the claims of a mailing is gone, and the sweep has noticed."""
    db.session.execute(
        sa.update(DeliveryClaim)
        .where(DeliveryClaim.mailing_id == mailing.id)
        .values(expires_at=utcnow() - timedelta(seconds=1))
    )
    db.session.commit()
    claim_recovery.expire_claims()


def counters(mailing: Mailing) -> dict[str, int]:
    found = again(mailing)
    return {name: getattr(found, name) for name in COUNTERS if getattr(found, name)}


# --- Confirming --------------------------------------------------------------------------------


def test_a_double_click_at_the_same_moment_makes_one_mailing(
    app_context: Flask, admin: Actor, kenton: Customer
) -> None:
    users = [make_user(kenton) for _ in range(5)]
    user_ids = [user.id for user in users]
    version = get_current_version(make_template(kenton)).id
    gate = threading.Barrier(4)
    made: list[int] = []
    failures: list[BaseException] = []

    def confirm() -> None:
        with app_context.app_context():
            customer = find_customer("CQ001")
            gate.wait()
            try:
                mailing = mailing_confirmations.confirm_mailing(
                    admin,
                    customer,
                    version,
                    user_ids,
                    include_recent=True,
                    confirmation="the-same-word-of-the-page",
                )
                made.append(mailing.id)
            except BaseException as error:  # noqa: BLE001
                failures.append(error)

    threads = [threading.Thread(target=confirm) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(made) == 4
    assert len(set(made)) == 1
    assert db.session.scalar(sa.select(sa.func.count()).select_from(Mailing)) == 1
    assert len(rows_of(db.session.get_one(Mailing, made[0]))) == 5
    events = sa.select(sa.func.count()).where(AuditEvent.action == "mailing.confirmed")
    assert db.session.scalar(events) == 1


def test_the_word_gives_the_first_mailing_whatever_else_is_sent(
    admin: Actor, kenton: Customer
) -> None:
    one, other = make_user(kenton), make_user(kenton)
    first = start(admin, [one], confirmation="a-word-of-a-page-1")
    second = start(admin, [other], confirmation="a-word-of-a-page-1")
    assert first.id == second.id
    assert [row.user_id for row in rows_of(first)] == [one.id]


def test_the_word_of_another_customers_page_is_refused(admin: Actor, kenton: Customer) -> None:
    landlord = actor_for("landlord@foyer.example")
    start_welcome(landlord, "CQ001", [make_user(kenton)], enqueue=False, confirmation="w" * 20)
    user = make_user(find_customer("CQ002"))
    with pytest.raises(Conflict):
        start_welcome(landlord, "CQ002", [user], enqueue=False, confirmation="w" * 20)


@pytest.mark.parametrize(
    "word", ["", "short", "x" * 65, "with blank in the word", "ünïcödé-word-x"]
)
def test_a_word_that_is_none_is_refused(admin: Actor, kenton: Customer, word: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        mailing_confirmations.confirm_mailing(
            admin, kenton, 1, [1], include_recent=True, confirmation=word
        )
    assert caught.value.field == "confirmation"


def test_recipients_are_frozen_at_the_confirmation(admin: Actor, kenton: Customer) -> None:
    user = make_user(kenton, email="first@address.example")
    mailing = start(admin, [user])
    make_user(kenton)
    user.email, user.email_key = "second@address.example", "second@address.example"
    db.session.commit()
    assert [row.email for row in rows_of(mailing)] == ["first@address.example"]
    held = claim(mailing)
    assert held is not None
    assert held.deliveries[0].skip_reason is SkipReason.ADDRESS_CHANGED


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"status": UserStatus.DELETED}, SkipReason.DELETED),
        ({"status": UserStatus.SUSPENDED}, SkipReason.SUSPENDED),
        ({"email": ""}, SkipReason.NO_ADDRESS),
        ({"email": "Blocked@Mail.example"}, SkipReason.SUPPRESSED),
        ({"status": UserStatus.DELETED, "email": ""}, SkipReason.DELETED),
        ({"status": UserStatus.SUSPENDED, "email": "blocked@mail.example"}, SkipReason.SUSPENDED),
    ],
    ids=str,
)
def test_who_must_not_get_it_is_skipped_with_the_reason(
    admin: Actor, kenton: Customer, changes: dict[str, Any], reason: SkipReason
) -> None:
    save(Suppression(email_key=fold("blocked@mail.example"), reason="bounced"))
    left_out, taken = make_user(kenton, **changes), make_user(kenton)
    mailing = start(admin, [left_out, taken])
    states = {row.user_id: (row.state, row.skip_reason) for row in rows_of(mailing)}
    assert states == {
        left_out.id: (DeliveryState.SKIPPED, reason),
        taken.id: (DeliveryState.QUEUED, None),
    }
    assert counters(mailing) == {"skipped": 1, "queued": 1}


def test_the_users_of_a_suspended_customer_are_skipped(app_context: Flask) -> None:
    customer = make_customer()
    version = get_current_version(make_welcome(customer)).id
    user = make_user(customer)
    customer.status = CustomerStatus.SUSPENDED
    db.session.commit()
    mailing = mailing_confirmations.confirm_mailing(
        actor_for("landlord@foyer.example"),
        customer,
        version,
        [user.id],
        include_recent=True,
        confirmation="x" * 20,
    )
    assert rows_of(mailing)[0].skip_reason is SkipReason.SUSPENDED
    assert mailing.state is MailingState.FINISHED
    assert mailing.finished_at is not None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"status": UserStatus.DELETED}, SkipReason.DELETED),
        ({"status": UserStatus.SUSPENDED}, SkipReason.SUSPENDED),
        (
            {"email_key": "new@mail.example", "email": "new@mail.example"},
            SkipReason.ADDRESS_CHANGED,
        ),
        ({"email_key": "", "email": ""}, SkipReason.ADDRESS_CHANGED),
    ],
    ids=str,
)
def test_who_changes_after_the_confirmation_gets_no_mail_either(
    admin: Actor,
    kenton: Customer,
    sink: SmtpSink,
    work: Callable[[], None],
    changes: dict[str, Any],
    reason: SkipReason,
) -> None:
    users = [make_user(kenton) for _ in range(2)]
    mailing_id = start_welcome(admin, "CQ001", users)
    for name, value in changes.items():
        setattr(users[0], name, value)
    db.session.commit()
    work()
    mailing = again(db.session.get_one(Mailing, mailing_id))
    states = {row.user_id: row.skip_reason for row in rows_of(mailing)}
    assert states == {users[0].id: reason, users[1].id: None}
    assert [mail.recipient for mail in sink.mails] == [users[1].email]
    assert mailing.state is MailingState.FINISHED


def test_a_suppression_after_the_confirmation_stops_the_mail(
    admin: Actor, kenton: Customer, sink: SmtpSink, work: Callable[[], None]
) -> None:
    user = make_user(kenton, email="Ada@Mail.example")
    mailing_id = start_welcome(admin, "CQ001", [user])
    save(Suppression(email_key="ada@mail.example", reason="complained"))
    work()
    row = rows_of(db.session.get_one(Mailing, mailing_id))[0]
    assert row.skip_reason is SkipReason.SUPPRESSED
    assert sink.mails == []


def test_those_mailed_lately_are_left_out_unless_wanted(admin: Actor, kenton: Customer) -> None:
    user, template = make_user(kenton), make_template(kenton)
    version, other = get_current_version(template).id, get_current_version(make_template(kenton)).id

    def confirm(version_id: int, *, include_recent: bool) -> SkipReason | None:
        mailing = mailing_confirmations.confirm_mailing(
            admin,
            kenton,
            version_id,
            [user.id],
            include_recent=include_recent,
            confirmation=f"word-{utcnow():%H%M%S%f}-{include_recent}",
        )
        return rows_of(mailing)[0].skip_reason

    assert confirm(version, include_recent=False) is None
    assert confirm(version, include_recent=False) is SkipReason.RECENTLY_MAILED
    assert confirm(version, include_recent=True) is None
    assert confirm(other, include_recent=False) is None, "another template is another mail"
    db.session.execute(sa.update(Delivery).values(created_at=utcnow() - timedelta(minutes=11)))
    db.session.commit()
    assert confirm(version, include_recent=False) is None


@pytest.mark.parametrize("state", [DeliveryState.FAILED, DeliveryState.CANCELLED])
def test_a_mail_that_did_not_go_out_does_not_count_as_recent(
    admin: Actor, kenton: Customer, state: DeliveryState
) -> None:
    user = make_user(kenton)
    mailing = start(admin, [user])
    if state is DeliveryState.CANCELLED:
        mailing_controls.cancel_mailing(admin, mailing)
    else:
        fail_all(mailing)
    template = mailing.template_version.template
    preview = mailing_confirmations.preview_mailing(
        admin, kenton, template.id, [user.id], include_recent=False
    )
    assert [each.skip_reason for each in preview.recipients] == [None]


def fail_all(mailing: Mailing) -> None:
    held = claim(mailing)
    assert held is not None
    results = [Result(each, Outcome.FAILED, 550, "No such user") for each in held.deliveries]
    assert record_results(held, results)


@pytest.mark.parametrize("count", [0, 26])
def test_the_limit_is_kept_by_the_service(admin: Actor, kenton: Customer, count: int) -> None:
    users = [make_user(kenton).id for _ in range(count)]
    version = get_current_version(make_template(kenton)).id
    with pytest.raises(InvalidInput, match="selected") as caught:
        mailing_confirmations.confirm_mailing(
            admin, kenton, version, users, include_recent=True, confirmation="x" * 20
        )
    assert caught.value.field == "users"
    assert db.session.scalar(sa.select(sa.func.count()).select_from(Mailing)) == 0


def test_users_named_twice_are_mailed_once(admin: Actor, kenton: Customer) -> None:
    user = make_user(kenton)
    assert len(rows_of(start(admin, [user, user, user]))) == 1


@pytest.mark.parametrize("role", [Role.AUDITOR, Role.SUPERVISOR, Role.USER, Role.PROSPECT, None])
def test_the_service_itself_refuses_other_roles(kenton: Customer, role: Role | None) -> None:
    actor = Actor(1, "x", role, kenton.id) if role else SYSTEM
    user = make_user(kenton)
    mailing = start(actor_for(ADMIN), [user])
    for act in (
        lambda: start(actor, [user]),
        lambda: mailing_controls.pause_mailing(actor, mailing),
        lambda: mailing_controls.resume_mailing(actor, mailing),
        lambda: mailing_controls.cancel_mailing(actor, mailing),
        lambda: mailing_controls.retry_failed(actor, mailing),
        lambda: mailing_confirmations.preview_mailing(
            actor, kenton, 1, [user.id], include_recent=True
        ),
    ):
        with pytest.raises(Forbidden):
            act()


# --- A newer mailing to the same user ----------------------------------------------------------


def test_a_newer_mailing_replaces_what_certainly_has_not_arrived(
    admin: Actor, kenton: Customer
) -> None:
    one, two = make_user(kenton), make_user(kenton)
    older = start(admin, [one, two])
    newer = start(admin, [one])
    assert {row.user_id: row.skip_reason for row in rows_of(older)} == {
        one.id: SkipReason.REPLACED,
        two.id: None,
    }
    assert counters(older) == {"queued": 1, "skipped": 1}
    assert counters(newer) == {"queued": 1}
    start(admin, [two])
    assert again(older).state is MailingState.FINISHED


def test_a_mail_without_passwords_replaces_none_and_is_not_replaced(
    admin: Actor, kenton: Customer
) -> None:
    user = make_user(kenton)
    welcome = start(admin, [user])
    general = mailing_confirmations.confirm_mailing(
        admin,
        kenton,
        get_current_version(make_template(kenton)).id,
        [user.id],
        include_recent=True,
        confirmation="x" * 20,
    )
    assert not general.resets_portal_password
    assert counters(welcome) == {"queued": 1}
    start(admin, [user])
    assert counters(general) == {"queued": 1}
    assert counters(welcome) == {"skipped": 1}


def test_a_skipped_recipient_of_the_newer_mailing_replaces_nothing(
    admin: Actor, kenton: Customer
) -> None:
    user = make_user(kenton)
    older = start(admin, [user])
    user.status = UserStatus.SUSPENDED
    db.session.commit()
    newer = start(admin, [user])
    assert counters(newer) == {"skipped": 1}
    assert counters(older) == {"queued": 1}


def test_credentials_in_doubt_are_taken_over_by_the_newer_mail(
    admin: Actor, kenton: Customer, sink: SmtpSink, work: Callable[[], None]
) -> None:
    """The first mail may have arrived: its password has to be that of the second, too."""
    user = make_user(kenton)
    older = start(admin, [user])
    held = claim(older)
    assert held is not None
    first = held.deliveries[0].credentials
    die(older)
    assert rows_of(older)[0].in_doubt
    newer = start(admin, [user])
    assert counters(older) == {"queued": 1}, "what may have arrived is not simply replaced"
    heir = claim(newer)
    assert heir is not None
    assert heir.deliveries[0].credentials == first
    assert heir.deliveries[0].in_doubt
    assert heir.deliveries[0].message_id != held.deliveries[0].message_id
    assert rows_of(older)[0].skip_reason is SkipReason.REPLACED
    assert rows_of(older)[0].seal is None
    assert again(older).state is MailingState.FINISHED
    die(newer)
    delivered(newer, work)
    check_promises(newer.id, sink)


def delivered(mailing: Mailing, work: Callable[[], None]) -> None:
    from extensions import queues

    queues.enqueue("interactive", "jobs.deliveries.deliver_mailing", mailing.id)
    db.session.rollback()
    work()


def test_an_heir_that_needs_more_than_it_inherits_gets_the_rest_anew(
    admin: Actor, kenton: Customer
) -> None:
    """A reset of the portal password alone, in doubt; then a welcome mail with both."""
    user = make_user(kenton)
    reset = make_template(kenton, slug="password-reset")
    older = mailing_confirmations.confirm_mailing(
        admin,
        kenton,
        get_current_version(reset).id,
        [user.id],
        include_recent=True,
        confirmation="x" * 20,
    )
    assert older.resets_portal_password
    held = claim(older)
    assert held is not None
    inherited = held.deliveries[0].credentials
    die(older)
    heir = claim(start(admin, [user]))
    assert heir is not None
    got = heir.deliveries[0].credentials
    assert got.portal == inherited.portal
    assert got.application
    assert heir.deliveries[0].application_password_set is bool(inherited.application)


def test_a_user_in_a_workers_hands_waits_and_the_others_do_not(
    admin: Actor, kenton: Customer
) -> None:
    user, other = make_user(kenton), make_user(kenton)
    older = start(admin, [user])
    held = claim(older)
    assert held is not None
    newer = start(admin, [user, other])
    beside = claim(newer)
    assert beside is not None
    assert [each.user_id for each in beside.deliveries] == [other.id]
    record_results(held, [Result(each, Outcome.SENT, 250) for each in held.deliveries])
    then = claim(newer)
    assert then is not None
    assert [each.user_id for each in then.deliveries] == [user.id]
    assert then.deliveries[0].credentials != held.deliveries[0].credentials


def test_a_seal_whose_key_is_gone_is_replaced_and_its_password_still_works(
    admin: Actor, kenton: Customer
) -> None:
    user = make_user(kenton)
    mailing = start(admin, [user])
    held = claim(mailing)
    assert held is not None
    lost = held.deliveries[0]
    die(mailing)
    db.session.execute(sa.update(Delivery).values(seal=b"sealed with another key"))
    db.session.commit()
    anew = claim(mailing)
    assert anew is not None
    assert anew.deliveries[0].credentials != lost.credentials
    assert anew.deliveries[0].message_id != lost.message_id
    db.session.rollback()
    db.session.refresh(user)
    assert user.unconfirmed_hash == lost.pending_hash


# --- Pausing, cancelling, retrying -------------------------------------------------------------


def test_a_paused_mailing_hands_out_only_what_is_in_doubt(admin: Actor, kenton: Customer) -> None:
    users = [make_user(kenton) for _ in range(4)]
    mailing = start(admin, users)
    held = claim(mailing, limit=2)
    assert held is not None
    mailing_controls.pause_mailing(admin, again(mailing))
    assert claim(mailing) is None
    die(mailing)
    rest = claim(mailing)
    assert rest is not None
    assert {each.id for each in rest.deliveries} == {each.id for each in held.deliveries}
    mailing_controls.resume_mailing(admin, again(mailing))
    more = claim(mailing)
    assert more is not None
    assert len(more.deliveries) == 2


def test_cancelling_keeps_what_may_have_been_sent_until_that_is_known(
    admin: Actor, kenton: Customer
) -> None:
    users = [make_user(kenton) for _ in range(6)]
    mailing = start(admin, users)
    doubtful = claim(mailing, limit=2)
    assert doubtful is not None
    die(mailing)
    db.session.execute(
        sa.update(Delivery)
        .where(Delivery.in_doubt)
        .values(next_attempt_at=utcnow() + timedelta(hours=1))
    )
    db.session.commit()
    held = claim(mailing, limit=1)
    assert held is not None
    assert not held.deliveries[0].in_doubt
    mailing_controls.cancel_mailing(admin, again(mailing))
    assert counters(mailing) == {"queued": 2, "sending": 1, "cancelled": 3}
    assert again(mailing).state is MailingState.CANCELLING
    for row in rows_of(mailing):
        assert (row.seal is None) == (row.state is DeliveryState.CANCELLED)
    db.session.execute(sa.update(Delivery).values(next_attempt_at=utcnow()))
    db.session.commit()
    rest = claim(mailing)
    assert rest is not None
    assert {each.id for each in rest.deliveries} == {each.id for each in doubtful.deliveries}
    assert [each.credentials for each in rest.deliveries] == [
        each.credentials for each in doubtful.deliveries
    ]
    for each in (held, rest):
        record_results(each, [Result(delivery, Outcome.SENT, 250) for delivery in each.deliveries])
    assert counters(mailing) == {"sent": 3, "cancelled": 3}
    assert again(mailing).state is MailingState.CANCELLED


def test_cancelling_while_nothing_is_under_way_ends_at_once(admin: Actor, kenton: Customer) -> None:
    mailing = start(admin, [make_user(kenton) for _ in range(3)])
    mailing_controls.cancel_mailing(admin, mailing)
    assert again(mailing).state is MailingState.CANCELLED
    assert counters(mailing) == {"cancelled": 3}
    assert claim(mailing) is None
    with pytest.raises(Conflict):
        mailing_controls.resume_mailing(admin, again(mailing))
    with pytest.raises(Conflict):
        mailing_controls.retry_failed(admin, again(mailing))


def test_retrying_takes_the_failed_ones_with_new_credentials(
    admin: Actor, kenton: Customer
) -> None:
    users = [make_user(kenton) for _ in range(3)]
    mailing = start(admin, users)
    held = claim(mailing)
    assert held is not None
    outcomes = [Outcome.FAILED, Outcome.SENT, Outcome.FAILED]
    record_results(
        held,
        [
            Result(each, outcome, 550 if outcome is Outcome.FAILED else 250)
            for each, outcome in zip(held.deliveries, outcomes, strict=True)
        ],
    )
    assert again(mailing).state is MailingState.FINISHED
    assert mailing_controls.retry_failed(admin, again(mailing)) == 2
    assert counters(mailing) == {"queued": 2, "sent": 1}
    assert again(mailing).state is MailingState.RUNNING
    anew = claim(mailing)
    assert anew is not None
    before = {each.id: each for each in held.deliveries}
    for each in anew.deliveries:
        assert each.credentials != before[each.id].credentials
        assert each.message_id != before[each.id].message_id
        assert each.attempts == 0
    record_results(anew, [Result(each, Outcome.SENT, 250) for each in anew.deliveries])
    with pytest.raises(Conflict, match="Nothing"):
        mailing_controls.retry_failed(admin, again(mailing))


def test_two_people_steer_at_once_and_one_of_them_is_told(admin: Actor, kenton: Customer) -> None:
    mailing = start(admin, [make_user(kenton)])
    mailing_controls.pause_mailing(admin, mailing)
    with pytest.raises(Conflict, match="paused"):
        mailing_controls.pause_mailing(admin, again(mailing))
    mailing_controls.resume_mailing(admin, again(mailing))
    with pytest.raises(Conflict, match="running"):
        mailing_controls.resume_mailing(admin, again(mailing))


def test_every_step_is_in_the_audit_trail(admin: Actor, kenton: Customer) -> None:
    mailing = start(admin, [make_user(kenton)])
    mailing_controls.pause_mailing(admin, mailing)
    mailing_controls.resume_mailing(admin, again(mailing))
    fail_all(mailing)
    mailing_controls.retry_failed(admin, again(mailing))
    mailing_controls.cancel_mailing(admin, again(mailing))
    list(mailings.export_deliveries(admin, again(mailing)))
    found = db.session.scalars(
        sa.select(AuditEvent.action)
        .where(AuditEvent.object_type == "mailing", AuditEvent.object_id == mailing.id)
        .order_by(AuditEvent.id)
    ).all()
    verbs = ["confirmed", "paused", "resumed", "retried", "cancelled", "exported"]
    assert found == [f"mailing.{verb}" for verb in verbs]


# --- Reading -----------------------------------------------------------------------------------


def test_a_changed_application_password_that_was_not_mailed_is_listed_until_mended(
    admin: Actor, kenton: Customer
) -> None:
    user = make_user(kenton)
    mailing = start(admin, [user])
    held = claim(mailing)
    assert held is not None
    failed = Result(held.deliveries[0], Outcome.FAILED, 550, "No such user")
    failed.application_password_set = True
    record_results(held, [failed])
    assert [row.user_id for row in mailings.list_unmailed_passwords(again(mailing), 5)] == [user.id]
    newer = start(admin, [user])
    held = claim(newer)
    assert held is not None
    record_results(held, [Result(held.deliveries[0], Outcome.SENT, 250)])
    assert mailings.list_unmailed_passwords(again(mailing), 5) == []


def test_the_pace_is_of_the_counters_alone() -> None:
    now = utcnow()
    running = Mailing(
        state=MailingState.RUNNING,
        queued=60,
        sending=0,
        sent=30,
        bounced=0,
        failed=10,
        started_at=now - timedelta(seconds=20),
    )
    pace = mailings.measure_pace(running, now)
    assert pace.per_second == pytest.approx(2.0)
    assert pace.seconds_left == 30
    running.sent = running.failed = 0
    assert mailings.measure_pace(running, now).seconds_left is None


def test_a_mailing_of_another_customer_is_none(admin: Actor, kenton: Customer) -> None:
    mailing = start(admin, [make_user(kenton)])
    with pytest.raises(NotFound):
        mailings.get_mailing(admin, find_customer("CQ002"), mailing.id)


def test_a_template_that_was_archived_meanwhile_sends_nothing(
    admin: Actor, kenton: Customer
) -> None:
    template = make_template(kenton)
    version = get_current_version(template)
    template.archived_at = utcnow()
    db.session.commit()
    with pytest.raises((NotFound, Conflict)):
        mailing_confirmations.confirm_mailing(
            admin,
            kenton,
            version.id,
            [make_user(kenton).id],
            include_recent=True,
            confirmation="x" * 20,
        )
    db.session.rollback()
    assert db.session.scalar(sa.select(sa.func.count()).select_from(Mailing)) == 0


def test_a_preview_shows_no_password(admin: Actor, kenton: Customer) -> None:
    template = make_welcome(kenton)
    user = make_user(kenton)
    preview = mailing_confirmations.preview_mailing(
        admin, kenton, template.id, [user.id], include_recent=True
    )
    assert preview.message is not None
    assert preview.resets_portal
    assert preview.resets_application
    assert "••••" in preview.message.text
    sealed = seals.seal(seals.sealer(), Credentials("a", "b"))
    assert sealed not in preview.message.html.encode()
