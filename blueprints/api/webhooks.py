"""Webhooks: where other systems are told of what happens in a group."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from flask import Response
from pydantic import Field

from blueprints.api.fields import Given, Line, Listing, ListQuery, Nothing, Shown, Utc
from blueprints.api.operations import Answer, Call, answer, answer_page, no_content, operation
from models import (
    ApiScope,
    MessageState,
    WebhookAttempt,
    WebhookEndpoint,
    WebhookEvent,
    WebhookMessage,
)
from services import webhooks
from services.webhook_deliveries import message_name
from services.webhook_targets import LONGEST_URL

_TAG = "Webhooks"
_ALL = "/group/<groupno>/webhooks"
_ONE = f"{_ALL}/<webhook_id>"
_MESSAGES = f"{_ONE}/messages"
_MESSAGE = f"{_MESSAGES}/<message_id>"

_Event = Literal[
    WebhookEvent.DELIVERY_ENDED, WebhookEvent.REQUEST_STATE_CHANGED, WebhookEvent.CUSTOMER_CREATED
]
_Url = Annotated[
    Line,
    Field(
        min_length=1,
        max_length=LONGEST_URL,
        description="Where messages are posted to. A public address, without a user name.",
        examples=["https://hooks.example.com/foyer"],
    ),
]
_Events = Annotated[
    list[_Event],
    Field(min_length=1, max_length=3, description="What it is told of."),
]
_Description = Annotated[
    Line, Field(max_length=webhooks.LONGEST_DESCRIPTION, description="A note for people.")
]


class WebhookShown(Shown):
    """An address that is told of events in the group."""

    id: int
    groupno: int
    url: str
    description: str
    events: list[WebhookEvent]
    enabled: bool
    disabled_at: Utc | None
    disabled_reason: str = Field(description="Who or what disabled it; empty while it is enabled.")
    failing_since: Utc | None = Field(
        description="Since when every attempt has failed. After five days it is disabled."
    )
    previous_secret_until: Utc | None = Field(
        description="Until when messages are signed with the secret before a rotation, too."
    )
    version: int = Field(description="Also its ETag; for If-Match.")
    created_by: str
    created_at: Utc


class WebhookWithSecret(WebhookShown):
    """A webhook with its secret, which is answered this once and never again."""

    secret: str = Field(
        description="`whsec_` and a key in base64, as Standard Webhooks has it.",
        examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
    )


class MessageListed(Shown):
    """One event that a webhook is told of."""

    id: int
    webhook_id: int
    name: str = Field(
        description="Its `webhook-id` header, the same for each attempt and each replay.",
        examples=["msg_1204"],
    )
    event: WebhookEvent
    state: MessageState
    attempt_count: int = Field(description="Attempts since it was noted, or replayed last.")
    occurred_at: Utc
    next_attempt_at: Utc | None = Field(description="Null once it has ended.")
    ended_at: Utc | None


class AttemptShown(Shown):
    """One try to deliver a message."""

    at: Utc
    milliseconds: int
    status: int | None = Field(description="Of the answer; null where there was none.")
    answer: str = Field(description="The beginning of the answer, or why there was none.")


class MessageShown(MessageListed):
    """A message with its body and its attempts."""

    body: str | None = Field(
        description="The JSON that is posted, byte for byte. Null until it is sent first."
    )
    attempts: list[AttemptShown] = Field(description="Newest first, up to a hundred.")


def _values(endpoint: WebhookEndpoint) -> dict[str, Any]:
    return {
        "id": endpoint.id,
        "groupno": endpoint.group.groupno,
        "url": endpoint.url,
        "description": endpoint.description,
        "events": endpoint.events,
        "enabled": endpoint.disabled_at is None,
        "disabled_at": endpoint.disabled_at,
        "disabled_reason": endpoint.disabled_reason,
        "failing_since": endpoint.failing_since,
        "previous_secret_until": endpoint.previous_until,
        "version": endpoint.version,
        "created_by": endpoint.created_by,
        "created_at": endpoint.created_at,
    }


def _message_values(message: WebhookMessage) -> dict[str, Any]:
    return {
        "id": message.id,
        "webhook_id": message.endpoint_id,
        "name": message_name(message.id),
        "event": message.event,
        "state": message.state,
        "attempt_count": message.attempts,
        "occurred_at": message.occurred_at,
        "next_attempt_at": message.next_attempt_at
        if message.state is MessageState.WAITING
        else None,
        "ended_at": message.ended_at,
    }


def _shown_message(message: WebhookMessage) -> MessageShown:
    return MessageShown(
        **_message_values(message),
        body=message.body,
        attempts=list(map(_shown_attempt, webhooks.list_attempts(message))),
    )


def _shown_attempt(attempt: WebhookAttempt) -> AttemptShown:
    return AttemptShown.model_validate(attempt)


def _links(parameters: dict[str, str], *operations: str) -> dict[str, Any]:
    return {each: {"operationId": each, "parameters": parameters} for each in operations}


_GROUP = {"groupno": "$request.path.groupno"}
_TO_ONE = _links(
    {**_GROUP, "webhook_id": "$response.body#/id"},
    "getWebhook",
    "updateWebhook",
    "testWebhook",
    "rotateWebhookSecret",
    "listWebhookMessages",
    "deleteWebhook",
)
_TO_MESSAGE = _links(
    {
        **_GROUP,
        "webhook_id": "$response.body#/webhook_id",
        "message_id": "$response.body#/id",
    },
    "getWebhookMessage",
    "replayWebhookMessage",
)


# --- Endpoints ---------------------------------------------------------------------------------


@operation(
    "GET",
    _ALL,
    id="listWebhooks",
    tag=_TAG,
    summary="List Webhooks",
    scope=ApiScope.READ,
    query=ListQuery,
    answers={200: Answer("A page of webhooks, newest first.", Listing[WebhookShown])},
)
def list_webhooks(call: Call) -> Response:
    """The group's webhooks. Their secrets are not answered."""
    page = webhooks.list_endpoints(
        call.actor, call.group, size=call.query.limit, cursor=call.query.cursor
    )
    items = [WebhookShown(**_values(each)) for each in page.rows]
    return answer_page(call, Listing[WebhookShown], page, items)


