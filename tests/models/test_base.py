"""The types and keys that every table shares, the same on both databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
import sqlalchemy as sa
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from extensions import db
from models import Suppression, User, fold, prefix_range, table_of
from models.base import Base
from tests.support.factories import find_customer, make_user, save


def test_times_come_back_aware_in_utc(app_context: Flask) -> None:
    at = datetime(2026, 3, 29, 2, 30, 15, 123456, tzinfo=timezone(timedelta(hours=5, minutes=45)))
    row = save(Suppression(email_key="a@b.example", reason="bounced", created_at=at))
    db.session.expire_all()
    found = db.session.get_one(Suppression, row.id).created_at
    assert found == at
    assert found.tzinfo is UTC or found.utcoffset() == timedelta(0)


def test_a_naive_time_is_refused(app_context: Flask) -> None:
    naive = datetime(2026, 3, 29, 2, 30)  # noqa: DTZ001
    db.session.add(Suppression(email_key="a@b.example", reason="x", created_at=naive))
    with pytest.raises(sa.exc.StatementError, match="naive"):
        db.session.flush()
    db.session.rollback()


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("PRPKEadmin@Kenton-Electronics.COM", "prpkeadmin@kenton-electronics.com"),
        ("  Ada   Lovelace ", "ada lovelace"),
        ("Straße", "strasse"),
        ("\N{LATIN SMALL LIGATURE FI}", "fi"),
        ("Zo\N{LATIN SMALL LETTER E}\N{COMBINING DIAERESIS}", "zoë"),
        ("\N{FULLWIDTH LATIN CAPITAL LETTER A}", "a"),
        ("\N{NO-BREAK SPACE}x\N{NO-BREAK SPACE}", "x"),
        ("", ""),
    ],
)
def test_what_people_take_for_the_same_has_one_key(text: str, key: str) -> None:
    assert fold(text) == key


@given(st.text())
def test_a_key_is_its_own_key_for_search(text: str) -> None:
    """What a search folds must meet what the column holds, however often it was folded."""
    once = fold(text)
    assert once == " ".join(once.split())
    assert fold(text.strip()) == once


_LETTERS = st.characters(exclude_characters="\0", exclude_categories=["Cs"])


@given(st.text(_LETTERS, min_size=1, max_size=6), st.text(_LETTERS, max_size=6))
def test_a_prefix_is_a_range_of_bytes(prefix: str, rest: str) -> None:
    lowest, beyond = prefix_range(prefix)
    text = prefix + rest
    if not rest.startswith("\U0010ffff"):
        assert lowest.encode() <= text.encode() < beyond.encode()


def test_a_range_holds_what_begins_with_it_and_nothing_else(app_context: Flask) -> None:
    """The database compares keys byte by byte, on PostgreSQL as on SQLite."""
    customer = find_customer("CQ001")
    names = ["zebra", "zebrå", "zebr", "zebr-a", "zebr_", "zebr%", "ze", "zebs", "zebr\U0001f993"]
    for name in names:
        make_user(customer, first_name=name, last_name="", name_key=name)
    lowest, beyond = prefix_range("zebr")
    found = db.session.scalars(
        sa.select(User.name_key)
        .where(User.name_key >= lowest, User.name_key < beyond)
        .order_by(User.name_key)
    ).all()
    wanted = [name for name in names if name.startswith("zebr")]
    assert found == sorted(wanted, key=str.encode)


def test_only_mapped_tables_have_a_table() -> None:
    assert table_of(User).name == "users"
    with pytest.raises(AttributeError):
        table_of(Base)
