"""Claims: the lease under which a worker holds a chunk of deliveries.

A claim is one row that the worker renews while it lives. When it expires, the sweep puts its
deliveries back in line *in doubt*: with their seal and Message-ID, so that a repeat is the same
message. The token on the delivery fences off a worker that comes back from the dead.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from extensions import get_settings
from models import (
    Bundle,
    Customer,
    CustomerStatus,
    Delivery,
    DeliveryClaim,
    DeliveryState,
    EmailTemplate,
    EmailTemplateVersion,
    Mailing,
    MailingState,
    SkipReason,
    Suppression,
    TemplateKind,
    User,
    UserStatus,
    fold,
    table_of,
    utcnow,
)
from services import passwords, seals
from services.recipients import RECIPIENT_COLUMNS
from services.seals import Credentials, SealBroken
from services.transactions import run_transaction

PROVED_BY_READER = "The reader signed in with the password of this mail."


@dataclass(frozen=True, slots=True)
class MailingJob:
    """What a worker needs to know of a mailing, read once per slice."""

    id: int
    template_version_id: int
    kind: TemplateKind
    resets_portal: bool
    resets_application: bool

    @property
    def carries_credentials(self) -> bool:
        return self.resets_portal or self.resets_application


@dataclass(slots=True)
class ClaimedDelivery:
    """A delivery in a worker's hands, with the clear credentials that never leave its memory."""

    id: int
    user_id: int
    customer_id: int | None
    email: str
    attempts: int
    message_id: str
    dated_at: datetime
    in_doubt: bool
    application_password_set: bool
    pending_hash: str | None
    credentials: Credentials = field(repr=False)
    recipient: sa.Row[Any] = field(repr=False)
    skip_reason: SkipReason | None = None


@dataclass(slots=True)
class Claim:
    """A chunk under lease. `expires_at` is in this process's monotonic seconds."""

    token: str
    mailing: MailingJob
    deliveries: list[ClaimedDelivery]
    expires_at: float


def find_mailing_job(connection: sa.Connection, mailing_id: int) -> MailingJob | None:
    row = connection.execute(
        sa.select(
            Mailing.id,
            Mailing.template_version_id,
            EmailTemplate.kind,
            Mailing.resets_portal_password,
            Mailing.resets_application_password,
        )
        .join(EmailTemplateVersion, EmailTemplateVersion.id == Mailing.template_version_id)
        .join(EmailTemplate, EmailTemplate.id == EmailTemplateVersion.template_id)
        .where(Mailing.id == mailing_id)
    ).one_or_none()
    return None if row is None else MailingJob(*row)


def due_deliveries(job: MailingJob, state: MailingState | None, now: datetime) -> sa.Select[int]:
    """Ids of the deliveries that may be claimed now, in the order they are due.

    A mailing that is paused or being cancelled only finishes what is in doubt. A user with
    credentials in another worker's hands waits for that delivery to end; so does one with
    credentials in doubt that this mailing's mail does not carry.
    """
    due = (
        sa.select(Delivery.id)
        .where(
            Delivery.mailing_id == job.id,
            Delivery.state == sa.literal_column("'queued'"),
            Delivery.next_attempt_at <= now,
        )
        .order_by(Delivery.next_attempt_at, Delivery.id)
    )
    if state is not MailingState.RUNNING:
        due = due.where(Delivery.in_doubt)
    if job.carries_credentials:
        other = sa.orm.aliased(Delivery)
        in_other_hands = other.state == sa.literal_column("'sending'")
        if not (job.resets_portal and job.resets_application):
            others = sa.orm.aliased(Mailing)
            carries_more = sa.exists().where(
                others.id == other.mailing_id, _carries_more_than(others, job)
            )
            in_other_hands = sa.or_(in_other_hands, sa.and_(other.in_doubt, carries_more))
        due = due.where(
            ~sa.exists().where(
                other.user_id == Delivery.user_id,
                other.id != Delivery.id,
                other.seal.is_not(None),
                in_other_hands,
            )
        )
    return due


