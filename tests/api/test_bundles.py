"""Bundles, e-mail templates and service templates in the API."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import ApiScope, EmailTemplate, Group, ServiceTemplate, utcnow
from tests.support.api import CQ001, Caller, faults_of, make_credential
from tests.support.factories import find_customer, make_bundle, make_template
from tests.support.requests import make_service_template

BUNDLES = f"{CQ001}/bundles"
TEMPLATES = f"{CQ001}/email-templates"
SERVICES = "/group/1/service-templates"


def names(api: Caller, path: str, **query: object) -> list[str]:
    response = api.get(path, query_string=query)
    assert response.status_code == 200, response.text
    return [each["name"] for each in response.get_json()["items"]]


def test_the_customers_own_bundles_are_listed(app: Flask, api: Caller) -> None:
    with app.app_context():
        make_bundle(find_customer("CQ002"))
    items = api.get(BUNDLES).get_json()["items"]
    assert [each["name"] for each in items] == [
        "Entry3PhoneNextGenBundle",
        "Stand4PhoneNextGenBundle",
    ]
    assert items[0]["services"] == ["Desk phone", "Voicemail"]


def test_templates_are_those_that_can_be_sent(app: Flask, api: Caller) -> None:
    with app.app_context():
        make_template(find_customer("CQ002"), name="Of another customer")
        make_template(find_customer("CQ001"), name="Archived one").archived_at = utcnow()
        make_template(None, name="Of nobody")
        db.session.commit()
    items = api.get(TEMPLATES).get_json()["items"]
    assert [(each["name"], each["kind"]) for each in items] == [
        ("Password reset", "password_reset"),
        ("Password update", "general"),
        ("Voicemail update", "general"),
        ("Welcome", "welcome"),
    ]
    assert "Password update" not in names(api, "/group/1/customer/1002/email-templates")
    with app.app_context():
        db.session.execute(sa.update(EmailTemplate).values(archived_at=utcnow()))
        db.session.commit()
    assert names(api, TEMPLATES) == []


def test_service_templates_tell_their_options(app: Flask, api: Caller) -> None:
    (starter,) = [
        each for each in api.get(SERVICES).get_json()["items"] if each["name"] == "Starter"
    ]
    assert starter["groupno"] == 1
    assert (starter["needs_approval"], starter["start_rule"]) == (False, "immediate")
    assert starter["bundles"] == ["Entry3PhoneNextGenBundle"]
    options: dict[str, Any] = {each["name"]: each for each in starter["options"]}
    lines, voicemail = options["lines"], options["voicemail_to_email"]
    assert (lines["kind"], lines["minimum"], lines["maximum"]) == ("count", 1, 20)
    assert (lines["default"], voicemail["default"]) == (5, True)


def test_service_templates_of_other_groups_or_unpublished_are_not_offered(
    app: Flask, api: Caller
) -> None:
    with app.app_context():
        group = db.session.scalars(sa.select(Group.id).where(Group.groupno == 1)).one()
        make_service_template(group_id=group, name="Mine")
        hidden = make_service_template(group_id=group, name="Withdrawn")
        make_service_template(name="Theirs")
        db.session.execute(
            sa.update(ServiceTemplate)
            .where(ServiceTemplate.id == hidden.template_id)
            .values(published_version_id=None)
        )
        db.session.commit()
    assert names(api, SERVICES) == ["Business", "Mine", "Starter"]


@pytest.mark.parametrize("path", [BUNDLES, TEMPLATES, SERVICES])
def test_the_lists_have_pages_scopes_and_groups(app: Flask, api: Caller, path: str) -> None:
    with app.app_context():
        foreign = Caller(app, make_credential("foreign", groups=(2,)))
        reader = Caller(app, make_credential("r", scopes=(ApiScope.READ,)))
        others = Caller(app, make_credential("o", scopes=(ApiScope.WRITE, ApiScope.SEND)))
    everything = names(reader, path)
    assert len(everything) > 1
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        body = api.get(path, query_string={"limit": 1, "cursor": cursor}).get_json()
        found += [each["name"] for each in body["items"]]
        cursor = body["next"]
    assert found == everything
    assert list(faults_of(api.get(path, query_string={"q": "x"}))) == ["q"]
    for caller in (foreign, others):
        refused = caller.get(path)
        assert (refused.status_code, refused.text) == (403, "Invalid access")
