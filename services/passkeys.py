"""Passkeys (Web Authentication, level 3): adding, removing, and what they sign.

The checks of the standard are fido2's. Attestations are neither asked for nor looked at: nothing
here depends on who made an authenticator. What has to be signed is a row that is spent with the
first answer, right or wrong.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import logging
import secrets
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar
from urllib.parse import urlsplit

import idna
import sqlalchemy as sa
from cryptography.exceptions import UnsupportedAlgorithm
from fido2.server import Fido2Server
from fido2.utils import websafe_decode, websafe_encode
from fido2.webauthn import (
    AttestedCredentialData,
    AuthenticationResponse,
    PublicKeyCredentialDescriptor,
    PublicKeyCredentialRpEntity,
    PublicKeyCredentialType,
    PublicKeyCredentialUserEntity,
    RegistrationResponse,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import joinedload

from extensions import db, get_settings
from models import ChallengePurpose, Passkey, PasskeyChallenge, SecurityNoticeKind, User, utcnow
from services import second_factors, security_notices
from services.actors import Actor
from services.errors import Conflict, InvalidInput, NotFound
from services.registration_checks import clean_text

log = logging.getLogger(__name__)

T = TypeVar("T")

MOST = 20
"""Passkeys of one person."""

NAME_LENGTH = 64
_ANSWER_WITHIN = timedelta(minutes=10)
_LONGEST_ANSWER = 20_000
_LONGEST_ID = 1023  # Section 4 of the standard.

REFUSED = "The passkey was not accepted. Try again, or use another way."
_GONE = "You have no such passkey."

# What fido2 raises over answers that no browser sends.
_MALFORMED = (
    ValueError,
    KeyError,
    TypeError,
    IndexError,
    AttributeError,
    AssertionError,
    OverflowError,
    RecursionError,
    struct.error,
    UnsupportedAlgorithm,
)


# --- For which site ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RelyingParty:
    """The site that passkeys are for: its host name and the origin that browsers state."""

    id: str
    origin: str


def find_relying_party(host: str) -> RelyingParty | None:
    """The site, None where passkeys do not work. `host` is what the browser asked, with a port.

    It is PUBLIC_URL's. Where that has an address in the place of a name, as on one's own machine,
    `localhost` works all the same.
    """
    public = urlsplit(get_settings().public_url)
    name = public.hostname or ""
    if _is_name(name) and (public.scheme == "https" or name == "localhost"):
        with_port = f":{public.port}" if public.port else ""
        name = idna.encode(name, uts46=True).decode() if not name.isascii() else name
        return RelyingParty(name, f"{public.scheme}://{name}{with_port}")
    if not _is_name(name) and host.partition(":")[0] == "localhost":
        return RelyingParty("localhost", f"http://{host}")
    return None


def why_not(host: str) -> str:
    """Why passkeys do not work here; empty where they do."""
    if find_relying_party(host) is not None:
        return ""
    if _is_name(urlsplit(get_settings().public_url).hostname or ""):
        return "Passkeys need a portal whose address begins with https://."
    return (
        "Passkeys belong to a host name, and this portal is reached at a network address. On your "
        "own machine, localhost works as well."
    )


def _is_name(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return bool(host)
    return False


def _server(site: RelyingParty) -> Fido2Server:
    return Fido2Server(
        PublicKeyCredentialRpEntity(name=get_settings().provider_name, id=site.id),
        verify_origin=lambda origin: origin == site.origin,
    )


# --- What has to be signed -----------------------------------------------------------------------


def _new_challenge(purpose: ChallengePurpose, user: User | None) -> bytes:
    challenge = secrets.token_bytes(32)
    db.session.add(
        PasskeyChallenge(
            challenge=websafe_encode(challenge),
            purpose=purpose,
            user_id=user.id if user is not None else None,
        )
    )
    db.session.commit()
    return challenge


def _spend_challenge(answer: dict[str, Any], purpose: ChallengePurpose, user: User | None) -> str:
    """The challenge that an answer is to, which is no longer one. Raises InvalidInput."""
    challenge = _read(lambda: _challenge_of(answer))
    whose = PasskeyChallenge.user_id == user.id if user else PasskeyChallenge.user_id.is_(None)
    spent = db.session.connection().execute(
        sa.delete(PasskeyChallenge).where(
            PasskeyChallenge.challenge == challenge,
            PasskeyChallenge.purpose == purpose,
            PasskeyChallenge.created_at > utcnow() - _ANSWER_WITHIN,
            whose,
        )
    )
    db.session.commit()
    if not spent.rowcount:
        raise InvalidInput("passkey", "This took too long, or was answered before. Try again.")
    return challenge


def _challenge_of(answer: dict[str, Any]) -> str:
    client_data = json.loads(websafe_decode(answer["response"]["clientDataJSON"]))
    return websafe_encode(websafe_decode(client_data["challenge"]))


def _read(work: Callable[[], T]) -> T:
    """What `work` makes of an answer. Raises InvalidInput for one that is none, or is wrong."""
    try:
        return work()
    except _MALFORMED as error:
        log.info("a passkey's answer was refused: %s", type(error).__name__)
        raise InvalidInput("passkey", REFUSED) from None


def _parse(answer: str) -> dict[str, Any]:
    if not answer:
        raise InvalidInput("passkey", "Your browser sent no passkey. Try again.")
    if len(answer) > _LONGEST_ANSWER:
        raise InvalidInput("passkey", REFUSED)
    parsed = _read(lambda: json.loads(answer))
    if not isinstance(parsed, dict):
        raise InvalidInput("passkey", REFUSED)
    return parsed


def _state(challenge: str, verification: UserVerificationRequirement) -> dict[str, Any]:
    return {"challenge": challenge, "user_verification": verification}


# --- Adding --------------------------------------------------------------------------------------


def ask_for_new(user: User, site: RelyingParty) -> dict[str, Any]:
    """What a browser is told to make a passkey: the options of `navigator.credentials.create`."""
    known = _passkeys_of(user)
    if len(known) >= MOST:
        raise Conflict(f"You have {MOST} passkeys, which is the most. Remove one first.")
    options, _ = _server(site).register_begin(
        PublicKeyCredentialUserEntity(
            id=_handle_of(user), name=user.login, display_name=user.full_name
        ),
        [_descriptor(each) for each in known],
        resident_key_requirement=ResidentKeyRequirement.PREFERRED,
        user_verification=UserVerificationRequirement.PREFERRED,
        challenge=_new_challenge(ChallengePurpose.REGISTER, user),
    )
    return dict(options)


def add(
    actor: Actor, user: User, site: RelyingParty, *, name: str, answer: str
) -> tuple[Passkey, list[str] | None]:
    """Keep the passkey that a browser has made. `answer` is its JSON.

    Returns it with recovery codes to show once when the person had none. Raises InvalidInput naming
    `name` or `passkey`.
    """
    if not name.strip():
        raise InvalidInput("name", "Give the passkey a name, so that you know it again.")
    name = clean_text(name, "name", "The name", NAME_LENGTH)
    parsed = _parse(answer)
    challenge = _spend_challenge(parsed, ChallengePurpose.REGISTER, user)
    state = _state(challenge, UserVerificationRequirement.PREFERRED)
    made = _read(
        lambda: _server(site).register_complete(state, RegistrationResponse.from_dict(parsed))
    )
    credential = made.credential_data
    if credential is None or not 0 < len(credential.credential_id) <= _LONGEST_ID:
        raise InvalidInput("passkey", REFUSED)
    passkey = Passkey(
        user_id=user.id,
        name=name,
        credential_id=websafe_encode(credential.credential_id),
        credential=websafe_encode(credential),
        signatures=made.counter,
    )
    try:
        db.session.add(passkey)
        db.session.flush()
    except IntegrityError:
        db.session.rollback()
        raise InvalidInput("passkey", "This passkey is known already.") from None
    codes = second_factors.note_added(
        actor, user, "passkey.added", SecurityNoticeKind.PASSKEY_ADDED, name=name
    )
    db.session.commit()
    security_notices.start_mails()
    return passkey, codes


def get_passkey(user: User, passkey_id: int) -> Passkey:
    """One of the person's passkeys. Raises NotFound."""
    found = db.session.scalar(
        sa.select(Passkey).where(Passkey.id == passkey_id, Passkey.user_id == user.id)
    )
    if found is None:
        raise NotFound(_GONE)
    return found


