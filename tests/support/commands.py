"""Maintenance commands in tests: who gives them, and what came of them."""

from __future__ import annotations

from models import CommandRun, CommandSource, Group, Role, User, UserGroup
from services import command_runs
from services.actors import Actor
from services.command_language import CommandErrors, split_lines
from services.command_plans import MailingPlan, Plan
from tests.support.factories import make_user, save

ENTRY = "Entry3PhoneNextGenBundle"
STANDARD = "Stand4PhoneNextGenBundle"
PREMIUM = "Prem5PhoneNextGenBundle"


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
