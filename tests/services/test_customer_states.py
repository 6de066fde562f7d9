"""Suspending, resuming, deleting and restoring a customer: who is out, and when he is back."""

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
    CustomerBundle,
    CustomerStatus,
    Delivery,
    DeliveryState,
    LocalPlatformTenant,
    ResetLink,
    Role,
    SignInSession,
    SkipReason,
    User,
    utcnow,
)
from services import customer_follow_ups, customer_states, reset_links, sign_ins
from services.errors import Conflict, Forbidden, InvalidInput
from tests.support.factories import (
    actor_for,
    find_customer,
    find_user,
    make_bundle,
    make_customer,
    make_user,
    save,
)
from tests.support.promises import start_welcome
from tests.support.smtp_sink import SmtpSink

OPERATOR = "operator@foyer.example"
AUDITOR = "auditor@foyer.example"
ADMIN = "prpkeAdmin@kenton-electronics.com"
PASSWORD = "violet-anchor-42-piano"


def suspend(customer: Customer, reason: str = "unpaid") -> Customer:
    return customer_states.suspend_customer(actor_for(OPERATOR), customer, reason=reason)


def resume(customer: Customer) -> Customer:
    return customer_states.resume_customer(actor_for(OPERATOR), customer, reason="paid")


def delete(customer: Customer, **changes: Any) -> Customer:
    given = {"typed_web_id": customer.web_id, "reason": "contract ended", **changes}
    return customer_states.delete_customer(actor_for(OPERATOR), customer, **given)


def restore(customer: Customer) -> Customer:
    return customer_states.restore_customer(actor_for(OPERATOR), customer, reason="mistake")


def events(customer: Customer) -> list[tuple[str, dict[str, Any]]]:
    found = db.session.execute(
        sa.select(AuditEvent.action, AuditEvent.detail)
        .where(AuditEvent.customer_id == customer.id, AuditEvent.action.like("customer.%"))
        .order_by(AuditEvent.id)
    )
    return [(action, detail) for action, detail in found]


def may_sign_in(user: User) -> bool:
    try:
        sign_ins.sign_in(user.login, PASSWORD)
    except InvalidInput:
        return False
    return True


def test_a_suspended_customers_people_are_out_at_once_and_back_when_it_is_resumed(
    app_context: Flask,
) -> None:
    customer = make_customer(group_id=find_customer("CQ001").group_id)
    user = make_user(customer, role=Role.CUSTOMER_ADMIN, password=PASSWORD)
    other = make_user(make_customer(), password=PASSWORD)
    signed_in, elsewhere = (
        sign_ins.sign_in(user.login, PASSWORD),
        sign_ins.sign_in(other.login, PASSWORD),
    )
    suspend(customer, reason="  not\n paid ")
    assert customer.status is CustomerStatus.SUSPENDED
    assert customer.suspended_reason == "not paid"
    assert not may_sign_in(user)
    assert sign_ins.find_session(signed_in.token) is None
    assert sign_ins.find_session(elsewhere.token) is not None
    resume(customer)
    assert sign_ins.find_session(signed_in.token) is None, "a session came back"
    assert may_sign_in(user)
    assert customer.suspended_reason == ""
    assert events(customer) == [
        (
            "customer.suspended",
            {
                "before": {"status": "active"},
                "after": {"status": "suspended"},
                "reason": "not paid",
            },
        ),
        (
            "customer.resumed",
            {"before": {"status": "suspended"}, "after": {"status": "active"}, "reason": "paid"},
        ),
    ]


def test_links_open_nothing_while_the_customer_is_suspended(app_context: Flask) -> None:
    customer = make_customer(group_id=find_customer("CQ001").group_id)
    user = make_user(customer, password=PASSWORD)
    link_id = reset_links.request_reset(user.login, address="192.0.2.1")
    assert link_id is not None
    token = "a-token"
    db.session.execute(sa.update(ResetLink).values(token_hash=reset_links._hash(token)))
    db.session.commit()
    assert reset_links.find_link(token) is not None
    suspend(customer)
    assert reset_links.find_link(token) is None
    with pytest.raises(InvalidInput):
        reset_links.use_link(token, "another-good-one-77", address="")
    assert reset_links.request_reset(user.login, address="192.0.2.2") is None


def test_a_running_mailing_skips_who_was_suspended_meanwhile(
    app_context: Flask, sink: SmtpSink, work: Callable[[], None]
) -> None:
    customer = find_customer("CQ001")
    users = [make_user(customer) for _ in range(3)]
    mailing_id = start_welcome(actor_for(ADMIN), "CQ001", users)
    suspend(customer)
    work()
    rows = db.session.scalars(sa.select(Delivery).where(Delivery.mailing_id == mailing_id)).all()
    assert {(row.state, row.skip_reason, row.seal) for row in rows} == {
        (DeliveryState.SKIPPED, SkipReason.SUSPENDED, None)
    }
    assert sink.mails == []


