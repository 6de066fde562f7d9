"""One's own second factors: an authenticator app, recovery codes and passkeys.

Codes and keys are shown in the answer to the POST that makes them, or while they are being set up,
and nowhere else. Whoever changes anything has proved a moment ago who he is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import segno
from flask import Blueprint, Response, flash, jsonify, request, url_for
from flask_login import current_user

from blueprints.account.forms import AppCodeForm, NewPasskeyForm
from blueprints.forms import LARGEST_ID, Form, refuse
from blueprints.htmx import go, respond
from blueprints.navigation import home_for
from blueprints.security import current_actor, current_session, signed_in
from models import Role
from services import passkeys, second_factors, sign_ins
from services.errors import Conflict, InvalidInput, Throttled
from services.passkeys import RelyingParty

bp = Blueprint("second_factors", __name__, url_prefix="/account/second-factors")

_ONE_PASSKEY = f"/passkeys/<int(max={LARGEST_ID}):passkey_id>"


@bp.app_template_filter("in_fours")
def in_fours(text: str) -> str:
    """In groups of four, as one reads it out."""
    return " ".join(text[at : at + 4] for at in range(0, len(text), 4))


@bp.before_request
def _make_sure() -> Response | None:
    """Prospects have no password, and so no second factor; others prove who they are first."""
    if current_user.role is Role.PROSPECT:
        flash("You have no password. A link by mail signs you in.", "neutral")
        return go(url_for("account.profile"))
    if request.endpoint == "second_factors.index" or sign_ins.is_confirmed(current_session()):
        return None
    if request.endpoint == "second_factors.ask_new_passkey":
        return _refuse_options("Enter your password again first: load this page anew.")
    here = request.path if request.method == "GET" else url_for("second_factors.index")
    return go(url_for("account.confirm", next=here))


def _is_forced() -> bool:
    """Whether nothing else can be done before."""
    return current_session().lacks_second_factor


@bp.get("")
@signed_in
def index() -> Response:
    """What one has, and what could be added."""
    return respond(
        "account/second_factors.html",
        factors=second_factors.list_factors(current_user),
        obstacle=passkeys.why_not(request.host),
        forced=_is_forced(),
    )


# --- An authenticator app ------------------------------------------------------------------------


@bp.post("/app/new")
@signed_in
def begin_app() -> Response:
    """Make a new key for an app."""
    second_factors.begin_app(current_user)
    return go(url_for("second_factors.app"))


@bp.route("/app", methods=["GET", "POST"])
@signed_in
def app() -> Response:
    """Show the key, and have it confirmed by a code."""
    setup = second_factors.find_setup(current_user)
    if setup is None:
        return _go_back()
    form = AppCodeForm()
    page = "account/app.html"
    context: dict[str, Any] = {
        "secret": setup.secret,
        "uri": setup.uri,
        "qr_code": segno.make(setup.uri, error="m", micro=False).svg_data_uri(
            scale=4, dark="#000000", light="#ffffff", border=4, svgclass=None, lineclass=None
        ),
        "forced": _is_forced(),
    }
    if not form.validate_on_submit():
        return respond(page, form=form, status=422 if form.errors else 200, **context)
    try:
        codes = second_factors.confirm_app(current_actor(), current_user, form.code.data)
    except (InvalidInput, Throttled) as error:
        return refuse(page, form, error, **context)
    except Conflict as error:
        flash(error.message, "attention")
        return _go_back()
    return _added("The authenticator app is set up.", codes)


@bp.route("/app/remove", methods=["GET", "POST"])
@signed_in
def remove_app() -> Response:
    factors = second_factors.list_factors(current_user)
    if factors.app is None:
        return _go_back()
    if not Form().validate_on_submit():
        return respond(
            "account/remove_factor.html",
            what="the authenticator app",
            is_last=factors.count == 1,
            can_remove=factors.can_remove,
            action=url_for("second_factors.remove_app"),
        )
    return _remove(lambda: second_factors.remove_app(current_actor(), current_user))


# --- Recovery codes ------------------------------------------------------------------------------


@bp.route("/recovery-codes", methods=["GET", "POST"])
@signed_in
def recovery_codes() -> Response:
    """Make ten new ones, and show them once."""
    factors = second_factors.list_factors(current_user)
    if not factors.count:
        return _go_back()
    if not Form().validate_on_submit():
        return respond("account/make_recovery_codes.html", factors=factors)
    codes = second_factors.make_recovery_codes(current_actor(), current_user)
    return _show_codes(codes, "Your new recovery codes", replaced=True)


def _show_codes(codes: list[str], title: str, *, replaced: bool = False) -> Response:
    """The one page that shows them. It must not be kept by anything on its way."""
    response = respond(
        "account/recovery_codes.html",
        codes=codes,
        title=title,
        replaced=replaced,
        on=home_for(current_user) if _is_forced() else url_for("second_factors.index"),
        forced=_is_forced(),
    )
    response.headers["Cache-Control"] = "no-store"
    return response


def _added(sentence: str, codes: list[str] | None) -> Response:
    if codes is not None:
        flash(sentence, "good")
        return _show_codes(codes, "Keep your recovery codes")
    flash(sentence, "good")
    return go(home_for(current_user) if _is_forced() else url_for("second_factors.index"))


# --- Passkeys ------------------------------------------------------------------------------------


def _get_site() -> RelyingParty:
    site = passkeys.find_relying_party(request.host)
    if site is None:
        raise InvalidInput("passkey", passkeys.why_not(request.host))
    return site


@bp.post("/passkeys/ask")
@signed_in
def ask_new_passkey() -> Response:
    """What the browser needs to make a passkey, as JSON for the page's script."""
    try:
        return jsonify(passkeys.ask_for_new(current_user, _get_site()))
    except (Conflict, InvalidInput) as error:
        return _refuse_options(error.message)


def _refuse_options(message: str) -> Response:
    response = jsonify(message=message)
    response.status_code = 409
    return response


@bp.route("/passkeys/new", methods=["GET", "POST"])
@signed_in
def new_passkey() -> Response:
    """Give it a name; the script has the browser make it."""
    form = NewPasskeyForm()
    page = "account/new_passkey.html"
    context: dict[str, Any] = {"obstacle": passkeys.why_not(request.host), "forced": _is_forced()}
    if not form.validate_on_submit():
        return respond(page, form=form, status=422 if form.errors else 200, **context)
    try:
        passkey, codes = passkeys.add(
            current_actor(),
            current_user,
            _get_site(),
            name=form.name.data,
            answer=form.passkey.data or "",
        )
    except InvalidInput as error:
        form.passkey.data = ""  # Each answer is good once.
        return refuse(page, form, error, **context)
    return _added(f"The passkey {passkey.name} is added.", codes)


@bp.route(f"{_ONE_PASSKEY}/remove", methods=["GET", "POST"])
@signed_in
def remove_passkey(passkey_id: int) -> Response:
    passkey = passkeys.get_passkey(current_user, passkey_id)
    factors = second_factors.list_factors(current_user)
    if not Form().validate_on_submit():
        return respond(
            "account/remove_factor.html",
            what=f"the passkey {passkey.name}",
            is_last=factors.count == 1,
            can_remove=factors.can_remove,
            action=url_for("second_factors.remove_passkey", passkey_id=passkey.id),
        )
    return _remove(lambda: passkeys.remove(current_actor(), current_user, passkey_id))


def _remove(work: Callable[[], object]) -> Response:
    try:
        work()
    except Conflict as error:
        flash(error.message, "attention")
    else:
        flash("It is removed.", "good")
    return _go_back()


def _go_back() -> Response:
    return go(url_for("second_factors.index"))
