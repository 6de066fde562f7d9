"""How far a mailing is, in words; all of it from the counters beside its row."""

from __future__ import annotations

from dataclasses import dataclass

from blueprints.formats import format_duration, format_number, format_rate
from models import Mailing, MailingState
from services.mailings import measure_pace


@dataclass(frozen=True, slots=True)
class Progress:
    """The bar (`done` of `total` mails), the line under it, and the state it has ended in."""

    done: int
    total: int
    line: str
    colour: str | None
    is_polled: bool


def progress_of(mailing: Mailing, *, is_blocked: bool = False) -> Progress:
    """The progress of a mailing; while the mail server is down nobody knows how long it takes."""
    total = mailing.total - mailing.skipped
    parts = [f"{_number(mailing.sent)} of {_number(total)} sent"]
    for count, word in (
        (mailing.bounced, "bounced"),
        (mailing.failed, "failed"),
        (mailing.cancelled, "cancelled"),
    ):
        if count:
            parts.append(f"{_number(count)} {word}")
    pace = measure_pace(mailing)
    is_moving = mailing.state is MailingState.RUNNING and not is_blocked
    if is_moving and pace.seconds_left is not None:
        parts.append(f"about {format_duration(pace.seconds_left)} left")
    colour = None
    if not mailing.is_open:
        is_whole = not (mailing.bounced or mailing.failed or mailing.cancelled)
        colour = "good" if is_whole else "attention"
    return Progress(
        done=total - mailing.waiting,
        total=total,
        line=_sentence(
            mailing, ", ".join(parts), format_rate(pace.per_second) if is_moving else ""
        ),
        colour=colour,
        is_polled=mailing.is_open and mailing.waiting > 0,
    )


def _sentence(mailing: Mailing, figures: str, rate: str) -> str:
    if mailing.state is MailingState.FINISHED:
        return f"Finished. {figures}."
    if mailing.state is MailingState.CANCELLED:
        return f"Cancelled. {figures}."
    return f"{figures}. {rate}." if rate else f"{figures}."


def _number(value: int) -> str:
    return format_number(value)
