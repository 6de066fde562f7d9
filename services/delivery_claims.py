"""Claims: the lease under which a worker holds a chunk of deliveries.

A claim is one row that the worker renews while it lives. When it expires, the sweep puts its
deliveries back in line *in doubt*: with their seal and Message-ID, so that a repeat is the same
message. The token on the delivery fences off a worker that comes back from the dead.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any, NamedTuple

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
    Lane,
    Mailing,
    MailingState,
    SkipReason,
    Suppression,
    TemplateKind,
    User,
    UserStatus,
    WebhookEvent,
    fold,
    table_of,
    utcnow,
)
from models.deliveries import in_state
from services import passwords, seals
from services.breaths import PIECE, breathe, paced
from services.bulk_rows import among_ids, find_by_index, ids_parameter, update_rows
from services.credential_adoption import adopt_credentials, carries_more_than, keep_unconfirmed
from services.recipients import BUNDLE_COLUMNS, CUSTOMER_COLUMNS, USER_COLUMNS
from services.seals import Credentials, SealBox, SealBroken
from services.transactions import run_transaction
from services.webhook_events import is_told

NO_CREDENTIALS = Credentials()
_DELIVERY = table_of(Delivery).c
_USER = table_of(User).c


def machine_name() -> str:
    """This machine as claims know it: those of one name can read each other's journals."""
    folder = hashlib.blake2b(os.fsencode(get_settings().var_dir), digest_size=4).hexdigest()
    return f"{socket.gethostname()[:64]}/{folder}"


def worker_name(pid: int) -> str:
    """A process of this machine as claims know it."""
    return f"{machine_name()}:{pid}"


@dataclass(frozen=True, slots=True)
class MailingJob:
    """What a worker needs to know of a mailing, read once per slice."""

    id: int
    template_version_id: int
    kind: TemplateKind
    resets_portal: bool
    resets_application: bool
    lane: Lane
    is_told: bool
    """Whether a webhook wants to know how deliveries end; decided once per slice."""

    @property
    def carries_credentials(self) -> bool:
        return self.resets_portal or self.resets_application


class ClaimedCustomer(NamedTuple):
    """What mails say of a customer, in the order of CUSTOMER_COLUMNS."""

    customer_name: str
    customer_language: str
    setup_instructions: str
    application_url: str
    connector: str
    attachments_version: int


class ClaimedBundle(NamedTuple):
    """What mails say of a bundle, in the order of BUNDLE_COLUMNS."""

    bundle_name: str
    services: str


@dataclass(slots=True)
class ClaimedDelivery:
    """A delivery in a worker's hands, with the clear credentials that never leave its memory."""

    id: int
    user_id: int
    email: str
    attempts: int
    message_id: str
    dated_at: datetime
    in_doubt: bool
    application_password_set: bool
    seal: bytes | None = field(repr=False)
    pending_hash: str | None = field(repr=False)
    credentials: Credentials = field(repr=False)
    recipient: Any = field(repr=False)
    customer: ClaimedCustomer | None = field(repr=False)
    bundle: ClaimedBundle | None = field(repr=False)
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
            Mailing.lane,
            is_told(WebhookEvent.DELIVERY_ENDED),
        )
        .join(EmailTemplateVersion, EmailTemplateVersion.id == Mailing.template_version_id)
        .join(EmailTemplate, EmailTemplate.id == EmailTemplateVersion.template_id)
        .where(Mailing.id == mailing_id)
    ).one_or_none()
    return None if row is None else MailingJob(*row)


def due_deliveries(
    job: MailingJob, state: MailingState | None, now: datetime
) -> sa.Select[*tuple[Any, ...]]:
    """Ids of the deliveries that may be claimed now, in the order they are due.

    A mailing that is paused or being cancelled only finishes what is in doubt. A user with
    credentials in another worker's hands waits for that delivery to end; so does one with
    credentials in doubt that this mailing's mail does not carry.
    """
    running = state is MailingState.RUNNING
    due = _due_statement(job.resets_portal, job.resets_application, running)
    return due.params(mailing_id=job.id, now=now)


