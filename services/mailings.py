"""Mailings: who will get a mail, the confirmation that freezes them, and what one may do since."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import aliased, joinedload

from extensions import db, get_settings
from models import (
    Bundle,
    Customer,
    CustomerStatus,
    Delivery,
    DeliveryState,
    EmailTemplate,
    EmailTemplateVersion,
    Lane,
    Mailing,
    MailingState,
    SkipReason,
    Suppression,
    User,
    UserStatus,
    utcnow,
)
from models.mailings import COUNTERS
from services import email_templates, recipients
from services.actors import Actor, Permission
from services.audit_events import record_event
from services.csv_export import as_text
from services.delivery_claims import end_mailing_if_done
from services.errors import Conflict, InvalidInput, NotFound
from services.messages import RenderedMessage
from services.paging import Page, keyset_page
from services.seals import Credentials

_ENDED_UNSENT = (DeliveryState.FAILED, DeliveryState.SKIPPED, DeliveryState.CANCELLED)
_CONFIRMATION = re.compile(r"[A-Za-z0-9_-]{16,64}")


@dataclass(frozen=True, slots=True)
class Recipient:
    """One selected user with what would become of the mail to him.

    `recently_mailed` says that he had this template in the last minutes and could get it again.
    """

    user_id: int
    name: str
    login: str
    email: str
    skip_reason: SkipReason | None
    recently_mailed: bool


@dataclass(frozen=True, slots=True)
class MailingPreview:
    """What a confirmation page shows; `message` is None when nobody would get the mail."""

    template: EmailTemplate
    version: EmailTemplateVersion
    resets_portal: bool
    resets_application: bool
    recipients: list[Recipient]
    message: RenderedMessage | None
    first: Recipient | None

    @property
    def to_send(self) -> list[Recipient]:
        return [each for each in self.recipients if each.skip_reason is None]

    @property
    def skipped(self) -> list[Recipient]:
        return [each for each in self.recipients if each.skip_reason is not None]

    @property
    def recently_mailed(self) -> list[Recipient]:
        return [each for each in self.recipients if each.recently_mailed]


def check_selection_size(user_ids: Sequence[int]) -> None:
    """Raise InvalidInput for no users, or more than a selection may mail."""
    limit = get_settings().selection_limit
    if not user_ids:
        raise InvalidInput("users", "No user is selected. Tick at least one.")
    if len(user_ids) > limit:
        raise InvalidInput(
            "users",
            f"{len(user_ids):,} users are selected. From the Users tab you can mail up to {limit} "
            "at a time. For more, your service provider runs the bulk command "
            "$$RESEND WELCOME EMAIL$$ <bundle>|<customer> in the maintenance command window.",
        )


def preview_mailing(
    actor: Actor,
    customer: Customer,
    template_id: int,
    user_ids: Sequence[int],
    *,
    include_recent: bool,
) -> MailingPreview:
    """Who would get the template and who would not, with the first mail as it will look.

    Raises InvalidInput for the number of users, NotFound for the template or a user out of scope.
    """
    actor.require(Permission.MAILINGS_SEND)
    check_selection_size(user_ids)
    template = email_templates.get_template_for(customer, template_id)
    version = email_templates.get_current_version(template)
    prepared = email_templates.prepare_texts(version.id)
    rows = db.session.execute(
        sa.select(
            User.id.label("user_id"),
            _skip_reason(template, include_recent=include_recent).label("skip_reason"),
            _skip_reason(template, include_recent=False).label("strict_reason"),
            *recipients.RECIPIENT_COLUMNS,
        )
        .join(Customer, Customer.id == User.customer_id)
        .outerjoin(Bundle, Bundle.id == User.bundle_id)
        .where(User.customer_id == customer.id, User.id.in_(user_ids))
        .order_by(User.name_key, User.id)
    ).all()
    _require_all_found(rows, user_ids)
    listed = [
        Recipient(
            row.user_id,
            recipients.full_name(row) or row.login,
            row.login,
            row.email,
            SkipReason(row.skip_reason) if row.skip_reason else None,
            row.strict_reason == SkipReason.RECENTLY_MAILED,
        )
        for row in rows
    ]
    first = next((row for row in rows if row.skip_reason is None), None)
    message = None
    if first is not None:
        language = recipients.pick_language(first, prepared)
        hidden = Credentials(recipients.HIDDEN, recipients.HIDDEN)
        message = prepared[language].preview(recipients.placeholder_values(first, hidden))
    resets_portal, resets_application = _resets(prepared.values())
    return MailingPreview(
        template=template,
        version=version,
        resets_portal=resets_portal,
        resets_application=resets_application,
        recipients=listed,
        message=message,
        first=next((each for each in listed if each.skip_reason is None), None),
    )


def confirm_mailing(
    actor: Actor,
    customer: Customer,
    template_version_id: int,
    user_ids: Sequence[int],
    *,
    include_recent: bool,
    confirmation: str,
) -> Mailing:
    """Freeze the recipients and accept the mailing; the caller enqueues `deliver_mailing` after.

    `confirmation` is the random word of the page that asked. The same actor's same word gives the
    mailing it made before, so that a second click or a reload sends nothing twice.
    Raises InvalidInput, NotFound, or Conflict when the template was archived meanwhile.
    """
    actor.require(Permission.MAILINGS_SEND)
    if not _CONFIRMATION.fullmatch(confirmation):
        raise InvalidInput("confirmation", "This page is incomplete. Open it again from Users.")
    if (made := _find_confirmed(actor, customer, confirmation)) is not None:
        return made
    check_selection_size(user_ids)
    version = db.session.get(EmailTemplateVersion, template_version_id)
    if version is None:
        raise NotFound("There is no such version of an e-mail template.")
    template = email_templates.get_template_for(customer, version.template_id)
    resets_portal, resets_application = _resets(email_templates.prepare_texts(version.id).values())
    mailing = Mailing(
        customer_id=customer.id,
        template_version_id=version.id,
        created_by_id=actor.user_id,
        confirmation=confirmation,
        lane=Lane.INTERACTIVE,
        state=MailingState.RUNNING,
        resets_portal_password=resets_portal,
        resets_application_password=resets_application,
    )
    db.session.add(mailing)
    try:
        db.session.flush()
    except IntegrityError:
        db.session.rollback()
        made = _find_confirmed(actor, customer, confirmation)
        if made is None:
            raise
        return made
    audience = sa.and_(User.customer_id == customer.id, User.id.in_(user_ids))
    _freeze_recipients(mailing, template, audience, include_recent=include_recent)
    if mailing.total != len(set(user_ids)):
        db.session.rollback()
        raise NotFound("One of the selected users is no longer there. Go back to Users.")
    if resets_portal:
        _replace_older(mailing)
    record_event(
        actor,
        "mailing.confirmed",
        customer_id=customer.id,
        object_type="mailing",
        object_id=mailing.id,
        detail={
            "template": template.name,
            "version": version.number,
            "recipients": mailing.queued,
            "skipped": mailing.skipped,
        },
    )
    db.session.commit()
    return mailing


def _find_confirmed(actor: Actor, customer: Customer, confirmation: str) -> Mailing | None:
    made = db.session.scalar(
        sa.select(Mailing).where(
            Mailing.created_by_id == actor.user_id, Mailing.confirmation == confirmation
        )
    )
    if made is not None and made.customer_id != customer.id:
        raise Conflict("This page has been used for another customer. Open it again from Users.")
    return made


def _require_all_found(rows: Sequence[Any], user_ids: Sequence[int]) -> None:
    if len(rows) != len(set(user_ids)):
        raise NotFound("One of the selected users is no longer there. Go back to Users.")


def _resets(prepared: Iterable[Any]) -> tuple[bool, bool]:
    """Whether the texts carry, in any language, the portal and the application password."""
    carried: set[str] = set()
    for message in prepared:
        carried |= message.secrets
    return "portal password" in carried, "application password" in carried


def _skip_reason(template: EmailTemplate, *, include_recent: bool) -> sa.ColumnElement[str | None]:
    """Why a user gets no mail, as SQL over users joined with customers; NULL when he gets it."""
    recent = utcnow() - timedelta(minutes=get_settings().recent_mail_minutes)
    suppressed = sa.exists().where(Suppression.email_key == User.email_key)
    recently_mailed = sa.exists(
        sa.select(Delivery.id)
        .join(Mailing, Mailing.id == Delivery.mailing_id)
        .join(EmailTemplateVersion, EmailTemplateVersion.id == Mailing.template_version_id)
        .where(
            Delivery.user_id == User.id,
            Delivery.created_at > recent,
            EmailTemplateVersion.template_id == template.id,
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


def _freeze_recipients(
    mailing: Mailing,
    template: EmailTemplate,
    audience: sa.ColumnElement[bool],
    *,
    include_recent: bool,
) -> None:
    """Write the deliveries with one INSERT … SELECT, and the counters."""
    now = utcnow()
    source = (
        sa.select(
            User.id.label("user_id"),
            User.email.label("email"),
            _skip_reason(template, include_recent=include_recent).label("skip_reason"),
        )
        .join(Customer, Customer.id == User.customer_id)
        .where(audience)
        .subquery()
    )
    db.session.execute(
        sa.insert(Delivery).from_select(
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
                sa.literal(mailing.id),
                source.c.user_id,
                source.c.email,
                sa.case(
                    (source.c.skip_reason.is_(None), DeliveryState.QUEUED.value),
                    else_=DeliveryState.SKIPPED.value,
                ),
                source.c.skip_reason,
                sa.literal(0),
                sa.literal(now, Delivery.created_at.type),
                sa.literal(now, Delivery.created_at.type),
            ).order_by(source.c.user_id),
            include_defaults=False,
        )
    )
    counts = dict(
        db.session.execute(
            sa.select(Delivery.state, sa.func.count())
            .where(Delivery.mailing_id == mailing.id)
            .group_by(Delivery.state)
        ).all()
    )
    mailing.queued = counts.get(DeliveryState.QUEUED, 0)
    mailing.skipped = counts.get(DeliveryState.SKIPPED, 0)
    mailing.total = mailing.queued + mailing.skipped
    if not mailing.queued:
        mailing.state = MailingState.FINISHED
        mailing.finished_at = now
    db.session.flush()


def _replace_older(mailing: Mailing) -> None:
    """Take these recipients out of older mailings whose mail has certainly not arrived yet.

    Their password would be reset twice, and the older mail would carry one that no longer works.
    """
    mine = sa.select(Delivery.user_id).where(
        Delivery.mailing_id == mailing.id, Delivery.state == DeliveryState.QUEUED
    )
    older = db.session.scalars(
        sa.select(Mailing.id)
        .where(
            Mailing.id != mailing.id,
            Mailing.queued + Mailing.sending > 0,
            Mailing.resets_portal_password,
        )
        .order_by(Mailing.id)
    ).all()
    for older_id in older:
        replaced = (
            db.session.connection()
            .execute(
                sa.update(Delivery)
                .where(
                    Delivery.mailing_id == older_id,
                    Delivery.state == DeliveryState.QUEUED,
                    Delivery.in_doubt.is_(False),
                    Delivery.user_id.in_(mine),
                )
                .values(
                    state=DeliveryState.SKIPPED,
                    skip_reason=SkipReason.REPLACED,
                    seal=None,
                    pending_hash=None,
                )
            )
            .rowcount
        )
        if replaced:
            db.session.connection().execute(
                sa.update(Mailing)
                .where(Mailing.id == older_id)
                .values(queued=Mailing.queued - replaced, skipped=Mailing.skipped + replaced)
            )
            end_mailing_if_done(db.session.connection(), older_id)


# --- Reading ---------------------------------------------------------------------------------


def get_mailing(actor: Actor, customer: Customer, mailing_id: int) -> Mailing:
    """A mailing of the customer. Raises NotFound, Forbidden."""
    actor.require(Permission.MAILINGS_READ)
    mailing = db.session.get(Mailing, mailing_id, populate_existing=True)
    if mailing is None or mailing.customer_id != customer.id:
        raise NotFound(f"{customer.name} has no such mailing.")
    return mailing


def list_mailings(
    actor: Actor, customer: Customer, *, size: int = 25, cursor: str = ""
) -> Page[Mailing]:
    """A page of the customer's mailings, newest first, with template and author loaded."""
    actor.require(Permission.MAILINGS_READ)
    template = joinedload(Mailing.template_version).joinedload(EmailTemplateVersion.template)
    return _page_by_id(
        sa.select(Mailing)
        .where(Mailing.customer_id == customer.id)
        .options(template, joinedload(Mailing.created_by)),
        Mailing,
        descending=True,
        size=size,
        cursor=cursor,
    )


