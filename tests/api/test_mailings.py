"""Mailings in the API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import (
    ApiCredential,
    ApiScope,
    Bundle,
    Delivery,
    DeliveryState,
    EmailTemplateText,
    Mailing,
    Suppression,
    User,
    UserStatus,
)
from services.sign_ins import sign_in
from tests.support.api import CQ001, Caller, faults_of, make_credential
from tests.support.factories import actor_for, find_customer, find_user, make_bundle, make_user
from tests.support.promises import passwords_in, start_by_command, start_welcome
from tests.support.smtp_sink import SmtpSink

PATH = f"{CQ001}/mailings"
ADMIN = "prpkeAdmin@kenton-electronics.com"
OTHER_ADMIN = "prphlAdmin@harborlight.example"
ENTRY = "Entry3PhoneNextGenBundle"
NEWS = "Voicemail update"


@pytest.fixture
def people(app: Flask) -> list[int]:
    """Ids of three users who can be mailed."""
    with app.app_context():
        kenton = find_customer("CQ001")
        return [make_user(kenton, email=f"p{number}@x.example").id for number in range(3)]


def send(api: Caller, **given: Any) -> dict[str, Any]:
    response = api.post(PATH, json={"template": NEWS, **given})
    assert response.status_code == 202, response.text
    body: dict[str, Any] = response.get_json()
    assert api.get(response.headers["Location"]).get_json()["id"] == body["id"]
    return body


def deliveries(api: Caller, mailing_id: int, **query: Any) -> list[dict[str, Any]]:
    response = api.get(f"{PATH}/{mailing_id}/deliveries", query_string={"limit": 100, **query})
    assert response.status_code == 200, response.text
    items: list[dict[str, Any]] = response.get_json()["items"]
    return items


# --- Sending -------------------------------------------------------------------------------------


def test_a_template_is_sent_to_users_by_id(
    app: Flask, api: Caller, people: list[int], sink: SmtpSink, work: Callable[[], None]
) -> None:
    body = send(api, users=[*people, people[0]])

    assert (body["state"], body["template"]) == ("running", NEWS)
    assert body["author"] == "API credential demo-api"
    assert (body["counters"]["total"], body["counters"]["queued"]) == (3, 3)
    assert not body["resets_portal_password"]
    work()
    ended = api.get(f"{PATH}/{body['id']}").get_json()
    assert (ended["state"], ended["counters"]["sent"]) == ("finished", 3)
    assert ended["pace"]["seconds_left"] is None
    assert ended["finished_at"].endswith("Z")
    assert len(sink.mails_to("p2@x.example")) == 1
    listed = deliveries(api, body["id"])
    assert [each["user"]["id"] for each in listed] == people
    assert {each["state"] for each in listed} == {"sent"}
    assert {each["answer_code"] for each in listed} == {250}
    with app.app_context():
        credential = db.session.scalars(sa.select(ApiCredential.id)).one()
        mailing = db.session.get_one(Mailing, body["id"])
        assert (mailing.credential_id, mailing.created_by_id) == (credential, None)


def test_passwords_travel_in_the_mail_alone(
    app: Flask, api: Caller, sink: SmtpSink, work: Callable[[], None]
) -> None:
    body = send(api, template=" welcome ", logins=[ADMIN.upper()])
    work()
    (mail,) = sink.mails_to("admin@kenton-electronics.com")
    secrets = passwords_in(mail)
    with app.app_context():
        assert sign_in(ADMIN, secrets[0])[0].login == ADMIN
    for path in (f"{PATH}/{body['id']}", f"{PATH}/{body['id']}/deliveries"):
        text = api.get(path).text
        assert not [each for each in secrets if each in text]
        assert "seal" not in text
        assert "hash" not in text


def test_a_bundle_goes_to_everybody_who_has_it(app: Flask, api: Caller) -> None:
    body = send(api, bundles=[ENTRY, ENTRY])
    with app.app_context():
        having = db.session.scalars(
            sa.select(User.id)
            .join(Bundle, Bundle.id == User.bundle_id)
            .where(Bundle.name == ENTRY, User.customer_id == find_customer("CQ001").id)
        ).all()
        mailing = db.session.get_one(Mailing, body["id"])
        assert mailing.lane.value == "bulk"
    assert {each["user"]["id"] for each in deliveries(api, body["id"])} == set(having)
    skipped = deliveries(api, body["id"], state="skipped")
    assert {each["skip_reason"] for each in skipped} == {"no_address", "suspended", "suppressed"}
    assert body["counters"]["skipped"] == len(skipped) == 3


def test_who_cannot_be_mailed_is_in_it_with_the_reason(app: Flask, api: Caller) -> None:
    with app.app_context():
        kenton = find_customer("CQ001")
        suspended = make_user(kenton, status=UserStatus.SUSPENDED).id
        bare = make_user(kenton, email="").id
        barred = make_user(kenton, email="barred@x.example").id
        db.session.add(Suppression(email_key="barred@x.example", reason="Bounced."))
        db.session.commit()
    body = send(api, users=[suspended, bare, barred])
    assert (body["state"], body["counters"]["skipped"]) == ("finished", 3)
    assert [each["skip_reason"] for each in deliveries(api, body["id"])] == [
        "suspended",
        "no_address",
        "suppressed",
    ]


def test_who_was_mailed_a_moment_ago_is_skipped_unless_wanted(
    api: Caller, people: list[int]
) -> None:
    send(api, users=people[:1])
    again = send(api, users=people[:2])
    assert (again["counters"]["queued"], again["counters"]["skipped"]) == (1, 1)
    third = send(api, users=people[:2], include_recent=True)
    assert third["counters"]["queued"] == 2


def test_many_named_users_do_not_delay_single_resends(app: Flask, api: Caller) -> None:
    with app.app_context():
        kenton = find_customer("CQ001")
        ids = db.session.scalars(sa.select(User.id).where(User.customer_id == kenton.id)).all()
    few, many = send(api, users=list(ids[:25])), send(api, users=list(ids[:26]))
    with app.app_context():
        lanes = [db.session.get_one(Mailing, each["id"]).lane.value for each in (few, many)]
    assert lanes == ["interactive", "bulk"]


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        ({"users": [1], "template": "Unknown"}, ["template"]),
        ({"users": [1], "template": "Of another"}, ["template"]),
        ({}, ["users"]),
        ({"users": [1], "bundles": [ENTRY]}, ["users"]),
        ({"users": [], "logins": []}, ["users"]),
        ({"logins": [ADMIN, "nobody@x.example", OTHER_ADMIN]}, ["logins.1", "logins.2"]),
        ({"users": [2**63 - 1]}, ["users.0"]),
        ({"users": [10**30]}, ["users.0"]),
        ({"users": [0]}, ["users.0"]),
        ({"users": ["1"]}, ["users.0"]),
        ({"users": [True]}, ["users.0"]),
        ({"users": list(range(1, 1002))}, ["users"]),
        ({"bundles": ["Prem5PhoneNextGenBundle", ENTRY, ""]}, ["bundles.0", "bundles.2"]),
        ({"users": [1], "include_recent": "yes"}, ["include_recent"]),
        ({"users": [1], "to": "all"}, ["to"]),
    ],
)
def test_what_cannot_be_sent_is_named(
    app: Flask, api: Caller, given: dict[str, Any], fields: list[str]
) -> None:
    response = api.post(PATH, json={"template": NEWS, **given})
    assert response.status_code == 422, response.text
    assert list(faults_of(response)) == fields
    with app.app_context():
        assert db.session.scalar(sa.select(sa.func.count(Mailing.id))) == 0


def test_users_who_are_not_the_customers_are_as_unknown_as_nobody(app: Flask, api: Caller) -> None:
    with app.app_context():
        strangers = [
            find_user(OTHER_ADMIN).id,
            find_user("operator@foyer.example").id,
            make_user(find_customer("CQ001"), status=UserStatus.DELETED).id,
            999_999,
        ]
    response = api.post(PATH, json={"template": NEWS, "users": strangers})
    assert faults_of(response) == {
        f"users.{position}": "KentonElectronics has no such user."
        for position in range(len(strangers))
    }


def test_a_bundle_that_nobody_has_is_told(app: Flask, api: Caller) -> None:
    with app.app_context():
        make_bundle(find_customer("CQ001"), name="Empty")
    response = api.post(PATH, json={"template": NEWS, "bundles": ["Empty"]})
    assert response.status_code == 409
    with app.app_context():
        assert db.session.scalar(sa.select(sa.func.count(Mailing.id))) == 0


def test_a_template_that_cannot_be_sent_is_told(app: Flask, api: Caller, people: list[int]) -> None:
    with app.app_context():
        db.session.execute(sa.update(EmailTemplateText).values(text="((no such placeholder))"))
        db.session.commit()
    response = api.post(PATH, json={"template": NEWS, "users": people})
    assert response.status_code == 422
    assert "cannot be sent" in faults_of(response)["template"]


# --- Following -----------------------------------------------------------------------------------


def test_mailings_and_deliveries_have_pages(api: Caller, people: list[int]) -> None:
    made = [send(api, users=people, include_recent=True)["id"] for _ in range(3)]
    first = api.get(PATH, query_string={"limit": 2}).get_json()
    rest = api.get(PATH, query_string={"limit": 2, "cursor": first["next"]}).get_json()
    assert [each["id"] for each in first["items"] + rest["items"]] == made[::-1]
    path = f"{PATH}/{made[0]}/deliveries"
    first = api.get(path, query_string={"limit": 2}).get_json()
    rest = api.get(path, query_string={"limit": 2, "cursor": first["next"]}).get_json()
    assert [each["user"]["id"] for each in first["items"] + rest["items"]] == people


def test_deliveries_are_filtered_by_state(
    api: Caller, people: list[int], sink: SmtpSink, work: Callable[[], None]
) -> None:
    sink.refuse("p1@x.example", 550, "No such mailbox")
    mailing_id = send(api, users=people)["id"]
    work()
    (failed,) = deliveries(api, mailing_id, state="failed")
    assert (failed["email"], failed["answer_code"]) == ("p1@x.example", 550)
    assert "No such mailbox" in failed["answer"]
    assert len(deliveries(api, mailing_id, state="sent")) == 2
    assert deliveries(api, mailing_id, state="queued") == []
    response = api.get(f"{PATH}/{mailing_id}/deliveries", query_string={"state": "lost"})
    assert list(faults_of(response)) == ["state"]


def test_a_mailing_with_a_customer_outside_is_not_seen(app: Flask, api: Caller) -> None:
    """Nor one that goes to two customers inside: it is neither's own."""
    with app.app_context():
        landlord = actor_for("landlord@foyer.example")
        outside = start_by_command(
            landlord,
            "$$RESEND WELCOME EMAIL$$ Stand4PhoneNextGenBundle|CQ001;CQ101",
        )
        inside = start_by_command(landlord, f"$$RESEND WELCOME EMAIL$$ {ENTRY}|CQ001;CQ002")
        both = Caller(app, make_credential("both", groups=(1, 2)))
    for mailing_id in (outside, inside, 999_999, 10**30, "x"):
        for path in ("", "/deliveries"):
            refused = api.get(f"{PATH}/{mailing_id}{path}")
            assert (refused.status_code, refused.text) == (403, "Invalid access")
        for action in ("pause", "resume", "cancel", "retry"):
            assert api.post(f"{PATH}/{mailing_id}/{action}").status_code == 403
    assert api.get(PATH).get_json()["items"] == []
    assert both.get(f"{PATH}/{outside}").status_code == 403


