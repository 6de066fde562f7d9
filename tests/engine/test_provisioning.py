"""What a tenant gets, step by step, and who sees it when."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa
from flask import Flask

from config import Settings
from connectors import ConnectorUnavailable
from connectors.local import LocalConnector
from extensions import db, queues
from jobs.sweeps import sweep
from models import (
    CustomerStatus,
    GeneralParameters,
    LocalPlatformTenant,
    RequestState,
    RequestTransition,
    StepName,
    StepState,
    utcnow,
)
from services import customers, provisioning, sign_ins
from services.actors import Permission, get_customer
from services.customers import CustomerFilter
from services.errors import InvalidInput, NotFound
from tests.support.factories import actor_for, find_user, make_customer
from tests.support.provisioning import (
    OPERATOR,
    PASSWORD,
    check_administrator,
    check_completed,
    check_gone,
    customer_of,
    fresh,
    make_due,
    make_version,
    order_platform,
    provision_all,
    retry,
    roll_back,
    set_policy,
    state_of,
    steps_of,
)
from tests.support.requests import make_request

# --- A tenant as it should be ------------------------------------------------------------------


def test_a_request_becomes_a_customer(app_context: Flask, settings: Settings) -> None:
    request_id = make_due(settings=settings)
    assert provisioning.provision(request_id) is None
    check_completed([request_id])
    check_administrator(request_id)
    customer = customer_of(request_id)
    assert (customer.custno, customer.web_id) == (1004, "CQ004")
    assert customer.setup_instructions == "Install the app."
    assert customer.application_url == "https://collab.foyer.example"
    assert customer.contact_email == fresh(request_id).contact_email
    assert customer.options == {"lines": 7}
    draft = db.session.get_one(GeneralParameters, customer.id)
    assert draft.must_replace == {"callback_folder_email": "callbacks@foyer.example"}
    assert draft.draft["time_zone"] == "Europe/Brussels"
    tenant = db.session.get_one(LocalPlatformTenant, "CQ004")
    assert tenant.settings["options"] == {"lines": 7}
    assert len(tenant.settings["bundles"]) == 2
    user = find_user(fresh(request_id).admin_login)
    assert (user.first_name, user.last_name, user.language) == ("Petra de", "Kenton", "nl")
    assert customers.list_customers(actor_for(OPERATOR), CustomerFilter("CQ004")).rows == [customer]


def test_working_on_it_again_changes_nothing(app_context: Flask, settings: Settings) -> None:
    request_id = make_due(settings=settings)
    provisioning.provision(request_id)
    version = fresh(request_id).version
    assert provisioning.provision(request_id) is None
    check_completed([request_id])
    assert fresh(request_id).version == version


def test_a_request_is_worked_on_when_its_time_has_come(
    app_context: Flask, settings: Settings, work: Callable[[], None]
) -> None:
    now, later = (
        make_due(settings=settings),
        make_due(settings=settings, due_at=utcnow() + timedelta(minutes=5)),
    )
    for request_id in (now, later):
        provisioning.start(request_id)
        provisioning.start(request_id)
    work()
    assert state_of(now) is RequestState.COMPLETED
    assert state_of(later) is RequestState.SCHEDULED
    db.session.execute(
        sa.update(type(fresh(later))).values(scheduled_for=utcnow() - timedelta(seconds=1))
    )
    db.session.commit()
    sweep()
    work()
    check_completed([now, later])


@pytest.mark.parametrize(
    "state",
    [RequestState.AWAITING_APPROVAL, RequestState.CANCELLED, RequestState.FAILED],
)
def test_what_is_not_scheduled_is_left_alone(app_context: Flask, state: RequestState) -> None:
    request = make_request(state, make_version())
    assert provisioning.provision(request.id) is None
    assert provisioning.list_due() == []
    assert state_of(request.id) is state
    assert provisioning.get_run(request.id) is None


def test_one_request_leads_to_the_next(
    app_context: Flask, settings: Settings, work: Callable[[], None]
) -> None:
    """Asked for once, workers go on for as long as something is due."""
    version = make_version()
    request_ids = [make_due(version, settings=settings) for _ in range(4)]
    set_policy(max_runs=1)
    provisioning.start(request_ids[0])
    work()
    check_completed(request_ids)


def test_numbers_that_customers_have_already_are_skipped(
    app_context: Flask, settings: Settings
) -> None:
    make_customer(custno=1004)
    for number in range(4, 300):
        if number != 101:  # The demonstration has it.
            make_customer(web_id=f"CQ{number:03}", group_id=1)
    request_id = make_due(settings=settings)
    provisioning.provision(request_id)
    customer = customer_of(request_id)
    assert (customer.custno, customer.web_id) == (1005, "CQ300")


# --- Not before it is completed ----------------------------------------------------------------


def test_a_tenant_is_out_of_sight_until_it_is_completed(
    app_context: Flask, settings: Settings, faulty: int
) -> None:
    order_platform(settings, {"operation": "health", "do": "refuse", "reason": "No dial tone."})
    assert provision_all(faulty) is RequestState.FAILED
    customer, login = customer_of(faulty), fresh(faulty).admin_login
    assert customer.status is CustomerStatus.CREATING
    staff = actor_for(OPERATOR)
    assert customers.list_customers(staff, CustomerFilter(customer.web_id)).rows == []
    with pytest.raises(NotFound):
        get_customer(staff, customer.web_id, Permission.CUSTOMERS_READ)
    with pytest.raises(InvalidInput):
        sign_ins.sign_in(login, PASSWORD)
    assert sign_ins.find_active_user(login) is None
    order_platform(settings)
    retry(faulty)
    assert provision_all(faulty) is RequestState.COMPLETED
    assert sign_ins.sign_in(login, PASSWORD)[0].customer_id == customer.id


# --- Secrets -----------------------------------------------------------------------------------


def test_a_key_that_is_gone_fails_the_step_and_says_what_to_do(
    app_context: Flask, settings: Settings
) -> None:
    request_id = make_due(settings=settings, password_seal=b"\x01" + bytes(40))
    provisioning.provision(request_id)
    step = steps_of(request_id)[StepName.CREATE_ADMINISTRATOR]
    assert step.state is StepState.FAILED
    assert "SEAL_KEYS" in step.error


def test_a_password_that_is_gone_fails_the_step(app_context: Flask, settings: Settings) -> None:
    request_id = make_due(settings=settings, password_seal=None)
    provisioning.provision(request_id)
    assert "no longer kept" in steps_of(request_id)[StepName.CREATE_ADMINISTRATOR].error
    roll_back(request_id)
    provisioning.provision(request_id)
    check_gone(request_id)


@pytest.mark.parametrize("error", [ConnectorUnavailable, ValueError])
def test_no_platform_brings_a_password_into_rows_or_logs(
    app_context: Flask,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: type[Exception],
) -> None:
    def tell(_: object, tenant: object, account: object, password: str) -> None:
        raise error(f"{password} is too long.")

    monkeypatch.setattr(LocalConnector, "create_account", tell)
    request_id = make_due(settings=settings)
    assert provision_all(request_id) is RequestState.FAILED
    step = steps_of(request_id)[StepName.CREATE_ADMINISTRATOR]
    assert step.error
    reasons = db.session.scalars(sa.select(RequestTransition.reason)).all()
    assert PASSWORD not in "\n".join([step.error, step.output, caplog.text, *reasons])


# --- The queue ---------------------------------------------------------------------------------


def test_an_emptied_queue_loses_nothing(
    app_context: Flask, settings: Settings, work: Callable[[], None]
) -> None:
    version = make_version()
    request_ids = [make_due(version, settings=settings) for _ in range(3)]
    for each in request_ids:
        provisioning.start(each)
    queues.connection.flushall()
    sweep()
    work()
    check_completed(request_ids)


def test_the_sweep_asks_for_no_more_than_there_are_places(
    app_context: Flask, settings: Settings
) -> None:
    version = make_version()
    for _ in range(5):
        make_due(version, settings=settings)
    set_policy(max_runs=2)
    sweep()
    assert queues["provisioning"].count == 2
