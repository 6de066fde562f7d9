"""Webhooks: the endpoints of a group, their secrets, and the messages that were or will be sent.

A secret is answered when it is made, and never again; it rests sealed. After a rotation messages
are signed with the secret before, too, for a day, so that a receiver can change over in its time.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa
from sqlalchemy.orm import joinedload

from extensions import db
from models import (
    Group,
    MessageState,
    WebhookAttempt,
    WebhookEndpoint,
    WebhookEvent,
    WebhookMessage,
    WebhookSubscription,
    is_storable,
    table_of,
    utcnow,
)
from services import seals, webhook_deliveries
from services.actors import Actor, Permission, groups_of
from services.audit_events import record_event
from services.errors import Conflict, InvalidInput, NotFound, Stale
from services.paging import Page, keyset_page, parse_id_key
from services.webhook_targets import check_target, parse_target

SUBSCRIBABLE = (
    WebhookEvent.DELIVERY_ENDED,
    WebhookEvent.REQUEST_STATE_CHANGED,
    WebhookEvent.CUSTOMER_CREATED,
)
MOST_PER_GROUP = 20
LONGEST_DESCRIPTION = 200
OVERLAP = timedelta(hours=24)
"""How long the secret before still signs after a rotation."""

_SECRET_BYTES = 32
_MOST_ATTEMPTS_SHOWN = 100
_GONE = "There is no such webhook, or it is not yours to see."
_CHANGED = "This webhook was changed since you read it. Read it again, and repeat what you did."
_ENDPOINTS = table_of(WebhookEndpoint)


# --- Reading -----------------------------------------------------------------------------------


def list_endpoints(
    actor: Actor, group: Group | None = None, *, size: int = 25, cursor: str = ""
) -> Page[WebhookEndpoint]:
    """A page of the webhooks in the actor's scope, or of one of his groups, the newest first."""
    actor.require(Permission.WEBHOOKS_READ)
    query = sa.select(WebhookEndpoint).where(_in_scope(actor))
    if group is not None:
        query = query.where(WebhookEndpoint.group_id == group.id)
    key = WebhookEndpoint.id.expression
    return keyset_page(
        lambda query: db.session.scalars(query).all(),
        query.options(joinedload(WebhookEndpoint.group)),
        key=key,
        row_id=key,
        key_of=lambda row: (str(row.id), row.id),
        parse_key=parse_id_key,
        descending=True,
        size=size,
        cursor=cursor,
    )


def _in_scope(actor: Actor) -> sa.ColumnElement[bool]:
    mine = sa.true() if actor.all_groups else WebhookEndpoint.group_id.in_(groups_of(actor))
    return sa.and_(mine, WebhookEndpoint.deleted_at.is_(None))


def get_endpoint(actor: Actor, endpoint_id: int, group: Group | None = None) -> WebhookEndpoint:
    """A webhook with its group and events, for who may read or change it.

    Raises NotFound outside the scope, or outside `group`; Forbidden.
    """
    _require_either(actor)
    query = sa.select(WebhookEndpoint).where(WebhookEndpoint.id == endpoint_id, _in_scope(actor))
    if group is not None:
        query = query.where(WebhookEndpoint.group_id == group.id)
    found = db.session.scalar(
        query.options(joinedload(WebhookEndpoint.group)).execution_options(populate_existing=True)
    )
    if found is None:
        raise NotFound(_GONE)
    return found


def _require_either(actor: Actor) -> None:
    if not actor.may(Permission.WEBHOOKS_EDIT):
        actor.require(Permission.WEBHOOKS_READ)


def list_messages(
    actor: Actor,
    endpoint: WebhookEndpoint,
    *,
    state: MessageState | None = None,
    size: int = 25,
    cursor: str = "",
) -> Page[WebhookMessage]:
    """A page of an endpoint's messages, the newest first, without the attempts."""
    actor.require(Permission.WEBHOOKS_READ)
    query = sa.select(WebhookMessage).where(WebhookMessage.endpoint_id == endpoint.id)
    if state is not None:
        query = query.where(WebhookMessage.state == state)
    key = WebhookMessage.id.expression
    return keyset_page(
        lambda query: db.session.scalars(query).all(),
        query,
        key=key,
        row_id=key,
        key_of=lambda row: (str(row.id), row.id),
        parse_key=parse_id_key,
        descending=True,
        size=size,
        cursor=cursor,
    )


