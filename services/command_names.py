"""Names in commands: which customers, bundles and templates an actor can mean by them.

What is outside his scope is unknown, and never suggested. However many names there are, they are
looked up by a handful of statements.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, TypeVar

import sqlalchemy as sa

from extensions import db
from models import (
    Bundle,
    Customer,
    CustomerBundle,
    CustomerEmailTemplate,
    EmailTemplate,
    TemplateKind,
    fold,
    prefix_range,
)
from services.actors import Actor, customers_in_scope
from services.command_language import CommandError, Name, suggest

T = TypeVar("T")

# SQLite takes 32,766 parameters, PostgreSQL 65,535.
CHUNK = 10_000
_SUGGESTIONS = 25
_CANDIDATES = 1_000


def chunks(values: Iterable[T], size: int = CHUNK) -> Iterator[list[T]]:
    """The values in lists that fit into one statement's parameters."""
    rest = iter(values)
    while chunk := list(islice(rest, size)):
        yield chunk


@dataclass(frozen=True, slots=True)
class _What:
    """What a name should be of, in words."""

    word: str
    expected: str


_CUSTOMER = _What("customer", "the web ID of a customer")
_BUNDLE = _What("bundle", "the name of a bundle")
_TEMPLATE = _What("e-mail template", "the name of an e-mail template")


@dataclass(frozen=True, slots=True)
class KnownCustomer:
    id: int
    web_id: str
    name: str


