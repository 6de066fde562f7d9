"""The plan of provisioning: one version at a time, and one switch that holds everything."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db, queues
from models import AuditEvent, OffPeakException, RequestState, Role, utcnow
from services import off_peak, provisioning_policy
from services.actors import Actor
from services.errors import Conflict, Forbidden, InvalidInput, NotFound
from services.off_peak import Window
from tests.support.factories import actor_for, make_group, make_user
from tests.support.requests import actor_of, make_operator, make_request, make_service_template

LANDLORD = "landlord@foyer.example"
NIGHT: dict[str, Any] = {"days": frozenset({1, 2, 3}), "from_minute": 1320, "to_minute": 360}
TOMORROW = utcnow().date() + timedelta(days=2)

one_database = pytest.mark.parametrize("engine_name", ["sqlite"])


@pytest.fixture
def landlord(app_context: Flask) -> Actor:
    return actor_for(LANDLORD)


def version() -> int:
    return provisioning_policy.load().version


def windows() -> list[Window]:
    return [
        Window(each.days, each.from_minute, each.to_minute)
        for each in provisioning_policy.load().windows
    ]


def events() -> list[str]:
    return list(
        db.session.scalars(
            sa.select(AuditEvent.action)
            .where(AuditEvent.object_type == "provisioning_policy")
            .order_by(AuditEvent.id)
        )
    )


# --- The plan ----------------------------------------------------------------------------------


def test_nights_are_off_peak_until_somebody_says_otherwise(app_context: Flask) -> None:
    policy = provisioning_policy.load()
    assert (policy.zone.key, policy.max_runs, policy.paused) == ("UTC", 4, False)
    assert windows() == [Window(frozenset(range(1, 8)), 1320, 360)]


def test_windows_are_added_changed_and_removed(landlord: Actor) -> None:
    provisioning_policy.add_window(landlord, version=version(), **NIGHT)
    (added,) = (each for each in provisioning_policy.load().windows if each.days == NIGHT["days"])
    assert isinstance(added, provisioning_policy.PlannedWindow)
    provisioning_policy.change_window(
        landlord, added.id, version=version(), days={6, 7}, from_minute=0, to_minute=0
    )
    assert Window(frozenset({6, 7}), 0, 0) in windows()
    assert Window(**NIGHT) not in windows()
    provisioning_policy.remove_window(landlord, added.id, version=version())
    assert len(windows()) == 1
    assert events() == [
        "off_peak_window.added",
        "off_peak_window.changed",
        "off_peak_window.removed",
    ]


def test_a_date_gets_rules_of_its_own_and_loses_them(landlord: Actor) -> None:
    provisioning_policy.add_exception(
        landlord, version=version(), day=TOMORROW, all_day=False, note="Move of the data centre"
    )
    policy = provisioning_policy.load()
    assert policy.exceptions == {TOMORROW: False}
    assert policy.notes[TOMORROW] == "Move of the data centre"
    assert off_peak.hours_of(TOMORROW, policy) == []
    provisioning_policy.remove_exception(landlord, TOMORROW, version=version())
    assert provisioning_policy.load().exceptions == {}
    with pytest.raises(NotFound):
        provisioning_policy.remove_exception(landlord, TOMORROW, version=version())


def test_exceptions_that_are_over_are_no_burden(landlord: Actor) -> None:
    db.session.add(OffPeakException(day=date(2020, 1, 1), all_day=True))
    db.session.commit()
    assert provisioning_policy.load().exceptions == {}


def test_zone_and_cap_change_together(landlord: Actor) -> None:
    provisioning_policy.change_limits(
        landlord, version=version(), time_zone="Australia/Lord_Howe", max_runs=9
    )
    policy = provisioning_policy.load()
    assert (policy.zone.key, policy.max_runs) == ("Australia/Lord_Howe", 9)
    detail = db.session.scalars(
        sa.select(AuditEvent.detail).where(AuditEvent.action == "provisioning_limits.changed")
    ).one()
    assert detail == {
        "before": {"time_zone": "UTC", "max_runs": 4},
        "after": {"time_zone": "Australia/Lord_Howe", "max_runs": 9},
    }


CHANGES: dict[str, Callable[[Actor, int], None]] = {
    "limits": lambda actor, seen: provisioning_policy.change_limits(
        actor, version=seen, time_zone="Europe/Brussels", max_runs=5
    ),
    "new window": lambda actor, seen: provisioning_policy.add_window(actor, version=seen, **NIGHT),
    "window": lambda actor, seen: provisioning_policy.change_window(
        actor, first_window_id(), version=seen, **NIGHT
    ),
    "no window": lambda actor, seen: provisioning_policy.remove_window(
        actor, first_window_id(), version=seen
    ),
    "exception": lambda actor, seen: provisioning_policy.add_exception(
        actor, version=seen, day=TOMORROW, all_day=True, note=""
    ),
    "no exception": lambda actor, seen: provisioning_policy.remove_exception(
        actor, TOMORROW, version=seen
    ),
}


def first_window_id() -> int:
    window = provisioning_policy.load().windows[0]
    assert isinstance(window, provisioning_policy.PlannedWindow)
    return window.id


@pytest.mark.parametrize("change", CHANGES)
def test_of_two_editors_the_second_is_told(landlord: Actor, change: str) -> None:
    seen = version()
    provisioning_policy.add_window(landlord, version=seen, days={7}, from_minute=60, to_minute=120)
    before = (windows(), provisioning_policy.load())
    with pytest.raises(Conflict, match="Somebody else changed the plan"):
        CHANGES[change](landlord, seen)
    assert (windows(), provisioning_policy.load()) == before
    assert len(events()) == 1


def test_two_changes_at_the_same_moment_are_one(app_context: Flask, landlord: Actor) -> None:
    seen, gate = version(), threading.Barrier(4)
    results: list[str] = []

    def change(number: int) -> None:
        with app_context.app_context():
            gate.wait()
            try:
                provisioning_policy.add_window(
                    landlord, version=seen, days={1}, from_minute=number, to_minute=120
                )
                results.append("done")
            except Conflict:
                results.append("told")

    threads = [threading.Thread(target=change, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["done", "told", "told", "told"]
    assert len(windows()) == 2


@one_database
@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("days", {"days": frozenset()}),
        ("days", {"days": {0}}),
        ("days", {"days": {8}}),
        ("from_time", {"from_minute": -1}),
        ("from_time", {"from_minute": 1440}),
        ("to_time", {"to_minute": 1440}),
        ("to_time", {"to_minute": 10**30}),
    ],
)
def test_a_window_that_is_none_is_refused(
    landlord: Actor, field: str, values: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput) as caught:
        provisioning_policy.add_window(landlord, version=version(), **(NIGHT | values))
    assert caught.value.field == field
    assert len(windows()) == 1


@one_database
@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("time_zone", {"time_zone": "Europe/Atlantis"}),
        ("time_zone", {"time_zone": ""}),
        ("time_zone", {"time_zone": "../../etc/passwd"}),
        ("time_zone", {"time_zone": "\ud800"}),
        ("max_runs", {"max_runs": 0}),
        ("max_runs", {"max_runs": 101}),
        ("max_runs", {"max_runs": 10**30}),
    ],
)
def test_limits_that_are_none_are_refused(
    landlord: Actor, field: str, values: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput) as caught:
        provisioning_policy.change_limits(
            landlord, version=version(), **{"time_zone": "UTC", "max_runs": 4, **values}
        )
    assert caught.value.field == field
    assert events() == []


@one_database
@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("day", {"day": date(2020, 2, 29)}),
        ("day", {"day": date.min}),
        ("day", {"day": date.max}),
        ("note", {"note": "x" * 101}),
        ("note", {"note": "\0"}),
        ("note", {"note": "\ud800"}),
    ],
)
def test_an_exception_that_is_none_is_refused(
    landlord: Actor, field: str, values: dict[str, Any]
) -> None:
    given = {"day": TOMORROW, "all_day": True, "note": "", **values}
    with pytest.raises(InvalidInput) as caught:
        provisioning_policy.add_exception(landlord, version=version(), **given)
    assert caught.value.field == field
    assert provisioning_policy.load().exceptions == {}


@one_database
def test_a_date_has_one_exception_and_the_plan_has_its_limits(
    landlord: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add(day: date) -> None:
        provisioning_policy.add_exception(
            landlord, version=version(), day=day, all_day=True, note=""
        )

    add(TOMORROW)
    with pytest.raises(InvalidInput, match="has an exception already"):
        add(TOMORROW)
    monkeypatch.setattr(provisioning_policy, "MOST_EXCEPTIONS", 1)
    with pytest.raises(InvalidInput, match="which is the most"):
        add(TOMORROW + timedelta(days=1))
    monkeypatch.setattr(provisioning_policy, "MOST_WINDOWS", 1)
    with pytest.raises(InvalidInput, match="which is the most"):
        provisioning_policy.add_window(landlord, version=version(), **NIGHT)


@one_database
@pytest.mark.parametrize("change", CHANGES)
def test_only_a_landlord_plans(app_context: Flask, change: str) -> None:
    for actor in (actor_for("operator@foyer.example"), actor_for("auditor@foyer.example")):
        with pytest.raises(Forbidden):
            CHANGES[change](actor, version())
    assert events() == []


# --- The start ---------------------------------------------------------------------------------


def test_an_off_peak_start_is_now_within_a_window_or_when_the_next_begins(
    app_context: Flask,
) -> None:
    noon = datetime(2026, 1, 15, 12, tzinfo=UTC)
    assert provisioning_policy.plan_start(noon) == datetime(2026, 1, 15, 22, tzinfo=UTC)
    night = datetime(2026, 1, 15, 23, 30, tzinfo=UTC)
    assert provisioning_policy.plan_start(night) == night


def test_without_off_peak_hours_no_start_can_be_planned(landlord: Actor) -> None:
    provisioning_policy.remove_window(landlord, first_window_id(), version=version())
    with pytest.raises(Conflict, match="No off-peak hours are planned"):
        provisioning_policy.plan_start(utcnow())


def test_the_policy_is_read_within_a_transaction_too(landlord: Actor) -> None:
    with db.engine.connect() as connection:
        assert provisioning_policy.load(connection).max_runs == 4
        noon = datetime(2026, 1, 15, 12, tzinfo=UTC)
        assert provisioning_policy.plan_start(noon, connection).hour == 22


# --- The switch --------------------------------------------------------------------------------


def test_pausing_says_since_when_by_whom_and_why(app_context: Flask) -> None:
    operator = actor_for("operator@foyer.example")
    assert provisioning_policy.find_pause() is None
    before = utcnow()
    provisioning_policy.pause(operator, reason=" The platform is being moved. ")
    pause = provisioning_policy.find_pause()
    assert pause is not None
    assert pause == provisioning_policy.load().pause
    assert before <= pause.at <= utcnow()
    assert pause.reason == "The platform is being moved."
    user = db.session.get_one(type(make_user(role=Role.AUDITOR)), operator.user_id)
    assert pause.by == user.full_name
    provisioning_policy.resume(operator)
    assert provisioning_policy.find_pause() is None
    assert not provisioning_policy.load().paused
    assert events() == ["provisioning.paused", "provisioning.resumed"]


def test_a_pause_from_a_terminal_has_nobodys_name(app_context: Flask) -> None:
    provisioning_policy.pause(Actor.from_terminal("ops"), reason="Fire")
    pause = provisioning_policy.find_pause()
    assert pause is not None
    assert pause.by == ""


def test_the_second_who_pauses_or_goes_on_is_told(landlord: Actor) -> None:
    provisioning_policy.pause(landlord, reason="First")
    with pytest.raises(Conflict, match="already"):
        provisioning_policy.pause(actor_for("operator@foyer.example"), reason="Second")
    pause = provisioning_policy.find_pause()
    assert pause is not None
    assert pause.reason == "First"
    provisioning_policy.resume(landlord)
    with pytest.raises(Conflict):
        provisioning_policy.resume(landlord)
    assert len(events()) == 2


def test_pausing_does_not_disturb_who_edits_the_plan(landlord: Actor) -> None:
    seen = version()
    provisioning_policy.pause(landlord, reason="Now")
    provisioning_policy.add_window(landlord, version=seen, **NIGHT)
    assert len(windows()) == 2
    assert provisioning_policy.find_pause() is not None


def test_going_on_looks_at_once_for_what_is_due(landlord: Actor) -> None:
    provisioning_policy.pause(landlord, reason="Now")
    assert queues["interactive"].jobs == []
    provisioning_policy.resume(landlord)
    assert [job.func_name for job in queues["interactive"].jobs] == ["jobs.sweeps.sweep"]


@one_database
@pytest.mark.parametrize("reason", ["", "  ", "x" * 501, "\0", "\ud800"])
def test_a_pause_needs_a_reason(landlord: Actor, reason: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        provisioning_policy.pause(landlord, reason=reason)
    assert caught.value.field == "reason"
    assert provisioning_policy.find_pause() is None


@one_database
def test_who_works_for_some_groups_does_not_hold_all(landlord: Actor) -> None:
    limited = actor_of(make_operator(make_group()))
    assert not provisioning_policy.may_pause(limited)
    assert provisioning_policy.may_pause(landlord)
    for actor in (limited, actor_for("auditor@foyer.example")):
        with pytest.raises(Forbidden):
            provisioning_policy.pause(actor, reason="Mine")
    provisioning_policy.pause(landlord, reason="All")
    with pytest.raises(Forbidden):
        provisioning_policy.resume(limited)
    assert provisioning_policy.find_pause() is not None


# --- The load ----------------------------------------------------------------------------------


def test_what_waits_is_counted_within_the_scope(landlord: Actor) -> None:
    mine, theirs = make_service_template(), make_service_template()
    due, soon, sooner = (utcnow() + timedelta(hours=hours) for hours in (-1, 3, 2))
    for service, when in ((mine, due), (mine, soon), (theirs, due), (theirs, sooner)):
        request = make_request(RequestState.SCHEDULED, service)
        request.scheduled_for = when
        db.session.commit()
    before = provisioning_policy.measure_load(landlord)
    assert before.scheduled >= 4
    assert before.due >= 2
    limited = actor_of(make_operator(mine.group))
    load = provisioning_policy.measure_load(limited)
    assert (load.due, load.scheduled, load.next_at) == (1, 2, soon)


@one_database
def test_who_may_not_see_provisioning_does_not_see_its_load(app_context: Flask) -> None:
    with pytest.raises(Forbidden):
        provisioning_policy.measure_load(actor_of(make_user(role=Role.PROSPECT)))


# --- The coming days ---------------------------------------------------------------------------


def test_the_coming_days_begin_with_today_of_the_policys_zone(landlord: Actor) -> None:
    provisioning_policy.change_limits(
        landlord, version=version(), time_zone="Pacific/Auckland", max_runs=4
    )
    now = datetime(2026, 9, 25, 18, tzinfo=UTC)  # It is the 26th there; clocks change on the 27th.
    days = provisioning_policy.coming_days(provisioning_policy.load(), now)
    assert [each.date.day for each in days] == [26, 27, 28, 29, 30, 1, 2]
    lengths = [(each.whole.end - each.whole.start) / timedelta(hours=1) for each in days]
    assert lengths == [24, 23, 24, 24, 24, 24, 24]
