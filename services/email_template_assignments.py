"""Which customers may use an e-mail template: looked at, given and taken away, however many.

What is changed is named by a choice (listed web IDs, a bundle, a group, all), and written by one
statement. An operator of some groups changes what his customers have, and nobody else's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import joinedload

from extensions import db
from models import (
    Bundle,
    Customer,
    CustomerBundle,
    CustomerEmailTemplate,
    EmailTemplate,
    Group,
    TemplateKind,
    fold,
    is_storable,
    prefix_range,
    table_of,
)
from services import email_template_welcomes as welcomes
from services.actors import Actor, Permission, customers_in_scope, groups_of
from services.audit_events import insert_event
from services.bulk_rows import among
from services.email_template_rights import get_template
from services.errors import Conflict, InvalidInput, NotFound
from services.paging import Page, Strand, keyset_page, merged_page
from services.transactions import run_transaction, upsert

MOST_WEB_IDS = 10_000
FEW = 1000
"""Up to so many customers of a template are sorted for a page; of more, the customers are walked
in their order, since many of them have it."""
SEARCH_CAP = 500

_ASSIGNED = table_of(CustomerEmailTemplate)
_C = table_of(Customer).c
_SEPARATORS = re.compile(r"[\s,;|]+")
_SHOWN = 5


# --- Looking -------------------------------------------------------------------------------------


def list_assigned(
    actor: Actor, template_id: int, *, search: str = "", size: int = 25, cursor: str = ""
) -> Page[Customer]:
    """A page of the customers in scope who may use a template, by name, their groups loaded.

    `search` begins name, short name, web ID or UPN suffix. Raises Forbidden and NotFound.
    """
    template = get_template(actor, template_id)
    term = fold(search)
    if not is_storable(term):
        return Page([], None, None)
    ids = list(
        db.session.scalars(
            sa.select(_ASSIGNED.c.customer_id)
            .where(_ASSIGNED.c.template_id == template.id)
            .limit(FEW + 1)
        )
    )
    query = sa.select(Customer).where(customers_in_scope(actor)).options(joinedload(Customer.group))
    if len(ids) <= FEW:
        query = query.where(among(db.session.connection(), _C.id, ids))
        if term:
            query = query.where(sa.or_(*_begins_with(term)))
    elif term:
        return _search_many(actor, template.id, term, size, cursor)
    elif not actor.all_groups:
        return _walk_groups(actor, template.id, size, cursor)
    else:
        query = query.where(_has(template.id))
    return keyset_page(
        lambda statement: db.session.scalars(statement).all(),
        query,
        key=_C.name_key,
        row_id=_C.id,
        key_of=lambda customer: (customer.name_key, customer.id),
        size=size,
        cursor=cursor,
    )


def _walk_groups(actor: Actor, template_id: int, size: int, cursor: str) -> Page[Customer]:
    """The actor's groups one by one, so that the customers of others are not walked over."""
    mine = customers_in_scope(actor)
    strands = [
        Strand(
            sa.select(_C.id).where(_C.group_id == group_id, mine, _has(template_id)),
            _C.name_key,
            _C.id,
        )
        for group_id in db.session.scalars(groups_of(actor)).all()
    ]
    return merged_page(
        lambda statement: db.session.execute(statement).all(),
        strands,
        load=_load,
        size=size,
        cursor=cursor,
    )


def _search_many(
    actor: Actor, template_id: int, term: str, size: int, cursor: str
) -> Page[Customer]:
    """The names that begin with `term` in their order, merged with what matches otherwise."""
    mine = customers_in_scope(actor)
    by_name, *others = _begins_with(term)
    ordered_by = (_C.web_id, _C.short_name_key, _C.upn_suffix)
    found = [
        sa.select(
            sa.select(_C.id).where(mine, each).order_by(column).limit(SEARCH_CAP).subquery().c.id
        )
        for column, each in zip(ordered_by, others, strict=True)
    ]
    ids = list(dict.fromkeys(db.session.scalars(sa.union_all(*found))))
    # Materialized: PostgreSQL would walk all customers by name rather than sort the few.
    otherwise = (
        sa.select(_C.id, _C.name_key)
        .where(among(db.session.connection(), _C.id, ids), ~by_name, _has(template_id))
        .cte("otherwise")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )
    strands = [
        Strand(sa.select(_C.id).where(mine, by_name, _has(template_id)), _C.name_key, _C.id),
        Strand(sa.select(otherwise.c.id), otherwise.c.name_key, otherwise.c.id),
    ]
    return merged_page(
        lambda statement: db.session.execute(statement).all(),
        strands,
        load=_load,
        size=size,
        cursor=cursor,
    )


def _load(ids: list[int]) -> list[Customer]:
    rows = db.session.scalars(
        sa.select(Customer)
        .where(among(db.session.connection(), _C.id, ids))
        .options(joinedload(Customer.group))
    )
    found = {row.id: row for row in rows}
    return [found[each] for each in ids if each in found]


