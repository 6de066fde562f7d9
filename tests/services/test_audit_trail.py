"""The audit trail: rows that nobody changes, what each reader sees, every filter by an index."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from sqlalchemy.exc import DBAPIError

from extensions import db
from models import AuditEvent, Customer, Role, UserGroup, table_of, utcnow
from services import audit_objects, audit_trail
from services.actors import SYSTEM, Actor
from services.audit_events import insert_event, insert_events, record_event
from services.audit_trail import AuditFilter, Change
from services.csv_export import stream_csv
from services.errors import Forbidden, NotFound
from tests.support.factories import (
    actor_for,
    make_customer,
    make_group,
    make_user,
    save,
)

LANDLORD = "landlord@foyer.example"
one_database = pytest.mark.parametrize("engine_name", ["sqlite"])
_seconds = itertools.count()


@pytest.fixture(autouse=True)
def _context(app_context: Flask) -> Iterator[None]:
    db.session.connection()
    yield
    db.session.rollback()


@pytest.fixture
def landlord() -> Actor:
    return actor_for(LANDLORD)


@pytest.fixture
def customer() -> Customer:
    """One with a past."""
    return make_customer(created_at=datetime(2020, 1, 1, tzinfo=UTC))


def note(
    action: str = "thing.changed",
    *,
    by: Actor = SYSTEM,
    of: Customer | None = None,
    at: datetime | None = None,
    to: tuple[str, int] | None = None,
    **detail: Any,
) -> int:
    """An event; without a time, a second after the one before. Returns its number."""
    at = at or datetime(2026, 5, 1, tzinfo=UTC) + timedelta(seconds=next(_seconds))
    insert_event(
        db.session.connection(),
        by,
        action,
        customer_id=of.id if of else None,
        object_type=to[0] if to else "",
        object_id=to[1] if to else None,
        detail=detail,
        at=at,
    )
    db.session.commit()
    return db.session.scalars(sa.select(sa.func.max(AuditEvent.id))).one()


def numbers(reader: Actor, within: Customer | None = None, /, **wanted: Any) -> list[int]:
    """Of the events that a reader finds, page for page, those that this test has noted."""
    shown = AuditFilter(**wanted)
    found: list[int] = []
    cursor: str | None = ""
    while cursor is not None:
        page = audit_trail.list_events(reader, shown, customer=within, size=2, cursor=cursor)
        found += [event.id for event in page.rows if event.action.startswith("thing.")]
        cursor = page.next
    return found


def somebody(login: str) -> Actor:
    return Actor(user_id=None, login=login, role=None)


def operator_of(*group_ids: int) -> Actor:
    user = make_user(role=Role.OPERATOR)
    for each in group_ids:
        save(UserGroup(user_id=user.id, group_id=each))
    return Actor.from_user(user)


# --- Append-only -----------------------------------------------------------------------------


def refused(statement: str, **values: Any) -> None:
    with pytest.raises(DBAPIError, match="audit_events takes new rows alone"):
        db.session.execute(sa.text(statement), values)
    db.session.rollback()


def test_no_row_is_changed_or_taken_away() -> None:
    kept = note(secret="no")
    refused("UPDATE audit_events SET actor_login = 'somebody else' WHERE id = :kept", kept=kept)
    refused("UPDATE audit_events SET detail = '{}'")
    refused("DELETE FROM audit_events WHERE id = :kept", kept=kept)
    refused("DELETE FROM audit_events")
    if db.engine.dialect.name == "postgresql":
        refused("TRUNCATE audit_events")
        refused("TRUNCATE audit_events CASCADE")
        refused(
            "INSERT INTO audit_events SELECT * FROM audit_events WHERE id = :kept "
            "ON CONFLICT (id) DO UPDATE SET action = 'thing.undone'",
            kept=kept,
        )
    else:
        refused(
            "INSERT OR REPLACE INTO audit_events SELECT * FROM audit_events WHERE id = :kept",
            kept=kept,
        )
        refused("REPLACE INTO audit_events SELECT * FROM audit_events WHERE id = :kept", kept=kept)
        refused("UPDATE OR IGNORE audit_events SET action = 'a.b' WHERE id = :kept", kept=kept)
    event = db.session.get_one(AuditEvent, kept)
    assert (event.action, event.detail) == ("thing.changed", {"secret": "no"})


def test_what_is_gone_stays_on_record(customer: Customer, landlord: Actor) -> None:
    kept = note(of=customer, to=("customer", customer.id))
    db.session.execute(sa.delete(Customer).where(Customer.id == customer.id))
    db.session.commit()
    event = audit_trail.get_event(landlord, kept)
    assert event.customer_id == customer.id
    assert audit_trail.find_customers_of(landlord, [event]) == {}
    assert audit_objects.find_objects([event]) == {}


# --- Writing -----------------------------------------------------------------------------------


def test_an_event_has_actor_person_represented_address_and_group(customer: Customer) -> None:
    acting = replace(
        actor_for("operator@foyer.example"), behalf_id=7, behalf_login="admin@customer.example"
    )
    record_event(acting, "thing.changed", customer_id=customer.id, detail={"after": {"a": 1}})
    insert_events(
        db.session.connection(),
        acting,
        "thing.changed",
        customer_id=customer.id,
        object_type="user",
        details={5: {}, 6: {}},
    )
    db.session.commit()
    events = db.session.scalars(
        sa.select(AuditEvent).where(AuditEvent.action == "thing.changed").order_by(AuditEvent.id)
    ).all()
    assert [event.object_id for event in events] == [None, 5, 6]
    for event in events:
        assert event.group_id == customer.group_id
        assert (event.actor_login, event.address) == ("operator@foyer.example", "192.0.2.1")
        assert (event.behalf_id, event.behalf_login) == (7, "admin@customer.example")
        assert utcnow() - event.at < timedelta(minutes=1)


def test_a_group_is_given_where_there_is_no_customer() -> None:
    group = make_group()
    record_event(SYSTEM, "thing.changed", group_id=group.id)
    db.session.commit()
    mine, other = operator_of(group.id), operator_of(make_group().id)
    assert len(numbers(mine)) == 1
    assert numbers(other) == []


def test_a_login_that_grows_by_folding_fits() -> None:
    note(by=somebody("ﷺ" * 320))
    key = db.session.scalars(sa.select(AuditEvent.actor_key).order_by(AuditEvent.id.desc())).first()
    assert key is not None
    assert len(key) == 320


# --- Who sees what -------------------------------------------------------------------------------


def test_operators_see_their_groups_and_what_they_did_themselves(
    landlord: Actor, customer: Customer
) -> None:
    other = make_customer(created_at=customer.created_at)
    mine, stranger = operator_of(customer.group_id), operator_of(other.group_id)
    in_group = note(of=customer, by=stranger)
    outside = note(of=other, by=somebody("else"))
    own = note(by=mine)
    own_in_group = note(of=customer, by=mine)
    nowhere = note(by=somebody("else"))
    assert numbers(mine) == [own_in_group, own, in_group]
    assert numbers(stranger) == [outside, in_group]
    assert numbers(landlord) == [nowhere, own_in_group, own, outside, in_group]
    for filters in (
        {"action": "thing.changed"},
        {"since": date(2026, 5, 1)},
        {"search": "", "actor": ""},
    ):
        assert numbers(mine, **filters) == [own_in_group, own, in_group], filters
    assert numbers(mine, actor="else") == []
    assert numbers(mine, search=other.web_id) == []
    assert numbers(mine, web_id=other.web_id) == []
    assert numbers(mine, web_id=customer.web_id.lower()) == [own_in_group, in_group]
    assert audit_trail.get_event(mine, own).id == own
    for hidden in (outside, nowhere, 2**63 - 1):
        with pytest.raises(NotFound):
            audit_trail.get_event(mine, hidden)


def test_a_namesake_of_former_times_is_not_oneself() -> None:
    mine = operator_of(make_group().id)
    before = replace(mine, user_id=10**9)
    note(by=before)
    assert numbers(mine) == []


def test_who_works_for_no_group_sees_what_he_did() -> None:
    mine = operator_of()
    own = note(by=mine)
    note(by=somebody("else"))
    assert numbers(mine) == [own]


def test_a_customers_trail_is_its_own(customer: Customer, landlord: Actor) -> None:
    admin = Actor.from_user(make_user(customer, role=Role.CUSTOMER_ADMIN))
    other = make_customer(created_at=customer.created_at)
    mine, theirs = note(of=customer), note(of=other)
    note(by=admin)
    assert numbers(admin, customer) == [mine]
    assert numbers(landlord, customer) == [mine]
    assert numbers(admin, customer, web_id=other.web_id) == [mine], "the page decides, not the URL"
    assert audit_trail.get_event(admin, mine, customer).id == mine
    with pytest.raises(NotFound):
        audit_trail.get_event(admin, theirs, customer)
    assert numbers(admin) == [], "no scope beyond the customer"
    with pytest.raises(NotFound):
        audit_trail.get_event(admin, mine)


def test_a_customer_with_the_number_of_one_that_is_gone_starts_anew(
    customer: Customer, landlord: Actor
) -> None:
    """SQLite gives the number of the newest row again when that row is deleted."""
    old = note(of=customer, to=("customer", customer.id), at=customer.created_at)
    customer.created_at = customer.created_at + timedelta(seconds=1)
    db.session.commit()
    admin = Actor.from_user(make_user(customer, role=Role.CUSTOMER_ADMIN))
    assert numbers(admin, customer) == []
    with pytest.raises(NotFound):
        audit_trail.get_event(admin, old, customer)
    event = audit_trail.get_event(landlord, old)
    assert audit_trail.find_customers_of(landlord, [event]) == {}
    assert audit_objects.find_objects([event]) == {}
    assert numbers(landlord, search=customer.web_id) == []


@one_database
@pytest.mark.parametrize("role", [Role.USER, Role.PROSPECT, Role.SUPERVISOR])
def test_others_read_nothing(role: Role, customer: Customer) -> None:
    actor = Actor.from_user(make_user(None if role is Role.PROSPECT else customer, role=role))
    event = note(of=customer)
    for read in (
        lambda: audit_trail.list_events(actor, AuditFilter(), customer=customer),
        lambda: audit_trail.get_event(actor, event, customer),
        lambda: audit_trail.export_events(actor, AuditFilter(), customer=customer),
    ):
        with pytest.raises(Forbidden):
            read()


def test_where_staff_work_is_not_for_customers(customer: Customer, landlord: Actor) -> None:
    boss = make_user(customer, role=Role.CUSTOMER_ADMIN)
    admin = replace(Actor.from_user(boss), address="198.51.100.7")
    represented = replace(landlord, behalf_id=boss.id, behalf_login=boss.login)
    credential = replace(somebody("api:billing"), address="203.0.113.9")
    ids = [note(of=customer, by=each) for each in (admin, landlord, represented, credential)]
    events = [db.session.get_one(AuditEvent, each) for each in ids]
    assert audit_trail.find_shown_addresses(admin, events) == {ids[0]: "198.51.100.7"}
    assert set(audit_trail.find_shown_addresses(landlord, events)) == set(ids)
    rows = list(audit_trail.export_events(admin, AuditFilter(), customer=customer))
    assert "192.0.2.1" not in repr(rows)
    assert "203.0.113.9" not in repr(rows)
    assert "198.51.100.7" in repr(rows)


def test_customers_are_not_told_why_a_run_failed(customer: Customer, landlord: Actor) -> None:
    admin = Actor.from_user(make_user(customer, role=Role.CUSTOMER_ADMIN))
    failed = note(
        of=customer, to=("request", 1), reason="mgmt-7.internal", after={"state": "failed"}
    )
    event = db.session.get_one(AuditEvent, failed)
    assert audit_trail.shown_detail(admin, event) == {"after": {"state": "failed"}}
    assert "reason" in audit_trail.shown_detail(landlord, event)
    rows = list(audit_trail.export_events(admin, AuditFilter(), customer=customer))
    assert "mgmt-7" not in repr(rows)


# --- Filters -------------------------------------------------------------------------------------


def test_every_filter_and_every_two_of_them(landlord: Actor, customer: Customer) -> None:
    """Against the same question asked of all rows in Python."""
    other = make_customer(created_at=customer.created_at)
    user = make_user(customer)
    group_reader = operator_of(customer.group_id)
    admin = Actor.from_user(make_user(customer, role=Role.CUSTOMER_ADMIN))
    plain = somebody("zoe@x.example")
    acting = replace(somebody("zoltan@x.example"), behalf_id=user.id, behalf_login=user.login)
    days = [datetime(2026, 5, 10 + day, 23, 59, 59, tzinfo=UTC) for day in range(3)]
    for place, (by, of, at, action) in enumerate(
        itertools.product(
            (plain, acting), (None, customer, other), days, ("thing.made", "thing.changed")
        )
    ):
        to = ("user", user.id) if place % 3 == 0 else ("mailing", place)
        note(action, by=by, of=of, at=at, to=to)
    rows = db.session.scalars(
        sa.select(AuditEvent)
        .where(AuditEvent.action.like("thing.%"))
        .order_by(AuditEvent.at.desc(), AuditEvent.id.desc())
    ).all()
    filters: dict[tuple[str, Any], Any] = {
        ("actor", "zo"): lambda row: True,
        ("actor", "ZOLT"): lambda row: row.actor_login.startswith("zolt"),
        ("action", "thing.made"): lambda row: row.action == "thing.made",
        ("action", "thing.ended"): lambda row: False,
        ("on_behalf", True): lambda row: row.behalf_id is not None,
        ("since", date(2026, 5, 11)): lambda row: row.at >= datetime(2026, 5, 11, tzinfo=UTC),
        ("until", date(2026, 5, 11)): lambda row: row.at < datetime(2026, 5, 12, tzinfo=UTC),
        ("until", date.max): lambda row: True,
        ("search", "zoe@"): lambda row: row.actor_login.startswith("zoe@"),
        ("search", user.login[:9]): lambda row: row.object_type == "user",
        ("search", "#7"): lambda row: (row.object_type, row.object_id) == ("mailing", 7),
        ("search", "nobody"): lambda row: False,
    }
    of_object = lambda row: (row.object_type, row.object_id) == ("user", user.id)  # noqa: E731
    places = {
        "landlord": (landlord, None, lambda row: True),
        "operator": (group_reader, None, lambda row: row.group_id == customer.group_id),
        "admin": (admin, customer, lambda row: row.customer_id == customer.id),
    }
    for who, (reader, within, sees) in places.items():
        seen = [row for row in rows if sees(row)]
        assert numbers(reader, within) == [row.id for row in seen], who
        for (one, a), (two, b) in itertools.product(filters, repeat=2):
            if one == two and a != b:
                continue
            matching = [r.id for r in seen if filters[one, a](r) and filters[two, b](r)]
            assert numbers(reader, within, **{one: a, two: b}) == matching, (who, one, a, two, b)
        for (name, value), fits in filters.items():
            wanted = {"object_type": "user", "object_id": user.id, name: value}
            matching = [r.id for r in seen if of_object(r) and fits(r)]
            assert numbers(reader, within, **wanted) == matching, (who, name, value)


def test_pages_go_forth_and_back(landlord: Actor, customer: Customer) -> None:
    ids = [note(of=customer, at=datetime(2026, 5, 2, tzinfo=UTC)) for _ in range(7)][::-1]
    wanted = AuditFilter(web_id=customer.web_id)

    def page(cursor: str = "") -> Any:
        return audit_trail.list_events(landlord, wanted, size=3, cursor=cursor)

    first = page()
    assert [row.id for row in first.rows] == ids[:3]
    assert first.previous is None
    second = page(first.next)
    third = page(second.next)
    assert [row.id for row in [*second.rows, *third.rows]] == ids[3:]
    assert third.next is None
    assert [row.id for row in page(third.previous).rows] == ids[3:6]
    assert [row.id for row in page(second.previous).rows] == ids[:3]


def test_a_page_ends_where_it_was_looked_and_the_next_goes_on(
    landlord: Actor, customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two filters that no index knows together: few of very many events match."""
    monkeypatch.setattr(audit_trail, "SCAN_CAP", 10)
    rare = [note(of=customer, by=somebody("rare@x.example")) for _ in range(2)]
    for _ in range(25):
        note(of=customer)
    rare.append(note(of=customer, by=somebody("rare@x.example")))
    wanted = AuditFilter(web_id=customer.web_id, actor="rare")

    def page(cursor: str = "") -> Any:
        return audit_trail.list_events(landlord, wanted, size=2, cursor=cursor)

    first = page()
    assert [row.id for row in first.rows] == [rare[2]]
    assert first.reached is not None
    second = page(first.next)
    assert (second.rows, second.previous) == ([], None)
    assert second.reached < first.reached
    third = page(second.next)
    assert [row.id for row in third.rows] == rare[1::-1]
    assert (third.next, third.reached) == (None, None)
    assert numbers(landlord, web_id=customer.web_id, actor="rare") == rare[::-1]
    back = page(third.previous)
    assert back.rows == []
    assert back.previous
    assert [row.id for row in page(page(back.previous).previous or "").rows] == [rare[2]]


