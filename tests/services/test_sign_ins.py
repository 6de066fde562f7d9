"""Sign-ins: guesses are slowed down and never locked out, sessions begin and end."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import (
    AuditEvent,
    CustomerStatus,
    SignInSession,
    Throttle,
    User,
    UserStatus,
    utcnow,
)
from services import passwords, sign_ins
from services.errors import InvalidInput, Throttled
from tests.support.factories import find_customer, find_user, make_customer, make_user

PASSWORD = "correct-horse-battery"

ADDRESS = "192.0.2.7"


@pytest.fixture
def user(app_context: Flask) -> User:
    return make_user(find_customer("CQ001"), password=PASSWORD)


def fail(login: str, address: str = ADDRESS) -> int:
    """A wrong try; the seconds one has to wait when it was refused unseen, else 0."""
    db.session.expire_all()
    try:
        sign_ins.sign_in(login, "wrong", address=address)
    except Throttled as error:
        return error.retry_after
    except InvalidInput:
        return 0
    raise AssertionError("a wrong password signs in")


def wait_it_out(**back: float) -> None:
    """The blocks run out; `back` shifts the throttles' last change into the past."""
    values: dict[str, Any] = {"blocked_until": utcnow() - timedelta(seconds=1)}
    if back:
        values["updated_at"] = utcnow() - timedelta(**back)
    db.session.execute(sa.update(Throttle).values(values))
    db.session.commit()


def test_waits_double_and_end_at_a_minute(user: User) -> None:
    waits = []
    for _ in range(12):
        assert fail(user.login) == 0
        waits.append(fail(user.login))
        wait_it_out()
    assert waits[:2] == [0, 1] or waits[0] == 0
    blocked = [wait for wait in waits if wait]
    assert blocked == sorted(blocked)
    assert max(blocked) == 60
    assert blocked[-1] == blocked[-2] == 60, "never longer than a minute"


def test_a_wait_is_counted_from_the_failure_not_from_a_refused_try(user: User) -> None:
    for _ in range(3):
        fail(user.login)
    before = throttle_of(user).attempts
    for _ in range(5):
        assert fail(user.login) >= 1
    assert throttle_of(user).attempts == before, "refused tries lengthen the wait"


def throttle_of(user: User) -> Throttle:
    db.session.expire_all()
    key = sign_ins._throttle_keys(user.login, ADDRESS)["account"]
    return db.session.get_one(Throttle, key)


def test_failures_are_forgotten_after_a_while(user: User) -> None:
    for _ in range(6):
        fail(user.login)
        wait_it_out()
    wait_it_out(minutes=16)
    assert fail(user.login) == 0
    assert throttle_of(user).attempts == 1


def test_the_right_password_forgets_the_accounts_failures_but_not_the_others(user: User) -> None:
    """Else a guesser with one account of his own could go on for ever."""
    for _ in range(2):
        fail(user.login)
    sign_ins.sign_in(user.login, PASSWORD, address=ADDRESS)
    left = {row.key: row.attempts for row in db.session.scalars(sa.select(Throttle))}
    keys = sign_ins._throttle_keys(user.login, ADDRESS)
    assert left == {keys["address"]: 2, keys["everywhere"]: 2}


@pytest.mark.parametrize(
    "written",
    [
        "prpmuAdmin@münchen-mill.example",
        "PRPMUADMIN@MÜNCHEN-MILL.EXAMPLE",
        "prpmuAdmin@xn--mnchen-mill-thb.example",
    ],
)
def test_a_login_is_known_by_both_forms_of_its_domain(app_context: Flask, written: str) -> None:
    login = "prpmuAdmin@xn--mnchen-mill-thb.example"
    made = make_user(find_customer("CQ001"), login=login, password=PASSWORD)
    assert sign_ins.sign_in(written, PASSWORD)[0].id == made.id
    assert sign_ins.find_active_user(f"x{written}") is None


@pytest.mark.parametrize(
    "login", ["a@\ud800.example", "a@" + "ü" * 300, "@ü", "ü@", "a@\u202e.de", "x@\u3002"]
)
def test_a_login_with_a_domain_that_is_none_is_nobodys(app_context: Flask, login: str) -> None:
    assert sign_ins.find_active_user(login) is None


def test_an_account_is_throttled_however_its_login_is_written(user: User) -> None:
    for login in (user.login, user.login.upper(), f" {user.login} "):
        fail(login)
    with pytest.raises(Throttled):
        sign_ins.sign_in(user.login, PASSWORD, address=ADDRESS)


def test_guesses_from_everywhere_make_everybody_wait_a_little(user: User) -> None:
    waits = []
    for number in range(40):
        fail(user.login, f"198.51.100.{number}")
        waits.append(fail(user.login, "203.0.113.1") if number > 30 else 0)
        wait_it_out()
    assert 0 < max(waits) <= 10


def test_neither_logins_nor_passwords_stand_in_the_throttles(user: User) -> None:
    fail(user.login)
    keys = list(db.session.scalars(sa.select(Throttle.key)))
    assert not [key for key in keys if "user" in key or "wrong" in key]


