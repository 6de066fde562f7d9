"""Proof that a registrant holds his domain, by a TXT record; asked for where DOMAIN_PROOF is on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from models import SubscriptionRequest
from services.actors import Actor


class Resolver(Protocol):
    def find_texts(self, name: str) -> list[str]:
        """The TXT records of a name, none when it has none.

        Raises ResolverSilent when nobody answers in time.
        """
        ...


class ResolverSilent(Exception):
    """No name server answered, or not with an answer."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """The TXT record to add: `_foyer-challenge.<suffix>` with `value`."""

    name: str
    value: str
    proved: bool


def find_challenge(request: SubscriptionRequest) -> Challenge | None:
    """What has to be added to the DNS; None when no proof is asked for, or the suffix is faulty."""
    raise NotImplementedError


def prove_domain(
    actor: Actor, request_id: int, *, resolver: Resolver | None = None
) -> SubscriptionRequest:
    """Look the record of a draft up and note the proof; at once when it was proved before.

    Raises InvalidInput naming `upn_suffix` in plain words: not found, another value, no answer.
    """
    raise NotImplementedError
