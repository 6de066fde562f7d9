"""Suppressed addresses: whose they are, what is told of them, and how they are cleared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import AuditEvent, Customer, Suppression, User, UserStatus
from services import suppressions
from services.bounces import record_bounce
from services.errors import Conflict, Forbidden, InvalidInput, NotFound
from tests.support import dsns
from tests.support.bounces import ADMIN, address_of, send_welcome
from tests.support.factories import actor_for, find_customer, make_user, save

OTHER_ADMIN = "prphlAdmin@harborlight.example"


@pytest.fixture(autouse=True)
def kenton(app_context: Flask) -> Customer:
    """CQ001, with no address suppressed."""
    db.session.execute(sa.delete(Suppression))
    db.session.commit()
    return find_customer("CQ001")


def suppress(address: str, reason: str = "The mailbox does not exist.") -> int:
    row: Suppression = save(Suppression(email_key=address, reason=reason))
    return row.id


def listed(customer: Customer, **wanted: str) -> list[str]:
    page = suppressions.list_suppressed(actor_for(ADMIN), customer, **wanted)  # type: ignore[arg-type]
    return [each.address for each in page.rows]


def test_a_customer_sees_the_addresses_that_its_own_users_have(kenton: Customer) -> None:
    harborlight = find_customer("CQ002")
    make_user(kenton, email="Own@x.example")
    make_user(harborlight, email="other@x.example")
    for address in ("own@x.example", "other@x.example", "nobody@x.example"):
        suppress(address)
    assert listed(kenton) == ["own@x.example"]
    assert listed(harborlight) == ["other@x.example"]


def test_an_address_is_listed_once_with_everybody_who_has_it(kenton: Customer) -> None:
    for name in ("Zoe", "Ada"):
        make_user(kenton, email="both@x.example", first_name=name, last_name="X")
    make_user(kenton, email="both@x.example", first_name="Del", status=UserStatus.DELETED)
    make_user(find_customer("CQ002"), email="both@x.example", first_name="Stranger")
    suppress("both@x.example")
    (row,) = suppressions.list_suppressed(actor_for(ADMIN), kenton).rows
    assert [user.first_name for user in row.users] == ["Ada", "Zoe"]


def test_the_address_of_a_deleted_user_alone_is_not_listed(kenton: Customer) -> None:
    make_user(kenton, email="gone@x.example", status=UserStatus.DELETED)
    suppress("gone@x.example")
    assert listed(kenton) == []


def test_the_mail_that_came_back_is_told_to_its_own_customer_only(kenton: Customer) -> None:
    """Another customer's user with the same address: its mail is none of theirs."""
    harborlight = find_customer("CQ002")
    delivery_id = send_welcome(make_user(kenton, email="both@x.example"))
    make_user(harborlight, email="both@x.example")
    record_bounce(dsns.postfix(address_of(delivery_id)), None)
    (own,) = suppressions.list_suppressed(actor_for(ADMIN), kenton).rows
    assert own.delivery is not None
    assert own.delivery.id == delivery_id
    (others,) = suppressions.list_suppressed(actor_for(OTHER_ADMIN), harborlight).rows
    assert others.delivery is None
    assert others.reason == own.reason == "The mailbox does not exist."


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("", ["ada@x.example", "bob@y.example"]),
        ("ada@", ["ada@x.example"]),
        ("ADA@X.example", ["ada@x.example"]),
        ("gra", ["ada@x.example"]),
        ("hop", ["ada@x.example"]),
        ("bobs.log", ["bob@y.example"]),
        ("x.example", []),
        ("%", []),
        ("😀", []),
    ],
)
def test_search_is_by_the_start_of_address_name_or_login(
    kenton: Customer, search: str, found: list[str]
) -> None:
    make_user(kenton, email="ada@x.example", first_name="Grace", last_name="Hopper")
    make_user(kenton, email="bob@y.example", login="bobs.login@x.example")
    for address in ("ada@x.example", "bob@y.example"):
        suppress(address)
    assert listed(kenton, search=search) == found


def test_pages_show_every_address_once_in_order_both_ways(kenton: Customer) -> None:
    wanted = [f"u{number:03}@x.example" for number in range(60)]
    for address in wanted:
        make_user(kenton, email=address)
        suppress(address)
    actor, cursor, seen = actor_for(ADMIN), "", []
    while True:
        page = suppressions.list_suppressed(actor, kenton, size=25, cursor=cursor)
        seen.append([each.address for each in page.rows])
        if page.next is None:
            break
        cursor = page.next
    assert sum(seen, []) == wanted  # noqa: RUF017
    back = suppressions.list_suppressed(actor, kenton, size=25, cursor=page.previous or "")
    assert [each.address for each in back.rows] == seen[-2]


