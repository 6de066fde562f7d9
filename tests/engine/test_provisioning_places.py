"""The pause, the cap, leases, time slices and off-peak windows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from config import Settings
from connectors.local import LocalConnector
from extensions import db
from models import (
    NotificationKind,
    OffPeakWindow,
    ProvisioningRun,
    RequestNotification,
    RequestState,
    RequestTransition,
    StepName,
    StepState,
    utcnow,
)
from services import provisioning, provisioning_leases, provisioning_runs
from services.provisioning_steps import STEPS
from tests.support.provisioning import (
    check_completed,
    check_gone,
    count,
    customer_of,
    fresh,
    make_due,
    make_runs_due,
    make_version,
    order_platform,
    roll_back,
    run_of,
    set_policy,
    state_of,
    step_states,
    steps_of,
)

# --- The pause, the cap and time slices --------------------------------------------------------


def test_a_pause_holds_what_has_not_begun(app_context: Flask, settings: Settings) -> None:
    request_id = make_due(settings=settings)
    set_policy(paused_at=utcnow())
    assert provisioning.provision(request_id) is None
    assert provisioning.list_due() == []
    assert state_of(request_id) is RequestState.SCHEDULED
    set_policy(paused_at=None)
    assert provisioning.list_due() == [request_id]


def test_a_pause_holds_between_two_steps(
    app_context: Flask, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = LocalConnector.create_tenant

    def pause_meanwhile(self: LocalConnector, *arguments: Any) -> str:
        set_policy(paused_at=utcnow())
        return original(self, *arguments)

    monkeypatch.setattr(LocalConnector, "create_tenant", pause_meanwhile)
    request_id = make_due(settings=settings)
    assert provisioning.provision(request_id) is None
    assert step_states(request_id)[3:5] == [StepState.DONE, StepState.PENDING]
    assert run_of(request_id).lease_token is None
    make_runs_due()
    assert provisioning.provision(request_id) is None
    assert step_states(request_id)[3:5] == [StepState.DONE, StepState.PENDING]
    set_policy(paused_at=None)
    provisioning.provision(request_id)
    check_completed([request_id])


def test_a_pause_holds_a_roll_back_too(app_context: Flask, settings: Settings, faulty: int) -> None:
    order_platform(settings, {"operation": "health", "do": "refuse"})
    provisioning.provision(faulty)
    roll_back(faulty)
    set_policy(paused_at=utcnow())
    provisioning.provision(faulty)
    assert StepState.UNDONE not in step_states(faulty)
    set_policy(paused_at=None)
    provisioning.provision(faulty)
    check_gone(faulty)


def test_runs_that_are_held_fill_the_places(app_context: Flask, settings: Settings) -> None:
    version = make_version()
    first, second, third = (make_due(version, settings=settings) for _ in range(3))
    set_policy(max_runs=2)
    held = [provisioning_leases.claim(each) for each in (first, second)]
    assert all(held)
    assert provisioning_leases.claim(third) is None
    assert provisioning.provision(third) is None
    assert provisioning.list_due() == []
    set_policy(max_runs=3)
    assert provisioning.list_due() == [third]
    assert provisioning_leases.claim(first) is None, "somebody holds it"
    set_policy(max_runs=2)
    make_runs_due()
    assert provisioning.list_due() == [first, second]
    set_policy(max_runs=1)
    assert provisioning.list_due() == [first]
    for each in (first, second, third):
        provisioning.provision(each)
    check_completed([first, second, third])


def test_places_are_given_out_one_at_a_time(app: Flask, settings: Settings) -> None:
    """Twelve workers ask at the same moment for twelve requests: three of them get one."""
    with app.app_context():
        version = make_version()
        request_ids = [make_due(version, settings=settings) for _ in range(12)]
        set_policy(max_runs=3)
        db.session.remove()
    together, held = threading.Barrier(12), []

    def take(request_id: int) -> None:
        with app.app_context():
            together.wait()
            held.append(provisioning_leases.claim(request_id))
            db.session.remove()

    threads = [threading.Thread(target=take, args=(each,)) for each in request_ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([lease for lease in held if lease is not None]) == 3
    with app.app_context():
        assert count(ProvisioningRun) == 3


def test_one_request_is_taken_by_one_worker(app: Flask, settings: Settings) -> None:
    with app.app_context():
        request_id = make_due(settings=settings)
        set_policy(max_runs=50)
        db.session.remove()
    together, held = threading.Barrier(8), []

    def take() -> None:
        with app.app_context():
            together.wait()
            held.append(provisioning_leases.claim(request_id))
            db.session.remove()

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([lease for lease in held if lease is not None]) == 1


def test_a_worker_that_was_asleep_writes_nothing_any_more(
    app_context: Flask, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease ran out, whether or not somebody else has taken the run since."""
    original = LocalConnector.create_tenant

    def sleep(self: LocalConnector, *arguments: Any) -> str:
        answer = original(self, *arguments)
        make_runs_due()
        return answer

    monkeypatch.setattr(LocalConnector, "create_tenant", sleep)
    request_id = make_due(settings=settings)
    provisioning.provision(request_id)
    step = steps_of(request_id)[StepName.CREATE_ON_PLATFORM]
    assert (step.state, customer_of(request_id).platform_reference) == (StepState.RUNNING, "")
    monkeypatch.undo()
    provisioning.provision(request_id)
    check_completed([request_id])


