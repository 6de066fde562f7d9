"""Subscription requests in the API."""

from __future__ import annotations

import json
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import (
    ApiCredential,
    ApiScope,
    Group,
    ProvisioningRun,
    ProvisioningStep,
    RequestState,
    StepName,
    StepState,
    SubscriptionRequest,
)
from tests.support.api import Caller, faults_of, make_credential
from tests.support.factories import find_customer
from tests.support.requests import make_request, make_service_template, pass_on

LIST = "/group/1/requests"
SECRETS = {"domain_token": "domain-token-of-a-test", "password_hash": "hash-of-a-test"}


@pytest.fixture
def app(app: Flask) -> Flask:
    with app.app_context():
        db.session.execute(sa.delete(SubscriptionRequest))
        db.session.commit()
    return app


def group_id(number: int) -> int:
    return db.session.scalars(sa.select(Group.id).where(Group.groupno == number)).one()


def make(state: RequestState, groupno: int = 1, **changes: Any) -> int:
    version = make_service_template(group_id=group_id(groupno))
    return make_request(state, version, **{**SECRETS, **changes}).id


def test_the_requests_of_the_group_are_listed_newest_first(app: Flask, api: Caller) -> None:
    with app.app_context():
        first = make(RequestState.AWAITING_APPROVAL, name="FirstTenant")
        second = make(RequestState.SCHEDULED)
        make(RequestState.DRAFT)
        make(RequestState.AWAITING_APPROVAL, groupno=2)

    body = api.get(LIST).get_json()

    assert [each["id"] for each in body["items"]] == [second, first]
    assert body["next"] is None
    item = body["items"][1]
    assert item["name"] == "FirstTenant"
    assert (item["state"], item["waiting"]) == ("awaiting_approval", "waiting for you")
    assert item["groupno"] == 1
    assert item["custno"] is None
    assert item["submitted_at"].endswith("Z")


def test_pages_follow_each_other(app: Flask, api: Caller) -> None:
    with app.app_context():
        made = [make(RequestState.SCHEDULED) for _ in range(3)]

    first = api.get(LIST, query_string={"limit": 2})
    body = first.get_json()
    second = api.get(LIST, query_string={"limit": 2, "cursor": body["next"]}).get_json()

    assert [each["id"] for each in body["items"] + second["items"]] == made[::-1]
    assert 'rel="next"' in first.headers["Link"]


def test_state_and_search_filter(app: Flask, api: Caller) -> None:
    with app.app_context():
        scheduled = make(RequestState.SCHEDULED, name="Alpha")
        failed = make(RequestState.FAILED, name="Alphabet")
        make(RequestState.FAILED, name="Beta")
        make(RequestState.FAILED, groupno=2, name="Alphorn")

    def ids(**query: str) -> list[int]:
        return [each["id"] for each in api.get(LIST, query_string=query).get_json()["items"]]

    assert ids(q="alpha") == [failed, scheduled]
    assert ids(q="alpha", state="failed") == [failed]
    assert ids(state="scheduled") == [scheduled]
    assert ids(q=str(scheduled)) == [scheduled]
    assert ids(q=str(scheduled), state="failed") == []
    assert ids(state="draft") == []


def test_what_credentials_asked_for_is_listed_as_everybody_elses(app: Flask, api: Caller) -> None:
    """Without an author it is nobody's own, neither the caller's nor the reader's."""
    with app.app_context():
        credential = db.session.scalars(sa.select(ApiCredential.id)).one()
        own = make(RequestState.CHANGES_REQUESTED, created_by_id=None, credential_id=credential)
        draft = make(RequestState.DRAFT, created_by_id=None, credential_id=credential)
        db.session.execute(
            sa.update(SubscriptionRequest)
            .where(SubscriptionRequest.id == draft)
            .values(group_id=group_id(1))
        )
        db.session.commit()

    (item,) = api.get(LIST).get_json()["items"]

    assert item["id"] == own
    assert item["waiting"] == "waiting for the registrant"
    assert api.get(f"{LIST}/{draft}").status_code == 403
    assert api.get(LIST, query_string={"q": str(draft)}).get_json()["items"] == []


