"""What audit events were done to, by the names that it has now."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa

from extensions import db
from models import (
    ApiCredential,
    AuditEvent,
    Bundle,
    Customer,
    EmailTemplate,
    EmailTemplateVersion,
    Group,
    Mailing,
    PermissionProfile,
    RegistrationLink,
    ServiceTemplate,
    SubscriptionRequest,
    User,
)
from services.bulk_rows import among_ids, ids_parameter


@dataclass(frozen=True, slots=True)
class NamedObject:
    """An object that is still there; `customer_id` is of a user or a mailing that has one."""

    name: str
    customer_id: int | None = None


@dataclass(frozen=True, slots=True)
class _Source:
    """The columns that the names of a type come from: `name` and, where kept, when it was made."""

    id: Any
    name: Any
    created_at: Any = None
    customer_id: Any = None


_OF_MAILING = (
    sa.select(EmailTemplate.name)
    .join(EmailTemplateVersion, EmailTemplateVersion.template_id == EmailTemplate.id)
    .where(EmailTemplateVersion.id == Mailing.template_version_id)
    .scalar_subquery()
)
_SOURCES: dict[str, _Source] = {
    "user": _Source(User.id, User.login, User.created_at, User.customer_id),
    "customer": _Source(Customer.id, Customer.name, Customer.created_at),
    "mailing": _Source(Mailing.id, _OF_MAILING, Mailing.created_at, Mailing.customer_id),
    "request": _Source(
        SubscriptionRequest.id, SubscriptionRequest.name, SubscriptionRequest.created_at
    ),
    "registration_link": _Source(RegistrationLink.id, RegistrationLink.email),
    "api_credential": _Source(ApiCredential.id, ApiCredential.name, ApiCredential.created_at),
    "email_template": _Source(EmailTemplate.id, EmailTemplate.name),
    "service_template": _Source(ServiceTemplate.id, ServiceTemplate.name),
    "bundle": _Source(Bundle.id, Bundle.name),
    "group": _Source(Group.id, Group.name),
    "permission_profile": _Source(
        PermissionProfile.id, PermissionProfile.name, customer_id=PermissionProfile.customer_id
    ),
}


def find_objects(events: Iterable[AuditEvent]) -> dict[int, NamedObject]:
    """What each event was done to, by the event's id; without what is gone or has no name.

    One that was made after the event is another, which got the number of the one that is gone.
    """
    wanted: dict[str, list[tuple[int, datetime, int]]] = {}
    for event in events:
        object_type, object_id = event.object_type, event.object_id
        if object_type in _SOURCES and object_id is not None:
            wanted.setdefault(object_type, []).append((event.id, event.at, object_id))
    found: dict[int, NamedObject] = {}
    for object_type, listed in wanted.items():
        rows = _load(object_type, {object_id for _, _, object_id in listed})
        for event_id, at, object_id in listed:
            row = rows.get(object_id)
            if row is None:
                continue
            _, name, made, customer_id = row
            if name and (made is None or made <= at):
                found[event_id] = NamedObject(name, customer_id)
    return found


def _load(object_type: str, ids: set[int]) -> dict[int, tuple[Any, ...]]:
    connection = db.session.connection()
    rows = connection.execute(
        _statement(object_type, connection.dialect.name), {"ids": ids_parameter(connection, ids)}
    )
    return {row[0]: tuple(row) for row in rows}


@cache
def _statement(object_type: str, dialect: str) -> sa.Select[Any]:
    """Built once: a list asks for it with every page, and building it takes longer."""
    source = _SOURCES[object_type]
    return sa.select(
        source.id.label("id"),
        source.name.label("name"),
        (sa.null() if source.created_at is None else source.created_at).label("made"),
        (sa.null() if source.customer_id is None else source.customer_id).label("customer"),
    ).where(among_ids(dialect, source.id.expression))
