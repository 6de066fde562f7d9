"""Signing in and out, passwords, and the pages about oneself."""

from __future__ import annotations

import logging
import time
from typing import Any

from flask import Blueprint, Response, current_app, flash, redirect, request, session, url_for
from flask_login import current_user
from redis.exceptions import RedisError

from blueprints.account.addresses import local_address
from blueprints.account.forms import (
    ChangePasswordForm,
    ChoosePasswordForm,
    ConfirmForm,
    ForgotPasswordForm,
    SignInForm,
)
from blueprints.downloads import file_download
from blueprints.forms import LARGEST_ID, refuse
from blueprints.htmx import go, respond
from blueprints.navigation import home_for
from blueprints.pages import THEMES
from blueprints.security import (
    SECOND_STEP,
    SESSION_TOKEN,
    current_actor,
    current_session,
    public,
    session_token,
    signed_in,
)
from config import LANGUAGES, Registration
from extensions import get_settings, queues
from models import Role
from services import passkeys, reset_links, setup_instructions, sign_ins
from services.errors import InvalidInput, NotFound, Throttled
from services.passwords import MIN_LENGTH
from services.sign_ins import SecondStepDue

log = logging.getLogger(__name__)

bp = Blueprint("account", __name__)

ROLE_WORDS = {
    Role.LANDLORD: "Landlord administrator",
    Role.OPERATOR: "Operator",
    Role.AUDITOR: "Auditor",
    Role.CUSTOMER_ADMIN: "Customer administrator",
    Role.SUPERVISOR: "Supervisor",
    Role.USER: "User",
    Role.PROSPECT: "Prospect",
}

_YEAR = 365 * 24 * 60 * 60
_ANSWER_AFTER = 0.25
"""Seconds until a wish for a link is answered: longer than the work for a known login takes."""


@bp.get("/")
@public
def home() -> Response:
    """To the page that one starts from."""
    if current_user.is_authenticated:
        return go(home_for(current_user))
    return go(url_for("account.sign_in"))


# --- Signing in and out ------------------------------------------------------------------------


@bp.route("/login", methods=["GET", "POST"])
@public
def sign_in() -> Response:
    """The one sign-in page of all roles."""
    if current_user.is_authenticated:
        return go(home_for(current_user))
    form = SignInForm()
    if request.method == "GET":
        form.next.data = local_address(request.args.get("next"))
    if not form.validate_on_submit():
        return _sign_in_page(form)
    try:
        entered = sign_ins.sign_in(
            form.login.data,
            form.password.data,
            address=request.remote_addr or "",
            user_agent=request.user_agent.string,
            replaces=session_token() or "",
        )
    except (InvalidInput, Throttled) as error:
        return refuse("account/sign_in.html", form, error, **_beside_the_form())
    session.clear()  # Nothing from before the sign-in is trusted after it.
    if isinstance(entered, SecondStepDue):
        session[SECOND_STEP] = entered.token
        return go(url_for("second_steps.show", next=local_address(form.next.data)))
    session[SESSION_TOKEN] = entered.token
    return go(local_address(form.next.data) or home_for(entered.user))


def _sign_in_page(form: SignInForm) -> Response:
    return respond(
        "account/sign_in.html",
        form=form,
        **_beside_the_form(),
        status=422 if form.errors else 200,
    )


def _beside_the_form() -> dict[str, Any]:
    return {
        "can_register": get_settings().registration is Registration.OPEN,
        "has_passkeys": passkeys.find_relying_party(request.host) is not None,
    }


@bp.get("/konos/sp/spLogin.do")
@public
def old_sign_in() -> Response:
    """The address that bookmarks and old mails have."""
    return redirect(url_for("account.sign_in"), 301)  # type: ignore[return-value]


@bp.post("/account/sign-out")
@signed_in
def sign_out() -> Response:
    way_in = "registration.start" if _is_prospect() else "account.sign_in"
    _end_session()
    flash("You are signed out.", "good")
    return go(url_for(way_in))


def _is_prospect() -> bool:
    return current_user.is_authenticated and current_user.role is Role.PROSPECT


def _end_session() -> None:
    """End the session of this browser, if there is one, and forget what its cookie holds."""
    if current_user.is_authenticated:
        sign_ins.sign_out(current_actor(), session_token())
    session.clear()


# --- Passwords ---------------------------------------------------------------------------------


@bp.route("/password/forgot", methods=["GET", "POST"])
@public
def forgot_password() -> Response:
    """Ask for a link by mail; nothing in the answer tells whether the account exists."""
    started = time.monotonic()
    form = ForgotPasswordForm()
    if not form.validate_on_submit():
        return respond(
            "account/forgot_password.html",
            form=form,
            sent="sent" in request.args and request.method == "GET",
            minutes=get_settings().reset_link_minutes,
            status=422 if form.errors else 200,
        )
    link_id = reset_links.request_reset(form.login.data, address=request.remote_addr or "")
    if link_id is not None:
        _enqueue_mail(link_id)
    time.sleep(max(0.0, started + _ANSWER_AFTER - time.monotonic()))
    return go(url_for("account.forgot_password", sent=1))


