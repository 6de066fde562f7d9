"""What PostgreSQL reads to claim and to record a chunk: its rows, and not whole tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import Bundle, CommandSource, CustomerBundle
from services import command_runs, deliveries, demo_data
from services.actors import Actor
from services.delivery_results import Outcome
from tests.support.claims import end_with, must_claim

RECIPIENTS = 4_000
CHUNK = 500
_LARGE = {"deliveries", "users", "local_platform_accounts"}

pytestmark = pytest.mark.parametrize("engine_name", ["postgresql"])


@pytest.fixture
def mailing_id(app_context: Flask) -> int:
    """A mailing of which PostgreSQL knows the rows, as they were before any was in flight."""
    customer = demo_data.add_bulk_customer("CQ900", RECIPIENTS)
    bundles = db.session.scalars(
        sa.select(Bundle.name)
        .join(CustomerBundle, CustomerBundle.bundle_id == Bundle.id)
        .where(CustomerBundle.customer_id == customer.id)
    )
    actor = Actor.from_terminal("test")
    text = f"$$RESEND WELCOME EMAIL$$ {';'.join(bundles)}|CQ900"
    run = command_runs.submit(actor, text, source=CommandSource.TERMINAL)
    (mailing,) = command_runs.started_mailings(command_runs.run(actor, run.id))
    db.session.execute(sa.text("ANALYZE deliveries"))
    db.session.commit()
    return mailing.id


@contextmanager
def plans() -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """The plan of each statement that is executed meanwhile, as it stands then."""
    seen: list[tuple[str, dict[str, Any]]] = []

    def note(conn: sa.Connection, _c: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith(("SELECT", "UPDATE", "WITH", "DELETE")):
            driver: Any = conn.connection.driver_connection
            with driver.cursor() as own:
                own.execute(f"EXPLAIN (FORMAT JSON) {statement}", parameters)
                ((plan,),) = own.fetchall()
            seen.append((statement, plan[0]["Plan"]))

    sa.event.listen(db.engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        sa.event.remove(db.engine, "before_cursor_execute", note)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


def wasteful(plan: dict[str, Any]) -> list[str]:
    """Parts of a plan whose work grows with a table, or with the square of the chunk."""
    faults = []
    for node in nodes(plan):
        kind = node["Node Type"]
        if kind == "Seq Scan" and node["Relation Name"] in _LARGE:
            faults.append(f"reads all of {node['Relation Name']}")
        if kind in {"Hash Join", "Merge Join"}:
            faults.append(kind)
        if kind == "Nested Loop" and any(
            each.get("Relation Name") in _LARGE for each in nodes(node)
        ):
            # What is worked out once beforehand is no part of the loop.
            (inner,) = (each for each in node["Plans"] if each["Parent Relationship"] == "Inner")
            if inner["Node Type"] in {"Function Scan", "Materialize"}:
                faults.append(f"{inner['Node Type']} in a loop")
            if "Index" in inner["Node Type"] and "Index Cond" not in inner:
                faults.append("all of an index in a loop")
    return faults


def test_a_chunk_is_claimed_and_recorded_by_index(mailing_id: int) -> None:
    end_with(must_claim(mailing_id, CHUNK), Outcome.SENT, code=250, answer="Ok")
    in_flight = must_claim(mailing_id, CHUNK)
    with plans() as seen:
        assert deliveries.list_waiting_mailings()
        held = must_claim(mailing_id, CHUNK)
        end_with(held, Outcome.SENT, code=250, answer="Ok")
        end_with(in_flight, Outcome.SENT, code=250, answer="Ok")

    assert len(held.deliveries) == len(in_flight.deliveries) == CHUNK
    about_rows = [(statement, plan) for statement, plan in seen if "deliveries" in statement]
    assert len(about_rows) >= 4
    assert {statement: faults for statement, plan in seen if (faults := wasteful(plan))} == {}
