"""The second step of signing in, and signing in with a passkey alone."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, flash, jsonify, request, session, url_for
from flask_login import current_user

from blueprints.account.addresses import local_address
from blueprints.account.forms import PasskeyForm, SecondStepForm
from blueprints.forms import refuse
from blueprints.htmx import go, respond
from blueprints.navigation import home_for
from blueprints.security import SECOND_STEP, SESSION_TOKEN, public, session_token
from services import passkeys, second_steps, sign_ins
from services.errors import Conflict, InvalidInput, Throttled
from services.passkeys import RelyingParty
from services.second_steps import OVER, Ways
from services.sign_ins import SignedIn

bp = Blueprint("second_steps", __name__, url_prefix="/login")

FEW = 3
"""So few recovery codes are left that one should make others."""


def _pending_token() -> str:
    token = session.get(SECOND_STEP, "")
    return token if isinstance(token, str) else ""


def _who() -> dict[str, Any]:
    return {
        "address": request.remote_addr or "",
        "user_agent": request.user_agent.string,
        "replaces": session_token() or "",
    }


def enter(entered: SignedIn, next_address: str | None) -> Response:
    """Let somebody in who has proved who he is. Nothing from before is trusted after it."""
    session.clear()
    session[SESSION_TOKEN] = entered.token
    return go(local_address(next_address) or home_for(entered.user))


@bp.route("/second-step", methods=["GET", "POST"])
@public
def show() -> Response:
    """Ask for the second step of a sign-in whose password was right; nothing else is shown yet."""
    if current_user.is_authenticated:
        return go(home_for(current_user))
    pending = sign_ins.find_pending(_pending_token())
    if pending is None:
        return _begin_anew()
    ways = second_steps.find_ways(pending)
    form = SecondStepForm()
    if request.method == "GET":
        form.next.data = local_address(request.args.get("next"))
        form.way.data = request.args.get("way", "")
    way = _choose_way(form.way.data or "", ways)
    form.way.data = way
    context: dict[str, Any] = {"ways": ways, "way": way}
    page = "account/second_step.html"
    if not way:  # They were all taken away at this moment.
        return _begin_anew()
    if not form.validate_on_submit():
        return respond(page, form=form, status=422 if form.errors else 200, **context)
    try:
        entered, warning = _finish(form, way)
    except Conflict:
        return _begin_anew()
    except (InvalidInput, Throttled) as error:
        return refuse(page, form, error, **context)
    response = enter(entered, form.next.data)
    if warning:
        flash(warning, "attention")
    return response


def _choose_way(wanted: str, ways: Ways) -> str:
    """The way that is wanted and there is, or else the first there is."""
    possible = [
        name
        for name, is_there in (
            ("passkey", ways.has_passkey and _site() is not None),
            ("app", ways.has_app),
            ("recovery", ways.has_recovery_code),
        )
        if is_there
    ]
    return wanted if wanted in possible else next(iter(possible), "")


def _finish(form: SecondStepForm, way: str) -> tuple[SignedIn, str]:
    """Who is in, and what he should see to."""
    token, who = _pending_token(), _who()
    if way == "app":
        return second_steps.finish_with_code(token, form.code.data or "", **who), ""
    if way == "passkey":
        answer = form.passkey.data or ""
        return second_steps.finish_with_passkey(token, answer, _get_site(), **who), ""
    entered, left = second_steps.finish_with_recovery_code(token, form.code.data or "", **who)
    if left > FEW:
        return entered, ""
    return entered, (
        f"{left} of your recovery codes {'is' if left == 1 else 'are'} left. "
        "Make new ones in My profile, under Second factors."
    )


def _begin_anew() -> Response:
    session.pop(SECOND_STEP, None)
    flash(OVER, "neutral")
    return go(url_for("account.sign_in"))


def _site() -> RelyingParty | None:
    return passkeys.find_relying_party(request.host)


def _get_site() -> RelyingParty:
    site = _site()
    if site is None:
        raise InvalidInput("passkey", passkeys.why_not(request.host))
    return site


@bp.post("/second-step/passkey")
@public
def ask_passkey() -> Response:
    """What the browser has to ask the person's passkeys, as JSON for the page's script."""
    try:
        return jsonify(second_steps.ask_passkey(_pending_token(), _get_site()))
    except (Conflict, InvalidInput) as error:
        return _refuse_options(error.message)


@bp.post("/passkey/ask")
@public
def ask_any_passkey() -> Response:
    """The same for any passkey that the browser has for this site."""
    try:
        options = second_steps.ask_any_passkey(_get_site(), address=request.remote_addr or "")
    except (InvalidInput, Throttled) as error:
        return _refuse_options(error.message)
    return jsonify(options)


def _refuse_options(message: str) -> Response:
    response = jsonify(message=message)
    response.status_code = 409
    return response


@bp.post("/passkey")
@public
def sign_in_with_passkey() -> Response:
    """Sign in with a passkey in the place of login and password."""
    if current_user.is_authenticated:
        return go(home_for(current_user))
    form = PasskeyForm()
    try:
        if not form.validate():
            raise InvalidInput("passkey", "Your browser sent no passkey. Try again.")
        entered = second_steps.sign_in_with_passkey(form.passkey.data, _get_site(), **_who())
    except (InvalidInput, Throttled) as error:
        flash(error.message, "bad")
        return go(url_for("account.sign_in", next=local_address(form.next.data)))
    return enter(entered, form.next.data)