def remove(actor: Actor, user: User, passkey_id: int) -> Passkey:
    """Forget one of the person's passkeys. Raises NotFound, and Conflict for the last factor of a
    role that needs one."""
    passkey = get_passkey(user, passkey_id)
    second_factors.refuse_last(second_factors.list_factors(user))
    db.session.execute(sa.delete(Passkey).where(Passkey.id == passkey.id))
    second_factors.note_removed(
        actor, user, "passkey.removed", SecurityNoticeKind.PASSKEY_REMOVED, name=passkey.name
    )
    db.session.commit()
    security_notices.start_mails()
    return passkey


# --- Signing in ----------------------------------------------------------------------------------


def ask(user: User | None, site: RelyingParty) -> dict[str, Any]:
    """What a browser is told to ask a passkey: the options of `navigator.credentials.get`.

    Of `user`, any of his passkeys, after his password; without one, any that the authenticator has
    for this site, and it has to make sure whose hands it is in.
    """
    purpose = ChallengePurpose.SIGN_IN if user is None else ChallengePurpose.SECOND_STEP
    known = None if user is None else [_descriptor(each) for each in _passkeys_of(user)]
    options, _ = _server(site).authenticate_begin(
        known, user_verification=_verification(user), challenge=_new_challenge(purpose, user)
    )
    return dict(options)


