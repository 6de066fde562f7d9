"""The Customer section of the API."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from threading import BoundedSemaphore
from typing import Annotated, Any, Literal

from flask import Response, request
from pydantic import Field, TypeAdapter, ValidatorFunctionWrapHandler, WrapValidator

from blueprints.api.fields import (
    Given,
    Line,
    Listing,
    ListQuery,
    Nothing,
    Shown,
    Utc,
)
from blueprints.api.operations import (
    Answer,
    Call,
    answer,
    answer_page,
    no_content,
    operation,
)
from blueprints.api.problems import Refused
from extensions import queues
from models import ApiScope, Customer, CustomerStatus, Lane, RequestState
from services import customer_changes, customers, registration_orders, welcome_mails
from services.errors import InvalidInputs
from services.registration_orders import OptionValue, Order

_TAG = "Customer"
_ALL = "/group/<groupno>/customer"
_ONE = f"{_ALL}/<custno>"


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


def shown(customer: Customer, groupno: int) -> CustomerShown:
    row = [getattr(customer, name) for name in customers.LISTED]
    return CustomerShown.model_validate(_values_of(groupno, *row))


def shown_rows(rows: Iterable[Sequence[Any]], groupno: int) -> list[CustomerShown]:
    """Rows of customers.LISTED: read by place and checked in one call, which halves the time."""
    return _MANY.validate_python([_values_of(groupno, *row) for row in rows])


_MANY = TypeAdapter(list[CustomerShown])


def _values_of(
    groupno: int,
    _id: int,
    custno: int,
    web_id: str,
    name: str,
    _name_key: str,
    short_name: str,
    upn_suffix: str,
    ani: str,
    status: CustomerStatus,
    language: str,
    time_zone: str,
    company: str,
    contact_name: str,
    contact_email: str,
    contact_phone: str,
    street: str,
    postal_code: str,
    city: str,
    region: str,
    country: str,
    options: dict[str, Any],
    version: int,
    created_at: datetime,
) -> dict[str, Any]:
    """The fields of CustomerShown; what comes after the group are customers.LISTED."""
    return {
        "custno": custno,
        "groupno": groupno,
        "web_id": web_id,
        "name": name,
        "short_name": short_name,
        "upn_suffix": upn_suffix,
        "ani": ani,
        "status": status,
        "language": language,
        "time_zone": time_zone,
        "contact": {
            "company": company,
            "name": contact_name,
            "email": contact_email,
            "phone": contact_phone,
            "street": street,
            "postal_code": postal_code,
            "city": city,
            "region": region,
            "country": country,
        },
        "options": options,
        "version": version,
        "created_at": created_at,
    }


# --- Add -----------------------------------------------------------------------------------------

_Text = Annotated[Line, Field(max_length=2000)]


def _plain(*types: type) -> WrapValidator:
    """One sentence where a union of types would have a fault for each."""
    words = {bool: "true or false", int: "a whole number", str: "a text"}
    known = " or ".join(words[each] for each in types)

    def check(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        if type(value) not in types:
            raise ValueError(f"Send {known}.")
        return handler(value)

    return WrapValidator(check)


_NameOrId = Annotated[int | str, _plain(int, str)]
_OptionValue = Annotated[OptionValue, _plain(bool, int, str)]


class ContactGiven(Given):
    """Who the provider writes to. Postal code and region may be empty: many countries have none."""

    company: _Text
    name: _Text
    email: _Text
    phone: _Text = Field(description="With its country code, or as one dials it in the country.")
    street: _Text
    postal_code: _Text = ""
    city: _Text
    region: _Text = ""
    country: _Text = Field(description="ISO 3166-1 alpha-2.")


class CustomerGiven(Given):
    """A customer to be set up. The same rules hold as at Tenant Registration."""

    template: _NameOrId = Field(description="Name or id of a service template.")
    name: _Text = Field(description="Letters and digits of any script, 2 to 64.")
    short_name: _Text = Field(description="Letters a to z and digits, 2 to 16.")
    upn_suffix: _Text = Field(description="A domain of the customer's own.")
    user_name: _Text = Field(
        description="Of its first administrator, whose login is `prp`, the user name, @ and the "
        "UPN suffix."
    )
    password: Annotated[str, Field(min_length=1, max_length=2000)] | None = Field(
        default=None,
        description="Of its first administrator, 12 to 256 characters. Without it one is made that "
        "nobody knows: Send Welcome Email mails him another.",
    )
    ani: _Text = Field(description="The calling number, as `contact.phone`.")
    options: dict[Annotated[str, Field(max_length=64)], _OptionValue] = Field(
        default_factory=dict,
        max_length=100,
        description="Service options of the template by name; those left out have their default.",
    )
    language: _Text = Field(default="", description="Of the mails: en, de, fr or nl. Else en.")
    time_zone: _Text = Field(
        default="", description="Such as Europe/Brussels. Else the first of the contact's country."
    )
    contact: ContactGiven


class RequestAccepted(Shown):
    """The subscription request that sets the customer up; Get Request follows it."""

    request_id: int
    state: RequestState
    scheduled_for: Utc | None = Field(description="When it is to begin, if that is planned.")
    off_peak: bool = Field(description="It begins in the provider's off-peak hours.")


_LONGEST_WAIT = 10
_MOST_WAITING = 2
_waiting = BoundedSemaphore(_MOST_WAITING)
_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,9})\"?\s*(?=$|[,;])", re.IGNORECASE)

_CONTACT = {
    "company": "company",
    "name": "contact_name",
    "email": "contact_email",
    "phone": "contact_phone",
    "street": "street",
    "postal_code": "postal_code",
    "city": "city",
    "region": "region",
    "country": "country",
}
"""The fields of a contact, and what Tenant Registration calls them."""


@contextmanager
def _faults_by_our_names() -> Iterator[None]:
    names = {theirs: f"contact.{ours}" for ours, theirs in _CONTACT.items()}
    try:
        yield
    except InvalidInputs as error:
        faults = [(names.get(name, name), message) for name, message in error.faults]
        raise InvalidInputs(faults) from None


def _typed_contact(contact: Mapping[str, str | None]) -> dict[str, str]:
    """Texts by Tenant Registration's names; null is an empty one."""
    return {_CONTACT[name]: text or "" for name, text in contact.items()}


