"""Service templates: which are offered to whom, and the options that a registrant chooses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import joinedload, selectinload

from extensions import db
from models import (
    Audience,
    OptionKind,
    RegistrationLink,
    ServiceOption,
    ServiceTemplate,
    ServiceTemplateVersion,
)
from services.actors import Actor, Permission, groups_of
from services.errors import InvalidInput, NotFound
from services.paging import Page, keyset_page

_SHOWN = 40


def list_offered(
    actor: Actor, invitation: RegistrationLink | None = None
) -> list[ServiceTemplateVersion]:
    """The published versions that an actor may pick, with template, options and bundles loaded.

    A prospect sees those for everybody and the one that his invitation presets; staff sees all,
    those limited to groups the templates of their groups. Raises Forbidden.
    """
    actor.require(Permission.TENANTS_REGISTER)
    query = _offered(actor, invitation)
    return list(
        db.session.scalars(query.order_by(ServiceTemplate.position, ServiceTemplate.name_key))
    )


def page_offered(actor: Actor, *, size: int = 25, cursor: str = "") -> Page[ServiceTemplateVersion]:
    """The same for staff that only looks, a page of them by name. Raises Forbidden."""
    actor.require(Permission.CUSTOMERS_READ)
    return keyset_page(
        lambda query: db.session.scalars(query).all(),
        _offered(actor, None),
        key=ServiceTemplate.name_key.expression,
        row_id=ServiceTemplateVersion.id.expression,
        key_of=lambda version: (version.template.name_key, version.id),
        size=size,
        cursor=cursor,
    )


def _offered(
    actor: Actor, invitation: RegistrationLink | None
) -> sa.Select[ServiceTemplateVersion]:
    return (
        sa.select(ServiceTemplateVersion)
        .join(ServiceTemplate, ServiceTemplate.published_version_id == ServiceTemplateVersion.id)
        .where(_is_offered(actor, invitation))
        .options(
            joinedload(ServiceTemplateVersion.template),
            joinedload(ServiceTemplateVersion.group),
            selectinload(ServiceTemplateVersion.options),
            selectinload(ServiceTemplateVersion.bundles),
        )
    )


def _is_offered(actor: Actor, invitation: RegistrationLink | None) -> sa.ColumnElement[bool]:
    if actor.is_staff:
        if actor.all_groups:
            return sa.true()
        return ServiceTemplateVersion.group_id.in_(groups_of(actor))
    preset = invitation.template_id if invitation is not None else None
    return sa.or_(ServiceTemplate.audience == Audience.EVERYBODY, ServiceTemplate.id == preset)


def get_offered(
    actor: Actor, invitation: RegistrationLink | None, template_id: int
) -> ServiceTemplateVersion:
    """The published version of one of these. Raises NotFound and Forbidden."""
    for version in list_offered(actor, invitation):
        if version.template_id == template_id:
            return version
    raise NotFound("There is no such service template, or it is not offered to you.")


def option_field(version: ServiceTemplateVersion, option: ServiceOption) -> str:
    """The form's name of an option, such as `option-3-lines`: each template has its own fields."""
    return f"option-{version.template_id}-{option.name}"


def check_option(version: ServiceTemplateVersion, option: ServiceOption, text: str) -> Any:
    """The chosen value: a choice's word, a count as int, yes or no as bool.

    Nothing typed is the default. Raises InvalidInput naming the option's field.
    """
    field = option_field(version, option)
    chosen = text.strip() or option.default
    shown = f"“{chosen[:_SHOWN]}”"
    match option.kind:
        case OptionKind.CHOICE:
            if chosen not in option.choices:
                words = ", ".join(option.choices)
                raise InvalidInput(
                    field, f"{option.label}: {shown} is not among the choices: {words}."
                )
            return chosen
        case OptionKind.COUNT:
            lowest, highest = option.minimum or 0, option.maximum or 0
            count = int(chosen) if chosen.isdecimal() and len(chosen) <= 9 else None
            if count is None or not lowest <= count <= highest:
                raise InvalidInput(
                    field,
                    f"{option.label}: {shown} is not a whole number from {lowest:,} to "
                    f"{highest:,}.",
                )
            return count
        case OptionKind.YES_NO:
            if chosen not in {"yes", "no"}:
                raise InvalidInput(field, f"{option.label}: {shown} is neither yes nor no.")
            return chosen == "yes"


def show_option(value: Any) -> str:
    """A chosen value in words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


def check_options(version: ServiceTemplateVersion, typed: Mapping[str, str]) -> dict[str, Any]:
    """The chosen values by the option's name; `typed` is by field. Raises for the first fault."""
    return {
        option.name: check_option(version, option, typed.get(option_field(version, option), ""))
        for option in version.options
    }
