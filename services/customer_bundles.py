"""Bundles of customers: assigning and removing them, and moving users from one to another.

A bundle that users of a customer still have is not removed: a foreign key holds it, and who asks is
told how many they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from extensions import db
from models import (
    Bundle,
    Customer,
    CustomerBundle,
    Group,
    User,
    UserStatus,
    table_of,
)
from services.actors import Actor, Permission, customers_in_scope, groups_of
from services.audit_events import insert_event
from services.capped_counts import CappedCount, count_up_to
from services.customers import SHOWN_STATUSES
from services.errors import Conflict, InvalidInput
from services.transactions import run_transaction, upsert

MOST_NAMED = 500
"""Customers that a bulk change names by their web IDs; a whole group may have any number."""

_TOLD = 10
_USERS, _CUSTOMERS, _ASSIGNED = table_of(User), table_of(Customer), table_of(CustomerBundle)
_COPIED = ("group_id", "status", "name_key")


class StillUsed(Conflict):
    """Users still have the bundle; `users` says how many."""

    def __init__(self, message: str, users: CappedCount) -> None:
        self.users = users
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class AssignedBundle:
    """A bundle of a customer with how many of its users have it."""

    bundle: Bundle
    users: CappedCount


def list_assigned(actor: Actor, customer: Customer) -> list[AssignedBundle]:
    """The customer's bundles by name, each with its users. Raises Forbidden."""
    actor.require(Permission.USERS_READ)
    bundles = db.session.scalars(
        sa.select(Bundle)
        .join(CustomerBundle, CustomerBundle.bundle_id == Bundle.id)
        .where(CustomerBundle.customer_id == customer.id)
        .order_by(Bundle.name)
    )
    return [AssignedBundle(each, count_users(customer, each)) for each in bundles]


def count_users(customer: Customer, bundle: Bundle) -> CappedCount:
    return count_up_to(sa.select(_USERS.c.id).where(*_having(customer.id, bundle.id)))


def _having(customer_id: int, bundle_id: int) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        _USERS.c.customer_id == customer_id,
        _USERS.c.bundle_id == bundle_id,
        _USERS.c.status != UserStatus.DELETED,
    )


# --- One customer's ------------------------------------------------------------------------------


def assign_bundle(actor: Actor, customer: Customer, bundle: Bundle) -> bool:
    """Let the customer give a bundle to its users; False when it could before.

    Raises Forbidden, and Conflict for an archived bundle.
    """
    actor.require(Permission.BUNDLES_EDIT)
    _refuse_archived(bundle)
    which = _CUSTOMERS.c.id == customer.id
    return bool(_assign(actor, bundle, which, [customer.web_id]))


def remove_bundle(actor: Actor, customer: Customer, bundle: Bundle) -> None:
    """Take a bundle from a customer. Raises Forbidden, and StillUsed while users have it."""
    actor.require(Permission.BUNDLES_EDIT)
    name, customer_id = customer.name, customer.id
    db.session.commit()
    try:
        run_transaction(partial(_remove_one, actor, customer_id, bundle))
    except IntegrityError:  # A user was given it at this moment.
        pass
    else:
        return
    users = count_users(customer, bundle)
    raise StillUsed(f"{_how_many(users)} of {name} still {_have(users)} {bundle.name}.", users)


def _how_many(users: CappedCount) -> str:
    if users.is_more:
        return f"More than {users.number:,} users"
    return "1 user" if users.number == 1 else f"{users.number:,} users"


def _have(users: CappedCount) -> str:
    return "has" if users.number == 1 and not users.is_more else "have"


def _remove_one(actor: Actor, customer_id: int, bundle: Bundle, connection: sa.Connection) -> None:
    _free_deleted(connection, customer_id, bundle.id)
    removed = connection.execute(
        sa.delete(_ASSIGNED).where(
            _ASSIGNED.c.customer_id == customer_id, _ASSIGNED.c.bundle_id == bundle.id
        )
    ).rowcount
    if removed:
        _note(connection, actor, "customer.bundle_removed", customer_id, bundle)


def _free_deleted(connection: sa.Connection, customer_id: int, bundle_id: int) -> None:
    """Users who are deleted hold no bundle."""
    connection.execute(
        sa.update(_USERS)
        .where(
            _USERS.c.customer_id == customer_id,
            _USERS.c.bundle_id == bundle_id,
            _USERS.c.status == UserStatus.DELETED,
        )
        .values(bundle_id=None)
    )


