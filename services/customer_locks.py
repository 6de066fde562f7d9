"""One at a time: changes of a customer's users and permission profiles wait for each other.

What they ask first (is the login free, who else is an administrator, who has the profile) is then
still true when they write.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import sqlalchemy as sa

from extensions import db
from models import Customer, CustomerStatus, table_of
from services.errors import NotFound
from services.transactions import run_session_transaction

T = TypeVar("T")


def run_alone(customer: Customer, work: Callable[[], T]) -> T:
    """Run `work()`, which commits the session, while nobody else changes the customer's users.

    It is repeated as `run_session_transaction` does. Raises NotFound for a customer that is there
    no more; what was locked is free again whatever is raised.
    """

    def locked() -> T:
        lock_customer(customer)
        return work()

    try:
        return run_session_transaction(locked)
    except Exception:
        db.session.rollback()
        raise


def lock_customer(customer: Customer) -> None:
    """Changes nothing, but from here on everybody else who asks for the same waits."""
    customers = table_of(Customer)
    locked = db.session.connection().execute(
        sa.update(customers)
        .where(
            customers.c.id == customer.id,
            customers.c.status.in_([CustomerStatus.ACTIVE, CustomerStatus.SUSPENDED]),
        )
        .values(status=customers.c.status)
    )
    if not locked.rowcount:
        raise NotFound("There is no such customer, or it is not yours to see.")
