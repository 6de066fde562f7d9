"""Webhooks for tests: endpoints, what is noted for them, and sending it."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from extensions import db
from models import (
    Group,
    WebhookAttempt,
    WebhookEndpoint,
    WebhookEvent,
    WebhookMessage,
    WebhookSubscription,
    utcnow,
)
from services import seals, webhook_deliveries
from services.webhooks import SUBSCRIBABLE
from tests.support.factories import save

_numbers = itertools.count(1)
SECRET = "whsec_" + base64.b64encode(b"a-secret-that-is-made-by-tests!!").decode()


def group(number: int = 1) -> Group:
    return db.session.scalars(sa.select(Group).where(Group.groupno == number)).one()


def make_endpoint(
    url: str = "https://hooks.example.com/foyer",
    *,
    events: Iterable[WebhookEvent] = SUBSCRIBABLE,
    groupno: int = 1,
    secret: str = SECRET,
    **values: Any,
) -> WebhookEndpoint:
    """An endpoint of a group, whatever its address."""
    return save(
        WebhookEndpoint(
            url=url,
            group_id=values.pop("group_id", None) or group(groupno).id,
            secret_seal=seal(secret),
            subscriptions=[WebhookSubscription(event=each) for each in events],
            **values,
        )
    )


def seal(secret: str) -> bytes:
    return seals.sealer().encrypt(secret.encode())


def opened(sealed: bytes | None) -> str:
    """What a seal holds."""
    assert sealed is not None
    return seals.sealer().decrypt(sealed).decode()


def seconds_between(earlier: datetime, later: datetime | None) -> float:
    assert later is not None
    return (later - earlier).total_seconds()


def make_message(endpoint: WebhookEndpoint, **values: Any) -> WebhookMessage:
    """A test of the endpoint, which waits to be sent."""
    return save(
        WebhookMessage(
            endpoint_id=endpoint.id,
            **{"event": WebhookEvent.ENDPOINT_TEST, "object_id": endpoint.id, **values},
        )
    )


def fresh(endpoint_id: int) -> WebhookEndpoint:
    db.session.rollback()
    return db.session.get_one(WebhookEndpoint, endpoint_id, populate_existing=True)


def messages(endpoint_id: int | None = None) -> list[WebhookMessage]:
    """What was noted, oldest first."""
    db.session.rollback()
    query = sa.select(WebhookMessage).order_by(WebhookMessage.id)
    if endpoint_id is not None:
        query = query.where(WebhookMessage.endpoint_id == endpoint_id)
    return list(db.session.scalars(query.execution_options(populate_existing=True)))


def attempts(message_id: int) -> list[WebhookAttempt]:
    db.session.rollback()
    return list(
        db.session.scalars(
            sa.select(WebhookAttempt)
            .where(WebhookAttempt.message_id == message_id)
            .order_by(WebhookAttempt.id)
        )
    )


def make_due() -> None:
    """Every wait and every rest is over, and every lease of a dead worker too."""
    past = utcnow() - timedelta(minutes=1)
    db.session.rollback()
    db.session.execute(sa.update(WebhookMessage).values(next_attempt_at=past))
    db.session.execute(sa.update(WebhookEndpoint).values(claimed_until=None, claim_token=None))
    db.session.commit()


def send_all(endpoint_id: int) -> None:
    """Send what is due, slice after slice."""
    db.session.rollback()
    while webhook_deliveries.send_messages(endpoint_id):
        pass
    db.session.rollback()
