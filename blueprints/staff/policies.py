"""What each role needs to sign in, for landlord administrators."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, flash, url_for

from blueprints.htmx import go, respond
from blueprints.security import current_actor, requires
from blueprints.staff.forms import PolicyForm
from models import Role
from services import sign_in_policies
from services.actors import Permission
from services.errors import Stale
from services.sign_in_policies import ROLES

bp = Blueprint("policies", __name__, url_prefix="/sign-in-policies")

_WORDS = {
    Role.LANDLORD: "Landlord administrators",
    Role.OPERATOR: "Operators",
    Role.AUDITOR: "Auditors",
    Role.CUSTOMER_ADMIN: "Customer administrators",
    Role.SUPERVISOR: "Supervisors",
    Role.USER: "Users",
}


@bp.route("", methods=["GET", "POST"])
@requires(Permission.STAFF_MANAGE)
def edit() -> Response:
    actor = current_actor()
    required = sign_in_policies.list_required(actor)
    form = PolicyForm(data={"roles": required, "seen": _join(required)})
    coverage = sign_in_policies.measure_coverage(actor)
    context: dict[str, Any] = {
        "roles": [(each.value, _WORDS[each], coverage.get(each)) for each in ROLES]
    }
    page = "staff/policies.html"
    if not form.validate_on_submit():
        return respond(page, form=form, status=422 if form.errors else 200, **context)
    try:
        sign_in_policies.require_second_factor(actor, form.roles.data, seen=form.seen_roles)
    except Stale as error:
        form.seen.data = _join(sign_in_policies.list_required(actor))
        form.form_errors.append(error.message)
        return respond(page, form=form, status=409, **context)
    flash("Saved. It holds from everybody's next request on.", "good")
    return go(url_for("policies.edit"))


def _join(roles: frozenset[Role]) -> str:
    return ",".join(sorted(roles))