def list_deliveries(
    mailing: Mailing, *, state: DeliveryState | None = None, size: int = 50, cursor: str = ""
) -> Page[Delivery]:
    """A page of a mailing's deliveries in the order they were frozen, with their users loaded."""
    query = sa.select(Delivery).where(Delivery.mailing_id == mailing.id)
    if state is not None:
        query = query.where(Delivery.state == state)
    return _page_by_id(query.options(joinedload(Delivery.user)), Delivery, size=size, cursor=cursor)


def _page_by_id(
    query: sa.Select[Any],
    model: type[Mailing] | type[Delivery],
    *,
    size: int,
    cursor: str,
    descending: bool = False,
) -> Page[Any]:
    row_id = model.__table__.c.id
    return keyset_page(
        lambda wanted: db.session.scalars(wanted).all(),
        query,
        key=row_id,
        row_id=row_id,
        key_of=lambda row: (str(row.id), row.id),
        parse_key=_parse_id,
        descending=descending,
        size=size,
        cursor=cursor,
    )


def _parse_id(raw: str) -> int:
    value = int(raw) if len(raw) < 20 else -1
    if not 0 <= value < 2**63:
        raise ValueError("not the id of a row")
    return value


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


def newest_failures(mailing: Mailing, size: int = 5) -> list[Delivery]:
    """The last failed deliveries, newest first."""
    return list(
        db.session.scalars(
            sa.select(Delivery)
            .where(Delivery.mailing_id == mailing.id, Delivery.state == DeliveryState.FAILED)
            .options(joinedload(Delivery.user))
            .order_by(Delivery.id.desc())
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
                Delivery.state.in_(_ENDED_UNSENT),
                Delivery.application_password_set,
                ~mended,
            )
            .options(joinedload(Delivery.user))
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
    done = mailing.sent + mailing.failed
    if mailing.started_at is None or not done:
        return Pace(0.0, None)
    elapsed = ((mailing.finished_at or now or utcnow()) - mailing.started_at).total_seconds()
    rate = done / max(elapsed, 0.001)
    return Pace(rate, round(mailing.waiting / rate) if mailing.is_open else None)


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
)


