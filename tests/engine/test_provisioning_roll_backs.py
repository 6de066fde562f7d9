"""A run that is rolled back leaves nothing, and its names are free."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from flask import Flask

from config import Settings
from extensions import db
from models import (
    Customer,
    RequestState,
    RequestTransition,
    RunState,
    StepName,
    StepState,
)
from services import provisioning
from services.provisioning_steps import STEPS
from tests.support.provisioning import (
    check_administrator,
    check_completed,
    check_gone,
    count,
    fresh,
    make_due,
    make_runs_due,
    order_platform,
    provision_all,
    retry,
    roll_back,
    run_of,
    same_names,
    state_of,
    step_states,
)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("operation", ["create_tenant", "create_account", "health"])
def test_a_roll_back_from_a_platform_step_leaves_nothing(
    app_context: Flask, settings: Settings, faulty: int, operation: str, when: str
) -> None:
    """Whether the platform did what was asked, or only its refusal came back."""
    order_platform(settings, {"operation": operation, "do": "refuse", "when": when})
    provisioning.provision(faulty)
    assert state_of(faulty) is RequestState.FAILED
    order_platform(settings)
    check_rolled_back(faulty, settings)


@pytest.mark.parametrize("name", StepName)
def test_a_roll_back_from_any_step_leaves_nothing(
    app_context: Flask, settings: Settings, monkeypatch: pytest.MonkeyPatch, name: StepName
) -> None:
    def break_down(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(STEPS[name], "record", break_down)
    request_id = make_due(settings=settings)
    assert provision_all(request_id) is RequestState.FAILED
    monkeypatch.undo()
    check_rolled_back(request_id, settings)
    undone = step_states(request_id)
    position = list(StepName).index(name) + 1
    assert undone[:position] == [StepState.UNDONE] * position
    assert set(undone[position:]) <= {StepState.PENDING}


def check_rolled_back(request_id: int, settings: Settings) -> None:
    """Nothing is left, and somebody else can have all of the names."""
    before = count(Customer)
    had = fresh(request_id).customer_id is not None
    roll_back(request_id)
    assert provisioning.provision(request_id) is None
    check_gone(request_id)
    assert count(Customer) == before - had
    again = make_due(settings=settings, **same_names(request_id))
    provisioning.provision(again)
    check_completed([again])


@pytest.mark.parametrize("operation", ["remove_account", "remove_tenant"])
def test_a_roll_back_that_fails_can_be_begun_again(
    app_context: Flask, settings: Settings, faulty: int, operation: str
) -> None:
    refused = {"operation": operation, "do": "refuse", "reason": "Not today."}
    order_platform(settings, {"operation": "health", "do": "refuse"}, refused)
    provisioning.provision(faulty)
    roll_back(faulty)
    provisioning.provision(faulty)
    assert state_of(faulty) is RequestState.FAILED
    assert run_of(faulty).state is RunState.FAILED
    last = db.session.scalars(
        sa.select(RequestTransition.reason).order_by(RequestTransition.id.desc()).limit(1)
    ).one()
    assert last.startswith("Undo: Create the ")
    assert last.endswith("Not today.")
    order_platform(settings)
    check_rolled_back(faulty, settings)


def test_after_a_roll_back_that_failed_one_can_go_forward_again(
    app_context: Flask, settings: Settings, faulty: int
) -> None:
    order_platform(
        settings,
        {"operation": "health", "do": "refuse"},
        {"operation": "remove_tenant", "do": "refuse"},
    )
    provisioning.provision(faulty)
    roll_back(faulty)
    provisioning.provision(faulty)
    assert StepState.UNDONE in step_states(faulty)
    order_platform(settings)
    retry(faulty)
    assert StepState.UNDONE not in step_states(faulty)
    provisioning.provision(faulty)
    check_completed([faulty])
    check_administrator(faulty)


def test_a_platform_that_is_down_delays_a_roll_back(
    app_context: Flask, settings: Settings, faulty: int
) -> None:
    order_platform(settings, {"operation": "health", "do": "refuse"})
    provisioning.provision(faulty)
    roll_back(faulty)
    order_platform(settings, down=True)
    provisioning.provision(faulty)
    assert state_of(faulty) is RequestState.ROLLING_BACK
    order_platform(settings)
    make_runs_due()
    provisioning.provision(faulty)
    check_gone(faulty)