def test_actors_that_begin_alike_are_found_up_to_a_number(
    landlord: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_trail, "MOST_ACTORS", 3)
    ids = [note(by=somebody(f"like{each}@x.example")) for each in range(4)]
    page = audit_trail.list_events(landlord, AuditFilter(actor="like"))
    assert page.is_cut
    assert {row.id for row in page.rows} == set(ids[:3])
    assert not audit_trail.list_events(landlord, AuditFilter(actor="like3")).is_cut


@pytest.mark.parametrize(
    "text", ["\0", "\ud800", "%", "_", "\U0010ffff", "x" * 5000, "#", "#9" * 30, "# 1", "'"]
)
def test_texts_that_nobody_has_find_nothing(landlord: Actor, customer: Customer, text: str) -> None:
    note(of=customer)
    for name in ("search", "actor", "action", "web_id"):
        assert numbers(landlord, **{name: text}) == []
    assert numbers(landlord, customer, search=text) == []


def test_actions_are_listed_once(landlord: Actor) -> None:
    for action in ("thing.made", "thing.changed", "thing.made"):
        note(action)
    listed = audit_trail.list_actions()
    assert [each for each in listed if each.startswith("thing.")] == ["thing.changed", "thing.made"]
    assert listed == sorted(set(listed))


# --- One event -----------------------------------------------------------------------------------


