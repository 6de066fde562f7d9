"""What holds for the whole API: how it reads, refuses, and names requests."""

from __future__ import annotations

import base64
import gzip
import io
import json
import logging

import pytest
from flask import Flask
from sqlalchemy.exc import OperationalError

from extensions import db
from models import Mailing
from services import welcome_mails
from tests.support.api import BASE, CQ001, DEMO, SECRET, Caller, basic, faults_of, make_credential

SEND = f"{CQ001}/send-welcome-email"


@pytest.fixture
def engine_name() -> str:
    """The database has no part in it."""
    return "sqlite"


def problem_of(response) -> str:
    """The name of a problem that is as RFC 9457 wants it."""
    assert response.mimetype == "application/problem+json"
    body = response.get_json()
    assert body["status"] == response.status_code
    assert body["title"]
    assert body["request_id"] == response.headers["X-Request-ID"]
    assert body["type"].startswith("/api/v1/problems/")
    return body["type"].removeprefix("/api/v1/problems/")


def send(api: Caller, data: bytes | str, content_type: str = "application/json"):
    return api.post(SEND, data=data, content_type=content_type)


def is_mailed(app: Flask) -> bool:
    with app.app_context():
        welcome_mails.begin_accepted()
        return db.session.query(Mailing).count() > 0


# --- Bodies ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", ""),
        (b"nothing", ""),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "-Infinity"),
        (b'{"a": 1, "a": 1}', "'a'"),
        (b'{"a": {"b": 1, "c": 2, "b": 3}}', "'b'"),
        (b"[" * 100_000 + b"]" * 100_000, ""),
        (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, ""),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        ("{}".encode("utf-16"), "UTF-8"),
        (b'{"a": "\xff"}', "UTF-8"),
        (b"1" * 10_000, ""),
        (b"{} {}", ""),
        (b'{"a": 1e400}', "too large"),
        (b'{"\\ud800": 1}', ""),
        (b'{"a\x00": 1}', ""),
        (b" ", ""),
    ],
    ids=range(17),
)
def test_json_that_parsers_read_in_different_ways_is_refused(
    app: Flask, api: Caller, body: bytes, words: str
) -> None:
    response = send(api, body)
    assert response.status_code == 400
    assert problem_of(response) == "malformed-request"
    assert words in response.get_json()["detail"]
    assert not is_mailed(app)


@pytest.mark.parametrize("body", ["[]", "null", "1", '"x"', "true"])
def test_json_of_another_shape_is_refused(app: Flask, api: Caller, body: str) -> None:
    response = send(api, body)
    assert response.status_code == 422
    assert problem_of(response) == "invalid-input"
    assert not is_mailed(app)


def test_unknown_fields_are_refused_by_name(app: Flask, api: Caller) -> None:
    response = send(api, json.dumps({"colour": "red", "size": 1}))
    assert response.status_code == 422
    assert set(faults_of(response)) == {"colour", "size"}
    assert "red" not in response.text
    assert not is_mailed(app)


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "application/xml",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
        "application/json; charset=latin-1",
    ],
)
def test_bodies_are_json_in_utf_8(app: Flask, api: Caller, content_type: str) -> None:
    response = send(api, b"{}", content_type)
    assert response.status_code == 415
    assert problem_of(response) == "unsupported-media-type"
    assert not is_mailed(app)


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=UTF-8", "APPLICATION/JSON"]
)
def test_json_is_called_by_its_names(api: Caller, content_type: str) -> None:
    assert send(api, b"{}", content_type).status_code == 204


def test_a_compressed_body_is_refused(app: Flask, api: Caller) -> None:
    packed = gzip.compress(b"{}")
    response = api.post(
        SEND,
        data=packed,
        content_type="application/json",
        headers={"Content-Encoding": "gzip"},
    )
    assert (response.status_code, problem_of(response)) == (415, "unsupported-media-type")
    assert not is_mailed(app)


def test_a_nameless_part_of_a_form_is_no_fault_of_ours(api: Caller) -> None:
    body = b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--\r\n"
    assert send(api, body, "multipart/form-data; boundary=x").status_code == 415


