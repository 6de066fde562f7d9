"""Provisioning with workers that are killed: promise 4 holds, at every point and at any moment."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from flask import Flask

from config import Settings
from extensions import db
from jobs.sweeps import sweep
from models import (
    Customer,
    CustomerStatus,
    LocalPlatformTenant,
    ProvisioningRun,
    RequestState,
    SubscriptionRequest,
    utcnow,
)
from services import provisioning
from tests.support.crashing_provisioner import POINTS, UNDO_POINTS, provision_and_die
from tests.support.provisioning import (
    check_administrator,
    check_all_completed,
    check_completed,
    check_gone,
    count,
    make_due,
    make_many_due,
    make_runs_due,
    make_version,
    order_platform,
    roll_back,
    set_policy,
)
from tests.support.work import Process

QUICK = {
    "LEASE_SECONDS": "2",
    "SWEEP_SECONDS": "2",
    "PROVISIONING_RETRY_DELAYS": "0.2,0.2,0.2,0.2,0.2,0.2",
}
MANY = {"sqlite": 40, "postgresql": 300}
WORKERS, CAP = 4, 3


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


class Crew:
    """Workers and a scheduler in processes of their own, killed at the end."""

    def __init__(self, settings: Settings, workers: int) -> None:
        self._settings = settings
        self._scheduler = Process(settings, "scheduler")
        self.workers = [self._hire() for _ in range(workers)]

    def _hire(self) -> Process:
        return Process(self._settings, module="tests.support.hasty_worker")

    def kill_one(self, moments: random.Random) -> None:
        """A worker with what it does, or that alone; somebody new takes its place."""
        number = moments.randrange(len(self.workers))
        if moments.random() < 0.5:
            self.workers[number].kill_child()
            return
        self.workers[number].kill()
        self.workers[number] = self._hire()

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for process in [*self.workers, self._scheduler]:
            process.kill()


def count_leases() -> int:
    """Runs that somebody works on at this moment."""
    return count(
        ProvisioningRun,
        ProvisioningRun.lease_token.is_not(None),
        ProvisioningRun.lease_expires_at > utcnow(),
    )


def count_in(state: RequestState) -> int:
    return count(SubscriptionRequest, SubscriptionRequest.state == state)


@pytest.mark.xdist_group("many tenants")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("settings_changes", [QUICK])
def test_hundreds_of_requests_become_as_many_customers(
    app_context: Flask, settings: Settings, engine_name: str
) -> None:
    """Four workers, three places, and somebody who kills them all the time."""
    many = MANY[engine_name]
    request_ids = make_many_due(many, settings)
    before = count(Customer)
    set_policy(max_runs=CAP)
    moments = random.Random()
    most, next_kill = 0, moments.randint(1, many // 10)
    deadline = time.monotonic() + 500  # Before the time-out, which would leave the workers behind.
    with Crew(settings, WORKERS) as crew:
        while (completed := count_in(RequestState.COMPLETED)) < many:
            assert time.monotonic() < deadline
            most = max(most, count_leases())
            if completed >= next_kill:
                crew.kill_one(moments)
                next_kill = completed + moments.randint(many // 50, many // 8)
            time.sleep(0.1)
    assert most <= CAP
    numbers = db.session.execute(sa.select(Customer.custno, Customer.web_id)).all()
    assert len(numbers) == before + many
    assert len({row.custno for row in numbers}) == before + many
    assert len({row.web_id for row in numbers}) == before + many
    check_all_completed(many)
    check_completed(moments.sample(request_ids, 10))
