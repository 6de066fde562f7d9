"""The Users tab: the list, what is selected in it, and what is done with the selection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flask import Blueprint, Response, redirect, render_template, request, url_for

from blueprints.downloads import csv_download
from blueprints.htmx import respond, wants_fragment
from blueprints.lists import clean_search
from blueprints.security import current_actor, current_session, customer_page
from blueprints.users.forms import SelectionForm
from blueprints.users.lists import (
    EXPORT,
    ROLE_WORDS,
    Action,
    UserList,
    changes_for,
    chips_of,
    columns_of,
    mails_for,
    menus_of,
)
from blueprints.users.markup import Ways, rows, welcome
from config import LANGUAGES
from extensions import get_settings
from models import Bundle, Customer, TemplateKind, User, UserStatus
from services import (
    email_templates,
    mailing_confirmations,
    mailings,
    permission_profiles,
    suppressions,
    user_exports,
    user_states,
    users,
)
from services.actors import Actor, Permission
from services.errors import InvalidInput, NotFound
from services.paging import PAGE_SIZES
from services.user_rules import roles_within
from services.user_states import Change

bp = Blueprint("users", __name__, url_prefix="/customers/<web_id>/users")
bp.add_app_template_filter(welcome, "welcome")

SELECTING = (
    Permission.MAILINGS_SEND,
    Permission.USERS_EDIT,
    Permission.USERS_SUSPEND,
    Permission.USERS_DELETE,
)
"""Who has one of these does something with the users that he selects. To export them all, nobody
needs boxes."""


@bp.get("")
@customer_page(Permission.USERS_READ)
def index(customer: Customer) -> Response:
    bundles = users.list_bundles_of(customer)
    return _show_list(customer, UserList.read(request.args, bundles), bundles)


@bp.post("/selection")
@customer_page(*SELECTING)
def select(customer: Customer) -> Any:
    """Save the ticks of a page; then on to where the reader goes, or how many are selected now."""
    form = _checked_form()
    count = _save_ticks(customer, form)
    if wants_fragment() and "go" not in request.form:
        return render_template(
            "users/_selection_count.html", selected=count, limit=get_settings().selection_limit
        )
    bundles = users.list_bundles_of(customer)
    if form.go.data == "search":
        shown = UserList.parse(form.at.data or "", bundles)
        shown = shown.to(search=clean_search(form.q.data or ""))
    else:
        shown = UserList.parse(form.go.data or "", bundles)
    return redirect(list_url(customer, shown), 303)


@bp.post("/selection/clear")
@customer_page(*SELECTING)
def clear(customer: Customer) -> Any:
    """Select nobody any more, on any page."""
    form = _checked_form()
    users.clear_selection(current_session().id, customer)
    shown = UserList.parse(form.at.data or "", users.list_bundles_of(customer))
    return redirect(list_url(customer, shown), 303)


@bp.post("/actions")
@customer_page(*SELECTING, Permission.USERS_EXPORT)
def act(customer: Customer) -> Any:
    """Save the ticks and begin the chosen action for everybody who is selected."""
    form = _checked_form()
    if current_actor().may_any(*SELECTING):
        _save_ticks(customer, form)
    bundles = users.list_bundles_of(customer)
    shown = UserList.parse(form.at.data or "", bundles)
    actions = list_actions(current_actor(), customer, bundles)
    chosen = next((each for each in actions if each.value == form.action.data), None)
    selected = users.get_selection(current_session().id, customer)
    if chosen is not None and chosen.value == EXPORT:
        return _export(customer, shown, selected)
    try:
        if chosen is None:
            raise InvalidInput("action", "No action is chosen. Take one from Select an Action.")
        if chosen.change is not None:
            user_states.check_selection_size(selected)
        else:
            mailing_confirmations.check_selection_size(selected)
    except InvalidInput as error:
        chosen_value = chosen.value if chosen else ""
        return _show_list(
            customer, shown, bundles, status=422, problem=error.message, action=chosen_value
        )
    if chosen.change is not None:
        target = url_for(f"user_changes.{chosen.change.value}", web_id=customer.web_id)
    else:
        target = url_for("mailings.new", web_id=customer.web_id, template=chosen.template_id)
    return redirect(target, 303)


@bp.get("/actions")
@customer_page(Permission.USERS_READ)
def leave_actions(customer: Customer) -> Any:
    """Where Back and Reload lead from an action that was refused: the list as it was."""
    shown = UserList.read(request.args, users.list_bundles_of(customer))
    return redirect(list_url(customer, shown))


@bp.get("/<int(max=9223372036854775807):user_id>")
@customer_page(Permission.USERS_READ)
def show(customer: Customer, user_id: int) -> Response:
    """A user, or of one who was deleted what remains: his login and the mails to it."""
    actor = current_actor()
    user = users.get_user_of(customer, user_id, or_deleted=True)
    sees_mails = actor.may(Permission.MAILINGS_READ)
    actions = list_actions(actor, customer, users.list_bundles_of(customer))
    is_reached = user.role in roles_within(actor) and user.status is not UserStatus.DELETED
    return respond(
        "users/show.html",
        customer=customer,
        user=user,
        role_word=ROLE_WORDS[user.role],
        sees_mails=sees_mails,
        deliveries=mailings.list_deliveries_to(actor, user) if sees_mails else [],
        suppressed=(
            suppressions.find_suppression_of(actor, customer, user) if sees_mails else None
        ),
        is_on_its_way=bool(users.find_open_welcome_mails([user.id])),
        mails=[each for each in actions if each.template_id is not None],
        changes=_changes_of(user, actions) if is_reached else [],
        may_clear=actor.may(Permission.SUPPRESSIONS_EDIT),
        may_edit=actor.may(Permission.USERS_EDIT) and is_reached,
        may_add=actor.may(Permission.USERS_ADD) and is_reached,
        language_names=LANGUAGES,
    )


def _changes_of(user: User, actions: Sequence[Action]) -> list[Change]:
    """What can be done with this one user; his bundle is part of the form that edits him."""
    pointless = {UserStatus.ACTIVE: Change.RESUME}.get(user.status, Change.SUSPEND)
    return [
        each.change
        for each in actions
        if each.change is not None and each.change not in {pointless, Change.BUNDLE}
    ]


def list_actions(actor: Actor, customer: Customer, bundles: Sequence[Bundle]) -> list[Action]:
    """What *Select an Action* offers the actor for a customer's users."""
    found = []
    if actor.may(Permission.MAILINGS_SEND):
        found = mails_for(
            email_templates.list_templates_for(customer),
            email_templates.find_template_of_kind(TemplateKind.PASSWORD_RESET),
        )
    found += changes_for(actor, has_bundles=bool(bundles))
    if actor.may(Permission.USERS_EXPORT):
        found.append(Action(EXPORT, "Export CSV"))
    return found


