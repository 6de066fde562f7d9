"""Mailings to a customer's users, and their deliveries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from flask import Response
from pydantic import Field

from blueprints.api.fields import Given, Line, Listing, ListQuery, RowId, Shown, Utc
from blueprints.api.operations import Answer, Call, answer, answer_page, operation
from extensions import queues
from models import ApiScope, Delivery, DeliveryState, Mailing, MailingState, SkipReason
from services import mailing_controls, mailings
from services.actors import Actor, Permission
from services.mailing_orders import MOST_BUNDLES, MOST_USERS, MailingOrder, order_mailing

_TAG = "Mailings"
_ALL = "/group/<groupno>/customer/<custno>/mailings"
_ONE = f"{_ALL}/<mailing_id>"
_LINKS = {
    name: {"operationId": name, "parameters": {"mailing_id": "$response.body#/id"}}
    for name in (
        "getMailing",
        "listDeliveries",
        "pauseMailing",
        "resumeMailing",
        "cancelMailing",
        "retryMailing",
    )
}


class Counters(Shown):
    """How many deliveries are in which state; together they are `total`."""

    total: int
    queued: int
    sending: int
    sent: int
    bounced: int
    failed: int
    skipped: int
    cancelled: int


class PaceShown(Shown):
    """How fast it goes."""

    per_second: float = Field(description="Mails so far, on average.")
    seconds_left: int | None = Field(description="At that rate; null while that is unknown.")


class MailingShown(Shown):
    """One action that sends a template to recipients who were frozen when it was accepted."""

    id: int
    template: str
    state: MailingState
    author: str = Field(description="The person or the credential that started it.")
    resets_portal_password: bool
    resets_application_password: bool
    counters: Counters
    pace: PaceShown
    created_at: Utc
    started_at: Utc | None
    finished_at: Utc | None


def _shown(mailing: Mailing) -> MailingShown:
    pace = mailings.measure_pace(mailing)
    return MailingShown(
        id=mailing.id,
        template=mailing.template_version.template.name,
        state=mailing.state,
        author=mailing.author,
        resets_portal_password=mailing.resets_portal_password,
        resets_application_password=mailing.resets_application_password,
        counters=Counters.model_validate(mailing),
        pace=PaceShown(per_second=round(pace.per_second, 3), seconds_left=pace.seconds_left),
        created_at=mailing.created_at,
        started_at=mailing.started_at,
        finished_at=mailing.finished_at,
    )


# --- Sending -------------------------------------------------------------------------------------


class MailingGiven(Given):
    """What is sent to whom: one of `users`, `logins` and `bundles`."""

    template: Annotated[Line, Field(max_length=64)] = Field(
        description="The name of an e-mail template, as List E-mail Templates has it."
    )
    users: list[RowId] = Field(
        default=[], max_length=MOST_USERS, description="Ids of the customer's users."
    )
    logins: list[Annotated[Line, Field(max_length=320)]] = Field(
        default=[], max_length=MOST_USERS, description="Logins of the customer's users."
    )
    bundles: list[Annotated[Line, Field(max_length=64)]] = Field(
        default=[],
        max_length=MOST_BUNDLES,
        description="Names of bundles: everybody gets the mail who has one of them.",
    )
    include_recent: bool = Field(
        default=False,
        description="Also who was sent the same template a moment ago, which is skipped otherwise.",
    )


@operation(
    "POST",
    _ALL,
    id="sendMailing",
    tag=_TAG,
    summary="Send Mailing",
    scope=ApiScope.SEND,
    body=MailingGiven,
    conflicts=True,
    answers={
        202: Answer(
            "The mailing is accepted; its Location tells how far it is.",
            MailingShown,
            headers=("Location",),
            links=_LINKS,
        )
    },
    example={"template": "Voicemail update", "bundles": ["Entry3PhoneNextGenBundle"]},
)
def send_mailing(call: Call) -> Response:
    """Send an e-mail template to users of the customer. Recipients are frozen at this moment: who
    is suspended, has no address or a suppressed one is in the mailing as skipped, with the reason.
    A mail that brings passwords changes the portal's only once the mail server has accepted it.
    Answers 409 when nobody has the bundles."""
    given: MailingGiven = call.body
    mailing = order_mailing(
        call.actor,
        call.customer,
        MailingOrder(
            template=given.template,
            users=given.users,
            logins=given.logins,
            bundles=given.bundles,
            include_recent=given.include_recent,
        ),
    )
    _start(mailing)
    return answer(_shown(mailing), 202, location=call.url("getMailing", mailing_id=mailing.id))


def _start(mailing: Mailing) -> None:
    queues.start_mailing(mailing.lane.value, mailing.id, mailing.waiting)


# --- Following -----------------------------------------------------------------------------------


@operation(
    "GET",
    _ALL,
    id="listMailings",
    tag=_TAG,
    summary="List Mailings",
    scope=ApiScope.READ,
    query=ListQuery,
    answers={200: Answer("A page of mailings, newest first.", Listing[MailingShown])},
)
def list_mailings(call: Call) -> Response:
    """The mailings that went to this customer alone, whoever started them."""
    page = mailings.list_mailings(
        call.actor, call.customer, size=call.query.limit, cursor=call.query.cursor
    )
    return answer_page(call, Listing[MailingShown], page, [_shown(each) for each in page.rows])


@operation(
    "GET",
    _ONE,
    id="getMailing",
    tag=_TAG,
    summary="Get Mailing",
    scope=ApiScope.READ,
    answers={200: Answer("The mailing.", MailingShown)},
)
def get_mailing(call: Call) -> Response:
    """How far a mailing is. It has ended when its state is `finished` or `cancelled`."""
    return answer(_shown(mailings.get_mailing(call.actor, call.customer, call.ids["mailing_id"])))


class DeliveryUser(Shown):
    """The user it is for."""

    id: int
    login: str


class DeliveryShown(Shown):
    """What became of the mail to one recipient."""

    id: int
    user: DeliveryUser
    email: str = Field(description="The address as it was when the mailing was accepted.")
    state: DeliveryState
    skip_reason: SkipReason | None = Field(description="Why the user gets no mail.")
    attempts: int
    answer_code: int | None = Field(description="The SMTP code that the mail server gave last.")
    answer: str = Field(description="What it said.")
    next_attempt_at: Utc | None = Field(description="While it waits.")
    sent_at: Utc | None = Field(description="When the mail server accepted the mail.")
    bounced_at: Utc | None = Field(description="When another server sent it back.")
    bounce_reason: str
    created_at: Utc


def _shown_delivery(delivery: Delivery) -> DeliveryShown:
    waits = delivery.state is DeliveryState.QUEUED
    return DeliveryShown(
        id=delivery.id,
        user=DeliveryUser(id=delivery.user_id, login=delivery.user.login),
        email=delivery.email,
        state=delivery.state,
        skip_reason=delivery.skip_reason,
        attempts=delivery.attempts,
        answer_code=delivery.answer_code,
        answer=delivery.answer,
        next_attempt_at=delivery.next_attempt_at if waits else None,
        sent_at=delivery.sent_at,
        bounced_at=delivery.bounced_at,
        bounce_reason=delivery.bounce_reason,
        created_at=delivery.created_at,
    )


class DeliveryQuery(ListQuery):
    state: DeliveryState | None = Field(default=None, description="Those in this state alone.")


@operation(
    "GET",
    f"{_ONE}/deliveries",
    id="listDeliveries",
    tag=_TAG,
    summary="List Deliveries",
    scope=ApiScope.READ,
    query=DeliveryQuery,
    answers={200: Answer("A page of deliveries.", Listing[DeliveryShown])},
)
def list_deliveries(call: Call) -> Response:
    """What became of the mail to each recipient, in the order in which they were frozen.

    Filtered by `queued`, in the order in which they are due: one that is tried again moves back.
    """
    mailing = mailings.get_mailing(call.actor, call.customer, call.ids["mailing_id"])
    page = mailings.list_deliveries(
        mailing, state=call.query.state, size=call.query.limit, cursor=call.query.cursor
    )
    items = [_shown_delivery(each) for each in page.rows]
    return answer_page(call, Listing[DeliveryShown], page, items)


# --- Steering ------------------------------------------------------------------------------------


def _steer(call: Call, act: Callable[[Actor, Mailing], object], *, starts: bool) -> Response:
    """Do it and answer the mailing as it is then."""

    def read() -> Mailing:
        return mailings.get_mailing(
            call.actor, call.customer, call.ids["mailing_id"], Permission.MAILINGS_SEND
        )

    act(call.actor, read())
    mailing = read()
    if starts:
        _start(mailing)
    return answer(_shown(mailing))


_STEERED = {200: Answer("The mailing as it is now.", MailingShown)}


@operation(
    "POST",
    f"{_ONE}/pause",
    id="pauseMailing",
    tag=_TAG,
    summary="Pause Mailing",
    scope=ApiScope.SEND,
    conflicts=True,
    answers=_STEERED,
)
def pause_mailing(call: Call) -> Response:
    """Hand out no more deliveries; those under way are finished. Answers 409 unless it runs."""
    return _steer(call, mailing_controls.pause_mailing, starts=False)


@operation(
    "POST",
    f"{_ONE}/resume",
    id="resumeMailing",
    tag=_TAG,
    summary="Resume Mailing",
    scope=ApiScope.SEND,
    conflicts=True,
    answers=_STEERED,
)
def resume_mailing(call: Call) -> Response:
    """Go on with a paused mailing. Answers 409 unless it is paused."""
    return _steer(call, mailing_controls.resume_mailing, starts=True)


@operation(
    "POST",
    f"{_ONE}/cancel",
    id="cancelMailing",
    tag=_TAG,
    summary="Cancel Mailing",
    scope=ApiScope.SEND,
    conflicts=True,
    answers=_STEERED,
)
def cancel_mailing(call: Call) -> Response:
    """Cancel what waits. Mails that the mail server may already have are finished first. Answers
    409 when the mailing has ended or is being cancelled."""
    return _steer(call, mailing_controls.cancel_mailing, starts=False)


@operation(
    "POST",
    f"{_ONE}/retry",
    id="retryMailing",
    tag=_TAG,
    summary="Retry Mailing",
    scope=ApiScope.SEND,
    conflicts=True,
    answers=_STEERED,
)
def retry_mailing(call: Call) -> Response:
    """Send the failed deliveries again, with new passwords where the mail has some. Answers 409
    when none has failed, or the mailing was cancelled."""
    return _steer(call, mailing_controls.retry_failed, starts=True)