def test_changes_are_told_field_by_field() -> None:
    detail = {"before": {"a": 1, "b": 2}, "after": {"b": 3, "c": 4}, "reason": "why"}
    assert audit_trail.changes_in(detail) == (
        [Change("a", 1, None), Change("b", 2, 3), Change("c", None, 4)],
        {"reason": "why"},
    )
    assert audit_trail.changes_in({"after": {"a": 1}}) == ([Change("a", None, 1)], {})
    assert audit_trail.changes_in({"before": None, "after": "x"}) == ([Change("", None, "x")], {})
    assert audit_trail.changes_in({"number": 3}) == ([], {"number": 3})
    assert audit_trail.changes_in({}) == ([], {})


def test_objects_are_named_as_they_are_now(landlord: Actor, customer: Customer) -> None:
    user = make_user(customer, created_at=customer.created_at)
    ids = [note(to=("user", user.id)), note(to=("user", 10**12)), note(to=("thing", 1)), note()]
    events = [db.session.get_one(AuditEvent, each) for each in ids]
    named = audit_objects.find_objects(events)
    assert set(named) == {ids[0]}
    assert named[ids[0]].name == user.login
    assert named[ids[0]].customer_id == customer.id


# --- Export ----------------------------------------------------------------------------------


def test_the_export_is_what_the_filters_show_and_harmless(
    landlord: Actor, customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_trail, "_EXPORTED_AT_ONCE", 2)
    evil = "=cmd|' /C calc'!A0"
    ids = [note(of=customer, by=somebody(evil), before={"name": evil}) for _ in range(5)]
    note(by=somebody("else"))
    wanted = AuditFilter(web_id=customer.web_id)
    rows = audit_trail.export_events(landlord, wanted)
    text = "".join(stream_csv(audit_trail.EXPORT_HEADER, rows)).lstrip("\ufeff")
    header, *lines = csv.reader(io.StringIO(text))
    assert tuple(header) == audit_trail.EXPORT_HEADER
    assert [int(line[0]) for line in lines] == ids[::-1]
    assert {line[3] for line in lines} == {f"'{evil}"}
    assert lines[0][6] == customer.web_id
    assert lines[0][9] == f'{{"name": "{evil}"}}'
    (event,) = db.session.scalars(
        sa.select(AuditEvent).where(AuditEvent.action == "audit_trail.exported")
    ).all()
    assert (event.actor_login, event.detail) == (LANDLORD, {"filtered": True})
    everything = list(audit_trail.export_events(landlord, AuditFilter()))
    assert everything[0][2] != "audit_trail.exported" or everything[0][0] == str(event.id)
    assert str(event.id + 1) not in {row[0] for row in everything}, "it does not tell of itself"


