"""What faults of platforms, databases and connectors do to a run."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from config import Settings
from connectors import get_connector
from connectors.local import LocalConnector
from extensions import db
from models import (
    Customer,
    LocalPlatformTenant,
    NotificationKind,
    RequestNotification,
    RequestState,
    RequestTransition,
    RunState,
    StepName,
    StepState,
    utcnow,
)
from services import provisioning, provisioning_runs
from services.errors import Conflict
from services.provisioning_steps import STEPS
from tests.support.factories import make_customer, make_user
from tests.support.provisioning import (
    PASSWORD,
    check_administrator,
    check_completed,
    count,
    fresh,
    make_due,
    make_runs_due,
    make_version,
    order_platform,
    provision_all,
    retry,
    roll_back,
    run_of,
    state_of,
    step_states,
    steps_of,
)

IMPATIENT = {"PROVISIONING_TIMEOUT": "0.5"}


@pytest.fixture
def settings_changes(request: pytest.FixtureRequest) -> dict[str, str]:
    return {"PROVISIONING_RETRY_DELAYS": "30,60", **getattr(request, "param", {})}


def test_a_platform_that_is_down_is_asked_again_later(
    app_context: Flask, settings: Settings, faulty: int
) -> None:
    order_platform(settings, down=True)
    before = utcnow()
    provisioning.provision(faulty)
    step = steps_of(faulty)[StepName.CREATE_ON_PLATFORM]
    assert (step.state, step.attempts) == (StepState.WAITING, 1)
    assert step.error == "The application platform does not answer."
    run = run_of(faulty)
    assert run.lease_token is None, "it waits, and keeps its place"
    wait = (run.next_attempt_at - before).total_seconds()
    assert 0.75 * 30 <= wait <= 1.25 * 30 + 5
    assert provisioning.provision(faulty) is None
    assert steps_of(faulty)[StepName.CREATE_ON_PLATFORM].attempts == 1, "it did not wait"
    order_platform(settings)
    make_runs_due()
    provisioning.provision(faulty)
    check_completed([faulty])
    done = steps_of(faulty)[StepName.CREATE_ON_PLATFORM]
    assert (done.attempts, done.error) == (2, "")


def test_it_fails_when_its_tries_are_used_up(
    app_context: Flask, settings: Settings, faulty: int
) -> None:
    order_platform(settings, down=True)
    assert provision_all(faulty) is RequestState.FAILED
    assert step_states(faulty)[:5] == [
        StepState.DONE,
        StepState.DONE,
        StepState.DONE,
        StepState.FAILED,
        StepState.PENDING,
    ]
    assert steps_of(faulty)[StepName.CREATE_ON_PLATFORM].attempts == 3
    run = run_of(faulty)
    assert (run.state, run.lease_token) == (RunState.FAILED, None)
    reasons = db.session.scalars(
        sa.select(RequestTransition.reason).where(
            RequestTransition.request_id == faulty,
            RequestTransition.to_state == RequestState.FAILED,
        )
    ).all()
    assert reasons == [
        "Create the tenant on the platform: The application platform does not answer."
    ]
    assert fresh(faulty).password_seal is not None, "a retry needs it"
    kinds = db.session.scalars(
        sa.select(RequestNotification.kind).where(RequestNotification.request_id == faulty)
    ).all()
    assert kinds == [NotificationKind.FAILED]


def test_a_refusal_is_not_asked_again(app_context: Flask, settings: Settings, faulty: int) -> None:
    order_platform(settings, {"operation": "create_account", "do": "refuse", "reason": "Full."})
    provisioning.provision(faulty)
    step = steps_of(faulty)[StepName.CREATE_ADMINISTRATOR]
    assert (step.state, step.attempts, step.error) == (StepState.FAILED, 1, "Full.")
    assert state_of(faulty) is RequestState.FAILED


def test_a_fault_of_one_tenant_is_no_others(
    app_context: Flask, settings: Settings, faulty: int
) -> None:
    other = make_due(make_version("faulty"), settings=settings)
    order_platform(settings, {"tenant": fresh(faulty).upn_suffix, "do": "refuse"})
    assert provision_all(faulty) is RequestState.FAILED
    assert provision_all(other) is RequestState.COMPLETED


def test_retry_goes_on_at_the_step_that_failed(
    app_context: Flask, settings: Settings, faulty: int
) -> None:
    order_platform(settings, {"operation": "create_account", "do": "refuse"})
    provisioning.provision(faulty)
    customer_id = fresh(faulty).customer_id
    order_platform(settings, {"operation": "create_tenant", "do": "refuse"})
    retry(faulty)
    assert provisioning.list_due() == [faulty]
    provisioning.provision(faulty)
    check_completed([faulty])
    check_administrator(faulty)
    assert fresh(faulty).customer_id == customer_id
    assert steps_of(faulty)[StepName.CREATE_ON_PLATFORM].attempts == 1


def test_what_has_not_failed_is_neither_reopened_nor_rolled_back(
    app_context: Flask, settings: Settings
) -> None:
    request_id = make_due(settings=settings)
    for function in (provisioning.reopen_run, provisioning.begin_roll_back):
        with pytest.raises(Conflict), db.engine.begin() as connection:
            function(connection, request_id)
    provisioning.provision(request_id)
    for function in (provisioning.reopen_run, provisioning.begin_roll_back):
        with pytest.raises(Conflict), db.engine.begin() as connection:
            function(connection, request_id)


@pytest.mark.parametrize("settings_changes", [IMPATIENT], indirect=True)
def test_a_hanging_platform_is_left(app_context: Flask, settings: Settings, faulty: int) -> None:
    """The worker goes on, the run gives up its place, and what the call does late is harmless."""
    order_platform(settings, {"operation": "create_tenant", "do": "hang"})
    others = set(threading.enumerate())
    provisioning.provision(faulty)
    step = steps_of(faulty)[StepName.CREATE_ON_PLATFORM]
    assert (step.state, step.attempts) == (StepState.WAITING, 1)
    assert step.error == "The application platform did not answer within 0.5 seconds."
    assert run_of(faulty).lease_token is None
    order_platform(settings)
    for thread in set(threading.enumerate()) - others:
        thread.join(10)
    assert count(LocalPlatformTenant) == 1, "the call that was left has arrived after all"
    make_runs_due()
    provision_all(faulty)
    check_completed([faulty])


def test_an_answer_that_gets_lost_is_asked_for_again(
    app_context: Flask, settings: Settings, faulty: int
) -> None:
    for operation in ("create_tenant", "create_account"):
        order_platform(settings, {"operation": operation, "do": "fail", "when": "after"})
        provisioning.provision(faulty)
        make_runs_due()
    order_platform(settings)
    provisioning.provision(faulty)
    check_completed([faulty])
    check_administrator(faulty)


def test_a_slow_platform_keeps_its_worker(
    app_context: Flask, settings: Settings, faulty: int
) -> None:
    order_platform(settings, {"do": "wait", "seconds": 0.2})
    provisioning.provision(faulty)
    check_completed([faulty])


def test_names_that_somebody_else_has_by_now_fail_at_once(
    app_context: Flask, settings: Settings
) -> None:
    request_id = make_due(settings=settings, name="Kenton")
    make_customer(name="KENTON")
    provisioning.provision(request_id)
    step = steps_of(request_id)[StepName.RESERVE_NAMES]
    assert step.state is StepState.FAILED
    assert step.error == ("Another customer has the name Kenton. Roll back, and register another.")
    roll_back(request_id)
    provisioning.provision(request_id)
    check_gone_but(request_id)


def check_gone_but(request_id: int) -> None:
    """Rolled back; the customer that has its name is somebody else's."""
    assert state_of(request_id) is RequestState.CANCELLED
    assert run_of(request_id).state is RunState.ROLLED_BACK
    assert count(Customer, Customer.name_key == fresh(request_id).name_key) == 1


