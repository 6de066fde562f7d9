"""Signing in as a customer's administrator: who may, what he is then, and when it ends."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import (
    AuditEvent,
    Customer,
    CustomerStatus,
    Role,
    SelectedUser,
    SignInSession,
    User,
    UserGroup,
    UserStatus,
    utcnow,
)
from services import impersonations, sign_ins
from services.actors import Actor, Permission, get_customer
from services.errors import Conflict, Forbidden, InvalidInput, NotFound
from tests.support.factories import (
    actor_for,
    find_customer,
    find_user,
    make_customer,
    make_group,
    make_user,
    save,
)

PASSWORD = "violet-anchor-42-piano"


@pytest.fixture
def customer(app_context: Flask) -> Customer:
    return make_customer()


@pytest.fixture
def admin(customer: Customer) -> User:
    return make_user(customer, role=Role.CUSTOMER_ADMIN, first_name="Ada", last_name="Min")


@pytest.fixture
def staff(customer: Customer) -> User:
    """An operator of the customer's group alone."""
    user = make_user(role=Role.OPERATOR, password=PASSWORD)
    save(UserGroup(user_id=user.id, group_id=customer.group_id))
    return user


def sign_in(user: User) -> tuple[SignInSession, str]:
    found = sign_ins.sign_in(user.login, PASSWORD)
    session = sign_ins.find_session(found.token)
    assert session is not None
    return session, found.token


def begin(staff: User, session: SignInSession, admin: User, **changes: Any) -> None:
    customer = find_customer(admin.customer.web_id) if admin.customer else None
    given = {"customer": customer, "user_id": admin.id, "reason": "ticket 7", **changes}
    impersonations.begin(Actor.from_user(staff, "192.0.2.1"), session, **given)


def events() -> list[AuditEvent]:
    return list(
        db.session.scalars(
            sa.select(AuditEvent)
            .where(AuditEvent.action.like("impersonation.%"))
            .order_by(AuditEvent.id)
        )
    )


def test_one_acts_as_the_administrator_under_ones_own_name(
    customer: Customer, admin: User, staff: User
) -> None:
    session, token = sign_in(staff)
    begin(staff, session, admin)
    again = sign_ins.find_session(token)
    assert again is not None
    found = impersonations.find(again)
    assert found is not None
    actor = found.actor("192.0.2.1")
    assert (actor.user_id, actor.login) == (staff.id, staff.login)
    assert (actor.behalf_id, actor.behalf_login) == (admin.id, admin.login)
    assert (actor.role, actor.customer_id) == (Role.CUSTOMER_ADMIN, customer.id)
    assert not actor.is_staff
    assert not actor.may(Permission.CUSTOMERS_READ)
    assert get_customer(actor, customer.web_id, Permission.USERS_EDIT) == customer
    with pytest.raises(NotFound):
        get_customer(actor, make_customer(group_id=customer.group_id).web_id, Permission.USERS_READ)
    (event,) = events()
    assert (event.action, event.actor_id, event.behalf_login) == (
        "impersonation.started",
        staff.id,
        admin.login,
    )
    assert (event.customer_id, event.detail["reason"]) == (customer.id, "ticket 7")
    assert impersonations.end(again) == customer
    assert impersonations.find(again) is None
    assert [each.detail.get("why") for each in events()] == [None, "returned"]
    assert impersonations.end(again) is None
    assert len(events()) == 2


def test_selections_of_one_are_not_those_of_the_other(
    customer: Customer, admin: User, staff: User
) -> None:
    session, _ = sign_in(staff)

    def tick() -> None:
        save(SelectedUser(session_id=session.id, customer_id=customer.id, user_id=admin.id))

    def ticked() -> int | None:
        return db.session.scalar(sa.select(sa.func.count()).select_from(SelectedUser))

    tick()
    begin(staff, session, admin)
    assert ticked() == 0
    db.session.expire_all()
    tick()
    impersonations.end(session)
    assert ticked() == 0


def _suspend_admin(customer: Customer, admin: User, staff: User) -> None:
    admin.status = UserStatus.SUSPENDED


def _demote_admin(customer: Customer, admin: User, staff: User) -> None:
    admin.role = Role.USER


def _suspend_customer(customer: Customer, admin: User, staff: User) -> None:
    customer.status = CustomerStatus.SUSPENDED


def _make_auditor(customer: Customer, admin: User, staff: User) -> None:
    staff.role = Role.AUDITOR


def _take_group(customer: Customer, admin: User, staff: User) -> None:
    db.session.execute(sa.delete(UserGroup).where(UserGroup.user_id == staff.id))


def _move_customer(customer: Customer, admin: User, staff: User) -> None:
    customer.group_id = make_group().id


def _let_time_pass(customer: Customer, admin: User, staff: User) -> None:
    db.session.execute(sa.update(SignInSession).values(behalf_until=utcnow()))


