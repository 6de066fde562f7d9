"""Service templates in versions: what is saved, published, restored, and what stands in the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import (
    Audience,
    AuditEvent,
    Bundle,
    EmailTemplate,
    OptionKind,
    Role,
    ServiceTemplate,
    ServiceTemplateVersion,
    StartRule,
    TemplateKind,
    UserGroup,
    utcnow,
)
from services import service_template_versions as versions
from services import service_templates
from services.actors import Actor
from services.errors import Conflict, Forbidden, InvalidInput, InvalidInputs, NotFound, Stale
from services.parameter_rules import PARAMETERS
from services.service_template_rules import TypedOption, TypedTemplate
from services.setup_instructions import Way
from tests.support.factories import actor_for, make_group, make_user, save

LANDLORD = "landlord@foyer.example"
OPERATOR = "operator@foyer.example"

LINES = TypedOption(
    label="Telephone lines", kind="count", minimum="1", maximum="20", default="5", help="How many"
)
NUMBERS = TypedOption(
    label="Numbers", name="numbers", kind="choice", choices="Keep ours\n\nNew ones", default=""
)
RECORDING = TypedOption(label="Call recording", kind="yes_no", default="Yes")


@pytest.fixture
def actor(app_context: Flask) -> Actor:
    return actor_for(LANDLORD)


def starter() -> ServiceTemplate:
    return db.session.scalars(
        sa.select(ServiceTemplate).where(ServiceTemplate.name == "Starter")
    ).one()


def typed_of(actor: Actor, template: ServiceTemplate, **changes: Any) -> TypedTemplate:
    newest = versions.get_template(actor, template.id).newest
    return replace(versions.typed_from(newest), **changes)


def made(actor: Actor, **changes: Any) -> ServiceTemplate:
    return versions.create_template(
        actor, typed_of(actor, starter(), **{"name": "Bakery", **changes})
    )


def faults_of(attempt: Callable[[], object]) -> dict[str, str]:
    with pytest.raises(InvalidInputs) as refused:
        attempt()
    return dict(refused.value.faults)


def last_event() -> AuditEvent:
    return db.session.scalars(sa.select(AuditEvent).order_by(AuditEvent.id.desc()).limit(1)).one()


def newest_of(actor: Actor, template: ServiceTemplate) -> ServiceTemplateVersion:
    db.session.expire_all()
    return versions.get_template(actor, template.id).newest


# --- Saving --------------------------------------------------------------------------------------


def test_a_new_template_is_last_and_offered_to_nobody(actor: Actor) -> None:
    template = made(actor, options=[LINES, NUMBERS, RECORDING])
    assert template.published_version_id is None
    listed = versions.list_templates(actor).rows
    assert [each.template.name for each in listed][-1] == "Bakery"
    version = newest_of(actor, template)
    assert (version.number, version.created_by_id) == (1, actor.user_id)
    assert [(each.name, each.kind, each.default) for each in version.options] == [
        ("telephone_lines", OptionKind.COUNT, "5"),
        ("numbers", OptionKind.CHOICE, "Keep ours"),
        ("call_recording", OptionKind.YES_NO, "yes"),
    ]
    assert version.options[1].choices == ["Keep ours", "New ones"]
    assert (version.options[0].minimum, version.options[0].maximum) == (1, 20)
    assert "Bakery" not in [
        each.template.name for each in service_templates.list_offered(actor_for(OPERATOR))
    ]
    event = last_event()
    assert (event.action, event.object_id) == ("service_template.created", template.id)
    assert event.detail["after"]["Name"] == "Bakery"


def test_every_save_is_a_version_and_the_old_one_stays(actor: Actor) -> None:
    template = starter()
    before = newest_of(actor, template)
    published = template.published_version_id
    version = versions.save_template(
        actor,
        template,
        typed_of(
            actor,
            template,
            description="For bakers\r\nand butchers",
            needs_approval=True,
            start_rule=StartRule.AT_APPROVAL,
            options=[NUMBERS],
        ),
        seen=1,
    )
    assert version is not None
    assert version.number == 2
    assert version.description == "For bakers\nand butchers"
    first = versions.get_version(template, 1)
    assert (first.id, first.description) == (before.id, before.description)
    assert [each.name for each in first.options] == ["lines", "voicemail_to_email"]
    assert template.published_version_id == published
    titles = [title for title, _, _ in versions.differences(first, version)]
    assert titles == [
        "Description",
        "Approval",
        "Start",
        "Option numbers",
        "Option lines",
        "Option voicemail_to_email",
    ]
    detail = last_event().detail
    assert detail["number"] == 2
    assert detail["before"]["Approval"] == "Not needed"
    assert detail["after"]["Start"] == "When the approver says"


def test_a_save_that_changes_nothing_is_no_version(actor: Actor) -> None:
    template = starter()
    assert versions.save_template(actor, template, typed_of(actor, template), seen=1) is None
    assert newest_of(actor, template).number == 1


def test_a_new_name_is_no_version_and_no_other_template_may_have_it(actor: Actor) -> None:
    template = starter()
    typed = typed_of(actor, template)
    versions.save_template(actor, template, replace(typed, name="Smallest"), seen=1)
    db.session.expire_all()
    assert (template.name, newest_of(actor, template).number) == ("Smallest", 1)
    assert last_event().action == "service_template.renamed"
    faults = faults_of(
        lambda: versions.save_template(
            actor, template, replace(typed, name="BUSINESS", description="x"), seen=1
        )
    )
    assert "already" in faults["name"]
    assert newest_of(actor, template).number == 1
    again = replace(typed, name=" business ")
    assert "already" in faults_of(lambda: versions.create_template(actor, again))["name"]


def test_who_saw_an_older_version_saves_nothing(actor: Actor) -> None:
    template = starter()
    typed = typed_of(actor, template)
    versions.save_template(actor, template, replace(typed, description="First"), seen=1)
    with pytest.raises(Stale):
        versions.save_template(actor, template, replace(typed, description="Second"), seen=1)
    assert newest_of(actor, template).description == "First"


HOSTILE = "<script>alert(1)</script> =cmd|'/c calc'!A1 ((first name)) \u202eevil"


def test_text_is_kept_as_it_is(actor: Actor) -> None:
    # A mark that only turns the direction cannot be seen, and is no text.
    text = HOSTILE.replace("\u202e", "")
    version = newest_of(actor, made(actor, name=text[:64], description=text))
    assert version.description == text


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"name": ""}, "name", "missing"),
        ({"name": "x" * 65}, "name", "65 characters"),
        ({"name": "a\0"}, "name", "cannot be seen"),
        ({"name": "a\r\nb"}, "name", "cannot be seen"),
        ({"name": HOSTILE[-5:] + "\u202e"}, "name", "cannot be seen"),
        ({"name": "ß" * 40}, "name", "lower case"),
        ({"description": "x" * 1001}, "description", "1,001"),
        ({"description": "\ud800"}, "description", "cannot be seen"),
        ({"group_id": 0}, "group", "No group"),
        ({"group_id": 2**62}, "group", "No group"),
        ({"start_rule": "now"}, "start_rule", "Choose when"),
        (
            {"start_rule": "at_approval", "needs_approval": False},
            "start_rule",
            "Nobody approves",
        ),
        ({"connector": "nowhere"}, "connector", "installed"),
        ({"application_url": "javascript:alert(1)"}, "application_url", "no web address"),
        ({"application_url": "https://"}, "application_url", "no web address"),
        ({"application_url": "https://[x"}, "application_url", "no web address"),
        ({"application_url": "https://a.example/" + "x" * 500}, "application_url", "The limit"),
        ({"setup_instructions": "x" * 5001}, "setup_instructions", "5,001"),
        ({"bundles": [0]}, "bundles", "no longer there"),
        ({"email_templates": [2**62]}, "email_templates", "no longer there"),
        ({"parameters": {"callback_retries": "many"}}, "parameter_callback_retries", "digits"),
        ({"options": [replace(LINES, label="")]}, "option_0_label", "no label"),
        ({"options": [replace(LINES, name="9 lives")]}, "option_0_name", "cannot be its name"),
        ({"options": [LINES, LINES]}, "option_1_name", "Option 1 is called"),
        ({"options": [replace(LINES, kind="?")]}, "option_0_kind", "kind"),
        ({"options": [replace(LINES, minimum="")]}, "option_0_minimum", "whole number"),
        ({"options": [replace(LINES, maximum="9" * 30)]}, "option_0_maximum", "whole number"),
        ({"options": [replace(LINES, maximum="0")]}, "option_0_maximum", "less than"),
        ({"options": [replace(LINES, default="21")]}, "option_0_default", "not from 1 to 20"),
        ({"options": [replace(NUMBERS, choices="One")]}, "option_0_choices", "fewer than two"),
        ({"options": [replace(NUMBERS, choices="A\nA")]}, "option_0_choices", "twice"),
        (
            {"options": [replace(NUMBERS, choices="A\n" + "x" * 65)]},
            "option_0_choices",
            "The limit is 64",
        ),
        (
            {"options": [replace(NUMBERS, choices="\n".join(map(str, range(31))))]},
            "option_0_choices",
            "31 choices",
        ),
        ({"options": [replace(NUMBERS, default="C")]}, "option_0_default", "none of the choices"),
        ({"options": [replace(RECORDING, default="perhaps")]}, "option_0_default", "yes or no"),
        ({"options": [LINES] * 21}, "options", "20 options"),
    ],
)
def test_what_is_wrong_is_told_at_its_field(
    actor: Actor, changes: dict[str, Any], field: str, words: str
) -> None:
    faults = faults_of(lambda: made(actor, **changes))
    assert words in faults[field]
    db.session.rollback()
    names = db.session.scalars(sa.select(ServiceTemplate.name)).all()
    assert sorted(names) == ["Business", "Contact centre", "Starter"]


def test_all_faults_are_told_together(actor: Actor) -> None:
    faults = faults_of(
        lambda: made(actor, name="", group_id=0, options=[replace(LINES, label="", minimum="x")])
    )
    assert set(faults) >= {"name", "group", "option_0_label", "option_0_minimum"}


def test_general_parameters_are_kept_with_what_must_be_replaced(actor: Actor) -> None:
    typed = dict.fromkeys(PARAMETERS, "") | {
        "callback_expiry_hours": "12",
        "callback_retries": "3",
        "callback_retry_minutes": "15",
        "greeting_language": "nl",
        "time_zone": "Europe/Brussels",
        "opening_hours_monday": "9-12, 13-17",
    }
    version = newest_of(
        actor, made(actor, parameters=typed, must_replace=["callback_folder_email", "unknown"])
    )
    assert version.must_replace == ["callback_folder_email"]
    assert version.parameters["opening_hours_monday"] == [["09:00", "12:00"], ["13:00", "17:00"]]
    assert version.parameters["callback_expiry_hours"] == 12


# --- Publishing ----------------------------------------------------------------------------------


def test_the_published_version_is_what_registrants_pick(actor: Actor) -> None:
    template = made(actor)
    versions.publish_version(actor, template, 1, Audience.EVERYBODY)
    offered = {
        each.template.name: each for each in service_templates.list_offered(actor_for(OPERATOR))
    }
    assert offered["Bakery"].number == 1
    assert last_event().detail["after"] == {"Version": 1, "Audience": "Everybody"}
    typed = typed_of(actor, template, description="New")
    versions.save_template(actor, template, typed, seen=1)
    offered = {
        each.template.name: each for each in service_templates.list_offered(actor_for(OPERATOR))
    }
    assert offered["Bakery"].number == 1
    versions.publish_version(actor, template, 2, Audience.INVITED)
    db.session.expire_all()
    assert template.audience is Audience.INVITED
    assert template.published_version is not None
    assert template.published_version.number == 2
    versions.unpublish(actor, template)
    db.session.expire_all()
    assert template.published_version_id is None
    assert last_event().detail["before"] == {"Version": 2, "Audience": "By invitation"}
    with pytest.raises(NotFound):
        versions.publish_version(actor, template, 3, Audience.STAFF)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"bundles": []}, "no bundle"), ({"email_templates": []}, "no welcome mail")],
)
def test_what_a_tenant_would_lack_stands_in_the_way(
    actor: Actor, changes: dict[str, Any], words: str
) -> None:
    template = made(actor, **changes)
    (obstacle,) = versions.find_obstacles(newest_of(actor, template))
    assert words in obstacle
    with pytest.raises(InvalidInput, match=words):
        versions.publish_version(actor, template, 1, Audience.EVERYBODY)
    db.session.expire_all()
    assert template.published_version_id is None


def test_what_is_archived_meanwhile_stands_in_the_way_too(actor: Actor) -> None:
    template = made(actor)
    db.session.execute(sa.update(Bundle).values(archived_at=utcnow()))
    db.session.execute(
        sa.update(EmailTemplate)
        .where(EmailTemplate.kind == TemplateKind.WELCOME)
        .values(archived_at=utcnow())
    )
    db.session.commit()
    assert len(versions.find_obstacles(newest_of(actor, template))) == 2


# --- Versions ------------------------------------------------------------------------------------


def test_restoring_says_again_what_a_version_said(actor: Actor) -> None:
    template = starter()
    typed = typed_of(actor, template, description="Second", options=[NUMBERS], bundles=[])
    versions.save_template(actor, template, typed, seen=1)
    with pytest.raises(Stale):
        versions.restore_version(actor, template, 1, seen=1)
    with pytest.raises(Conflict):
        versions.restore_version(actor, template, 2, seen=2)
    restored = versions.restore_version(actor, template, 1, seen=2)
    assert (restored.number, restored.restored_from) == (3, 1)
    assert versions.differences(versions.get_version(template, 1), restored) == []
    assert [each.number for each in versions.list_versions(template).rows] == [3, 2, 1]
    with pytest.raises(NotFound):
        versions.restore_version(actor, template, 9, seen=3)


def test_versions_come_in_pages(actor: Actor) -> None:
    template = made(actor)
    for number in range(1, 6):
        typed = typed_of(actor, template, description=str(number))
        versions.save_template(actor, template, typed, seen=number)
    page = versions.list_versions(template, size=4)
    assert [each.number for each in page.rows] == [6, 5, 4, 3]
    assert page.next is not None
    rest = versions.list_versions(template, size=4, cursor=page.next)
    assert [each.number for each in rest.rows] == [2, 1]


# --- The list ------------------------------------------------------------------------------------


def order(actor: Actor) -> list[str]:
    return [each.template.name for each in versions.list_templates(actor).rows]


def test_templates_change_places(actor: Actor) -> None:
    assert order(actor) == ["Starter", "Business", "Contact centre"]
    versions.move_template(actor, starter(), Way.DOWN)
    assert order(actor) == ["Business", "Starter", "Contact centre"]
    versions.move_template(actor, starter(), Way.DOWN)
    versions.move_template(actor, starter(), Way.DOWN)
    assert order(actor) == ["Business", "Contact centre", "Starter"]
    assert [each.template.name for each in service_templates.list_offered(actor)] == order(actor)


@pytest.mark.parametrize("way", list(Way))
def test_templates_of_the_same_place_change_it_too(actor: Actor, way: Way) -> None:
    db.session.execute(sa.update(ServiceTemplate).values(position=1))
    db.session.commit()
    before = order(actor)
    middle = db.session.scalars(
        sa.select(ServiceTemplate).where(ServiceTemplate.name == before[1])
    ).one()
    versions.move_template(actor, middle, way)
    moved = (
        [before[1], before[0], before[2]] if way is Way.UP else [before[0], before[2], before[1]]
    )
    assert order(actor) == moved


def test_an_archived_template_is_offered_no_more_and_comes_back(actor: Actor) -> None:
    template = starter()
    versions.archive_template(actor, template)
    assert order(actor) == ["Business", "Contact centre"]
    archived = versions.list_templates(actor, archived=True).rows
    assert [each.template.name for each in archived] == ["Starter"]
    db.session.expire_all()
    assert template.published_version_id is None
    for attempt in (
        lambda: versions.save_template(actor, template, typed_of(actor, template), seen=1),
        lambda: versions.publish_version(actor, template, 1, Audience.STAFF),
        lambda: versions.move_template(actor, template, Way.UP),
        lambda: versions.restore_version(actor, template, 1, seen=1),
    ):
        with pytest.raises(Conflict, match="archived"):
            attempt()
    versions.unarchive_template(actor, template)
    assert order(actor)[0] == "Starter"
    assert last_event().action == "service_template.unarchived"


def test_who_works_for_some_groups_sees_their_templates(actor: Actor) -> None:
    group = make_group()
    template = made(actor, group_id=group.id)
    limited = make_user(role=Role.OPERATOR)
    save(UserGroup(user_id=limited.id, group_id=group.id))
    reader = Actor.from_user(limited)
    assert order(reader) == ["Bakery"]
    assert versions.get_template(reader, template.id).template is template
    with pytest.raises(NotFound):
        versions.get_template(reader, starter().id)


def test_only_landlord_administrators_change_them(actor: Actor) -> None:
    operator, template = actor_for(OPERATOR), starter()
    typed = typed_of(actor, template)
    for attempt in (
        lambda: versions.create_template(operator, typed),
        lambda: versions.save_template(operator, template, typed, seen=1),
        lambda: versions.restore_version(operator, template, 1, seen=1),
        lambda: versions.publish_version(operator, template, 1, Audience.STAFF),
        lambda: versions.unpublish(operator, template),
        lambda: versions.archive_template(operator, template),
        lambda: versions.unarchive_template(operator, template),
        lambda: versions.move_template(operator, template, Way.UP),
    ):
        with pytest.raises(Forbidden):
            attempt()
    with pytest.raises(Forbidden):
        versions.list_templates(actor_for("prpkeAdmin@kenton-electronics.com"))