def test_a_mailing_of_a_person_is_seen_at_its_customer_alone(app: Flask, api: Caller) -> None:
    with app.app_context():
        mailing_id = start_welcome(actor_for(ADMIN), "CQ001", [find_user(ADMIN)])
    assert api.get(f"{PATH}/{mailing_id}").get_json()["author"] == "Petra Kenton"
    assert api.get(f"/group/1/customer/1002/mailings/{mailing_id}").status_code == 403


# --- Steering ------------------------------------------------------------------------------------


def test_a_mailing_is_paused_resumed_and_cancelled(
    api: Caller, people: list[int], sink: SmtpSink, work: Callable[[], None]
) -> None:
    one = f"{PATH}/{send(api, users=people)['id']}"
    for action, state, not_now in (
        ("pause", "paused", ("pause", "retry")),
        ("resume", "running", ("resume", "retry")),
        ("pause", "paused", ()),
    ):
        response = api.post(f"{one}/{action}")
        assert (response.status_code, response.get_json()["state"]) == (200, state)
        for other in not_now:
            assert api.post(f"{one}/{other}").status_code == 409
    work()
    assert sink.mails == []
    body = api.post(f"{one}/cancel").get_json()
    assert (body["state"], body["counters"]["cancelled"]) == ("cancelled", 3)
    for action in ("pause", "resume", "cancel", "retry"):
        response = api.post(f"{one}/{action}")
        assert response.status_code == 409
        assert response.mimetype == "application/problem+json"


