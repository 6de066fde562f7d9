"""The database keeps a welcome for each user, whoever adds or changes users and however."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import Role, User, Welcome, WelcomeState, table_of, utcnow
from services.bulk_rows import load_rows, update_rows
from tests.support.factories import make_customer, make_user, note_welcomes

pytestmark = pytest.mark.parametrize("engine_name", ["sqlite", "postgresql"])

_COLUMNS = ("customer_id", "role", "login", "login_key", "name_key", "created_at")


def welcomes_of(ids: Sequence[int]) -> dict[int, tuple[int | None, str, WelcomeState]]:
    db.session.rollback()
    db.session.expire_all()
    query = sa.select(Welcome).where(Welcome.user_id.in_(ids))
    return {
        each.user_id: (each.customer_id, each.name_key, each.state)
        for each in db.session.scalars(query)
    }


@pytest.fixture
def loaded(app_context: Flask) -> list[int]:
    """Ids of users who were added by the thousand."""
    customer_id = make_customer().id
    now = utcnow()
    rows = (
        (customer_id, Role.USER, f"Many{number}", f"many{number}", f"name {number % 7}", now)
        for number in range(2500)
    )
    with db.engine.begin() as connection:
        load_rows(connection, table_of(User), _COLUMNS, rows)
    return list(db.session.scalars(sa.select(User.id).where(User.customer_id == customer_id)))


def test_who_is_added_has_never_been_mailed(app_context: Flask) -> None:
    user, colleague = make_user(make_customer()), make_user(role=Role.OPERATOR)
    assert (user.welcome.state, user.welcome.at) == (WelcomeState.NEVER, None)
    assert welcomes_of([user.id, colleague.id]) == {
        user.id: (user.customer_id, user.name_key, WelcomeState.NEVER),
        colleague.id: (None, colleague.name_key, WelcomeState.NEVER),
    }


def test_so_has_everybody_who_is_added_with_many(loaded: list[int]) -> None:
    users = db.session.scalars(sa.select(User).where(User.id.in_(loaded))).all()
    assert len(users) == 2500
    assert welcomes_of(loaded) == {
        each.id: (each.customer_id, each.name_key, WelcomeState.NEVER) for each in users
    }


def test_a_welcome_follows_its_users_name(loaded: list[int]) -> None:
    note_welcomes(Welcome.user_id.in_(loaded[:3]), state=WelcomeState.SENT)
    one = db.session.get_one(User, loaded[0])
    one.name_key = "ada lovelace"
    db.session.commit()
    with db.engine.begin() as connection:
        rows = [(each, f"many {each}") for each in loaded[1:2000]]
        update_rows(connection, table_of(User), ("name_key",), rows)
    found = welcomes_of(loaded)
    assert found[loaded[0]][1:] == ("ada lovelace", WelcomeState.SENT)
    assert found[loaded[1]][1:] == (f"many {loaded[1]}", WelcomeState.SENT)
    assert found[loaded[1999]][1:] == (f"many {loaded[1999]}", WelcomeState.NEVER)
    names = dict(db.session.execute(sa.select(User.id, User.name_key)).all())
    assert {each: name for each, (_, name, _) in found.items()} == {
        each: names[each] for each in loaded
    }


def test_a_welcome_goes_with_its_user(app_context: Flask) -> None:
    customer = make_customer()
    ids = [make_user(customer).id for _ in range(2)]
    db.session.execute(sa.delete(User).where(User.id == ids[0]))
    db.session.commit()
    assert list(welcomes_of(ids)) == ids[1:]
