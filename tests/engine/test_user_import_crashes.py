"""Imports with workers that are killed: each row once, whatever the moment."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from jobs.sweeps import sweep
from models import AuditEvent, ImportState, UserImport
from services import user_import_runs, user_imports
from services.user_imports import Choices
from tests.support.crashing_importer import (
    CHECK_POINTS,
    IMPORT_POINTS,
    work_and_be_killed,
    work_and_die,
)
from tests.support.factories import actor_for, find_customer
from tests.support.smtp_sink import SmtpSink
from tests.support.user_imports import (
    check_counters,
    checked,
    csv_file,
    expire_leases,
    people,
    upload,
    users_named,
)

pytestmark = pytest.mark.timeout(120)

ADMIN = "prpkeAdmin@kenton-electronics.com"
ROWS = 50


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_import_runs, "CHUNK", 10)


def take_over(work: Callable[[], None]) -> None:
    """What the next sweep does once the dead worker's lease has expired."""
    expire_leases()
    sweep()
    work()


def check_imported(import_id: int, sink: SmtpSink) -> None:
    """Everybody once: user, row, event, and welcome mail."""
    kenton = find_customer("CQ001")
    found = user_imports.get_import(actor_for(ADMIN), kenton, import_id)
    assert (found.state, found.added, found.failed) == (ImportState.FINISHED, ROWS, 0)
    check_counters(found)
    assert len(users_named(kenton)) == ROWS
    events = sa.select(sa.func.count()).select_from(AuditEvent)
    for action, count in (("user.added", ROWS), ("user_import.finished", 1)):
        assert db.session.scalar(events.where(AuditEvent.action == action)) == count
    assert found.mailing is not None
    assert found.mailing.total == ROWS
    assert sorted(mail.recipient for mail in sink.mails) == sorted(
        f"imported{number}@mail.example" for number in range(1, ROWS + 1)
    )


def prepared() -> int:
    """A checked file that has been begun, with welcome mails to follow."""
    alice, kenton = actor_for(ADMIN), find_customer("CQ001")
    found = checked(alice, kenton, csv_file(*people(ROWS)), sends_welcome=True)
    return user_imports.start_import(alice, kenton, found.id).id


@pytest.mark.parametrize("point", CHECK_POINTS)
def test_a_worker_killed_while_it_checks_leaves_each_row_once(
    app_context: Flask, work: Callable[[], None], point: str
) -> None:
    alice, kenton = actor_for(ADMIN), find_customer("CQ001")
    found = upload(alice, kenton, csv_file(*people(ROWS)))
    user_imports.check_import(alice, kenton, found.id, Choices(columns=found.columns))
    work_and_die(found.id, CHECK_POINTS[point])
    take_over(work)
    found = user_imports.get_import(actor_for(ADMIN), find_customer("CQ001"), found.id)
    assert (found.state, found.to_add, found.faulty) == (ImportState.CHECKED, ROWS, 0)
    check_counters(found)


@pytest.mark.parametrize("point", IMPORT_POINTS)
def test_a_worker_killed_while_it_imports_adds_everybody_once(
    app_context: Flask, work: Callable[[], None], sink: SmtpSink, point: str
) -> None:
    import_id = prepared()
    work_and_die(import_id, IMPORT_POINTS[point])
    take_over(work)
    check_imported(import_id, sink)


def test_workers_killed_at_random_moments_add_everybody_once(
    app_context: Flask, work: Callable[[], None], sink: SmtpSink
) -> None:
    import_id = prepared()
    moments = random.Random()
    for _ in range(8):
        if not work_and_be_killed(import_id, moments.uniform(0.005, 0.15)):
            break
        expire_leases()
    take_over(work)
    check_imported(import_id, sink)


def test_an_import_that_was_never_enqueued_is_found(
    app_context: Flask, work: Callable[[], None], sink: SmtpSink
) -> None:
    import_id = prepared()
    assert db.session.get_one(UserImport, import_id).state is ImportState.IMPORTING
    sweep()
    work()
    check_imported(import_id, sink)
