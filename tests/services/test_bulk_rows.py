"""Bulk rows: many changed at once say the same as one changed after the other."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import Delivery, LocalPlatformAccount, User, UserStatus, Welcome, WelcomeState, table_of
from services import breaths
from services.bulk_rows import update_rows, upsert_rows
from tests.support.factories import actor_for, find_customer, make_user
from tests.support.promises import start_welcome

NOW = datetime(2026, 3, 29, 1, 30, 0, 123456, tzinfo=UTC)
LATER = datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
AWKWARD = ['say "hello"', "it's", "back\\slash", "a\tb\nc", "ünï 中 🎉", "", "{}[]$", "%s ? :x"]


@pytest.fixture(autouse=True, params=["at once", "in pieces"])
def patience(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written at once, and as a bulk job does it, with breaths between pieces."""
    monkeypatch.setattr(breaths, "_is_patient", request.param == "in pieces")
    monkeypatch.setattr(breaths, "PIECE", 3)


@pytest.fixture
def users(app_context: Flask) -> list[User]:
    customer = find_customer("CQ001")
    return [make_user(customer) for _ in AWKWARD]


def update(table: type[Any], columns: tuple[str, ...], rows: list[Any], **changes: Any) -> int:
    db.session.rollback()
    with db.engine.begin() as connection:
        return update_rows(connection, table_of(table), columns, rows, **changes)


def values_of(model: type[Any], ids: list[int], *columns: str) -> list[tuple[Any, ...]]:
    db.session.rollback()
    chosen = [getattr(model, name) for name in columns]
    rows = db.session.execute(sa.select(model.id, *chosen).where(model.id.in_(ids)))
    found = {row[0]: tuple(row)[1:] for row in rows}
    return [found[each] for each in ids]


def test_each_row_gets_its_own_values(users: list[User]) -> None:
    ids = [user.id for user in users]
    times = [NOW if number % 2 else LATER for number in range(len(ids))]

    count = update(
        User, ("last_name", "last_sign_in_at"), list(zip(ids, AWKWARD, times, strict=True))
    )

    assert count == len(ids)
    found = values_of(User, ids, "last_name", "last_sign_in_at")
    assert found == list(zip(AWKWARD, times, strict=True))


def test_values_that_all_rows_share_are_written_to_all(users: list[User]) -> None:
    ids = [user.id for user in users]
    rows = [(each, AWKWARD[0], True, NOW, f"hash {each}") for each in ids]
    columns = ("last_name", "must_change_password", "last_sign_in_at", "password_hash")

    count = update(User, columns, rows, same={"status": UserStatus.SUSPENDED})

    assert count == len(ids)
    found = values_of(User, ids, *columns, "status")
    assert found == [(*row[1:], UserStatus.SUSPENDED) for row in rows]


@pytest.mark.parametrize("alike", [False, True], ids=["own", "alike"])
def test_rows_are_found_by_whatever_their_key_is(users: list[User], alike: bool) -> None:
    ids = [user.id for user in users]
    times = [NOW if alike or number % 2 else LATER for number in range(len(ids))]
    rows = list(zip(ids[1:], times[1:], strict=True))

    assert update(Welcome, ("at",), rows, same={"state": WelcomeState.SENT}) == len(rows)

    db.session.rollback()
    found = [(each.welcome.state, each.welcome.at) for each in users]
    assert found[0] == (WelcomeState.NEVER, None)
    assert found[1:] == [(WelcomeState.SENT, at) for at in times[1:]]


@pytest.mark.parametrize("value", [None, "same"], ids=["empty", "same"])
def test_rows_without_values_of_their_own(users: list[User], value: str | None) -> None:
    ids = [user.id for user in users]
    others = [make_user(find_customer("CQ001")).id for _ in range(2)]
    before = values_of(User, others, "password_hash", "last_name")

    assert update(User, ("password_hash",), [(each, value) for each in ids]) == len(ids)
    assert update(User, (), [(each,) for each in ids], same={"last_name": "Ng"}) == len(ids)

    assert values_of(User, ids, "password_hash", "last_name") == [(value, "Ng")] * len(ids)
    assert values_of(User, others, "password_hash", "last_name") == before


def test_some_rows_may_be_empty_where_others_are_not(users: list[User]) -> None:
    ids = [user.id for user in users]
    hashes = [None if number % 3 else f"hash {number}" for number in range(len(ids))]
    hashes[0] = hashes[-1]

    update(User, ("password_hash",), list(zip(ids, hashes, strict=True)))

    assert values_of(User, ids, "password_hash") == [(each,) for each in hashes]


@pytest.mark.parametrize("alike", [False, True], ids=["own", "alike"])
def test_only_rows_that_still_have_the_given_values_change(users: list[User], alike: bool) -> None:
    ids = [user.id for user in users]
    update(User, ("first_name",), [(each, "Ann" if each in ids[:3] else "Bob") for each in ids])

    count = update(
        User,
        ("last_name",),
        [(each, "Lee" if alike else f"Lee {each}") for each in ids],
        same={"last_sign_in_at": NOW},
        computed={"extension": "extension || '7'"},
        where={"first_name": "Ann"},
    )

    assert count == 3
    changed = values_of(User, ids[:3], "last_name", "last_sign_in_at")
    assert changed == [("Lee" if alike else f"Lee {each}", NOW) for each in ids[:3]]
    assert all(each.endswith("7") for (each,) in values_of(User, ids[:3], "extension"))
    assert all(each != NOW for (each,) in values_of(User, ids[3:], "last_sign_in_at"))


def test_bytes_are_written_as_they_are(users: list[User]) -> None:
    mailing_id = start_welcome(
        actor_for("prpkeAdmin@kenton-electronics.com"), "CQ001", users, enqueue=False
    )
    of_mailing = sa.select(Delivery.id).where(Delivery.mailing_id == mailing_id)
    ids = list(db.session.scalars(of_mailing.order_by(Delivery.id)))
    seals = [bytes([number, 0, 255, 39, 92]) for number in range(len(ids))]
    rows = [(each, seal, f"hash {each}") for each, seal in zip(ids, seals, strict=True)]

    count = update(
        Delivery, ("seal", "pending_hash"), rows, same={"dated_at": NOW}, where={"state": "queued"}
    )

    assert count == len(ids)
    found = values_of(Delivery, ids, "seal", "pending_hash", "dated_at")
    assert found == [(seal, f"hash {each}", NOW) for each, seal in zip(ids, seals, strict=True)]


def test_no_rows_are_no_statement(app_context: Flask) -> None:
    assert update(User, ("last_name",), []) == 0


def test_rows_that_are_there_are_updated_and_others_inserted(users: list[User]) -> None:
    columns = ("user_id", "password_hash", "changed_at")

    def upsert(rows: list[Any]) -> None:
        with db.engine.begin() as connection:
            upsert_rows(connection, table_of(LocalPlatformAccount), columns, rows)

    ids = [user.id for user in users]
    db.session.rollback()
    upsert([(each, "old", NOW) for each in ids[:4]])
    upsert([(each, f"new {each}", LATER) for each in ids[2:]])
    upsert([])

    rows = db.session.execute(sa.select(table_of(LocalPlatformAccount))).all()
    found = {row.user_id: (row.password_hash, row.changed_at) for row in rows}
    expected = dict.fromkeys(ids[:2], ("old", NOW))
    expected |= {each: (f"new {each}", LATER) for each in ids[2:]}
    assert {each: found[each] for each in ids} == expected