def test_a_page_asks_a_bounded_number_of_questions(kenton: Customer) -> None:
    for number in range(25):
        make_user(kenton, email=f"u{number}@x.example")
        suppress(f"u{number}@x.example")
    actor = actor_for(ADMIN)
    asked: list[str] = []

    def note(_c: object, _cursor: object, statement: str, *_rest: object) -> None:
        asked.append(statement)

    sa.event.listen(db.engine, "before_cursor_execute", note)
    try:
        page = suppressions.list_suppressed(actor, kenton)
        assert [each.users[0].full_name for each in page.rows]
    finally:
        sa.event.remove(db.engine, "before_cursor_execute", note)
    assert len(asked) <= 3


@pytest.mark.parametrize("engine_name", ["sqlite"])
@pytest.mark.parametrize("search", ["", "ada"])
def test_users_are_looked_up_never_walked(kenton: Customer, search: str) -> None:
    """However many a customer has: the suppressed addresses are few."""
    delivery_id = send_welcome(make_user(kenton, email="ada@x.example"))
    record_bounce(dsns.postfix(address_of(delivery_id)), None)
    actor = actor_for(ADMIN)
    asked: list[tuple[str, Any]] = []

    def note(_c: object, _cursor: object, statement: str, values: object, *_rest: object) -> None:
        asked.append((statement, values))

    sa.event.listen(db.engine, "before_cursor_execute", note)
    try:
        (row,) = suppressions.list_suppressed(actor, kenton, search=search).rows
    finally:
        sa.event.remove(db.engine, "before_cursor_execute", note)
    assert row.delivery is not None
    assert len(asked) == 3
    with db.engine.connect() as connection:
        plans = [
            each.detail
            for statement, values in asked
            for each in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
        ]
    of_users = [line for line in plans if "users" in line]
    assert len(of_users) == 3
    for line in of_users:
        assert "SEARCH" in line, plans
        assert "email_key=?" in line or "PRIMARY KEY" in line, plans


# --- One user ----------------------------------------------------------------------------------


def test_a_users_suppression_is_that_of_the_address_he_has_now(kenton: Customer) -> None:
    actor, user = actor_for(ADMIN), make_user(kenton, email="ada@x.example")
    assert suppressions.find_suppression_of(actor, kenton, user) is None
    suppress("ada@x.example")
    found = suppressions.find_suppression_of(actor, kenton, user)
    assert found is not None
    assert found.address == "ada@x.example"
    user.email = user.email_key = ""
    db.session.commit()
    assert suppressions.find_suppression_of(actor, kenton, user) is None


# --- Clearing ----------------------------------------------------------------------------------


def events() -> list[AuditEvent]:
    query = sa.select(AuditEvent).where(AuditEvent.action == "suppression.cleared")
    return list(db.session.scalars(query.order_by(AuditEvent.id)))


def left() -> set[str]:
    return set(db.session.scalars(sa.select(Suppression.email_key)))


def test_clearing_is_audited_and_lets_mail_go_again(kenton: Customer) -> None:
    delivery_id = send_welcome(make_user(kenton, email="ada@x.example"))
    record_bounce(dsns.postfix(address_of(delivery_id)), None)
    kept = suppress("kept@x.example")
    make_user(kenton, email="kept@x.example")
    row = db.session.scalars(sa.select(Suppression).where(Suppression.id != kept)).one()
    cleared = suppressions.clear_suppressions(actor_for(ADMIN), kenton, [row.id])
    assert [each.address for each in cleared] == ["ada@x.example"]
    assert left() == {"kept@x.example"}
    (event,) = events()
    assert (event.actor_login, event.customer_id) == (ADMIN, kenton.id)
    assert (event.object_type, event.object_id) == ("suppression", row.id)
    assert event.detail == {"email": "ada@x.example", "reason": "The mailbox does not exist."}


def test_what_is_not_the_customers_is_not_cleared(kenton: Customer) -> None:
    make_user(find_customer("CQ002"), email="other@x.example")
    make_user(kenton, email="own@x.example")
    other, own = suppress("other@x.example"), suppress("own@x.example")
    actor = actor_for(ADMIN)
    with pytest.raises(NotFound):
        suppressions.clear_suppressions(actor, kenton, [other, 999_999])
    assert left() == {"other@x.example", "own@x.example"}
    cleared = suppressions.clear_suppressions(actor, kenton, [other, own])
    assert [each.address for each in cleared] == ["own@x.example"]
    assert left() == {"other@x.example"}
    assert len(events()) == 1


