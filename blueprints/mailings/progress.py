"""How far a mailing is, in words; all of it from the counters beside its row."""

from __future__ import annotations

from dataclasses import dataclass

from blueprints.formats import format_number
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
    for count, word in ((mailing.failed, "failed"), (mailing.cancelled, "cancelled")):
        if count:
            parts.append(f"{_number(count)} {word}")
    pace = measure_pace(mailing)
    is_moving = mailing.state is MailingState.RUNNING and not is_blocked
    if is_moving and pace.seconds_left is not None:
        parts.append(f"about {in_words(pace.seconds_left)} left")
    colour = None
    if not mailing.is_open:
        colour = "attention" if mailing.failed or mailing.cancelled else "good"
    return Progress(
        done=mailing.sent + mailing.failed + mailing.cancelled,
        total=total,
        line=_sentence(mailing, ", ".join(parts), _rate(pace.per_second) if is_moving else ""),
        colour=colour,
        is_polled=mailing.is_open and mailing.waiting > 0,
    )


def _sentence(mailing: Mailing, figures: str, rate: str) -> str:
    if mailing.state is MailingState.FINISHED:
        return f"Finished. {figures}."
    if mailing.state is MailingState.CANCELLED:
        return f"Cancelled. {figures}."
    return f"{figures}. {rate}." if rate else f"{figures}."


def in_words(seconds: int) -> str:
    """A duration, roundly: `5 seconds`, `2 minutes`, `3 hours`."""
    for unit, word in ((3600, "hour"), (60, "minute")):
        if seconds >= unit * 1.5:
            return f"{round(seconds / unit)} {word}s"
        if seconds >= unit:
            return f"a{'n' if word == 'hour' else ''} {word}"
    return f"{max(1, seconds)} second{'' if seconds <= 1 else 's'}"


def _rate(per_second: float) -> str:
    if not per_second:
        return ""
    if per_second < 1:
        return f"{per_second * 60:.0f} mails a minute"
    return f"{format_number(round(per_second))} mails a second"


def _number(value: int) -> str:
    return format_number(value)
