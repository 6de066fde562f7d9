"""Mailings: reading them, their deliveries and their pace."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import aliased, joinedload

from extensions import db, get_settings
from models import (
    ApiCredential,
    CommandRun,
    Customer,
    Delivery,
    DeliveryState,
    EmailTemplateVersion,
    Mailing,
    MailingCustomer,
    SkipReason,
    User,
    table_of,
    utcnow,
)
from models.deliveries import UNMAILED, in_state
from services.actors import Actor, Permission, groups_of
from services.audit_events import record_event
from services.bulk_rows import among
from services.csv_export import as_text
from services.errors import Forbidden, NotFound
from services.paging import (
    Page,
    Strand,
    bounded_page,
    keyset_page,
    parse_id_key,
    parse_time_key,
)

SCAN_CAP = 2000
"""Mailings that are looked at for one page of who is limited to groups."""

_DELIVERIES = table_of(Delivery)
_BY_USER = "user "
_WITH_AUTHOR = (
    joinedload(Mailing.template_version).joinedload(EmailTemplateVersion.template),
    joinedload(Mailing.created_by),
    joinedload(Mailing.credential).load_only(ApiCredential.name),
    joinedload(Mailing.command_run).load_only(CommandRun.actor_login),
)


def get_mailing(
    actor: Actor,
    customer: Customer,
    mailing_id: int,
    permission: Permission = Permission.MAILINGS_READ,
) -> Mailing:
    """A mailing to the customer alone. Raises NotFound, Forbidden."""
    actor.require(permission)
    mailing = db.session.get(Mailing, mailing_id, populate_existing=True)
    if mailing is None or mailing.customer_id != customer.id:
        raise NotFound(f"{customer.name} has no such mailing.")
    return mailing


def list_mailings(
    actor: Actor, customer: Customer, *, size: int = 25, cursor: str = ""
) -> Page[Mailing]:
    """A page of the customer's mailings, newest first, with template and author loaded."""
    actor.require(Permission.MAILINGS_READ)
    query = sa.select(Mailing).where(Mailing.customer_id == customer.id)
    return _page_of_mailings(query, size, cursor)


def _page_of_mailings(query: sa.Select[Mailing], size: int, cursor: str) -> Page[Mailing]:
    row_id = Mailing.id.expression
    return keyset_page(
        lambda wanted: db.session.scalars(wanted).all(),
        query.options(*_WITH_AUTHOR),
        key=row_id,
        row_id=row_id,
        key_of=lambda row: (row.id, row.id),
        parse_key=parse_id_key,
        descending=True,
        size=size,
        cursor=cursor,
    )


def get_staff_mailing(actor: Actor, mailing_id: int) -> Mailing:
    """A mailing all of whose customers are in the scope of a member of staff.

    Raises Forbidden, NotFound.
    """
    _require_staff(actor)
    mailing = db.session.scalar(
        sa.select(Mailing)
        .where(Mailing.id == mailing_id, _of_customers_in_scope(actor))
        .execution_options(populate_existing=True)
    )
    if mailing is None:
        raise NotFound("There is no such mailing, or it is not yours to see.")
    return mailing


def find_staff_mailings(actor: Actor, mailing_ids: Sequence[int]) -> dict[int, Mailing]:
    """Those of the mailings that `get_staff_mailing` gives, by id, with their templates loaded."""
    _require_staff(actor)
    found = db.session.scalars(
        sa.select(Mailing)
        .where(Mailing.id.in_(mailing_ids), _of_customers_in_scope(actor))
        .options(*_WITH_AUTHOR)
        .execution_options(populate_existing=True)
    )
    return {mailing.id: mailing for mailing in found}


def list_staff_mailings(actor: Actor, *, size: int = 25, cursor: str = "") -> Page[Mailing]:
    """A page of the mailings that `get_staff_mailing` gives, newest first, as `list_mailings`.

    Whoever is limited to groups gets a BoundedPage: up to SCAN_CAP mailings are looked at for one,
    so that the mailings of others cost him nothing.
    """
    _require_staff(actor)
    if actor.all_groups:
        return _page_of_mailings(sa.select(Mailing), size, cursor)
    row_id = Mailing.id.expression
    return bounded_page(
        lambda wanted: db.session.execute(wanted).all(),
        [Strand(sa.select(Mailing.id), row_id, row_id, _of_customers_in_scope(actor))],
        load=_load_mailings,
        most=SCAN_CAP,
        parse_key=parse_id_key,
        descending=True,
        size=size,
        cursor=cursor,
    )


def _load_mailings(ids: list[int]) -> list[Mailing]:
    rows = db.session.scalars(
        sa.select(Mailing)
        .where(among(db.session.connection(), Mailing.id.expression, ids))
        .options(*_WITH_AUTHOR)
    )
    found = {row.id: row for row in rows}
    return [found[each] for each in ids if each in found]


