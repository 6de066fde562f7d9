"""States of customers: suspending, resuming, deleting with a grace period, restoring.

Whoever belongs to a customer that is not active is out from the commit on: signing in, sessions and
links ask for the customer's state, and the mail engine skips its deliveries when their turn comes.
What takes longer, on the platform or among a million rows, `customer_follow_ups` brings about.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from extensions import db, get_settings
from models import (
    Customer,
    CustomerBundle,
    CustomerStatus,
    SignInSession,
    User,
    table_of,
    utcnow,
)
from services import customer_follow_ups
from services.actors import Actor, Permission
from services.audit_events import insert_event
from services.errors import Conflict, InvalidInput
from services.reasons import check_reason
from services.transactions import run_transaction

_CUSTOMERS = table_of(Customer)
_SESSIONS = table_of(SignInSession)
_USERS = table_of(User)


def suspend_customer(actor: Actor, customer: Customer, *, reason: str) -> Customer:
    """Keep everybody of the customer out, from this moment and until it is resumed.

    Raises Forbidden, InvalidInput naming `reason`, and Conflict unless it is active.
    """
    actor.require(Permission.CUSTOMERS_CLOSE)
    reason = check_reason(reason)
    return _change(
        actor,
        customer,
        "customer.suspended",
        CustomerStatus.ACTIVE,
        {
            "status": CustomerStatus.SUSPENDED,
            "suspended_at": utcnow(),
            "suspended_reason": reason,
        },
        reason,
    )


def resume_customer(actor: Actor, customer: Customer, *, reason: str) -> Customer:
    """Let everybody in again. Raises as `suspend_customer`; Conflict unless it is suspended.

    One that is being deleted is restored instead.
    """
    actor.require(Permission.CUSTOMERS_CLOSE)
    reason = check_reason(reason)
    return _change(
        actor,
        customer,
        "customer.resumed",
        CustomerStatus.SUSPENDED,
        {"status": CustomerStatus.ACTIVE, "suspended_at": None, "suspended_reason": ""},
        reason,
        _CUSTOMERS.c.delete_after.is_(None),
    )


def delete_customer(
    actor: Actor, customer: Customer, *, typed_web_id: str, reason: str
) -> Customer:
    """Keep everybody out at once, and delete the customer when CUSTOMER_GRACE_DAYS are over.

    Raises Forbidden, InvalidInput naming `web_id` or `reason`, and Conflict where its deletion was
    asked for before.
    """
    actor.require(Permission.CUSTOMERS_CLOSE)
    if typed_web_id.strip() != customer.web_id:
        raise InvalidInput("web_id", f"Type {customer.web_id} to confirm that you mean it.")
    reason = check_reason(reason)
    now = utcnow()
    return _change(
        actor,
        customer,
        "customer.deletion_asked",
        None,
        {
            "status": CustomerStatus.SUSPENDED,
            "delete_asked_at": now,
            "delete_after": now + timedelta(days=get_settings().customer_grace_days),
            "delete_reason": reason,
        },
        reason,
        _CUSTOMERS.c.status.in_([CustomerStatus.ACTIVE, CustomerStatus.SUSPENDED]),
        _CUSTOMERS.c.delete_after.is_(None),
    )


def restore_customer(actor: Actor, customer: Customer, *, reason: str) -> Customer:
    """Take a deletion back: active as before, or suspended where it was so for itself.

    Raises Forbidden, InvalidInput naming `reason`, and Conflict unless a deletion was asked for and
    has not begun.
    """
    actor.require(Permission.CUSTOMERS_CLOSE)
    reason = check_reason(reason)
    before = sa.case(
        (_CUSTOMERS.c.suspended_at.is_(None), CustomerStatus.ACTIVE.value),
        else_=CustomerStatus.SUSPENDED.value,
    )
    return _change(
        actor,
        customer,
        "customer.restored",
        CustomerStatus.SUSPENDED,
        {"status": before, "delete_asked_at": None, "delete_after": None, "delete_reason": ""},
        reason,
        _CUSTOMERS.c.delete_after.is_not(None),
    )


_WORDS = {
    CustomerStatus.CREATING: "being created",
    CustomerStatus.ACTIVE: "active",
    CustomerStatus.SUSPENDED: "suspended",
    CustomerStatus.DELETED: "deleted",
}


def _change(
    actor: Actor,
    customer: Customer,
    event: str,
    status: CustomerStatus | None,
    values: dict[str, Any],
    reason: str,
    *conditions: sa.ColumnElement[bool],
) -> Customer:
    """Change the state of a customer in `status` that fulfils `conditions`, in one transaction."""
    customer_id, name = customer.id, customer.name
    if status is not None:
        conditions = (_CUSTOMERS.c.status == status, *conditions)
    db.session.commit()  # Gives its connection back, which the transaction below may need.

    def work(connection: sa.Connection) -> None:
        before = connection.execute(
            sa.select(_CUSTOMERS.c.status, _CUSTOMERS.c.delete_after)
            .where(_CUSTOMERS.c.id == customer_id)
            .with_for_update()
        ).one()
        after = connection.execute(
            sa.update(_CUSTOMERS)
            .where(_CUSTOMERS.c.id == customer_id, *conditions)
            .values(
                version=_CUSTOMERS.c.version + 1,
                follow_up_at=utcnow(),
                follow_up_attempts=0,
                follow_up_error="",
                **values,
            )
            .returning(_CUSTOMERS.c.status, _CUSTOMERS.c.delete_after)
        ).one_or_none()
        if after is None:
            state = "being deleted" if before.delete_after else _WORDS[before.status]
            raise Conflict(
                f"{name} is {state}, so this cannot be done. Somebody may have been faster."
            )
        connection.execute(
            sa.update(CustomerBundle)
            .where(CustomerBundle.customer_id == customer_id)
            .values(status=after.status)
        )
        if after.status is not CustomerStatus.ACTIVE:
            end_sessions_of_customer(connection, customer_id)
        insert_event(
            connection,
            actor,
            event,
            customer_id=customer_id,
            object_type="customer",
            object_id=customer_id,
            detail={
                "before": _state_of(before),
                "after": _state_of(after),
                "reason": reason,
            },
        )

    run_transaction(work)
    customer_follow_ups.start(customer_id)
    db.session.refresh(customer)
    return customer


def _state_of(row: Any) -> dict[str, str]:
    until = row.delete_after
    return {
        "status": row.status.value,
        **({"delete_after": until.isoformat()} if until is not None else {}),
    }


def end_sessions_of_customer(connection: sa.Connection, customer_id: int) -> None:
    """End the sessions of the customer's people, so that resuming it does not bring them back.

    From the sessions, which are few, to their users, of whom there may be a million.
    """
    of_customer = sa.exists().where(
        _USERS.c.id == _SESSIONS.c.user_id, _USERS.c.customer_id == customer_id
    )
    connection.execute(sa.delete(_SESSIONS).where(of_customer))
