"""The bundles of a customer: assigning, removing, and moving users from one to another."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, flash, url_for

from blueprints.customers.forms import AssignForm, MoveForm
from blueprints.forms import LARGEST_ID, refuse
from blueprints.htmx import go, respond
from blueprints.security import current_actor, customer_page
from models import Bundle, Customer
from services import bundles, customer_bundles
from services.actors import Permission
from services.customer_bundles import StillUsed
from services.errors import Conflict, InvalidInput, NotFound

assignments_bp = Blueprint("customer_bundles", __name__, url_prefix="/customers/<web_id>/bundles")
_ONE = f"/<int(max={LARGEST_ID}):bundle_id>"


@assignments_bp.route("/assign", methods=["GET", "POST"])
@customer_page(Permission.BUNDLES_EDIT)
def assign(customer: Customer) -> Response:
    actor = current_actor()
    has = {each.bundle.id for each in customer_bundles.list_assigned(actor, customer)}
    offered = {each.id: each for each in bundles.list_offered(actor) if each.id not in has}
    if not offered:
        flash(f"{customer.name} has every bundle that is offered.", "neutral")
        return _go_to(customer)
    form = AssignForm()
    form.bundle.choices = {str(each.id): each.name for each in offered.values()}
    page = "customers/assign_bundle.html"
    if not form.validate_on_submit():
        return respond(page, form=form, customer=customer, status=422 if form.errors else 200)
    chosen = offered.get(form.chosen or 0)
    if chosen is None:
        error = InvalidInput("bundle", "Choose one of the bundles of this list.")
        return refuse(page, form, error, customer=customer)
    customer_bundles.assign_bundle(actor, customer, chosen)
    flash(f"{customer.name} can give {chosen.name} to its users.", "good")
    return _go_to(customer)


@assignments_bp.post(f"{_ONE}/remove")
@customer_page(Permission.BUNDLES_EDIT)
def remove(customer: Customer, bundle_id: int) -> Response:
    """Done at once where nobody has it; else to the page that moves its users."""
    actor = current_actor()
    bundle = _get(customer, bundle_id)
    try:
        customer_bundles.remove_bundle(actor, customer, bundle)
    except StillUsed as error:
        flash(f"{error.message} Move them to another bundle first.", "attention")
        return go(url_for("customer_bundles.move", web_id=customer.web_id, bundle_id=bundle.id))
    flash(f"{bundle.name} is removed from {customer.name}.", "good")
    return _go_to(customer)


@assignments_bp.route(f"{_ONE}/move", methods=["GET", "POST"])
@customer_page(Permission.BUNDLES_EDIT)
def move(customer: Customer, bundle_id: int) -> Response:
    """All users of the customer that have the bundle get another one."""
    actor = current_actor()
    bundle = _get(customer, bundle_id)
    others = [
        each.bundle
        for each in customer_bundles.list_assigned(actor, customer)
        if each.bundle.id != bundle.id
    ]
    form = MoveForm(data={"remove": True})
    form.target.choices = {str(each.id): each.name for each in others}
    page = "customers/move_users.html"
    context: dict[str, Any] = {
        "customer": customer,
        "bundle": bundle,
        "has_others": bool(others),
        "users": customer_bundles.count_users(customer, bundle),
    }
    if not form.validate_on_submit():
        return respond(page, form=form, status=422 if form.errors else 200, **context)
    try:
        moved = customer_bundles.move_users(
            actor, customer, bundle, form.chosen, remove_after=form.remove.data
        )
    except InvalidInput as error:
        return refuse(page, form, error, **context)
    except Conflict as error:
        flash(error.message, "attention")
        return _go_to(customer)
    what = "1 user was" if moved == 1 else f"{moved:,} users were"
    then = f" {bundle.name} is removed from {customer.name}." if form.remove.data else ""
    flash(f"{what} moved from {bundle.name}.{then}", "good")
    return _go_to(customer)


def _get(customer: Customer, bundle_id: int) -> Bundle:
    """A bundle that the customer has."""
    for each in customer_bundles.list_assigned(current_actor(), customer):
        if each.bundle.id == bundle_id:
            return each.bundle
    raise NotFound(f"{customer.name} has no such bundle.")


def _go_to(customer: Customer) -> Response:
    return go(url_for("customer_details.show", web_id=customer.web_id, _anchor="bundles"))
