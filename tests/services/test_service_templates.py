"""Service templates: who is offered which, and what may be chosen in them."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask

from extensions import db
from models import (
    Audience,
    OptionKind,
    RegistrationLink,
    Role,
    ServiceOption,
    ServiceTemplateVersion,
    utcnow,
)
from services import service_templates
from services.actors import Actor
from services.errors import Forbidden, InvalidInput, NotFound
from tests.support.factories import actor_for, find_customer, make_group, make_user, save
from tests.support.registrations import find_template, make_prospect
from tests.support.requests import actor_of, make_operator, make_service_template


def offered(actor: Actor, invitation: RegistrationLink | None = None) -> list[str]:
    found = service_templates.list_offered(actor, invitation)
    return [version.template.name for version in found]


def make_invitation(template: str | None) -> RegistrationLink:
    inviter = actor_for("operator@foyer.example")
    return save(
        RegistrationLink(
            email="guest@guests.example",
            email_key="guest@guests.example",
            invited_by_id=inviter.user_id,
            template_id=find_template(template).id if template else None,
            expires_at=utcnow(),
        )
    )


def test_a_prospect_is_offered_what_is_for_everybody(app_context: Flask) -> None:
    make_service_template(name="Of staff", audience=Audience.STAFF)
    assert offered(make_prospect()) == ["Starter", "Business"]


def test_an_invitation_adds_the_template_that_it_presets(app_context: Flask) -> None:
    make_service_template(name="Of staff", audience=Audience.STAFF)
    prospect = make_prospect()
    usual = ["Starter", "Business"]
    assert offered(prospect, make_invitation("Contact centre")) == [*usual, "Contact centre"]
    assert set(offered(prospect, make_invitation("Of staff"))) == {*usual, "Of staff"}
    assert offered(prospect, make_invitation("Starter")) == usual
    assert offered(prospect, make_invitation(None)) == usual


def test_staff_is_offered_all_of_its_groups(app_context: Flask) -> None:
    group = make_group()
    make_service_template(name="Of staff", audience=Audience.STAFF, group_id=group.id)
    everything = {"Starter", "Business", "Contact centre", "Of staff"}
    assert set(offered(actor_for("landlord@foyer.example"))) == everything
    assert set(offered(actor_of(make_operator()))) == everything
    assert offered(actor_of(make_operator(group))) == ["Of staff"]
    assert offered(actor_of(make_operator(make_group()))) == []


def test_what_is_not_published_is_offered_to_nobody(app_context: Flask) -> None:
    template = find_template("Business")
    template.published_version_id = None
    db.session.commit()
    assert offered(make_prospect()) == ["Starter"]
    with pytest.raises(NotFound):
        service_templates.get_offered(make_prospect("b@b.example"), None, template.id)


def test_the_published_version_is_the_one_that_is_offered(app_context: Flask) -> None:
    template = find_template("Starter")
    group_id = make_group().id
    version = save(
        ServiceTemplateVersion(
            template_id=template.id,
            number=2,
            description="The second",
            group_id=group_id,
            needs_approval=False,
            start_rule="immediate",
        )
    )
    prospect = make_prospect()
    first = service_templates.get_offered(prospect, None, template.id)
    assert (first.number, len(first.options), len(first.bundles)) == (1, 2, 1)
    template.published_version_id = version.id
    db.session.commit()
    assert service_templates.get_offered(prospect, None, template.id).number == 2


def test_others_register_nobody(app_context: Flask) -> None:
    administrator = make_user(find_customer("CQ001"), role=Role.CUSTOMER_ADMIN)
    for actor in (actor_of(administrator), actor_for("auditor@foyer.example")):
        with pytest.raises(Forbidden):
            service_templates.list_offered(actor)


@pytest.fixture
def version() -> ServiceTemplateVersion:
    """Not of any database: the rules of options are pure."""
    made = ServiceTemplateVersion(template_id=3)
    common: dict[str, Any] = {"choices": [], "position": 0}
    made.options = [
        ServiceOption(
            name="numbers",
            label="Numbers",
            kind=OptionKind.CHOICE,
            default="Keep ours",
            **(common | {"choices": ["Keep ours", "New ones"]}),
        ),
        ServiceOption(
            name="lines",
            label="Lines",
            kind=OptionKind.COUNT,
            minimum=0,
            maximum=1500,
            default="25",
            **common,
        ),
        ServiceOption(
            name="recording", label="Recording", kind=OptionKind.YES_NO, default="no", **common
        ),
    ]
    return made


def test_options_that_are_not_touched_have_their_defaults(version: ServiceTemplateVersion) -> None:
    assert service_templates.check_options(version, {}) == {
        "numbers": "Keep ours",
        "lines": 25,
        "recording": False,
    }


def test_options_are_kept_as_what_they_are(version: ServiceTemplateVersion) -> None:
    typed = {
        "option-3-numbers": "New ones",
        "option-3-lines": " 1500 ",
        "option-3-recording": "yes",
    }
    chosen = service_templates.check_options(version, {**typed, "option-4-lines": "nonsense"})
    assert chosen == {"numbers": "New ones", "lines": 1500, "recording": True}
    shown = [service_templates.show_option(value) for value in chosen.values()]
    assert shown == ["New ones", "1,500", "yes"]


@pytest.mark.parametrize(
    ("name", "typed", "told"),
    [
        ("numbers", "keep ours", "“keep ours” is not among the choices: Keep ours, New ones."),
        ("numbers", "<b>" * 10_000, "is not among the choices"),
        ("lines", "-1", "“-1” is not a whole number from 0 to 1,500."),
        ("lines", "1501", "“1501” is not a whole number"),
        ("lines", "2.5", "“2.5” is not a whole number"),
        ("lines", "²", "is not a whole number"),
        ("lines", "9" * 10_000, "is not a whole number"),
        ("lines", "5\0", "is not a whole number"),
        ("recording", "on", "“on” is neither yes nor no."),
        ("recording", "\ud800", "is neither yes nor no."),
    ],
)
def test_an_option_of_anything_else_is_refused(
    version: ServiceTemplateVersion, name: str, typed: str, told: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        service_templates.check_options(version, {f"option-3-{name}": typed})
    assert caught.value.field == f"option-3-{name}"
    assert told in caught.value.message
    assert len(caught.value.message) < 200


def test_who_sees_customers_pages_through_what_is_offered(app_context: Flask) -> None:
    group = make_group()
    for name in ("Ccc", "bbb", "Aaa"):
        make_service_template(group_id=group.id, name=name)
    make_service_template(name="Of another group")
    for role in (Role.OPERATOR, Role.AUDITOR):
        actor = actor_of(make_operator(group, role=role))
        found, cursor = [], ""
        while True:
            page = service_templates.page_offered(actor, size=2, cursor=cursor)
            found += [version.template.name for version in page.rows]
            if page.next is None:
                break
            cursor = page.next
        assert found == ["Aaa", "bbb", "Ccc"]
    for actor in (make_prospect(), actor_for("prpkeAdmin@kenton-electronics.com")):
        with pytest.raises(Forbidden):
            service_templates.page_offered(actor)