def get_message(actor: Actor, endpoint: WebhookEndpoint, message_id: int) -> WebhookMessage:
    """A message of the endpoint, for who may read or replay it. Raises NotFound, Forbidden."""
    _require_either(actor)
    found = db.session.scalar(
        sa.select(WebhookMessage)
        .where(WebhookMessage.id == message_id, WebhookMessage.endpoint_id == endpoint.id)
        .execution_options(populate_existing=True)
    )
    if found is None:
        raise NotFound("There is no such message of this webhook.")
    return found


def list_attempts(message: WebhookMessage) -> Sequence[WebhookAttempt]:
    """The attempts to deliver a message, the newest first, no more than a hundred."""
    return db.session.scalars(
        sa.select(WebhookAttempt)
        .where(WebhookAttempt.message_id == message.id)
        .order_by(WebhookAttempt.id.desc())
        .limit(_MOST_ATTEMPTS_SHOWN)
    ).all()


# --- Endpoints ---------------------------------------------------------------------------------


def create_endpoint(
    actor: Actor, group: Group, *, url: str, events: Collection[WebhookEvent], description: str = ""
) -> tuple[WebhookEndpoint, str]:
    """A new webhook of the group, and its secret, which nobody sees again.

    Raises InvalidInput naming `url`, `events` or `description`, Conflict when the group has as
    many as it may have, Forbidden.
    """
    actor.require(Permission.WEBHOOKS_EDIT)
    wanted = _check_events(events)
    described = _check_description(description)
    target = check_target(url)
    connection = db.session.connection()
    # An update of nothing locks the group on both databases: two at once count one after the other.
    connection.execute(sa.update(Group).where(Group.id == group.id).values(name=Group.name))
    count = connection.scalar(
        sa.select(sa.func.count()).where(
            _ENDPOINTS.c.group_id == group.id, _ENDPOINTS.c.deleted_at.is_(None)
        )
    )
    if (count or 0) >= MOST_PER_GROUP:
        db.session.rollback()
        raise Conflict(f"This group has {count} webhooks, and that is the most. Delete one first.")
    secret = _make_secret()
    endpoint = WebhookEndpoint(
        group_id=group.id,
        url=url,
        description=described,
        secret_seal=_seal(secret),
        created_by=actor.login,
        subscriptions=[WebhookSubscription(event=each) for each in wanted],
    )
    db.session.add(endpoint)
    db.session.flush()
    told = {"host": target.host, "description": described, "events": list(wanted)}
    _audit(actor, "webhook.created", endpoint, {"after": told})
    db.session.commit()
    return get_endpoint(actor, endpoint.id), secret


@dataclass(frozen=True, slots=True)
class Changes:
    """What to change of a webhook; None leaves it."""

    url: str | None = None
    description: str | None = None
    events: Collection[WebhookEvent] | None = None
    enabled: bool | None = None


