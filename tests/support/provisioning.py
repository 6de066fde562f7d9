"""Requests to be provisioned, and what must hold of them whatever happened on the way."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import sqlalchemy as sa

from config import Settings
from extensions import db
from models import (
    Bundle,
    Customer,
    CustomerBundle,
    CustomerEmailTemplate,
    CustomerStatus,
    EmailTemplate,
    GeneralParameters,
    LocalPlatformAccount,
    LocalPlatformTenant,
    NotificationKind,
    ProvisioningPolicy,
    ProvisioningRun,
    ProvisioningStep,
    RequestCount,
    RequestNotification,
    RequestState,
    RequestTransition,
    Role,
    RunState,
    ServiceTemplateVersion,
    StepName,
    StepState,
    SubscriptionRequest,
    TemplateKind,
    User,
    utcnow,
)
from services import passwords, request_passwords
from services.provisioning import begin_roll_back, provision, reopen_run
from services.request_transitions import move
from services.transactions import run_transaction
from tests.support.factories import find_user, make_group
from tests.support.requests import actor_of, make_request, make_service_template, pass_on

PASSWORD = "a door that opens 4 Kenton"
OPERATOR = "operator@foyer.example"


@cache
def _secrets(seal_keys: tuple[str, ...]) -> tuple[str, bytes]:
    """Made once: hashing a password takes as long as all the rest of a request."""
    return request_passwords.seal_password(PASSWORD)


def make_version(connector: str = "local", **changes: Any) -> ServiceTemplateVersion:
    """A service template's version with two bundles and general parameters."""
    bundles = db.session.scalars(sa.select(Bundle).order_by(Bundle.name).limit(2)).all()
    version = make_service_template(
        **{
            "connector": connector,
            "needs_approval": False,
            "application_url": "https://collab.foyer.example",
            "setup_instructions": "Install the app.",
            "parameters": {"callback_folder_email": "callbacks@foyer.example"},
            "must_replace": ["callback_folder_email"],
            "group_id": make_group().id,
            **changes,
        }
    )
    version.bundles = list(bundles)
    db.session.commit()
    return version


def make_due(
    version: ServiceTemplateVersion | None = None,
    *,
    due_at: datetime | None = None,
    off_peak: bool = False,
    settings: Settings,
    **changes: Any,
) -> int:
    """The id of a request that is scheduled, by default for now."""
    hashed, sealed = _secrets(settings.seal_keys)
    request = make_request(
        RequestState.SUBMITTED,
        version or make_version(),
        **{
            "password_hash": hashed,
            "password_seal": sealed,
            "contact_name": "Petra de Kenton",
            "language": "nl",
            "time_zone": "Europe/Brussels",
            "country": "BE",
            "options": {"lines": 7},
            "created_by_id": find_user(OPERATOR).id,
            **changes,
        },
    )
    planned = due_at or utcnow() - timedelta(seconds=1)
    pass_on(request, RequestState.SCHEDULED, scheduled_for=planned, off_peak=off_peak)
    return request.id


def make_many_due(number: int, settings: Settings) -> list[int]:
    """So many scheduled requests of one template, in a few statements."""
    version = make_version()
    hashed, sealed = _secrets(settings.seal_keys)
    now = utcnow()
    rows = [
        {
            "state": RequestState.SCHEDULED,
            "template_version_id": version.id,
            "group_id": version.group_id,
            "created_by_id": find_user(OPERATOR).id,
            "name": f"Many{each}",
            "name_key": f"many{each}",
            "short_name": f"m{each}",
            "short_name_key": f"m{each}",
            "upn_suffix": f"many{each}.example",
            "admin_login": f"prpAdmin@many{each}.example",
            "contact_name": "Petra Kenton",
            "contact_email": f"petra@many{each}.example",
            "password_hash": hashed,
            "password_seal": sealed,
            "draft": {},
            "options": {},
            "submitted_at": now,
            "scheduled_for": now,
        }
        for each in range(number)
    ]
    made = db.session.scalars(
        sa.insert(SubscriptionRequest).returning(SubscriptionRequest.id), rows
    ).all()
    scheduled = RequestCount(
        group_id=version.group_id, state=RequestState.SCHEDULED, requests=number
    )
    db.session.add(scheduled)
    db.session.commit()
    return list(made)


def fresh(request_id: int) -> SubscriptionRequest:
    db.session.rollback()
    return db.session.get_one(SubscriptionRequest, request_id, populate_existing=True)


def state_of(request_id: int) -> RequestState:
    return fresh(request_id).state


