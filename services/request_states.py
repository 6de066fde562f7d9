"""The state machine of subscription requests: which ways there are, and who may go them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from models import RequestState

S = RequestState

TRANSITIONS: Mapping[RequestState, frozenset[RequestState]] = {
    S.DRAFT: frozenset({S.SUBMITTED}),
    S.SUBMITTED: frozenset({S.AWAITING_APPROVAL, S.SCHEDULED}),
    S.AWAITING_APPROVAL: frozenset({S.SCHEDULED, S.CHANGES_REQUESTED, S.REJECTED, S.CANCELLED}),
    S.CHANGES_REQUESTED: frozenset({S.SUBMITTED, S.REJECTED, S.CANCELLED}),
    S.SCHEDULED: frozenset({S.SCHEDULED, S.PROVISIONING, S.CANCELLED}),
    S.PROVISIONING: frozenset({S.COMPLETED, S.FAILED}),
    S.FAILED: frozenset({S.PROVISIONING, S.ROLLING_BACK}),
    S.ROLLING_BACK: frozenset({S.CANCELLED, S.FAILED}),
    S.COMPLETED: frozenset(),
    S.REJECTED: frozenset(),
    S.CANCELLED: frozenset(),
}
"""Every way there is; what is not here cannot happen. From SCHEDULED to itself reschedules."""

ENDED = frozenset({S.COMPLETED, S.REJECTED, S.CANCELLED})
EDITABLE = frozenset({S.DRAFT, S.CHANGES_REQUESTED})
"""The registrant may change what he asks for."""

HOLDS_NAMES = frozenset(S) - ENDED - {S.DRAFT}


class RequestAction(StrEnum):
    """What a person can do with a request. Bulk actions are APPROVE and the SCHEDULE_ ones."""

    APPROVE = "approve"
    REJECT = "reject"
    ASK_FOR_CHANGES = "ask_for_changes"
    START_NOW = "start_now"
    SCHEDULE_OFF_PEAK = "schedule_off_peak"
    SCHEDULE_AT = "schedule_at"
    CANCEL = "cancel"
    RETRY = "retry"
    ROLL_BACK = "roll_back"


A = RequestAction

STAFF_ACTIONS: Mapping[RequestState, tuple[RequestAction, ...]] = {
    S.AWAITING_APPROVAL: (A.APPROVE, A.ASK_FOR_CHANGES, A.REJECT, A.CANCEL),
    S.CHANGES_REQUESTED: (A.REJECT, A.CANCEL),
    S.SCHEDULED: (A.START_NOW, A.SCHEDULE_OFF_PEAK, A.SCHEDULE_AT, A.CANCEL),
    S.FAILED: (A.RETRY, A.ROLL_BACK),
}
"""What operators may do, the usual one first. Approving chooses the start where the template leaves
it to the approver, or follows the template's rule."""

AUTHOR_ACTIONS: Mapping[RequestState, tuple[RequestAction, ...]] = {
    S.AWAITING_APPROVAL: (A.CANCEL,),
    S.CHANGES_REQUESTED: (A.CANCEL,),
    S.SCHEDULED: (A.CANCEL,),
}


class Waiting(StrEnum):
    """In whose hands a request is, as its reader sees it."""

    FOR_YOU = "waiting for you"
    FOR_PROVIDER = "waiting for the provider"
    FOR_REGISTRANT = "waiting for the registrant"
    SCHEDULED = "scheduled"
    WORKING = "working"
    STUCK = "stuck"
    DONE = "done"
    REJECTED = "rejected"
    CANCELLED = "cancelled"


def waiting_for(state: RequestState, *, is_staff: bool, is_author: bool) -> Waiting:
    """The word for where a request stands, for a member of staff or for whoever registered."""
    match state:
        case S.DRAFT | S.CHANGES_REQUESTED:
            return Waiting.FOR_YOU if is_author else Waiting.FOR_REGISTRANT
        case S.SUBMITTED | S.AWAITING_APPROVAL:
            return Waiting.FOR_YOU if is_staff else Waiting.FOR_PROVIDER
        case S.SCHEDULED:
            return Waiting.SCHEDULED
        case S.PROVISIONING | S.ROLLING_BACK:
            return Waiting.WORKING
        case S.FAILED:
            return Waiting.STUCK
        case S.COMPLETED:
            return Waiting.DONE
        case S.REJECTED:
            return Waiting.REJECTED
        case S.CANCELLED:
            return Waiting.CANCELLED


def may_move(from_state: RequestState, to_state: RequestState) -> bool:
    return to_state in TRANSITIONS[from_state]
