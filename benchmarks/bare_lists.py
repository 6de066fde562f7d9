"""What the lists are compared with: bare Flask pages that show the same rows by the same queries.

Nobody signs in, and there is no frame around the table: a document, the table with the same
columns, each cell with its whole text in a title as ours have it, a link to each object and to the
next page, by Jinja. gunicorn runs it as
`benchmarks.bare_lists:create_app()`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from flask import Flask
from sqlalchemy.orm import Session, joinedload

from app import create_app as create_foyer
from extensions import db
from models import (
    AuditEvent,
    Bundle,
    Customer,
    CustomerStatus,
    EmailTemplateVersion,
    Mailing,
    MailingCustomer,
    RequestState,
    ServiceTemplateVersion,
    SubscriptionRequest,
    User,
    UserStatus,
)

CUSTOMER = "LIST"
SIZE = 25
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
    {% for number, name, cells in rows %}
    <tr>
      <th scope="row"><a href="{{ url_for('show', kind=kind, number=number) }}">{{ name }}</a></th>
      {% for cell in cells %}<td><span title="{{ cell }}">{{ cell }}</span></td>{% endfor %}
    </tr>
    {% endfor %}
  </tbody>
</table>
{% if after %}<p><a href="{{ url_for('index', kind=kind, after=after) }}">Next</a></p>{% endif %}
</body>
</html>
"""


def _users(session: Session) -> list[Row]:
    customer = session.scalars(sa.select(Customer).where(Customer.web_id == CUSTOMER)).one()
    found = session.scalars(
        sa.select(User)
        .where(
            User.customer_id == customer.id,
            User.status.in_([UserStatus.ACTIVE, UserStatus.SUSPENDED]),
        )
        .options(joinedload(User.bundle).load_only(Bundle.name))
        .order_by(User.name_key, User.id)
        .limit(SIZE + 1)
    )
    return [
        (
            each.id,
            each.full_name,
            each.login,
            each.email,
            each.extension,
            each.bundle.name if each.bundle else "",
            each.status,
            each.welcome_at,
            each.last_sign_in_at,
        )
        for each in found
    ]


def _customers(session: Session) -> list[Row]:
    found = session.scalars(
        sa.select(Customer)
        .where(Customer.status.in_([CustomerStatus.ACTIVE, CustomerStatus.SUSPENDED]))
        .options(joinedload(Customer.group))
        .order_by(Customer.name_key, Customer.id)
        .limit(SIZE + 1)
    )
    return [
        (
            each.id,
            each.name,
            each.web_id,
            each.custno,
            each.group.name,
            each.upn_suffix,
            each.status,
        )
        for each in found
    ]


def _mailings(session: Session) -> list[Row]:
    found = session.scalars(
        sa.select(Mailing)
        .options(
            joinedload(Mailing.template_version).joinedload(EmailTemplateVersion.template),
            joinedload(Mailing.created_by),
        )
        .order_by(Mailing.id.desc())
        .limit(SIZE + 1)
    ).all()
    names: dict[int, str] = dict(
        session.execute(
            sa.select(MailingCustomer.mailing_id, sa.func.min(Customer.name))
            .join(Customer, Customer.id == MailingCustomer.customer_id)
            .where(MailingCustomer.mailing_id.in_([each.id for each in found]))
            .group_by(MailingCustomer.mailing_id)
        ).all()
    )
    return [
        (
            each.id,
            each.template_version.template.name,
            names.get(each.id),
            each.state,
            each.sent,
            each.bounced,
            each.failed,
            each.skipped,
            each.author,
            each.created_at,
        )
        for each in found
    ]


def _requests(session: Session) -> list[Row]:
    wanted = SubscriptionRequest
    found = session.scalars(
        sa.select(wanted)
        .where(wanted.state == RequestState.COMPLETED)
        .options(
            joinedload(wanted.template_version).joinedload(ServiceTemplateVersion.template),
            joinedload(wanted.group),
            joinedload(wanted.customer),
            joinedload(wanted.created_by),
        )
        .order_by(wanted.submitted_at.desc(), wanted.id.desc())
        .limit(SIZE + 1)
    )
    return [
        (
            each.id,
            each.name,
            each.template_version.template.name if each.template_version else "",
            each.group.name if each.group else "",
            each.state,
            each.created_by.full_name if each.created_by else "",
            each.submitted_at,
            each.scheduled_for,
        )
        for each in found
    ]


def _audit(session: Session) -> list[Row]:
    found = session.scalars(
        sa.select(AuditEvent).order_by(AuditEvent.at.desc(), AuditEvent.id.desc()).limit(SIZE + 1)
    ).all()
    users = {
        row.id: row.login
        for row in session.execute(
            sa.select(User.id, User.login).where(User.id.in_([each.object_id for each in found]))
        )
    }
    customers = {
        row.id: row.web_id
        for row in session.execute(
            sa.select(Customer.id, Customer.web_id).where(
                Customer.id.in_([each.customer_id for each in found])
            )
        )
    }
    return [
        (
            each.id,
            each.action,
            users.get(each.object_id or 0),
            customers.get(each.customer_id or 0),
            each.actor_login,
            each.address,
            each.at,
        )
        for each in found
    ]


LISTS: dict[str, tuple[Callable[[Session], list[Row]], str]] = {
    "users": (_users, "Name Login E-mail Ext. Bundle Status Welcome Sign-in"),
    "customers": (_customers, "Name Web-ID Custno Group Suffix Status"),
    "mailings": (_mailings, "Mail Customers State Sent Bounced Failed Skipped By When"),
    "requests": (_requests, "Name Template Group State By Submitted Planned"),
    "audit": (_audit, "What To Customer Who From When"),
}


def create_app() -> Flask:
    foyer = create_foyer()
    with foyer.app_context():
        engine = db.engine  # With the settings that Foyer's connections have.
    app = Flask(__name__)
    template = app.jinja_env.from_string(_PAGE)  # Once, as files are compiled.

    @app.get("/<kind>")
    def index(kind: str) -> str:
        read, heads = LISTS[kind]
        with Session(engine) as session:
            rows = read(session)
            return template.render(
                title=kind.capitalize(),
                kind=kind,
                heads=heads.split(),
                rows=[(number, name, cells) for number, name, *cells in rows[:SIZE]],
                after=rows[SIZE - 1][0] if len(rows) > SIZE else None,
            )

    @app.get("/<kind>/<int:number>")
    def show(kind: str, number: int) -> str:
        return f"{kind} {number}"

    return app
