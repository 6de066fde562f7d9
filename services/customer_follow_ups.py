"""Follow-ups: what a change of a customer's state brings about after its commit.

The platform is told that the tenant is suspended or resumed. Of a deleted customer everything
personal is wiped, some hundred users at a time, and its tenant is removed. A row that is due says
that something is left to do; a worker takes it under a lease by moving that time on, so that
nothing is lost whenever the worker dies. Every step finds what was done already.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import sqlalchemy as sa
from redis.exceptions import RedisError

from connectors import Connector, PlatformTenant
from extensions import db, get_settings, queues
from models import (
    AcceptedWelcome,
    Attachment,
    Customer,
    CustomerBundle,
    CustomerEmailTemplate,
    CustomerStatus,
    Delivery,
    DeliveryState,
    DirectDebit,
    DirectDebitNotice,
    GeneralParameters,
    GeneralParametersVersion,
    LocalPlatformAccount,
    Mailing,
    Passkey,
    PasskeyChallenge,
    PendingSignIn,
    PermissionProfile,
    RecoveryCode,
    RequestNotification,
    ResetLink,
    SecurityNotice,
    SelectedUser,
    SignInSession,
    SkipReason,
    SubscriptionRequest,
    TotpFactor,
    User,
    UserImport,
    UserImportPiece,
    UserImportRow,
    UserStatus,
    table_of,
    utcnow,
)
from services.actors import SYSTEM
from services.audit_events import insert_event
from services.bulk_rows import among
from services.mailing_ends import end_mailing_if_done
from services.platform_calls import ask_platform
from services.provisioning_steps import PlatformCall, StepFault
from services.transactions import run_transaction
from services.webhook_events import end_deliveries

log = logging.getLogger(__name__)

SLICE_SECONDS = 10.0
CHUNK = 500
"""Users that one transaction wipes, with their deliveries."""

_IMPORT_ROWS, _IMPORT_PIECES = 5000, 20
_MOST_AT_ONCE = 20
_LONGEST_ERROR = 500
_LONGEST_WAIT = 3600.0
_BUSY_WAIT = 15.0
_WIPED = "DELETED."
"""Begins the login of a wiped user. Logins are folded, so that nobody else's begins with it."""
_BEHIND_WIPED = "DELETED/"

_CUSTOMERS, _USERS = table_of(Customer), table_of(User)


class _LeaseLost(Exception):
    """Somebody changed the customer meanwhile."""


# --- Beginning -----------------------------------------------------------------------------------


def start(customer_id: int) -> None:
    """Ask a worker to look at a customer. Call it after the commit; harmless twice.

    The row is due, so the sweep finds it when the queue is down.
    """
    try:
        queues.enqueue("provisioning", "jobs.customers.follow_up", customer_id)
    except RedisError as error:
        log.warning(
            "customer %s waits for the sweep, the queue does not answer: %s",
            customer_id,
            type(error).__name__,
        )


def begin_due_deletions() -> int:
    """Delete the customers whose grace period is over; returns how many, a few at most.

    Their rows are wiped by the follow-ups that this makes due.
    """
    now = utcnow()
    with db.engine.connect() as connection:
        due = connection.scalars(
            sa.select(_CUSTOMERS.c.id)
            .where(_is_over(now))
            .order_by(_CUSTOMERS.c.delete_after, _CUSTOMERS.c.id)
            .limit(_MOST_AT_ONCE)
        ).all()
    return sum(run_transaction(partial(_begin, customer_id=each)) for each in due)


def _is_over(now: Any) -> sa.ColumnElement[bool]:
    over: sa.ColumnElement[bool] = _CUSTOMERS.c.delete_after <= now
    return over


def _begin(connection: sa.Connection, customer_id: int) -> bool:
    """From here on nobody can restore the customer."""
    now = utcnow()
    begun = connection.execute(
        sa.update(_CUSTOMERS)
        .where(_CUSTOMERS.c.id == customer_id, _is_over(now))
        .values(
            status=CustomerStatus.DELETED,
            deleted_at=now,
            delete_after=None,
            version=_CUSTOMERS.c.version + 1,
            follow_up_at=now,
            follow_up_attempts=0,
            follow_up_error="",
        )
        .returning(_CUSTOMERS.c.web_id)
    ).one_or_none()
    if begun is None:
        return False
    connection.execute(
        sa.update(CustomerBundle)
        .where(CustomerBundle.customer_id == customer_id)
        .values(status=CustomerStatus.DELETED)
    )
    insert_event(
        connection,
        SYSTEM,
        "customer.deleted",
        customer_id=customer_id,
        object_type="customer",
        object_id=customer_id,
        detail={
            "web_id": begun.web_id,
            "before": {"status": CustomerStatus.SUSPENDED.value},
            "after": {"status": CustomerStatus.DELETED.value},
        },
    )
    return True


