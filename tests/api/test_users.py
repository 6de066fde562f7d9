"""Users of a customer in the API."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from werkzeug.test import TestResponse

from extensions import db
from models import (
    ApiScope,
    Delivery,
    DeliveryState,
    EmailTemplate,
    Mailing,
    SkipReason,
    TemplateKind,
    User,
    UserStatus,
)
from services.actors import Permission
from services.sign_ins import sign_in
from tests.support.api import CQ001, Caller, faults_of, make_credential
from tests.support.factories import (
    actor_for,
    find_customer,
    find_user,
    make_bundle,
    make_profile,
    make_user,
)
from tests.support.promises import passwords_in
from tests.support.smtp_sink import SmtpSink

USERS = f"{CQ001}/users"
ENTRY = "Entry3PhoneNextGenBundle"
ADA = {
    "user_name": "ada.lovelace",
    "first_name": "Ada",
    "last_name": "Lovelace",
    "email": "ada@x.example",
    "extension": "2999",
    "language": "fr",
    "bundle": ENTRY,
}
ADMIN = "prpkeAdmin@kenton-electronics.com"


def without(values: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def count_users() -> int:
    return db.session.scalar(sa.select(sa.func.count(User.id))) or 0


@pytest.fixture
def ada(api: Caller) -> dict[str, Any]:
    """A user that was added, as she was answered."""
    response = api.post(USERS, json=ADA)
    assert response.status_code == 201, response.text
    body: dict[str, Any] = response.get_json()
    return body


# --- Reading -------------------------------------------------------------------------------------


def test_users_are_listed_by_name_page_by_page(api: Caller) -> None:
    logins, path = [], USERS
    while path:
        response = api.get(path)
        body = response.get_json()
        logins += [each["login"] for each in body["items"]]
        path = f"{USERS}?cursor={body['next']}" if body["next"] else ""
        assert ('rel="next"' in response.headers.get("Link", "")) == bool(path)
    assert len(logins) == len(set(logins)) == 61
    first = api.get(USERS).get_json()["items"]
    names = [f"{each['first_name']} {each['last_name']}".casefold() for each in first]
    assert names == sorted(names)


def test_the_filters_choose(app: Flask, api: Caller) -> None:
    with app.app_context():
        kenton = find_customer("CQ001")
        make_user(kenton, first_name="Zygmunt", last_name="Zzz", status=UserStatus.SUSPENDED)

    def found(**query: str) -> list[dict[str, Any]]:
        response = api.get(USERS, query_string={"limit": "100", **query})
        assert response.status_code == 200, response.text
        items: list[dict[str, Any]] = response.get_json()["items"]
        return items

    assert [each["login"] for each in found(role="customer_admin")] == [ADMIN]
    assert ADMIN not in {each["login"] for each in found(role="user")}
    assert {each["status"] for each in found(status="suspended")} == {"suspended"}
    assert "suspended" not in {each["status"] for each in found(status="active")}
    assert {each["bundle"] for each in found(bundle=ENTRY)} == {ENTRY}
    assert len(found(bundle=ENTRY)) == 40
    (zygmunt,) = found(q="zygm")
    assert zygmunt["last_name"] == "Zzz"
    assert found(q="zygm", role="customer_admin") == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"bundle": "Prem5PhoneNextGenBundle"}, "bundle"),
        ({"status": "deleted"}, "status"),
        ({"role": "landlord"}, "role"),
        ({"q": "a\0"}, "q"),
        ({"name": "x"}, "name"),
    ],
)
def test_a_filter_that_cannot_be_read_is_named(
    api: Caller, query: dict[str, str], field: str
) -> None:
    response = api.get(USERS, query_string=query)
    assert response.status_code == 422
    assert list(faults_of(response)) == [field]


def test_a_user_is_shown_without_a_secret(app: Flask, api: Caller) -> None:
    with app.app_context():
        user_id = find_user(ADMIN).id
    response = api.get(f"{USERS}/{user_id}")
    body = response.get_json()
    assert response.headers["ETag"] == f'"{body["version"]}"'
    assert (body["login"], body["role"], body["bundle"]) == (ADMIN, "customer_admin", "")
    assert "hash" not in response.text
    assert "password" not in response.text


def test_who_is_not_the_customers_is_as_unknown_as_nobody(app: Flask, api: Caller) -> None:
    with app.app_context():
        kenton = find_customer("CQ001")
        strangers = [
            find_user("prphlAdmin@harborlight.example").id,  # of another customer of the group
            find_user("operator@foyer.example").id,
            make_user(kenton, status=UserStatus.DELETED).id,
            10**18,
        ]
    for each in (*strangers, 10**30, "none", "-1"):
        for answer in (
            api.get(f"{USERS}/{each}"),
            api.patch(f"{USERS}/{each}", json={"first_name": "X"}),
            api.post(f"{USERS}/{each}/suspend"),
            api.post(f"{USERS}/{each}/resume"),
        ):
            assert (answer.status_code, answer.text) == (403, "Invalid access")


# --- Adding --------------------------------------------------------------------------------------


def test_a_user_is_added(app: Flask, api: Caller) -> None:
    response = api.post(USERS, json=ADA)

    assert response.status_code == 201
    body = response.get_json()
    assert body["login"] == "ada.lovelace@kenton-electronics.com"
    assert body | without(ADA, "user_name") == body
    assert (body["role"], body["status"], body["version"]) == ("user", "active", 1)
    assert (body["welcome_state"], body["welcome_mailing"]) == ("never", None)
    assert response.headers["ETag"] == '"1"'
    location = response.headers["Location"]
    assert api.get(location).get_json() == without(body, "welcome_mailing")
    with app.app_context():
        user = find_user("ada.lovelace@kenton-electronics.com")
        assert user.password_hash is None
        assert (user.name_key, user.surname_key) == ("ada lovelace", "lovelace")
        assert db.session.scalar(sa.select(sa.func.count(Mailing.id))) == 0


def test_what_is_left_out_has_a_default(api: Caller) -> None:
    response = api.post(
        USERS,
        json={
            "login": "Boss@Kenton-Electronics.COM",
            "last_name": "Boss",
            "role": "customer_admin",
        },
    )
    body = response.get_json()
    assert response.status_code == 201
    assert body["login"] == "Boss@kenton-electronics.com"
    assert (body["language"], body["email"], body["bundle"]) == ("en", "", "")


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"user_name": "no spaces"}, "user_name", "consists of the letters"),
        ({"user_name": "x"}, "user_name", "at least 2"),
        ({"user_name": ""}, "login", "Give either"),
        ({"login": "ada.lovelace@kenton-electronics.com"}, "login", "Give either"),
        ({"user_name": "", "login": "ada@other.example"}, "login", "@kenton-electronics.com"),
        ({"user_name": "", "login": "ada"}, "login", "@kenton-electronics.com"),
        ({"user_name": "", "login": "a_b@kenton-electronics.com"}, "login", "consists of"),
        ({"user_name": "prpkeadmin"}, "user_name", "is taken"),
        ({"email": "not an address"}, "email", "@"),
        ({"email": "ada@-bad-.example"}, "email", "e-mail address"),
        ({"bundle": "Prem5PhoneNextGenBundle"}, "bundle", f"It has {ENTRY}"),
        ({"bundle": ""}, "bundle", f"It has {ENTRY}"),
        ({"language": "xx"}, "language", "none of en"),
        ({"extension": "12a"}, "extension", "digits"),
        ({"extension": "1" * 17}, "extension", "16"),
        ({"first_name": "a" * 65}, "first_name", "at most 64 characters"),
        ({"last_name": ""}, "last_name", "missing"),
        ({"last_name": " "}, "last_name", "missing"),
        ({"last_name": "…"}, "last_name", "neither a letter"),
        ({"first_name": "a\u202eb"}, "first_name", "cannot be seen"),
        ({"first_name": "a\0b"}, "first_name", "cannot be seen"),
        ({"role": "landlord"}, "role", "user"),
        ({"role": "supervisor"}, "profile", "permission profiles"),
        ({"profile": "Front desk"}, "profile", "Only a supervisor"),
        ({"first_name": 7}, "first_name", "string"),
        ({"password": "x"}, "password", "not known"),
    ],
)
def test_a_field_that_is_wrong_is_named(
    app: Flask, api: Caller, changes: dict[str, Any], field: str, words: str
) -> None:
    response = api.post(USERS, json={**ADA, **changes})

    assert response.status_code == 422, response.text
    assert list(faults_of(response)) == [field]
    assert words in faults_of(response)[field]
    with app.app_context():
        assert find_customer("CQ001").version == 1
        assert (
            db.session.scalar(sa.select(User.id).where(User.email_key == "ada@x.example")) is None
        )


def test_every_fault_is_named_at_once(api: Caller) -> None:
    response = api.post(
        USERS,
        json={**ADA, "user_name": "prpkeadmin", "email": "x", "bundle": "x", "language": "x"},
    )
    assert set(faults_of(response)) == {"user_name", "email", "bundle", "language"}


def test_a_taken_login_is_told_in_the_same_words_whoever_has_it(app: Flask, api: Caller) -> None:
    suffix = "kenton-electronics.com"
    with app.app_context():
        make_user(find_customer("CQ101"), login=f"elsewhere@{suffix}")
        make_user(find_customer("CQ001"), login=f"here@{suffix}", status=UserStatus.DELETED)
    said = {
        faults_of(api.post(USERS, json={**ADA, "user_name": name}))["user_name"].replace(name, "X")
        for name in ("elsewhere", "here")
    }
    assert said == {f"The login X@{suffix} is taken."}


def test_the_welcome_mail_brings_the_first_password(
    app: Flask, api: Caller, sink: SmtpSink, work: Callable[[], None]
) -> None:
    response = api.post(USERS, json={**ADA, "send_welcome_email": True})

    assert response.status_code == 201
    mailing_id = response.get_json()["welcome_mailing"]
    work()
    (mail,) = sink.mails_to("ada@x.example")
    with app.app_context():
        mailing = db.session.get_one(Mailing, mailing_id)
        assert mailing.author == "API credential demo-api"
        assert (mailing.total, mailing.sent) == (1, 1)
        user = find_user("ada.lovelace@kenton-electronics.com")
        assert sign_in(user.login, passwords_in(mail)[0])[0].id == user.id


def test_no_welcome_mail_without_an_address_or_a_template(app: Flask, api: Caller) -> None:
    wished = {**ADA, "send_welcome_email": True}
    response = api.post(USERS, json={**wished, "email": ""})
    assert faults_of(response) == {"email": "The welcome mail needs an e-mail address."}
    with app.app_context():
        db.session.execute(
            sa.update(EmailTemplate)
            .where(EmailTemplate.kind == TemplateKind.WELCOME)
            .values(archived_at=sa.func.current_timestamp())
        )
        db.session.commit()
        before = count_users()
    response = api.post(USERS, json=wished)
    assert response.status_code == 409
    assert "no welcome mail" in response.get_json()["detail"]
    with app.app_context():
        assert count_users() == before


def test_the_welcome_mail_needs_the_scope_send(app: Flask) -> None:
    with app.app_context():
        writer = Caller(app, make_credential(scopes=(ApiScope.WRITE,)))
        before = count_users()
    for path, body in ((USERS, ADA), (f"{USERS}/bulk", {"users": [ADA]})):
        refused = writer.post(path, json={**body, "send_welcome_email": True})
        assert (refused.status_code, refused.text) == (403, "Invalid access")
    with app.app_context():
        assert count_users() == before
    assert writer.post(USERS, json=ADA).status_code == 201


def test_of_two_adds_of_one_login_one_wins(app: Flask) -> None:
    answers = at_once(app, *[lambda api: api.post(USERS, json=ADA)] * 4)
    assert sorted(each.status_code for each in answers) == [201, 422, 422, 422]
    for each in answers:
        if each.status_code == 422:
            assert "taken" in faults_of(each)["user_name"]


def at_once(app: Flask, *calls: Callable[[Caller], TestResponse]) -> list[TestResponse]:
    """The answers of calls that begin at the same moment."""
    gate = threading.Barrier(len(calls))
    answers: list[TestResponse] = []

    def run(call: Callable[[Caller], TestResponse]) -> None:
        caller = Caller(app)
        gate.wait()
        answers.append(call(caller))

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == len(calls)
    return answers


# --- Adding many ---------------------------------------------------------------------------------


def many(count: int) -> list[dict[str, Any]]:
    return [
        {**ADA, "user_name": f"u{number}", "email": f"u{number}@x.example"}
        for number in range(count)
    ]


def test_a_thousand_users_are_added_in_the_order_given(app: Flask, api: Caller) -> None:
    response = api.post(f"{USERS}/bulk", json={"users": many(1000)})

    assert response.status_code == 201, response.text
    body = response.get_json()
    assert body["welcome_mailing"] is None
    assert [each["login"] for each in body["added"]] == [
        f"u{number}@kenton-electronics.com" for number in range(1000)
    ]
    last = body["added"][-1]
    assert api.get(f"{USERS}/{last['id']}").get_json()["email"] == "u999@x.example"


def test_a_row_too_many_is_refused(app: Flask, api: Caller) -> None:
    for count, words in ((1001, "1000"), (0, "1")):
        response = api.post(f"{USERS}/bulk", json={"users": many(count)})
        assert response.status_code == 422
        assert words in faults_of(response)["users"]


def test_one_faulty_row_keeps_all_out_and_every_fault_is_named(app: Flask, api: Caller) -> None:
    rows = many(20)
    rows[3] |= {"user_name": "prpkeAdmin"}
    rows[7] |= {"email": "nonsense", "language": "xx"}
    rows[12] |= {"user_name": "u2"}
    rows[17] |= {"bundle": "None"}
    with app.app_context():
        before = count_users()

    response = api.post(f"{USERS}/bulk", json={"users": rows})

    assert response.status_code == 422
    faults = faults_of(response)
    assert list(faults) == [
        "users.3.user_name",
        "users.7.email",
        "users.7.language",
        "users.12.user_name",
        "users.17.bundle",
    ]
    assert "users.2 has" in faults["users.12.user_name"]
    assert response.get_json()["detail"] == "5 values cannot be accepted."
    with app.app_context():
        assert count_users() == before


def test_faults_of_shape_are_named_by_row_too(api: Caller) -> None:
    rows: list[Any] = many(3)
    rows[1] |= {"first_name": 7, "age": 7}
    rows[2] = "Ada"
    response = api.post(f"{USERS}/bulk", json={"users": rows})
    assert {"users.1.first_name", "users.1.age", "users.2"} == set(faults_of(response))


def test_all_of_a_bulk_are_welcomed_in_one_mailing(
    app: Flask, api: Caller, sink: SmtpSink, work: Callable[[], None]
) -> None:
    response = api.post(f"{USERS}/bulk", json={"users": many(30), "send_welcome_email": True})
    mailing_id = response.get_json()["welcome_mailing"]
    work()
    with app.app_context():
        mailing = db.session.get_one(Mailing, mailing_id)
        assert (mailing.total, mailing.sent, mailing.lane.value) == (30, 30, "bulk")
    assert len(sink.mails_to("u29@x.example")) == 1


# --- Changing ------------------------------------------------------------------------------------


def test_a_user_is_changed(api: Caller, ada: dict[str, Any]) -> None:
    path = f"{USERS}/{ada['id']}"
    changes = {
        "first_name": "Augusta Ada",
        "last_name": "King",
        "email": "countess@x.example",
        "extension": "",
        "language": "de",
        "bundle": "Stand4PhoneNextGenBundle",
    }
    response = api.patch(path, json=changes, headers={"If-Match": '"1"'})
    assert response.status_code == 200, response.text
    assert response.headers["ETag"] == '"2"'
    body = response.get_json()
    assert body == {**without(ada, "welcome_mailing"), **changes, "version": 2}
    assert api.get(path).get_json() == body
    found = api.get(USERS, query_string={"q": "king"}).get_json()["items"]
    assert [each["id"] for each in found] == [ada["id"]]


def test_a_change_of_nothing_is_none(api: Caller, ada: dict[str, Any]) -> None:
    path = f"{USERS}/{ada['id']}"
    for body in ({}, {"first_name": "Ada", "email": "ada@x.example", "bundle": ENTRY}):
        assert api.patch(path, json=body).headers["ETag"] == '"1"'


def test_a_change_of_what_is_gone_by_is_refused(api: Caller, ada: dict[str, Any]) -> None:
    path = f"{USERS}/{ada['id']}"
    assert api.patch(path, json={"first_name": "A"}, headers={"If-Match": '"1"'}).status_code == 200
    for stale in ('"1"', '"7", "8"', "nonsense"):
        response = api.patch(path, json={"first_name": "B"}, headers={"If-Match": stale})
        assert response.status_code == 412
    assert api.get(path).get_json()["first_name"] == "A"
    assert api.patch(path, json={"first_name": "C"}, headers={"If-Match": "*"}).status_code == 200
    assert api.patch(path, json={"first_name": "D"}).status_code == 200


def test_of_two_changes_at_once_one_is_told_that_it_came_too_late(
    app: Flask, ada: dict[str, Any]
) -> None:
    answers = at_once(
        app,
        *[
            lambda api, name=name: api.patch(
                f"{USERS}/{ada['id']}", json={"first_name": name}, headers={"If-Match": '"1"'}
            )
            for name in ("One", "Two")
        ],
    )
    assert sorted(each.status_code for each in answers) == [200, 412]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"email": "x"}, "email"),
        ({"bundle": "x"}, "bundle"),
        ({"bundle": ""}, "bundle"),
        ({"bundle": None}, "bundle"),
        ({"last_name": ""}, "last_name"),
        ({"language": ""}, "language"),
        ({"role": "landlord"}, "role"),
        ({"login": "x@kenton-electronics.com"}, "login"),
        ({"status": "suspended"}, "status"),
        ({"version": 7}, "version"),
    ],
)
def test_a_change_that_is_wrong_is_named(
    api: Caller, ada: dict[str, Any], changes: dict[str, Any], field: str
) -> None:
    response = api.patch(f"{USERS}/{ada['id']}", json={"first_name": "New", **changes})
    assert response.status_code == 422
    assert list(faults_of(response)) == [field]
    assert api.get(f"{USERS}/{ada['id']}").get_json()["first_name"] == "Ada"


def test_a_mail_that_waits_for_the_old_address_is_skipped(
    app: Flask, api: Caller, sink: SmtpSink, work: Callable[[], None]
) -> None:
    added = api.post(USERS, json={**ADA, "send_welcome_email": True}).get_json()
    api.patch(f"{USERS}/{added['id']}", json={"email": "new@x.example"})
    work()
    assert sink.mails == []
    with app.app_context():
        (delivery,) = db.session.scalars(sa.select(Delivery))
        assert delivery.skip_reason is SkipReason.ADDRESS_CHANGED


# --- Suspending ----------------------------------------------------------------------------------


def test_a_user_is_suspended_and_resumed(api: Caller, ada: dict[str, Any]) -> None:
    path = f"{USERS}/{ada['id']}"
    for _ in range(2):  # Who is suspended stays so.
        response = api.post(f"{path}/suspend")
        assert response.status_code == 200
        assert response.get_json()["status"] == "suspended"
        assert response.headers["ETag"] == '"2"'
    for _ in range(2):
        response = api.post(f"{path}/resume")
        assert response.get_json()["status"] == "active"
        assert response.headers["ETag"] == '"3"'


def test_a_suspended_user_gets_no_mail_that_waits(
    app: Flask, api: Caller, sink: SmtpSink, work: Callable[[], None]
) -> None:
    added = api.post(USERS, json={**ADA, "send_welcome_email": True}).get_json()
    api.post(f"{USERS}/{added['id']}/suspend")
    work()
    assert sink.mails == []
    with app.app_context():
        (delivery,) = db.session.scalars(sa.select(Delivery))
        assert delivery.state is DeliveryState.SKIPPED
        assert delivery.skip_reason is SkipReason.SUSPENDED


def test_the_last_active_administrator_stays(app: Flask, api: Caller) -> None:
    with app.app_context():
        path = f"{USERS}/{find_user(ADMIN).id}"
    for response in (
        api.post(f"{path}/suspend"),
        api.patch(path, json={"role": "user", "bundle": ENTRY}),
    ):
        assert response.status_code == 409
        assert "last active administrator" in response.get_json()["detail"]
    api.post(USERS, json={"user_name": "second", "last_name": "S", "role": "customer_admin"})
    assert api.post(f"{path}/suspend").status_code == 200


def test_of_two_administrators_suspended_at_once_one_stays(app: Flask, api: Caller) -> None:
    second = api.post(
        USERS, json={"user_name": "second", "last_name": "S", "role": "customer_admin"}
    ).get_json()["id"]
    with app.app_context():
        first = find_user(ADMIN).id
    answers = at_once(
        app,
        *[lambda api, each=each: api.post(f"{USERS}/{each}/suspend") for each in (first, second)],
    )
    assert sorted(each.status_code for each in answers) == [200, 409]


# --- Scopes and groups ---------------------------------------------------------------------------


def test_each_call_has_its_scope_and_its_groups(app: Flask, ada: dict[str, Any]) -> None:
    one = f"{USERS}/{ada['id']}"
    with app.app_context():
        foreign = Caller(app, make_credential("foreign", groups=(2,)))
        reader = Caller(app, make_credential("r", scopes=(ApiScope.READ,)))
        writer = Caller(app, make_credential("w", scopes=(ApiScope.WRITE,)))
        make_bundle(find_customer("CQ001"))
    reads = [("GET", USERS, None), ("GET", one, None)]
    writes = [
        ("POST", USERS, {**ADA, "user_name": "other"}),
        ("POST", f"{USERS}/bulk", {"users": [{**ADA, "user_name": "another"}]}),
        ("PATCH", one, {"first_name": "X"}),
        ("POST", f"{one}/suspend", {}),
        ("POST", f"{one}/resume", {}),
    ]
    for method, path, body in [*reads, *writes]:
        options: dict[str, Any] = {"json": body} if body is not None else {}
        may, may_not = (reader, writer) if method == "GET" else (writer, reader)
        assert may.call(method, path, **options).status_code < 300, (method, path)
        for caller in (may_not, foreign):
            refused = caller.call(method, path, **options)
            assert (refused.status_code, refused.text) == (403, "Invalid access"), (method, path)


# --- Supervisors ---------------------------------------------------------------------------------


def test_a_supervisor_has_a_profile_by_its_name(app: Flask, api: Caller) -> None:
    with app.app_context():
        make_profile(find_customer("CQ001"), "users.read", name="Front desk")
    response = api.post(USERS, json={**ADA, "role": "supervisor", "profile": "front desk"})
    assert response.status_code == 201, response.text
    made = response.get_json()
    assert (made["role"], made["profile"]) == ("supervisor", "Front desk")
    one = f"{USERS}/{made['id']}"
    (listed,) = api.get(f"{USERS}?role=supervisor").get_json()["items"]
    assert (listed["id"], listed["profile"]) == (made["id"], "Front desk")
    with app.app_context():
        assert actor_for(made["login"]).granted == frozenset({Permission.USERS_READ})

    assert faults_of(api.patch(one, json={"profile": "Back desk"})) == {
        "profile": "KentonElectronics has no permission profile “Back desk”. It has Front desk."
    }
    assert list(faults_of(api.patch(one, json={"profile": ""}))) == ["profile"]
    assert list(faults_of(api.patch(one, json={"role": "user", "profile": "Front desk"}))) == [
        "profile"
    ]
    changed = api.patch(one, json={"role": "user"}).get_json()
    assert (changed["role"], changed["profile"]) == ("user", "")
    assert list(faults_of(api.patch(one, json={"role": "supervisor"}))) == ["profile"]


def test_a_profile_of_another_customer_is_none(app: Flask, api: Caller) -> None:
    with app.app_context():
        make_profile(find_customer("CQ002"), name="Theirs")
    response = api.post(USERS, json={**ADA, "role": "supervisor", "profile": "Theirs"})
    assert faults_of(response) == {
        "profile": "KentonElectronics has no permission profile “Theirs”. It has none at all."
    }
