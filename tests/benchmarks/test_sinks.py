"""The sinks: they count what they accept, and the scripted one tells how it was spoken to."""

from __future__ import annotations

import smtplib
import socket
import time
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks import sinks
from benchmarks.bare import load_mails, send
from benchmarks.sinks import HOST, bulk_sink, scripted_sink, settled_count

ENVELOPE = b"MAIL FROM:<a@sink.example>\r\nRCPT TO:<b@sink.example>\r\nDATA\r\n"
MESSAGE = b"Message-ID: <1@foyer.example>\r\nSubject: Hello\r\n\r\n..dot\r\n.\r\n"


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize("without", [False, True], ids=["as found", "aiosmtpd"])
def test_a_bulk_sink_counts_and_offers_what_it_was_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pipelining: bool, without: bool
) -> None:
    if without:
        monkeypatch.setattr(sinks, "find_smtp_sink", lambda: None)
    with bulk_sink(tmp_path, pipelining=pipelining) as sink:
        with smtplib.SMTP(HOST, sink.port) as client:
            client.ehlo()
            assert client.has_extn("pipelining") is pipelining
        mail = ("a@sink.example", "b@sink.example", b"Subject: Hello\r\n\r\nHello\r\n")
        send(sink.port, [mail], 30)
        assert settled_count(sink, 30) == 30


def test_postfix_own_client_is_looked_for_where_programs_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "_PLACES", (str(tmp_path / "sbin"),))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert sinks.find_smtp_source() is None
    for folder in ("sbin", "bin"):
        program = tmp_path / folder / "smtp-source"
        program.parent.mkdir()
        program.write_text("")
        assert sinks.find_smtp_source() != str(program), "it cannot be run"
        program.chmod(0o755)
        assert sinks.find_smtp_source() == str(program)


def test_the_scripted_sink_keeps_mails_and_notes_who_got_what(tmp_path: Path) -> None:
    with scripted_sink(tmp_path, keep=True) as sink:
        with smtplib.SMTP(HOST, sink.port) as client:
            for name in ("b", "c"):
                raw = MESSAGE.removesuffix(b".\r\n").replace(b"\r\n..", b"\r\n.")
                client.sendmail("a@sink.example", f"{name}@sink.example", raw)
        assert settled_count(sink, 2) == 2
        arrivals = sink.arrivals()
        kept = load_mails(sink.program.log.with_suffix(".mails"))
    assert [each.recipient for each in arrivals] == ["b@sink.example", "c@sink.example"]
    assert {each.message_id for each in arrivals} == {"<1@foyer.example>"}
    assert kept[0][:2] == ("a@sink.example", "b@sink.example")
    assert kept[0][2].endswith(b"\r\n\r\n.dot\r\n")


def test_a_far_sink_answers_late_and_counts_round_trips(tmp_path: Path) -> None:
    """Three mails: command by command (4), envelope at once (2), next envelope behind the dot."""
    with scripted_sink(tmp_path, delay=0.05) as sink, closing(_connected(sink.port)) as client:
        started = time.monotonic()
        for command in [*ENVELOPE.splitlines(keepends=True), MESSAGE]:
            _exchange(client, command, 1)
        assert time.monotonic() - started >= 4 * 0.05
        assert _flights(sink, 1) == 4
        _exchange(client, ENVELOPE, 3)
        _exchange(client, MESSAGE, 1)
        assert _flights(sink, 2) == 6
        _exchange(client, ENVELOPE, 3)
        _exchange(client, MESSAGE + ENVELOPE, 4)
        _exchange(client, MESSAGE, 1)
        assert _flights(sink, 4) == 9


def _connected(port: int) -> socket.socket:
    client = socket.create_connection((HOST, port), timeout=10)
    assert client.recv(100).startswith(b"220")
    return client


def _exchange(client: socket.socket, commands: bytes, answers: int) -> None:
    client.sendall(commands)
    received = b""
    while received.count(b"\r\n") < answers:
        received += client.recv(1000)


def _flights(sink: sinks.ScriptedSink, mails: int) -> int:
    settled_count(sink, mails)
    return sink.figures()["flights"]
