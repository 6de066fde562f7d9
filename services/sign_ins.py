"""Sign-ins: checking credentials, slowing down guesses, and the sessions that follow."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection
from datetime import timedelta
from functools import cache
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import contains_eager

from extensions import db, get_settings
from models import (
    Customer,
    CustomerStatus,
    Delivery,
    DeliveryState,
    EmailTemplate,
    EmailTemplateVersion,
    Mailing,
    PasskeyChallenge,
    PendingSignIn,
    Role,
    SignInPolicy,
    SignInSession,
    TemplateKind,
    User,
    UserStatus,
    Welcome,
    WelcomeState,
    fold,
    is_storable,
    utcnow,
)
from services import impersonations, passwords, throttles
from services.actors import Actor
from services.audit_events import record_event
from services.delivery_results import PROVED_BY_READER
from services.domain_names import ascii_login
from services.errors import InvalidInput
from services.mailing_ends import end_mailing_if_done
from services.throttles import Limit
from services.webhook_events import note_ended

_LIMITS = {"account": Limit(3, 60), "address": Limit(20, 60), "everywhere": Limit(30, 10)}
_SEEN_EVERY = timedelta(seconds=30)
SECOND_STEP_WITHIN = timedelta(minutes=10)
"""Between the right password and the second step."""

CONFIRMED_FOR = timedelta(minutes=15)
"""So long second factors can be changed after one has proved who one is."""

REFUSED = "The login or the password is wrong. Check both, or choose a new password below."


class SignedIn(NamedTuple):
    """Somebody who has proved who he is, with the token of his session."""

    user: User
    token: str


class SecondStepDue(NamedTuple):
    """Somebody whose password was right and who has a second factor.

    The token is of the sign-in that goes on; it opens no session, whatever is done with it.
    """

    user: User
    token: str


def sign_in(
    login: str, password: str, *, address: str = "", user_agent: str = "", replaces: str = ""
) -> SignedIn | SecondStepDue:
    """Check the credentials and begin a session, or ask for the second step.

    The password of a mail whose delivery is still in flight is accepted, and promoted: its reader
    has proved that it arrived. `replaces` is the token of the session that this one supersedes.
    Raises Throttled, or InvalidInput with the same words for every wrong pair.
    """
    keys = _throttle_keys(login, address)
    throttles.refuse_if_throttled(keys.values())
    user = find_active_user(login)
    if user is None:
        passwords.spend_time(password)
    if user is None or not (_check(user, password) and _note_sign_in(user)):
        _count_failure(keys)
        record_event(
            # What was typed may be a password in the wrong field: only a login is kept.
            Actor(user.id if user else None, user.login if user else "", None, address=address),
            "sign_in.refused",
            customer_id=user.customer_id if user else None,
        )
        db.session.commit()
        raise InvalidInput("login", REFUSED)
    throttles.forget_attempts(keys["account"])
    if user.has_second_factor:
        if replaces:
            end_session(replaces)
        pending = _await_second_step(user, address, user_agent)
        db.session.commit()
        return SecondStepDue(user, pending)
    token = begin_session(user, address=address, user_agent=user_agent, replaces=replaces)
    db.session.commit()
    return SignedIn(user, token)


def _await_second_step(user: User, address: str, user_agent: str) -> str:
    token = secrets.token_urlsafe(32)
    db.session.add(
        PendingSignIn(
            token_hash=_token_hash(token),
            user_id=user.id,
            password_mark=_password_mark(user),
            address=address[:64],
            user_agent=user_agent[:255],
        )
    )
    record_event(
        Actor.from_user(user, address),
        "sign_in.second_step_asked",
        customer_id=user.customer_id,
        object_type="user",
        object_id=user.id,
    )
    return token


def _password_mark(user: User) -> str:
    """Another one as soon as the password is changed, by whomever and however."""
    return _token_hash(user.password_hash or "")


def find_pending(token: str) -> PendingSignIn | None:
    """The sign-in of a token that awaits its second step; None when it is over, too old, or its
    person was barred or has another password since."""
    found = db.session.scalar(
        sa.select(PendingSignIn)
        .join(PendingSignIn.user)
        .outerjoin(User.customer)
        .options(contains_eager(PendingSignIn.user).contains_eager(User.customer))
        .where(
            PendingSignIn.token_hash == _token_hash(token),
            PendingSignIn.created_at > utcnow() - SECOND_STEP_WITHIN,
            *_is_active(),
        )
        .execution_options(populate_existing=True)
    )
    if found is None or found.password_mark != _password_mark(found.user):
        return None
    return found


def end_pending(token: str) -> bool:
    """Let a sign-in await its second step no more; False when it did not. The caller commits."""
    ended = db.session.connection().execute(
        sa.delete(PendingSignIn).where(PendingSignIn.token_hash == _token_hash(token))
    )
    return bool(ended.rowcount)


def _is_active() -> tuple[sa.ColumnElement[bool], ...]:
    """That neither a user nor his customer is suspended or deleted, over a join of both."""
    return (
        User.status == UserStatus.ACTIVE,
        sa.or_(Customer.id.is_(None), Customer.status == CustomerStatus.ACTIVE),
    )


def find_active_user(login: str) -> User | None:
    """The user of a login, when neither he nor his customer is suspended or deleted.

    Prospects are none: they have no password, and get in by a link.
    """
    if len(login) > 320 or not is_storable(login):
        return None
    return db.session.scalar(
        sa.select(User)
        .outerjoin(Customer, Customer.id == User.customer_id)
        .where(
            User.login_key == fold(ascii_login(login)),
            User.role != Role.PROSPECT,
            *_is_active(),
        )
    )


def _check(user: User, password: str) -> bool:
    if passwords.verify(user.password_hash, password):
        return True
    if passwords.is_generated(user.password_hash) or user.password_hash is None:
        passwords.spend_time(password)
    return _promote_pending(user, password) or _promote_unconfirmed(user, password)


def _note_sign_in(user: User) -> bool:
    """Note the time; False when the password was replaced or the user barred since the check.

    Who has a second factor is not in yet, and his time comes with the second step.
    """
    db.session.flush()
    noted = db.session.connection().execute(
        sa.update(User)
        .where(
            User.id == user.id,
            User.password_hash == user.password_hash,
            User.status == UserStatus.ACTIVE,
        )
        .values(
            last_sign_in_at=sa.case(
                (User.has_second_factor, User.last_sign_in_at),
                else_=sa.literal(utcnow(), User.last_sign_in_at.type),
            )
        )
    )
    return bool(noted.rowcount)


def _promote_pending(user: User, password: str) -> bool:
    """Accept the credentials of a delivery in flight and make them the user's own."""
    pending = db.session.execute(
        sa.select(Delivery.id, Delivery.mailing_id, Delivery.pending_hash).where(
            Delivery.user_id == user.id, Delivery.pending_hash.is_not(None)
        )
    ).all()
    match = next((row for row in pending if passwords.verify(row.pending_hash, password)), None)
    if match is None:
        return False
    connection = db.session.connection()
    proved = connection.execute(
        sa.update(Delivery)
        .where(Delivery.id == match.id, Delivery.pending_hash == match.pending_hash)
        .values(pending_hash=None)
    ).rowcount
    if not proved:  # The worker has just recorded it: then it is the user's password by now.
        db.session.refresh(user)
        return passwords.verify(user.password_hash, password)
    ended = connection.execute(
        sa.update(Delivery)
        .where(Delivery.id == match.id, Delivery.state == DeliveryState.QUEUED)
        .values(
            state=DeliveryState.SENT,
            sent_at=utcnow(),
            seal=None,
            in_doubt=False,
            answer=PROVED_BY_READER,
        )
    ).rowcount
    if ended:
        note_ended(connection, [match.id])
        connection.execute(
            sa.update(Mailing)
            .where(Mailing.id == match.mailing_id)
            .values(queued=Mailing.queued - 1, sent=Mailing.sent + 1)
        )
        end_mailing_if_done(connection, match.mailing_id)
    _adopt_hash(user, match.pending_hash)
    db.session.flush()  # Users before their welcomes, as where results are recorded.
    _note_welcome(user, match.mailing_id)
    return True