@cache
def _due_statement(
    resets_portal: bool, resets_application: bool, running: bool
) -> sa.Select[*tuple[Any, ...]]:
    """Built once: building it takes longer than running it."""
    due = (
        sa.select(_DELIVERY.id)
        .where(
            _DELIVERY.mailing_id == sa.bindparam("mailing_id", type_=_DELIVERY.mailing_id.type),
            in_state(DeliveryState.QUEUED),
            _DELIVERY.next_attempt_at <= sa.bindparam("now", type_=_DELIVERY.next_attempt_at.type),
        )
        .order_by(_DELIVERY.next_attempt_at, _DELIVERY.user_id)
    )
    if not running:
        due = due.where(_DELIVERY.in_doubt)
    if resets_portal or resets_application:
        other = table_of(Delivery).alias("other").c
        in_other_hands = other.state == sa.literal_column("'sending'")
        if not (resets_portal and resets_application):
            others = table_of(Mailing).alias("others").c
            carries_more = sa.exists().where(
                others.id == other.mailing_id,
                carries_more_than(others, resets_portal, resets_application),
            )
            in_other_hands = sa.or_(in_other_hands, sa.and_(other.in_doubt, carries_more))
        # Not EXISTS, of which PostgreSQL makes a join of every due row to everything in flight; nor
        # IS NULL, which it takes for rare, so that it would look for due rows by way of all users.
        busy = sa.select(other.id).where(
            other.user_id == _DELIVERY.user_id,
            other.id != _DELIVERY.id,
            other.seal.is_not(None),
            in_other_hands,
        )
        due = due.where(sa.func.coalesce(busy.limit(1).scalar_subquery(), 0) <= 0)
    return due


def claim_deliveries(job: MailingJob, limit: int, message_domain: str) -> Claim | None:
    """Take up to `limit` due deliveries under a new lease, sealed and ready to send.

    Returns None when nothing is due. One transaction; credentials are made before it begins.
    """
    box = seals.sealer()
    fresh = _make_sealed(box, job, limit) if job.carries_credentials else []

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


def _make_sealed(box: SealBox, job: MailingJob, count: int) -> list[SealedCredentials]:
    none = [""] * count
    portals = passwords.generate_passwords(count) if job.resets_portal else none
    applications = passwords.generate_passwords(count) if job.resets_application else none
    made = list(map(Credentials, portals, applications))
    hashes = map(passwords.hash_generated, portals) if job.resets_portal else [None] * count
    sealed = (seals.seal(box, each) for each in paced(made))
    return list(zip(made, sealed, hashes, strict=True))


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
    # The first statement writes, so that SQLite's lock is taken before anything is read.
    connection.execute(
        _CLAIMING,
        {
            "token": token,
            "mailing_id": job.id,
            "worker": worker_name(os.getpid()),
            "expires_at": now + timedelta(seconds=lease),
        },
    )
    find_by_index(connection)
    rows = _find_due(connection, job, now, limit)
    if not rows:
        connection.execute(sa.delete(DeliveryClaim).where(DeliveryClaim.token == token))
        return None
    places = _Places(connection, rows)
    deliveries = [places.hand_over(row, now) for row in paced(rows)]
    if job.carries_credentials:
        adopt_credentials(connection, job, deliveries)
    _seal_rows(connection, job, token, deliveries, fresh, now, message_domain)
    connection.execute(_begin_statement(), {"which": job.id, "taken": len(rows), "now": now})
    return Claim(token, job, deliveries, started + lease)


_CLAIMING = sa.insert(table_of(DeliveryClaim))


@cache
def _begin_statement() -> sa.Update:
    mailings = table_of(Mailing)
    columns = mailings.c
    now = sa.bindparam("now", type_=columns.started_at.type)
    return (
        sa.update(mailings)
        .where(columns.id == sa.bindparam("which"))
        .values(
            queued=columns.queued - sa.bindparam("taken"),
            sending=columns.sending + sa.bindparam("taken"),
            started_at=sa.func.coalesce(columns.started_at, now),
        )
    )


