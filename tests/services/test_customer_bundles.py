"""Bundles: making and describing them, giving them to customers and taking them back."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import AuditEvent, Bundle, CustomerBundle, CustomerStatus, Role, UserStatus
from services import bundles, customer_bundles
from services.actors import Actor
from services.customer_bundles import Changed, StillUsed
from services.errors import Conflict, Forbidden, InvalidInput, InvalidInputs, NotFound, Stale
from tests.services.test_customer_list import operator_of
from tests.support.factories import actor_for, make_bundle, make_customer, make_group, make_user

LANDLORD = "landlord@foyer.example"
AUDITOR = "auditor@foyer.example"
HOSTILE = [
    "<script>alert(1)</script>",
    "((first name))",
    "a\r\nBcc: x@y.example",
    "=cmd|' /C calc'!A0",
]


def landlord() -> Actor:
    return actor_for(LANDLORD)


def last_event() -> AuditEvent:
    found = db.session.scalar(sa.select(AuditEvent).order_by(AuditEvent.id.desc()).limit(1))
    assert found is not None
    return found


def of_customer(customer_id: int) -> set[int]:
    return set(
        db.session.scalars(
            sa.select(CustomerBundle.bundle_id).where(CustomerBundle.customer_id == customer_id)
        )
    )


def test_a_bundle_is_made_described_archived_and_offered_again(app_context: Flask) -> None:
    made = bundles.create_bundle(landlord(), name="  Premium  5 ", services="Desk phone\r\n\n App ")
    assert (made.name, made.services, made.version) == ("Premium 5", "Desk phone\nApp", 1)
    assert last_event().detail == {"after": {"name": "Premium 5", "services": "Desk phone\nApp"}}
    changed = bundles.describe_bundle(landlord(), made.id, services="App", version=1)
    assert (changed.services, changed.version) == ("App", 2)
    assert last_event().action == "bundle.changed"
    assert last_event().detail["before"] == {"services": "Desk phone\nApp"}
    with pytest.raises(Stale):
        bundles.describe_bundle(landlord(), made.id, services="Other", version=1)
    archived = bundles.archive_bundle(landlord(), made.id)
    assert archived.archived_at is not None
    assert made not in bundles.list_offered(landlord())
    assert bundles.archive_bundle(landlord(), made.id).version == archived.version
    with pytest.raises(Conflict, match="archived"):
        customer_bundles.assign_bundle(landlord(), make_customer(), archived)
    assert bundles.restore_bundle(landlord(), made.id).archived_at is None
    assert last_event().action == "bundle.restored"


@pytest.mark.parametrize(
    "name", ["", "  ", "x" * 65, "a;b", "a|b", "-x", "a\0", "\ud800", "a\u202eb", *HOSTILE]
)
def test_names_that_commands_or_mails_could_not_carry_are_refused(
    app_context: Flask, name: str
) -> None:
    with pytest.raises(InvalidInputs) as refused:
        bundles.create_bundle(landlord(), name=name, services="")
    assert [field for field, _ in refused.value.faults] == ["name"]


@pytest.mark.parametrize("services", ["x" * 501, "a\0b", "a\u202eb", "\ud800", "a\x07b"])
def test_services_that_cannot_be_shown_are_refused(app_context: Flask, services: str) -> None:
    with pytest.raises(InvalidInputs) as refused:
        bundles.create_bundle(landlord(), name="", services=services)
    assert [field for field, _ in refused.value.faults] == ["name", "services"]


def test_names_differ_by_more_than_capitals(app_context: Flask) -> None:
    bundles.create_bundle(landlord(), name="Premium", services="")
    with pytest.raises(InvalidInput) as refused:
        bundles.create_bundle(landlord(), name="PREMIUM", services="")
    assert refused.value.field == "name"


def test_a_bundle_that_users_have_is_not_removed_but_they_can_be_moved(app_context: Flask) -> None:
    customer = make_customer()
    old, new = make_bundle(customer), make_bundle(customer)
    users = [make_user(customer, bundle_id=old.id) for _ in range(3)]
    gone = make_user(customer, bundle_id=old.id, status=UserStatus.DELETED)
    stays = make_user(customer, bundle_id=new.id)
    foreign = make_user(other := make_customer(), bundle_id=make_bundle(other).id)
    with pytest.raises(StillUsed, match=r"3 users of .* still have") as refused:
        customer_bundles.remove_bundle(landlord(), customer, old)
    assert refused.value.users.number == 3
    assert of_customer(customer.id) == {old.id, new.id}
    for target in (old.id, foreign.bundle_id, 10**18, None):
        with pytest.raises(InvalidInput) as wrong:
            customer_bundles.move_users(landlord(), customer, old, target)
        assert wrong.value.field == "target"
    assert customer_bundles.move_users(landlord(), customer, old, new.id, remove_after=True) == 3
    db.session.expire_all()
    assert {user.bundle_id for user in (*users, stays)} == {new.id}
    assert [user.version for user in (*users, stays)] == [2, 2, 2, 1]
    assert gone.bundle_id is None
    assert of_customer(customer.id) == {new.id}
    moved, removed = db.session.scalars(
        sa.select(AuditEvent).where(AuditEvent.customer_id == customer.id).order_by(AuditEvent.id)
    ).all()
    assert (moved.action, moved.detail["users"]) == ("customer.users_moved", 3)
    assert (moved.detail["before"], moved.detail["after"]) == (
        {"bundle": old.name},
        {"bundle": new.name},
    )
    assert removed.action == "customer.bundle_removed"


def test_moving_without_removing_leaves_the_bundle(app_context: Flask) -> None:
    customer = make_customer()
    old, new = make_bundle(customer), make_bundle(customer)
    make_user(customer, bundle_id=old.id)
    customer_bundles.move_users(landlord(), customer, old, new.id)
    assert of_customer(customer.id) == {old.id, new.id}
    customer_bundles.remove_bundle(landlord(), customer, old)
    assert of_customer(customer.id) == {new.id}


def test_assigning_twice_is_one_assignment(app_context: Flask) -> None:
    customer, bundle = make_customer(), make_bundle()
    assert customer_bundles.assign_bundle(landlord(), customer, bundle)
    assert (last_event().action, last_event().customer_id) == (
        "customer.bundle_assigned",
        customer.id,
    )
    assert not customer_bundles.assign_bundle(landlord(), customer, bundle)
    row = db.session.get_one(CustomerBundle, (customer.id, bundle.id))
    assert (row.group_id, row.status, row.name_key) == (
        customer.group_id,
        CustomerStatus.ACTIVE,
        customer.name_key,
    )


def test_many_customers_are_given_a_bundle_by_name_or_by_group(app_context: Flask) -> None:
    group, bundle = make_group(), make_bundle()
    made = [make_customer(group_id=group.id) for _ in range(4)]
    gone = make_customer(group_id=group.id, status=CustomerStatus.DELETED)
    other = make_customer()
    named = [made[0].web_id, other.web_id]
    assert customer_bundles.assign_to_many(landlord(), bundle, web_ids=named) == Changed(2)
    assert last_event().detail["web_ids"] == named
    assert customer_bundles.assign_to_many(landlord(), bundle, group_id=group.id) == Changed(3)
    assert last_event().detail["groupno"] == group.groupno
    assert of_customer(gone.id) == set()
    make_user(made[1], bundle_id=bundle.id)
    make_user(made[2], bundle_id=bundle.id, status=UserStatus.DELETED)
    changed = customer_bundles.remove_from_many(landlord(), bundle, group_id=group.id)
    assert changed == Changed(3, 1, ((made[1].web_id, made[1].name),))
    assert of_customer(made[1].id) == {bundle.id}
    assert of_customer(other.id) == {bundle.id}
    assert customer_bundles.remove_from_many(landlord(), bundle, web_ids=[other.web_id]) == Changed(
        1
    )
    assert (last_event().action, last_event().customer_id) == (
        "customer.bundle_removed",
        other.id,
    )


def test_what_is_typed_in_bulk_is_read_kindly_and_refused_whole(app_context: Flask) -> None:
    assert customer_bundles.read_web_ids(" cq001, CQ002;cq001\n\nx ") == ["CQ001", "CQ002", "X"]
    customer, bundle = make_customer(), make_bundle()
    for web_ids in (
        [],
        ["NOPE", customer.web_id],
        ["\0"],
        ["\ud800"],
        ["<SCRIPT>"],
        ["X" * 300],
        [f"X{number}" for number in range(501)],
    ):
        with pytest.raises(InvalidInput) as refused:
            customer_bundles.assign_to_many(landlord(), bundle, web_ids=web_ids)
        assert refused.value.field == "web_ids"
    with pytest.raises(InvalidInput) as refused:
        customer_bundles.assign_to_many(landlord(), bundle, group_id=10**18)
    assert refused.value.field == "group"
    assert of_customer(customer.id) == set()


def test_an_operator_changes_customers_of_his_groups_alone(app_context: Flask) -> None:
    mine, theirs = make_group(), make_group()
    customer, foreign = make_customer(group_id=mine.id), make_customer(group_id=theirs.id)
    bundle, actor = make_bundle(foreign), operator_of(mine)
    for chosen in ({"web_ids": [customer.web_id, foreign.web_id]}, {"group_id": theirs.id}):
        given: dict[str, Any] = dict(chosen)
        for change in (customer_bundles.assign_to_many, customer_bundles.remove_from_many):
            with pytest.raises(InvalidInput):
                change(actor, bundle, **given)
    assert of_customer(foreign.id) == {bundle.id}
    assert bundles.measure_usage(actor, bundle).customers.number == 0
    assert bundles.measure_usage(actor, bundle).users is None
    assert customer_bundles.assign_to_many(actor, bundle, group_id=mine.id) == Changed(1)
    assert bundles.measure_usage(actor, bundle).customers.number == 1


def test_usage_is_counted_up_to_a_cap(app_context: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    customer = make_customer()
    bundle = make_bundle(customer)
    for status in (UserStatus.ACTIVE, UserStatus.SUSPENDED, UserStatus.DELETED):
        make_user(customer, bundle_id=bundle.id, status=status)
    usage = bundles.measure_usage(landlord(), bundle)
    assert (usage.customers.number, usage.users.number if usage.users else None) == (1, 2)
    (assigned,) = customer_bundles.list_assigned(landlord(), customer)
    assert (assigned.users.number, assigned.users.is_more) == (2, False)


def test_only_who_may_edit_bundles_changes_them(app_context: Flask) -> None:
    customer = make_customer()
    bundle = make_bundle(customer)
    before = db.session.scalar(sa.select(sa.func.count()).select_from(Bundle))
    admin = Actor(user_id=1, login="x", role=Role.CUSTOMER_ADMIN, customer_id=customer.id)
    for actor in (actor_for(AUDITOR), admin):
        calls: list[Any] = [
            lambda a: bundles.create_bundle(a, name="x", services=""),
            lambda a: bundles.describe_bundle(a, bundle.id, services="", version=1),
            lambda a: bundles.archive_bundle(a, bundle.id),
            lambda a: bundles.restore_bundle(a, bundle.id),
            lambda a: customer_bundles.assign_bundle(a, customer, bundle),
            lambda a: customer_bundles.remove_bundle(a, customer, bundle),
            lambda a: customer_bundles.move_users(a, customer, bundle, 1),
            lambda a: customer_bundles.assign_to_many(a, bundle, web_ids=["X"]),
            lambda a: customer_bundles.remove_from_many(a, bundle, web_ids=["X"]),
        ]
        for call in calls:
            with pytest.raises(Forbidden):
                call(actor)
    assert db.session.scalar(sa.select(sa.func.count()).select_from(Bundle)) == before
    with pytest.raises(NotFound):
        bundles.get_bundle(landlord(), 10**15)
