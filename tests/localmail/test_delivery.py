"""What is accepted is kept, as it came."""

from __future__ import annotations

import smtplib
import sqlite3
import threading
from email.message import EmailMessage
from pathlib import Path

import pytest

from localmail.store import Incoming, MailStore
from tests.localmail.conftest import Mailbox


def incoming(number: int, to: str = "ann@example.org") -> Incoming:
    return Incoming("a@b.example", [to], f"Mail {number}", b"Subject: x\r\n\r\nbody")


def test_a_mail_is_kept_byte_for_byte(mailbox: Mailbox) -> None:
    raw = b"Subject: Hello\r\n\r\nline\r\n.dot\r\n\r\nend \xff\r\n"
    found = mailbox.store.find(mailbox.deliver(raw, "ann@example.org"))
    assert found is not None
    row, kept = found
    assert kept == raw
    assert (row.sender, row.recipients, row.subject) == (
        "welcome@foyer.example",
        ("ann@example.org",),
        "Hello",
    )


def test_an_internationalised_address_is_accepted(mailbox: Mailbox) -> None:
    message = EmailMessage()
    message["From"], message["To"] = "welcome@foyer.example", "zoë@пример.example"
    message["Subject"] = "Welkom, Zoë"
    message.set_content("Hallo")
    with smtplib.SMTP("127.0.0.1", mailbox.smtp_port, timeout=10) as smtp:
        smtp.ehlo()
        assert smtp.has_extn("smtputf8")
        smtp.send_message(message)
    (row,) = mailbox.store.newest()
    assert row.recipients == ("zoë@пример.example",)
    assert row.subject == "Welkom, Zoë"


def test_many_connections_at_once_lose_nothing(mailbox: Mailbox) -> None:
    def send(thread: int) -> None:
        with smtplib.SMTP("127.0.0.1", mailbox.smtp_port, timeout=10) as smtp:
            for number in range(20):
                smtp.sendmail("a@b.example", [f"t{thread}n{number}@example.org"], "Subject: x\n\n")

    threads = [threading.Thread(target=send, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    to = {row.recipients[0] for row in mailbox.store.newest(limit=1000)}
    assert to == {f"t{thread}n{number}@example.org" for thread in range(6) for number in range(20)}


def test_an_accepted_mail_is_in_the_file_already(tmp_path: Path) -> None:
    store = MailStore(tmp_path / "mailbox.db")
    try:
        message_id = store.add(incoming(1)).result(timeout=10)
        with sqlite3.connect(tmp_path / "mailbox.db") as other:
            assert other.execute("SELECT id FROM message").fetchall() == [(message_id,)]
        other.close()
    finally:
        store.close()


def test_only_the_newest_are_kept(mailbox: Mailbox) -> None:
    ids = [mailbox.store.add(incoming(number)).result(timeout=10) for number in range(250)]
    kept = [row.id for row in mailbox.store.newest(limit=1000)]
    assert kept == ids[-1:-201:-1]
    assert mailbox.store.newest(to="ann@", limit=1000)[-1].id == ids[50]


def test_mails_outlive_a_restart(tmp_path: Path) -> None:
    first = MailStore(tmp_path / "mailbox.db")
    first.add(incoming(1))
    first.close()
    second = MailStore(tmp_path / "mailbox.db")
    try:
        assert [row.subject for row in second.newest()] == ["Mail 1"]
    finally:
        second.close()


def test_a_mailbox_that_cannot_be_written_refuses_for_now(mailbox: Mailbox) -> None:
    with mailbox.store._connection() as connection:
        connection.execute("DROP TABLE recipient")
    with pytest.raises(smtplib.SMTPDataError) as refused:
        mailbox.deliver("Subject: x\n\n")
    assert refused.value.smtp_code == 451


def test_an_oversized_mail_is_refused(mailbox: Mailbox) -> None:
    oversized = b"x" * (25 * 1024 * 1024 + 1)
    with smtplib.SMTP("127.0.0.1", mailbox.smtp_port, timeout=10) as smtp:
        smtp.ehlo()
        with pytest.raises(smtplib.SMTPSenderRefused):
            smtp.sendmail("a@b.example", ["c@d.example"], oversized)
    assert mailbox.store.newest() == []


def test_recipients_are_found_from_their_start_without_regard_to_case(mailbox: Mailbox) -> None:
    for to in ("Ann@example.org", "anna@example.org", "bob@example.org", "100%_@example.org"):
        mailbox.store.add(incoming(1, to)).result(timeout=10)

    def found(to: str) -> list[str]:
        return [row.recipients[0] for row in mailbox.store.newest(to=to)]

    assert found("aNN") == ["anna@example.org", "Ann@example.org"]
    assert found("ann@") == ["Ann@example.org"]
    assert found("example") == []
    assert found("%") == []
    assert found("100%_") == ["100%_@example.org"]
