"""Freezing who gets a mailing: the moment in which its deliveries are written.

By statements whose number does not depend on the number of users; each is built once, for building
takes longer than running it for a few.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import aliased

from extensions import db, get_settings
from models import (
    Customer,
    CustomerStatus,
    Delivery,
    DeliveryState,
    EmailTemplateVersion,
    Mailing,
    MailingCustomer,
    MailingState,
    SkipReason,
    Suppression,
    User,
    UserStatus,
    table_of,
    utcnow,
)
from models.base import ID
from models.deliveries import in_state
from services.actors import Actor
from services.audit_events import record_event
from services.bulk_rows import analyse
from services.mailing_ends import end_mailing_if_done
from services.webhook_events import end_deliveries

_MANY = 10_000
_BEFORE_ITS_DELIVERIES = timedelta(hours=1)


@dataclass(frozen=True, eq=False)
class Audience:
    """Which users of a mailing's customers get it: a condition on users, customers and bundles.

    Its values are bound by name when it is frozen, so that the statement is made once.
    """

    condition: sa.ColumnElement[bool]


NAMED_USERS = Audience(User.id.in_(sa.bindparam("user_ids", expanding=True)))
USERS_OF_BUNDLES = Audience(User.bundle_id.in_(sa.bindparam("bundle_ids", expanding=True)))
# In so many words: for a bound one, SQLite has to look whether it is that of the partial index, and
# prepares the statement again each time.
ADMINISTRATORS = Audience(sa.literal_column("users.role = 'customer_admin'", sa.Boolean()))


def freeze_mailing(
    actor: Actor,
    mailing: Mailing,
    customer_ids: Iterable[int],
    audience: Audience,
    values: Mapping[str, Any] | None = None,
    *,
    include_recent: bool,
) -> None:
    """Freeze who gets a flushed `mailing`: the users of these customers who are of `audience`.

    `values` are those that the audience's condition names. Everything happens in the caller's
    transaction, by statements whose number does not depend on the number of users.
    """
    version = mailing.template_version
    db.session.execute(
        sa.insert(MailingCustomer),
        [{"mailing_id": mailing.id, "customer_id": each} for each in customer_ids],
    )
    _freeze_recipients(
        mailing, version.template_id, audience, values or {}, include_recent=include_recent
    )
    if mailing.resets_portal_password and mailing.queued:
        replace_older(db.session.connection(), mailing.id, both=mailing.resets_application_password)
    detail: dict[str, Any] = {
        "template": version.template.name,
        "version": version.number,
        "recipients": mailing.queued,
        "skipped": mailing.skipped,
    }
    if mailing.command_run_id is not None:
        detail |= {"command_run": mailing.command_run_id, "command_line": mailing.command_line}
    record_event(
        actor,
        "mailing.confirmed",
        customer_id=mailing.customer_id,
        object_type="mailing",
        object_id=mailing.id,
        detail=detail,
    )


def skip_reason(template_id: int, *, include_recent: bool) -> sa.ColumnElement[str | None]:
    """Why a user gets no mail, as SQL over users joined with customers; NULL when he gets it."""
    since, mailings_since = _recent_since()
    return _skip_reason(
        sa.literal(template_id),
        sa.literal(since, Delivery.created_at.type),
        sa.literal(mailings_since, Mailing.created_at.type),
        include_recent=include_recent,
    )


def _recent_since() -> tuple[datetime, datetime]:
    """Since when a delivery is recent, and since when a mailing may have recent ones."""
    since = utcnow() - timedelta(minutes=get_settings().recent_mail_minutes)
    return since, since - _BEFORE_ITS_DELIVERIES


def _skip_reason(
    template_id: sa.BindParameter[int],
    since: sa.BindParameter[datetime],
    mailings_since: sa.BindParameter[datetime],
    command_run_id: sa.BindParameter[int] | None = None,
    *,
    include_recent: bool,
) -> sa.ColumnElement[str | None]:
    """What the same command run sends is recent however long it takes."""
    is_recent: sa.ColumnElement[bool] = Delivery.created_at > since
    if command_run_id is not None:
        is_recent = sa.or_(is_recent, Mailing.command_run_id == command_run_id)
    first_recent = _first_recent_delivery(since, mailings_since, command_run_id)
    suppressed = sa.exists().where(Suppression.email_key == User.email_key)
    recently_mailed = sa.exists(
        sa.select(Delivery.id)
        .join(Mailing, Mailing.id == Delivery.mailing_id)
        .join(EmailTemplateVersion, EmailTemplateVersion.id == Mailing.template_version_id)
        .where(
            Delivery.user_id == User.id,
            Delivery.id >= first_recent,
            is_recent,
            EmailTemplateVersion.template_id == template_id,
            Delivery.state.in_([DeliveryState.QUEUED, DeliveryState.SENDING, DeliveryState.SENT]),
        )
        .correlate(User)
    )
    reasons: list[tuple[sa.ColumnElement[bool], SkipReason]] = [
        (
            sa.or_(User.status == UserStatus.DELETED, Customer.status == CustomerStatus.DELETED),
            SkipReason.DELETED,
        ),
        (
            sa.or_(
                User.status == UserStatus.SUSPENDED, Customer.status == CustomerStatus.SUSPENDED
            ),
            SkipReason.SUSPENDED,
        ),
        (User.email_key == "", SkipReason.NO_ADDRESS),
        (suppressed, SkipReason.SUPPRESSED),
    ]
    if not include_recent:
        reasons.append((recently_mailed, SkipReason.RECENTLY_MAILED))
    return sa.case(
        *((condition, sa.literal(reason.value)) for condition, reason in reasons), else_=sa.null()
    )


def _first_recent_delivery(
    since: sa.BindParameter[datetime],
    mailings_since: sa.BindParameter[datetime],
    command_run_id: sa.BindParameter[int] | None,
) -> sa.ScalarSelect[int | None]:
    """The lowest id among deliveries that may be recent, NULL without any.

    With it the question costs the same however much mail a user has had before. The deliveries of
    a mailing are all made at one time, soon after the mailing itself.
    """
    mailing, delivery, each = aliased(Mailing), aliased(Delivery), aliased(Delivery)
    first = (
        sa.select(each.id)
        # The tuple says the same once more, so that PostgreSQL goes by the mailing, not by users.
        .where(
            each.mailing_id == mailing.id,
            sa.tuple_(each.mailing_id, each.user_id) > sa.tuple_(mailing.id, 0),
        )
        .order_by(each.user_id)
        .limit(1)
        .correlate(mailing)
        .scalar_subquery()
    )
    made_lately: sa.ColumnElement[bool] = mailing.created_at > mailings_since
    is_recent: sa.ColumnElement[bool] = delivery.created_at > since
    if command_run_id is not None:
        made_lately = sa.or_(made_lately, mailing.command_run_id == command_run_id)
        is_recent = sa.or_(is_recent, mailing.command_run_id == command_run_id)
    return (
        sa.select(sa.func.min(delivery.id))
        .join(mailing, delivery.id == first)
        .where(made_lately, is_recent)
        .scalar_subquery()
    )


def _freeze_recipients(
    mailing: Mailing,
    template_id: int,
    audience: Audience,
    values: Mapping[str, Any],
    *,
    include_recent: bool,
) -> None:
    """Write the deliveries with one INSERT … SELECT, and the counters."""
    now = utcnow()
    since, mailings_since = _recent_since()
    by_command = mailing.command_run_id is not None
    frozen = db.session.connection().execute(
        _freeze_statement(audience, include_recent=include_recent, by_command=by_command),
        {
            **values,
            "mailing": mailing.id,
            "now": now,
            **({} if include_recent else {"template": template_id, "since": since}),
            **({} if include_recent else {"mailings_since": mailings_since}),
            **({"run": mailing.command_run_id} if by_command and not include_recent else {}),
        },
        execution_options={"preserve_rowcount": True},
    )
    skipped = sa.select(sa.func.count()).where(
        Delivery.mailing_id == mailing.id, in_state(DeliveryState.SKIPPED)
    )
    mailing.skipped = db.session.scalars(skipped).one()
    mailing.total, mailing.queued = frozen.rowcount, frozen.rowcount - mailing.skipped
    if mailing.total >= _MANY:
        analyse(db.session.connection(), table_of(Delivery))
    if not mailing.queued:
        mailing.state = MailingState.FINISHED
        mailing.finished_at = now
    db.session.flush()


def recipients_of(
    audience: Audience,
    customers: sa.ColumnElement[bool],
    *,
    include_recent: bool,
    by_command: bool = False,
) -> sa.Select[*tuple[Any, ...]]:
    """Id, address and skip reason of an audience; `customers` is a condition on customers.

    Unless `include_recent`, "template", "since" and "mailings_since" are bound, and "run" for a
    mailing of a command.
    """
    time = Delivery.created_at.type
    return (
        sa.select(
            User.id.label("user_id"),
            User.email.label("email"),
            _skip_reason(
                sa.bindparam("template", type_=ID),
                sa.bindparam("since", type_=time),
                sa.bindparam("mailings_since", type_=time),
                sa.bindparam("run", type_=ID) if by_command else None,
                include_recent=include_recent,
            ).label("skip_reason"),
        )
        .join(Customer, Customer.id == User.customer_id)
        .where(customers, audience.condition)
    )


@lru_cache(maxsize=16)
def _freeze_statement(audience: Audience, *, include_recent: bool, by_command: bool) -> sa.Insert:
    time = Delivery.created_at.type
    mailing_id, now = sa.bindparam("mailing", type_=ID), sa.bindparam("now", type_=time)
    of_mailing = sa.select(MailingCustomer.customer_id).where(
        MailingCustomer.mailing_id == mailing_id
    )
    source = (
        recipients_of(
            audience,
            User.customer_id.in_(of_mailing),
            include_recent=include_recent,
            by_command=by_command,
        )
        # In here, it keeps PostgreSQL from working the reasons out twice.
        .order_by(User.id)
        .subquery()
    )
    return sa.insert(table_of(Delivery)).from_select(
        [
            "mailing_id",
            "user_id",
            "email",
            "state",
            "skip_reason",
            "attempts",
            "next_attempt_at",
            "created_at",
        ],
        sa.select(
            mailing_id,
            source.c.user_id,
            source.c.email,
            sa.case(
                (source.c.skip_reason.is_(None), DeliveryState.QUEUED.value),
                else_=DeliveryState.SKIPPED.value,
            ),
            source.c.skip_reason,
            sa.literal(0),
            now,
            now,
        ),
        include_defaults=False,
    )


def replace_older(connection: sa.Connection, mailing_id: int, *, both: bool) -> None:
    """Take its recipients out of older mailings whose mail has certainly not arrived yet.

    Their password would be reset twice, and the older mail would carry one that no longer works.
    `both` says that the mailing resets the application password, too: otherwise older ones that
    do are left alone.
    """
    ours = {"ours": mailing_id}
    older = connection.scalars(_older_statement(), {**ours, "both": both}).all()
    for older_id in older:
        which = {"which": older_id}
        replaced = end_deliveries(
            connection, _replace_statement(), DeliveryState.SKIPPED, {**ours, **which}
        )
        if replaced:
            connection.execute(_count_replaced_statement(), {**which, "replaced": replaced})
            end_mailing_if_done(connection, older_id)


# Each is built once: building takes longer than running it.


@cache
def _older_statement() -> sa.Select[int]:
    """The open mailings that could hold deliveries to replace, to users of the same customers."""
    mailings, ours = table_of(Mailing).c, sa.bindparam("ours", type_=ID)
    customers = table_of(MailingCustomer)
    their_customers, our_customers = customers.alias(), customers.alias()
    shares_customers = (
        sa.select(their_customers.c.customer_id)
        .join(our_customers, our_customers.c.customer_id == their_customers.c.customer_id)
        .where(their_customers.c.mailing_id == mailings.id, our_customers.c.mailing_id == ours)
        .correlate(table_of(Mailing))
        .exists()
    )
    return (
        sa.select(mailings.id)
        .where(
            mailings.id != ours,
            shares_customers,
            mailings.queued + mailings.sending > 0,
            mailings.resets_portal_password,
            sa.or_(~mailings.resets_application_password, sa.bindparam("both", type_=sa.Boolean())),
        )
        .order_by(mailings.id)
    )


@cache
def _replace_statement() -> sa.Update:
    # Not IN nor EXISTS: PostgreSQL makes joins of those, and without statistics, which rows as new
    # as these never have, joins a million rows to a million one by one.
    deliveries = table_of(Delivery)
    ours = deliveries.alias()
    is_ours = (
        sa.select(ours.c.id)
        .where(
            ours.c.mailing_id == sa.bindparam("ours", type_=ID),
            ours.c.user_id == deliveries.c.user_id,
            ours.c.state == DeliveryState.QUEUED,
        )
        .correlate(deliveries)
        .scalar_subquery()
        .is_not(None)
    )
    return (
        sa.update(deliveries)
        .where(
            deliveries.c.mailing_id == sa.bindparam("which", type_=ID),
            in_state(DeliveryState.QUEUED),
            deliveries.c.in_doubt.is_(False),
            is_ours,
        )
        .values(
            state=DeliveryState.SKIPPED,
            skip_reason=SkipReason.REPLACED,
            seal=None,
            pending_hash=None,
        )
    )


@cache
def _count_replaced_statement() -> sa.Update:
    mailings = table_of(Mailing)
    replaced = sa.bindparam("replaced", type_=sa.Integer())
    return (
        sa.update(mailings)
        .where(mailings.c.id == sa.bindparam("which", type_=ID))
        .values(queued=mailings.c.queued - replaced, skipped=mailings.c.skipped + replaced)
    )
