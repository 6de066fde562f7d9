"""Confirming a mailing: who will get it, what it says, and the moment that freezes both."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from extensions import db, get_settings
from models import (
    Attachment,
    Bundle,
    Customer,
    EmailTemplate,
    EmailTemplateVersion,
    Lane,
    Mailing,
    MailingState,
    SkipReason,
    TemplateKind,
    User,
)
from services import email_templates, recipients, setup_instructions
from services.actors import Actor, Permission
from services.errors import Conflict, InvalidInput, NotFound
from services.mailing_freezes import NAMED_USERS, Audience, freeze_mailing, skip_reason
from services.messages import PreparedMessage, RenderedMessage
from services.seals import Credentials

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
    files: list[Attachment]
    """What goes with each mail, in this order."""

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

    Raises InvalidInput for the number of users or a mail that cannot be written, NotFound for the
    template or a user out of scope.
    """
    actor.require(Permission.MAILINGS_SEND)
    check_selection_size(user_ids)
    template = email_templates.get_template_for(customer, template_id)
    version = email_templates.get_current_version(template)
    prepared = prepare_version(template, version)
    rows = db.session.execute(
        sa.select(
            User.id.label("user_id"),
            skip_reason(template.id, include_recent=include_recent).label("skip_reason"),
            skip_reason(template.id, include_recent=False).label("strict_reason"),
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
    message = None if first is None else render_first(first, prepared)
    resets_portal, resets_application = resets_of(prepared)
    is_welcome = template.kind is TemplateKind.WELCOME
    return MailingPreview(
        template=template,
        version=version,
        resets_portal=resets_portal,
        resets_application=resets_application,
        recipients=listed,
        message=message,
        first=next((each for each in listed if each.skip_reason is None), None),
        files=setup_instructions.list_files(customer) if is_welcome else [],
    )


def prepare_version(
    template: EmailTemplate, version: EmailTemplateVersion
) -> dict[str, PreparedMessage]:
    """The messages of a version by language. Raises InvalidInput when one cannot be sent."""
    try:
        return email_templates.prepare_texts(version.id)
    except ValueError as error:
        raise InvalidInput("template", f"{template.name} cannot be sent. {error}") from error


def render_first(row: Any, prepared: Mapping[str, PreparedMessage]) -> RenderedMessage:
    """The mail to a row of RECIPIENT_COLUMNS with its passwords hidden. Raises InvalidInput."""
    language = recipients.pick_language(row, prepared)
    hidden = Credentials(recipients.HIDDEN, recipients.HIDDEN)
    try:
        return prepared[language].preview(recipients.placeholder_values(row, hidden))
    except ValueError as error:
        name = recipients.full_name(row) or row.login
        raise InvalidInput("users", f"The mail to {name} cannot be written. {error}") from error


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
    resets_portal, resets_application = resets_of(prepare_version(template, version))
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
    freeze_mailing(
        actor,
        mailing,
        [customer.id],
        NAMED_USERS,
        {"user_ids": list(user_ids)},
        include_recent=include_recent,
    )
    if mailing.total != len(set(user_ids)):
        db.session.rollback()
        raise NotFound("One of the selected users is no longer there. Go back to Users.")
    db.session.commit()
    return mailing


@dataclass(frozen=True, slots=True)
class ChosenMail:
    """The newest version of a template, checked to be one that can be sent."""

    version_id: int
    resets_portal: bool
    resets_application: bool


def choose_mail(template: EmailTemplate) -> ChosenMail:
    """What a mailing with this template will send. Ask before a transaction writes: it takes a
    connection of its own.

    Raises InvalidInput when the template cannot be sent, Conflict when its languages differ.
    """
    version = email_templates.get_current_version(template)
    resets_portal, resets_application = resets_of(prepare_version(template, version))
    return ChosenMail(version.id, resets_portal, resets_application)


def accept_mailing(
    actor: Actor,
    customer: Customer,
    mail: ChosenMail,
    audience: Audience,
    values: Mapping[str, Any],
    *,
    lane: Lane,
    include_recent: bool,
) -> Mailing:
    """Freeze the recipients of a new mailing to users of one customer, in the caller's transaction.

    The caller has checked that the customer may use the template, commits, and enqueues after.
    """
    actor.require(Permission.MAILINGS_SEND)
    mailing = Mailing(
        customer_id=customer.id,
        template_version_id=mail.version_id,
        created_by_id=actor.user_id,
        credential_id=actor.credential_id,
        confirmation=secrets.token_urlsafe(24),
        lane=lane,
        state=MailingState.RUNNING,
        resets_portal_password=mail.resets_portal,
        resets_application_password=mail.resets_application,
    )
    db.session.add(mailing)
    db.session.flush()
    freeze_mailing(actor, mailing, [customer.id], audience, values, include_recent=include_recent)
    return mailing


def lane_for(recipients: int) -> Lane:
    """So many as one may select on the Users tab do not wait behind a bulk mailing."""
    return Lane.INTERACTIVE if recipients <= get_settings().selection_limit else Lane.BULK


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


def resets_of(prepared: Mapping[str, PreparedMessage]) -> tuple[bool, bool]:
    """Whether the messages carry the portal and the application password.

    Raises Conflict when the languages differ: somebody would lose a password and not get the new.
    """
    carried = {message.secrets for message in prepared.values()}
    if len(carried) != 1:
        raise Conflict(
            "The languages of this template carry different passwords, so nothing was sent. "
            "Use the same password placeholders in each language."
        )
    (passwords,) = carried
    return "portal password" in passwords, "application password" in passwords
