"""The rows of the list of customers, as HTML: see `blueprints.markup`."""

from __future__ import annotations

from collections.abc import Iterable

from flask import url_for
from markupsafe import Markup

from blueprints.markup import Parts, as_text, get_parts, made
from models import Customer, CustomerStatus


def state_pill(customer: Customer) -> Markup:
    """The state of a customer."""
    return made(_state_pill(get_parts(), customer))


def _state_pill(parts: Parts, customer: Customer) -> str:
    if customer.is_closing:
        return parts.pill_text("bad", "Being deleted", "trash-2")
    if customer.status is CustomerStatus.ACTIVE:
        return parts.pill_text("good", "Active")
    return parts.pill_text("attention", "Suspended", "circle-pause")


def rows(customers: Iterable[Customer]) -> Markup:
    """Rows of the table. The pages of a customer are below its own address."""
    parts, base = get_parts(), as_text(url_for("customers.index"))
    return made("\n".join(_row(parts, base, customer) for customer in customers))


def _row(parts: Parts, base: str, customer: Customer) -> str:
    name, web_id = as_text(customer.name), as_text(customer.web_id)
    of_it = f'<span class="visually-hidden"> of {name}</span>'
    return (
        f'<tr data-row tabindex="-1">\n'
        f'<th scope="row"><a href="{base}/{web_id}/users">{name}</a></th>\n'
        f"<td>{web_id}</td>\n"
        f'<td class="numeric" data-label="Custno">{customer.custno}</td>\n'
        f"<td>{parts.truncated_text(customer.group.name)}</td>\n"
        f"<td>{parts.truncated_text(customer.upn_suffix)}</td>\n"
        f"<td>{_state_pill(parts, customer)}</td>\n"
        f'<td><a href="{base}/{web_id}/details">Details{of_it}</a> '
        f'<a href="{base}/{web_id}/mailings">Mailings{of_it}</a></td>\n'
        f"</tr>"
    )