def test_the_platform_is_told_of_each_state(app_context: Flask, work: Callable[[], None]) -> None:
    customer = find_customer("CQ001")
    save(LocalPlatformTenant(reference="CQ001", name="x", upn_suffix="x.example", settings={}))
    customer.platform_reference = "CQ001"
    db.session.commit()

    def is_suspended() -> bool:
        return bool(db.session.scalar(sa.select(LocalPlatformTenant.suspended)))

    suspend(customer)
    work()
    assert is_suspended()
    resume(customer)
    work()
    assert not is_suspended()
    db.session.refresh(customer)
    assert (customer.follow_up_at, customer.follow_up_error) == (None, "")


def test_a_platform_that_is_down_is_told_later_and_operators_see_why(
    app_context: Flask, work: Callable[[], None]
) -> None:
    customer = find_customer("CQ001")
    customer.platform_reference, customer.connector = "CQ001", "nowhere"
    db.session.commit()
    suspend(customer)
    work()
    db.session.refresh(customer)
    assert customer.follow_up_error == "There is no connector named nowhere."
    assert customer.follow_up_attempts == 1
    assert customer.follow_up_at is not None
    assert customer.follow_up_at > utcnow()
    resume(customer)
    assert (customer.follow_up_error, customer.follow_up_attempts) == ("", 0)


def test_a_deletion_keeps_everybody_out_until_it_is_taken_back(app_context: Flask) -> None:
    customer = make_customer(group_id=find_customer("CQ001").group_id)
    user = make_user(customer, password=PASSWORD)
    bundle = make_bundle(customer)
    before = utcnow()
    assert delete(customer).status is CustomerStatus.SUSPENDED
    assert customer.is_closing
    assert customer.delete_after is not None
    assert timedelta(days=30) <= customer.delete_after - before < timedelta(days=30, minutes=1)
    assert not may_sign_in(user)
    assigned = sa.select(CustomerBundle.status).where(CustomerBundle.bundle_id == bundle.id)
    assert db.session.scalar(assigned) is CustomerStatus.SUSPENDED
    customer = restore(customer)
    assert customer.status is CustomerStatus.ACTIVE
    assert not customer.is_closing
    assert may_sign_in(user)
    db.session.expire_all()
    assert db.session.scalar(assigned) is CustomerStatus.ACTIVE
    assert [name for name, _ in events(customer)] == [
        "customer.deletion_asked",
        "customer.restored",
    ]


def test_a_customer_suspended_for_itself_is_so_again_after_its_restoring(
    app_context: Flask,
) -> None:
    customer = make_customer(group_id=find_customer("CQ001").group_id)
    suspend(customer)
    delete(customer)
    restore(customer)
    assert customer.status is CustomerStatus.SUSPENDED
    assert customer.suspended_reason == "unpaid"
    assert not customer.is_closing
    assert resume(customer).status is CustomerStatus.ACTIVE


def test_each_step_asks_for_the_state_that_it_leads_from(app_context: Flask) -> None:
    customer = make_customer(group_id=find_customer("CQ001").group_id)
    for step in (resume, restore):
        with pytest.raises(Conflict, match="is active"):
            step(customer)
    suspend(customer)
    with pytest.raises(Conflict, match="is suspended"):
        suspend(customer)
    with pytest.raises(Conflict, match="is suspended"):
        restore(customer)
    delete(customer)
    for step in (suspend, resume, delete):
        with pytest.raises(Conflict, match="being deleted"):
            step(customer)
    assert customer_follow_ups.begin_due_deletions() == 0
    customer.delete_after = utcnow()
    db.session.commit()
    assert customer_follow_ups.begin_due_deletions() == 1
    db.session.refresh(customer)
    with pytest.raises(Conflict, match="deleted"):
        restore(customer)
    assert customer.status is CustomerStatus.DELETED


@pytest.mark.parametrize("typed", ["", "CQ", "cq001", "CQ001x", "KentonElectronics", "\0"])
def test_the_web_id_has_to_be_typed(app_context: Flask, typed: str) -> None:
    customer = find_customer("CQ001")
    with pytest.raises(InvalidInput) as refused:
        delete(customer, typed_web_id=typed)
    assert refused.value.field == "web_id"
    assert customer.status is CustomerStatus.ACTIVE


@pytest.mark.parametrize("reason", ["", "  \n", "x" * 501, "a\0b", "\ud800"])
def test_every_step_wants_a_reason_that_can_be_kept(app_context: Flask, reason: str) -> None:
    customer = find_customer("CQ001")
    for step in (suspend, lambda one, reason: delete(one, reason=reason)):
        with pytest.raises(InvalidInput) as refused:
            step(customer, reason=reason)
        assert refused.value.field == "reason"
    assert events(customer) == []


def test_only_who_may_close_customers_changes_their_state(app_context: Flask) -> None:
    customer = find_customer("CQ001")
    for login in (AUDITOR, ADMIN):
        actor = actor_for(login)
        for step in (
            customer_states.suspend_customer,
            customer_states.resume_customer,
            customer_states.restore_customer,
        ):
            with pytest.raises(Forbidden):
                step(actor, customer, reason="x")
        with pytest.raises(Forbidden):
            customer_states.delete_customer(actor, customer, typed_web_id="CQ001", reason="x")
    assert find_user(ADMIN).status == "active"
    assert db.session.scalar(sa.select(sa.func.count()).select_from(SignInSession)) == 0