def run_of(request_id: int) -> ProvisioningRun:
    db.session.rollback()
    return db.session.scalars(
        sa.select(ProvisioningRun)
        .where(ProvisioningRun.request_id == request_id)
        .execution_options(populate_existing=True)
    ).one()


def steps_of(request_id: int) -> dict[StepName, ProvisioningStep]:
    run_id = run_of(request_id).id
    rows = db.session.scalars(
        sa.select(ProvisioningStep)
        .where(ProvisioningStep.run_id == run_id)
        .order_by(ProvisioningStep.position)
        .execution_options(populate_existing=True)
    )
    return {step.name: step for step in rows}


def step_states(request_id: int) -> list[StepState]:
    return [step.state for step in steps_of(request_id).values()]


def provision_all(request_id: int, most: int = 20) -> RequestState:
    """Work on a request, its waits taken as over, until it has ended or failed."""
    working = {RequestState.SCHEDULED, RequestState.PROVISIONING, RequestState.ROLLING_BACK}
    for _ in range(most):
        provision(request_id)
        if state_of(request_id) not in working:
            break
        make_runs_due()
    return state_of(request_id)


def make_runs_due() -> None:
    """Every wait is over, and every lease of a dead worker too."""
    past = utcnow() - timedelta(minutes=1)
    db.session.rollback()
    db.session.execute(sa.update(ProvisioningRun).values(next_attempt_at=past))
    db.session.execute(
        sa.update(ProvisioningRun)
        .where(ProvisioningRun.lease_token.is_not(None))
        .values(lease_expires_at=past)
    )
    db.session.commit()


def retry(request_id: int) -> None:
    """As an operator does."""
    _decide(request_id, RequestState.PROVISIONING, reopen_run, "")


def roll_back(request_id: int, reason: str = "Changed their mind.") -> None:
    """As an operator does."""
    _decide(request_id, RequestState.ROLLING_BACK, begin_roll_back, reason)


def _decide(request_id: int, to_state: RequestState, then: Any, reason: str) -> None:
    actor = actor_of(find_user(OPERATOR))

    def work(connection: sa.Connection) -> None:
        move(connection, request_id, RequestState.FAILED, to_state, actor=actor, reason=reason)
        then(connection, request_id)

    run_transaction(work)


def set_policy(**values: Any) -> None:
    db.session.execute(sa.update(ProvisioningPolicy).values(**values))
    db.session.commit()


def order_platform(settings: Settings, *rules: dict[str, Any], **orders: Any) -> None:
    """Tell the faulty platform what to do from now on; without arguments, to work."""
    path = settings.var_dir / "faulty-connector.json"
    draft = path.with_suffix(f".{time.monotonic_ns()}")
    draft.write_text(json.dumps({"rules": rules, **orders}))
    draft.replace(path)


def customer_of(request_id: int) -> Customer:
    customer_id = fresh(request_id).customer_id
    assert customer_id is not None
    return db.session.get_one(Customer, customer_id, populate_existing=True)


def count(model: Any, *where: Any) -> int:
    db.session.rollback()
    return db.session.scalar(sa.select(sa.func.count()).select_from(model).where(*where)) or 0


def check_completed(request_ids: Iterable[int]) -> None:
    """Assert promise 4 for completed requests: one customer each, whole, and told once."""
    db.session.rollback()
    for request_id in request_ids:
        request = fresh(request_id)
        assert request.state is RequestState.COMPLETED
        assert request.password_seal is None
        assert request.password_hash is None
        customer = customer_of(request_id)
        assert count(Customer, Customer.name_key == request.name_key) == 1
        assert customer.status is CustomerStatus.ACTIVE
        assert (customer.upn_suffix, customer.options) == (request.upn_suffix, request.options)
        assert customer.template_version_id == request.template_version_id
        version = db.session.get_one(ServiceTemplateVersion, request.template_version_id)
        having = db.session.scalars(
            sa.select(CustomerBundle.bundle_id).where(CustomerBundle.customer_id == customer.id)
        )
        assert set(having) == {bundle.id for bundle in version.bundles}
        kinds = db.session.scalars(
            sa.select(EmailTemplate.kind)
            .join(CustomerEmailTemplate, CustomerEmailTemplate.template_id == EmailTemplate.id)
            .where(CustomerEmailTemplate.customer_id == customer.id)
        ).all()
        assert TemplateKind.WELCOME in kinds
        assert db.session.get(GeneralParameters, customer.id) is not None
        user = db.session.scalars(sa.select(User).where(User.customer_id == customer.id)).one()
        assert (user.login, user.role) == (request.admin_login, Role.CUSTOMER_ADMIN)
        tenant = db.session.get_one(LocalPlatformTenant, customer.platform_reference)
        assert (tenant.upn_suffix, tenant.suspended) == (request.upn_suffix, False)
        account = db.session.get_one(LocalPlatformAccount, user.id)
        assert account.tenant_reference == tenant.reference
        run = run_of(request_id)
        assert (run.state, run.lease_token) == (RunState.COMPLETED, None)
        assert set(step_states(request_id)) == {StepState.DONE}
        told = db.session.scalars(
            sa.select(RequestNotification).where(
                RequestNotification.request_id == request_id,
                RequestNotification.kind == NotificationKind.COMPLETED,
            )
        ).all()
        assert [each.email for each in told] == [request.contact_email]
        completed = RequestTransition.to_state == RequestState.COMPLETED
        assert count(RequestTransition, RequestTransition.request_id == request_id, completed) == 1


