"""The users' list costs the same however many users a customer has, on both databases."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask

from extensions import db
from models import Customer, Role, User, Welcome, WelcomeState, table_of, utcnow
from services.bulk_rows import load_rows
from services.user_exports import export_users
from services.users import Mailed, UserFilter, UserSort, list_users
from tests.support.factories import actor_for, make_customer, note_welcomes
from tests.support.statements import noted_statements, rows_looked_at, sqlite_plan_of

MANY = 4000
SIZE = 25
_COLUMNS = ("customer_id", "role", "login", "login_key", "name_key", "extension", "created_at")
LISTS = [
    *(UserFilter(sort=sort, descending=turned) for sort in UserSort for turned in (False, True)),
    *(UserFilter(mailed=mailed) for mailed in Mailed),
    UserFilter(mailed=Mailed.FAILED, descending=True),
]


@pytest.fixture
def crowded(app_context: Flask) -> Customer:
    """A customer beside another of the same size, with a few failed welcomes and many sent."""
    now = utcnow()
    customers = [make_customer(), make_customer()]
    for customer in customers:
        rows = (
            (customer.id, Role.USER, key, key, f"name {number:05}", f"{number}", now)
            for number in range(MANY)
            if (key := f"{customer.id}-{number}")
        )
        with db.engine.begin() as connection:
            load_rows(connection, table_of(User), _COLUMNS, rows)
    note_welcomes(Welcome.user_id % 3 == 0, state=WelcomeState.SENT, at=now)
    note_welcomes(Welcome.user_id % 100 == 1, state=WelcomeState.FAILED, at=now)
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if connection.dialect.name == "postgresql":  # SQLite is to find its way without.
            connection.exec_driver_sql("ANALYZE users, welcomes")
    return customers[0]


def ask(customer: Customer, wanted: UserFilter) -> list[tuple[str, Any]]:
    """The statements behind the list's first two pages."""
    actor = actor_for("landlord@foyer.example")
    with noted_statements("FROM users") as asked:
        page = list_users(actor, customer, wanted, size=SIZE)
        if page.next:
            list_users(actor, customer, wanted, size=SIZE, cursor=page.next)
    assert len(page.rows) == SIZE
    return [each for each in asked if "LIMIT" in each[0]]


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_sqlite_sorts_no_users_and_walks_through_none(crowded: Customer) -> None:
    for wanted in LISTS:
        for statement, values in ask(crowded, wanted):
            plan = sqlite_plan_of(statement, values)
            assert not [each for each in plan if "TEMP B-TREE" in each], (wanted, plan)
            assert not [each for each in plan if each.startswith("SCAN")], (wanted, plan)


@pytest.mark.parametrize("engine_name", ["sqlite"])
@pytest.mark.parametrize("sort", UserSort)
def test_sqlite_sorts_the_few_that_a_search_finds(crowded: Customer, sort: UserSort) -> None:
    for mailed in (None, Mailed.NEVER):
        wanted = UserFilter(search="name 000", mailed=mailed, sort=sort)
        for statement, values in ask(crowded, wanted):
            plan = sqlite_plan_of(statement, values)
            led = [each for each in plan if "users USING" in each or "welcomes USING" in each]
            by_id = [each for each in led if "INTEGER PRIMARY KEY" in each]
            looked_up = [each for each in led if ">?" in each and "<?" in each]
            assert len(led) == len(by_id) + len(looked_up), (wanted, plan)


@pytest.mark.parametrize("engine_name", ["sqlite"])
@pytest.mark.parametrize("mailed", [None, *Mailed])
def test_an_export_is_in_the_order_of_an_index(crowded: Customer, mailed: Mailed | None) -> None:
    actor, wanted = actor_for("landlord@foyer.example"), UserFilter(mailed=mailed)
    with noted_statements("FROM users") as asked:
        rows = list(export_users(actor, crowded, wanted))
    names = [row[2] for row in rows]
    assert names == sorted(names, key=lambda login: int(login.split("-")[1]))
    assert len(names) > SIZE
    leading = "ix_users_by_name" if mailed is None else "ix_welcomes_by_state"
    for statement, values in asked:
        plan = sqlite_plan_of(statement, values)
        assert leading in " ".join(plan), plan
        assert not [each for each in plan if "TEMP B-TREE" in each], plan


@pytest.mark.parametrize("engine_name", ["postgresql"])
def test_postgresql_looks_at_about_as_many_rows_as_it_shows(crowded: Customer) -> None:
    for wanted in LISTS:
        for statement, values in ask(crowded, wanted):
            looked_at = rows_looked_at(statement, values, "users", "welcomes")
            assert looked_at <= 3 * (SIZE + 1) + 10, (wanted, looked_at)