def test_guesses_at_once_are_all_counted(app_context: Flask, user: User) -> None:
    """Two first failures at once must neither fail nor be one."""
    login = user.login
    db.session.commit()
    gate = threading.Barrier(8)
    answers: list[str] = []

    def guess() -> None:
        with app_context.app_context():
            gate.wait()
            try:
                sign_ins.sign_in(login, "wrong", address="192.0.2.7")
            except (InvalidInput, Throttled) as error:
                answers.append(type(error).__name__)
            except Exception as error:  # noqa: BLE001
                answers.append(repr(error))

    threads = [threading.Thread(target=guess) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) <= {"InvalidInput", "Throttled"}, answers
    assert throttle_of(user).attempts == answers.count("InvalidInput")


@pytest.mark.parametrize(
    "login", ["", "\0", "a\0b", "x" * 100_000, "\ud800", "%", "' OR 1=1 --", "\u202e"]
)
def test_a_login_that_is_none_is_refused_like_a_wrong_one(app_context: Flask, login: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        sign_ins.sign_in(login, "wrong", address="192.0.2.7")
    assert caught.value.message == sign_ins.REFUSED


@pytest.mark.parametrize("status", [UserStatus.SUSPENDED, UserStatus.DELETED])
def test_who_is_not_active_is_refused_in_the_same_words(user: User, status: UserStatus) -> None:
    user.status = status
    db.session.commit()
    with pytest.raises(InvalidInput, match="wrong"):
        sign_ins.sign_in(user.login, PASSWORD)


def test_people_of_a_suspended_customer_are_refused(app_context: Flask) -> None:
    user = make_user(make_customer(status=CustomerStatus.SUSPENDED), password=PASSWORD)
    with pytest.raises(InvalidInput, match="wrong"):
        sign_ins.sign_in(user.login, PASSWORD)


def test_somebody_who_never_had_a_password_cannot_sign_in(app_context: Flask) -> None:
    user = make_user(find_customer("CQ001"))
    assert user.password_hash is None
    for password in ("", "None", "x"):
        with pytest.raises(InvalidInput):
            sign_ins.sign_in(user.login, password)


def test_a_session_is_kept_as_a_hash_and_found_by_its_token(user: User) -> None:
    found, token = sign_ins.sign_in(
        user.login, PASSWORD, address="a" * 99, user_agent="Browser/1 " * 99
    )
    assert found.id == user.id
    session = sign_ins.find_session(token)
    assert session is not None
    assert session.user.id == user.id
    assert token not in (session.token_hash, session.address, session.user_agent)
    assert (len(session.address), len(session.user_agent)) == (64, 255)
    assert sign_ins.find_session(session.token_hash) is None
    assert sign_ins.find_session("") is None


def test_looking_is_noted_unless_it_is_polling(user: User) -> None:
    _, token = sign_ins.sign_in(user.login, PASSWORD)
    long_ago = utcnow() - timedelta(minutes=10)
    db.session.execute(sa.update(SignInSession).values(last_seen_at=long_ago))
    db.session.commit()
    db.session.expire_all()
    assert sign_ins.find_session(token, touch=False) is not None
    assert db.session.scalar(sa.select(SignInSession.last_seen_at)) == long_ago
    assert sign_ins.find_session(token) is not None
    assert (db.session.scalar(sa.select(SignInSession.last_seen_at)) or long_ago) > long_ago


def test_stale_rows_are_forgotten_and_live_ones_are_not(user: User) -> None:
    sign_ins.sign_in(user.login, PASSWORD)
    fail("nobody@nowhere.example")
    sign_ins.delete_stale_rows()
    count = sa.select(sa.func.count())
    assert db.session.scalar(count.select_from(SignInSession)) == 1
    assert db.session.scalar(count.select_from(Throttle)) == 3
    db.session.execute(sa.update(SignInSession).values(last_seen_at=utcnow() - timedelta(days=1)))
    wait_it_out(minutes=16)
    sign_ins.delete_stale_rows()
    assert db.session.scalar(count.select_from(SignInSession)) == 0
    assert db.session.scalar(count.select_from(Throttle)) == 0


def test_every_sign_in_and_refusal_is_in_the_audit_trail(user: User) -> None:
    fail(user.login)
    sign_ins.sign_in(user.login, PASSWORD, address="192.0.2.7")
    fail("nobody@nowhere.example")
    found = db.session.execute(
        sa.select(AuditEvent.action, AuditEvent.actor_login, AuditEvent.address).order_by(
            AuditEvent.id
        )
    ).all()
    assert [tuple(row) for row in found[-3:]] == [
        ("sign_in.refused", user.login, "192.0.2.7"),
        ("sign_in.succeeded", user.login, "192.0.2.7"),
        ("sign_in.refused", "", "192.0.2.7"),
    ]


def test_a_chosen_password_replaces_what_might_have_arrived(user: User) -> None:
    user.unconfirmed_hash = passwords.hash_generated("from-an-old-mail")
    db.session.commit()
    sign_ins.change_password(user, current=PASSWORD, new="a-chosen-password", token="t")
    with pytest.raises(InvalidInput):
        sign_ins.sign_in(user.login, "from-an-old-mail")


def test_an_unconfirmed_password_signs_in_once_known_and_must_be_changed(user: User) -> None:
    user.unconfirmed_hash = passwords.hash_generated("from-an-old-mail")
    db.session.commit()
    sign_ins.sign_in(user.login, "from-an-old-mail")
    found = find_user(user.login)
    assert found.unconfirmed_hash is None
    assert found.must_change_password
    with pytest.raises(InvalidInput):
        sign_ins.sign_in(user.login, PASSWORD)
