"""What a new customer has to do, what its home shows, and that both cost little at any size."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import Customer, Role, User, UserStatus, Welcome, WelcomeState, table_of
from services import customer_overviews, general_parameters
from services.actors import Actor
from services.capped_counts import COUNT_CAP
from services.checklists import Task, make_checklist
from services.errors import Forbidden
from tests.support.factories import actor_for, make_bundle, make_customer, make_user, note_welcomes
from tests.support.parameters import typed
from tests.support.statements import noted_statements

OPERATOR = "operator@foyer.example"


@pytest.fixture
def customer(app_context: Flask) -> Customer:
    """A tenant as it is after its creation: with one administrator."""
    made = make_customer()
    make_user(made, role=Role.CUSTOMER_ADMIN)
    return made


@pytest.fixture
def operator(app_context: Flask) -> Actor:
    return actor_for(OPERATOR)


def done(customer: Customer) -> set[Task]:
    return {item.task for item in make_checklist(customer) if item.is_done}


def test_a_new_customer_has_everything_to_do_and_what_is_required_first(
    customer: Customer,
) -> None:
    items = make_checklist(customer)
    assert [item.task for item in items] == list(Task)
    assert [item.is_required for item in items] == [True, False, False, False]
    assert not any(item.is_done for item in items)


def test_the_mailbox_is_set_once_it_is_published(customer: Customer, operator: Actor) -> None:
    general_parameters.save_draft(operator, customer, typed(), version=0)
    assert done(customer) == set()
    general_parameters.publish(operator, customer, typed(), version=1)
    assert done(customer) == {Task.CALLBACK_FOLDER}


def test_users_are_imported_when_there_is_one_besides_administrators(customer: Customer) -> None:
    make_user(customer, status=UserStatus.DELETED)
    make_user(make_customer())
    assert done(customer) == set()
    make_user(customer, status=UserStatus.SUSPENDED)
    assert done(customer) == {Task.IMPORT_USERS}


def test_a_supervisor_is_a_user(customer: Customer) -> None:
    make_user(customer, role=Role.SUPERVISOR)
    assert done(customer) == {Task.IMPORT_USERS}


def test_welcome_mails_are_sent_when_one_to_a_user_was_accepted(customer: Customer) -> None:
    user = make_user(customer, welcome_state=WelcomeState.FAILED)
    make_user(customer, role=Role.CUSTOMER_ADMIN, welcome_state=WelcomeState.SENT)
    assert Task.WELCOME_MAILS not in done(customer)
    note_welcomes(Welcome.user_id == user.id, state=WelcomeState.SENT)
    assert Task.WELCOME_MAILS in done(customer)


def test_colleagues_are_invited_when_there_is_a_second_administrator(customer: Customer) -> None:
    make_user(customer, role=Role.CUSTOMER_ADMIN, status=UserStatus.DELETED)
    make_user(make_customer(), role=Role.CUSTOMER_ADMIN)
    assert done(customer) == set()
    make_user(customer, role=Role.CUSTOMER_ADMIN)
    assert done(customer) == {Task.INVITE_COLLEAGUES}


# --- The overview --------------------------------------------------------------------------------


def test_the_overview_counts_by_status_and_names_bundles_and_mailings(
    customer: Customer, operator: Actor
) -> None:
    for status in (UserStatus.ACTIVE, UserStatus.SUSPENDED, UserStatus.DELETED):
        make_user(customer, status=status)
    bundle = make_bundle(customer)
    make_bundle(make_customer())
    found = customer_overviews.get_overview(operator, customer)
    assert (found.active.number, found.active.is_more) == (2, False)
    assert (found.suspended.number, found.suspended.is_more) == (1, False)
    assert [each.id for each in found.bundles] == [bundle.id]
    assert found.mailings == []


def test_the_overview_stops_counting(
    customer: Customer, operator: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(customer_overviews, "COUNT_CAP", 3)
    make_user(customer)
    make_user(customer)
    exact = customer_overviews.get_overview(operator, customer).active
    assert (exact.number, exact.is_more) == (3, False)
    make_user(customer)
    more = customer_overviews.get_overview(operator, customer).active
    assert (more.number, more.is_more) == (3, True)


def test_the_overview_is_for_those_who_may_see_users(customer: Customer) -> None:
    with pytest.raises(Forbidden):
        customer_overviews.get_overview(actor_for(make_user(customer).login), customer)


# --- What it costs -------------------------------------------------------------------------------

MANY = 20_000


def rows_read(statement: str, values: Any) -> int:
    """Rows of users and their welcomes that PostgreSQL visits for a statement."""
    with db.engine.connect() as connection:
        explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}"
        (plan,) = connection.exec_driver_sql(explain, values).scalar_one()
    visited = 0
    waiting = [plan["Plan"]]
    while waiting:
        node = waiting.pop()
        waiting += node.get("Plans", [])
        if node.get("Relation Name") in {"users", "welcomes"}:
            visited += node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
    return int(visited)


@pytest.fixture
def crowded(customer: Customer) -> Customer:
    """A customer whose many users are the worst case: nobody was mailed, one administrator."""
    rows = [
        {
            "customer_id": customer.id,
            "role": Role.USER,
            "login": f"u{number}@crowd.example",
            "login_key": f"u{number}@crowd.example",
            "name_key": f"name {number:06}",
        }
        for number in range(MANY)
    ]
    with db.engine.begin() as connection:
        for start in range(0, MANY, 1000):
            connection.execute(sa.insert(table_of(User)), rows[start : start + 1000])
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for table in ("users", "welcomes"):
            connection.exec_driver_sql(f"ANALYZE {table}")
    return customer


def look(customer: Customer, operator: Actor) -> None:
    make_checklist(customer)
    customer_overviews.get_overview(operator, customer)


@pytest.mark.parametrize("engine_name", ["postgresql"])
def test_the_page_visits_few_users_however_many_there_are(
    crowded: Customer, operator: Actor
) -> None:
    with noted_statements() as asked:
        look(crowded, operator)
    visited = {statement: rows_read(statement, values) for statement, values in asked}
    assert sum(visited.values()) < 1.2 * COUNT_CAP, visited


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_the_page_finds_users_by_index(crowded: Customer, operator: Actor) -> None:
    with noted_statements() as asked:
        look(crowded, operator)
    with db.engine.connect() as connection:
        plans = {
            statement: [
                row.detail
                for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
                if "users" in row.detail or "welcomes" in row.detail
            ]
            for statement, values in asked
        }
    of_users = [line for lines in plans.values() for line in lines if "PRIMARY KEY" not in line]
    assert len(of_users) == 4, of_users  # Both counts are one statement.
    assert all("SEARCH" in line and "customer_id=?" in line for line in of_users), of_users
    assert len([line for line in of_users if "ix_users_administrators" in line]) == 1, of_users


def test_the_page_asks_a_bounded_number_of_questions(customer: Customer, operator: Actor) -> None:
    with noted_statements() as asked:
        look(customer, operator)
    assert len(asked) <= 8
