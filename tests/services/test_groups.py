"""Groups: making and renaming them, who is limited to one, and moving a customer."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import AuditEvent, CustomerStatus, Role, UserGroup
from services import actors, groups
from services.actors import Permission
from services.errors import Forbidden, InvalidInput, InvalidInputs, NotFound, Stale
from tests.services.test_customer_list import operator_of
from tests.support.factories import actor_for, make_customer, make_group, make_user, save

LANDLORD = "landlord@foyer.example"
OPERATOR = "operator@foyer.example"


def last_event() -> AuditEvent:
    found = db.session.scalar(sa.select(AuditEvent).order_by(AuditEvent.id.desc()).limit(1))
    assert found is not None
    return found


def test_a_group_is_made_and_renamed_and_its_number_stays(app_context: Flask) -> None:
    landlord = actor_for(LANDLORD)
    made = groups.create_group(landlord, groupno=77, name="  West \n coast ")
    assert (made.groupno, made.name) == (77, "West coast")
    assert last_event().detail == {"after": {"groupno": 77, "name": "West coast"}}
    renamed = groups.rename_group(landlord, made, name="Far West", seen="West coast")
    assert (renamed.groupno, renamed.name) == (77, "Far West")
    assert last_event().detail == {
        "groupno": 77,
        "before": {"name": "West coast"},
        "after": {"name": "Far West"},
    }
    with pytest.raises(Stale):
        groups.rename_group(landlord, made, name="Third", seen="West coast")
    with pytest.raises(NotFound):
        groups.get_group(landlord, 10**30)


@pytest.mark.parametrize("groupno", [None, 0, -1, 2**31, 10**30])
def test_every_fault_of_a_new_group_is_told(app_context: Flask, groupno: int | None) -> None:
    for name in ("", " ", "x" * 65, "a\0b", "\ud800", "a\u202eb"):
        with pytest.raises(InvalidInputs) as refused:
            groups.create_group(actor_for(LANDLORD), groupno=groupno, name=name)
        assert [field for field, _ in refused.value.faults] == ["groupno", "name"]


def test_numbers_and_names_are_given_once(app_context: Flask) -> None:
    other = make_group()
    with pytest.raises(InvalidInputs) as refused:
        groups.create_group(actor_for(LANDLORD), groupno=other.groupno, name=other.name)
    assert [field for field, _ in refused.value.faults] == ["groupno", "name"]
    group = make_group()
    with pytest.raises(InvalidInput):
        groups.rename_group(actor_for(LANDLORD), group, name=other.name, seen=group.name)


def test_a_group_knows_its_customers_and_who_is_limited_to_it(app_context: Flask) -> None:
    landlord, group = actor_for(LANDLORD), make_group()
    for status in CustomerStatus:
        make_customer(group_id=group.id, status=status)
    counts = groups.count_customers(group)
    assert (counts.active.number, counts.suspended.number, counts.closing.number) == (1, 1, 0)
    limited = make_user(role=Role.AUDITOR, first_name="Only", last_name="Here")
    everywhere = make_user(role=Role.OPERATOR, all_groups=True)
    for user in (limited, everywhere):
        save(UserGroup(user_id=user.id, group_id=group.id))
    assert groups.list_staff(landlord, group) == [limited]
    assert groups.list_credentials(landlord, group) == []


def test_a_moved_customer_is_seen_by_the_other_group(app_context: Flask) -> None:
    landlord, old, new = actor_for(LANDLORD), make_group(), make_group()
    customer = make_customer(group_id=old.id)
    groups.move_customer(landlord, customer, new.id, versions=[customer.version])
    assert customer.version == 2
    assert last_event().detail == {"before": {"group": old.name}, "after": {"group": new.name}}
    read = Permission.CUSTOMERS_READ
    assert actors.get_customer(operator_of(new), customer.web_id, read) == customer
    with pytest.raises(NotFound):
        actors.get_customer(operator_of(old), customer.web_id, read)
    with pytest.raises(Stale):
        groups.move_customer(landlord, customer, old.id, versions=[1])
    for group_id in (None, 0, 10**18):
        with pytest.raises(InvalidInput) as refused:
            groups.move_customer(landlord, customer, group_id, versions=[2])
        assert refused.value.field == "group"


def test_operators_manage_no_groups(app_context: Flask) -> None:
    operator, group, customer = actor_for(OPERATOR), make_group(), make_customer()
    for call in (
        lambda: groups.page_groups(operator),
        lambda: groups.get_group(operator, group.groupno),
        lambda: groups.create_group(operator, groupno=5, name="x"),
        lambda: groups.rename_group(operator, group, name="x", seen=group.name),
        lambda: groups.move_customer(operator, customer, group.id, versions=[1]),
        lambda: groups.list_staff(operator, group),
        lambda: groups.list_credentials(operator, group),
    ):
        with pytest.raises(Forbidden):
            call()