def test_a_lease_is_renewed_while_the_platform_takes_its_time(
    app_context: Flask,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []

    def look(self: LocalConnector, *_: object) -> str:
        lease = sa.select(ProvisioningRun.lease_expires_at)
        with db.engine.connect() as connection:
            first = connection.scalar(lease)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with db.engine.connect() as connection:
                now = connection.scalar(lease)
            if now != first:
                seen.append(now)
                break
            time.sleep(0.05)
        return "renewed"

    monkeypatch.setattr(LocalConnector, "create_tenant", look)
    request_id = make_due(settings=settings)
    provisioning.provision(request_id)
    assert seen


def test_mails_that_somebody_waits_for_go_first(
    app_context: Flask, settings: Settings, work: Callable[[], None]
) -> None:
    """A slice ends after the step it is at, and what it left is asked for again."""
    request_id = make_due(settings=settings)
    following = provisioning.provision(request_id, lambda: True)
    assert following == request_id
    assert step_states(request_id)[:2] == [StepState.DONE, StepState.PENDING]
    assert run_of(request_id).lease_token is None
    provisioning.start(request_id)
    work()
    check_completed([request_id])


def test_a_long_slice_gives_others_their_turn(
    app_context: Flask, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provisioning_runs, "SLICE_SECONDS", 0.0)
    request_id = make_due(settings=settings)
    for _ in STEPS:
        assert state_of(request_id) is not RequestState.COMPLETED
        provisioning.provision(request_id)
    check_completed([request_id])


# --- Off-peak ----------------------------------------------------------------------------------


def plan_window(starts_in: int, minutes: int = 30) -> None:
    """One window a day, in UTC, that begins in so many minutes."""
    start = utcnow() + timedelta(minutes=starts_in)
    begin = start.hour * 60 + start.minute
    db.session.execute(sa.delete(OffPeakWindow))
    db.session.add(
        OffPeakWindow(days="1234567", from_minute=begin, to_minute=(begin + minutes) % 1440)
    )
    set_policy(time_zone="UTC")


def test_off_peak_requests_start_inside_a_window(app_context: Flask, settings: Settings) -> None:
    request_id = make_due(settings=settings, off_peak=True)
    plan_window(starts_in=-10)
    assert provisioning.replan_missed() == 0
    assert provisioning.list_due() == [request_id]
    provisioning.provision(request_id)
    check_completed([request_id])


@pytest.mark.parametrize("paused", [True, False])
def test_one_that_missed_its_window_is_put_into_the_next(
    app_context: Flask, settings: Settings, paused: bool
) -> None:
    missed = make_due(settings=settings, off_peak=True)
    at_once = make_due(settings=settings)
    plan_window(starts_in=60)
    set_policy(paused_at=utcnow() if paused else None)
    assert provisioning.provision(missed) == (None if paused else at_once)
    assert state_of(missed) is RequestState.SCHEDULED
    assert provisioning.replan_missed() == 1
    assert provisioning.replan_missed() == 0
    request = fresh(missed)
    assert request.off_peak
    assert request.scheduled_for is not None
    wait = request.scheduled_for - utcnow()
    assert timedelta(minutes=58) < wait <= timedelta(minutes=60)
    last = db.session.scalars(
        sa.select(RequestTransition)
        .where(RequestTransition.request_id == missed)
        .order_by(RequestTransition.id.desc())
        .limit(1)
    ).one()
    assert (last.from_state, last.to_state) == (RequestState.SCHEDULED, RequestState.SCHEDULED)
    assert ("paused" in last.reason) == paused
    told = db.session.scalars(
        sa.select(RequestNotification.kind).where(RequestNotification.request_id == missed)
    ).all()
    assert told == [NotificationKind.SCHEDULED]


def test_a_run_that_began_in_its_window_goes_on_after_it(
    app_context: Flask, settings: Settings
) -> None:
    request_id = make_due(make_version("faulty"), settings=settings, off_peak=True)
    plan_window(starts_in=-10)
    order_platform(settings, down=True)
    provisioning.provision(request_id)
    order_platform(settings)
    plan_window(starts_in=60)
    make_runs_due()
    provisioning.provision(request_id)
    check_completed([request_id])


def test_without_off_peak_hours_off_peak_requests_wait(
    app_context: Flask, settings: Settings
) -> None:
    request_id = make_due(settings=settings, off_peak=True)
    db.session.execute(sa.delete(OffPeakWindow))
    db.session.commit()
    assert provisioning.replan_missed() == 0
    assert provisioning.provision(request_id) is None
    assert state_of(request_id) is RequestState.SCHEDULED
