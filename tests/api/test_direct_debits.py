"""Get and Set Customer Direct Debit."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from config import Settings
from extensions import db, queues
from models import ApiScope, AuditEvent, CustomerStatus, DirectDebit, DirectDebitNotice
from services import direct_debits
from tests.support.api import CQ001, Caller, faults_of, make_credential
from tests.support.factories import find_customer, make_customer, make_group
from tests.support.smtp_sink import SmtpSink
from tests.test_secrets import Haystack, add_database, add_queue

PATH = f"{CQ001}/direct-debit"
BSB: dict[str, Any] = {
    "scheme": "bsb",
    "bsb": "062-000",
    "account_number": "98765432",
    "holder": "Kenton Electronics Ltd",
    "mandate": "KENTON-2026-1",
    "mandate_signed_on": "2026-11-02",
}
IBAN: dict[str, Any] = {
    "scheme": "iban",
    "iban": "DE89 3704 0044 0532 0130 00",
    **{name: BSB[name] for name in ("holder", "mandate", "mandate_signed_on")},
}


def count(app: Flask, model: Any) -> int:
    with app.app_context():
        return db.session.scalar(sa.select(sa.func.count()).select_from(model)) or 0


def test_none_is_set_at_first(api: Caller) -> None:
    response = api.get(PATH)
    assert (response.status_code, response.data) == (204, b"")


def test_it_is_set_and_shown_masked(api: Caller) -> None:
    response = api.post(PATH, json=BSB)
    assert response.status_code == 200
    assert response.headers["ETag"] == '"1"'
    body = response.get_json()
    assert body.pop("changed_at").endswith("Z")
    assert body == {
        "scheme": "bsb",
        "account": "•••• 5432",
        "holder": "Kenton Electronics Ltd",
        "mandate": "KENTON-2026-1",
        "mandate_signed_on": "2026-11-02",
        "version": 1,
    }
    assert api.get(PATH).get_json() == response.get_json()
    changed = api.post(PATH, json=IBAN).get_json()
    assert (changed["scheme"], changed["account"], changed["version"]) == ("iban", "•••• 3000", 2)


def test_the_same_again_is_the_same(app: Flask, api: Caller) -> None:
    first = api.post(PATH, json=BSB)
    again = api.post(PATH, json={**BSB, "account_number": "9876 5432"})
    assert (again.status_code, again.get_json()) == (200, first.get_json())
    assert again.headers["ETag"] == first.headers["ETag"]


def test_if_match_tells_who_comes_too_late(api: Caller) -> None:
    assert api.post(PATH, json=BSB, headers={"If-Match": '"1"'}).status_code == 412
    etag = api.post(PATH, json=BSB).headers["ETag"]
    assert api.post(PATH, json=IBAN, headers={"If-Match": etag}).status_code == 200
    late = api.post(PATH, json=BSB, headers={"If-Match": etag})
    assert late.status_code == 412
    assert late.get_json()["type"] == "/api/v1/problems/changed-meanwhile"
    assert api.get(PATH).get_json()["scheme"] == "iban"


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"account_number": "1234"}, {"account_number"}),
        ({"bsb": None, "account_number": None}, {"bsb", "account_number"}),
        ({"scheme": "iban"}, {"iban", "bsb", "account_number"}),
        ({"scheme": "sepa"}, {"scheme"}),
        ({"scheme": None}, {"scheme"}),
        ({"holder": ""}, {"holder"}),
        ({"holder": "x" * 71, "mandate": "ÄÖ"}, {"holder", "mandate"}),
        ({"mandate_signed_on": "02.11.2026"}, {"mandate_signed_on"}),
        ({"mandate_signed_on": "9999-12-31"}, {"mandate_signed_on"}),
        ({"mandate_signed_on": 0}, {"mandate_signed_on"}),
        ({"account_number": 98765432}, {"account_number"}),
        ({"account_number": "98765432\0"}, {"account_number"}),
        ({"account_number": "98765432" * 100}, {"account_number"}),
        ({"cvc": "123"}, {"cvc"}),
    ],
)
def test_faults_are_named_and_no_number_comes_back(
    app: Flask, api: Caller, changes: dict[str, Any], fields: set[str]
) -> None:
    response = api.post(PATH, json={**BSB, **changes})
    assert response.status_code == 422
    assert set(faults_of(response)) == fields
    assert "98765432" not in response.text
    assert count(app, DirectDebit) == count(app, DirectDebitNotice) == 0


def test_a_wrong_iban_does_not_come_back_either(api: Caller) -> None:
    response = api.post(PATH, json={**IBAN, "iban": "DE89370400440532013001"})
    assert set(faults_of(response)) == {"iban"}
    assert "check digits" in faults_of(response)["iban"]
    assert "0532013001" not in response.text


def test_scopes(app: Flask) -> None:
    with app.app_context():
        reader = Caller(app, make_credential("reader", scopes=(ApiScope.READ,)))
        writer = Caller(app, make_credential("writer", scopes=(ApiScope.WRITE,)))
    for response in (reader.post(PATH, json=BSB), writer.get(PATH)):
        assert (response.status_code, response.text) == (403, "Invalid access")
    assert writer.post(PATH, json=BSB).status_code == 200
    assert reader.get(PATH).status_code == 200


def test_a_customer_of_another_group_or_none_is_the_same_403(app: Flask, api: Caller) -> None:
    with app.app_context():
        group = make_group()
        foreign = make_customer(group_id=group.id)
        hidden = make_customer(
            group_id=find_customer("CQ001").group_id, status=CustomerStatus.CREATING
        )
        paths = [
            f"/group/{group.groupno}/customer/{foreign.custno}/direct-debit",
            f"/group/1/customer/{foreign.custno}/direct-debit",
            f"/group/1/customer/{hidden.custno}/direct-debit",
            f"/group/1/customer/{10**30}/direct-debit",
        ]
    for path in paths:
        for response in (api.get(path), api.post(path, json=BSB)):
            assert (response.status_code, response.text) == (403, "Invalid access")
    assert count(app, DirectDebit) == 0


def test_no_account_rests_anywhere_in_clear(
    app: Flask,
    settings: Settings,
    api: Caller,
    sink: SmtpSink,
    work: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In rows, queue, logs, answers and mails, after successes, refusals and an error of ours."""
    caplog.set_level(logging.DEBUG)
    with app.app_context():
        find_customer("CQ001").contact_email = "ada@kenton.example"
        db.session.commit()
    iban = IBAN["iban"].replace(" ", "")
    hay = Haystack()
    several = (BSB, IBAN, BSB, {**BSB, "holder": ""}, {**IBAN, "iban": iban + "1"})
    for number, sent in enumerate(several):
        response = api.post(PATH, json=sent, headers={"Idempotency-Key": f"key-{number}"})
        hay.add("answers", response.data)
    with app.app_context():
        add_queue(hay, queues.connection)
    with monkeypatch.context() as patch:

        def fail(*_: Any, **__: Any) -> None:
            raise RuntimeError("on purpose")

        patch.setattr(direct_debits, "insert_event", fail)
        failed = api.post(PATH, json=IBAN)
        assert failed.status_code == 500
        hay.add("answers", failed.data)
    work()
    assert len(sink.mails_to("ada@kenton.example")) == 3
    hay.add("answers", api.get(PATH).data)
    hay.add("logs", caplog.text)
    for mail in sink.mails:
        hay.add("mails", f"{mail.text}{mail.html}")
    with app.app_context():
        add_database(hay, settings)
        details = [event.detail for event in db.session.scalars(sa.select(AuditEvent))]
        hay.add("audit", details)
    for secret in ("98765432", "062-000", "062000", iban, IBAN["iban"]):
        assert hay.find(secret) == []
    assert hay.find("KENTON-2026-1"), "the search finds what is there"
