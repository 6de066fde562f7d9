"""Passkeys: what is accepted, from whom and how often."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import (
    AuditEvent,
    CustomerStatus,
    Passkey,
    PasskeyChallenge,
    Role,
    SignInPolicy,
    Throttle,
    User,
    UserStatus,
    utcnow,
)
from services import passkeys, second_steps, sign_ins
from services.errors import Conflict, InvalidInput, Throttled
from services.passkeys import RelyingParty
from services.sign_ins import SecondStepDue
from tests.support.authenticators import ORIGIN, Authenticator
from tests.support.factories import actor_for, find_customer, find_user, make_user, save

SITE = RelyingParty("localhost", ORIGIN)
ADMIN = "prpkeAdmin@kenton-electronics.com"


@pytest.fixture
def admin(app_context: Flask) -> User:
    return find_user(ADMIN)


def add(user: User, authenticator: Authenticator, name: str = "Phone", **bent: Any) -> Passkey:
    options = passkeys.ask_for_new(user, SITE)
    answer = authenticator.create(options, **bent)
    return passkeys.add(actor_for(user.login), user, SITE, name=name, answer=answer)[0]


def sign_in(authenticator: Authenticator, **bent: Any) -> User:
    answer = authenticator.get(passkeys.ask(None, SITE), **bent)
    return second_steps.sign_in_with_passkey(answer, SITE, address="192.0.2.7").user


def refused(authenticator: Authenticator, **bent: Any) -> None:
    sessions = db.session.scalars(sa.select(AuditEvent.id)).all()
    with pytest.raises(InvalidInput) as error:
        sign_in(authenticator, **bent)
    assert error.value.field == "passkey"
    actions = db.session.scalars(
        sa.select(AuditEvent.action).where(AuditEvent.id.not_in(sessions))
    ).all()
    assert "sign_in.succeeded" not in actions


def test_a_passkey_signs_its_person_in_and_notes_its_use(admin: User) -> None:
    phone = Authenticator()
    kept = add(admin, phone)
    assert kept.last_used_at is None
    assert sign_in(phone).id == admin.id
    db.session.expire_all()
    assert db.session.get_one(Passkey, kept.id).last_used_at is not None
    assert find_user(ADMIN).last_sign_in_at is not None
    assert find_user(ADMIN).has_second_factor


@pytest.mark.parametrize(
    "bent",
    [
        {"origin": "http://localhost.evil.example"},
        {"origin": "https://localhost"},
        {"type": "webauthn.create"},
        {"challenge": "A" * 43},
    ],
)
def test_what_was_signed_for_something_else_is_refused(admin: User, bent: dict[str, Any]) -> None:
    phone = Authenticator()
    add(admin, phone)
    refused(phone, **bent)
    with pytest.raises(InvalidInput):
        add(
            admin,
            Authenticator(),
            **{**bent, **({"type": "webauthn.get"} if "type" in bent else {})},
        )
    assert sign_in(phone).id == admin.id


def test_another_site_another_key_and_another_handle_are_refused(admin: User) -> None:
    phone = Authenticator()
    add(admin, phone)
    for name, value in (("rp_id", "evil.example"), ("handle", b"x" * 32), ("handle", b"")):
        before = getattr(phone, name)
        setattr(phone, name, value)
        refused(phone)
        setattr(phone, name, before)
    forger = Authenticator()
    forger.id, forger.handle = phone.id, phone.handle
    refused(forger)
    stranger = Authenticator()
    stranger.handle = phone.handle
    refused(stranger)
    assert sign_in(phone).id == admin.id


def test_a_challenge_is_answered_once_in_time_and_for_its_purpose(admin: User) -> None:
    phone = Authenticator()
    add(admin, phone)
    options = passkeys.ask(None, SITE)
    answer = phone.get(options)
    second_steps.sign_in_with_passkey(answer, SITE)
    with pytest.raises(InvalidInput, match="answered before"):
        second_steps.sign_in_with_passkey(answer, SITE)
    late = phone.get(passkeys.ask(None, SITE))
    db.session.execute(
        sa.update(PasskeyChallenge).values(created_at=utcnow() - timedelta(minutes=10))
    )
    db.session.commit()
    with pytest.raises(InvalidInput, match="took too long"):
        second_steps.sign_in_with_passkey(late, SITE)
    for_step = phone.get(passkeys.ask(admin, SITE))
    with pytest.raises(InvalidInput):
        second_steps.sign_in_with_passkey(for_step, SITE)
    for_a_new_one = phone.get(passkeys.ask_for_new(admin, SITE))
    with pytest.raises(InvalidInput, match="answered before"):
        passkeys.check(admin, SITE, for_a_new_one)
    sign_ins.delete_stale_rows()
    left = db.session.scalars(sa.select(PasskeyChallenge.user_id)).all()
    assert left == [admin.id, admin.id]


def test_a_counter_that_does_not_count_on_was_copied(admin: User) -> None:
    key = Authenticator(counts=True)
    add(admin, key)
    sign_in(key)
    key.counter -= 1
    refused(key)
    key.counter += 5
    assert sign_in(key).id == admin.id
    key.counts, key.counter = False, 0
    refused(key)


def test_somebody_elses_passkey_is_no_second_step(admin: User) -> None:
    phone, other = Authenticator(), Authenticator()
    add(admin, phone)
    operator = find_user("operator@foyer.example")
    add(operator, other)
    entered = sign_ins.sign_in(operator.login, "foyer-demo-1")
    assert isinstance(entered, SecondStepDue)
    options = second_steps.ask_passkey(entered.token, SITE)
    allowed = [each["id"] for each in options["publicKey"]["allowCredentials"]]  # type: ignore[index]
    assert len(allowed) == 1
    with pytest.raises(InvalidInput):
        second_steps.finish_with_passkey(entered.token, phone.get(options), SITE)
    options = second_steps.ask_passkey(entered.token, SITE)
    finished = second_steps.finish_with_passkey(entered.token, other.get(options), SITE)
    assert finished.user.id == operator.id
    with pytest.raises(Conflict):
        second_steps.ask_passkey(entered.token, SITE)


@pytest.mark.parametrize("who", ["user", "customer"])
def test_a_passkey_of_who_is_suspended_signs_nobody_in(admin: User, who: str) -> None:
    phone = Authenticator()
    add(admin, phone)
    if who == "user":
        admin.status = UserStatus.SUSPENDED
    else:
        find_customer("CQ001").status = CustomerStatus.SUSPENDED
    db.session.commit()
    refused(phone)


def test_a_passkey_is_known_once_and_has_a_name(admin: User) -> None:
    phone = Authenticator()
    add(admin, phone)
    with pytest.raises(InvalidInput, match="known already"):
        add(find_user("operator@foyer.example"), phone)
    with pytest.raises(InvalidInput) as error:
        add(admin, Authenticator(), " ")
    assert error.value.field == "name"
    assert len(db.session.scalars(sa.select(Passkey)).all()) == 1


def test_there_is_a_most(admin: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passkeys, "MOST", 2)
    for _ in range(2):
        add(admin, Authenticator())
    with pytest.raises(Conflict, match="which is the most"):
        passkeys.ask_for_new(admin, SITE)


def test_options_name_the_account_and_nothing_of_its_person(admin: User) -> None:
    phone = Authenticator()
    options = passkeys.ask_for_new(admin, SITE)
    text = json.dumps(options)
    assert options["publicKey"]["rp"]["id"] == "localhost"
    assert options["publicKey"].get("attestation", "none") == "none"
    add(admin, phone)
    again = passkeys.ask_for_new(admin, SITE)
    assert again["publicKey"]["user"]["id"] == options["publicKey"]["user"]["id"]
    assert len(again["publicKey"]["excludeCredentials"]) == 1
    assert admin.email not in text.replace(admin.login, "")


def test_the_last_factor_of_a_role_that_needs_one_stays(admin: User) -> None:
    kept = add(admin, Authenticator())
    save(SignInPolicy(role=Role.CUSTOMER_ADMIN, second_factor=True))
    with pytest.raises(Conflict, match="your only one"):
        passkeys.remove(actor_for(ADMIN), admin, kept.id)
    other = add(admin, Authenticator(), "Key")
    passkeys.remove(actor_for(ADMIN), admin, other.id)
    assert db.session.scalars(sa.select(Passkey.id)).all() == [kept.id]


def test_asking_and_failing_without_end_is_slowed_down(admin: User) -> None:
    stranger = Authenticator()

    def fail() -> None:
        answer = stranger.get(passkeys.ask(None, SITE))
        second_steps.sign_in_with_passkey(answer, SITE, address="192.0.2.7")

    for _ in range(20):
        with pytest.raises(InvalidInput):
            fail()
    with pytest.raises(Throttled):
        fail()
    db.session.execute(sa.delete(Throttle))
    db.session.commit()
    for _ in range(100):
        second_steps.ask_any_passkey(SITE, address="192.0.2.7")
    with pytest.raises(Throttled):
        second_steps.ask_any_passkey(SITE, address="192.0.2.7")


@pytest.mark.parametrize(
    ("public_url", "host", "site"),
    [
        ("https://portal.example", "portal.example", ("portal.example", "https://portal.example")),
        ("https://portal.example:8443", "x", ("portal.example", "https://portal.example:8443")),
        ("https://portal.example", "evil.example", ("portal.example", "https://portal.example")),
        ("https://bücher.example", "x", ("xn--bcher-kva.example", "https://xn--bcher-kva.example")),
        ("http://localhost:8000", "localhost:8000", ("localhost", "http://localhost:8000")),
        ("http://127.0.0.1:8000", "localhost:8000", ("localhost", "http://localhost:8000")),
        ("http://127.0.0.1:8000", "127.0.0.1:8000", None),
        ("http://127.0.0.1:8000", "evil.example", None),
        ("https://[2001:db8::1]", "[2001:db8::1]", None),
        ("http://portal.example", "portal.example", None),
        ("http://portal.example", "localhost", None),
    ],
)
def test_passkeys_are_for_the_portals_name(
    app_context: Flask, public_url: str, host: str, site: tuple[str, str] | None
) -> None:
    object.__setattr__(app_context.extensions["settings"], "public_url", public_url)
    found = passkeys.find_relying_party(host)
    assert found == (RelyingParty(*site) if site else None)
    assert bool(passkeys.why_not(host)) is (site is None)


def test_a_user_of_a_customer_may_have_one(app_context: Flask) -> None:
    user = make_user(find_customer("CQ001"))
    phone = Authenticator()
    add(user, phone)
    assert sign_in(phone).id == user.id
