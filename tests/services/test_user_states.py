"""Suspending, resuming, deleting and giving bundles to many: who is left out, what follows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import (
    AuditEvent,
    Customer,
    Delivery,
    DeliveryState,
    RecoveryCode,
    ResetLink,
    Role,
    SelectedUser,
    SignInSession,
    SkipReason,
    User,
    UserStatus,
)
from services import reset_links, sign_ins, user_accounts, user_states
from services.actors import Actor, Permission
from services.errors import Conflict, Forbidden, InvalidInput, InvalidInputs, NotFound
from services.user_rules import NewUser
from services.user_states import Change, LeftOut, Plan
from tests.support.factories import (
    actor_for,
    find_customer,
    find_user,
    make_bundle,
    make_profile,
    make_user,
    save,
)
from tests.support.promises import start_welcome
from tests.support.smtp_sink import SmtpSink

ADMIN = "prpkeAdmin@kenton-electronics.com"
STANDARD = "Stand4PhoneNextGenBundle"
PASSWORD = "a-password-of-a-test"


@pytest.fixture(autouse=True)
def kenton(app_context: Flask) -> Customer:
    return find_customer("CQ001")


def operator() -> Actor:
    return actor_for("operator@foyer.example")


def events(action: str) -> dict[int | None, dict[str, Any]]:
    rows = db.session.scalars(sa.select(AuditEvent).where(AuditEvent.action == action))
    return {row.object_id: row.detail for row in rows}


def row_of(user_id: int) -> User:
    return db.session.get_one(User, user_id, populate_existing=True)


def reasons(plan: Plan) -> dict[int, LeftOut]:
    return {user.id: reason for user, reason in plan.left_out}


# --- Who is left out -----------------------------------------------------------------------------


def test_the_plan_tells_what_the_change_then_does(kenton: Customer) -> None:
    active, suspended = make_user(kenton), make_user(kenton, status=UserStatus.SUSPENDED)
    gone, foreign = make_user(kenton, status=UserStatus.DELETED), make_user(find_customer("CQ002"))
    ids = [active.id, suspended.id, gone.id, foreign.id]
    for plan in (
        user_states.plan_change(operator(), kenton, Change.SUSPEND, ids),
        user_states.suspend_users(operator(), kenton, ids),
    ):
        assert plan.ids == [ids[0]]
        assert reasons(plan) == {ids[1]: LeftOut.ALREADY}
        assert plan.gone == 2
    assert row_of(ids[0]).status is UserStatus.SUSPENDED
    assert row_of(ids[3]).status is UserStatus.ACTIVE
    assert events("user.suspended") == {
        ids[0]: {
            "login": row_of(ids[0]).login,
            "before": {"status": "active"},
            "after": {"status": "suspended"},
        }
    }


@pytest.mark.parametrize("change", [user_states.suspend_users, user_states.delete_users])
def test_the_last_active_administrators_stay(kenton: Customer, change: Callable[..., Plan]) -> None:
    first = find_user(ADMIN).id
    second = make_user(kenton, role=Role.CUSTOMER_ADMIN).id
    barred = make_user(kenton, role=Role.CUSTOMER_ADMIN, status=UserStatus.SUSPENDED).id
    make_user(find_customer("CQ002"), role=Role.CUSTOMER_ADMIN)
    user = make_user(kenton).id

    plan = change(operator(), kenton, [first, second, user])

    assert plan.ids == [user]
    assert set(reasons(plan).values()) == {LeftOut.LAST_ADMINISTRATOR}
    assert set(reasons(plan)) == {first, second}
    assert change(operator(), kenton, [second]).ids == [second]
    assert reasons(change(operator(), kenton, [first])) == {first: LeftOut.LAST_ADMINISTRATOR}
    assert row_of(barred).role is Role.CUSTOMER_ADMIN


def test_nobody_ends_his_own_account(kenton: Customer) -> None:
    make_user(kenton, role=Role.CUSTOMER_ADMIN)
    actor = actor_for(ADMIN)
    for change in (user_states.suspend_users, user_states.delete_users):
        plan = change(actor, kenton, [find_user(ADMIN).id])
        assert list(reasons(plan).values()) == [LeftOut.YOURSELF]
    with pytest.raises(Conflict, match="your own account"):
        user_states.suspend_user(actor, kenton, find_user(ADMIN).id)
    # Giving oneself another bundle ends nothing.
    assert user_states.change_bundle(actor, kenton, [find_user(ADMIN).id], STANDARD).changed


def test_an_administrator_may_suspend_the_other_one(kenton: Customer) -> None:
    other = make_user(kenton, role=Role.CUSTOMER_ADMIN).id
    assert user_states.suspend_users(actor_for(ADMIN), kenton, [other]).ids == [other]


def test_a_supervisor_reaches_users_alone(kenton: Customer) -> None:
    profile = make_profile(kenton, *Permission)
    me = make_user(kenton, role=Role.SUPERVISOR, profile_id=profile.id)
    others = [
        make_user(kenton, role=Role.SUPERVISOR).id,
        make_user(kenton, role=Role.CUSTOMER_ADMIN).id,
        me.id,
    ]
    user = make_user(kenton).id
    actor = actor_for(me.login)
    for plan in (
        user_states.suspend_users(actor, kenton, [*others, user]),
        user_states.resume_users(actor, kenton, [user]),
        user_states.change_bundle(actor, kenton, [*others, user], STANDARD),
        user_states.delete_users(actor, kenton, [*others, user]),
    ):
        assert plan.ids == [user]
        assert set(reasons(plan).values()) <= {LeftOut.BEYOND}
    for other in others:
        assert row_of(other).status is UserStatus.ACTIVE
        assert row_of(other).bundle_id is None
        with pytest.raises(Forbidden, match="Only an administrator"):
            user_states.suspend_user(actor, kenton, other)


@pytest.mark.parametrize(
    ("change", "permission"),
    [
        (user_states.suspend_users, Permission.USERS_SUSPEND),
        (user_states.resume_users, Permission.USERS_SUSPEND),
        (user_states.delete_users, Permission.USERS_DELETE),
        (partial(user_states.change_bundle, bundle=STANDARD), Permission.USERS_EDIT),
    ],
)
def test_each_change_has_its_own_permission(
    kenton: Customer, change: Callable[..., Plan], permission: Permission
) -> None:
    user = make_user(kenton).id
    for each in Permission:
        profile = make_profile(kenton, Permission.USERS_READ, each)
        actor = actor_for(make_user(kenton, role=Role.SUPERVISOR, profile_id=profile.id).login)
        if each is permission:
            change(actor, kenton, [user])
        else:
            with pytest.raises(Forbidden):
                change(actor, kenton, [user])


def test_none_and_too_many_are_refused(kenton: Customer) -> None:
    for count in (0, 501):
        ids = range(1, count + 1)
        with pytest.raises(InvalidInput, match="selected"):
            user_states.suspend_users(operator(), kenton, ids)


# --- What follows --------------------------------------------------------------------------------


def test_many_at_once(kenton: Customer) -> None:
    ids = [make_user(kenton).id for _ in range(30)]
    before = {each: row_of(each).version for each in ids}
    assert len(user_states.suspend_users(operator(), kenton, ids).changed) == 30
    assert {row_of(each).version - before[each] for each in ids} == {1}
    assert len(events("user.suspended")) == 30


def test_suspending_many_ends_their_sessions_and_links_alone(kenton: Customer) -> None:
    barred = [make_user(kenton, password=PASSWORD) for _ in range(2)]
    other = make_user(kenton, password=PASSWORD)
    for user in (*barred, other):
        sign_ins.sign_in(user.login, PASSWORD)
        reset_links.request_reset(user.login)
    user_states.suspend_users(operator(), kenton, [user.id for user in barred])
    assert db.session.scalars(sa.select(SignInSession.user_id)).all() == [other.id]
    open_links = sa.select(ResetLink.user_id).where(ResetLink.used_at.is_(None))
    assert db.session.scalars(open_links).all() == [other.id]
    user_states.resume_users(operator(), kenton, [user.id for user in barred])
    for user in barred:
        assert sign_ins.sign_in(user.login, PASSWORD)[0].id == user.id


def test_a_bundle_is_given_to_many(kenton: Customer) -> None:
    standard = find_user(ADMIN)
    users = [make_user(kenton), make_user(kenton)]
    user_states.change_bundle(operator(), kenton, [users[0].id], STANDARD)
    plan = user_states.change_bundle(operator(), kenton, [each.id for each in users], STANDARD)
    assert plan.ids == [users[1].id]
    assert reasons(plan) == {users[0].id: LeftOut.ALREADY}
    given = row_of(users[1].id).bundle
    assert given is not None
    assert given.name == STANDARD
    assert events("user.changed")[users[1].id] == {
        "before": {"bundle": ""},
        "after": {"bundle": STANDARD},
    }
    foreign = make_bundle(find_customer("CQ002"))
    for name in (foreign.name, "", "\0", "x" * 300):
        with pytest.raises(InvalidInput):
            user_states.change_bundle(operator(), kenton, [standard.id], name)


# --- Deleting ------------------------------------------------------------------------------------


def test_what_is_known_of_a_deleted_person_is_wiped(kenton: Customer) -> None:
    profile = make_profile(kenton, "users.read")
    user = make_user(
        kenton,
        role=Role.SUPERVISOR,
        profile_id=profile.id,
        first_name="Ada",
        last_name="Lovelace",
        email="ada@elsewhere.example",
        extension="4711",
        password=PASSWORD,
        unconfirmed_hash="x",
        has_second_factor=True,
    )
    for row in (RecoveryCode(user_id=user.id, code_hash="x"),):
        save(row)
    user_id, login = user.id, user.login
    session = save(SignInSession(token_hash="a" * 64, user_id=find_user(ADMIN).id)).id
    save(SelectedUser(session_id=session, customer_id=kenton.id, user_id=user_id))
    token = sign_ins.sign_in(login, PASSWORD)[1]
    reset_links.request_reset(login)

    user_states.delete_users(operator(), kenton, [user_id])

    row = row_of(user_id)
    assert row.status is UserStatus.DELETED
    assert row.login == login
    assert row.profile_id is None
    known = [value for name, value in vars(row).items() if name not in {"login", "login_key"}]
    assert not [value for value in known if "ada" in str(value).lower() or value == "4711"]
    assert (row.password_hash, row.unconfirmed_hash) == (None, None)
    assert not row.has_second_factor
    assert db.session.scalar(sa.select(RecoveryCode.id)) is None
    assert sign_ins.find_session(token) is None
    assert db.session.scalar(sa.select(ResetLink.id).where(ResetLink.used_at.is_(None))) is None
    assert db.session.scalar(sa.select(SelectedUser.user_id)) is None
    with pytest.raises(InvalidInput):
        sign_ins.sign_in(login, PASSWORD)
    # The audit trail keeps who it was, and no secret.
    before = events("user.deleted")[user_id]["before"]
    assert (before["login"], before["first_name"], before["last_name"]) == (
        login,
        "Ada",
        "Lovelace",
    )
    assert PASSWORD not in str(before)


def test_the_login_of_a_deleted_user_stays_taken(kenton: Customer) -> None:
    user = make_user(kenton)
    user_name = user.login.partition("@")[0]
    user_states.delete_users(operator(), kenton, [user.id])
    for _ in range(2):
        with pytest.raises(InvalidInputs, match="is taken"):
            user_accounts.add_user(
                operator(), kenton, NewUser(user_name=user_name, last_name="L", bundle=STANDARD)
            )
    with pytest.raises(NotFound):
        user_states.resume_user(operator(), kenton, user.id)


def test_mail_under_way_to_a_deleted_user_is_skipped_and_the_rest_is_readable(
    kenton: Customer, sink: SmtpSink, work: Callable[[], None]
) -> None:
    goes, stays = make_user(kenton), make_user(kenton)
    goes_id, address = goes.id, goes.email
    start_welcome(actor_for(ADMIN), "CQ001", [stays])
    work()
    start_welcome(actor_for(ADMIN), "CQ001", [goes])
    user_states.delete_users(operator(), kenton, [goes_id])
    work()
    db.session.expire_all()
    delivery = db.session.scalars(sa.select(Delivery).where(Delivery.user_id == goes_id)).one()
    assert (delivery.state, delivery.skip_reason) == (DeliveryState.SKIPPED, SkipReason.DELETED)
    assert (delivery.email, delivery.seal) == (address, None)
    assert delivery.user.full_name == row_of(goes_id).login
    assert address not in [mail.recipient for mail in sink.mails]


def test_many_deleted_users_do_not_stand_at_the_head_of_the_list(kenton: Customer) -> None:
    """Lists by name pass them one by one: so they stand where their logins do."""
    user = make_user(kenton, login="middle@kenton-electronics.com")
    user_states.delete_users(operator(), kenton, [user.id])
    assert row_of(user.id).name_key == "middle@kenton-electronics.com"