@operation(
    "POST",
    _ALL,
    id="addCustomer",
    tag=_TAG,
    summary="Add Customer",
    scope=ApiScope.WRITE,
    body=CustomerGiven,
    conflicts=True,
    waits=True,
    answers={
        201: Answer(
            "The customer is set up.",
            CustomerShown,
            headers=("Location", "ETag", "Preference-Applied"),
            links={
                "getCustomer": {
                    "operationId": "getCustomer",
                    "parameters": {
                        "groupno": "$response.body#/groupno",
                        "custno": "$response.body#/custno",
                    },
                }
            },
        ),
        202: Answer(
            "The request is accepted; its Location tells what becomes of it.",
            RequestAccepted,
            headers=("Location", "Preference-Applied"),
            links={
                "getRequest": {
                    "operationId": "getRequest",
                    "parameters": {
                        "groupno": "$request.path.groupno",
                        "request_id": "$response.body#/request_id",
                    },
                }
            },
        ),
    },
    example={
        "template": "Starter",
        "name": "Bergmann",
        "short_name": "bm",
        "upn_suffix": "bergmann.example",
        "user_name": "bmAdmin",
        "ani": "02 555 01 23",
        "contact": {
            "company": "Bergmann & Co",
            "name": "Beate Bergmann",
            "email": "beate@bergmann.example",
            "phone": "+32 475 12 34 56",
            "street": "Rue de la Loi 16",
            "postal_code": "1000",
            "city": "Brussels",
            "country": "BE",
        },
    },
)
def add_customer(call: Call) -> Response:
    """Have a customer set up in this group, by the same provisioning as Tenant Registration: its
    template may ask for an approval or for off-peak hours. Whoever cannot wait for it sends
    `Prefer: wait=10` (RFC 7240, at most 10 seconds): what is done by then is answered with 201,
    and `Preference-Applied` says that the call has waited. Names and UPN suffix must be free; they
    are held until the request ends. When the provider asks for changes, send the customer again,
    changed: with the same name or UPN suffix it is the same request."""
    given: CustomerGiven = call.body
    order = Order(
        template=given.template,
        values={
            name: getattr(given, name)
            for name in (
                "name",
                "short_name",
                "upn_suffix",
                "user_name",
                "ani",
                "language",
                "time_zone",
            )
        }
        | _typed_contact(dict(given.contact)),
        options=given.options,
        password=given.password or "",
    )
    with _faults_by_our_names():
        made = registration_orders.submit_order(call.actor, call.group, order)
    seconds = _asked_wait()
    if has_waited := bool(seconds) and _waiting.acquire(blocking=False):
        try:
            made = registration_orders.wait_for_end(made, seconds)
        finally:
            _waiting.release()
    if made.state is RequestState.COMPLETED and made.customer is not None:
        response = answer(
            shown(made.customer, call.group.groupno),
            201,
            version=made.customer.version,
            location=call.url("getCustomer", custno=made.customer.custno),
        )
    else:
        accepted = RequestAccepted(
            request_id=made.id,
            state=made.state,
            scheduled_for=made.scheduled_for,
            off_peak=made.off_peak,
        )
        response = answer(accepted, 202, location=call.url("getRequest", request_id=made.id))
    if has_waited:
        response.headers["Preference-Applied"] = f"wait={seconds}"
    return response


