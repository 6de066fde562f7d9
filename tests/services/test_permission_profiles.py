"""Permission profiles: what they grant, who edits them, and that the database holds it together."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from sqlalchemy.exc import IntegrityError

from extensions import db
from models import AuditEvent, Customer, PermissionProfile, Role, User, UserStatus
from services import permission_profiles, user_accounts, user_states
from services.actors import DELEGABLE, NEEDS, PERMISSIONS, Actor, Permission, delegated
from services.errors import Conflict, Forbidden, InvalidInput, InvalidInputs, NotFound, Stale
from services.profile_items import ITEMS
from services.user_accounts import UserChanges
from services.user_rules import NewUser
from services.users import UserFilter, list_users
from tests.support.factories import (
    actor_for,
    find_customer,
    find_user,
    make_profile,
    make_user,
    save,
)

ADMIN = "prpkeAdmin@kenton-electronics.com"
ENTRY = "Entry3PhoneNextGenBundle"
READ = frozenset({Permission.USERS_READ})


@pytest.fixture(autouse=True)
def kenton(app_context: Flask) -> Customer:
    return find_customer("CQ001")


def make(customer: Customer, name: str = "Front desk", **changes: Any) -> PermissionProfile:
    return permission_profiles.create_profile(
        actor_for(ADMIN), customer, **{"name": name, "permissions": READ, **changes}
    )


def change(customer: Customer, profile: PermissionProfile, **changes: Any) -> PermissionProfile:
    values = {"version": profile.version, "name": profile.name, "permissions": READ, **changes}
    return permission_profiles.change_profile(actor_for(ADMIN), customer, profile.id, **values)


def supervisor(customer: Customer, *permissions: str) -> Actor:
    profile = make_profile(customer, *permissions)
    return actor_for(make_user(customer, role=Role.SUPERVISOR, profile_id=profile.id).login)


def events() -> list[tuple[str, dict[str, Any]]]:
    rows = db.session.scalars(
        sa.select(AuditEvent)
        .where(AuditEvent.object_type == "permission_profile")
        .order_by(AuditEvent.id)
    )
    return [(row.action, row.detail) for row in rows]


# --- What a profile grants -----------------------------------------------------------------------


def test_a_profile_never_exceeds_an_administrator(kenton: Customer) -> None:
    everything = supervisor(kenton, *Permission, "no.such", "*")
    assert everything.granted == PERMISSIONS[Role.CUSTOMER_ADMIN] - {Permission.PROFILES_EDIT}
    assert supervisor(kenton).granted == frozenset()
    assert not everything.is_staff
    assert everything.customer_id == kenton.id


def test_what_lacks_something_it_needs_is_not_granted(kenton: Customer) -> None:
    for permission in DELEGABLE:
        alone = supervisor(kenton, permission)
        assert set(alone.granted or ()) == (set() if NEEDS[permission] else {permission})
        whole = supervisor(kenton, permission, *NEEDS[permission])
        assert set(whole.granted or ()) == {permission, *NEEDS[permission]}


def test_needs_are_whole_and_every_item_is_described() -> None:
    assert set(NEEDS) == DELEGABLE
    for needed in NEEDS.values():
        assert needed <= DELEGABLE
        assert frozenset().union(needed, *(NEEDS[each] for each in needed)) == needed
    assert [item.permission for item in ITEMS] == list(dict.fromkeys(i.permission for i in ITEMS))
    assert {item.permission for item in ITEMS} == DELEGABLE
    assert all(item.title and item.sentence.endswith(".") for item in ITEMS)


def test_the_words_of_a_profile_may_be_anything() -> None:
    assert delegated([]) == frozenset()
    assert delegated(["users.read", "users.read", "", "customers.read"]) == READ


# --- Editing -------------------------------------------------------------------------------------


def test_a_profile_is_made_changed_and_deleted(kenton: Customer) -> None:
    profile = make(kenton, "  Front   desk ")
    assert (profile.name, profile.permissions, profile.version) == ("Front desk", ["users.read"], 1)
    both = {Permission.USERS_ADD, Permission.USERS_READ}
    change(kenton, profile, name="Desk", permissions=both)
    assert (profile.name, profile.permissions) == ("Desk", ["users.read", "users.add"])
    assert profile.version == 2
    assert change(kenton, profile, permissions=both).version == 2
    assert permission_profiles.delete_profile(actor_for(ADMIN), kenton, profile.id) == "Desk"
    old = {"name": "Front desk", "permissions": ["users.read"]}
    now = {"name": "Desk", "permissions": ["users.read", "users.add"]}
    assert events() == [
        ("permission_profile.created", {"after": old}),
        ("permission_profile.changed", {"before": old, "after": now}),
        ("permission_profile.deleted", {"before": now}),
    ]


def test_who_may_edit_them(kenton: Customer) -> None:
    profile = make(kenton)
    for login in ("landlord@foyer.example", "operator@foyer.example"):
        actor = actor_for(login)
        made = permission_profiles.create_profile(actor, kenton, name=login, permissions=READ)
        permission_profiles.delete_profile(actor, kenton, made.id)
    for actor in (
        actor_for("auditor@foyer.example"),
        supervisor(kenton, *Permission),
        actor_for(make_user(kenton).login),
    ):
        given: dict[str, Any] = {"name": "X", "permissions": READ}
        with pytest.raises(Forbidden):
            permission_profiles.create_profile(actor, kenton, **given)
        with pytest.raises(Forbidden):
            permission_profiles.change_profile(actor, kenton, profile.id, version=1, **given)
        with pytest.raises(Forbidden):
            permission_profiles.delete_profile(actor, kenton, profile.id)


def test_what_cannot_be_given_or_lacks_something_is_refused(kenton: Customer) -> None:
    for permissions, words in (
        ({Permission.PROFILES_EDIT, Permission.USERS_READ}, "Nobody can give profiles.edit"),
        ({Permission.CUSTOMERS_READ}, "Nobody can give customers.read"),
        ({Permission.MAILINGS_SEND}, "Send mails needs See users and See mailings"),
        ({Permission.PARAMETERS_EDIT}, "needs See general parameters"),
    ):
        with pytest.raises(InvalidInputs, match=words):
            make(kenton, permissions=permissions)
    with pytest.raises(InvalidInputs) as caught:
        make(kenton, "", permissions={Permission.USERS_ADD, Permission.USERS_EDIT})
    assert [field for field, _ in caught.value.faults] == ["name", "permissions", "permissions"]


@pytest.mark.parametrize("name", ["", " ", "x" * 65, "a\0b", "\ud800", "\u202ex", "…"])
def test_a_name_that_is_none_is_refused(kenton: Customer, name: str) -> None:
    with pytest.raises(InvalidInputs):
        make(kenton, name)


def test_a_name_is_taken_once_by_each_customer(kenton: Customer) -> None:
    make(kenton, "Night desk")
    with pytest.raises(InvalidInput, match="already"):
        make(kenton, "night  DESK")
    other = make(kenton, "Other")
    with pytest.raises(InvalidInput, match="already"):
        change(kenton, other, name="Night Desk")
    change(kenton, other, name="OTHER")
    harborlight = find_customer("CQ002")
    actor = actor_for("operator@foyer.example")
    permission_profiles.create_profile(actor, harborlight, name="Night desk", permissions=READ)


def test_the_version_that_was_read_is_compared(kenton: Customer) -> None:
    profile = make(kenton)
    change(kenton, profile, name="Mine")
    with pytest.raises(Stale):
        change(kenton, profile, version=1, name="Theirs")
    assert profile.name == "Mine"


def test_another_customers_profile_is_not_there(kenton: Customer) -> None:
    foreign = make_profile(find_customer("CQ002"))
    with pytest.raises(NotFound):
        change(kenton, foreign)
    with pytest.raises(NotFound):
        permission_profiles.delete_profile(actor_for(ADMIN), kenton, foreign.id)
    with pytest.raises(NotFound):
        permission_profiles.get_profile(actor_for(ADMIN), kenton, foreign.id)


def test_a_profile_in_use_is_not_deleted_and_says_how_many_have_it(kenton: Customer) -> None:
    profile = make(kenton)
    users = [make_user(kenton, role=Role.SUPERVISOR, profile_id=profile.id) for _ in range(2)]
    actor = actor_for(ADMIN)
    with pytest.raises(Conflict, match="2 supervisors have Front desk"):
        permission_profiles.delete_profile(actor, kenton, profile.id)
    user_states.delete_users(actor, kenton, [users[0].id])
    with pytest.raises(Conflict, match="1 supervisor has Front desk"):
        permission_profiles.delete_profile(actor, kenton, profile.id)
    changes = UserChanges(role=Role.USER, bundle=ENTRY)
    user_accounts.update_user(actor, kenton, users[1].id, changes)
    assert permission_profiles.delete_profile(actor, kenton, profile.id) == "Front desk"


def test_there_is_a_limit_to_their_number(
    kenton: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(permission_profiles, "MOST_PROFILES", 2)
    make(kenton, "A")
    make(kenton, "B")
    with pytest.raises(Conflict, match="has 2 permission profiles, which is the limit"):
        make(kenton, "C")


def test_the_list_goes_by_name_and_counts_holders(
    kenton: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    profiles = [make(kenton, name) for name in ("Zeta", "alpha", "Beta")]
    for _ in range(3):
        make_user(kenton, role=Role.SUPERVISOR, profile_id=profiles[0].id)
    make_profile(find_customer("CQ002"))
    first = permission_profiles.list_profiles(actor_for(ADMIN), kenton, size=2)
    assert first.next is not None
    last = permission_profiles.list_profiles(actor_for(ADMIN), kenton, size=2, cursor=first.next)
    rows = [(each.profile.name, each.holders) for each in (*first.rows, *last.rows)]
    assert rows == [("alpha", 0), ("Beta", 0), ("Zeta", 3)]
    monkeypatch.setattr(permission_profiles, "COUNT_CAP", 1)
    listed = permission_profiles.get_profile(actor_for(ADMIN), kenton, profiles[0].id)
    assert listed.holders == 2
    assert "More than 1" in permission_profiles.refusal_of(listed.profile, listed.holders)


# --- Giving them ---------------------------------------------------------------------------------


def test_a_supervisor_has_one_of_the_customers_profiles(kenton: Customer) -> None:
    actor = actor_for("operator@foyer.example")
    make(kenton)
    make_profile(find_customer("CQ002"), name="Foreign")
    new: dict[str, Any] = {"last_name": "L", "bundle": ENTRY}
    supervisor_role = {"role": Role.SUPERVISOR, **new}
    for given, words in (
        ({"user_name": "a", **supervisor_role}, "It has Front desk"),
        ({"user_name": "a", "profile": "Foreign", **supervisor_role}, "no permission profile"),
        ({"user_name": "a", "profile": "Front desk", **new}, "Only a supervisor"),
    ):
        with pytest.raises(InvalidInputs, match=words):
            user_accounts.add_user(actor, kenton, NewUser(**given))
    user, _ = user_accounts.add_user(
        actor, kenton, NewUser(user_name="aa", profile="front DESK", **supervisor_role)
    )
    assert user.profile is not None
    assert actor_for(user.login).granted == READ
    for changes, words in (
        (UserChanges(profile=""), "A supervisor has one"),
        (UserChanges(role=Role.USER, profile="Front desk"), "Only a supervisor"),
    ):
        with pytest.raises(InvalidInputs, match=words):
            user_accounts.update_user(actor, kenton, user.id, changes)
    kept = user_accounts.update_user(actor, kenton, user.id, UserChanges(role=Role.SUPERVISOR))
    assert kept.version == 1
    changed = user_accounts.update_user(actor, kenton, user.id, UserChanges(role=Role.USER))
    assert (changed.role, changed.profile) == (Role.USER, None)
    told = db.session.scalars(
        sa.select(AuditEvent.detail).where(AuditEvent.action == "user.changed")
    ).one()
    assert told == {
        "before": {"role": "supervisor", "profile": "Front desk"},
        "after": {"role": "user", "profile": ""},
    }


def test_a_supervisor_gives_no_role_and_reaches_no_role(kenton: Customer) -> None:
    actor = supervisor(kenton, *Permission)
    new: dict[str, Any] = {"user_name": "eve", "last_name": "Eve", "bundle": ENTRY}
    for role in (Role.CUSTOMER_ADMIN, Role.SUPERVISOR):
        with pytest.raises(InvalidInputs, match="Only an administrator"):
            user_accounts.add_user(actor, kenton, NewUser(**new, role=role))
    user, _ = user_accounts.add_user(actor, kenton, NewUser(**new))
    for role in (Role.CUSTOMER_ADMIN, Role.SUPERVISOR):
        with pytest.raises(InvalidInputs, match="Only an administrator"):
            user_accounts.update_user(actor, kenton, user.id, UserChanges(role=role))
    for login in (ADMIN, actor.login):
        changes, user_id = UserChanges(email="eve@x.example"), find_user(login).id
        with pytest.raises(Forbidden, match="Only an administrator"):
            user_accounts.update_user(actor, kenton, user_id, changes)


def test_the_database_holds_it_together(kenton: Customer) -> None:
    own, foreign = make_profile(kenton), make_profile(find_customer("CQ002"))
    for values in (
        {"role": Role.SUPERVISOR, "profile_id": None},
        {"role": Role.SUPERVISOR, "profile_id": foreign.id},
        {"role": Role.USER, "profile_id": own.id},
        {"role": Role.CUSTOMER_ADMIN, "profile_id": own.id},
    ):
        with pytest.raises(IntegrityError):
            make_user(kenton, **values)
        db.session.rollback()
    make_user(kenton, role=Role.SUPERVISOR, profile_id=None, status=UserStatus.DELETED)
    held = make_user(kenton, role=Role.SUPERVISOR, profile_id=own.id)
    db.session.delete(own)
    with pytest.raises(IntegrityError):
        db.session.commit()
    db.session.rollback()
    for name, key in (("", "x"), ("x", own.name_key)):
        with pytest.raises(IntegrityError):
            save(PermissionProfile(customer_id=kenton.id, name=name, name_key=key, permissions=[]))
        db.session.rollback()
    assert db.session.get_one(User, held.id).profile_id == own.id


# --- Finding them --------------------------------------------------------------------------------


@pytest.mark.parametrize("engine_name", ["sqlite"])
@pytest.mark.parametrize("by_profile", [True, False])
def test_supervisors_are_looked_up_by_an_index_of_their_own(
    kenton: Customer, by_profile: bool
) -> None:
    asked: list[tuple[str, Any]] = []

    def note(_c: object, _cursor: object, statement: str, values: object, *_rest: object) -> None:
        asked.append((statement, values))

    profile = make_profile(kenton)
    user = make_user(kenton, role=Role.SUPERVISOR, profile_id=profile.id)
    wanted = UserFilter(profile_id=profile.id) if by_profile else UserFilter(role=Role.SUPERVISOR)
    actor, login = actor_for(ADMIN), user.login
    sa.event.listen(db.engine, "before_cursor_execute", note)
    try:
        page = list_users(actor, kenton, wanted)
    finally:
        sa.event.remove(db.engine, "before_cursor_execute", note)
    assert [each.login for each in page.rows] == [login]
    statement, values = asked[0]
    with db.engine.connect() as connection:
        explained = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
        plan = [each.detail for each in explained if "users" in each.detail]
    assert any("ix_users_supervisors" in line for line in plan), plan
    assert all("PRIMARY KEY" in line or "ix_users_supervisors" in line for line in plan), plan
