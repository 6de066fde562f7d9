"""The Customer section of the API."""

from __future__ import annotations

from typing import Any

from flask import Response
from pydantic import Field

from blueprints.api.fields import Given, Shown, Utc
from blueprints.api.operations import Answer, Call, answer, no_content, operation
from extensions import queues
from models import ApiScope, Customer, CustomerStatus, Lane
from services import welcome_mails

_TAG = "Customer"
_ONE = "/group/<groupno>/customer/<custno>"


class Contact(Shown):
    """Who the provider writes to."""

    company: str
    name: str
    email: str
    phone: str
    street: str
    postal_code: str
    city: str
    region: str
    country: str = Field(description="ISO 3166-1 alpha-2; empty when it is not known.")


class CustomerShown(Shown):
    """A company served."""

    custno: int
    groupno: int
    web_id: str
    name: str
    short_name: str
    upn_suffix: str
    ani: str = Field(description="The calling number, in E.164.")
    status: CustomerStatus
    language: str
    time_zone: str
    contact: Contact
    options: dict[str, Any] = Field(description="Service options by name.")
    version: int = Field(description="Also its ETag; for If-Match.")
    created_at: Utc


def shown(customer: Customer) -> CustomerShown:
    return CustomerShown(
        custno=customer.custno,
        groupno=customer.group.groupno,
        web_id=customer.web_id,
        name=customer.name,
        short_name=customer.short_name,
        upn_suffix=customer.upn_suffix,
        ani=customer.ani,
        status=customer.status,
        language=customer.language,
        time_zone=customer.time_zone,
        contact=Contact(
            company=customer.company,
            name=customer.contact_name,
            email=customer.contact_email,
            phone=customer.contact_phone,
            street=customer.street,
            postal_code=customer.postal_code,
            city=customer.city,
            region=customer.region,
            country=customer.country,
        ),
        options=customer.options,
        version=customer.version,
        created_at=customer.created_at,
    )


@operation(
    "GET",
    _ONE,
    id="getCustomer",
    tag=_TAG,
    summary="Get Customer Detail",
    scope=ApiScope.READ,
    answers={200: Answer("The customer.", CustomerShown, headers=("ETag",))},
)
def get_customer(call: Call) -> Response:
    """A customer of the group. One that is still being created has no number yet: follow its
    subscription request."""
    return answer(shown(call.customer), version=call.customer.version)


class Nothing(Given):
    """An empty object."""


@operation(
    "POST",
    f"{_ONE}/send-welcome-email",
    id="sendWelcomeEmail",
    tag=_TAG,
    summary="Send Welcome Email",
    scope=ApiScope.SEND,
    body=Nothing,
    body_is_optional=True,
    conflicts=True,
    answers={204: Answer("The mail is accepted and on its way.")},
    example={},
)
def send_welcome_email(call: Call) -> Response:
    """Mail the customer's administrators a welcome with new passwords, also when they have had one
    before. The old password works until the mail server has accepted the new one's mail. The body
    may be an empty object, empty, or missing. Answers 409 when there is nobody to mail."""
    welcome_mails.resend_to_administrators(call.actor, call.customer)
    queues.wake(Lane.INTERACTIVE.value)
    return no_content()
