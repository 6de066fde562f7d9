"""Bodies of webhook messages: what is told of an event, as it stands when it is sent first."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from models import (
    Customer,
    Delivery,
    DeliveryState,
    Group,
    RequestState,
    RequestTransition,
    SubscriptionRequest,
    User,
    WebhookEvent,
)


def build_bodies(connection: sa.Connection, messages: Sequence[Any]) -> dict[int, str]:
    """JSON of each message by its id: `type`, `timestamp` of the event, and `data`.

    `messages` are rows with id, event, object_id, reached and occurred_at; a statement per event.
    What an event was about may be gone by now: then its id is all that is told.
    """
    bodies = {}
    for event, (find, tell) in _KINDS.items():
        of_event = [each for each in messages if each.event is event]
        if not of_event:
            continue
        found = find(connection, [each.object_id for each in of_event])
        for each in of_event:
            row = found.get(each.object_id)
            bodies[each.id] = _write(each, tell(each, row))
    return bodies


def _write(message: Any, data: Mapping[str, Any]) -> str:
    whole = {
        "type": message.event.value,
        "timestamp": _time(message.occurred_at),
        "data": {
            name: _time(value) if isinstance(value, datetime) else value
            for name, value in data.items()
        },
    }
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":"))


def _time(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


_Rows = Mapping[int, Any]


def _by_id(connection: sa.Connection, query: sa.Select[*tuple[Any, ...]]) -> _Rows:
    return {row.id: row for row in connection.execute(query)}


def _find_deliveries(connection: sa.Connection, ids: Sequence[int]) -> _Rows:
    return _by_id(
        connection,
        sa.select(
            Delivery.id,
            Delivery.mailing_id,
            Delivery.user_id,
            Delivery.email,
            Delivery.state,
            Delivery.skip_reason,
            Delivery.attempts,
            Delivery.answer_code,
            Delivery.answer,
            Delivery.sent_at,
            Delivery.bounced_at,
            Delivery.bounce_reason,
            User.login,
            Customer.custno,
            Group.groupno,
        )
        .join(User, User.id == Delivery.user_id)
        .join(Customer, Customer.id == User.customer_id)
        .join(Group, Group.id == Customer.group_id)
        .where(Delivery.id.in_(ids)),
    )


def _tell_delivery(message: Any, row: Any) -> dict[str, Any]:
    """A delivery that was tried again, or bounced, since is told of as it had ended then."""
    reached = message.reached
    if row is None:
        return {"delivery_id": message.object_id, "state": reached}
    is_bounced = reached == DeliveryState.BOUNCED
    is_sent = is_bounced or reached == DeliveryState.SENT
    is_still_so = row.state == reached or (is_sent and row.state is DeliveryState.BOUNCED)
    return {
        "delivery_id": row.id,
        "mailing_id": row.mailing_id,
        "groupno": row.groupno,
        "custno": row.custno,
        "user_id": row.user_id,
        "login": row.login,
        "email": row.email,
        "state": reached,
        "skip_reason": row.skip_reason if is_still_so else None,
        "attempts": row.attempts,
        "answer_code": row.answer_code if is_still_so else None,
        "answer": row.answer if is_still_so else "",
        "sent_at": row.sent_at if is_sent else None,
        "bounced_at": row.bounced_at if is_bounced else None,
        "bounce_reason": row.bounce_reason if is_bounced else "",
    }


def _find_transitions(connection: sa.Connection, ids: Sequence[int]) -> _Rows:
    request = SubscriptionRequest
    return _by_id(
        connection,
        sa.select(
            RequestTransition.id,
            RequestTransition.request_id,
            RequestTransition.from_state,
            RequestTransition.to_state,
            RequestTransition.reason,
            RequestTransition.scheduled_for,
            request.name,
            request.short_name,
            request.upn_suffix,
            Group.groupno,
            Customer.custno,
        )
        .join(request, request.id == RequestTransition.request_id)
        .join(Group, Group.id == request.group_id)
        .outerjoin(Customer, Customer.id == request.customer_id)
        .where(RequestTransition.id.in_(ids)),
    )


def _tell_transition(message: Any, row: Any) -> dict[str, Any]:
    """The customer is named once it is complete."""
    if row is None:
        return {"transition_id": message.object_id}
    return {
        "request_id": row.request_id,
        "transition_id": row.id,
        "groupno": row.groupno,
        "name": row.name,
        "short_name": row.short_name,
        "upn_suffix": row.upn_suffix,
        "from_state": row.from_state,
        "to_state": row.to_state,
        "reason": row.reason,
        "scheduled_for": row.scheduled_for,
        "custno": row.custno if row.to_state is RequestState.COMPLETED else None,
    }


def _find_customers(connection: sa.Connection, ids: Sequence[int]) -> _Rows:
    return _by_id(
        connection,
        sa.select(
            Customer.id,
            Customer.custno,
            Customer.web_id,
            Customer.name,
            Customer.short_name,
            Customer.upn_suffix,
            Group.groupno,
        )
        .join(Group, Group.id == Customer.group_id)
        .where(Customer.id.in_(ids)),
    )


def _tell_customer(_message: Any, row: Any) -> dict[str, Any]:
    if row is None:
        return {}
    names = ("groupno", "custno", "web_id", "name", "short_name", "upn_suffix")
    return {name: getattr(row, name) for name in names}


def _find_nothing(_connection: sa.Connection, _ids: Sequence[int]) -> _Rows:
    return {}


def _tell_test(message: Any, _row: Any) -> dict[str, Any]:
    return {"webhook_id": message.object_id}


_Find = Callable[[sa.Connection, Sequence[int]], _Rows]
_Tell = Callable[[Any, Any], dict[str, Any]]
_KINDS: Mapping[WebhookEvent, tuple[_Find, _Tell]] = {
    WebhookEvent.DELIVERY_ENDED: (_find_deliveries, _tell_delivery),
    WebhookEvent.REQUEST_STATE_CHANGED: (_find_transitions, _tell_transition),
    WebhookEvent.CUSTOMER_CREATED: (_find_customers, _tell_customer),
    WebhookEvent.ENDPOINT_TEST: (_find_nothing, _tell_test),
}
