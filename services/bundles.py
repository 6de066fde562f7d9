"""Bundles: the provider's service packages, and those that a customer may give to its users."""

from __future__ import annotations

import re
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
    User,
    UserStatus,
    fold,
    is_storable,
    table_of,
    utcnow,
)
from services.actors import Actor, Permission, groups_of
from services.audit_events import insert_event
from services.capped_counts import CappedCount, count_up_to
from services.customers import SHOWN_STATUSES
from services.errors import Conflict, InvalidInput, InvalidInputs, NotFound, Stale
from services.paging import Page, keyset_page
from services.transactions import run_transaction
from services.users import list_bundles_of

_SHOWN = 64
LONGEST_NAME = 64
LONGEST_SERVICES = 500
_NAME = re.compile(r"[^\W_](?:[\w .+()/&-]*[\w.+()&])?")
"""Neither “;” nor “|”, which separate names in the command language."""

_BUNDLES = table_of(Bundle)
_ASSIGNED = table_of(CustomerBundle).c
TAKEN = "There is a bundle of this name already. Names differ by more than capitals."


def list_bundles(
    actor: Actor, customer: Customer, *, size: int = 25, cursor: str = ""
) -> Page[Bundle]:
    """A page of the bundles assigned to the customer, by name. Raises Forbidden."""
    actor.require(Permission.USERS_READ)
    return keyset_page(
        lambda query: db.session.scalars(query).all(),
        sa.select(Bundle)
        .join(CustomerBundle, CustomerBundle.bundle_id == Bundle.id)
        .where(CustomerBundle.customer_id == customer.id),
        key=Bundle.name.expression,
        row_id=Bundle.id.expression,
        key_of=lambda bundle: (bundle.name, bundle.id),
        size=size,
        cursor=cursor,
    )


class OwnBundles:
    """The bundles of one customer by name, read once for many questions."""

    def __init__(self, customer: Customer) -> None:
        self._customer = customer.name
        self._by_name = {bundle.name: bundle for bundle in list_bundles_of(customer)}

    def __bool__(self) -> bool:
        return bool(self._by_name)

    def get(self, name: str, field: str = "bundle") -> Bundle:
        """The bundle of that name. Raises InvalidInput naming `field`."""
        found = self._by_name.get(name.strip())
        if found is None:
            raise InvalidInput(
                field, f"{self._customer} has no bundle “{name[:_SHOWN]}”. {self.offer()}"
            )
        return found

    def offer(self) -> str:
        """Which there are, as a sentence."""
        if not self._by_name:
            return "It has none at all."
        return f"It has {', '.join(self._by_name)}."


# --- All of them, for staff ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Usage:
    """How many customers in the actor's scope have a bundle, and how many users have it.

    Users are counted for who sees all groups; `users` is None for others.
    """

    customers: CappedCount
    users: CappedCount | None


def page_bundles(
    actor: Actor, *, archived: bool = False, size: int = 25, cursor: str = ""
) -> Page[Bundle]:
    """A page of the bundles that are offered, or of those archived, by name. Raises Forbidden."""
    actor.require(Permission.CUSTOMERS_READ)
    is_archived = Bundle.archived_at.is_not(None)
    return keyset_page(
        lambda query: db.session.scalars(query).all(),
        sa.select(Bundle).where(is_archived if archived else ~is_archived),
        key=Bundle.name.expression,
        row_id=Bundle.id.expression,
        key_of=lambda bundle: (bundle.name, bundle.id),
        size=size,
        cursor=cursor,
    )


def list_offered(actor: Actor) -> list[Bundle]:
    """Those that are not archived, by name; the provider has a few dozen. Raises Forbidden."""
    actor.require(Permission.CUSTOMERS_READ)
    return list(
        db.session.scalars(
            sa.select(Bundle).where(Bundle.archived_at.is_(None)).order_by(Bundle.name)
        )
    )


def list_all(actor: Actor) -> list[Bundle]:
    """All of them, archived ones, too, for filters. Raises Forbidden."""
    actor.require(Permission.CUSTOMERS_READ)
    return list(db.session.scalars(_ALL))


_ALL = sa.select(Bundle).order_by(Bundle.name)


def get_bundle(actor: Actor, bundle_id: int) -> Bundle:
    """Raises NotFound and Forbidden."""
    actor.require(Permission.CUSTOMERS_READ)
    found = db.session.get(Bundle, bundle_id, populate_existing=True)
    if found is None:
        raise NotFound("There is no such bundle.")
    return found


def measure_usage(actor: Actor, bundle: Bundle) -> Usage:
    """By indexes, no further than COUNT_CAP: a million users cost what a thousand do."""
    actor.require(Permission.CUSTOMERS_READ)
    having = sa.select(_ASSIGNED.customer_id).where(
        _ASSIGNED.bundle_id == bundle.id, _ASSIGNED.status.in_(SHOWN_STATUSES)
    )
    if not actor.all_groups:
        return Usage(count_up_to(having.where(_ASSIGNED.group_id.in_(groups_of(actor)))), None)
    users = sa.select(User.id).where(
        User.bundle_id == bundle.id, User.status.in_([UserStatus.ACTIVE, UserStatus.SUSPENDED])
    )
    return Usage(count_up_to(having), count_up_to(users))


