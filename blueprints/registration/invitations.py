"""Invitations to register: the list, and sending, renewing and withdrawing them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from flask import Blueprint, Response, flash, request, url_for

from blueprints.forms import LARGEST_ID, refuse
from blueprints.htmx import go, respond, wants_fragment
from blueprints.lists import clean_search, read_cursor, read_size, size_parameter
from blueprints.registration.entry_forms import InvitationForm
from blueprints.security import current_actor, requires
from config import LANGUAGES
from extensions import get_settings
from models import utcnow
from services import invitations
from services.actors import Permission
from services.errors import Conflict, InvalidInput
from services.paging import PAGE_SIZES

invitations_bp = Blueprint("invitations", __name__, url_prefix="/tenant-registration/invitations")

_ONE = f"/<int(max={LARGEST_ID}):invitation_id>"


@invitations_bp.get("")
@requires(Permission.PROSPECTS_INVITE)
def index() -> Response:
    """The list; search, page size and place are all in the address."""
    search = clean_search(request.args.get("q", ""))
    size = read_size(request.args)
    cursor = read_cursor(request.args)
    page = invitations.list_invitations(current_actor(), search=search, size=size, cursor=cursor)

    def address(cursor: str | None = None, size: int = size, search: str = search) -> str:
        return url_for(
            "invitations.index", q=search or None, size=size_parameter(size), cursor=cursor
        )

    return respond(
        "registration/invitations.html",
        "registration/_invitations.html",
        listed=page,
        now=utcnow(),
        possible=invitations.is_possible(),
        search=search,
        cursor=cursor,
        size=size,
        sizes=[(each, address(size=each), each == size) for each in PAGE_SIZES],
        previous_href=page.previous and address(page.previous),
        next_href=page.next and address(page.next),
        all_href=address(search=""),
        is_fragment=wants_fragment(),
    )


@invitations_bp.route("/new", methods=["GET", "POST"])
@requires(Permission.PROSPECTS_INVITE)
def new() -> Response:
    """Whom to invite, and to what."""
    actor = current_actor()
    form = InvitationForm()
    form.offer(
        invitations.list_templates(actor),
        invitations.list_groups(actor),
        needs_group=not actor.all_groups,
    )
    page = "registration/invite.html"
    context: dict[str, Any] = {
        "possible": invitations.is_possible(),
        "days": get_settings().registration_invitation_days,
    }
    if not form.validate_on_submit():
        return respond(page, form=form, status=422 if form.errors else 200, **context)
    try:
        sent = invitations.invite(
            actor,
            email=form.email.data,
            language=form.language.data,
            template_id=form.template_id,
            group_id=form.group_id,
            message=form.message.data or "",
        )
    except (InvalidInput, Conflict) as error:
        return refuse(page, form, error, **context)
    flash(f"{sent.email} is invited. The mail in {LANGUAGES[sent.language]} is on its way.", "good")
    return go(url_for("invitations.index"))


@invitations_bp.post(f"{_ONE}/resend")
@requires(Permission.PROSPECTS_INVITE)
def resend(invitation_id: int) -> Response:
    try:
        seen = datetime.fromisoformat(request.form.get("seen", ""))
        if seen.tzinfo is None:
            raise ValueError
    except ValueError:
        raise InvalidInput("seen", "This page is incomplete. Load it again.") from None
    try:
        sent = invitations.resend(current_actor(), invitation_id, seen=seen)
    except Conflict as error:
        flash(error.message, "attention")
    else:
        flash(f"A new link is on its way to {sent.email}. The old one no longer works.", "good")
    return go(url_for("invitations.index"))


@invitations_bp.post(f"{_ONE}/withdraw")
@requires(Permission.PROSPECTS_INVITE)
def withdraw(invitation_id: int) -> Response:
    try:
        ended = invitations.withdraw(current_actor(), invitation_id)
    except Conflict as error:
        flash(error.message, "attention")
    else:
        flash(f"The link of {ended.email} no longer works. Resend it to invite again.", "good")
    return go(url_for("invitations.index"))
