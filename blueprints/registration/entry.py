"""The way in to Tenant Registration: the public page, and the link that it sends."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, request, session, url_for
from flask_login import current_user

from blueprints.forms import refuse
from blueprints.htmx import go, respond
from blueprints.registration.entry_forms import LinkForm
from blueprints.security import CAME_BY_LINK, SESSION_TOKEN, public, session_token
from config import LANGUAGES, Registration
from extensions import get_settings
from models import RegistrationLink
from services import registration_drafts, registration_links
from services.actors import Actor, Permission
from services.errors import InvalidInput, ServiceError, Throttled
from services.registration_links import DeadLink, Entered

entry_bp = Blueprint("registration", __name__)


@entry_bp.route("/tenant-registration", methods=["GET", "POST"])
@public
def start() -> Response:
    """To the drafts of who may register; for strangers what this is, and a link by mail.

    Nothing in the answer tells whether an address is known, nor how much was done for it.
    """
    if request.method != "POST" and _may_register():
        return go(url_for("wizard.index"))
    form = LinkForm()
    if not form.validate_on_submit():
        sent = "sent" in request.args and request.method != "POST"
        return _start_page(form, sent=sent, status=422 if form.errors else 200)
    if not form.homepage.data:
        try:
            registration_links.request_link(
                form.email.data, language=_language(), address=request.remote_addr or ""
            )
        except (InvalidInput, Throttled) as error:
            return refuse("registration/start.html", form, error, **_context())
    return go(url_for("registration.start", sent=1))


def _may_register() -> bool:
    return (
        current_user.is_authenticated
        and not current_user.must_change_password
        and Actor.from_user(current_user).may(Permission.TENANTS_REGISTER)
    )


def _language() -> str:
    """The language of the mail: the one of Foyer's that the browser likes best."""
    liked = (each.partition("-")[0].lower() for each in request.accept_languages.values())
    return next((each for each in liked if each in LANGUAGES), next(iter(LANGUAGES)))


def _start_page(form: LinkForm, *, sent: bool, status: int) -> Response:
    return respond("registration/start.html", form=form, status=status, **_context(sent=sent))


def _context(*, sent: bool = False) -> dict[str, Any]:
    settings = get_settings()
    return {
        "sent": sent,
        "mode": settings.registration,
        "is_open": settings.registration is Registration.OPEN,
        "minutes": settings.registration_link_minutes,
    }


@entry_bp.route("/tenant-registration/link/<token>", methods=["GET", "POST"])
@public
def link(token: str) -> Response:
    """Where the mailed link leads. Looking does not spend it, since mail scanners look, too."""
    try:
        if request.method != "POST":
            return _confirm(registration_links.get_link(token))
        entered = registration_links.use_link(
            token,
            address=request.remote_addr or "",
            user_agent=request.user_agent.string,
            replaces=session_token(),
        )
    except DeadLink as error:
        return respond("registration/link_expired.html", why=error.message, status=410)
    session.clear()  # Nothing from before the sign-in is trusted after it.
    session[SESSION_TOKEN] = entered.token
    session[CAME_BY_LINK] = True
    return go(_first_page(entered))


def _confirm(found: RegistrationLink) -> Response:
    other = current_user if current_user.is_authenticated else None
    return respond("registration/link.html", link=found, other=other)


def _first_page(entered: Entered) -> str:
    """One's registrations; an invitation leads into the one that it begins."""
    if entered.invitation_id is not None:
        actor = Actor.from_user(entered.user, request.remote_addr or "")
        try:
            draft = registration_drafts.start_draft(actor, invitation_id=entered.invitation_id)
        except ServiceError:  # Its template is withdrawn, say: the list tells what can be done.
            return url_for("wizard.index")
        return url_for("wizard.resume", request_id=draft.id)
    return url_for("wizard.index")


@entry_bp.after_request
def _keep_links_private(response: Response) -> Response:
    """The address of the page is the secret of the link: no request may name it."""
    if request.endpoint == "registration.link":
        response.headers["Referrer-Policy"] = "no-referrer"
    return response
