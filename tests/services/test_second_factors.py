"""One-time codes and recovery codes: which are accepted, how often, and what is kept of them."""

from __future__ import annotations

import threading
import time

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import (
    AuditEvent,
    RecoveryCode,
    SecurityNotice,
    SignInSession,
    TotpFactor,
    User,
    UserStatus,
)
from services import second_factors, second_steps, sign_ins, staff_accounts
from services.demo_data import PASSWORD
from services.errors import Conflict, InvalidInput, NotFound
from services.sign_ins import SecondStepDue
from tests.support.authenticators import code_of
from tests.support.factories import actor_for, find_customer, find_user, make_user

OPERATOR = "operator@foyer.example"


@pytest.fixture
def operator(app_context: Flask) -> User:
    return find_user(OPERATOR)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """`clock[0]` is what second_factors takes for the time, the middle of 30 seconds."""
    now = [float(int(time.time()) // 30 * 30 + 15)]
    monkeypatch.setattr(time, "time", lambda: now[0])
    return now


def set_up(user: User, at: float | None = None) -> tuple[str, list[str]]:
    second_factors.begin_app(user)
    setup = second_factors.find_setup(user)
    assert setup is not None
    code = code_of(setup.secret, at=at)
    codes = second_factors.confirm_app(actor_for(user.login), user, code)
    return setup.secret, codes or []


def begin(login: str = OPERATOR) -> str:
    entered = sign_ins.sign_in(login, PASSWORD)
    assert isinstance(entered, SecondStepDue)
    return entered.token


def test_the_code_before_and_after_count_each_once(operator: User, clock: list[float]) -> None:
    secret, _ = set_up(operator, clock[0] - 30)
    for steps, accepted in ((-2, False), (2, False), (0, True), (-1, False), (1, True), (1, False)):
        code = code_of(secret, at=clock[0], steps=steps)
        try:
            second_factors.check_code(operator, code)
            db.session.commit()
        except InvalidInput:
            assert not accepted, steps
        else:
            assert accepted, steps
    clock[0] += 60
    second_factors.check_code(operator, code_of(secret, at=clock[0]))


def test_the_code_that_confirmed_does_not_sign_in(operator: User, clock: list[float]) -> None:
    secret, _ = set_up(operator, clock[0] - 30)
    with pytest.raises(InvalidInput, match="has been used"):
        second_factors.check_code(operator, code_of(secret, at=clock[0], steps=-1))


@pytest.mark.parametrize("with_recovery", [False, True])
def test_of_two_at_once_with_one_code_one_gets_in(app: Flask, with_recovery: bool) -> None:
    with app.app_context():
        secret, codes = set_up(find_user(OPERATOR))
        tokens = [begin(), begin()]
    code = codes[0] if with_recovery else code_of(secret, steps=1)
    barrier = threading.Barrier(2)
    ends: list[str] = []

    def finish(token: str) -> None:
        with app.app_context():
            barrier.wait(30)
            try:
                if with_recovery:
                    second_steps.finish_with_recovery_code(token, code)
                else:
                    second_steps.finish_with_code(token, code)
                ends.append("in")
            except (InvalidInput, Conflict):
                ends.append("out")
            finally:
                db.session.remove()

    threads = [threading.Thread(target=finish, args=(token,)) for token in tokens]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(ends) == ["in", "out"]


def test_a_sign_in_is_finished_once(operator: User, clock: list[float]) -> None:
    secret, codes = set_up(operator, clock[0] - 30)
    token = begin()
    second_steps.finish_with_code(token, code_of(secret, at=clock[0]))
    with pytest.raises(Conflict):
        second_steps.finish_with_recovery_code(token, codes[0])
    left = db.session.scalars(sa.select(RecoveryCode).where(RecoveryCode.used_at.is_(None))).all()
    assert len(left) == 10, "a code was spent on nothing"


def test_a_sign_in_that_is_finished_at_this_moment_is_not_finished_again(
    operator: User, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two ways at once: the second has seen it before the first was through."""
    secret, codes = set_up(operator, clock[0] - 30)
    token = begin()
    seen = sign_ins.find_pending(token)
    second_steps.finish_with_code(token, code_of(secret, at=clock[0]))
    monkeypatch.setattr(sign_ins, "find_pending", lambda _token: seen)
    with pytest.raises(Conflict):
        second_steps.finish_with_recovery_code(token, codes[0])
    assert len(db.session.scalars(sa.select(SignInSession)).all()) == 1


def test_the_time_of_the_sign_in_is_that_of_its_second_step(
    operator: User, clock: list[float]
) -> None:
    secret, _ = set_up(operator, clock[0] - 30)
    token = begin()
    db.session.expire_all()
    assert find_user(OPERATOR).last_sign_in_at is None
    second_steps.finish_with_code(token, code_of(secret, at=clock[0]))
    db.session.expire_all()
    assert find_user(OPERATOR).last_sign_in_at is not None
    (detail,) = db.session.scalars(
        sa.select(AuditEvent.detail).where(AuditEvent.action == "sign_in.succeeded")
    )
    assert detail == {"second_step": "code"}


@pytest.mark.parametrize("how", ["suspended", "sessions ended"])
def test_half_a_sign_in_ends_when_its_person_is_barred(operator: User, how: str) -> None:
    secret, _ = set_up(operator)
    token = begin()
    if how == "suspended":
        operator.status = UserStatus.SUSPENDED
    else:
        sign_ins.end_sessions_of(operator)
    db.session.commit()
    with pytest.raises(Conflict):
        second_steps.finish_with_code(token, code_of(secret, steps=1))
    assert db.session.scalars(sa.select(SignInSession)).all() == []


def test_what_is_kept_is_sealed_or_hashed(operator: User) -> None:
    secret, codes = set_up(operator)
    row = db.session.scalars(sa.select(TotpFactor)).one()
    assert secret.encode() not in row.secret_seal
    hashes = db.session.scalars(sa.select(RecoveryCode.code_hash)).all()
    assert len(hashes) == len(set(hashes)) == 10
    assert not any(code.replace("-", "") in hashed for code in codes for hashed in hashes)


def test_a_key_is_to_be_confirmed_within_an_hour(operator: User) -> None:
    second_factors.begin_app(operator)
    db.session.execute(sa.update(TotpFactor).values(created_at=operator.created_at))
    db.session.execute(sa.text("UPDATE totp_factors SET created_at = '2020-01-01 00:00:00.000000'"))
    db.session.commit()
    assert second_factors.find_setup(operator) is None
    with pytest.raises(Conflict):
        second_factors.confirm_app(actor_for(OPERATOR), operator, "123456")


def test_a_form_that_is_sent_twice_confirms_once(operator: User, clock: list[float]) -> None:
    second_factors.begin_app(operator)
    setup = second_factors.find_setup(operator)
    assert setup is not None
    code = code_of(setup.secret, at=clock[0])
    assert second_factors.confirm_app(actor_for(OPERATOR), operator, code)
    with pytest.raises(Conflict):
        second_factors.confirm_app(actor_for(OPERATOR), operator, code)
    assert len(db.session.scalars(sa.select(TotpFactor)).all()) == 1


def test_a_landlord_resets_the_factors_of_anybody_but_himself(app_context: Flask) -> None:
    landlord = actor_for("landlord@foyer.example")
    user = make_user(find_customer("CQ001"), password=PASSWORD)
    _, token = sign_ins.sign_in(user.login, PASSWORD)
    set_up(user)
    staff_accounts.reset_second_factors(landlord, user.id)
    assert sign_ins.find_session(token) is None
    assert not user.has_second_factor
    for model in (TotpFactor, RecoveryCode):
        assert db.session.scalars(sa.select(model)).all() == []
    kinds = db.session.scalars(sa.select(SecurityNotice.kind).order_by(SecurityNotice.id)).all()
    assert kinds[-1] == "factors_reset"
    event = db.session.scalars(
        sa.select(AuditEvent).where(AuditEvent.action == "second_factors.reset")
    ).one()
    assert (event.actor_login, event.object_id) == ("landlord@foyer.example", user.id)
    assert event.customer_id == user.customer_id
    with pytest.raises(Conflict, match="no second factor"):
        staff_accounts.reset_second_factors(landlord, user.id)
    oneself = find_user("landlord@foyer.example")
    set_up(oneself)
    with pytest.raises(Conflict, match="your own"):
        staff_accounts.reset_second_factors(landlord, oneself.id)
    with pytest.raises(NotFound):
        staff_accounts.reset_second_factors(landlord, 2**62)


def test_a_new_password_leaves_the_second_factor(app_context: Flask) -> None:
    from services import reset_links

    user = make_user(find_customer("CQ001"), password=PASSWORD)
    set_up(user)
    sign_ins.set_chosen_password(user, "violet teapot on the moon")
    reset_links.close_links_of(user)
    db.session.commit()
    entered = sign_ins.sign_in(user.login, "violet teapot on the moon")
    assert isinstance(entered, SecondStepDue)
    assert sign_ins.find_session(entered.token) is None
