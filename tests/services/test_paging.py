"""Keyset paging visits every row once, forwards and backwards, whatever the keys."""

from __future__ import annotations

import base64
import json
import random
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from extensions import db
from models import User, fold
from models.base import never_first
from services.paging import Page, decode_cursor, encode_cursor, keyset_page
from services.users import UserFilter, UserSort, list_users
from tests.support.factories import actor_for, make_customer, make_user

_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@given(st.sampled_from("ab"), _TEXT, st.integers(0, 2**63 - 1))
def test_a_cursor_comes_back_as_it_was(direction: str, value: str, row_id: int) -> None:
    cursor = encode_cursor(direction, value, row_id)
    assert decode_cursor(cursor) == (direction, value, row_id)
    assert cursor.replace("-", "").replace("_", "").isalnum()


def test_a_time_in_a_cursor_keeps_its_microseconds() -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    found = decode_cursor(encode_cursor("a", at, 7))
    assert found is not None
    assert datetime.fromisoformat(found[1]) == at


def raw(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "é",
        "====",
        "a" * 1001,
        raw(None),
        raw([]),
        raw({"a": 1, "b": 2, "c": 3}),
        raw(["c", "x", 1]),
        raw(["a", "x"]),
        raw(["a", "x", 1, 2]),
        raw(["a", 5, 1]),
        raw(["a", None, 1]),
        raw(["a", ["x"], 1]),
        raw(["a", "x", "1"]),
        raw(["a", "x", 1.5]),
        raw(["a", "x", True]),
        raw(["a", "x", -1]),
        raw(["a", "x", 2**63]),
        raw(["a", "x", 10**30]),
        raw(["a", "x\0y", 1]),
        raw(["a", "\ud800", 1]),
        raw([["a"], "x", 1]),
        base64.urlsafe_b64encode(b"[" * 100_000).decode(),
        base64.urlsafe_b64encode(b'["a","x",' + b"9" * 5000 + b"]").decode(),
        base64.urlsafe_b64encode(b"\xff\xfe").decode(),
    ],
)
def test_what_is_no_cursor_is_none(cursor: str) -> None:
    assert decode_cursor(cursor) is None


@given(st.one_of(st.text(), st.binary().map(lambda b: base64.urlsafe_b64encode(b).decode())))
def test_nothing_that_is_given_as_a_cursor_fails(cursor: str) -> None:
    found = decode_cursor(cursor)
    assert found is None or found[0] in {"a", "b"}


def walk(page_at: Any, *, forwards: bool, start: str = "") -> list[int]:
    """Ids met when following `next`, or `previous` from `start`, to the end."""
    seen: list[int] = []
    cursor: str | None = start
    for _ in range(1000):
        page: Page[Any] = page_at(cursor)
        ids = [row.id for row in page.rows]
        seen = [*seen, *ids] if forwards else [*ids, *seen]
        cursor = page.next if forwards else page.previous
        if cursor is None:
            return seen
    raise AssertionError("the walk does not end")


@pytest.mark.parametrize("sort", UserSort)
@pytest.mark.parametrize("descending", [False, True], ids=["rising", "falling"])
def test_a_walk_visits_every_user_once_both_ways(
    app_context: Flask, sort: UserSort, descending: bool
) -> None:
    """Ties, empty texts, missing times, letters beyond the basic plane; every page size."""
    dice = random.Random(f"{sort}{descending}")
    customer = make_customer()
    origin = datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(23):
        name = dice.choice(["Ada", "ada", "Éa", "Zoë", "\U0001f993", "'%_", ""])
        at = dice.choice([None, origin, origin + timedelta(microseconds=dice.randrange(3))])
        make_user(
            customer,
            first_name=name,
            last_name="",
            login=f"{dice.choice('aB')}{number}@x.example",
            email=dice.choice(["", "a@b.example", "B@c.example"]),
            extension=dice.choice(["", "1", "10", "9"]),
            welcome_at=at,
            last_sign_in_at=at,
        )
    actor = actor_for("landlord@foyer.example")
    wanted = UserFilter(sort=sort, descending=descending)
    everybody = set(db.session.scalars(sa.select(User.id).where(User.customer_id == customer.id)))
    order: list[int] | None = None
    for size in (1, 2, 5, 23, 25):

        def page_at(cursor: str, size: int = size) -> Page[User]:
            return list_users(actor, customer, wanted, size=size, cursor=cursor)

        there = walk(page_at, forwards=True)
        assert len(there) == 23
        assert set(there) == everybody
        order = order or there
        assert there == order, "the order depends on the page's size"
        beyond = encode_cursor("a", *last_key(sort, there[-1]))
        assert page_at(beyond).rows == []
        last = page_at("")
        while last.next:
            last = page_at(last.next)
        back = [row.id for row in last.rows]
        if last.previous:
            back = walk(page_at, forwards=False, start=last.previous) + back
        assert back == there
    assert order is not None
    keys = [key_of(sort, user_id) for user_id in order]
    assert keys == sorted(keys, reverse=descending)