def list_url(customer: Customer, shown: UserList) -> str:
    url = url_for("users.index", web_id=customer.web_id)
    return f"{url}?{shown.query}" if shown.query else url


def _show_list(
    customer: Customer,
    shown: UserList,
    bundles: Sequence[Bundle],
    *,
    status: int = 200,
    problem: str = "",
    action: str = "",
) -> Response:
    actor = current_actor()
    page = users.list_users(actor, customer, shown.wanted, size=shown.size, cursor=shown.cursor)
    actions = list_actions(actor, customer, bundles)
    may_select = actor.may_any(*SELECTING)
    selected = set(users.get_selection(current_session().id, customer)) if may_select else set()
    ids = [user.id for user in page.rows]
    ways = Ways(customer, may_select=may_select)
    return respond(
        "users/index.html",
        "users/_table.html",
        status=status,
        is_fragment=wants_fragment(),
        customer=customer,
        shown=shown,
        listed=page,
        shown_ids=ids,
        ways=ways,
        rows=rows(
            page.rows,
            list_url=ways.list_url,
            on_their_way=users.find_open_welcome_mails(ids),
            selected=selected if may_select else None,
        ),
        columns=columns_of(shown),
        menus=menus_of(shown, bundles),
        chips=chips_of(shown, bundles, _profile_name(customer, shown)),
        sizes=[(each, shown.to(size=each).query, each == shown.size) for each in PAGE_SIZES],
        may_select=may_select,
        may_export=actor.may(Permission.USERS_EXPORT),
        may_add=actor.may(Permission.USERS_ADD),
        may_import=actor.may(Permission.USERS_IMPORT),
        sees_mails=actor.may(Permission.MAILINGS_READ),
        selected=selected,
        elsewhere=len(selected.difference(ids)),
        limit=get_settings().selection_limit,
        actions=actions,
        action=action,
        problem=problem,
    )


def _profile_name(customer: Customer, shown: UserList) -> str:
    """The name of the profile whose supervisors are looked for, empty without any."""
    if shown.wanted.profile_id is None:
        return ""
    try:
        found = permission_profiles.get_profile(current_actor(), customer, shown.wanted.profile_id)
    except NotFound:
        return ""
    return found.profile.name


def _checked_form() -> SelectionForm:
    form = SelectionForm()
    if not form.validate():
        raise InvalidInput("users", "This request is too long or incomplete. Load Users again.")
    return form


def _save_ticks(customer: Customer, form: SelectionForm) -> int:
    return users.change_selection(
        current_session().id, customer, ticked=form.selected.data, shown=form.shown.data
    )


def _export(customer: Customer, shown: UserList, selected: Sequence[int]) -> Response:
    rows = user_exports.export_users(current_actor(), customer, shown.wanted, selected)
    return csv_download(f"users-{customer.web_id}", user_exports.EXPORT_HEADER, rows)
