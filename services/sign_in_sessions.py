"""Where a person is signed in: looking, and ending it."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa

from extensions import db, get_settings
from models import SignInSession, User, utcnow
from services import sign_ins
from services.actors import Actor
from services.audit_events import record_event

MOST_SHOWN = 100


def list_sessions(user: User) -> list[SignInSession]:
    """The person's sessions that go on, the one that was used last first."""
    return list(
        db.session.scalars(
            sa.select(SignInSession)
            .where(SignInSession.user_id == user.id, *_goes_on(utcnow()))
            .order_by(SignInSession.last_seen_at.desc(), SignInSession.id.desc())
            .limit(MOST_SHOWN)
        )
    )


def _goes_on(now: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    settings = get_settings()
    return (
        SignInSession.last_seen_at > now - timedelta(minutes=settings.session_idle_minutes),
        SignInSession.created_at > now - timedelta(hours=settings.session_absolute_hours),
    )


def end_one(actor: Actor, user: User, session_id: int) -> bool:
    """End one of the person's sessions at once; False when it was over already."""
    ended = sign_ins.end_session_of(user, session_id)
    if ended:
        _record(actor, user, "session.ended", {"session_id": session_id})
    db.session.commit()
    return ended


def end_all(actor: Actor, user: User, *, but_token: str = "") -> None:
    """End all of the person's sessions at once, but for that of `but_token`."""
    sign_ins.end_sessions_of(user, but_token=but_token)
    _record(actor, user, "sessions.ended", {})
    db.session.commit()


def _record(actor: Actor, user: User, action: str, detail: dict[str, int]) -> None:
    record_event(
        actor,
        action,
        customer_id=user.customer_id,
        object_type="user",
        object_id=user.id,
        detail={"login": user.login, **detail},
    )
