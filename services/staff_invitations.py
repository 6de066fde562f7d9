"""Links by which new members of staff choose a password: single-use, a week long, kept as hashes.

The page writes a row without a token; the job makes the token, stores its hash and mails it. So
neither the database nor the queue ever holds a working link. Until the link is used its person is
suspended; using it makes him active.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from datetime import datetime, timedelta

import sqlalchemy as sa
from babel.dates import format_date
from redis.exceptions import RedisError
from sqlalchemy.orm import joinedload

from extensions import db, get_settings, queues
from models import StaffInvitation, User, UserStatus, utcnow
from services import (
    email_templates,
    mail_lines,
    noted_mails,
    passwords,
    sign_ins,
    system_mails,
)
from services.actors import Actor
from services.audit_events import record_event
from services.errors import InvalidInput
from services.mail_html import base_language
from services.smtp import ServerUnavailable

log = logging.getLogger(__name__)

VALID = timedelta(days=7)
_CLAIM_LASTS = timedelta(minutes=5)
_TRIED_FOR = timedelta(days=1)
_MOST_AT_ONCE = 500
_LOCALES = {"en": "en_GB", "de": "de", "fr": "fr", "nl": "nl"}
EXPIRED = "This link has been used, was replaced by a newer one, or is too old."


def new_invitation(user_id: int, actor: Actor) -> StaffInvitation:
    """The invitation of a new member of staff, for the caller to add and commit."""
    return StaffInvitation(
        user_id=user_id, invited_by_id=actor.user_id, expires_at=utcnow() + VALID
    )


def renew(invitation: StaffInvitation, *, seen: datetime) -> bool:
    """Have the job mail a new link; the old one stops to work at once. The caller commits.

    `seen` is `requested_at` as it was seen: pressed twice it is one mail, and False the second
    time.
    """
    now = utcnow()
    renewed = db.session.connection().execute(
        sa.update(StaffInvitation)
        .where(
            StaffInvitation.id == invitation.id,
            StaffInvitation.accepted_at.is_(None),
            StaffInvitation.requested_at == seen,
        )
        .values(
            requested_at=now,
            expires_at=now + VALID,
            token_hash=None,
            claimed_at=None,
            mailed_at=None,
            failed_at=None,
            answer="",
        )
    )
    return bool(renewed.rowcount)


def start_mail(invitation_id: int) -> None:
    """Ask a worker to mail a link. Call it after the commit; the sweep finds what is forgotten."""
    try:
        queues.enqueue("default", "jobs.staff_invitations.mail_invitation", invitation_id)
    except RedisError as error:
        log.warning("queue: %s (invitation %d waits)", type(error).__name__, invitation_id)


def list_unmailed() -> list[int]:
    """Ids of invitations of the last day that wait for a job; none while the line is blocked."""
    if mail_lines.find_block() is not None:
        return []
    now = utcnow()
    return list(
        db.session.scalars(
            sa.select(StaffInvitation.id)
            .where(_is_unmailed(now), StaffInvitation.requested_at > now - _TRIED_FOR)
            .order_by(StaffInvitation.requested_at)
            .limit(_MOST_AT_ONCE)
        )
    )


def _is_unmailed(now: datetime) -> sa.ColumnElement[bool]:
    """Neither mailed nor at its end, and no job has been at it for a while."""
    return sa.and_(
        StaffInvitation.mailed_at.is_(None),
        StaffInvitation.failed_at.is_(None),
        StaffInvitation.accepted_at.is_(None),
        sa.or_(
            StaffInvitation.claimed_at.is_(None),
            StaffInvitation.claimed_at < now - _CLAIM_LASTS,
        ),
    )


def mail_invitation(invitation_id: int) -> bool:
    """Make the link's token and mail it; False when there is nothing (more) to do.

    One job at a time works on it. A repeat after a crash makes a new token, so only the newest
    mail's link works; its week begins now. A mail that is refused for good ends the invitation. A
    refusal for now is tried again in five minutes. Raises MailDelayed or ServerUnavailable when it
    is worth another try.
    """
    now = utcnow()
    token = secrets.token_urlsafe(32)
    claimed = db.session.connection().execute(
        sa.update(StaffInvitation)
        .where(StaffInvitation.id == invitation_id, _is_unmailed(now))
        .values(claimed_at=now, token_hash=_hash(token), expires_at=now + VALID)
    )
    db.session.commit()
    if not claimed.rowcount:
        return False
    invitation = db.session.get(
        StaffInvitation,
        invitation_id,
        populate_existing=True,
        options=[joinedload(StaffInvitation.user), joinedload(StaffInvitation.invited_by)],
    )
    if invitation is None:  # It was withdrawn at this moment.
        return False
    suppression = noted_mails.find_suppression(invitation.user.email)
    if suppression is not None:
        refusal = f"This address gets no mail: {suppression.reason}"
        _note(token, invitation_id, failed_at=utcnow(), answer=refusal)
        return False
    try:
        _send(invitation, token)
    except system_mails.MailRefused as error:
        _note(token, invitation_id, failed_at=utcnow(), answer=str(error))
        return False
    except system_mails.MailDelayed as error:
        _note(token, invitation_id, answer=str(error))
        raise
    except ServerUnavailable as error:
        _note(token, invitation_id, claimed_at=None, answer=error.reason)
        raise
    _note(token, invitation_id, mailed_at=utcnow(), answer="")
    return True


def _note(token: str, invitation_id: int, *, answer: str, **values: datetime | None) -> None:
    """What became of the mail with `token`; nothing when it was renewed or withdrawn since."""
    db.session.connection().execute(
        sa.update(StaffInvitation)
        .where(
            StaffInvitation.id == invitation_id,
            StaffInvitation.token_hash == _hash(token),
            StaffInvitation.accepted_at.is_(None),
        )
        .values(answer=answer[:500], **values)
    )
    db.session.commit()


def _send(invitation: StaffInvitation, token: str) -> None:
    settings, user = get_settings(), invitation.user
    language = base_language(user.language)
    prepared = email_templates.prepare_system_mail("staff_invitation", user.language)
    values = {
        "first name": user.first_name or user.full_name,
        "login": user.login,
        "inviter": invitation.invited_by.full_name if invitation.invited_by else "",
        "provider name": settings.provider_name,
        "invitation link": f"{settings.public_url}/staff/welcome/{token}",
        "valid until": format_date(
            invitation.expires_at.date(), "long", locale=_LOCALES.get(language, "en_GB")
        ),
    }
    to_name, to_address = user.full_name, user.email
    db.session.commit()  # No transaction is open while the server thinks.
    system_mails.send(prepared, values, to_name=to_name, to_address=to_address)


# --- Using it ------------------------------------------------------------------------------------


def find_invitation(token: str) -> StaffInvitation | None:
    """The invitation that a token opens with its person, or None when it does not (any more)."""
    return db.session.scalar(
        sa.select(StaffInvitation)
        .join(StaffInvitation.user)
        .where(
            StaffInvitation.token_hash == _hash(token),
            StaffInvitation.accepted_at.is_(None),
            StaffInvitation.failed_at.is_(None),
            StaffInvitation.expires_at > utcnow(),
            User.status == UserStatus.SUSPENDED,
        )
        .options(joinedload(StaffInvitation.user))
        .execution_options(populate_existing=True)
    )


def accept(
    token: str, new: str, *, address: str = "", user_agent: str = "", replaces: str = ""
) -> tuple[User, str]:
    """Set the chosen password, make the person active, and sign him in; returns him and his token.

    Following the link and choosing the password prove as much as signing in with it would. Raises
    InvalidInput naming `new` or `link`.
    """
    invitation = find_invitation(token)
    if invitation is None:
        raise InvalidInput("link", EXPIRED)
    user = invitation.user
    passwords.check_policy(new, login=user.login, field="new")
    hashed = passwords.hash_chosen(new)
    spent = db.session.connection().execute(
        sa.update(StaffInvitation)
        .where(
            StaffInvitation.id == invitation.id,
            StaffInvitation.accepted_at.is_(None),
            StaffInvitation.token_hash == _hash(token),
        )
        .values(accepted_at=utcnow(), token_hash=None)
    )
    activated = db.session.connection().execute(
        sa.update(User)
        .where(User.id == user.id, User.status == UserStatus.SUSPENDED)
        .values(
            status=UserStatus.ACTIVE,
            password_hash=hashed,
            unconfirmed_hash=None,
            must_change_password=False,
            last_sign_in_at=utcnow(),
            version=User.version + 1,
        )
    )
    if not (spent.rowcount and activated.rowcount):
        db.session.rollback()
        raise InvalidInput("link", EXPIRED)
    db.session.refresh(user)
    record_event(
        Actor.from_user(user, address),
        "staff_invitation.accepted",
        object_type="user",
        object_id=user.id,
        detail={"login": user.login},
    )
    session = sign_ins.begin_session(
        user, address=address, user_agent=user_agent, replaces=replaces
    )
    db.session.commit()
    return user, session


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
