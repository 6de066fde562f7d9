"""What is known of a customer, and changing it."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, flash, url_for

from blueprints.customers.forms import EditForm, GroupForm
from blueprints.forms import refuse
from blueprints.htmx import go, respond
from blueprints.security import current_actor, customer_page
from config import LANGUAGES
from models import Customer
from services import countries, customer_bundles, customer_changes, groups
from services.actors import Permission
from services.customer_changes import CHANGEABLE
from services.errors import InvalidInput, InvalidInputs, Stale

details_bp = Blueprint("customer_details", __name__, url_prefix="/customers/<web_id>/details")


@details_bp.get("")
@customer_page(Permission.CUSTOMERS_READ)
def show(customer: Customer) -> Response:
    actor = current_actor()
    return respond(
        "customers/show.html",
        customer=customer,
        country=countries.country_name(customer.country),
        contact_language=LANGUAGES.get(customer.language, customer.language),
        assigned=customer_bundles.list_assigned(actor, customer),
        may_edit=actor.may(Permission.CUSTOMERS_EDIT),
        may_close=actor.may(Permission.CUSTOMERS_CLOSE),
        may_assign=actor.may(Permission.BUNDLES_EDIT),
        may_move=actor.may(Permission.GROUPS_MANAGE),
        may_impersonate=actor.may(Permission.IMPERSONATE),
    )


@details_bp.route("/edit", methods=["GET", "POST"])
@customer_page(Permission.CUSTOMERS_EDIT)
def edit(customer: Customer) -> Response:
    """Contact, address, language and number; who was overtaken keeps his own input."""
    form = EditForm(
        data={
            "version": customer.version,
            **{name: getattr(customer, name) for name in CHANGEABLE},
        }
    )
    page = "customers/edit.html"
    if not form.validate_on_submit():
        return respond(page, form=form, customer=customer, status=422 if form.errors else 200)
    typed = {name: form[name].data or "" for name in CHANGEABLE}
    try:
        customer_changes.update_customer(current_actor(), customer, typed, versions=[form.seen])
    except InvalidInputs as error:
        return refuse(page, form, error, customer=customer)
    except Stale:
        return _overtaken(page, form, customer)
    flash(f"The details of {customer.name} are saved.", "good")
    return _go_to(customer)


@details_bp.route("/group", methods=["GET", "POST"])
@customer_page(Permission.GROUPS_MANAGE)
def group(customer: Customer) -> Response:
    """Another group: other operators and API credentials see the customer."""
    actor = current_actor()
    form = GroupForm(data={"version": customer.version, "group": str(customer.group_id)})
    form.group.choices = {
        str(each.id): f"{each.groupno} {each.name}" for each in groups.list_mine(actor)
    }
    page = "customers/group.html"
    if not form.validate_on_submit():
        return respond(page, form=form, customer=customer, status=422 if form.errors else 200)
    try:
        moved = groups.move_customer(actor, customer, form.chosen, versions=[form.seen])
    except InvalidInput as error:
        if error.field == "version":
            raise
        return refuse(page, form, error, customer=customer)
    except Stale:
        return _overtaken(page, form, customer)
    flash(f"{moved.name} belongs to {moved.group.name}.", "good")
    return _go_to(moved)


def _overtaken(page: str, form: Any, customer: Customer) -> Response:
    newest = customer_changes.reload_customer(customer)
    form.version.data = str(newest.version)
    form.form_errors.append(
        "Somebody else has changed this customer since you opened it. Here stands what you chose: "
        "save again to put it in the other's place."
    )
    return respond(page, form=form, customer=newest, status=409)


def _go_to(customer: Customer) -> Response:
    return go(url_for("customer_details.show", web_id=customer.web_id))
