"""Off-peak hours: a window is one stretch, whatever is done to the clocks while it lasts."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services import off_peak
from services.off_peak import Schedule, Window

EVERY_DAY = frozenset(range(1, 8))
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)

BRUSSELS, NEW_YORK, LORD_HOWE = "Europe/Brussels", "America/New_York", "Australia/Lord_Howe"


def minutes(written: str) -> int:
    hour, _, minute = written.partition(":")
    return int(hour) * 60 + int(minute)


def plan(
    zone: str,
    *windows: tuple[str, str],
    days: frozenset[int] = EVERY_DAY,
    exceptions: dict[date, bool] | None = None,
) -> Schedule:
    made = tuple(Window(days, minutes(start), minutes(end)) for start, end in windows)
    return Schedule(ZoneInfo(zone), made, exceptions or {})


def utc(written: str) -> datetime:
    return datetime.fromisoformat(written).replace(tzinfo=UTC)


def local(written: str, zone: str, fold: int = 0) -> datetime:
    return datetime.fromisoformat(written).replace(tzinfo=ZoneInfo(zone), fold=fold)


def hours(schedule: Schedule, day: str) -> list[str]:
    """The off-peak hours of a date as `03:00+02:00 to 06:00+02:00`, by its clocks."""
    return [
        f"{shown(stretch.start, schedule)} to {shown(stretch.end, schedule)}"
        for stretch in off_peak.hours_of(date.fromisoformat(day), schedule)
    ]


def shown(moment: datetime, schedule: Schedule) -> str:
    return moment.astimezone(schedule.zone).isoformat(timespec="minutes")[11:]


# --- An ordinary week --------------------------------------------------------------------------


def test_a_window_over_midnight_is_open_on_both_days() -> None:
    schedule = plan(BRUSSELS, ("22:00", "06:00"))
    for at, expected in (
        ("2026-01-15 21:59", False),
        ("2026-01-15 22:00", True),
        ("2026-01-16 00:00", True),
        ("2026-01-16 05:59", True),
        ("2026-01-16 06:00", False),
    ):
        assert off_peak.is_open(local(at, BRUSSELS), schedule) is expected, at


def test_days_are_those_on_which_a_window_begins() -> None:
    schedule = plan(BRUSSELS, ("22:00", "06:00"), days=frozenset({5}))  # Fridays
    assert off_peak.is_open(local("2026-01-17 05:59", BRUSSELS), schedule)  # Saturday morning
    assert not off_peak.is_open(local("2026-01-16 05:59", BRUSSELS), schedule)
    assert not off_peak.is_open(local("2026-01-17 22:30", BRUSSELS), schedule)


def test_equal_times_are_twenty_four_hours() -> None:
    schedule = plan(BRUSSELS, ("08:00", "08:00"), days=frozenset({6}))
    start = local("2026-01-17 08:00", BRUSSELS)
    assert off_peak.next_start(local("2026-01-14 12:00", BRUSSELS), schedule) == start
    assert off_peak.end_of(start, schedule) == local("2026-01-18 08:00", BRUSSELS)


def test_a_window_until_midnight_ends_there() -> None:
    schedule = plan(BRUSSELS, ("20:00", "00:00"), days=frozenset({1}))
    start = local("2026-01-12 20:00", BRUSSELS)
    assert off_peak.end_of(start, schedule) == local("2026-01-13 00:00", BRUSSELS)


def test_the_next_start_is_now_within_a_window_and_in_utc() -> None:
    schedule = plan(BRUSSELS, ("22:00", "06:00"))
    now = local("2026-01-15 23:15", BRUSSELS)
    found = off_peak.next_start(now, schedule)
    assert found == now
    assert found is not None
    assert found.tzinfo is UTC
    assert off_peak.next_start(local("2026-01-15 06:00", BRUSSELS), schedule) == local(
        "2026-01-15 22:00", BRUSSELS
    )


def test_windows_that_touch_or_overlap_are_one() -> None:
    schedule = plan(BRUSSELS, ("20:00", "23:00"), ("22:00", "02:00"), ("02:00", "05:00"))
    start = local("2026-01-15 20:00", BRUSSELS)
    assert off_peak.end_of(start, schedule) == local("2026-01-16 05:00", BRUSSELS)
    found = off_peak.find_stretch(local("2026-01-16 03:00", BRUSSELS), schedule)
    assert found is not None
    assert found.start == start


def test_without_hours_there_is_no_start() -> None:
    now = utc("2026-01-15 12:00")
    assert off_peak.next_start(now, plan(BRUSSELS)) is None
    assert off_peak.end_of(now, plan(BRUSSELS)) is None
    assert not off_peak.is_open(now, plan(BRUSSELS))


def test_what_is_always_off_peak_has_no_end() -> None:
    schedule = plan(BRUSSELS, ("00:00", "00:00"))
    now = utc("2026-01-15 12:00")
    assert off_peak.next_start(now, schedule) == now
    assert off_peak.end_of(now, schedule) is None


# --- Where clocks are changed ------------------------------------------------------------------

SPRING = {  # 02:00 is followed by 03:00, 03:00 and 02:30.
    BRUSSELS: "2026-03-29",
    NEW_YORK: "2026-03-08",
    LORD_HOWE: "2026-10-04",
}
AUTUMN = {  # 03:00 is followed by 02:00, 02:00 by 01:00, and 02:00 by 01:30.
    BRUSSELS: "2026-10-25",
    NEW_YORK: "2026-11-01",
    LORD_HOWE: "2026-04-05",
}


@pytest.mark.parametrize(
    ("zone", "window", "expected"),
    [
        (BRUSSELS, ("01:00", "04:00"), ["01:00+01:00 to 04:00+02:00"]),
        (BRUSSELS, ("02:30", "04:00"), ["03:00+02:00 to 04:00+02:00"]),
        (BRUSSELS, ("01:00", "02:30"), ["01:00+01:00 to 03:00+02:00"]),
        (BRUSSELS, ("02:00", "03:00"), []),
        (BRUSSELS, ("02:15", "02:45"), []),
        (NEW_YORK, ("01:00", "04:00"), ["01:00-05:00 to 04:00-04:00"]),
        (NEW_YORK, ("02:30", "04:00"), ["03:00-04:00 to 04:00-04:00"]),
        (NEW_YORK, ("01:00", "02:30"), ["01:00-05:00 to 03:00-04:00"]),
        (NEW_YORK, ("02:00", "03:00"), []),
        (LORD_HOWE, ("01:00", "04:00"), ["01:00+10:30 to 04:00+11:00"]),
        (LORD_HOWE, ("02:15", "04:00"), ["02:30+11:00 to 04:00+11:00"]),
        (LORD_HOWE, ("01:00", "02:15"), ["01:00+10:30 to 02:30+11:00"]),
        (LORD_HOWE, ("02:00", "02:30"), []),
        (LORD_HOWE, ("02:00", "03:00"), ["02:30+11:00 to 03:00+11:00"]),
    ],
)
def test_a_time_that_is_skipped_means_the_moment_of_the_jump(
    zone: str, window: tuple[str, str], expected: list[str]
) -> None:
    assert hours(plan(zone, window), SPRING[zone]) == expected


@pytest.mark.parametrize(
    ("zone", "window", "expected"),
    [
        (BRUSSELS, ("01:00", "04:00"), ["01:00+02:00 to 04:00+01:00"]),
        (BRUSSELS, ("02:30", "04:00"), ["02:30+02:00 to 04:00+01:00"]),
        (BRUSSELS, ("01:00", "02:30"), ["01:00+02:00 to 02:30+02:00"]),
        (BRUSSELS, ("02:15", "02:45"), ["02:15+02:00 to 02:45+02:00"]),
        (BRUSSELS, ("02:00", "03:00"), ["02:00+02:00 to 03:00+01:00"]),
        (NEW_YORK, ("00:30", "04:00"), ["00:30-04:00 to 04:00-05:00"]),
        (NEW_YORK, ("01:30", "04:00"), ["01:30-04:00 to 04:00-05:00"]),
        (NEW_YORK, ("00:30", "01:30"), ["00:30-04:00 to 01:30-04:00"]),
        (NEW_YORK, ("01:00", "02:00"), ["01:00-04:00 to 02:00-05:00"]),
        (LORD_HOWE, ("01:00", "04:00"), ["01:00+11:00 to 04:00+10:30"]),
        (LORD_HOWE, ("01:45", "04:00"), ["01:45+11:00 to 04:00+10:30"]),
        (LORD_HOWE, ("01:00", "01:45"), ["01:00+11:00 to 01:45+11:00"]),
        (LORD_HOWE, ("01:30", "02:00"), ["01:30+11:00 to 02:00+10:30"]),
    ],
)
def test_a_time_that_comes_twice_means_the_first_of_the_two(
    zone: str, window: tuple[str, str], expected: list[str]
) -> None:
    assert hours(plan(zone, window), AUTUMN[zone]) == expected


@pytest.mark.parametrize(
    ("changes", "zone", "length"),
    [
        (SPRING, BRUSSELS, 7.0),
        (SPRING, NEW_YORK, 7.0),
        (SPRING, LORD_HOWE, 7.5),
        (AUTUMN, BRUSSELS, 9.0),
        (AUTUMN, NEW_YORK, 9.0),
        (AUTUMN, LORD_HOWE, 8.5),
    ],
)
def test_a_night_is_as_long_as_its_clocks_make_it(
    changes: dict[str, str], zone: str, length: float
) -> None:
    schedule = plan(zone, ("22:00", "06:00"))
    noon = local(f"{changes[zone]} 12:00", zone) - DAY
    start = off_peak.next_start(noon, schedule)
    assert start is not None
    end = off_peak.end_of(start, schedule)
    assert end is not None
    assert end - start == timedelta(hours=length)
    assert end == local(f"{changes[zone]} 06:00", zone)


@pytest.mark.parametrize("fold", [0, 1])
def test_both_passes_of_an_hour_are_told_apart(fold: int) -> None:
    """02:30 of the second pass lies behind a window that ended at 02:15 of the first."""
    schedule = plan(BRUSSELS, ("01:00", "02:15"))
    assert off_peak.is_open(local("2026-10-25 02:10", BRUSSELS, fold), schedule) is (fold == 0)


def test_a_week_without_its_only_window_leads_to_the_next() -> None:
    schedule = plan(BRUSSELS, ("02:00", "03:00"), days=frozenset({7}))
    now = local("2026-03-28 12:00", BRUSSELS)
    assert off_peak.next_start(now, schedule) == local("2026-04-05 02:00", BRUSSELS)


def test_days_begin_where_their_midnight_is_skipped_or_comes_twice() -> None:
    # Havana: 00:00 is followed by 01:00 in spring, and 01:00 by 00:00 in autumn.
    whole = plan("America/Havana", ("00:00", "00:00"), days=frozenset({7}))
    assert hours(whole, "2026-03-08") == ["01:00-04:00 to 00:00-04:00"]
    assert hours(whole, "2026-11-01") == ["00:00-04:00 to 00:00-05:00"]
    # Samoa went without 30 December 2011.
    assert hours(plan("Pacific/Apia", ("08:00", "18:00")), "2011-12-30") == []


def test_clocks_that_are_put_back_over_midnight_do_not_reopen_the_evening() -> None:
    """St. John's: 00:01 of 7 November 2010 was followed by 23:01 of the 6th once more."""
    zone = "America/St_Johns"
    morning = plan(zone, ("00:00", "06:00"), days=frozenset({7}))
    evening = plan(zone, ("22:00", "00:00"), days=frozenset({6}))
    for fold, schedule in ((0, evening), (1, morning)):
        half_past_eleven = local("2010-11-06 23:30", zone, fold).astimezone(UTC)
        assert off_peak.is_open(half_past_eleven, schedule)
        assert off_peak.next_start(half_past_eleven, schedule) == half_past_eleven
    assert not off_peak.is_open(local("2010-11-06 23:30", zone, 1), evening)
    assert not off_peak.is_open(local("2010-11-06 23:30", zone, 0), morning)