def export_deliveries(actor: Actor, mailing: Mailing) -> Iterator[tuple[str, ...]]:
    """Rows of EXPORT_HEADER, one per recipient in the order of the list.

    The export is audited when it begins. Rows are read in batches, so memory stays flat.
    """
    actor.require(Permission.MAILINGS_READ)
    _record_action(actor, mailing, "mailing.exported", {"recipients": mailing.total})
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
        )
        .join(User, User.id == Delivery.user_id)
        .where(Delivery.mailing_id == mailing_id)
        .order_by(Delivery.id)
        .execution_options(yield_per=500)
    )
    with db.engine.connect() as connection:
        for row in connection.execute(rows):
            yield tuple(as_text(value) for value in row)


# --- Acting ----------------------------------------------------------------------------------


def pause_mailing(actor: Actor, mailing: Mailing) -> None:
    """Stop handing out deliveries; those under way end. Raises Conflict unless it runs."""
    _change_state(actor, mailing, {MailingState.RUNNING}, MailingState.PAUSED, "mailing.paused")


def resume_mailing(actor: Actor, mailing: Mailing) -> None:
    """Go on; the caller enqueues `deliver_mailing`. Raises Conflict unless it is paused."""
    _change_state(actor, mailing, {MailingState.PAUSED}, MailingState.RUNNING, "mailing.resumed")


