"""The rows of the audit trail, as HTML: see `blueprints.markup`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache, partial

from flask import url_for
from markupsafe import Markup

from blueprints.audit.words import Link, action_words
from blueprints.markup import Parts, as_text, get_parts, made
from models import AuditEvent
from services.audit_trail import NamedCustomer


def rows(
    events: Iterable[AuditEvent],
    *,
    base: str,
    links: Mapping[int, Link | None],
    customers: Mapping[int, NamedCustomer] | None,
    addresses: Mapping[int, str],
) -> Markup:
    """Rows of the table of the trail at `base`; without a column of customers if they are None."""
    parts, base, every = get_parts(), as_text(base), as_text(url_for("customers.index"))
    customer_cell = cache(partial(_customer, every))
    lines = []
    for event in events:
        number, of = event.id, None
        if customers is not None:
            of = customer_cell(customers.get(number))
        address = as_text(addresses.get(number, ""))
        lines.append(_row(parts, f"{base}/{number}", event, links[number], of, address))
    return made("\n".join(lines))


def _row(
    parts: Parts,
    href: str,
    event: AuditEvent,
    link: Link | None,
    customer: str | None,
    address: str,
) -> str:
    login = as_text(event.actor_login)
    behalf = ""
    if event.behalf_id:
        words = as_text(event.behalf_login)
        behalf = f' <span class="secondary truncate" title="{words}">as {words}</span>'
    return (
        f'<tr data-row>\n<th scope="row"><a href="{href}">'
        f"{as_text(action_words(event.action))}</a></th>\n{_object(link)}\n{customer or ''}\n"
        f'<td data-label="By"><span class="truncate" title="{login}">'
        f"{login or 'Nobody signed in'}</span>{behalf}</td>\n"
        f'<td class="wide-only">{address}</td>\n<td>{parts.time_text(event.at)}</td>\n</tr>'
    )


def _object(link: Link | None) -> str:
    if link is None:
        return "<td></td>"
    label = as_text(link.label)
    if not link.href:
        return f'<td data-label="Object"><span class="truncate" title="{label}">{label}</span></td>'
    where = f'class="truncate" href="{as_text(link.href)}" title="{label}"'
    return f'<td data-label="Object"><a {where}>{label}</a></td>'


def _customer(every: str, customer: NamedCustomer | None) -> str:
    if customer is None:
        return "<td></td>"
    name, web_id = as_text(customer.name), as_text(customer.web_id)
    if not customer.is_open:
        return f'<td data-label="Customer"><span title="{name}">{web_id}</span></td>'
    href = f"{every}/{web_id}/audit"
    return f'<td data-label="Customer"><a href="{href}" title="{name}">{web_id}</a></td>'
