"""The list of customers that staff sees: scope, search, filters, order, and what a page costs."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extensions import db
from models import Customer, CustomerBundle, CustomerStatus, Group, Role, UserGroup, utcnow
from services import customer_bundles, customer_states, customers, groups
from services.actors import Actor
from services.customers import CustomerFilter, CustomerSort, CustomerState
from services.errors import Forbidden
from tests.services.test_customers import fill, plans_of
from tests.support.factories import (
    actor_for,
    make_bundle,
    make_customer,
    make_group,
    make_user,
    save,
)
from tests.support.statements import noted_statements

LANDLORD = "landlord@foyer.example"
EVERYTHING = Actor(user_id=None, login="x", role=Role.LANDLORD, all_groups=True)


def operator_of(*mine: Group) -> Actor:
    user = make_user(role=Role.OPERATOR)
    for group in mine:
        save(UserGroup(user_id=user.id, group_id=group.id))
    return Actor.from_user(user)


def names(actor: Actor, *, size: int = 2, **wanted: Any) -> list[str]:
    """All pages, one after the other; and each of them once more, backwards."""
    found: list[list[str]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = customers.list_customers(actor, CustomerFilter(**wanted), size=size, cursor=cursor)
        found.append([row.name for row in page.rows])
        cursor, back = page.next, page.previous
    for expected in reversed(found[:-1]):
        page = customers.list_customers(
            actor, CustomerFilter(**wanted), size=size, cursor=back or ""
        )
        assert [row.name for row in page.rows] == expected
        back = page.previous
    return [name for page in found for name in page]


def test_an_operator_sees_his_groups_merged_by_name(app_context: Flask) -> None:
    mine = [make_group() for _ in range(3)]
    for at, name in enumerate(["Delta", "alpha", "Charlie", "bravo", "Echo", "foxtrot"]):
        make_customer(group_id=mine[at % 3].id, name=name)
    make_customer(name="Another")
    actor = operator_of(*mine)
    for size in (1, 2, 5, 100):
        assert names(actor, size=size) == [
            "alpha",
            "bravo",
            "Charlie",
            "Delta",
            "Echo",
            "foxtrot",
        ]
    assert names(actor, group_id=mine[0].id) == ["bravo", "Delta"]
    assert names(operator_of(mine[1]), group_id=mine[0].id) == []
    assert names(operator_of()) == []


def test_the_order_can_be_that_of_numbers_both_ways(app_context: Flask) -> None:
    group = make_group()
    for custno in (100, 20, 3, 1000):
        make_customer(group_id=group.id, name=f"N{custno}", custno=custno)
    actor = operator_of(group)
    sort = CustomerSort.CUSTNO
    assert names(actor, sort=sort) == ["N3", "N20", "N100", "N1000"]
    assert names(actor, sort=sort, descending=True) == ["N1000", "N100", "N20", "N3"]
    assert names(actor, descending=True) == ["N3", "N20", "N1000", "N100"]
    # No index holds what a search finds by number.
    assert names(actor, sort=sort, search="n1") == ["N100", "N1000"]


def test_states_and_bundles_are_filters(app_context: Flask) -> None:
    group = make_group()
    made = {name: make_customer(group_id=group.id, name=name) for name in ("a", "b", "c", "d")}
    bundle = make_bundle()
    actor = actor_for(LANDLORD)
    for name in ("a", "b", "d"):
        customer_bundles.assign_bundle(actor, made[name], bundle)
    customer_states.suspend_customer(actor, made["b"], reason="x")
    customer_states.delete_customer(actor, made["d"], typed_web_id=made["d"].web_id, reason="x")
    for each in (operator_of(group), EVERYTHING):
        only: dict[str, Any] = {"group_id": group.id}
        assert names(each, **only) == ["a", "b", "c", "d"]
        assert names(each, **only, state=CustomerState.ACTIVE) == ["a", "c"]
        assert names(each, **only, state=CustomerState.SUSPENDED) == ["b", "d"]
        assert names(each, **only, state=CustomerState.CLOSING) == ["d"]
        with_bundle = {"bundle_id": bundle.id, **only}
        assert names(each, **with_bundle) == ["a", "b", "d"]
        assert names(each, **with_bundle, state=CustomerState.SUSPENDED) == ["b", "d"]
        assert names(each, **with_bundle, state=CustomerState.CLOSING) == ["d"]
        assert names(each, **with_bundle, state=CustomerState.CLOSING, search="b") == []
        assert names(each, **with_bundle, search=made["a"].web_id) == ["a"]
        assert names(each, **only, bundle_id=bundle.id + 1) == []
    assert names(EVERYTHING, bundle_id=bundle.id) == ["a", "b", "d"]
    assert names(operator_of(make_group()), bundle_id=bundle.id) == []


def test_copies_that_stand_with_assignments_follow_the_customer(app_context: Flask) -> None:
    first, second = make_group(), make_group()
    customer = make_customer(group_id=first.id, name="Mover")
    bundle = make_bundle(customer)
    groups.move_customer(actor_for(LANDLORD), customer, second.id, versions=[customer.version])
    assert names(operator_of(first), bundle_id=bundle.id) == []
    assert names(operator_of(second), bundle_id=bundle.id) == ["Mover"]
    customer_states.suspend_customer(actor_for(LANDLORD), customer, reason="x")
    suspended: dict[str, Any] = {"bundle_id": bundle.id, "state": CustomerState.SUSPENDED}
    assert names(operator_of(second), **suspended) == ["Mover"]
    rows = db.session.execute(
        sa.select(CustomerBundle.name_key, CustomerBundle.group_id, CustomerBundle.status).where(
            CustomerBundle.bundle_id == bundle.id
        )
    ).all()
    assert rows == [("mover", second.id, CustomerStatus.SUSPENDED)]


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("berg", ["Bergmann", "Zuletzt"]),
        (" BERG ", ["Bergmann", "Zuletzt"]),
        ("q77", ["Middle"]),
        ("mid.ex", ["Middle"]),
        ("4711", ["Middle"]),
        ("471", []),
        ("mann", []),
        ("%", []),
        ("_", []),
        ("a\0b", []),
        ("\ud800", []),
        ("9" * 30, []),
        ("٤٧١١", ["Middle"]),
        ("x" * 3000, []),
    ],
)
def test_a_search_matches_from_the_start_of_each_column_or_a_custno(
    app_context: Flask, search: str, found: list[str]
) -> None:
    group = make_group()
    add = {"group_id": group.id}
    make_customer(name="Bergmann", short_name="bm", web_id="Q1", upn_suffix="bm.example", **add)
    make_customer(
        name="Middle", short_name="mi", web_id="Q77", upn_suffix="mid.example", custno=4711, **add
    )
    make_customer(name="Zuletzt", short_name="berg", web_id="Q2", upn_suffix="z.example", **add)
    make_customer(name="Bergwerk")
    assert names(operator_of(group), search=search) == found
    assert names(EVERYTHING, search=search, group_id=group.id) == found


def test_one_who_matches_several_times_is_listed_once(app_context: Flask) -> None:
    make_customer(name="samesame", short_name="samesame", web_id="SAMESAME")
    for size in (1, 25):
        assert names(EVERYTHING, search="samesame", size=size) == ["samesame"]


def test_who_may_not_read_gets_nothing(app_context: Flask) -> None:
    with pytest.raises(Forbidden):
        customers.list_customers(Actor(user_id=1, login="x", role=Role.CUSTOMER_ADMIN))


@pytest.mark.parametrize("engine_name", ["sqlite"])
@settings(
    deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.lists(
        st.tuples(
            st.text("abÄ", min_size=1, max_size=2),
            st.integers(0, 2),
            st.sampled_from(CustomerStatus),
            st.booleans(),
            st.booleans(),
        ),
        max_size=7,
    ),
    search=st.text("abÄ", max_size=2),
    at=st.sampled_from([None, 0, 1]),
    state=st.sampled_from([None, *CustomerState]),
    by_bundle=st.booleans(),
    sort=st.sampled_from(CustomerSort),
    descending=st.booleans(),
    size=st.integers(1, 3),
)
def test_the_list_is_what_a_look_at_each_row_says(
    app_context: Flask,
    rows: list[tuple[str, int, CustomerStatus, bool, bool]],
    search: str,
    at: int | None,
    state: CustomerState | None,
    by_bundle: bool,
    sort: CustomerSort,
    descending: bool,
    size: int,
) -> None:
    mine = [make_group() for _ in range(3)]
    actor = operator_of(*mine[:2])
    bundle = make_bundle()
    expected = []
    for number, (name, of_group, status, has_bundle, asked) in enumerate(rows):
        closing = asked and status is CustomerStatus.SUSPENDED
        made = make_customer(
            group_id=mine[of_group].id,
            name=f"{name}-{mine[0].id}-{number}",
            status=status,
            delete_after=utcnow() if closing else None,
        )
        if has_bundle:
            save(CustomerBundle(customer_id=made.id, bundle_id=bundle.id))
        wanted_status = {
            None: status in customers.SHOWN_STATUSES,
            CustomerState.ACTIVE: status is CustomerStatus.ACTIVE,
            CustomerState.SUSPENDED: status is CustomerStatus.SUSPENDED,
            CustomerState.CLOSING: closing,
        }[state]
        if (
            of_group < 2
            and at in (None, of_group)
            and wanted_status
            and (has_bundle or not by_bundle)
            and made.name_key.startswith(search.casefold())
        ):
            expected.append(made)
    wanted = CustomerFilter(
        search=search,
        group_id=None if at is None else mine[at].id,
        bundle_id=bundle.id if by_bundle else None,
        state=state,
        sort=sort,
        descending=descending,
    )
    by_number = sort is CustomerSort.CUSTNO and wanted.is_sortable
    expected.sort(key=lambda each: each.custno if by_number else each.name_key, reverse=descending)
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = customers.list_customers(actor, wanted, size=size, cursor=cursor)
        found += [row.name for row in page.rows]
        cursor = page.next
    assert found == [each.name for each in expected]


# --- Cost ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["landlord", "operator"])
@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        ({}, "by_name"),
        ({"sort": CustomerSort.CUSTNO, "descending": True}, "by_custno"),
        ({"state": CustomerState.ACTIVE}, "name"),
        ({"state": CustomerState.CLOSING}, "ix_customers_closing"),
        ({"search": "f"}, "by_upn_suffix"),
        ({"bundle_id": 1}, "ix_customer_bundles_"),
    ],
    ids=["all", "custno", "active", "closing", "search", "bundle"],
)
def test_every_part_of_a_page_is_read_by_an_index(
    app_context: Flask, who: str, wanted: dict[str, Any], index: str
) -> None:
    mine = [make_group() for _ in range(3)]
    for group in (*mine, make_group()):
        fill(group, 1500)
    bundle = make_bundle()
    for group in mine:
        customer_bundles.assign_to_many(actor_for(LANDLORD), bundle, group_id=group.id)
    actor = EVERYTHING if who == "landlord" else operator_of(*mine)
    if "bundle_id" in wanted:
        wanted = {"bundle_id": bundle.id}
    with db.engine.begin() as connection:
        connection.exec_driver_sql("ANALYZE")
    with noted_statements() as asked:
        page = customers.list_customers(actor, CustomerFilter(**wanted), size=25)
        if page.next:
            customers.list_customers(actor, CustomerFilter(**wanted), size=25, cursor=page.next)
    assert len(page.rows) == (0 if "state" in wanted and wanted["state"] == "closing" else 25)
    asked = [each for each in asked if " customer" in each[0] and "FROM user_groups" not in each[0]]
    plans = plans_of(asked)
    assert index in plans, plans
    assert "Seq Scan on customer" not in plans, plans
    of_it_alone = "SCAN customers USING INDEX ix_customers_closing_by_name"
    assert "SCAN customer" not in plans.replace(of_it_alone, ""), plans


@pytest.mark.parametrize("engine_name", ["postgresql"])
def test_a_page_of_twenty_groups_looks_at_few_rows(app_context: Flask) -> None:
    """However many customers there are in each; only PostgreSQL says how many it looked at."""
    mine = [make_group() for _ in range(20)]
    for group in mine:
        fill(group, 300)
    with db.engine.begin() as connection:
        connection.exec_driver_sql("ANALYZE")
    with noted_statements() as asked:
        customers.list_customers(operator_of(*mine), CustomerFilter(), size=25)
    (statement, values) = next(each for each in asked if "UNION ALL" in each[0])
    with db.engine.connect() as connection:
        (plan,) = connection.exec_driver_sql(
            f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", values
        ).scalar_one()
    looked_at: list[int] = []

    def walk(node: dict[str, Any]) -> None:
        if "Scan" in node["Node Type"]:
            looked_at.append(node["Actual Rows"] * node["Actual Loops"])
        for each in node.get("Plans", ()):
            walk(each)

    walk(plan["Plan"])
    assert sum(looked_at) <= 20 * 2 * 26 + 26
    assert (db.session.scalar(sa.select(sa.func.count()).select_from(Customer)) or 0) > 6000
