"""Command runs: what the maintenance commands would do, and doing it once.

`submit` answers with a plan and keeps it; `run` does what was planned. The language is in
`services.command_language`, the rules in `services.command_checks`, the plan's form in
`services.command_plans`.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import aliased

from extensions import db
from models import (
    CommandRun,
    CommandRunState,
    CommandSource,
    Lane,
    Mailing,
    MailingState,
    Role,
    SkipReason,
    User,
    UserGroup,
    utcnow,
)
from models.mailings import COUNTERS
from services.actors import Actor, Permission, groups_of
from services.audit_events import record_event
from services.command_checks import (
    CheckedCommand,
    CheckedListing,
    CheckedMailing,
    CheckedStatus,
    CheckedSteering,
    check_commands,
    kind_of,
    raise_errors,
    state_error,
)
from services.command_dry_runs import describe_skipped, nobody_to_mail, plan_commands
from services.command_language import (
    Command,
    CommandError,
    CommandErrors,
    Reading,
    format_command,
    read,
)
from services.command_names import chunks
from services.command_plans import (
    CommandKind,
    LineOutcome,
    LinePlan,
    Listing,
    MailingPlan,
    MailingStatus,
    Outcome,
    Plan,
    SteeringAction,
)
from services.errors import Conflict, Forbidden, InvalidInput, NotFound
from services.mailing_controls import change_state
from services.mailing_freezes import USERS_OF_BUNDLES, freeze_mailing
from services.mailings import count_skipped
from services.paging import Page, keyset_page, parse_id_key
from services.transactions import run_session_transaction

MAX_TEXT = 500_000

_DONE = {
    SteeringAction.PAUSE: "is paused",
    SteeringAction.RESUME: "goes on",
    SteeringAction.CANCEL: "is cancelled",
}


# --- Submitting --------------------------------------------------------------------------------


def submit(actor: Actor, text: str, *, source: CommandSource) -> CommandRun:
    """Check a text and keep it with its plan, planned; done at once when nothing would change.

    Raises CommandErrors with every error of every line, InvalidInput (field `text`) when there is
    no command in it or too much text, Forbidden; then nothing is kept.
    """
    plan = check(actor, text)
    run = CommandRun(
        actor_id=actor.user_id,
        actor_login=actor.login,
        source=source,
        state=CommandRunState.PLANNED,
        text=_storable(text),
        plan=plan.to_json(),
    )
    if not plan.changes_something:
        run.state = CommandRunState.DONE
        run.ran_at = utcnow()
        run.outcome = Outcome(tuple(_looked(line) for line in plan.lines)).to_json()
    db.session.add(run)
    db.session.commit()
    return run


def submit_at_terminal(actor: Actor, text: str) -> CommandRun:
    """The same for who is at a terminal."""
    return submit(actor, text, source=CommandSource.TERMINAL)


def check(actor: Actor, text: str) -> Plan:
    """Say what a text would do. Raises as `submit` does."""
    actor.require(Permission.COMMANDS_RUN)
    return plan_commands(actor, check_commands(actor, _read(text)))


def _read(text: str) -> Reading:
    if len(text) > MAX_TEXT:
        raise InvalidInput(
            "text",
            f"This text has {len(text):,} characters. Up to {MAX_TEXT:,} can be run at a time.",
        )
    reading = read(text)
    if not reading.lines:
        raise InvalidInput("text", "There is no command here. $$HELP$$ lists those there are.")
    return reading


def _storable(text: str) -> str:
    """The text as databases take it: a comment may hold what no command may."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


# --- Running -----------------------------------------------------------------------------------


