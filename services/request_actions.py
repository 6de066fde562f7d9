"""What people do with subscription requests: approve, send back, plan, cancel, mend.

Each action is one transaction, in which the request must still be as its actor saw it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from extensions import db
from models import (
    RequestState,
    RequestTransition,
    ServiceTemplateVersion,
    StartRule,
    SubscriptionRequest,
    is_storable,
    table_of,
    utcnow,
)
from services import provisioning, provisioning_policy, request_notifications
from services.actors import Actor, Permission
from services.bulk_rows import among
from services.errors import Conflict, Forbidden, InvalidInput, NotFound
from services.request_states import AUTHOR_ACTIONS, STAFF_ACTIONS, RequestAction
from services.request_transitions import Moved, move
from services.subscription_requests import get_request, requests_in_scope
from services.transactions import run_transaction

LONGEST_REASON = 2000
MOST_AT_ONCE = 500
"""Requests that one bulk action takes; one transaction must not hold the counters for long."""

LATEST_START = timedelta(days=365)

A = RequestAction
S = RequestState


class Start(StrEnum):
    """When provisioning begins: at once, in the next off-peak window, or at a time."""

    NOW = "now"
    OFF_PEAK = "off_peak"
    AT = "at"


class RequestChanged(Conflict):
    """Somebody was faster: `message` says who, what the request is now, and what that means."""


@dataclass(frozen=True, slots=True)
class BulkOutcome:
    """What a bulk action did, by id; `refused` has a sentence for each that it left alone."""

    done: list[int] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)


def available_actions(actor: Actor, request: SubscriptionRequest) -> tuple[RequestAction, ...]:
    """What the actor may do with the request as it is now, the usual one first."""
    raise NotImplementedError


def approve(
    actor: Actor,
    request_id: int,
    *,
    version: int,
    start: Start | None = None,
    at: datetime | None = None,
    reason: str = "",
) -> SubscriptionRequest:
    """Accept a request. `start` is for templates that leave the start to the approver."""
    raise NotImplementedError


def reject(actor: Actor, request_id: int, *, version: int, reason: str) -> SubscriptionRequest:
    """End a request for good; the contact is told the reason."""
    raise NotImplementedError


def ask_for_changes(
    actor: Actor, request_id: int, *, version: int, reason: str
) -> SubscriptionRequest:
    """Give a request back to its registrant with a comment."""
    raise NotImplementedError


def start_now(actor: Actor, request_id: int, *, version: int) -> SubscriptionRequest:
    """Let a planned request begin at once."""
    raise NotImplementedError


def schedule_off_peak(actor: Actor, request_id: int, *, version: int) -> SubscriptionRequest:
    """Move the start into the next off-peak window."""
    raise NotImplementedError


def schedule_at(
    actor: Actor, request_id: int, *, version: int, at: datetime
) -> SubscriptionRequest:
    """Move the start to the aware time `at`."""
    raise NotImplementedError


def cancel(
    actor: Actor, request_id: int, *, version: int, reason: str = ""
) -> SubscriptionRequest:
    """End a request for which nothing runs yet; its registrant may, too."""
    raise NotImplementedError


def retry(actor: Actor, request_id: int, *, version: int) -> SubscriptionRequest:
    """Let a failed run go on at the step that failed."""
    raise NotImplementedError


def roll_back(
    actor: Actor, request_id: int, *, version: int, reason: str = ""
) -> SubscriptionRequest:
    """Undo what a failed run has made; the request ends as cancelled."""
    raise NotImplementedError


def approve_many(
    actor: Actor,
    chosen: Mapping[int, int],
    *,
    start: Start | None = None,
    at: datetime | None = None,
) -> BulkOutcome:
    """Approve up to MOST_AT_ONCE requests, `chosen` by id with the version that was seen."""
    raise NotImplementedError


def schedule_many(
    actor: Actor, chosen: Mapping[int, int], *, start: Start, at: datetime | None = None
) -> BulkOutcome:
    """Plan up to MOST_AT_ONCE requests anew, `chosen` by id with the version that was seen."""
    raise NotImplementedError
