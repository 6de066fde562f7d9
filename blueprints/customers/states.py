"""Suspending, resuming, deleting and restoring a customer: each is asked once, with its reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, flash, url_for

from blueprints.customers.forms import DeleteForm, ReasonForm
from blueprints.forms import refuse
from blueprints.htmx import go, respond
from blueprints.security import current_actor, customer_page
from extensions import get_settings
from models import Customer, CustomerStatus
from services import customer_states
from services.actors import Actor, Permission
from services.errors import Conflict, InvalidInput

states_bp = Blueprint("customer_states", __name__, url_prefix="/customers/<web_id>")


@dataclass(frozen=True, slots=True)
class Step:
    """What a page does and what it says, `{name}` being the customer's."""

    page: str
    change: Callable[..., Customer]
    done: str


_SUSPEND = Step(
    "customers/suspend.html",
    customer_states.suspend_customer,
    "{name} is suspended. Nobody of it can sign in, and it gets no mail.",
)
_RESUME = Step(
    "customers/resume.html",
    customer_states.resume_customer,
    "{name} is active again. Its people sign in as before.",
)
_RESTORE = Step(
    "customers/restore.html",
    customer_states.restore_customer,
    "{name} is restored. It will not be deleted.",
)


@states_bp.route("/suspend", methods=["GET", "POST"])
@customer_page(Permission.CUSTOMERS_CLOSE)
def suspend(customer: Customer) -> Response:
    if customer.status is not CustomerStatus.ACTIVE:
        return _too_late(customer, f"{customer.name} is suspended already.")
    return _take(customer, _SUSPEND)


@states_bp.route("/resume", methods=["GET", "POST"])
@customer_page(Permission.CUSTOMERS_CLOSE)
def resume(customer: Customer) -> Response:
    if customer.is_closing:
        return _too_late(customer, f"{customer.name} is being deleted. Restore it instead.")
    if customer.status is not CustomerStatus.SUSPENDED:
        return _too_late(customer, f"{customer.name} is active already.")
    return _take(customer, _RESUME)


@states_bp.route("/restore", methods=["GET", "POST"])
@customer_page(Permission.CUSTOMERS_CLOSE)
def restore(customer: Customer) -> Response:
    if not customer.is_closing:
        return _too_late(customer, f"{customer.name} is not being deleted.")
    return _take(customer, _RESTORE)


def _take(customer: Customer, step: Step) -> Response:
    form = ReasonForm()
    if not form.validate_on_submit():
        return respond(step.page, form=form, customer=customer, status=422 if form.errors else 200)
    actor: Actor = current_actor()
    try:
        changed = step.change(actor, customer, reason=form.reason.data or "")
    except InvalidInput as error:
        return refuse(step.page, form, error, customer=customer)
    except Conflict as error:
        return _too_late(customer, error.message)
    flash(step.done.format(name=changed.name), "good")
    return _go_to(changed)


@states_bp.route("/delete", methods=["GET", "POST"])
@customer_page(Permission.CUSTOMERS_CLOSE)
def delete(customer: Customer) -> Response:
    """The web ID is typed; until the grace period is over it can be taken back."""
    if customer.is_closing:
        return _too_late(customer, f"{customer.name} is being deleted already.")
    form = DeleteForm()
    page = "customers/delete.html"
    context: dict[str, Any] = {"days": get_settings().customer_grace_days}
    if not form.validate_on_submit():
        status = 422 if form.errors else 200
        return respond(page, form=form, customer=customer, status=status, **context)
    try:
        changed = customer_states.delete_customer(
            current_actor(),
            customer,
            typed_web_id=form.web_id.data or "",
            reason=form.reason.data or "",
        )
    except InvalidInput as error:
        return refuse(page, form, error, customer=customer, **context)
    except Conflict as error:
        return _too_late(customer, error.message)
    flash(
        f"{changed.name} is suspended and will be deleted. Until then it can be restored.", "good"
    )
    return _go_to(changed)


def _too_late(customer: Customer, message: str) -> Response:
    flash(message, "attention")
    return _go_to(customer)


def _go_to(customer: Customer) -> Response:
    return go(url_for("customer_details.show", web_id=customer.web_id))
