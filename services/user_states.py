"""What is done with users of a customer at once: suspend, resume, delete, give another bundle.

Everything is planned first, in the same way for the page that asks and for the change itself: who
will be changed, and who is left out for which reason. One refused user never stops the others.

A deleted user's row stays, because mails, mailings and the audit trail refer to it. Names, address
and extension are wiped. The login stays taken: mails have told it, and the account on the
application platform has it, which nobody else may inherit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import joinedload

from extensions import db
from models import Bundle, Customer, Role, SelectedUser, User, UserStatus
from models.users import ADMINISTRATORS
from services import reset_links, second_factors, sign_ins
from services.actors import Actor, Permission
from services.audit_events import insert_events
from services.bundles import OwnBundles
from services.customer_locks import run_alone
from services.errors import Conflict, Forbidden, InvalidInput, NotFound
from services.user_rules import require_reach, roles_within

MOST_AT_ONCE = 500


class Change(StrEnum):
    SUSPEND = "suspend"
    RESUME = "resume"
    BUNDLE = "bundle"
    DELETE = "delete"


PERMISSIONS: dict[Change, Permission] = {
    Change.SUSPEND: Permission.USERS_SUSPEND,
    Change.RESUME: Permission.USERS_SUSPEND,
    Change.BUNDLE: Permission.USERS_EDIT,
    Change.DELETE: Permission.USERS_DELETE,
}


class LeftOut(StrEnum):
    """Why a user stays as he is."""

    ALREADY = "already"
    BEYOND = "beyond"
    YOURSELF = "yourself"
    LAST_ADMINISTRATOR = "last_administrator"


@dataclass(frozen=True, slots=True)
class Plan:
    """Whom a change is for, by name, their bundles loaded; `gone` are no users any more."""

    changed: list[User]
    left_out: list[tuple[User, LeftOut]]
    gone: int

    @property
    def ids(self) -> list[int]:
        return [user.id for user in self.changed]


def plan_change(
    actor: Actor, customer: Customer, change: Change, user_ids: Collection[int], bundle: str = ""
) -> Plan:
    """What a change would do; `bundle` is the name of the new one, if it is known yet.

    Raises Forbidden, and InvalidInput for no users, too many, or a bundle that the customer lacks.
    """
    actor.require(PERMISSIONS[change])
    wanted = OwnBundles(customer).get(bundle) if bundle else None
    return _plan(actor, customer, change, user_ids, wanted)


def check_selection_size(user_ids: Collection[int]) -> None:
    """Raise InvalidInput for no users, or more than can be changed at once."""
    if not user_ids:
        raise InvalidInput("users", "No user is selected. Tick at least one.")
    if len(user_ids) > MOST_AT_ONCE:
        raise InvalidInput(
            "users", f"{len(user_ids):,} users are selected. {MOST_AT_ONCE} is the most at once."
        )


def _plan(
    actor: Actor,
    customer: Customer,
    change: Change,
    user_ids: Collection[int],
    bundle: Bundle | None,
) -> Plan:
    ids = set(user_ids)
    check_selection_size(ids)
    found = db.session.scalars(
        sa.select(User)
        .where(User.customer_id == customer.id, User.id.in_(ids), User.status != UserStatus.DELETED)
        .options(joinedload(User.bundle))
        .order_by(User.name_key, User.id)
        .execution_options(populate_existing=True)
    ).all()
    ends = change in {Change.SUSPEND, Change.DELETE}
    ended = [user for user in found if user.id != actor.user_id]
    must_stay = ends and not _has_administrator_beside(customer, ended)
    plan = Plan([], [], len(ids) - len(found))
    for user in found:
        reason = None
        if _is_already(user, change, bundle):
            reason = LeftOut.ALREADY
        elif user.role not in roles_within(actor):
            reason = LeftOut.BEYOND
        elif ends and user.id == actor.user_id:
            reason = LeftOut.YOURSELF
        elif must_stay and _is_active_administrator(user):
            reason = LeftOut.LAST_ADMINISTRATOR
        if reason is None:
            plan.changed.append(user)
        else:
            plan.left_out.append((user, reason))
    return plan


def _is_already(user: User, change: Change, bundle: Bundle | None) -> bool:
    if change is Change.BUNDLE:
        return bundle is not None and user.bundle_id == bundle.id
    wanted = {Change.SUSPEND: UserStatus.SUSPENDED, Change.RESUME: UserStatus.ACTIVE}
    return user.status is wanted.get(change)


def _is_active_administrator(user: User) -> bool:
    return user.role is Role.CUSTOMER_ADMIN and user.status is UserStatus.ACTIVE


def _has_administrator_beside(customer: Customer, ended: Sequence[User]) -> bool:
    """Whether an active administrator would be left without these."""
    going = [user.id for user in ended if _is_active_administrator(user)]
    others = sa.select(User.id).where(
        User.customer_id == customer.id,
        ADMINISTRATORS,
        User.status == UserStatus.ACTIVE,
        User.id.not_in(going),
    )
    return not going or db.session.scalar(others.limit(1)) is not None


# --- Many at once --------------------------------------------------------------------------------


def suspend_users(actor: Actor, customer: Customer, user_ids: Collection[int]) -> Plan:
    """Keep users out from this moment: sessions end, links open nothing any more.

    Mails that wait for them are skipped when their turn comes. Raises as `plan_change` does.
    """
    return _do(actor, customer, Change.SUSPEND, user_ids, _suspend)


def resume_users(actor: Actor, customer: Customer, user_ids: Collection[int]) -> Plan:
    """Let suspended users in again, with the passwords that they had."""
    return _do(actor, customer, Change.RESUME, user_ids, _resume)


def delete_users(actor: Actor, customer: Customer, user_ids: Collection[int]) -> Plan:
    """Delete users for good; the users of the plan are then as the wiped rows are.

    Sessions end, links open nothing any more, mails that wait are skipped when their turn comes.
    """
    return _do(actor, customer, Change.DELETE, user_ids, _delete)


def change_bundle(actor: Actor, customer: Customer, user_ids: Collection[int], bundle: str) -> Plan:
    """Give users the bundle of this name. Raises InvalidInput naming `bundle`, too."""
    actor.require(Permission.USERS_EDIT)
    if not bundle.strip():
        raise InvalidInput("bundle", "Choose a bundle.")
    wanted = OwnBundles(customer).get(bundle)

    def give(each: Actor, of: Customer, users: list[User]) -> None:
        _give_bundle(each, of, users, wanted)

    return _do(actor, customer, Change.BUNDLE, user_ids, give, wanted)


def _do(
    actor: Actor,
    customer: Customer,
    change: Change,
    user_ids: Collection[int],
    apply: Callable[[Actor, Customer, list[User]], None],
    bundle: Bundle | None = None,
) -> Plan:
    actor.require(PERMISSIONS[change])

    def work() -> Plan:
        plan = _plan(actor, customer, change, user_ids, bundle)
        if plan.changed:
            apply(actor, customer, plan.changed)
        db.session.commit()
        return plan

    return run_alone(customer, work)


def _suspend(actor: Actor, customer: Customer, users: list[User]) -> None:
    _set_status(actor, customer, users, UserStatus.SUSPENDED, "user.suspended")
    _shut_out(users)


def _resume(actor: Actor, customer: Customer, users: list[User]) -> None:
    _set_status(actor, customer, users, UserStatus.ACTIVE, "user.resumed")


def _set_status(
    actor: Actor, customer: Customer, users: list[User], status: UserStatus, event: str
) -> None:
    details = {}
    for user in users:
        details[user.id] = {
            "login": user.login,
            "before": {"status": user.status.value},
            "after": {"status": status.value},
        }
        user.status = status
        user.version += 1
    _record(actor, customer, event, details)


def _give_bundle(actor: Actor, customer: Customer, users: list[User], bundle: Bundle) -> None:
    details = {}
    for user in users:
        had = user.bundle.name if user.bundle is not None else ""
        details[user.id] = {"before": {"bundle": had}, "after": {"bundle": bundle.name}}
        user.bundle_id = bundle.id
        user.version += 1
    _record(actor, customer, "user.changed", details)


def _delete(actor: Actor, customer: Customer, users: list[User]) -> None:
    details = {}
    for user in users:
        details[user.id] = {
            "before": {
                "login": user.login,
                "first_name": user.first_name,
                "last_name": user.last_name,
                "role": user.role.value,
                "status": user.status.value,
                "bundle": user.bundle.name if user.bundle is not None else "",
            }
        }
        _wipe(user)
    _record(actor, customer, "user.deleted", details)
    _shut_out(users)
    ids = [user.id for user in users]
    second_factors.forget_all_of(ids)
    db.session.execute(sa.delete(SelectedUser).where(SelectedUser.user_id.in_(ids)))


def _wipe(user: User) -> None:
    """Leave the login alone of what is known of the person."""
    user.status = UserStatus.DELETED
    user.first_name = user.last_name = user.surname_key = ""
    # Not empty: lists by name would begin with all who are gone, and pass them one by one.
    user.name_key = user.login_key[:260]
    user.email = user.email_key = user.extension = ""
    user.password_hash = user.unconfirmed_hash = None
    user.must_change_password = False
    user.has_second_factor = False
    user.profile_id = None
    user.version += 1


def _shut_out(users: Sequence[User]) -> None:
    sign_ins.end_sessions_of_all([user.id for user in users])
    reset_links.close_links_of_all([user.id for user in users])


def _record(
    actor: Actor, customer: Customer, event: str, details: dict[int, dict[str, Any]]
) -> None:
    db.session.flush()
    insert_events(
        db.session.connection(),
        actor,
        event,
        customer_id=customer.id,
        object_type="user",
        details=details,
    )


# --- One -----------------------------------------------------------------------------------------


def suspend_user(actor: Actor, customer: Customer, user_id: int) -> User:
    """Suspend one user, as `suspend_users` does. One who is suspended stays so.

    Raises NotFound, Forbidden, and Conflict for the customer's last active administrator.
    """
    return _only(actor, customer, suspend_users(actor, customer, [user_id]))


def resume_user(actor: Actor, customer: Customer, user_id: int) -> User:
    """Resume one user, as `resume_users` does. One who is active stays so.

    Raises NotFound, Forbidden.
    """
    return _only(actor, customer, resume_users(actor, customer, [user_id]))


def _only(actor: Actor, customer: Customer, plan: Plan) -> User:
    """The one user of a plan, unless he was left out for a reason that has to be told."""
    if plan.gone:
        raise NotFound(f"{customer.name} has no such user.")
    if plan.changed:
        return plan.changed[0]
    ((user, reason),) = plan.left_out
    if reason is LeftOut.BEYOND:
        require_reach(actor, user)
        raise Forbidden("Your role does not include this action.")
    if reason is LeftOut.YOURSELF:
        raise Conflict("You cannot do this to your own account. Ask another administrator.")
    if reason is LeftOut.LAST_ADMINISTRATOR:
        raise Conflict(
            f"{user.full_name} is the last active administrator of {customer.name}. "
            "Make somebody else one first."
        )
    return user