def _begins_with(term: str) -> list[sa.ColumnElement[bool]]:
    """By name first, then by web ID, short name and suffix."""
    found = []
    for column, key in (
        (_C.name_key, term),
        (_C.web_id, term.upper()),
        (_C.short_name_key, term),
        (_C.upn_suffix, term),
    ):
        lowest, beyond = prefix_range(key)
        found.append(sa.and_(column >= lowest, column < beyond))
    return found


def _has(template_id: int) -> sa.ColumnElement[bool]:
    return sa.exists().where(
        _ASSIGNED.c.customer_id == _C.id, _ASSIGNED.c.template_id == template_id
    )


def list_choices(actor: Actor) -> tuple[list[Bundle], list[Group]]:
    """The bundles and groups that customers can be chosen by. Raises Forbidden."""
    actor.require(Permission.TEMPLATES_EDIT)
    groups = sa.select(Group).order_by(Group.groupno).limit(1000)
    if not actor.all_groups:
        groups = groups.where(Group.id.in_(groups_of(actor)))
    bundles = sa.select(Bundle).order_by(Bundle.name).limit(1000)
    return list(db.session.scalars(bundles)), list(db.session.scalars(groups))


# --- Changing ------------------------------------------------------------------------------------


class Verb(StrEnum):
    ASSIGN = "assign"
    REMOVE = "remove"


class By(StrEnum):
    """How customers are chosen."""

    LISTED = "listed"
    BUNDLE = "bundle"
    GROUP = "group"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Choice:
    """Customers: those of `web_ids` (as pasted), with the bundle, of the group, or all of them."""

    by: By
    web_ids: str = ""
    bundle_id: int = 0
    groupno: int = 0


@dataclass(frozen=True, slots=True)
class Effect:
    """What a change would do: of `chosen` customers, `changed` have it not (or have it) so far."""

    template: EmailTemplate
    verb: Verb
    chosen: int
    changed: int
    words: str

    @property
    def unchanged(self) -> int:
        return self.chosen - self.changed


@dataclass(frozen=True, slots=True)
class _Chosen:
    """A choice as a condition on `customers`, in words, and as the audit trail keeps it."""

    condition: sa.ColumnElement[bool]
    words: str
    detail: dict[str, Any]


def preview_change(actor: Actor, template_id: int, verb: Verb, choice: Choice) -> Effect:
    """How many customers a change would touch.

    Raises Forbidden, NotFound, InvalidInput for a choice that names nobody, and Conflict where the
    change is not possible.
    """
    actor.require(Permission.TEMPLATES_EDIT)
    template = get_template(actor, template_id)
    connection = db.session.connection()
    chosen = _read_choice(connection, actor, choice)
    _check_possible(connection, template, verb, chosen)
    total = connection.scalar(
        sa.select(sa.func.count()).select_from(Customer).where(chosen.condition)
    )
    having = connection.scalar(
        sa.select(sa.func.count()).select_from(Customer).where(chosen.condition, _has(template.id))
    )
    total, having = int(total or 0), int(having or 0)
    changed = total - having if verb is Verb.ASSIGN else having
    return Effect(template, verb, total, changed, chosen.words)


def change_assignments(actor: Actor, template_id: int, verb: Verb, choice: Choice) -> int:
    """Give a template to the chosen customers, or take it from them; returns to how many.

    Raises as `preview_change` does.
    """
    actor.require(Permission.TEMPLATES_EDIT)
    get_template(actor, template_id)

    def change(connection: sa.Connection) -> int:
        if verb is Verb.REMOVE:
            welcomes.hold(connection)
        template = connection.execute(
            # Changes nothing, but whoever archives the template waits, or was before.
            sa.update(EmailTemplate)
            .where(EmailTemplate.id == template_id)
            .values(version=EmailTemplate.version)
            .returning(
                EmailTemplate.id, EmailTemplate.name, EmailTemplate.kind, EmailTemplate.archived_at
            )
        ).one()
        chosen = _read_choice(connection, actor, choice)
        _check_possible(connection, template, verb, chosen)
        write = _assign if verb is Verb.ASSIGN else _remove
        count = write(connection, template.id, chosen.condition)
        if count:
            insert_event(
                connection,
                actor,
                f"email_template.{'assigned' if verb is Verb.ASSIGN else 'removed'}",
                customer_id=_only_customer(connection, chosen) if count == 1 else None,
                object_type="email_template",
                object_id=template.id,
                detail={"name": template.name, "customers": count, **chosen.detail},
            )
        return count

    return run_transaction(change)


def _assign(connection: sa.Connection, template_id: int, condition: sa.ColumnElement[bool]) -> int:
    wanted = sa.select(_C.id, sa.literal(template_id)).where(condition, ~_has(template_id))
    return connection.execute(
        upsert(_ASSIGNED)
        .from_select(["customer_id", "template_id"], wanted)
        .on_conflict_do_nothing(),
        execution_options={"preserve_rowcount": True},
    ).rowcount


