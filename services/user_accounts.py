"""User accounts of a customer: adding one or many, and changing what is known of one.

A new user has no password: the welcome mail brings the first one. His login never changes, because
mails have told it and platforms know him by it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import joinedload, selectinload

from extensions import db
from models import Customer, Mailing, Role, User, UserStatus, table_of, utcnow
from models.users import ADMINISTRATORS
from services import email_templates, mailing_confirmations, reset_links
from services.actors import Actor, Permission
from services.audit_events import insert_events, record_event
from services.bulk_rows import load_rows
from services.customer_locks import run_alone
from services.errors import Conflict, InvalidInput, InvalidInputs, NotFound, Stale
from services.mailing_confirmations import ChosenMail, lane_for
from services.mailing_freezes import NAMED_USERS
from services.user_rules import NewUser, UserRules, by_login, require_reach

MOST_AT_ONCE = 1000

_USERS = table_of(User)


@dataclass(frozen=True, slots=True, kw_only=True)
class UserChanges:
    """What is to change of a user; None stays as it is, an empty text empties."""

    first_name: str | None = None
    last_name: str | None = None
    email: str | None = None
    extension: str | None = None
    language: str | None = None
    bundle: str | None = None
    role: Role | None = None
    profile: str | None = None

    def given(self) -> dict[str, Any]:
        pairs = ((each.name, getattr(self, each.name)) for each in fields(self))
        return {name: value for name, value in pairs if value is not None}


@dataclass(frozen=True, slots=True)
class AddedUser:
    id: int
    login: str


@dataclass(frozen=True, slots=True)
class AddedUsers:
    """Who was added, in the order given; `mailing` is their welcome mail, to be enqueued."""

    users: list[AddedUser]
    mailing: Mailing | None


# --- Adding --------------------------------------------------------------------------------------


def add_user(
    actor: Actor, customer: Customer, new: NewUser, *, send_welcome_mail: bool = False
) -> tuple[User, Mailing | None]:
    """Add one user, with his welcome mail in the same transaction if it is wanted.

    Raises as `add_users` does; fields have their own names.
    """
    added = _add(actor, customer, [new], send_welcome_mail, prefixes=[""])
    return _load(customer, added.users[0].id), added.mailing


def add_users(
    actor: Actor, customer: Customer, rows: Sequence[NewUser], *, send_welcome_mail: bool = False
) -> AddedUsers:
    """Add up to MOST_AT_ONCE users, all or none of them.

    Raises InvalidInputs with every fault of every row, fields named as `users.17.email`; Conflict
    when there is no welcome mail to send; Forbidden. A login that is taken is told in the same
    words whoever has it.
    """
    if not 0 < len(rows) <= MOST_AT_ONCE:
        raise InvalidInput(
            "users", f"{len(rows):,} users are given. Give 1 to {MOST_AT_ONCE:,} at once."
        )
    prefixes = [f"users.{position}." for position in range(len(rows))]
    return _add(actor, customer, rows, send_welcome_mail, prefixes)


def _add(
    actor: Actor,
    customer: Customer,
    rows: Sequence[NewUser],
    send_welcome_mail: bool,
    prefixes: Sequence[str],
) -> AddedUsers:
    actor.require(Permission.USERS_ADD)
    mail = _choose_welcome(actor, customer) if send_welcome_mail else None
    rules = UserRules(customer, actor)
    faults: list[tuple[str, str]] = []
    judged = []
    for prefix, new in zip(prefixes, rows, strict=True):
        values, wrong = rules.judge_new(new, needs_address=send_welcome_mail)
        judged.append(values)
        faults += [(f"{prefix}{field}", message) for field, message in wrong]

    def work() -> AddedUsers:
        found = [*faults, *_find_taken(judged, rows, prefixes)]
        if found:
            raise InvalidInputs(sorted(found, key=lambda fault: _row_of(fault[0])))
        added = AddedUsers(insert_users(actor, customer, judged), None)
        if mail is not None:
            mailing = mailing_confirmations.accept_mailing(
                actor,
                customer,
                mail,
                NAMED_USERS,
                {"user_ids": [each.id for each in added.users]},
                lane=lane_for(len(added.users)),
                include_recent=True,
            )
            added = AddedUsers(added.users, mailing)
        db.session.commit()
        return added

    try:
        return run_alone(customer, work)
    except _Overtaken:
        raise Conflict(
            "Something that these users depend on was changed at the same moment, so nobody was "
            "added. Repeat the request."
        ) from None


def _row_of(field: str) -> int:
    """The row of a fault, so that faults stand in the order of the rows."""
    parts = field.split(".")
    return int(parts[1]) if len(parts) > 1 else 0


def _choose_welcome(actor: Actor, customer: Customer) -> ChosenMail:
    actor.require(Permission.MAILINGS_SEND)
    template = email_templates.find_welcome_template(customer)
    if template is None:
        raise Conflict(f"{customer.name} has no welcome mail among its e-mail templates.")
    return mailing_confirmations.choose_mail(template)


class _Overtaken(Exception):
    """Somebody else was faster with something that a constraint holds."""


def _find_taken(
    judged: Sequence[dict[str, Any]], rows: Sequence[NewUser], prefixes: Sequence[str]
) -> list[tuple[str, str]]:
    """Logins that somebody has, or that are given twice."""
    keys = [values.get("login_key", "") for values in judged]
    known = [key for key in keys if key]
    held = set(db.session.scalars(sa.select(User.login_key).where(User.login_key.in_(known))))
    faults = []
    first_of: dict[str, int] = {}
    for position, (key, new, prefix) in enumerate(zip(keys, rows, prefixes, strict=True)):
        if not key:
            continue
        field = f"{prefix}{'login' if new.login.strip() else 'user_name'}"
        if key in held:
            faults.append((field, f"The login {key} is taken."))
        elif key in first_of:
            faults.append((field, f"users.{first_of[key]} has the login {key}, too."))
        first_of.setdefault(key, position)
    return faults


_COLUMNS = (
    "customer_id",
    "bundle_id",
    "profile_id",
    "role",
    "login",
    "login_key",
    "first_name",
    "last_name",
    "name_key",
    "surname_key",
    "email",
    "email_key",
    "extension",
    "language",
    "created_at",
)
_TOLD = (
    "login",
    "first_name",
    "last_name",
    "email",
    "extension",
    "language",
    "bundle",
    "role",
    "profile",
)
"""What an audit event says of a user."""


def insert_users(
    actor: Actor,
    customer: Customer,
    judged: list[dict[str, Any]],
    detail: dict[str, Any] | None = None,
) -> list[AddedUser]:
    """Insert users whose columns were judged, with an event for each, in the session's transaction.

    The caller holds the customer's lock; `detail` is added to what the events say.
    """
    connection = db.session.connection()
    same = {"customer_id": customer.id, "created_at": utcnow()}
    try:
        load_rows(
            connection,
            _USERS,
            _COLUMNS,
            [[{**same, **values}[name] for name in _COLUMNS] for values in judged],
        )
    except connection.dialect.loaded_dbapi.IntegrityError:
        raise _Overtaken from None
    keys = [values["login_key"] for values in judged]
    ids = {
        row.login_key: row.id
        for row in connection.execute(
            sa.select(_USERS.c.id, _USERS.c.login_key).where(_USERS.c.login_key.in_(keys))
        )
    }
    insert_events(
        connection,
        actor,
        "user.added",
        customer_id=customer.id,
        object_type="user",
        details={
            ids[values["login_key"]]: {name: values[name] for name in _TOLD} | (detail or {})
            for values in judged
        },
    )
    return [AddedUser(ids[values["login_key"]], values["login"]) for values in judged]


def check_login(actor: Actor, customer: Customer, typed: str) -> str:
    """The login that a new user of this user name, or login, would have.

    Raises Forbidden, and InvalidInput for what can be none or is taken.
    """
    actor.require(Permission.USERS_ADD)
    new = by_login(typed)
    values = UserRules(customer, actor).judge_login(new)
    if faults := _find_taken([values], [new], [""]):
        raise InvalidInput(*faults[0])
    return str(values["login"])


# --- Changing ------------------------------------------------------------------------------------


def update_user(
    actor: Actor,
    customer: Customer,
    user_id: int,
    changes: UserChanges,
    *,
    versions: Collection[int] | None = None,
) -> User:
    """Change what is known of a user; returns him with his bundle loaded.

    `versions` are those that the change is meant for. Raises NotFound, Forbidden (to a supervisor
    everybody is closed who is more than a user), Stale,
    InvalidInputs with every fault, and Conflict where the customer would be left without an
    administrator. A mail that waits for another address is skipped by the engine when its turn
    comes; a link to choose a password that went to it does not open any more.
    """
    actor.require(Permission.USERS_EDIT)
    given = changes.given()
    rules = UserRules(customer, actor)

    def work() -> User:
        user = _take(customer, user_id, versions)
        require_reach(actor, user)
        values, faults = rules.judge_changes(user, given)
        if faults:
            raise InvalidInputs(faults)
        before, after = differences(user, values)
        if user.role is Role.CUSTOMER_ADMIN and after.get("role", user.role) is not user.role:
            _require_another_administrator(customer, user)
        if "email" in after:
            reset_links.close_links_of(user)
        if after:
            for name in values.keys() & _USERS.c.keys():
                setattr(user, name, values[name])
            user.version += 1
            _record(actor, user, "user.changed", {"before": before, "after": after})
        db.session.commit()
        return _load(customer, user.id)

    return run_alone(customer, work)


def _take(customer: Customer, user_id: int, versions: Collection[int] | None = None) -> User:
    """The user as he is now. Raises NotFound, Stale."""
    user = _load(customer, user_id)
    if versions is not None and user.version not in versions:
        raise Stale(
            f"{user.full_name} was changed in the meantime. Read the user again, and decide then."
        )
    return user


def _load(customer: Customer, user_id: int) -> User:
    found: User | None = db.session.scalar(
        sa.select(User)
        .where(
            User.id == user_id,
            User.customer_id == customer.id,
            User.status != UserStatus.DELETED,
        )
        .options(joinedload(User.bundle), joinedload(User.welcome), selectinload(User.profile))
        .execution_options(populate_existing=True)
    )
    if found is None:
        raise NotFound(f"{customer.name} has no such user.")
    return found


def _require_another_administrator(customer: Customer, user: User) -> None:
    others = sa.select(User.id).where(
        User.customer_id == customer.id,
        ADMINISTRATORS,
        User.status == UserStatus.ACTIVE,
        User.id != user.id,
    )
    if user.status is UserStatus.ACTIVE and db.session.scalar(others.limit(1)) is None:
        raise Conflict(
            f"{user.full_name} is the last active administrator of {customer.name}. "
            "Make somebody else one first."
        )


def differences(user: User, values: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the audit trail says of a change: the fields that differ, before and after."""
    old = {name: getattr(user, name) for name in _TOLD if name not in {"bundle", "profile"}}
    old["bundle"] = user.bundle.name if user.bundle is not None else ""
    old["profile"] = user.profile.name if user.profile is not None else ""
    changed = [name for name in _TOLD if name in values and values[name] != old[name]]
    return {name: old[name] for name in changed}, {name: values[name] for name in changed}


def _record(actor: Actor, user: User, event: str, detail: dict[str, Any] | None = None) -> None:
    record_event(
        actor,
        event,
        customer_id=user.customer_id,
        object_type="user",
        object_id=user.id,
        detail=detail,
    )
