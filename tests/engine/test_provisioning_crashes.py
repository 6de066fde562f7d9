"""Provisioning with workers that are killed: promise 4 holds, at every point and at any moment."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Flask

from config import Settings
from jobs.sweeps import sweep
from models import (
    Customer,
    CustomerStatus,
    LocalPlatformTenant,
)
from services import provisioning
from tests.support.crashing_provisioner import POINTS, UNDO_POINTS, provision_and_die
from tests.support.provisioning import (
    check_administrator,
    check_completed,
    check_gone,
    count,
    make_due,
    make_runs_due,
    make_version,
    order_platform,
    roll_back,
)


@pytest.mark.parametrize("point", POINTS)
def test_a_worker_killed_at_any_point_makes_one_customer(
    app_context: Flask, settings: Settings, work: Callable[[], None], point: str
) -> None:
    request_id = make_due(settings=settings)
    provision_and_die(request_id, point)
    make_runs_due()
    sweep()
    work()
    check_completed([request_id])
    check_administrator(request_id)
    assert count(Customer, Customer.status == CustomerStatus.CREATING) == 0
    assert count(LocalPlatformTenant) == 1


@pytest.mark.parametrize("point", UNDO_POINTS)
def test_a_worker_killed_at_any_point_of_a_roll_back_leaves_nothing(
    app_context: Flask, settings: Settings, work: Callable[[], None], point: str
) -> None:
    request_id = make_due(make_version("faulty"), settings=settings)
    order_platform(settings, {"operation": "health", "do": "refuse"})
    provisioning.provision(request_id)
    roll_back(request_id)
    provision_and_die(request_id, point)
    make_runs_due()
    sweep()
    work()
    check_gone(request_id)