def run(actor: Actor, run_id: int) -> CommandRun:
    """Do what was planned, all of it or nothing; returns the run as it ended.

    However often and at however many places this is asked for, it is done once. The caller starts
    `started_mailings` after. Everything is checked again first: when that fails, the run ends as
    refused, with the errors as its outcome. Raises NotFound, Forbidden for who did not submit it.
    """
    actor.require(Permission.COMMANDS_RUN)
    planned = get_run(actor, run_id)
    if not _is_author(actor, planned):
        raise Forbidden("Only who submitted these commands can run them.")
    plan = plan_of(planned)
    try:
        run_session_transaction(lambda: _run(actor, run_id, plan))
    except CommandErrors as error:
        db.session.rollback()
        errors = error.errors
        run_session_transaction(lambda: _refuse(actor, run_id, errors))
    return db.session.get_one(CommandRun, run_id, populate_existing=True)


def _run(actor: Actor, run_id: int, plan: Plan) -> None:
    """One transaction. Its first statement lets one caller pass and makes the others wait."""
    if not _leave_planned(run_id, CommandRunState.DONE):
        db.session.rollback()
        return
    run = db.session.get_one(CommandRun, run_id, populate_existing=True)
    planned = {line.line: line for line in plan.lines}
    versions = {
        line.line: line.result.template_version_id
        for line in plan.lines
        if isinstance(line.result, MailingPlan)
    }
    checked = check_commands(actor, _read(run.text), versions)
    raise_errors(checked.errors)
    outcome = _Execution(actor, run, planned).run(checked.commands)
    run.outcome = outcome.to_json()
    record_event(
        actor,
        "command.run",
        object_type="command_run",
        object_id=run_id,
        detail={
            "source": run.source,
            "commands": len(outcome.lines),
            "mailings": [line.mailing_id for line in outcome.lines if line.mailing_id],
            "recipients": outcome.recipients,
            "skipped": outcome.skipped_total,
        },
    )
    db.session.commit()


def _refuse(actor: Actor, run_id: int, errors: Sequence[CommandError]) -> None:
    if not _leave_planned(run_id, CommandRunState.REFUSED):
        db.session.rollback()
        return
    run = db.session.get_one(CommandRun, run_id, populate_existing=True)
    run.outcome = Outcome(errors=tuple(errors)).to_json()
    record_event(
        actor,
        "command.refused",
        object_type="command_run",
        object_id=run_id,
        detail={"errors": len(errors)},
    )
    db.session.commit()


def _leave_planned(run_id: int, state: CommandRunState) -> bool:
    """Whether this caller is the one who takes the run out of its planned state."""
    result = db.session.connection().execute(
        sa.update(CommandRun)
        .where(CommandRun.id == run_id, CommandRun.state == CommandRunState.PLANNED)
        .values(state=state, ran_at=utcnow())
    )
    return result.rowcount == 1


class _Execution:
    """The commands of one run, done one after the other in the caller's transaction."""

    def __init__(self, actor: Actor, run: CommandRun, planned: dict[int, LinePlan]) -> None:
        self._actor = actor
        self._run = run
        self._planned = planned
        self._errors: list[CommandError] = []

    def run(self, checked: Sequence[CheckedCommand]) -> Outcome:
        """Raises CommandErrors with all that went wrong; the caller rolls back."""
        lines = [found for each in checked if (found := self._do(each)) is not None]
        raise_errors(self._errors)
        return Outcome(tuple(lines))

    def _do(self, checked: CheckedCommand) -> LineOutcome | None:
        match checked:
            case CheckedMailing():
                return self._send(checked)
            case CheckedSteering():
                return self._steer(checked)
            case CheckedListing() | CheckedStatus():
                return _looked(self._planned[checked.command.place.line])

    def _send(self, checked: CheckedMailing) -> LineOutcome | None:
        line = checked.command.place.line
        customer_ids = list(checked.customers)
        mailing = Mailing(
            customer_id=customer_ids[0] if len(customer_ids) == 1 else None,
            template_version_id=checked.version.id,
            created_by_id=self._actor.user_id,
            confirmation=secrets.token_urlsafe(24),
            command_run_id=self._run.id,
            command_line=line,
            lane=Lane.BULK,
            state=MailingState.RUNNING,
            resets_portal_password=checked.resets_portal,
            resets_application_password=checked.resets_application,
        )
        db.session.add(mailing)
        db.session.flush()
        freeze_mailing(
            self._actor,
            mailing,
            customer_ids,
            USERS_OF_BUNDLES,
            {"bundle_ids": list(checked.bundles)},
            include_recent=False,
        )
        skipped = count_skipped(mailing)
        if not mailing.queued:
            self._errors.append(nobody_to_mail(checked, skipped))
            return None
        planned = self._planned[line].result
        expected = planned.recipients if isinstance(planned, MailingPlan) else mailing.queued
        sentence = f"Mailing {mailing.id} goes to {_users(mailing.queued)}"
        if mailing.queued != expected:
            sentence += f" (the dry run said {expected:,})"
        if skipped:
            sentence += f". Skipped: {describe_skipped(skipped)}"
        return _outcome(
            checked.command,
            f"{sentence}.",
            mailing_id=mailing.id,
            recipients=mailing.queued,
            skipped=skipped,
        )

    def _steer(self, checked: CheckedSteering) -> LineOutcome | None:
        mailing = checked.mailing
        try:
            change_state(self._actor, mailing, checked.transition)
        except Conflict:
            self._errors.append(state_error(checked.command, checked.action, mailing.state))
            return None
        sentence = f"Mailing {mailing.id} {_DONE[checked.action]}."
        return _outcome(checked.command, sentence, mailing_id=mailing.id)