@pytest.mark.parametrize("field", ["short_name", "upn_suffix", "admin_login"])
def test_each_name_is_held_against_customers_and_users(
    app_context: Flask, settings: Settings, field: str
) -> None:
    request_id = make_due(settings=settings)
    value = getattr(fresh(request_id), field)
    if field == "admin_login":
        make_user(make_customer(), login=value)
    else:
        make_customer(**{field: value})
    provisioning.provision(request_id)
    assert value in steps_of(request_id)[StepName.RESERVE_NAMES].error
    assert state_of(request_id) is RequestState.FAILED
    assert fresh(request_id).customer_id is None


@pytest.mark.parametrize(
    ("connector", "error"),
    [("nowhere", "There is no connector named nowhere."), ("odd", "The connector odd failed")],
)
def test_a_connector_that_is_none_fails_the_step(
    app_context: Flask,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    connector: str,
    error: str,
) -> None:
    class Odd:
        def create_tenant(self, *_: object) -> str:
            raise KeyError("Kenton")

    monkeypatch.setattr(
        provisioning_runs,
        "get_connector",
        lambda name: Odd() if name == "odd" else get_connector(name),
    )
    request_id = make_due(make_version(connector), settings=settings)
    assert provision_all(request_id) is RequestState.FAILED
    assert steps_of(request_id)[StepName.CREATE_ON_PLATFORM].error.startswith(error)