def move_users(
    actor: Actor,
    customer: Customer,
    bundle: Bundle,
    target_id: int | None,
    *,
    remove_after: bool = False,
) -> int:
    """Give all users of the customer that have `bundle` another of its bundles; returns how many.

    One statement, whatever their number, and with `remove_after` the bundle is taken from the
    customer in the same transaction. Raises Forbidden, and InvalidInput naming `target`.
    """
    actor.require(Permission.BUNDLES_EDIT)
    others = {
        each.bundle.id: each.bundle
        for each in list_assigned(actor, customer)
        if each.bundle.id != bundle.id
    }
    if target_id not in others:
        raise InvalidInput("target", f"Choose another bundle of {customer.name}.")
    work = partial(_move, actor, customer.id, bundle, others[target_id], remove_after)
    db.session.commit()
    try:
        return run_transaction(work)
    except IntegrityError:
        raise Conflict(
            f"The bundles of {customer.name}, or who has them, were changed at the same moment, so "
            "nobody was moved. Try again."
        ) from None


def _move(
    actor: Actor,
    customer_id: int,
    bundle: Bundle,
    target: Bundle,
    remove_after: bool,
    connection: sa.Connection,
) -> int:
    moved = connection.execute(
        sa.update(_USERS)
        .where(*_having(customer_id, bundle.id))
        .values(bundle_id=target.id, version=_USERS.c.version + 1)
    ).rowcount
    insert_event(
        connection,
        actor,
        "customer.users_moved",
        customer_id=customer_id,
        object_type="bundle",
        object_id=bundle.id,
        detail={
            "before": {"bundle": bundle.name},
            "after": {"bundle": target.name},
            "users": moved,
        },
    )
    if remove_after:
        _remove_one(actor, customer_id, bundle, connection)
    return moved


# --- Many customers' -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Changed:
    """How many customers a bulk change was made of.

    `still_used` are how many keep the bundle because users have it, `examples` some of their names.
    """

    customers: int
    still_used: int = 0
    examples: tuple[tuple[str, str], ...] = ()


def assign_to_many(
    actor: Actor, bundle: Bundle, *, web_ids: Sequence[str] = (), group_id: int | None = None
) -> Changed:
    """Assign a bundle to customers that are named, or to all of a group, in one statement.

    Customers that have it already are passed over. Raises Forbidden, Conflict for an archived
    bundle, and InvalidInput naming `web_ids` or `group` for what is not in the actor's scope.
    """
    actor.require(Permission.BUNDLES_EDIT)
    _refuse_archived(bundle)
    which = _chosen(actor, web_ids, group_id)
    return Changed(_assign(actor, bundle, which, web_ids, group_id))


def remove_from_many(
    actor: Actor, bundle: Bundle, *, web_ids: Sequence[str] = (), group_id: int | None = None
) -> Changed:
    """Take a bundle from customers that are named, or from all of a group.

    Customers whose users have it keep it, and are told. Raises as `assign_to_many` does.
    """
    actor.require(Permission.BUNDLES_EDIT)
    which = _chosen(actor, web_ids, group_id)
    work = partial(_remove_many, actor, bundle, which, web_ids, group_id)
    db.session.commit()
    try:
        return run_transaction(work)
    except IntegrityError:
        raise Conflict(
            f"Users were given {bundle.name} at the same moment, so it was removed from nobody. "
            "Try again."
        ) from None


def read_web_ids(text: str) -> list[str]:
    """Web IDs as they are typed or pasted: separated by blanks, commas, semicolons or lines."""
    words = text.replace(",", " ").replace(";", " ").upper().split()
    return list(dict.fromkeys(words))


def _chosen(actor: Actor, web_ids: Sequence[str], group_id: int | None) -> sa.ColumnElement[bool]:
    """The condition on customers; what is not the actor's is refused, not passed over."""
    if group_id is not None:
        mine = sa.select(Group.id).where(Group.id == group_id)
        if not actor.all_groups:
            mine = mine.where(Group.id.in_(groups_of(actor)))
        if db.session.scalar(mine) is None:
            raise InvalidInput("group", "Choose one of your groups.")
        return sa.and_(_CUSTOMERS.c.group_id == group_id, _CUSTOMERS.c.status.in_(SHOWN_STATUSES))
    if not web_ids:
        raise InvalidInput("web_ids", "Write the web IDs of the customers, such as CQ001.")
    if len(web_ids) > MOST_NAMED:
        raise InvalidInput(
            "web_ids", f"{len(web_ids):,} customers are named. {MOST_NAMED} is the most."
        )
    asked = [each for each in web_ids if len(each) <= 16 and each.isascii() and each.isprintable()]
    found = {
        row.web_id: row.id
        for row in db.session.execute(
            sa.select(Customer.id, Customer.web_id).where(
                Customer.web_id.in_(asked), customers_in_scope(actor)
            )
        )
    }
    missing = [each for each in web_ids if each not in found]
    if missing:
        named = ", ".join(each[:16] for each in missing[:_TOLD])
        more = f" and {len(missing) - _TOLD:,} others" if len(missing) > _TOLD else ""
        raise InvalidInput(
            "web_ids",
            f"There is no customer {named}{more}, or it is not yours to see. Nothing was changed.",
        )
    return _CUSTOMERS.c.id.in_(list(found.values()))


