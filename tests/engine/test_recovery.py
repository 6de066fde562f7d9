"""What dead workers leave, on this machine and on others, and what their journals are good for."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask

from config import Settings
from extensions import db, queues
from jobs.sweeps import sweep
from models import DeliveryClaim, DeliveryState, LocalPlatformAccount, User, utcnow
from services import claim_recovery, deliveries, delivery_claims, passwords
from services.delivery_claims import Claim
from services.delivery_journal import Journal
from services.delivery_results import NOTED_IN_JOURNAL
from tests.support.claims import counters, must_claim, rows_of
from tests.support.factories import actor_for, find_customer, make_user
from tests.support.promises import start_welcome
from tests.support.smtp_sink import SmtpSink, Stage
from tests.support.work import Process, wait_until

ADMIN = "prpkeAdmin@kenton-electronics.com"


@pytest.fixture
def users(app_context: Flask) -> list[User]:
    customer = find_customer("CQ001")
    return [make_user(customer) for _ in range(6)]


def start(users: list[User]) -> int:
    return start_welcome(actor_for(ADMIN), "CQ001", users, enqueue=False)


def age(held: Claim, seconds: float, worker: str | None = None) -> None:
    """Its lease ended `seconds` ago."""
    values: dict[str, object] = {"expires_at": utcnow() - timedelta(seconds=seconds)}
    if worker is not None:
        values["worker"] = worker
    db.session.execute(
        sa.update(DeliveryClaim).where(DeliveryClaim.token == held.token).values(**values)
    )
    db.session.commit()


def write_journal(settings: Settings, held: Claim, accepted: int) -> None:
    journal = Journal.open(settings.var_dir, held.token)
    for each in held.deliveries[:accepted]:
        journal.note(each.id, 250)
    journal.close()


def test_what_the_journal_names_is_sent_and_the_rest_goes_back(
    users: list[User], settings: Settings
) -> None:
    mailing_id = start(users)
    held = must_claim(mailing_id)
    deliveries._set_application_passwords(held.deliveries)
    write_journal(settings, held, accepted=4)
    age(held, 1)
    assert claim_recovery.expire_claims() == 2
    assert counters(mailing_id) == {"sent": 4, "queued": 2}
    for row, each in zip(rows_of(mailing_id), held.deliveries, strict=True):
        if row.state is DeliveryState.SENT:
            assert (row.answer_code, row.answer, row.seal) == (250, NOTED_IN_JOURNAL, None)
            assert row.application_password_set
            assert passwords.verify(row.user.password_hash, each.credentials.portal)
            account = db.session.get_one(LocalPlatformAccount, row.user_id)
            assert passwords.verify(account.password_hash, each.credentials.application)
        else:
            assert row.in_doubt
            assert row.message_id == each.message_id
            assert not passwords.verify(row.user.password_hash, each.credentials.portal)
    assert list((settings.var_dir / "journal").iterdir()) == []


def test_a_journal_that_names_all_ends_the_mailing(users: list[User], settings: Settings) -> None:
    mailing_id = start(users)
    held = must_claim(mailing_id)
    write_journal(settings, held, accepted=6)
    age(held, 1)
    assert claim_recovery.expire_claims() == 0
    assert counters(mailing_id) == {"sent": 6}


def test_a_journal_that_is_damaged_costs_repeats_and_nothing_else(
    users: list[User], settings: Settings
) -> None:
    mailing_id = start(users)
    held = must_claim(mailing_id)
    write_journal(settings, held, accepted=6)
    path: Path = settings.var_dir / "journal" / held.token
    path.write_bytes(b"rubbish")
    age(held, 1)
    assert claim_recovery.expire_claims() == 6
    assert counters(mailing_id) == {"queued": 6}


def test_a_claim_of_another_machine_is_left_to_its_own_workers_for_a_moment(
    users: list[User],
) -> None:
    mailing_id = start(users)
    held = must_claim(mailing_id)
    age(held, 1, worker="elsewhere:17")
    assert claim_recovery.expire_claims() == 0
    assert claim_recovery.expire_claims_of_this_machine() == 0
    assert counters(mailing_id) == {"sending": 6}
    age(held, 6)
    assert claim_recovery.expire_claims_of_this_machine() == 0
    assert claim_recovery.expire_claims() == 6


def test_a_machine_whose_name_begins_like_ours_is_another_one(users: list[User]) -> None:
    held = must_claim(start(users))
    age(held, 1, worker=f"{delivery_claims.machine_name()}x:17")
    assert claim_recovery.expire_claims_of_this_machine() == 0


def test_what_a_dead_child_held_goes_on_at_once(users: list[User]) -> None:
    mailing_id = start(users)
    must_claim(mailing_id)
    assert claim_recovery.recover_claims_of(os.getpid() + 1) == 0
    assert claim_recovery.recover_claims_of(os.getpid()) == 6
    assert counters(mailing_id) == {"queued": 6}


def test_orphaned_journals_are_removed_and_living_ones_are_not(
    users: list[User], settings: Settings
) -> None:
    held = must_claim(start(users))
    Journal.open(settings.var_dir, held.token).close()
    orphan = "0" * 32
    Journal.open(settings.var_dir, orphan).close()
    folder = settings.var_dir / "journal"
    for path in folder.iterdir():
        os.utime(path, (time.time() - 7200,) * 2)
    claim_recovery.remove_orphaned_journals()
    assert [path.name for path in folder.iterdir()] == [held.token]


def test_a_killed_child_is_replaced_without_waiting_for_its_lease(
    app_context: Flask, users: list[User], settings: Settings, sink: SmtpSink
) -> None:
    """The lease is 10 seconds and nothing sweeps: only the parent can have noticed."""
    sink.delay(Stage.END, 0.3)
    mailing_id = start(users)
    queues.start_mailing("interactive", mailing_id, 6)
    worker = Process(settings, "worker")
    try:
        wait_until(lambda: bool(sink.mails))
        db.session.rollback()
        name = db.session.scalars(sa.select(DeliveryClaim.worker)).one()
        os.kill(int(name.rpartition(":")[2]), 9)
        wait_until(lambda: "sending" not in counters(mailing_id), seconds=8)
    finally:
        worker.kill()
    assert counters(mailing_id)["sent"] >= 1
    assert db.session.scalars(sa.select(DeliveryClaim)).all() == []


def test_the_sweep_adds_workers_to_a_large_mailing_up_to_the_limit(
    users: list[User], settings: Settings
) -> None:
    mailing_id = start(users)
    sweep()
    assert queues["interactive"].count == 1, "nobody was asked"
    queues["interactive"].empty()
    for number in range(settings.delivery_jobs):
        held = must_claim(mailing_id, 1)
        db.session.execute(
            sa.update(DeliveryClaim)
            .where(DeliveryClaim.token == held.token)
            .values(worker=f"here:{number}")
        )
        db.session.commit()
        sweep()
        wanted = 1 if number + 1 < settings.delivery_jobs else 0
        assert queues["interactive"].count == wanted, f"with {number + 1} workers"
        queues["interactive"].empty()
