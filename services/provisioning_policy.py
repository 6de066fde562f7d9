"""When and how much is provisioned: off-peak windows, exceptions, the cap, and the pause switch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from redis.exceptions import RedisError

from extensions import db, queues
from models import (
    OffPeakException,
    OffPeakWindow,
    ProvisioningPolicy,
    ProvisioningRun,
    RequestCount,
    RequestState,
    RunState,
    SubscriptionRequest,
    User,
    is_storable,
    utcnow,
)
from services import countries, off_peak
from services.actors import Actor, Permission, groups_of
from services.audit_events import insert_event
from services.errors import Conflict, Forbidden, InvalidInput, NotFound
from services.transactions import run_transaction

log = logging.getLogger(__name__)

MOST_RUNS = 100
MOST_WINDOWS = 20
MOST_EXCEPTIONS = 200
LONGEST_REASON = 500
LONGEST_NOTE = 100
COUNTED = 1000
"""Requests that wait are counted up to here, so that the page costs the same with a million."""

_YEARS_AHEAD = 5
_STALE = (
    "Somebody else changed the plan since you opened this page. Nothing of yours has been saved. "
    "Look at what it is now, then save again or go back."
)
_NO_HOURS = (
    "No off-peak hours are planned, so there is no start to wait for. "
    "A landlord administrator can add some under Provisioning."
)


@dataclass(frozen=True, slots=True)
class Pause:
    """That nothing is provisioned, since when, by whom and why. `by` is empty when unknown."""

    at: datetime
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class PlannedWindow(off_peak.Window):
    """A window with its row's id."""

    id: int


@dataclass(frozen=True, slots=True)
class Policy(off_peak.Schedule):
    """All of it as it is now; `max_runs` is the cap on runs at once.

    `windows` are PlannedWindows, and `exceptions` are those from yesterday on, with `notes`.
    """

    version: int
    max_runs: int
    pause: Pause | None
    notes: Mapping[date, str]

    @property
    def paused(self) -> bool:
        return self.pause is not None


@dataclass(frozen=True, slots=True)
class Load:
    """What is being provisioned, by anybody, and what of the actor's scope waits for it.

    `due` stops at COUNTED + 1. `next_at` is the next planned time to come.
    """

    running: int
    due: int
    scheduled: int
    next_at: datetime | None


# --- What it is --------------------------------------------------------------------------------


def load(connection: sa.Connection | None = None) -> Policy:
    """The policy as it is committed, or as `connection`'s transaction sees it."""
    if connection is not None:
        return _read(connection)
    with db.engine.connect() as own:
        return _read(own)


def _read(connection: sa.Connection) -> Policy:
    row = connection.execute(_POLICY).one()
    windows = connection.execute(_WINDOWS)
    planned = tuple(
        PlannedWindow(frozenset(map(int, each.days)), each.from_minute, each.to_minute, each.id)
        for each in windows
    )
    since = utcnow().date() - timedelta(days=2)
    exceptions = connection.execute(_EXCEPTIONS, {"since": since}).all()
    return Policy(
        zone=ZoneInfo(row.time_zone),
        windows=planned,
        exceptions={each.day: each.all_day for each in exceptions},
        version=row.version,
        max_runs=row.max_runs,
        pause=_read_pause(connection),
        notes={each.day: each.note for each in exceptions},
    )


# Built once: every list of requests asks.
_POLICY = sa.select(
    ProvisioningPolicy.version, ProvisioningPolicy.time_zone, ProvisioningPolicy.max_runs
)
_WINDOWS = sa.select(
    OffPeakWindow.id, OffPeakWindow.days, OffPeakWindow.from_minute, OffPeakWindow.to_minute
).order_by(OffPeakWindow.days, OffPeakWindow.from_minute, OffPeakWindow.id)
_EXCEPTIONS = (
    sa.select(OffPeakException.day, OffPeakException.all_day, OffPeakException.note)
    .where(OffPeakException.day >= sa.bindparam("since"))
    .order_by(OffPeakException.day)
)
_PAUSE = (
    sa.select(
        ProvisioningPolicy.paused_at,
        ProvisioningPolicy.pause_reason,
        User.first_name,
        User.last_name,
        User.login,
    )
    .outerjoin(User, User.id == ProvisioningPolicy.paused_by_id)
    .where(ProvisioningPolicy.paused_at.is_not(None))
)


def find_pause() -> Pause | None:
    """The pause, None while provisioning goes on."""
    with db.engine.connect() as connection:
        return _read_pause(connection)