def _refuse_archived(bundle: Bundle) -> None:
    if bundle.archived_at is not None:
        raise Conflict(f"{bundle.name} is archived. Restore it first.")


def _assign(
    actor: Actor,
    bundle: Bundle,
    which: sa.ColumnElement[bool],
    web_ids: Sequence[str],
    group_id: int | None = None,
) -> int:
    """One INSERT … SELECT; returns how many customers did not have it before."""
    bundle_id = bundle.id
    source = sa.select(
        _CUSTOMERS.c.id,
        sa.literal(bundle_id, _ASSIGNED.c.bundle_id.type),
        *(_CUSTOMERS.c[name] for name in _COPIED),
    ).where(which)

    def work(connection: sa.Connection) -> int:
        added = connection.execute(
            upsert(_ASSIGNED)
            .from_select(["customer_id", "bundle_id", *_COPIED], source, include_defaults=False)
            .on_conflict_do_nothing()
            .execution_options(preserve_rowcount=True)
        ).rowcount
        if added:
            _note_many(
                connection,
                actor,
                "customer.bundle_assigned",
                bundle,
                which,
                web_ids,
                {"customers": added, **_group_named(connection, group_id)},
            )
        return added

    db.session.commit()
    return run_transaction(work)


def _remove_many(
    actor: Actor,
    bundle: Bundle,
    which: sa.ColumnElement[bool],
    web_ids: Sequence[str],
    group_id: int | None,
    connection: sa.Connection,
) -> Changed:
    chosen = sa.select(_CUSTOMERS.c.id).where(which)
    of_bundle = sa.and_(_ASSIGNED.c.bundle_id == bundle.id, _ASSIGNED.c.customer_id.in_(chosen))
    in_use = sa.exists().where(
        _USERS.c.customer_id == _ASSIGNED.c.customer_id,
        _USERS.c.bundle_id == bundle.id,
    )
    connection.execute(
        sa.update(_USERS)
        .where(
            _USERS.c.bundle_id == bundle.id,
            _USERS.c.status == UserStatus.DELETED,
            _USERS.c.customer_id.in_(chosen),
        )
        .values(bundle_id=None)
    )
    removed = connection.execute(sa.delete(_ASSIGNED).where(of_bundle, ~in_use)).rowcount
    kept = connection.execute(
        sa.select(_CUSTOMERS.c.web_id, _CUSTOMERS.c.name)
        .join(_ASSIGNED, _ASSIGNED.c.customer_id == _CUSTOMERS.c.id)
        .where(of_bundle)
        .order_by(_CUSTOMERS.c.name_key)
        .limit(_TOLD)
    ).all()
    still_used = connection.scalar(
        sa.select(sa.func.count()).select_from(_ASSIGNED).where(of_bundle)
    )
    if removed:
        _note_many(
            connection,
            actor,
            "customer.bundle_removed",
            bundle,
            which,
            [each for each in web_ids if each not in {row.web_id for row in kept}],
            {"customers": removed, **_group_named(connection, group_id)},
        )
    return Changed(removed, still_used or 0, tuple((row.web_id, row.name) for row in kept))


def _group_named(connection: sa.Connection, group_id: int | None) -> dict[str, Any]:
    if group_id is None:
        return {}
    return {"groupno": connection.scalar(sa.select(Group.groupno).where(Group.id == group_id))}


def _note(
    connection: sa.Connection, actor: Actor, event: str, customer_id: int, bundle: Bundle
) -> None:
    insert_event(
        connection,
        actor,
        event,
        customer_id=customer_id,
        object_type="bundle",
        object_id=bundle.id,
        detail={"bundle": bundle.name},
    )


def _note_many(
    connection: sa.Connection,
    actor: Actor,
    event: str,
    bundle: Bundle,
    which: sa.ColumnElement[bool],
    web_ids: Sequence[str],
    detail: dict[str, Any],
) -> None:
    """An event for a customer that is named alone, one for all where many are."""
    if len(web_ids) == 1:
        customer_id = connection.scalar(sa.select(_CUSTOMERS.c.id).where(which))
        if customer_id is not None:
            _note(connection, actor, event, customer_id, bundle)
            return
    insert_event(
        connection,
        actor,
        event,
        object_type="bundle",
        object_id=bundle.id,
        detail={"bundle": bundle.name, **({"web_ids": list(web_ids)} if web_ids else {}), **detail},
    )
