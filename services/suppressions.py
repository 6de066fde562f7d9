"""Suppressed addresses: who gets no mail because the mailbox is none, and how he gets mail again.

An address is suppressed for the whole installation; a customer sees those that its own users have.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import joinedload

from extensions import db
from models import (
    Customer,
    Delivery,
    EmailTemplateVersion,
    Mailing,
    Suppression,
    User,
    UserStatus,
    fold,
    is_storable,
    prefix_range,
    table_of,
    utcnow,
)
from services.actors import Actor, Permission
from services.audit_events import insert_event, record_event
from services.errors import Conflict, InvalidInput, NotFound
from services.paging import Page, keyset_page
from services.transactions import upsert

MOST_AT_ONCE = 100
REASON_LENGTH = 255


@dataclass(frozen=True, slots=True)
class SuppressedAddress:
    """An address with the customer's users who have it.

    `delivery` is the mail that came back, with mailing and template loaded; it is there only where
    it went to one of these users.
    """

    id: int
    address: str
    reason: str
    since: datetime
    delivery: Delivery | None
    users: list[User] = field(default_factory=list)


def suppress(
    connection: sa.Connection, address: str, reason: str, delivery_id: int | None = None
) -> None:
    """Send no more mail to `address`; one that is suppressed already keeps its first reason."""
    connection.execute(
        upsert(table_of(Suppression))
        .values(email_key=fold(address), reason=reason[:255], delivery_id=delivery_id)
        .on_conflict_do_nothing()
    )


def list_suppressed(
    actor: Actor, customer: Customer, *, search: str = "", size: int = 25, cursor: str = ""
) -> Page[SuppressedAddress]:
    """A page of the suppressed addresses of the customer's users, by address.

    `search` is a prefix of an address, or of the name, surname or login of a user who has it.
    """
    actor.require(Permission.MAILINGS_READ)
    page = keyset_page(
        lambda query: db.session.scalars(query).all(),
        sa.select(Suppression).where(_is_of(customer, fold(search))),
        key=Suppression.email_key.expression,
        row_id=Suppression.id.expression,
        key_of=lambda row: (row.email_key, row.id),
        size=size,
        cursor=cursor,
    )
    return Page(_with_users(customer, page.rows), page.previous, page.next)


def _is_of(customer: Customer, term: str = "") -> sa.ColumnElement[bool]:
    """The addresses that users of the customer have.

    The users are asked by index for each suppressed address: there are few of these, and may be a
    million of those.
    """
    has_it = sa.and_(
        User.customer_id == customer.id,
        User.email_key == Suppression.email_key,
        User.status != UserStatus.DELETED,
    )
    if term:
        lowest, beyond = prefix_range(term)
        columns = (User.email_key, User.name_key, User.surname_key, User.login_key)
        has_it = sa.and_(
            has_it, sa.or_(*(sa.and_(each >= lowest, each < beyond) for each in columns))
        )
    return sa.exists().where(has_it)


def _with_users(customer: Customer, rows: Sequence[Suppression]) -> list[SuppressedAddress]:
    by_key: dict[str, list[User]] = {row.email_key: [] for row in rows}
    # Sorted here: asked for the order, SQLite would walk all users by name.
    having = db.session.scalars(
        sa.select(User).where(
            User.customer_id == customer.id,
            User.email_key.in_(by_key),
            User.status != UserStatus.DELETED,
        )
    )
    for user in sorted(having, key=lambda user: (user.name_key, user.id)):
        by_key[user.email_key].append(user)
    bounced = _deliveries_of(customer, [row.delivery_id for row in rows if row.delivery_id])
    return [
        SuppressedAddress(
            id=row.id,
            address=row.email_key,
            reason=row.reason,
            since=row.created_at,
            delivery=bounced.get(row.delivery_id or 0),
            users=by_key[row.email_key],
        )
        for row in rows
    ]


def _deliveries_of(customer: Customer, ids: Collection[int]) -> dict[int, Delivery]:
    """The deliveries to the customer's own users: what another's mail met is not his to see."""
    found = db.session.scalars(
        sa.select(Delivery)
        .where(Delivery.id.in_(ids))
        .options(
            joinedload(Delivery.user),
            joinedload(Delivery.mailing)
            .joinedload(Mailing.template_version)
            .joinedload(EmailTemplateVersion.template),
        )
    )
    return {each.id: each for each in found if each.user.customer_id == customer.id}


def find_suppression_of(actor: Actor, customer: Customer, user: User) -> SuppressedAddress | None:
    """Why a user of the customer gets no mail, None when his address is not suppressed."""
    actor.require(Permission.MAILINGS_READ)
    row = db.session.scalar(
        sa.select(Suppression).where(Suppression.email_key == user.email_key, _is_of(customer))
    )
    return None if row is None else _with_users(customer, [row])[0]


def add_suppression(
    actor: Actor, customer: Customer, address: str, reason: str
) -> SuppressedAddress:
    """Send no more mail to an address that a user of the customer has, whoever else has it.

    Raises Forbidden, InvalidInput, and Conflict where it is suppressed already.
    """
    actor.require(Permission.SUPPRESSIONS_EDIT)
    reason = reason.strip()
    if not 0 < len(reason) <= REASON_LENGTH:
        raise InvalidInput(
            "reason", f"The reason has {len(reason)} characters. It has 1 to {REASON_LENGTH}."
        )
    key = fold(address)
    if not key or not is_storable(key) or not is_storable(reason):
        raise InvalidInput("address", "The address or the reason has a character that is none.")
    if not db.session.scalar(sa.select(_has_address(customer, key))):
        raise InvalidInput("address", f"No user of {customer.name} has this address.")
    added = db.session.execute(
        upsert(table_of(Suppression))
        .values(email_key=key, reason=reason, created_at=utcnow())
        .on_conflict_do_nothing()
        .returning(table_of(Suppression).c.id)
    ).scalar_one_or_none()
    if added is None:
        db.session.rollback()
        raise Conflict("This address is suppressed already.")
    record_event(
        actor,
        "suppression.added",
        customer_id=customer.id,
        object_type="suppression",
        object_id=added,
        detail={"email": key, "reason": reason},
    )
    db.session.commit()
    return _with_users(customer, [db.session.get_one(Suppression, added)])[0]


def _has_address(customer: Customer, key: str) -> sa.ColumnElement[bool]:
    return sa.exists().where(
        User.customer_id == customer.id,
        User.email_key == key,
        User.status != UserStatus.DELETED,
    )


def get_suppressed(
    actor: Actor, customer: Customer, ids: Collection[int]
) -> list[SuppressedAddress]:
    """Those of `ids` that are still suppressed, by address, to be cleared.

    Raises InvalidInput for none or too many, and for an id that is no suppression of this customer
    nothing at all: it is as if it had been cleared already.
    """
    actor.require(Permission.SUPPRESSIONS_EDIT)
    if not ids:
        raise InvalidInput("address", "No address is selected. Tick at least one.")
    if len(ids) > MOST_AT_ONCE:
        raise InvalidInput(
            "address", f"{len(ids):,} addresses are selected. {MOST_AT_ONCE} is the most at once."
        )
    rows = db.session.scalars(
        sa.select(Suppression)
        .where(Suppression.id.in_(ids), _is_of(customer))
        .order_by(Suppression.email_key)
    ).all()
    return _with_users(customer, rows)


def clear_suppressions(
    actor: Actor, customer: Customer, ids: Collection[int]
) -> list[SuppressedAddress]:
    """Let mail go to these addresses again; returns those that were suppressed until now.

    Raises as `get_suppressed` does, and NotFound when none of `ids` is suppressed any more.
    """
    suppressed = get_suppressed(actor, customer, ids)
    connection = db.session.connection()
    cleared = []
    for each in suppressed:
        if not connection.execute(sa.delete(Suppression).where(Suppression.id == each.id)).rowcount:
            continue  # Somebody else was faster.
        cleared.append(each)
        record_event(
            actor,
            "suppression.cleared",
            customer_id=customer.id,
            object_type="suppression",
            object_id=each.id,
            detail={"email": each.address, "reason": each.reason},
        )
    db.session.commit()
    if not cleared:
        raise NotFound("These addresses are not suppressed any more.")
    return cleared


def clear_address(connection: sa.Connection, actor: Actor, address: str) -> None:
    """Let mail go to `address` again, whoever's it is; the caller checked that the actor may."""
    row = connection.execute(
        sa.delete(Suppression)
        .where(Suppression.email_key == fold(address))
        .returning(Suppression.id, Suppression.reason)
    ).one_or_none()
    if row is not None:
        insert_event(
            connection,
            actor,
            "suppression.cleared",
            object_type="suppression",
            object_id=row.id,
            detail={"email": fold(address), "reason": row.reason},
        )