@pytest.mark.parametrize("answer", ["", "x" * 65, None, 7])
def test_a_reference_that_cannot_be_kept_fails_the_step(
    app_context: Flask, settings: Settings, monkeypatch: pytest.MonkeyPatch, answer: object
) -> None:
    monkeypatch.setattr(LocalConnector, "create_tenant", lambda *_: answer)
    request_id = make_due(settings=settings)
    provisioning.provision(request_id)
    step = steps_of(request_id)[StepName.CREATE_ON_PLATFORM]
    assert step.state is StepState.FAILED
    assert "returned no name" in step.error


def test_a_fault_of_our_own_fails_the_step_and_says_so(
    app_context: Flask, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_: object) -> None:
        raise ZeroDivisionError(PASSWORD)

    monkeypatch.setattr(STEPS[StepName.CLONE_TEMPLATE], "record", break_down)
    request_id = make_due(settings=settings)
    assert provision_all(request_id) is RequestState.FAILED
    step = steps_of(request_id)[StepName.CLONE_TEMPLATE]
    assert (step.attempts, step.error) == (
        3,
        "Foyer failed (ZeroDivisionError); its log says where.",
    )


def test_a_statement_that_fails_undoes_its_step_alone(
    app_context: Flask, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attempt counts all the same, so that it is not made for ever."""
    step = STEPS[StepName.CREATE_CUSTOMER]
    original = step.record

    def break_down(connection: sa.Connection, order: Any, answer: Any) -> str:
        original(connection, order, answer)
        connection.exec_driver_sql("INSERT INTO groups (groupno, name) VALUES (0, 'x')")
        raise AssertionError

    monkeypatch.setattr(step, "record", break_down)
    request_id = make_due(settings=settings)
    assert provision_all(request_id) is RequestState.FAILED
    assert steps_of(request_id)[StepName.CREATE_CUSTOMER].attempts == 3
    assert fresh(request_id).customer_id is None
    monkeypatch.undo()
    retry(request_id)
    assert provision_all(request_id) is RequestState.COMPLETED


def test_a_step_that_kills_its_workers_is_not_begun_for_ever(
    app_context: Flask, settings: Settings, faulty: int
) -> None:
    most = len(settings.provisioning_retry_delays) + provisioning_runs._BREAKDOWNS
    order_platform(settings, {"operation": "create_tenant", "do": "fail"})
    provisioning.provision(faulty)
    step = steps_of(faulty)[StepName.CREATE_ON_PLATFORM]
    step.state, step.attempts = StepState.RUNNING, most + 1
    db.session.commit()
    make_runs_due()
    provisioning.provision(faulty)
    assert state_of(faulty) is RequestState.FAILED
    assert "died" in steps_of(faulty)[StepName.CREATE_ON_PLATFORM].error
