"""One user's account: adding him, also like another, and changing what is known of him."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, flash, make_response, render_template, request, url_for

from blueprints.forms import LARGEST_ID, parse_ids, refuse
from blueprints.htmx import go, respond, wants_fragment
from blueprints.mailings.following import start_delivery
from blueprints.security import current_actor, customer_page
from blueprints.users.forms import EditUserForm, NewUserForm, copy_of, fill_in, label_of
from models import Customer, Role, User
from services import domain_names, email_templates, permission_profiles, user_accounts, users
from services.actors import Actor, Permission
from services.errors import Conflict, InvalidInput, InvalidInputs, NotFound, Stale
from services.user_rules import require_reach, roles_within

bp = Blueprint("user_accounts", __name__, url_prefix="/customers/<web_id>/users")


# --- Adding --------------------------------------------------------------------------------------


@bp.route("/new", methods=["GET", "POST"])
@customer_page(Permission.USERS_ADD)
def new(customer: Customer) -> Response:
    """A user to add; `from` in the address is one whose bundle, language and role he gets."""
    actor = current_actor()
    model = _find_model(actor, customer)
    form = NewUserForm(data=copy_of(model) if model else _usual(customer))
    context = _offer(form, actor, customer)
    if not _may_welcome(actor, customer):
        del form.welcome
    context |= {
        "model": model,
        "suffix": domain_names.show_name(customer.upn_suffix).unicode,
        "lacks_welcome": "welcome" not in form and actor.may(Permission.MAILINGS_SEND),
    }
    page = "users/new.html"
    if not form.validate_on_submit():
        status = 422 if form.errors else 200
        context["final_login"] = _final_login(actor, customer, form.user_name.data or "")
        return respond(page, form=form, customer=customer, status=status, **context)
    try:
        user, mailing = user_accounts.add_user(
            actor, customer, form.new_user, send_welcome_mail=form.sends_welcome
        )
    except (InvalidInput, InvalidInputs, Conflict) as error:
        context["final_login"] = _final_login(actor, customer, form.user_name.data or "")
        return refuse(page, form, form.at_its_fields(error), customer=customer, **context)
    if mailing is not None:
        start_delivery(mailing)
    _tell_added(user, is_mailed=mailing is not None)
    if form.again.data:
        again = user.id if model else None
        return go(url_for("user_accounts.new", web_id=customer.web_id, **_like(again)))
    return go(url_for("users.show", web_id=customer.web_id, user_id=user.id))


def _usual(customer: Customer) -> dict[str, str]:
    """What most new users have: the customer's language, and its bundle where there is but one."""
    bundles = users.list_bundles_of(customer)
    only = bundles[0].name if len(bundles) == 1 else ""
    return {"language": customer.language, "bundle": only}


def _final_login(actor: Actor, customer: Customer, typed: str) -> str:
    """The login that a new user would have, empty where there is none yet."""
    try:
        return user_accounts.check_login(actor, customer, typed) if typed else ""
    except InvalidInput:
        return ""


def _like(user_id: int | None) -> dict[str, Any]:
    return {"from": user_id} if user_id is not None else {}


def _find_model(actor: Actor, customer: Customer) -> User | None:
    """The user that the address names to be like, if the actor could add such a one."""
    if not request.args.get("from"):
        return None
    try:
        (user_id,) = parse_ids(request.args.getlist("from"))
    except (InvalidInput, ValueError):
        raise NotFound(f"{customer.name} has no such user.") from None
    model = users.get_user_of(customer, user_id)
    require_reach(actor, model)
    return model


def _may_welcome(actor: Actor, customer: Customer) -> bool:
    template = email_templates.find_welcome_template(customer)
    return actor.may(Permission.MAILINGS_SEND) and template is not None


def _tell_added(user: User, *, is_mailed: bool) -> None:
    if is_mailed:
        what = f"The welcome mail to {user.email} is on its way."
    else:
        what = "Nothing was mailed yet: without a welcome mail nobody can sign in as this user."
    flash(f"{user.full_name} is added, with the login {user.login}. {what}", "good")


@bp.get("/new/login")
@customer_page(Permission.USERS_ADD)
def check_login(customer: Customer) -> Response:
    """The final login, as one types the user name; nothing where there is none yet."""
    if not wants_fragment():
        return go(url_for("user_accounts.new", web_id=customer.web_id))
    typed = request.args.get("user_name", "")
    login, problem = "", ""
    if typed.strip():
        try:
            login = user_accounts.check_login(current_actor(), customer, typed)
        except InvalidInput as error:
            problem = error.message
    return make_response(render_template("users/_login.html", login=login, problem=problem))


# --- Changing ------------------------------------------------------------------------------------


@bp.route(f"/<int(max={LARGEST_ID}):user_id>/edit", methods=["GET", "POST"])
@customer_page(Permission.USERS_EDIT)
def edit(customer: Customer, user_id: int) -> Response:
    """Who is told that somebody else was faster keeps his own input; saving once more is then his
    decision."""
    actor = current_actor()
    user = users.get_user_of(customer, user_id)
    require_reach(actor, user)
    form = EditUserForm(data=fill_in(user))
    context = _offer(form, actor, customer)
    page = "users/edit.html"
    if not form.validate_on_submit():
        status = 422 if form.errors else 200
        return respond(page, form=form, customer=customer, user=user, status=status, **context)
    try:
        changed = user_accounts.update_user(
            actor, customer, user_id, form.changes, versions=[form.seen]
        )
    except Stale as error:
        return _show_overtaken(form, error, customer, user_id, context)
    except (InvalidInput, InvalidInputs, Conflict) as error:
        if getattr(error, "field", "") == "version":
            raise
        refused = form.at_its_fields(error)
        return refuse(page, form, refused, customer=customer, user=user, **context)
    flash(f"{changed.full_name} is saved.", "good")
    return go(url_for("users.show", web_id=customer.web_id, user_id=user_id))


def _show_overtaken(
    form: EditUserForm, error: Stale, customer: Customer, user_id: int, context: dict[str, Any]
) -> Response:
    newest = users.get_user_of(customer, user_id)
    now = fill_in(newest)
    differs = [
        (form[name].label.text, label_of(form[name], now[name]))
        for name in now
        if name != "version" and name in form and (form[name].data or "") != now[name]
    ]
    form.version.data = str(newest.version)
    form.form_errors.append(
        f"{newest.full_name} was changed in the meantime. Here stands what you typed: save again "
        "to put it in the other's place."
    )
    return respond(
        "users/edit.html",
        form=form,
        customer=customer,
        user=newest,
        status=409,
        differs=differs,
        **context,
    )


def _offer(form: NewUserForm | EditUserForm, actor: Actor, customer: Customer) -> dict[str, Any]:
    """Give the form its choices; what the page says about them."""
    bundles = users.list_bundles_of(customer)
    profiles = permission_profiles.OwnProfiles(customer).listed
    gives_roles = Role.CUSTOMER_ADMIN in roles_within(actor)
    form.offer(bundles, profiles, gives_roles=gives_roles)
    return {"has_bundles": bool(bundles), "has_profiles": bool(profiles)}
