"""A mailing's deliveries are listed and steered at the same cost however many there are."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db, get_settings
from models import (
    CustomerBundle,
    Delivery,
    DeliveryState,
    Mailing,
    MailingState,
    SkipReason,
    User,
    utcnow,
)
from services import claim_recovery, demo_data, mailing_controls, mailings
from services.actors import Actor
from services.delivery_journal import Journal
from services.delivery_results import Outcome
from services.mailing_ends import cancel_waiting
from services.paging import encode_cursor
from tests.support.claims import end_with, expire, must_claim, rows_of
from tests.support.commands import ENTRY, RESEND, STANDARD
from tests.support.factories import find_customer, make_bundle, make_user, save
from tests.support.promises import start_by_command
from tests.support.statements import noted_statements, rows_looked_at, sqlite_plan_of

MANY = 2000
SIZE = 25
FEW = 40
STATES = [None, *DeliveryState]
_ENDS: dict[DeliveryState, dict[str, Any]] = {
    DeliveryState.QUEUED: {},
    DeliveryState.SENDING: {"claim_token": "lost"},
    DeliveryState.SENT: {"sent_at": utcnow()},
    DeliveryState.BOUNCED: {"sent_at": utcnow(), "bounced_at": utcnow()},
    DeliveryState.FAILED: {"answer": "550 No such mailbox"},
    DeliveryState.SKIPPED: {"skip_reason": SkipReason.SUPPRESSED},
    DeliveryState.CANCELLED: {},
}


@pytest.fixture
def crowded(app_context: Flask) -> Mailing:
    """One of three mailings to the same users: most were mailed, the last ones ended otherwise."""
    demo_data.add_bulk_customer("CQ900", MANY)
    text = f"{RESEND} {ENTRY};{STANDARD}|CQ900"
    ids = []
    for _ in range(3):
        ids.append(start_by_command(Actor.from_terminal("test"), text))
        # Too long ago to be recent, so that the next mailing is for the same users.
        past = utcnow() - timedelta(days=1)
        db.session.execute(sa.update(Delivery).values(created_at=past))
        db.session.execute(sa.update(Mailing).values(created_at=past))
        db.session.commit()
    for each in ids:
        last = db.session.scalar(
            sa.select(sa.func.max(Delivery.id)).where(Delivery.mailing_id == each)
        )
        assert last is not None
        _end(each, DeliveryState.SENT, Delivery.id <= last - FEW * len(_ENDS))
        for place, state in enumerate(_ENDS):
            first = last - FEW * (place + 1)
            _end(each, state, Delivery.id.between(first + 1, first + FEW))
    db.session.commit()
    if db.engine.dialect.name == "postgresql":  # SQLite is to find its way without.
        with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("ANALYZE deliveries, mailings, users")
    return db.session.get_one(Mailing, ids[1])


def _end(mailing_id: int, state: DeliveryState, which: sa.ColumnElement[bool]) -> None:
    db.session.execute(
        sa.update(Delivery)
        .where(Delivery.mailing_id == mailing_id, which)
        .values(**{"state": state, "skip_reason": None, **_ENDS[state]})
    )


def in_order(mailing: Mailing, state: DeliveryState | None) -> list[int]:
    """What a list is to show, by the rows themselves."""
    rows = db.session.scalars(
        sa.select(Delivery.id).where(
            Delivery.mailing_id == mailing.id,
            sa.true() if state is None else Delivery.state == state,
        )
    )
    return sorted(rows)


@pytest.mark.parametrize("state", STATES)
def test_pages_show_each_delivery_once_and_lead_back(
    crowded: Mailing, state: DeliveryState | None
) -> None:
    wanted = in_order(crowded, state)
    assert len(wanted) >= FEW
    shown: list[int] = []
    before: list[int] | None = None
    cursor: str | None = ""
    while cursor is not None:
        page = mailings.list_deliveries(crowded, state=state, size=SIZE, cursor=cursor)
        shown += [row.id for row in page.rows]
        if before is not None:
            assert page.previous is not None
            back = mailings.list_deliveries(crowded, state=state, size=SIZE, cursor=page.previous)
            assert [row.id for row in back.rows] == before
        cursor, before = page.next, [row.id for row in page.rows]
    assert shown == wanted


def test_what_is_queued_is_listed_as_it_is_due(crowded: Mailing) -> None:
    ids = in_order(crowded, DeliveryState.QUEUED)
    later = utcnow() + timedelta(hours=1)
    db.session.execute(
        sa.update(Delivery).where(Delivery.id == ids[0]).values(next_attempt_at=later)
    )
    db.session.commit()
    first = mailings.list_deliveries(crowded, state=DeliveryState.QUEUED, size=SIZE)
    rest = mailings.list_deliveries(
        crowded, state=DeliveryState.QUEUED, size=SIZE, cursor=first.next or ""
    )
    assert [row.id for row in first.rows + rest.rows] == [*ids[1:], ids[0]]


def test_a_cursor_of_another_release_gives_the_first_page(crowded: Mailing) -> None:
    first, _ = in_order(crowded, None)[:2]
    old = encode_cursor("a", first, first)
    page = mailings.list_deliveries(crowded, size=SIZE, cursor=old)
    assert page.rows[0].id == first
    assert page.previous is None


def ask(mailing: Mailing, state: DeliveryState | None) -> list[tuple[str, Any]]:
    """The statements behind two pages of a list."""
    with noted_statements("FROM deliveries") as asked:
        page = mailings.list_deliveries(mailing, state=state, size=SIZE)
        assert page.next
        mailings.list_deliveries(mailing, state=state, size=SIZE, cursor=page.next)
    assert len(asked) == 2
    return asked


@pytest.mark.parametrize("engine_name", ["sqlite"])
@pytest.mark.parametrize("state", STATES)
def test_sqlite_sorts_no_deliveries_and_walks_through_none(
    crowded: Mailing, state: DeliveryState | None
) -> None:
    for statement, values in ask(crowded, state):
        plan = sqlite_plan_of(statement, values)
        assert not [each for each in plan if "TEMP B-TREE" in each or each.startswith("SCAN")], plan
        assert state is None or "state=?" in plan[0] or "ix_deliveries_due" in plan[0], plan
    assert "user_id>?" in plan[0] or "(next_attempt_at,user_id)>(?,?)" in plan[0], plan


@pytest.mark.parametrize("engine_name", ["postgresql"])
@pytest.mark.parametrize("state", STATES)
def test_postgresql_looks_at_as_many_deliveries_as_it_shows(
    crowded: Mailing, state: DeliveryState | None
) -> None:
    for statement, values in ask(crowded, state):
        # Some tell whether there is another page, and that what is sorted by user is sorted by id.
        assert rows_looked_at(statement, values, "deliveries") <= SIZE + 3, statement


def steering(mailing: Mailing) -> list[tuple[str, Any]]:
    """What is asked of few deliveries of a mailing: to count them, to show or to change them."""
    actor = Actor.from_terminal("test")
    with noted_statements("deliveries") as asked:
        assert mailings.count_skipped(mailing) == {SkipReason.SUPPRESSED: FEW}
        ids = in_order(mailing, DeliveryState.FAILED)
        asked.clear()
        newest = mailings.newest_failures(mailing)
        assert [row.id for row in newest] == ids[:-6:-1]
        _count(mailing)
        assert mailing_controls.retry_failed(actor, mailing) == FEW
        db.session.commit()
        with db.engine.begin() as connection:
            assert claim_recovery._give_back(connection, "lost", mailing.id) == FEW
            cancel_waiting(connection, mailing.id)
    return [each for each in asked if "WHERE deliveries.mailing_id" in each[0]]


def _count(mailing: Mailing) -> None:
    """Counters as they would be."""
    counts = {state.value: FEW for state in _ENDS}
    counts["sent"] = mailing.total - FEW * (len(_ENDS) - 1)
    db.session.execute(
        sa.update(Mailing)
        .where(Mailing.id == mailing.id)
        .values(**counts, state=MailingState.RUNNING)
    )
    db.session.commit()


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_sqlite_finds_the_few_that_are_steered(crowded: Mailing) -> None:
    asked = steering(crowded)
    assert len(asked) >= 5
    for statement, values in asked:
        plan = sqlite_plan_of(statement, values)
        found = [each for each in plan if "deliveries USING" in each]
        by_state = [each for each in found if "state=?" in each or "ix_deliveries_due" in each]
        by_id = [each for each in found if "INTEGER PRIMARY KEY" in each]
        assert by_state, (statement, plan)
        assert len(by_state) + len(by_id) == len(found), (statement, plan)


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_sqlite_finds_what_a_worker_holds(crowded: Mailing) -> None:
    _count(crowded)
    with noted_statements("deliveries") as asked:
        end_with(must_claim(crowded.id, 10), Outcome.SENT, code=250, answer="Ok")
        held = must_claim(crowded.id, 10)
        journal = Journal.open(get_settings().var_dir, held.token)
        journal.note(held.deliveries[0].id, 250)
        assert expire(held) == 9
    # One is known to have gone out.
    assert len(rows_in(crowded, DeliveryState.QUEUED)) == FEW - 11
    about_held = [each for each in asked if "claim_token = ?" in each[0]]
    assert len(about_held) >= 4
    for statement, values in asked:
        for each in sqlite_plan_of(statement, values):
            walks = each.startswith("SCAN deliveries") or each.endswith("(mailing_id=?)")
            assert not walks, (statement, each)


def rows_in(mailing: Mailing, state: DeliveryState) -> list[Delivery]:
    db.session.rollback()
    return [row for row in rows_of(mailing.id) if row.state is state]


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_an_export_is_in_the_order_of_an_index(crowded: Mailing) -> None:
    with noted_statements("FROM deliveries") as asked:
        rows = list(mailings.export_deliveries(Actor.from_terminal("test"), crowded))
    logins = db.session.scalars(
        sa.select(User.login)
        .join(Delivery, Delivery.user_id == User.id)
        .where(Delivery.mailing_id == crowded.id)
        .order_by(Delivery.id)
    ).all()
    assert [row[2] for row in rows] == list(logins)
    ((statement, values),) = asked
    plan = sqlite_plan_of(statement, values)
    assert not [each for each in plan if "TEMP B-TREE" in each or each.startswith("SCAN")], plan


def test_deliveries_are_written_in_the_order_of_their_users(app_context: Flask) -> None:
    """Lists, exports and what is recent go by it."""
    customers = [find_customer("CQ001"), find_customer("CQ002")]
    users = [make_user(customers[number % 2]) for number in range(20)]
    bundle = make_bundle(customers[0])
    save(CustomerBundle(customer_id=customers[1].id, bundle_id=bundle.id))
    for user in users:
        user.bundle_id = bundle.id
    db.session.commit()
    text = f"{RESEND} {bundle.name}|{';'.join(each.web_id for each in reversed(customers))}"
    mailing_id = start_by_command(Actor.from_terminal("test"), text)
    assert [row.user_id for row in rows_of(mailing_id)] == sorted(each.id for each in users)
