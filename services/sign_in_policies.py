"""What each role needs to sign in: whether its people need a second factor."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa

from extensions import db
from models import STAFF_ROLES, Role, SignInPolicy, User, UserStatus, table_of
from models.users import STAFF
from services.actors import Actor, Permission
from services.audit_events import record_event
from services.errors import InvalidInput, Stale
from services.transactions import run_session_transaction, upsert

ROLES = tuple(role for role in Role if role is not Role.PROSPECT)
"""Those that sign in with a password; prospects have a link by mail."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many active people of a role of the staff have a second factor, of how many."""

    protected: int
    people: int


def list_required(actor: Actor) -> frozenset[Role]:
    """The roles that need a second factor."""
    actor.require(Permission.STAFF_MANAGE)
    return _read()


def _read() -> frozenset[Role]:
    return frozenset(
        db.session.scalars(sa.select(SignInPolicy.role).where(SignInPolicy.second_factor))
    )


def measure_coverage(actor: Actor) -> dict[Role, Coverage]:
    """For the roles of the staff, which are few; customers' users are not counted."""
    actor.require(Permission.STAFF_MANAGE)
    counted = db.session.execute(
        sa.select(
            User.role,
            sa.func.count(),
            sa.func.count().filter(User.has_second_factor),
        )
        .where(STAFF, User.status == UserStatus.ACTIVE)
        .group_by(User.role)
    )
    found = {role: Coverage(protected, people) for role, people, protected in counted}
    return {role: found.get(role, Coverage(0, 0)) for role in ROLES if role in STAFF_ROLES}


def require_second_factor(
    actor: Actor, roles: Collection[Role], *, seen: Collection[Role]
) -> frozenset[Role]:
    """Let exactly `roles` need a second factor, from their people's next request on.

    `seen` is what the actor saw; raises Stale when it has become something else, and InvalidInput
    naming `roles` for a role that cannot have one.
    """
    actor.require(Permission.STAFF_MANAGE)
    if not set(roles) <= set(ROLES):
        raise InvalidInput("roles", "Prospects sign in by a link, without a password.")

    def work() -> None:
        lock()
        before = _read()
        if before != frozenset(seen):
            db.session.rollback()
            raise Stale(
                "Somebody else has changed this since you opened the page. Nothing of yours has "
                "been saved. Look at what it is now, then save again."
            )
        changed = before ^ frozenset(roles)
        if not changed:
            db.session.rollback()
            return
        for role in sorted(changed):
            db.session.execute(_set(role, role in roles))
        record_event(
            actor,
            "sign_in_policy.changed",
            object_type="sign_in_policy",
            detail={
                "before": {"second_factor": sorted(before)},
                "after": {"second_factor": sorted(roles)},
            },
        )
        db.session.commit()

    run_session_transaction(work)
    return _read()


def _set(role: Role, is_needed: bool) -> sa.Executable:
    policies = table_of(SignInPolicy)
    inserted = upsert(policies).values(role=role, second_factor=is_needed)
    return inserted.on_conflict_do_update(  # type: ignore[no-any-return]
        index_elements=["role"], set_={"second_factor": is_needed}
    )


def lock() -> None:
    """Wait for who changes policies or staff at this moment, until his commit.

    Call it first: what is read behind it stays as it is until one's own commit.
    """
    policies = table_of(SignInPolicy)
    inserted = upsert(policies).values(role=Role.LANDLORD, second_factor=False)
    db.session.connection().execute(
        inserted.on_conflict_do_update(
            index_elements=["role"], set_={"second_factor": policies.c.second_factor}
        )
    )
