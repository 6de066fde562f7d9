"""Suppressed addresses of a customer's users."""

from __future__ import annotations

from typing import Annotated

from flask import Response
from pydantic import Field

from blueprints.api.fields import Given, Line, Listing, ListQuery, Shown, Utc
from blueprints.api.operations import (
    Answer,
    Call,
    answer,
    answer_page,
    no_content,
    operation,
)
from models import ApiScope
from services import suppressions
from services.suppressions import REASON_LENGTH, SuppressedAddress

_TAG = "Suppressions"
_ALL = "/group/<groupno>/customer/<custno>/suppressions"


class AddressHolder(Shown):
    """A user who has the address."""

    id: int
    login: str


class SuppressionShown(Shown):
    """An address that gets no mail."""

    id: int
    address: str = Field(description="In lower case, as it is compared.")
    reason: str
    since: Utc
    users: list[AddressHolder] = Field(description="The customer's users who have it.")


def _shown(row: SuppressedAddress) -> SuppressionShown:
    return SuppressionShown(
        id=row.id,
        address=row.address,
        reason=row.reason,
        since=row.since,
        users=[AddressHolder(id=user.id, login=user.login) for user in row.users],
    )


class SuppressionQuery(ListQuery):
    q: Annotated[Line, Field(max_length=200)] = Field(
        default="",
        description="How the address begins, or the name, the surname or the login of a user who "
        "has it.",
    )


@operation(
    "GET",
    _ALL,
    id="listSuppressions",
    tag=_TAG,
    summary="List Suppressions",
    scope=ApiScope.READ,
    query=SuppressionQuery,
    answers={200: Answer("A page of addresses, in their order.", Listing[SuppressionShown])},
)
def list_suppressions(call: Call) -> Response:
    """The suppressed addresses that the customer's users have. An address is put here when a mail
    to it came back for good, or by Add Suppression."""
    page = suppressions.list_suppressed(
        call.actor,
        call.customer,
        search=call.query.q,
        size=call.query.limit,
        cursor=call.query.cursor,
    )
    return answer_page(call, Listing[SuppressionShown], page, [_shown(row) for row in page.rows])


class SuppressionGiven(Given):
    """An address to suppress."""

    address: Annotated[Line, Field(max_length=320)] = Field(
        description="One that a user of the customer has."
    )
    reason: Annotated[Line, Field(min_length=1, max_length=REASON_LENGTH)] = Field(
        description="For people who wonder why no mail comes."
    )


@operation(
    "POST",
    _ALL,
    id="addSuppression",
    tag=_TAG,
    summary="Add Suppression",
    scope=ApiScope.WRITE,
    body=SuppressionGiven,
    conflicts=True,
    answers={
        201: Answer(
            "The address gets no more mail.",
            SuppressionShown,
            links={
                "clearSuppression": {
                    "operationId": "clearSuppression",
                    "parameters": {"suppression_id": "$response.body#/id"},
                }
            },
        )
    },
    example={"address": "admin@kenton-electronics.com", "reason": "Asked for no more mail."},
)
def add_suppression(call: Call) -> Response:
    """Send no more mail to an address. It holds for whoever has the address, and for mails that
    wait. Answers 409 when it is suppressed already."""
    added = suppressions.add_suppression(
        call.actor, call.customer, call.body.address, call.body.reason
    )
    return answer(_shown(added), 201)


@operation(
    "DELETE",
    f"{_ALL}/<suppression_id>",
    id="clearSuppression",
    tag=_TAG,
    summary="Clear Suppression",
    scope=ApiScope.WRITE,
    answers={204: Answer("The next mail is sent again.")},
)
def clear_suppression(call: Call) -> Response:
    """Let mail go to an address again. What was skipped meanwhile is not sent by that."""
    suppressions.clear_suppressions(call.actor, call.customer, [call.ids["suppression_id"]])
    return no_content()