def _note_welcome(user: User, mailing_id: int) -> None:
    kind = db.session.scalar(
        sa.select(EmailTemplate.kind)
        .join(EmailTemplateVersion, EmailTemplateVersion.template_id == EmailTemplate.id)
        .join(Mailing, Mailing.template_version_id == EmailTemplateVersion.id)
        .where(Mailing.id == mailing_id)
    )
    if kind is TemplateKind.WELCOME:
        db.session.execute(
            sa.update(Welcome)
            .where(Welcome.user_id == user.id)
            .values(state=WelcomeState.SENT, at=utcnow())
        )


def _promote_unconfirmed(user: User, password: str) -> bool:
    if not passwords.verify(user.unconfirmed_hash, password):
        return False
    _adopt_hash(user, user.unconfirmed_hash or "")
    return True


def _adopt_hash(user: User, stored: str) -> None:
    user.password_hash = stored
    user.unconfirmed_hash = None
    user.must_change_password = get_settings().change_generated_password
    end_sessions_of(user)


# --- Throttling ------------------------------------------------------------------------------


def _throttle_keys(login: str, address: str) -> dict[str, str]:
    """Keys for an account from one address, for the address, and for the account from everywhere.

    The last is generous and its waits are short, so that guessing from elsewhere never locks the
    owner out. Logins are hashed, known or not.
    """
    digest = throttles.digest(ascii_login(login[:320]))
    keys = {"account": f"account:{digest}:{address[:64]}", "everywhere": f"everywhere:{digest}"}
    if address:
        keys["address"] = f"address:{address[:64]}"
    return keys


