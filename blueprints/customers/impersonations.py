"""Signing in as a customer's administrator, and returning to oneself."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, flash, request, url_for

from blueprints.customers.forms import AdministratorForm
from blueprints.forms import refuse
from blueprints.htmx import go, respond
from blueprints.security import current_actor, current_session, customer_page, signed_in
from models import Customer
from services import impersonations
from services.actors import Permission
from services.errors import Conflict, InvalidInput

impersonations_bp = Blueprint("impersonations", __name__)


@impersonations_bp.route("/customers/<web_id>/sign-in-as", methods=["GET", "POST"])
@customer_page(Permission.IMPERSONATE)
def begin(customer: Customer) -> Response:
    """Choose the administrator, and say why."""
    actor = current_actor()
    offered = impersonations.list_administrators(actor, customer)
    if not offered:
        flash(
            f"{customer.name} has no administrator who can sign in, so nobody can be signed in as "
            "one.",
            "attention",
        )
        return go(url_for("customer_details.show", web_id=customer.web_id))
    first = str(offered[0].id) if len(offered) == 1 else None
    form = AdministratorForm(data={"administrator": first})
    form.administrator.choices = {
        str(each.id): f"{each.full_name}, {each.login}" for each in offered
    }
    context: dict[str, Any] = {
        "customer": customer,
        "minutes": int(impersonations.LASTS.total_seconds() // 60),
    }
    page = "impersonations/begin.html"
    if not form.validate_on_submit():
        return respond(page, form=form, status=422 if form.errors else 200, **context)
    try:
        impersonations.begin(
            actor, current_session(), customer, form.chosen, reason=form.reason.data or ""
        )
    except InvalidInput as error:
        return refuse(page, form, error, **context)
    except Conflict as error:
        flash(error.message, "attention")
        return go(url_for("customer_details.show", web_id=customer.web_id))
    return go(url_for("customer_home.index", web_id=customer.web_id))


@impersonations_bp.post("/impersonation/end")
@signed_in
def end() -> Response:
    """Back to the customer from which one set out; harmless for who is himself."""
    customer = impersonations.end(current_session(), request.remote_addr or "")
    if customer is None:
        return go(url_for("account.home"))
    flash(f"You are yourself again. You were signed in at {customer.name}.", "good")
    return go(url_for("customer_details.show", web_id=customer.web_id))
