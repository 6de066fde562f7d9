"""The audit pages: the list with its filters for each reader, each event, the export."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import AuditEvent
from services.actors import SYSTEM
from services.audit_events import insert_event
from tests.support.factories import actor_for, find_customer, find_user, make_user
from tests.support.pages import CheckingClient, Page

SignInAs = Callable[[str], CheckingClient]
LANDLORD, ADMIN = "landlord@foyer.example", "prpkeAdmin@kenton-electronics.com"
CQ001 = "/customers/CQ001"
one_database = pytest.mark.parametrize("engine_name", ["sqlite"])
EVIL = (
    "<script>alert(1)</script>((first name))\r\nBcc: x@y.example=cmd|' /C calc'!A0\u202e"
    + "x" * 300
)


@pytest.fixture
def changed(app: Flask) -> int:
    """The number of an event: the landlord has renamed a user of CQ001."""
    with app.app_context():
        kenton = find_customer("CQ001")
        user = make_user(kenton, first_name="Ada", last_name="Lovelace")
        insert_event(
            db.session.connection(),
            actor_for(LANDLORD),
            "user.changed",
            customer_id=kenton.id,
            object_type="user",
            object_id=user.id,
            detail={
                "before": {"last_name": "Lovelace", "extension": ""},
                "after": {"last_name": "Byron", "extension": "4711"},
            },
        )
        db.session.commit()
        event = db.session.scalars(
            sa.select(AuditEvent).where(AuditEvent.action == "user.changed")
        ).one()
        return event.id


def note(app: Flask, action: str, **values: Any) -> None:
    with app.app_context():
        insert_event(db.session.connection(), SYSTEM, action, **values)
        db.session.commit()


def rows(page: Page) -> list[list[str]]:
    return [
        [page.text(cell) for cell in row]
        for row in page.all("tr")
        if row.get("data-row") is not None
    ]


def test_the_newest_change_stands_first_and_opens_to_before_and_after(
    sign_in_as: SignInAs, changed: int
) -> None:
    client = sign_in_as(LANDLORD)
    page = client.page("/audit")
    _, to, customer, who, address, when = next(
        row for row in rows(page) if row[0] == "User changed"
    )
    assert "@" in to
    assert (customer, who, address) == ("CQ001", LANDLORD, "192.0.2.1")
    assert when == "just now"
    event = client.page(f"/audit/{changed}")
    assert event.text(event.one("h1")) == "User changed"
    table = [[event.text(cell) for cell in row] for row in event.one("tbody")]
    assert ["Last name", "Lovelace", "Byron"] in table
    assert ["Extension", "None", "4711"] in table
    with client.application.app_context():
        user = db.session.get_one(AuditEvent, changed).object_id
    links = [link.get("href") for link in event.all("a")]
    assert f"{CQ001}/users/{user}" in links
    assert f"/audit?object=user:{user}" in links


def test_an_administrator_reads_his_customers_trail_without_addresses_of_staff(
    sign_in_as: SignInAs, changed: int
) -> None:
    client = sign_in_as(ADMIN)
    page = client.page(f"{CQ001}/audit")
    listed = rows(page)
    assert "User changed" in [row[0] for row in listed]
    assert "192.0.2.1" not in page.source
    event = client.page(f"{CQ001}/audit/{changed}")
    assert LANDLORD in event.source
    assert "192.0.2.1" not in event.source
    assert client.get("/audit").status_code == 403
    assert client.get(f"/audit/{changed}").status_code == 403


def test_filters_stand_in_the_address_and_are_chips(sign_in_as: SignInAs, changed: int) -> None:
    client = sign_in_as(LANDLORD)
    today = datetime.now(UTC).date()
    query = f"q=CQ001&actor=land&action=user.changed&customer=cq001&from={today}&to={today}&size=50"
    page = client.page(f"/audit?{query}")
    assert [row[0] for row in rows(page)] == ["User changed"]
    chips = [page.text(chip) for chip in page.all("a", class_="chip")]
    assert len(chips) == 6
    assert chips[0].startswith("Search: CQ001")
    for chip in page.all("a", class_="chip"):
        left = client.page(chip.get("href"))
        assert len(left.all("a", class_="chip")) == 5
        assert "User changed" in [row[0] for row in rows(left)]
        assert "size=50" in chip.get("href")
    form = next(each for each in page.all("form") if "audit-filters" in (each.get("class") or ""))
    sent = page.fields(form)
    assert {name: sent[name] for name in ("q", "actor", "action", "customer", "from", "size")} == {
        "q": ["CQ001"],
        "actor": ["land"],
        "action": ["user.changed"],
        "customer": ["cq001"],
        "from": [str(today)],
        "size": ["50"],
    }
    (search,) = (each for each in page.all("form") if each.get("role") == "search")
    assert page.fields(search)["actor"] == ["land"]
    none = client.page("/audit?action=user.vanished&behalf=1")
    assert "No event matches these filters." in none.text()
    assert len(none.all("a", class_="chip")) == 2


def test_the_history_of_one_object(sign_in_as: SignInAs, app: Flask, changed: int) -> None:
    with app.app_context():
        user = db.session.get_one(AuditEvent, changed).object_id
    page = sign_in_as(LANDLORD).page(f"/audit?object=user:{user}")
    assert [row[0] for row in rows(page)] == ["User changed"]
    assert "Object: user" in page.text()
    nobody = sign_in_as(LANDLORD).page("/audit?object=user:999999999")
    assert "Object: User 999999999" in nobody.text()


def test_pages_and_fragments(app: Flask, sign_in_as: SignInAs) -> None:
    for number in range(60):
        note(app, "thing.changed", object_type="thing", object_id=number)
    client = sign_in_as(LANDLORD)
    page = client.page("/audit?action=thing.changed")
    assert len(rows(page)) == 25
    following = page.one("a", id="page-next").get("href")
    fragment = client.fragment(following)
    assert fragment.all("h1") == []
    assert [row[1] for row in rows(fragment)] == [f"Thing {n}" for n in range(34, 9, -1)]
    previous = fragment.one("a", id="page-previous").get("href")
    assert next(row[1] for row in rows(client.page(previous))) == "Thing 59"


def test_the_export_streams_what_is_shown(app: Flask, sign_in_as: SignInAs, changed: int) -> None:
    note(app, "thing.changed", detail={"before": {"name": EVIL}})
    for login, base in ((LANDLORD, "/audit"), (ADMIN, f"{CQ001}/audit")):
        client = sign_in_as(login)
        response = client.submit(f"{base}/export", {"here": "action=user.changed"})
        assert response.mimetype == "text/csv"
        lines = list(csv.reader(io.StringIO(response.text.lstrip("\ufeff"))))
        assert [line[2] for line in lines] == ["Action", "user.changed"]
        assert lines[1][6] == "CQ001"
        assert (lines[1][5] == "192.0.2.1") is (login == LANDLORD)


def test_hostile_texts_are_shown_as_they_are(app: Flask, sign_in_as: SignInAs) -> None:
    with app.app_context():
        kenton = find_customer("CQ001")
        user = make_user(kenton, first_name="X", login="evil<script>@kenton-electronics.com")
        note(
            app,
            "thing.changed",
            customer_id=kenton.id,
            object_type="user",
            object_id=user.id,
            detail={
                "before": {EVIL: EVIL},
                "after": {EVIL: [EVIL, {"deep": EVIL}]},
                EVIL: {"a": [EVIL]},
                "list": [EVIL],
                "none": None,
                "no": False,
                "number": 1.5,
            },
        )
        number = db.session.scalars(sa.select(sa.func.max(AuditEvent.id))).one()
    for login, base in ((LANDLORD, "/audit"), (ADMIN, f"{CQ001}/audit")):
        client = sign_in_as(login)
        for path in (base, f"{base}/{number}", f"{base}?object=user:{user.id}"):
            page = client.page(path)
            assert "<script>alert" not in page.source
            assert "evil<script>" in page.text()


@one_database
@pytest.mark.parametrize(
    "query",
    [
        "object=user",
        "object=user:-1",
        "object=user:" + "9" * 30,
        "object=<x>:1",
        "from=yesterday&to=0000-00-00",
        "from=9999-12-31&to=9999-12-31",
        "from=2026-02-30",
        "action=x&action=y",
        "action=%00.%00",
        "customer=%ff&behalf=2",
        "cursor=" + "x" * 3000,
        "size=1000000",
    ],
)
def test_malformed_filters_count_as_not_given(sign_in_as: SignInAs, query: str) -> None:
    client = sign_in_as(LANDLORD)
    for base in ("/audit", f"{CQ001}/audit"):
        assert client.get(f"{base}?{query}").status_code == 200


@one_database
def test_who_is_somebody_elses_administrator_and_whose_event(
    app: Flask, sign_in_as: SignInAs
) -> None:
    with app.app_context():
        note(app, "thing.changed", customer_id=find_customer("CQ002").id)
        number = db.session.scalars(sa.select(sa.func.max(AuditEvent.id))).one()
        assert find_user(ADMIN).customer_id == find_customer("CQ001").id
    assert sign_in_as(ADMIN).get(f"{CQ001}/audit/{number}").status_code == 404
    assert sign_in_as(LANDLORD).get(f"/audit/{10**30}").status_code == 404