@pytest.mark.parametrize(
    ("happens", "why"),
    [
        (_suspend_admin, "no longer allowed"),
        (_demote_admin, "no longer allowed"),
        (_suspend_customer, "no longer allowed"),
        (_make_auditor, "no longer allowed"),
        (_take_group, "no longer allowed"),
        (_move_customer, "no longer allowed"),
        (_let_time_pass, "time is over"),
    ],
)
def test_it_ends_with_the_next_request_when_one_no_longer_may(
    customer: Customer,
    admin: User,
    staff: User,
    happens: Callable[[Customer, User, User], None],
    why: str,
) -> None:
    session, token = sign_in(staff)
    begin(staff, session, admin)
    happens(customer, admin, staff)
    db.session.commit()
    db.session.expire_all()
    again = sign_ins.find_session(token)
    assert again is not None, "the session of the member of staff goes on"
    assert again.user == staff
    assert impersonations.find(again) is None
    db.session.expire_all()
    assert session.behalf_id is None
    assert [each.detail.get("why") for each in events()] == [None, why]
    assert events()[1].behalf_login == admin.login


def test_it_ends_with_the_session_of_who_is_suspended_or_signs_out(
    customer: Customer, admin: User, staff: User
) -> None:
    session, token = sign_in(staff)
    begin(staff, session, admin)
    staff.status = UserStatus.SUSPENDED
    db.session.commit()
    assert sign_ins.find_session(token) is None
    sign_ins.end_sessions_of(staff)
    db.session.commit()
    assert [each.detail.get("why") for each in events()] == [None, "session ended"]
    staff.status = UserStatus.ACTIVE
    db.session.commit()
    db.session.expunge(session)
    session, token = sign_in(staff)
    begin(staff, session, admin)
    sign_ins.sign_out(Actor.from_user(staff), token)
    assert [each.action for each in events()] == [
        "impersonation.started",
        "impersonation.ended",
    ] * 2


def test_the_sweep_notes_the_end_of_those_that_nobody_asks_about(
    customer: Customer, admin: User, staff: User
) -> None:
    session, _ = sign_in(staff)
    begin(staff, session, admin)
    assert impersonations.end_those_over() == 0
    db.session.execute(sa.update(SignInSession).values(behalf_until=utcnow()))
    db.session.commit()
    assert impersonations.end_those_over() == 1
    assert impersonations.end_those_over() == 0
    begin(staff, session, admin)
    db.session.execute(sa.update(SignInSession).values(last_seen_at=utcnow() - timedelta(hours=3)))
    db.session.commit()
    assert impersonations.end_those_over() == 1
    assert len(events()) == 4


def test_nobody_is_signed_in_as_somebody_else_twice(
    customer: Customer, admin: User, staff: User
) -> None:
    session, _ = sign_in(staff)
    begin(staff, session, admin)
    with pytest.raises(Conflict):
        begin(staff, session, admin)
    found = impersonations.find(session)
    assert found is not None
    with pytest.raises(Forbidden):
        impersonations.begin(found.actor(), session, customer, admin.id, reason="x")
    other, _ = sign_in(make_user(role=Role.LANDLORD, password=PASSWORD))
    with pytest.raises(Forbidden):
        begin(staff, other, admin)
    assert len(events()) == 1


def test_only_active_administrators_of_active_customers_are_offered(
    customer: Customer, admin: User, staff: User
) -> None:
    session, _ = sign_in(staff)
    actor = Actor.from_user(staff)
    supervisor = make_user(customer, role=Role.SUPERVISOR)
    away = make_user(customer, role=Role.CUSTOMER_ADMIN, status=UserStatus.SUSPENDED)
    foreign = make_user(make_customer(), role=Role.CUSTOMER_ADMIN)
    assert impersonations.list_administrators(actor, customer) == [admin]
    for user in (supervisor, away, foreign, staff):
        with pytest.raises(InvalidInput) as refused:
            begin(staff, session, user, customer=customer)
        assert refused.value.field == "administrator"
    for reason in ("", "x" * 501, "\0"):
        with pytest.raises(InvalidInput) as refused:
            begin(staff, session, admin, reason=reason)
        assert refused.value.field == "reason"
    customer.status = CustomerStatus.SUSPENDED
    db.session.commit()
    assert impersonations.list_administrators(actor, customer) == []
    with pytest.raises(Conflict):
        begin(staff, session, admin)
    assert events() == []


def test_auditors_and_customers_may_not(customer: Customer, admin: User) -> None:
    auditor = find_user("auditor@foyer.example")
    for actor in (Actor.from_user(auditor), Actor.from_user(admin)):
        with pytest.raises(Forbidden):
            impersonations.begin(
                actor, SignInSession(user_id=actor.user_id), customer, admin.id, reason="x"
            )
        with pytest.raises(Forbidden):
            impersonations.list_administrators(actor, customer)
    assert actor_for("landlord@foyer.example").may(Permission.IMPERSONATE)
