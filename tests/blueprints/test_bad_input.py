"""Bad input, at every route: a clear refusal, what was typed is kept, and never a failure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any
from urllib.parse import urlencode

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from extensions import db
from models import (
    Bundle,
    Customer,
    Delivery,
    DeliveryState,
    EmailTemplate,
    Group,
    MailLine,
    TemplateKind,
    User,
    UserImport,
    fold,
)
from services import mail_lines
from services.email_templates import find_template_of_kind
from tests.support.factories import actor_for, find_customer, find_user, make_user
from tests.support.pages import CheckingClient, Page, sign_in
from tests.support.promises import start_welcome
from tests.support.smtp_sink import SmtpSink
from tests.support.user_imports import csv_file, people, upload

ADMIN = "prpkeAdmin@kenton-electronics.com"
CQ001 = "/customers/CQ001"

SignInAs = Callable[[str], CheckingClient]

TEXTS = (
    "\0",
    "a\0b",
    "\x01\x1b[31m\x7f\x85",
    "\r\nBcc: x@y.example",
    "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
    "\u202e\u2066\ufeff",
    "-1",
    "0",
    str(10**30),
    "9" * 400,
    "1e308",
    "nan",
    "",
    " ",
    "'; DROP TABLE users; --",
    "%",
    "_",
    "\\",
    "{{ 7 * 7 }}",
    "<script>alert(1)</script>",
    "x" * 5000,
    "\U0001f993" * 300,
)
ENCODED = ("%00", "%ff%fe", "%ed%a0%80", "%c3%28", "%", "%zz", "%u0041", "a%0d%0ab")
"""Percent-encodings that are no UTF-8, no encoding, or hide what cannot be seen."""


@pytest.fixture
def mailing(app: Flask) -> int:
    with app.app_context():
        upload(actor_for(ADMIN), find_customer("CQ001"), csv_file(*people(1)))
        users = [make_user(find_customer("CQ001"))]
        return start_welcome(actor_for(ADMIN), "CQ001", users, enqueue=False)


def addresses(app: Flask, method: str, mailing: int) -> Iterator[str]:
    """A path for every route of a method, static files aside."""
    with app.app_context():
        user = db.session.scalars(sa.select(User.id).where(User.email != "").limit(1)).one()
        template = find_template_of_kind(TemplateKind.WELCOME)
        template_id = template.id if template else 0
        upload_id = db.session.scalars(sa.select(UserImport.id)).first() or 0
    for rule in app.url_map.iter_rules():
        if rule.endpoint == "static" or "api" in rule.endpoint.partition(".")[0]:
            continue  # tests/api sends bad input to the API.
        if method in (rule.methods or set()):
            path = re.sub(r"<[^>]*mailing_id>", str(mailing), rule.rule)
            path = re.sub(r"<[^>]*user_id>", str(user), path)
            path = re.sub(r"<[^>]*import_id>", str(upload_id), path)
            if "templates." in rule.endpoint:
                path = re.sub(r"<[^>]*template_id>", str(template_id), path)
                path = re.sub(r"<[^>]*number>", "1", path)
            yield path.replace("<web_id>", "CQ001").replace("<token>", "none")


PARAMETERS = (
    "q bundle status mailed signed_in sort order size cursor after state seen user template recent "
    "next sent page kind archived customer language shown reader from copy version with verb by "
    "web_ids bundle group unknown"
).split()
FIELDS = (
    "login password next current new repeat theme selected shown at go q action users version "
    "recent confirmation name kind note told_empty template do language reader subject_en text_en "
    "html_en verb by web_ids bundle group confirmed unknown"
).split()


def answered(response: TestResponse, where: Any) -> None:
    """Not a failure, and what is shown is not what was sent as markup."""
    assert response.status_code < 500, where
    if response.mimetype == "text/html":
        assert "<script>alert" not in response.text, where
        assert "49" not in re.findall(r"\{\{ 7|>49<", response.text), where
    response.close()


# --- Query strings and paths -------------------------------------------------------------------


@pytest.mark.timeout(300)
def test_every_parameter_of_every_page_takes_anything(
    app: Flask, sign_in_as: SignInAs, mailing: int, engine_name: str
) -> None:
    """All parameters at once, each with the same hostile text: quick, and every reader is met.

    What becomes of the page decides no database: on one of them its HTML is checked as well.
    """
    for client in (sign_in_as(ADMIN), sign_in_as("landlord@foyer.example")):
        look = client.open if engine_name == "sqlite" else partial(FlaskClient.open, client)
        for path in addresses(app, "GET", mailing):
            for text in TEXTS:
                query = urlencode(dict.fromkeys(PARAMETERS, text))
                answered(look(f"{path}?{query}"), (path, text))


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_encodings_that_are_none_and_parameters_given_twice(
    app: Flask, sign_in_as: SignInAs, mailing: int
) -> None:
    client = sign_in_as(ADMIN)
    for path in addresses(app, "GET", mailing):
        for raw in ENCODED:
            query = "&".join(f"{name}={raw}&{name}={raw}" for name in PARAMETERS)
            answered(client.get(path, query_string=query), (path, raw))
        answered(client.get(path, query_string="&".join(["user=1"] * 3000)), path)
        answered(client.get(path, query_string="=&&;;==&%00"), path)


@pytest.mark.parametrize(
    "path",
    [
        "/customers/CQ001\0/users",
        "/customers/\xff\xfe/users",
        "/customers/\xed\xa0\x80/users",
        "/customers/%/users",
        "/customers/../users",
        "/customers//users",
        f"/customers/{'x' * 5000}/users",
        "/customers/CQ001/users/-1",
        "/customers/CQ001/users/9223372036854775808",
        f"/customers/CQ001/users/{10**30}",
        "/customers/CQ001/mailings/1e3",
        "/customers/CQ001/mailings/\u0661",
        "/customers/cq001/users",
        "/password/choose/\0",
        f"/password/choose/{'x' * 5000}",
        "/static/../config.py",
        "/static/%2e%2e/config.py",
        "/\0",
    ],
)
def test_paths_that_lead_nowhere_are_not_there(sign_in_as: SignInAs, path: str) -> None:
    """As a server hands them over: bytes as Latin-1, already unquoted."""
    client = sign_in_as(ADMIN)
    raw = path if path.isascii() or "\u0661" not in path else path.encode().decode("latin-1")
    response = client.get("/", environ_overrides={"PATH_INFO": raw})
    assert response.status_code in {308, 400, 404, 410}, response.status_code
    answered(response, path)


def test_strange_headers_are_no_matter(sign_in_as: SignInAs) -> None:
    client = sign_in_as(ADMIN)
    for headers in (
        {"HX-Request": "true", "HX-Current-URL": "http://localhost/\xff" + "x" * 3000},
        {"HX-Request": "maybe", "HX-History-Restore-Request": "x"},
        {"User-Agent": "\xff" * 3000, "Accept-Language": ";;;q=x", "Accept": "/"},
        {"Range": "bytes=99999-1", "If-Modified-Since": "yesterday", "Cookie": "theme=\xff; nav="},
        {"X-Forwarded-For": "\xff, 1.2.3", "Content-Length": "x"},
    ):
        answered(client.get(f"{CQ001}/users", headers=headers), headers)
    nobody = client.application.test_client()
    answered(nobody.get(f"{CQ001}/users", headers={"HX-Request": "1", "HX-Current-URL": "\xff"}), 0)


# --- Forms -------------------------------------------------------------------------------------


@pytest.mark.timeout(300)
def test_every_field_of_every_form_takes_anything(
    app: Flask, sign_in_as: SignInAs, mailing: int
) -> None:
    client = sign_in_as(ADMIN)
    token = client.token()
    for path in addresses(app, "POST", mailing):
        if path == "/account/sign-out":
            continue
        for text in TEXTS:
            data = {**dict.fromkeys(FIELDS, text), "csrf_token": token}
            answered(client.post(path, data=data), (path, text))
    assert sign_in_as(ADMIN).get(f"{CQ001}/users").status_code == 200


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_every_field_takes_anything_from_nobody(
    app: Flask, client: CheckingClient, mailing: int
) -> None:
    """Most of it is turned away unread: a few of the texts will do."""
    token = client.token()
    for path in addresses(app, "POST", mailing):
        if path == "/password/forgot":
            continue  # It answers slowly on purpose, and test_account throws the same at it.
        for text in TEXTS[::5]:
            data = {**dict.fromkeys(FIELDS, text), "csrf_token": token}
            answered(client.post(path, data=data), (path, text))


def _file_part(name: str) -> bytes:
    """A file where a text belongs."""
    head = f'--x\r\nContent-Disposition: form-data; name="{name}"; filename="a.txt"\r\n'
    return head.encode() + b"Content-Type: text/plain\r\n\r\n1\r\n"


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_bodies_that_are_no_forms_are_refused(
    app: Flask, sign_in_as: SignInAs, mailing: int
) -> None:
    client = sign_in_as(ADMIN)
    token = client.token()
    header = {"X-CSRFToken": token}
    boundary = "multipart/form-data; boundary=x"
    bodies: list[tuple[str, bytes]] = [
        ("application/json", b'{"users": [1]}'),
        ("application/json", b"{" * 100_000),
        ("text/plain", b"users=1"),
        ("", b"users=1"),
        ("multipart/form-data", b"users=1"),
        (boundary, b"--x\r\nContent-Disposition: form-data; name=users\r\n\r\n1"),
        (boundary, b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--\r\n"),
        (boundary, b"--x\r\n\r\n\r\n--x--"),
        (boundary, b"\xff\xfe" * 1000),
        (boundary, b"".join(_file_part(name) for name in FIELDS) + b"--x--\r\n"),
        ("multipart/form-data; boundary=" + "y" * 5000, b"--y"),
        ("application/x-www-form-urlencoded; charset=utf-99", b"users=%ff"),
        ("application/x-www-form-urlencoded", b"users=" + b"\xff" * 100),
        ("application/x-www-form-urlencoded", b"&".join([b"users=1"] * 5000)),
    ]
    for path in addresses(app, "POST", mailing):
        if path == "/account/sign-out":
            continue
        for kind, body in bodies:
            response = client.post(path, data=body, content_type=kind, headers=header)
            answered(response, (path, kind, body[:40]))


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_bodies_beyond_the_limits_are_too_large(
    app: Flask, sign_in_as: SignInAs, mailing: int
) -> None:
    client = sign_in_as(ADMIN)
    token = client.token()
    parts = {f"field{number}": (None, "1") for number in range(5000)}
    for path in addresses(app, "POST", mailing):
        huge = client.post(path, data={"csrf_token": token, "q": "x" * 2_000_000})
        assert huge.status_code == 413, path
        assert "h1" in huge.text
        body = b"".join(
            f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n1\r\n'.encode()
            for name in parts
        )
        many = client.post(
            path, data=body + b"--x--", content_type="multipart/form-data; boundary=x"
        )
        assert many.status_code == 413, path
    fragment = client.post(
        f"{CQ001}/users/selection", data={"q": "x" * 2_000_000}, headers={"HX-Request": "true"}
    )
    assert fragment.status_code == 413


def test_ids_beyond_any_row_are_refused_not_failed(sign_in_as: SignInAs) -> None:
    client = sign_in_as(ADMIN)
    for ids in ("9223372036854775807", "9223372036854775808", str(10**30), "-1", "1.5", "0x1", "٣"):
        for path, field in (
            (f"{CQ001}/users/selection", "selected"),
            (f"{CQ001}/users/actions", "selected"),
            (f"{CQ001}/mailings", "users"),
        ):
            response = client.submit(path, {field: ids, "version": "1", "confirmation": "x" * 20})
            assert response.status_code in {303, 400, 404, 422}, (path, ids)
    with client.application.app_context():
        assert db.session.scalars(sa.select(Delivery)).all() == []


# --- Errors name their field, and what was typed stays -----------------------------------------


def invalid_fields(page: Page) -> set[str]:
    return {
        str(field.get("name"))
        for tag in ("input", "select", "textarea")
        for field in page.all(tag)
        if field.get("aria-invalid") == "true"
    }


@pytest.mark.parametrize("engine_name", ["sqlite"])
@pytest.mark.parametrize(
    ("path", "typed", "wrong"),
    [
        ("/login", {"login": "", "password": "x"}, {"login"}),
        ("/login", {"login": "ada", "password": ""}, {"password"}),
        ("/login", {"login": "a\x07b", "password": "x"}, {"login"}),
        ("/login", {"login": "é" * 400, "password": "x"}, {"login"}),
        ("/login", {"login": "<b>ada</b>", "password": "p" * 9999}, {"password"}),
        ("/password/forgot", {"login": ""}, {"login"}),
        ("/password/forgot", {"login": '"><script>' + "x" * 400}, {"login"}),
    ],
)
def test_an_error_stands_at_its_field_and_what_was_typed_stays(
    client: CheckingClient, path: str, typed: dict[str, str], wrong: set[str]
) -> None:
    response = client.submit(path, typed)
    assert response.status_code == 422
    page = Page(response.text)
    assert invalid_fields(page) == wrong
    for name in wrong:
        described = str(page.one("input", name=name).get("aria-describedby")).split()
        shown = " ".join(
            page.text(page.one(tag.tag, id=each))
            for each in described
            for tag in [e for e in page.root.iter() if e.get("id") == each]
        )
        assert len(shown) > 10, "an error without a sentence"
    for name, text in typed.items():
        (field,) = page.all("input", name=name)
        if field.get("type") == "password":
            assert not field.get("value"), "a password comes back in the page"
        elif text.isprintable():
            assert field.get("value") == text


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_a_search_that_finds_nobody_is_kept_in_its_field(sign_in_as: SignInAs) -> None:
    text = "<i>\"nobody\"</i> & 'co'"
    page = sign_in_as(ADMIN).page(f"{CQ001}/users?{urlencode({'q': text})}")
    assert page.one("input", name="q").get("value") == text


# --- Rows that hold what they should not -------------------------------------------------------

MARKUP = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


def fill_with(text: str) -> None:
    """Every text column that a page can show, as wide as it is."""
    for model, names in {
        User: ("first_name", "last_name", "email", "extension", "language"),
        Customer: ("short_name", "ani", "contact_name", "setup_instructions", "application_url"),
        Group: ("name",),
        Bundle: ("name", "services"),
        EmailTemplate: ("name",),
        Delivery: ("email", "answer"),
        MailLine: ("reason",),
    }.items():
        rows: Iterable[Any] = db.session.scalars(sa.select(model))
        for row in rows:
            for name in names:
                length = getattr(model.__table__.c[name].type, "length", None)
                mark = f"{row.id}" if name in {"name", "short_name"} else ""
                setattr(row, name, (mark + text)[:length])
    for customer in db.session.scalars(sa.select(Customer)):
        customer.name = f"{customer.id}{text}"[:64]
    for user in db.session.scalars(sa.select(User).where(User.login_key != fold(ADMIN))):
        user.login = f"{user.id}{text}"[:320]
    db.session.commit()


@pytest.fixture
def settings_changes() -> dict[str, str]:
    return {"PROVIDER_NAME": "<b>Provider</b> \"'&"}


@pytest.mark.parametrize(
    "text",
    [MARKUP, "javascript:alert(1)//", "{{ 7 * 7 }}{% raw %}", "x" * 4000, "\u202eevil\u2066"],
    ids=["markup", "script link", "template", "long", "bidirectional"],
)
def test_what_rows_hold_is_text_on_every_page(
    app: Flask, sign_in_as: SignInAs, mailing: int, text: str
) -> None:
    admin, landlord = sign_in_as(ADMIN), sign_in_as("landlord@foyer.example")
    with app.app_context():
        mail_lines.block_line("x")
        row = db.session.scalars(sa.select(Delivery)).one()
        row.state = DeliveryState.FAILED
        row.mailing.queued, row.mailing.failed = 0, 1
        db.session.commit()
        welcome = find_template_of_kind(TemplateKind.WELCOME)
        assert welcome is not None
        chosen = f"template={welcome.id}&user={row.user_id}"
        fill_with(text)
    seen = 0
    for client in (admin, landlord):
        for path in addresses(app, "GET", mailing):
            query = f"?{chosen}" if path.endswith(("/new", "/preview")) else ""
            for headers in ({}, {"HX-Request": "true"}):
                response = client.get(path + query, headers=headers)  # A page is checked as well.
                assert response.status_code < 500, path
                if response.mimetype != "text/html":
                    continue
                seen += text[:30] in response.text or "&lt;script" in response.text
                assert "<script>alert" not in response.text, path
                assert "<img src=x" not in response.text, path
                assert "<b>Provider" not in response.text, path
                links = re.findall(r"(?:href|src|action)=\"\s*javascript:", response.text)
                assert not links, path
    assert seen > 4, "the hostile text is on no page: the test proves nothing"


def test_names_and_addresses_cannot_add_headers_or_recipients(
    app: Flask, sink: SmtpSink, work: Callable[[], None]
) -> None:
    with app.app_context():
        kenton = find_customer("CQ001")
        hostile = {
            "first_name": "Ada\r\nBcc: thief@evil.example\r\n\r\nbody",
            "last_name": "=?utf-8?q?=0D=0ABcc:_thief@evil.example?=",
        }
        named = make_user(kenton, **hostile)
        quoted = make_user(kenton, first_name='"\\"<thief@evil.example>,', last_name="x" * 64)
        bare = [
            make_user(kenton, email=email)
            for email in (
                "a@b.example\r\nBcc: thief@evil.example",
                "a@b.example>\r\nRCPT TO:<thief@evil.example",
                "a@b.example,thief@evil.example",
                "a@b.example thief@evil.example",
                "<thief@evil.example>",
                "a@b.example\0",
            )[: 6 if db.engine.dialect.name == "sqlite" else 5]
        ]
        ids = {named.email, quoted.email}
        mailing_id = start_welcome(actor_for(ADMIN), "CQ001", [named, quoted, *bare])
    work()
    assert {mail.recipient for mail in sink.mails} == ids
    for mail in sink.mails:
        assert mail.recipients == (mail.recipient,)
        assert mail.message["Bcc"] is None
        assert mail.message["Cc"] is None
        assert len(mail.message.get_all("To") or []) == 1
        head = mail.data.partition(b"\r\n\r\n")[0]
        assert not re.search(rb"(?mi)^bcc", head)
        (to,) = mail.message["To"].addresses
        assert to.addr_spec == mail.recipient
    with app.app_context():
        rows = db.session.scalars(sa.select(Delivery).where(Delivery.mailing_id == mailing_id))
        failed = [row for row in rows if row.state is DeliveryState.FAILED]
        assert len(failed) == len(bare)
        assert all(row.answer for row in failed), "failed without a word"


# --- Anything at all ---------------------------------------------------------------------------

_VALUE = st.one_of(st.text(max_size=30), st.sampled_from(TEXTS), st.integers().map(str))
_QUERY = st.dictionaries(st.sampled_from(PARAMETERS), _VALUE, max_size=5)
_FORM = st.dictionaries(st.sampled_from(FIELDS), st.lists(_VALUE, max_size=3), max_size=6)


def test_no_route_fails_whatever_is_thrown_at_it(
    app: Flask, sign_in_as: SignInAs, mailing: int
) -> None:
    client = sign_in_as(ADMIN)
    token = client.token()
    routes = [
        (method, path) for method in ("GET", "POST") for path in addresses(app, method, mailing)
    ]
    routes.remove(("POST", "/account/sign-out"))

    @settings(
        max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
    )
    @given(st.sampled_from(routes), _QUERY, _FORM, st.booleans())
    def throw(route: tuple[str, str], query: dict[str, str], form: Any, htmx: bool) -> None:
        method, path = route
        response = client.open(
            path,
            method=method,
            query_string=urlencode(query, errors="surrogatepass"),
            data=urlencode({**form, "csrf_token": token}, doseq=True, errors="surrogatepass")
            if method == "POST"
            else None,
            content_type="application/x-www-form-urlencoded" if method == "POST" else None,
            headers={"HX-Request": "true"} if htmx else {},
        )
        answered(response, (route, query, form))

    throw()
    with app.app_context():
        assert find_user(ADMIN).login == ADMIN
    assert sign_in(app, ADMIN).get(f"{CQ001}/users").status_code == 200
