"""Credentials that an older delivery left in line, taken over by a newer mail to the same user.

The older mail may have arrived, so its password has to keep working: the newer mail carries the
same one. One user has credentials in one delivery at a time; an index sees to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from models import Delivery, DeliveryState, Mailing, SkipReason, User, table_of
from services import seals
from services.bulk_rows import among_ids, ids_parameter
from services.mailing_ends import end_mailing_if_done
from services.seals import Credentials, SealBroken
from services.webhook_events import note_ended

if TYPE_CHECKING:
    from services.delivery_claims import ClaimedDelivery, MailingJob


def carries_more_than(
    mailing: Any, resets_portal: bool, resets_application: bool
) -> sa.ColumnElement[bool]:
    """Whether `mailing`'s mails carry a password that those of another one do not."""
    return sa.or_(
        sa.and_(mailing.resets_portal_password, sa.literal(not resets_portal)),
        sa.and_(mailing.resets_application_password, sa.literal(not resets_application)),
    )


def adopt_credentials(
    connection: sa.Connection, job: MailingJob, deliveries: Sequence[ClaimedDelivery]
) -> None:
    """End older deliveries that wait with a seal; what is in doubt goes on in `deliveries`.

    An older mail that carries more than the newer one is not replaced; it gets new credentials
    when its turn comes.
    """
    heirs = {each.user_id: each for each in deliveries if each.skip_reason is None}
    own = {each.id for each in deliveries}
    older = connection.execute(
        _older_statement(connection.dialect.name, job.resets_portal, job.resets_application),
        {"ids": ids_parameter(connection, heirs)},
    ).all()
    replaced = []
    for row in older:
        if row.id in own:
            continue
        if row.carries_more:
            _forget_credentials(connection, row.id)
            continue
        _replace(connection, row)
        replaced.append(row.id)
        if row.in_doubt and row.pending_hash is not None:
            _hand_down(connection, job, row, heirs[row.user_id])
    if job.is_told and replaced:
        note_ended(connection, replaced)


@cache
def _older_statement(
    dialect: str, resets_portal: bool, resets_application: bool
) -> sa.Select[*tuple[Any, ...]]:
    delivery, mailing = table_of(Delivery).c, table_of(Mailing).c
    return (
        sa.select(
            delivery.id,
            delivery.mailing_id,
            delivery.user_id,
            delivery.seal,
            delivery.pending_hash,
            delivery.application_password_set,
            delivery.in_doubt,
            carries_more_than(mailing, resets_portal, resets_application).label("carries_more"),
        )
        .join_from(table_of(Delivery), table_of(Mailing), mailing.id == delivery.mailing_id)
        .where(
            among_ids(dialect, delivery.user_id),
            delivery.seal.is_not(None),
            delivery.state == sa.literal_column("'queued'"),
        )
        .order_by(delivery.mailing_id)
        .with_for_update(of=table_of(Delivery))
    )


def _forget_credentials(connection: sa.Connection, delivery_id: int) -> None:
    connection.execute(
        sa.update(Delivery)
        .where(Delivery.id == delivery_id)
        .values(
            seal=None,
            pending_hash=None,
            message_id=None,
            dated_at=None,
            application_password_set=False,
        )
    )


def _replace(connection: sa.Connection, row: Any) -> None:
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


def _hand_down(connection: sa.Connection, job: MailingJob, row: Any, heir: ClaimedDelivery) -> None:
    try:
        inherited = seals.unseal(seals.sealer(), row.seal)
    except SealBroken:
        keep_unconfirmed(connection, row.user_id, row.pending_hash)
        return
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
        .where(Delivery.id == heir.id)
        .values(in_doubt=True, application_password_set=heir.application_password_set)
    )


def keep_unconfirmed(connection: sa.Connection, user_id: int, pending: str | None) -> None:
    """The key of a seal is gone, so its mail cannot be repeated; if it arrived, it still works."""
    if pending is not None:
        connection.execute(
            sa.update(User).where(User.id == user_id).values(unconfirmed_hash=pending)
        )
