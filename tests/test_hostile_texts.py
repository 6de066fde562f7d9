"""Texts that try to become markup, templates, headers or formulas stay texts, wherever they show.

Where links lead is one thing on both databases, so that one of them is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from extensions import db
from models import User
from services.actors import SYSTEM
from services.audit_events import insert_event
from tests.support.crawling import Crawl, Found, client_of, furnish
from tests.support.factories import actor_for, find_customer, make_user
from tests.support.hostile import (
    MARK,
    TEXTS,
    poison,
    text_fields_of,
    traces_in,
    traces_in_csv,
    traces_in_mail,
)
from tests.support.pages import CheckingClient, Page
from tests.support.promises import start_welcome
from tests.support.smtp_sink import SmtpSink

pytestmark = pytest.mark.parametrize("engine_name", ["sqlite"])

ADMIN = "prpkeAdmin@kenton-electronics.com"
LEFT_ALONE = {
    "account.sign_out",
    "account.change_password",
    "account.forgot_password",  # Answers slowly on purpose.
    "impersonations.start",
    "impersonations.end",
}


class Looking(Crawl):
    """A crawl that looks for traces of the corpus, and counts the pages that show its texts."""

    def __init__(self, app: Flask, client: CheckingClient) -> None:
        super().__init__(app, client, is_thorough=False)
        self.traces: list[str] = []
        self.marked = 0
        self.typed: dict[int, set[str]] = {}

    def _read(self, response: TestResponse, path: str) -> None:
        self.marked += MARK in response.text
        self.traces += [f"{path}: {trace}" for trace in traces_in(response.text)]
        super()._read(response, path)

    def _uses_of(self, page: Page, form: Any, path: str) -> Iterator[Found]:
        for found in super()._uses_of(page, form, path):
            self.typed[id(found.data)] = text_fields_of(form)
            yield found


def crawled(app: Flask, logins: dict[str, str], role: str) -> tuple[CheckingClient, Looking]:
    client = client_of(app, logins, role)
    crawl = Looking(app, client)
    crawl.run("/" if role != "nobody" else "/login")
    crawl.traces += [fault for fault in crawl.faults if "answers 5" in fault]
    return client, crawl


def poisoned(app: Flask, work: Callable[[], None]) -> dict[str, str]:
    logins = furnish(app)
    work()
    with app.app_context():
        for text in TEXTS:
            insert_event(
                db.session.connection(),
                SYSTEM,
                "thing.changed",
                customer_id=find_customer("CQ001").id,
                detail={"before": {text: text}, "after": {text: [text]}, text: {"deep": text}},
            )
        assert poison() >= 30
    return logins


@pytest.mark.parametrize(
    ("role", "least"), [("landlord", 25), ("administrator", 8), ("user", 1), ("prospect", 2)]
)
def test_what_rests_in_the_database_is_shown_as_text(
    app: Flask, sink: SmtpSink, work: Callable[[], None], role: str, least: int
) -> None:
    client, crawl = crawled(app, poisoned(app, work), role)
    assert not crawl.traces, "\n".join(sorted(set(crawl.traces)))
    assert crawl.marked >= least, (crawl.marked, crawl.opened)
    for found in crawl.forms:
        if found.endpoint.endswith("export"):
            answer = FlaskClient.open(client, found.action, method="POST", data=found.data)
            assert answer.mimetype == "text/csv", found.action
            assert not list(traces_in_csv(answer.text)), found.action


@pytest.mark.parametrize(
    ("role", "least"), [("landlord", 15), ("administrator", 6), ("prospect", 1), ("nobody", 1)]
)
def test_what_is_typed_into_any_form_is_shown_as_text(
    app: Flask, sink: SmtpSink, work: Callable[[], None], role: str, least: int
) -> None:
    logins = furnish(app)
    work()
    client, crawl = crawled(app, logins, role)
    sent, traces = set(), []
    for place, found in enumerate(crawl.forms):
        typed = crawl.typed.get(id(found.data), set())
        if not typed or found.kind in sent or found.endpoint in LEFT_ALONE or found.is_upload:
            continue
        sent.add(found.kind)
        for step in range(0, len(TEXTS), 4):
            text = TEXTS[(place + step) % len(TEXTS)]
            data = {n: [text] if n in typed else value for n, value in found.data.items()}
            traces += [f"{found.action}: {each}" for each in send(client, found.action, data)]
    assert len(sent) >= least
    work()
    if role != "nobody":
        traces += crawled(app, logins, role)[1].traces
    for mail in sink.mails:
        traces += [f"mail to {mail.recipient}: {each}" for each in traces_in_mail(mail.message)]
    assert not traces, "\n".join(sorted(set(traces)))


def send(client: FlaskClient, action: str, data: dict[str, Any]) -> Iterator[str]:
    answer = FlaskClient.open(client, action, method="POST", data=data)
    if answer.status_code in {302, 303}:
        target = urlsplit(answer.location)
        path = target.path + (f"?{target.query}" if target.query else "")
        answer.close()
        answer = FlaskClient.open(client, path)
    if answer.status_code >= 500:
        yield f"answers {answer.status_code} to {data}"
    elif answer.mimetype == "text/html":
        yield from traces_in(answer.text)
    answer.close()


def test_mails_to_people_with_hostile_names_are_what_they_are(
    app: Flask, sink: SmtpSink, work: Callable[[], None]
) -> None:
    with app.app_context():
        kenton = find_customer("CQ001")
        people = [
            make_user(kenton, first_name=text[:64], last_name=TEXTS[place - 1][:64])
            for place, text in enumerate(TEXTS)
        ]
        kenton.setup_instructions = "\n".join(TEXTS)
        db.session.commit()
        start_welcome(actor_for(ADMIN), "CQ001", [db.session.get_one(User, u.id) for u in people])
    work()
    assert len(sink.mails) == len(TEXTS)
    for mail in sink.mails:
        assert not list(traces_in_mail(mail.message)), mail.recipient
    assert any(MARK in mail.text for mail in sink.mails)
