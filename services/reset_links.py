"""Reset links: single-use, expiring, kept only as hashes, and mailed by a job.

The page writes a row without a token; the job makes the token, stores its hash and mails it. So
neither the database nor the queue ever holds a working link.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection
from datetime import datetime, timedelta

import sqlalchemy as sa

from extensions import db, get_settings
from models import (
    Customer,
    CustomerStatus,
    ResetLink,
    Suppression,
    User,
    UserStatus,
    utcnow,
)
from services import (
    email_templates,
    mail_lines,
    passwords,
    sign_ins,
    system_mails,
)
from services.actors import Actor
from services.audit_events import record_event
from services.errors import InvalidInput
from services.smtp import ServerUnavailable

_PER_HOUR = 5
_CLAIM_LASTS = timedelta(minutes=5)
EXPIRED = "This link has been used or is too old. Ask for a new one."


def request_reset(login: str, *, address: str = "") -> int | None:
    """Note that someone asks for a link; returns the row's id to enqueue, None if there is no one.

    The page answers the same either way. No more than five links an hour go to one account.
    """
    user = sign_ins.find_active_user(login)
    if user is None or not user.email_key or _is_suppressed(user):
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
    """Ids of wishes from the last hour that wait for a job; none while the line is blocked."""
    if mail_lines.find_block() is not None:
        return []
    now = utcnow()
    return list(
        db.session.scalars(
            sa.select(ResetLink.id).where(
                _unmailed(now), ResetLink.requested_at > now - timedelta(hours=1)
            )
        )
    )


def _unmailed(now: datetime) -> sa.ColumnElement[bool]:
    """Neither mailed nor spent, and no job has been at it for a while."""
    return sa.and_(
        ResetLink.mailed_at.is_(None),
        ResetLink.used_at.is_(None),
        sa.or_(ResetLink.claimed_at.is_(None), ResetLink.claimed_at < now - _CLAIM_LASTS),
    )


def mail_reset_link(link_id: int) -> bool:
    """Make the link's token and mail it; False when there is nothing (more) to do.

    One job at a time works on a link. A repeat after a crash makes a new token, so only the newest
    mail's link works. A wish whose mail is refused for good, or whose person must not get mail any
    more, is closed. Raises MailDelayed or ServerUnavailable when it is worth another try.
    """
    now = utcnow()
    token = secrets.token_urlsafe(32)
    claimed = db.session.execute(
        sa.update(ResetLink)
        .where(ResetLink.id == link_id, _unmailed(now))
        .values(claimed_at=now, token_hash=_hash(token))
        .returning(ResetLink.user_id)
    ).one_or_none()
    if claimed is None:
        db.session.rollback()
        return False
    db.session.commit()
    login = db.session.get_one(User, claimed.user_id, populate_existing=True).login
    user = sign_ins.find_active_user(login)
    if user is None or _is_suppressed(user):
        _close(link_id, used_at=utcnow())
        return False
    try:
        _send(user, token)
    except system_mails.MailRefused:
        _close(link_id, used_at=utcnow())
        return False
    except (system_mails.MailDelayed, ServerUnavailable):
        _close(link_id, claimed_at=None)
        raise
    _close(link_id, mailed_at=utcnow())
    return True


def _close(link_id: int, **values: datetime | None) -> None:
    db.session.execute(sa.update(ResetLink).where(ResetLink.id == link_id).values(**values))
    db.session.commit()


def _send(user: User, token: str) -> None:
    settings = get_settings()
    prepared = email_templates.prepare_system_mail("password_link", user.language)
    values = {
        "first name": user.first_name or user.full_name,
        "full name": user.full_name,
        "login": user.login,
        "provider name": settings.provider_name,
        "reset link": f"{settings.public_url}/password/choose/{token}",
        "valid for": f"{settings.reset_link_minutes} min",
    }
    system_mails.send(prepared, values, to_name=user.full_name, to_address=user.email)


def find_link(token: str) -> ResetLink | None:
    """The link that a token opens, or None when it is unknown, used or too old.

    It opens nothing while its user or his customer is suspended.
    """
    oldest = utcnow() - timedelta(minutes=get_settings().reset_link_minutes)
    return db.session.scalar(
        sa.select(ResetLink)
        .join(User, User.id == ResetLink.user_id)
        .outerjoin(Customer, Customer.id == User.customer_id)
        .where(
            ResetLink.token_hash == _hash(token),
            ResetLink.used_at.is_(None),
            ResetLink.requested_at > oldest,
            User.status == UserStatus.ACTIVE,
            sa.or_(Customer.id.is_(None), Customer.status == CustomerStatus.ACTIVE),
        )
    )


def close_links_of(user: User) -> None:
    """No link that the user was sent, or is about to be, opens any more. The caller commits."""
    close_links_of_all([user.id])


def close_links_of_all(user_ids: Collection[int]) -> None:
    """The same for up to a thousand users."""
    db.session.execute(
        sa.update(ResetLink)
        .where(ResetLink.user_id.in_(user_ids), ResetLink.used_at.is_(None))
        .values(used_at=utcnow())
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