def _carries_more_than(mailing: Any, job: MailingJob) -> sa.ColumnElement[bool]:
    """Whether `mailing`'s mails carry a password that those of `job` do not."""
    return sa.or_(
        sa.and_(mailing.resets_portal_password, sa.literal(not job.resets_portal)),
        sa.and_(mailing.resets_application_password, sa.literal(not job.resets_application)),
    )


def claim_deliveries(job: MailingJob, limit: int, message_domain: str) -> Claim | None:
    """Take up to `limit` due deliveries under a new lease, sealed and ready to send.

    Returns None when nothing is due. One transaction; credentials are made before it begins.
    """
    box = seals.sealer()
    fresh = [_make_sealed(box, job) for _ in range(limit)] if job.carries_credentials else []

    def work(connection: sa.Connection) -> Claim | None:
        return _claim(connection, job, limit, message_domain, iter(fresh))

    for _ in range(3):
        try:
            return run_transaction(work)
        except IntegrityError:
            # Another mailing has just sealed credentials for one of these users: look again.
            continue
    return None


SealedCredentials = tuple[Credentials, bytes, str | None]
"""Clear credentials, their seal, and the hash of the portal password."""


def _make_sealed(box: Any, job: MailingJob) -> SealedCredentials:
    made = seals.make_credentials(portal=job.resets_portal, application=job.resets_application)
    pending = passwords.hash_generated(made.portal) if made.portal else None
    return made, seals.seal(box, made), pending


def _claim(
    connection: sa.Connection,
    job: MailingJob,
    limit: int,
    message_domain: str,
    fresh: Iterable[SealedCredentials],
) -> Claim | None:
    now = utcnow()
    lease = get_settings().lease_seconds
    token = secrets.token_hex(16)
    started = time.monotonic()
    connection.execute(
        sa.insert(DeliveryClaim).values(
            token=token,
            mailing_id=job.id,
            worker=f"{socket.gethostname()}:{os.getpid()}",
            expires_at=now + timedelta(seconds=lease),
        )
    )
    state = connection.scalar(sa.select(Mailing.state).where(Mailing.id == job.id))
    # Not one statement with a sub-select: PostgreSQL may run that more than once, beyond the limit.
    due = due_deliveries(job, state, now).limit(limit)
    ids = connection.scalars(due.with_for_update(skip_locked=True, of=Delivery)).all()
    claimed = connection.execute(
        sa.update(Delivery)
        .where(Delivery.id.in_(ids), Delivery.state == DeliveryState.QUEUED)
        .values(state=DeliveryState.SENDING, claim_token=token)
        .execution_options(synchronize_session=False)
    ).rowcount
    if not claimed:
        connection.execute(sa.delete(DeliveryClaim).where(DeliveryClaim.token == token))
        return None
    deliveries = [_hand_over(row, now) for row in connection.execute(_recipients(token)).all()]
    if job.carries_credentials:
        _adopt_credentials(connection, job, token, deliveries)
    _seal_rows(connection, job, deliveries, fresh, now, message_domain)
    connection.execute(
        sa.update(Mailing)
        .where(Mailing.id == job.id)
        .values(
            queued=Mailing.queued - claimed,
            sending=Mailing.sending + claimed,
            started_at=sa.func.coalesce(Mailing.started_at, now),
        )
    )
    return Claim(token, job, deliveries, started + lease)


