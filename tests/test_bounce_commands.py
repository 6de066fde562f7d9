"""Returned mails from standard input and by LMTP or SMTP, as a mail server hands them over."""

from __future__ import annotations

import smtplib
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy.exc import OperationalError

from config import Settings
from models import DeliveryState
from services import bounces
from tests.support import dsns
from tests.support.bounces import (
    address_of,
    connect,
    hand_over,
    listening,
    read_again,
    send_welcome,
)
from tests.support.work import ROOT, Process, environment, wait_until

one_database = pytest.mark.parametrize("engine_name", ["sqlite"])


@pytest.fixture
def sent(app: Flask) -> tuple[int, str]:
    """A delivery that was sent, and where its mail comes back to."""
    with app.app_context():
        delivery_id = send_welcome()
        return delivery_id, address_of(delivery_id)


def state_of(app: Flask, delivery_id: int) -> DeliveryState:
    with app.app_context():
        return read_again(delivery_id).state


def fail(_work: Any) -> None:
    raise OperationalError("UPDATE", {}, Exception("locked"))


# --- The pipe ----------------------------------------------------------------------------------


def pipe(app: Flask, raw: bytes, *args: str) -> tuple[int, str]:
    result = app.test_cli_runner().invoke(args=["bounce", *args], input=raw)
    return result.exit_code, result.output


def test_a_report_is_taken_from_standard_input(app: Flask, sent: tuple[int, str]) -> None:
    delivery_id, address = sent
    code, output = pipe(app, dsns.exim_old(address))
    assert code == 0
    assert output == f"Delivery {delivery_id} has bounced. Its address gets no more mail.\n"
    assert state_of(app, delivery_id) is DeliveryState.BOUNCED
    assert pipe(app, dsns.exim_old(address)) == (
        0,
        f"Delivery {delivery_id} has bounced before.\n",
    )


@one_database
def test_the_envelope_recipient_can_be_named(app: Flask, sent: tuple[int, str]) -> None:
    delivery_id, address = sent
    assert pipe(app, dsns.gmail("somebody@foyer.example"), "--recipient", address)[0] == 0
    assert state_of(app, delivery_id) is DeliveryState.BOUNCED


@one_database
@pytest.mark.parametrize("build", dsns.NOTHING.values(), ids=dsns.NOTHING.keys())
def test_what_is_ignored_is_no_failure_of_the_pipe(
    app: Flask, sent: tuple[int, str], build: Callable[[str], bytes]
) -> None:
    code, output = pipe(app, build(sent[1]))
    assert code == 0
    assert output.startswith("Ignored the mail")
    assert output.count("\n") == 1


@one_database
def test_a_mail_beyond_the_limit_is_read_to_its_end(app: Flask, sent: tuple[int, str]) -> None:
    raw = dsns.postfix(sent[1]) + b"x" * (2 * bounces.LARGEST_MESSAGE)
    assert pipe(app, raw)[0] == 0
    assert state_of(app, sent[0]) is DeliveryState.BOUNCED


@one_database
def test_what_cannot_be_recorded_yet_comes_again(
    app: Flask, sent: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(bounces, "run_transaction", fail)
        assert pipe(app, dsns.postfix(sent[1]))[0] == 75  # EX_TEMPFAIL of sysexits.h
    assert pipe(app, dsns.postfix(sent[1]))[0] == 0
    assert state_of(app, sent[0]) is DeliveryState.BOUNCED


@one_database
def test_the_pipe_as_a_process_of_its_own(
    app: Flask, settings: Settings, sent: tuple[int, str]
) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "app", "bounce"],
        cwd=ROOT,
        env=environment(settings),
        input=dsns.sendmail(sent[1]),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert b"has bounced (5.1.1)" in result.stdout
    assert state_of(app, sent[0]) is DeliveryState.BOUNCED


# --- The listener ------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["lmtp", "smtp"])
def test_a_report_is_taken_by_the_listener(app: Flask, sent: tuple[int, str], scheme: str) -> None:
    delivery_id, address = sent
    with listening(app, f"{scheme}://127.0.0.1:0") as at:
        assert at.startswith(f"{scheme}://127.0.0.1:")
        code, text = hand_over(at, address, dsns.exchange("postmaster@foyer.example"))
        assert (code, text[:5]) == (250, b"2.0.0")
        assert state_of(app, delivery_id) is DeliveryState.BOUNCED
        assert hand_over(at, address.upper(), dsns.exchange(address))[0] == 250
    with app.app_context():
        assert read_again(delivery_id).mailing.bounced == 1


@one_database
def test_the_listener_at_a_socket(app: Flask, sent: tuple[int, str], tmp_path: Path) -> None:
    place = tmp_path / "b.sock"
    with listening(app, f"lmtp://{place}"):
        assert stat.S_IMODE(place.stat().st_mode) == 0o666  # The mail server is another user.
        with smtplib.LMTP(str(place), timeout=15) as connection:
            connection.ehlo_or_helo_if_needed()
            connection.sendmail("", [sent[1]], dsns.qmail(sent[1]))
        assert state_of(app, sent[0]) is DeliveryState.BOUNCED
    assert not place.exists()


