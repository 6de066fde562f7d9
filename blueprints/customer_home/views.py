"""A customer's home: what is left to do, and how things stand."""

from __future__ import annotations

from flask import Blueprint, Response, url_for

from blueprints.htmx import respond
from blueprints.navigation import SEEN_AT_HOME
from blueprints.security import current_actor, customer_page
from extensions import get_settings
from models import Customer, Role
from services import checklists, customer_overviews, direct_debits
from services.actors import Permission
from services.checklists import Task

bp = Blueprint("customer_home", __name__, url_prefix="/customers/<web_id>")

_DONE_WITH = {
    Task.CALLBACK_FOLDER: Permission.PARAMETERS_EDIT,
    Task.IMPORT_USERS: Permission.USERS_IMPORT,
    Task.WELCOME_MAILS: Permission.MAILINGS_SEND,
    Task.INVITE_COLLEAGUES: Permission.PROFILES_EDIT,
}
"""What a step asks for: a supervisor is shown those that he can do."""


@bp.get("")
@customer_page(*SEEN_AT_HOME)
def index(customer: Customer) -> Response:
    """What its administrator starts from, and a supervisor with what his profile shows him; staff
    sees it, too."""
    actor = current_actor()
    items = [
        item
        for item in checklists.make_checklist(customer)
        if actor.role is not Role.SUPERVISOR or actor.may(_DONE_WITH[item.task])
    ]
    sees_users = actor.may(Permission.USERS_READ)
    may_see_debit = actor.may(Permission.CUSTOMERS_READ)
    return respond(
        "customer_home/index.html",
        customer=customer,
        left=[item for item in items if not item.is_done],
        done=[item for item in items if item.is_done],
        overview=customer_overviews.get_overview(actor, customer) if sees_users else None,
        sees_users=sees_users,
        sees_mails=actor.may(Permission.MAILINGS_READ),
        sign_in_url=get_settings().public_url.rstrip("/") + url_for("account.sign_in"),
        may_see_debit=may_see_debit,
        direct_debit=direct_debits.find_direct_debit(actor, customer) if may_see_debit else None,
        may_send=actor.may(Permission.MAILINGS_SEND),
        may_edit=actor.may(Permission.PARAMETERS_EDIT),
        may_add=actor.may(Permission.USERS_ADD),
        may_import=actor.may(Permission.USERS_IMPORT),
    )