def check(user: User | None, site: RelyingParty, answer: str) -> Passkey:
    """The passkey whose answer it is, with its person loaded. The caller commits.

    Raises InvalidInput naming `passkey`. An authenticator that counts must have counted on: one
    that has not was copied.
    """
    parsed = _parse(answer)
    purpose = ChallengePurpose.SIGN_IN if user is None else ChallengePurpose.SECOND_STEP
    challenge = _spend_challenge(parsed, purpose, user)
    given = _read(lambda: AuthenticationResponse.from_dict(parsed))
    passkey = _find_passkey(given.raw_id)
    if passkey is None or (user is not None and passkey.user_id != user.id):
        raise InvalidInput("passkey", "This passkey is not known here. It may have been removed.")
    handle = given.response.user_handle
    if user is None and handle != _handle_of(passkey.user):
        raise InvalidInput("passkey", REFUSED)
    _read(
        lambda: _server(site).authenticate_complete(
            _state(challenge, _verification(user)),
            [AttestedCredentialData(websafe_decode(passkey.credential))],
            given,
        )
    )
    counter = given.response.authenticator_data.counter
    counts_on = Passkey.signatures < counter if counter else Passkey.signatures == 0
    noted = db.session.connection().execute(
        sa.update(Passkey)
        .where(Passkey.id == passkey.id, counts_on)
        .values(signatures=counter, last_used_at=utcnow())
    )
    if not noted.rowcount:
        log.warning("passkey %d has not counted on: it may have been copied", passkey.id)
        raise InvalidInput("passkey", REFUSED)
    return passkey


def _handle_of(user: User) -> bytes:
    """What authenticators know the account by: always the same, and saying nothing of its person
    (section 14.6.1 of the standard)."""
    return hashlib.sha256(f"{user.id} {user.created_at.isoformat()}".encode()).digest()


def _verification(user: User | None) -> UserVerificationRequirement:
    """After a password, having the authenticator is enough; alone it has to be two factors."""
    if user is None:
        return UserVerificationRequirement.REQUIRED
    return UserVerificationRequirement.PREFERRED


def _find_passkey(credential_id: bytes) -> Passkey | None:
    if not 0 < len(credential_id) <= _LONGEST_ID:
        return None
    return db.session.scalar(
        sa.select(Passkey)
        .where(Passkey.credential_id == websafe_encode(credential_id))
        .options(joinedload(Passkey.user).joinedload(User.customer))
    )


def _passkeys_of(user: User) -> list[Passkey]:
    return list(
        db.session.scalars(
            sa.select(Passkey).where(Passkey.user_id == user.id).order_by(Passkey.id)
        )
    )


def _descriptor(passkey: Passkey) -> PublicKeyCredentialDescriptor:
    return PublicKeyCredentialDescriptor(
        type=PublicKeyCredentialType.PUBLIC_KEY, id=websafe_decode(passkey.credential_id)
    )