def _require_staff(actor: Actor) -> None:
    actor.require(Permission.MAILINGS_READ)
    if not actor.is_staff:
        raise Forbidden("Your role does not include this action.")


def _of_customers_in_scope(actor: Actor) -> sa.ColumnElement[bool]:
    """Whether no customer of a mailing is outside the actor's groups; deleted ones stay inside."""
    if actor.all_groups:
        return sa.true()
    of_it = sa.select(MailingCustomer.customer_id).where(MailingCustomer.mailing_id == Mailing.id)
    outside = of_it.join(Customer, Customer.id == MailingCustomer.customer_id).where(
        Customer.group_id.not_in(groups_of(actor))
    )
    return sa.and_(of_it.exists(), ~outside.exists())


def list_deliveries(
    mailing: Mailing, *, state: DeliveryState | None = None, size: int = 50, cursor: str = ""
) -> Page[Delivery]:
    """A page of a mailing's deliveries with users and customers.

    In the order they were frozen, those that are queued in the order they are due.
    """
    query = sa.select(Delivery).options(joinedload(Delivery.user).selectinload(User.customer))
    if state is DeliveryState.QUEUED:
        return keyset_page(
            lambda wanted: db.session.scalars(wanted).all(),
            query.where(Delivery.mailing_id == mailing.id, in_state(state)),
            key=_DELIVERIES.c.next_attempt_at,
            row_id=_DELIVERIES.c.user_id,
            key_of=lambda row: (row.next_attempt_at, row.user_id),
            parse_key=parse_time_key,
            size=size,
            cursor=cursor,
        )
    query = query.where(_belongs_to(mailing.id))
    if state is not None:
        query = query.where(in_state(state))
    return keyset_page(
        lambda wanted: db.session.scalars(wanted).all(),
        query,
        key=_DELIVERIES.c.user_id,
        row_id=_DELIVERIES.c.id,
        key_of=lambda row: (f"{_BY_USER}{row.user_id}", row.id),
        parse_key=_parse_user_key,
        size=size,
        cursor=cursor,
    )


def _parse_user_key(raw: str) -> int:
    """ValueError for a cursor of older releases, which knew of deliveries' ids alone."""
    if not raw.startswith(_BY_USER):
        raise ValueError("not the place of a user")
    return parse_id_key(raw.removeprefix(_BY_USER))


def _belongs_to(mailing_id: int) -> sa.ColumnElement[bool]:
    """Whether a delivery is of a mailing, for lists in the order of users' ids.

    The second condition says nothing new, but it tells PostgreSQL that few rows fulfil both: it
    would go by the users alone through the deliveries of all other mailings, to meet fifty of a
    large one.
    """
    place = sa.tuple_(Delivery.mailing_id, Delivery.user_id)
    return sa.and_(
        Delivery.mailing_id == mailing_id, place > sa.tuple_(sa.literal(mailing_id), sa.literal(0))
    )


def list_deliveries_to(actor: Actor, user: User, *, size: int = 10) -> list[Delivery]:
    """The newest deliveries to a user, with their mailing and template loaded."""
    actor.require(Permission.MAILINGS_READ)
    return list(
        db.session.scalars(
            sa.select(Delivery)
            .where(Delivery.user_id == user.id)
            .options(
                joinedload(Delivery.mailing)
                .joinedload(Mailing.template_version)
                .joinedload(EmailTemplateVersion.template)
            )
            .order_by(Delivery.id.desc())
            .limit(size)
        )
    )


@dataclass(frozen=True, slots=True)
class Audience:
    """Whose users a mailing goes to: how many customers, and the first of their names."""

    customers: int
    first: str


def find_audiences(listed: Sequence[Mailing]) -> dict[int, Audience]:
    """The audience of each mailing, by its id."""
    rows = db.session.execute(
        sa.select(
            MailingCustomer.mailing_id,
            sa.func.count().label("customers"),
            sa.func.min(Customer.name).label("first"),
        )
        .join(Customer, Customer.id == MailingCustomer.customer_id)
        .where(MailingCustomer.mailing_id.in_([mailing.id for mailing in listed]))
        .group_by(MailingCustomer.mailing_id)
    )
    return {row.mailing_id: Audience(row.customers, row.first) for row in rows}


def newest_failures(mailing: Mailing, size: int = 5) -> list[Delivery]:
    """The last failed deliveries, newest first."""
    return list(
        db.session.scalars(
            sa.select(Delivery)
            .where(Delivery.mailing_id == mailing.id, in_state(DeliveryState.FAILED))
            .options(joinedload(Delivery.user).joinedload(User.customer))
            .order_by(Delivery.user_id.desc())
            .limit(size)
        )
    )


