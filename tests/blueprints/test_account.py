"""Signing in and out, sessions, passwords, and the pages about oneself."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa
from flask import Flask
from werkzeug.test import TestResponse

from blueprints.account.addresses import local_address
from blueprints.security import access_demanded, passive, signed_in
from extensions import db, queues
from models import ResetLink, SignInSession, Throttle, User, UserStatus, utcnow
from services import passwords
from services.demo_data import PASSWORD
from tests.support.factories import find_customer, find_user, make_user
from tests.support.pages import CheckingClient, Page
from tests.support.smtp_sink import SmtpSink

LANDLORD = "landlord@foyer.example"
OPERATOR = "operator@foyer.example"
USER = "camille.gruber@kenton-electronics.com"
NEW = "violet teapot on the moon"

SignInAs = Callable[[str], CheckingClient]


def enter(client: CheckingClient, login: str, password: str = PASSWORD, **more) -> TestResponse:
    return client.submit("/login", {"login": login, "password": password, **more})


def read(response: TestResponse) -> Page:
    return Page(response.get_data(as_text=True))


def errors_of(response: TestResponse) -> list[str]:
    """The lines of the summary above a refused form."""
    page = read(response)
    lists = [element for element in page.all("ul") if element.get("class") == "error-list"]
    return [page.text(line) for found in lists for line in found.iter("li")]


def is_signed_in(client: CheckingClient) -> bool:
    return client.get("/account/profile").status_code == 200


def only_session(app: Flask) -> SignInSession:
    with app.app_context():
        return db.session.scalars(sa.select(SignInSession)).one()


def age_session(app: Flask, **columns: timedelta) -> None:
    """Move times of the only session into the past."""
    with app.app_context():
        db.session.execute(
            sa.update(SignInSession).values({name: utcnow() - by for name, by in columns.items()})
        )
        db.session.commit()


def end_waits(app: Flask) -> None:
    with app.app_context():
        db.session.execute(
            sa.update(Throttle).values(blocked_until=utcnow() - timedelta(seconds=1))
        )
        db.session.commit()


# --- Signing in and out ------------------------------------------------------------------------


def test_the_start_page_leads_to_sign_in_and_then_home(client: CheckingClient) -> None:
    assert client.get("/").location == "/login"
    response = enter(client, LANDLORD)
    assert (response.status_code, response.location) == (303, "/customers")
    assert client.get("/").location == "/customers"
    assert client.get("/login").location == "/customers"
    assert enter(client, LANDLORD).location == "/customers"


@pytest.mark.parametrize(
    ("login", "home"),
    [
        (OPERATOR, "/customers"),
        ("auditor@foyer.example", "/customers"),
        ("prpkeAdmin@kenton-electronics.com", "/customers/CQ001"),
        (USER, "/account/services"),
    ],
)
def test_each_role_starts_from_its_own_page(client: CheckingClient, login: str, home: str) -> None:
    assert enter(client, login).location == home
    assert client.get(home).status_code == 200


def test_the_old_address_leads_to_the_sign_in_page(client: CheckingClient) -> None:
    response = client.get("/konos/sp/spLogin.do")
    assert (response.status_code, response.location) == (301, "/login")


@pytest.mark.parametrize(
    "login", ["LANDLORD@Foyer.Example", "  landlord@foyer.example\t", "\uff4candlord@foyer.example"]
)
def test_a_login_is_found_however_it_is_written(client: CheckingClient, login: str) -> None:
    assert enter(client, login).status_code == 303


def test_fields_tell_password_managers_what_they_are(client: CheckingClient) -> None:
    page = client.page("/login")
    assert page.one("input", id="login").get("autocomplete") == "username"
    assert page.one("input", id="password").get("autocomplete") == "current-password"
    page = client.page("/password/forgot")
    assert page.one("input", id="login").get("autocomplete") == "username"


@pytest.mark.parametrize("login", [LANDLORD, "nobody@foyer.example"])
def test_a_wrong_pair_keeps_the_login_and_never_the_password(
    client: CheckingClient, login: str
) -> None:
    response = enter(client, login, "not the password", next="/account/profile")
    assert response.status_code == 422
    assert errors_of(response) == [
        "The login or the password is wrong. Check both, or choose a new password below."
    ]
    page = read(response)
    assert page.one("input", id="login").get("value") == login
    assert page.one("input", id="next").get("value") == "/account/profile"
    assert not page.one("input", id="password").get("value")
    assert "not the password" not in response.text
    assert not is_signed_in(client)


def test_an_empty_form_says_what_is_missing(client: CheckingClient) -> None:
    response = enter(client, "", "")
    assert response.status_code == 422
    assert errors_of(response) == ["Enter your login.", "Enter your password."]


def test_suspended_people_cannot_sign_in_and_lose_their_session(
    app: Flask, sign_in_as: SignInAs, client: CheckingClient
) -> None:
    inside = sign_in_as(USER)
    assert is_signed_in(inside)
    with app.app_context():
        find_user(USER).status = UserStatus.SUSPENDED
        db.session.commit()
    assert not is_signed_in(inside)
    assert enter(client, USER).status_code == 422


def test_signing_in_rotates_the_session(app: Flask, client: CheckingClient) -> None:
    client.get("/login")
    with client.session_transaction() as session:
        session["planted"] = "before"
        old_token = session["csrf_token"]
    enter(client, LANDLORD)
    with client.session_transaction() as session:
        first = session["sign_in"]
        assert "planted" not in session
        assert session.get("csrf_token") != old_token
        assert first not in only_session(app).token_hash
    client.submit("/account/sign-out")
    enter(client, LANDLORD)
    with client.session_transaction() as session:
        assert session["sign_in"] != first
    only_session(app)


def test_a_new_sign_in_ends_the_stale_session_it_replaces(
    app: Flask, client: CheckingClient
) -> None:
    enter(client, LANDLORD)
    first = only_session(app).token_hash
    age_session(app, last_seen_at=timedelta(hours=2))
    token = client.page("/login").all("input", name="csrf_token")[0].get("value")
    data = {"csrf_token": token, "login": OPERATOR, "password": PASSWORD}
    assert client.post("/login", data=data).status_code == 303
    assert only_session(app).token_hash != first


def test_a_page_from_before_the_sign_in_is_refused_with_a_sentence(client: CheckingClient) -> None:
    """Two tabs show the sign-in page; the second is sent after the first has signed in."""
    token = client.token()
    enter(client, LANDLORD)
    response = client.post(
        "/login", data={"csrf_token": token, "login": LANDLORD, "password": PASSWORD}
    )
    assert response.status_code == 400
    assert "Load it again and repeat what you did." in response.text
    assert is_signed_in(client)


def test_signing_out_ends_the_session_on_the_server(app: Flask, client: CheckingClient) -> None:
    enter(client, LANDLORD)
    with client.session_transaction() as session:
        kept = session["sign_in"]
    response = client.submit("/account/sign-out")
    assert (response.status_code, response.location) == (303, "/login")
    assert "You are signed out." in client.get("/login").text
    with client.session_transaction() as session:
        session["sign_in"] = kept
    assert not is_signed_in(client)


def test_a_stolen_token_hash_does_not_sign_in(app: Flask, client: CheckingClient) -> None:
    enter(client, LANDLORD)
    digest = only_session(app).token_hash
    with client.session_transaction() as session:
        session["sign_in"] = digest
    assert not is_signed_in(client)


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("/login", {"login": LANDLORD, "password": PASSWORD}),
        ("/account/sign-out", {}),
        ("/account/password", {"current": PASSWORD, "new": NEW, "repeat": NEW}),
        ("/account/theme", {"theme": "dark"}),
        ("/password/forgot", {"login": LANDLORD}),
        ("/password/choose/x", {"new": NEW, "repeat": NEW}),
    ],
)
@pytest.mark.parametrize("token", [None, "", "made-up"])
def test_a_form_without_its_token_changes_nothing(
    sign_in_as: SignInAs, path: str, data: dict[str, str], token: str | None
) -> None:
    client = sign_in_as(OPERATOR)
    sent = data if token is None else {**data, "csrf_token": token}
    response = client.post(path, data=sent)
    assert response.status_code == 400
    assert "nothing was changed" in response.text
    assert is_signed_in(client)
    assert not response.headers.getlist("Set-Cookie") or "theme=" not in str(response.headers)


def test_signing_out_and_the_theme_cannot_be_done_by_a_link(sign_in_as: SignInAs) -> None:
    client = sign_in_as(OPERATOR)
    assert client.get("/account/sign-out").status_code == 405
    assert client.get("/account/theme").status_code == 405
    assert is_signed_in(client)


# --- Where to go after signing in --------------------------------------------------------------

AWAY = [
    "https://evil.example",
    "//evil.example",
    "///evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "\t//evil.example",
    " //evil.example",
    "/\r\nSet-Cookie: a=b",
    "/\x00/evil.example",
    "/\u2028/evil.example",
    "/x\\..\\..\\evil.example",
    "javascript:alert(1)",
    "http:evil.example",
    "evil.example",
    "@evil.example",
    "?next=//evil.example",
    "/" + "a" * 3000,
    "",
]


@pytest.mark.parametrize("target", AWAY)
def test_addresses_that_lead_away_are_none(target: str) -> None:
    assert local_address(target) is None


def test_neither_sign_in_nor_theme_lead_away(client: CheckingClient) -> None:
    for target in AWAY:
        response = client.submit("/account/theme", {"theme": "dark", "next": target})
        assert (response.status_code, response.location) == (303, "/")
        response = enter(client, LANDLORD, next=target)
        assert (response.status_code, response.location) == (303, "/customers")
        client.submit("/account/sign-out")


@pytest.mark.parametrize(
    "target", ["/account/profile", "/customers?q=ke&size=50", "/customers?q=http://x/", "/é/ü"]
)
def test_local_addresses_are_kept(target: str) -> None:
    assert local_address(target) == target


def test_one_comes_back_to_the_page_that_asked(client: CheckingClient) -> None:
    response = client.get("/customers?q=ke")
    assert response.status_code == 302
    page = client.page(response.location)
    form = next(f for f in page.all("form") if f.get("action") == "/login")
    data = page.fields(form) | {"login": LANDLORD, "password": PASSWORD}
    assert client.post("/login", data=data).location == "/customers?q=ke"


@pytest.mark.parametrize("target", ["%00", "/%00", "%0d%0aX: y", "//evil.example"])
def test_a_strange_wish_where_to_go_is_not_repeated(client: CheckingClient, target: str) -> None:
    page = client.page(f"/login?next={target}")
    assert not page.one("input", id="next").get("value")


def test_htmx_takes_the_whole_window_to_the_sign_in_page(client: CheckingClient) -> None:
    response = client.get(
        "/customers?q=k",
        headers={"HX-Request": "true", "HX-Current-URL": "http://localhost/customers"},
    )
    assert response.status_code == 401
    assert response.headers["HX-Redirect"] == "/login?next=/customers"


# --- Limits of a session -----------------------------------------------------------------------


def test_an_idle_session_ends(app: Flask, sign_in_as: SignInAs) -> None:
    client = sign_in_as(LANDLORD)
    age_session(app, last_seen_at=timedelta(minutes=59))
    assert is_signed_in(client)
    assert utcnow() - only_session(app).last_seen_at < timedelta(minutes=1)
    age_session(app, last_seen_at=timedelta(minutes=61))
    response = client.get("/account/profile")
    assert (response.status_code, response.location) == (302, "/login?next=/account/profile")


def test_a_busy_session_ends_in_the_end(app: Flask, sign_in_as: SignInAs) -> None:
    client = sign_in_as(LANDLORD)
    age_session(app, created_at=timedelta(hours=11, minutes=59))
    assert is_signed_in(client)
    age_session(app, created_at=timedelta(hours=12, minutes=1), last_seen_at=timedelta(0))
    assert not is_signed_in(client)


def test_polling_does_not_keep_a_session_alive(app: Flask, sign_in_as: SignInAs) -> None:
    @app.get("/polled")
    @signed_in
    @passive
    def polled() -> str:
        return "here"

    client = sign_in_as(LANDLORD)
    age_session(app, last_seen_at=timedelta(minutes=59))
    assert client.get("/polled").status_code == 200
    assert utcnow() - only_session(app).last_seen_at > timedelta(minutes=58)
    age_session(app, last_seen_at=timedelta(minutes=61))
    assert client.get("/polled").status_code == 302


# --- Slowing down guesses ----------------------------------------------------------------------


def test_waits_grow_and_the_right_password_works_after_them(
    app: Flask, client: CheckingClient
) -> None:
    waits = []
    for _ in range(9):
        assert enter(client, LANDLORD, "wrong").status_code == 422
        response = enter(client, LANDLORD)  # The right one, but too soon.
        waits.append(int(response.headers.get("Retry-After", 0)))
        if response.status_code == 303:
            client.submit("/account/sign-out")
            break
        end_waits(app)
    assert waits == [0]

    for _ in range(2):
        enter(client, LANDLORD, "wrong")
    waits = []
    for _ in range(8):
        assert enter(client, LANDLORD, "wrong").status_code == 422
        response = enter(client, LANDLORD)
        assert response.status_code == 429
        waits.append(int(response.headers["Retry-After"]))
        end_waits(app)
    assert waits == sorted(waits)
    assert waits[0] <= 2
    assert 55 <= waits[-1] <= 60

    assert enter(client, LANDLORD).status_code == 303


def test_a_refused_attempt_says_how_long_and_keeps_the_form(client: CheckingClient) -> None:
    for _ in range(6):
        response = enter(client, LANDLORD, "wrong")
        if response.status_code == 429:
            break
    assert response.status_code == 429
    assert re.fullmatch(
        r"Too many attempts\. Try again in \d+ seconds?\.", " ".join(errors_of(response))
    )
    assert read(response).one("input", id="login").get("value") == LANDLORD


def test_an_unknown_account_is_slowed_down_like_a_known_one(client: CheckingClient) -> None:
    def answers(login: str) -> list[int]:
        return [enter(client, login, "wrong").status_code for _ in range(5)]

    assert answers("nobody@foyer.example") == answers(LANDLORD)


def test_one_account_under_attack_does_not_bar_another(client: CheckingClient) -> None:
    for _ in range(5):
        enter(client, LANDLORD, "wrong")
    assert enter(client, OPERATOR).status_code == 303


def test_an_address_that_guesses_many_accounts_is_slowed_down(client: CheckingClient) -> None:
    codes = [enter(client, f"name{n}@foyer.example", "wrong").status_code for n in range(22)]
    assert codes[:20] == [422] * 20
    assert 429 in codes[20:]


# --- Hostile input -----------------------------------------------------------------------------

HOSTILE = [
    "\0",
    "land\0lord@foyer.example",
    "a\x1b[31m@b.example",
    "a\r\nBcc: b@c.example",
    "a\x7f",
    "a\x85b",
    "😀@foyer.example",
    "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
    "\u202eelpmaxe.reyof@drolndal",
    "<script>alert(1)</script>",
    "' OR 1=1 --",
    "{{ 7*7 }}",
    "a" * 321,
    "ﷺ" * 320,
    "x" * 100_000,
]


def test_hostile_logins_are_refused_with_a_form(client: CheckingClient) -> None:
    for text in HOSTILE:
        response = enter(client, text)
        assert response.status_code == 422, text[:20]
        assert errors_of(response)
        assert "<script>alert" not in response.text
        response = client.submit("/password/forgot", {"login": text})
        assert response.status_code in {303, 422}, text[:20]


def test_hostile_passwords_are_wrong_passwords(app: Flask, client: CheckingClient) -> None:
    for text in HOSTILE:
        assert enter(client, LANDLORD, text).status_code == 422, text[:20]
        end_waits(app)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_new_passwords_never_fail(sign_in_as: SignInAs, text: str) -> None:
    client = sign_in_as(LANDLORD)
    data = {"current": PASSWORD, "new": text, "repeat": text}
    assert client.submit("/account/password", data).status_code in {303, 422}


def test_a_login_of_a_megabyte_is_too_large(client: CheckingClient) -> None:
    response = enter(client, "x" * 1_100_000)
    assert response.status_code == 413
    assert "<h1>" in response.text


@pytest.mark.parametrize(
    "body", [b"login=%ED%A0%80&password=%FF", b"\xff\xfe=\xff", b"login=a&login=b", b"&&&==="]
)
def test_malformed_bodies_are_refused(client: CheckingClient, body: bytes) -> None:
    token = client.token()
    response = client.post(
        "/login",
        data=body,
        headers={"X-CSRFToken": token},
        content_type="application/x-www-form-urlencoded",
    )
    assert response.status_code in {400, 422}


def test_a_tampered_cookie_is_nobody(client: CheckingClient) -> None:
    client.set_cookie("foyer", "eyJzaWduX2luIjoieCJ9.made.up")
    assert not is_signed_in(client)
    for value in ([1], {"a": 1}, 7, "x" * 5000, "ü\0"):
        with client.session_transaction() as session:
            session["sign_in"] = value
        assert not is_signed_in(client)


# --- A forgotten password ----------------------------------------------------------------------

_TOKEN = re.compile(r'name="csrf_token" value="[^"]+"')
_LINK = re.compile(r"https?://[^/\s]+(/password/choose/\S+)")


def ask_for_link(
    client: CheckingClient, sink: SmtpSink, work: Callable[[], None], login: str = USER
) -> str:
    """Ask for a link and return its path from the mail."""
    sink.clear()
    client.submit("/password/forgot", {"login": login})
    work()
    (mail,) = sink.wait_for(1)
    found = _LINK.search(mail.text)
    assert found
    return found.group(1)


def choose(client: CheckingClient, path: str, password: str = NEW) -> TestResponse:
    return client.submit(path, {"new": password, "repeat": password})


def test_known_and_unknown_accounts_get_the_same_answer(app: Flask, client: CheckingClient) -> None:
    answers, times = [], []
    for login in (USER, "nobody@kenton-electronics.com", "x", "😀"):
        token = client.token()
        started = time.monotonic()
        response = client.post("/password/forgot", data={"csrf_token": token, "login": login})
        times.append(time.monotonic() - started)
        page = _TOKEN.sub("", client.get(response.location).text)
        answers.append((response.status_code, response.location, response.text, page))
    assert len(set(answers)) == 1
    assert "a mail with a link is on its way" in answers[0][3]
    assert min(times) > 0.24
    with app.app_context():
        assert len(db.session.scalars(sa.select(ResetLink)).all()) == 1


def test_a_link_by_mail_sets_a_new_password_once(
    app: Flask, client: CheckingClient, sink: SmtpSink, work: Callable[[], None]
) -> None:
    path = ask_for_link(client, sink, work)
    for _ in range(2):  # Looking at it does not spend it.
        page = client.page(path)
        assert page.one("input", id="new").get("autocomplete") == "new-password"
    assert enter(client, USER).status_code == 303  # Until then the old one works.
    client.submit("/account/sign-out")

    response = choose(client, path)
    assert (response.status_code, response.location) == (303, "/login")
    assert "Sign in with the new one." in client.get("/login").text
    assert enter(client, USER).status_code == 422
    assert enter(client, USER, NEW).location == "/account/services"

    assert client.get(path).status_code == 410
    assert choose(client, path, "another good password").status_code == 410
    client.submit("/account/sign-out")
    assert enter(client, USER, NEW).status_code == 303


def test_choosing_a_password_ends_all_sessions(
    client: CheckingClient, sink: SmtpSink, work: Callable[[], None], sign_in_as: SignInAs
) -> None:
    elsewhere = sign_in_as(USER)
    path = ask_for_link(client, sink, work)
    choose(client, path)
    assert not is_signed_in(elsewhere)


def test_a_link_opened_while_signed_in_as_another_leads_to_the_sign_in_page(
    app: Flask, sign_in_as: SignInAs, sink: SmtpSink, work: Callable[[], None]
) -> None:
    client = sign_in_as(LANDLORD)
    path = ask_for_link(client, sink, work)
    choose(client, path)
    assert client.get("/login").status_code == 200
    with app.app_context():
        assert db.session.scalar(sa.select(sa.func.count(SignInSession.id))) == 0


def test_only_the_hash_of_a_link_is_kept(
    app: Flask, client: CheckingClient, sink: SmtpSink, work: Callable[[], None]
) -> None:
    path = ask_for_link(client, sink, work)
    token = path.rpartition("/")[2]
    with app.app_context():
        for table in db.metadata.sorted_tables:
            for row in db.session.execute(sa.select(table)).mappings():
                assert token not in str(dict(row)), table.name
        for key in queues.connection.scan_iter():
            assert token.encode() not in (queues.connection.dump(key) or b"")


def test_a_new_link_kills_the_older_one(
    client: CheckingClient, sink: SmtpSink, work: Callable[[], None]
) -> None:
    first = ask_for_link(client, sink, work)
    second = ask_for_link(client, sink, work)
    assert first != second
    assert choose(client, second).status_code == 303
    assert client.get(first).status_code == 410
    assert choose(client, first, "another good password").status_code == 410


def test_a_link_expires(
    app: Flask, client: CheckingClient, sink: SmtpSink, work: Callable[[], None]
) -> None:
    path = ask_for_link(client, sink, work)
    with app.app_context():
        db.session.execute(
            sa.update(ResetLink).values(requested_at=utcnow() - timedelta(minutes=61))
        )
        db.session.commit()
    response = client.get(path)
    assert response.status_code == 410
    assert "Ask for a new link" in response.text
    assert choose(client, path).status_code == 410
    assert enter(client, USER).status_code == 303


@pytest.mark.parametrize("token", ["x", "\x00", "😀", "a" * 5000, "' OR 1=1 --"])
def test_made_up_links_do_not_work(client: CheckingClient, token: str) -> None:
    path = f"/password/choose/{token}"
    assert client.get(path).status_code == 410
    assert choose(client, path).status_code == 410


def test_a_refused_password_does_not_spend_the_link(
    client: CheckingClient, sink: SmtpSink, work: Callable[[], None]
) -> None:
    path = ask_for_link(client, sink, work)
    for password, words in (
        ("short", "Use at least 12"),
        ("password1234", "first that attackers try"),
        (USER, "must differ from the login"),
        ("x" * 257, "The limit is 256."),
    ):
        response = choose(client, path, password)
        assert response.status_code == 422
        assert words in " ".join(errors_of(response))
        assert f'value="{password}"' not in response.text
    response = client.submit(path, {"new": NEW, "repeat": NEW + "x"})
    assert errors_of(response) == ["The two new passwords differ. Enter the same one twice."]
    assert choose(client, path).status_code == 303


def test_the_address_of_a_link_is_told_to_nobody(
    client: CheckingClient, sink: SmtpSink, work: Callable[[], None]
) -> None:
    path = ask_for_link(client, sink, work)
    token = path.rpartition("/")[2]
    tokenless = client.post(path, data={"new": NEW})
    for response in (client.get(path), choose(client, path, "short"), tokenless):
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert response.headers["Cache-Control"] == "no-store"
        assert not Page(response.text).all("meta", name="referrer")
    for link in client.page(path).all("a"):
        assert token not in link.get("href")
    assert client.get(path).status_code == 200
    assert client.get("/login").headers["Referrer-Policy"] == "same-origin"


@pytest.mark.parametrize("settings_changes", [{"PUBLIC_URL": "https://portal.example"}])
def test_a_link_works_over_https_without_a_referrer(
    app: Flask, sink: SmtpSink, work: Callable[[], None]
) -> None:
    client = app.test_client()
    assert isinstance(client, CheckingClient)
    client.environ_base["wsgi.url_scheme"] = "https"
    path = ask_for_link(client, sink, work)
    assert choose(client, path).status_code == 303


def test_a_wish_is_kept_while_the_queue_is_down(
    app: Flask, client: CheckingClient, sink: SmtpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    from redis import Redis

    from jobs.sweeps import sweep
    from tests.support.work import work_queues

    with app.app_context():
        real = queues.connection
        app.extensions["queues"]._connection = Redis.from_url("unix:///nonexistent.sock")
    response = client.submit("/password/forgot", {"login": USER})
    assert (response.status_code, response.location) == (303, "/password/forgot?sent=1")
    app.extensions["queues"]._connection = real
    with app.app_context():
        sweep()
    work_queues(app)
    assert len(sink.wait_for(1)) == 1


# --- Changing the password ---------------------------------------------------------------------


def change(client: CheckingClient, current: str = PASSWORD, new: str = NEW) -> TestResponse:
    return client.submit("/account/password", {"current": current, "new": new, "repeat": new})


def test_changing_the_password_ends_the_other_sessions_only(sign_in_as: SignInAs) -> None:
    here, elsewhere = sign_in_as(USER), sign_in_as(USER)
    response = change(here)
    assert (response.status_code, response.location) == (303, "/account/profile")
    assert "Your password is changed." in here.get("/account/profile").text
    assert not is_signed_in(elsewhere)
    assert enter(elsewhere, USER).status_code == 422
    assert enter(elsewhere, USER, NEW).status_code == 303


@pytest.mark.parametrize(
    ("current", "new", "words"),
    [
        ("wrong", NEW, "This is not your current password."),
        (PASSWORD, "short", "Use at least 12"),
        (PASSWORD, PASSWORD, "must differ from the current one"),
        (PASSWORD, USER, "must differ from the login"),
        ("", NEW, "Enter your current password."),
        (PASSWORD, "", "Enter a new password."),
    ],
)
def test_a_refused_change_says_why_and_changes_nothing(
    sign_in_as: SignInAs, current: str, new: str, words: str
) -> None:
    client = sign_in_as(USER)
    response = change(client, current, new)
    assert response.status_code == 422
    assert words in errors_of(response)[0]
    for field in ("current", "new", "repeat"):
        assert not read(response).one("input", id=field).get("value")
    assert enter(sign_in_as(OPERATOR), USER).status_code == 303


def test_guessing_the_current_password_is_slowed_down(sign_in_as: SignInAs) -> None:
    client = sign_in_as(USER)
    codes = [change(client, "wrong").status_code for _ in range(4)]
    assert codes == [422, 422, 422, 429]
    response = change(client)
    assert response.status_code == 429
    assert int(response.headers["Retry-After"]) >= 1
    assert "Too many attempts." in errors_of(response)[0]


def test_a_generated_password_has_to_be_changed_before_anything_else(
    app: Flask, client: CheckingClient
) -> None:
    mailed = passwords.generate_password()
    with app.app_context():
        user = make_user(find_customer("CQ001"), password=mailed, must_change_password=True)
        login = user.login
    assert enter(client, login, mailed, next="/account/profile").location == "/account/profile"
    asked = [
        rule.rule.replace("<web_id>", "CQ001")
        for rule in app.url_map.iter_rules()
        if "GET" in (rule.methods or ())
        and "<" not in rule.rule.replace("<web_id>", "")
        and access_demanded(app.view_functions[rule.endpoint]) != "public"
    ]
    assert "/tenant-registration/drafts" in asked
    for path in asked:
        if path == "/account/password":
            continue
        response = client.get(path)
        assert (response.status_code, response.location) == (302, "/account/password"), path
    fragment = client.get("/account/profile", headers={"HX-Request": "true"})
    assert fragment.status_code == 401
    assert fragment.headers["HX-Redirect"] == "/account/password"

    page = client.page("/account/password")
    assert "was made for you and came by mail" in page.text()
    assert page.one("h1").text == "Choose your own password"
    assert change(client, mailed, mailed).status_code == 422
    response = change(client, mailed)
    assert (response.status_code, response.location) == (303, "/account/services")
    assert "Your password is changed." in client.get("/account/services").text
    client.submit("/account/sign-out")
    assert enter(client, login, mailed).status_code == 422
    assert enter(client, login, NEW).location == "/account/services"


def test_one_may_sign_out_instead_of_changing(app: Flask, sign_in_as: SignInAs) -> None:
    with app.app_context():
        find_user(USER).must_change_password = True
        db.session.commit()
    client = sign_in_as(USER)
    page = client.page("/account/password")
    assert [f for f in page.all("form") if f.get("action") == "/account/sign-out"]
    data = {"csrf_token": page.all("input", name="csrf_token")[0].get("value")}
    assert client.post("/account/sign-out", data=data).location == "/login"


# --- About oneself -----------------------------------------------------------------------------


def test_my_profile_shows_what_is_known_of_me(app: Flask, client: CheckingClient) -> None:
    enter(client, USER)
    page = client.page("/account/profile")
    shown = {
        page.text(row.find("dt")): page.text(row.find("dd"))
        for found in page.all("dl")
        for row in found.iter("div")
        if found.get("class") == "key-values"
    }
    assert shown == {
        "Name": "Camille Gruber",
        "Login": USER,
        "E-mail": USER,
        "Language": "English",
        "Role": "User",
        "Customer": "KentonElectronics",
        "Last sign-in": "just now",
        "Second factor": "Off Second factors",
        "Sessions": "Where I am signed in",
    }
    assert page.one("a", href="/account/password")


def test_my_services_shows_bundle_application_and_instructions(sign_in_as: SignInAs) -> None:
    page = sign_in_as(USER).page("/account/services")
    items = [page.text(item) for item in page.all("li")]
    assert "Voicemail" in items
    assert "Record your voicemail greeting." in items
    assert "Entry3PhoneNextGenBundle" in [page.text(h) for h in page.all("h2")]
    assert page.one("a", href="https://collab.kenton-electronics.com")
    assert page.all("a", href="mailto:support@foyer.example")


@pytest.mark.parametrize("login", [LANDLORD, "prpkeAdmin@kenton-electronics.com"])
def test_who_has_no_bundle_is_told_so(sign_in_as: SignInAs, login: str) -> None:
    assert "No bundle is assigned" in sign_in_as(login).page("/account/services").text()


def test_texts_of_a_customer_are_never_markup_or_script_links(
    app: Flask, sign_in_as: SignInAs
) -> None:
    with app.app_context():
        customer = find_customer("CQ001")
        customer.setup_instructions = "<img src=x onerror=alert(1)>\n\n  \nSecond"
        customer.application_url = "javascript:alert(1)"
        db.session.commit()
    page = sign_in_as(USER).page("/account/services")
    assert not page.all("img")
    assert not [a for a in page.all("a") if (a.get("href") or "").startswith("javascript")]


@pytest.mark.parametrize("path", ["/account/profile", "/account/services", "/account/password"])
def test_pages_about_oneself_need_a_sign_in(client: CheckingClient, path: str) -> None:
    response = client.get(path)
    assert (response.status_code, response.location) == (302, f"/login?next={path}")


@pytest.mark.parametrize("theme", ["light", "dark", "system"])
def test_a_theme_is_kept_for_a_year(client: CheckingClient, theme: str) -> None:
    response = client.submit("/account/theme", {"theme": theme, "next": "/password/forgot"})
    assert (response.status_code, response.location) == (303, "/password/forgot")
    cookie = client.get_cookie("theme")
    assert cookie is not None
    assert (cookie.value, cookie.max_age, cookie.path) == (theme, 365 * 86400, "/")
    assert "SameSite=Lax" in response.headers["Set-Cookie"]
    assert client.page("/login").one("html").get("data-theme") == theme


@pytest.mark.parametrize("theme", ["", "pink", "dark\r\nX: y", "\0"])
def test_an_unknown_theme_is_refused(client: CheckingClient, theme: str) -> None:
    response = client.submit("/account/theme", {"theme": theme})
    assert response.status_code == 400
    assert client.get_cookie("theme") is None


def test_an_unreadable_theme_cookie_is_ignored(client: CheckingClient) -> None:
    client.set_cookie("theme", "pink")
    assert client.page("/login").one("html").get("data-theme") == "system"


def test_users_of_every_language_find_theirs_named(app: Flask, sign_in_as: SignInAs) -> None:
    with app.app_context():
        logins = {
            user.language: user.login
            for user in db.session.scalars(
                sa.select(User).where(User.status == UserStatus.ACTIVE, User.role == "user")
            )
        }
    assert set(logins) == {"en", "de", "fr", "nl"}
    for language, word in (("de", "Deutsch"), ("fr", "Français"), ("nl", "Nederlands")):
        assert word in sign_in_as(logins[language]).page("/account/profile").text()
