"""Second factors of a person: one-time codes of an authenticator app (RFC 6238) and recovery codes.

Passkeys have a module of their own. Whoever changes factors here has proved who he is a moment ago;
that is the caller's to see to. The key of an app is sealed, recovery codes are hashed: they carry
more than 112 bits, so that one salted fast round is enough (NIST SP 800-63B, look-up secrets).
"""

from __future__ import annotations

import base64
import hmac
import secrets
import time
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NoReturn

import sqlalchemy as sa
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

from extensions import db, get_settings
from models import (
    Passkey,
    RecoveryCode,
    Role,
    SecurityNoticeKind,
    SignInPolicy,
    TotpFactor,
    User,
    table_of,
    utcnow,
)
from services import passwords, security_notices, throttles
from services.actors import Actor
from services.audit_events import record_event
from services.errors import Conflict, InvalidInput
from services.seals import SealBroken, sealer
from services.throttles import Limit

CODES = 10
CODE_LENGTH = 24
_CODE_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
_STEP_SECONDS = 30
_DIGITS = 6
_SECRET_BYTES = 20  # RFC 4226, section 4: 160 bits are recommended.
_SETUP_LASTS = timedelta(hours=1)
_PER_ADDRESS = Limit(5, 60)
_EVERYWHERE = Limit(10, 300)

WRONG_CODE = "This code is wrong. Enter the one that the app shows now."
USED_CODE = "This code has been used. Wait until the app shows the next one."
WRONG_RECOVERY_CODE = "This is none of your recovery codes, or it has been used."
_NOT_BEGUN = "This was begun too long ago. Begin again."
_LAST_ONE = (
    "Your role needs a second factor, and this is your only one. Add another before you remove it."
)


@dataclass(frozen=True, slots=True)
class TotpSetup:
    """What an authenticator app is given: the key in base32, and the same as a link."""

    secret: str = field(repr=False)
    uri: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Factors:
    """What a person has. `codes_made_at` is None where there are no recovery codes."""

    app: TotpFactor | None
    passkeys: Sequence[Passkey]
    codes_left: int
    codes_made_at: datetime | None
    is_required: bool

    @property
    def count(self) -> int:
        return len(self.passkeys) + (self.app is not None)

    @property
    def can_remove(self) -> bool:
        return self.count > 1 or not self.is_required


# --- Looking -------------------------------------------------------------------------------------


def list_factors(user: User) -> Factors:
    """What a person signs in with beside the password."""
    codes = db.session.execute(
        sa.select(
            sa.func.count().filter(RecoveryCode.used_at.is_(None)),
            sa.func.max(RecoveryCode.created_at),
        ).where(RecoveryCode.user_id == user.id)
    ).one()
    passkeys = db.session.scalars(
        sa.select(Passkey).where(Passkey.user_id == user.id).order_by(Passkey.name, Passkey.id)
    )
    return Factors(
        _find_app(user.id), list(passkeys), codes[0], codes[1], is_required_of(user.role)
    )


def is_required_of(role: Role) -> bool:
    """Whether a role needs a second factor."""
    found = db.session.scalar(
        sa.select(SignInPolicy.second_factor).where(SignInPolicy.role == role)
    )
    return bool(found)


def _find_app(user_id: int) -> TotpFactor | None:
    return db.session.scalar(
        sa.select(TotpFactor)
        .where(TotpFactor.user_id == user_id, TotpFactor.confirmed_at.is_not(None))
        .execution_options(populate_existing=True)
    )


# --- Setting up an authenticator app -------------------------------------------------------------


def begin_app(user: User) -> None:
    """Make a new key, which counts once a code of it has been entered."""
    seal = sealer().encrypt(secrets.token_bytes(_SECRET_BYTES))
    db.session.execute(sa.delete(TotpFactor).where(_is_unconfirmed(user.id)))
    db.session.add(TotpFactor(user_id=user.id, secret_seal=seal))
    db.session.commit()


def find_setup(user: User) -> TotpSetup | None:
    """The key that is being set up; None when none is, or for too long."""
    begun = _find_begun(user.id)
    if begun is None:
        return None
    try:
        key = sealer().decrypt(begun.secret_seal)
    except SealBroken:
        return None
    uri = _totp(key).get_provisioning_uri(user.login, get_settings().provider_name)
    return TotpSetup(base64.b32encode(key).decode(), uri)


def _find_begun(user_id: int) -> TotpFactor | None:
    return db.session.scalar(
        sa.select(TotpFactor)
        .where(_is_unconfirmed(user_id), TotpFactor.created_at > utcnow() - _SETUP_LASTS)
        .execution_options(populate_existing=True)
    )


def _is_unconfirmed(user_id: int) -> sa.ColumnElement[bool]:
    return sa.and_(TotpFactor.user_id == user_id, TotpFactor.confirmed_at.is_(None))


