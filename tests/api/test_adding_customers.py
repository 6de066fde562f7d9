"""Add Customer: the provisioning of Tenant Registration, asked for in one call."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from blueprints.api import customers
from extensions import db
from models import (
    ApiCredential,
    ApiScope,
    Audience,
    AuditEvent,
    Customer,
    CustomerStatus,
    Group,
    OptionKind,
    RequestState,
    ServiceOption,
    StartRule,
    SubscriptionRequest,
    User,
)
from services import (
    passwords,
    provisioning,
    registration_orders,
    registration_submission,
    request_actions,
)
from tests.support.api import Caller, faults_of, make_credential
from tests.support.factories import actor_for, find_user, make_group, save
from tests.support.provisioning import check_completed
from tests.support.registrations import PASSWORD, make_draft, make_prospect
from tests.support.requests import make_service_template
from tests.support.smtp_sink import SmtpSink

ADD = "/group/1/customer"


def order(**changes: Any) -> dict[str, Any]:
    contact = {
        "company": "Bergmann & Söhne",
        "name": "Beate Bergmann",
        "email": "beate@bergmann.example",
        "phone": "+32 475 12 34 56",
        "street": "Rue de la Loi 16",
        "postal_code": "1000",
        "city": "Brussels",
        "country": "BE",
        **changes.pop("contact", {}),
    }
    return {
        "template": "Starter",
        "name": "Bergmann",
        "short_name": "bm",
        "upn_suffix": "bergmann.example",
        "user_name": "bmAdmin",
        "ani": "02 555 01 23",
        "contact": contact,
        **changes,
    }


def rows(app: Flask) -> list[SubscriptionRequest]:
    with app.app_context():
        return list(db.session.scalars(sa.select(SubscriptionRequest)))


@pytest.fixture(autouse=True)
def no_requests(app: Flask) -> None:
    with app.app_context():
        assert not db.session.scalars(sa.select(SubscriptionRequest)).all()


# --- Accepted ------------------------------------------------------------------------------------


def test_an_order_is_accepted_and_becomes_a_customer(
    app: Flask, api: Caller, sink: SmtpSink, work: Callable[[], None]
) -> None:
    response = api.post(ADD, json=order(password=PASSWORD))

    assert response.status_code == 202
    body = response.get_json()
    assert body["state"] == "scheduled"
    assert response.headers["Location"].endswith(f"/group/1/requests/{body['request_id']}")
    assert "Preference-Applied" not in response.headers
    followed = api.get(response.headers["Location"])
    assert followed.get_json()["name"] == "Bergmann"

    work()

    followed = api.get(response.headers["Location"]).get_json()
    assert followed["state"] == "completed"
    shown = api.get(f"/group/1/customer/{followed['custno']}").get_json()
    assert (shown["name"], shown["ani"], shown["language"]) == ("Bergmann", "+3225550123", "en")
    assert shown["time_zone"] == "Europe/Brussels"
    assert shown["contact"]["phone"] == "+32475123456"
    with app.app_context():
        check_completed([body["request_id"]])
        user = find_user("prpbmAdmin@bergmann.example")
        assert passwords.verify(user.password_hash, PASSWORD)
        request = db.session.get_one(SubscriptionRequest, body["request_id"])
        credential = db.session.scalars(sa.select(ApiCredential)).one()
        assert (request.created_by_id, request.credential_id) == (None, credential.id)
        assert request.author == "API credential demo-api"
        actors = db.session.scalars(
            sa.select(AuditEvent.actor_login).where(AuditEvent.action == "request.submitted")
        ).all()
        assert actors == ["api:demo-api"]


def test_without_a_password_the_welcome_mail_brings_one(
    app: Flask, api: Caller, sink: SmtpSink, work: Callable[[], None]
) -> None:
    location = api.post(ADD, json=order()).headers["Location"]
    work()
    custno = api.get(location).get_json()["custno"]
    with app.app_context():
        before = find_user("prpbmAdmin@bergmann.example").password_hash
        assert passwords.is_generated(before)
    assert api.post(f"/group/1/customer/{custno}/send-welcome-email").status_code == 204
    work()
    with app.app_context():
        assert find_user("prpbmAdmin@bergmann.example").password_hash != before
    assert "prpbmAdmin@bergmann.example" in sink.mails_to("beate@bergmann.example")[-1].text


def test_what_is_done_at_once_is_answered_at_once(app: Flask, api: Caller) -> None:
    """A worker takes the request while the call waits."""
    done = threading.Event()

    def worker() -> None:
        with app.app_context():
            while not done.wait(0.05):
                for request_id in provisioning.list_due():
                    provisioning.provision(request_id)

    thread = threading.Thread(target=worker)
    thread.start()
    try:
        response = api.post(ADD, json=order(), headers={"Prefer": "respond-async, wait=99"})
    finally:
        done.set()
        thread.join()

    assert response.status_code == 201
    assert response.headers["Preference-Applied"] == "wait=10"
    body = response.get_json()
    assert response.headers["Location"].endswith(f"/group/1/customer/{body['custno']}")
    assert response.headers["ETag"] == f'"{body["version"]}"'
    assert body["status"] == "active"
    assert api.get(response.headers["Location"]).get_json() == body


def test_a_wait_that_is_over_answers_with_the_request(
    api: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    original = registration_orders.wait_for_end

    def wait(request: SubscriptionRequest, seconds: float) -> SubscriptionRequest:
        waits.append(seconds)
        return original(request, 0.1)

    monkeypatch.setattr(registration_orders, "wait_for_end", wait)
    response = api.post(ADD, json=order(), headers={"Prefer": "wait=2"})
    assert (response.status_code, response.headers["Preference-Applied"]) == (202, "wait=2")
    assert waits == [2]


def test_no_more_than_a_few_calls_wait_so_that_others_are_answered(
    api: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(customers, "_waiting", threading.BoundedSemaphore(1))
    with customers._waiting:
        full = api.post(ADD, json=order(), headers={"Prefer": "wait=10"})
    assert full.status_code == 202
    assert "Preference-Applied" not in full.headers
    sent = order(name="Free", short_name="free", upn_suffix="free.example", template="Business")
    for _ in range(2):
        free = api.post(ADD, json=sent, headers={"Prefer": "wait=1"})
        sent = order(name="Two", short_name="two", upn_suffix="two.example", template="Business")
        assert free.headers["Preference-Applied"] == "wait=1"


@pytest.mark.parametrize(
    "prefer", ["wait", "wait=-1", "wait=x", "await=3", "wait=0", "\xff", ";;,"]
)
def test_a_preference_that_is_none_is_ignored(api: Caller, prefer: str) -> None:
    response = api.post(ADD, json=order(), headers={"Prefer": prefer})
    assert response.status_code == 202
    assert "Preference-Applied" not in response.headers


def test_a_template_with_approval_waits_for_it_and_the_call_does_not(api: Caller) -> None:
    response = api.post(ADD, json=order(template="business"), headers={"Prefer": "wait=10"})
    assert response.status_code == 202
    assert response.get_json()["state"] == "awaiting_approval"


def test_there_is_no_limit_as_for_prospects(app: Flask, api: Caller) -> None:
    for number in range(5):
        sent = order(
            name=f"Berg{number}", short_name=f"bm{number}", upn_suffix=f"berg{number}.example"
        )
        assert api.post(ADD, json=sent).get_json()["state"] == "scheduled"


def test_off_peak_hours_are_kept(app: Flask, api: Caller) -> None:
    with app.app_context():
        group = db.session.scalars(sa.select(Group).where(Group.groupno == 1)).one()
        make_service_template(
            name="By night",
            needs_approval=False,
            start_rule=StartRule.OFF_PEAK,
            group_id=group.id,
        )
    body = api.post(ADD, json=order(template="By night")).get_json()
    assert (body["state"], body["off_peak"]) == ("scheduled", True)
    assert body["scheduled_for"] is not None


def test_the_request_is_of_the_group_of_the_path(app: Flask) -> None:
    with app.app_context():
        other = make_group()
        groupno, other_id = other.groupno, other.id
        api = Caller(app, make_credential(groups=(1, groupno)))
    assert api.post(f"/group/{groupno}/customer", json=order()).status_code == 202
    (request,) = rows(app)
    assert request.group_id == other_id


def test_a_template_is_named_by_its_id_too(app: Flask, api: Caller) -> None:
    with app.app_context():
        group = db.session.scalars(sa.select(Group).where(Group.groupno == 1)).one()
        version = make_service_template(group_id=group.id, audience=Audience.STAFF)
        template_id, version_id = version.template_id, version.id
    assert api.post(ADD, json=order(template=template_id)).status_code == 202
    assert rows(app)[0].template_version_id == version_id


def test_options_are_kept_by_their_types(app: Flask, api: Caller) -> None:
    sent = order(options={"lines": 12, "voicemail_to_email": False})
    assert api.post(ADD, json=sent).status_code == 202
    assert rows(app)[0].options == {"lines": 12, "voicemail_to_email": False}


def test_changes_that_were_asked_for_are_sent_by_adding_the_customer_again(
    app: Flask, api: Caller
) -> None:
    first = api.post(ADD, json=order(template="Business")).get_json()
    with app.app_context():
        version = db.session.get_one(SubscriptionRequest, first["request_id"]).version
        request_actions.ask_for_changes(
            actor_for("operator@foyer.example"),
            first["request_id"],
            version=version,
            reason="Another name.",
        )
    sent = order(template="Business", name="Bergmann2")
    again = api.post(ADD, json=sent)
    assert again.status_code == 202
    assert again.get_json() == first
    assert api.get(again.headers["Location"]).get_json()["name"] == "Bergmann2"
    assert len(rows(app)) == 1


def test_a_repeated_call_with_its_key_is_the_same_request(app: Flask, api: Caller) -> None:
    answers = [
        api.post(ADD, json=order(), headers={"Idempotency-Key": "bergmann-1"}) for _ in range(2)
    ]
    assert [each.status_code for each in answers] == [202, 202]
    assert answers[0].get_json() == answers[1].get_json()
    assert answers[0].headers["Location"] == answers[1].headers["Location"]
    assert len(rows(app)) == 1


# --- Refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"template": "Nonesuch"}, {"template"}),
        ({"template": 987654321}, {"template"}),
        ({"name": "Ken ton", "ani": "1", "short_name": "admin"}, {"name", "ani", "short_name"}),
        ({"name": ""}, {"name"}),
        ({"upn_suffix": "co.uk"}, {"upn_suffix"}),
        ({"user_name": "-"}, {"user_name"}),
        ({"password": "3141592"}, {"password"}),
        ({"password": "x" * 300}, {"password"}),
        ({"password": "password1234"}, {"password"}),
        ({"password": "nul\0" * 5}, {"password"}),
        ({"language": "xx", "time_zone": "Mars/Base"}, {"language", "time_zone"}),
        (
            {"contact": {"email": "no", "phone": "1", "country": "ZZ", "company": ""}},
            {"contact.email", "contact.phone", "contact.country", "contact.company"},
        ),
        ({"options": {"lines": 10**9, "colour": "red"}}, {"options.lines", "options.colour"}),
        ({"options": {"lines": True}}, {"options.lines"}),
        ({"options": {"lines": "5"}}, {"options.lines"}),
        ({"options": {"voicemail_to_email": 1}}, {"options.voicemail_to_email"}),
        (
            {"options": {"lines": 1.5, "voicemail_to_email": None}},
            {"options.lines", "options.voicemail_to_email"},
        ),
        ({"options": {"x" * 70: 1}}, {f"options.{'x' * 70}.[key]"}),
        ({"template": None}, {"template"}),
        ({"template": 10**30}, {"template"}),
        ({"template": "x" * 10**5}, {"template"}),
        ({"contact": {"fax": "1"}}, {"contact.fax"}),
        ({"state": "completed", "group_id": 2}, {"state", "group_id"}),
        ({"name": 7}, {"name"}),
    ],
)
def test_each_fault_is_named_and_nothing_is_kept(
    app: Flask, api: Caller, changes: dict[str, Any], fields: set[str]
) -> None:
    response = api.post(ADD, json=order(**changes))
    assert response.status_code == 422
    assert set(faults_of(response)) == fields
    assert changes.get("password", "nothing") not in response.text
    assert rows(app) == []


def test_a_choice_is_among_its_choices(app: Flask, api: Caller) -> None:
    with app.app_context():
        group = db.session.scalars(sa.select(Group).where(Group.groupno == 1)).one()
        version = make_service_template(name="Chosen", group_id=group.id)
        save(
            ServiceOption(
                version_id=version.id,
                position=1,
                name="plan",
                label="Plan",
                kind=OptionKind.CHOICE,
                choices=["small", "large"],
                default="small",
            )
        )
    for wrong in ("huge", " ", 3, False):
        refused = api.post(ADD, json=order(template="Chosen", options={"plan": wrong}))
        assert set(faults_of(refused)) == {"options.plan"}, wrong
    sent = order(template="Chosen", options={"plan": "large"})
    assert api.post(ADD, json=sent).status_code == 202
    assert rows(app)[0].options == {"plan": "large"}


def test_names_that_are_taken_are_refused_as_the_wizard_does(app: Flask, api: Caller) -> None:
    taken = order(name="KentonElectronics", short_name="ke", upn_suffix="kenton-electronics.com")
    faults = faults_of(api.post(ADD, json=taken))
    assert {"name", "short_name", "upn_suffix"} <= set(faults)
    assert "is taken" in faults["name"]


def test_ones_own_request_is_named_and_that_of_others_is_not(app: Flask, api: Caller) -> None:
    first = api.post(ADD, json=order()).get_json()["request_id"]
    mine = faults_of(api.post(ADD, json=order()))
    assert f"your own request {first}" in mine["name"]
    with app.app_context():
        other = Caller(app, make_credential())
    theirs = faults_of(other.post(ADD, json=order()))
    assert "is taken" in theirs["name"]
    assert str(first) not in theirs["name"]
    assert len(rows(app)) == 1


def test_a_prospects_request_is_nobody_elses(app: Flask, api: Caller) -> None:
    with app.app_context():
        prospect = make_prospect()
        draft = make_draft(prospect)
        registration_submission.submit(prospect, draft.id, draft_version=draft.draft_version)
    assert "is taken" in faults_of(api.post(ADD, json=order()))["name"]


@pytest.mark.parametrize("scopes", [(ApiScope.READ,), (ApiScope.SEND,)])
def test_who_may_not_write_adds_nothing(app: Flask, scopes: tuple[ApiScope, ...]) -> None:
    with app.app_context():
        api = Caller(app, make_credential(scopes=scopes))
    response = api.post(ADD, json=order())
    assert (response.status_code, response.text) == (403, "Invalid access")
    assert rows(app) == []


def test_another_group_or_none_is_the_same_403(app: Flask, api: Caller) -> None:
    with app.app_context():
        other = make_group().groupno
    for groupno in (other, 0, 10**30, "x", -1):
        response = api.post(f"/group/{groupno}/customer", json=order())
        assert (response.status_code, response.text) == (403, "Invalid access")
    assert rows(app) == []


def test_a_template_of_another_group_is_not_offered(app: Flask) -> None:
    with app.app_context():
        make_service_template(name="Theirs", group_id=make_group().id)
        api = Caller(app, make_credential())
    assert set(faults_of(api.post(ADD, json=order(template="Theirs")))) == {"template"}


# --- Once ----------------------------------------------------------------------------------------


def test_two_equal_calls_at_once_are_one_request_and_one_customer(
    app: Flask, sink: SmtpSink, work: Callable[[], None]
) -> None:
    gate = threading.Barrier(4)
    answers: list[tuple[int, str]] = []

    def call() -> None:
        caller = Caller(app)
        gate.wait()
        response = caller.post(ADD, json=order(password=PASSWORD))
        answers.append((response.status_code, response.text))

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(status for status, _ in answers) == [202, 422, 422, 422]
    assert all("your own request" in text for status, text in answers if status == 422)
    work()
    (request,) = rows(app)
    with app.app_context():
        check_completed([request.id])
        assert request.state is RequestState.COMPLETED
        mine = Customer.upn_suffix == "bergmann.example"
        assert [each.status for each in db.session.scalars(sa.select(Customer).where(mine))] == [
            CustomerStatus.ACTIVE
        ]
        admins = sa.select(User).where(User.login == "prpbmAdmin@bergmann.example")
        assert len(db.session.scalars(admins).all()) == 1
