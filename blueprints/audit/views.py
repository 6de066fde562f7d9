"""The audit trail of everything in one's scope, and of one customer; and each event."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, request, url_for

from blueprints.audit.lists import AuditList
from blueprints.audit.markup import rows
from blueprints.audit.words import (
    Link,
    action_words,
    field_words,
    object_link,
    value_words,
)
from blueprints.downloads import csv_download
from blueprints.forms import LARGEST_ID
from blueprints.htmx import respond, wants_fragment
from blueprints.security import current_actor, customer_page, staff_page
from models import AuditEvent, Customer
from services import audit_objects, audit_trail
from services.actors import Permission
from services.audit_trail import NamedCustomer
from services.paging import PAGE_SIZES

bp = Blueprint("audit", __name__, url_prefix="/audit")
customer_bp = Blueprint("customer_audit", __name__, url_prefix="/customers/<web_id>/audit")

_ONE = f"/<int(max={LARGEST_ID}):event_id>"


@bp.get("")
@staff_page(Permission.AUDIT_READ)
def index() -> Response:
    return _show_list(None)


@customer_bp.get("", endpoint="index")
@customer_page(Permission.AUDIT_READ)
def customer_index(customer: Customer) -> Response:
    return _show_list(customer)


@bp.get(_ONE)
@staff_page(Permission.AUDIT_READ)
def show(event_id: int) -> Response:
    return _show_event(event_id, None)


@customer_bp.get(_ONE, endpoint="show")
@customer_page(Permission.AUDIT_READ)
def customer_show(customer: Customer, event_id: int) -> Response:
    return _show_event(event_id, customer)


@bp.post("/export")
@staff_page(Permission.AUDIT_READ)
def export() -> Response:
    return _export(None)


@customer_bp.post("/export", endpoint="export")
@customer_page(Permission.AUDIT_READ)
def customer_export(customer: Customer) -> Response:
    return _export(customer)


def _export(customer: Customer | None) -> Response:
    """All that the filters show, as CSV."""
    shown = AuditList.parse(request.form.get("here", "")[:2000])
    rows = audit_trail.export_events(current_actor(), shown.wanted, customer=customer)
    name = f"audit-{customer.web_id}" if customer else "audit"
    return csv_download(name, audit_trail.EXPORT_HEADER, rows)


def _show_list(customer: Customer | None) -> Response:
    actor, shown = current_actor(), AuditList.read(request.args)
    if customer is not None:
        shown = shown.to(cursor=shown.cursor, web_id="")
    page = audit_trail.list_events(
        actor, shown.wanted, customer=customer, size=shown.size, cursor=shown.cursor
    )
    links, customers = _links(page.rows, customer)
    here = _address(customer)
    sizes = [(each, here(shown.to(size=each)), each == shown.size) for each in PAGE_SIZES]
    first = next(iter(page.rows), None)
    of_one = links[first.id] if first and shown.wanted.object_type else None
    return respond(
        "audit/index.html",
        "audit/_table.html",
        customer=customer,
        shown=shown,
        events=page.rows,
        rows=rows(
            page.rows,
            base=here(shown.cleared).partition("?")[0],
            links=links,
            customers=None if customer else customers,
            addresses=audit_trail.find_shown_addresses(actor, page.rows),
        ),
        actions=audit_trail.list_actions(),
        action_words=action_words,
        chips=[
            (label, value, here(AuditList.parse(query)))
            for label, value, query in shown.chips(of_one.label if of_one else "")
        ],
        here=here,
        sizes=sizes,
        previous_href=here(shown.to(cursor=page.previous)) if page.previous else None,
        next_href=here(shown.to(cursor=page.next)) if page.next else None,
        reached=page.reached,
        most_actors=audit_trail.MOST_ACTORS if page.is_cut else 0,
        is_fragment=wants_fragment(),
    )


def _address(customer: Customer | None) -> Any:
    """What makes the address of a state of the list."""
    base = (
        url_for("customer_audit.index", web_id=customer.web_id)
        if customer
        else url_for("audit.index")
    )

    def address(shown: AuditList) -> str:
        query = shown.query
        return f"{base}?{query}" if query else base

    return address


def _links(
    events: list[AuditEvent], customer: Customer | None
) -> tuple[dict[int, Link | None], dict[int, NamedCustomer]]:
    """By event, what it was done to, and its customer as far as there still is one."""
    actor = current_actor()
    if customer is not None:
        here = NamedCustomer(customer.id, customer.web_id, customer.name, is_open=True)
        customers = dict.fromkeys((event.id for event in events), here)
    else:
        customers = audit_trail.find_customers_of(actor, events)
    named = audit_objects.find_objects(events)
    links = {
        (number := event.id): object_link(actor, event, named.get(number), customers.get(number))
        for event in events
    }
    return links, customers


def _show_event(event_id: int, customer: Customer | None) -> Response:
    actor = current_actor()
    event = audit_trail.get_event(actor, event_id, customer)
    links, customers = _links([event], customer)
    changes, more = audit_trail.changes_in(audit_trail.shown_detail(actor, event))
    return respond(
        "audit/show.html",
        customer=customer,
        event=event,
        title=action_words(event.action),
        link=links[event.id],
        of=customers.get(event.id),
        address=audit_trail.find_shown_addresses(actor, [event]).get(event.id, ""),
        changes=[
            (field_words(each.field), value_words(each.before), value_words(each.after))
            for each in changes
        ],
        more=[(field_words(name), value_words(value)) for name, value in more.items()],
    )
