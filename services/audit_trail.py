"""Reading the audit trail: who sees which events, the list with its filters, its export."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import Any

import sqlalchemy as sa

from extensions import db
from models import (
    AuditEvent,
    Customer,
    User,
    UserStatus,
    fold,
    is_storable,
    prefix_range,
    table_of,
)
from services.actors import Actor, Permission, groups_of
from services.audit_events import record_event
from services.bulk_rows import among_ids, ids_parameter
from services.csv_export import as_text
from services.customers import SHOWN_STATUSES
from services.errors import NotFound
from services.paging import (
    BoundedPage,
    Page,
    Strand,
    bounded_page,
    keyset_page,
    parse_time_key,
)

SCAN_CAP = 5000
"""Events that are looked at for one page where no index knows all of the filters together."""

MOST_ACTORS = 20
_MOST_OF_A_KIND = 10
_MOST_ACTIONS = 300

_E = table_of(AuditEvent).c
_C = table_of(Customer).c


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """What the trail is asked for; the same values stand in its URL.

    `actor` begins the login of who acted. `search` begins that, a customer's name, short name, web
    ID or UPN suffix, or the login of the user to whom something was done, or is `#` and the number
    of a request, mailing or command run. `since` and `until` are days in UTC, both included.
    """

    search: str = ""
    actor: str = ""
    action: str = ""
    object_type: str = ""
    object_id: int | None = None
    web_id: str = ""
    on_behalf: bool = False
    since: date | None = None
    until: date | None = None

    @property
    def is_filtered(self) -> bool:
        return self != AuditFilter()


@dataclass(frozen=True, slots=True)
class AuditPage(BoundedPage[AuditEvent]):
    """A page of events, the newest first; `is_cut` where more than MOST_ACTORS actors match."""

    is_cut: bool = False


# --- Scope -----------------------------------------------------------------------------------


def _in_scope(actor: Actor) -> sa.ColumnElement[bool]:
    """The condition on events that keeps staff to their groups, and to what they did themselves."""
    if not actor.is_staff:
        return sa.false()
    if actor.all_groups:
        return sa.true()
    return sa.or_(_E.group_id.in_(groups_of(actor)), _is_own(actor))


def _is_own(actor: Actor) -> sa.ColumnElement[bool]:
    # The login leads to the index; the number tells a namesake of former times apart.
    return sa.and_(_E.actor_key == fold(actor.login)[:320], _E.actor_id == actor.user_id)


def _of(customer: Customer) -> sa.ColumnElement[bool]:
    """The events of a customer, and not of one before him who had the same row number."""
    return sa.and_(_E.customer_id == customer.id, _E.at >= customer.created_at)


def get_event(actor: Actor, event_id: int, customer: Customer | None = None) -> AuditEvent:
    """An event in the actor's scope, of `customer` alone if given. Raises Forbidden, NotFound."""
    actor.require(Permission.AUDIT_READ)
    scope = _in_scope(actor) if customer is None else _of(customer)
    found = db.session.scalar(sa.select(AuditEvent).where(AuditEvent.id == event_id, scope))
    if found is None:
        raise NotFound("There is no such event, or it is not yours to see.")
    return found


def find_shown_addresses(actor: Actor, events: Iterable[AuditEvent]) -> dict[int, str]:
    """The network address of each event, by its id, as far as the actor may know it.

    People of a customer see those of their own people. Where staff work is not theirs to know.
    """
    listed = list(events)
    if actor.is_staff:
        return {event.id: event.address for event in listed}
    ids = {event.actor_id for event in listed if event.actor_id is not None}
    own = set(
        db.session.scalars(
            sa.select(User.id).where(User.id.in_(ids), User.customer_id == actor.customer_id)
        )
        if ids
        else ()
    )
    return {event.id: event.address for event in listed if event.actor_id in own}


@cache
def _named_customers(dialect: str) -> sa.Select[Any]:
    columns = (_C.id, _C.web_id, _C.name, _C.created_at, _C.status, _C.group_id)
    return sa.select(*columns).where(among_ids(dialect, _C.id))


@dataclass(frozen=True, slots=True)
class NamedCustomer:
    """The customer of an event; `is_open` where the actor may ask for its pages."""

    id: int
    web_id: str
    name: str
    is_open: bool


def find_customers_of(actor: Actor, events: Iterable[AuditEvent]) -> dict[int, NamedCustomer]:
    """The customer of each event, by the event's id, as far as there still is one."""
    listed = [(event.id, event.at, event.customer_id) for event in events]
    ids = {customer_id for _, _, customer_id in listed if customer_id is not None}
    if not ids:
        return {}
    connection = db.session.connection()
    rows = connection.execute(
        _named_customers(connection.dialect.name), {"ids": ids_parameter(connection, ids)}
    )
    groups = None if actor.all_groups else set(db.session.scalars(groups_of(actor)))
    found = {}
    for customer_id, web_id, name, created_at, status, group_id in rows:
        is_open = status in SHOWN_STATUSES and (groups is None or group_id in groups)
        named = NamedCustomer(customer_id, web_id, name, is_open)
        found[customer_id] = (created_at, named)
    customers = {}
    for event_id, at, customer_id in listed:
        made = found.get(customer_id)
        if made is not None and made[0] <= at:
            customers[event_id] = made[1]
    return customers


