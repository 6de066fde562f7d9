"""Permission profiles of a customer's supervisors: the list, and each one item by item."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, flash, request, url_for

from blueprints.forms import LARGEST_ID, parse_ids, refuse
from blueprints.htmx import go, respond
from blueprints.lists import read_cursor
from blueprints.profiles.forms import ProfileForm, fill_in
from blueprints.security import current_actor, customer_page
from models import Customer
from services import permission_profiles
from services.actors import Permission
from services.errors import Conflict, InvalidInput, InvalidInputs, NotFound, Stale
from services.permission_profiles import ListedProfile
from services.profile_items import ITEMS, ItemGroup

bp = Blueprint("profiles", __name__, url_prefix="/customers/<web_id>/profiles")

_ONE = f"/<int(max={LARGEST_ID}):profile_id>"
_GROUPS = [(group.value, [item for item in ITEMS if item.group is group]) for group in ItemGroup]
_TITLES = {item.permission: item.title for item in ITEMS}


@bp.get("")
@customer_page(Permission.USERS_READ)
def index(customer: Customer) -> Response:
    actor = current_actor()
    cursor = read_cursor(request.args)
    return respond(
        "profiles/index.html",
        "profiles/_table.html",
        customer=customer,
        listed=permission_profiles.list_profiles(actor, customer, cursor=cursor),
        cursor=cursor,
        titles=_TITLES,
        cap=permission_profiles.COUNT_CAP,
        may_edit=actor.may(Permission.PROFILES_EDIT),
    )


@bp.get(_ONE)
@customer_page(Permission.USERS_READ)
def show(customer: Customer, profile_id: int) -> Response:
    actor = current_actor()
    return respond(
        "profiles/show.html",
        customer=customer,
        listed=permission_profiles.get_profile(actor, customer, profile_id),
        groups=_GROUPS,
        cap=permission_profiles.COUNT_CAP,
        may_edit=actor.may(Permission.PROFILES_EDIT),
    )


@bp.route("/new", methods=["GET", "POST"])
@customer_page(Permission.PROFILES_EDIT)
def new(customer: Customer) -> Response:
    """A profile, from nothing or as a copy of the one that `from` in the address names."""
    model = _find_model(customer)
    data = fill_in(model.profile) if model else {}
    form = ProfileForm(data={**data, "name": f"{data['name']} copy"[:64] if data else ""})
    page = "profiles/edit.html"
    context: dict[str, Any] = {"customer": customer, "listed": None, "model": model}
    if not form.validate_on_submit():
        return _show_form(page, form, status=422 if form.errors else 200, **context)
    try:
        made = permission_profiles.create_profile(
            current_actor(), customer, name=form.name.data, permissions=form.permissions.data
        )
    except (InvalidInput, InvalidInputs, Conflict) as error:
        return refuse(page, form, error, **_form_context(form), **context)
    flash(f"{made.name} is made. Give it to users under Edit, as their role.", "good")
    return go(url_for("profiles.show", web_id=customer.web_id, profile_id=made.id))


def _find_model(customer: Customer) -> ListedProfile | None:
    if not request.args.get("from"):
        return None
    try:
        (profile_id,) = parse_ids(request.args.getlist("from"))
    except (InvalidInput, ValueError):
        raise NotFound(f"{customer.name} has no such permission profile.") from None
    return permission_profiles.get_profile(current_actor(), customer, profile_id)


@bp.route(f"{_ONE}/edit", methods=["GET", "POST"])
@customer_page(Permission.PROFILES_EDIT)
def edit(customer: Customer, profile_id: int) -> Response:
    """Who is told that somebody else was faster keeps his own input; saving once more is then his
    decision."""
    actor = current_actor()
    listed = permission_profiles.get_profile(actor, customer, profile_id)
    form = ProfileForm(data=fill_in(listed.profile))
    page = "profiles/edit.html"
    context: dict[str, Any] = {"customer": customer, "listed": listed, "model": None}
    if not form.validate_on_submit():
        return _show_form(page, form, status=422 if form.errors else 200, **context)
    try:
        saved = permission_profiles.change_profile(
            actor,
            customer,
            profile_id,
            version=form.seen,
            name=form.name.data,
            permissions=form.permissions.data,
        )
    except Stale as error:
        return _show_overtaken(page, form, error, customer, profile_id)
    except (InvalidInput, InvalidInputs) as error:
        if getattr(error, "field", "") == "version":
            raise
        return refuse(page, form, error, **_form_context(form), **context)
    flash(f"{saved.name} is saved. This holds from now on.", "good")
    return go(url_for("profiles.show", web_id=customer.web_id, profile_id=profile_id))


def _show_overtaken(
    page: str, form: ProfileForm, error: Stale, customer: Customer, profile_id: int
) -> Response:
    newest = permission_profiles.get_profile(current_actor(), customer, profile_id)
    form.version.data = str(newest.profile.version)
    allowed = ", ".join(each.title for each in ITEMS if each.permission in newest.granted)
    form.form_errors.append(
        f"{error.message} It is called {newest.profile.name} now and allows: "
        f"{allowed or 'nothing'}. Here stands what you chose: save again to put it in the other's "
        "place."
    )
    context: dict[str, Any] = {"customer": customer, "listed": newest, "model": None}
    return _show_form(page, form, status=409, **context)


@bp.route(f"{_ONE}/delete", methods=["GET", "POST"])
@customer_page(Permission.PROFILES_EDIT)
def delete(customer: Customer, profile_id: int) -> Response:
    """Refused while a supervisor has it."""
    actor = current_actor()
    listed = permission_profiles.get_profile(actor, customer, profile_id)
    if request.method == "GET":
        return _show_deletion(customer, listed)
    try:
        name = permission_profiles.delete_profile(actor, customer, profile_id)
    except Conflict:
        listed = permission_profiles.get_profile(actor, customer, profile_id)
        return _show_deletion(customer, listed, status=409)
    flash(f"{name} is deleted.", "good")
    return go(url_for("profiles.index", web_id=customer.web_id))


def _show_deletion(customer: Customer, listed: ListedProfile, *, status: int = 200) -> Response:
    refusal = ""
    if listed.holders:
        refusal = permission_profiles.refusal_of(listed.profile, listed.holders)
    return respond(
        "profiles/delete.html", status=status, customer=customer, listed=listed, refusal=refusal
    )


def _form_context(form: ProfileForm) -> dict[str, Any]:
    return {"groups": _GROUPS, "titles": _TITLES}


def _show_form(page: str, form: ProfileForm, *, status: int, **context: Any) -> Response:
    return respond(page, form=form, status=status, **_form_context(form), **context)
