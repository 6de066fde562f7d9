"""Impersonations: a member of staff is signed in as a customer's administrator, for a while.

The session stays his own and carries whom he is signed in as. He then may what the administrator
may, in that customer alone; what he does is recorded under his own name with the administrator's
beside it. Every request asks whether he still may.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import aliased, joinedload

from extensions import db, get_settings
from models import (
    Customer,
    CustomerStatus,
    Role,
    SelectedUser,
    SignInSession,
    User,
    UserGroup,
    UserStatus,
    utcnow,
)
from models.users import ADMINISTRATORS
from services.actors import Actor, Permission
from services.audit_events import record_event
from services.errors import Conflict, Forbidden, InvalidInput
from services.reasons import check_reason

LASTS = timedelta(minutes=60)
MOST_OFFERED = 100
_MOST_AT_ONCE = 100

RETURNED = "returned"
IS_OVER = "time is over"
NOT_ALLOWED = "no longer allowed"
SESSION_ENDED = "session ended"


@dataclass(frozen=True, slots=True)
class Impersonation:
    """Who is signed in as whom, and until when."""

    staff: User
    administrator: User
    customer: Customer
    until: datetime

    def actor(self, address: str = "") -> Actor:
        """The member of staff with the administrator's role and customer."""
        return Actor(
            user_id=self.staff.id,
            login=self.staff.login,
            role=Role.CUSTOMER_ADMIN,
            customer_id=self.customer.id,
            address=address,
            behalf_id=self.administrator.id,
            behalf_login=self.administrator.login,
        )


def list_administrators(actor: Actor, customer: Customer) -> list[User]:
    """The customer's active administrators, the first of them; none of one that is not active."""
    actor.require(Permission.IMPERSONATE)
    if customer.status is not CustomerStatus.ACTIVE:
        return []
    return list(
        db.session.scalars(
            sa.select(User)
            .where(
                User.customer_id == customer.id,
                ADMINISTRATORS,
                User.status == UserStatus.ACTIVE,
            )
            .order_by(User.id)
            .limit(MOST_OFFERED)
        )
    )


def begin(
    actor: Actor, session: SignInSession, customer: Customer, user_id: int | None, *, reason: str
) -> User:
    """Go on in the session as the customer's administrator `user_id`; returns him.

    The caller has found the customer in the actor's scope. Raises Forbidden, InvalidInput naming
    `administrator` or `reason`, and Conflict where the customer is not active or the session is
    somebody else's already.
    """
    actor.require(Permission.IMPERSONATE)
    if actor.behalf_id is not None or session.user_id != actor.user_id:
        raise Forbidden("You are signed in as somebody else already. Return to yourself first.")
    if customer.status is not CustomerStatus.ACTIVE:
        raise Conflict(f"{customer.name} is suspended: nobody of it can be signed in.")
    reason = check_reason(reason)
    offered = {each.id: each for each in list_administrators(actor, customer)}
    if user_id not in offered:
        raise InvalidInput(
            "administrator", f"Choose one of the active administrators of {customer.name}."
        )
    chosen = offered[user_id]
    until = utcnow() + LASTS
    begun = db.session.scalar(
        sa.update(SignInSession)
        .where(SignInSession.id == session.id, SignInSession.behalf_id.is_(None))
        .values(behalf_id=chosen.id, behalf_until=until)
        .returning(SignInSession.id)
    )
    if begun is None:
        db.session.rollback()
        raise Conflict("You are signed in as somebody else already. Return to yourself first.")
    _forget_selections([session.id])
    found = Impersonation(session.user, chosen, customer, until)
    _record(found, "impersonation.started", actor.address, reason=reason, until=until.isoformat())
    db.session.commit()
    return chosen


