"""Suppressed addresses of a customer's users: the list, and sending to some of them again."""

from __future__ import annotations

from flask import Blueprint, Response, flash, request, url_for

from blueprints.forms import parse_ids
from blueprints.htmx import go, respond, wants_fragment
from blueprints.lists import clean_search, read_cursor, read_size, size_parameter
from blueprints.security import current_actor, customer_page
from blueprints.suppressions.forms import ClearForm, parse_addresses
from models import Customer
from services import suppressions, users
from services.actors import Permission
from services.errors import InvalidInput, NotFound
from services.paging import PAGE_SIZES

bp = Blueprint("suppressions", __name__, url_prefix="/customers/<web_id>/suppressed")


@bp.get("")
@customer_page(Permission.MAILINGS_READ)
def index(customer: Customer) -> Response:
    """The list; search, page size and place are all in the address."""
    actor = current_actor()
    search = clean_search(request.args.get("q", ""))
    size = read_size(request.args)
    cursor = read_cursor(request.args)
    page = suppressions.list_suppressed(actor, customer, search=search, size=size, cursor=cursor)

    def address(cursor: str | None = None, size: int = size, search: str = search) -> str:
        return url_for(
            "suppressions.index",
            web_id=customer.web_id,
            q=search or None,
            size=size_parameter(size),
            cursor=cursor,
        )

    return respond(
        "suppressions/index.html",
        "suppressions/_table.html",
        customer=customer,
        listed=page,
        search=search,
        cursor=cursor,
        size=size,
        sizes=[(each, address(size=each), each == size) for each in PAGE_SIZES],
        previous_href=page.previous and address(page.previous),
        next_href=page.next and address(page.next),
        all_href=address(search=""),
        may_clear=actor.may(Permission.SUPPRESSIONS_EDIT),
        is_fragment=wants_fragment(),
    )


@bp.get("/clear")
@customer_page(Permission.SUPPRESSIONS_EDIT)
def confirm(customer: Customer) -> Response:
    """What clearing means, before it is done."""
    back = _back(customer, _user_id(request.args.getlist("user")))
    try:
        listed = suppressions.get_suppressed(
            current_actor(), customer, parse_addresses(request.args.getlist("address"))
        )
    except InvalidInput as error:
        flash(error.message, "attention")
        return go(back)
    if not listed:
        flash("These addresses are not suppressed any more.", "attention")
        return go(back)
    return respond(
        "suppressions/clear.html",
        customer=customer,
        listed=listed,
        back=back,
        user_id=_user_id(request.args.getlist("user")),
    )


@bp.post("/clear")
@customer_page(Permission.SUPPRESSIONS_EDIT)
def clear(customer: Customer) -> Response:
    form = ClearForm()
    if not form.validate():
        raise InvalidInput("address", "This page is incomplete. Open it again.")
    back = _back(customer, _user_id(request.form.getlist("user")))
    try:
        cleared = suppressions.clear_suppressions(current_actor(), customer, form.address.data)
    except (InvalidInput, NotFound) as error:
        flash(error.message, "attention")
        return go(back)
    what = cleared[0].address if len(cleared) == 1 else f"{len(cleared):,} addresses"
    flash(f"Cleared {what}. The next mail is sent again.", "good")
    return go(back)


def _user_id(values: list[str]) -> int | None:
    """The user from whose page the reader comes, if he does."""
    try:
        (found,) = parse_ids(values)
    except (InvalidInput, ValueError):
        return None
    return found


def _back(customer: Customer, user_id: int | None) -> str:
    if user_id is not None:
        try:
            user = users.get_user_of(customer, user_id)
        except NotFound:
            pass
        else:
            return url_for("users.show", web_id=customer.web_id, user_id=user.id)
    return url_for("suppressions.index", web_id=customer.web_id)
