"""Create Tenant: a draft without faults becomes a subscription request, once."""

from __future__ import annotations

from models import SubscriptionRequest
from services.actors import Actor
from services.errors import ServiceError
from services.registration_drafts import DraftCheck


class DraftFaults(ServiceError):
    """The draft cannot be submitted yet; `check` has every fault."""

    def __init__(self, check: DraftCheck) -> None:
        super().__init__("Some details are missing or need a change.")
        self.check = check


def submit(actor: Actor, request_id: int, *, draft_version: int) -> SubscriptionRequest:
    """Check everything again and submit; pressed again, the request is returned as it is.

    Raises DraftFaults, StaleDraft when another window changed the draft since, and NotFound.
    """
    raise NotImplementedError