def list_due() -> list[int]:
    """Customers with something left to do now, the longest due first; a few at most."""
    return list(
        db.session.scalars(
            sa.select(Customer.id)
            .where(Customer.follow_up_at <= utcnow())
            .order_by(Customer.follow_up_at, Customer.id)
            .limit(_MOST_AT_ONCE)
        )
    )


# --- One slice -----------------------------------------------------------------------------------


def follow_up(customer_id: int, interrupted: Callable[[], bool] = lambda: False) -> bool:
    """Work on what is due of a customer for one time slice; whether more can be done at once.

    `interrupted` is asked between two transactions and ends the slice early, for what goes first.
    """
    customer = run_transaction(lambda connection: _take(connection, customer_id))
    if customer is None:
        return False
    try:
        if customer.status is CustomerStatus.DELETED and not _wipe(customer, interrupted):
            return True
        _tell_platform(customer)
        run_transaction(lambda connection: _end(connection, customer))
    except StepFault as fault:
        run_transaction(partial(_put_off, customer=customer, fault=fault))
    except _LeaseLost:
        # The platform may have heard of the newer state first: it is told once more.
        run_transaction(lambda connection: _make_due(connection, customer_id))
        return True
    return False


def _make_due(connection: sa.Connection, customer_id: int) -> None:
    connection.execute(
        sa.update(_CUSTOMERS).where(_CUSTOMERS.c.id == customer_id).values(follow_up_at=utcnow())
    )


def _lease_end() -> Any:
    """Long enough for a call to the platform and a transaction."""
    return utcnow() + timedelta(seconds=get_settings().provisioning_timeout + SLICE_SECONDS)


def _take(connection: sa.Connection, customer_id: int) -> Any:
    """The customer's row under a lease, None where nothing is due."""
    return connection.execute(
        sa.update(_CUSTOMERS)
        .where(_CUSTOMERS.c.id == customer_id, _CUSTOMERS.c.follow_up_at <= utcnow())
        .values(follow_up_at=_lease_end())
        .returning(_CUSTOMERS)
    ).one_or_none()


def _hold(connection: sa.Connection, customer: Any, **values: Any) -> None:
    """Write to the customer as long as nobody has changed it since it was taken.

    With nothing to write it renews the lease. Raises _LeaseLost.
    """
    held = connection.execute(
        sa.update(_CUSTOMERS)
        .where(
            _CUSTOMERS.c.id == customer.id,
            _CUSTOMERS.c.version == customer.version,
        )
        .values(**(values or {"follow_up_at": _lease_end()}))
    )
    if not held.rowcount:
        raise _LeaseLost


def _put_off(connection: sa.Connection, customer: Any, fault: StepFault) -> None:
    """Try again later, longer each time and hourly in the end: it has to be done some day."""
    delays = get_settings().provisioning_retry_delays
    tried = customer.follow_up_attempts
    wait = delays[tried] if fault.transient and tried < len(delays) else _LONGEST_WAIT
    try:
        _hold(
            connection,
            customer,
            follow_up_at=utcnow() + timedelta(seconds=wait),
            follow_up_attempts=tried + 1,
            follow_up_error=fault.reason[:_LONGEST_ERROR],
        )
    except _LeaseLost:
        return


# --- The platform --------------------------------------------------------------------------------


def _tell_platform(customer: Any) -> None:
    """Have the platform do what the customer's state means. Raises StepFault."""
    tenant = PlatformTenant(
        customer.web_id, customer.name, customer.upn_suffix, customer.platform_reference
    )
    asks: dict[CustomerStatus, Callable[[Connector], Any]] = {
        CustomerStatus.ACTIVE: lambda connector: connector.resume_tenant(tenant),
        CustomerStatus.SUSPENDED: lambda connector: connector.suspend_tenant(tenant),
        CustomerStatus.DELETED: lambda connector: connector.remove_tenant(tenant),
    }
    if customer.status not in asks:
        return
    if not customer.platform_reference and customer.status is not CustomerStatus.DELETED:
        return  # It was set up before there was a platform, which knows nothing of it.
    ask_platform(PlatformCall(customer.connector, asks[customer.status]))


