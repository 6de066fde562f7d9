"""Provisioning, step by step: what a tenant gets, and what faults, pauses and retries do to it."""

from __future__ import annotations

import threading
import time
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
    Customer,
    CustomerStatus,
    GeneralParameters,
    LocalPlatformTenant,
    NotificationKind,
    OffPeakWindow,
    ProvisioningRun,
    RequestNotification,
    RequestState,
    RequestTransition,
    RunState,
    StepName,
    StepState,
    utcnow,
)
from services import customers, provisioning, provisioning_leases, provisioning_runs, sign_ins
from services.actors import Permission, get_customer
from services.errors import Conflict, InvalidInput, NotFound
from services.provisioning_steps import STEPS
from services.transactions import run_transaction
from tests.support.factories import actor_for, find_user, make_customer, make_user
from tests.support.provisioning import (
    OPERATOR,
    PASSWORD,
    check_administrator,
    check_completed,
    check_gone,
    count,
    customer_of,
    fresh,
    make_due,
    make_runs_due,
    make_version,
    order_platform,
    provision_all,
    retry,
    roll_back,
    run_of,
    same_names,
    set_policy,
    state_of,
    step_states,
    steps_of,
)
from tests.support.requests import make_request

IMPATIENT = {"PROVISIONING_TIMEOUT": "0.5"}


@pytest.fixture
def settings_changes(request: pytest.FixtureRequest) -> dict[str, str]:
    return {"PROVISIONING_RETRY_DELAYS": "30,60", **getattr(request, "param", {})}


@pytest.fixture
def faulty(app_context: Flask, settings: Settings) -> int:
    """A request for a tenant on the platform that fails as told."""
    return make_due(make_version("faulty"), settings=settings)


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
    assert customers.list_customers(actor_for(OPERATOR), search="CQ004").rows == [customer]


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
    assert customers.list_customers(staff, search=customer.web_id).rows == []
    with pytest.raises(NotFound):
        get_customer(staff, customer.web_id, Permission.CUSTOMERS_READ)
    with pytest.raises(InvalidInput):
        sign_ins.sign_in(login, PASSWORD)
    assert sign_ins.find_active_user(login) is None
    order_platform(settings)
    retry(faulty)
    assert provision_all(faulty) is RequestState.COMPLETED
    assert sign_ins.sign_in(login, PASSWORD)[0].customer_id == customer.id


# --- Faults ------------------------------------------------------------------------------------


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
        with pytest.raises(Conflict):
            run_transaction(lambda connection, do=function: do(connection, request_id))
    provisioning.provision(request_id)
    for function in (provisioning.reopen_run, provisioning.begin_roll_back):
        with pytest.raises(Conflict):
            run_transaction(lambda connection, do=function: do(connection, request_id))


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
            return {}["Kenton"]

    original = provisioning_runs.get_connector
    monkeypatch.setattr(
        provisioning_runs, "get_connector", lambda name: Odd() if name == "odd" else original(name)
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

    def break_down(connection: sa.Connection, order: object, answer: object) -> str:
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

    def pause_meanwhile(self: LocalConnector, *arguments: object) -> str:
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

    def sleep(self: LocalConnector, *arguments: object) -> str:
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


# --- Rolling back ------------------------------------------------------------------------------


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
    assert queues["default"].count == 2
