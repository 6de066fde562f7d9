"""What the lists are compared with: bare Flask pages that show the same rows by the same queries.

The queries are Foyer's own: a service is asked for the page of a list, and for the names that its
rows show. All else is left out: nobody signs in, and there are no counters, selections, filters or
frame around the table. It is a document with the same columns, each cell with its whole text in a
title as ours have it, a link to each object and one to the next page, by Jinja. gunicorn runs it as
`benchmarks.bare_lists:create_app()`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa
from flask import Flask

from config import Settings
from extensions import db
from models import Customer
from services import (
    audit_objects,
    audit_trail,
    customers,
    mailings,
    subscription_requests,
    users,
)
from services.actors import Actor, get_staff_actor
from services.audit_trail import AuditFilter
from services.paging import Page
from services.request_states import Waiting
from services.subscription_requests import RequestFilter
from services.users import UserFilter

CUSTOMER = "LIST"
READER = "landlord@foyer.example"

Row = Sequence[Any]

_PAGE = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <title>{{ title }}</title>
  <link rel="stylesheet" href="/static/list.css">
</head>
<body>
<h1>{{ title }}</h1>
<table>
  <thead><tr>{% for head in heads %}<th scope="col">{{ head }}</th>{% endfor %}</tr></thead>
  <tbody>
    {% for row in rows %}
    <tr>
      {% set href = url_for('show', kind=kind, number=row[0]) %}
      <th scope="row"><a href="{{ href }}">{{ row[1] }}</a></th>
      {% for cell in row[2:] %}<td><span title="{{ cell }}">{{ cell }}</span></td>{% endfor %}
    </tr>
    {% endfor %}
  </tbody>
</table>
{% if after %}<p><a href="{{ url_for('index', kind=kind, after=after) }}">Next</a></p>{% endif %}
</body>
</html>
"""


@cache
def _reader() -> Actor:
    return get_staff_actor(READER)


def _users() -> tuple[Page[Any], list[Row]]:
    customer = db.session.scalars(sa.select(Customer).where(Customer.web_id == CUSTOMER)).one()
    page = users.list_users(_reader(), customer, UserFilter())
    return page, [
        (
            each.full_name,
            each.login,
            each.email,
            each.extension,
            each.bundle.name if each.bundle else "",
            each.status,
            each.welcome.at,
            each.last_sign_in_at,
        )
        for each in page.rows
    ]


def _customers() -> tuple[Page[Any], list[Row]]:
    page = customers.list_customers(_reader())
    return page, [
        (each.name, each.web_id, each.custno, each.group.name, each.upn_suffix, each.status)
        for each in page.rows
    ]


def _mailings() -> tuple[Page[Any], list[Row]]:
    page = mailings.list_staff_mailings(_reader())
    audiences = mailings.find_audiences(page.rows)
    return page, [
        (
            each.template_version.template.name,
            each.id,
            audiences[each.id].first,
            each.state,
            f"{each.sent} of {each.total}",
            each.bounced,
            each.failed,
            each.skipped,
            each.author,
            each.created_at,
        )
        for each in page.rows
    ]


def _requests() -> tuple[Page[Any], list[Row]]:
    page = subscription_requests.list_requests(_reader(), RequestFilter(waiting=Waiting.DONE))
    return page, [
        (
            each.name,
            each.state,
            each.scheduled_for,
            subscription_requests.template_name_of(each),
            each.group.name if each.group else "",
            each.author,
            each.submitted_at,
        )
        for each in page.rows
    ]


def _audit() -> tuple[Page[Any], list[Row]]:
    page = audit_trail.list_events(_reader(), AuditFilter())
    named = audit_objects.find_objects(page.rows)
    of = audit_trail.find_customers_of(_reader(), page.rows)
    return page, [
        (
            each.action,
            named[each.id].name if each.id in named else each.object_id,
            of[each.id].web_id if each.id in of else "",
            each.actor_login,
            each.address,
            each.at,
        )
        for each in page.rows
    ]


LISTS: dict[str, tuple[Callable[[], tuple[Page[Any], list[Row]]], str]] = {
    "users": (_users, "Name Login E-mail Ext. Bundle Status Welcome Sign-in"),
    "customers": (_customers, "Name Web-ID Custno Group Suffix Status"),
    "mailings": (_mailings, "Mail Number Customers State Sent Bounced Failed Skipped By When"),
    "requests": (_requests, "Name State Planned Template Group By Submitted"),
    "audit": (_audit, "What Object Customer Who Address When"),
}


def create_app() -> Flask:
    settings = Settings.from_env()
    app = Flask(__name__)
    app.config.from_mapping(settings.flask_config())
    app.extensions["settings"] = settings
    db.init_app(app)
    template = app.jinja_env.from_string(_PAGE)  # Once, as files are compiled.

    @app.get("/<kind>")
    def index(kind: str) -> str:
        read, heads = LISTS[kind]
        page, rows = read()
        return template.render(
            title=kind.capitalize(),
            kind=kind,
            heads=heads.split(),
            rows=[(each.id, *row) for each, row in zip(page.rows, rows, strict=True)],
            after=page.next,
        )

    @app.get("/<kind>/<int:number>")
    def show(kind: str, number: int) -> str:
        return f"{kind} {number}"

    return app
