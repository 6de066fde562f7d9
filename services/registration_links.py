"""Registration links: how prospects get in. Single-use, expiring, kept as hashes, mailed by a job.

The page writes a row without a token; the job makes the token, stores its hash and mails it. So
neither the database nor the queue ever holds a working link. The page does the same work for every
address: who gets no mail, the job decides.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from babel.dates import format_date
from redis.exceptions import RedisError
from sqlalchemy.orm import joinedload

from config import LANGUAGES, Registration
from extensions import db, get_settings, queues
from models import (
    RegistrationLink,
    Role,
    Suppression,
    User,
    UserStatus,
    fold,
    is_storable,
    table_of,
    utcnow,
)
from services import (
    email_templates,
    mail_lines,
    registration_checks,
    sign_ins,
    system_mails,
    throttles,
)
from services.actors import Actor
from services.audit_events import record_event
from services.errors import Conflict, InvalidInput
from services.mail_html import base_language
from services.smtp import ServerUnavailable
from services.throttles import Limit
from services.transactions import run_session_transaction, upsert

log = logging.getLogger(__name__)

_PER_HOUR = 5
_LONGEST_KEY = 300
_PER_NETWORK = Limit(20, 300)
_CLAIM_LASTS = timedelta(minutes=5)
_WISH_WAITS = timedelta(hours=1)
_INVITATION_WAITS = timedelta(days=1)
_KEEP_WISHES = timedelta(days=1)
_KEEP_INVITATIONS = timedelta(days=90)
_MOST_AT_ONCE = 500
_LOCALES = {"en": "en_GB", "de": "de", "fr": "fr", "nl": "nl"}
_NOBODY_TOOK_IT = "The mail server did not take it within a day."


class DeadLink(Conflict):
    """A link that does not sign in (any more); the message says why and what to do."""


# --- Asking for a link ---------------------------------------------------------------------------


def request_link(email: str, *, language: str = "en", address: str = "") -> int | None:
    """Note that someone asks for a link; returns the row's id, None when that were too many.

    The page answers the same either way. No more than five links an hour go to one e-mail address,
    however many ask at once. `address` is the network address of who asks. Raises InvalidInput
    naming `email`, and Throttled for a network that asks too often.
    """
    email = check_email(email)
    network = f"registration:{throttles.network_of(address)}"
    throttles.refuse_if_throttled([network])
    throttles.count_attempt(network, _PER_NETWORK)
    stand_in_line(email)
    recent = db.session.scalar(
        sa.select(sa.func.count()).where(
            RegistrationLink.email_key == fold(email),
            RegistrationLink.invited_by_id.is_(None),
            RegistrationLink.requested_at > utcnow() - timedelta(hours=1),
        )
    )
    if (recent or 0) >= _PER_HOUR:
        db.session.commit()
        return None
    link = RegistrationLink(
        email=email,
        email_key=fold(email),
        language=language if language in LANGUAGES else next(iter(LANGUAGES)),
        address=address[:64],
        expires_at=utcnow() + timedelta(minutes=get_settings().registration_link_minutes),
    )
    db.session.add(link)
    db.session.flush()
    record_event(
        Actor(None, "", None, address=address),
        "registration_link.requested",
        object_type="registration_link",
        object_id=link.id,
    )
    db.session.commit()
    start_mail(link.id)
    return link.id


def check_email(typed: str) -> str:
    """The address as mail is sent to it. Raises InvalidInput naming `email`."""
    typed = typed.strip()
    if not is_storable(typed) or "\ufffd" in typed:
        raise InvalidInput("email", "E-mail address has a character that is none. Type it by hand.")
    email = registration_checks.check_email(typed, "email", "E-mail address")
    if len(fold(email)) > _LONGEST_KEY:
        raise InvalidInput(
            "email", "E-mail address is written in letters that are too long. Use another."
        )
    return email


def stand_in_line(email: str) -> None:
    """Wait for who asks about the same e-mail address at this moment, until his commit."""
    throttles.count_attempt(f"registration-mail:{throttles.digest(email)}", Limit(_PER_HOUR, 0))


def start_mail(link_id: int) -> None:
    """Ask a worker to mail a link. Call it after the commit; the sweep finds what is forgotten."""
    try:
        queues.enqueue("default", "jobs.registration_links.mail_registration_link", link_id)
    except RedisError as error:
        log.warning("queue: %s (registration link %d waits)", type(error).__name__, link_id)


# --- Mailing it ----------------------------------------------------------------------------------


def list_unmailed() -> list[int]:
    """Ids of links that wait for a job; none while the line is blocked.

    One's own wish is of no use after an hour; an invitation is tried for a day.
    """
    if mail_lines.find_block() is not None:
        return []
    now = utcnow()
    return list(
        db.session.scalars(
            sa.select(RegistrationLink.id)
            .where(_is_unmailed(now), RegistrationLink.requested_at > now - _INVITATION_WAITS)
            .order_by(RegistrationLink.requested_at)
            .limit(_MOST_AT_ONCE)
        )
    )


def _is_unmailed(now: datetime) -> sa.ColumnElement[bool]:
    """Neither mailed nor at its end, still of use, and no job has been at it for a while."""
    return sa.and_(
        RegistrationLink.mailed_at.is_(None),
        RegistrationLink.ended_at.is_(None),
        RegistrationLink.used_at.is_(None),
        sa.or_(
            RegistrationLink.claimed_at.is_(None), RegistrationLink.claimed_at < now - _CLAIM_LASTS
        ),
        sa.or_(
            RegistrationLink.invited_by_id.is_not(None),
            RegistrationLink.requested_at > now - _WISH_WAITS,
        ),
    )


def mail_link(link_id: int) -> bool:
    """Make the link's token and mail it; False when there is nothing (more) to do.

    One job at a time works on a link. A repeat after a crash makes a new token, so only the newest
    mail's link works. The link's time begins now. One that nobody may use, or whose mail is refused
    for good, ends here. A refusal for now is tried again in five minutes. Raises MailDelayed or
    ServerUnavailable when it is worth another try.
    """
    now, settings = utcnow(), get_settings()
    token = secrets.token_urlsafe(32)
    claimed = db.session.connection().execute(
        sa.update(RegistrationLink)
        .where(RegistrationLink.id == link_id, _is_unmailed(now))
        .values(
            claimed_at=now,
            token_hash=_hash(token),
            expires_at=sa.case(
                (
                    RegistrationLink.invited_by_id.is_(None),
                    now + timedelta(minutes=settings.registration_link_minutes),
                ),
                else_=now + timedelta(days=settings.registration_invitation_days),
            ),
        )
    )
    db.session.commit()
    if not claimed.rowcount:
        return False
    link = _load(link_id)
    refusal = _find_refusal(link)
    if refusal:
        _note(token, link_id, ended_at=utcnow(), answer=refusal)
        return False
    try:
        _send(link, token)
    except system_mails.MailRefused as error:
        _note(token, link_id, ended_at=utcnow(), answer=str(error))
        return False
    except system_mails.MailDelayed as error:
        _note(token, link_id, answer=str(error))
        raise
    except ServerUnavailable as error:
        _note(token, link_id, claimed_at=None, answer=error.reason)
        raise
    _note(token, link_id, mailed_at=utcnow(), answer="")
    return True


def _load(link_id: int) -> RegistrationLink:
    return db.session.get_one(
        RegistrationLink,
        link_id,
        populate_existing=True,
        options=[
            joinedload(RegistrationLink.invited_by),
            joinedload(RegistrationLink.template),
        ],
    )


def _note(token: str, link_id: int, *, answer: str, **values: datetime | None) -> None:
    """What became of the mail with `token`; nothing when the link was renewed or ended since."""
    db.session.connection().execute(
        sa.update(RegistrationLink)
        .where(
            RegistrationLink.id == link_id,
            RegistrationLink.token_hash == _hash(token),
            RegistrationLink.ended_at.is_(None),
            RegistrationLink.used_at.is_(None),
        )
        .values(answer=answer[:500], **values)
    )
    db.session.commit()


def _find_refusal(link: RegistrationLink) -> str:
    """Why a link is not mailed; empty when it is."""
    suppressed = find_suppression(link.email)
    if suppressed is not None:
        return f"This address gets no mail: {suppressed.reason}"
    return _find_bar(link, find_prospect(link.email))


def find_suppression(email: str) -> Suppression | None:
    return db.session.scalar(sa.select(Suppression).where(Suppression.email_key == fold(email)))


def _send(link: RegistrationLink, token: str) -> None:
    settings = get_settings()
    name = "registration_link" if link.invited_by_id is None else "registration_invitation"
    language = base_language(link.language)
    prepared = email_templates.prepare_system_mail(name, language)
    values = {
        "provider name": settings.provider_name,
        "registration link": f"{settings.public_url}/tenant-registration/link/{token}",
        "registration page": f"{settings.public_url}/tenant-registration",
        "valid for": f"{settings.registration_link_minutes} min",
        "valid until": format_date(link.expires_at.date(), "long", locale=_LOCALES[language]),
        "inviter": link.invited_by.full_name if link.invited_by else "",
        "service template": link.template.name if link.template else "",
        "message": link.message,
    }
    email = link.email
    db.session.commit()  # No transaction is open while the server thinks.
    system_mails.send(prepared, values, to_name="", to_address=email)


# --- Using it ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entered:
    """Who got in: the prospect, the token of his session, and the invitation that he accepted."""

    user: User
    token: str
    invitation_id: int | None


def get_link(token: str) -> RegistrationLink:
    """The link that a token opens; looking does not spend it. Raises DeadLink."""
    link = db.session.scalar(
        sa.select(RegistrationLink).where(RegistrationLink.token_hash == _hash(token))
    )
    if link is None:
        raise DeadLink("It is not known here. It may be incomplete, or a newer one was sent.")
    if link.used_at is not None:
        raise DeadLink("It has been used. Each link signs in once.")
    if link.ended_at is not None:
        if link.invited_by_id is None:
            raise DeadLink("Another link to the same address has been used since.")
        raise DeadLink("The invitation was withdrawn.")
    if link.expires_at <= utcnow():
        raise DeadLink("It is too old.")
    bar = _find_bar(link, find_prospect(link.email))
    if bar:
        raise DeadLink(bar)
    return link


def use_link(token: str, *, address: str = "", user_agent: str = "", replaces: str = "") -> Entered:
    """Spend the link and begin a session of its prospect, whose account is made at the first use.

    `replaces` is the token of the session that this one supersedes. However many press at once, one
    gets in. Raises DeadLink.
    """
    return run_session_transaction(
        lambda: _use(token, address=address, user_agent=user_agent, replaces=replaces)
    )


def _use(token: str, *, address: str, user_agent: str, replaces: str) -> Entered:
    now = utcnow()
    link_id = db.session.scalar(
        sa.update(RegistrationLink)
        .where(
            RegistrationLink.token_hash == _hash(token),
            RegistrationLink.used_at.is_(None),
            RegistrationLink.ended_at.is_(None),
            RegistrationLink.expires_at > now,
        )
        .values(used_at=now)
        .returning(RegistrationLink.id)
    )
    if link_id is None:
        db.session.rollback()
        get_link(token)
        raise DeadLink("It has been used. Each link signs in once.")
    link = _load(link_id)
    user = find_prospect(link.email)
    bar = _find_bar(link, user)
    if bar:
        db.session.rollback()
        raise DeadLink(bar)
    if user is None:
        user = _make_prospect(link, address)
    user.last_sign_in_at = now
    _end_other_wishes(link, now)
    session = sign_ins.begin_session(
        user, address=address, user_agent=user_agent, replaces=replaces
    )
    invited = link.invited_by_id is not None
    record_event(
        Actor.from_user(user, address),
        "invitation.accepted" if invited else "registration_link.used",
        object_type="registration_link",
        object_id=link.id,
    )
    db.session.commit()
    return Entered(user, session, link.id if invited else None)


def find_prospect(email: str) -> User | None:
    """The account of a prospect, whatever its status; None when there is none yet."""
    return db.session.scalar(
        sa.select(User)
        .where(User.login_key == fold(_login(email)), User.role == Role.PROSPECT)
        .execution_options(populate_existing=True)
    )


def _login(email: str) -> str:
    return f"prospect:{email}"


def _find_bar(link: RegistrationLink, prospect: User | None) -> str:
    """Why a link does not sign in; empty when it does.

    Who has registered before always gets in, to follow his requests. Keys are folded, so that two
    mailboxes may share one (`groß@…` and `gross@…`): the account is of the first, and only of that.
    """
    if prospect is not None:
        if prospect.status is not UserStatus.ACTIVE:
            return "Registration with this address has been stopped."
        if prospect.email.lower() != link.email.lower():
            return "Another address that is written almost the same is registered already."
        return ""
    mode = get_settings().registration
    if mode is Registration.CLOSED:
        return "Registration is closed at present."
    if mode is Registration.INVITATION and link.invited_by_id is None:
        return "Registration is by invitation."
    return ""


def _make_prospect(link: RegistrationLink, address: str) -> User:
    """The account of a verified address; of two that are made at once there is one."""
    login = _login(link.email)
    made = db.session.scalar(
        upsert(table_of(User))
        .values(
            role=Role.PROSPECT,
            login=login,
            login_key=fold(login),
            email=link.email,
            email_key=link.email_key,
            language=link.language,
            created_at=utcnow(),
        )
        .on_conflict_do_nothing()
        .returning(table_of(User).c.id)
    )
    user = find_prospect(link.email)
    bar = _find_bar(link, user)
    if user is None or bar:
        db.session.rollback()
        raise DeadLink(bar or "It has been used. Each link signs in once.")
    if made is not None:
        record_event(
            Actor.from_user(user, address),
            "prospect.created",
            object_type="user",
            object_id=user.id,
        )
    return user


def _end_other_wishes(link: RegistrationLink, now: datetime) -> None:
    """Links that were asked for besides; whoever finds those mails later does not get in."""
    db.session.connection().execute(
        sa.update(RegistrationLink)
        .where(
            RegistrationLink.email_key == link.email_key,
            RegistrationLink.invited_by_id.is_(None),
            RegistrationLink.used_at.is_(None),
            RegistrationLink.ended_at.is_(None),
        )
        .values(ended_at=now)
    )


# --- Cleaning up ---------------------------------------------------------------------------------


def delete_stale_links() -> None:
    """End invitations that no server took for a day, and forget what is of no use any more.

    Wishes are kept for a day, so that an old link can be told from a wrong one; invitations that
    nobody accepted for 90 days after they ended. Some at a time.
    """
    now = utcnow()
    refused = sa.func.coalesce(sa.func.nullif(RegistrationLink.answer, ""), _NOBODY_TOOK_IT)
    db.session.connection().execute(
        sa.update(RegistrationLink)
        .where(
            RegistrationLink.mailed_at.is_(None),
            RegistrationLink.ended_at.is_(None),
            RegistrationLink.used_at.is_(None),
            RegistrationLink.invited_by_id.is_not(None),
            RegistrationLink.requested_at < now - _INVITATION_WAITS,
        )
        .values(ended_at=now, answer=refused)
    )
    for stale in (
        sa.and_(
            RegistrationLink.invited_by_id.is_(None),
            RegistrationLink.requested_at < now - _KEEP_WISHES,
        ),
        sa.and_(
            RegistrationLink.invited_by_id.is_not(None),
            RegistrationLink.used_at.is_(None),
            RegistrationLink.expires_at < now - _KEEP_INVITATIONS,
        ),
    ):
        some = sa.select(RegistrationLink.id).where(stale).limit(_MOST_AT_ONCE)
        db.session.connection().execute(
            sa.delete(RegistrationLink).where(RegistrationLink.id.in_(some))
        )
    db.session.commit()


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