@one_database
def test_unknown_recipients_are_refused(app: Flask, sent: tuple[int, str]) -> None:
    delivery_id, address = sent
    forged = f"bounces+{delivery_id}-0123456789abcdef@foyer.example"
    with listening(app, "lmtp://127.0.0.1:0") as at:
        for stranger in (forged, "bounces@foyer.example", "ada@foyer.example"):
            code, text = hand_over(at, stranger, dsns.postfix(address))
            assert (code, text[:5]) == (550, b"5.1.1")
        assert state_of(app, delivery_id) is DeliveryState.SENT


@one_database
def test_recipients_come_one_by_one(app: Flask, sent: tuple[int, str]) -> None:
    """Each has an answer of its own after the message, so the second is asked to come alone."""
    with app.app_context():
        other = address_of(send_welcome())
    with listening(app, "lmtp://127.0.0.1:0") as at, connect(at) as connection:
        connection.mail("")
        assert connection.rcpt(sent[1])[0] == 250
        assert connection.rcpt(other)[0] == 452
        assert connection.data(dsns.postfix(sent[1]))[0] == 250
    assert state_of(app, sent[0]) is DeliveryState.BOUNCED


@one_database
def test_a_busy_database_asks_to_come_again(
    app: Flask, sent: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with listening(app, "smtp://127.0.0.1:0") as at:
        with monkeypatch.context() as patch:
            patch.setattr(bounces, "run_transaction", fail)
            code, text = hand_over(at, sent[1], dsns.postfix(sent[1]))
            assert (code, text[:5]) == (451, b"4.3.0")
        assert hand_over(at, sent[1], dsns.postfix(sent[1]))[0] == 250
    assert state_of(app, sent[0]) is DeliveryState.BOUNCED


@one_database
def test_a_fault_here_asks_to_come_again(
    app: Flask, sent: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_args: Any) -> None:
        raise RuntimeError("nobody foresaw this")

    monkeypatch.setattr(bounces, "read_report", break_down)
    with listening(app, "lmtp://127.0.0.1:0") as at:
        assert hand_over(at, sent[1], dsns.postfix(sent[1]))[0] == 451


@one_database
def test_long_lines_and_large_mails(app: Flask, sent: tuple[int, str]) -> None:
    long_line = b"X-Long: " + b"x" * 200_000 + b"\r\n"
    with listening(app, "lmtp://127.0.0.1:0") as at:
        too_large = b"x\r\n" * (bounces.LARGEST_MESSAGE // 2)
        assert hand_over(at, sent[1], too_large)[0] == 552
        assert hand_over(at, sent[1], long_line + dsns.qmail(sent[1]))[0] == 250
    assert state_of(app, sent[0]) is DeliveryState.BOUNCED


@one_database
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "BOUNCE_LISTEN is not set"),
        ({"BOUNCE_LISTEN": "lmtp:///nowhere/at/all.sock"}, "cannot be listened on"),
    ],
    ids=["not set", "no such folder"],
)
def test_a_listener_that_cannot_start_says_why(
    settings: Settings, changes: dict[str, str], said: str
) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "app", "bounce-listener"],
        cwd=ROOT,
        env=environment(settings, **changes),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 1
    assert said in result.stderr
    assert "Traceback" not in result.stderr


@one_database
def test_without_its_package_the_listener_says_what_to_install(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    object.__setattr__(app.extensions["settings"], "bounce_listen", "lmtp://127.0.0.1:0")
    monkeypatch.setitem(sys.modules, "aiosmtpd.lmtp", None)
    monkeypatch.delitem(sys.modules, "services.bounce_listener", raising=False)
    result = app.test_cli_runner().invoke(args=["bounce-listener"])
    assert result.exit_code == 1
    assert "pip install" in result.output


@one_database
def test_the_listener_as_a_process_of_its_own(
    app: Flask, settings: Settings, sent: tuple[int, str], tmp_path: Path
) -> None:
    place = tmp_path / "own.sock"
    process = Process(settings, "bounce-listener", BOUNCE_LISTEN=f"lmtp://{place}")
    try:
        wait_until(place.exists)
        wait_until(lambda: f"lmtp://{place}" in process.log.read_text())
        with smtplib.LMTP(str(place), timeout=15) as connection:
            connection.ehlo_or_helo_if_needed()
            connection.sendmail("", [sent[1]], dsns.gmail(sent[1]))
        assert state_of(app, sent[0]) is DeliveryState.BOUNCED
        log = process.log.read_text()
        assert dsns.SECRET not in log
        assert "has bounced" in log
    finally:
        process.kill()
    with pytest.raises(OSError), socket.socket(socket.AF_UNIX) as gone:  # noqa: PT011
        gone.connect(str(place))
