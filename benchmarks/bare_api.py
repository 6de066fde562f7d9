"""What the API is compared with: two bare Flask views on the installation's own database.

One checks HTTP Basic and inserts one row with commit; the other lists a page of customers through
Core and `jsonify`. gunicorn runs it as `benchmarks.bare_api:create_app()`.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import sqlalchemy as sa
from flask import Flask, Response, jsonify, request

from app import create_app as create_foyer
from extensions import db
from models import Customer, CustomerStatus, Group, table_of
from services.demo_data import API_CREDENTIAL

TABLE = "bare_rows"
_COLUMNS = (
    "id custno web_id name name_key short_name upn_suffix ani status language time_zone company "
    "contact_name contact_email contact_phone street postal_code city region country options "
    "version created_at"
).split()


def create_app() -> Flask:
    foyer = create_foyer()
    with foyer.app_context():
        engine = db.engine  # With the settings that Foyer's connections have.
    app = Flask(__name__)
    name, secret = API_CREDENTIAL
    known = hashlib.sha256(secret.encode()).digest()
    insert = sa.insert(sa.table(TABLE, sa.column("note")))
    customers, groups = table_of(Customer).c, table_of(Group).c
    page = (
        sa.select(*(customers[column] for column in _COLUMNS))
        .where(
            customers.group_id
            == sa.select(groups.id)
            .where(groups.groupno == sa.bindparam("groupno"))
            .scalar_subquery(),
            customers.status.in_([CustomerStatus.ACTIVE, CustomerStatus.SUSPENDED]),
        )
        .order_by(customers.name_key, customers.id)
        .limit(100)
    )

    def is_known() -> bool:
        given = request.authorization
        if given is None or given.username != name:
            return False
        return hmac.compare_digest(hashlib.sha256((given.password or "").encode()).digest(), known)

    @app.post("/insert")
    def insert_row() -> Response:
        if not is_known():
            return Response(status=403)
        with engine.begin() as connection:
            connection.execute(insert, {"note": "accepted"})
        return Response(status=204)

    @app.get("/list/<int:groupno>")
    def list_rows(groupno: int) -> Any:
        if not is_known():
            return Response(status=403)
        with engine.connect() as connection:
            rows = connection.execute(page, {"groupno": groupno}).mappings().all()
        return jsonify(items=[dict(row) for row in rows])

    return app