def _count_failure(keys: dict[str, str]) -> None:
    for kind, key in keys.items():
        throttles.count_attempt(key, _LIMITS[kind])


# --- Sessions --------------------------------------------------------------------------------


def begin_session(
    user: User, *, address: str = "", user_agent: str = "", replaces: str = "", way: str = ""
) -> str:
    """Begin a session of somebody who has proved who he is; returns its token.

    `replaces` is the token of the session that it supersedes, `way` how he has proved it beside the
    password or in its place. The caller commits.
    """
    if replaces:
        end_session(replaces)
    token = secrets.token_urlsafe(32)
    db.session.add(
        SignInSession(
            token_hash=_token_hash(token),
            user_id=user.id,
            address=address[:64],
            user_agent=user_agent[:255],
        )
    )
    record_event(
        Actor.from_user(user, address),
        "sign_in.succeeded",
        customer_id=user.customer_id,
        detail={"second_step": way} if way else None,
    )
    return token


def _token_hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def find_session(token: str, *, touch: bool = True) -> SignInSession | None:
    """The live session of a token with its user, or None when it is over or was ended.

    `touch` notes that its person is there; polling does not.
    """
    row = db.session.execute(_session_of(), {"token_hash": _token_hash(token)}).one_or_none()
    if row is None:
        return None
    found: SignInSession = row[0]
    found.lacks_second_factor = bool(row[1])
    now, settings = utcnow(), get_settings()
    idle = now - found.last_seen_at > timedelta(minutes=settings.session_idle_minutes)
    old = now - found.created_at > timedelta(hours=settings.session_absolute_hours)
    user, customer = found.user, found.user.customer
    barred = user.status is not UserStatus.ACTIVE or (
        customer is not None and customer.status is not CustomerStatus.ACTIVE
    )
    if idle or old or barred:
        return None
    if touch and now - found.last_seen_at > _SEEN_EVERY:
        db.session.execute(
            sa.update(SignInSession).where(SignInSession.id == found.id).values(last_seen_at=now)
        )
        db.session.commit()
    return found


@cache
def _session_of() -> sa.Select[SignInSession, bool]:
    """Built once: every page asks, and building it takes as long as asking."""
    return (
        sa.select(SignInSession, _lacks_second_factor())
        .join(SignInSession.user)
        .outerjoin(User.customer)
        .options(contains_eager(SignInSession.user).contains_eager(User.customer))
        .where(SignInSession.token_hash == sa.bindparam("token_hash"))
    )


def _lacks_second_factor() -> sa.ColumnElement[bool]:
    """Whether a user's role needs a second factor and he has none."""
    is_needed = sa.exists().where(SignInPolicy.role == User.role, SignInPolicy.second_factor)
    return sa.and_(sa.not_(User.has_second_factor), is_needed)


def end_session(token: str) -> None:
    """End the session of a token; nothing happens when there is none. The caller commits."""
    _end_sessions(SignInSession.token_hash == _token_hash(token))


def sign_out(actor: Actor, token: str) -> None:
    end_session(token)
    record_event(actor, "sign_in.ended", customer_id=actor.customer_id)
    db.session.commit()


