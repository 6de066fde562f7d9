"""When and how much is provisioned: off-peak windows, exceptions, the cap, and the pause switch."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

import sqlalchemy as sa

from services import off_peak
from services.actors import Actor


@dataclass(frozen=True, slots=True)
class Pause:
    """That nothing is provisioned, since when, by whom and why. `by` is empty when unknown."""

    at: datetime
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Policy(off_peak.Schedule):
    """All of it as it is now; `max_runs` is the cap on runs at once."""

    version: int
    max_runs: int
    pause: Pause | None

    @property
    def paused(self) -> bool:
        return self.pause is not None


def load(connection: sa.Connection | None = None) -> Policy:
    """The policy as it is committed, or as `connection`'s transaction sees it."""
    raise NotImplementedError


def find_pause() -> Pause | None:
    """The pause, None while provisioning goes on."""
    raise NotImplementedError


def plan_start(now: datetime, connection: sa.Connection | None = None) -> datetime:
    """When an off-peak start is: `now` itself inside a window, else the next that begins.

    Raises Conflict when there are no off-peak hours.
    """
    raise NotImplementedError


def pause(actor: Actor, *, reason: str) -> None:
    """Hold all provisioning between two steps. Raises InvalidInput, Conflict when it is held."""
    raise NotImplementedError


def resume(actor: Actor) -> None:
    """Go on, at once with what is due. Raises Conflict when nothing is held."""
    raise NotImplementedError


def change_limits(actor: Actor, *, version: int, time_zone: str, max_runs: int) -> None:
    """Set zone and cap. Raises InvalidInput, Conflict when somebody else changed the policy."""
    raise NotImplementedError


def add_window(
    actor: Actor, *, version: int, days: frozenset[int], from_minute: int, to_minute: int
) -> None:
    raise NotImplementedError


def remove_window(actor: Actor, window_id: int, *, version: int) -> None:
    raise NotImplementedError


def add_exception(actor: Actor, *, version: int, day: date, all_day: bool, note: str) -> None:
    raise NotImplementedError


def remove_exception(actor: Actor, day: date, *, version: int) -> None:
    raise NotImplementedError
