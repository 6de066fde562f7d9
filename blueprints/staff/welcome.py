"""Where the link of an invitation leads: a new member of staff chooses a password and is in."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, flash, request, session

from blueprints.account.forms import ChoosePasswordForm
from blueprints.forms import refuse
from blueprints.htmx import go, respond
from blueprints.navigation import home_for
from blueprints.security import SESSION_TOKEN, public, session_token
from services import staff_invitations
from services.errors import InvalidInput
from services.passwords import MIN_LENGTH

bp = Blueprint("staff_welcome", __name__, url_prefix="/staff/welcome")


@bp.route("/<token>", methods=["GET", "POST"])
@public
def accept(token: str) -> Response:
    """Looking does not spend the link, since mail scanners look, too."""
    invitation = staff_invitations.find_invitation(token)
    if invitation is None:
        return respond("staff/link_expired.html", status=410)
    form = ChoosePasswordForm()
    page = "staff/welcome.html"
    context: dict[str, Any] = {"min_length": MIN_LENGTH, "user": invitation.user}
    if not form.validate_on_submit():
        return respond(page, form=form, status=422 if form.errors else 200, **context)
    try:
        user, entered = staff_invitations.accept(
            token,
            form.new.data,
            address=request.remote_addr or "",
            user_agent=request.user_agent.string,
            replaces=session_token() or "",
        )
    except InvalidInput as error:
        if error.field == "link":
            return respond("staff/link_expired.html", status=410)
        return refuse(page, form, error, **context)
    session.clear()  # Nothing from before the sign-in is trusted after it.
    session[SESSION_TOKEN] = entered
    flash(f"Welcome, {user.full_name}. Your password is saved.", "good")
    return go(home_for(user))


@bp.after_request
def _keep_links_private(response: Response) -> Response:
    """The address of the page is the secret of the link: no request may name it."""
    response.headers["Referrer-Policy"] = "no-referrer"
    return response