class Names:
    """The names of one text, looked up; `errors` gathers what is wrong with them."""

    def __init__(
        self,
        actor: Actor,
        *,
        customers: Iterable[Name],
        bundles: Iterable[Name],
        templates: Iterable[Name],
    ) -> None:
        self._actor = actor
        self._suggestions_left = _SUGGESTIONS
        self.errors: list[CommandError] = []
        self._customers = self._find_customers({name.text for name in customers})
        self._bundles = self._find_bundles({name.text for name in bundles})
        self._templates = self._find_templates({name.text for name in templates})

    # --- Looking up ---

    def _find_customers(self, wanted: Collection[str]) -> dict[str, KnownCustomer]:
        found: dict[str, KnownCustomer] = {}
        for chunk in chunks(wanted):
            rows = db.session.execute(
                sa.select(Customer.id, Customer.web_id, Customer.name).where(
                    Customer.web_id.in_(chunk), customers_in_scope(self._actor)
                )
            )
            found.update((row.web_id, KnownCustomer(*row)) for row in rows)
        return found

    def _find_bundles(self, wanted: Collection[str]) -> dict[str, int]:
        found: dict[str, int] = {}
        for chunk in chunks(wanted):
            query = sa.select(Bundle.name, Bundle.id).where(
                Bundle.name.in_(chunk), self._bundle_in_scope
            )
            found.update((name, found_id) for name, found_id in db.session.execute(query))
        return found

    def _find_templates(self, wanted: Collection[str]) -> dict[str, EmailTemplate]:
        found: dict[str, EmailTemplate] = {}
        for chunk in chunks(wanted):
            query = sa.select(EmailTemplate).where(
                EmailTemplate.name.in_(chunk), self._template_in_scope
            )
            found.update((each.name, each) for each in db.session.scalars(query))
        return found

    @cached_property
    def _bundle_in_scope(self) -> sa.ColumnElement[bool]:
        return self._is_assigned_in_scope(
            CustomerBundle.bundle_id == Bundle.id, CustomerBundle.customer_id
        )

    @cached_property
    def _template_in_scope(self) -> sa.ColumnElement[bool]:
        assigned = self._is_assigned_in_scope(
            CustomerEmailTemplate.template_id == EmailTemplate.id,
            CustomerEmailTemplate.customer_id,
        )
        return sa.or_(EmailTemplate.kind == TemplateKind.PASSWORD_RESET, assigned)

    def _is_assigned_in_scope(
        self, link: sa.ColumnElement[bool], customer_id: Any
    ) -> sa.ColumnElement[bool]:
        """Whoever sees every group sees what is assigned to nobody, too."""
        if self._actor.all_groups:
            return sa.true()
        return sa.exists().where(link, Customer.id == customer_id, customers_in_scope(self._actor))

    @cached_property
    def welcome_templates(self) -> dict[int, EmailTemplate]:
        """The welcome templates in use, by id, whoever they are assigned to."""
        query = sa.select(EmailTemplate).where(
            EmailTemplate.kind == TemplateKind.WELCOME, EmailTemplate.archived_at.is_(None)
        )
        return {template.id: template for template in db.session.scalars(query)}

    def known_customer_ids(self, names: Iterable[Name]) -> set[int]:
        """The ids of those that are known; the others are passed over."""
        return {self._customers[each.text].id for each in names if each.text in self._customers}

    # --- Answering ---

    def customers(self, names: Sequence[Name]) -> list[tuple[Name, KnownCustomer]]:
        """The known ones of these customers; the others become errors."""
        return list(self._known(names, self._customers, _CUSTOMER, self._like_customer))

    def bundles(self, names: Sequence[Name]) -> list[tuple[Name, int]]:
        """The ids of the known ones of these bundles; the others become errors."""
        return list(self._known(names, self._bundles, _BUNDLE, self._like_bundle))

    def template(self, name: Name) -> EmailTemplate | None:
        """The template, None with an error when it is unknown or archived."""
        found = list(self._known([name], self._templates, _TEMPLATE, self._like_template))
        template = found[0][1] if found else None
        if template is not None and template.archived_at is not None:
            self.errors.append(
                name.error(f"The e-mail template “{name}” is archived.", "one that is in use")
            )
            return None
        return template

    def _known(
        self,
        names: Sequence[Name],
        known: dict[str, T],
        what: _What,
        find_similar: Callable[[str], str | None],
    ) -> Iterator[tuple[Name, T]]:
        for name in names:
            if name.text in known:
                yield name, known[name.text]
                continue
            meant = find_similar(name.text) if self._suggestions_left > 0 else None
            self._suggestions_left -= 1
            hint = f" Did you mean “{meant}”?" if meant else ""
            message = f"There is no {what.word} “{name}”.{hint}"
            self.errors.append(name.error(message, what.expected))

    # --- Suggesting ---

    def _like_customer(self, written: str) -> str | None:
        """A customer with that name, else one with a similar web ID."""
        scope = customers_in_scope(self._actor)
        by_name = sa.or_(
            Customer.name_key == fold(written), Customer.short_name_key == fold(written)
        )
        if named := db.session.scalar(sa.select(Customer.web_id).where(by_name, scope).limit(1)):
            return named
        web_id = fold(written).upper()
        candidates: set[str] = set()
        for kept in sorted({web_id, web_id[:-1], web_id[:2]}, key=len, reverse=True):
            lowest, beyond = prefix_range(kept)
            candidates.update(
                db.session.scalars(
                    sa.select(Customer.web_id)
                    .where(Customer.web_id >= lowest, Customer.web_id < beyond, scope)
                    .order_by(Customer.web_id)
                    .limit(_CANDIDATES)
                )
            )
        return suggest(written, sorted(candidates))

    def _like_bundle(self, written: str) -> str | None:
        return suggest(written, self._bundle_names)

    def _like_template(self, written: str) -> str | None:
        return suggest(written, self._template_names)

    @cached_property
    def _bundle_names(self) -> Sequence[str]:
        query = sa.select(Bundle.name).where(self._bundle_in_scope).order_by(Bundle.name)
        return db.session.scalars(query.limit(_CANDIDATES)).all()

    @cached_property
    def _template_names(self) -> Sequence[str]:
        query = sa.select(EmailTemplate.name).where(
            self._template_in_scope, EmailTemplate.archived_at.is_(None)
        )
        return db.session.scalars(query.order_by(EmailTemplate.name).limit(_CANDIDATES)).all()


def find_pairs(left: Any, right: Any, lefts: Collection[int], *more: Any) -> set[tuple[int, int]]:
    """The pairs (`left`, `right`) of an assigning table whose left is one of `lefts`."""
    found: set[tuple[int, int]] = set()
    for chunk in chunks(lefts):
        query = sa.select(left, right).where(left.in_(chunk), *more)
        found.update((one, other) for one, other in db.session.execute(query))
    return found
