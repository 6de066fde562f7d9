"""The welcome mail to a customer's administrators, as other systems ask for it.

They may ask many times a second, so this goes past the ORM, by a few statements that are made once.
What it writes is what `mailing_confirmations.confirm_mailing` writes.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import sqlalchemy as sa

from extensions import db
from models import (
    Customer,
    CustomerEmailTemplate,
    Delivery,
    DeliveryState,
    EmailTemplate,
    EmailTemplateVersion,
    Lane,
    Mailing,
    MailingCustomer,
    MailingState,
    TemplateKind,
    table_of,
    utcnow,
)
from models.base import ID
from services import email_templates
from services.actors import Actor, Permission
from services.audit_events import insert_event
from services.errors import Conflict
from services.mailing_confirmations import (
    ADMINISTRATORS,
    recipients_of,
    replace_older,
    resets_of,
)
from services.transactions import run_transaction


@dataclass(frozen=True, slots=True)
class _Version:
    """The newest welcome of a customer, and the passwords that it carries."""

    id: int
    number: int
    template: str
    resets_portal: bool
    resets_application: bool


def resend_to_administrators(actor: Actor, customer: Customer) -> int:
    """Accept a welcome mail to the customer's administrators; returns the mailing's id.

    The caller wakes the lane afterwards. Whoever asks again means it: somebody mailed a moment ago
    is mailed again. Raises Forbidden, and Conflict when there is nobody to mail or nothing to say.
    """
    actor.require(Permission.MAILINGS_SEND)
    customer_id, name = customer.id, customer.name
    db.session.rollback()  # Gives its connection back, which the transaction below may use.
    return run_transaction(lambda connection: _accept(connection, actor, customer_id, name))


def _accept(connection: sa.Connection, actor: Actor, customer_id: int, name: str) -> int:
    version = _find_version(connection, customer_id, name)
    found = connection.execute(_administrators_statement(), {"customer": customer_id}).all()
    queued = sum(row.skip_reason is None for row in found)
    if not queued:
        raise Conflict(
            f"{name} has no administrator who can be mailed: each one is suspended, has no e-mail "
            "address, or has one that is suppressed."
        )
    now = utcnow()
    mailing_id: int = connection.execute(
        _mailing_statement(),
        {
            "customer_id": customer_id,
            "template_version_id": version.id,
            "created_by_id": actor.user_id,
            "credential_id": actor.credential_id,
            "confirmation": secrets.token_urlsafe(24),
            "lane": Lane.INTERACTIVE,
            "state": MailingState.RUNNING,
            "resets_portal_password": version.resets_portal,
            "resets_application_password": version.resets_application,
            "total": len(found),
            "queued": queued,
            "skipped": len(found) - queued,
            "created_at": now,
        },
    ).scalar_one()
    connection.execute(
        _mailing_customer_statement(), {"mailing_id": mailing_id, "customer_id": customer_id}
    )
    connection.execute(
        _deliveries_statement(),
        [
            {
                "mailing_id": mailing_id,
                "user_id": row.user_id,
                "email": row.email,
                "state": DeliveryState.SKIPPED if row.skip_reason else DeliveryState.QUEUED,
                "skip_reason": row.skip_reason,
                "next_attempt_at": now,
                "created_at": now,
            }
            for row in found
        ],
    )
    if version.resets_portal:
        replace_older(connection, mailing_id, both=version.resets_application)
    insert_event(
        connection,
        actor,
        "mailing.confirmed",
        customer_id=customer_id,
        object_type="mailing",
        object_id=mailing_id,
        detail={
            "template": version.template,
            "version": version.number,
            "recipients": queued,
            "skipped": len(found) - queued,
        },
    )
    return mailing_id


def _find_version(connection: sa.Connection, customer_id: int, name: str) -> _Version:
    row = connection.execute(_version_statement(), {"customer": customer_id}).one_or_none()
    if row is None:
        raise Conflict(f"{name} has no welcome mail among its e-mail templates.")
    portal, application = _resets_of_version(db.engine, row.id)
    return _Version(row.id, row.number, row.name, portal, application)


@lru_cache(maxsize=256)
def _resets_of_version(_database: sa.Engine, version_id: int) -> tuple[bool, bool]:
    """Read once: the texts of a version never change."""
    return resets_of(email_templates.prepare_texts(version_id))


# Each is built once: building takes longer than running it.


@cache
def _version_statement() -> sa.Select[Any]:
    templates, versions = table_of(EmailTemplate), table_of(EmailTemplateVersion)
    assigned = table_of(CustomerEmailTemplate)
    return (
        sa.select(versions.c.id, versions.c.number, templates.c.name)
        .join(templates, templates.c.id == versions.c.template_id)
        .join(assigned, assigned.c.template_id == templates.c.id)
        .where(
            assigned.c.customer_id == sa.bindparam("customer", type_=ID),
            templates.c.kind == TemplateKind.WELCOME,
            templates.c.archived_at.is_(None),
        )
        .order_by(templates.c.id.desc(), versions.c.number.desc())
        .limit(1)
    )


@cache
def _administrators_statement() -> sa.Select[Any]:
    return recipients_of(
        ADMINISTRATORS, Customer.id == sa.bindparam("customer", type_=ID), include_recent=True
    )


@cache
def _mailing_statement() -> sa.Insert:
    mailings = table_of(Mailing)
    return sa.insert(mailings).returning(mailings.c.id)


@cache
def _mailing_customer_statement() -> sa.Insert:
    return sa.insert(table_of(MailingCustomer))


@cache
def _deliveries_statement() -> sa.Insert:
    return sa.insert(table_of(Delivery))