def test_clearing_twice_is_told(kenton: Customer) -> None:
    make_user(kenton, email="own@x.example")
    own, actor = suppress("own@x.example"), actor_for(ADMIN)
    suppressions.clear_suppressions(actor, kenton, [own])
    with pytest.raises(NotFound, match="not suppressed any more"):
        suppressions.clear_suppressions(actor, kenton, [own])
    assert len(events()) == 1


@pytest.mark.parametrize(("ids", "said"), [([], "No address"), (range(1, 102), "101 addresses")])
def test_none_and_too_many_are_refused(kenton: Customer, ids: list[int], said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as refused:
        suppressions.clear_suppressions(actor_for(ADMIN), kenton, list(ids))
    assert refused.value.field == "address"


# --- Adding ------------------------------------------------------------------------------------


def add(customer: Customer, address: str, reason: str = "By request.", login: str = ADMIN) -> int:
    return suppressions.add_suppression(actor_for(login), customer, address, reason).id


def test_adding_is_audited_and_holds_for_whoever_has_the_address(kenton: Customer) -> None:
    harborlight = find_customer("CQ002")
    for customer in (kenton, harborlight):
        make_user(customer, email="Both@x.example")
    added = add(kenton, " BOTH@x.example ")
    assert listed(kenton) == listed(harborlight) == ["both@x.example"]
    event = db.session.scalars(sa.select(AuditEvent).order_by(AuditEvent.id.desc())).first()
    assert event is not None
    assert (event.action, event.object_id) == ("suppression.added", added)
    assert event.customer_id == kenton.id
    assert event.detail == {"email": "both@x.example", "reason": "By request."}


def test_what_is_not_the_customers_or_no_text_is_not_added(kenton: Customer) -> None:
    make_user(kenton, email="own@x.example")
    make_user(kenton, email="gone@x.example", status=UserStatus.DELETED)
    make_user(find_customer("CQ002"), email="other@x.example")
    for address in ("other@x.example", "gone@x.example", "nobody@x.example", "", "a\0", "\ud800"):
        with pytest.raises(InvalidInput) as refused:
            add(kenton, address)
        assert refused.value.field == "address"
    for reason in ("", "  ", "x" * 256):
        with pytest.raises(InvalidInput) as refused:
            add(kenton, "own@x.example", reason)
        assert refused.value.field == "reason"
    assert left() == set()


def test_an_address_that_is_suppressed_keeps_its_first_reason(kenton: Customer) -> None:
    make_user(kenton, email="own@x.example")
    add(kenton, "own@x.example", "First.")
    with pytest.raises(Conflict):
        add(kenton, "own@x.example", "Second.")
    (row,) = suppressions.list_suppressed(actor_for(ADMIN), kenton).rows
    assert row.reason == "First."


def test_who_reads_only_cannot_add(kenton: Customer) -> None:
    make_user(kenton, email="own@x.example")
    for login in ("auditor@foyer.example", "camille.gruber@kenton-electronics.com"):
        with pytest.raises(Forbidden):
            add(kenton, "own@x.example", login=login)
    add(kenton, "own@x.example", login="operator@foyer.example")


@pytest.mark.parametrize(
    ("login", "may_read", "may_clear"),
    [
        ("landlord@foyer.example", True, True),
        ("operator@foyer.example", True, True),
        ("auditor@foyer.example", True, False),
        (ADMIN, True, True),
        ("camille.gruber@kenton-electronics.com", False, False),
    ],
)
def test_roles(kenton: Customer, login: str, may_read: bool, may_clear: bool) -> None:
    make_user(kenton, email="own@x.example")
    own, actor = suppress("own@x.example"), actor_for(login)
    user = db.session.scalars(sa.select(User).where(User.email_key == "own@x.example")).one()

    def is_allowed(act: Callable[[], object]) -> bool:
        try:
            act()
        except Forbidden:
            return False
        return True

    assert is_allowed(lambda: suppressions.list_suppressed(actor, kenton)) is may_read
    assert is_allowed(lambda: suppressions.find_suppression_of(actor, kenton, user)) is may_read
    assert is_allowed(lambda: suppressions.get_suppressed(actor, kenton, [own])) is may_clear
    assert is_allowed(lambda: suppressions.clear_suppressions(actor, kenton, [own])) is may_clear
    assert (left() == set()) is may_clear
