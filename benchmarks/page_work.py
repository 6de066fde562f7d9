"""How much a database does for pages: `python -m benchmarks.page_work LOGIN PATH…`.

Run in the environment of an installation. For each page it prints what the queries cost, as JSON:
on SQLite the steps of its virtual machine, on PostgreSQL the rows that were read. Both grow with
the rows that a query looks at, and neither depends on the machine.
"""

from __future__ import annotations

import json
import re
import sqlite3
import sys
from typing import Any

import sqlalchemy as sa
from flask.testing import FlaskClient

from app import create_app
from extensions import db
from services.demo_data import PASSWORD

_TOKEN = re.compile(r'name="csrf_token"[^>]*value="([^"]+)"')


class _Meter:
    """Counts what statements cost while it is `on`."""

    def __init__(self) -> None:
        self.on = False
        self.statements: list[tuple[str, Any]] = []
        self.steps: list[int] = []

    def watch_sqlite(self, connection: Any, _record: Any) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.set_progress_handler(self._step, 1)

    def _step(self) -> int:
        if self.on and self.steps:
            self.steps[-1] += 1
        return 0

    def note_statement(
        self, _conn: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool
    ) -> None:
        if self.on and statement.lstrip().upper().startswith(("SELECT", "WITH")):
            self.statements.append((statement, parameters))
            self.steps.append(0)


def measure(client: FlaskClient, path: str, meter: _Meter) -> dict[str, Any]:
    """The work behind one page; it has been asked for once before, so that nothing is set up."""
    headers = {"HX-Request": "true"} if path.endswith("/progress") else {}
    client.get(path, headers=headers)
    meter.statements, meter.steps, meter.on = [], [], True
    status = client.get(path, headers=headers).status_code
    meter.on = False
    if db.engine.dialect.name == "postgresql":
        meter.steps = [_rows_read(*each) for each in meter.statements]
    costs = sorted(
        ((work, _tail_of(statement))
         for work, (statement, _) in zip(meter.steps, meter.statements, strict=True)),
        reverse=True,
    )  # fmt: skip
    return {
        "status": status,
        "work": sum(meter.steps),
        "statements": len(costs),
        "costliest": costs[:2],
    }


def _tail_of(statement: str) -> str:
    """What tells statements apart stands behind their columns."""
    return " ".join(statement.split()).partition(" FROM ")[2][:600]


def _rows_read(statement: str, parameters: Any) -> int:
    with db.engine.connect() as connection:
        explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}"
        ((plan,),) = connection.exec_driver_sql(explain, parameters).all()
        connection.rollback()
    return _scanned(plan[0]["Plan"])


def _scanned(node: dict[str, Any]) -> int:
    """Rows that a plan's scans returned and filtered out."""
    below = sum(_scanned(each) for each in node.get("Plans", ()))
    if "Scan" not in node["Node Type"]:
        return below
    removed = (value for key, value in node.items() if key.startswith("Rows Removed by"))
    return below + int((node["Actual Rows"] + sum(removed)) * node["Actual Loops"])


def main(login: str, paths: list[str]) -> None:
    """Sign in and measure each page."""
    meter = _Meter()
    sa.event.listen(sa.Engine, "connect", meter.watch_sqlite)
    sa.event.listen(sa.Engine, "before_cursor_execute", meter.note_statement)
    app = create_app()
    client = app.test_client()
    token = _TOKEN.search(client.get("/login").text)
    data = {"csrf_token": token[1] if token else "", "login": login, "password": PASSWORD}
    client.post("/login", data=data)
    with app.app_context():
        print(json.dumps({path: measure(client, path, meter) for path in paths}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
