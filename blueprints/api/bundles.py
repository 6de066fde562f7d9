"""What a customer's users can have and be sent, and what new customers are made of."""

from __future__ import annotations

from flask import Response
from pydantic import Field

from blueprints.api.fields import Listing, ListQuery, Shown
from blueprints.api.operations import Answer, Call, answer_page, operation
from models import (
    ApiScope,
    OptionKind,
    ServiceOption,
    ServiceTemplateVersion,
    StartRule,
    TemplateKind,
)
from services import bundles, email_templates, service_templates

_CUSTOMER = "/group/<groupno>/customer/<custno>"


class BundleShown(Shown):
    """A named service package."""

    id: int
    name: str
    services: list[str] = Field(description="What is in it.")


@operation(
    "GET",
    f"{_CUSTOMER}/bundles",
    id="listBundles",
    tag="Bundles",
    summary="List Bundles",
    scope=ApiScope.READ,
    query=ListQuery,
    answers={200: Answer("A page of bundles, by name.", Listing[BundleShown])},
)
def list_bundles(call: Call) -> Response:
    """The bundles that the customer may give to its users."""
    page = bundles.list_bundles(
        call.actor, call.customer, size=call.query.limit, cursor=call.query.cursor
    )
    items = [
        BundleShown(id=each.id, name=each.name, services=each.services.splitlines())
        for each in page.rows
    ]
    return answer_page(call, Listing[BundleShown], page, items)


class EmailTemplateShown(Shown):
    """A text that users can be sent."""

    id: int
    name: str = Field(description="What Send Mailing knows it by.")
    kind: TemplateKind = Field(
        description="`welcome` and `password_reset` bring new passwords; `general` ones bring them "
        "where their text has them."
    )


@operation(
    "GET",
    f"{_CUSTOMER}/email-templates",
    id="listEmailTemplates",
    tag="Mailings",
    summary="List E-mail Templates",
    scope=ApiScope.READ,
    query=ListQuery,
    answers={200: Answer("A page of templates, by name.", Listing[EmailTemplateShown])},
)
def list_email_templates(call: Call) -> Response:
    """The e-mail templates that the customer's users can be sent: those assigned to the customer,
    and the password reset."""
    page = email_templates.page_templates_for(
        call.actor, call.customer, size=call.query.limit, cursor=call.query.cursor
    )
    items = [EmailTemplateShown(id=each.id, name=each.name, kind=each.kind) for each in page.rows]
    return answer_page(call, Listing[EmailTemplateShown], page, items)


class OptionShown(Shown):
    """What is chosen when a customer is added."""

    name: str
    label: str
    help: str
    kind: OptionKind
    choices: list[str] = Field(description="Of a choice: one of these.")
    minimum: int | None = Field(description="Of a count.")
    maximum: int | None = Field(description="Of a count.")
    default: bool | int | str = Field(description="What stands for an option that is left out.")


class ServiceTemplateShown(Shown):
    """What a new customer is made of."""

    id: int
    name: str
    description: str
    groupno: int = Field(description="The group that it was made for.")
    needs_approval: bool
    start_rule: StartRule = Field(description="When provisioning begins if nothing is in its way.")
    bundles: list[str]
    options: list[OptionShown]


def _shown_option(version: ServiceTemplateVersion, option: ServiceOption) -> OptionShown:
    return OptionShown(
        name=option.name,
        label=option.label,
        help=option.help,
        kind=option.kind,
        choices=option.choices,
        minimum=option.minimum,
        maximum=option.maximum,
        default=service_templates.check_option(version, option, ""),
    )


@operation(
    "GET",
    "/group/<groupno>/service-templates",
    id="listServiceTemplates",
    tag="Service templates",
    summary="List Service Templates",
    scope=ApiScope.READ,
    query=ListQuery,
    answers={200: Answer("A page of templates, by name.", Listing[ServiceTemplateShown])},
)
def list_service_templates(call: Call) -> Response:
    """The service templates that Add Customer takes, with their options."""
    page = service_templates.page_offered(
        call.actor, size=call.query.limit, cursor=call.query.cursor
    )
    items = [
        ServiceTemplateShown(
            id=each.template_id,
            name=each.template.name,
            description=each.description,
            groupno=each.group.groupno,
            needs_approval=each.needs_approval,
            start_rule=each.start_rule,
            bundles=[bundle.name for bundle in each.bundles],
            options=[_shown_option(each, option) for option in each.options],
        )
        for each in page.rows
    ]
    return answer_page(call, Listing[ServiceTemplateShown], page, items)