def change_endpoint(
    actor: Actor,
    endpoint: WebhookEndpoint,
    changes: Changes,
    versions: Collection[int] | None = None,
) -> WebhookEndpoint:
    """Change a webhook. `versions` are those that the caller takes it for, None for any.

    Enabling ends the pause of an endpoint that was failing, and has what waits sent. Raises
    InvalidInput naming the field, Stale, NotFound, Forbidden.
    """
    actor.require(Permission.WEBHOOKS_EDIT)
    values: dict[str, Any] = {}
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    if changes.url is not None and changes.url != endpoint.url:
        before["host"] = urlsplit(endpoint.url).hostname
        after["host"] = check_target(changes.url).host
        values["url"] = changes.url
    if changes.description is not None:
        values["description"] = _check_description(changes.description)
        before["description"] = endpoint.description
        after["description"] = values["description"]
    if changes.enabled is not None and changes.enabled != (endpoint.disabled_at is None):
        values |= _enabled() if changes.enabled else _disabled(actor)
    wanted = None if changes.events is None else _check_events(changes.events)
    if wanted is not None:
        before["events"] = sorted(each.event for each in endpoint.subscriptions)
        after["events"] = sorted(wanted)
    _update(endpoint, versions, **values)
    if wanted is not None:
        _subscribe(endpoint.id, wanted)
    if "disabled_at" in values:
        name = "webhook.enabled" if changes.enabled else "webhook.disabled"
        was = "disabled" if changes.enabled else "enabled"
        _audit(
            actor,
            name,
            endpoint,
            {"before": {"state": was}, "after": {"state": name.rpartition(".")[2]}},
        )
    if after or "disabled_at" not in values:
        _audit(actor, "webhook.changed", endpoint, {"before": before, "after": after})
    _wake(endpoint.id)
    db.session.commit()
    webhook_deliveries.start_waiting()
    return get_endpoint(actor, endpoint.id)


def _enabled() -> dict[str, Any]:
    return {"disabled_at": None, "disabled_reason": "", "failing_since": None}


def _disabled(actor: Actor) -> dict[str, Any]:
    return {"disabled_at": utcnow(), "disabled_reason": f"Disabled by {actor.login}."[:200]}


def delete_endpoint(
    actor: Actor, endpoint: WebhookEndpoint, versions: Collection[int] | None = None
) -> None:
    """Tell it nothing more; what waits for it is never sent. Raises Stale, NotFound, Forbidden."""
    actor.require(Permission.WEBHOOKS_EDIT)
    _update(endpoint, versions, deleted_at=utcnow(), previous_seal=None, previous_until=None)
    _audit(
        actor, "webhook.deleted", endpoint, {"before": {"host": urlsplit(endpoint.url).hostname}}
    )
    db.session.commit()


def rotate_secret(
    actor: Actor, endpoint: WebhookEndpoint, versions: Collection[int] | None = None
) -> tuple[WebhookEndpoint, str]:
    """A new secret, which nobody sees again; the one before signs, too, for a day.

    Raises Stale, NotFound, Forbidden.
    """
    actor.require(Permission.WEBHOOKS_EDIT)
    secret = _make_secret()
    _update(
        endpoint,
        versions,
        # Of two rotations in a row the second must not take the first one's for the receiver's.
        previous_seal=sa.case(
            (_ENDPOINTS.c.previous_until > utcnow(), _ENDPOINTS.c.previous_seal),
            else_=_ENDPOINTS.c.secret_seal,
        ),
        secret_seal=_seal(secret),
        previous_until=utcnow() + OVERLAP,
    )
    _audit(actor, "webhook.secret_rotated", endpoint, {})
    db.session.commit()
    return get_endpoint(actor, endpoint.id), secret


def _update(endpoint: WebhookEndpoint, versions: Collection[int] | None, **values: Any) -> None:
    """Change the row unless somebody was faster, in the caller's transaction."""
    condition = sa.and_(_ENDPOINTS.c.id == endpoint.id, _ENDPOINTS.c.deleted_at.is_(None))
    if versions is not None:
        condition = sa.and_(condition, _ENDPOINTS.c.version.in_(versions))
    changed = (
        db.session.connection()
        .execute(
            sa.update(_ENDPOINTS)
            .where(condition)
            .values(version=_ENDPOINTS.c.version + 1, **values)
        )
        .rowcount
    )
    if not changed:
        db.session.rollback()
        is_there = db.session.scalar(
            sa.select(_ENDPOINTS.c.id).where(
                _ENDPOINTS.c.id == endpoint.id, _ENDPOINTS.c.deleted_at.is_(None)
            )
        )
        if is_there is None:
            raise NotFound(_GONE)
        raise Stale(_CHANGED)


