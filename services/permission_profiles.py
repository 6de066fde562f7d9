"""Permission profiles: what the supervisors of a customer may do, item by item.

An administrator shares some of his own permissions under a name, and gives that to supervisors. A
change holds from a supervisor's next request on, because a request asks the profile what it allows.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from extensions import db
from models import Customer, PermissionProfile, User, fold
from services.actors import DELEGABLE, Actor, Permission, delegated
from services.audit_events import record_event
from services.customer_locks import run_alone
from services.errors import Conflict, InvalidInput, InvalidInputs, NotFound, Stale
from services.paging import Page, keyset_page
from services.profile_items import ITEMS
from services.registration_checks import clean_text

NAME_LENGTH = 64
MOST_PROFILES = 100
"""A customer has no more, so that a choice among them can be shown."""

COUNT_CAP = 1000
"""Supervisors of a profile are counted up to here."""

_SHOWN = 64


@dataclass(frozen=True, slots=True)
class ListedProfile:
    """A profile with what it allows; `holders` is COUNT_CAP + 1 where there are more."""

    profile: PermissionProfile
    granted: frozenset[Permission]
    holders: int


# --- Looking -------------------------------------------------------------------------------------


def list_profiles(
    actor: Actor, customer: Customer, *, size: int = 25, cursor: str = ""
) -> Page[ListedProfile]:
    """A page of the customer's profiles by name. Raises Forbidden."""
    actor.require(Permission.USERS_READ)
    query: Any = sa.select(PermissionProfile, _holders().label("holders"))
    page: Page[Any] = keyset_page(
        lambda wanted: db.session.execute(wanted).all(),
        query.where(PermissionProfile.customer_id == customer.id),
        key=PermissionProfile.name_key.expression,
        row_id=PermissionProfile.id.expression,
        key_of=lambda row: (row[0].name_key, row[0].id),
        size=size,
        cursor=cursor,
    )
    rows = [ListedProfile(row, delegated(row.permissions), count) for row, count in page.rows]
    return Page(rows, page.previous, page.next)


def _holders() -> sa.ScalarSelect[int]:
    """How many users have a profile, by index and no further than the cap."""
    some = (
        sa.select(sa.literal(1))
        .select_from(User)
        .where(
            User.customer_id == PermissionProfile.customer_id,
            User.profile_id == PermissionProfile.id,
        )
        .limit(COUNT_CAP + 1)
        .correlate(PermissionProfile)
        .subquery()
    )
    return sa.select(sa.func.count()).select_from(some).scalar_subquery()


def get_profile(actor: Actor, customer: Customer, profile_id: int) -> ListedProfile:
    """One of the customer's profiles as it is now. Raises NotFound, Forbidden."""
    actor.require(Permission.USERS_READ)
    found = db.session.execute(
        sa.select(PermissionProfile, _holders().label("holders"))
        .where(PermissionProfile.id == profile_id, PermissionProfile.customer_id == customer.id)
        .execution_options(populate_existing=True)
    ).one_or_none()
    if found is None:
        raise NotFound(f"{customer.name} has no such permission profile.")
    return ListedProfile(found[0], delegated(found[0].permissions), found[1])


class OwnProfiles:
    """The profiles of one customer by name, read once for many questions, when first asked."""

    def __init__(self, customer: Customer) -> None:
        self._customer = customer

    @cached_property
    def _by_key(self) -> dict[str, PermissionProfile]:
        found = db.session.scalars(
            sa.select(PermissionProfile)
            .where(PermissionProfile.customer_id == self._customer.id)
            .order_by(PermissionProfile.name_key)
        )
        return {profile.name_key: profile for profile in found}

    def __bool__(self) -> bool:
        return bool(self._by_key)

    @property
    def listed(self) -> list[PermissionProfile]:
        """All of them, by name."""
        return list(self._by_key.values())

    def get(self, name: str, field: str = "profile") -> PermissionProfile:
        """The profile of that name. Raises InvalidInput naming `field`."""
        found = self._by_key.get(fold(name))
        if found is None:
            raise InvalidInput(
                field,
                f"{self._customer.name} has no permission profile “{name[:_SHOWN]}”. "
                f"{self.offer()}",
            )
        return found

    def offer(self) -> str:
        """Which there are, as a sentence."""
        if not self._by_key:
            return "It has none at all."
        return f"It has {', '.join(each.name for each in self._by_key.values())}."


# --- Changing ------------------------------------------------------------------------------------


