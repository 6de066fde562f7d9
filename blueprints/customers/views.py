"""The customers that a member of staff looks after."""

from __future__ import annotations

from flask import Blueprint, Response, request, url_for

from blueprints.htmx import respond, wants_fragment
from blueprints.security import current_actor, requires
from services import customers
from services.actors import Permission
from services.paging import PAGE_SIZES

bp = Blueprint("customers", __name__)

_LONGEST_SEARCH = 200


@bp.get("/customers")
@requires(Permission.CUSTOMERS_READ)
def index() -> Response:
    """The list; search, page size and place are all in the address."""
    search = _search_text(request.args.get("q", ""))
    size = request.args.get("size", PAGE_SIZES[0], type=int)
    size = size if size in PAGE_SIZES else PAGE_SIZES[0]
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
    shown = size if size != PAGE_SIZES[0] else None
    return url_for("customers.index", q=search or None, size=shown, cursor=cursor)


def _search_text(text: str) -> str:
    return "".join(letter for letter in text if letter.isprintable())[:_LONGEST_SEARCH].strip()
