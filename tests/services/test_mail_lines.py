"""The line to the mail server: it waits longer each time, counts an outage once, and recovers."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import MailLine, utcnow
from services import mail_lines


@pytest.fixture
def settings_changes() -> dict[str, str]:
    return {"MAIL_DOWN_DELAYS": "2,5,30"}


def let_pass() -> None:
    """The block runs out."""
    db.session.execute(sa.update(MailLine).values(blocked_until=utcnow() - timedelta(seconds=1)))
    db.session.commit()


def is_blocked() -> bool:
    with db.engine.connect() as connection:
        return mail_lines.is_blocked(connection, utcnow())


def test_every_failure_in_a_row_waits_longer_up_to_the_last_delay(app_context: Flask) -> None:
    for delay in (2, 5, 30, 30, 30):
        before = utcnow()
        until = mail_lines.block_line("Connection refused")
        after = utcnow()
        assert before + timedelta(seconds=delay) <= until <= after + timedelta(seconds=delay)
        assert is_blocked()
        let_pass()
        assert not is_blocked()


def test_a_block_is_shown_with_its_reason_until_it_is_over(app_context: Flask) -> None:
    assert mail_lines.find_block() is None
    until = mail_lines.block_line("Connection refused" + "x" * 600)
    block = mail_lines.find_block()
    assert block is not None
    assert block.reason.startswith("Connection refused")
    assert len(block.reason) == 500
    assert abs((block.blocked_until or utcnow()) - until) < timedelta(milliseconds=1)
    assert mail_lines.find_block(until + timedelta(seconds=1)) is None


def test_who_meets_a_blocked_line_does_not_lengthen_it(app_context: Flask) -> None:
    until = mail_lines.block_line("down")
    assert mail_lines.block_line("down") == until
    assert failures() == 1


def failures() -> int:
    db.session.rollback()
    return db.session.get_one(MailLine, mail_lines.LINE, populate_existing=True).failures


def test_workers_that_see_the_same_outage_at_once_count_as_one(app_context: Flask) -> None:
    gate = threading.Barrier(6)
    found = []

    def fail() -> None:
        with app_context.app_context():
            gate.wait()
            found.append(mail_lines.block_line("down"))

    threads = [threading.Thread(target=fail) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert failures() == 1
    assert len(set(found)) == 1


def test_an_answer_forgets_past_failures(app_context: Flask) -> None:
    mail_lines.open_line()  # Nothing has ever failed.
    for _ in range(3):
        mail_lines.block_line("down")
        let_pass()
    mail_lines.open_line()
    assert failures() == 0
    assert not is_blocked()
    before = utcnow()
    assert mail_lines.block_line("down again") < before + timedelta(seconds=3)