def confirm_app(actor: Actor, user: User, code: str) -> list[str] | None:
    """Let the key count from now on, in the place of an earlier one.

    Returns recovery codes to show once when the person had none. Raises Throttled, InvalidInput
    naming `code`, and Conflict when nothing is being set up.
    """
    begun = _find_begun(user.id)
    if begun is None:
        raise Conflict(_NOT_BEGUN)
    keys = _throttle_keys(user.id, actor.address)
    throttles.refuse_if_throttled(keys)
    step = _find_step(begun, code)
    if step is None:
        _count_failure(keys)
        db.session.commit()
        raise InvalidInput("code", WRONG_CODE)
    now = utcnow()
    replaced = db.session.connection().execute(
        sa.delete(TotpFactor).where(
            TotpFactor.user_id == user.id, TotpFactor.confirmed_at.is_not(None)
        )
    )
    confirmed = db.session.connection().execute(
        sa.update(TotpFactor)
        .where(TotpFactor.id == begun.id, TotpFactor.confirmed_at.is_(None))
        .values(confirmed_at=now, last_step=step, last_used_at=now)
    )
    if not confirmed.rowcount:  # The form was sent twice, or another key was begun meanwhile.
        db.session.rollback()
        raise Conflict(_NOT_BEGUN)
    codes = note_added(
        actor,
        user,
        "totp_factor.replaced" if replaced.rowcount else "totp_factor.added",
        SecurityNoticeKind.TOTP_ADDED,
    )
    _forget_failures(keys)
    db.session.commit()
    security_notices.start_mails()
    return codes


def remove_app(actor: Actor, user: User) -> None:
    """Take the authenticator app away. Raises Conflict for the last factor of a role that needs
    one."""
    factors = list_factors(user)
    if factors.app is None:
        return
    refuse_last(factors)
    db.session.execute(sa.delete(TotpFactor).where(TotpFactor.user_id == user.id))
    note_removed(actor, user, "totp_factor.removed", SecurityNoticeKind.TOTP_REMOVED)
    db.session.commit()
    security_notices.start_mails()


def refuse_last(factors: Factors) -> None:
    """Raise Conflict where a factor cannot be removed."""
    if not factors.can_remove:
        raise Conflict(_LAST_ONE)


# --- What every change of a factor brings about --------------------------------------------------


def note_added(
    actor: Actor, user: User, action: str, kind: SecurityNoticeKind, *, name: str = ""
) -> list[str] | None:
    """Note a new factor, and tell its person by mail; the caller commits, then starts mails.

    Returns recovery codes to show once when the person had none.
    """
    _note_change(actor, user, action, kind, name)
    has_codes = db.session.scalar(
        sa.select(
            sa.exists().where(RecoveryCode.user_id == user.id, RecoveryCode.used_at.is_(None))
        )
    )
    return None if has_codes else _make_codes(user)


def note_removed(
    actor: Actor, user: User, action: str, kind: SecurityNoticeKind, *, name: str = ""
) -> None:
    """The same for a factor that was taken away; with the last one its recovery codes go."""
    _note_change(actor, user, action, kind, name)
    if not user.has_second_factor:
        db.session.execute(sa.delete(RecoveryCode).where(RecoveryCode.user_id == user.id))


def _note_change(
    actor: Actor, user: User, action: str, kind: SecurityNoticeKind, name: str
) -> None:
    note_whether(user)
    record_event(
        actor,
        action,
        customer_id=user.customer_id,
        object_type="user",
        object_id=user.id,
        detail={"login": user.login, **({"name": name} if name else {})},
    )
    security_notices.note(user, kind, name=name, address=actor.address)


def note_whether(user: User) -> None:
    """Bring the person's row up to date with what he has. The caller commits."""
    db.session.flush()
    users = table_of(User)
    has_one = sa.or_(
        sa.exists().where(TotpFactor.user_id == user.id, TotpFactor.confirmed_at.is_not(None)),
        sa.exists().where(Passkey.user_id == user.id),
    )
    db.session.connection().execute(
        sa.update(users).where(users.c.id == user.id).values(has_second_factor=has_one)
    )
    db.session.refresh(user, ["has_second_factor"])


# --- Codes ---------------------------------------------------------------------------------------


def check_code(user: User, code: str, *, address: str = "") -> None:
    """Accept a code of the person's app, each once. The caller commits.

    The one before and the one after are accepted, for clocks that are not quite right. Raises
    Throttled, and InvalidInput naming `code`.
    """
    keys = _throttle_keys(user.id, address)
    throttles.refuse_if_throttled(keys)
    factor = _find_app(user.id)
    step = _find_step(factor, code) if factor is not None else None
    if factor is None or step is None:
        _refuse(keys, WRONG_CODE)
    spent = db.session.connection().execute(
        sa.update(TotpFactor)
        .where(TotpFactor.id == factor.id, TotpFactor.last_step < step)
        .values(last_step=step, last_used_at=utcnow())
    )
    if not spent.rowcount:
        _refuse(keys, USED_CODE)
    _forget_failures(keys)


