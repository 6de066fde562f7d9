"""Rows by the million for every list: mailings of one customer each, and the audit trail.

Users, customers and requests have their own: demo data, `customer_rows`, `request_rows`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from models import (
    AuditEvent,
    Customer,
    EmailTemplate,
    EmailTemplateVersion,
    Lane,
    Mailing,
    MailingCustomer,
    MailingState,
    TemplateKind,
    User,
    table_of,
    utcnow,
)
from services.bulk_rows import load_rows, rebuilt_indexes

ACTORS = 200
_YEARS = timedelta(days=3650)
ACTIONS = ("user.changed", "mailing.confirmed", "sign_in.succeeded", "customer.updated")


def add_mailings(connection: sa.Connection, number: int) -> None:
    """Add `number` mailings that have ended, each to one of the demonstration's customers."""
    customers = connection.scalars(sa.select(Customer.id).order_by(Customer.id).limit(4)).all()
    author = connection.scalar(sa.select(sa.func.min(User.id)))
    version = connection.scalar(
        sa.select(sa.func.max(EmailTemplateVersion.id))
        .join(EmailTemplate, EmailTemplate.id == EmailTemplateVersion.template_id)
        .where(EmailTemplate.kind == TemplateKind.WELCOME)
    )
    first = (connection.scalar(sa.select(sa.func.max(Mailing.id))) or 0) + 1
    ids = range(first, first + number)
    with rebuilt_indexes(connection, table_of(Mailing)):
        load_rows(
            connection,
            table_of(Mailing),
            _MAILING,
            _mailings(ids, customers, author, version),
        )
    with rebuilt_indexes(connection, table_of(MailingCustomer)):
        load_rows(
            connection,
            table_of(MailingCustomer),
            ("mailing_id", "customer_id"),
            ((each, customers[each % len(customers)]) for each in ids),
        )


_MAILING = tuple(
    "id customer_id template_version_id created_by_id confirmation lane state "
    "resets_portal_password resets_application_password total queued sending sent bounced failed "
    "skipped cancelled created_at started_at finished_at".split()
)


def _mailings(ids: range, customers: Any, author: Any, version: Any) -> Iterator[tuple[Any, ...]]:
    now = utcnow()
    for each in ids:
        at = now - timedelta(minutes=ids.stop - each)
        yield (
            each,
            customers[each % len(customers)],
            version,
            author,
            f"bench-{each}",
            Lane.INTERACTIVE,
            MailingState.FINISHED,
            True,
            False,
            3,
            0,
            0,
            2,
            0,
            0,
            1,
            0,
            at,
            at,
            at,
        )


def add_events(connection: sa.Connection, number: int) -> None:
    """Add `number` events of many actors and few actions, to the demonstration's customers."""
    customers = connection.execute(
        sa.select(Customer.id, Customer.group_id).order_by(Customer.id).limit(4)
    ).all()
    users = connection.scalars(sa.select(User.id).order_by(User.id).limit(100)).all()
    # A customer's trail begins with the customer.
    connection.execute(sa.update(Customer).values(created_at=utcnow() - 2 * _YEARS))
    with rebuilt_indexes(connection, table_of(AuditEvent)):
        load_rows(
            connection, table_of(AuditEvent), _EVENT, _events(number, list(customers), list(users))
        )


_EVENT = tuple(
    "at actor_login actor_key behalf_login address action customer_id group_id object_type "
    "object_id detail".split()
)


def _events(number: int, customers: list[Any], users: list[int]) -> Iterator[tuple[Any, ...]]:
    chance = random.Random(number)
    now, every = utcnow(), _YEARS / number
    detail = {"before": {"last_name": "Peeters"}, "after": {"last_name": "Janssens"}}
    for each in range(number):
        login = f"actor{chance.randrange(ACTORS)}@bench.example"
        customer = customers[each % len(customers)]
        yield (
            now - every * (number - each),
            login,
            login,
            "",
            "192.0.2.1",
            chance.choice(ACTIONS),
            customer.id,
            customer.group_id,
            "user",
            users[each % len(users)],
            detail,
        )