# --- Cost ----------------------------------------------------------------------------------------


def test_each_filter_is_served_by_its_index(landlord: Actor, customer: Customer) -> None:
    _add_many([customer.id, *range(10**6, 10**6 + 60)])
    reader = operator_of(customer.group_id)
    indexes: dict[str, tuple[Actor, dict[str, Any]]] = {
        "by_time": (landlord, {}),
        "by_actor": (landlord, {"actor": "many3"}),
        "by_action": (landlord, {"action": "thing.made"}),
        "of_customer": (landlord, {"web_id": customer.web_id}),
        "of_customer_by_action": (
            landlord,
            {"web_id": customer.web_id, "action": "thing.made"},
        ),
        "of_group": (reader, {}),
        "of_group_by_action": (reader, {"action": "thing.made"}),
        "of_object": (landlord, {"object_type": "user", "object_id": 5}),
        "on_behalf": (landlord, {"on_behalf": True}),
    }
    for name, (actor, wanted) in indexes.items():
        plans = _plans(actor, AuditFilter(**wanted))
        lists = [plan for plan in plans if f"ix_audit_events_{name}" in plan]
        assert lists, (name, plans)
        for plan in plans:
            assert "Seq Scan on audit_events" not in plan, (name, plan)
            assert "SCAN audit_events\n" not in f"{plan}\n", (name, plan)


