"""How fast the engine goes: ceilings, slow servers, and what goes first."""

from __future__ import annotations

import os
import signal
import time
from datetime import timedelta
from functools import partial

import pytest
import sqlalchemy as sa
from flask import Flask
from redis.exceptions import RedisError
from sqlalchemy.exc import OperationalError

from config import Settings
from extensions import db, queues
from jobs import deliveries as jobs
from models import Lane, LocalPlatformAccount, Mailing, SignInSession, User, utcnow
from services import claim_recovery, deliveries
from tests.support.claims import counters, rows_of
from tests.support.factories import actor_for, find_customer, find_user, make_user, save
from tests.support.promises import check_promises, start_welcome
from tests.support.smtp_sink import SmtpSink, Stage
from tests.support.webhooks import make_endpoint, make_message
from tests.support.work import Process, wait_until

ADMIN = "prpkeAdmin@kenton-electronics.com"
DELIVER = "jobs.deliveries.deliver_mailing"


@pytest.fixture
def settings_changes(request: pytest.FixtureRequest) -> dict[str, str]:
    return {"SELECTION_LIMIT": "500", **getattr(request, "param", {})}


def start(count: int, domain: str = "kenton-electronics.com") -> int:
    customer = find_customer("CQ001")
    people = [make_user(customer, email=f"p{n}@{domain}") for n in range(count)]
    return start_welcome(actor_for(ADMIN), "CQ001", people, enqueue=False)


def changed_accounts() -> int:
    db.session.rollback()
    return db.session.scalar(sa.select(sa.func.count()).select_from(LocalPlatformAccount)) or 0


@pytest.mark.parametrize("settings_changes", [{"MAIL_MAX_PER_SECOND": "40"}], indirect=True)
def test_a_ceiling_delays_mails_and_loses_none(app_context: Flask, sink: SmtpSink) -> None:
    mailing_id = start(60)
    while deliveries.deliver_mailing(mailing_id):
        pass
    assert counters(mailing_id) == {"sent": 60}
    assert check_promises(mailing_id, sink) == 0
    assert {row.attempts for row in rows_of(mailing_id)} == {1}
    arrived = sorted(mail.received_at for mail in sink.mails)
    # Ten at once, then forty a second: sixty cannot all be there after one second.
    assert arrived[-1] - arrived[0] > 1


@pytest.mark.parametrize(
    "settings_changes",
    [{"MAIL_MAX_PER_SECOND_PER_DOMAIN": "2", "DELIVERY_SLICE_SECONDS": "1"}],
    indirect=True,
)
def test_a_domain_at_its_ceiling_holds_up_no_other(app_context: Flask, sink: SmtpSink) -> None:
    customer = find_customer("CQ001")
    people: list[User] = [make_user(customer, email=f"s{n}@slow.example") for n in range(8)]
    people += [make_user(customer, email=f"f{n}@fast{n}.example") for n in range(30)]
    mailing_id = start_welcome(actor_for(ADMIN), "CQ001", people, enqueue=False)
    assert deliveries.deliver_mailing(mailing_id)
    domains = [mail.recipient.partition("@")[2] for mail in sink.mails]
    assert len([each for each in domains if each.startswith("fast")]) == 30
    assert domains.count("slow.example") < 8
    while deliveries.deliver_mailing(mailing_id):
        pass
    assert counters(mailing_id) == {"sent": 38}


@pytest.mark.parametrize("settings_changes", [{"DELIVERY_SLICE_SECONDS": "0.5"}], indirect=True)
def test_a_slow_server_has_no_application_passwords_changed_long_before_their_mails(
    app_context: Flask, sink: SmtpSink
) -> None:
    before = changed_accounts()
    sink.delay(Stage.END, 0.2)
    mailing_id = start(300)
    assert deliveries.deliver_mailing(mailing_id)
    assert 0 < counters(mailing_id)["sent"] < 50
    assert changed_accounts() - before <= 100


def test_what_is_urgent_ends_a_slice_between_two_mails(app_context: Flask, sink: SmtpSink) -> None:
    sink.delay(Stage.END, 0.1)
    mailing_id = start(60)
    assert deliveries.deliver_mailing(mailing_id, interrupted=lambda: len(sink.mails) >= 4)
    assert counters(mailing_id)["sent"] < 30
    assert counters(mailing_id)["sent"] + counters(mailing_id)["queued"] == 60