def _find_step(factor: TotpFactor, code: str) -> int | None:
    """The step whose code it is, None for a wrong one."""
    given = "".join(unicodedata.normalize("NFKC", code).split())
    if len(given) != _DIGITS or not (given.isascii() and given.isdecimal()):
        return None
    try:
        totp = _totp(sealer().decrypt(factor.secret_seal))
    except SealBroken:
        return None
    now = int(time.time()) // _STEP_SECONDS
    found = None
    for step in (now - 1, now, now + 1):
        if hmac.compare_digest(totp.generate(step * _STEP_SECONDS), given.encode()):
            found = step
    return found


def _totp(key: bytes) -> TOTP:
    # Six digits, 30 seconds and SHA-1 are what every authenticator app understands.
    return TOTP(key, _DIGITS, SHA1(), _STEP_SECONDS)  # noqa: S303


def use_recovery_code(user: User, code: str, *, address: str = "") -> int:
    """Accept one of the person's recovery codes, once; returns how many are left.

    The caller commits, then starts mails. Raises Throttled, and InvalidInput naming `code`.
    """
    keys = _throttle_keys(user.id, address)
    throttles.refuse_if_throttled(keys)
    given = "".join(each for each in code.casefold() if each.isalnum())
    unused = db.session.scalars(
        sa.select(RecoveryCode).where(
            RecoveryCode.user_id == user.id, RecoveryCode.used_at.is_(None)
        )
    ).all()
    match = None
    if len(given) == CODE_LENGTH and given.isascii():
        match = next((each for each in unused if passwords.verify(each.code_hash, given)), None)
    spent = 0
    if match is not None:
        spent = (
            db.session.connection()
            .execute(
                sa.update(RecoveryCode)
                .where(RecoveryCode.id == match.id, RecoveryCode.used_at.is_(None))
                .values(used_at=utcnow())
            )
            .rowcount
        )
    if not spent:
        _refuse(keys, WRONG_RECOVERY_CODE)
    _forget_failures(keys)
    record_event(
        Actor.from_user(user, address),
        "recovery_code.used",
        customer_id=user.customer_id,
        object_type="user",
        object_id=user.id,
        detail={"login": user.login, "left": len(unused) - 1},
    )
    security_notices.note(user, SecurityNoticeKind.RECOVERY_CODE_USED, address=address)
    return len(unused) - 1


def make_recovery_codes(actor: Actor, user: User) -> list[str]:
    """Ten new codes, to show once, in the place of all earlier ones.

    Raises Conflict for somebody without a second factor.
    """
    if not list_factors(user).count:
        raise Conflict("Recovery codes stand in for a second factor. Add one first.")
    codes = _make_codes(user)
    _note_change(actor, user, "recovery_codes.made", SecurityNoticeKind.RECOVERY_CODES_MADE, "")
    db.session.commit()
    security_notices.start_mails()
    return codes


def _make_codes(user: User) -> list[str]:
    db.session.execute(sa.delete(RecoveryCode).where(RecoveryCode.user_id == user.id))
    codes = [
        "".join(secrets.choice(_CODE_LETTERS) for _ in range(CODE_LENGTH)) for _ in range(CODES)
    ]
    db.session.add_all(
        RecoveryCode(user_id=user.id, code_hash=passwords.hash_generated(each)) for each in codes
    )
    return [_in_fours(each) for each in codes]


def _in_fours(text: str) -> str:
    return "-".join(text[at : at + 4] for at in range(0, len(text), 4))


# --- Throttling ----------------------------------------------------------------------------------


def _throttle_keys(user_id: int, address: str) -> dict[str, Limit]:
    """A person's tries from one address, and from everywhere; he alone knows the password."""
    return {
        f"second-step:{user_id}:{address[:64]}": _PER_ADDRESS,
        f"second-step:{user_id}": _EVERYWHERE,
    }


def _refuse(keys: dict[str, Limit], message: str) -> NoReturn:
    _count_failure(keys)
    db.session.commit()
    raise InvalidInput("code", message)


def _count_failure(keys: dict[str, Limit]) -> None:
    for key, limit in keys.items():
        throttles.count_attempt(key, limit)


def _forget_failures(keys: dict[str, Limit]) -> None:
    for key in keys:
        throttles.forget_attempts(key)


# --- Taking all of them away ---------------------------------------------------------------------


def remove_all(actor: Actor, user: User) -> bool:
    """Take every factor of a person away; False when he had none. The caller commits, then starts
    mails."""
    had = list_factors(user)
    forget_all(user)
    if not had.count:
        return False
    _note_change(actor, user, "second_factors.reset", SecurityNoticeKind.FACTORS_RESET, "")
    return True


def forget_all(user: User) -> None:
    """The same without a word to anybody, as for who is deleted."""
    forget_all_of([user.id])
    note_whether(user)


def forget_all_of(user_ids: Collection[int]) -> None:
    """The same for up to a thousand people, of whom the caller notes that they have none."""
    for model in (TotpFactor, RecoveryCode, Passkey):
        db.session.execute(sa.delete(model).where(model.user_id.in_(user_ids)))
