"""Where a request stands and what happens next, in the words of who reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from models import (
    ProvisioningStep,
    RequestState,
    RequestTransition,
    StartRule,
    StepState,
    SubscriptionRequest,
    utcnow,
)
from services.actors import Actor
from services.provisioning_steps import LABELS
from services.request_states import RequestAction, Waiting
from services.subscription_requests import CurrentStep, name_of, template_name_of, waiting_of

S = RequestState
A = RequestAction


class WaitingWord(NamedTuple):
    """A word as a pill shows it."""

    label: str
    colour: str
    symbol: str


WAITING_WORDS: Mapping[Waiting, WaitingWord] = {
    Waiting.FOR_YOU: WaitingWord("Waiting for you", "attention", "circle-alert"),
    Waiting.FOR_PROVIDER: WaitingWord("Waiting for the provider", "neutral", "clock"),
    Waiting.FOR_REGISTRANT: WaitingWord("Waiting for the registrant", "neutral", "clock"),
    Waiting.SCHEDULED: WaitingWord("Scheduled", "neutral", "calendar"),
    Waiting.WORKING: WaitingWord("Working", "neutral", "loader-circle"),
    Waiting.STUCK: WaitingWord("Stuck", "bad", "circle-x"),
    Waiting.DONE: WaitingWord("Done", "good", "circle-check"),
    Waiting.REJECTED: WaitingWord("Rejected", "neutral", "circle-minus"),
    Waiting.CANCELLED: WaitingWord("Cancelled", "neutral", "ban"),
}


@dataclass(frozen=True, slots=True)
class RequestShown:
    """A row of the list. `token` changes with everything in it that changes by itself."""

    request: SubscriptionRequest
    name: str
    template: str
    word: WaitingWord
    next_step: str
    planned_for: datetime | None
    is_draft: bool
    token: str

    @classmethod
    def of(
        cls,
        actor: Actor,
        request: SubscriptionRequest,
        step: CurrentStep | None,
        *,
        is_paused: bool,
    ) -> RequestShown:
        next_step = describe_next(actor, request, step, is_paused=is_paused)
        place = f"{step.position}{step.state[0]}" if step else "0"
        is_due = int(is_due_now(request))
        return cls(
            request=request,
            name=name_of(request),
            template=template_name_of(request),
            word=WAITING_WORDS[waiting_of(actor, request)],
            next_step=next_step,
            planned_for=request.scheduled_for if request.state is S.SCHEDULED else None,
            is_draft=request.state is S.DRAFT,
            token=f"{request.id}.{request.version}.{place}{is_due}{int(is_paused)}",
        )


def is_due_now(request: SubscriptionRequest) -> bool:
    planned = request.scheduled_for
    return request.state is S.SCHEDULED and planned is not None and planned <= utcnow()


def describe_next(
    actor: Actor,
    request: SubscriptionRequest,
    step: CurrentStep | None,
    *,
    is_paused: bool,
) -> str:
    """What comes next and who does it, short enough for a row."""
    if request.state is S.SCHEDULED and is_due_now(request):
        if is_paused and actor.is_staff:
            return "Starts when provisioning is no longer paused"
        return "Starts as soon as there is a place"
    if not actor.is_staff:
        return _NEXT_FOR_REGISTRANTS[request.state]
    version = request.template_version
    match request.state:
        case S.CHANGES_REQUESTED if request.created_by_id == actor.user_id:
            return _NEXT_FOR_REGISTRANTS[request.state]
        case S.AWAITING_APPROVAL if version and version.start_rule is StartRule.AT_APPROVAL:
            return "Approve it and choose the start, or reject it"
        case S.PROVISIONING | S.FAILED | S.ROLLING_BACK if step is not None:
            label = LABELS[step.name]
            if request.state is S.FAILED:
                return f"Failed at “{label}”: retry or roll back"
            at = f"{label} ({step.position} of {step.total})"
            return f"Undoing: {at}" if request.state is S.ROLLING_BACK else at
    return _NEXT_FOR_STAFF[request.state]


_NEXT_FOR_REGISTRANTS: Mapping[RequestState, str] = {
    S.DRAFT: "Complete the three tabs and create the tenant",
    S.SUBMITTED: "We look at it and tell you by e-mail",
    S.AWAITING_APPROVAL: "We look at it and tell you by e-mail",
    S.CHANGES_REQUESTED: "Make the changes and submit it again",
    S.SCHEDULED: "Provisioning starts by itself",
    S.PROVISIONING: "Your tenant is being set up",
    S.FAILED: "We look into it. You need not do anything",
    S.ROLLING_BACK: "What was set up is being removed",
    S.COMPLETED: "Sign in to your tenant",
    S.REJECTED: "Nothing, it is closed",
    S.CANCELLED: "Nothing, it is closed",
}
_NEXT_FOR_STAFF: Mapping[RequestState, str] = {
    S.DRAFT: "Complete the three tabs and create the tenant",
    S.SUBMITTED: "Approve or reject it",
    S.AWAITING_APPROVAL: "Approve or reject it",
    S.CHANGES_REQUESTED: "The registrant changes it and submits it again",
    S.SCHEDULED: "Provisioning starts by itself",
    S.PROVISIONING: "Provisioning begins",
    S.FAILED: "Retry or roll back",
    S.ROLLING_BACK: "Undoing what was made",
    S.COMPLETED: "Nothing, the tenant is ready",
    S.REJECTED: "Nothing, it is closed",
    S.CANCELLED: "Nothing, it is closed",
}


# --- The timeline ----------------------------------------------------------------------------

_CAME_TO: Mapping[RequestState, str] = {
    S.DRAFT: "Begun",
    S.SUBMITTED: "Submitted",
    S.AWAITING_APPROVAL: "Waits for approval",
    S.CHANGES_REQUESTED: "Changes asked for",
    S.SCHEDULED: "Scheduled",
    S.PROVISIONING: "Provisioning began",
    S.FAILED: "Provisioning failed",
    S.ROLLING_BACK: "Roll back began",
    S.COMPLETED: "Completed",
    S.REJECTED: "Rejected",
    S.CANCELLED: "Cancelled",
}
_WAYS: Mapping[tuple[RequestState, RequestState], str] = {
    (S.AWAITING_APPROVAL, S.SCHEDULED): "Approved",
    (S.CHANGES_REQUESTED, S.SUBMITTED): "Submitted again",
    (S.SCHEDULED, S.SCHEDULED): "Scheduled anew",
    (S.FAILED, S.PROVISIONING): "Retried",
    (S.ROLLING_BACK, S.FAILED): "Roll back failed",
    (S.ROLLING_BACK, S.CANCELLED): "Rolled back and cancelled",
}


def describe_transition(line: RequestTransition) -> str:
    """A line of the timeline in a word or two."""
    return _WAYS.get((line.from_state, line.to_state)) or _CAME_TO[line.to_state]


def describe_actor(actor: Actor, line: RequestTransition) -> str:
    """Who did it: to registrants, staff are the provider."""
    if line.actor_id is None and line.actor_login == "system":
        return "By itself"
    if line.actor_id is not None and line.actor_id == actor.user_id:
        return "You"
    if actor.is_staff:
        return line.actor.full_name if line.actor else line.actor_login
    return "The provider"


# --- Steps ---------------------------------------------------------------------------------------

_STEP_SIGNS: Mapping[StepState, tuple[str, str, str, str]] = {
    StepState.PENDING: ("waiting", "circle-dashed", "Waiting", "neutral"),
    StepState.RUNNING: ("running", "loader-circle", "Running", "neutral"),
    StepState.WAITING: ("waiting", "clock", "Waits for its next try", "attention"),
    StepState.DONE: ("done", "circle-check", "Done", "good"),
    StepState.FAILED: ("failed", "circle-x", "Failed", "bad"),
    StepState.UNDOING: ("running", "loader-circle", "Undoing", "neutral"),
    StepState.UNDONE: ("skipped", "undo-2", "Undone", "neutral"),
}


@dataclass(frozen=True, slots=True)
class StepShown:
    """A step of the vertical line; `output` and `error` are for staff alone."""

    name: str
    label: str
    css: str
    symbol: str
    word: str
    colour: str
    duration: str
    attempts: int
    output: str
    error: str
    token: str

    @classmethod
    def of(cls, actor: Actor, step: ProvisioningStep) -> StepShown:
        css, symbol, word, colour = _STEP_SIGNS[step.state]
        is_running = step.state in (StepState.RUNNING, StepState.UNDOING)
        seconds = None
        if step.started_at is not None and (step.ended_at or is_running):
            seconds = ((step.ended_at or utcnow()) - step.started_at).total_seconds()
        duration = _duration(seconds) if seconds is not None else ""
        return cls(
            name=step.name.value,
            label=LABELS[step.name],
            css=css,
            symbol=symbol,
            word=word,
            colour=colour,
            duration=duration,
            attempts=step.attempts,
            output=step.output if actor.is_staff else "",
            error=step.error if actor.is_staff else "",
            token=f"{step.state[:3]}{step.attempts}{int(seconds or 0) if is_running else ''}",
        )


def _duration(seconds: float) -> str:
    """How long a step took: `0.4 s`, `12 s`, `3 min 20 s`."""
    seconds = max(seconds, 0.1)
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"
