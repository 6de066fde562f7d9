"""Groups: the resellers' books of customers, and moving a customer from one to another."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from extensions import db
from models import (
    ApiCredential,
    ApiCredentialGroup,
    Customer,
    CustomerBundle,
    CustomerStatus,
    Group,
    User,
    UserGroup,
    UserStatus,
    is_storable,
    table_of,
)
from models.customers import CLOSING
from models.users import STAFF
from services.actors import Actor, Permission, groups_of
from services.audit_events import insert_event
from services.capped_counts import CappedCount, count_up_to
from services.errors import Conflict, InvalidInput, InvalidInputs, NotFound, Stale
from services.paging import Page, keyset_page, parse_id_key
from services.transactions import run_transaction

LONGEST_NAME = 64
LARGEST_NUMBER = 2**31 - 1
MOST_STAFF = 100
_GROUPS, _CUSTOMERS = table_of(Group), table_of(Customer)
_CREATED_AT_ONCE = "Somebody else has just made a group with this number or name."


@dataclass(frozen=True, slots=True)
class GroupCounts:
    """Customers of a group by their state, counted up to a thousand each."""

    active: CappedCount
    suspended: CappedCount
    closing: CappedCount


def list_mine(actor: Actor) -> list[Group]:
    """The groups that a member of staff sees, by number, for menus. Raises Forbidden."""
    actor.require(Permission.CUSTOMERS_READ)
    if actor.all_groups:
        return list(db.session.scalars(_ALL))
    return list(db.session.scalars(_ALL.where(Group.id.in_(groups_of(actor)))))


_ALL = sa.select(Group).order_by(Group.groupno)


def page_groups(actor: Actor, *, size: int = 25, cursor: str = "") -> Page[Group]:
    """A page of all groups, by number. Raises Forbidden."""
    actor.require(Permission.GROUPS_MANAGE)
    return keyset_page(
        lambda query: db.session.scalars(query).all(),
        sa.select(Group),
        key=Group.groupno.expression,
        row_id=Group.id.expression,
        key_of=lambda group: (str(group.groupno), group.id),
        parse_key=parse_id_key,
        size=size,
        cursor=cursor,
    )


def get_group(actor: Actor, groupno: int) -> Group:
    """Raises Forbidden and NotFound."""
    actor.require(Permission.GROUPS_MANAGE)
    found = None
    if 0 < groupno <= LARGEST_NUMBER:
        found = db.session.scalar(sa.select(Group).where(Group.groupno == groupno))
    if found is None:
        raise NotFound("There is no such group.")
    return found


def count_customers(group: Group) -> GroupCounts:
    def count(*which: sa.ColumnElement[bool] | sa.TextClause) -> CappedCount:
        return count_up_to(
            sa.select(_CUSTOMERS.c.id).where(_CUSTOMERS.c.group_id == group.id, *which)
        )

    return GroupCounts(
        count(_CUSTOMERS.c.status == CustomerStatus.ACTIVE),
        count(_CUSTOMERS.c.status == CustomerStatus.SUSPENDED),
        count(CLOSING),
    )


def list_staff(actor: Actor, group: Group) -> list[User]:
    """Staff that is limited to this group, perhaps among others, by name; the first hundred."""
    actor.require(Permission.GROUPS_MANAGE)
    return list(
        db.session.scalars(
            sa.select(User)
            .join(UserGroup, UserGroup.user_id == User.id)
            .where(
                UserGroup.group_id == group.id,
                STAFF,
                User.all_groups.is_(False),
                User.status != UserStatus.DELETED,
            )
            .order_by(User.name_key, User.id)
            .limit(MOST_STAFF)
        )
    )


def list_credentials(actor: Actor, group: Group) -> list[ApiCredential]:
    """API credentials that are limited to this group, perhaps among others, by name."""
    actor.require(Permission.GROUPS_MANAGE)
    return list(
        db.session.scalars(
            sa.select(ApiCredential)
            .join(ApiCredentialGroup, ApiCredentialGroup.credential_id == ApiCredential.id)
            .where(ApiCredentialGroup.group_id == group.id, ApiCredential.revoked_at.is_(None))
            .order_by(ApiCredential.name)
            .limit(MOST_STAFF)
        )
    )


# --- Changing ------------------------------------------------------------------------------------


def create_group(actor: Actor, *, groupno: int | None, name: str) -> Group:
    """Its number stays for good: other systems ask by it. Raises Forbidden and InvalidInputs."""
    actor.require(Permission.GROUPS_MANAGE)
    faults: list[tuple[str, str]] = []
    if groupno is None or not 0 < groupno <= LARGEST_NUMBER:
        faults.append(("groupno", f"The number is a whole number from 1 to {LARGEST_NUMBER:,}."))
    elif db.session.scalar(sa.select(Group.id).where(Group.groupno == groupno)) is not None:
        faults.append(("groupno", f"There is a group {groupno} already."))
    try:
        name = _check_name(name)
        _refuse_taken(name)
    except InvalidInput as error:
        faults.append((error.field, error.message))
    if faults:
        raise InvalidInputs(faults)

    def work(connection: sa.Connection) -> None:
        group_id = connection.execute(
            sa.insert(_GROUPS).values(groupno=groupno, name=name).returning(_GROUPS.c.id)
        ).scalar_one()
        insert_event(
            connection,
            actor,
            "group.created",
            object_type="group",
            object_id=group_id,
            detail={"after": {"groupno": groupno, "name": name}},
        )

    db.session.commit()
    try:
        run_transaction(work)
    except IntegrityError:
        raise Conflict(_CREATED_AT_ONCE) from None
    return get_group(actor, groupno or 0)


def rename_group(actor: Actor, group: Group, *, name: str, seen: str) -> Group:
    """`seen` is the name that was changed.

    Raises Forbidden, InvalidInput naming `name`, and Stale where the group has another name by now.
    """
    actor.require(Permission.GROUPS_MANAGE)
    name = _check_name(name)
    group_id, groupno = group.id, group.groupno
    if name == seen == group.name:
        return group
    _refuse_taken(name, but=group_id)

    def work(connection: sa.Connection) -> None:
        renamed = connection.execute(
            sa.update(_GROUPS)
            .where(_GROUPS.c.id == group_id, _GROUPS.c.name == seen)
            .values(name=name)
        )
        if not renamed.rowcount:
            raise Stale("Somebody else has renamed this group since you opened it.")
        insert_event(
            connection,
            actor,
            "group.renamed",
            object_type="group",
            object_id=group_id,
            detail={"groupno": groupno, "before": {"name": seen}, "after": {"name": name}},
        )

    db.session.commit()
    try:
        run_transaction(work)
    except IntegrityError:
        raise Conflict(_CREATED_AT_ONCE) from None
    db.session.refresh(group)
    return group


def move_customer(
    actor: Actor, customer: Customer, group_id: int | None, *, versions: Collection[int]
) -> Customer:
    """Put a customer into another group: other operators see it, other webhooks are told of it.

    Raises Forbidden, InvalidInput naming `group`, Stale, and NotFound where it is gone.
    """
    actor.require(Permission.GROUPS_MANAGE)
    target = db.session.get(Group, group_id) if group_id is not None else None
    if target is None:
        raise InvalidInput("group", "Choose the group that the customer shall belong to.")
    customer_id, target_name = customer.id, target.name
    db.session.commit()

    def work(connection: sa.Connection) -> None:
        before = connection.execute(
            sa.select(_CUSTOMERS.c.version, _CUSTOMERS.c.group_id, _GROUPS.c.name)
            .join(_GROUPS, _GROUPS.c.id == _CUSTOMERS.c.group_id)
            .where(
                _CUSTOMERS.c.id == customer_id,
                _CUSTOMERS.c.status.in_([CustomerStatus.ACTIVE, CustomerStatus.SUSPENDED]),
            )
        ).one_or_none()
        if before is None:
            raise NotFound("There is no such customer, or it is not yours to see.")
        if before.version not in versions:
            raise Stale("Somebody else has changed this customer since you opened it.")
        if before.group_id == group_id:
            return
        moved = connection.execute(
            sa.update(_CUSTOMERS)
            .where(_CUSTOMERS.c.id == customer_id, _CUSTOMERS.c.version == before.version)
            .values(group_id=group_id, version=before.version + 1)
        )
        if not moved.rowcount:
            raise Stale("Somebody else has changed this customer since you opened it.")
        connection.execute(
            sa.update(CustomerBundle)
            .where(CustomerBundle.customer_id == customer_id)
            .values(group_id=group_id)
        )
        insert_event(
            connection,
            actor,
            "customer.group_changed",
            customer_id=customer_id,
            object_type="customer",
            object_id=customer_id,
            detail={"before": {"group": before.name}, "after": {"group": target_name}},
        )

    run_transaction(work)
    db.session.refresh(customer)
    return customer


def _check_name(text: str) -> str:
    if not is_storable(text) or not all(each.isprintable() or each.isspace() for each in text):
        raise InvalidInput(
            "name", "The name contains a character that cannot be seen. Type it by hand."
        )
    name = " ".join(text.split())
    if not name:
        raise InvalidInput("name", "Give the group a name.")
    if len(name) > LONGEST_NAME:
        raise InvalidInput(
            "name", f"The name has {len(name):,} characters. The limit is {LONGEST_NAME}."
        )
    return name


def _refuse_taken(name: str, but: int | None = None) -> None:
    other = db.session.scalar(sa.select(Group.id).where(Group.name == name))
    if other is not None and other != but:
        raise InvalidInput("name", "There is a group of this name already.")
