"""Customers by the million in one group, the first of them with an administrator to be mailed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from models import (
    Customer,
    CustomerEmailTemplate,
    CustomerStatus,
    EmailTemplate,
    Group,
    Role,
    TemplateKind,
    User,
    UserStatus,
    table_of,
    utcnow,
)
from services.bulk_rows import load_rows, rebuilt_indexes

GROUPNO = 1
"""The demo credential's."""
FIRST_CUSTNO = 5_000_001


def add_customers(connection: sa.Connection, number: int, *, mailed: int) -> None:
    """Add `number` customers; the first `mailed` have an administrator and the welcome template."""
    group_id = connection.scalar(sa.select(Group.id).where(Group.groupno == GROUPNO))
    first = (connection.scalar(sa.select(sa.func.max(Customer.id))) or 0) + 1
    table = table_of(Customer)
    with rebuilt_indexes(connection, table):
        load_rows(connection, table, _COLUMNS, _customers(number, group_id, first))
    ids = range(first, first + mailed)
    template_id = connection.scalar(
        sa.select(EmailTemplate.id).where(EmailTemplate.kind == TemplateKind.WELCOME)
    )
    load_rows(
        connection,
        table_of(CustomerEmailTemplate),
        ("customer_id", "template_id"),
        ((each, template_id) for each in ids),
    )
    load_rows(connection, table_of(User), _USER_COLUMNS, map(_administrator, ids))


_COLUMNS = (
    "id",
    "group_id",
    "custno",
    "web_id",
    "name",
    "name_key",
    "short_name",
    "short_name_key",
    "upn_suffix",
    "ani",
    "contact_name",
    "contact_email",
    "company",
    "street",
    "postal_code",
    "city",
    "country",
    "time_zone",
    "options",
    "status",
    "created_at",
)


def _customers(number: int, group_id: Any, first: int) -> Iterator[tuple[Any, ...]]:
    chance = random.Random(number)
    now = utcnow()
    for each in range(number):
        word = "".join(chance.choices("aeioklmnrst", k=5))
        name = f"{word.capitalize()}{each}"
        suffix = f"{name.lower()}.example"
        yield (
            first + each,
            group_id,
            FIRST_CUSTNO + each,
            f"B{each}",
            name,
            name.lower(),
            f"{word[:3]}{each}",
            f"{word[:3]}{each}",
            suffix,
            f"+322{each:08}",
            "Ada Peeters",
            f"admin@{suffix}",
            f"{name} NV",
            "Kerkstraat 1",
            "1000",
            "Brussels",
            "BE",
            "Europe/Brussels",
            {},
            CustomerStatus.ACTIVE,
            now,
        )


_USER_COLUMNS = (
    "customer_id",
    "role",
    "status",
    "login",
    "login_key",
    "first_name",
    "last_name",
    "name_key",
    "surname_key",
    "email",
    "email_key",
    "language",
    "created_at",
)


def _administrator(customer_id: int) -> tuple[Any, ...]:
    login = f"admin{customer_id}@bench.example"
    return (
        customer_id,
        Role.CUSTOMER_ADMIN,
        UserStatus.ACTIVE,
        login,
        login,
        "Ada",
        "Peeters",
        "ada peeters",
        "peeters",
        login,
        login,
        "en",
        utcnow(),
    )
