"""What is done with users at once: a page that shows what will happen, and the button that does it.

For the selection, or for the users that the address names; one is done like many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flask import Blueprint, Response, flash, render_template, request, url_for
from markupsafe import Markup

from blueprints.forms import parse_ids
from blueprints.htmx import go, respond
from blueprints.security import current_actor, current_session, customer_page
from blueprints.users.forms import ChangeForm
from blueprints.users.lists import CHANGE_WORDS
from models import Customer
from services import user_states, users
from services.actors import Actor
from services.errors import InvalidInput
from services.user_states import Change, Plan

bp = Blueprint("user_changes", __name__, url_prefix="/customers/<web_id>/users/actions")

_MOST_TO_UNDO = 50
"""The users of an undo travel in the session's cookie, which is small."""

_DONE: dict[Change, Callable[[Actor, Customer, Sequence[int]], Plan]] = {
    Change.SUSPEND: user_states.suspend_users,
    Change.RESUME: user_states.resume_users,
    Change.DELETE: user_states.delete_users,
}


def _view_of(change: Change) -> Callable[[Customer], Response]:
    def view(customer: Customer) -> Response:
        return _act(customer, change) if request.method == "POST" else _ask(customer, change)

    return customer_page(user_states.PERMISSIONS[change])(view)


for _change in Change:
    bp.add_url_rule(f"/{_change.value}", _change.value, _view_of(_change), methods=["GET", "POST"])


def _ask(customer: Customer, change: Change) -> Response:
    """What will happen to whom, before it does."""
    named = parse_ids(request.args.getlist("user"))
    user_ids = named or users.get_selection(current_session().id, customer)
    try:
        return _show(customer, change, ChangeForm(), user_ids)
    except InvalidInput as error:
        flash(error.message, "attention")
        return go(url_for("users.index", web_id=customer.web_id))


def _act(customer: Customer, change: Change) -> Response:
    """Do it to those who were shown, as far as it can be done now."""
    form = ChangeForm()
    if not form.validate():
        raise InvalidInput("users", "This page is incomplete. Open it again from Users.")
    user_ids = form.users.data
    try:
        if change is Change.DELETE and len(user_ids) > 1:
            _check_typed(form, user_ids)
        if change is Change.BUNDLE:
            chosen = form.bundle.data or ""
            plan = user_states.change_bundle(current_actor(), customer, user_ids, chosen)
        else:
            plan = _DONE[change](current_actor(), customer, user_ids)
    except InvalidInput as error:
        if error.field not in {"bundle", "typed"}:
            raise
        form[error.field].errors = [error.message]
        return _show(customer, change, form, user_ids, status=422)
    users.change_selection(current_session().id, customer, ticked=(), shown=user_ids)
    _tell(customer, change, plan)
    return go(_back(customer, () if change is Change.DELETE else user_ids))


def _check_typed(form: ChangeForm, user_ids: Sequence[int]) -> None:
    typed = form.typed.data or ""
    if typed != str(len(user_ids)):
        raise InvalidInput("typed", f"Type {len(user_ids)} to confirm that all of them are meant.")


def _show(
    customer: Customer,
    change: Change,
    form: ChangeForm,
    user_ids: Sequence[int],
    *,
    status: int = 200,
) -> Response:
    plan = user_states.plan_change(current_actor(), customer, change, user_ids)
    form.offer(users.list_bundles_of(customer))
    return respond(
        "users/change.html",
        status=status,
        customer=customer,
        change=change.value,
        word=CHANGE_WORDS[change],
        plan=plan,
        form=form,
        back=_back(customer, user_ids),
    )


def _back(customer: Customer, user_ids: Sequence[int]) -> str:
    """To the one user, or to the list."""
    if len(user_ids) == 1:
        return url_for("users.show", web_id=customer.web_id, user_id=user_ids[0])
    return url_for("users.index", web_id=customer.web_id)


_SAID = {
    Change.SUSPEND: "suspended, and signed out everywhere",
    Change.RESUME: "active again, with the password from before",
    Change.BUNDLE: "given the new bundle",
    Change.DELETE: "deleted",
}


def _tell(customer: Customer, change: Change, plan: Plan) -> None:
    count = len(plan.changed)
    if not count:
        flash("Nobody was changed. " + _tell_left_out(plan), "attention")
        return
    who = plan.changed[0].full_name if count == 1 else f"{count:,} users"
    text = f"{who} {'is' if count == 1 else 'are'} {_SAID[change]}."
    if left_out := _tell_left_out(plan):
        text = f"{text} {left_out}"
    if change is Change.SUSPEND and count <= _MOST_TO_UNDO:
        undo = render_template("users/_undo.html", customer=customer, text=text, ids=plan.ids)
        flash(Markup(undo), "good")  # noqa: S704 - made by a template of ours
    else:
        flash(text, "good")


def _tell_left_out(plan: Plan) -> str:
    count = len(plan.left_out) + plan.gone
    if not count:
        return ""
    return "1 was left out." if count == 1 else f"{count:,} were left out."