def _outcome(
    command: Command,
    sentence: str,
    *,
    mailing_id: int,
    recipients: int = 0,
    skipped: dict[SkipReason, int] | None = None,
) -> LineOutcome:
    return LineOutcome(
        line=command.place.line,
        command=format_command(command),
        kind=kind_of(command),
        sentence=sentence,
        mailing_id=mailing_id,
        recipients=recipients,
        skipped=skipped or {},
    )


def _looked(line: LinePlan) -> LineOutcome:
    """The outcome of a command that only looks: its answer is in the plan."""
    match line.result:
        case Listing(rows=rows, rows_left_out=more):
            total = len(rows) + more
            sentence = "Listed 1 line." if total == 1 else f"Listed {total:,} lines."
            return LineOutcome(line.line, line.command, line.kind, sentence)
        case MailingStatus(mailing_id=mailing_id, state=state):
            sentence = f"Mailing {mailing_id} was {state}."
            return LineOutcome(line.line, line.command, line.kind, sentence, mailing_id)
        case _:
            raise TypeError(f"{line.kind} does not only look")


def _users(count: int) -> str:
    return "1 user" if count == 1 else f"{count:,} users"


# --- What follows a run ------------------------------------------------------------------------


def started_mailings(run: CommandRun) -> list[Mailing]:
    """The mailings that workers have to be told of after `run`: started or resumed, and waiting."""
    found: list[Mailing] = []
    for chunk in chunks(_started_ids(run)):
        found += db.session.scalars(
            sa.select(Mailing)
            .where(
                Mailing.id.in_(chunk),
                Mailing.state == MailingState.RUNNING,
                Mailing.queued + Mailing.sending > 0,
            )
            .order_by(Mailing.id)
            .execution_options(populate_existing=True)
        )
    return found


@dataclass(frozen=True, slots=True)
class RunProgress:
    """How far the mailings of a run are, taken together; skipped users are not in `total`.

    `unsent` have ended without a mail that stayed delivered: failed, bounced or cancelled.
    """

    total: int
    sent: int
    unsent: int
    running: tuple[int, ...]
    paused: tuple[int, ...]

    @property
    def done(self) -> int:
        return self.sent + self.unsent


