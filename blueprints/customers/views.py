"""The customers that a member of staff looks after."""

from __future__ import annotations

from flask import Blueprint, Response, request

from blueprints.customers.lists import Controls, CustomerList
from blueprints.customers.markup import rows, state_pill
from blueprints.htmx import respond, wants_fragment
from blueprints.security import current_actor, requires
from services import bundles, customers, groups, preparations
from services.actors import Permission
from services.paging import PAGE_SIZES

bp = Blueprint("customers", __name__)
bp.add_app_template_filter(state_pill, "customer_state")


@bp.get("/customers")
@requires(Permission.CUSTOMERS_READ)
def index() -> Response:
    """The list; search, filters, order, page size and place are all in the address."""
    actor = current_actor()
    mine, offered = groups.list_mine(actor), bundles.list_all(actor)
    shown = CustomerList.read(request.args, mine, offered)
    listed = customers.list_customers(actor, shown.wanted, size=shown.size, cursor=shown.cursor)
    is_empty = not listed.rows and not shown.wanted.is_filtered
    return respond(
        "customers/index.html",
        "customers/_table.html",
        listed=listed,
        rows=rows(listed.rows),
        preparations=preparations.find_preparations(actor) if is_empty else None,
        shown=shown,
        controls=Controls(shown, mine, offered),
        sizes=PAGE_SIZES,
        may_create=actor.may(Permission.TENANTS_REGISTER),
        is_fragment=wants_fragment(),
    )
