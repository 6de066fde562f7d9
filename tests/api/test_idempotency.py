"""Idempotency-Key: a POST that is repeated is carried out once, whatever happens in between."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from werkzeug.test import TestResponse

from config import Settings
from extensions import db
from jobs.sweeps import sweep
from models import ApiScope, IdempotencyKey, KeyState, Mailing, User, UserStatus, utcnow
from services import idempotency, welcome_mails
from services.errors import Conflict
from services.idempotency import InFlight, KeptAnswer
from services.transactions import run_transaction
from tests.support.api import CQ001, Caller, faults_of, make_credential
from tests.support.crashing_api import POINTS
from tests.support.work import Process

SEND = f"{CQ001}/send-welcome-email"
KEY = "6f2d7f0e-0000-4000-8000-000000000001"


def send(api: Caller, key: str = KEY, path: str = SEND, **options: Any) -> TestResponse:
    return api.post(path, headers={"Idempotency-Key": key}, **options)


def count_mailings() -> int:
    """Mailings that are made or accepted."""
    db.session.rollback()
    welcome_mails.begin_accepted()
    return db.session.scalar(sa.select(sa.func.count(Mailing.id))) or 0


def the_key() -> IdempotencyKey | None:
    db.session.rollback()
    db.session.expire_all()
    return db.session.scalar(sa.select(IdempotencyKey))


def expire(**values: object) -> None:
    db.session.execute(sa.update(IdempotencyKey).values(**values))
    db.session.commit()


def type_of(response: TestResponse) -> str:
    return response.get_json(force=True)["type"].rpartition("/")[2]


def test_a_repeat_gets_the_answer_and_mails_nobody(app: Flask, api: Caller) -> None:
    first, second = send(api), send(api)

    assert (first.status_code, second.status_code) == (204, 204)
    assert "Idempotent-Replayed" not in first.headers
    assert second.headers["Idempotent-Replayed"] == "true"
    assert second.data == first.data == b""
    assert first.headers.get("Content-Type") == second.headers.get("Content-Type")
    with app.app_context():
        assert count_mailings() == 1


def test_without_a_key_or_with_another_it_is_carried_out_again(app: Flask, api: Caller) -> None:
    for key in (KEY, KEY + "2"):
        assert send(api, key).status_code == 204
    assert api.post(SEND).status_code == 204
    with app.app_context():
        assert count_mailings() == 3


def test_what_is_answered_is_kept_whole_and_sealed(app_context: Flask) -> None:
    held = idempotency.hold_key(1, KEY, "f" * 64)
    body = '{"secret": "whsec_é"}'.encode()
    kept = KeptAnswer(201, {"Location": "/x", "Content-Type": "application/json"}, body)
    assert isinstance(held, idempotency.HeldKey)

    idempotency.keep_answer(held, kept)

    assert idempotency.hold_key(1, KEY, "f" * 64) == kept
    row = the_key()
    assert row is not None
    assert row.state is KeyState.ANSWERED
    assert b"whsec" not in (row.answer or b"")


@pytest.mark.parametrize(
    "other",
    [
        {"path": "/group/1/customer/1003/send-welcome-email"},
        {"path": f"{CQ001}/direct-debit", "json": {}},
    ],
    ids=["another customer", "another operation"],
)
def test_a_key_belongs_to_one_request(app: Flask, api: Caller, other: dict) -> None:
    assert send(api).status_code == 204
    response = send(api, **other)
    if type_of(response) == "invalid-input":  # Refused before the key is looked at.
        return
    assert response.status_code == 422
    assert type_of(response) == "key-reused"
    with app.app_context():
        assert count_mailings() == 1


def test_the_body_is_compared_by_what_it_says(api: Caller) -> None:
    ada = {"login": "ada@kenton-electronics.com", "last_name": "Lovelace", "role": "customer_admin"}
    users = f"{CQ001}/users"

    made = send(api, path=users, json=ada)
    turned = json.dumps(dict(reversed(ada.items())))  # Flask's own would sort them.
    again = send(api, path=users, data=turned, content_type="application/json")
    other = send(api, path=users, json={**ada, "last_name": "Byron"})

    assert made.status_code == 201
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (201, "true")
    assert again.data == made.data
    for name in ("Content-Type", "Location", "ETag"):
        assert again.headers.get(name) == made.headers.get(name)
    assert (other.status_code, type_of(other)) == (422, "key-reused")


def test_a_fingerprint_keeps_parts_apart(app_context: Flask) -> None:
    one = idempotency.fingerprint(b"operation", b"body")
    assert one != idempotency.fingerprint(b"operationb", b"ody")
    assert one == idempotency.fingerprint(b"operation", b"body")
    assert one != idempotency.fingerprint(b"operation", b"other")


def test_the_same_request_at_the_other_base_and_spelt_differently(app: Flask, api: Caller) -> None:
    assert send(api, json={}).status_code == 204
    repeats: tuple[dict[str, Any], ...] = ({"path": f"/tiab/api/v1{SEND}"}, {}, {"json": {}})
    for again in repeats:
        assert send(api, **again).headers["Idempotent-Replayed"] == "true"
    spaced = send(api, data=b" { } ", content_type="application/json")
    assert spaced.headers["Idempotent-Replayed"] == "true"


def test_keys_are_each_credentials_own(app: Flask, api: Caller) -> None:
    with app.app_context():
        other = Caller(app, make_credential())
    assert send(api).status_code == 204
    assert "Idempotent-Replayed" not in send(other).headers
    with app.app_context():
        assert count_mailings() == 2


def test_who_may_no_longer_ask_gets_no_replay(app: Flask, api: Caller) -> None:
    with app.app_context():
        credential = make_credential(scopes=(ApiScope.SEND,))
    caller = Caller(app, credential)
    assert send(caller).status_code == 204
    with app.app_context():
        db.session.execute(sa.text("DELETE FROM api_credential_groups WHERE credential_id <> 1"))
        db.session.commit()
    response = send(caller)
    assert (response.status_code, response.text) == (403, "Invalid access")


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "clé", "a\tb"])
def test_a_key_that_is_none_is_refused_by_name(app: Flask, api: Caller, key: str) -> None:
    response = send(api, key)
    assert response.status_code == 422
    assert "Idempotency-Key" in faults_of(response)
    with app.app_context():
        assert count_mailings() == 0


def test_the_longest_key_will_do(api: Caller) -> None:
    assert send(api, "~" * 255).status_code == 204


def test_it_means_nothing_to_a_get(app: Flask, api: Caller) -> None:
    for _ in range(2):
        response = api.get(CQ001, headers={"Idempotency-Key": KEY})
        assert response.status_code == 200
        assert "Idempotent-Replayed" not in response.headers
    with app.app_context():
        assert the_key() is None


def test_a_refusal_leaves_the_key_free(app: Flask, api: Caller) -> None:
    with app.app_context():
        admins = sa.update(User).where(User.customer_id.is_not(None))
        db.session.execute(admins.values(status=UserStatus.SUSPENDED))
        db.session.commit()
    assert send(api).status_code == 409
    assert send(api, path="/group/1/customer/999999/send-welcome-email").status_code == 403
    assert send(api, json={"x": 1}).status_code == 422
    with app.app_context():
        assert the_key() is None
        db.session.execute(admins.values(status=UserStatus.ACTIVE))
        db.session.commit()
    response = send(api)
    assert response.status_code == 204
    assert "Idempotent-Replayed" not in response.headers


def test_an_error_of_ours_leaves_the_key_free(
    app: Flask, api: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(welcome_mails, "resend_to_administrators", lambda *_: 1 / 0)
        assert send(api).status_code == 500
    assert send(api).status_code == 204


def test_work_that_was_done_is_not_done_again_after_an_error(
    app: Flask, api: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = welcome_mails.resend_to_administrators

    def fails_late(*args: Any) -> None:
        original(*args)
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(welcome_mails, "resend_to_administrators", fails_late)
        assert send(api).status_code == 500
    response = send(api)
    assert (response.status_code, type_of(response)) == (409, "answer-lost")
    with app.app_context():
        assert count_mailings() == 1


def test_two_at_once_are_carried_out_once(app: Flask) -> None:
    gate = threading.Barrier(6)
    found = []

    def call() -> None:
        caller = Caller(app)
        gate.wait()
        found.append(send(caller))

    threads = [threading.Thread(target=call) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    codes = sorted(each.status_code for each in found)
    assert set(codes) <= {204, 409}
    for each in found:
        if each.status_code == 409:
            assert type_of(each) == "request-in-flight"
            assert int(each.headers["Retry-After"]) >= 1
    firsts = [
        each
        for each in found
        if each.status_code == 204 and "Idempotent-Replayed" not in each.headers
    ]
    assert len(firsts) == 1
    with app.app_context():
        assert count_mailings() == 1


def test_a_request_under_way_is_told_to_who_repeats_it(
    app: Flask, api: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = welcome_mails.resend_to_administrators
    seen = []

    def meanwhile(*args: Any) -> object:
        with monkeypatch.context() as patch:
            patch.setattr(welcome_mails, "resend_to_administrators", original)
            thread = threading.Thread(target=lambda: seen.append(send(Caller(app))))
            thread.start()
            thread.join()
        return original(*args)

    monkeypatch.setattr(welcome_mails, "resend_to_administrators", meanwhile)
    assert send(api).status_code == 204
    assert (seen[0].status_code, type_of(seen[0])) == (409, "request-in-flight")
    assert 1 <= int(seen[0].headers["Retry-After"]) <= 30


def test_a_slow_request_whose_key_was_taken_over_commits_nothing(
    app: Flask, api: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = welcome_mails.resend_to_administrators
    overtaker = []

    def overtake() -> None:
        with app.app_context():
            expire(expires_at=utcnow() - timedelta(seconds=1))
        overtaker.append(send(Caller(app)))

    def slow(*args: Any) -> object:
        with monkeypatch.context() as patch:
            patch.setattr(welcome_mails, "resend_to_administrators", original)
            thread = threading.Thread(target=overtake)
            thread.start()
            thread.join()
        return original(*args)

    monkeypatch.setattr(welcome_mails, "resend_to_administrators", slow)
    response = send(api)
    assert overtaker[0].status_code == 204
    assert (response.status_code, type_of(response)) == (409, "request-in-flight")
    with app.app_context():
        assert count_mailings() == 1


def test_a_key_is_good_for_a_day(app: Flask, api: Caller) -> None:
    assert send(api).status_code == 204
    with app.app_context():
        expire(created_at=utcnow() - timedelta(hours=23, minutes=59))
        sweep()
    assert send(api).headers["Idempotent-Replayed"] == "true"
    with app.app_context():
        expire(created_at=utcnow() - timedelta(hours=24))
    response = send(api)  # The sweep has not come by.
    assert "Idempotent-Replayed" not in response.headers
    with app.app_context():
        assert count_mailings() == 2
        expire(created_at=utcnow() - timedelta(hours=24))
        sweep()
        assert the_key() is None


def test_the_sweep_deletes_more_than_fit_into_a_statement(
    app_context: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "_DELETED_AT_ONCE", 2)
    for number in range(5):
        idempotency.hold_key(1, f"{KEY}{number}", "f" * 64)
    expire(created_at=utcnow() - timedelta(hours=24))
    idempotency.hold_key(1, KEY, "f" * 64)

    idempotency.delete_old_keys()

    assert db.session.scalars(sa.select(IdempotencyKey.key)).all() == [KEY]


def test_an_answer_that_no_key_opens_is_lost(app: Flask, api: Caller) -> None:
    assert send(api).status_code == 204
    with app.app_context():
        expire(answer=b"\x01" + b"0" * 40)
    response = send(api)
    assert (response.status_code, type_of(response)) == (409, "answer-lost")


# --- The mark ----------------------------------------------------------------------------------


def _write(connection: sa.Connection | None = None) -> None:
    statement = sa.update(User).where(User.id == 1).values(first_name="Somebody")
    if connection is None:
        db.session.execute(statement)
        db.session.commit()
    else:
        connection.execute(statement)


WAYS = {_write: "by the session", lambda: run_transaction(_write): "by a connection"}


@pytest.mark.parametrize("work", WAYS, ids=WAYS.values())
def test_every_commit_of_work_writes_the_mark(app_context: Flask, work: Callable[[], None]) -> None:
    held = idempotency.hold_key(1, KEY, "f" * 64)
    assert isinstance(held, idempotency.HeldKey)
    with idempotency.marked_done(held):
        work()
    row = the_key()
    assert row is not None
    assert row.state is KeyState.DONE


@pytest.mark.parametrize("work", WAYS, ids=WAYS.values())
def test_who_has_lost_the_key_commits_nothing(app_context: Flask, work: Callable[[], None]) -> None:
    held = idempotency.hold_key(1, KEY, "f" * 64)
    assert isinstance(held, idempotency.HeldKey)
    expire(token="another")
    with idempotency.marked_done(held), pytest.raises(InFlight):
        work()
    db.session.rollback()
    assert db.session.scalar(sa.select(User.first_name).where(User.id == 1)) != "Somebody"


def test_looking_and_what_is_taken_back_are_no_work(app_context: Flask) -> None:
    held = idempotency.hold_key(1, KEY, "f" * 64)
    assert isinstance(held, idempotency.HeldKey)

    def refused(connection: sa.Connection) -> None:
        _write(connection)
        raise Conflict("no")

    with idempotency.marked_done(held):
        db.session.execute(sa.select(User.id).limit(1))
        db.session.commit()
        with pytest.raises(Conflict):
            run_transaction(refused)
        db.session.execute(sa.select(User.id).limit(1))
        db.session.commit()
    row = the_key()
    assert row is not None
    assert row.state is KeyState.OPEN
    idempotency.free_key(held)
    assert the_key() is None


def test_nothing_is_marked_outside_of_a_request_with_a_key(app_context: Flask) -> None:
    held = idempotency.hold_key(1, KEY, "f" * 64)
    assert isinstance(held, idempotency.HeldKey)
    with idempotency.marked_done(held):
        pass
    _write()
    row = the_key()
    assert row is not None
    assert row.state is KeyState.OPEN


# --- kill -9 -----------------------------------------------------------------------------------

_DONE = {"after the commit", "before the answer is kept"}


@pytest.mark.parametrize("point", POINTS)
def test_a_process_that_is_killed(app: Flask, settings: Settings, api: Caller, point: str) -> None:
    died = Process(settings, point, KEY, SEND, module="tests.support.crashing_api")
    assert died.wait(60) == -signal.SIGKILL, died.log.read_text()

    is_kept = point == "after the answer is kept"
    was_done = is_kept or point in _DONE
    with app.app_context():
        assert count_mailings() == was_done
    if not is_kept:
        early = send(api)
        assert (early.status_code, type_of(early)) == (409, "request-in-flight")
        with app.app_context():
            expire(expires_at=utcnow())
    later = send(api)

    if is_kept:
        assert (later.status_code, later.headers["Idempotent-Replayed"]) == (204, "true")
    elif was_done:
        assert (later.status_code, type_of(later)) == (409, "answer-lost")
    else:
        assert later.status_code == 204
        assert "Idempotent-Replayed" not in later.headers
    with app.app_context():
        assert count_mailings() == 1
