"""Maintenance commands from a terminal: what is printed, what is asked, how it exits."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask

from config import Settings
from extensions import db, queues
from models import (
    AuditEvent,
    CommandRun,
    CommandRunState,
    CommandSource,
    Delivery,
    Mailing,
    MailingState,
    User,
    UserStatus,
)
from services import mailing_controls
from services.actors import Actor
from tests.support.commands import ENTRY, STANDARD
from tests.support.factories import actor_for, find_customer
from tests.support.smtp_sink import SmtpSink
from tests.support.work import ROOT, environment, wait_until

WELCOME = f"$$RESEND WELCOME EMAIL$$ {ENTRY}|CQ002"
OPERATOR = "operator@foyer.example"


def run(app: Flask, *args: str, stdin: str = "") -> tuple[int, str]:
    """Exit code and output, standard error included, of `flask command …`."""
    result = app.test_cli_runner().invoke(args=["command", *args], input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def count(app: Flask, model: type) -> int:
    with app.app_context():
        return db.session.scalar(sa.select(sa.func.count()).select_from(model)) or 0


def only_run(app: Flask) -> CommandRun:
    with app.app_context():
        return db.session.scalars(sa.select(CommandRun)).one()


# --- The dry run -------------------------------------------------------------------------------


def test_a_dry_run_prints_the_plan_and_keeps_nothing(app: Flask) -> None:
    code, output = run(app, "--dry-run", f"$$RESEND WELCOME EMAIL$$ {ENTRY}|CQ001;CQ002")
    assert code == 0
    lines = output.splitlines()
    assert lines[0] == f"Line 1: $$RESEND WELCOME EMAIL$$ {ENTRY}|CQ001;CQ002"
    assert "  E-mail template: Welcome. Portal and application passwords are reset." in lines
    assert "  Customer  Name               Bundle                    Recipients  Skipped" in lines
    assert f"  CQ002     Harborlight        {ENTRY}          30" in lines
    assert "  67 recipients." in lines
    skipped = "1 without an e-mail address, 1 suspended, 1 on the suppression list"
    assert f"  Skipped: {skipped}." in lines
    assert "    Subject: Your Foyer Communications account is ready" in lines
    assert "••••••••" in output
    assert count(app, CommandRun) == count(app, Mailing) == 0


def test_looking_needs_no_confirmation(app: Flask) -> None:
    code, output = run(app, "$$LIST CUSTOMERS$$")
    assert code == 0
    assert [line.split()[0] for line in output.splitlines()[2:]] == [
        "CQ001",
        "CQ002",
        "CQ003",
        "CQ101",
    ]
    kept = only_run(app)
    assert (kept.state, kept.source) == (CommandRunState.DONE, CommandSource.TERMINAL)
    assert kept.actor_id is None
    assert kept.actor_login.startswith("terminal:")


# --- Errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_errors_point_at_their_place(app: Flask) -> None:
    code, output = run(app, f"# sends\n$$RESEND WELCOME EMAIL$$ {STANDARD}|CQ001;CQ002")
    assert code == 1
    assert output.splitlines() == [
        f"Line 2, column 57: CQ002 does not have the bundle {STANDARD}. "
        "Assign it, or leave CQ002 out.",
        "  … EMAIL$$ Stand4PhoneNextGenBundle|CQ001;CQ002",
        "                                           ^^^^^",
        f"  Expected: customers that have {STANDARD}.",
    ]
    assert count(app, CommandRun) == 0


@pytest.mark.parametrize("engine_name", ["sqlite"])
@pytest.mark.parametrize("options", [("--dry-run",), ("--yes",)])
def test_errors_of_every_kind_are_printed_together(app: Flask, options: tuple[str, ...]) -> None:
    code, output = run(
        app,
        *options,
        f"$$RESEND WELCOME EMAIL$$ {ENTRY}|CQ999\n$$HELPP$$\n$$LIST CUSTOMERS$$",
    )
    assert code == 1
    assert [line for line in output.splitlines() if line.startswith("Line")] == [
        "Line 1, column 51: There is no customer “CQ999”.",
        "Line 2, column 1: There is no command “HELPP”. Did you mean “HELP”?",
    ]
    assert count(app, CommandRun) == count(app, Mailing) == 0


@pytest.mark.parametrize("engine_name", ["sqlite"])
@pytest.mark.parametrize(
    ("args", "code", "part"),
    [
        ((), 2, "Missing argument"),
        (("--wrong", "$$HELP$$"), 2, "No such option"),
        (("",), 1, "There is no command here"),
        (("1234HELP1234",), 1, "A command begins with “$$”"),
        (("--as", "nobody@foyer.example", "$$HELP$$"), 1, "no active member of staff"),
        (("--as", "prpkeAdmin@kenton-electronics.com", "$$HELP$$"), 1, "no active member"),
        (("--as", "auditor@foyer.example", "$$HELP$$"), 1, "role does not include"),
    ],
)
def test_what_cannot_be_run_exits_with_a_sentence(
    app: Flask, args: tuple[str, ...], code: int, part: str
) -> None:
    found, output = run(app, *args)
    assert found == code
    assert part in output


# --- Confirming --------------------------------------------------------------------------------


@pytest.mark.parametrize("engine_name", ["sqlite"])
@pytest.mark.parametrize("answer", ["n\n", "\n", ""], ids=["no", "enter", "end of input"])
def test_without_a_yes_nothing_is_done(app: Flask, answer: str) -> None:
    code, output = run(app, WELCOME, stdin=answer)
    assert code == 4
    assert "Run this and send 30 mails? [y/N]" in output
    assert "Nothing was done." in output
    assert count(app, Mailing) == 0
    assert only_run(app).state is CommandRunState.PLANNED


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_who_pipes_the_text_in_cannot_be_asked(app: Flask) -> None:
    code, output = run(app, "-", stdin=f"{WELCOME}\ny\n")
    assert code == 1, "the answer is a line of the text"
    assert "Line 2" in output
    code, output = run(app, "-", stdin=f"{WELCOME}\n")
    assert code == 4
    assert "With --yes" in output
    assert count(app, Mailing) == 0


def test_a_yes_runs_it_and_tells_the_workers(app: Flask) -> None:
    code, output = run(app, "--no-wait", WELCOME, stdin="y\n")
    assert code == 0
    assert "Line 1: Mailing 1 goes to 30 users." in output
    with app.app_context():
        mailing = db.session.scalars(sa.select(Mailing)).one()
        assert (mailing.queued, mailing.created_by_id) == (30, None)
        jobs = queues["bulk"].jobs
        assert [(job.func_name, list(job.args)) for job in jobs] == [
            ("jobs.deliveries.deliver_mailing", [mailing.id])
        ]


def test_many_lines_come_from_standard_input(app: Flask) -> None:
    text = f"\ufeff# two mailings\r\n{WELCOME}\r\n$$RESEND WELCOME EMAIL$$ {STANDARD}|CQ101\r\n"
    code, output = run(app, "--yes", "--no-wait", "-", stdin=text)
    assert code == 0, output
    assert "Together: 42 recipients, 0 skipped." in output
    assert "Line 2: Mailing" in output
    assert "Line 3: Mailing" in output
    assert count(app, Mailing) == 2


def test_as_acts_in_somebodys_name_and_scope(app: Flask) -> None:
    code, _ = run(app, "--as", OPERATOR, "--yes", "--no-wait", WELCOME)
    assert code == 0
    with app.app_context():
        operator = actor_for(OPERATOR)
        mailing = db.session.scalars(sa.select(Mailing)).one()
        assert mailing.created_by_id == operator.user_id
        event = db.session.scalars(
            sa.select(AuditEvent).where(AuditEvent.action == "command.run")
        ).one()
        assert event.actor_login == OPERATOR
        assert event.address.startswith("terminal:")
        db.session.get_one(User, operator.user_id).all_groups = False
        db.session.commit()
    code, output = run(app, "--as", OPERATOR, "--dry-run", WELCOME)
    assert code == 1
    assert "There is no customer “CQ002”." in output


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_what_changes_while_it_is_asked_is_refused(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def confirm(_question: str) -> bool:
        users = sa.update(User).where(User.customer_id == find_customer("CQ002").id)
        db.session.execute(users.values(status=UserStatus.SUSPENDED))
        db.session.commit()
        return True

    monkeypatch.setattr("click.confirm", confirm)
    code, output = run(app, WELCOME)
    assert code == 1
    assert "Refused, and nothing was done" in output
    assert "30 suspended" in output
    assert only_run(app).state is CommandRunState.REFUSED
    assert count(app, Delivery) == 0


# --- Watching ----------------------------------------------------------------------------------


@pytest.fixture
def working(app: Flask, monkeypatch: pytest.MonkeyPatch, work: Callable[[], None]) -> list[float]:
    """Instead of waiting, the watcher works the queues; returns how often it waited."""
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        work()

    monkeypatch.setattr("cli._wait", wait)
    return waits


def test_it_waits_until_everything_is_sent(
    app: Flask, sink: SmtpSink, working: list[float]
) -> None:
    code, output = run(app, "--yes", WELCOME)
    assert code == 0, output
    assert "0 of 30 done" in output
    assert output.splitlines()[-1] == "30 of 30 sent."
    assert len(sink.mails) == 30
    assert working


def test_failed_deliveries_have_an_exit_code(
    app: Flask, sink: SmtpSink, working: list[float]
) -> None:
    with app.app_context():
        address = db.session.scalars(
            sa.select(User.email).where(
                User.customer_id == find_customer("CQ002").id, User.bundle_id.is_not(None)
            )
        ).first()
    sink.refuse(address, 550, "No such user")
    code, output = run(app, "--yes", WELCOME)
    assert code == 3
    assert "29 of 30 sent." in output
    assert "1 failed, bounced or cancelled." in output


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_a_mailing_that_somebody_pauses_is_not_waited_for(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pause(_seconds: float) -> None:
        mailing = db.session.scalars(sa.select(Mailing)).one()
        mailing_controls.pause_mailing(Actor.from_terminal("other"), mailing)

    monkeypatch.setattr("cli._wait", pause)
    code, output = run(app, "--yes", WELCOME)
    assert code == 5
    assert "Paused until $$RESUME MAILING$$: 1." in output


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_steering_alone_is_not_watched(app: Flask) -> None:
    assert run(app, "--yes", "--no-wait", WELCOME)[0] == 0
    code, output = run(app, "--yes", "$$PAUSE MAILING$$ 1")
    assert code == 0
    assert output.splitlines()[-1] == "Line 1: Mailing 1 is paused."
    with app.app_context():
        assert db.session.get_one(Mailing, 1).state is MailingState.PAUSED


# --- Real processes ----------------------------------------------------------------------------


@contextmanager
def process(settings: Settings, *args: str, stdout: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "flask", "--app", "app", "command", *args]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**environment(settings), "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.STDOUT,
    ) as started:
        try:
            yield started
        finally:
            started.kill()


def test_a_process_watches_others_do_the_work(
    app: Flask, settings: Settings, sink: SmtpSink, work: Callable[[], None]
) -> None:
    """On a terminal, so that the bar is drawn."""
    terminal, its_end = pty.openpty()
    with process(settings, "--yes", WELCOME, stdout=its_end) as started:
        os.close(its_end)
        wait_until(lambda: count(app, Mailing) == 1)
        wait_until(lambda: _queued(app) > 0)
        work()
        output = _read_all(terminal)
        assert started.wait(30) == 0, output
    assert "Sending" in output
    assert "100%" in output
    assert "30 of 30 sent." in output
    assert len(sink.mails) == 30


def _queued(app: Flask) -> int:
    with app.app_context():
        return queues["bulk"].count


def _read_all(descriptor: int) -> str:
    parts: list[bytes] = []
    while True:
        try:
            part = os.read(descriptor, 65536)
        except OSError:  # The other end is closed: that is how Linux says so.
            part = b""
        if not part:
            os.close(descriptor)
            return b"".join(parts).decode()
        parts.append(part)


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_an_interrupted_watcher_leaves_the_mailing_running(
    app: Flask, settings: Settings, tmp_path: Path
) -> None:
    log = tmp_path / "output.txt"
    with log.open("wb") as out, process(settings, "--yes", WELCOME, stdout=out.fileno()) as started:
        wait_until(lambda: b"0 of 30 done" in log.read_bytes())
        started.send_signal(signal.SIGINT)
        assert started.wait(30) == 130
    assert "The mailing goes on" in log.read_text()
    assert "Traceback" not in log.read_text()
    with app.app_context():
        mailing = db.session.scalars(sa.select(Mailing)).one()
        assert (mailing.state, mailing.queued) == (MailingState.RUNNING, 30)