def _subscribe(endpoint_id: int, events: Sequence[WebhookEvent]) -> None:
    table = table_of(WebhookSubscription)
    connection = db.session.connection()
    connection.execute(sa.delete(table).where(table.c.endpoint_id == endpoint_id))
    connection.execute(
        sa.insert(table), [{"endpoint_id": endpoint_id, "event": each} for each in events]
    )


def _wake(endpoint_id: int) -> None:
    """End an endpoint's pause, unless a worker holds it."""
    db.session.connection().execute(
        sa.update(_ENDPOINTS)
        .where(_ENDPOINTS.c.id == endpoint_id, _ENDPOINTS.c.claim_token.is_(None))
        .values(claimed_until=None)
    )


def _check_events(events: Collection[WebhookEvent]) -> list[WebhookEvent]:
    wanted = [each for each in SUBSCRIBABLE if each in events]
    if not wanted:
        raise InvalidInput("events", f"Name at least one event: {', '.join(SUBSCRIBABLE)}.")
    if len(wanted) != len(set(events)):
        raise InvalidInput("events", f"The events are {', '.join(SUBSCRIBABLE)}.")
    return wanted


def _check_description(description: str) -> str:
    if len(description) > LONGEST_DESCRIPTION:
        raise InvalidInput(
            "description",
            f"The description has {len(description):,} characters. "
            f"The limit is {LONGEST_DESCRIPTION}.",
        )
    if not is_storable(description):
        raise InvalidInput("description", "The description contains a character that is none.")
    return description


def _make_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def _seal(secret: str) -> bytes:
    return seals.sealer().encrypt(secret.encode())


# --- Messages ----------------------------------------------------------------------------------


def replay_message(
    actor: Actor, endpoint: WebhookEndpoint, message: WebhookMessage
) -> WebhookMessage:
    """Send a message again now, under the same `webhook-id` and with the same body.

    It gets all of its tries anew. Raises Conflict while the endpoint is disabled, Forbidden.
    """
    actor.require(Permission.WEBHOOKS_EDIT)
    _refuse_disabled(endpoint)
    db.session.connection().execute(
        sa.update(WebhookMessage)
        .where(WebhookMessage.id == message.id)
        .values(state=MessageState.WAITING, attempts=0, next_attempt_at=utcnow(), ended_at=None)
    )
    _audit(actor, "webhook.message_replayed", endpoint, {"message": message.id})
    _wake(endpoint.id)
    db.session.commit()
    webhook_deliveries.start(endpoint.id)
    return get_message(actor, endpoint, message.id)


def send_test(actor: Actor, endpoint: WebhookEndpoint) -> WebhookMessage:
    """A message of the type `endpoint.test`, sent as any other is, whatever is subscribed to.

    Raises Conflict while the endpoint is disabled, Forbidden.
    """
    actor.require(Permission.WEBHOOKS_EDIT)
    _refuse_disabled(endpoint)
    message = WebhookMessage(
        endpoint_id=endpoint.id, event=WebhookEvent.ENDPOINT_TEST, object_id=endpoint.id
    )
    db.session.add(message)
    db.session.flush()
    _audit(actor, "webhook.tested", endpoint, {"message": message.id})
    _wake(endpoint.id)
    db.session.commit()
    webhook_deliveries.start(endpoint.id)
    return message


def _refuse_disabled(endpoint: WebhookEndpoint) -> None:
    if endpoint.disabled_at is not None:
        raise Conflict("This webhook is disabled. Enable it first.")


def is_overlapping(endpoint: WebhookEndpoint) -> bool:
    """Whether the secret before a rotation signs, too."""
    return endpoint.previous_until is not None and endpoint.previous_until > utcnow()


def host_of(endpoint: WebhookEndpoint) -> str:
    """The host of its address, for where the rest, which may hold a token, is not shown."""
    return parse_target(endpoint.url).host


def _audit(actor: Actor, action: str, endpoint: WebhookEndpoint, detail: dict[str, Any]) -> None:
    """Its address stays out: a path may be a secret."""
    record_event(
        actor,
        action,
        group_id=endpoint.group_id,
        object_type="webhook",
        object_id=endpoint.id,
        detail=detail,
    )
