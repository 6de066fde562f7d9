"""Who may use an e-mail template: chosen one by one and by the thousand, within one's scope."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import (
    AuditEvent,
    Bundle,
    Customer,
    CustomerEmailTemplate,
    CustomerStatus,
    Group,
    TemplateKind,
)
from services import email_template_assignments as assignments
from services import email_template_edits
from services.actors import Actor
from services.email_template_assignments import By, Choice, Verb
from services.email_templates import find_template_of_kind
from services.errors import Conflict, Forbidden, InvalidInput, NotFound
from tests.support.factories import (
    actor_for,
    find_customer,
    make_customer,
    make_template,
    save,
)
from tests.support.templates import assign, limited_operator

pytestmark = pytest.mark.usefixtures("app_context")


@pytest.fixture
def operator(app_context: Flask) -> Actor:
    return actor_for("operator@foyer.example")


def having(template_id: int) -> set[str]:
    return set(
        db.session.scalars(
            sa.select(Customer.web_id)
            .join(CustomerEmailTemplate, CustomerEmailTemplate.customer_id == Customer.id)
            .where(CustomerEmailTemplate.template_id == template_id)
        )
    )


def change(actor: Actor, template_id: int, verb: Verb, **choice: object) -> int:
    return assignments.change_assignments(actor, template_id, verb, Choice(**choice))  # type: ignore[arg-type]


def bundle_id(name: str) -> int:
    return db.session.scalars(sa.select(Bundle.id).where(Bundle.name == name)).one()


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"by": By.LISTED, "web_ids": " cq001;CQ002,\nCQ001 "}, {"CQ001", "CQ002"}),
        ({"by": By.BUNDLE, "bundle": "Stand4PhoneNextGenBundle"}, {"CQ001", "CQ101"}),
        ({"by": By.GROUP, "groupno": 2}, {"CQ101"}),
        ({"by": By.ALL}, {"CQ001", "CQ002", "CQ003", "CQ101"}),
    ],
)
def test_each_way_to_choose_counts_first_and_then_changes(
    operator: Actor, choice: dict[str, object], expected: set[str]
) -> None:
    template = make_template()
    assign(operator, template.id, "CQ001")
    if "bundle" in choice:
        choice = {"by": choice["by"], "bundle_id": bundle_id(str(choice["bundle"]))}
    wanted = Choice(**choice)  # type: ignore[arg-type]
    effect = assignments.preview_change(operator, template.id, Verb.ASSIGN, wanted)
    assert effect.chosen == len(expected)
    assert effect.changed == len(expected - {"CQ001"})
    assert having(template.id) == {"CQ001"}, "counting changed something"
    assert change(operator, template.id, Verb.ASSIGN, **choice) == effect.changed
    assert having(template.id) == expected | {"CQ001"}
    effect = assignments.preview_change(operator, template.id, Verb.REMOVE, wanted)
    assert (effect.chosen, effect.changed) == (len(expected), len(expected))
    assert change(operator, template.id, Verb.REMOVE, **choice) == len(expected)
    assert having(template.id) == {"CQ001"} - expected


def test_it_is_recorded_once_and_for_one_customer_in_its_own_trail(operator: Actor) -> None:
    template = make_template(name="Notice")
    assign(operator, template.id, "CQ002")
    change(operator, template.id, Verb.ASSIGN, by=By.GROUP, groupno=1)
    change(operator, template.id, Verb.ASSIGN, by=By.GROUP, groupno=1)
    change(operator, template.id, Verb.REMOVE, by=By.ALL)
    events = db.session.scalars(
        sa.select(AuditEvent)
        .where(AuditEvent.object_type == "email_template")
        .order_by(AuditEvent.id)
    ).all()
    told = [(each.action, each.customer_id, each.detail["customers"]) for each in events]
    assert told == [
        ("email_template.assigned", find_customer("CQ002").id, 1),
        ("email_template.assigned", None, 2),
        ("email_template.removed", None, 3),
    ]
    assert events[1].detail["groupno"] == 1
    assert all(each.detail["name"] == "Notice" for each in events)


def test_an_operator_of_some_groups_touches_his_customers_alone(operator: Actor) -> None:
    limited = limited_operator("CQ101")
    template = make_template()
    assert change(limited, template.id, Verb.ASSIGN, by=By.ALL) == 1
    assert having(template.id) == {"CQ101"}
    change(operator, template.id, Verb.ASSIGN, by=By.ALL)
    assert change(limited, template.id, Verb.REMOVE, by=By.ALL) == 1
    assert having(template.id) == {"CQ001", "CQ002", "CQ003"}
    with pytest.raises(InvalidInput, match="CQ001 is no customer, or not yours"):
        assign(limited, template.id, "CQ001", "CQ101")
    with pytest.raises(InvalidInput) as caught:
        change(limited, template.id, Verb.ASSIGN, by=By.GROUP, groupno=1)
    assert caught.value.field == "group"
    _, groups = assignments.list_choices(limited)
    assert [group.groupno for group in groups] == [2]
    assert assignments.list_assigned(limited, template.id).rows == []
    assert len(assignments.list_assigned(operator, template.id).rows) == 3


def test_who_only_reads_sees_them_and_changes_none(operator: Actor) -> None:
    template = make_template(find_customer("CQ001"))
    auditor = actor_for("auditor@foyer.example")
    assert len(assignments.list_assigned(auditor, template.id).rows) == 1
    with pytest.raises(Forbidden):
        assign(auditor, template.id, "CQ002")
    with pytest.raises(Forbidden):
        assignments.preview_change(auditor, template.id, Verb.ASSIGN, Choice(By.ALL))
    with pytest.raises(NotFound):
        assign(operator, 999_999, "CQ001")


@pytest.mark.parametrize(
    ("web_ids", "told"),
    [
        ("", "at least one web ID"),
        (" ,; \n", "at least one web ID"),
        ("CQ001 CQ777", "CQ777 is no customer"),
        (" ".join(f"X{number}" for number in range(9)), "X0, X1, X2, X3, X4 and 4 others are"),
        ("nul\0", "cannot be seen"),
        ("\ud800", "cannot be seen"),
        (" ".join(f"X{number}" for number in range(10_001)), "The limit is 10,000"),
        ("x" * 4000, "is no customer"),
    ],
)
def test_a_list_with_a_fault_changes_nothing(operator: Actor, web_ids: str, told: str) -> None:
    template = make_template()
    for act in (assignments.preview_change, assignments.change_assignments):
        with pytest.raises(InvalidInput, match=told) as caught:
            act(operator, template.id, Verb.ASSIGN, Choice(By.LISTED, web_ids=web_ids))
        assert caught.value.field == "web_ids"
        assert len(caught.value.message) < 250
    assert having(template.id) == set()


def test_customers_in_the_making_and_deleted_ones_are_left_out(operator: Actor) -> None:
    make_customer(web_id="MAKING", status=CustomerStatus.CREATING)
    make_customer(web_id="GONE", status=CustomerStatus.DELETED)
    make_customer(web_id="PAUSED", status=CustomerStatus.SUSPENDED)
    template = make_template()
    change(operator, template.id, Verb.ASSIGN, by=By.ALL)
    assert having(template.id) == {"CQ001", "CQ002", "CQ003", "CQ101", "PAUSED"}


def test_what_is_archived_or_belongs_to_all_is_not_assigned(operator: Actor) -> None:
    template = make_template(find_customer("CQ001"))
    email_template_edits.archive_template(operator, template.id, version=1)
    with pytest.raises(Conflict, match="is archived"):
        assign(operator, template.id, "CQ002")
    assert assign(operator, template.id, "CQ001", verb=Verb.REMOVE) == 1
    reset = find_template_of_kind(TemplateKind.PASSWORD_RESET)
    assert reset is not None
    for verb in Verb:
        with pytest.raises(Conflict, match="belongs to all"):
            assign(operator, reset.id, "CQ002", verb=verb)


def test_choices_that_name_nothing_are_told_at_their_field(operator: Actor) -> None:
    template = make_template()
    for choice, field in (
        (Choice(By.BUNDLE, bundle_id=0), "bundle"),
        (Choice(By.BUNDLE, bundle_id=2**62), "bundle"),
        (Choice(By.GROUP, groupno=0), "group"),
        (Choice(By.GROUP, groupno=99), "group"),
    ):
        with pytest.raises(InvalidInput) as caught:
            assignments.preview_change(operator, template.id, Verb.ASSIGN, choice)
        assert caught.value.field == field


@pytest.mark.parametrize("few", [1000, 0], ids=["sorted", "walked"])
def test_assigned_customers_are_paged_and_searched(
    operator: Actor, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    """The few of a template and the many of another are found in different ways."""
    monkeypatch.setattr(assignments, "FEW", few)
    group = db.session.scalars(sa.select(Group).where(Group.groupno == 1)).one()
    template = make_template()
    for number in range(7):
        customer = make_customer(
            web_id=f"W{number}",
            name=f"Paged {number}",
            upn_suffix=f"w{number}.paged.example",
            group_id=group.id,
        )
        if number != 3:
            save(CustomerEmailTemplate(customer_id=customer.id, template_id=template.id))

    def page(**wanted: object) -> list[str]:
        found = assignments.list_assigned(operator, template.id, **wanted)  # type: ignore[arg-type]
        return [each.web_id for each in found.rows]

    first = assignments.list_assigned(operator, template.id, size=4)
    assert [each.web_id for each in first.rows] == ["W0", "W1", "W2", "W4"]
    second = assignments.list_assigned(operator, template.id, size=4, cursor=first.next or "")
    assert [each.web_id for each in second.rows] == ["W5", "W6"]
    back = assignments.list_assigned(operator, template.id, size=4, cursor=second.previous or "")
    assert [each.web_id for each in back.rows] == ["W0", "W1", "W2", "W4"]
    save(CustomerEmailTemplate(customer_id=find_customer("CQ101").id, template_id=template.id))
    limited = assignments.list_assigned(limited_operator("CQ101"), template.id)
    assert [each.web_id for each in limited.rows] == ["CQ101"]
    assert page(search="paged 2") == ["W2"]
    assert page(search="w3") == []
    assert page(search="w") == ["W0", "W1", "W2", "W4", "W5", "W6"]
    assert page(search="w5.PAGED") == ["W5"]
    assert page(search="nobody") == []
    assert page(search="\0") == []
