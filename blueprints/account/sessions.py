"""Where one is signed in, and ending it."""

from __future__ import annotations

from flask import Blueprint, Response, flash, url_for
from flask_login import current_user

from blueprints.account.browsers import name_browser
from blueprints.forms import LARGEST_ID
from blueprints.htmx import go, respond
from blueprints.security import current_actor, current_session, session_token, signed_in
from services import sign_in_sessions

bp = Blueprint("sessions", __name__, url_prefix="/account/sessions")
bp.add_app_template_filter(name_browser, "as_browser")


@bp.get("")
@signed_in
def index() -> Response:
    return respond(
        "account/sessions.html",
        sessions=sign_in_sessions.list_sessions(current_user),
        this_id=current_session().id,
    )


@bp.post(f"/<int(max={LARGEST_ID}):session_id>/end")
@signed_in
def end(session_id: int) -> Response:
    """End another one; this one is ended by signing out."""
    if session_id == current_session().id:
        flash("This is the session that you are using. Sign out to end it.", "neutral")
    elif sign_in_sessions.end_one(current_actor(), current_user, session_id):
        flash("That session has ended.", "good")
    else:
        flash("That session was over already.", "neutral")
    return go(url_for("sessions.index"))


@bp.post("/end-others")
@signed_in
def end_others() -> Response:
    sign_in_sessions.end_all(current_actor(), current_user, but_token=session_token())
    flash("Everywhere else you are signed out.", "good")
    return go(url_for("sessions.index"))
