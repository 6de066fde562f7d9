"""Mailings: the lists, and the confirmation of a new one. What becomes of one is in `following`."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from flask import Blueprint, Response, flash, request, url_for

from blueprints.forms import parse_ids
from blueprints.htmx import go, respond
from blueprints.lists import read_cursor
from blueprints.mailings.following import (
    add_customer_views,
    add_staff_views,
    start_delivery,
    url_of_mailing,
)
from blueprints.mailings.forms import ConfirmForm
from blueprints.mailings.frames import frame_mail
from blueprints.mailings.markup import audience_of, mailing_state, rows, state_pill
from blueprints.security import current_actor, current_session, customer_page, staff_page
from blueprints.users.lists import action_label
from extensions import get_settings
from models import Customer, Mailing
from services import mailing_confirmations, mailings, users
from services.actors import Permission
from services.errors import InvalidInput, NotFound
from services.mailings import Audience
from services.paging import Page

bp = Blueprint("mailings", __name__, url_prefix="/customers/<web_id>/mailings")
staff_bp = Blueprint("staff_mailings", __name__, url_prefix="/sp/mailings")
bp.add_app_template_filter(mailing_state, "mailing_state")
bp.add_app_template_filter(state_pill, "mailing_state_pill")
bp.add_app_template_filter(audience_of, "audience")
add_customer_views(bp)
add_staff_views(staff_bp)


@bp.get("")
@customer_page(Permission.MAILINGS_READ)
def index(customer: Customer) -> Response:
    cursor = read_cursor(request.args)
    page = mailings.list_mailings(current_actor(), customer, cursor=cursor)
    return _show_list(customer, page, cursor, None)


@staff_bp.get("", endpoint="index")
@staff_page(Permission.MAILINGS_READ)
def staff_index() -> Response:
    """The mailings of every customer in the actor's scope, those of several at once included."""
    cursor = read_cursor(request.args)
    page = mailings.list_staff_mailings(current_actor(), cursor=cursor)
    return _show_list(None, page, cursor, mailings.find_audiences(page.rows))


def _show_list(
    customer: Customer | None,
    page: Page[Mailing],
    cursor: str,
    audiences: Mapping[int, Audience] | None,
) -> Response:
    list_url = (
        url_for("mailings.index", web_id=customer.web_id)
        if customer
        else url_for("staff_mailings.index")
    )
    return respond(
        "mailings/index.html",
        "mailings/_table.html",
        customer=customer,
        list_url=list_url,
        listed=page,
        rows=rows(page.rows, list_url=list_url, audiences=audiences),
        cursor=cursor,
    )


# --- Confirming --------------------------------------------------------------------------------


@bp.get("/new")
@customer_page(Permission.MAILINGS_SEND)
def new(customer: Customer) -> Response:
    """What will happen, before it does: for the selection, or the users that the address names."""
    include_recent = request.args.get("recent") == "1"
    named = parse_ids(request.args.getlist("user"))
    template_id = _template_id()
    user_ids = named or users.get_selection(current_session().id, customer)
    try:
        preview = mailing_confirmations.preview_mailing(
            current_actor(), customer, template_id, user_ids, include_recent=include_recent
        )
    except InvalidInput as error:
        flash(error.message, "attention")
        return go(url_for("users.index", web_id=customer.web_id))
    return respond(
        "mailings/new.html",
        "mailings/_preview.html",
        customer=customer,
        preview=preview,
        action=action_label(preview.template),
        named=named,
        include_recent=include_recent,
        recent_minutes=get_settings().recent_mail_minutes,
        confirmation=secrets.token_urlsafe(24),
    )


@bp.get("/preview")
@customer_page(Permission.MAILINGS_SEND)
def preview_frame(customer: Customer) -> Response:
    """The mail alone, as its HTML, for the frame on the confirmation page."""
    user_ids = parse_ids(request.args.getlist("user"))[:1]
    preview = mailing_confirmations.preview_mailing(
        current_actor(), customer, _template_id(), user_ids, include_recent=True
    )
    if preview.message is None:
        raise NotFound("There is nothing to show for this user.")
    return frame_mail(preview.message.html)


def _template_id() -> int:
    try:
        (found,) = parse_ids(request.args.getlist("template"))
    except (InvalidInput, ValueError):
        raise NotFound("There is no such e-mail template.") from None
    return found


@bp.post("")
@customer_page(Permission.MAILINGS_SEND)
def create(customer: Customer) -> Response:
    """Confirm. The same page sent twice leads to the same mailing."""
    form = ConfirmForm()
    if not form.validate():
        raise InvalidInput("users", "This page is incomplete. Open it again from Users.")
    mailing = mailing_confirmations.confirm_mailing(
        current_actor(),
        customer,
        form.version.data,
        form.users.data,
        include_recent=form.recent.data,
        confirmation=form.confirmation.data,
    )
    start_delivery(mailing)
    users.change_selection(current_session().id, customer, ticked=(), shown=form.users.data)
    return go(url_of_mailing(mailing, customer))