def _end(connection: sa.Connection, customer: Any) -> None:
    """Nothing is left to do; a deleted customer keeps its numbers and nothing else."""
    done = {"follow_up_at": None, "follow_up_attempts": 0, "follow_up_error": ""}
    if customer.status is not CustomerStatus.DELETED:
        _hold(connection, customer, **done)
        return
    _hold(connection, customer, **done, **_blank(customer.web_id))
    insert_event(
        connection,
        SYSTEM,
        "customer.wiped",
        customer_id=customer.id,
        object_type="customer",
        object_id=customer.id,
        detail={"web_id": customer.web_id},
    )


def _blank(web_id: str) -> dict[str, Any]:
    """What stands in a deleted customer's columns: names that no other customer can have.

    Keys of names are folded, and no web ID is; a UPN suffix begins with no hyphen.
    """
    return {
        "name": web_id,
        "name_key": web_id,
        "short_name": web_id,
        "short_name_key": web_id,
        "upn_suffix": f"-{web_id.lower()}",
        **dict.fromkeys(
            (
                "ani",
                "contact_name",
                "contact_email",
                "contact_phone",
                "company",
                "street",
                "postal_code",
                "city",
                "region",
                "country",
                "setup_instructions",
                "application_url",
                "platform_reference",
                "suspended_reason",
                "delete_reason",
            ),
            "",
        ),
        "options": {},
    }


# --- Wiping --------------------------------------------------------------------------------------


def _wipe(customer: Any, interrupted: Callable[[], bool]) -> bool:
    """Wipe the customer's users and what else is personal; whether all of that is done."""
    ends_at = time.monotonic() + SLICE_SECONDS
    while True:
        wiped = run_transaction(lambda connection: _wipe_chunk(connection, customer))
        wiped = wiped or run_transaction(lambda connection: _wipe_imports(connection, customer))
        if not wiped:
            break
        if time.monotonic() >= ends_at or interrupted():
            run_transaction(lambda connection: _hold(connection, customer, follow_up_at=utcnow()))
            return False
    run_transaction(lambda connection: _wipe_rest(connection, customer))
    return True


def _wipe_chunk(connection: sa.Connection, customer: Any) -> int:
    """Wipe up to CHUNK users; returns how many. Raises StepFault where mails are under way."""
    _hold(connection, customer)
    ids = _find_unwiped(connection, customer.id)
    if not ids:
        return 0
    sending = set(
        connection.scalars(
            sa.select(Delivery.user_id).where(
                among(connection, Delivery.user_id.expression, ids),
                Delivery.state == DeliveryState.SENDING,
            )
        )
    )
    ids = [each for each in ids if each not in sending]
    if not ids:
        raise StepFault("Mails to users of this customer are still under way.", transient=True)
    _end_waiting(connection, ids)
    _wipe_rows_of_users(connection, ids)
    connection.execute(
        sa.update(_USERS)
        .where(among(connection, _USERS.c.id, ids))
        .values(
            status=UserStatus.DELETED,
            bundle_id=None,
            profile_id=None,
            has_second_factor=False,
            last_sign_in_at=None,
            login=_WIPED + sa.cast(_USERS.c.id, sa.String),
            login_key=_WIPED + sa.cast(_USERS.c.id, sa.String),
            password_hash=None,
            unconfirmed_hash=None,
            version=_USERS.c.version + 1,
            **dict.fromkeys(
                (
                    "first_name",
                    "last_name",
                    "name_key",
                    "surname_key",
                    "email",
                    "email_key",
                    "extension",
                ),
                "",
            ),
        )
    )
    return len(ids)


def _find_unwiped(connection: sa.Connection, customer_id: int) -> list[int]:
    """By the index on logins, from both sides of those that are wiped already."""
    found: list[int] = []
    for condition in (_USERS.c.login_key < _WIPED, _USERS.c.login_key >= _BEHIND_WIPED):
        found += connection.scalars(
            sa.select(_USERS.c.id)
            .where(_USERS.c.customer_id == customer_id, condition)
            .order_by(_USERS.c.login_key)
            .limit(CHUNK - len(found))
        ).all()
        if len(found) == CHUNK:
            break
    return found


