"""Statements that are compiled once: their values, their errors, the connections they leave."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, OperationalError

from extensions import db
from models import ApiCredential, table_of
from services.prepared_statements import PreparedStatement

pytestmark = pytest.mark.usefixtures("app_context")

CREDENTIALS = table_of(ApiCredential)


def prepared(statement: Any) -> PreparedStatement:
    return PreparedStatement.compile(statement, db.engine.dialect)


def test_values_and_columns_are_converted_as_in_any_statement() -> None:
    columns = CREDENTIALS.c
    shown = (columns.name, columns.may_read, columns.networks, columns.expires_at)
    later = datetime(2031, 5, 6, 7, 8, 9, 10, tzinfo=timezone(timedelta(hours=2)))
    change = prepared(
        sa.update(CREDENTIALS)
        .values(expires_at=sa.bindparam("at"), networks=sa.bindparam("networks"))
        .where(columns.name == "demo-api")
    )
    networks = ["192.0.2.0/24", "2001:db8::/32"]
    assert change.execute(db.engine, {"at": later, "networks": networks}) == 1
    select = sa.select(*shown).where(columns.name == sa.bindparam("name"))
    (row,) = prepared(select).fetch(db.engine, {"name": "demo-api"})
    assert row == ("demo-api", True, networks, later)
    assert row[3].tzinfo is UTC
    assert row == tuple(db.session.execute(select, {"name": "demo-api"}).one())
    assert prepared(select).fetch(db.engine, {"name": "nobody"}) == []


def test_what_it_writes_is_committed_and_the_connection_is_as_before() -> None:
    change = prepared(sa.update(CREDENTIALS).values(last_used_from=sa.bindparam("address")))
    change.execute(db.engine, {"address": "192.0.2.7"})
    with db.engine.connect() as connection:
        connection.execute(sa.update(CREDENTIALS).values(last_used_from="192.0.2.8"))
        connection.rollback()
        found = connection.scalars(sa.select(CREDENTIALS.c.last_used_from)).all()
    assert set(found) == {"192.0.2.7"}


def test_errors_are_those_of_other_statements_and_show_no_values() -> None:
    change = prepared(sa.update(CREDENTIALS).values(name=sa.bindparam("name")))
    with pytest.raises(IntegrityError) as told:
        change.execute(db.engine, {"name": None})
    assert told.value.hide_parameters
    with db.engine.connect() as connection:  # The pool's connection is in no transaction.
        assert connection.scalar(sa.select(sa.func.count()).select_from(CREDENTIALS)) == 1


def test_a_list_of_values_is_refused() -> None:
    with pytest.raises(ValueError, match="takes no list"):
        prepared(sa.select(CREDENTIALS.c.id).where(CREDENTIALS.c.id.in_([1, 2])))


@pytest.mark.parametrize("engine_name", ["postgresql"])
def test_lost_connections_leave_the_pool_with_the_first_error() -> None:
    select = prepared(sa.select(CREDENTIALS.c.name))
    with db.engine.connect(), db.engine.connect():  # Both are in the pool afterwards.
        pass
    select.fetch(db.engine, {})
    other = sa.create_engine(db.engine.url)
    with other.connect() as connection:
        ended = connection.scalars(
            sa.text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        ).all()
    other.dispose()
    assert len(ended) == 2
    with pytest.raises(OperationalError) as told:
        select.fetch(db.engine, {})
    assert told.value.connection_invalidated
    assert select.fetch(db.engine, {}) == [("demo-api",)]
    with db.engine.connect() as first, db.engine.connect() as second:
        assert first.scalar(sa.select(1)) == second.scalar(sa.select(1)) == 1


@pytest.mark.parametrize("engine_name", ["postgresql"])
def test_a_database_that_cannot_be_reached_is_an_error_like_any_other() -> None:
    select = prepared(sa.select(CREDENTIALS.c.name))
    away = sa.create_engine(db.engine.url.set(database="nowhere"))
    with pytest.raises(OperationalError, match="nowhere"):
        select.fetch(away, {})
