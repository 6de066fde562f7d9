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
    User,
    table_of,
    utcnow,
)
from models.base import ID
from services import email_templates
from services.actors import Actor, Permission
from services.audit_events import insert_event
from services.errors import Conflict
from services.mailing_confirmations import resets_of
from services.mailing_freezes import ADMINISTRATORS, recipients_of, replace_older
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
    version_id = connection.scalar(
        _accept_statement(connection.dialect.name),
        {
            "customer": customer.id,
            "created_by_id": actor.user_id,
            "credential_id": actor.credential_id,
            "actor_login": actor.login,
            "address": actor.address[:64],
            "accepted_at": utcnow(),
        },
    )
    if version_id is None:
        raise Conflict(_why_not(connection, customer))
    try:
        _resets_of_version(db.engine, version_id)
    except (Conflict, ValueError) as error:
        db.session.rollback()
        raise Conflict(f"The welcome mail of {customer.name} cannot be sent. {error}") from error
    db.session.commit()


def _why_not(connection: sa.Connection, customer: Customer) -> str:
    if connection.scalar(sa.select(_newest_version()), {"customer": customer.id}) is None:
        return f"{customer.name} has no welcome mail among its e-mail templates."
    return (
        f"{customer.name} has no administrator who can be mailed: each one is suspended, has no "
        "e-mail address, or has one that is suppressed."
    )


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
def _accept_statement(dialect: str) -> Any:
    """Writes the row with the recipients in it, in one round trip; returns the version's id.

    Writes none where there is nobody to mail or nothing to say.
    """
    accepted = table_of(AcceptedWelcome)
    customer = sa.bindparam("customer", type_=ID)
    found = (
        recipients_of(ADMINISTRATORS, Customer.id == customer, include_recent=True)
        .order_by(User.id)
        .subquery()
    )
    array, all_of = (
        (sa.func.json_build_array, sa.func.json_agg)
        if dialect == "postgresql"
        else (sa.func.json_array, sa.func.json_group_array)
    )
    each = array(found.c.user_id, found.c.email, found.c.skip_reason)
    given = ("created_by_id", "credential_id", "actor_login", "address", "accepted_at")
    row = sa.select(
        customer,
        _newest_version(),
        all_of(each),
        *(sa.bindparam(name, type_=accepted.c[name].type) for name in given),
    ).having(
        sa.func.count() > sa.func.count(found.c.skip_reason),  # Somebody is not skipped.
        _newest_version().is_not(None),
    )
    columns = ["customer_id", "template_version_id", "recipients", *given]
    return (
        sa.insert(accepted)
        .from_select(columns, row, include_defaults=False)
        .returning(accepted.c.template_version_id)
    )


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
