"""Bundles: those that a customer may give to its users."""

from __future__ import annotations

import sqlalchemy as sa

from extensions import db
from models import Bundle, Customer, CustomerBundle
from services.actors import Actor, Permission
from services.errors import InvalidInput
from services.paging import Page, keyset_page
from services.users import list_bundles_of

_SHOWN = 64


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
