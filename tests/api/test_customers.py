"""The Customer section of the API."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from flask import Flask

from blueprints.api import customers
from extensions import db
from models import (
    ApiScope,
    CustomerStatus,
    Delivery,
    DeliveryState,
    Mailing,
    Role,
    User,
    UserStatus,
)
from services.customers import LISTED
from tests.support.api import CQ001, Caller, faults_of, make_credential
from tests.support.factories import find_customer, make_customer, make_group
from tests.support.smtp_sink import SmtpSink

SEND = f"{CQ001}/send-welcome-email"


def test_a_customer_is_shown(api: Caller) -> None:
    response = api.get(CQ001)

    assert response.status_code == 200
    body = response.get_json()
    assert (body["custno"], body["groupno"], body["web_id"]) == (1001, 1, "CQ001")
    assert body["upn_suffix"] == "kenton-electronics.com"
    assert response.headers["ETag"] == f'"{body["version"]}"'
    assert body["created_at"].endswith("Z")


# --- List ----------------------------------------------------------------------------------------


def test_the_list_shows_what_get_shows(api: Caller) -> None:
    response = api.get("/group/1/customer?limit=100")

    assert response.status_code == 200
    items = response.get_json()["items"]
    assert [each["name"] for each in items] == sorted(
        (each["name"] for each in items), key=str.casefold
    )
    for item in items:
        assert item == api.get(f"/group/1/customer/{item['custno']}").get_json()


def test_a_row_is_read_in_the_order_of_its_columns() -> None:
    names = list(inspect.signature(customers._values_of).parameters)[1:]
    assert tuple(name.removeprefix("_") for name in names) == LISTED


def test_the_pages_of_the_list_lead_to_each_other(app: Flask, api: Caller) -> None:
    with app.app_context():
        group_id = find_customer("CQ001").group_id
        for number in range(5):
            make_customer(group_id=group_id, name=f"zz{number}")
        make_customer(group_id=group_id, name="zz9", status=CustomerStatus.CREATING)
        make_customer(name="zzother")
    seen: list[str] = []
    path: str | None = "/group/1/customer?q=ZZ&limit=2"
    while path:
        response = api.get(path)
        body = response.get_json()
        seen += [each["name"] for each in body["items"]]
        assert ('rel="next"' in response.headers.get("Link", "")) == (body["next"] is not None)
        path = body["next"] and f"/group/1/customer?q=ZZ&limit=2&cursor={body['next']}"
    assert seen == [f"zz{number}" for number in range(5)]


def test_the_list_is_narrowed_to_a_status(app: Flask, api: Caller) -> None:
    with app.app_context():
        group_id = find_customer("CQ001").group_id
        make_customer(group_id=group_id, name="zz1", status=CustomerStatus.SUSPENDED)

    def listed(query: str) -> list[str]:
        response = api.get(f"/group/1/customer?limit=100&{query}")
        return [each["name"] for each in response.get_json()["items"]]

    assert listed("status=suspended") == ["zz1"]
    assert "zz1" not in listed("status=active")
    assert "zz1" in listed("")
    assert listed("status=active&q=zz1") == []


@pytest.mark.parametrize(
    "query",
    [
        "status=deleted",
        "limit=0",
        "limit=101",
        "limit=x",
        "cursor=abc",
        "sort=name",
        "q=a&q=b",
        f"q={'x' * 254}",
    ],
)
def test_a_list_that_cannot_be_asked_for_is_refused(api: Caller, query: str) -> None:
    assert api.get(f"/group/1/customer?{query}").status_code == 422


@pytest.mark.parametrize("search", ["%00", "%ED%A0%80", "%FF", "%F4%8F%BF%BF", "'; --"])
def test_any_search_is_answered(api: Caller, search: str) -> None:
    response = api.get(f"/group/1/customer?q={search}")
    assert response.status_code == 200
    assert response.get_json() == {"items": [], "next": None}


def test_the_list_of_another_group_is_the_same_403(app: Flask, api: Caller) -> None:
    with app.app_context():
        other = make_group().groupno
        writer = Caller(app, make_credential(scopes=(ApiScope.WRITE, ApiScope.SEND)))
    for response in (
        api.get(f"/group/{other}/customer"),
        api.get("/group/999999/customer"),
        writer.get("/group/1/customer"),
    ):
        assert (response.status_code, response.text) == (403, "Invalid access")


# --- Update --------------------------------------------------------------------------------------


def test_what_is_in_the_patch_changes_and_the_rest_stays(api: Caller) -> None:
    before = api.get(CQ001).get_json()
    change = {
        "language": "fr",
        "ani": "02 555 99 99",
        "contact": {"city": "Ghent", "country": "BE", "region": None},
    }

    response = api.patch(CQ001, json=change)

    assert response.status_code == 200
    body = response.get_json()
    assert response.headers["ETag"] == f'"{body["version"]}"'
    assert body["version"] == before["version"] + 1
    assert (body["language"], body["ani"]) == ("fr", "+3225559999")
    assert (body["contact"]["city"], body["contact"]["region"]) == ("Ghent", "")
    for name in ("name", "short_name", "upn_suffix", "status", "options", "time_zone"):
        assert body[name] == before[name]
    assert body["contact"]["email"] == before["contact"]["email"]
    assert api.get(CQ001).get_json() == body
    assert api.patch(CQ001, json=change).get_json() == body


def test_of_two_who_read_the_same_the_second_is_told(api: Caller) -> None:
    etag = api.get(CQ001).headers["ETag"]
    for city, status in (("Ghent", 200), ("Namur", 412)):
        change = {"contact": {"city": city}}
        assert api.patch(CQ001, json=change, headers={"If-Match": etag}).status_code == status
    assert api.get(CQ001).get_json()["contact"]["city"] == "Ghent"


@pytest.mark.parametrize("empty", [{}, {"contact": {}}])
def test_a_patch_of_nothing_is_refused(api: Caller, empty: dict) -> None:
    response = api.patch(CQ001, json=empty)
    assert response.status_code == 422
    assert "at least one field" in response.get_json()["detail"]


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"contact": {"email": "no", "country": "ZZ"}}, {"contact.email", "contact.country"}),
        ({"contact": {"company": None, "city": ""}}, {"contact.company", "contact.city"}),
        (
            {"language": "xx", "time_zone": "Mars/Base", "ani": "1"},
            {"language", "time_zone", "ani"},
        ),
        ({"language": None}, {"language"}),
        ({"contact": None}, {"contact"}),
        ({"name": "Other", "status": "suspended"}, {"name", "status"}),
        ({"contact": {"city": "a\nb"}}, {"contact.city"}),
        ({"contact": {"city": "a\u202eb"}}, {"contact.city"}),
        ({"contact": {"city": "\0"}}, {"contact.city"}),
        ({"contact": {"city": "x" * 10**5}}, {"contact.city"}),
        ({"contact": {"city": 5}}, {"contact.city"}),
    ],
)
def test_faults_of_a_patch_are_named_as_the_api_names_fields(
    api: Caller, change: dict, fields: set[str]
) -> None:
    before = api.get(CQ001).get_json()
    response = api.patch(CQ001, json=change)
    assert response.status_code == 422
    assert set(faults_of(response)) == fields
    assert api.get(CQ001).get_json() == before


def test_who_may_not_write_or_is_of_another_group_changes_nothing(app: Flask, api: Caller) -> None:
    with app.app_context():
        reader = Caller(app, make_credential("reader", scopes=(ApiScope.READ, ApiScope.SEND)))
        make_group(groupno=77)
        other = Caller(app, make_credential("other", groups=(77,)))
    before = api.get(CQ001).get_json()
    for caller in (reader, other):
        response = caller.patch(CQ001, json={"contact": {"city": "Ghent"}})
        assert (response.status_code, response.text) == (403, "Invalid access")
    assert api.get(CQ001).get_json() == before


# --- Welcome -------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", ["/tiab/api/v1", "/api/v1"])
@pytest.mark.parametrize(
    "sent",
    [
        {"json": {}},
        {},
        {"data": b"", "headers": {"Content-Type": "application/json"}},
    ],
    ids=["empty object", "no body", "empty body"],
)
def test_the_welcome_mail_goes_to_the_administrators(
    app: Flask, api: Caller, sink: SmtpSink, work: Callable[[], None], base: str, sent: dict
) -> None:
    response = api.post(base + SEND, **sent)

    assert (response.status_code, response.data) == (204, b"")
    work()
    with app.app_context():
        customer = find_customer("CQ001")
        mailing = db.session.scalars(sa.select(Mailing)).one()
        assert mailing.author == "API credential demo-api"
        admins = db.session.scalars(
            sa.select(User).where(User.customer_id == customer.id, User.role == Role.CUSTOMER_ADMIN)
        ).all()
        deliveries = db.session.scalars(sa.select(Delivery)).all()
        assert [each.user_id for each in deliveries] == [each.id for each in admins]
        assert {each.state for each in deliveries} == {DeliveryState.SENT}


def test_it_is_sent_again_to_who_was_mailed_a_moment_ago(
    api: Caller, sink: SmtpSink, work: Callable[[], None]
) -> None:
    for _ in range(2):
        assert api.post(SEND).status_code == 204
        work()
    assert len(sink.mails_to("admin@kenton-electronics.com")) == 2


def test_nobody_to_mail_is_said(app: Flask, api: Caller) -> None:
    with app.app_context():
        db.session.execute(
            sa.update(User)
            .where(User.role == Role.CUSTOMER_ADMIN)
            .values(status=UserStatus.SUSPENDED)
        )
        db.session.commit()

    response = api.post(SEND)

    assert response.status_code == 409
    assert response.mimetype == "application/problem+json"
    assert "no administrator who can be mailed" in response.get_json()["detail"]
    with app.app_context():
        assert db.session.scalar(sa.select(sa.func.count(Mailing.id))) == 0