def _recipients(token: str) -> sa.Select[*tuple[Any, ...]]:
    """The claimed rows with what their mails say and what may have changed since."""
    return (
        sa.select(
            Delivery.id.label("delivery_id"),
            Delivery.user_id,
            Delivery.email.label("frozen_email"),
            Delivery.attempts,
            Delivery.message_id,
            Delivery.dated_at,
            Delivery.in_doubt,
            Delivery.application_password_set,
            Delivery.seal,
            Delivery.pending_hash,
            User.status,
            User.email_key,
            User.customer_id,
            Customer.status.label("customer_status"),
            *RECIPIENT_COLUMNS,
            Suppression.id.label("suppression_id"),
        )
        .join(User, User.id == Delivery.user_id)
        .outerjoin(Customer, Customer.id == User.customer_id)
        .outerjoin(Bundle, Bundle.id == User.bundle_id)
        .outerjoin(Suppression, Suppression.email_key == User.email_key)
        .where(Delivery.claim_token == token)
        .order_by(Delivery.next_attempt_at, Delivery.id)
    )


def _hand_over(row: sa.Row[Any], now: datetime) -> ClaimedDelivery:
    return ClaimedDelivery(
        id=row.delivery_id,
        user_id=row.user_id,
        customer_id=row.customer_id,
        email=row.frozen_email,
        attempts=row.attempts,
        message_id=row.message_id or "",
        dated_at=row.dated_at or now,
        in_doubt=row.in_doubt,
        application_password_set=row.application_password_set,
        pending_hash=row.pending_hash,
        credentials=Credentials(),
        recipient=row,
        skip_reason=_changed_since_confirmation(row),
    )


def _changed_since_confirmation(row: sa.Row[Any]) -> SkipReason | None:
    if row.status is UserStatus.DELETED or row.customer_status is CustomerStatus.DELETED:
        return SkipReason.DELETED
    if row.status is UserStatus.SUSPENDED or row.customer_status is CustomerStatus.SUSPENDED:
        return SkipReason.SUSPENDED
    if row.suppression_id is not None:
        return SkipReason.SUPPRESSED
    if row.email_key != fold(row.frozen_email):
        return SkipReason.ADDRESS_CHANGED
    return None


def _adopt_credentials(
    connection: sa.Connection, job: MailingJob, token: str, deliveries: list[ClaimedDelivery]
) -> None:
    """Take over credentials that an earlier delivery to the same user left in line.

    That mail may have arrived, so its password has to keep working: the newer mail carries the
    same one, and the older delivery ends as replaced. An older mail that carries more than the
    newer one is not replaced; it gets new credentials when its turn comes.
    """
    by_user = {
        delivery.user_id: delivery for delivery in deliveries if delivery.skip_reason is None
    }
    older = connection.execute(
        sa.select(
            Delivery.id,
            Delivery.mailing_id,
            Delivery.user_id,
            Delivery.seal,
            Delivery.pending_hash,
            Delivery.application_password_set,
            Delivery.in_doubt,
            _carries_more_than(Mailing, job).label("carries_more"),
        )
        .join(Mailing, Mailing.id == Delivery.mailing_id)
        .where(
            Delivery.user_id.in_(by_user),
            Delivery.seal.is_not(None),
            Delivery.state == DeliveryState.QUEUED,
        )
        .order_by(Delivery.mailing_id)
        .with_for_update(of=Delivery)
    ).all()
    for row in older:
        if row.carries_more:
            connection.execute(
                sa.update(Delivery)
                .where(Delivery.id == row.id)
                .values(
                    seal=None,
                    pending_hash=None,
                    message_id=None,
                    dated_at=None,
                    application_password_set=False,
                )
            )
            continue
        connection.execute(
            sa.update(Delivery)
            .where(Delivery.id == row.id)
            .values(
                state=DeliveryState.SKIPPED,
                skip_reason=SkipReason.REPLACED,
                seal=None,
                pending_hash=None,
            )
        )
        connection.execute(
            sa.update(Mailing)
            .where(Mailing.id == row.mailing_id)
            .values(queued=Mailing.queued - 1, skipped=Mailing.skipped + 1)
        )
        end_mailing_if_done(connection, row.mailing_id)
        if not row.in_doubt or row.pending_hash is None:
            continue
        heir = by_user[row.user_id]
        try:
            inherited = seals.unseal(seals.sealer(), row.seal)
        except SealBroken:
            _keep_unconfirmed(connection, row.user_id, row.pending_hash)
            continue
        made = seals.make_credentials(
            portal=job.resets_portal and not inherited.portal,
            application=job.resets_application and not inherited.application,
        )
        heir.credentials = Credentials(
            inherited.portal or made.portal, inherited.application or made.application
        )
        heir.pending_hash = row.pending_hash
        heir.in_doubt = True
        heir.application_password_set = row.application_password_set and not made.application
        connection.execute(
            sa.update(Delivery)
            .where(Delivery.id == heir.id, Delivery.claim_token == token)
            .values(in_doubt=True, application_password_set=heir.application_password_set)
        )


