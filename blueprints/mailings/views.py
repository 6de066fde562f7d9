"""Mailings: the confirmation, the progress of one, and the list of a customer's."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response, flash, redirect, render_template, request, url_for

from blueprints.downloads import csv_download
from blueprints.htmx import go, respond, wants_fragment
from blueprints.mailings.forms import ConfirmForm
from blueprints.mailings.progress import progress_of
from blueprints.security import current_actor, current_session, customer_page, passive
from blueprints.users.forms import LARGEST_ID, parse_ids
from blueprints.users.lists import action_label
from extensions import get_settings, queues
from models import Customer, DeliveryState, Mailing
from services import mail_lines, mailing_confirmations, mailing_controls, mailings, users
from services.actors import Actor, Permission
from services.errors import Conflict, InvalidInput, NotFound

bp = Blueprint("mailings", __name__, url_prefix="/customers/<web_id>/mailings")

_ONE = f"/<int(max={LARGEST_ID}):mailing_id>"

# Mail is shown in a frame of its own: its styles are inline, and nothing in it may run or load.
_FRAME_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox; frame-ancestors 'self'"
)


@bp.get("")
@customer_page(Permission.MAILINGS_READ)
def index(customer: Customer) -> Response:
    cursor = request.args.get("cursor", "")[:200]
    page = mailings.list_mailings(current_actor(), customer, cursor=cursor)
    return respond(
        "mailings/index.html", "mailings/_table.html", customer=customer, listed=page, cursor=cursor
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
    headers = {"Content-Security-Policy": _FRAME_POLICY, "X-Frame-Options": "SAMEORIGIN"}
    return Response(preview.message.html, headers=headers)


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
    return go(_url_of(customer, mailing))


def start_delivery(mailing: Mailing) -> None:
    queues.start_mailing(mailing.lane.value, mailing.id, mailing.waiting)


# --- Watching ----------------------------------------------------------------------------------


@bp.get(_ONE)
@customer_page(Permission.MAILINGS_READ)
def show(customer: Customer, mailing_id: int) -> Response:
    mailing = mailings.get_mailing(current_actor(), customer, mailing_id)
    state = _state()
    cursor = request.args.get("after", "")[:200]
    return respond(
        "mailings/show.html",
        "mailings/_deliveries.html",
        **_progress_context(customer, mailing),
        listed=mailings.list_deliveries(mailing, state=state, cursor=cursor),
        state=state,
        cursor=cursor,
        failures=mailings.newest_failures(mailing) if mailing.failed else [],
        unmailed=mailings.list_unmailed_passwords(mailing, get_settings().selection_limit),
    )


@bp.get(_ONE + "/progress")
@passive
@customer_page(Permission.MAILINGS_READ)
def progress(customer: Customer, mailing_id: int) -> Any:
    """What the page polls: the counters. `seen` is the state that the page shows so far."""
    mailing = mailings.get_mailing(current_actor(), customer, mailing_id)
    if not wants_fragment():
        return redirect(_url_of(customer, mailing))
    context = _progress_context(customer, mailing)
    body = render_template("mailings/_progress_update.html", **context)
    response = Response(body)
    if not context["progress"].is_polled:
        response.headers["HX-Trigger"] = "mailing-ended"
    return response


def _progress_context(customer: Customer, mailing: Mailing) -> dict[str, Any]:
    block = mail_lines.find_block() if mailing.is_open else None
    return {
        "customer": customer,
        "mailing": mailing,
        "progress": progress_of(mailing, is_blocked=block is not None),
        "block": block,
        "may_send": current_actor().may(Permission.MAILINGS_SEND),
        "seen": request.args.get("seen", ""),
    }


def _state() -> DeliveryState | None:
    try:
        return DeliveryState(request.args.get("state", ""))
    except ValueError:
        return None


@bp.post(_ONE + "/export")
@customer_page(Permission.MAILINGS_READ)
def export(customer: Customer, mailing_id: int) -> Response:
    actor = current_actor()
    mailing = mailings.get_mailing(actor, customer, mailing_id)
    rows = mailings.export_deliveries(actor, mailing)
    return csv_download(f"mailing-{mailing.id}", mailings.EXPORT_HEADER, rows)


# --- Steering ----------------------------------------------------------------------------------


@bp.post(_ONE + "/pause")
@customer_page(Permission.MAILINGS_SEND)
def pause(customer: Customer, mailing_id: int) -> Response:
    def act(actor: Actor, mailing: Mailing) -> str:
        mailing_controls.pause_mailing(actor, mailing)
        return "Paused. Mails that are under way are finished first."

    return _steer(customer, mailing_id, act)


@bp.post(_ONE + "/resume")
@customer_page(Permission.MAILINGS_SEND)
def resume(customer: Customer, mailing_id: int) -> Response:
    def act(actor: Actor, mailing: Mailing) -> str:
        mailing_controls.resume_mailing(actor, mailing)
        start_delivery(mailing)
        return "Resumed."

    return _steer(customer, mailing_id, act)


@bp.post(_ONE + "/cancel")
@customer_page(Permission.MAILINGS_SEND)
def cancel(customer: Customer, mailing_id: int) -> Response:
    def act(actor: Actor, mailing: Mailing) -> str:
        mailing_controls.cancel_mailing(actor, mailing)
        cancelled = mailings.get_mailing(actor, customer, mailing_id).cancelled
        return f"Cancelled {_mails(cancelled)} that waited."

    return _steer(customer, mailing_id, act)


@bp.post(_ONE + "/retry")
@customer_page(Permission.MAILINGS_SEND)
def retry(customer: Customer, mailing_id: int) -> Response:
    def act(actor: Actor, mailing: Mailing) -> str:
        retried = mailing_controls.retry_failed(actor, mailing)
        start_delivery(mailings.get_mailing(actor, customer, mailing_id))
        return f"Trying {_mails(retried)} again."

    return _steer(customer, mailing_id, act)


def _steer(customer: Customer, mailing_id: int, act: Callable[[Actor, Mailing], str]) -> Response:
    """Do it, or say why it cannot be done any more; back to the mailing either way."""
    actor = current_actor()
    mailing = mailings.get_mailing(actor, customer, mailing_id)
    try:
        flash(act(actor, mailing), "neutral")
    except Conflict as error:
        flash(error.message, "attention")
    return go(_url_of(customer, mailing))


def _mails(count: int) -> str:
    return "1 mail" if count == 1 else f"{count:,} mails"


def _url_of(customer: Customer, mailing: Mailing) -> str:
    return url_for("mailings.show", web_id=customer.web_id, mailing_id=mailing.id)
