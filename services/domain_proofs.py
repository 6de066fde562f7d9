"""Proof that a registrant holds his domain, by a TXT record; asked for where DOMAIN_PROOF is on.

Each draft has a random token. A proof is of one suffix: who types another has to prove that one.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Protocol

import dns.exception
import dns.nameserver
import dns.resolver

from extensions import db, get_settings
from models import SubscriptionRequest, utcnow
from services import domain_names, registration_drafts, throttles
from services.actors import Actor
from services.domain_names import DomainName
from services.errors import Conflict, InvalidInput, Throttled
from services.registration_checks import Tab, form_values, is_proved

_LABEL = "_foyer-challenge"
_PREFIX = "foyer-domain-proof="
_FIELD = "upn_suffix"
_SECONDS = 4.0
_LIMIT = throttles.Limit(free=10, longest_wait=60)
_SHOWN = 80
_TRIES = 20


class Resolver(Protocol):
    def find_texts(self, name: str) -> list[str]:
        """The TXT records of a name, none when it has none.

        Raises ResolverSilent when nobody answers in time.
        """
        ...


class ResolverSilent(Exception):
    """No name server answered, or not with an answer."""


class DnsResolver:
    """Asks DNS_SERVERS, or those of the system, for `seconds` at most."""

    def __init__(self, seconds: float = _SECONDS) -> None:
        self._seconds = seconds

    def find_texts(self, name: str) -> list[str]:
        servers = get_settings().dns_servers
        try:
            resolver = dns.resolver.Resolver(configure=not servers)
            if servers:
                resolver.nameservers = [
                    dns.nameserver.Do53Nameserver(address, port) for address, port in servers
                ]
            answer = resolver.resolve(name, "TXT", lifetime=self._seconds, search=False)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        except (dns.exception.DNSException, OSError) as error:
            raise ResolverSilent from error
        return [b"".join(record.strings).decode("utf-8", "replace") for record in answer]


@dataclass(frozen=True, slots=True)
class Challenge:
    """The TXT record to add: `_foyer-challenge.<suffix>` with `value`."""

    name: str
    value: str
    proved: bool


def find_challenge(request: SubscriptionRequest) -> Challenge | None:
    """What has to be added to the DNS; None when no proof is asked for, or the suffix is faulty."""
    if not get_settings().domain_proof:
        return None
    try:
        suffix = _suffix_of(request)
    except InvalidInput:
        return None
    return Challenge(
        f"{_LABEL}.{suffix.ascii}", f"{_PREFIX}{request.domain_token}", is_proved(request, suffix)
    )


def prove_domain(
    actor: Actor, request_id: int, *, resolver: Resolver | None = None
) -> SubscriptionRequest:
    """Look the record of a draft up and note the proof; at once when it was proved before.

    Raises InvalidInput naming `upn_suffix` in plain words: not found, another value, no answer, or
    looked up too often.
    """
    request = registration_drafts.get_draft(actor, request_id)
    challenge = find_challenge(request)
    if challenge is None:
        _suffix_of(request)
        return request
    if challenge.proved:
        return request
    _slow_down(f"domain-proof:{actor.user_id}")
    _look_up(challenge, resolver or DnsResolver())
    for _ in range(_TRIES):
        if find_challenge(request) != challenge:
            raise Conflict(
                "The UPN suffix was changed in another window while its record was looked up."
            )
        proved = {**request.draft, "proved": challenge.name.removeprefix(f"{_LABEL}.")}
        changed = registration_drafts.change_draft(
            actor, request, proved, domain_proved_at=utcnow()
        )
        if changed is not None:
            return changed
        request = registration_drafts.get_draft(actor, request_id)
    raise Conflict("This registration is being changed in another window. Try again in a moment.")


def prove_order(
    actor: Actor, request: SubscriptionRequest, *, resolver: Resolver | None = None
) -> None:
    """Note the proof in a request that is not stored, for who asks without a draft.

    Its token is the same whenever the actor asks for the suffix. Raises InvalidInput naming
    `upn_suffix`, with the record to add.
    """
    if not get_settings().domain_proof:
        return
    suffix = _suffix_of(request)
    request.domain_token = _token_of(actor, suffix)
    challenge = find_challenge(request)
    if challenge is None:
        return
    # Of each suffix: whoever brings in hundreds of tenants asks for each of them once.
    _slow_down(f"domain-proof:{request.domain_token}")
    try:
        _look_up(challenge, resolver or DnsResolver())
    except InvalidInput as error:
        raise InvalidInput(
            _FIELD,
            f"It is not proved yet that {suffix.unicode} is the tenant's. {error.message} Add a "
            f"TXT record at {challenge.name} with the value {challenge.value}, then send the "
            "request again.",
        ) from None
    request.domain_proved_at = utcnow()
    request.draft = {**request.draft, "proved": suffix.ascii}


def _token_of(actor: Actor, suffix: DomainName) -> str:
    asked = f"domain-proof:{actor.credential_id}:{actor.user_id}:{suffix.ascii}"
    return hmac.new(get_settings().secret_key.encode(), asked.encode(), "sha256").hexdigest()


def _slow_down(key: str) -> None:
    """A silent name server keeps a web worker waiting, which nobody should do to all of them.

    Commits, so that no connection to the database waits along.
    """
    try:
        throttles.refuse_if_throttled([key])
    except Throttled as error:
        raise InvalidInput(_FIELD, error.message) from None
    throttles.count_attempt(key, _LIMIT)
    db.session.commit()


def _suffix_of(request: SubscriptionRequest) -> DomainName:
    typed = form_values(request, Tab.TENANT).get(_FIELD, "")
    return domain_names.parse_suffix(
        typed, allow_reserved=not get_settings().is_production, field=_FIELD
    )


def _look_up(challenge: Challenge, resolver: Resolver) -> None:
    try:
        texts = resolver.find_texts(challenge.name)
    except ResolverSilent:
        raise InvalidInput(
            _FIELD,
            f"No name server answered for {challenge.name}. Try again in a few minutes.",
        ) from None
    if not texts:
        raise InvalidInput(
            _FIELD,
            f"There is no TXT record at {challenge.name} yet. A new record can take an hour until "
            "it is seen everywhere.",
        )
    wanted = challenge.value.encode()
    if not any(hmac.compare_digest(text.strip().encode(), wanted) for text in texts):
        raise InvalidInput(
            _FIELD,
            f"The TXT record at {challenge.name} has another value: “{_plain(texts[0])}”. "
            f"It has to be “{challenge.value}”.",
        )


def _plain(text: str) -> str:
    shown = "".join(letter if letter.isprintable() else "\ufffd" for letter in text[:_SHOWN])
    return shown if len(text) <= _SHOWN else f"{shown}…"