def create_bundle(actor: Actor, *, name: str, services: str) -> Bundle:
    """Raises Forbidden and InvalidInputs. Its name stays: mails, commands and platforms know it."""
    actor.require(Permission.BUNDLES_EDIT)
    faults: list[tuple[str, str]] = []
    name = _checked(_check_name, name, "name", faults)
    services = _checked(_check_services, services, "services", faults)
    if faults:
        raise InvalidInputs(faults)
    try:
        return get_bundle(actor, run_transaction(partial(_create, actor, name, services)))
    except IntegrityError:
        raise InvalidInput("name", TAKEN) from None


def _create(actor: Actor, name: str, services: str, connection: sa.Connection) -> int:
    taken = {fold(each) for each in connection.scalars(sa.select(_BUNDLES.c.name))}
    if fold(name) in taken:
        raise InvalidInput("name", TAKEN)
    bundle_id: int = connection.execute(
        sa.insert(_BUNDLES).values(name=name, services=services).returning(_BUNDLES.c.id)
    ).scalar_one()
    insert_event(
        connection,
        actor,
        "bundle.created",
        object_type="bundle",
        object_id=bundle_id,
        detail={"after": {"name": name, "services": services}},
    )
    return bundle_id


def describe_bundle(actor: Actor, bundle_id: int, *, services: str, version: int) -> Bundle:
    """Change what a bundle contains, as users and mails tell it.

    Raises Forbidden, NotFound, InvalidInput naming `services`, and Stale where somebody else has
    changed the bundle since `version`.
    """
    actor.require(Permission.BUNDLES_EDIT)
    return _change(
        actor, bundle_id, "bundle.changed", {"services": _check_services(services)}, version=version
    )


def archive_bundle(actor: Actor, bundle_id: int) -> Bundle:
    """Offer a bundle no more; whoever has it keeps it. Raises Forbidden, NotFound."""
    actor.require(Permission.BUNDLES_EDIT)
    return _change(actor, bundle_id, "bundle.archived", {"archived_at": utcnow()}, once=True)


def restore_bundle(actor: Actor, bundle_id: int) -> Bundle:
    """Offer an archived bundle again. Raises Forbidden, NotFound."""
    actor.require(Permission.BUNDLES_EDIT)
    return _change(actor, bundle_id, "bundle.restored", {"archived_at": None}, once=True)


def _change(
    actor: Actor,
    bundle_id: int,
    event: str,
    values: dict[str, Any],
    *,
    version: int | None = None,
    once: bool = False,
) -> Bundle:
    """`once` leaves alone what is archived, or not archived, already."""

    def work(connection: sa.Connection) -> None:
        before = connection.execute(
            sa.select(_BUNDLES).where(_BUNDLES.c.id == bundle_id).with_for_update()
        ).one_or_none()
        if before is None:
            raise NotFound("There is no such bundle.")
        if version is not None and before.version != version:
            raise Stale("Somebody else has changed this bundle since you opened it.")
        was = before._mapping
        if once and (was["archived_at"] is None) == (values["archived_at"] is None):
            return
        if not once and all(was[name] == value for name, value in values.items()):
            return
        changed = connection.execute(
            sa.update(_BUNDLES)
            .where(_BUNDLES.c.id == bundle_id, _BUNDLES.c.version == before.version)
            .values(version=before.version + 1, **values)
        )
        if not changed.rowcount:
            raise Conflict("The bundle is being changed by somebody else. Try again in a moment.")
        insert_event(
            connection,
            actor,
            event,
            object_type="bundle",
            object_id=bundle_id,
            detail={
                "name": before.name,
                "before": {name: _plain(was[name]) for name in values},
                "after": {name: _plain(value) for name, value in values.items()},
            },
        )

    db.session.commit()
    run_transaction(work)
    return get_bundle(actor, bundle_id)


def _plain(value: Any) -> str | None:
    return None if value is None else str(value)


# --- What is right -------------------------------------------------------------------------------


def _checked(check: Any, text: str, field: str, faults: list[tuple[str, str]]) -> str:
    try:
        checked: str = check(text)
    except InvalidInput as error:
        faults.append((field, error.message))
        return text
    return checked


def _check_name(text: str) -> str:
    name = " ".join(text.split()) if is_storable(text) else ""
    if not text.strip():
        raise InvalidInput("name", "Give the bundle a name, such as Entry3PhoneNextGenBundle.")
    if len(name) > LONGEST_NAME:
        raise InvalidInput(
            "name", f"The name has {len(name):,} characters. The limit is {LONGEST_NAME}."
        )
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            "name",
            "A name begins with a letter or a digit and has letters, digits, spaces and . + - ( ) "
            "/ & behind it.",
        )
    return name


def _check_services(text: str) -> str:
    lines = [line.strip() for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    services = "\n".join(line for line in lines if line)
    if len(services) > LONGEST_SERVICES:
        raise InvalidInput(
            "services",
            f"The services have {len(services):,} characters. The limit is {LONGEST_SERVICES}.",
        )
    if not is_storable(services) or not all(
        letter.isprintable() or letter == "\n" for letter in services
    ):
        raise InvalidInput(
            "services", "The services contain a character that cannot be seen. Type it by hand."
        )
    return services