def test_a_resumed_mailing_goes_on_at_once(
    api: Caller, people: list[int], sink: SmtpSink, work: Callable[[], None]
) -> None:
    one = f"{PATH}/{send(api, users=people)['id']}"
    api.post(f"{one}/pause")
    work()
    api.post(f"{one}/resume")
    work()
    assert api.get(one).get_json()["counters"]["sent"] == 3


def test_what_failed_is_tried_again(
    api: Caller, people: list[int], sink: SmtpSink, work: Callable[[], None]
) -> None:
    sink.refuse("p1@x.example", 550, "No such mailbox", times=1)
    one = f"{PATH}/{send(api, users=people)['id']}"
    work()
    assert api.get(one).get_json()["counters"]["failed"] == 1
    body = api.post(f"{one}/retry").get_json()
    assert (body["state"], body["counters"]["failed"], body["counters"]["queued"]) == (
        "running",
        0,
        1,
    )
    work()
    assert api.get(one).get_json()["counters"]["sent"] == 3
    assert api.post(f"{one}/retry").status_code == 409


# --- Scopes and groups ---------------------------------------------------------------------------


def test_each_call_has_its_scope_and_its_groups(app: Flask, people: list[int]) -> None:
    with app.app_context():
        foreign = Caller(app, make_credential("foreign", groups=(2,)))
        reader = Caller(app, make_credential("r", scopes=(ApiScope.READ, ApiScope.WRITE)))
        sender = Caller(app, make_credential("s", scopes=(ApiScope.SEND,)))
    response = sender.post(PATH, json={"template": NEWS, "users": people})
    assert response.status_code == 202
    one = f"{PATH}/{response.get_json()['id']}"
    with app.app_context():
        states = db.session.scalars(sa.select(Delivery.state)).all()
        assert set(states) == {DeliveryState.QUEUED}
    for path in (PATH, one, f"{one}/deliveries"):
        assert reader.get(path).status_code == 200
        for caller in (sender, foreign):
            refused = caller.get(path)
            assert (refused.status_code, refused.text) == (403, "Invalid access")
    for path, status in ((PATH, 422), (f"{one}/pause", 200), (f"{one}/resume", 200)):
        options: dict[str, Any] = {"json": {"template": NEWS}} if path == PATH else {}
        assert sender.post(path, **options).status_code == status
        for caller in (reader, foreign):
            refused = caller.post(path, **options)
            assert (refused.status_code, refused.text) == (403, "Invalid access")
