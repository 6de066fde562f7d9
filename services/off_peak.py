"""Off-peak hours: windows by weekday and exceptions by date, in the provider's time zone.

A window is one stretch of time, from one reading of the clock to another. A reading means the
first moment at which the clock shows it or has gone past it. So, where clocks are changed:

- a time that is skipped means the moment of the jump, and a window that lies wholly within the
  skipped hour does not happen that day;
- a time that comes twice means the first of the two. A window that ends between them is over
  then, and one that begins between them, or contains both, lasts that much longer;
- windows of which one ends where the other begins never overlap, and leave no gap.

An exception governs the hours of its date, from midnight to midnight, and not the window that
begins on it: a date without off-peak hours also ends the window of the evening before at midnight,
and a date that is off-peak all day does not keep the next morning from being what it always is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

MINUTES_A_DAY = 1440
_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)
_LOOK_AHEAD = 22
"""Days without an exception after which a window that does not come will not come: one a week may
fall into a skipped hour, and the clocks are not changed three weeks in a row."""


@dataclass(frozen=True, slots=True)
class Window:
    """Hours that begin on the ISO weekdays `days` (Monday is 1), in minutes after midnight.

    Where `to_minute` is not later than `from_minute` the window ends on the next day; equal ones
    are twenty-four hours.
    """

    days: frozenset[int]
    from_minute: int
    to_minute: int

    @property
    def ends_next_day(self) -> bool:
        return self.to_minute <= self.from_minute


@dataclass(frozen=True, slots=True)
class Schedule:
    """When it is off-peak. `exceptions` says of a date whether all of it is, or none."""

    zone: ZoneInfo
    windows: tuple[Window, ...]
    exceptions: Mapping[date, bool]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Off-peak time from `start` on and until before `end`, both aware UTC."""

    start: datetime
    end: datetime


def is_open(moment: datetime, schedule: Schedule) -> bool:
    """Whether `moment` (aware) is off-peak."""
    today = moment.astimezone(schedule.zone).date()
    return any(
        stretch.start <= moment < stretch.end
        for day in (today - _DAY, today, today + _DAY)
        for stretch in hours_of(day, schedule)
    )


def next_start(moment: datetime, schedule: Schedule) -> datetime | None:
    """The first off-peak moment from `moment` (aware) on, which may be itself; None: there is none.

    In UTC.
    """
    found = find_stretch(moment, schedule)
    return None if found is None else max(found.start, moment.astimezone(UTC))


def end_of(moment: datetime, schedule: Schedule) -> datetime | None:
    """When the off-peak time that `moment` lies in is over, in UTC.

    None when `moment` is not off-peak, or when no end is in sight for three weeks after the last
    exception.
    """
    found = find_stretch(moment, schedule)
    if found is None or found.start > moment or found.end >= _sight(moment, schedule):
        return None
    return found.end


def find_stretch(moment: datetime, schedule: Schedule) -> Stretch | None:
    """The off-peak time that `moment` (aware) lies in, else the next there is, else None.

    It is not looked back further than to yesterday's midnight, and not ahead beyond three weeks
    after the last exception.
    """
    for stretch in _stretches(moment, schedule):
        if stretch.end > moment:
            return stretch
    return None


def _stretches(moment: datetime, schedule: Schedule) -> Iterator[Stretch]:
    """The off-peak time from yesterday on, joined over midnights."""
    first = moment.astimezone(schedule.zone).date() - _DAY
    days = (_last_day(moment, schedule) - first).days
    joined: Stretch | None = None
    for number in range(days + 1):
        for part in hours_of(first + number * _DAY, schedule):
            if joined is not None and part.start == joined.end:
                joined = Stretch(joined.start, part.end)
                continue
            if joined is not None:
                yield joined
            joined = part
    if joined is not None:
        yield joined


def _last_day(moment: datetime, schedule: Schedule) -> date:
    today = moment.astimezone(schedule.zone).date()
    return max([today, *schedule.exceptions]) + _LOOK_AHEAD * _DAY


def _sight(moment: datetime, schedule: Schedule) -> datetime:
    return _midnight(_last_day(moment, schedule) + _DAY, schedule.zone)


def hours_of(day: date, schedule: Schedule) -> list[Stretch]:
    """The off-peak time of one date, in order and without overlaps, cut at both midnights."""
    midnight, end = _midnight(day, schedule.zone), _midnight(day + _DAY, schedule.zone)
    governed = schedule.exceptions.get(day)
    if governed is not None:
        return _union([Stretch(midnight, end)] if governed else [])
    parts = []
    for window in schedule.windows:
        to_time = moment_of(_reading(day, window.to_minute), schedule.zone)
        if window.ends_next_day and (day - _DAY).isoweekday() in window.days:
            parts.append(Stretch(midnight, to_time))
        if day.isoweekday() in window.days:
            start = moment_of(_reading(day, window.from_minute), schedule.zone)
            parts.append(Stretch(start, end if window.ends_next_day else to_time))
    return _union(parts)


def bounds_of(day: date, zone: ZoneInfo) -> Stretch:
    """A date from midnight to midnight: 23 to 25 hours, or none at all where it was skipped."""
    return Stretch(_midnight(day, zone), _midnight(day + _DAY, zone))


def _union(parts: Iterable[Stretch]) -> list[Stretch]:
    joined: list[Stretch] = []
    for part in sorted(parts, key=lambda part: part.start):
        if part.start >= part.end:
            continue
        if joined and part.start <= joined[-1].end:
            joined[-1] = Stretch(joined[-1].start, max(joined[-1].end, part.end))
        else:
            joined.append(part)
    return joined


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return moment_of(datetime.combine(day, time()), zone)


def _reading(day: date, minute: int) -> datetime:
    return datetime.combine(day, time(minute // 60, minute % 60))


def moment_of(reading: datetime, zone: ZoneInfo) -> datetime:
    """The first moment, in UTC, at which the clocks of `zone` show `reading` or have passed it.

    `reading` is naive.
    """
    before = reading.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if before.astimezone(zone).replace(tzinfo=None) == reading:
        return before
    # Skipped: read with the offset from before the jump it lies after the jump, and vice versa.
    low, high = reading.replace(tzinfo=zone, fold=1).astimezone(UTC), before
    while high - low > _SECOND:
        middle = low + (high - low) // _SECOND // 2 * _SECOND
        if middle.astimezone(zone).replace(tzinfo=None) < reading:
            low = middle
        else:
            high = middle
    return high
