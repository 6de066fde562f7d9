"""What commands would do and what they did, in a form that is kept as JSON with their run."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from models import MailingState, SkipReason
from services.command_language import CommandError
from services.messages import RenderedMessage

T = TypeVar("T")


class CommandKind(StrEnum):
    RESEND_WELCOME_EMAIL = "resend_welcome_email"
    SEND_EMAIL = "send_email"
    LIST_BUNDLES = "list_bundles"
    LIST_CUSTOMERS = "list_customers"
    MAILING_STATUS = "mailing_status"
    PAUSE_MAILING = "pause_mailing"
    RESUME_MAILING = "resume_mailing"
    CANCEL_MAILING = "cancel_mailing"
    HELP = "help"


Skipped = Mapping[SkipReason, int]
"""How many users get no mail, by reason."""


@dataclass(frozen=True, slots=True)
class PlanRow:
    """The users of one customer with one bundle."""

    web_id: str
    customer: str
    bundle: str
    recipients: int
    skipped: Skipped

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> PlanRow:
        return cls(**{**raw, "skipped": _skipped(raw["skipped"])})


@dataclass(frozen=True, slots=True)
class FirstRecipient:
    """Who gets the first mail."""

    user_id: int
    name: str
    login: str
    email: str
    web_id: str


@dataclass(frozen=True, slots=True)
class MailingPlan:
    """A mailing as it would be confirmed now.

    `rows` is ordered by web ID and bundle; `rows_left_out` says how many are not kept, though all
    are counted in `recipients` and `skipped`. `already_named` of the skipped get this template by
    an earlier line of the same text; they count as recently mailed. `message` is the first
    mail with its passwords hidden; None where the text has so many lines that this one's is not
    kept. `seconds` is estimated from `per_second`; both are None when no rate is known.
    """

    template: str
    template_id: int
    template_version_id: int
    resets_portal: bool
    resets_application: bool
    customers: int
    recipients: int
    skipped: Skipped
    already_named: int
    rows: tuple[PlanRow, ...]
    rows_left_out: int
    first: FirstRecipient
    message: RenderedMessage | None
    seconds: int | None
    per_second: float | None

    @property
    def skipped_total(self) -> int:
        return sum(self.skipped.values())

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> MailingPlan:
        return cls(
            **{
                **raw,
                "skipped": _skipped(raw["skipped"]),
                "rows": tuple(PlanRow.from_json(row) for row in raw["rows"]),
                "first": FirstRecipient(**raw["first"]),
                "message": _optional(lambda kept: RenderedMessage(**kept), raw["message"]),
            }
        )


@dataclass(frozen=True, slots=True)
class Listing:
    """A table: bundles, customers or commands; `rows_left_out` says how many more there are."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    rows_left_out: int = 0

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Listing:
        rows = tuple(tuple(row) for row in raw["rows"])
        return cls(tuple(raw["header"]), rows, raw["rows_left_out"])


@dataclass(frozen=True, slots=True)
class MailingStatus:
    """How far a mailing was when it was asked; `counters` has every name of models' COUNTERS."""

    mailing_id: int
    template: str
    state: MailingState
    total: int
    counters: Mapping[str, int]
    per_second: float
    seconds_left: int | None

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> MailingStatus:
        return cls(**{**raw, "state": MailingState(raw["state"])})


class SteeringAction(StrEnum):
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True)
class Steering:
    """What would be done to a mailing that is in `state`, earlier lines of the text included."""

    mailing_id: int
    action: SteeringAction
    template: str
    state: MailingState
    total: int
    counters: Mapping[str, int]

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Steering:
        action, state = SteeringAction(raw["action"]), MailingState(raw["state"])
        return cls(**{**raw, "action": action, "state": state})


LineResult = MailingPlan | Listing | MailingStatus | Steering
_RESULTS: dict[str, Any] = {
    "mailing": MailingPlan,
    "listing": Listing,
    "status": MailingStatus,
    "steering": Steering,
}
_RESULT_NAMES = {kind: name for name, kind in _RESULTS.items()}


@dataclass(frozen=True, slots=True)
class LinePlan:
    """What one command would do; `line` is where it stands, `command` its canonical form."""

    line: int
    command: str
    kind: CommandKind
    result: LineResult

    @property
    def changes_something(self) -> bool:
        return isinstance(self.result, MailingPlan | Steering)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> LinePlan:
        result = _RESULTS[raw["result"]].from_json(raw[raw["result"]])
        return cls(raw["line"], raw["command"], CommandKind(raw["kind"]), result)

    def to_json(self) -> dict[str, Any]:
        name = _RESULT_NAMES[type(self.result)]
        return {
            "line": self.line,
            "command": self.command,
            "kind": self.kind,
            "result": name,
            name: dataclasses.asdict(self.result),
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """What a text would do, line by line."""

    lines: tuple[LinePlan, ...] = ()

    @property
    def changes_something(self) -> bool:
        """Whether there is anything that Run would do."""
        return any(line.changes_something for line in self.lines)

    @property
    def mailings(self) -> tuple[MailingPlan, ...]:
        return tuple(line.result for line in self.lines if isinstance(line.result, MailingPlan))

    @property
    def recipients(self) -> int:
        return sum(mailing.recipients for mailing in self.mailings)

    @property
    def skipped(self) -> Skipped:
        total: Counter[SkipReason] = Counter()
        for mailing in self.mailings:
            total.update(mailing.skipped)
        return total

    @property
    def skipped_total(self) -> int:
        return sum(self.skipped.values())

    @property
    def seconds(self) -> int | None:
        """How long all mailings take; None when there are none or no rate is known."""
        known = [mailing.seconds for mailing in self.mailings if mailing.seconds is not None]
        return sum(known) if known else None

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Plan:
        """Read what `to_json` wrote; an empty object is an empty plan."""
        return cls(tuple(LinePlan.from_json(line) for line in raw.get("lines", ())))

    def to_json(self) -> dict[str, Any]:
        return {"lines": [line.to_json() for line in self.lines]}


@dataclass(frozen=True, slots=True)
class LineOutcome:
    """What one command did, in numbers and in a sentence; `mailing_id` is started or steered."""

    line: int
    command: str
    kind: CommandKind
    sentence: str
    mailing_id: int | None = None
    recipients: int = 0
    skipped: Skipped = field(default_factory=dict)

    @property
    def skipped_total(self) -> int:
        return sum(self.skipped.values())

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> LineOutcome:
        kind, skipped = CommandKind(raw["kind"]), _skipped(raw["skipped"])
        return cls(**{**raw, "kind": kind, "skipped": skipped})


@dataclass(frozen=True, slots=True)
class Outcome:
    """`lines` of a run that was done, or the `errors` for which it was refused."""

    lines: tuple[LineOutcome, ...] = ()
    errors: tuple[CommandError, ...] = ()

    @property
    def recipients(self) -> int:
        return sum(line.recipients for line in self.lines)

    @property
    def skipped_total(self) -> int:
        return sum(line.skipped_total for line in self.lines)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Outcome:
        """Read what `to_json` wrote; an empty object is an empty outcome."""
        return cls(
            tuple(LineOutcome.from_json(line) for line in raw.get("lines", ())),
            tuple(CommandError(**error) for error in raw.get("errors", ())),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "lines": [dataclasses.asdict(line) for line in self.lines],
            "errors": [dataclasses.asdict(error) for error in self.errors],
        }


def _skipped(raw: Mapping[str, int]) -> Skipped:
    return {SkipReason(reason): count for reason, count in raw.items()}


def _optional(read: Callable[[Any], T], raw: Any) -> T | None:
    return None if raw is None else read(raw)
