"""The provider's staff for landlord administrators: list, invitation, change, end."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from flask import Blueprint, Response, flash, request, url_for

from blueprints.forms import LARGEST_ID, Form, SeenForm, refuse
from blueprints.htmx import go, respond, wants_fragment
from blueprints.security import current_actor, requires
from blueprints.staff.forms import DeleteForm, EditForm, InviteForm, fill_in
from blueprints.staff.lists import ROLE_WORDS, StaffList
from config import LANGUAGES
from models import User, utcnow
from services import second_factors, sign_in_sessions, staff_accounts, staff_invitations
from services.actors import Permission
from services.errors import Conflict, InvalidInput, InvalidInputs, Stale
from services.paging import PAGE_SIZES
from services.staff_accounts import Member, StaffState

bp = Blueprint("staff", __name__, url_prefix="/staff")

_ONE = f"/<int(max={LARGEST_ID}):user_id>"


@bp.get("")
@requires(Permission.STAFF_MANAGE)
def index() -> Response:
    """The list; search, filters, page size and place are all in the address."""
    actor = current_actor()
    shown = StaffList.read(request.args)
    groups = staff_accounts.list_groups(actor)
    page = staff_accounts.list_members(
        actor,
        search=shown.search,
        role=shown.role,
        state=shown.state,
        groupno=shown.groupno,
        size=shown.size,
        cursor=shown.cursor,
    )
    return respond(
        "staff/index.html",
        "staff/_table.html",
        listed=page,
        shown=shown,
        filters=shown.filters(groups),
        chips=shown.chips(groups),
        role_words=ROLE_WORDS,
        sizes=PAGE_SIZES,
        now=utcnow(),
        is_fragment=wants_fragment(),
    )


# --- Inviting ------------------------------------------------------------------------------------


@bp.route("/invite", methods=["GET", "POST"])
@requires(Permission.STAFF_MANAGE)
def invite() -> Response:
    actor = current_actor()
    form = InviteForm()
    page = "staff/invite.html"
    context: dict[str, Any] = {
        "all_groups": staff_accounts.list_groups(actor),
        "days": staff_invitations.VALID.days,
    }
    if not form.validate_on_submit():
        return respond(page, form=form, status=422 if form.errors else 200, **context)
    try:
        member = staff_accounts.invite(actor, form.particulars, login=form.login.data or "")
    except (InvalidInput, InvalidInputs, Conflict) as error:
        return refuse(page, form, error, **context)
    flash(f"{member.user.full_name} is invited. The mail is on its way.", "good")
    return _go_to(member.user)


@bp.post(f"{_ONE}/resend")
@requires(Permission.STAFF_MANAGE)
def resend(user_id: int) -> Response:
    try:
        seen = datetime.fromisoformat(request.form.get("seen", ""))
        if seen.tzinfo is None:
            raise ValueError
    except ValueError:
        raise InvalidInput("seen", "This page is incomplete. Load it again.") from None
    try:
        member = staff_accounts.resend_invitation(current_actor(), user_id, seen=seen)
    except Conflict as error:
        flash(error.message, "attention")
        return go(url_for("staff.show", user_id=user_id))
    flash(f"A new link is on its way to {member.user.email}. The old one no longer works.", "good")
    return _go_to(member.user)


@bp.route(f"{_ONE}/withdraw", methods=["GET", "POST"])
@requires(Permission.STAFF_MANAGE)
def withdraw(user_id: int) -> Response:
    """Asked once: the person is forgotten with the link."""
    member = staff_accounts.get_member(current_actor(), user_id)
    if member.invitation is None:
        flash(f"{member.user.full_name} has accepted the invitation already.", "attention")
        return _go_to(member.user)
    if not Form().validate_on_submit():
        return respond("staff/withdraw.html", member=member)
    try:
        user = staff_accounts.withdraw_invitation(current_actor(), user_id)
    except Conflict as error:
        flash(error.message, "attention")
        return _go_to(member.user)
    flash(f"The invitation of {user.full_name} is withdrawn. The link no longer works.", "good")
    return go(url_for("staff.index"))


# --- Looking at one and changing him -------------------------------------------------------------


@bp.get(_ONE)
@requires(Permission.STAFF_MANAGE)
def show(user_id: int) -> Response:
    actor = current_actor()
    member = staff_accounts.get_member(actor, user_id)
    is_invited = member.state is StaffState.INVITED
    return respond(
        "staff/show.html",
        member=member,
        role=ROLE_WORDS[member.user.role],
        user_language=LANGUAGES.get(member.user.language, member.user.language),
        factors=None if is_invited else second_factors.list_factors(member.user),
        sessions=[] if is_invited else sign_in_sessions.list_sessions(member.user),
        is_oneself=member.user.id == actor.user_id,
        now=utcnow(),
    )


@bp.route(f"{_ONE}/edit", methods=["GET", "POST"])
@requires(Permission.STAFF_MANAGE)
def edit(user_id: int) -> Response:
    """Who is told that somebody else was faster keeps his own input; saving once more is then his
    decision."""
    actor = current_actor()
    member = staff_accounts.get_member(actor, user_id)
    form = EditForm(data=fill_in(member))
    page = "staff/edit.html"
    context: dict[str, Any] = {
        "member": member,
        "all_groups": staff_accounts.list_groups(actor),
        "is_oneself": member.user.id == actor.user_id,
    }
    if not form.validate_on_submit():
        return respond(page, form=form, status=422 if form.errors else 200, **context)
    try:
        changed = staff_accounts.change_member(actor, user_id, form.particulars, version=form.seen)
    except Stale as error:
        return _show_overtaken(page, form, error, context)
    except (InvalidInput, InvalidInputs, Conflict) as error:
        if getattr(error, "field", "") == "version":
            raise
        return refuse(page, form, error, **context)
    flash(f"{changed.user.full_name} is saved. This holds from the next request on.", "good")
    return _go_to(changed.user)


def _show_overtaken(page: str, form: EditForm, error: Stale, context: dict[str, Any]) -> Response:
    newest = staff_accounts.get_member(current_actor(), context["member"].user.id)
    form.version.data = str(newest.user.version)
    form.form_errors.append(
        f"{error.message} Here stands what you chose: save again to put it in the other's place."
    )
    return respond(page, form=form, status=409, **{**context, "member": newest})


@bp.route(f"{_ONE}/suspend", methods=["GET", "POST"])
@requires(Permission.STAFF_MANAGE)
def suspend(user_id: int) -> Response:
    member = staff_accounts.get_member(current_actor(), user_id)
    form = SeenForm(data={"version": member.user.version})
    if not form.validate_on_submit():
        return respond("staff/suspend.html", form=form, member=member)
    return _do(
        member,
        lambda: staff_accounts.suspend_member(current_actor(), user_id, version=form.seen),
        f"{member.user.full_name} is suspended and signed out everywhere.",
    )


@bp.post(f"{_ONE}/resume")
@requires(Permission.STAFF_MANAGE)
def resume(user_id: int) -> Response:
    member = staff_accounts.get_member(current_actor(), user_id)
    return _do(
        member,
        lambda: staff_accounts.resume_member(current_actor(), user_id, version=SeenForm().seen),
        f"{member.user.full_name} can sign in again.",
    )


@bp.route(f"{_ONE}/delete", methods=["GET", "POST"])
@requires(Permission.STAFF_MANAGE)
def delete(user_id: int) -> Response:
    """For good, and asked once: the login is typed."""
    member = staff_accounts.get_member(current_actor(), user_id)
    form = DeleteForm(data={"version": member.user.version})
    page = "staff/delete.html"
    if not form.validate_on_submit():
        return respond(page, form=form, status=422 if form.errors else 200, member=member)
    try:
        user = staff_accounts.delete_member(
            current_actor(), user_id, version=form.seen, typed_login=form.login.data
        )
    except InvalidInput as error:
        if error.field == "version":
            raise
        return refuse(page, form, error, member=member)
    except Conflict as error:
        flash(error.message, "attention")
        return _go_to(member.user)
    flash(f"{user.full_name} is deleted.", "good")
    return go(url_for("staff.index"))


def _do(member: Member, work: Callable[[], object], sentence: str) -> Response:
    try:
        work()
    except Conflict as error:
        flash(error.message, "attention")
    else:
        flash(sentence, "good")
    return _go_to(member.user)


# --- Sessions and second factors of others -------------------------------------------------------


@bp.post(f"{_ONE}/sessions/end")
@requires(Permission.STAFF_MANAGE)
def end_sessions(user_id: int) -> Response:
    """All of them, or the one that is named."""
    actor = current_actor()
    member = staff_accounts.get_member(actor, user_id)
    if member.user.id == actor.user_id:
        flash("These are your own sessions. End them in My profile.", "neutral")
        return _go_to(member.user)
    wanted = request.form.get("session", "")
    if not wanted:
        sign_in_sessions.end_all(actor, member.user)
        flash(f"{member.user.full_name} is signed out everywhere.", "good")
    elif len(wanted) < 19 and wanted.isascii() and wanted.isdecimal():
        if sign_in_sessions.end_one(actor, member.user, int(wanted)):
            flash("That session has ended.", "good")
        else:
            flash("That session was over already.", "neutral")
    else:
        raise InvalidInput("session", "This page is incomplete. Load it again.")
    return _go_to(member.user)


@bp.route(f"/second-factors/<int(max={LARGEST_ID}):user_id>/reset", methods=["GET", "POST"])
@requires(Permission.STAFF_MANAGE)
def reset_second_factors(user_id: int) -> Response:
    """For whoever has lost them, customers' users included."""
    person = staff_accounts.find_person(current_actor(), user_id)
    back = _address_of(person)
    if not Form().validate_on_submit():
        return respond(
            "staff/reset_second_factors.html",
            person=person,
            factors=second_factors.list_factors(person),
            back=back,
        )
    try:
        staff_accounts.reset_second_factors(current_actor(), user_id)
    except Conflict as error:
        flash(error.message, "attention")
    else:
        flash(
            f"{person.full_name} signs in with the password alone now, and is told by mail.", "good"
        )
    return go(back)


def _address_of(person: User) -> str:
    if person.customer is None:
        return url_for("staff.show", user_id=person.id)
    return url_for("users.show", web_id=person.customer.web_id, user_id=person.id)


def _go_to(user: User) -> Response:
    return go(url_for("staff.show", user_id=user.id))
