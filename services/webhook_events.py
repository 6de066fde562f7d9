"""Events for webhooks: noted as messages in the transaction in which they happen.

A message is a row, so that an emptied queue loses none, and a transaction that is rolled back notes
none. Endpoints that are disabled or deleted are told nothing of what happens meanwhile. After the
commit, `webhook_deliveries.start_waiting` asks workers to send; the sweep does so anyway.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa

from models import (
    Customer,
    Delivery,
    DeliveryState,
    MessageState,
    User,
    WebhookEndpoint,
    WebhookEvent,
    WebhookMessage,
    WebhookSubscription,
    table_of,
    utcnow,
)
from services.bulk_rows import among_ids, ids_parameter

_ENDPOINTS = table_of(WebhookEndpoint)
_SUBSCRIPTIONS = table_of(WebhookSubscription)
_MESSAGES = table_of(WebhookMessage)
_DELIVERIES = table_of(Delivery)
_CUSTOMERS = table_of(Customer)
_USERS = table_of(User)

_COLUMNS = (
    "endpoint_id",
    "event",
    "object_id",
    "reached",
    "occurred_at",
    "next_attempt_at",
    "state",
    "attempts",
)


def is_told(event: WebhookEvent) -> sa.ColumnElement[bool]:
    """Whether any endpoint wants to know of `event`, as a condition that asks one small table."""
    return (
        sa.exists()
        .where(_SUBSCRIPTIONS.c.event == event, _ENDPOINTS.c.id == _SUBSCRIPTIONS.c.endpoint_id)
        .where(*_is_live())
        .correlate(None)
    )


def _is_live() -> tuple[sa.ColumnElement[bool], ...]:
    return _ENDPOINTS.c.deleted_at.is_(None), _ENDPOINTS.c.disabled_at.is_(None)


def _message(
    event: WebhookEvent, object_id: sa.ColumnElement[Any], reached: sa.ColumnElement[str]
) -> tuple[sa.ColumnElement[Any], ...]:
    """The columns of a message for each endpoint, in the order of `_COLUMNS`."""
    now = sa.bindparam("noted_at", type_=_MESSAGES.c.occurred_at.type)
    return (
        _ENDPOINTS.c.id,
        sa.literal(event, _MESSAGES.c.event.type),
        object_id,
        reached,
        now,
        now,
        sa.literal(MessageState.WAITING, _MESSAGES.c.state.type),
        sa.literal(0),
    )


def _endpoints_told(group_id: Any, event: WebhookEvent) -> sa.ColumnElement[bool]:
    """The join that leads from a group to the endpoints that want to know of `event`."""
    wanted = sa.select(_SUBSCRIPTIONS.c.endpoint_id).where(_SUBSCRIPTIONS.c.event == event)
    return sa.and_(_ENDPOINTS.c.group_id == group_id, _ENDPOINTS.c.id.in_(wanted), *_is_live())


# --- Requests and customers --------------------------------------------------------------------


def note_transition(
    connection: sa.Connection, group_id: int | None, transition_id: int, at: datetime
) -> None:
    """Note that a request of the group has changed its state; a draft of no group tells nobody."""
    if group_id is not None:
        _note_one(connection, WebhookEvent.REQUEST_STATE_CHANGED, group_id, transition_id, at)


def note_new_customer(connection: sa.Connection, group_id: int, customer_id: int) -> None:
    """Note that a customer's creation is complete."""
    _note_one(connection, WebhookEvent.CUSTOMER_CREATED, group_id, customer_id, utcnow())


def _note_one(
    connection: sa.Connection, event: WebhookEvent, group_id: int, object_id: int, at: datetime
) -> None:
    connection.execute(
        _one_statement(event), {"group_id": group_id, "object_id": object_id, "noted_at": at}
    )


@cache
def _one_statement(event: WebhookEvent) -> sa.Insert:
    object_id = sa.bindparam("object_id", type_=_MESSAGES.c.object_id.type)
    told = _endpoints_told(sa.bindparam("group_id", type_=_ENDPOINTS.c.group_id.type), event)
    rows = sa.select(*_message(event, object_id, sa.literal(""))).where(told)
    return sa.insert(_MESSAGES).from_select(_COLUMNS, rows)


# --- Deliveries --------------------------------------------------------------------------------


def note_ended(connection: sa.Connection, delivery_ids: Iterable[int]) -> None:
    """Note the ends of a chunk of deliveries, which are in their last state already.

    One statement. The caller knows that somebody is told (`MailingJob.is_told`), or does not ask.
    """
    ids = ids_parameter(connection, delivery_ids)
    connection.execute(
        _ended_statement(connection.dialect.name), {"ids": ids, "noted_at": utcnow()}
    )


@cache
def _ended_statement(dialect: str) -> sa.Insert:
    rows = _rows_of(_DELIVERIES.c, sa.type_coerce(_DELIVERIES.c.state, sa.String))
    return sa.insert(_MESSAGES).from_select(
        _COLUMNS, rows.where(among_ids(dialect, _DELIVERIES.c.id))
    )


def _rows_of(deliveries: Any, state: sa.ColumnElement[str]) -> sa.Select[*tuple[Any, ...]]:
    """A message for each of `deliveries` and each endpoint of its customer's group."""
    event = WebhookEvent.DELIVERY_ENDED
    return (
        sa.select(*_message(event, deliveries.id, state))
        .select_from(_USERS)
        .join(_CUSTOMERS, _CUSTOMERS.c.id == _USERS.c.customer_id)
        .join(_ENDPOINTS, _endpoints_told(_CUSTOMERS.c.group_id, event))
        .where(_USERS.c.id == deliveries.user_id)
        .order_by(deliveries.id)
    )


def end_deliveries(
    connection: sa.Connection,
    ending: sa.Update,
    state: DeliveryState,
    parameters: Mapping[str, Any] | None = None,
) -> int:
    """Run an UPDATE of `deliveries` that ends them in `state`, and note that for each.

    However many there are, and whichever the condition finds at that moment; returns how many.
    The rows do not travel through Python.
    """
    told = connection.scalar(sa.select(is_told(WebhookEvent.DELIVERY_ENDED)))
    given = dict(parameters or {})
    if not told:
        return connection.execute(ending, given).rowcount
    noting = {**given, "noted_at": utcnow()}
    reached = sa.literal(state.value, sa.String)
    if connection.dialect.name == "postgresql":
        ended = ending.returning(_DELIVERIES.c.id, _DELIVERIES.c.user_id).cte("ended")
        noted = sa.insert(_MESSAGES).from_select(_COLUMNS, _rows_of(ended.c, reached)).cte("noted")
        counted = sa.select(sa.func.count()).select_from(ended).add_cte(noted)
        return connection.scalar(counted, noting) or 0
    # Nobody else writes on SQLite until this transaction ends, so both statements find the same.
    rows = _rows_of(_DELIVERIES.c, reached)
    if ending.whereclause is not None:
        rows = rows.where(ending.whereclause)
    connection.execute(sa.insert(_MESSAGES).from_select(_COLUMNS, rows), noting)
    return connection.execute(ending, given).rowcount