def _read_pause(connection: sa.Connection) -> Pause | None:
    row = connection.execute(_PAUSE).one_or_none()
    if row is None or row.paused_at is None:
        return None
    name = f"{row.first_name or ''} {row.last_name or ''}".strip() or row.login or ""
    return Pause(row.paused_at, name, row.pause_reason)


def plan_start(now: datetime, connection: sa.Connection | None = None) -> datetime:
    """When an off-peak start is: `now` itself inside a window, else the next that begins.

    Raises Conflict when there are no off-peak hours.
    """
    start = off_peak.next_start(now, load(connection))
    if start is None:
        raise Conflict(_NO_HOURS)
    return start


def measure_load(actor: Actor) -> Load:
    """What runs and what waits. The runs are everybody's, since the cap is; the rest is scoped."""
    actor.require(Permission.PROVISIONING_READ)
    now = utcnow()
    running = sa.select(sa.func.count()).where(
        ProvisioningRun.state.in_([RunState.RUNNING, RunState.ROLLING_BACK]),
        ProvisioningRun.lease_expires_at > now,
    )
    scheduled = sa.select(sa.func.sum(RequestCount.requests)).where(
        RequestCount.state == RequestState.SCHEDULED
    )
    waiting = SubscriptionRequest.state == RequestState.SCHEDULED
    if not actor.all_groups:
        scheduled = scheduled.where(RequestCount.group_id.in_(groups_of(actor)))
        waiting &= SubscriptionRequest.group_id.in_(groups_of(actor))
    due = (
        sa.select(SubscriptionRequest.id)
        .where(waiting, SubscriptionRequest.scheduled_for <= now)
        .limit(COUNTED + 1)
        .subquery()
    )
    later = (
        sa.select(SubscriptionRequest.scheduled_for)
        .where(waiting, SubscriptionRequest.scheduled_for > now)
        .order_by(SubscriptionRequest.scheduled_for)
        .limit(1)
    )
    with db.engine.connect() as connection:
        return Load(
            running=connection.scalar(running) or 0,
            due=connection.scalar(sa.select(sa.func.count()).select_from(due)) or 0,
            scheduled=int(connection.scalar(scheduled) or 0),
            next_at=connection.scalar(later),
        )


# --- The switch --------------------------------------------------------------------------------


def may_pause(actor: Actor) -> bool:
    """Pausing holds the requests of every group, so it takes somebody who is limited to none."""
    return actor.may(Permission.PROVISIONING_PAUSE) and actor.all_groups


def pause(actor: Actor, *, reason: str) -> None:
    """Hold all provisioning between two steps.

    Raises Forbidden, InvalidInput naming `reason`, Conflict when it is held already.
    """
    require_switch(actor)
    reason = _checked_text("reason", "The reason", reason, LONGEST_REASON)
    if not reason:
        raise InvalidInput("reason", "Say why, for whoever looks at a request that waits.")

    def work(connection: sa.Connection) -> None:
        paused = connection.execute(
            sa.update(ProvisioningPolicy)
            .where(ProvisioningPolicy.paused_at.is_(None))
            .values(paused_at=utcnow(), paused_by_id=actor.user_id, pause_reason=reason)
        ).rowcount
        if not paused:
            held = _read_pause(connection)
            by = held.by if held and held.by else "Somebody else"
            raise Conflict(f"{by} has paused provisioning already. Nothing more was changed.")
        states = {"before": {"state": "running"}, "after": {"state": "paused"}}
        _record(connection, actor, "provisioning.paused", {**states, "reason": reason})

    run_transaction(work)


def resume(actor: Actor) -> None:
    """Go on, at once with what is due. Raises Forbidden, Conflict when nothing is held."""
    require_switch(actor)

    def work(connection: sa.Connection) -> None:
        resumed = connection.execute(
            sa.update(ProvisioningPolicy)
            .where(ProvisioningPolicy.paused_at.is_not(None))
            .values(paused_at=None, paused_by_id=None, pause_reason="")
        ).rowcount
        if not resumed:
            raise Conflict("Provisioning is not paused any more. Nothing was changed.")
        states = {"before": {"state": "paused"}, "after": {"state": "running"}}
        _record(connection, actor, "provisioning.resumed", states)

    run_transaction(work)
    _look_at_what_is_due()


def _look_at_what_is_due() -> None:
    """The sweep starts whatever is due; asked for at once, it does so without the wait."""
    try:
        queues.enqueue("interactive", "jobs.sweeps.sweep")
    except RedisError as error:
        log.warning(
            "what is due waits for the next sweep, the queue does not answer: %s",
            type(error).__name__,
        )


