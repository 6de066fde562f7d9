"""The fifth promise: no password and no link rests in database, queue, logs or pages."""

from __future__ import annotations

import logging
import re
import zlib
from base64 import b32decode as base32_decode
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from redis import Redis
from werkzeug.test import TestResponse

from config import Settings
from connectors.local import LocalConnector
from extensions import db, queues
from models import Delivery, DeliveryState, User, utcnow
from services import (
    deliveries,
    messages,
    passwords,
    second_factors,
    second_steps,
    sign_ins,
)
from tests.support.authenticators import code_of
from tests.support.factories import actor_for, find_customer, make_user
from tests.support.pages import CheckingClient
from tests.support.promises import passwords_in, start_welcome
from tests.support.smtp_sink import SmtpSink

ADMIN = "prpkeAdmin@kenton-electronics.com"
TYPED = {
    "right": "typed-and-right-3141592",
    "wrong": "typed-and-wrong-2718281",
    "short": "tooshort-16",
    "chosen": "typed-and-chosen-1618033",
    "forced": "typed-while-failing-577215",
    "new": "typed-as-new-while-failing-662607",
}


@pytest.fixture
def settings_changes() -> dict[str, str]:
    return {"DELIVERY_RETRY_DELAYS": "3600,3600,3600,3600", "DELIVERY_CHUNK": "10"}