class NewWebhook(Given):
    """What to tell, and where."""

    url: _Url
    events: _Events
    description: _Description = ""


@operation(
    "POST",
    _ALL,
    id="createWebhook",
    tag=_TAG,
    summary="Add Webhook",
    scope=ApiScope.WRITE,
    body=NewWebhook,
    conflicts=True,
    answers={
        201: Answer(
            "The webhook with its secret.",
            WebhookWithSecret,
            headers=("Location", "ETag"),
            links=_TO_ONE,
        )
    },
    example={"url": "https://hooks.example.com/foyer", "events": ["delivery.ended"]},
)
def create_webhook(call: Call) -> Response:
    """Have an address told of events in the group from now on. Keep the secret that is answered:
    messages are signed with it, and it is not answered again. The address has to be a public one,
    and is looked up now and with every message. A group has at most 20 webhooks."""
    endpoint, secret = webhooks.create_endpoint(
        call.actor,
        call.group,
        url=call.body.url,
        events=call.body.events,
        description=call.body.description,
    )
    return answer(
        WebhookWithSecret(**_values(endpoint), secret=secret),
        201,
        version=endpoint.version,
        location=call.url("getWebhook", webhook_id=endpoint.id),
    )


@operation(
    "GET",
    _ONE,
    id="getWebhook",
    tag=_TAG,
    summary="Get Webhook",
    scope=ApiScope.READ,
    answers={200: Answer("The webhook.", WebhookShown, headers=("ETag",))},
)
def get_webhook(call: Call) -> Response:
    """A webhook of the group, without its secret."""
    return _answer_endpoint(_endpoint_of(call))


class WebhookChanges(Given):
    """What to change; what is left out stays."""

    url: _Url | None = None
    events: _Events | None = None
    description: _Description | None = None
    enabled: bool | None = Field(
        default=None, description="A disabled one is not told of what happens meanwhile."
    )


@operation(
    "PATCH",
    _ONE,
    id="updateWebhook",
    tag=_TAG,
    summary="Update Webhook",
    scope=ApiScope.WRITE,
    body=WebhookChanges,
    updates=True,
    answers={200: Answer("The webhook as it is now.", WebhookShown, headers=("ETag",))},
    example={"enabled": False},
)
def update_webhook(call: Call) -> Response:
    """Change address, events, note, or whether it is enabled. What waits for a webhook when it is
    disabled is sent when it is enabled within 30 days."""
    changes = webhooks.Changes(
        url=call.body.url,
        description=call.body.description,
        events=call.body.events,
        enabled=call.body.enabled,
    )
    return _answer_endpoint(
        webhooks.change_endpoint(call.actor, _endpoint_of(call), changes, call.versions)
    )