def _seal_rows(
    connection: sa.Connection,
    job: MailingJob,
    deliveries: list[ClaimedDelivery],
    fresh: Iterable[SealedCredentials],
    now: datetime,
    message_domain: str,
) -> None:
    """Give every delivery its Message-ID, Date and credentials before anything is sent."""
    box = seals.sealer()
    supply = iter(fresh)
    changes: list[dict[str, Any]] = []
    for delivery in deliveries:
        sealed: bytes | None = delivery.recipient.seal
        if delivery.skip_reason is not None:
            continue
        if sealed is not None:
            try:
                delivery.credentials = seals.unseal(box, sealed)
            except SealBroken:
                _keep_unconfirmed(connection, delivery.user_id, delivery.pending_hash)
                sealed, delivery.message_id, delivery.dated_at = None, "", now
                delivery.application_password_set = False
        if sealed is None and delivery.credentials != Credentials():
            sealed = seals.seal(box, delivery.credentials)
        elif sealed is None and job.carries_credentials:
            delivery.credentials, sealed, delivery.pending_hash = next(supply)
        if delivery.message_id and sealed == delivery.recipient.seal:
            continue
        delivery.message_id = delivery.message_id or (
            f"<{delivery.id}.{secrets.token_hex(8)}@{message_domain}>"
        )
        changes.append(
            {
                "b_id": delivery.id,
                "b_message_id": delivery.message_id,
                "b_dated_at": delivery.dated_at,
                "b_seal": sealed,
                "b_pending_hash": delivery.pending_hash,
            }
        )
    if changes:
        table = table_of(Delivery)
        connection.execute(
            sa.update(table)
            .where(table.c.id == sa.bindparam("b_id"))
            .values(
                message_id=sa.bindparam("b_message_id"),
                dated_at=sa.bindparam("b_dated_at"),
                seal=sa.bindparam("b_seal"),
                pending_hash=sa.bindparam("b_pending_hash"),
            ),
            changes,
        )


def _keep_unconfirmed(connection: sa.Connection, user_id: int, pending: str | None) -> None:
    """The key of a seal is gone, so its mail cannot be repeated; if it arrived, it still works."""
    if pending is not None:
        connection.execute(
            sa.update(User).where(User.id == user_id).values(unconfirmed_hash=pending)
        )


def renew_claims(tokens: Iterable[str]) -> dict[str, float]:
    """Extend the leases in `tokens`; returns those still held with their new monotonic expiry."""
    wanted = list(tokens)
    lease = get_settings().lease_seconds

    def work(connection: sa.Connection) -> dict[str, float]:
        started = time.monotonic()
        held = connection.scalars(
            sa.update(DeliveryClaim)
            .where(DeliveryClaim.token.in_(wanted))
            .values(expires_at=utcnow() + timedelta(seconds=lease))
            .returning(DeliveryClaim.token)
        )
        return dict.fromkeys(held, started + lease)

    return run_transaction(work)


