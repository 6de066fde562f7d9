"""Invitations: links to Tenant Registration that staff sends, each in the name of a group."""

from __future__ import annotations

import unicodedata
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import joinedload

from config import LANGUAGES, Registration
from extensions import db, get_settings
from models import (
    Group,
    RegistrationLink,
    ServiceTemplateVersion,
    fold,
    is_storable,
    prefix_range,
    utcnow,
)
from services import registration_links, service_templates
from services.actors import Actor, Permission, groups_of
from services.audit_events import record_event
from services.errors import Conflict, Forbidden, InvalidInput, NotFound
from services.paging import Page, keyset_page, parse_id_key

MESSAGE_LENGTH = 1000
_GONE = "There is no such invitation, or it is not yours to see."
_CLOSED = "Registration is closed, so nobody can be invited."


# --- Who may invite to what ----------------------------------------------------------------------


def is_possible() -> bool:
    """Whether somebody who is invited could register."""
    return get_settings().registration is not Registration.CLOSED


def list_templates(actor: Actor) -> list[ServiceTemplateVersion]:
    """The published templates that an invitation of the actor may begin with."""
    actor.require(Permission.PROSPECTS_INVITE)
    return service_templates.list_offered(actor)


def list_groups(actor: Actor) -> list[Group]:
    """The groups in whose name the actor may invite, by number."""
    actor.require(Permission.PROSPECTS_INVITE)
    query = sa.select(Group).order_by(Group.groupno)
    if not actor.all_groups:
        query = query.where(Group.id.in_(groups_of(actor)))
    return list(db.session.scalars(query))


def _in_scope(actor: Actor) -> sa.ColumnElement[bool]:
    """The invitations of the actor's groups; those of no group are for who sees all."""
    if actor.all_groups:
        return RegistrationLink.invited_by_id.is_not(None)
    return sa.and_(
        RegistrationLink.invited_by_id.is_not(None),
        RegistrationLink.group_id.in_(groups_of(actor)),
    )


# --- Looking -------------------------------------------------------------------------------------


def list_invitations(
    actor: Actor, *, search: str = "", size: int = 25, cursor: str = ""
) -> Page[RegistrationLink]:
    """A page of invitations, the newest first; `search` is the beginning of an e-mail address."""
    actor.require(Permission.PROSPECTS_INVITE)
    query = sa.select(RegistrationLink).where(_in_scope(actor)).options(*_SHOWN)
    if search:
        lowest, beyond = prefix_range(fold(search))
        query = query.where(
            RegistrationLink.email_key >= lowest, RegistrationLink.email_key < beyond
        )
    return keyset_page(
        lambda page: db.session.scalars(page).all(),
        query,
        key=RegistrationLink.id.expression,
        row_id=RegistrationLink.id.expression,
        key_of=lambda row: (str(row.id), row.id),
        parse_key=parse_id_key,
        descending=True,
        size=size,
        cursor=cursor,
    )


_SHOWN = (
    joinedload(RegistrationLink.invited_by),
    joinedload(RegistrationLink.template),
    joinedload(RegistrationLink.group),
)


def get_invitation(actor: Actor, invitation_id: int) -> RegistrationLink:
    """An invitation of the actor's groups. Raises NotFound, Forbidden."""
    actor.require(Permission.PROSPECTS_INVITE)
    found = db.session.scalar(
        sa.select(RegistrationLink)
        .where(RegistrationLink.id == invitation_id, _in_scope(actor))
        .options(*_SHOWN)
        .execution_options(populate_existing=True)
    )
    if found is None:
        raise NotFound(_GONE)
    return found


# --- Inviting ------------------------------------------------------------------------------------


def invite(
    actor: Actor,
    *,
    email: str,
    language: str = "en",
    template_id: int | None = None,
    group_id: int | None = None,
    message: str = "",
) -> RegistrationLink:
    """Invite somebody to register a tenant; a job mails the link.

    Without `group_id` the template's group is meant. Raises InvalidInput naming the field, Conflict
    while registration is closed. An address with an invitation that still works is refused, however
    many invite it at once.
    """
    actor.require(Permission.PROSPECTS_INVITE)
    if actor.user_id is None:
        raise Forbidden("An invitation is a person's. Sign in to send one.")
    _refuse_if_closed()
    email = registration_links.check_email(email)
    if language not in LANGUAGES:
        raise InvalidInput("language", "There is no such language. Choose one of the list.")
    invitation = RegistrationLink(
        email=email,
        email_key=fold(email),
        language=language,
        address=actor.address[:64],
        invited_by_id=actor.user_id,
        template_id=template_id,
        group_id=_check_group(actor, template_id, group_id),
        message=_check_message(message),
        expires_at=_new_end(),
    )
    suppressed = registration_links.find_suppression(email)
    if suppressed is not None:
        raise InvalidInput(
            "email", f"No mail goes to {email}, for it came back before: {suppressed.reason}"
        )
    registration_links.stand_in_line(email)
    _refuse_if_invited(actor, email)
    db.session.add(invitation)
    db.session.flush()
    _record(actor, "invitation.sent", invitation)
    db.session.commit()
    registration_links.start_mail(invitation.id)
    return invitation