def test_a_request_tells_its_way(app: Flask, api: Caller) -> None:
    with app.app_context():
        request_id = make(RequestState.PROVISIONING, options={"lines": 5})
        run = ProvisioningRun(request_id=request_id)
        run.steps = [
            ProvisioningStep(
                position=1, name=StepName.RESERVE_NAMES, state=StepState.DONE, attempts=1
            ),
            ProvisioningStep(
                position=2,
                name=StepName.CREATE_CUSTOMER,
                state=StepState.WAITING,
                attempts=2,
                error="The platform does not answer.",
            ),
        ]
        db.session.add(run)
        db.session.commit()

    response = api.get(f"{LIST}/{request_id}")

    assert response.status_code == 200
    body = response.get_json()
    assert body["state"] == "provisioning"
    assert body["options"] == {"lines": 5}
    assert body["contact"]["name"] == "Pat Prospect"
    assert [each["to_state"] for each in body["timeline"]][-1] == "provisioning"
    assert {each["by"] for each in body["timeline"]} == {"system"}
    assert [(each["name"], each["state"], each["attempts"]) for each in body["steps"]] == [
        ("reserve_names", "done", 1),
        ("create_customer", "waiting", 2),
    ]
    assert body["steps"][1]["error"] == "The platform does not answer."


def test_the_customer_is_named_once_it_is_there(app: Flask, api: Caller) -> None:
    with app.app_context():
        customer_id = find_customer("CQ002").id
        request_id = make(RequestState.PROVISIONING, customer_id=customer_id)
    assert api.get(f"{LIST}/{request_id}").get_json()["custno"] is None

    with app.app_context():
        pass_on(db.session.get_one(SubscriptionRequest, request_id), RequestState.COMPLETED)

    assert api.get(f"{LIST}/{request_id}").get_json()["custno"] == 1002
    assert api.get(LIST).get_json()["items"][0]["custno"] == 1002


def test_nothing_secret_is_told(app: Flask, api: Caller) -> None:
    with app.app_context():
        request_id = make(RequestState.AWAITING_APPROVAL)

    for path in (LIST, f"{LIST}/{request_id}"):
        text = api.get(path).get_data(as_text=True)
        assert "sealed" not in text
        assert not [each for each in SECRETS.values() if each in text]
        assert not [each for each in json.loads(text) if "password" in each or "token" in each]


def test_another_groups_request_is_as_unknown_as_none(app: Flask, api: Caller) -> None:
    with app.app_context():
        theirs = make(RequestState.AWAITING_APPROVAL, groupno=2)
        both = Caller(app, make_credential("both", groups=(1, 2)))
        second = Caller(app, make_credential("second", groups=(2,)))

    refused = [
        api.get(f"{LIST}/{theirs}"),
        api.get(f"/group/2/requests/{theirs}"),
        api.get("/group/2/requests"),
        api.get(f"{LIST}/999999"),
        api.get(f"{LIST}/none"),
        both.get(f"{LIST}/{theirs}"),
        second.get(LIST),
    ]

    assert {(each.status_code, each.text) for each in refused} == {(403, "Invalid access")}
    assert both.get(f"/group/2/requests/{theirs}").status_code == 200


def test_reading_is_a_scope_of_its_own(app: Flask) -> None:
    with app.app_context():
        request_id = make(RequestState.AWAITING_APPROVAL)
        writer = Caller(app, make_credential("w", scopes=(ApiScope.WRITE, ApiScope.SEND)))
        reader = Caller(app, make_credential("r", scopes=(ApiScope.READ,)))

    for path in (LIST, f"{LIST}/{request_id}"):
        assert writer.get(path).status_code == 403
        assert reader.get(path).status_code == 200


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"state": "waiting"}, "state"),
        ({"q": "a\0b"}, "q"),
        ({"q": "a" * 201}, "q"),
        ({"limit": "0"}, "limit"),
        ({"cursor": "nonsense"}, "cursor"),
        ({"sort": "name"}, "sort"),
    ],
)
def test_what_cannot_be_read_is_named(api: Caller, query: dict[str, str], field: str) -> None:
    response = api.get(LIST, query_string=query)

    assert response.status_code == 422
    assert list(faults_of(response)) == [field]
