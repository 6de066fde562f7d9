"""Notices about direct debits: whoever pays is told by mail that his bank account was changed.

A row is written with the change; what happens to it then, noted_mails.py says.
"""

from __future__ import annotations

from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.orm import joinedload

from extensions import db, get_settings
from models import Customer, DirectDebitNotice, table_of
from services import (
    countries,
    email_templates,
    noted_mails,
    provisioning_policy,
    system_mails,
)
from services.notification_texts import format_moment

_MAIL = "direct_debit_changed"


def note(connection: sa.Connection, customer_id: int, masked: str, holder: str) -> int | None:
    """Note a mail to the customer's contact in the caller's transaction.

    Returns its id for `start_mail`; None when the contact has no address.
    """
    customer = table_of(Customer)
    contact = connection.execute(
        sa.select(customer.c.contact_email, customer.c.language).where(customer.c.id == customer_id)
    ).one()
    if not contact.contact_email:
        return None
    added: int = connection.execute(
        sa.insert(DirectDebitNotice)
        .values(
            customer_id=customer_id,
            email=contact.contact_email,
            language=contact.language,
            masked=masked,
            holder=holder,
            message_id=system_mails.new_message_id(),
        )
        .returning(DirectDebitNotice.id)
    ).scalar_one()
    return added


def start_mail(notice_id: int) -> None:
    """Ask workers to mail a notice. Call it after the commit."""
    _mails.enqueue([notice_id])


def list_unmailed() -> list[int]:
    """Ids of notices that are due, the oldest first; none while the line is blocked."""
    return _mails.list_unmailed()


def mail_notice(notice_id: int) -> bool:
    """Mail a notice that is due; False when it was not mailed now."""
    return _mails.mail(notice_id)


def _load(notice_id: int) -> DirectDebitNotice:
    return db.session.get_one(
        DirectDebitNotice,
        notice_id,
        populate_existing=True,
        options=[joinedload(DirectDebitNotice.customer)],
    )


def _send(notice: DirectDebitNotice) -> None:
    prepared = email_templates.prepare_system_mail(_MAIL, notice.language)
    values = _values_of(notice)
    db.session.commit()  # No transaction is open while the server thinks.
    system_mails.send(
        prepared,
        values,
        to_name=values["full name"],
        to_address=notice.email,
        message_id=notice.message_id,
        date=notice.created_at,
    )


def _values_of(notice: DirectDebitNotice) -> dict[str, str]:
    customer, settings = notice.customer, get_settings()
    if countries.is_time_zone(customer.time_zone):
        zone = ZoneInfo(customer.time_zone)
    else:
        zone = provisioning_policy.load().zone
    return {
        "full name": customer.contact_name,
        "customer name": customer.name,
        "account": notice.masked,
        "account holder": notice.holder,
        "changed at": format_moment(notice.created_at, zone, notice.language),
        "provider name": settings.provider_name,
        "help contact": settings.support_email,
    }


_mails = noted_mails.NotedMails(DirectDebitNotice, "jobs.direct_debits.mail_notice", _load, _send)