def find(session: SignInSession, address: str = "") -> Impersonation | None:
    """Whom the session's person is signed in as; None, and the end of it, when he no longer may.

    That is so when its time is over, he has lost the role or the group, or the administrator or
    the customer is not active any more. The session itself is live: its own person is active.
    """
    if session.behalf_id is None or session.behalf_until is None:
        return None
    administrator = db.session.get_one(
        User, session.behalf_id, options=[joinedload(User.customer)], populate_existing=True
    )
    customer = administrator.customer
    if customer is None:
        raise LookupError("an administrator without a customer")
    found = Impersonation(session.user, administrator, customer, session.behalf_until)
    why = ""
    if found.until <= utcnow():
        why = IS_OVER
    elif not _is_allowed(found):
        why = NOT_ALLOWED
    if not why:
        return found
    _end(session.id, found, address, why)
    db.session.commit()
    return None


def _is_allowed(found: Impersonation) -> bool:
    staff = Actor.from_user(found.staff)
    if not staff.may(Permission.IMPERSONATE):
        return False
    if not staff.all_groups and not db.session.scalar(
        sa.select(sa.true()).where(
            sa.exists().where(
                UserGroup.user_id == found.staff.id,
                UserGroup.group_id == found.customer.group_id,
            )
        )
    ):
        return False
    return (
        found.customer.status is CustomerStatus.ACTIVE
        and found.administrator.status is UserStatus.ACTIVE
        and found.administrator.role is Role.CUSTOMER_ADMIN
    )


def end(session: SignInSession, address: str = "") -> Customer | None:
    """Return to oneself; the customer whose administrator one was, None for who was nobody's."""
    found = _read([SignInSession.id == session.id])
    for each_id, each in found:
        _end(each_id, each, address, RETURNED)
    db.session.commit()
    return found[0][1].customer if found else None


def end_with_sessions(*which: sa.ColumnElement[bool]) -> None:
    """End impersonations in sessions that are about to be ended. The caller commits."""
    for session_id, found in _read(which):
        _end(session_id, found, "", SESSION_ENDED)


def end_those_over() -> int:
    """End impersonations whose time is over, or whose session nobody uses any more; how many.

    For the audit trail: a request would end them by itself. A few hundred at most.
    """
    now = utcnow()
    idle = now - timedelta(minutes=get_settings().session_idle_minutes)
    over = _read([sa.or_(SignInSession.behalf_until <= now, SignInSession.last_seen_at < idle)])
    for session_id, found in over:
        _end(session_id, found, "", IS_OVER)
    db.session.commit()
    return len(over)


def _read(which: Sequence[sa.ColumnElement[bool]]) -> list[tuple[int, Impersonation]]:
    """Ids of sessions with who is whom in them. Not as objects: they may be about to go."""
    staff, administrator = aliased(User), aliased(User)
    rows = db.session.execute(
        sa.select(SignInSession.id, SignInSession.behalf_until, staff, administrator, Customer)
        .join(staff, staff.id == SignInSession.user_id)
        .join(administrator, administrator.id == SignInSession.behalf_id)
        .join(Customer, Customer.id == administrator.customer_id)
        .where(*which)
        .order_by(SignInSession.id)
        .limit(_MOST_AT_ONCE)
    ).all()
    return [
        (session_id, Impersonation(who, whom, customer, until))
        for session_id, until, who, whom, customer in rows
        if until is not None
    ]


def _end(session_id: int, found: Impersonation, address: str, why: str) -> None:
    """Written once, whoever ends it at the same moment."""
    ended = db.session.scalar(
        sa.update(SignInSession)
        .where(SignInSession.id == session_id, SignInSession.behalf_id == found.administrator.id)
        .values(behalf_id=None, behalf_until=None)
        .returning(SignInSession.id)
    )
    if ended is not None:
        _forget_selections([session_id])
        _record(found, "impersonation.ended", address, why=why)


def _forget_selections(session_ids: Sequence[int]) -> None:
    """What one has ticked as oneself is not ticked as somebody else, and the other way round."""
    db.session.execute(sa.delete(SelectedUser).where(SelectedUser.session_id.in_(session_ids)))


def _record(found: Impersonation, event: str, address: str, **detail: str) -> None:
    record_event(
        found.actor(address),
        event,
        customer_id=found.customer.id,
        object_type="user",
        object_id=found.administrator.id,
        detail=detail,
    )
