"""Who is signed in, what a route demands, and the headers every answer carries."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from flask import (
    Flask,
    Request,
    Response,
    abort,
    current_app,
    flash,
    g,
    redirect,
    request,
    session,
    url_for,
)
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface, SessionMixin
from flask_login import current_user

from blueprints.api.problems import is_api_request
from blueprints.htmx import go, respond, wants_fragment
from config import Settings
from extensions import get_settings, login_manager
from models import Customer, SignInSession, User
from services import impersonations, sign_ins
from services.actors import Actor, Permission, get_customer
from services.errors import Forbidden
from services.impersonations import Impersonation
from services.transactions import work_without_transaction

View = TypeVar("View", bound=Callable[..., Any])

_ACCESS = "access_demanded"
_UPLOADS = "bytes_accepted"
SESSION_TOKEN = "sign_in"  # noqa: S105
SECOND_STEP = "second_step"
CAME_BY_LINK = "came_by_link"

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; frame-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)


# --- What a route demands. A test over the URL map finds the one that says nothing. -----------


def public(view: View) -> View:
    """Anybody may ask for this."""
    setattr(view, _ACCESS, "public")
    return view


def authorised_by_credential(view: View) -> View:
    """An operation of the REST API, which lets in credentials, not people."""
    setattr(view, _ACCESS, "api")
    return view


def signed_in(view: View) -> View:
    """Every signed-in person may ask for this; it shows what is his own."""
    setattr(view, _ACCESS, "signed in")
    return view


def requires(permission: Permission) -> Callable[[View], View]:
    """Only roles with `permission` may ask for this."""

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            current_actor().require(permission)
            return view(*args, **kwargs)

        setattr(guarded, _ACCESS, str(permission))
        return guarded  # type: ignore[return-value]

    return decorate


def staff_page(permission: Permission) -> Callable[[View], View]:
    """Only staff with `permission` may ask for this, not a customer's people who have it, too."""

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            actor = current_actor()
            actor.require(Permission.CUSTOMERS_READ)
            actor.require(permission)
            return view(*args, **kwargs)

        setattr(guarded, _ACCESS, f"{permission} of staff")
        return guarded  # type: ignore[return-value]

    return decorate