# --- The list --------------------------------------------------------------------------------


def list_events(
    actor: Actor,
    wanted: AuditFilter,
    *,
    customer: Customer | None = None,
    size: int = 25,
    cursor: str = "",
) -> AuditPage:
    """A page of events in the actor's scope, the newest first; of `customer` alone if given.

    Indexes hold the events in this order by actor, action, customer, group, object, and by action
    within customer and group. Of further filters SCAN_CAP events are looked at for a page, which
    ends where those do. The caller has found `customer` in the actor's scope. Raises Forbidden.
    """
    actor.require(Permission.AUDIT_READ)
    plan = _plan(actor, wanted, customer)
    if len(plan.drivers) == 1 and not plan.keep:
        whole = _list_at_once(sa.and_(plan.drivers[0], *_span(wanted)), size, cursor)
        return AuditPage(whole.rows, whole.previous, whole.next, is_cut=plan.is_cut)
    page = bounded_page(
        lambda statement: db.session.execute(statement).all(),
        plan.strands(wanted),
        load=_load,
        most=SCAN_CAP,
        parse_key=parse_time_key,
        descending=True,
        size=size,
        cursor=cursor,
    )
    return AuditPage(page.rows, page.previous, page.next, page.reached, plan.is_cut)


def _list_at_once(condition: sa.ColumnElement[bool], size: int, cursor: str) -> Page[AuditEvent]:
    """The usual case in one statement: an index holds all that is asked for, in its order."""
    return keyset_page(
        lambda statement: db.session.scalars(statement).all(),
        sa.select(AuditEvent).where(condition),
        key=_E.at,
        row_id=_E.id,
        key_of=lambda event: (event.at, event.id),
        parse_key=parse_time_key,
        descending=True,
        size=size,
        cursor=cursor,
    )


def _load(ids: list[int]) -> list[AuditEvent]:
    if not ids:
        return []
    rows = db.session.scalars(sa.select(AuditEvent).where(AuditEvent.id.in_(ids)))
    found = {row.id: row for row in rows}
    return [found[each] for each in ids if each in found]


@dataclass(frozen=True, slots=True)
class _Plan:
    """The ways to the events: any of `drivers`, each led by an index, held against `keep`."""

    drivers: Sequence[sa.ColumnElement[bool]]
    keep: Sequence[sa.ColumnElement[bool]] = ()
    is_cut: bool = False

    def strands(self, wanted: AuditFilter) -> list[Strand]:
        span = list(_span(wanted))
        keep = sa.and_(*self.keep) if self.keep else None
        query = sa.select(_E.id)
        return [Strand(query.where(driver, *span), _E.at, _E.id, keep) for driver in self.drivers]


def _span(wanted: AuditFilter) -> Iterator[sa.ColumnElement[bool]]:
    if wanted.since is not None:
        yield _E.at >= datetime.combine(wanted.since, time(), UTC)
    if wanted.until is not None and wanted.until < date.max:
        yield _E.at < datetime.combine(wanted.until + timedelta(days=1), time(), UTC)


_NOTHING = _Plan(())


def _plan(actor: Actor, wanted: AuditFilter, customer: Customer | None) -> _Plan:
    """By which index to go: that of what is rarest as a rule; the other filters are kept to."""
    texts = (wanted.search, wanted.actor, wanted.action, wanted.object_type, wanted.web_id)
    if not all(map(is_storable, texts)) or (customer is None and not actor.is_staff):
        return _NOTHING
    if customer is None and wanted.web_id:
        customer = _find_customer(actor, wanted.web_id)
        if customer is None:
            return _NOTHING
    scope = [] if customer is None and actor.all_groups else [_scope(actor, customer)]
    has_action = [_E.action == wanted.action] if wanted.action else []
    on_behalf = [_E.behalf_id.is_not(None)] if wanted.on_behalf else []
    by_actor = [_begins(_E.actor_key, fold(wanted.actor))] if wanted.actor.strip() else []
    search = fold(wanted.search)
    if wanted.object_id is not None:
        driver = sa.and_(_E.object_type == wanted.object_type, _E.object_id == wanted.object_id)
        found = [_found_within(actor, customer, search)] if search else []
        return _Plan([driver], [*scope, *by_actor, *has_action, *on_behalf, *found])
    if customer is not None:
        found = [_found_within(actor, customer, search)] if search else []
        return _Plan([sa.and_(*scope, *has_action)], [*by_actor, *on_behalf, *found])
    if search:
        targets, is_cut = _find_targets(actor, search)
        return _Plan(targets, [*scope, *by_actor, *has_action, *on_behalf], is_cut)
    if by_actor:
        actors, is_cut = _find_actors(fold(wanted.actor), MOST_ACTORS)
        drivers = [_E.actor_key == each for each in actors]
        return _Plan(drivers, [*scope, *has_action, *on_behalf], is_cut)
    if on_behalf:
        return _Plan([on_behalf[0]], [*scope, *has_action])
    if actor.all_groups:
        return _Plan([sa.and_(sa.true(), *has_action)])
    groups = db.session.scalars(groups_of(actor)).all()
    drivers = [sa.and_(_E.group_id == each, *has_action) for each in groups]
    return _Plan([*drivers, sa.and_(_is_own(actor), *has_action)])