class _DueRow(NamedTuple):
    """A due delivery and its user, in the order of `_OWN_COLUMNS` and `_OTHER_COLUMNS`.

    A named tuple, because reading a Row's attribute costs several times as much.
    """

    delivery_id: int
    user_id: int
    frozen_email: str
    attempts: int
    message_id: str | None
    dated_at: datetime | None
    in_doubt: bool
    application_password_set: bool
    seal: bytes | None
    pending_hash: str | None
    status: str
    email_key: str
    customer_id: int | None
    bundle_id: int | None
    suppression_id: int | None
    login: str
    first_name: str
    last_name: str
    email: str
    extension: str
    language: str


# Words are read as they are stored: turning each into its enum would cost more than the row.
_OWN_COLUMNS = (
    _DELIVERY.id,
    _DELIVERY.user_id,
    _DELIVERY.email,
    _DELIVERY.attempts,
    _DELIVERY.message_id,
    _DELIVERY.dated_at,
    _DELIVERY.in_doubt,
    _DELIVERY.application_password_set,
    _DELIVERY.seal,
    _DELIVERY.pending_hash,
)
_OTHER_COLUMNS = (
    sa.type_coerce(_USER.status, sa.String),
    _USER.email_key,
    _USER.customer_id,
    _USER.bundle_id,
    table_of(Suppression).c.id,
    *(_USER[column.name] for column in USER_COLUMNS),
)


_STATE = sa.select(table_of(Mailing).c.state).where(table_of(Mailing).c.id == sa.bindparam("which"))


def _find_due(
    connection: sa.Connection, job: MailingJob, now: datetime, limit: int
) -> list[_DueRow]:
    """The deliveries to claim, with what their mails say and what may have changed since.

    Not one UPDATE with a sub-select: PostgreSQL may run that more than once, beyond the limit.
    """
    state = connection.scalar(_STATE, {"which": job.id})
    running = state is MailingState.RUNNING
    found = connection.execute(
        _due_rows_statement(job.resets_portal, job.resets_application, running),
        {"mailing_id": job.id, "now": now, "most": limit},
    )
    rows: list[_DueRow] = []
    for some in found.partitions(PIECE):
        rows.extend(map(_DueRow._make, some))
        breathe()
    return rows