@pytest.fixture
def generated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every password that the system makes during the test."""
    made: list[str] = []
    original = passwords.generate_passwords

    def generate(count: int) -> list[str]:
        now = original(count)
        made.extend(now)
        return now

    monkeypatch.setattr(passwords, "generate_passwords", generate)
    return made


class Haystack:
    """Everything that could hold a secret, by where it is."""

    def __init__(self) -> None:
        self.places: dict[str, list[bytes]] = {}

    def add(self, place: str, value: Any) -> None:
        if isinstance(value, str):
            value = value.encode("utf-8", "surrogatepass")
        elif not isinstance(value, bytes | memoryview):
            value = repr(value).encode()
        self.places.setdefault(place, []).append(bytes(value))

    def find(self, secret: str) -> list[str]:
        needles = {
            secret.encode(),
            b64encode(secret.encode()).rstrip(b"=")[:-1],
            secret.encode().hex().encode(),
        }
        return sorted(
            place
            for place, values in self.places.items()
            if any(needle in value for value in values for needle in needles)
        )


def add_database(hay: Haystack, settings: Settings) -> None:
    with db.engine.connect() as connection:
        for table in sa.inspect(connection).get_table_names():
            rows = connection.exec_driver_sql(f'SELECT * FROM "{table}"').mappings()  # noqa: S608
            for row in rows:
                for column, value in row.items():
                    hay.add(f"{table}.{column}", value)
    url = sa.make_url(settings.database_url)
    if url.get_backend_name() == "sqlite":
        for suffix in ("", "-wal"):
            path = Path(f"{url.database}{suffix}")
            if path.exists():
                hay.add(f"the file{suffix}", path.read_bytes())


def add_queue(hay: Haystack, connection: Redis) -> None:
    for key in connection.scan_iter():
        hay.add("queue: keys", key)
        for value in values_of(connection, key):
            hay.add("queue", value)
            for unpack in (zlib.decompress, lambda packed: zlib.decompress(b64decode(packed))):
                with suppress(ValueError, zlib.error):
                    hay.add("queue, unpacked", unpack(value))


def values_of(connection: Any, key: bytes) -> Iterator[bytes]:
    kind = connection.type(key)
    if kind == b"string":
        yield connection.get(key)
    elif kind == b"hash":
        for name, value in connection.hgetall(key).items():
            yield from (name, value)
    elif kind == b"list":
        yield from connection.lrange(key, 0, -1)
    elif kind == b"set":
        yield from connection.smembers(key)
    elif kind == b"zset":
        yield from connection.zrange(key, 0, -1)
    elif kind == b"stream":
        for _, fields in connection.xrange(key):
            yield from fields.values()
    else:
        raise AssertionError(f"{kind!r} is not searched")


def test_no_secret_rests_anywhere(
    app: Flask,
    settings: Settings,
    client: CheckingClient,
    sink: SmtpSink,
    work: Callable[[], None],
    generated: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    pages: list[TestResponse] = []

    def post(path: str, status: int, **data: str) -> TestResponse:
        response = client.submit(path, data)
        assert response.status_code == status, (path, response.status_code)
        pages.append(response)
        return response

    with app.app_context():
        kenton = find_customer("CQ001")
        person = make_user(kenton, password=TYPED["right"])
        login, person_id = person.login, person.id
        people = [make_user(kenton) for _ in range(6)]
        addresses = [each.email for each in people]

    # Sign-ins with wrong and right passwords, and a change that is refused.
    post("/login", 422, login=login, password=TYPED["wrong"])
    post("/login", 422, login="x" * 400, password=TYPED["wrong"])
    post("/login", 303, login=login, password=TYPED["right"])
    for current, new in (
        (TYPED["wrong"], TYPED["new"]),
        (TYPED["right"], TYPED["short"]),
        (TYPED["right"], TYPED["right"]),
    ):
        post("/account/password", 422, current=current, new=new, repeat=new)

    # An unexpected error in views while passwords are in memory.
    with monkeypatch.context() as patch:
        patch.setattr(sign_ins, "set_chosen_password", fail)
        post(
            "/account/password",
            500,
            current=TYPED["right"],
            new=TYPED["forced"],
            repeat=TYPED["forced"],
        )
    with monkeypatch.context() as patch:
        patch.setattr(passwords, "hash_chosen", lambda password: "h" * 20 + "\0")
        # PostgreSQL refuses the statement, and its error carries the parameters; SQLite takes it.
        client.submit(
            "/account/password",
            {"current": TYPED["right"], "new": TYPED["new"], "repeat": TYPED["new"]},
        )
    with app.app_context():
        db.session.get_one(User, person_id).password_hash = passwords.hash_generated(TYPED["right"])
        db.session.commit()
    client.submit("/account/sign-out")
    with monkeypatch.context() as patch:
        patch.setattr(sign_ins, "_check", fail)
        post("/login", 500, login=login, password=TYPED["forced"])

    # A link by mail, used and refused.
    post("/password/forgot", 303, login=login)
    work()
    found = re.search(r"/password/choose/([\w-]+)", sink.mails[-1].text)
    assert found
    token = found.group(1)
    path = f"/password/choose/{token}"
    refused = post(path, 422, new=TYPED["short"], repeat=TYPED["short"])
    pages.remove(refused)  # Its form is sent to its own address, which is the link.
    assert TYPED["short"] not in refused.text
    with monkeypatch.context() as patch:
        patch.setattr(sign_ins, "end_sessions_of", fail)
        post(path, 500, new=TYPED["forced"], repeat=TYPED["forced"])
    post(path, 303, new=TYPED["chosen"], repeat=TYPED["chosen"])

    # A welcome mailing: two arrive, two are refused, two wait with their seals.
    for address in addresses[:2]:
        sink.refuse(address, 550, "No such user")
    for address in addresses[2:4]:
        sink.refuse(address, 451, "Later")
    with app.app_context():
        mailing_id = start_welcome(actor_for(ADMIN), "CQ001", [*people])
    work()
    # The engine fails while it holds credentials, in a thread and on the platform.
    with app.app_context():
        others = [make_user(find_customer("CQ001")) for _ in range(2)]
        failing = start_welcome(actor_for(ADMIN), "CQ001", others)
    with monkeypatch.context() as patch:
        patch.setattr(LocalConnector, "set_passwords", fail)
        work()
    with app.app_context():
        db.session.execute(sa.update(Delivery).values(next_attempt_at=utcnow()))
        db.session.commit()
        queues.enqueue("interactive", "jobs.deliveries.deliver_mailing", failing)
    with monkeypatch.context() as patch:
        patch.setattr(messages.PreparedMessage, "render", fail)
        work()
    with app.app_context():
        queues.enqueue("interactive", "jobs.deliveries.deliver_mailing", failing)
    with monkeypatch.context() as patch:  # A job that failed rests in the queue with its stack.
        patch.setattr(deliveries, "deliver_mailing", fail)
        work()

    with app.app_context():
        states = set(
            db.session.scalars(sa.select(Delivery.state).where(Delivery.mailing_id == mailing_id))
        )
        assert states == {DeliveryState.SENT, DeliveryState.FAILED, DeliveryState.QUEUED}
        sealed = db.session.scalar(sa.select(sa.func.count()).where(Delivery.seal.is_not(None)))
        assert (sealed or 0) >= 4, "the test looks where nothing is"

        hay = Haystack()
        add_database(hay, settings)
        add_queue(hay, queues.connection)
    hay.add("logs", caplog.text)
    captured = capfd.readouterr()
    hay.add("standard output", captured.out)
    hay.add("standard error", captured.err)
    for page in pages:
        hay.add("pages", page.data)
        hay.add("headers", str(page.headers))
    for response in (client.get(path) for path in ("/login", "/account/profile", "/metrics")):
        hay.add("pages", response.data)

    # The search finds what is there, on disk and in memory.
    assert {"users.login", "audit_events.actor_login"} <= set(hay.find(login))
    assert "queue" in " ".join(hay.find("RuntimeError: forced")), "no stack in the queue"
    assert "pages" in hay.find("csrf_token")
    assert "forced" in caplog.text, "the errors that were forced are not in the logs"

    mailed = [passwords_in(mail) for mail in sink.mails if mail.recipient in addresses]
    assert len(mailed) >= 2
    assert {password for pair in mailed for password in pair} <= set(generated)
    for secret in (*generated, token, *TYPED.values()):
        assert hay.find(secret) == [], f"a secret rests in {hay.find(secret)}"


def fail(*_: Any, **__: Any) -> Any:
    raise RuntimeError("forced")


def test_a_seal_ends_with_its_delivery(
    app: Flask, sink: SmtpSink, work: Callable[[], None], generated: list[str]
) -> None:
    """Even encrypted: what ended is wiped, in the row and in the mailbox of nobody."""
    with app.app_context():
        people = [make_user(find_customer("CQ001")) for _ in range(4)]
        sink.refuse(people[0].email, 550, "No such user")
        start_welcome(actor_for(ADMIN), "CQ001", people)
    work()
    with app.app_context():
        rows = db.session.scalars(sa.select(Delivery)).all()
        assert {row.state for row in rows} == {DeliveryState.SENT, DeliveryState.FAILED}
        assert [row for row in rows if row.seal or row.pending_hash] == []
        assert generated


def test_no_second_factor_and_no_invitation_rests_anywhere(
    app: Flask,
    settings: Settings,
    client: CheckingClient,
    sign_in_as: Callable[[str], CheckingClient],
    sink: SmtpSink,
    work: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    factors, step = "/account/second-factors", "/login/second-step"
    landlord = sign_in_as("landlord@foyer.example")
    landlord.submit(f"{factors}/app/new")
    secret = re.sub(r"\s", "", key_on(landlord.get(f"{factors}/app").text))
    confirmed = code_of(secret)
    wrong = landlord.submit(f"{factors}/app", {"code": "271828"})
    with monkeypatch.context() as patch:
        patch.setattr(second_factors, "note_added", fail)
        assert landlord.submit(f"{factors}/app", {"code": confirmed}).status_code == 500
    codes = RECOVERY_CODE.findall(landlord.submit(f"{factors}/app", {"code": confirmed}).text)
    assert len(codes) == 10
    pages = [landlord.get(factors)]
    client.submit("/login", {"login": "landlord@foyer.example", "password": "foyer-demo-1"})
    with client.session_transaction() as session:
        half = session["second_step"]
    used = codes[0]
    with monkeypatch.context() as patch:
        patch.setattr(second_steps, "_begin", fail)
        failed = client.submit(step, {"way": "recovery", "code": used})
        assert failed.status_code == 500
        pages.append(failed)
    pages.append(client.submit(step, {"way": "recovery", "code": codes[1].replace("-", "x")}))
    pages.append(client.submit(step, {"way": "recovery", "code": used}))
    landlord.submit(
        "/staff/invite",
        {
            "first_name": "Anna",
            "last_name": "Berg",
            "email": "anna.berg@foyer.example",
            "language": "en",
            "role": "operator",
            "reach": "all",
        },
    )
    work()
    (link,) = {
        found.group(1)
        for mail in sink.mails
        if (found := re.search(r"/staff/welcome/([\w-]+)", mail.text))
    }
    guest = app.test_client()
    assert isinstance(guest, CheckingClient)
    with monkeypatch.context() as patch:
        patch.setattr(sign_ins, "begin_session", fail)
        data = {"new": TYPED["forced"], "repeat": TYPED["forced"]}
        assert guest.submit(f"/staff/welcome/{link}", data).status_code == 500
    data = {"new": TYPED["chosen"], "repeat": TYPED["chosen"]}
    assert guest.submit(f"/staff/welcome/{link}", data).status_code == 303
    with app.app_context():
        hay = Haystack()
        add_database(hay, settings)
        add_queue(hay, queues.connection)
    hay.add("logs", caplog.text)
    captured = capfd.readouterr()
    hay.add("output", captured.out + captured.err)
    for page in pages:
        hay.add("pages", page.data)
    assert wrong.status_code == 422
    assert "users.login" in hay.find("anna.berg@foyer.example")
    assert "forced" in caplog.text
    bare = [code.replace("-", "") for code in codes]
    typed = (TYPED["forced"], TYPED["chosen"])
    for each in (secret, *codes, *bare, half, link, *typed):
        assert hay.find(each) == [], f"a secret rests in {hay.find(each)}"
    key = base32_decode(secret)
    assert not any(key in value for values in hay.places.values() for value in values)
    for mail in sink.mails:
        assert secret not in mail.text
        assert not any(code in mail.text for code in codes)


RECOVERY_CODE = re.compile(r"(?:[a-z2-9]{4}-){5}[a-z2-9]{4}")


def key_on(page: str) -> str:
    found = re.search(r'id="totp-key"[^>]*>([A-Z2-7 ]+)<', page)
    assert found
    return found.group(1)
