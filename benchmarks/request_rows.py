"""Subscription requests by the million, as a provider has them after many years.

Most have ended, few are open, and the groups are of very different sizes.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from models import (
    Audience,
    Group,
    RequestCount,
    RequestState,
    Role,
    ServiceTemplate,
    ServiceTemplateVersion,
    StartRule,
    SubscriptionRequest,
    User,
    UserGroup,
    fold,
    table_of,
    utcnow,
)
from services.bulk_rows import load_rows, rebuilt_indexes
from services.request_states import ENDED

GROUPS = 20
LIMITED = "three.groups@foyer.example"
FIRST_GROUPNO = 9001
_SHARES = (
    (RequestState.COMPLETED, 0.9),
    (RequestState.CANCELLED, 0.04),
    (RequestState.REJECTED, 0.03),
    (RequestState.AWAITING_APPROVAL, 0.015),
    (RequestState.SCHEDULED, 0.01),
    (RequestState.CHANGES_REQUESTED, 0.004),
    (RequestState.FAILED, 0.0009),
    (RequestState.PROVISIONING, 0.0001),
)
_COLUMNS = (
    "state",
    "created_by_id",
    "group_id",
    "template_version_id",
    "draft",
    "options",
    "name",
    "name_key",
    "short_name",
    "short_name_key",
    "upn_suffix",
    "contact_email",
    "contact_email_key",
    "created_at",
    "changed_at",
    "submitted_at",
    "ended_at",
    "scheduled_for",
)


def add_requests(connection: sa.Connection, number: int) -> None:
    """Add `number` requests, with groups, template, counters and LIMITED, to the demonstration."""
    chance = random.Random(number)
    group_ids = _add_groups(connection)
    version_id = _add_template(connection, group_ids[0])
    author_id = connection.execute(sa.select(sa.func.min(User.id))).scalar_one()
    _add_operator(connection, group_ids[1:4])
    counts: Counter[tuple[int, RequestState]] = Counter()
    rows = _rows(chance, number, group_ids, version_id, author_id, counts)
    table = table_of(SubscriptionRequest)
    with rebuilt_indexes(connection, table):
        load_rows(connection, table, _COLUMNS, rows)
    connection.execute(
        sa.insert(RequestCount),
        [
            {"group_id": group_id, "state": state, "requests": count}
            for (group_id, state), count in counts.items()
        ],
    )


def _add_groups(connection: sa.Connection) -> list[int]:
    return [
        connection.execute(
            sa.insert(Group).values(groupno=groupno, name=f"Reseller {groupno}").returning(Group.id)
        ).scalar_one()
        for groupno in range(FIRST_GROUPNO, FIRST_GROUPNO + GROUPS)
    ]


def _add_operator(connection: sa.Connection, group_ids: list[int]) -> None:
    """Somebody who works for some groups alone, with the password that the demonstration has."""
    password = sa.select(User.password_hash).where(User.login_key == "operator@foyer.example")
    user_id = connection.execute(
        sa.insert(User)
        .values(
            role=Role.OPERATOR,
            login=LIMITED,
            login_key=LIMITED,
            password_hash=password.scalar_subquery(),
        )
        .returning(User.id)
    ).scalar_one()
    memberships = [{"user_id": user_id, "group_id": group_id} for group_id in group_ids]
    connection.execute(sa.insert(UserGroup), memberships)


def _add_template(connection: sa.Connection, group_id: int) -> int:
    name = "Ten years of requests"
    values = {"name": name, "name_key": fold(name), "audience": Audience.STAFF}
    template_id = connection.execute(
        sa.insert(ServiceTemplate).values(**values).returning(ServiceTemplate.id)
    ).scalar_one()
    version = sa.insert(ServiceTemplateVersion).values(
        template_id=template_id,
        number=1,
        group_id=group_id,
        needs_approval=True,
        start_rule=StartRule.OFF_PEAK,
        parameters={},
        must_replace=[],
    )
    return connection.execute(version.returning(ServiceTemplateVersion.id)).scalar_one()


def _rows(
    chance: random.Random,
    number: int,
    group_ids: list[int],
    version_id: int,
    author_id: int,
    counts: Counter[tuple[int, RequestState]],
) -> Iterator[tuple[Any, ...]]:
    now = utcnow()
    every = timedelta(days=3650) / number
    states, shares = zip(*_SHARES, strict=True)
    sizes = [1 / (place + 1) ** 2 for place in range(len(group_ids))]
    for each in range(number):
        (state,) = chance.choices(states, shares)
        (group_id,) = chance.choices(group_ids, sizes)
        counts[group_id, state] += 1
        at = now - every * (number - each)
        changed = at + timedelta(minutes=chance.randrange(5000))
        word = "".join(chance.choices("aeioklmnrst", k=4))
        name = f"{word.capitalize()}{each}"
        short_name, suffix = f"{word[:2]}{each}", f"{name.lower()}.example"
        yield (
            state,
            author_id,
            group_id,
            version_id,
            {},
            {},
            name,
            name.lower(),
            short_name,
            short_name,
            suffix,
            f"it@{suffix}",
            f"it@{suffix}",
            at,
            changed,
            at,
            changed if state in ENDED else None,
            changed,
        )
