"""A customer's home: what is left to do, and how things stand."""

from __future__ import annotations

from flask import Blueprint, Response, url_for

from blueprints.htmx import respond
from blueprints.security import current_actor, customer_page
from extensions import get_settings
from models import Customer
from services import checklists, customer_overviews, direct_debits
from services.actors import Permission

bp = Blueprint("customer_home", __name__, url_prefix="/customers/<web_id>")


@bp.get("")
@customer_page(Permission.USERS_READ)
def index(customer: Customer) -> Response:
    """What its administrator starts from; staff sees it, too."""
    actor = current_actor()
    items = checklists.make_checklist(customer)
    may_see_debit = actor.may(Permission.CUSTOMERS_READ)
    return respond(
        "customer_home/index.html",
        customer=customer,
        left=[item for item in items if not item.is_done],
        done=[item for item in items if item.is_done],
        overview=customer_overviews.get_overview(actor, customer),
        sign_in_url=get_settings().public_url.rstrip("/") + url_for("account.sign_in"),
        may_see_debit=may_see_debit,
        direct_debit=direct_debits.find_direct_debit(actor, customer) if may_see_debit else None,
        may_send=actor.may(Permission.MAILINGS_SEND),
        may_edit=actor.may(Permission.PARAMETERS_EDIT),
    )