@cache
def _due_rows_statement(
    resets_portal: bool, resets_application: bool, running: bool
) -> sa.Select[*tuple[Any, ...]]:
    users, suppressions = table_of(User), table_of(Suppression)
    due = (
        _due_statement(resets_portal, resets_application, running)
        .limit(sa.bindparam("most", type_=sa.Integer))
        .with_only_columns(*_OWN_COLUMNS, _DELIVERY.next_attempt_at)
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    return (
        sa.select(*(due.c[column.name] for column in _OWN_COLUMNS), *_OTHER_COLUMNS)
        .join_from(due, users, users.c.id == due.c.user_id)
        .outerjoin(suppressions, suppressions.c.email_key == users.c.email_key)
        .order_by(due.c.next_attempt_at, due.c.user_id)
    )


@cache
def _customers_statement(dialect: str) -> sa.Select[*tuple[Any, ...]]:
    state = sa.type_coerce(Customer.status, sa.String)
    return sa.select(Customer.id, state, *CUSTOMER_COLUMNS).where(
        among_ids(dialect, Customer.id.expression)
    )


@cache
def _bundles_statement(dialect: str) -> sa.Select[*tuple[Any, ...]]:
    return sa.select(Bundle.id, *BUNDLE_COLUMNS).where(among_ids(dialect, Bundle.id.expression))


class _Places:
    """The customers and bundles of a chunk, read once each instead of with every row."""

    def __init__(self, connection: sa.Connection, rows: Sequence[_DueRow]) -> None:
        self.customers: dict[int | None, ClaimedCustomer] = {}
        self.customer_states: dict[int | None, str] = {}
        dialect = connection.dialect.name
        wanted = {row.customer_id for row in rows if row.customer_id is not None}
        for customer_id, state, *values in connection.execute(
            _customers_statement(dialect), {"ids": ids_parameter(connection, wanted)}
        ):
            self.customers[customer_id] = ClaimedCustomer(*values)
            self.customer_states[customer_id] = state
        wanted = {row.bundle_id for row in rows if row.bundle_id is not None}
        self.bundles: dict[int | None, ClaimedBundle] = {
            bundle_id: ClaimedBundle(*values)
            for bundle_id, *values in connection.execute(
                _bundles_statement(dialect), {"ids": ids_parameter(connection, wanted)}
            )
        }

    def hand_over(self, row: _DueRow, now: datetime) -> ClaimedDelivery:
        return ClaimedDelivery(
            row.delivery_id,
            row.user_id,
            row.frozen_email,
            row.attempts,
            row.message_id or "",
            row.dated_at or now,
            row.in_doubt,
            row.application_password_set,
            row.seal,
            row.pending_hash,
            NO_CREDENTIALS,
            row,
            self.customers.get(row.customer_id),
            self.bundles.get(row.bundle_id),
            _changed_since_confirmation(row, self.customer_states.get(row.customer_id)),
        )


def _changed_since_confirmation(row: _DueRow, customer_state: str | None) -> SkipReason | None:
    if row.status == UserStatus.DELETED or customer_state == CustomerStatus.DELETED:
        return SkipReason.DELETED
    if row.status == UserStatus.SUSPENDED or customer_state == CustomerStatus.SUSPENDED:
        return SkipReason.SUSPENDED
    if row.suppression_id is not None:
        return SkipReason.SUPPRESSED
    if row.email != row.frozen_email and row.email_key != fold(row.frozen_email):
        return SkipReason.ADDRESS_CHANGED
    return None


def _random_words(count: int) -> Iterator[str]:
    """So many words of 16 hexadecimal digits, which cost less than one by one."""
    digits = secrets.token_hex(8 * count)
    return (digits[at : at + 16] for at in range(0, len(digits), 16))


def _seal_rows(
    connection: sa.Connection,
    job: MailingJob,
    token: str,
    deliveries: list[ClaimedDelivery],
    fresh: Iterable[SealedCredentials],
    now: datetime,
    message_domain: str,
) -> None:
    """Put the rows under the claim, with Message-ID, Date and credentials, before any is sent."""
    box = seals.sealer()
    supply = iter(fresh)
    words = _random_words(len(deliveries))
    as_they_are: list[tuple[int]] = []
    sealed_rows: list[tuple[Any, ...]] = []
    for delivery in paced(deliveries):
        found = delivery.seal
        sealed = found
        if delivery.skip_reason is not None:
            as_they_are.append((delivery.id,))
            continue
        if sealed is not None:
            try:
                delivery.credentials = seals.unseal(box, sealed)
            except SealBroken:
                keep_unconfirmed(connection, delivery.user_id, delivery.pending_hash)
                sealed, delivery.message_id, delivery.dated_at = None, "", now
                delivery.application_password_set = False
        if sealed is None and delivery.credentials != NO_CREDENTIALS:
            sealed = seals.seal(box, delivery.credentials)
        elif sealed is None and job.carries_credentials:
            delivery.credentials, sealed, delivery.pending_hash = next(supply)
        if delivery.message_id and sealed == found:
            as_they_are.append((delivery.id,))
            continue
        delivery.message_id = (
            delivery.message_id or f"<{delivery.id}.{next(words)}@{message_domain}>"
        )
        sealed_rows.append(
            (
                delivery.id,
                delivery.message_id,
                delivery.dated_at,
                sealed,
                delivery.pending_hash,
            )
        )
    taken = {"state": DeliveryState.SENDING, "claim_token": token}
    table, waits = table_of(Delivery), {"state": DeliveryState.QUEUED}
    count = update_rows(connection, table, (), as_they_are, same=taken, where=waits)
    count += update_rows(
        connection,
        table,
        ("message_id", "dated_at", "seal", "pending_hash"),
        sealed_rows,
        same=taken,
        where=waits,
    )
    if count != len(deliveries):
        raise RuntimeError("deliveries changed hands while they were being claimed")


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
