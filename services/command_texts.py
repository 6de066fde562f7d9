"""Commands on a terminal: plans, outcomes and errors as lines of plain text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

from models import CommandRun
from services.command_dry_runs import describe_skipped
from services.command_language import CommandError, CommandErrors, excerpt, split_lines
from services.command_plans import (
    LinePlan,
    Listing,
    MailingPlan,
    MailingStatus,
    Outcome,
    Plan,
    Steering,
    SteeringAction,
)

_INDENT = "  "
_COMMAND_SHOWN = 200
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_WOULD = {
    SteeringAction.PAUSE: "is held",
    SteeringAction.RESUME: "goes on",
    SteeringAction.CANCEL: "ends for good",
}


def plan_lines(plan: Plan) -> Iterator[str]:
    """What a dry run says, command by command; the first mail of each template once."""
    shown: set[int] = set()
    for number, line in enumerate(plan.lines):
        if number:
            yield ""
        yield f"Line {line.line}: {_shortened(line.command)}"
        yield from (f"{_INDENT}{text}" if text else "" for text in _result_lines(line))
        if isinstance(line.result, MailingPlan) and line.result.template_version_id not in shown:
            shown.add(line.result.template_version_id)
            yield from _mail_lines(line.result)
    if len(plan.mailings) > 1:
        yield ""
        skipped = f"{plan.skipped_total:,} skipped"
        yield f"Together: {_recipients(plan.recipients)}, {skipped}{_about(plan.seconds)}."


def _result_lines(line: LinePlan) -> Iterator[str]:
    match line.result:
        case MailingPlan() as mailing:
            yield from _mailing_lines(mailing)
        case Listing() as listing:
            yield from table_lines(listing.header, listing.rows)
            if listing.rows_left_out:
                yield f"… and {listing.rows_left_out:,} more."
        case MailingStatus() as status:
            counted = (f"{count:,} {name}" for name, count in status.counters.items() if count)
            yield f"Mailing {status.mailing_id}, {_plain(status.template)}: {status.state}"
            yield f"{_recipients(status.total)}: {', '.join(counted) or 'nobody'}"
            if status.seconds_left is not None:
                yield f"{_duration(status.seconds_left)} left, at {_rate(status.per_second)}"
        case Steering() as steering:
            waiting = steering.counters["queued"] + steering.counters["sending"]
            yield (
                f"Mailing {steering.mailing_id}, {_plain(steering.template)}, is {steering.state} "
                f"and {_WOULD[steering.action]}. {waiting:,} of {steering.total:,} are waiting."
            )


def _mailing_lines(mailing: MailingPlan) -> Iterator[str]:
    yield f"E-mail template: {_plain(mailing.template)}. {_resets(mailing)}"
    yield ""
    rows = [
        (
            _plain(row.web_id),
            _plain(row.customer),
            _plain(row.bundle),
            f"{row.recipients:,}",
            describe_skipped(row.skipped),
        )
        for row in mailing.rows
    ]
    yield from table_lines(("Customer", "Name", "Bundle", "Recipients", "Skipped"), rows)
    if mailing.rows_left_out:
        yield f"… and {mailing.rows_left_out:,} more rows."
    yield ""
    yield f"{_recipients(mailing.recipients)}{_about(mailing.seconds)}."
    if mailing.skipped:
        yield f"Skipped: {describe_skipped(mailing.skipped)}."
    if mailing.already_named:
        yield f"{mailing.already_named:,} of the skipped get this e-mail by a line above."
    first = mailing.first
    yield f"The first is {_plain(first.name)} <{_plain(first.email)}> of {_plain(first.web_id)}."


def _mail_lines(mailing: MailingPlan) -> Iterator[str]:
    if mailing.message is None:
        return
    yield ""
    yield f"{_INDENT * 2}Subject: {_plain(mailing.message.subject)}"
    yield ""
    for text in mailing.message.text.strip().splitlines():
        yield f"{_INDENT * 2}{_plain(text)}".rstrip()


def outcome_lines(run: CommandRun) -> Iterator[str]:
    """What a run did, command by command."""
    outcome = Outcome.from_json(run.outcome)
    for line in outcome.lines:
        yield f"Line {line.line}: {line.sentence}"
    if outcome.errors:
        yield "Refused, and nothing was done: something has changed since the dry run."
        yield from error_lines(run.text, CommandErrors(outcome.errors))


def error_lines(text: str, refused: CommandErrors) -> Iterator[str]:
    """Each error with the line it is in and a caret under the place."""
    written = split_lines(text)
    for error in refused.errors:
        yield f"Line {error.line}, column {error.column}: {error.message}"
        yield from _pointer(written[error.line - 1], error)
        yield f"{_INDENT}Expected: {error.expected}."


def _pointer(line: str, error: CommandError) -> Iterator[str]:
    shown = excerpt(line, error)
    before, marked = _plain(shown.before), _plain(shown.marked)
    yield f"{_INDENT}{before}{marked}{_plain(shown.after)}"
    yield f"{_INDENT}{' ' * _width(before)}{'^' * max(1, _width(marked))}"


def table_lines(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A table in columns as wide as what is in them; figures to the right."""
    table = [[_plain(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(_width, column)) for column in zip(*table, strict=True)]
    figures = [
        bool(column) and all(cell.replace(",", "").isdecimal() for cell in column)
        for column in zip(*table[1:], strict=True)
    ] or [False] * len(header)
    for row in table:
        cells = [
            f"{' ' * (width - _width(cell))}{cell}"
            if right
            else f"{cell}{' ' * (width - _width(cell))}"
            for cell, width, right in zip(row, widths, figures, strict=True)
        ]
        yield "  ".join(cells).rstrip()


def _resets(mailing: MailingPlan) -> str:
    portal, application = mailing.resets_portal, mailing.resets_application
    if portal and application:
        return "Portal and application passwords are reset."
    if portal or application:
        return f"The {'portal' if portal else 'application'} password is reset."
    return "No password is reset."


def _recipients(count: int) -> str:
    return "1 recipient" if count == 1 else f"{count:,} recipients"


def _about(seconds: int | None) -> str:
    return "" if seconds is None else f", about {_duration(seconds)}"


def _duration(seconds: int) -> str:
    hours, minutes = seconds // 3600, seconds % 3600 // 60
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {seconds % 60} s" if minutes else f"{max(1, seconds)} s"


def _rate(per_second: float) -> str:
    if per_second < 1:
        return f"{per_second * 60:.0f} mails a minute"
    return f"{per_second:,.0f} mails a second"


def _shortened(text: str) -> str:
    return text if len(text) <= _COMMAND_SHOWN else f"{text[:_COMMAND_SHOWN]}…"


def _plain(text: str) -> str:
    """The text without what a terminal would obey."""
    return _UNSAFE.sub("\ufffd", text.replace("\n", " ").replace("\t", " "))


def _width(text: str) -> int:
    """How many columns a terminal needs for a text."""
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1
        for each in text
    )
