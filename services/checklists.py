"""What a new customer's administrator has to do, and what of it is done.

Every answer is found by an index and ends at the first row that decides it, so that the page costs
the same at a million users as at ten.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import sqlalchemy as sa

from extensions import db
from models import Customer, Role, User, UserStatus, Welcome, WelcomeState
from models.users import ADMINISTRATORS
from services import general_parameters

_PRESENT = User.status.in_([UserStatus.ACTIVE, UserStatus.SUSPENDED])


class Task(StrEnum):
    """The steps in the order in which they are best done."""

    CALLBACK_FOLDER = "callback_folder"
    IMPORT_USERS = "import_users"
    WELCOME_MAILS = "welcome_mails"
    INVITE_COLLEAGUES = "invite_colleagues"


REQUIRED = frozenset({Task.CALLBACK_FOLDER})


@dataclass(frozen=True, slots=True)
class Item:
    task: Task
    is_required: bool
    is_done: bool


def make_checklist(customer: Customer) -> list[Item]:
    """Every step with whether it is done, required ones first."""
    done = {
        Task.CALLBACK_FOLDER: _has_callback_folder(customer),
        Task.IMPORT_USERS: _has_users(customer),
        Task.WELCOME_MAILS: _has_sent_welcome_mails(customer),
        Task.INVITE_COLLEAGUES: _has_second_administrator(customer),
    }
    items = [Item(task, task in REQUIRED, done[task]) for task in Task]
    return sorted(items, key=lambda item: not item.is_required)


def _has_callback_folder(customer: Customer) -> bool:
    published = general_parameters.find_published(customer)
    return published is not None and bool(published.values.get("callback_folder_email"))


def _has_users(customer: Customer) -> bool:
    return _exists(
        User.customer_id == customer.id, _PRESENT, User.role.in_([Role.USER, Role.SUPERVISOR])
    )


def _has_sent_welcome_mails(customer: Customer) -> bool:
    query = (
        sa.select(sa.literal(1))
        .select_from(Welcome)
        .join(User, User.id == Welcome.user_id)
        .where(
            Welcome.customer_id == customer.id,
            Welcome.state == WelcomeState.SENT,
            User.role.in_([Role.USER, Role.SUPERVISOR]),
        )
        .limit(1)
    )
    return db.session.execute(query).first() is not None


def _has_second_administrator(customer: Customer) -> bool:
    found = db.session.execute(
        sa.select(User.id)
        # No choice of statuses: for that SQLite would take another index, and walk all users.
        .where(User.customer_id == customer.id, ADMINISTRATORS, User.status != UserStatus.DELETED)
        .limit(2)
    ).all()
    return len(found) == 2


def _exists(*conditions: sa.ColumnElement[bool]) -> bool:
    query = sa.select(sa.literal(1)).select_from(User).where(*conditions).limit(1)
    return db.session.execute(query).first() is not None