def _add_many(customers: list[int]) -> None:
    table = table_of(AuditEvent)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    rows: list[dict[str, Any]] = [
        {
            "at": start + timedelta(seconds=each),
            "actor_login": f"many{each % 50}",
            "actor_key": f"many{each % 50}",
            "action": f"thing.done{each % 40:02}" if each % 9 else "thing.made",
            "customer_id": customers[each % len(customers)],
            "group_id": each % 17,
            "object_type": "user",
            "object_id": each % 2000,
            "behalf_id": each if each % 100 == 0 else None,
            "address": "",
            "detail": {},
        }
        for each in range(20_000)
    ]
    connection = db.session.connection()
    for start_at in range(0, len(rows), 1000):
        connection.execute(sa.insert(table), rows[start_at : start_at + 1000])
    db.session.commit()
    connection = db.session.connection()
    connection.exec_driver_sql("ANALYZE")
    db.session.commit()


def _plans(actor: Actor, wanted: AuditFilter) -> list[str]:
    """How the database goes about each statement that lists events."""
    asked: list[tuple[str, Any]] = []

    def listen(_c: Any, _u: Any, statement: str, parameters: Any, _x: Any, _m: bool) -> None:
        if "audit_events" in statement and statement.lstrip().startswith(("SELECT", "WITH")):
            asked.append((statement, parameters))

    sa.event.listen(db.engine, "before_cursor_execute", listen)
    try:
        audit_trail.list_events(actor, wanted)
    finally:
        sa.event.remove(db.engine, "before_cursor_execute", listen)
    explain = "EXPLAIN" if db.engine.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN"
    connection = db.session.connection()
    plans = []
    for statement, parameters in asked:
        rows = connection.exec_driver_sql(f"{explain} {statement}", parameters).all()
        plans.append("\n".join(str(row[-1]) for row in rows))
    return plans
