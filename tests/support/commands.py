"""Maintenance commands in tests: who gives them, and what came of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from extensions import db
from models import (
    CommandRun,
    CommandSource,
    CustomerStatus,
    Delivery,
    DeliveryState,
    Group,
    Mailing,
    Role,
    SkipReason,
    User,
    UserGroup,
    utcnow,
)
from services import command_runs, mailings
from services.actors import Actor
from services.command_language import CommandErrors, split_lines
from services.command_plans import MailingPlan, Plan
from tests.support.factories import find_customer, make_user, save

ENTRY = "Entry3PhoneNextGenBundle"
STANDARD = "Stand4PhoneNextGenBundle"
PREMIUM = "Prem5PhoneNextGenBundle"


RESEND = "$$RESEND WELCOME EMAIL$$"
SEND = "$$SEND EMAIL$$"
WELCOME_CQ002 = f"{RESEND} {ENTRY}|CQ002"
WELCOME_CQ101 = f"{RESEND} {STANDARD}|CQ101"


def make_staff(role: Role, *groups: Group) -> Actor:
    """A member of staff who is limited to these groups."""
    user: User = make_user(role=role)
    for group in groups:
        save(UserGroup(user_id=user.id, group_id=group.id))
    return Actor.from_user(user)


def submit(actor: Actor, *lines: str) -> CommandRun:
    return command_runs.submit(actor, "\n".join(lines), source=CommandSource.WINDOW)


def submit_and_run(actor: Actor, *lines: str) -> CommandRun:
    return command_runs.run(actor, submit(actor, *lines).id)


def only_mailing(plan: Plan) -> MailingPlan:
    (mailing,) = plan.mailings
    return mailing


def errors_of(actor: Actor, text: str) -> list[tuple[int, str, str]]:
    """(line, what is underlined, message) of every error of a text that is refused."""
    try:
        command_runs.check(actor, text)
    except CommandErrors as refused:
        lines = split_lines(text)
        return [
            (
                error.line,
                lines[error.line - 1][error.column - 1 : error.column - 1 + error.length],
                error.message,
            )
            for error in refused.errors
        ]
    raise AssertionError("the text was not refused")


def count(model: Any, *conditions: Any) -> int:
    db.session.rollback()
    query = sa.select(sa.func.count()).select_from(model).where(*conditions)
    return db.session.scalar(query) or 0


def mailing_of(run: CommandRun, line: int = 1) -> Mailing:
    db.session.rollback()
    query = sa.select(Mailing).where(Mailing.command_run_id == run.id, Mailing.command_line == line)
    return db.session.scalars(query.execution_options(populate_existing=True)).one()


def again(mailing: Mailing) -> Mailing:
    db.session.rollback()
    return db.session.get_one(Mailing, mailing.id, populate_existing=True)


def recipients_of(mailing: Mailing) -> set[str]:
    query = (
        sa.select(User.login)
        .join(Delivery, Delivery.user_id == User.id)
        .where(Delivery.mailing_id == mailing.id, Delivery.state == DeliveryState.QUEUED)
    )
    return set(db.session.scalars(query))


def skipped_of(mailing: Mailing) -> dict[SkipReason, int]:
    return mailings.count_skipped(mailing)


def forget_recent_mails() -> None:
    db.session.execute(sa.update(Delivery).values(created_at=utcnow() - timedelta(hours=1)))
    db.session.commit()


@contextmanager
def counted_statements() -> Iterator[list[str]]:
    seen: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        seen.append(statement)

    sa.event.listen(db.engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        sa.event.remove(db.engine, "before_cursor_execute", note)


def find_user_of(web_id: str) -> User:
    return db.session.scalars(
        sa.select(User)
        .where(User.customer_id == find_customer(web_id).id, User.bundle_id.is_not(None))
        .order_by(User.id)
        .limit(1)
    ).one()


def delete_customer(web_id: str) -> None:
    find_customer(web_id).status = CustomerStatus.DELETED
    db.session.commit()