def test_a_large_body_is_refused(app: Flask, api: Caller) -> None:
    response = send(api, b'{"a": "' + b"x" * 1024 * 1024 + b'"}')
    assert response.status_code == 413
    assert problem_of(response) == "too-large"
    assert send(api, b'{"a": "' + b"x" * 1024 * 1000 + b'"}').status_code == 422
    assert not is_mailed(app)


@pytest.mark.parametrize(("size", "status"), [(1024 * 1024, 413), (1024 * 1000, 422)])
def test_a_large_body_in_chunks_is_refused_not_cut_off(
    app: Flask, api: Caller, size: int, status: int
) -> None:
    body = b'{"a": "' + b"x" * size + b'"}'
    response = api.post(
        SEND,
        input_stream=io.BytesIO(body),
        content_type="application/json",
        environ_overrides={"wsgi.input_terminated": True},
    )
    assert response.status_code == status
    assert not is_mailed(app)


def test_a_get_reads_no_body(api: Caller) -> None:
    response = api.get(CQ001, data=b"\xff" * 2 * 1024 * 1024, content_type="text/plain")
    assert response.status_code == 200


# --- Parameters, paths, methods ----------------------------------------------------------------


def test_unknown_and_repeated_parameters_are_refused(api: Caller) -> None:
    response = api.get(f"{CQ001}?colour=red")
    assert (response.status_code, problem_of(response)) == (422, "invalid-input")
    response = api.get("/group/1/customer?limit=1&limit=2")
    assert response.status_code == 422


@pytest.mark.parametrize(
    "path",
    [
        "/group/x/customer/1001",
        "/group/1/customer/x",
        "/group/1/customer/1001.0",
        "/group/-1/customer/1001",
        "/group/1/customer/%00",
        "/group/1/customer/%FF",
        "/group/1/customer/" + "9" * 400,
        "/group/1/customer/\N{ARABIC-INDIC DIGIT ONE}",
        "/group/1/customer/1001 ",
        "/group/0/customer/0",
        "/group/+1/customer/1001",
    ],
)
def test_what_is_no_number_belongs_to_nobody(api: Caller, path: str) -> None:
    response = api.get(path)
    assert (response.status_code, response.text) == (403, "Invalid access")
    assert "WWW-Authenticate" not in response.headers


@pytest.mark.parametrize("path", ["/", "/groups", "/group/1/customer/1001/x", "/group//customer/1"])
@pytest.mark.parametrize("base", ["/api/v1", "/tiab/api/v1"])
def test_an_unknown_address_is_one_for_everybody(app: Flask, base: str, path: str) -> None:
    for caller in (Caller(app), Caller(app, None)):
        response = caller.get(base + path)
        assert response.status_code == 404
        assert problem_of(response) == "no-such-address"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "TRACE", "FOO"])
def test_an_unknown_method_is_told_which_are_known(api: Caller, method: str) -> None:
    response = api.call(method, f"{BASE}{SEND}")
    assert response.status_code == 405
    assert response.headers["Allow"] == "POST"
    assert problem_of(response) == "method-not-allowed"


def test_head_is_a_get_without_its_body(api: Caller) -> None:
    got, head = api.get(CQ001), api.call("HEAD", CQ001)
    assert (head.status_code, head.data) == (200, b"")
    for name in ("Content-Type", "Content-Length", "ETag"):
        assert head.headers[name] == got.headers[name]
    assert api.call("HEAD", "/group/2/customer/1").status_code == 403


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "*/*;q=0", "rubbish"])
def test_accept_is_not_looked_at(api: Caller, accept: str) -> None:
    response = api.get(CQ001, headers={"Accept": accept})
    assert (response.status_code, response.mimetype) == (200, "application/json")


# --- Who calls ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Basic",
        "Basic Og==",
        "Basic ####",
        "Basic " + base64.b64encode(b"no-colon").decode(),
        "Basic " + base64.b64encode(b"\xff\xfe:\xff").decode(),
        "Basic " + base64.b64encode(b"demo-api:\x00").decode(),
        "Bearer " + DEMO[1],
        basic(DEMO[0], DEMO[1] + " "),
        basic(DEMO[0].upper(), DEMO[1]),
        basic("x" * 100_000, "y"),
        basic(DEMO[0], "y" * 100_000),
        basic("\N{GRINNING FACE}", "\x00"),
    ],
    ids=range(14),
)
def test_whom_nobody_knows_is_challenged(app: Flask, header: str | None) -> None:
    headers = {"Authorization": header} if header is not None else {}
    response = Caller(app, None).get(CQ001, headers=headers)
    assert (response.status_code, response.text) == (403, "Invalid access")
    assert response.mimetype == "text/plain"
    assert response.headers["WWW-Authenticate"] == 'Basic realm="Foyer API", charset="UTF-8"'