def _scope(actor: Actor, customer: Customer | None) -> sa.ColumnElement[bool]:
    return _in_scope(actor) if customer is None else _of(customer)


def _begins(column: sa.ColumnElement[str], prefix: str) -> sa.ColumnElement[bool]:
    lowest, beyond = prefix_range(prefix)
    return sa.and_(column >= lowest, column < beyond)


def _find_customer(actor: Actor, web_id: str) -> Customer | None:
    """A customer of the actor's groups, a deleted one as well: its history is what is left."""
    query = sa.select(Customer).where(Customer.web_id == web_id.strip().upper())
    if not actor.all_groups:
        query = query.where(Customer.group_id.in_(groups_of(actor)))
    return db.session.scalar(query)


def _find_actors(prefix: str, most: int) -> tuple[list[str], bool]:
    """Keys of up to `most` actors that begin with `prefix`, and whether there are more.

    Goes from one to the next in the index, past all that each of them did.
    """
    lowest, beyond = prefix_range(prefix)
    found = _distinct(_E.actor_key, most + 1, lowest, beyond)
    return found[:most], len(found) > most


def list_actions() -> list[str]:
    """Every action that the trail has an event of, by name."""
    return _distinct(_E.action, _MOST_ACTIONS, "", "\U0010ffff")


def _distinct(column: sa.ColumnElement[str], most: int, lowest: str, beyond: str) -> list[str]:
    """Values of an index's first column from `lowest` to `beyond`, each found by a search in it."""
    values = {"lowest": lowest, "beyond": beyond, "most": most}
    return list(db.session.connection().scalars(_distinct_statement(column), values))


@cache
def _distinct_statement(column: sa.ColumnElement[str]) -> sa.Select[str]:
    lowest: sa.BindParameter[str] = sa.bindparam("lowest")
    beyond: sa.BindParameter[str] = sa.bindparam("beyond")

    def lowest_where(condition: sa.ColumnElement[bool]) -> sa.ScalarSelect[Any]:
        return (
            sa.select(column)
            .where(condition, column < beyond)
            .order_by(column)
            .limit(1)
            .scalar_subquery()
        )

    steps = sa.select(lowest_where(column >= lowest).label("value")).cte("steps", recursive=True)
    steps = steps.union_all(
        sa.select(lowest_where(column > steps.c.value)).where(steps.c.value.is_not(None))
    )
    return sa.select(steps.c.value).where(steps.c.value.is_not(None)).limit(sa.bindparam("most"))


# --- Search ----------------------------------------------------------------------------------

_NUMBERED = ("request", "mailing", "command_run")


def _find_targets(actor: Actor, term: str) -> tuple[list[sa.ColumnElement[bool]], bool]:
    """Conditions, each of one index, for what a search of the whole trail means."""
    actors, is_cut = _find_actors(term, MOST_ACTORS)
    targets = [_E.actor_key == each for each in actors]
    targets += [_of(each) for each in _find_customers(actor, term)]
    targets += [
        sa.and_(_E.object_type == "user", _E.object_id == each)
        for each in db.session.scalars(_users_by_login(term))
    ]
    if (number := _number_in(term)) is not None:
        targets += [sa.and_(_E.object_type == each, _E.object_id == number) for each in _NUMBERED]
    return targets, is_cut


def _found_within(actor: Actor, customer: Customer | None, term: str) -> sa.ColumnElement[bool]:
    """The same as one condition, where another filter leads to the events already."""
    users = _users_by_login(term)
    if customer is not None:
        keys = (customer.name_key, customer.short_name_key, customer.upn_suffix)
        if any(key.startswith(term) for key in (*keys, customer.web_id.lower())):
            return sa.true()
        users = users.where(User.customer_id == customer.id)
    found = [
        _begins(_E.actor_key, term),
        sa.and_(_E.object_type == "user", _E.object_id.in_(db.session.scalars(users).all())),
    ]
    if customer is None:
        found += [_of(each) for each in _find_customers(actor, term)]
    if (number := _number_in(term)) is not None:
        found.append(sa.and_(_E.object_type.in_(_NUMBERED), _E.object_id == number))
    return sa.or_(*found)


