"""A running mail server and mailbox for each test."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from localmail.server import MailServer
from localmail.store import MailStore
from localmail.web import create_mailbox


@dataclass(frozen=True)
class Mailbox:
    """The store, the port that takes mails for it, and a reader of its pages."""

    store: MailStore
    smtp_port: int
    page: FlaskClient

    def deliver(self, raw: bytes | str, *to: str, sender: str = "welcome@foyer.example") -> int:
        """Send a mail by SMTP; return its id."""
        content = raw.encode() if isinstance(raw, str) else raw
        with smtplib.SMTP("127.0.0.1", self.smtp_port, timeout=10) as smtp:
            smtp.sendmail(sender, list(to) or ["ann@example.org"], content)
        return self.store.newest(limit=1)[0].id


@pytest.fixture
def mailbox(tmp_path: Path) -> Iterator[Mailbox]:
    store = MailStore(tmp_path / "mailbox.db", kept=200)
    server = MailServer(store, 0)
    server.start()
    app = create_mailbox(store, foyer_url="http://127.0.0.1:8000")
    try:
        yield Mailbox(store, server.port, app.test_client())
    finally:
        server.stop()
        store.close()