def check_all_completed(number: int) -> None:
    """Assert the same of all requests that there are, in a few statements."""
    completed = SubscriptionRequest.state == RequestState.COMPLETED
    assert count(SubscriptionRequest) == count(SubscriptionRequest, completed) == number
    assert count(SubscriptionRequest, SubscriptionRequest.password_seal.is_not(None)) == 0
    mine = Customer.id.in_(sa.select(SubscriptionRequest.customer_id))
    assert count(Customer, mine, Customer.status == CustomerStatus.ACTIVE) == number
    assert count(Customer, Customer.status != CustomerStatus.ACTIVE) == 0
    mine = User.customer_id.in_(sa.select(SubscriptionRequest.customer_id))
    assert count(User, mine) == count(User, mine, User.role == Role.CUSTOMER_ADMIN) == number
    assert count(LocalPlatformTenant) == number
    assert count(LocalPlatformAccount) == number
    assert count(ProvisioningRun) == number
    assert count(ProvisioningRun, ProvisioningRun.state != RunState.COMPLETED) == 0
    assert count(ProvisioningStep, ProvisioningStep.state == StepState.DONE) == 7 * number
    moved = RequestTransition.to_state == RequestState.COMPLETED
    assert count(RequestTransition, moved) == number
    told = RequestNotification.kind == NotificationKind.COMPLETED
    assert count(RequestNotification, told) == number
    requests = sa.select(sa.func.count(sa.distinct(RequestNotification.request_id)))
    assert db.session.scalar(requests.where(told)) == number
    counted = sa.select(RequestCount.requests).where(
        RequestCount.state == RequestState.COMPLETED, RequestCount.requests > 0
    )
    assert db.session.scalars(counted).all() == [number]


def check_administrator(request_id: int) -> None:
    """His password is the one he chose, here and on the platform, and need not be changed."""
    login = fresh(request_id).admin_login
    user = find_user(login)
    assert not user.must_change_password
    assert passwords.verify(user.password_hash, PASSWORD)
    account = db.session.get_one(LocalPlatformAccount, user.id, populate_existing=True)
    assert passwords.verify(account.password_hash, PASSWORD)


def check_gone(request_id: int, reason: str = "Changed their mind.") -> None:
    """Assert that a rolled back request left nothing, and that its names are free."""
    request = fresh(request_id)
    assert request.state is RequestState.CANCELLED
    assert (request.customer_id, request.comment) == (None, reason)
    assert (request.password_seal, request.password_hash) == (None, None)
    assert not count(Customer, Customer.name_key == request.name_key)
    assert not count(User, User.login == request.admin_login)
    assert not count(LocalPlatformTenant, LocalPlatformTenant.upn_suffix == request.upn_suffix)
    for model in (CustomerBundle, CustomerEmailTemplate, GeneralParameters):
        known = sa.select(Customer.id)
        assert not count(model, model.customer_id.not_in(known))
    assert not count(LocalPlatformAccount, LocalPlatformAccount.user_id.not_in(sa.select(User.id)))
    assert run_of(request_id).state is RunState.ROLLED_BACK
    cancelled = RequestTransition.to_state == RequestState.CANCELLED
    mine = RequestTransition.request_id == request_id
    last = db.session.scalars(sa.select(RequestTransition).where(mine, cancelled)).one()
    assert last.reason == reason


def same_names(request_id: int) -> dict[str, Any]:
    """The names of a request, for another that asks for the same."""
    request = fresh(request_id)
    names = ("name", "short_name", "short_name_key", "upn_suffix", "admin_login")
    return {name: getattr(request, name) for name in names}
