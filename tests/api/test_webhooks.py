"""Webhooks in the API."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db, queues
from models import (
    ApiScope,
    AuditEvent,
    IdempotencyKey,
    MessageState,
    WebhookAttempt,
    WebhookEndpoint,
    WebhookMessage,
    utcnow,
)
from tests.support.api import Caller, faults_of, make_credential
from tests.support.webhook_receiver import Receiver
from tests.support.webhooks import (
    attempts,
    fresh,
    make_endpoint,
    make_message,
    messages,
    opened,
    seconds_between,
    send_all,
)

ALL = "/group/1/webhooks"
URL = "https://hooks.example.com/foyer"
NEW = {"url": URL, "events": ["delivery.ended", "customer.created"], "description": "Our CRM"}
PRIVATE_ALLOWED = {"WEBHOOK_PRIVATE_TARGETS": "yes", "WEBHOOK_TIMEOUT": "5"}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


def add(api: Caller, **changes: Any) -> dict[str, Any]:
    response = api.post(ALL, json={**NEW, **changes})
    assert response.status_code == 201, response.text
    body: dict[str, Any] = response.get_json()
    return body


def row(app: Flask, webhook_id: int) -> WebhookEndpoint:
    with app.app_context():
        return fresh(webhook_id)


# --- Endpoints ---------------------------------------------------------------------------------


def test_a_webhook_is_added_and_its_secret_answered_once(app: Flask, api: Caller) -> None:
    response = api.post(ALL, json=NEW)

    assert response.status_code == 201
    body = response.get_json()
    secret = body.pop("secret")
    assert secret.startswith("whsec_")
    assert len(base64.b64decode(secret[6:])) == 32
    assert response.headers["Location"] == f"/api/v1{ALL}/{body['id']}"
    assert response.headers["ETag"] == '"1"'
    assert body == {
        "id": body["id"],
        "groupno": 1,
        "url": URL,
        "description": "Our CRM",
        "events": ["customer.created", "delivery.ended"],
        "enabled": True,
        "disabled_at": None,
        "disabled_reason": "",
        "failing_since": None,
        "previous_secret_until": None,
        "version": 1,
        "created_by": "api:demo-api",
        "created_at": body["created_at"],
    }
    assert api.get(f"{ALL}/{body['id']}").get_json() == body
    listed = api.get(ALL)
    assert listed.get_json() == {"items": [body], "next": None}
    assert secret not in listed.text
    with app.app_context():
        stored = db.session.get_one(WebhookEndpoint, body["id"])
        assert opened(stored.secret_seal) == secret
        dump = json.dumps([each.detail for each in db.session.scalars(sa.select(AuditEvent))])
        assert secret not in dump
        assert "hooks.example.com" in dump
        assert "/foyer" not in dump  # An address may hold a token.


def test_it_can_be_told_of_everything_else_by_the_other_address(api: Caller) -> None:
    response = api.post(f"/tiab/api/v1{ALL}", json=NEW)
    assert response.headers["Location"].startswith("/tiab/api/v1/group/1/webhooks/")


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"url": ""}, "url", ""),
        ({"url": None}, "url", ""),
        ({"url": "hooks.example.com"}, "url", "begin with https://"),
        ({"url": "ftp://hooks.example.com/"}, "url", "begin with https://"),
        ({"url": "https://me:pw@hooks.example.com/"}, "url", "user name"),
        ({"url": "https://inside.example.com/"}, "url", "no public address"),
        ({"url": "http://127.0.0.1/"}, "url", "no public address"),
        ({"url": "http://[::1]:80/"}, "url", "no public address"),
        ({"url": "http://169.254.169.254/"}, "url", "no public address"),
        ({"url": "https://h.example/" + "x" * 2000}, "url", ""),
        ({"url": "https://h.example/\0"}, "url", ""),
        ({"url": "https://h.example/\ud800"}, "url", ""),
        ({"events": []}, "events", ""),
        ({"events": ["endpoint.test"]}, "events.0", ""),
        ({"events": ["delivery.started"]}, "events.0", ""),
        ({"events": ["delivery.ended"] * 4}, "events", ""),
        ({"events": "delivery.ended"}, "events", ""),
        ({"description": "x" * 201}, "description", ""),
        ({"description": "a\nb"}, "description", ""),
        ({"secret": "whsec_mine"}, "secret", "not known"),
    ],
)
def test_bad_input_is_named(
    app: Flask, api: Caller, changes: dict[str, Any], field: str, words: str
) -> None:
    response = api.post(
        ALL, data=json.dumps({**NEW, **changes}), headers={"Content-Type": "application/json"}
    )
    if response.status_code != 400:  # Half a surrogate pair is no JSON to some readers.
        assert response.status_code == 422, response.text
        assert field in faults_of(response)
        assert words in faults_of(response)[field]
    with app.app_context():
        assert db.session.scalar(sa.select(sa.func.count(WebhookEndpoint.id))) == 0


def test_events_named_twice_are_told_once(api: Caller) -> None:
    assert add(api, events=["delivery.ended"] * 2)["events"] == ["delivery.ended"]


def test_a_group_has_twenty_at_most(app: Flask, api: Caller) -> None:
    with app.app_context():
        for _ in range(19):
            make_endpoint()
        make_endpoint(deleted_at=utcnow())
        make_endpoint(groupno=2)
    add(api)
    response = api.post(ALL, json=NEW)
    assert response.status_code == 409
    assert "20 webhooks" in response.get_json()["detail"]


def test_a_repeated_post_answers_the_same_secret(app: Flask, api: Caller) -> None:
    key = {"Idempotency-Key": "one-of-these"}
    first, second = (api.post(ALL, json=NEW, headers=key) for _ in range(2))
    assert first.status_code == second.status_code == 201
    assert first.data == second.data
    secret = first.get_json()["secret"].encode()
    with app.app_context():
        assert db.session.scalar(sa.select(sa.func.count(WebhookEndpoint.id))) == 1
        kept = db.session.scalars(sa.select(IdempotencyKey)).one()
        assert secret not in (kept.answer or b"")


def test_a_webhook_is_changed(app: Flask, api: Caller) -> None:
    made = add(api)
    path = f"{ALL}/{made['id']}"
    response = api.patch(
        path,
        json={"url": f"{URL}/new", "events": ["request.state_changed"], "description": ""},
        headers={"If-Match": '"1"'},
    )
    assert response.status_code == 200
    body = response.get_json()
    assert (body["url"], body["events"], body["description"], body["version"]) == (
        f"{URL}/new",
        ["request.state_changed"],
        "",
        2,
    )
    assert response.headers["ETag"] == '"2"'
    assert "secret" not in body
    stale = api.patch(path, json={"description": "x"}, headers={"If-Match": '"1"'})
    assert stale.status_code == 412
    assert api.get(path).get_json() == body
    assert api.patch(path, json={"description": "x"}).status_code == 200
    refused = api.patch(path, json={"url": "http://10.0.0.1/"})
    assert "no public address" in faults_of(refused)["url"]


def test_a_webhook_is_disabled_and_enabled(app: Flask, api: Caller) -> None:
    made = add(api)
    path = f"{ALL}/{made['id']}"
    body = api.patch(path, json={"enabled": False}).get_json()
    assert not body["enabled"]
    assert body["disabled_at"] is not None
    assert body["disabled_reason"] == "Disabled by api:demo-api."
    again = api.patch(path, json={"enabled": False}).get_json()
    assert again["disabled_at"] == body["disabled_at"]
    with app.app_context():
        db.session.execute(sa.update(WebhookEndpoint).values(failing_since=utcnow()))
        db.session.commit()
    body = api.patch(path, json={"enabled": True}).get_json()
    assert body["enabled"]
    assert (body["disabled_at"], body["disabled_reason"], body["failing_since"]) == (None, "", None)


def test_a_deleted_webhook_is_gone(app: Flask, api: Caller) -> None:
    made = add(api)
    path = f"{ALL}/{made['id']}"
    assert api.delete(path, headers={"If-Match": '"9"'}).status_code == 412
    response = api.delete(path)
    assert (response.status_code, response.data) == (204, b"")
    for repeated in (api.delete(path), api.get(path), api.patch(path, json={})):
        assert (repeated.status_code, repeated.data) == (403, b"Invalid access")
    assert api.get(ALL).get_json()["items"] == []


def test_a_secret_is_rotated_with_an_overlap(app: Flask, api: Caller) -> None:
    made = add(api)
    path = f"{ALL}/{made['id']}"
    rotated = api.post(f"{path}/rotate-secret", json={})
    assert rotated.status_code == 200
    body = rotated.get_json()
    assert body["secret"] not in {made["secret"], ""}
    assert body["previous_secret_until"] is not None
    assert rotated.headers["ETag"] == '"2"'
    stored = row(app, made["id"])
    with app.app_context():
        assert opened(stored.secret_seal) == body["secret"]
        assert opened(stored.previous_seal) == made["secret"]
        left = seconds_between(utcnow(), stored.previous_until)
        assert 86_000 < left <= 86_400
    # A second one, whose answer was lost for example, leaves the receiver's secret valid.
    api.post(f"{path}/rotate-secret")
    stored = row(app, made["id"])
    with app.app_context():
        assert opened(stored.previous_seal) == made["secret"]
    stale = api.post(f"{path}/rotate-secret", headers={"If-Match": '"1"'})
    assert stale.status_code == 412


# --- Messages ----------------------------------------------------------------------------------


def test_messages_are_listed_by_state_newest_first(app: Flask, api: Caller) -> None:
    with app.app_context():
        endpoint = make_endpoint()
        made = [
            make_message(endpoint).id,
            make_message(endpoint, state=MessageState.DELIVERED, ended_at=utcnow()).id,
            make_message(endpoint, state=MessageState.FAILED, ended_at=utcnow()).id,
            make_message(endpoint).id,
        ]
        make_message(make_endpoint())
        path = f"{ALL}/{endpoint.id}/messages"
    body = api.get(path).get_json()
    assert [each["id"] for each in body["items"]] == made[::-1]
    assert body["items"][0]["name"] == f"msg_{made[-1]}"
    assert body["items"][0]["next_attempt_at"] is not None
    assert body["items"][1]["next_attempt_at"] is None
    waiting = api.get(path, query_string={"state": "waiting", "limit": 1})
    following = waiting.get_json()["next"]
    rest = api.get(path, query_string={"state": "waiting", "limit": 1, "cursor": following})
    found = waiting.get_json()["items"] + rest.get_json()["items"]
    assert [each["id"] for each in found] == [made[3], made[0]]
    assert api.get(path, query_string={"state": "lost"}).status_code == 422


@pytest.mark.parametrize("settings_changes", [PRIVATE_ALLOWED])
def test_a_test_message_goes_out_and_its_attempts_are_shown(
    app: Flask, api: Caller, receiver: Receiver
) -> None:
    made = add(api, url=receiver.url)
    response = api.post(f"{ALL}/{made['id']}/test")
    assert response.status_code == 202
    waiting = response.get_json()
    assert (waiting["state"], waiting["body"], waiting["attempts"]) == ("waiting", None, [])
    with app.app_context():
        assert [job.args for job in queues["webhooks"].jobs] == [[made["id"]]]
        send_all(made["id"])
    sent = api.get(response.headers["Location"]).get_json()
    assert (sent["state"], sent["attempt_count"], sent["event"]) == (
        "delivered",
        1,
        "endpoint.test",
    )
    (attempt,) = sent["attempts"]
    assert (attempt["status"], attempt["answer"]) == (200, "thanks")
    (request,) = receiver.requests
    assert request.body.decode() == sent["body"]
    assert request.is_signed_with(made["secret"])


@pytest.mark.parametrize("settings_changes", [PRIVATE_ALLOWED])
@pytest.mark.parametrize("state", list(MessageState))
def test_a_replay_is_the_same_message(
    app: Flask, api: Caller, receiver: Receiver, state: MessageState
) -> None:
    made = add(api, url=receiver.url)
    with app.app_context():
        message_id = make_message(fresh(made["id"])).id
        send_all(made["id"])
        ended = None if state is MessageState.WAITING else utcnow()
        later = utcnow().replace(year=2099)
        db.session.execute(
            sa.update(WebhookMessage).values(
                state=state, ended_at=ended, attempts=9, next_attempt_at=later
            )
        )
        db.session.execute(sa.update(WebhookEndpoint).values(claimed_until=later))
        db.session.commit()
    response = api.post(f"{ALL}/{made['id']}/messages/{message_id}/replay", json={})
    assert response.status_code == 202
    body = response.get_json()
    assert (body["state"], body["attempt_count"], len(body["attempts"])) == ("waiting", 0, 1)
    with app.app_context():
        send_all(made["id"])
        assert len(attempts(message_id)) == 2
        assert messages()[0].state is MessageState.DELIVERED
    first, second = receiver.requests
    assert (first.id, first.body) == (second.id, second.body)


def test_a_disabled_webhook_sends_neither_tests_nor_replays(app: Flask, api: Caller) -> None:
    with app.app_context():
        endpoint = make_endpoint(disabled_at=utcnow())
        message_id = make_message(endpoint).id
        path = f"{ALL}/{endpoint.id}"
    for action in ("test", f"messages/{message_id}/replay"):
        response = api.post(f"{path}/{action}")
        assert response.status_code == 409
        assert "disabled" in response.get_json()["detail"]


# --- Who may -----------------------------------------------------------------------------------


def operations(webhook_id: int, message_id: int) -> list[tuple[str, str, ApiScope, Any]]:
    one = f"/webhooks/{webhook_id}"
    message = f"{one}/messages/{message_id}"
    return [
        ("GET", "/webhooks", ApiScope.READ, None),
        ("POST", "/webhooks", ApiScope.WRITE, NEW),
        ("GET", one, ApiScope.READ, None),
        ("PATCH", one, ApiScope.WRITE, {"description": "x"}),
        ("POST", f"{one}/test", ApiScope.WRITE, {}),
        ("POST", f"{one}/rotate-secret", ApiScope.WRITE, {}),
        ("GET", f"{one}/messages", ApiScope.READ, None),
        ("GET", message, ApiScope.READ, None),
        ("POST", f"{message}/replay", ApiScope.WRITE, {}),
        ("DELETE", one, ApiScope.WRITE, None),
    ]


@pytest.fixture
def there(app: Flask) -> tuple[int, int]:
    """Ids of a webhook of group 1 and of its message."""
    with app.app_context():
        endpoint = make_endpoint()
        return endpoint.id, make_message(endpoint).id


@pytest.mark.parametrize("scope", list(ApiScope))
def test_each_operation_wants_its_scope(
    app: Flask, there: tuple[int, int], scope: ApiScope
) -> None:
    with app.app_context():
        caller = Caller(app, make_credential(scopes=(scope,)))
    for method, path, wanted, body in operations(*there):
        sent = {} if body is None else {"json": body}
        status = caller.call(method, f"/group/1{path}", **sent).status_code
        assert (status != 403) is (scope is wanted), (method, path, status)
        assert status < 300 or status == 403


@pytest.mark.parametrize("groupno", [1, 2])
def test_another_groups_credential_finds_nothing(
    app: Flask, there: tuple[int, int], groupno: int
) -> None:
    """Neither by the group that has it, nor by its own."""
    with app.app_context():
        caller = Caller(app, make_credential(groups=(2,)))
    for method, path, _, body in operations(*there):
        if groupno == 2 and path == "/webhooks":
            continue
        sent = {} if body is None else {"json": body}
        response = caller.call(method, f"/group/{groupno}{path}", **sent)
        assert (response.status_code, response.data) == (403, b"Invalid access"), (method, path)
    assert row(app, there[0]).version == 1


def test_a_webhook_is_found_in_its_own_group_alone(app: Flask, there: tuple[int, int]) -> None:
    with app.app_context():
        caller = Caller(app, make_credential(groups=(1, 2)))
    path = f"/webhooks/{there[0]}"
    assert caller.get(f"/group/1{path}").status_code == 200
    assert caller.get(f"/group/2{path}").status_code == 403
    assert caller.delete(f"/group/2{path}").status_code == 403
    assert caller.get("/group/2/webhooks").get_json()["items"] == []


def test_a_message_of_another_webhook_is_none(app: Flask, api: Caller) -> None:
    with app.app_context():
        mine, other = make_endpoint(), make_endpoint()
        message_id = make_message(other).id
        path = f"{ALL}/{mine.id}/messages"
    for each in (message_id, 10**18, 10**30, "x"):
        assert api.get(f"{path}/{each}").status_code == 403
        assert api.post(f"{path}/{each}/replay").status_code == 403
    assert api.get(f"{ALL}/{10**18}").status_code == 403


def test_who_may_nothing_is_told_nothing(app: Flask, there: tuple[int, int]) -> None:
    caller = Caller(app, None)
    for method, path, _, body in operations(*there):
        sent = {} if body is None else {"json": body}
        response = caller.call(method, f"/group/1{path}", **sent)
        assert (response.status_code, response.data) == (403, b"Invalid access")


def test_attempts_are_shown_newest_first_and_not_without_end(app: Flask, api: Caller) -> None:
    with app.app_context():
        endpoint = make_endpoint()
        message_id = make_message(endpoint).id
        db.session.add_all(
            WebhookAttempt(message_id=message_id, milliseconds=number, status=500, answer="no")
            for number in range(105)
        )
        db.session.commit()
        path = f"{ALL}/{endpoint.id}/messages/{message_id}"
    shown = api.get(path).get_json()["attempts"]
    assert [each["milliseconds"] for each in shown] == list(range(104, 4, -1))