def customer_page(*any_of: Permission) -> Callable[[View], View]:
    """The route names a customer by `web_id`; the view gets the Customer instead.

    404 when the customer is not in the actor's scope, 403 when the role lacks all of `any_of`.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(web_id: str, **kwargs: Any) -> Any:
            customer: Customer = get_customer(current_actor(), web_id, *any_of)
            g.customer = customer
            return view(customer, **kwargs)

        setattr(guarded, _ACCESS, f"{' or '.join(any_of)} of a customer")
        return guarded  # type: ignore[return-value]

    return decorate


def passive(view: View) -> View:
    """Asking for this does not keep the session alive: it is what pages poll."""
    view.is_passive = True  # type: ignore[attr-defined]
    return view


def takes_files(most: Callable[[Settings], int]) -> Callable[[View], View]:
    """Forms for this may carry files; `most` says how many bytes the whole of one may have.

    It is the outermost decorator. Nothing is read of what somebody sends who may not ask for it.
    """

    def decorate(view: View) -> View:
        setattr(view, _UPLOADS, most)
        return view

    return decorate


def access_demanded(view: Callable[..., Any] | None) -> str | None:
    """What a view demands, None when it says nothing."""
    demanded: str | None = getattr(view, _ACCESS, None)
    return demanded


# --- The actor ---------------------------------------------------------------------------------


def current_actor() -> Actor:
    """The signed-in person as services want him, whomever he is signed in as."""
    address = request.remote_addr or ""
    # Asking who it is finds out on whose behalf, too. Each look through the proxy asks again.
    user = current_user._get_current_object()
    if user.is_authenticated and (found := current_impersonation()) is not None:
        return found.actor(address)
    return Actor.from_user(user, address)


def current_impersonation() -> Impersonation | None:
    """Whom the signed-in member of staff is signed in as; `current_user` is that one."""
    found: Impersonation | None = g.get("impersonation")
    return found


def current_session() -> SignInSession:
    """The row of the session this request belongs to."""
    found: SignInSession = g.sign_in_session
    return found


def session_token() -> str:
    token: str = session.get(SESSION_TOKEN, "")
    return token


def _load_user(_request: Any) -> User | None:
    token = session.get(SESSION_TOKEN)
    if not isinstance(token, str):
        return None
    if request.method in {"GET", "HEAD"}:
        work_without_transaction()
    view = current_app.view_functions.get(request.endpoint or "")
    found = sign_ins.find_session(token, touch=not getattr(view, "is_passive", False))
    if found is None:
        return None
    g.sign_in_session = found
    if found.behalf_id is None:
        return found.user
    g.impersonation = impersonations.find(found, request.remote_addr or "")
    if g.impersonation is None:
        g.impersonation_is_over = True
        return found.user
    behalf: User = g.impersonation.administrator
    return behalf


def ask_to_sign_in() -> Response:
    """To the sign-in page and back; htmx is told to take the whole window there.

    Who came by a link has no password, and goes where he gets another link.
    """
    back = request.full_path.rstrip("?") if request.method == "GET" else ""
    if request.headers.get("HX-Request"):
        here = request.headers.get("HX-Current-URL", "")
        back = here.partition(request.host)[2] if request.host in here else ""
    has_ended = session.pop(SESSION_TOKEN, None) is not None
    if session.pop(CAME_BY_LINK, False) and has_ended:
        flash("Your session has ended. Get a new link to go on where you were.", "neutral")
        target = url_for("registration.start")
    else:
        if has_ended:
            flash("Your session has ended. Sign in to go on where you were.", "neutral")
        target = url_for("account.sign_in", next=back or None)
    if request.headers.get("HX-Request"):
        return Response(status=401, headers={"HX-Redirect": target})
    return redirect(target)  # type: ignore[return-value]


_FREE_WITHOUT_SECOND_FACTOR = {
    "account.change_password",
    "account.confirm",
    "account.set_theme",
    "account.sign_out",
}
_FREE_WITH_OLD_PASSWORD = {"account.change_password", "account.sign_out", "account.set_theme"}


def _check_access() -> Any:
    """Before every request: is there a person where one is needed, and may he go on?"""
    if request.endpoint is None or request.endpoint == "static":
        return None
    view = current_app.view_functions[request.endpoint]
    demanded = access_demanded(view)
    if demanded in {"public", "api"}:  # The API asks by itself, for a credential.
        return None
    if not current_user.is_authenticated:
        return ask_to_sign_in()
    if g.get("impersonation_is_over"):
        return _return_to_oneself()
    if current_impersonation() is not None:
        return _keep_to_himself(demanded)
    if current_user.must_change_password and request.endpoint not in _FREE_WITH_OLD_PASSWORD:
        return _send_first_to(url_for("account.change_password"))
    if (
        current_session().lacks_second_factor
        and request.blueprint != "second_factors"
        and request.endpoint not in _FREE_WITHOUT_SECOND_FACTOR
    ):
        return _send_first_to(url_for("second_factors.index"))
    return None


def _send_first_to(target: str) -> Response:
    if request.headers.get("HX-Request"):
        return Response(status=401, headers={"HX-Redirect": target})
    return redirect(target)  # type: ignore[return-value]


def _allow_files() -> None:
    """Before anything reads the form: what carries files may be larger than other requests.

    Files come in parts, each of which is limited; any other body is read whole into memory.
    """
    if request.mimetype != "multipart/form-data":
        return
    view = current_app.view_functions.get(request.endpoint or "")
    most = getattr(view, _UPLOADS, None)
    if most is not None:
        request.max_content_length = most(get_settings())


_FREE_ON_BEHALF = {
    "account.services",
    "account.setup_file",
    "account.sign_out",
    "impersonations.end",
}


def _return_to_oneself() -> Response:
    """What was asked for is not done: it was meant as somebody else."""
    flash(
        "You are yourself again: you may be signed in as somebody else for an hour, and only while "
        "both of you may. Nothing was done just now.",
        "attention",
    )
    return go(url_for("account.home"))


def _keep_to_himself(demanded: str | None) -> Response | None:
    """Password, second factors, sessions and profile are the administrator's own affair."""
    if demanded != "signed in" or request.endpoint in _FREE_ON_BEHALF:
        return None
    name = current_user.full_name
    if wants_fragment():
        raise Forbidden(f"This is {name}'s own affair. Return to yourself first.")
    return respond("impersonations/own_affair.html", status=403, name=name)


def _refuse_nameless_fields() -> None:
    """No browser sends a field without a name, and the check of the CSRF token fails over one."""
    if is_api_request():
        return
    if request.method == "POST" and any(name is None for name in request.form):
        abort(400)


_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


def _add_headers(response: Response) -> Response:
    headers = response.headers
    given = {name.lower() for name, _ in headers}
    for name, value in _HEADERS.items():
        if name.lower() not in given:
            headers.add(name, value)
    headers["X-Request-ID"] = g.get("request_id", "")
    if request.endpoint != "static":
        headers.setdefault("Cache-Control", "no-store")
        if access_demanded(current_app.view_functions.get(request.endpoint or "")) != "api":
            response.vary.add("HX-Request")
            response.vary.add("Cookie")
    if get_settings().public_url.startswith("https://"):
        headers["Strict-Transport-Security"] = "max-age=31536000; includeSubDomains"
    return response


class _Sessions(SecureCookieSessionInterface):
    """Flask's sessions, which cost nothing where there are no cookies, as in the API."""

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        if "HTTP_COOKIE" not in request.environ:
            return SecureCookieSession()
        return super().open_session(app, request)

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        if session.accessed or session.modified:
            super().save_session(app, session, response)


def init_app(app: Flask) -> None:
    app.session_interface = _Sessions()
    login_manager.session_protection = None  # A session is a row; the cookie only names it.
    login_manager.request_loader(_load_user)
    login_manager.unauthorized_handler(ask_to_sign_in)

    app.before_request(_check_access)
    app.before_request(_allow_files)
    app.before_request(_refuse_nameless_fields)
    app.after_request(_add_headers)
