"""The migrations make what the models say, on both databases, and can be taken back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from flask import Flask
from flask_migrate import downgrade, upgrade

from extensions import db
from models import User, Welcome, WelcomeState
from services.health import MIGRATIONS, find_faults
from tests.support.factories import make_customer, make_user, note_welcomes

pytestmark = [
    pytest.mark.empty_database,
    pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index"),
    pytest.mark.filterwarnings("ignore:autogenerate skipping metadata-specified expression-based"),
]

EXPRESSION_INDEXES = {"ix_users_by_sign_in", "ix_welcomes_by_time"}
"""SQLite does not say what they index, so that they cannot be compared."""


def differences() -> list[Any]:
    with db.engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": False}
        )
        found = compare_metadata(context, db.metadata)
    return [each for each in found if getattr(each[-1], "name", None) not in EXPRESSION_INDEXES]


def indexes() -> set[str]:
    with db.engine.connect() as connection:
        query = (
            "SELECT name FROM sqlite_master WHERE type = 'index'"
            if connection.dialect.name == "sqlite"
            else "SELECT indexname FROM pg_indexes WHERE schemaname = 'public'"
        )
        return set(connection.scalars(sa.text(query)))


def checks_of_the_database() -> set[tuple[str, str]]:
    inspector = sa.inspect(db.engine)
    return {
        (table, str(check["name"]))
        for table in inspector.get_table_names()
        for check in inspector.get_check_constraints(table)
    }


def checks_of_the_models() -> set[tuple[str, str]]:
    return {
        (table.name, str(constraint.name))
        for table in db.metadata.sorted_tables
        for constraint in table.constraints
        if isinstance(constraint, sa.CheckConstraint)
    }


def test_the_migrations_make_what_the_models_say(app_context: Flask) -> None:
    assert differences() == []
    assert indexes() >= EXPRESSION_INDEXES
    missing = {name for _, name in checks_of_the_models() - checks_of_the_database()}
    assert not missing, "checks that only the models have"


def test_a_migration_can_be_taken_back_and_made_again(app_context: Flask) -> None:
    downgrade(revision="base")
    left = set(sa.inspect(db.engine).get_table_names()) - {"alembic_version"}
    assert left == set()
    assert "migrations" in find_faults()
    upgrade()
    assert find_faults() == []
    assert differences() == []


def test_how_welcome_mails_ended_comes_along_and_goes_back(app_context: Flask) -> None:
    customer = make_customer()
    users = [make_user(customer) for _ in range(3)]
    ids = [user.id for user in users]
    at = datetime(2026, 11, 1, 12, 30, 15, 123456, tzinfo=UTC)
    note_welcomes(Welcome.user_id == ids[0], state=WelcomeState.SENT, at=at)
    note_welcomes(Welcome.user_id == ids[1], state=WelcomeState.FAILED, at=at)
    found = sa.select(Welcome.state, Welcome.at).order_by(Welcome.user_id)
    expected = [(WelcomeState.SENT, at), (WelcomeState.FAILED, at), (WelcomeState.NEVER, None)]
    assert db.session.execute(found).all() == expected
    db.session.remove()
    downgrade(revision="0012")
    with db.engine.connect() as connection:
        states = "SELECT welcome_state FROM users ORDER BY id"
        assert list(connection.scalars(sa.text(states))) == ["sent", "failed", "never"]
    upgrade()
    assert db.session.execute(found).all() == expected
    assert make_user(customer).welcome.state is WelcomeState.NEVER
    user = db.session.get_one(User, ids[0])
    user.name_key = "another"
    db.session.commit()
    db.session.refresh(user.welcome)
    assert user.welcome.name_key == "another"


def test_history_has_one_head_and_one_root() -> None:
    history = ScriptDirectory(str(MIGRATIONS))
    assert len(history.get_heads()) == 1
    assert len(history.get_bases()) == 1


def test_every_foreign_key_that_is_followed_by_a_delete_or_a_join_has_an_index(
    app_context: Flask,
) -> None:
    """Sessions, selections, claims and deliveries are found by their parent, without a scan."""
    inspector = sa.inspect(db.engine)
    for table, column in (
        ("sign_in_sessions", "user_id"),
        ("reset_links", "user_id"),
        ("delivery_claims", "mailing_id"),
        ("deliveries", "mailing_id"),
        ("deliveries", "user_id"),
        ("mailings", "customer_id"),
        ("users", "customer_id"),
    ):
        leading = {index["column_names"][0] for index in inspector.get_indexes(table)}
        assert column in leading, (table, column)