def _refuse_if_closed() -> None:
    if not is_possible():
        raise Conflict(_CLOSED)


def _new_end() -> datetime:
    return utcnow() + timedelta(days=get_settings().registration_invitation_days)


def _check_group(actor: Actor, template_id: int | None, group_id: int | None) -> int | None:
    """The group of the invitation: the chosen one, or the template's."""
    if template_id is not None:
        try:
            version = service_templates.get_offered(actor, None, template_id)
        except NotFound:
            raise InvalidInput(
                "template", "This template is not published any more. Choose another."
            ) from None
        group_id = group_id or version.group_id
    if group_id is None:
        if actor.all_groups:
            return None
        raise InvalidInput("group", "Choose a group, or a template, which has one.")
    if group_id not in {group.id for group in list_groups(actor)}:
        raise InvalidInput("group", "This group is not one of yours. Choose another.")
    return group_id


def _check_message(typed: str) -> str:
    message = "\n".join(line.rstrip() for line in typed.strip().splitlines())
    if len(message) > MESSAGE_LENGTH:
        raise InvalidInput(
            "message", f"Message has {len(message):,} characters. The limit is {MESSAGE_LENGTH:,}."
        )
    if not is_storable(message) or any(
        unicodedata.category(letter) == "Cc" and letter not in "\n\t" for letter in message
    ):
        raise InvalidInput(
            "message", "Message contains a character that cannot be seen. Type it by hand."
        )
    return message


def _refuse_if_invited(actor: Actor, email: str) -> None:
    known = db.session.scalar(
        sa.select(RegistrationLink.id)
        .where(
            RegistrationLink.email_key == fold(email),
            RegistrationLink.used_at.is_(None),
            RegistrationLink.ended_at.is_(None),
            RegistrationLink.expires_at > utcnow(),
            _in_scope(actor),
        )
        .limit(1)
    )
    if known is not None:
        db.session.rollback()
        raise InvalidInput(
            "email",
            f"{email} has an invitation that still works. "
            "Find it in the list to resend or withdraw it.",
        )


def resend(actor: Actor, invitation_id: int, *, seen: datetime) -> RegistrationLink:
    """Mail the invitation with a new link; the old one stops to work at once.

    `seen` is `requested_at` as the actor saw it: pressed twice it is one mail. Raises NotFound, and
    Conflict for one that was accepted or while registration is closed.
    """
    invitation = get_invitation(actor, invitation_id)
    _refuse_if_closed()
    renewed = db.session.connection().execute(
        sa.update(RegistrationLink)
        .where(
            RegistrationLink.id == invitation.id,
            RegistrationLink.used_at.is_(None),
            RegistrationLink.requested_at == seen,
        )
        .values(
            requested_at=utcnow(),
            expires_at=_new_end(),
            token_hash=None,
            claimed_at=None,
            mailed_at=None,
            ended_at=None,
            answer="",
        )
    )
    if renewed.rowcount:
        _record(actor, "invitation.resent", invitation)
    db.session.commit()
    if renewed.rowcount:
        registration_links.start_mail(invitation.id)
    invitation = get_invitation(actor, invitation_id)
    if invitation.used_at is not None:
        raise Conflict(f"{invitation.email} has accepted this invitation already.")
    return invitation


def withdraw(actor: Actor, invitation_id: int) -> RegistrationLink:
    """Let the link stop to work. Raises NotFound, and Conflict for one that was accepted."""
    invitation = get_invitation(actor, invitation_id)
    ended = db.session.connection().execute(
        sa.update(RegistrationLink)
        .where(
            RegistrationLink.id == invitation.id,
            RegistrationLink.used_at.is_(None),
            RegistrationLink.ended_at.is_(None),
        )
        .values(ended_at=utcnow(), answer="")
    )
    if ended.rowcount:
        _record(actor, "invitation.withdrawn", invitation)
    db.session.commit()
    invitation = get_invitation(actor, invitation_id)
    if invitation.used_at is not None:
        raise Conflict(f"{invitation.email} has accepted this invitation already.")
    return invitation


def _record(actor: Actor, action: str, invitation: RegistrationLink) -> None:
    record_event(
        actor,
        action,
        object_type="registration_link",
        object_id=invitation.id,
        detail={"email": invitation.email, "template_id": invitation.template_id},
    )
