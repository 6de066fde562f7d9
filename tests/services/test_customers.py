"""The list of a group's customers: its order, its pages, its search, and what each costs."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extensions import db
from models import ApiScope, Customer, CustomerStatus, Group, fold, table_of, utcnow
from services import customers
from services.actors import Actor
from services.errors import Forbidden
from tests.support.factories import make_customer, make_group
from tests.support.statements import noted_statements

ACTOR = Actor.from_credential(1, "reader", [ApiScope.READ], all_groups=True)


@pytest.fixture
def group(app_context: Flask) -> Group:
    return make_group()


def add(group: Group, *names: str, **changes: Any) -> list[Customer]:
    return [make_customer(group_id=group.id, name=name, **changes) for name in names]


def names(group: Group, **wanted: Any) -> list[str]:
    """All pages, one after the other."""
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = customers.list_group(ACTOR, group, cursor=cursor, **wanted)
        found += [row.name for row in page.rows]
        cursor = page.next
    return found


def test_they_come_by_name_whatever_the_size_of_the_page(group: Group) -> None:
    add(group, "delta", "Alpha", "Éclair", "charlie", "Bravo")
    add(make_group(), "Another")
    expected = ["Alpha", "Bravo", "charlie", "delta", "Éclair"]
    for size in (1, 2, 3, 100):
        assert names(group, size=size) == expected
    first = customers.list_group(ACTOR, group, size=2)
    second = customers.list_group(ACTOR, group, size=2, cursor=first.next or "")
    back = customers.list_group(ACTOR, group, size=2, cursor=second.previous or "")
    assert [row.id for row in back.rows] == [row.id for row in first.rows]
    assert first.previous is None


def test_what_is_being_created_or_was_deleted_is_not_listed(group: Group) -> None:
    for status in CustomerStatus:
        add(group, f"name{status}", status=status)
    assert names(group) == ["nameactive", "namesuspended"]
    assert names(group, search="name") == ["nameactive", "namesuspended"]
    for status in customers.SHOWN_STATUSES:
        assert names(group, status=status) == [f"name{status}"]
        assert names(group, status=status, search="NAME") == [f"name{status}"]


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("berg", ["Bergmann", "Zuletzt"]),
        ("BERG", ["Bergmann", "Zuletzt"]),
        (" berg ", ["Bergmann", "Zuletzt"]),
        ("q77", ["Middle"]),
        ("mid.ex", ["Middle"]),
        ("mann", []),
        ("%", []),
        ("_", []),
        ("\\", []),
        ("a\0b", []),
        ("\ud800", []),
        ("x" * 3000, []),
    ],
)
def test_a_search_matches_from_the_start_of_each_column(
    group: Group, search: str, found: list[str]
) -> None:
    add(group, "Bergmann", short_name="bm", web_id="Q1", upn_suffix="bm.example")
    add(group, "Middle", short_name="mi", web_id="Q77", upn_suffix="mid.example")
    add(group, "Zuletzt", short_name="berg", web_id="Q2", upn_suffix="berg.example")
    add(make_group(), "Bergwerk")
    assert names(group, search=search) == found


def test_one_who_matches_several_times_is_listed_once(group: Group) -> None:
    add(group, "Same", short_name="same", web_id="SAME", upn_suffix="same.example")
    for size in (1, 25):
        assert names(group, search="same", size=size) == ["Same"]


def test_names_are_all_found_and_other_matches_up_to_the_cap(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(customers, "SEARCH_CAP", 2)
    add(group, *(f"berg{number}" for number in range(5)))
    for number in range(5):
        add(group, f"other{number}", short_name=f"berg{number}")
    found = names(group, search="berg", size=2)
    assert found == [*(f"berg{number}" for number in range(5)), "other0", "other1"]


WORDS = st.text("abÄ", min_size=1, max_size=3)


@pytest.mark.parametrize("engine_name", ["sqlite"])
@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.tuples(WORDS, WORDS, st.sampled_from(CustomerStatus)), max_size=6),
    WORDS,
    st.sampled_from([None, *customers.SHOWN_STATUSES]),
    st.integers(1, 3),
)
def test_a_search_finds_what_a_look_at_each_row_finds(
    app_context: Flask,
    rows: list[tuple[str, str, CustomerStatus]],
    search: str,
    status: CustomerStatus | None,
    size: int,
) -> None:
    group = make_group()
    for number, (name, suffix, state) in enumerate(rows):
        # Unique by what stands behind; Ä is folded in one column and absent in the other.
        ending = f"-{group.id}-{number}"
        add(group, f"{name}{ending}", upn_suffix=f"{fold(suffix)}{ending}", status=state)
    wanted = {status} if status else set(customers.SHOWN_STATUSES)
    term = fold(search)
    expected = [
        each.name
        for each in db.session.scalars(
            sa.select(Customer).where(Customer.group_id == group.id).order_by(Customer.name_key)
        )
        if each.status in wanted
        and (each.name_key.startswith(term) or each.upn_suffix.startswith(term))
    ]
    assert names(group, search=search, status=status, size=size) == expected


def test_who_may_not_read_gets_nothing(group: Group) -> None:
    writer = Actor.from_credential(1, "writer", [ApiScope.WRITE], all_groups=True)
    with pytest.raises(Forbidden):
        customers.list_group(writer, group)


# --- Cost ----------------------------------------------------------------------------------------


def fill(group: Group, number: int) -> None:
    table = table_of(Customer)
    start = db.session.scalar(sa.select(sa.func.max(Customer.id))) or 0
    rows = [
        {
            "group_id": group.id,
            "custno": 2_000_000 + start + each,
            "web_id": f"F{start + each}",
            "name": f"Filled{each:06}",
            "name_key": f"filled{start}{each:06}",
            "short_name": f"f{each}",
            "short_name_key": f"f{start}x{each}",
            "upn_suffix": f"f{start}x{each}.example",
            "status": CustomerStatus.ACTIVE,
            "created_at": utcnow(),
        }
        for each in range(number)
    ]
    for at in range(0, number, 500):
        db.session.connection().execute(sa.insert(table), rows[at : at + 500])
    db.session.commit()


def plans_of(asked: list[tuple[str, Any]]) -> str:
    explain = "EXPLAIN" if db.engine.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN"
    with db.engine.connect() as connection:
        return "\n".join(
            str(tuple(line))
            for statement, values in asked
            for line in connection.exec_driver_sql(f"{explain} {statement}", values)
        )


@pytest.mark.parametrize(
    ("wanted", "indexes", "number"),
    [
        ({}, {"ix_customers_group_id_name_key"}, 1),
        ({"status": CustomerStatus.SUSPENDED}, {"_by_name"}, 1),
        (
            {"search": "f"},
            {
                # Of the group, or of the status where that is rarer.
                "_by_name",
                "_by_short_name",
                "_by_web_id",
                "_by_upn_suffix",
            },
            3,
        ),
    ],
    ids=["all", "status", "search"],
)
def test_each_list_is_read_by_its_indexes(
    group: Group, wanted: dict[str, Any], indexes: set[str], number: int
) -> None:
    fill(group, 4000)
    fill(make_group(), 4000)
    with db.engine.begin() as connection:
        connection.exec_driver_sql("ANALYZE")
    with noted_statements() as asked:
        first = customers.list_group(ACTOR, group, size=25, **wanted)
        assert len(first.rows) == (0 if "status" in wanted else 25)
        if first.next:
            customers.list_group(ACTOR, group, size=25, cursor=first.next, **wanted)
    assert len(asked) == number * (2 if first.next else 1)
    plans = plans_of(asked)
    for index in indexes:
        assert index in plans, plans
    assert "Seq Scan on customers" not in plans
    assert "SCAN customers" not in plans
    if "search" not in wanted:
        assert "Sort" not in plans
        assert "TEMP B-TREE" not in plans