@operation(
    "DELETE",
    _ONE,
    id="deleteWebhook",
    tag=_TAG,
    summary="Delete Webhook",
    scope=ApiScope.WRITE,
    updates=True,
    answers={204: Answer("It is told nothing any more.")},
)
def delete_webhook(call: Call) -> Response:
    """Delete a webhook. What waits for it is not sent."""
    webhooks.delete_endpoint(call.actor, _endpoint_of(call), call.versions)
    return no_content()


@operation(
    "POST",
    f"{_ONE}/rotate-secret",
    id="rotateWebhookSecret",
    tag=_TAG,
    summary="Rotate Webhook Secret",
    scope=ApiScope.WRITE,
    body=Nothing,
    body_is_optional=True,
    updates=True,
    answers={200: Answer("The webhook with its new secret.", WebhookWithSecret, headers=("ETag",))},
    example={},
)
def rotate_secret(call: Call) -> Response:
    """A new secret, answered this once. For 24 hours messages are signed with the one before, too:
    the header then has two signatures."""
    endpoint, secret = webhooks.rotate_secret(call.actor, _endpoint_of(call), call.versions)
    return answer(WebhookWithSecret(**_values(endpoint), secret=secret), version=endpoint.version)


@operation(
    "POST",
    f"{_ONE}/test",
    id="testWebhook",
    tag=_TAG,
    summary="Test Webhook",
    scope=ApiScope.WRITE,
    body=Nothing,
    body_is_optional=True,
    conflicts=True,
    answers={
        202: Answer(
            "The message, on its way.", MessageShown, headers=("Location",), links=_TO_MESSAGE
        )
    },
    example={},
)
def test_webhook(call: Call) -> Response:
    """Send a message of the type `endpoint.test`, signed and retried as all are, whatever the
    webhook is told of. Answers 409 while it is disabled."""
    return _answer_waiting(call, webhooks.send_test(call.actor, _endpoint_of(call)))


# --- Messages ----------------------------------------------------------------------------------


class MessageQuery(ListQuery):
    state: MessageState | None = Field(default=None, description="Those in this state alone.")


@operation(
    "GET",
    _MESSAGES,
    id="listWebhookMessages",
    tag=_TAG,
    summary="List Webhook Messages",
    scope=ApiScope.READ,
    query=MessageQuery,
    answers={200: Answer("A page of messages, newest first.", Listing[MessageListed])},
)
def list_messages(call: Call) -> Response:
    """What a webhook was or will be told. Messages are kept for 30 days after their end."""
    page = webhooks.list_messages(
        call.actor,
        _endpoint_of(call),
        state=call.query.state,
        size=call.query.limit,
        cursor=call.query.cursor,
    )
    items = [MessageListed(**_message_values(each)) for each in page.rows]
    return answer_page(call, Listing[MessageListed], page, items)


@operation(
    "GET",
    _MESSAGE,
    id="getWebhookMessage",
    tag=_TAG,
    summary="Get Webhook Message",
    scope=ApiScope.READ,
    answers={200: Answer("The message.", MessageShown)},
)
def get_message(call: Call) -> Response:
    """A message with what is posted, and what was answered to each attempt."""
    return answer(_shown_message(_message_of(call)))


@operation(
    "POST",
    f"{_MESSAGE}/replay",
    id="replayWebhookMessage",
    tag=_TAG,
    summary="Replay Webhook Message",
    scope=ApiScope.WRITE,
    body=Nothing,
    body_is_optional=True,
    conflicts=True,
    answers={
        202: Answer(
            "The message, on its way again.",
            MessageShown,
            headers=("Location",),
            links=_TO_MESSAGE,
        )
    },
    example={},
)
def replay_message(call: Call) -> Response:
    """Send a message again now, whether it was delivered, has failed or waits: with the same
    `webhook-id` and the same body, by which a receiver knows it. Answers 409 while the webhook is
    disabled."""
    endpoint = _endpoint_of(call)
    found = webhooks.get_message(call.actor, endpoint, call.ids["message_id"])
    return _answer_waiting(call, webhooks.replay_message(call.actor, endpoint, found))


def _endpoint_of(call: Call) -> WebhookEndpoint:
    return webhooks.get_endpoint(call.actor, call.ids["webhook_id"], call.group)


def _message_of(call: Call) -> WebhookMessage:
    return webhooks.get_message(call.actor, _endpoint_of(call), call.ids["message_id"])


def _answer_endpoint(endpoint: WebhookEndpoint) -> Response:
    return answer(WebhookShown(**_values(endpoint)), version=endpoint.version)


def _answer_waiting(call: Call, message: WebhookMessage) -> Response:
    return answer(
        _shown_message(message),
        202,
        location=call.url(
            "getWebhookMessage", webhook_id=message.endpoint_id, message_id=message.id
        ),
    )