# --- Exceptions --------------------------------------------------------------------------------


def test_an_exception_governs_the_hours_of_its_date() -> None:
    """24 December without, 25 December all day: the evenings before and the nights after stay."""
    schedule = plan(
        BRUSSELS,
        ("22:00", "06:00"),
        exceptions={date(2026, 12, 24): False, date(2026, 12, 25): True},
    )
    assert hours(schedule, "2026-12-23") == [
        "00:00+01:00 to 06:00+01:00",
        "22:00+01:00 to 00:00+01:00",
    ]
    assert hours(schedule, "2026-12-24") == []
    assert hours(schedule, "2026-12-25") == ["00:00+01:00 to 00:00+01:00"]
    evening = local("2026-12-23 22:30", BRUSSELS)
    assert off_peak.end_of(evening, schedule) == local("2026-12-24 00:00", BRUSSELS)
    holiday = local("2026-12-25 00:00", BRUSSELS)
    assert off_peak.next_start(local("2026-12-24 00:00", BRUSSELS), schedule) == holiday
    # The night after begins on a day of its own rules, but its hours are those of the 26th.
    assert off_peak.end_of(holiday, schedule) == local("2026-12-26 06:00", BRUSSELS)


def test_exceptions_alone_are_hours_too_however_far_ahead() -> None:
    schedule = plan(BRUSSELS, exceptions={date(2030, 5, 1): True})
    now = utc("2026-01-15 12:00")
    start = local("2030-05-01 00:00", BRUSSELS)
    assert off_peak.next_start(now, schedule) == start
    assert off_peak.end_of(start, schedule) == local("2030-05-02 00:00", BRUSSELS)