def _end_waiting(connection: sa.Connection, ids: Sequence[int]) -> None:
    """End what still waits to be mailed to these users, with its seal: in paused mailings, say."""
    waiting = connection.execute(
        sa.select(Delivery.id, Delivery.mailing_id)
        .where(
            among(connection, Delivery.user_id.expression, ids),
            Delivery.state == DeliveryState.QUEUED,
        )
        .order_by(Delivery.mailing_id, Delivery.id)
        .with_for_update()
    ).all()
    by_mailing: dict[int, list[int]] = {}
    for row in waiting:
        by_mailing.setdefault(row.mailing_id, []).append(row.id)
    for mailing_id, delivery_ids in by_mailing.items():
        ended = end_deliveries(
            connection,
            sa.update(Delivery)
            .where(among(connection, Delivery.id.expression, delivery_ids))
            .values(
                state=DeliveryState.SKIPPED,
                skip_reason=SkipReason.DELETED,
                seal=None,
                pending_hash=None,
                in_doubt=False,
            ),
            DeliveryState.SKIPPED,
        )
        connection.execute(
            sa.update(Mailing)
            .where(Mailing.id == mailing_id)
            .values(queued=Mailing.queued - ended, skipped=Mailing.skipped + ended)
        )
        end_mailing_if_done(connection, mailing_id)


def _wipe_rows_of_users(connection: sa.Connection, ids: Sequence[int]) -> None:
    """What other tables know of these users: addresses, answers that name them, ways in."""
    connection.execute(
        sa.update(Delivery)
        .where(among(connection, Delivery.user_id.expression, ids))
        .values(email="", answer="", bounce_reason="")
    )
    connection.execute(
        sa.update(SignInSession)
        .where(among(connection, SignInSession.behalf_id.expression, ids))
        .values(behalf_id=None, behalf_until=None)
    )
    for model, column in OF_USERS:
        connection.execute(
            sa.delete(model).where(among(connection, table_of(model).c[column], ids))
        )


OF_USERS: tuple[tuple[type[Any], str], ...] = (
    (SelectedUser, "user_id"),
    (SignInSession, "user_id"),
    (PendingSignIn, "user_id"),
    (PasskeyChallenge, "user_id"),
    (Passkey, "user_id"),
    (TotpFactor, "user_id"),
    (RecoveryCode, "user_id"),
    (SecurityNotice, "user_id"),
    (ResetLink, "user_id"),
    (LocalPlatformAccount, "user_id"),
)
"""Rows that go with their user. The local platform keeps its accounts beside the users."""

OF_CUSTOMERS: tuple[type[Any], ...] = (
    AcceptedWelcome,
    GeneralParametersVersion,
    GeneralParameters,
    DirectDebitNotice,
    DirectDebit,
    CustomerEmailTemplate,
    CustomerBundle,
    PermissionProfile,
    Attachment,
    UserImport,
)
"""Rows that go with their customer, in an order that foreign keys allow."""


def _wipe_imports(connection: sa.Connection, customer: Any) -> int:
    """Delete some rows and pieces of uploaded files; returns how many."""
    _hold(connection, customer)
    imports = sa.select(UserImport.id).where(UserImport.customer_id == customer.id)
    rows, pieces = table_of(UserImportRow), table_of(UserImportPiece)
    some = sa.select(rows.c.id).where(rows.c.import_id.in_(imports)).limit(_IMPORT_ROWS)
    deleted = connection.execute(sa.delete(rows).where(rows.c.id.in_(some))).rowcount
    if deleted:
        return deleted
    place = sa.tuple_(pieces.c.import_id, pieces.c.position)
    some_pieces = (
        sa.select(pieces.c.import_id, pieces.c.position)
        .where(pieces.c.import_id.in_(imports))
        .limit(_IMPORT_PIECES)
    )
    return connection.execute(sa.delete(pieces).where(place.in_(some_pieces))).rowcount


def _wipe_rest(connection: sa.Connection, customer: Any) -> None:
    """What belongs to the customer as a whole, and what its request knows of its contact."""
    _hold(connection, customer)
    for model in OF_CUSTOMERS:
        connection.execute(sa.delete(model).where(table_of(model).c.customer_id == customer.id))
    requests = table_of(SubscriptionRequest)
    request_id = connection.scalar(
        sa.select(requests.c.id).where(requests.c.customer_id == customer.id)
    )
    if request_id is None:
        return
    connection.execute(
        sa.update(requests)
        .where(requests.c.id == request_id)
        .values(
            draft={},
            password_hash=None,
            password_seal=None,
            **dict.fromkeys(
                (
                    "admin_login",
                    "ani",
                    "company",
                    "street",
                    "postal_code",
                    "city",
                    "region",
                    "country",
                    "contact_name",
                    "contact_phone",
                    "contact_email",
                    "contact_email_key",
                ),
                "",
            ),
        )
    )
    connection.execute(
        sa.update(RequestNotification)
        .where(RequestNotification.request_id == request_id)
        .values(email="", answer="")
    )
