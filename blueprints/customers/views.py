"""The customers that a member of staff looks after."""

from __future__ import annotations

from flask import Blueprint, Response, request, url_for

from blueprints.htmx import respond, wants_fragment
from blueprints.lists import clean_search, read_size, size_parameter
from blueprints.security import current_actor, requires
from services import customers
from services.actors import Permission
from services.paging import PAGE_SIZES

bp = Blueprint("customers", __name__)


@bp.get("/customers")
@requires(Permission.CUSTOMERS_READ)
def index() -> Response:
    """The list; search, page size and place are all in the address."""
    search = clean_search(request.args.get("q", ""))
    size = read_size(request.args)
    page = customers.list_customers(
        current_actor(), search=search, size=size, cursor=request.args.get("cursor", "")
    )
    return respond(
        "customers/index.html",
        "customers/_table.html",
        customers=page.rows,
        search=search,
        size=size,
        previous_href=page.previous and _address(search, size, page.previous),
        next_href=page.next and _address(search, size, page.next),
        sizes=[(each, _address(search, each), each == size) for each in PAGE_SIZES],
        all_href=_address("", size),
        is_fragment=wants_fragment(),
    )


def _address(search: str, size: int, cursor: str | None = None) -> str:
    return url_for("customers.index", q=search or None, size=size_parameter(size), cursor=cursor)