def _remove(connection: sa.Connection, template_id: int, condition: sa.ColumnElement[bool]) -> int:
    return connection.execute(
        sa.delete(_ASSIGNED).where(
            _ASSIGNED.c.template_id == template_id,
            _ASSIGNED.c.customer_id.in_(sa.select(_C.id).where(condition)),
        )
    ).rowcount


def _only_customer(connection: sa.Connection, chosen: _Chosen) -> int | None:
    """The customer whose own trail the event belongs to, where one alone was chosen."""
    ids = connection.scalars(sa.select(_C.id).where(chosen.condition).limit(2)).all()
    return ids[0] if len(ids) == 1 else None


def _check_possible(connection: sa.Connection, template: Any, verb: Verb, chosen: _Chosen) -> None:
    if template.kind is TemplateKind.PASSWORD_RESET:
        raise Conflict(
            f"{template.name} is a password reset. It belongs to all customers, so it is neither "
            "assigned nor removed."
        )
    if verb is Verb.ASSIGN and template.archived_at is not None:
        raise Conflict(f"{template.name} is archived. Put it into use again to assign it.")
    if (
        verb is Verb.REMOVE
        and template.kind is TemplateKind.WELCOME
        and template.archived_at is None
    ):
        welcomes.require_another(connection, template.id, template.name, chosen.condition)


def _read_choice(connection: sa.Connection, actor: Actor, choice: Choice) -> _Chosen:
    mine = customers_in_scope(actor)
    if choice.by is By.LISTED:
        return _read_list(connection, mine, choice.web_ids)
    if choice.by is By.BUNDLE:
        name = connection.scalar(sa.select(Bundle.name).where(Bundle.id == choice.bundle_id))
        if name is None:
            raise InvalidInput("bundle", "Choose a bundle of the list.")
        has_bundle = sa.exists().where(
            CustomerBundle.customer_id == _C.id, CustomerBundle.bundle_id == choice.bundle_id
        )
        words = f"customers with the bundle {name}"
        return _Chosen(sa.and_(mine, has_bundle), words, {"bundle": name})
    if choice.by is By.GROUP:
        group = connection.execute(
            sa.select(Group.id, Group.name).where(
                Group.groupno == choice.groupno,
                sa.true() if actor.all_groups else Group.id.in_(groups_of(actor)),
            )
        ).one_or_none()
        if group is None:
            raise InvalidInput("group", "Choose a group of the list.")
        words = f"customers of the group {choice.groupno} {group.name}"
        condition = sa.and_(mine, _C.group_id == group.id)
        return _Chosen(condition, words, {"groupno": choice.groupno})
    words = "all customers" if actor.all_groups else "all customers of your groups"
    return _Chosen(mine, words, {"to": words})


def _read_list(connection: sa.Connection, mine: sa.ColumnElement[bool], pasted: str) -> _Chosen:
    if not is_storable(pasted):
        raise InvalidInput("web_ids", "The list contains a character that cannot be seen.")
    wanted = list(dict.fromkeys(each.upper() for each in _SEPARATORS.split(pasted) if each))
    if not wanted:
        raise InvalidInput("web_ids", "Write at least one web ID, for example CQ001.")
    if len(wanted) > MOST_WEB_IDS:
        raise InvalidInput(
            "web_ids", f"The list has {len(wanted):,} web IDs. The limit is {MOST_WEB_IDS:,}."
        )
    found: dict[str, int] = {}
    for start in range(0, len(wanted), 500):
        rows = connection.execute(
            sa.select(_C.web_id, _C.id).where(_C.web_id.in_(wanted[start : start + 500]), mine)
        )
        found |= {row.web_id: row.id for row in rows}
    unknown = [each for each in wanted if each not in found]
    if unknown:
        raise InvalidInput("web_ids", _unknown(unknown))
    words = wanted[0] if len(wanted) == 1 else f"{len(wanted):,} customers of the list"
    condition = among(connection, _C.id, found.values())
    return _Chosen(condition, words, {"web_ids": wanted})


def _unknown(web_ids: Sequence[str]) -> str:
    shown = ", ".join(each[:24] for each in web_ids[:_SHOWN])
    rest = len(web_ids) - _SHOWN
    others = f" and {rest:,} others" if rest > 1 else " and another one" if rest == 1 else ""
    verb = "is no customer" if len(web_ids) == 1 else "are no customers"
    return f"{shown}{others} {verb}, or not yours to see. Correct or remove what is wrong."


def get_assigned_template(customer: Customer, template_id: int) -> EmailTemplate:
    """A template that the customer's people may use. Raises NotFound."""
    found = db.session.scalar(
        sa.select(EmailTemplate).where(
            EmailTemplate.id == template_id,
            EmailTemplate.archived_at.is_(None),
            sa.or_(
                EmailTemplate.kind == TemplateKind.PASSWORD_RESET,
                sa.exists().where(
                    _ASSIGNED.c.customer_id == customer.id,
                    _ASSIGNED.c.template_id == EmailTemplate.id,
                ),
            ),
        )
    )
    if found is None:
        raise NotFound(f"{customer.name} has no such e-mail template.")
    return found
