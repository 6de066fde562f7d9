"""The welcome mail to a customer's administrators, as other systems ask for it.

They may ask many times a second. What they wait for is one row that freezes the recipients; a
worker makes mailings of such rows, which are then as `mailing_confirmations.confirm_mailing` writes
them. All of it goes past the ORM, by a few statements that are made once.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import sqlalchemy as sa

from extensions import db
from models import (
    AcceptedWelcome,
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

_EXPANDED_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class _Version:
    """A version of a welcome, and the passwords that it carries."""

    id: int
    number: int
    template: str
    resets_portal: bool
    resets_application: bool


def resend_to_administrators(actor: Actor, customer: Customer) -> None:
    """Accept a welcome mail to the customer's administrators, as they are at this moment.

    The caller wakes the lane afterwards, where `begin_accepted` makes the mailing. Whoever asks
    again means it: somebody mailed a moment ago is mailed again. Raises Forbidden, and Conflict
    when there is nobody to mail or nothing to say.
    """
    actor.require(Permission.MAILINGS_SEND)
    connection = db.session.connection()
    found = connection.execute(_administrators_statement(), {"customer": customer.id}).all()
    if all(row.skip_reason is not None for row in found):
        raise Conflict(
            f"{customer.name} has no administrator who can be mailed: each one is suspended, has "
            "no e-mail address, or has one that is suppressed."
        )
    if (version_id := found[0].version_id) is None:
        raise Conflict(f"{customer.name} has no welcome mail among its e-mail templates.")
    _resets_of_version(db.engine, version_id)  # Raises Conflict for one that cannot be sent.
    connection.execute(
        _accepted_statement(),
        {
            "customer_id": customer.id,
            "template_version_id": version_id,
            "created_by_id": actor.user_id,
            "credential_id": actor.credential_id,
            "actor_login": actor.login,
            "address": actor.address[:64],
            "recipients": [[row.user_id, row.email, row.skip_reason] for row in found],
            "accepted_at": utcnow(),
        },
    )
    db.session.commit()


def begin_accepted() -> int:
    """Make the mailings of what was accepted, oldest first; returns how many.

    Rows are taken away and mailings made in one transaction, so that each is made once, whoever
    else is at it.
    """
    return run_transaction(_begin_accepted)


def _begin_accepted(connection: sa.Connection) -> int:
    taken = connection.execute(_take_statement()).all()
    for row in sorted(taken, key=lambda row: row.id):
        _begin(connection, row)
    return len(taken)


def _begin(connection: sa.Connection, accepted: Any) -> None:
    """The mailing as `confirm_mailing` would have made it at the time of acceptance."""
    version = _load_version(connection, accepted.template_version_id)
    skipped = sum(reason is not None for _, _, reason in accepted.recipients)
    queued = len(accepted.recipients) - skipped
    mailing_id: int = connection.execute(
        _mailing_statement(),
        {
            "customer_id": accepted.customer_id,
            "template_version_id": version.id,
            "created_by_id": accepted.created_by_id,
            "credential_id": accepted.credential_id,
            "confirmation": secrets.token_urlsafe(24),
            "lane": Lane.INTERACTIVE,
            "state": MailingState.RUNNING,
            "resets_portal_password": version.resets_portal,
            "resets_application_password": version.resets_application,
            "total": queued + skipped,
            "queued": queued,
            "skipped": skipped,
            "created_at": accepted.accepted_at,
        },
    ).scalar_one()
    connection.execute(
        _mailing_customer_statement(),
        {"mailing_id": mailing_id, "customer_id": accepted.customer_id},
    )
    connection.execute(
        _deliveries_statement(),
        [
            {
                "mailing_id": mailing_id,
                "user_id": user_id,
                "email": email,
                "state": DeliveryState.SKIPPED if reason else DeliveryState.QUEUED,
                "skip_reason": reason,
                "next_attempt_at": accepted.accepted_at,
                "created_at": accepted.accepted_at,
            }
            for user_id, email, reason in accepted.recipients
        ],
    )
    if version.resets_portal:
        replace_older(connection, mailing_id, both=version.resets_application)
    insert_event(
        connection,
        Actor(accepted.created_by_id, accepted.actor_login, None, address=accepted.address),
        "mailing.confirmed",
        customer_id=accepted.customer_id,
        object_type="mailing",
        object_id=mailing_id,
        detail={
            "template": version.template,
            "version": version.number,
            "recipients": queued,
            "skipped": skipped,
        },
        at=accepted.accepted_at,
    )


def _load_version(connection: sa.Connection, version_id: int) -> _Version:
    row = connection.execute(_named_version_statement(), {"version": version_id}).one()
    portal, application = _resets_of_version(db.engine, version_id)
    return _Version(row.id, row.number, row.name, portal, application)


@lru_cache(maxsize=256)
def _resets_of_version(_database: sa.Engine, version_id: int) -> tuple[bool, bool]:
    """Read once: the texts of a version never change."""
    return resets_of(email_templates.prepare_texts(version_id))


# Each is built once: building takes longer than running it.


def _newest_version() -> sa.ScalarSelect[int]:
    """Of the newest welcome among the customer's templates."""
    templates, versions = table_of(EmailTemplate), table_of(EmailTemplateVersion)
    assigned = table_of(CustomerEmailTemplate)
    return (
        sa.select(versions.c.id)
        .join(templates, templates.c.id == versions.c.template_id)
        .join(assigned, assigned.c.template_id == templates.c.id)
        .where(
            assigned.c.customer_id == sa.bindparam("customer", type_=ID),
            templates.c.kind == TemplateKind.WELCOME,
            templates.c.archived_at.is_(None),
        )
        .order_by(templates.c.id.desc(), versions.c.number.desc())
        .limit(1)
        .scalar_subquery()
    )


@cache
def _named_version_statement() -> sa.Select[Any]:
    templates, versions = table_of(EmailTemplate), table_of(EmailTemplateVersion)
    return (
        sa.select(versions.c.id, versions.c.number, templates.c.name)
        .join(templates, templates.c.id == versions.c.template_id)
        .where(versions.c.id == sa.bindparam("version", type_=ID))
    )


@cache
def _administrators_statement() -> sa.Select[*tuple[Any, ...]]:
    """Who is mailed and what: all that has to be known in one round trip."""
    of_customer = Customer.id == sa.bindparam("customer", type_=ID)
    return recipients_of(ADMINISTRATORS, of_customer, include_recent=True).add_columns(
        _newest_version().label("version_id")
    )


@cache
def _accepted_statement() -> sa.Insert:
    return sa.insert(table_of(AcceptedWelcome))


@cache
def _take_statement() -> Any:
    accepted = table_of(AcceptedWelcome)
    oldest = (
        sa.select(accepted.c.id)
        .order_by(accepted.c.id)
        .limit(_EXPANDED_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    return sa.delete(accepted).where(accepted.c.id.in_(oldest)).returning(*accepted.c)


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