def create_profile(
    actor: Actor, customer: Customer, *, name: str, permissions: Collection[Permission]
) -> PermissionProfile:
    """Raises Forbidden, Conflict beyond MOST_PROFILES, and InvalidInputs with every fault."""
    actor.require(Permission.PROFILES_EDIT)
    values = _judge(name, permissions)

    def work() -> PermissionProfile:
        count = db.session.scalar(
            sa.select(sa.func.count())
            .select_from(PermissionProfile)
            .where(PermissionProfile.customer_id == customer.id)
        )
        if (count or 0) >= MOST_PROFILES:
            raise Conflict(
                f"{customer.name} has {MOST_PROFILES} permission profiles, which is the limit. "
                "Delete one that nobody has."
            )
        _refuse_if_taken(customer, values["name_key"])
        profile = PermissionProfile(customer_id=customer.id, **values)
        db.session.add(profile)
        db.session.flush()
        _record(actor, profile, "permission_profile.created", {"after": _told(profile)})
        db.session.commit()
        return profile

    return run_alone(customer, work)


def change_profile(
    actor: Actor,
    customer: Customer,
    profile_id: int,
    *,
    version: int,
    name: str,
    permissions: Collection[Permission],
) -> PermissionProfile:
    """Change a profile that was read in `version`; it holds from the next request of who has it.

    Raises Forbidden, NotFound, Stale, and InvalidInputs with every fault.
    """
    actor.require(Permission.PROFILES_EDIT)
    values = _judge(name, permissions)

    def work() -> PermissionProfile:
        profile = _load(customer, profile_id)
        if profile.version != version:
            raise Stale(f"{profile.name} was changed in the meantime.")
        before = _told(profile)
        if values["name_key"] != profile.name_key:
            _refuse_if_taken(customer, values["name_key"])
        for column, value in values.items():
            setattr(profile, column, value)
        if (after := _told(profile)) != before:
            profile.version += 1
            detail = {"before": before, "after": after}
            _record(actor, profile, "permission_profile.changed", detail)
        db.session.commit()
        return profile

    return run_alone(customer, work)


def delete_profile(actor: Actor, customer: Customer, profile_id: int) -> str:
    """Delete a profile that nobody has; returns its name.

    Raises Forbidden, NotFound, and Conflict with the number of those who have it.
    """
    actor.require(Permission.PROFILES_EDIT)

    def work() -> str:
        profile = _load(customer, profile_id)
        holders = get_profile(actor, customer, profile_id).holders
        if holders:
            raise Conflict(refusal_of(profile, holders))
        name, before = profile.name, _told(profile)
        db.session.delete(profile)
        _record(actor, profile, "permission_profile.deleted", {"before": before})
        db.session.commit()
        return name

    return run_alone(customer, work)


def refusal_of(profile: PermissionProfile, holders: int) -> str:
    """Why a profile that somebody has is not deleted."""
    if holders == 1:
        return f"1 supervisor has {profile.name}. Give him another profile or role, then delete it."
    many = f"More than {COUNT_CAP:,}" if holders > COUNT_CAP else f"{holders:,}"
    return (
        f"{many} supervisors have {profile.name}. Give them another profile or role, then "
        "delete it."
    )


def _judge(name: str, permissions: Collection[Permission]) -> dict[str, Any]:
    """The columns of a profile. Raises InvalidInputs."""
    faults = []
    try:
        name = clean_text(name, "name", "The name", NAME_LENGTH)
    except InvalidInput as error:
        faults.append((error.field, error.message))
    chosen = frozenset(permissions)
    if beyond := sorted(chosen - DELEGABLE):
        faults.append(("permissions", f"Nobody can give {', '.join(beyond)} to supervisors."))
    for item in ITEMS:
        if item.permission not in chosen:
            continue
        missing = [each.title for each in ITEMS if each.permission in item.needs - chosen]
        if missing:
            faults.append(
                (
                    "permissions",
                    f"{item.title} needs {' and '.join(missing)}. Tick that, too, or leave it out.",
                )
            )
    if faults:
        raise InvalidInputs(faults)
    words = [item.permission.value for item in ITEMS if item.permission in chosen]
    # A letter can fold to as many as eighteen.
    return {"name": name, "name_key": fold(name)[:260], "permissions": words}


def _refuse_if_taken(customer: Customer, key: str) -> None:
    taken = sa.select(PermissionProfile.name).where(
        PermissionProfile.customer_id == customer.id, PermissionProfile.name_key == key
    )
    if (name := db.session.scalar(taken)) is not None:
        raise InvalidInput("name", f"{customer.name} has a permission profile {name} already.")


def _load(customer: Customer, profile_id: int) -> PermissionProfile:
    found: PermissionProfile | None = db.session.scalar(
        sa.select(PermissionProfile)
        .where(PermissionProfile.id == profile_id, PermissionProfile.customer_id == customer.id)
        .execution_options(populate_existing=True)
    )
    if found is None:
        raise NotFound(f"{customer.name} has no such permission profile.")
    return found


def _told(profile: PermissionProfile) -> dict[str, Any]:
    """What an audit event says of a profile."""
    return {"name": profile.name, "permissions": list(profile.permissions)}


def _record(actor: Actor, profile: PermissionProfile, event: str, detail: dict[str, Any]) -> None:
    record_event(
        actor,
        event,
        customer_id=profile.customer_id,
        object_type="permission_profile",
        object_id=profile.id,
        detail=detail,
    )