def expire_claims() -> int:
    """Put the deliveries of dead workers back in line, in doubt; returns how many there were.

    A sealed delivery whose reader has meanwhile signed in with its password has arrived: it ends as
    sent.
    """

    def work(connection: sa.Connection) -> int:
        now = utcnow()
        dead = connection.execute(
            sa.delete(DeliveryClaim)
            .where(DeliveryClaim.expires_at < now)
            .returning(DeliveryClaim.token, DeliveryClaim.mailing_id)
        ).all()
        returned = 0
        for token, mailing_id in sorted(dead, key=lambda claim: claim.mailing_id):
            arrived = connection.execute(
                sa.update(Delivery)
                .where(
                    Delivery.claim_token == token,
                    Delivery.seal.is_not(None),
                    Delivery.pending_hash.is_(None),
                    sa.exists().where(
                        Mailing.id == Delivery.mailing_id, Mailing.resets_portal_password
                    ),
                )
                .values(
                    state=DeliveryState.SENT,
                    sent_at=now,
                    seal=None,
                    claim_token=None,
                    in_doubt=False,
                    answer=PROVED_BY_READER,
                )
            ).rowcount
            queued = connection.execute(
                sa.update(Delivery)
                .where(Delivery.claim_token == token)
                .values(state=DeliveryState.QUEUED, claim_token=None, in_doubt=True)
            ).rowcount
            connection.execute(
                sa.update(Mailing)
                .where(Mailing.id == mailing_id)
                .values(
                    sending=Mailing.sending - queued - arrived,
                    queued=Mailing.queued + queued,
                    sent=Mailing.sent + arrived,
                )
            )
            end_mailing_if_done(connection, mailing_id)
            returned += queued
        return returned

    return run_transaction(work)


def cancel_waiting(connection: sa.Connection, mailing_id: int) -> None:
    """Cancel what waits of a mailing that is being cancelled, but for what is in doubt.

    Rows that a worker is just claiming are passed over, or the two would wait for each other; they
    are cancelled when that worker hands them back.
    """
    waiting = (
        sa.select(Delivery.id)
        .where(
            Delivery.mailing_id == mailing_id,
            Delivery.state == DeliveryState.QUEUED,
            Delivery.in_doubt.is_(False),
        )
        .with_for_update(skip_locked=True)
    )
    if connection.dialect.name == "postgresql":
        waiting = sa.select(waiting.cte("waiting").c.id)
    cancelled = connection.execute(
        sa.update(Delivery)
        .where(Delivery.id.in_(waiting))
        .values(state=DeliveryState.CANCELLED, seal=None, pending_hash=None)
    ).rowcount
    connection.execute(
        sa.update(Mailing)
        .where(Mailing.id == mailing_id)
        .values(queued=Mailing.queued - cancelled, cancelled=Mailing.cancelled + cancelled)
    )
    end_mailing_if_done(connection, mailing_id)


def cancel_leftovers() -> None:
    """Cancel what a claim that came to nothing left waiting in mailings being cancelled."""

    def work(connection: sa.Connection) -> None:
        for mailing_id in connection.scalars(
            sa.select(Mailing.id)
            .where(Mailing.state == MailingState.CANCELLING, Mailing.queued > 0)
            .order_by(Mailing.id)
        ).all():
            cancel_waiting(connection, mailing_id)

    run_transaction(work)


def end_mailing_if_done(connection: sa.Connection, mailing_id: int) -> None:
    """Mark the mailing as finished, or as cancelled, once nothing of it is left to do."""
    connection.execute(
        sa.update(Mailing)
        .where(
            Mailing.id == mailing_id,
            Mailing.queued + Mailing.sending == 0,
            Mailing.state.in_([MailingState.RUNNING, MailingState.PAUSED, MailingState.CANCELLING]),
        )
        .values(
            state=sa.case(
                (Mailing.state == MailingState.CANCELLING, MailingState.CANCELLED.value),
                else_=MailingState.FINISHED.value,
            ),
            finished_at=utcnow(),
        )
    )
