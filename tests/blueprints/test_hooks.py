"""POST /hooks/bounce: signed, without session and token, and never a failure."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import OperationalError
from werkzeug.test import TestResponse

from models import DeliveryState, utcnow
from services import bounces
from services.webhook_signatures import sign
from tests.support import dsns
from tests.support.bounces import address_of, read_again, send_welcome
from tests.support.pages import CheckingClient

SECRET = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
OTHER = "whsec_OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk="
PATH = "/hooks/bounce"

one_database = pytest.mark.parametrize("engine_name", ["sqlite"])


@pytest.fixture
def settings_changes() -> dict[str, str]:
    return {"BOUNCE_HOOK_SECRET": SECRET}


@pytest.fixture
def sent(app: Flask) -> tuple[int, str]:
    """A delivery that was sent, and where its mail comes back to."""
    with app.app_context():
        delivery_id = send_welcome()
        return delivery_id, address_of(delivery_id)


def state_of(app: Flask, delivery_id: int) -> DeliveryState:
    with app.app_context():
        return read_again(delivery_id).state


def post(
    client: CheckingClient,
    body: bytes,
    *,
    content_type: str = "message/rfc822",
    secret: str = SECRET,
    age: int = 0,
    **headers: str,
) -> TestResponse:
    timestamp = str(int(utcnow().timestamp()) - age)
    signed = {
        "webhook-id": "msg_1",
        "webhook-timestamp": timestamp,
        "webhook-signature": sign(secret, "msg_1", timestamp, body),
    }
    return client.post(PATH, data=body, content_type=content_type, headers={**signed, **headers})


def test_a_report_as_it_is(app: Flask, client: CheckingClient, sent: tuple[int, str]) -> None:
    delivery_id, address = sent
    raw = dsns.exchange(address)
    for _ in range(2):  # A replay is harmless.
        response = post(client, raw)
        assert (response.status_code, response.data) == (204, b"")
    assert state_of(app, delivery_id) is DeliveryState.BOUNCED
    with app.app_context():
        assert read_again(delivery_id).mailing.bounced == 1


@one_database
def test_a_report_with_its_envelope_recipient(
    app: Flask, client: CheckingClient, sent: tuple[int, str]
) -> None:
    delivery_id, address = sent
    message = dsns.gmail("undisclosed-recipients:;").decode()
    body = json.dumps({"recipient": address, "message": message}).encode()
    assert post(client, body, content_type="application/json").status_code == 204
    assert state_of(app, delivery_id) is DeliveryState.BOUNCED


@one_database
@pytest.mark.parametrize("recipient", [None, 7, [], {}, "", "nobody@foyer.example"])
def test_the_headers_count_where_the_recipient_is_none(
    app: Flask, client: CheckingClient, sent: tuple[int, str], recipient: Any
) -> None:
    delivery_id, address = sent
    body = json.dumps({"recipient": recipient, "message": dsns.gmail(address).decode()}).encode()
    assert post(client, body, content_type="application/json").status_code == 204
    assert state_of(app, delivery_id) is DeliveryState.BOUNCED


@one_database
@pytest.mark.parametrize("build", dsns.NOTHING.values(), ids=dsns.NOTHING.keys())
def test_what_is_ignored_has_been_taken(
    app: Flask, client: CheckingClient, sent: tuple[int, str], build: Any
) -> None:
    delivery_id, address = sent
    assert post(client, build(address)).status_code == 204
    assert state_of(app, delivery_id) is DeliveryState.SENT


@one_database
@pytest.mark.parametrize(
    "changes",
    [
        {"secret": OTHER},
        {"age": 301},
        {"age": -301},
        {"webhook-id": "msg_2"},
        {"webhook-id": ""},
        {"webhook-timestamp": ""},
        {"webhook-timestamp": "soon"},
        {"webhook-signature": ""},
        {"webhook-signature": "v1,AAAA"},
    ],
    ids=str,
)
def test_without_a_good_signature_nothing_is_read(
    app: Flask, client: CheckingClient, sent: tuple[int, str], changes: dict[str, Any]
) -> None:
    delivery_id, address = sent
    response = post(client, dsns.postfix(address), **changes)
    assert response.status_code == 401
    assert response.mimetype == "text/plain"
    assert state_of(app, delivery_id) is DeliveryState.SENT


@one_database
def test_several_signatures_are_tried(
    app: Flask, client: CheckingClient, sent: tuple[int, str]
) -> None:
    delivery_id, address = sent
    raw = dsns.postfix(address)
    timestamp = str(int(utcnow().timestamp()))
    both = " ".join(sign(each, "msg_1", timestamp, raw) for each in (OTHER, SECRET))
    changes: dict[str, Any] = {"webhook-timestamp": timestamp, "webhook-signature": both}
    assert post(client, raw, **changes).status_code == 204
    assert state_of(app, delivery_id) is DeliveryState.BOUNCED


@one_database
@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_other_types_are_not_read(client: CheckingClient, content_type: str) -> None:
    assert post(client, b"", content_type=content_type).status_code == 415


@one_database
def test_a_mail_beyond_the_limit_is_refused(client: CheckingClient) -> None:
    assert post(client, b"x" * (bounces.LARGEST_MESSAGE + 1)).status_code == 413
    assert post(client, b"x" * bounces.LARGEST_MESSAGE).status_code == 204


@one_database
@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"{}", b'{"message": 7}', b"{", b"\xff", b"[" * 100_000]
)
def test_json_without_a_message_is_refused(client: CheckingClient, body: bytes) -> None:
    response = post(client, body, content_type="application/json")
    assert response.status_code == 400
    assert "message" in response.text


@one_database
def test_a_report_that_cannot_be_recorded_yet_is_asked_for_again(
    app: Flask,
    client: CheckingClient,
    sent: tuple[int, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    delivery_id, address = sent

    def fail(_work: Any) -> None:
        raise OperationalError("UPDATE", {}, Exception("locked"))

    with monkeypatch.context() as patch:
        patch.setattr(bounces, "run_transaction", fail)
        response = post(client, dsns.postfix(address))
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    assert post(client, dsns.postfix(address)).status_code == 204
    assert state_of(app, delivery_id) is DeliveryState.BOUNCED


@one_database
@pytest.mark.parametrize("settings_changes", [{}], ids=["no secret"])
def test_without_a_secret_there_is_no_such_address(
    app: Flask, client: CheckingClient, sent: tuple[int, str]
) -> None:
    delivery_id, address = sent
    assert post(client, dsns.postfix(address)).status_code == 404
    assert state_of(app, delivery_id) is DeliveryState.SENT


@one_database
def test_it_is_for_posting_only(client: CheckingClient) -> None:
    assert client.get(PATH).status_code == 405


@one_database
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(st.binary(max_size=300), st.sampled_from(["message/rfc822", "application/json"]))
def test_any_body_is_answered(client: CheckingClient, body: bytes, content_type: str) -> None:
    assert post(client, body, content_type=content_type).status_code in {204, 400}
