"""What pages say of a run: its title, its button, its line in the history."""

from __future__ import annotations

from dataclasses import dataclass

from blueprints.formats import format_number
from models import CommandRun, CommandRunState
from services import command_runs
from services.command_language import split_lines
from services.command_plans import MailingPlan, Plan, Steering
from services.errors import NotFound
from services.messages import RenderedMessage


@dataclass(frozen=True, slots=True)
class About:
    """The heading of a run's page and the sentence under it."""

    title: str
    lead: str


def describe_run(run: CommandRun, plan: Plan) -> About:
    if run.state is CommandRunState.REFUSED:
        return About(
            "Nothing was run",
            "What the commands name has changed since the dry run, so none of them was run.",
        )
    if run.state is CommandRunState.PLANNED:
        sending = " Nothing has been sent yet." if plan.mailings else " Nothing has changed yet."
        return About("Dry run", f"This is what Run would do now.{sending}")
    if plan.changes_something:
        goes_on = " Each mailing goes on by itself." if plan.mailings else ""
        return About("Commands run", f"Every command was run, once.{goes_on}")
    return About("Answer", "These commands only look; they change nothing.")


def button_label(plan: Plan) -> str:
    """What Run does, in the words of its button."""
    changing = [line for line in plan.lines if line.changes_something]
    count = format_number(plan.recipients)
    if len(changing) == 1 and isinstance(steering := changing[0].result, Steering):
        return f"{steering.action.capitalize()} mailing {steering.mailing_id}"
    if all(isinstance(line.result, MailingPlan) for line in changing):
        resets = any(each.resets_portal or each.resets_application for each in plan.mailings)
        return f"{'Reset passwords and send' if resets else 'Send'} to {count}"
    sending = f" and send to {count}" if plan.mailings else ""
    return f"Run {len(changing)} commands{sending}"


def mail_of(plan: Plan, line: int) -> RenderedMessage:
    """The first mail of a line's mailing. Raises NotFound where there is none."""
    for each in plan.lines:
        if each.line == line and isinstance(each.result, MailingPlan) and each.result.message:
            return each.result.message
    raise NotFound("This line of the dry run has no mail to show.")


@dataclass(frozen=True, slots=True)
class Summary:
    """A run's line in the history: its first command, how many more, and what became of them."""

    command: str
    more: int
    outcome: str

    @classmethod
    def of(cls, run: CommandRun) -> Summary:
        lines = [line.strip() for line in split_lines(run.text)]
        commands = [line for line in lines if line and not line.startswith("#")] or [""]
        return cls(commands[0][:500], len(commands) - 1, _outcome_of(run))


def _outcome_of(run: CommandRun) -> str:
    if run.state is CommandRunState.PLANNED:
        return "Not run yet"
    outcome = command_runs.outcome_of(run)
    if outcome.errors:
        more = len(outcome.errors) - 1
        return f"{outcome.errors[0].message}{f' And {more} more.' if more else ''}"
    if len(outcome.lines) == 1:
        return outcome.lines[0].sentence
    if not outcome.recipients and not outcome.skipped_total:
        return "Answered"
    skipped = f", {format_number(outcome.skipped_total)} skipped" if outcome.skipped_total else ""
    return f"{format_number(outcome.recipients)} mails accepted{skipped}"