def list_unmailed_passwords(mailing: Mailing, size: int) -> list[Delivery]:
    """Up to `size` ended deliveries whose application password was changed but never mailed.

    Those whose user has since been sent another one are left out.
    """
    if not mailing.resets_application_password:
        return []
    later, later_mailing = aliased(Delivery), aliased(Mailing)
    mended = sa.exists().where(
        later.user_id == Delivery.user_id,
        later.id > Delivery.id,
        later.state == DeliveryState.SENT,
        later_mailing.id == later.mailing_id,
        later_mailing.resets_application_password,
    )
    return list(
        db.session.scalars(
            sa.select(Delivery)
            .where(
                Delivery.mailing_id == mailing.id,
                UNMAILED,  # In the very words of its index.
                ~mended,
            )
            .options(joinedload(Delivery.user).joinedload(User.customer))
            .order_by(Delivery.id)
            .limit(size)
        )
    )


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a mailing goes: mails per second so far, and seconds left at that rate."""

    per_second: float
    seconds_left: int | None


def measure_pace(mailing: Mailing, now: datetime | None = None) -> Pace:
    """The average since the start; the counters are all it reads."""
    done = mailing.sent + mailing.bounced + mailing.failed
    if mailing.started_at is None or not done:
        return Pace(0.0, None)
    elapsed = ((mailing.finished_at or now or utcnow()) - mailing.started_at).total_seconds()
    rate = done / max(elapsed, 0.001)
    return Pace(rate, round(mailing.waiting / rate) if mailing.is_open else None)


def count_skipped(mailing: Mailing) -> dict[SkipReason, int]:
    """How many of a mailing's recipients are skipped for which reason."""
    rows = db.session.execute(
        sa.select(Delivery.skip_reason, sa.func.count())
        .where(Delivery.mailing_id == mailing.id, in_state(DeliveryState.SKIPPED))
        .group_by(Delivery.skip_reason)
    )
    return {reason: count for reason, count in rows if reason is not None}


_MEASURED_MAILS = 100
_MEASURED_SECONDS = 1.0


def estimate_rate() -> float | None:
    """Mails per second that a mailing may expect: the median of the newest five worth measuring.

    Those took a second and a hundred mails at least. None when there is none among the newest. The
    server's ceiling, MAIL_MAX_PER_SECOND, bounds it.
    """
    ended = Mailing.sent + Mailing.bounced + Mailing.failed
    newest = db.session.execute(
        sa.select(ended, Mailing.started_at, Mailing.finished_at)
        .where(Mailing.id > _id_of_newest() - 500)
        .order_by(Mailing.id.desc())
    )
    now = utcnow()
    rates: list[float] = []
    for mails, started_at, finished_at in newest:
        if started_at is None:
            continue
        seconds = ((finished_at or now) - started_at).total_seconds()
        if mails >= _MEASURED_MAILS and seconds >= _MEASURED_SECONDS:
            rates.append(mails / seconds)
        if len(rates) == 5:
            break
    if not rates:
        return None
    return min(statistics.median(rates), get_settings().mail_max_per_second or math.inf)


def _id_of_newest() -> int:
    return db.session.scalar(sa.select(sa.func.max(Mailing.id))) or 0


# --- Export ----------------------------------------------------------------------------------

EXPORT_HEADER = (
    "First name",
    "Last name",
    "Login",
    "E-mail",
    "State",
    "Reason",
    "Answer code",
    "Answer",
    "Attempts",
    "Sent at (UTC)",
    "Bounced at (UTC)",
    "Bounce reason",
    "Customer",
)


def export_deliveries(actor: Actor, mailing: Mailing) -> Iterator[tuple[str, ...]]:
    """Rows of EXPORT_HEADER, one per recipient in the order of the list.

    The export is audited when it begins. Rows are read in batches, so memory stays flat.
    """
    actor.require(Permission.MAILINGS_READ)
    record_mailing_event(actor, mailing, "mailing.exported", {"recipients": mailing.total})
    db.session.commit()
    return _export_rows(mailing.id)


def _export_rows(mailing_id: int) -> Iterator[tuple[str, ...]]:
    rows = (
        sa.select(
            User.first_name,
            User.last_name,
            User.login,
            Delivery.email,
            Delivery.state,
            Delivery.skip_reason,
            Delivery.answer_code,
            Delivery.answer,
            Delivery.attempts,
            Delivery.sent_at,
            Delivery.bounced_at,
            Delivery.bounce_reason,
            Customer.web_id,
        )
        .join(User, User.id == Delivery.user_id)
        .join(Customer, Customer.id == User.customer_id)
        .where(_belongs_to(mailing_id))
        .order_by(Delivery.user_id)
        .execution_options(yield_per=500)
    )
    with db.engine.connect() as connection:
        for row in connection.execute(rows):
            yield tuple(as_text(value) for value in row)


def record_mailing_event(
    actor: Actor, mailing: Mailing, event: str, detail: dict[str, Any]
) -> None:
    """Add an audit event about a mailing to the session; the caller commits."""
    record_event(
        actor,
        event,
        customer_id=mailing.customer_id,
        object_type="mailing",
        object_id=mailing.id,
        detail=detail,
    )
