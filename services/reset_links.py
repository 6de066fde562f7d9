"""Reset links: single-use, expiring, kept only as hashes, and mailed by a job.

The page writes a row without a token; the job makes the token, stores its hash and mails it. So
neither the database nor the queue ever holds a working link.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

import sqlalchemy as sa

from extensions import db, get_settings
from models import ResetLink, Suppression, User, UserStatus, fold, is_storable, utcnow
from services import email_templates, mail_texts, messages, passwords, sign_ins, system_mails
from services.actors import Actor
from services.audit_events import record_event
from services.errors import InvalidInput

_PER_HOUR = 5
EXPIRED = "This link has been used or is too old. Ask for a new one."


def request_reset(login: str, *, address: str = "") -> int | None:
    """Note that someone asks for a link; returns the row's id to enqueue, None if there is no one.

    The page answers the same either way. No more than five links an hour go to one account.
    """
    if len(login) > 320 or not is_storable(login):
        return None
    user = db.session.scalar(
        sa.select(User).where(
            User.login_key == fold(login), User.status == UserStatus.ACTIVE, User.email_key != ""
        )
    )
    if user is None or _is_suppressed(user):
        return None
    recent = sa.select(sa.func.count()).where(
        ResetLink.user_id == user.id, ResetLink.requested_at > utcnow() - timedelta(hours=1)
    )
    if (db.session.scalar(recent) or 0) >= _PER_HOUR:
        return None
    link = ResetLink(user_id=user.id)
    db.session.add(link)
    record_event(
        Actor(user.id, user.login, user.role, address=address),
        "reset_link.requested",
        customer_id=user.customer_id,
        object_type="user",
        object_id=user.id,
    )
    db.session.commit()
    return link.id


def _is_suppressed(user: User) -> bool:
    return (
        db.session.scalar(sa.select(Suppression.id).where(Suppression.email_key == user.email_key))
        is not None
    )


def list_unmailed() -> list[int]:
    """Ids of wishes from the last hour that no job has answered yet."""
    return list(
        db.session.scalars(
            sa.select(ResetLink.id).where(
                ResetLink.mailed_at.is_(None),
                ResetLink.used_at.is_(None),
                ResetLink.requested_at > utcnow() - timedelta(hours=1),
            )
        )
    )


def mail_reset_link(link_id: int) -> bool:
    """Make the link's token and mail it; False when there is nothing (more) to do.

    A repeat makes a new token, so only the newest mail's link works. A wish whose mail is refused
    for good is closed. Raises MailDelayed or ServerUnavailable when it is worth another try.
    """
    link = db.session.get(ResetLink, link_id)
    if link is None or link.mailed_at is not None or link.used_at is not None:
        return False
    user = db.session.get_one(User, link.user_id)
    settings = get_settings()
    token = secrets.token_urlsafe(32)
    link.token_hash = _hash(token)
    db.session.commit()
    subject, text, html = mail_texts.load_system_mail("password_link", user.language)
    prepared = messages.compile_message(
        subject,
        text,
        html,
        sender=email_templates.sender(),
        provider=email_templates.branding(),
        language=user.language,
        system=True,
    )
    values = {
        "first name": user.first_name or user.full_name,
        "full name": user.full_name,
        "login": user.login,
        "provider name": settings.provider_name,
        "reset link": f"{settings.public_url}/password/choose/{token}",
        "valid for": f"{settings.reset_link_minutes} min",
    }
    try:
        system_mails.send(prepared, values, to_name=user.full_name, to_address=user.email)
    except system_mails.MailRefused:
        link.used_at = utcnow()
        db.session.commit()
        return False
    link.mailed_at = utcnow()
    db.session.commit()
    return True


def find_link(token: str) -> ResetLink | None:
    """The link that a token opens, or None when it is unknown, used or too old."""
    oldest = utcnow() - timedelta(minutes=get_settings().reset_link_minutes)
    return db.session.scalar(
        sa.select(ResetLink)
        .join(User, User.id == ResetLink.user_id)
        .where(
            ResetLink.token_hash == _hash(token),
            ResetLink.used_at.is_(None),
            ResetLink.requested_at > oldest,
            User.status == UserStatus.ACTIVE,
        )
    )


def use_link(token: str, new: str, *, address: str = "") -> User:
    """Set the chosen password and spend the link. Raises InvalidInput naming `new` or `link`."""
    link = find_link(token)
    if link is None:
        raise InvalidInput("link", EXPIRED)
    user = db.session.get_one(User, link.user_id)
    passwords.check_policy(new, login=user.login, field="new")
    spent = (
        db.session.connection()
        .execute(
            sa.update(ResetLink)
            .where(ResetLink.user_id == user.id, ResetLink.used_at.is_(None))
            .values(used_at=utcnow())
        )
        .rowcount
    )
    if not spent:
        db.session.rollback()
        raise InvalidInput("link", EXPIRED)
    sign_ins.set_chosen_password(user, new, address=address)
    sign_ins.end_sessions_of(user)
    db.session.commit()
    return user


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