def _asked_wait() -> int:
    """Seconds that the Prefer header asks to wait, no more than are granted; 0 without it."""
    found = _WAIT.search(",".join(request.headers.getlist("Prefer"))[:1000])
    return min(int(found[1]), _LONGEST_WAIT) if found else 0


# --- Get, list -----------------------------------------------------------------------------------


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
    return answer(shown(call.customer, call.group.groupno), version=call.customer.version)


class CustomerQuery(ListQuery):
    """Which customers; by name."""

    q: Annotated[str, Field(max_length=253)] = Field(
        default="",
        description="The beginning of a name, a short name, a web ID or a UPN suffix. By name all "
        f"are found, by each of the others up to {customers.SEARCH_CAP}.",
    )
    status: Literal["active", "suspended"] | None = None


class CustomerListing(Listing[CustomerShown]):
    """A page of customers."""


@operation(
    "GET",
    _ALL,
    id="listCustomers",
    tag=_TAG,
    summary="List Customers",
    scope=ApiScope.READ,
    query=CustomerQuery,
    answers={200: Answer("A page of customers.", CustomerListing, headers=("Link",))},
)
def list_customers(call: Call) -> Response:
    """The customers of the group by name. Those that are still being created are not among them:
    follow their subscription requests."""
    query: CustomerQuery = call.query
    page = customers.list_group(
        call.actor,
        call.group,
        search=query.q,
        status=CustomerStatus(query.status) if query.status else None,
        size=query.limit,
        cursor=query.cursor,
    )
    groupno = call.group.groupno
    return answer_page(call, CustomerListing, page, shown_rows(page.rows, groupno))


# --- Update --------------------------------------------------------------------------------------


class ContactChange(Given):
    """What is to change of a contact. Null empties postal code and region; nothing else may be
    empty."""

    company: _Text | None = None
    name: _Text | None = None
    email: _Text | None = None
    phone: _Text | None = None
    street: _Text | None = None
    postal_code: _Text | None = None
    city: _Text | None = None
    region: _Text | None = None
    country: _Text | None = None


class CustomerChange(Given):
    """A JSON merge patch (RFC 7396): what is not in it stays as it is."""

    ani: _Text = ""
    language: _Text = ""
    time_zone: _Text = ""
    contact: ContactChange = ContactChange()


@operation(
    "PATCH",
    _ONE,
    id="updateCustomer",
    tag=_TAG,
    summary="Update Customer",
    scope=ApiScope.WRITE,
    body=CustomerChange,
    updates=True,
    conflicts=True,
    answers={200: Answer("The customer as it is now.", CustomerShown, headers=("ETag",))},
    example={"language": "fr", "contact": {"phone": "+32 2 555 01 23"}},
)
def update_customer(call: Call) -> Response:
    """Change how a customer is reached. Numbers without a country code are of the contact's
    country. Name, short name and UPN suffix are what platforms and logins know a customer by; they
    cannot be changed. What is as it was makes no new version."""
    given: CustomerChange = call.body
    typed = {
        name: getattr(given, name) for name in given.model_fields_set if name != "contact"
    } | _typed_contact(
        {name: getattr(given.contact, name) for name in given.contact.model_fields_set}
    )
    if not typed:
        raise Refused("invalid-input", "Nothing is to be changed: name at least one field.")
    with _faults_by_our_names():
        customer = customer_changes.update_customer(
            call.actor, call.customer, typed, versions=call.versions
        )
    return answer(shown(customer, call.group.groupno), version=customer.version)


# --- Welcome -------------------------------------------------------------------------------------


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
    finds_customer=True,
    answers={204: Answer("The mail is accepted and on its way.")},
    example={},
)
def send_welcome_email(call: Call) -> Response:
    """Mail the customer's administrators a welcome with new passwords, also when they have had one
    before. The old password works until the mail server has accepted the new one's mail. The body
    may be an empty object, empty, or missing. Answers 409 when there is nobody to mail."""
    welcome_mails.resend_to_administrators(call.actor, call.groupno, call.custno or 0)
    queues.wake(Lane.INTERACTIVE.value)
    return no_content()