_COLUMNS: dict[UserSort, str] = {
    UserSort.NAME: "name_key",
    UserSort.LOGIN: "login_key",
    UserSort.EMAIL: "email_key",
    UserSort.EXTENSION: "extension",
    UserSort.WELCOME: "welcome.at",
    UserSort.SIGN_IN: "last_sign_in_at",
}


def last_key(sort: UserSort, user_id: int) -> tuple[Any, int]:
    value = attrgetter(_COLUMNS[sort])(db.session.get_one(User, user_id))
    never = datetime(1970, 1, 1, tzinfo=UTC)
    return (never if value is None else value), user_id


def key_of(sort: UserSort, user_id: int) -> tuple[Any, int]:
    value, found = last_key(sort, user_id)
    return (value.encode() if isinstance(value, str) else value), found


def test_rows_that_come_and_go_between_pages_shift_nothing(app_context: Flask) -> None:
    """What an offset would do: show a row twice, or not at all."""
    customer = make_customer()
    users = [make_user(customer, first_name=f"N{number:02}", last_name="") for number in range(10)]
    actor = actor_for("landlord@foyer.example")
    first = list_users(actor, customer, UserFilter(), size=4)
    make_user(customer, first_name="A", last_name="")
    db.session.delete(users[1])
    db.session.delete(users[3])  # The row that the cursor names.
    db.session.commit()
    second = list_users(actor, customer, UserFilter(), size=4, cursor=first.next or "")
    assert [user.first_name for user in second.rows] == ["N04", "N05", "N06", "N07"]


def test_a_key_that_cannot_be_parsed_gives_the_first_page(app_context: Flask) -> None:
    customer = make_customer()
    make_user(customer)
    actor = actor_for("landlord@foyer.example")
    by_time = UserFilter(sort=UserSort.WELCOME)
    for value in ("yesterday", "", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"):
        for direction in "ab":
            cursor = encode_cursor(direction, value, 1)
            page = list_users(actor, customer, by_time, cursor=cursor)
            assert len(page.rows) == 1, value


@pytest.mark.parametrize("value", ["0001-01-01T00:00:00", "9999-12-31T23:59:59.999999"])
@pytest.mark.parametrize("descending", [False, True])
def test_times_at_the_ends_of_time_are_places_like_others(
    app_context: Flask, value: str, descending: bool
) -> None:
    customer = make_customer()
    make_user(customer)
    actor = actor_for("landlord@foyer.example")
    wanted = UserFilter(sort=UserSort.SIGN_IN, descending=descending)
    for direction in "ab":
        list_users(actor, customer, wanted, cursor=encode_cursor(direction, value, 1))


def test_never_comes_before_every_time(app_context: Flask) -> None:
    customer = make_customer()
    at = datetime(1999, 1, 1, tzinfo=UTC)
    later = make_user(customer, last_sign_in_at=at)
    never = make_user(customer)
    page = keyset_page(
        lambda query: db.session.scalars(query).all(),
        sa.select(User).where(User.customer_id == customer.id),
        key=sa.type_coerce(never_first("users.last_sign_in_at"), User.last_sign_in_at.type),
        row_id=User.id.expression,
        key_of=lambda user: (fold(user.login), user.id),
    )
    assert [user.id for user in page.rows] == [never.id, later.id]
    assert (page.previous, page.next) == (None, None)
