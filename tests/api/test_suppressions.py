"""Suppressed addresses in the API."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import ApiScope, AuditEvent, Suppression, UserStatus
from tests.support.api import CQ001, Caller, faults_of, make_credential
from tests.support.factories import find_customer, make_user, save

PATH = f"{CQ001}/suppressions"
ADDRESS = "Both@x.example"
GIVEN = {"address": "both@X.example", "reason": "Asked for no more mail."}


@pytest.fixture(autouse=True)
def user_id(app: Flask) -> int:
    """A user of CQ001 who has the address; nothing is suppressed."""
    with app.app_context():
        db.session.execute(sa.delete(Suppression))
        db.session.commit()
        return make_user(find_customer("CQ001"), email=ADDRESS).id


def add(api: Caller, **changes: str) -> dict[str, Any]:
    response = api.post(PATH, json={**GIVEN, **changes})
    assert response.status_code == 201, response.text
    body: dict[str, Any] = response.get_json()
    return body


def audited() -> list[tuple[str, dict[str, Any]]]:
    rows = db.session.scalars(
        sa.select(AuditEvent).where(AuditEvent.object_type == "suppression").order_by(AuditEvent.id)
    )
    return [(row.action, row.detail) for row in rows]


def test_an_address_is_suppressed_and_cleared(app: Flask, api: Caller, user_id: int) -> None:
    body = add(api)
    assert body["address"] == "both@x.example"
    assert body["reason"] == GIVEN["reason"]
    assert [each["id"] for each in body["users"]] == [user_id]
    assert body["since"].endswith("Z")
    assert api.get(PATH).get_json() == {"items": [body], "next": None}

    response = api.delete(f"{PATH}/{body['id']}")

    assert (response.status_code, response.data) == (204, b"")
    assert api.get(PATH).get_json()["items"] == []
    assert api.delete(f"{PATH}/{body['id']}").status_code == 403
    with app.app_context():
        told = {"email": "both@x.example", "reason": GIVEN["reason"]}
        assert audited() == [("suppression.added", told), ("suppression.cleared", told)]


def test_the_first_reason_stays(api: Caller) -> None:
    add(api)
    response = api.post(PATH, json={**GIVEN, "reason": "Another."})
    assert response.status_code == 409
    assert api.get(PATH).get_json()["items"][0]["reason"] == GIVEN["reason"]


def test_addresses_are_found_page_by_page(app: Flask, api: Caller) -> None:
    with app.app_context():
        for name in ("cat", "dog"):
            make_user(find_customer("CQ001"), email=f"{name}@x.example", first_name=name.title())
    for name in ("dog", "both", "cat"):
        add(api, address=f"{name}@x.example")

    first = api.get(PATH, query_string={"limit": 2})
    body = first.get_json()
    rest = api.get(PATH, query_string={"limit": 2, "cursor": body["next"]}).get_json()

    assert [each["address"][:3] for each in body["items"] + rest["items"]] == ["bot", "cat", "dog"]
    assert 'rel="next"' in first.headers["Link"]
    (found,) = api.get(PATH, query_string={"q": "Dog"}).get_json()["items"]
    assert found["address"] == "dog@x.example"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"address": "nobody@x.example"}, "address"),
        ({"address": "other@x.example"}, "address"),
        ({"address": "gone@x.example"}, "address"),
        ({"address": ""}, "address"),
        ({"address": "a" * 321}, "address"),
        ({"address": "a\0b"}, "address"),
        ({"reason": ""}, "reason"),
        ({"reason": " "}, "reason"),
        ({"reason": "x" * 256}, "reason"),
        ({"reason": None}, "reason"),
        ({"until": "2027"}, "until"),
    ],
)
def test_what_cannot_be_suppressed_is_named(
    app: Flask, api: Caller, changes: dict[str, Any], field: str
) -> None:
    with app.app_context():
        make_user(find_customer("CQ002"), email="other@x.example")
        make_user(find_customer("CQ001"), email="gone@x.example", status=UserStatus.DELETED)
    response = api.post(PATH, json={**GIVEN, **changes})
    assert response.status_code == 422
    assert list(faults_of(response)) == [field]
    with app.app_context():
        assert db.session.scalar(sa.select(sa.func.count(Suppression.id))) == 0


def test_another_customers_address_is_as_unknown_as_none(app: Flask, api: Caller) -> None:
    with app.app_context():
        make_user(find_customer("CQ002"), email="other@x.example")
        other = save(Suppression(email_key="other@x.example", reason="Bounced.")).id
    for each in (other, 999_999, 10**30, "x"):
        refused = api.delete(f"{PATH}/{each}")
        assert (refused.status_code, refused.text) == (403, "Invalid access")
    assert api.get(PATH).get_json()["items"] == []
    assert api.delete(f"/group/1/customer/1002/suppressions/{other}").status_code == 204


def test_each_call_has_its_scope_and_its_groups(app: Flask) -> None:
    with app.app_context():
        foreign = Caller(app, make_credential("foreign", groups=(2,)))
        reader = Caller(app, make_credential("r", scopes=(ApiScope.READ, ApiScope.SEND)))
        writer = Caller(app, make_credential("w", scopes=(ApiScope.WRITE,)))
    suppression_id = add(writer)["id"]
    one = f"{PATH}/{suppression_id}"
    for refused in (
        reader.post(PATH, json=GIVEN),
        reader.delete(one),
        writer.get(PATH),
        foreign.get(PATH),
        foreign.post(PATH, json=GIVEN),
        foreign.delete(one),
    ):
        assert (refused.status_code, refused.text) == (403, "Invalid access")
    assert reader.get(PATH).status_code == 200
    assert writer.delete(one).status_code == 204
