"""Subscription requests: what became of a tenant that was asked for."""

from __future__ import annotations

from typing import Annotated, Any

from flask import Response
from pydantic import Field

from blueprints.api.fields import Line, Listing, ListQuery, Shown, Utc
from blueprints.api.operations import Answer, Call, answer, answer_page, operation
from models import (
    ApiScope,
    ProvisioningStep,
    RequestState,
    RequestTransition,
    StepName,
    StepState,
    SubscriptionRequest,
)
from services import provisioning, subscription_requests
from services.request_states import Waiting
from services.subscription_requests import RequestFilter, name_of, template_name_of, waiting_of

_TAG = "Subscription requests"
_ALL = "/group/<groupno>/requests"


class RequestListed(Shown):
    """A tenant that was asked for. Each request becomes one customer at most."""

    id: int
    groupno: int
    state: RequestState
    waiting: Waiting = Field(description="In whose hands it is, as an operator sees it.")
    name: str
    short_name: str
    upn_suffix: str
    template: str = Field(description="The service template it was made with.")
    custno: int | None = Field(description="The customer's number, once the request is completed.")
    scheduled_for: Utc | None = Field(description="When its provisioning is to begin.")
    submitted_at: Utc | None
    changed_at: Utc
    ended_at: Utc | None
    comment: str = Field(
        description="What the provider asked to be changed, or why it was rejected or cancelled."
    )


class Applicant(Shown):
    """Who the provider writes to about the request."""

    company: str
    name: str
    email: str
    phone: str
    street: str
    postal_code: str
    city: str
    region: str
    country: str = Field(description="ISO 3166-1 alpha-2.")


class TimelineEntry(Shown):
    """One change of state."""

    at: Utc
    from_state: RequestState
    to_state: RequestState
    by: str = Field(description="The login of who did it; `system` for what happens by itself.")
    reason: str
    scheduled_for: Utc | None


class StepShown(Shown):
    """One step of the provisioning; `error` is what its last attempt met."""

    name: StepName
    state: StepState
    attempts: int
    error: str
    started_at: Utc | None
    ended_at: Utc | None


class RequestShown(RequestListed):
    """A request with what was asked for, its timeline and the steps of its provisioning."""

    admin_login: str = Field(description="The login of the first administrator.")
    ani: str = Field(description="The calling number, in E.164.")
    language: str
    time_zone: str
    options: dict[str, Any] = Field(description="Service options by name.")
    contact: Applicant
    timeline: list[TimelineEntry] = Field(description="Oldest first, up to the newest 200.")
    steps: list[StepShown] = Field(description="In their order; empty before it begins.")


def _listed_values(call: Call, request: SubscriptionRequest) -> dict[str, Any]:
    customer = request.customer if request.state is RequestState.COMPLETED else None
    return {
        "id": request.id,
        "groupno": call.group.groupno,
        "state": request.state,
        "waiting": waiting_of(call.actor, request),
        "name": name_of(request),
        "short_name": request.short_name,
        "upn_suffix": request.upn_suffix,
        "template": template_name_of(request),
        "custno": customer.custno if customer is not None else None,
        "scheduled_for": request.scheduled_for,
        "submitted_at": request.submitted_at,
        "changed_at": request.changed_at,
        "ended_at": request.ended_at,
        "comment": request.comment,
    }


def shown(call: Call, request: SubscriptionRequest) -> RequestShown:
    """A request in full, with its provisioning as far as it is."""
    run = provisioning.get_run(request.id)
    return RequestShown(
        **_listed_values(call, request),
        admin_login=request.admin_login,
        ani=request.ani,
        language=request.language,
        time_zone=request.time_zone,
        options=request.options,
        contact=Applicant(
            company=request.company,
            name=request.contact_name,
            email=request.contact_email,
            phone=request.contact_phone,
            street=request.street,
            postal_code=request.postal_code,
            city=request.city,
            region=request.region,
            country=request.country,
        ),
        timeline=list(map(_entry, subscription_requests.list_transitions(request))),
        steps=list(map(_step, run.steps if run is not None else ())),
    )


def _entry(line: RequestTransition) -> TimelineEntry:
    return TimelineEntry(
        at=line.at,
        from_state=line.from_state,
        to_state=line.to_state,
        by=line.actor.shown_login if line.actor is not None else line.actor_login,
        reason=line.reason,
        scheduled_for=line.scheduled_for,
    )


def _step(step: ProvisioningStep) -> StepShown:
    return StepShown.model_validate(step)


class RequestQuery(ListQuery):
    state: RequestState | None = Field(default=None, description="Those in this state alone.")
    q: Annotated[Line, Field(max_length=200)] = Field(
        default="",
        description="How the name, the short name, the UPN suffix or the contact's e-mail address "
        "begins, or the request's id. Finds the first 500.",
    )


@operation(
    "GET",
    _ALL,
    id="listRequests",
    tag=_TAG,
    summary="List Subscription Requests",
    scope=ApiScope.READ,
    query=RequestQuery,
    answers={200: Answer("A page of requests, newest first.", Listing[RequestListed])},
)
def list_requests(call: Call) -> Response:
    """The group's requests, whoever submitted them. Drafts are not among them."""
    page = subscription_requests.list_requests(
        call.actor,
        RequestFilter(search=call.query.q, state=call.query.state, group_id=call.group.id),
        size=call.query.limit,
        cursor=call.query.cursor,
    )
    items = [RequestListed(**_listed_values(call, each)) for each in page.rows]
    return answer_page(call, Listing[RequestListed], page, items)


@operation(
    "GET",
    f"{_ALL}/<request_id>",
    id="getRequest",
    tag=_TAG,
    summary="Get Subscription Request",
    scope=ApiScope.READ,
    answers={200: Answer("The request.", RequestShown)},
)
def get_request(call: Call) -> Response:
    """What became of a tenant that was asked for. A request has ended when its state is
    `completed`, `rejected` or `cancelled`; a completed one names the customer's number."""
    found = subscription_requests.get_request_of(call.actor, call.group, call.ids["request_id"])
    return answer(shown(call, found))