@pytest.mark.parametrize("settings_changes", [{"DELIVERY_SLICE_SECONDS": "0.5"}], indirect=True)
def test_a_slice_goes_on_until_others_wait(app_context: Flask, sink: SmtpSink) -> None:
    sink.delay(Stage.END, 0.05)
    mailing_id = start(200)
    asked: list[int] = []

    def others_wait() -> bool:
        asked.append(len(sink.mails))
        return len(asked) == 3

    assert deliveries.deliver_mailing(mailing_id, others_wait=others_wait)
    assert len(asked) == 3
    assert asked[0] < asked[1] < asked[2] <= counters(mailing_id)["sent"] < 200
    assert len({mail.session for mail in sink.mails}) <= 2, "it connected anew"
    sink.delay(Stage.END, 0.0)
    assert not deliveries.deliver_mailing(mailing_id, others_wait=lambda: False)
    assert counters(mailing_id) == {"sent": 200}
    assert check_promises(mailing_id, sink) == 0


@pytest.mark.parametrize("settings_changes", [{"DELIVERY_SLICE_SECONDS": "0.2"}], indirect=True)
def test_a_slice_ends_after_a_while_though_nothing_else_waits(
    app_context: Flask, sink: SmtpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "_LONGEST_SECONDS", 0.7)
    sink.delay(Stage.END, 0.05)
    mailing_id = start(200)
    assert deliveries.deliver_mailing(mailing_id, others_wait=lambda: False)
    assert 0 < counters(mailing_id)["sent"] < 200


def test_as_many_workers_make_room_as_jobs_wait(app_context: Flask) -> None:
    first = ("interactive", "default")
    assert not queues.makes_room(first)
    queues.enqueue("bulk", DELIVER, 1)
    assert not queues.makes_room(first)
    queues.enqueue("interactive", "jobs.sweeps.sweep")
    assert [queues.makes_room(first) for _ in range(3)] == [True, False, False]
    queues.enqueue("default", DELIVER, 2)
    assert [queues.makes_room(first) for _ in range(3)] == [True, False, False]
    time.sleep(0.6)
    assert queues.makes_room(first), "what waits on goes unheard"


@pytest.mark.parametrize("settings_changes", [{"DELIVERY_SLICE_SECONDS": "0.3"}], indirect=True)
@pytest.mark.parametrize("what", ["another mailing", "a message to a webhook", "more of the same"])
def test_a_job_makes_room_for_others_but_not_for_its_like(
    app_context: Flask, sink: SmtpSink, what: str
) -> None:
    sink.delay(Stage.END, 0.05)
    mailing_id = start(60)
    if what == "another mailing":
        queues.enqueue("bulk", DELIVER, start(1))
    elif what == "a message to a webhook":
        make_message(make_endpoint())
    else:
        queues.enqueue("bulk", DELIVER, mailing_id)
    jobs.deliver_mailing(mailing_id)
    if what == "more of the same":
        assert counters(mailing_id) == {"sent": 60}
        assert queues["bulk"].count == 1
    else:
        assert 0 < counters(mailing_id)["sent"] < 60
        waiting = [
            (each.func_name, each.args) for name in queues.NAMES for each in queues[name].jobs
        ]
        assert (DELIVER, [mailing_id]) in waiting, "nobody comes back for the rest"
        assert len(waiting) == 2, "somebody is asked for twice"


@pytest.mark.parametrize("settings_changes", [{"DELIVERY_SLICE_SECONDS": "0.3"}], indirect=True)
@pytest.mark.parametrize("error", [RedisError("gone"), OperationalError("gone", None, OSError())])
@pytest.mark.parametrize("question", ["interrupted", "others_wait"])
def test_a_slice_ends_in_good_order_when_nobody_can_tell_what_waits(
    app_context: Flask, sink: SmtpSink, question: str, error: Exception
) -> None:
    sink.delay(Stage.END, 0.05)
    mailing_id = start(60)

    def fail() -> bool:
        if len(sink.mails) < 4:
            return False
        raise error

    questions = {"others_wait": lambda: False, question: fail}
    assert deliveries.deliver_mailing(mailing_id, **questions)
    done = counters(mailing_id)
    assert 0 < done["sent"] == len(sink.mails) < 60
    assert done["queued"] == 60 - done["sent"]
    assert not [row for row in rows_of(mailing_id) if row.in_doubt]


@pytest.mark.parametrize("settings_changes", [{"DELIVERY_SLICE_SECONDS": "0.5"}], indirect=True)
def test_a_worker_that_is_to_stop_does_not_go_on(
    app_context: Flask, settings: Settings, sink: SmtpSink
) -> None:
    sink.delay(Stage.END, 0.05)
    mailing_id = start(400)
    queues.enqueue("bulk", DELIVER, mailing_id)
    with Process(settings, "worker") as worker:
        wait_until(lambda: len(sink.mails) > 20)  # So that it would be in its second slice.
        os.kill(worker.pid, signal.SIGTERM)
        worker.wait(10)
    done = counters(mailing_id)
    assert 0 < done["sent"] == len(sink.mails) < 400
    assert done["queued"] == 400 - done["sent"]


