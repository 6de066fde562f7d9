"""One mailing on its way: progress, recipients, steering, download.

The same views stand below a customer's address and, for staff, at /sp/mailings, where a mailing may
have the users of several customers. There they get None for the customer.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, update_wrapper
from typing import Any

from flask import Blueprint, Response, flash, redirect, render_template, request, url_for

from blueprints.downloads import csv_download
from blueprints.forms import LARGEST_ID
from blueprints.htmx import go, respond, wants_fragment
from blueprints.mailings.progress import progress_of
from blueprints.security import current_actor, customer_page, passive, staff_page
from extensions import get_settings, queues
from models import Customer, DeliveryState, Mailing
from services import mail_lines, mailing_controls, mailings
from services.actors import Actor, Permission
from services.errors import Conflict

View = Callable[..., Any]


def start_delivery(mailing: Mailing) -> None:
    """Ask the workers to look at a mailing; call it after the commit."""
    queues.start_mailing(mailing.lane.value, mailing.id, mailing.waiting)


def url_of_mailing(mailing: Mailing, customer: Customer | None) -> str:
    """Its page below the customer's address, or the one for staff."""
    if customer is None:
        return url_for("staff_mailings.show", mailing_id=mailing.id)
    return url_for("mailings.show", web_id=customer.web_id, mailing_id=mailing.id)


def _get_mailing(customer: Customer | None, mailing_id: int) -> Mailing:
    actor = current_actor()
    if customer is None:
        return mailings.get_staff_mailing(actor, mailing_id)
    return mailings.get_mailing(actor, customer, mailing_id)


# --- Watching ----------------------------------------------------------------------------------


def show(customer: Customer | None, mailing_id: int) -> Response:
    mailing = _get_mailing(customer, mailing_id)
    state = _state()
    cursor = request.args.get("after", "")[:200]
    return respond(
        "mailings/show.html",
        "mailings/_deliveries.html",
        **_progress_context(customer, mailing),
        shows_run=customer is None and _may_see_run(mailing),
        audience=None if customer else mailings.find_audiences([mailing]).get(mailing.id),
        listed=mailings.list_deliveries(mailing, state=state, cursor=cursor),
        state=state,
        cursor=cursor,
        failures=mailings.newest_failures(mailing) if mailing.failed else [],
        unmailed=mailings.list_unmailed_passwords(mailing, get_settings().selection_limit),
    )


@passive
def progress(customer: Customer | None, mailing_id: int) -> Any:
    """What the page polls: the counters. `seen` is the state that the page shows so far."""
    mailing = _get_mailing(customer, mailing_id)
    if not wants_fragment():
        return redirect(url_of_mailing(mailing, customer))
    context = _progress_context(customer, mailing)
    body = render_template("mailings/_progress_update.html", **context)
    response = Response(body)
    if not context["progress"].is_polled:
        response.headers["HX-Trigger"] = "mailing-ended"
    return response


def _progress_context(customer: Customer | None, mailing: Mailing) -> dict[str, Any]:
    block = mail_lines.find_block() if mailing.is_open else None
    return {
        "customer": customer,
        "web_id": customer.web_id if customer else None,
        "mailing": mailing,
        "progress": progress_of(mailing, is_blocked=block is not None),
        "block": block,
        "may_send": current_actor().may(Permission.MAILINGS_SEND),
        "seen": request.args.get("seen", ""),
    }


def _may_see_run(mailing: Mailing) -> bool:
    """Whether the commands that started it are the reader's own, or his role sees everybody's."""
    actor = current_actor()
    is_own = mailing.created_by_id == actor.user_id
    return mailing.command_run_id is not None and (actor.all_groups or is_own)


def _state() -> DeliveryState | None:
    try:
        return DeliveryState(request.args.get("state", ""))
    except ValueError:
        return None


def export(customer: Customer | None, mailing_id: int) -> Response:
    actor = current_actor()
    mailing = _get_mailing(customer, mailing_id)
    rows = mailings.export_deliveries(actor, mailing)
    return csv_download(f"mailing-{mailing.id}", mailings.EXPORT_HEADER, rows)


# --- Steering ----------------------------------------------------------------------------------


def pause(customer: Customer | None, mailing_id: int) -> Response:
    def act(actor: Actor, mailing: Mailing) -> str:
        mailing_controls.pause_mailing(actor, mailing)
        return "Paused. Mails that are under way are finished first."

    return _steer(customer, mailing_id, act)


def resume(customer: Customer | None, mailing_id: int) -> Response:
    def act(actor: Actor, mailing: Mailing) -> str:
        mailing_controls.resume_mailing(actor, mailing)
        start_delivery(mailing)
        return "Resumed."

    return _steer(customer, mailing_id, act)


def cancel(customer: Customer | None, mailing_id: int) -> Response:
    def act(actor: Actor, mailing: Mailing) -> str:
        mailing_controls.cancel_mailing(actor, mailing)
        cancelled = _get_mailing(customer, mailing_id).cancelled
        return f"Cancelled {_mails(cancelled)} that waited."

    return _steer(customer, mailing_id, act)


def retry(customer: Customer | None, mailing_id: int) -> Response:
    def act(actor: Actor, mailing: Mailing) -> str:
        retried = mailing_controls.retry_failed(actor, mailing)
        start_delivery(_get_mailing(customer, mailing_id))
        return f"Trying {_mails(retried)} again."

    return _steer(customer, mailing_id, act)


def _steer(
    customer: Customer | None, mailing_id: int, act: Callable[[Actor, Mailing], str]
) -> Response:
    """Do it, or say why it cannot be done any more; back to the mailing either way."""
    actor = current_actor()
    mailing = _get_mailing(customer, mailing_id)
    try:
        flash(act(actor, mailing), "neutral")
    except Conflict as error:
        flash(error.message, "attention")
    return go(url_of_mailing(mailing, customer))


def _mails(count: int) -> str:
    return "1 mail" if count == 1 else f"{count:,} mails"


# --- Addresses ---------------------------------------------------------------------------------

_VIEWS: tuple[tuple[str, str, View, Permission], ...] = (
    ("GET", "", show, Permission.MAILINGS_READ),
    ("GET", "/progress", progress, Permission.MAILINGS_READ),
    ("POST", "/export", export, Permission.MAILINGS_READ),
    ("POST", "/pause", pause, Permission.MAILINGS_SEND),
    ("POST", "/resume", resume, Permission.MAILINGS_SEND),
    ("POST", "/cancel", cancel, Permission.MAILINGS_SEND),
    ("POST", "/retry", retry, Permission.MAILINGS_SEND),
)


def add_customer_views(blueprint: Blueprint) -> None:
    """The views below the address of a customer, who sees his own mailings alone."""
    _add_views(blueprint, customer_page)


def add_staff_views(blueprint: Blueprint) -> None:
    """The same views for staff, of any mailing in scope."""

    def guard(permission: Permission) -> Callable[[View], View]:
        return lambda view: staff_page(permission)(update_wrapper(partial(view, None), view))

    _add_views(blueprint, guard)


def _add_views(blueprint: Blueprint, guard: Callable[[Permission], Callable[[View], View]]) -> None:
    for method, path, view, permission in _VIEWS:
        blueprint.add_url_rule(
            f"/<int(max={LARGEST_ID}):mailing_id>{path}",
            view.__name__,
            guard(permission)(view),
            methods=[method],
        )
