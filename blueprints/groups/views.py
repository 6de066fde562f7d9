"""Groups for landlord administrators: the resellers' books of customers, and who sees them."""

from __future__ import annotations

from flask import Blueprint, Response, flash, request, url_for

from blueprints.forms import refuse
from blueprints.groups.forms import NewForm, RenameForm
from blueprints.htmx import go, respond, wants_fragment
from blueprints.lists import read_cursor, read_size, size_parameter
from blueprints.security import current_actor, requires
from services import groups
from services.actors import Permission
from services.errors import Conflict, InvalidInput, InvalidInputs, Stale
from services.paging import PAGE_SIZES

bp = Blueprint("groups", __name__, url_prefix="/groups")

_ONE = f"/<int(max={groups.LARGEST_NUMBER}):groupno>"


@bp.get("")
@requires(Permission.GROUPS_MANAGE)
def index() -> Response:
    actor = current_actor()
    size = read_size(request.args)
    page = groups.page_groups(actor, size=size, cursor=read_cursor(request.args))

    def address(size: int = size, cursor: str | None = None) -> str:
        return url_for("groups.index", size=size_parameter(size), cursor=cursor)

    return respond(
        "groups/index.html",
        "groups/_table.html",
        rows=[(each, groups.count_customers(each)) for each in page.rows],
        previous_href=page.previous and address(cursor=page.previous),
        next_href=page.next and address(cursor=page.next),
        sizes=[(each, address(each), each == size) for each in PAGE_SIZES],
        is_fragment=wants_fragment(),
    )


@bp.route("/new", methods=["GET", "POST"])
@requires(Permission.GROUPS_MANAGE)
def new() -> Response:
    form = NewForm()
    page = "groups/new.html"
    if not form.validate_on_submit():
        return respond(page, form=form, status=422 if form.errors else 200)
    try:
        made = groups.create_group(current_actor(), groupno=form.number, name=form.name.data or "")
    except (InvalidInputs, Conflict) as error:
        return refuse(page, form, error)
    flash(f"Group {made.groupno}, {made.name}, is there.", "good")
    return go(url_for("groups.show", groupno=made.groupno))


@bp.get(_ONE)
@requires(Permission.GROUPS_MANAGE)
def show(groupno: int) -> Response:
    actor = current_actor()
    group = groups.get_group(actor, groupno)
    return respond(
        "groups/show.html",
        group=group,
        counts=groups.count_customers(group),
        staff=groups.list_staff(actor, group),
        credentials=groups.list_credentials(actor, group),
    )


@bp.route(f"{_ONE}/rename", methods=["GET", "POST"])
@requires(Permission.GROUPS_MANAGE)
def rename(groupno: int) -> Response:
    actor = current_actor()
    group = groups.get_group(actor, groupno)
    form = RenameForm(data={"name": group.name, "seen": group.name})
    page = "groups/rename.html"
    if not form.validate_on_submit():
        return respond(page, form=form, group=group, status=422 if form.errors else 200)
    try:
        renamed = groups.rename_group(
            actor, group, name=form.name.data or "", seen=form.seen.data or ""
        )
    except Stale as error:
        newest = groups.get_group(actor, groupno)
        form.seen.data = newest.name
        form.form_errors.append(
            f"{error.message} It is {newest.name} now. Save again to rename it."
        )
        return respond(page, form=form, group=newest, status=409)
    except (InvalidInput, Conflict) as error:
        return refuse(page, form, error, group=group)
    flash(f"Group {renamed.groupno} is called {renamed.name}.", "good")
    return go(url_for("groups.show", groupno=renamed.groupno))