def _number_in(term: str) -> int | None:
    digits = term.removeprefix("#")
    is_number = term.startswith("#") and digits.isascii() and digits.isdecimal()
    return int(digits) if is_number and len(digits) < 19 else None


def _find_customers(actor: Actor, term: str) -> list[Customer]:
    """Up to a few customers of the actor's groups by what their list is searched by."""
    keys = (
        (Customer.name_key, term),
        (Customer.short_name_key, term),
        (Customer.web_id, term.upper()),
        (Customer.upn_suffix, term),
    )
    found: dict[int, Customer] = {}
    for column, key in keys:
        query = sa.select(Customer).where(_begins(column.expression, key)).order_by(column)
        if not actor.all_groups:
            query = query.where(Customer.group_id.in_(groups_of(actor)))
        found |= {each.id: each for each in db.session.scalars(query.limit(_MOST_OF_A_KIND))}
    return list(found.values())


def _users_by_login(term: str) -> sa.Select[int]:
    return (
        sa.select(User.id)
        .where(_begins(User.login_key.expression, term), User.status != UserStatus.DELETED)
        .order_by(User.login_key)
        .limit(_MOST_OF_A_KIND)
    )


# --- Export ----------------------------------------------------------------------------------

EXPORT_HEADER = (
    "Number",
    "At (UTC)",
    "Action",
    "Actor",
    "On behalf of",
    "Network address",
    "Customer",
    "Object",
    "Object number",
    "Before",
    "After",
    "More",
)
_EXPORTED_AT_ONCE = 500


def export_events(
    actor: Actor, wanted: AuditFilter, *, customer: Customer | None = None
) -> Iterator[tuple[str, ...]]:
    """Rows of EXPORT_HEADER for all that the filters show, the newest first.

    The export is audited when it begins. Rows are read in pages, so memory stays flat.
    """
    actor.require(Permission.AUDIT_READ)
    last = db.session.scalar(sa.select(sa.func.max(_E.id))) or 0
    record_event(
        actor,
        "audit_trail.exported",
        customer_id=customer.id if customer else None,
        object_type="customer" if customer else "",
        object_id=customer.id if customer else None,
        detail={"filtered": wanted.is_filtered},
    )
    db.session.commit()
    return _export_rows(actor, wanted, customer, last)


def _export_rows(
    actor: Actor, wanted: AuditFilter, customer: Customer | None, last: int
) -> Iterator[tuple[str, ...]]:
    """Events up to the number `last`: the export does not tell of itself."""
    cursor: str | None = ""
    while cursor is not None:
        page = list_events(actor, wanted, customer=customer, size=_EXPORTED_AT_ONCE, cursor=cursor)
        addresses = find_shown_addresses(actor, page.rows)
        customers = find_customers_of(actor, page.rows)
        for event in page.rows:
            if event.id > last:
                continue
            told = shown_detail(actor, event)
            before, after = told.pop("before", None), told.pop("after", None)
            of = customers.get(event.id)
            values = (
                event.id,
                event.at,
                event.action,
                event.actor_login,
                event.behalf_login,
                addresses.get(event.id, ""),
                of.web_id if of else "",
                event.object_type,
                event.object_id,
                *(_as_json(each) for each in (before, after, told)),
            )
            yield tuple(as_text(value) for value in values)
        db.session.expunge_all()
        cursor = page.next


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True) if value else ""


# --- One event -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Change:
    """A field with what it was and what it is, both as they are kept; None where it was not."""

    field: str
    before: Any
    after: Any


def shown_detail(actor: Actor, event: AuditEvent) -> dict[str, Any]:
    """What an event tells the actor. Of requests a customer's people are told the states alone:
    why a run failed speaks of the provider's own machines."""
    if actor.is_staff or event.object_type != "request":
        return dict(event.detail)
    return {name: event.detail[name] for name in ("before", "after") if name in event.detail}


def changes_in(detail: dict[str, Any]) -> tuple[list[Change], dict[str, Any]]:
    """What was changed by an event, field by field, and what else it tells."""
    before, after = detail.get("before"), detail.get("after")
    rest = {name: value for name, value in detail.items() if name not in ("before", "after")}
    if not isinstance(before, dict) and not isinstance(after, dict):
        if "before" in detail or "after" in detail:
            return [Change("", before, after)], rest
        return [], rest
    before = before if isinstance(before, dict) else {}
    after = after if isinstance(after, dict) else {}
    fields = list(dict.fromkeys([*before, *after]))
    return [Change(name, before.get(name), after.get(name)) for name in fields], rest