def require_switch(actor: Actor) -> None:
    """Raise Forbidden unless the actor may pause."""
    actor.require(Permission.PROVISIONING_PAUSE)
    if not actor.all_groups:
        raise Forbidden(
            "Pausing holds the requests of every group, and you work for some of them. "
            "Somebody who works for all groups can do it."
        )


# --- The plan ----------------------------------------------------------------------------------


def change_limits(actor: Actor, *, version: int, time_zone: str, max_runs: int) -> None:
    """Set zone and cap. What is scheduled keeps its moment.

    Raises Forbidden, InvalidInput naming `time_zone` or `max_runs`, and Conflict when somebody else
    changed the plan since `version`, as all changes of it do.
    """
    actor.require(Permission.PROVISIONING_PLAN)
    if not countries.is_time_zone(time_zone):
        raise InvalidInput(
            "time_zone",
            "This is no time zone. Choose one from the list, for example Belgium, Brussels.",
        )
    if not 1 <= max_runs <= MOST_RUNS:
        raise InvalidInput("max_runs", f"Runs at once: write a number from 1 to {MOST_RUNS}.")

    def work(connection: sa.Connection, before: Policy) -> dict[str, Any]:
        connection.execute(
            sa.update(ProvisioningPolicy).values(time_zone=time_zone, max_runs=max_runs)
        )
        return {
            "before": {"time_zone": str(before.zone), "max_runs": before.max_runs},
            "after": {"time_zone": time_zone, "max_runs": max_runs},
        }

    _change(actor, version, "provisioning_limits.changed", work)


def add_window(
    actor: Actor, *, version: int, days: Collection[int], from_minute: int, to_minute: int
) -> None:
    """Add a window (shapes as in off_peak.Window).

    Raises as `change_limits`, naming `days`, `from_time` or `to_time`.
    """
    actor.require(Permission.PROVISIONING_PLAN)
    values = _checked_window(days, from_minute, to_minute)

    def work(connection: sa.Connection, before: Policy) -> dict[str, Any]:
        if len(before.windows) >= MOST_WINDOWS:
            raise InvalidInput(
                "days",
                f"There are {MOST_WINDOWS} windows, which is the most. Change or remove one.",
            )
        connection.execute(sa.insert(OffPeakWindow).values(**values))
        return {"after": values}

    _change(actor, version, "off_peak_window.added", work)


def get_window(actor: Actor, window_id: int) -> PlannedWindow:
    """A window of the plan. Raises Forbidden, NotFound."""
    actor.require(Permission.PROVISIONING_PLAN)
    return _window_of(load(), window_id)


def change_window(
    actor: Actor,
    window_id: int,
    *,
    version: int,
    days: Collection[int],
    from_minute: int,
    to_minute: int,
) -> None:
    """Change a window. Raises as `add_window`, and NotFound."""
    actor.require(Permission.PROVISIONING_PLAN)
    values = _checked_window(days, from_minute, to_minute)

    def work(connection: sa.Connection, before: Policy) -> dict[str, Any]:
        old = _window_of(before, window_id)
        connection.execute(
            sa.update(OffPeakWindow).where(OffPeakWindow.id == window_id).values(**values)
        )
        return {"before": _as_values(old), "after": values}

    _change(actor, version, "off_peak_window.changed", work)


def remove_window(actor: Actor, window_id: int, *, version: int) -> None:
    """Remove a window. Raises Forbidden, NotFound, Conflict."""
    actor.require(Permission.PROVISIONING_PLAN)

    def work(connection: sa.Connection, before: Policy) -> dict[str, Any]:
        old = _window_of(before, window_id)
        connection.execute(sa.delete(OffPeakWindow).where(OffPeakWindow.id == window_id))
        return {"before": _as_values(old)}

    _change(actor, version, "off_peak_window.removed", work)


def add_exception(actor: Actor, *, version: int, day: date, all_day: bool, note: str) -> None:
    """Give a date rules of its own. Raises as `change_limits`, naming `day` or `note`."""
    actor.require(Permission.PROVISIONING_PLAN)
    note = _checked_text("note", "The note", note, LONGEST_NOTE)

    def work(connection: sa.Connection, before: Policy) -> dict[str, Any]:
        _check_day(day, before)
        connection.execute(sa.insert(OffPeakException).values(day=day, all_day=all_day, note=note))
        return {"after": {"day": day.isoformat(), "all_day": all_day, "note": note}}

    _change(actor, version, "off_peak_exception.added", work)