def _enqueue_mail(link_id: int) -> None:
    try:
        queues.enqueue("default", "jobs.reset_links.mail_reset_link", link_id)
    except RedisError as error:  # The sweep finds the row.
        log.warning("queue: %s (reset link %d waits)", type(error).__name__, link_id)


@bp.route("/password/choose/<token>", methods=["GET", "POST"])
@public
def choose_password(token: str) -> Response:
    """Where the mailed link leads. Looking does not spend it, since mail scanners look, too."""
    if reset_links.find_link(token) is None:
        return respond("account/link_expired.html", status=410)
    form = ChoosePasswordForm()
    context: dict[str, Any] = {"min_length": MIN_LENGTH}
    page = "account/choose_password.html"
    if not form.validate_on_submit():
        return respond(page, form=form, status=422 if form.errors else 200, **context)
    try:
        reset_links.use_link(token, form.new.data, address=request.remote_addr or "")
    except InvalidInput as error:
        if error.field == "link":
            return respond("account/link_expired.html", status=410)
        return refuse(page, form, error, **context)
    _end_session()
    flash("Your password is changed. Sign in with the new one.", "good")
    return go(url_for("account.sign_in"))


@bp.after_request
def _keep_links_private(response: Response) -> Response:
    """The address of the page is the secret of the link: no request may name it."""
    if request.endpoint == "account.choose_password":
        response.headers["Referrer-Policy"] = "no-referrer"
    return response


@bp.route("/account/password", methods=["GET", "POST"])
@signed_in
def change_password() -> Response:
    """Change the password: at will, or because the present one came by mail."""
    if _is_prospect():
        flash("You have no password. A link by mail signs you in.", "neutral")
        return go(url_for("account.profile"))
    form = ChangePasswordForm()
    page, forced = "account/change_password.html", current_user.must_change_password
    context = {"forced": forced, "min_length": MIN_LENGTH}
    if not form.validate_on_submit():
        return respond(page, form=form, status=422 if form.errors else 200, **context)
    try:
        sign_ins.change_password(
            current_user,
            current=form.current.data,
            new=form.new.data,
            token=session_token(),
            address=request.remote_addr or "",
        )
    except (InvalidInput, Throttled) as error:
        return refuse(page, form, error, **context)
    flash("Your password is changed. Everywhere else you are signed out.", "good")
    return go(home_for(current_user) if forced else url_for("account.profile"))


@bp.route("/account/confirm", methods=["GET", "POST"])
@signed_in
def confirm() -> Response:
    """Prove once more who one is, before something that a session left open must not allow."""
    if _is_prospect():
        return go(url_for("account.profile"))
    form = ConfirmForm()
    if request.method == "GET":
        form.next.data = local_address(request.args.get("next"))
    page = "account/confirm.html"
    if not form.validate_on_submit():
        return respond(page, form=form, status=422 if form.errors else 200)
    try:
        sign_ins.confirm(current_session(), form.password.data, address=request.remote_addr or "")
    except (InvalidInput, Throttled) as error:
        return refuse(page, form, error)
    return go(local_address(form.next.data) or url_for("account.profile"))


# --- About oneself -----------------------------------------------------------------------------


@bp.get("/account/profile")
@signed_in
def profile() -> Response:
    return respond(
        "account/profile.html",
        user=current_user,
        role=ROLE_WORDS[current_user.role],
        user_language=LANGUAGES.get(current_user.language, current_user.language),
    )


@bp.get("/account/services")
@signed_in
def services() -> Response:
    """What a customer's user has, and how to set it up."""
    customer = current_user.customer
    return respond(
        "account/services.html",
        customer=customer,
        bundle=current_user.bundle,
        files=setup_instructions.list_files(customer) if customer is not None else [],
    )


@bp.get(f"/account/services/files/<int(max={LARGEST_ID}):file_id>")
@signed_in
def setup_file(file_id: int) -> Response:
    """A file of the customer's setup instructions, for its users."""
    if current_user.customer is None:
        raise NotFound("There is no such file any more.")
    return file_download(setup_instructions.get_file(current_user.customer, file_id))


@bp.post("/account/theme")
@public
def set_theme() -> Response:
    """Light, dark or as the machine has it, kept in this browser for a year."""
    theme = request.form.get("theme", "")
    if theme not in THEMES:
        raise InvalidInput("theme", "There is no such theme.")
    response = go(local_address(request.form.get("next")) or url_for("account.home"))
    response.set_cookie(
        "theme",
        theme,
        max_age=_YEAR,
        secure=current_app.config["SESSION_COOKIE_SECURE"],
        httponly=True,
        samesite="Lax",
    )
    return response
