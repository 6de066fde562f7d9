"""Command runs: what the maintenance commands would do, and doing it once.

`submit` answers with a plan and keeps it; `run` does what was planned. The language is in
`services.command_language`, the plan's form in `services.command_plans`.
"""

from __future__ import annotations

from models import CommandRun, CommandRunState, CommandSource, Mailing
from services.actors import Actor
from services.command_plans import Outcome, Plan
from services.paging import Page


def submit(actor: Actor, text: str, *, source: CommandSource) -> CommandRun:
    """Check a text and keep it with its plan, planned; done at once when nothing would change.

    Raises CommandErrors with every error of every line, InvalidInput (field `text`) when there is
    no command in it, Forbidden; then nothing is kept.
    """
    raise NotImplementedError


def check(actor: Actor, text: str) -> Plan:
    """Say what a text would do. Raises as `submit` does."""
    raise NotImplementedError


def run(actor: Actor, run_id: int) -> CommandRun:
    """Do what was planned, all of it or nothing; returns the run as it ended.

    However often and at however many places this is asked for, it is done once. The caller starts
    `started_mailings` after. Everything is checked again first: when that fails, the run ends as
    refused, with the errors as its outcome. Raises NotFound, Forbidden for who did not submit it.
    """
    raise NotImplementedError


def may_run(actor: Actor, run: CommandRun) -> bool:
    """Whether Run is his to press: the run is planned, and he submitted it."""
    raise NotImplementedError


def started_mailings(run: CommandRun) -> list[Mailing]:
    """The mailings that workers have to be told of after `run`: started or resumed, and waiting."""
    raise NotImplementedError


def get_run(actor: Actor, run_id: int) -> CommandRun:
    """A run. Raises NotFound outside the actor's scope, Forbidden by role."""
    raise NotImplementedError


def list_runs(
    actor: Actor,
    *,
    state: CommandRunState | None = None,
    mine: bool = False,
    size: int = 25,
    cursor: str = "",
) -> Page[CommandRun]:
    """A page of runs, newest first. The plan of each is loaded when it is asked for."""
    raise NotImplementedError


def plan_of(run: CommandRun) -> Plan:
    return Plan.from_json(run.plan)


def outcome_of(run: CommandRun) -> Outcome:
    return Outcome.from_json(run.outcome)