def test_a_start_beyond_months_of_exceptions_is_found() -> None:
    closed = {date(2026, 1, 1) + number * DAY: False for number in range(200)}
    schedule = plan(BRUSSELS, ("22:00", "23:00"), days=frozenset({1}), exceptions=closed)
    assert off_peak.next_start(utc("2026-01-01 00:00"), schedule) == local(
        "2026-07-20 22:00", BRUSSELS
    )


# --- Against an oracle -------------------------------------------------------------------------

CHANGES = {
    BRUSSELS: ("2026-03-29", "2026-10-25"),
    NEW_YORK: ("2026-03-08", "2026-11-01"),
    LORD_HOWE: ("2026-04-05", "2026-10-04"),
    "America/Havana": ("2026-03-08", "2026-11-01"),
    "America/St_Johns": ("2010-03-14", "2010-11-07"),
    "Pacific/Apia": ("2011-12-30", "2012-04-01"),
    "UTC": ("2026-01-01", "2026-06-01"),
}


@cache
def slow_clock(zone: str, day: str) -> list[tuple[datetime, datetime]]:
    """Every minute from two days before a change to three after, as (moment, reading).

    The reading is of a clock that is never put back: it stands still until time has caught up.
    """
    start = utc(day) - 2 * DAY
    highest = datetime.min  # noqa: DTZ901 - a reading of a clock, which has no zone
    found = []
    for number in range(5 * 1440):
        moment = start + number * MINUTE
        highest = max(highest, moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None))
        found.append((moment, highest))
    return found