def remove_exception(actor: Actor, day: date, *, version: int) -> None:
    """Let a date be as its weekday is again. Raises Forbidden, NotFound, Conflict."""
    actor.require(Permission.PROVISIONING_PLAN)

    def work(connection: sa.Connection, before: Policy) -> dict[str, Any]:
        removed = connection.execute(
            sa.delete(OffPeakException).where(OffPeakException.day == day)
        ).rowcount
        if not removed:
            raise NotFound("There is no such exception any more.")
        return {"before": {"day": day.isoformat(), "all_day": before.exceptions.get(day)}}

    _change(actor, version, "off_peak_exception.removed", work)


def _change(
    actor: Actor,
    version: int,
    action: str,
    work: Callable[[sa.Connection, Policy], dict[str, Any]],
) -> None:
    """Do `work(connection, the policy before it)` unless somebody was faster, and note it."""

    def transaction(connection: sa.Connection) -> None:
        # This first, so that two changes at once come one after the other.
        taken = connection.execute(
            sa.update(ProvisioningPolicy)
            .where(ProvisioningPolicy.version == version)
            .values(version=ProvisioningPolicy.version + 1)
        ).rowcount
        if not taken:
            raise Conflict(_STALE)
        _record(connection, actor, action, work(connection, _read(connection)))

    run_transaction(transaction)


def _record(connection: sa.Connection, actor: Actor, action: str, detail: dict[str, Any]) -> None:
    insert_event(
        connection,
        actor,
        action,
        object_type="provisioning_policy",
        object_id=1,
        detail=detail,
    )


def _window_of(policy: Policy, window_id: int) -> PlannedWindow:
    for window in policy.windows:
        if isinstance(window, PlannedWindow) and window.id == window_id:
            return window
    raise NotFound("There is no such window in the plan any more.")


def _as_values(window: off_peak.Window) -> dict[str, Any]:
    return {
        "days": "".join(map(str, sorted(window.days))),
        "from_minute": window.from_minute,
        "to_minute": window.to_minute,
    }


def _checked_window(days: Collection[int], from_minute: int, to_minute: int) -> dict[str, Any]:
    if not days or not set(days) <= set(range(1, 8)):
        raise InvalidInput("days", "Tick at least one day on which the window begins.")
    for field, minute in (("from_time", from_minute), ("to_time", to_minute)):
        if not 0 <= minute < off_peak.MINUTES_A_DAY:
            raise InvalidInput(field, "Write a time from 00:00 to 23:59.")
    return _as_values(off_peak.Window(frozenset(days), from_minute, to_minute))


def _check_day(day: date, policy: Policy) -> None:
    today = utcnow().astimezone(policy.zone).date()
    written = f"{day.day} {day:%B} {day.year}"
    if day < today:
        raise InvalidInput("day", f"{written} is over. Choose a date from today on.")
    if day.year > today.year + _YEARS_AHEAD:
        raise InvalidInput(
            "day",
            f"{written} is more than {_YEARS_AHEAD} years ahead. Choose a date until "
            f"{today.year + _YEARS_AHEAD}.",
        )
    if day in policy.exceptions:
        raise InvalidInput("day", f"{written} has an exception already. Remove that one first.")
    if len(policy.exceptions) >= MOST_EXCEPTIONS:
        raise InvalidInput(
            "day", f"There are {MOST_EXCEPTIONS} exceptions, which is the most. Remove one first."
        )


def _checked_text(field: str, label: str, text: str, limit: int) -> str:
    text = text.strip()
    if not is_storable(text):
        raise InvalidInput(field, f"{label} contains a character that cannot be seen.")
    if len(text) > limit:
        raise InvalidInput(field, f"{label} has {len(text):,} characters. The limit is {limit}.")
    return text


# --- The coming days ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Day:
    """The off-peak hours of a date in the policy's zone; `whole` is the date itself in UTC."""

    date: date
    whole: off_peak.Stretch
    hours: list[off_peak.Stretch]
    exception: bool | None
    note: str


def coming_days(policy: Policy, now: datetime, number: int = 7) -> list[Day]:
    """Today, by the clocks of the policy's zone, and the days after it."""
    today = now.astimezone(policy.zone).date()
    days = [today + timedelta(days=each) for each in range(number)]
    return [
        Day(
            date=day,
            whole=off_peak.bounds_of(day, policy.zone),
            hours=off_peak.hours_of(day, policy),
            exception=policy.exceptions.get(day),
            note=policy.notes.get(day, ""),
        )
        for day in days
    ]
