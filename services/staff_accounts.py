"""The provider's staff: who is of it, with which role and for which groups.

New members are invited; see staff_invitations. Whoever changes staff waits for who does so at the
same moment, so that the last active landlord administrator stays one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from config import LANGUAGES
from extensions import db
from models import (
    STAFF_ROLES,
    Group,
    Role,
    SecurityNotice,
    StaffInvitation,
    User,
    UserGroup,
    UserStatus,
    fold,
    is_storable,
    prefix_range,
    table_of,
)
from models.users import STAFF
from services import (
    domain_names,
    noted_mails,
    passwords,
    reset_links,
    second_factors,
    security_notices,
    sign_in_policies,
    sign_ins,
    staff_invitations,
)
from services.actors import Actor, Permission
from services.audit_events import record_event
from services.errors import Conflict, InvalidInput, InvalidInputs, NotFound, Stale
from services.paging import Page, keyset_page
from services.registration_checks import check_email, clean_text
from services.transactions import run_session_transaction

T = TypeVar("T")

ROLES = (Role.LANDLORD, Role.OPERATOR, Role.AUDITOR)
NAME_LENGTH = 64
LOGIN_LENGTH = 254
_LOGIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9]|[._+@-](?=[A-Za-z0-9]))*")
_LONGEST_KEY = 320
_GONE = "There is no such member of staff."
_LAST_LANDLORD = (
    "This is the last active landlord administrator. Make somebody else one first, "
    "or nobody can look after staff any more."
)


class StaffState(StrEnum):
    """What the list says of a member of staff."""

    INVITED = "invited"
    ACTIVE = "active"
    SUSPENDED = "suspended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Particulars:
    """A member of staff as he was typed. `group_ids` are of no matter with `all_groups`."""

    first_name: str = ""
    last_name: str = ""
    email: str = ""
    language: str = "en"
    role: Role = Role.OPERATOR
    all_groups: bool = False
    group_ids: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Member:
    """A member of staff with his groups by number, and his invitation until he has accepted it."""

    user: User
    groups: tuple[Group, ...]
    invitation: StaffInvitation | None

    @property
    def state(self) -> StaffState:
        if self.invitation is not None:
            return StaffState.INVITED
        if self.user.status is UserStatus.ACTIVE:
            return StaffState.ACTIVE
        return StaffState.SUSPENDED

    @property
    def reaches_all(self) -> bool:
        return self.user.all_groups or self.user.role is Role.LANDLORD


# --- Looking -------------------------------------------------------------------------------------


def list_members(
    actor: Actor,
    *,
    search: str = "",
    role: Role | None = None,
    state: StaffState | None = None,
    groupno: int | None = None,
    size: int = 25,
    cursor: str = "",
) -> Page[Member]:
    """A page of the staff by name. `search` is the beginning of a name, a login or an address;
    `groupno` keeps those who are limited to groups and have this one."""
    actor.require(Permission.STAFF_MANAGE)
    query = sa.select(User).where(STAFF, User.status != UserStatus.DELETED)
    if search:
        lowest, beyond = prefix_range(fold(search))
        columns = (User.name_key, User.surname_key, User.login_key, User.email_key)
        query = query.where(sa.or_(*(sa.and_(each >= lowest, each < beyond) for each in columns)))
    if role is not None:
        query = query.where(User.role == role)
    if state is not None:
        query = query.where(_is_in(state))
    if groupno is not None:
        of_group = (
            sa.select(UserGroup.user_id)
            .join(Group, Group.id == UserGroup.group_id)
            .where(Group.groupno == groupno)
        )
        query = query.where(User.id.in_(of_group))
    page = keyset_page(
        lambda each: db.session.scalars(each).all(),
        query,
        key=User.name_key.expression,
        row_id=User.id.expression,
        key_of=lambda row: (row.name_key, row.id),
        size=size,
        cursor=cursor,
    )
    return Page(_with_groups(page.rows), page.previous, page.next)


def _is_in(state: StaffState) -> sa.ColumnElement[bool]:
    open_ones = sa.exists().where(
        StaffInvitation.user_id == User.id, StaffInvitation.accepted_at.is_(None)
    )
    if state is StaffState.INVITED:
        return open_ones
    if state is StaffState.SUSPENDED:
        return sa.and_(User.status == UserStatus.SUSPENDED, sa.not_(open_ones))
    return User.status == UserStatus.ACTIVE


def _with_groups(users: Collection[User]) -> list[Member]:
    ids = [each.id for each in users]
    groups: dict[int, list[Group]] = {}
    for user_id, group in db.session.execute(
        sa.select(UserGroup.user_id, Group)
        .join(Group, Group.id == UserGroup.group_id)
        .where(UserGroup.user_id.in_(ids))
        .order_by(Group.groupno)
    ):
        groups.setdefault(user_id, []).append(group)
    invitations = {
        each.user_id: each
        for each in db.session.scalars(
            sa.select(StaffInvitation)
            .where(StaffInvitation.user_id.in_(ids), StaffInvitation.accepted_at.is_(None))
            .execution_options(populate_existing=True)
        )
    }
    return [
        Member(each, tuple(groups.get(each.id, ())), invitations.get(each.id)) for each in users
    ]


def get_member(actor: Actor, user_id: int) -> Member:
    """A member of staff as he is now. Raises NotFound, Forbidden."""
    actor.require(Permission.STAFF_MANAGE)
    found = db.session.scalar(
        sa.select(User)
        .where(User.id == user_id, User.role.in_(STAFF_ROLES), User.status != UserStatus.DELETED)
        .execution_options(populate_existing=True)
    )
    if found is None:
        raise NotFound(_GONE)
    (member,) = _with_groups([found])
    return member


def list_groups(actor: Actor) -> list[Group]:
    """The groups that a member of staff can be limited to, by number."""
    actor.require(Permission.STAFF_MANAGE)
    return list(db.session.scalars(sa.select(Group).order_by(Group.groupno)))


# --- Inviting ------------------------------------------------------------------------------------


def invite(actor: Actor, particulars: Particulars, *, login: str = "") -> Member:
    """Make a member of staff who chooses his password by a link that a job mails.

    Without `login` the e-mail address is one. Raises InvalidInputs with every fault.
    """
    actor.require(Permission.STAFF_MANAGE)
    values, groups, faults = _judge(actor, particulars)
    try:
        values |= _judge_login(login.strip() or particulars.email.strip())
    except InvalidInput as error:
        faults.append((error.field, error.message))
    if not faults:
        faults += _find_suppressed(values["email"])
    if faults:
        raise InvalidInputs(faults)

    def work() -> StaffInvitation:
        sign_in_policies.lock()
        _refuse_if_taken(values)
        user = User(status=UserStatus.SUSPENDED, **values)
        db.session.add(user)
        db.session.flush()
        _limit_to(user.id, groups)
        invitation = staff_invitations.new_invitation(user.id, actor)
        db.session.add(invitation)
        db.session.flush()
        _record(actor, "staff_member.invited", user, after=_told(user, groups))
        db.session.commit()
        return invitation

    invitation = _run(work)
    staff_invitations.start_mail(invitation.id)
    return get_member(actor, invitation.user_id)


def resend_invitation(actor: Actor, user_id: int, *, seen: datetime) -> Member:
    """Mail a new link; the old one stops to work at once.

    `seen` is the invitation's `requested_at` as the actor saw it: pressed twice it is one mail.
    Raises NotFound, and Conflict for one that was accepted.
    """
    member = get_member(actor, user_id)
    if member.invitation is None:
        raise Conflict(f"{member.user.full_name} has accepted the invitation already.")
    invitation_id = member.invitation.id
    renewed = staff_invitations.renew(member.invitation, seen=seen)
    if renewed:
        _record(actor, "staff_member.invited_again", member.user)
    db.session.commit()
    if renewed:
        staff_invitations.start_mail(invitation_id)
    return get_member(actor, user_id)


def withdraw_invitation(actor: Actor, user_id: int) -> User:
    """Let the link stop to work, and forget its person, who has never been there.

    Raises NotFound, and Conflict for an invitation that was accepted.
    """

    def work() -> User:
        sign_in_policies.lock()
        member = get_member(actor, user_id)
        if member.invitation is None:
            db.session.rollback()
            raise Conflict(
                f"{member.user.full_name} has accepted the invitation already. "
                "You can suspend or delete the account."
            )
        user = member.user
        told = _told(user, member.groups)
        db.session.execute(
            sa.delete(StaffInvitation).where(
                StaffInvitation.user_id == user.id, StaffInvitation.accepted_at.is_(None)
            )
        )
        db.session.execute(sa.delete(UserGroup).where(UserGroup.user_id == user.id))
        db.session.execute(
            sa.delete(User).where(User.id == user.id, User.status == UserStatus.SUSPENDED)
        )
        _record(actor, "staff_member.withdrawn", user, before=told)
        db.session.expunge(user)
        db.session.commit()
        return user

    return _run(work)


# --- Changing ------------------------------------------------------------------------------------


def change_member(actor: Actor, user_id: int, particulars: Particulars, *, version: int) -> Member:
    """Change name, address, language, role and groups; the login stays.

    What he may holds from his next request on. Raises InvalidInputs with every fault, Stale when he
    is not as in `version` any more, Conflict for one's own role and for the last landlord
    administrator.
    """
    actor.require(Permission.STAFF_MANAGE)

    def work() -> None:
        sign_in_policies.lock()
        _refuse_if_demoted(actor)
        member = get_member(actor, user_id)
        user = member.user
        _refuse_if_stale(user, version)
        values, groups, faults = _judge(actor, particulars)
        if faults:
            raise InvalidInputs(faults)
        if values["role"] is not user.role:
            if user.id == actor.user_id:
                raise InvalidInput(
                    "role", "This is your own role. Another landlord administrator can change it."
                )
            _refuse_if_last(user, becomes=values["role"])
        before = _told(user, member.groups)
        for name, value in values.items():
            setattr(user, name, value)
        after = _told(user, groups)
        changed = {name for name in after if before[name] != after[name]}
        if changed:
            user.version += 1
            db.session.flush()
            _limit_to(user.id, groups)
            _record(
                actor,
                "staff_member.changed",
                user,
                before={name: before[name] for name in sorted(changed)},
                after={name: after[name] for name in sorted(changed)},
            )
        db.session.commit()

    _run(work)
    return get_member(actor, user_id)


def suspend_member(actor: Actor, user_id: int, *, version: int) -> Member:
    """Keep somebody out; his sessions end at once. Raises Stale, and Conflict for oneself, for the
    last landlord administrator, and for who is not active."""

    def work() -> None:
        sign_in_policies.lock()
        _refuse_if_demoted(actor)
        member = get_member(actor, user_id)
        user = member.user
        _refuse_if_stale(user, version)
        _refuse_oneself(actor, user, "suspend")
        if member.state is not StaffState.ACTIVE:
            raise Conflict(f"{user.full_name} is not active.")
        _refuse_if_last(user)
        _set_status(user, UserStatus.SUSPENDED)
        sign_ins.end_sessions_of(user)
        reset_links.close_links_of(user)
        _record_status(actor, "staff_member.suspended", user, "active", "suspended")
        db.session.commit()

    actor.require(Permission.STAFF_MANAGE)
    _run(work)
    return get_member(actor, user_id)


def resume_member(actor: Actor, user_id: int, *, version: int) -> Member:
    """Let somebody in again, with the password that he had. Raises Stale, and Conflict for who is
    not suspended or has not accepted his invitation."""

    def work() -> None:
        sign_in_policies.lock()
        _refuse_if_demoted(actor)
        member = get_member(actor, user_id)
        _refuse_if_stale(member.user, version)
        if member.state is not StaffState.SUSPENDED:
            raise Conflict(f"{member.user.full_name} is not suspended.")
        _set_status(member.user, UserStatus.ACTIVE)
        _record_status(actor, "staff_member.resumed", member.user, "suspended", "active")
        db.session.commit()

    actor.require(Permission.STAFF_MANAGE)
    _run(work)
    return get_member(actor, user_id)


def delete_member(actor: Actor, user_id: int, *, version: int, typed_login: str) -> User:
    """Delete somebody for good. What he did stays on record, and his login stays taken.

    Raises InvalidInput unless `typed_login` is his login, Stale, and Conflict for oneself, for the
    last landlord administrator, and for who has not accepted his invitation.
    """

    def work() -> User:
        sign_in_policies.lock()
        _refuse_if_demoted(actor)
        member = get_member(actor, user_id)
        user = member.user
        _refuse_if_stale(user, version)
        _refuse_oneself(actor, user, "delete")
        if member.state is StaffState.INVITED:
            raise Conflict(
                f"{user.full_name} has not accepted the invitation. Withdraw it instead."
            )
        if fold(typed_login) != user.login_key:
            raise InvalidInput("login", f"This is not the login. Type {user.login} to delete it.")
        _refuse_if_last(user)
        before = _told(user, member.groups) | {"status": user.status.value}
        _set_status(user, UserStatus.DELETED)
        user.password_hash = user.unconfirmed_hash = None
        second_factors.forget_all(user)
        sign_ins.end_sessions_of(user)
        reset_links.close_links_of(user)
        db.session.execute(sa.delete(UserGroup).where(UserGroup.user_id == user.id))
        db.session.execute(sa.delete(SecurityNotice).where(SecurityNotice.user_id == user.id))
        _record(actor, "staff_member.deleted", user, before=before, after={"status": "deleted"})
        db.session.commit()
        return user

    actor.require(Permission.STAFF_MANAGE)
    return _run(work)


def reset_second_factors(actor: Actor, user_id: int) -> User:
    """Take all second factors away from somebody who has lost them; he is told by mail.

    It works for customers' users as well. His sessions end, and his password is enough until he has
    set up others. Raises NotFound, and Conflict for who has none and for oneself.
    """
    user = find_person(actor, user_id)
    if user.id == actor.user_id:
        raise Conflict("These are your own. Look after them in your profile.")
    removed = second_factors.remove_all(actor, user)
    if not removed:
        db.session.rollback()
        raise Conflict(f"{user.full_name} has no second factor.")
    sign_ins.end_sessions_of(user)
    db.session.commit()
    security_notices.start_mails()
    return user


def find_person(actor: Actor, user_id: int) -> User:
    """Anybody with a password who is not deleted. Raises NotFound, Forbidden."""
    actor.require(Permission.STAFF_MANAGE)
    found: User | None = db.session.scalar(
        sa.select(User)
        .where(User.id == user_id, User.role != Role.PROSPECT, User.status != UserStatus.DELETED)
        .execution_options(populate_existing=True)
    )
    if found is None:
        raise NotFound("There is no such person.")
    return found


def _set_status(user: User, status: UserStatus) -> None:
    user.status = status
    user.version += 1
    db.session.flush()


# --- Who must not be touched ---------------------------------------------------------------------


def _refuse_oneself(actor: Actor, user: User, verb: str) -> None:
    if user.id == actor.user_id:
        raise Conflict(f"You cannot {verb} yourself. Another landlord administrator can do it.")


def _refuse_if_demoted(actor: Actor) -> None:
    """Of two who demote each other the second is told, when it is his turn."""
    if actor.user_id is None:
        return
    is_landlord = db.session.scalar(
        sa.select(sa.true()).where(
            sa.exists().where(
                User.id == actor.user_id,
                User.role == Role.LANDLORD,
                User.status == UserStatus.ACTIVE,
            )
        )
    )
    if not is_landlord:
        raise Conflict("Your own role was changed at this moment. Nothing has been done.")


def _refuse_if_last(user: User, *, becomes: Role | None = None) -> None:
    """Raise Conflict where no active landlord administrator would be left."""
    if user.role is not Role.LANDLORD or user.status is not UserStatus.ACTIVE:
        return
    if becomes is Role.LANDLORD:
        return
    others = sa.exists().where(
        STAFF,
        User.role == Role.LANDLORD,
        User.status == UserStatus.ACTIVE,
        User.password_hash.is_not(None),
        User.id != user.id,
    )
    if not db.session.scalar(sa.select(others)):
        raise Conflict(_LAST_LANDLORD)


def _refuse_if_stale(user: User, version: int) -> None:
    if user.version != version:
        raise Stale(
            f"{user.full_name} was changed since you opened that page, so nothing was done now."
        )


# --- What is typed -------------------------------------------------------------------------------


def _judge(
    actor: Actor, typed: Particulars
) -> tuple[dict[str, Any], list[Group], list[tuple[str, str]]]:
    """The columns, the groups, and what is wrong; the columns are whole if nothing is."""
    values: dict[str, Any] = {}
    faults: list[tuple[str, str]] = []
    groups: list[Group] = []
    for judge in (_judge_names, _judge_email, _judge_language, _judge_role):
        try:
            values |= judge(typed)
        except InvalidInput as error:
            faults.append((error.field, error.message))
    if not (typed.all_groups or typed.role is Role.LANDLORD):
        groups = [each for each in list_groups(actor) if each.id in typed.group_ids]
        if not groups:
            faults.append(("groups", "Choose at least one group, or all groups."))
        elif len(groups) != len(typed.group_ids):
            faults.append(("groups", "A group that was chosen is none of the list."))
    values["all_groups"] = typed.all_groups or typed.role is Role.LANDLORD
    return values, groups, faults


def _judge_names(typed: Particulars) -> dict[str, Any]:
    names = {}
    for field, label in (("first_name", "The first name"), ("last_name", "The last name")):
        text = getattr(typed, field)
        if not text.strip():
            raise InvalidInput(field, f"{label} is missing.")
        names[field] = clean_text(text, field, label, NAME_LENGTH)
    # A letter can fold to as many as eighteen.
    return {
        **names,
        "name_key": fold(f"{names['first_name']} {names['last_name']}")[:260],
        "surname_key": fold(names["last_name"])[:130],
    }


def _judge_email(typed: Particulars) -> dict[str, Any]:
    text = typed.email.strip()
    if not text:
        raise InvalidInput("email", "The e-mail address is missing. The link is mailed to it.")
    if not is_storable(text):
        raise InvalidInput("email", "The e-mail address has a character that is none.")
    email = check_email(text, "email", "The e-mail address")
    if len(fold(email)) > _LONGEST_KEY:
        raise InvalidInput("email", "The e-mail address is too long.")
    return {"email": email, "email_key": fold(email)}


def _judge_language(typed: Particulars) -> dict[str, Any]:
    if typed.language not in LANGUAGES:
        raise InvalidInput("language", "There is no such language. Choose one of the list.")
    return {"language": typed.language}


def _judge_role(typed: Particulars) -> dict[str, Any]:
    if typed.role not in STAFF_ROLES:
        raise InvalidInput("role", "Choose one of the roles of the staff.")
    return {"role": typed.role}


def _judge_login(text: str) -> dict[str, Any]:
    if not text:
        raise InvalidInput("login", "The login is missing.")
    if len(text) > LOGIN_LENGTH:
        raise InvalidInput(
            "login", f"The login has {len(text):,} characters. The limit is {LOGIN_LENGTH}."
        )
    login = domain_names.ascii_login(text) if is_storable(text) else text
    if not _LOGIN.fullmatch(login) or login.count("@") > 1 or len(login) > LOGIN_LENGTH:
        raise InvalidInput(
            "login",
            "The login consists of the letters a to z, digits, dots, hyphens, underscores, plus "
            "signs and at most one @, as an e-mail address does.",
        )
    return {"login": login, "login_key": fold(login)}


def _find_suppressed(email: str) -> list[tuple[str, str]]:
    found = noted_mails.find_suppression(email)
    if found is None:
        return []
    return [("email", f"No mail goes to {email}, for it came back before: {found.reason}")]


def _refuse_if_taken(values: dict[str, Any]) -> None:
    taken = sa.exists().where(User.login_key == values["login_key"])
    if db.session.scalar(sa.select(taken)):
        raise InvalidInputs([("login", f"The login {values['login']} is taken. Choose another.")])


# --- Writing -------------------------------------------------------------------------------------


def _run(work: Callable[[], T]) -> T:
    try:
        return run_session_transaction(work)
    except IntegrityError:
        db.session.rollback()
        raise Conflict(
            "Somebody else took this login or changed this person at the same moment. Try again."
        ) from None
    except Exception:
        db.session.rollback()  # What was locked must not stay so.
        raise


def _limit_to(user_id: int, groups: Collection[Group]) -> None:
    db.session.execute(sa.delete(UserGroup).where(UserGroup.user_id == user_id))
    if groups:
        db.session.execute(
            sa.insert(table_of(UserGroup)),
            [{"user_id": user_id, "group_id": each.id} for each in groups],
        )


def _told(user: User, groups: Collection[Group]) -> dict[str, Any]:
    """A member as the audit trail keeps him."""
    return {
        "login": user.login,
        "first_name": user.first_name,
        "last_name": user.last_name,
        "email": user.email,
        "language": user.language,
        "role": user.role.value,
        "groups": "all" if user.all_groups else sorted(each.groupno for each in groups),
    }


def _record_status(actor: Actor, action: str, user: User, before: str, after: str) -> None:
    _record(actor, action, user, before={"status": before}, after={"status": after})


def _record(
    actor: Actor,
    action: str,
    user: User,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    detail: dict[str, Any] = {"login": user.login}
    if before is not None:
        detail["before"] = before
    if after is not None:
        detail["after"] = after
    record_event(actor, action, object_type="user", object_id=user.id, detail=detail)


# --- From the terminal ---------------------------------------------------------------------------


def create_landlord(actor: Actor, particulars: Particulars, *, login: str, password: str) -> User:
    """Make a landlord administrator who can sign in at once, as the first of an installation needs.

    His role is none of the particulars'. Raises InvalidInputs with every fault.
    """
    actor.require(Permission.STAFF_MANAGE)
    values, _, faults = _judge(actor, replace(particulars, role=Role.LANDLORD))
    try:
        values |= _judge_login(login.strip() or particulars.email.strip())
        passwords.check_policy(password, login=values["login"])
    except InvalidInput as error:
        faults.append((error.field, error.message))
    if faults:
        raise InvalidInputs(faults)

    def work() -> User:
        sign_in_policies.lock()
        _refuse_if_taken(values)
        user = User(
            status=UserStatus.ACTIVE, password_hash=passwords.hash_chosen(password), **values
        )
        db.session.add(user)
        db.session.flush()
        _record(actor, "staff_member.created", user, after=_told(user, ()))
        db.session.commit()
        return user

    return _run(work)