def test_names_may_be_in_any_script(app: Flask) -> None:
    with app.app_context():
        credential = make_credential("Büro-Ξ")
    assert Caller(app, credential).get(CQ001).status_code == 200


def test_who_is_known_is_not_challenged(app: Flask) -> None:
    response = Caller(app).get("/group/2/customer/1")
    assert (response.status_code, response.text) == (403, "Invalid access")
    assert "WWW-Authenticate" not in response.headers


def test_a_session_of_the_pages_opens_nothing(app: Flask, sign_in_as) -> None:
    client = sign_in_as("landlord@foyer.example")
    assert client.get(BASE + CQ001).status_code == 403


# --- Request ids -------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["12345678", "a" * 64, "6c0f-7d5f_2a.9b"])
def test_a_sane_request_id_is_taken_over(api: Caller, given: str) -> None:
    response = api.get(CQ001, headers={"X-Request-ID": given})
    assert response.headers["X-Request-ID"] == given


@pytest.mark.parametrize(
    "given", ["", "short", "a" * 65, "a b c d e f", "é" * 10, "<script>1", "-1234567"]
)
def test_any_other_is_replaced(api: Caller, given: str) -> None:
    response = api.get(CQ001, headers={"X-Request-ID": given})
    assert len(response.headers["X-Request-ID"]) == 16


def test_every_kind_of_answer_has_it(
    app: Flask, api: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    tag = api.get("/openapi.json").headers["ETag"]
    monkeypatch.setattr(welcome_mails, "resend_to_administrators", lambda *_: 1 / 0)
    calls = {
        200: ("GET", CQ001, {}),
        304: ("GET", "/openapi.json", {"If-None-Match": tag}),
        403: ("GET", "/group/2/customer/1", {}),
        404: ("GET", "/nowhere", {}),
        405: ("PUT", CQ001, {}),
        413: ("POST", SEND, {}),
        422: ("GET", f"{CQ001}?x=1", {}),
        500: ("POST", SEND, {}),
    }
    for status, (method, path, headers) in calls.items():
        given = f"request-{status}"
        data = b"x" * 2_000_000 if status == 413 else b""
        response = api.call(method, path, headers={**headers, "X-Request-ID": given}, data=data)
        assert response.status_code == status
        assert response.headers["X-Request-ID"] == given


def test_lines_of_the_log_end_with_it(
    app: Flask, api: Caller, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = logging.StreamHandler()
    from blueprints import request_ids

    handler.setFormatter(logging.Formatter(request_ids.LOG_FORMAT))
    handler.addFilter(request_ids._tell)
    logging.getLogger().addHandler(handler)
    monkeypatch.setattr(welcome_mails, "resend_to_administrators", lambda *_: 1 / 0)
    try:
        api.post(SEND, headers={"X-Request-ID": "this-very-request"})
        logging.getLogger("elsewhere").error("outside")
    finally:
        logging.getLogger().removeHandler(handler)
    told = capsys.readouterr().err
    assert "unexpected error (request this-very-request)\n" in told
    assert "elsewhere: outside\n" in told


def test_a_database_that_is_away_is_told_with_when_to_come_back(
    app: Flask, api: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OperationalError("SELECT", {}, Exception("away"))

    monkeypatch.setattr(welcome_mails, "resend_to_administrators", fail)
    response = api.post(SEND)
    assert (response.status_code, problem_of(response)) == (503, "unavailable")
    assert int(response.headers["Retry-After"]) > 0


def test_an_error_of_ours_shows_nothing_of_ours(
    app: Flask, api: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError(f"the secret is {SECRET}")

    monkeypatch.setattr(welcome_mails, "resend_to_administrators", fail)
    response = api.post(SEND)
    assert response.status_code == 500
    assert problem_of(response) == "internal-error"
    assert SECRET not in response.text
    assert "RuntimeError" not in response.text