def start_bulk(count: int) -> int:
    """As `start`, in the lane of large mailings."""
    mailing_id = start(count)
    db.session.get_one(Mailing, mailing_id).lane = Lane.BULK
    db.session.commit()
    return mailing_id


def leave_something_to_sweep() -> int:
    """A session that is over, which a sweep forgets; returns its id."""
    long_ago = utcnow() - timedelta(days=1)
    owner = find_user("operator@foyer.example").id
    return save(SignInSession(token_hash="a" * 64, user_id=owner, last_seen_at=long_ago)).id


def is_swept(session_id: int) -> bool:
    db.session.rollback()
    return db.session.get(SignInSession, session_id) is None


@pytest.mark.parametrize("settings_changes", [{"SWEEP_SECONDS": "0.5"}], indirect=True)
def test_bulk_mail_sweeps_as_it_goes_and_leaves_off_for_nobody(
    app_context: Flask, settings: Settings, sink: SmtpSink
) -> None:
    sink.delay(Stage.END, 0.05)
    mailing_id = start_bulk(480)
    queues.enqueue("bulk", DELIVER, mailing_id)
    with Process(settings, "worker"):
        wait_until(lambda: len(sink.mails) > 20)
        for _ in range(3):
            session_id = leave_something_to_sweep()
            wait_until(partial(is_swept, session_id))
        before = len(sink.mails)
        wait_until(lambda: len(sink.mails) > before)
    assert len(sink.mails) < 480, "the sweeps may have come after the mailing"
    assert len({mail.session for mail in sink.mails}) <= 2, "it connected anew"


@pytest.mark.parametrize("settings_changes", [{"SWEEP_SECONDS": "0.5"}], indirect=True)
def test_who_works_on_bulk_mail_leaves_a_turn_that_is_taken(
    app_context: Flask, sink: SmtpSink
) -> None:
    sink.delay(Stage.END, 0.05)
    mailing_id = start_bulk(60)
    session_id = leave_something_to_sweep()
    assert queues.take_turn_to_sweep(15)
    jobs.deliver_mailing(mailing_id)
    assert counters(mailing_id) == {"sent": 60}
    assert not is_swept(session_id)


@pytest.mark.parametrize("settings_changes", [{"SWEEP_SECONDS": "0.5"}], indirect=True)
@pytest.mark.parametrize("fault", ["the sweep", "the queue"])
def test_a_sweep_that_fails_stops_no_mail_and_is_made_again(
    app_context: Flask, sink: SmtpSink, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    sink.delay(Stage.END, 0.05)
    mailing_id = start_bulk(120)
    session_id = leave_something_to_sweep()
    failures = ["once"]

    def fail_once(*_: object) -> None:
        if failures:
            raise RedisError(failures.pop()) if fault == "the queue" else ValueError(failures.pop())

    if fault == "the sweep":
        monkeypatch.setattr(claim_recovery, "expire_claims", fail_once)
    else:
        take = queues.take_turn_to_sweep

        def take_turn(interval: float) -> bool:
            fail_once()
            return take(interval)

        monkeypatch.setattr(queues, "take_turn_to_sweep", take_turn)
    jobs.deliver_mailing(mailing_id)
    assert not failures
    assert counters(mailing_id) == {"sent": 120}
    assert len({mail.session for mail in sink.mails}) <= 2, "it connected anew"
    assert is_swept(session_id)


def test_a_server_that_takes_one_connection_is_used_with_one(
    app_context: Flask, sink: SmtpSink
) -> None:
    sink.answer(Stage.CONNECT, 421, "One is enough", times=1)
    mailing_id = start(40)
    deliveries.deliver_mailing(mailing_id)
    assert counters(mailing_id) == {"sent": 40}
    assert len({mail.session for mail in sink.mails}) == 1


def test_a_returned_mail_is_asked_to_carry_headers_only(app_context: Flask, sink: SmtpSink) -> None:
    sink.dsn = True
    deliveries.deliver_mailing(start(1))
    (command,) = [each for each in sink.commands if each.startswith("MAIL")]
    assert " RET=HDRS" in command
    assert len(sink.mails) == 1


def test_a_server_that_knows_no_reports_is_not_asked_for_them(
    app_context: Flask, sink: SmtpSink
) -> None:
    deliveries.deliver_mailing(start(1))
    assert not [each for each in sink.commands if "RET=" in each]