def is_open_by_the_clock(reading: datetime, schedule: Schedule) -> bool:
    """Whether a clock that shows `reading` is within a window, with no thought of its changes."""
    governed = schedule.exceptions.get(reading.date())
    if governed is not None:
        return governed
    for days_ago, window in itertools.product((0, 1), schedule.windows):
        day = reading.date() - days_ago * DAY
        minute = reading.hour * 60 + reading.minute + days_ago * 1440
        end = window.to_minute + (1440 if window.to_minute <= window.from_minute else 0)
        if day.isoweekday() in window.days and window.from_minute <= minute < end:
            return True
    return False


# Minutes near the changes and near midnight are drawn more often than others.
a_minute = st.one_of(
    st.integers(0, 1439), st.integers(0, 240), st.sampled_from([0, 60, 90, 119, 120, 150, 180])
)
some_windows = st.lists(
    st.builds(Window, st.frozensets(st.integers(1, 7), min_size=1), a_minute, a_minute), max_size=3
)


@st.composite
def schedules(draw: st.DrawFn) -> tuple[str, Schedule]:
    zone = draw(st.sampled_from(sorted(CHANGES)))
    day = draw(st.sampled_from(CHANGES[zone]))
    near = st.integers(-2, 3).map(lambda days: date.fromisoformat(day) + days * DAY)
    exceptions = draw(st.dictionaries(near, st.booleans(), max_size=3))
    return day, Schedule(ZoneInfo(zone), tuple(draw(some_windows)), exceptions)


@settings(deadline=None)
@given(schedules(), st.lists(st.integers(0, 5 * 1440 - 1), max_size=5))
def test_every_edge_is_where_a_slow_clock_has_it(
    drawn: tuple[str, Schedule], samples: list[int]
) -> None:
    day, schedule = drawn
    clock = slow_clock(schedule.zone.key, day)
    opened = [is_open_by_the_clock(reading, schedule) for _, reading in clock]
    beyond = clock[-1][0] + MINUTE
    edges = [number for number in range(1, len(clock)) if opened[number] is not opened[number - 1]]
    next_opened, next_closed = beyond, beyond
    following: list[tuple[datetime, datetime]] = []
    for (moment, _), is_open in zip(reversed(clock), reversed(opened), strict=True):
        next_opened, next_closed = (moment, next_closed) if is_open else (next_opened, moment)
        following.append((next_opened, next_closed))
    following.reverse()

    for number in edges:  # Not a moment earlier, either.
        before = clock[number][0] - timedelta(microseconds=1)
        assert off_peak.is_open(before, schedule) is opened[number - 1], before
    for number in [*edges, *samples]:
        moment = clock[number][0]
        assert off_peak.is_open(moment, schedule) is opened[number], moment
        start, end = following[number]
        found = off_peak.next_start(moment, schedule)
        assert found == start or (start == beyond and (found is None or found >= beyond))
        found = off_peak.end_of(moment, schedule)
        if opened[number]:
            assert found == end or (end == beyond and (found is None or found >= beyond))
        else:
            assert found is None


@given(schedules())
def test_the_hours_of_a_date_are_in_order_within_it_and_apart(drawn: tuple[str, Schedule]) -> None:
    day, schedule = drawn
    for number in range(-3, 8):
        each = date.fromisoformat(day) + number * DAY
        whole = off_peak.bounds_of(each, schedule.zone)
        found = off_peak.hours_of(each, schedule)
        assert all(stretch.start < stretch.end for stretch in found)
        assert all(one.end < other.start for one, other in itertools.pairwise(found))
        assert all(whole.start <= part.start and part.end <= whole.end for part in found)