def end_sessions_of(user: User, *, but_token: str = "") -> None:
    """End the user's sessions, all but the one of `but_token`, and sign-ins that await their
    second step. The caller commits."""
    ended = [SignInSession.user_id == user.id]
    if but_token:
        ended.append(SignInSession.token_hash != _token_hash(but_token))
    _end_sessions(*ended)
    db.session.execute(sa.delete(PendingSignIn).where(PendingSignIn.user_id == user.id))


def end_sessions_of_all(user_ids: Collection[int]) -> None:
    """End the sessions of these users, up to a thousand, and sign-ins that await their second
    step. The caller commits."""
    _end_sessions(SignInSession.user_id.in_(user_ids))
    db.session.execute(sa.delete(PendingSignIn).where(PendingSignIn.user_id.in_(user_ids)))


def end_session_of(user: User, session_id: int) -> bool:
    """End one session of the user; False when there was none. The caller commits."""
    return bool(_end_sessions(SignInSession.id == session_id, SignInSession.user_id == user.id))


def _end_sessions(*which: sa.ColumnElement[bool]) -> int:
    """Who was signed in as somebody else in one of them is so no more, which is noted."""
    impersonations.end_with_sessions(*which)
    ended = db.session.connection().execute(sa.delete(SignInSession).where(*which))
    return ended.rowcount


def delete_stale_rows() -> None:
    """Forget sessions and sign-ins that are over, and throttles that slow nobody down any more."""
    now, settings = utcnow(), get_settings()
    db.session.execute(
        sa.delete(SignInSession).where(
            SignInSession.last_seen_at < now - timedelta(minutes=settings.session_idle_minutes)
        )
    )
    db.session.execute(
        sa.delete(PendingSignIn).where(PendingSignIn.created_at < now - SECOND_STEP_WITHIN)
    )
    db.session.execute(
        sa.delete(PasskeyChallenge).where(PasskeyChallenge.created_at < now - SECOND_STEP_WITHIN)
    )
    throttles.delete_stale_throttles()
    db.session.commit()


# --- Proving it once more --------------------------------------------------------------------


def is_confirmed(session: SignInSession) -> bool:
    """Whether its person has proved a moment ago who he is: a session can be left open."""
    return utcnow() - (session.confirmed_at or session.created_at) < CONFIRMED_FOR


def confirm(session: SignInSession, password: str, *, address: str = "") -> None:
    """Note that the person of a session knows his password.

    Raises Throttled, and InvalidInput naming `password`.
    """
    user = session.user
    keys = _throttle_keys(user.login, address)
    throttles.refuse_if_throttled(keys.values())
    if not passwords.verify(user.password_hash, password):
        _count_failure(keys)
        db.session.commit()
        raise InvalidInput("password", "This is not your password.")
    throttles.forget_attempts(keys["account"])
    db.session.execute(
        sa.update(SignInSession).where(SignInSession.id == session.id).values(confirmed_at=utcnow())
    )
    db.session.commit()


# --- Changing the password -------------------------------------------------------------------


def change_password(user: User, *, current: str, new: str, token: str, address: str = "") -> None:
    """Set a password the user has chosen, and end his other sessions.

    Raises InvalidInput naming `current` or `new`, Throttled after wrong current passwords.
    """
    keys = _throttle_keys(user.login, address)
    throttles.refuse_if_throttled(keys.values())
    if not passwords.verify(user.password_hash, current):
        _count_failure(keys)
        db.session.commit()
        raise InvalidInput("current", "This is not your current password.")
    if hmac.compare_digest(current.encode(), new.encode()):
        raise InvalidInput("new", "The new password must differ from the current one.")
    passwords.check_policy(new, login=user.login, field="new")
    set_chosen_password(user, new, address=address)
    end_sessions_of(user, but_token=token)
    db.session.commit()


def set_chosen_password(user: User, password: str, *, address: str = "") -> None:
    """Store a chosen password and audit it. The caller has checked it, and commits."""
    user.password_hash = passwords.hash_chosen(password)
    user.unconfirmed_hash = None
    user.must_change_password = False
    record_event(
        Actor.from_user(user, address),
        "password.changed",
        customer_id=user.customer_id,
        object_type="user",
        object_id=user.id,
    )
