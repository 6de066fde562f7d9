"""What people see when a part is missing or something breaks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa
from flask import Flask
from sqlalchemy.exc import IntegrityError

from extensions import db
from services import customers, sign_ins
from tests.support.pages import CheckingClient

LOGIN = "operator@foyer.example"


def test_a_database_that_is_down_gives_a_page_that_says_so(
    app: Flask, sign_in_as: Callable[[str], CheckingClient]
) -> None:
    client = sign_in_as(LOGIN)

    def down(*_: object) -> None:
        raise sa.exc.OperationalError("SELECT", {}, Exception("connection refused"))

    with app.app_context():
        engine = db.engine
    sa.event.listen(engine, "before_cursor_execute", down)
    try:
        page = client.page("/customers", status=503)
    finally:
        sa.event.remove(engine, "before_cursor_execute", down)
    assert "not ready" in page.text(page.one("h1"))


def test_an_unexpected_fault_gives_a_page_with_a_reference(
    app: Flask, sign_in_as: Callable[[str], CheckingClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("seventeen")

    monkeypatch.setattr(customers, "list_customers", broken)
    app.config["PROPAGATE_EXCEPTIONS"] = False
    response = sign_in_as(LOGIN).get("/customers")
    assert response.status_code == 500
    assert "seventeen" not in response.text
    assert response.headers["X-Request-ID"] in response.text


def test_a_change_at_the_same_moment_is_said_and_not_a_fault(
    app: Flask, client: CheckingClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overtaken(*_: object, **__: object) -> None:
        raise IntegrityError("INSERT", {}, Exception("unique"))

    monkeypatch.setattr(sign_ins, "sign_in", overtaken)
    response = client.submit("/login", {"login": LOGIN, "password": "x"})
    assert response.status_code == 409
    assert "at the same moment" in response.text
