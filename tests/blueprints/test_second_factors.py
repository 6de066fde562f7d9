"""One's own second factors and the second step of signing in, as pages."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from werkzeug.test import TestResponse

from blueprints.account.browsers import name_browser
from extensions import db
from models import (
    AuditEvent,
    Passkey,
    PasskeyChallenge,
    PendingSignIn,
    RecoveryCode,
    Role,
    SignInPolicy,
    SignInSession,
    Throttle,
    TotpFactor,
    User,
    utcnow,
)
from services.demo_data import PASSWORD
from tests.support.authenticators import Authenticator, code_of
from tests.support.factories import find_user, save
from tests.support.pages import CheckingClient, Page
from tests.support.smtp_sink import SmtpSink

OPERATOR = "operator@foyer.example"
ADMIN = "prpkeAdmin@kenton-electronics.com"
FACTORS = "/account/second-factors"
STEP = "/login/second-step"
CODE = re.compile(r"(?:[a-z2-9]{4}-){5}[a-z2-9]{4}")

SignInAs = Callable[[str], CheckingClient]


@pytest.fixture
def settings_changes() -> dict[str, str]:
    return {"PUBLIC_URL": "http://localhost"}


def enter(client: CheckingClient, login: str = OPERATOR, **more: str) -> TestResponse:
    return client.submit("/login", {"login": login, "password": PASSWORD, **more})


def key_on(page: Page) -> str:
    return page.text(page.one("code", id="totp-key"))


def set_up_app(client: CheckingClient) -> tuple[str, list[str]]:
    """The key of an app, and the recovery codes that were shown."""
    assert client.submit(f"{FACTORS}/app/new").location == f"{FACTORS}/app"
    secret = key_on(client.page(f"{FACTORS}/app"))
    response = client.submit(f"{FACTORS}/app", {"code": code_of(secret)})
    codes = CODE.findall(response.text)
    return secret, codes


def add_passkey(client: CheckingClient, name: str = "My phone", **bent: Any) -> Authenticator:
    authenticator = Authenticator(**bent)
    options = client.submit(f"{FACTORS}/passkeys/ask").get_json()
    answer = authenticator.create(options)
    response = client.submit(f"{FACTORS}/passkeys/new", {"name": name, "passkey": answer})
    assert response.status_code in {200, 303}, response.text
    return authenticator


def is_in(client: CheckingClient) -> bool:
    return client.get("/account/profile").status_code == 200


def count(app: Flask, model: type) -> int:
    with app.app_context():
        return db.session.scalar(sa.select(sa.func.count()).select_from(model)) or 0


def require(app: Flask, role: Role) -> None:
    with app.app_context():
        save(SignInPolicy(role=role, second_factor=True))


# --- An app --------------------------------------------------------------------------------------


def test_an_app_is_set_up_and_asked_from_then_on(
    app: Flask, sign_in_as: SignInAs, client: CheckingClient
) -> None:
    operator = sign_in_as(OPERATOR)
    assert "Off" in operator.get(FACTORS).text
    operator.submit(f"{FACTORS}/app/new")
    page = operator.page(f"{FACTORS}/app")
    secret = key_on(page)
    assert re.fullmatch(r"([A-Z2-7]{4} ){7}[A-Z2-7]{4}", secret)
    assert page.one("img").get("src").startswith("data:image/svg+xml")
    assert count(app, TotpFactor) == 1
    assert enter(client).location != STEP, "a key that nobody has confirmed is asked for"
    client.submit("/account/sign-out")

    wrong = operator.submit(f"{FACTORS}/app", {"code": "000000"})
    assert wrong.status_code == 422
    assert "This code is wrong." in wrong.text
    done = operator.submit(f"{FACTORS}/app", {"code": code_of(secret)})
    codes = CODE.findall(done.text)
    assert done.status_code == 200
    assert len(set(codes)) == 10
    assert done.headers["Cache-Control"] == "no-store"
    shown = operator.get(FACTORS).text
    assert "10 of 10 are left" in shown
    assert not CODE.search(shown)
    assert operator.get(f"{FACTORS}/app").location == FACTORS, "the key can be seen again"

    response = enter(client, next="/sp/commands")
    assert response.location == f"{STEP}?next=/sp/commands"
    assert not is_in(client)
    page = client.page(response.location)
    assert page.one("input", name="code").get("autocomplete") == "one-time-code"
    code = code_of(secret, steps=1)
    data = {"code": f" {code[:3]} {code[3:]} ", "next": "/sp/commands"}
    assert client.submit(STEP, data).location == "/sp/commands"
    assert is_in(client)
    with app.app_context():
        events = db.session.scalars(sa.select(AuditEvent.action).order_by(AuditEvent.id)).all()
    wanted = ["totp_factor.added", "sign_in.second_step_asked", "sign_in.succeeded"]
    assert [each for each in events if each in wanted][-3:] == wanted


def test_half_a_sign_in_opens_nothing(
    app: Flask, sign_in_as: SignInAs, client: CheckingClient
) -> None:
    secret, _ = set_up_app(sign_in_as(OPERATOR))
    client.get("/login")
    with client.session_transaction() as session:
        session["planted"] = "before"
    enter(client)
    with client.session_transaction() as session:
        assert "planted" not in session
        assert "sign_in" not in session
        half = session["second_step"]
    for path in ("/customers", "/account/profile", FACTORS, "/staff", "/customers/CQ001/users"):
        response = client.get(path)
        assert response.status_code == 302
        assert response.location.startswith("/login"), path
    with client.session_transaction() as session:
        session["sign_in"] = half  # As if it were a session's.
    assert not is_in(client)
    enter(client)
    with client.session_transaction() as session:
        before = session["second_step"]
    client.submit(STEP, {"code": code_of(secret, steps=1)})
    with client.session_transaction() as session:
        assert "second_step" not in session
        assert session["sign_in"] not in {before, half}
    assert is_in(client)


def test_half_a_sign_in_ends_with_ten_minutes_and_with_the_password(
    app: Flask, sign_in_as: SignInAs, client: CheckingClient
) -> None:
    secret, _ = set_up_app(sign_in_as(OPERATOR))
    enter(client)
    with app.app_context():
        db.session.execute(
            sa.update(PendingSignIn).values(created_at=utcnow() - timedelta(minutes=10))
        )
        db.session.commit()
    response = client.submit(STEP, {"code": code_of(secret, steps=1)})
    assert response.location == "/login"
    assert "This sign-in took too long." in client.get("/login").text
    enter(client)
    with app.app_context():
        hashed = find_user(ADMIN).password_hash
        find_user(OPERATOR).password_hash = f"{hashed}x"
        db.session.commit()
    assert client.submit(STEP, {"code": code_of(secret, steps=1)}).location == "/login"
    assert not is_in(client)


def test_a_code_works_once_whoever_has_seen_it(
    sign_in_as: SignInAs, client: CheckingClient, app: Flask
) -> None:
    secret, _ = set_up_app(sign_in_as(OPERATOR))
    code = code_of(secret, steps=1)
    enter(client)
    client.submit(STEP, {"code": code})
    assert is_in(client)
    thief = app.test_client()
    assert isinstance(thief, CheckingClient)
    enter(thief)
    refused = thief.submit(STEP, {"code": code})
    assert refused.status_code == 422
    assert "This code has been used." in refused.text
    assert not is_in(thief)


def test_guessing_codes_is_slowed_down(sign_in_as: SignInAs, client: CheckingClient) -> None:
    set_up_app(sign_in_as(OPERATOR))
    enter(client)
    statuses = [client.submit(STEP, {"code": "000000"}).status_code for _ in range(7)]
    assert statuses[:5] == [422] * 5
    assert statuses[-1] == 429
    refused = client.submit(STEP, {"code": "000000"})
    assert int(refused.headers["Retry-After"]) > 0
    assert "Too many attempts." in refused.text


@pytest.mark.parametrize(
    "typed", ["", "12345", "x" * 101, "１２３４５６７", "\ud800", "a\0b", "٣" * 6]
)
def test_what_is_no_code_is_refused_with_a_sentence(
    sign_in_as: SignInAs, client: CheckingClient, typed: str
) -> None:
    set_up_app(sign_in_as(OPERATOR))
    enter(client)
    data = {"code": typed.encode("utf-8", "surrogatepass"), "way": "app"}
    response = client.submit(STEP, data)
    assert response.status_code == 422
    assert Page(response.text).one("input", name="code").get("aria-invalid") == "true"


def test_recovery_codes_stand_in_once_each(
    app: Flask, sign_in_as: SignInAs, client: CheckingClient
) -> None:
    _, codes = set_up_app(sign_in_as(OPERATOR))
    enter(client)
    page = client.page(f"{STEP}?way=recovery")
    assert page.one("input", name="way").get("value") == "recovery"
    written = codes[0].upper().replace("-", " ")
    assert client.submit(STEP, {"code": written, "way": "recovery"}).status_code == 303
    assert is_in(client)
    client.submit("/account/sign-out")
    enter(client)
    again = client.submit(STEP, {"code": codes[0], "way": "recovery"})
    assert again.status_code == 422
    assert "none of your recovery codes" in again.text
    for code in codes[1:7]:
        enter(client)
        client.submit(STEP, {"code": code, "way": "recovery"})
        client.submit("/account/sign-out")
    enter(client)
    client.submit(STEP, {"code": codes[7], "way": "recovery"})
    assert "2 of your recovery codes are left." in client.get("/account/profile").text


def test_new_recovery_codes_replace_the_old(
    app: Flask, sign_in_as: SignInAs, client: CheckingClient
) -> None:
    operator = sign_in_as(OPERATOR)
    _, old = set_up_app(operator)
    assert "no longer work then" in operator.get(f"{FACTORS}/recovery-codes").text
    new = CODE.findall(operator.submit(f"{FACTORS}/recovery-codes").text)
    assert len(set(new) - set(old)) == 10
    assert count(app, RecoveryCode) == 10
    enter(client)
    assert client.submit(STEP, {"code": old[0], "way": "recovery"}).status_code == 422
    assert client.submit(STEP, {"code": new[0], "way": "recovery"}).status_code == 303


def test_removing_the_app_leaves_the_password_alone(
    app: Flask, sign_in_as: SignInAs, client: CheckingClient
) -> None:
    operator = sign_in_as(OPERATOR)
    set_up_app(operator)
    assert "The password alone signs you in then" in operator.get(f"{FACTORS}/app/remove").text
    assert operator.submit(f"{FACTORS}/app/remove").status_code == 303
    assert count(app, TotpFactor) == count(app, RecoveryCode) == 0
    assert enter(client).location == "/customers"


def test_another_app_takes_the_place_of_the_first_when_it_is_confirmed(
    app: Flask, sign_in_as: SignInAs, client: CheckingClient
) -> None:
    operator = sign_in_as(OPERATOR)
    first, _ = set_up_app(operator)
    operator.submit(f"{FACTORS}/app/new")
    second = key_on(operator.page(f"{FACTORS}/app"))
    enter(client)
    assert client.submit(STEP, {"code": code_of(second)}).status_code == 422
    done = operator.submit(f"{FACTORS}/app", {"code": code_of(second)})
    assert done.status_code == 303, "codes that are kept already are shown anew"
    assert client.submit(STEP, {"code": code_of(first)}).status_code == 422
    assert client.submit(STEP, {"code": code_of(second, steps=1)}).status_code == 303


# --- Proving once more who one is ----------------------------------------------------------------


def test_an_open_browser_is_not_enough_to_change_factors(app: Flask, sign_in_as: SignInAs) -> None:
    operator = sign_in_as(OPERATOR)
    with app.app_context():
        db.session.execute(
            sa.update(SignInSession).values(created_at=utcnow() - timedelta(minutes=16))
        )
        db.session.commit()
    assert operator.get(FACTORS).status_code == 200
    for path in ("/app", "/recovery-codes", "/passkeys/new"):
        asked = operator.get(f"{FACTORS}{path}")
        assert asked.location == f"/account/confirm?next={FACTORS}{path}"
    assert operator.submit(f"{FACTORS}/app/new").location.startswith("/account/confirm")
    assert count(app, TotpFactor) == 0
    assert operator.submit(f"{FACTORS}/passkeys/ask").status_code == 409
    wrong = operator.submit("/account/confirm", {"password": "wrong", "next": FACTORS})
    assert wrong.status_code == 422
    right = operator.submit("/account/confirm", {"password": PASSWORD, "next": FACTORS})
    assert right.location == FACTORS
    assert operator.submit(f"{FACTORS}/app/new").location == f"{FACTORS}/app"


def test_prospects_have_no_second_factor(app: Flask, sign_in_as: SignInAs) -> None:
    from tests.support.factories import make_user

    with app.app_context():
        login = make_user(role=Role.PROSPECT, login="new@prospect.example").login
    prospect = sign_in_as(login)
    assert prospect.get(FACTORS).location == "/account/profile"
    assert prospect.get("/account/confirm").location == "/account/profile"
    assert prospect.get("/account/sessions").status_code == 200


# --- Passkeys ------------------------------------------------------------------------------------


def test_a_passkey_is_the_second_step(
    app: Flask, sign_in_as: SignInAs, client: CheckingClient
) -> None:
    phone = add_passkey(sign_in_as(OPERATOR))
    enter(client)
    page = client.page(STEP)
    assert page.one("form", data_passkey="get").get("data-options") == f"{STEP}/passkey"
    phone.verifies = False  # Having it is enough after the password.
    answer = phone.get(client.submit(f"{STEP}/passkey").get_json())
    assert client.submit(STEP, {"way": "passkey", "passkey": answer}).location == "/customers"
    assert is_in(client)
    assert count(app, PasskeyChallenge) == 0


def test_a_passkey_signs_in_alone_when_it_has_verified_its_person(
    app: Flask, sign_in_as: SignInAs, client: CheckingClient
) -> None:
    phone = add_passkey(sign_in_as(OPERATOR))
    assert client.page("/login").one("form", data_passkey="get")
    phone.verifies = False
    answer = phone.get(client.submit("/login/passkey/ask").get_json())
    assert client.submit("/login/passkey", {"passkey": answer}).location == "/login"
    assert not is_in(client)
    phone.verifies = True
    answer = phone.get(client.submit("/login/passkey/ask").get_json())
    data = {"passkey": answer, "next": "/sp/commands"}
    assert client.submit("/login/passkey", data).location == "/sp/commands"
    assert is_in(client)


def test_an_answer_works_once(app: Flask, sign_in_as: SignInAs, client: CheckingClient) -> None:
    phone = add_passkey(sign_in_as(OPERATOR))
    answer = phone.get(client.submit("/login/passkey/ask").get_json())
    client.submit("/login/passkey", {"passkey": answer})
    thief = app.test_client()
    assert isinstance(thief, CheckingClient)
    assert thief.submit("/login/passkey", {"passkey": answer}).location == "/login"
    assert not is_in(thief)


def test_passkeys_are_named_listed_and_removed(
    app: Flask, sign_in_as: SignInAs, client: CheckingClient
) -> None:
    operator = sign_in_as(OPERATOR)
    add_passkey(operator, "<script>alert(1)</script>")
    add_passkey(operator, "Blue key")
    shown = operator.page(FACTORS)
    assert "<script>alert(1)</script>" in shown.text()
    with app.app_context():
        first, second = db.session.scalars(sa.select(Passkey.id).order_by(Passkey.id)).all()
    assert operator.get(f"{FACTORS}/passkeys/{first}/remove").status_code == 200
    assert operator.submit(f"{FACTORS}/passkeys/{first}/remove").status_code == 303
    other = sign_in_as("landlord@foyer.example")
    assert other.get(f"{FACTORS}/passkeys/{second}/remove").status_code == 404
    assert other.submit(f"{FACTORS}/passkeys/{second}/remove").status_code == 404
    assert count(app, Passkey) == 1
    operator.submit(f"{FACTORS}/passkeys/{second}/remove")
    assert enter(client).location == "/customers"


@pytest.mark.parametrize(
    "answer",
    ["", "{", "[]", "1", '{"id": 1}', '{"response": {"clientDataJSON": "e30"}}', "x" * 30_000],
)
def test_what_is_no_passkey_is_refused(
    sign_in_as: SignInAs, client: CheckingClient, answer: str
) -> None:
    operator = sign_in_as(OPERATOR)
    operator.submit(f"{FACTORS}/passkeys/ask")
    refused = operator.submit(f"{FACTORS}/passkeys/new", {"name": "A", "passkey": answer})
    assert refused.status_code == 422
    assert Page(refused.text).one("input", name="name").get("value") == "A"
    assert client.submit("/login/passkey", {"passkey": answer}).location == "/login"


@pytest.mark.parametrize("name", ["", "x" * 65, "a\u202eb", "…"])
def test_a_passkeys_name_is_asked_and_kept(sign_in_as: SignInAs, name: str) -> None:
    operator = sign_in_as(OPERATOR)
    answer = Authenticator().create(operator.submit(f"{FACTORS}/passkeys/ask").get_json())
    refused = operator.submit(f"{FACTORS}/passkeys/new", {"name": name, "passkey": answer})
    assert refused.status_code == 422
    assert Page(refused.text).one("input", name="name").get("value") == name


# --- Where a role needs one ----------------------------------------------------------------------


def test_who_lacks_a_second_factor_sets_one_up_before_anything_else(
    app: Flask, sign_in_as: SignInAs
) -> None:
    operator = sign_in_as(OPERATOR)
    assert operator.get("/customers").status_code == 200
    require(app, Role.OPERATOR)
    response = operator.get("/customers")
    assert (response.status_code, response.location) == (302, FACTORS)
    fragment = operator.get("/customers", headers={"HX-Request": "true"})
    assert (fragment.status_code, fragment.headers["HX-Redirect"]) == (401, FACTORS)
    assert operator.submit("/customers/CQ001/users/selection").location == FACTORS
    page = operator.page(FACTORS)
    assert page.text(page.one("h1")) == "Set up a second factor"
    assert not page.all("nav", aria_label="Areas")
    _, codes = set_up_app(operator)
    assert len(codes) == 10
    assert operator.get("/customers").status_code == 200
    refused = operator.get(f"{FACTORS}/app/remove")
    assert "your role needs one" in refused.text
    operator.submit(f"{FACTORS}/app/remove")
    assert count(app, TotpFactor) == 1
    assert sign_in_as("landlord@foyer.example").get("/customers").status_code == 200


def test_a_passkey_is_a_second_factor_too(app: Flask, sign_in_as: SignInAs) -> None:
    require(app, Role.OPERATOR)
    operator = sign_in_as(OPERATOR)
    add_passkey(operator)
    assert operator.get("/customers").status_code == 200


def test_the_password_of_a_mail_comes_before_the_second_factor(
    app: Flask, client: CheckingClient
) -> None:
    """It signs in, is changed, and only then a second factor is asked for."""
    require(app, Role.CUSTOMER_ADMIN)
    with app.app_context():
        find_user(ADMIN).must_change_password = True
        db.session.commit()
    enter(client, ADMIN)
    assert client.get("/customers/CQ001").location == "/account/password"
    new = "violet teapot on the moon"
    data = {"current": PASSWORD, "new": new, "repeat": new}
    assert client.submit("/account/password", data).status_code == 303
    assert client.get("/customers/CQ001").location == FACTORS


# --- Told by mail --------------------------------------------------------------------------------


def test_the_person_is_told_of_every_change(
    app: Flask, sign_in_as: SignInAs, client: CheckingClient, sink: SmtpSink, work: Callable
) -> None:
    operator = sign_in_as(OPERATOR)
    _, codes = set_up_app(operator)
    work()
    add_passkey(operator, "Pa55key ((login)) <b>&\"'")
    work()
    operator.submit(f"{FACTORS}/recovery-codes")
    work()
    operator.submit(f"{FACTORS}/app/remove")
    work()
    texts = [mail.text for mail in sink.mails]
    assert [mail.recipient for mail in sink.mails] == [OPERATOR] * 4
    for text, words in zip(
        texts,
        (
            "An authenticator app was set up",
            "A passkey was added: Pa55key ((login)) <b>&\"'.",
            "New recovery codes were made.",
            "The authenticator app was removed.",
        ),
        strict=True,
    ):
        assert words in text
        assert not any(code in text for code in codes)
    assert "<b>&" not in sink.mails[1].html.partition("Pa55key")[2][:60]


# --- Sessions ------------------------------------------------------------------------------------


def test_sessions_are_listed_and_ended_at_once(
    app: Flask, sign_in_as: SignInAs, client: CheckingClient
) -> None:
    firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0"
    token = client.token()
    client.post(
        "/login",
        data={"csrf_token": token, "login": OPERATOR, "password": PASSWORD},
        headers={"User-Agent": firefox},
        environ_overrides={"REMOTE_ADDR": "192.0.2.9"},
    )
    here = sign_in_as(OPERATOR)
    stranger = sign_in_as(ADMIN)
    page = here.page("/account/sessions")
    assert "Firefox on Linux" in page.text()
    assert "192.0.2.9" in page.text()
    assert page.text().count("This one") == 1
    (form,) = [f for f in page.all("form") if re.search(r"/\d+/end$", f.get("action") or "")]
    assert stranger.submit(form.get("action")).status_code == 303
    assert is_in(client), "somebody else has ended it"
    here.submit(form.get("action"))
    assert not is_in(client)
    assert is_in(here)
    others = [sign_in_as(OPERATOR) for _ in range(2)]
    here.submit("/account/sessions/end-others")
    assert [is_in(each) for each in (*others, here)] == [False, False, True]


CHROMIUM = "AppleWebKit/537.36 Chrome/129 Safari/537.36"
WEBKIT = "Version/18.0 Safari/605.1.15"


@pytest.mark.parametrize(
    ("user_agent", "words"),
    [
        (f"Mozilla/5.0 (Windows NT 10.0) {CHROMIUM} Edg/129", "Edge on Windows"),
        (f"Mozilla/5.0 (Linux; Android 14) {CHROMIUM}", "Chrome on Android"),
        (f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) {WEBKIT}", "Safari on iPhone"),
        (f"Mozilla/5.0 (Macintosh; Intel Mac OS X 14) {WEBKIT}", "Safari on macOS"),
        ("curl/8.5.0", "curl"),
        ("<script>", "Unknown browser"),
        ("", "Unknown browser"),
    ],
)
def test_browsers_have_names(user_agent: str, words: str) -> None:
    assert name_browser(user_agent) == words


def test_the_profile_leads_to_all_of_it(sign_in_as: SignInAs) -> None:
    page = sign_in_as(ADMIN).page("/account/profile")
    links = {link.get("href") for link in page.all("a")}
    assert {FACTORS, "/account/sessions"} <= links


def test_throttles_hold_no_code(app: Flask, sign_in_as: SignInAs, client: CheckingClient) -> None:
    set_up_app(sign_in_as(OPERATOR))
    enter(client)
    client.submit(STEP, {"code": "123456"})
    with app.app_context():
        keys = db.session.scalars(sa.select(Throttle.key)).all()
        user_id = db.session.scalar(sa.select(User.id).where(User.login == OPERATOR))
    assert f"second-step:{user_id}" in keys
    assert not any("123456" in key for key in keys)
