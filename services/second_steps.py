"""The second step of a sign-in, and signing in with a passkey alone.

The password was right; who has a second factor gets no further without it. The sign-in that goes on
is spent by its second step, so that two of them begin one session.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import sqlalchemy as sa

from extensions import db
from models import CustomerStatus, PendingSignIn, User, UserStatus, utcnow
from services import passkeys, second_factors, security_notices, sign_ins, throttles
from services.actors import Actor
from services.audit_events import record_event
from services.errors import Conflict, InvalidInput
from services.passkeys import RelyingParty
from services.sign_ins import SignedIn
from services.throttles import Limit

T = TypeVar("T")

_PER_ADDRESS = Limit(20, 60)
_ASKED_PER_NETWORK = Limit(100, 60)
OVER = "This sign-in took too long. Enter your password again."


@dataclass(frozen=True, slots=True)
class Ways:
    """How a sign-in can be finished."""

    has_app: bool
    has_passkey: bool
    has_recovery_code: bool


def find_ways(pending: PendingSignIn) -> Ways:
    factors = second_factors.list_factors(pending.user)
    return Ways(factors.app is not None, bool(factors.passkeys), factors.codes_left > 0)


def finish_with_code(
    token: str, code: str, *, address: str = "", user_agent: str = "", replaces: str = ""
) -> SignedIn:
    """Finish a sign-in with a code of the person's app.

    Raises Conflict when it is over, Throttled, and InvalidInput naming `code`.
    """
    pending = _get(token)
    _check(pending, address, lambda: second_factors.check_code(pending.user, code, address=address))
    return _enter(token, pending, "code", address, user_agent, replaces)


def finish_with_recovery_code(
    token: str, code: str, *, address: str = "", user_agent: str = "", replaces: str = ""
) -> tuple[SignedIn, int]:
    """The same with a recovery code; returns how many are left, too."""
    pending = _get(token)
    left = _check(
        pending,
        address,
        lambda: second_factors.use_recovery_code(pending.user, code, address=address),
    )
    entered = _enter(token, pending, "recovery code", address, user_agent, replaces)
    security_notices.start_mails()
    return entered, left


def ask_passkey(token: str, site: RelyingParty) -> dict[str, object]:
    """What a browser is told to ask a passkey of the person. Raises Conflict when it is over."""
    return passkeys.ask(_get(token).user, site)


def finish_with_passkey(
    token: str,
    answer: str,
    site: RelyingParty,
    *,
    address: str = "",
    user_agent: str = "",
    replaces: str = "",
) -> SignedIn:
    """The same with a passkey. Raises InvalidInput naming `passkey`."""
    pending = _get(token)
    _check(pending, address, lambda: passkeys.check(pending.user, site, answer))
    return _enter(token, pending, "passkey", address, user_agent, replaces)


def ask_any_passkey(site: RelyingParty, *, address: str = "") -> dict[str, object]:
    """What a browser is told to ask any passkey for this site. Raises Throttled for a network that
    asks too often."""
    key = f"passkey:{throttles.network_of(address)}"
    throttles.refuse_if_throttled([key])
    throttles.count_attempt(key, _ASKED_PER_NETWORK)
    return passkeys.ask(None, site)


def sign_in_with_passkey(
    answer: str,
    site: RelyingParty,
    *,
    address: str = "",
    user_agent: str = "",
    replaces: str = "",
) -> SignedIn:
    """Sign in with a passkey that has made sure whose hands it is in, and nothing else.

    Raises Throttled, and InvalidInput naming `passkey`.
    """
    key = f"address:{address[:64]}"
    if address:
        throttles.refuse_if_throttled([key])
    try:
        user = passkeys.check(None, site, answer).user
        if not _is_active(user):
            raise InvalidInput("passkey", "This account cannot sign in.")
    except InvalidInput as error:
        db.session.rollback()
        if address:
            throttles.count_attempt(key, _PER_ADDRESS)
        record_event(Actor(None, "", None, address=address), "sign_in.refused")
        db.session.commit()
        raise error from None
    return _begin(user, "passkey alone", address, user_agent, replaces)


def _is_active(user: User) -> bool:
    customer = user.customer
    return user.status is UserStatus.ACTIVE and (
        customer is None or customer.status is CustomerStatus.ACTIVE
    )


def _get(token: str) -> PendingSignIn:
    pending = sign_ins.find_pending(token)
    if pending is None:
        raise Conflict(OVER)
    return pending


def _check(pending: PendingSignIn, address: str, work: Callable[[], T]) -> T:
    try:
        return work()
    except InvalidInput:
        db.session.rollback()
        record_event(
            Actor(pending.user.id, pending.user.login, pending.user.role, address=address),
            "sign_in.second_step_refused",
            customer_id=pending.user.customer_id,
            object_type="user",
            object_id=pending.user.id,
        )
        db.session.commit()
        raise


def _enter(
    token: str, pending: PendingSignIn, way: str, address: str, user_agent: str, replaces: str
) -> SignedIn:
    if not sign_ins.end_pending(token):  # The form was sent twice.
        db.session.rollback()
        raise Conflict(OVER)
    return _begin(pending.user, way, address, user_agent, replaces)


def _begin(user: User, way: str, address: str, user_agent: str, replaces: str) -> SignedIn:
    db.session.connection().execute(
        sa.update(User).where(User.id == user.id).values(last_sign_in_at=utcnow())
    )
    token = sign_ins.begin_session(
        user, address=address, user_agent=user_agent, replaces=replaces, way=way
    )
    db.session.commit()
    return SignedIn(user, token)