def cancel_mailing(actor: Actor, mailing: Mailing) -> None:
    """Cancel what waits; mails that may already be with the server are finished first.

    Raises Conflict unless the mailing is open.
    """
    _change_state(
        actor,
        mailing,
        {MailingState.RUNNING, MailingState.PAUSED},
        MailingState.CANCELLING,
        "mailing.cancelled",
        and_then=_cancel_waiting,
    )


def _cancel_waiting(connection: sa.Connection, mailing_id: int) -> None:
    cancelled = connection.execute(
        sa.update(Delivery)
        .where(
            Delivery.mailing_id == mailing_id,
            Delivery.state == DeliveryState.QUEUED,
            Delivery.in_doubt.is_(False),
        )
        .values(state=DeliveryState.CANCELLED, seal=None, pending_hash=None)
    ).rowcount
    connection.execute(
        sa.update(Mailing)
        .where(Mailing.id == mailing_id)
        .values(queued=Mailing.queued - cancelled, cancelled=Mailing.cancelled + cancelled)
    )
    end_mailing_if_done(connection, mailing_id)


def retry_failed(actor: Actor, mailing: Mailing) -> int:
    """Put the failed deliveries back in line with new credentials; the caller enqueues.

    Returns how many. Raises Conflict when none has failed or the mailing was cancelled.
    """
    actor.require(Permission.MAILINGS_SEND)
    connection = db.session.connection()
    retried = connection.execute(
        sa.update(Delivery)
        .where(Delivery.mailing_id == mailing.id, Delivery.state == DeliveryState.FAILED)
        .values(
            state=DeliveryState.QUEUED,
            attempts=0,
            next_attempt_at=utcnow(),
            message_id=None,
            dated_at=None,
            in_doubt=False,
            application_password_set=False,
            answer_code=None,
            answer="",
        )
    ).rowcount
    changed = connection.execute(
        sa.update(Mailing)
        .where(
            Mailing.id == mailing.id,
            Mailing.state.in_([MailingState.RUNNING, MailingState.PAUSED, MailingState.FINISHED]),
        )
        .values(
            failed=Mailing.failed - retried,
            queued=Mailing.queued + retried,
            state=MailingState.RUNNING,
            finished_at=None,
        )
    ).rowcount
    if not retried or not changed:
        db.session.rollback()
        raise Conflict(
            "Nothing in this mailing has failed." if not retried else "This mailing is cancelled."
        )
    _record_action(actor, mailing, "mailing.retried", {"deliveries": retried})
    db.session.commit()
    return retried


def _change_state(
    actor: Actor,
    mailing: Mailing,
    allowed: set[MailingState],
    state: MailingState,
    event: str,
    and_then: Any = None,
) -> None:
    actor.require(Permission.MAILINGS_SEND)
    connection = db.session.connection()
    changed = connection.execute(
        sa.update(Mailing)
        .where(Mailing.id == mailing.id, Mailing.state.in_(allowed))
        .values(state=state)
    ).rowcount
    if not changed:
        db.session.rollback()
        db.session.refresh(mailing)
        raise Conflict(f"This mailing is {mailing.state}, so this cannot be done any more.")
    if and_then is not None:
        and_then(connection, mailing.id)
    _record_action(actor, mailing, event, {name: getattr(mailing, name) for name in COUNTERS})
    db.session.commit()


def _record_action(actor: Actor, mailing: Mailing, event: str, detail: dict[str, Any]) -> None:
    record_event(
        actor,
        event,
        customer_id=mailing.customer_id,
        object_type="mailing",
        object_id=mailing.id,
        detail=detail,
    )