def measure_progress(run: CommandRun) -> RunProgress:
    """Read the counters of the mailings that a run started or resumed, as they are right now."""
    total = sent = unsent = 0
    running: list[int] = []
    paused: list[int] = []
    with db.engine.connect() as connection:
        for chunk in chunks(_started_ids(run)):
            columns = [Mailing.__table__.c[name] for name in ("id", "state", "total", *COUNTERS)]
            for row in connection.execute(sa.select(*columns).where(Mailing.id.in_(chunk))):
                total += row.total - row.skipped
                sent += row.sent
                unsent += row.failed + row.bounced + row.cancelled
                if row.state is MailingState.PAUSED:
                    paused.append(row.id)
                elif row.state not in {MailingState.FINISHED, MailingState.CANCELLED}:
                    running.append(row.id)
    return RunProgress(total, sent, unsent, tuple(running), tuple(paused))


_STARTING = {
    CommandKind.RESEND_WELCOME_EMAIL,
    CommandKind.SEND_EMAIL,
    CommandKind.RESUME_MAILING,
}


def _started_ids(run: CommandRun) -> list[int]:
    return [
        line.mailing_id
        for line in outcome_of(run).lines
        if line.mailing_id is not None and line.kind in _STARTING
    ]


# --- Reading -----------------------------------------------------------------------------------


def may_run(actor: Actor, run: CommandRun) -> bool:
    """Whether Run is his to press: the run is planned, and he submitted it."""
    return (
        run.state is CommandRunState.PLANNED
        and actor.may(Permission.COMMANDS_RUN)
        and _is_author(actor, run)
    )


def _is_author(actor: Actor, run: CommandRun) -> bool:
    return run.actor_id == actor.user_id and (
        actor.user_id is not None or run.actor_login == actor.login
    )


def get_run(actor: Actor, run_id: int) -> CommandRun:
    """A run. Raises NotFound outside the actor's scope, Forbidden by role."""
    actor.require(Permission.COMMANDS_READ)
    found = db.session.scalar(
        sa.select(CommandRun)
        .where(CommandRun.id == run_id, _runs_in_scope(actor))
        .execution_options(populate_existing=True)
    )
    if found is None:
        raise NotFound("There is no such run of commands, or it is not yours to see.")
    return found


def list_runs(
    actor: Actor,
    *,
    state: CommandRunState | None = None,
    mine: bool = False,
    size: int = 25,
    cursor: str = "",
) -> Page[CommandRun]:
    """A page of runs, newest first. The plan of each is loaded when it is asked for."""
    actor.require(Permission.COMMANDS_READ)
    query = sa.select(CommandRun).where(_runs_in_scope(actor))
    if state is not None:
        query = query.where(CommandRun.state == state)
    if mine:
        query = query.where(_runs_of(actor))
    return keyset_page(
        lambda wanted: db.session.scalars(wanted).all(),
        query,
        key=CommandRun.__table__.c.id,
        row_id=CommandRun.__table__.c.id,
        key_of=lambda run: (str(run.id), run.id),
        parse_key=parse_id_key,
        descending=True,
        size=size,
        cursor=cursor,
    )


def _runs_in_scope(actor: Actor) -> sa.ColumnElement[bool]:
    """Who sees every group sees every run, an operator of some groups his own.

    An auditor of some groups sees the runs of the operators who see no other group than he does.
    """
    if actor.all_groups:
        return sa.true()
    if actor.role is not Role.AUDITOR:
        return _runs_of(actor)
    author, theirs = aliased(User), aliased(UserGroup)
    sees_more = sa.exists().where(
        theirs.user_id == author.id, theirs.group_id.not_in(groups_of(actor))
    )
    return sa.exists().where(
        author.id == CommandRun.actor_id,
        author.role == Role.OPERATOR,
        author.all_groups.is_(False),
        ~sees_more,
    )


def _runs_of(actor: Actor) -> sa.ColumnElement[bool]:
    if actor.user_id is None:
        return sa.and_(CommandRun.actor_id.is_(None), CommandRun.actor_login == actor.login)
    return CommandRun.actor_id == actor.user_id


def plan_of(run: CommandRun) -> Plan:
    """What the dry run said."""
    return Plan.from_json(run.plan)


def outcome_of(run: CommandRun) -> Outcome:
    """What was done, or why it was refused; empty while the run is planned."""
    return Outcome.from_json(run.outcome)
