"""The provider's bundles: what they contain, who has them, and giving them to many customers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response, flash, request, url_for

from blueprints.bundles.forms import DescribeForm, NewForm
from blueprints.customers.forms import ManyForm
from blueprints.forms import LARGEST_ID, refuse
from blueprints.htmx import go, respond, wants_fragment
from blueprints.lists import read_cursor, read_size, size_parameter
from blueprints.security import current_actor, requires
from models import Bundle
from services import bundles, customer_bundles, groups
from services.actors import Permission
from services.customer_bundles import Changed
from services.errors import Conflict, InvalidInput, InvalidInputs, Stale
from services.paging import PAGE_SIZES

bp = Blueprint("bundles", __name__, url_prefix="/bundles")

_ONE = f"/<int(max={LARGEST_ID}):bundle_id>"


@bp.get("")
@requires(Permission.CUSTOMERS_READ)
def index() -> Response:
    """The bundles that are offered, or the archived ones."""
    actor = current_actor()
    archived = request.args.get("archived") == "1"
    size = read_size(request.args)
    page = bundles.page_bundles(
        actor, archived=archived, size=size, cursor=read_cursor(request.args)
    )

    def address(size: int = size, cursor: str | None = None) -> str:
        return url_for(
            "bundles.index",
            archived=1 if archived else None,
            size=size_parameter(size),
            cursor=cursor,
        )

    return respond(
        "bundles/index.html",
        "bundles/_table.html",
        rows=[(each, bundles.measure_usage(actor, each)) for each in page.rows],
        archived=archived,
        may_edit=actor.may(Permission.BUNDLES_EDIT),
        previous_href=page.previous and address(cursor=page.previous),
        next_href=page.next and address(cursor=page.next),
        sizes=[(each, address(each), each == size) for each in PAGE_SIZES],
        is_fragment=wants_fragment(),
    )


@bp.route("/new", methods=["GET", "POST"])
@requires(Permission.BUNDLES_EDIT)
def new() -> Response:
    form = NewForm()
    page = "bundles/new.html"
    if not form.validate_on_submit():
        return respond(page, form=form, status=422 if form.errors else 200)
    try:
        made = bundles.create_bundle(
            current_actor(), name=form.name.data or "", services=form.services.data or ""
        )
    except (InvalidInput, InvalidInputs) as error:
        return refuse(page, form, error)
    flash(f"{made.name} can be assigned to customers now.", "good")
    return _go_to(made)


@bp.get(_ONE)
@requires(Permission.CUSTOMERS_READ)
def show(bundle_id: int) -> Response:
    actor = current_actor()
    bundle = bundles.get_bundle(actor, bundle_id)
    return respond(
        "bundles/show.html",
        bundle=bundle,
        usage=bundles.measure_usage(actor, bundle),
        may_edit=actor.may(Permission.BUNDLES_EDIT),
    )


@bp.route(f"{_ONE}/edit", methods=["GET", "POST"])
@requires(Permission.BUNDLES_EDIT)
def edit(bundle_id: int) -> Response:
    """What it contains; who was overtaken keeps his own text."""
    actor = current_actor()
    bundle = bundles.get_bundle(actor, bundle_id)
    form = DescribeForm(data={"version": bundle.version, "services": bundle.services})
    page = "bundles/edit.html"
    if not form.validate_on_submit():
        return respond(page, form=form, bundle=bundle, status=422 if form.errors else 200)
    try:
        bundle = bundles.describe_bundle(
            actor, bundle_id, services=form.services.data or "", version=form.seen
        )
    except Stale as error:
        newest = bundles.get_bundle(actor, bundle_id)
        form.version.data = str(newest.version)
        form.form_errors.append(
            f"{error.message} Here stands what you wrote: save again to put it in its place."
        )
        return respond(page, form=form, bundle=newest, status=409)
    except InvalidInput as error:
        if error.field == "version":
            raise
        return refuse(page, form, error, bundle=bundle)
    flash(f"{bundle.name} is saved.", "good")
    return _go_to(bundle)


@bp.post(f"{_ONE}/archive")
@requires(Permission.BUNDLES_EDIT)
def archive(bundle_id: int) -> Response:
    bundle = bundles.archive_bundle(current_actor(), bundle_id)
    flash(f"{bundle.name} is archived. Customers that have it keep it.", "good")
    return _go_to(bundle)


@bp.post(f"{_ONE}/restore")
@requires(Permission.BUNDLES_EDIT)
def restore(bundle_id: int) -> Response:
    bundle = bundles.restore_bundle(current_actor(), bundle_id)
    flash(f"{bundle.name} is offered again.", "good")
    return _go_to(bundle)


# --- Many customers ------------------------------------------------------------------------------


@bp.route(f"{_ONE}/assign", methods=["GET", "POST"])
@requires(Permission.BUNDLES_EDIT)
def assign(bundle_id: int) -> Response:
    """To customers that are named, or to all of a group."""
    return _change_many(bundle_id, customer_bundles.assign_to_many, "bundles/assign.html", _given)


@bp.route(f"{_ONE}/remove", methods=["GET", "POST"])
@requires(Permission.BUNDLES_EDIT)
def remove(bundle_id: int) -> Response:
    """From customers whose users do not have it; the others are named."""
    return _change_many(bundle_id, customer_bundles.remove_from_many, "bundles/remove.html", _taken)


def _change_many(
    bundle_id: int,
    change: Callable[..., Changed],
    page: str,
    words: Callable[[Bundle, Changed], tuple[str, str]],
) -> Response:
    actor = current_actor()
    bundle = bundles.get_bundle(actor, bundle_id)
    form = ManyForm()
    form.group.choices = {
        "": "Choose a group",
        **{str(each.id): f"{each.groupno} {each.name}" for each in groups.list_mine(actor)},
    }
    context: dict[str, Any] = {"bundle": bundle, "most": customer_bundles.MOST_NAMED}
    if not form.validate_on_submit():
        return respond(page, form=form, status=422 if form.errors else 200, **context)
    by_group = form.whose.data == "group"
    chosen: dict[str, Any] = {"web_ids": customer_bundles.read_web_ids(form.web_ids.data or "")}
    if by_group:
        chosen = {"group_id": form.chosen_group or 0}
    try:
        changed = change(actor, bundle, **chosen)
    except (InvalidInput, Conflict) as error:
        return refuse(page, form, error, **context)
    flash(*words(bundle, changed))
    return _go_to(bundle)


def _customers(number: int) -> str:
    return "1 customer" if number == 1 else f"{number:,} customers"


def _given(bundle: Bundle, changed: Changed) -> tuple[str, str]:
    if not changed.customers:
        return f"All of these customers have {bundle.name} already.", "neutral"
    return f"{bundle.name} is assigned to {_customers(changed.customers)}.", "good"


def _taken(bundle: Bundle, changed: Changed) -> tuple[str, str]:
    done = (
        f"{bundle.name} is removed from {_customers(changed.customers)}."
        if changed.customers
        else f"{bundle.name} was removed from nobody."
    )
    if not changed.still_used:
        return done, "good" if changed.customers else "neutral"
    named = ", ".join(f"{name} ({web_id})" for web_id, name in changed.examples)
    others = changed.still_used - len(changed.examples)
    more = f" and {others:,} others" if others > 0 else ""
    return f"{done} Users still have it at {named}{more}. Move them first.", "attention"


def _go_to(bundle: Bundle) -> Response:
    return go(url_for("bundles.show", bundle_id=bundle.id))
