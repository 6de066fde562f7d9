"""Which e-mail templates staff see, and which of them they may change.

Templates are the provider's: all of its staff see all of them. What an operator of some groups
changes must not reach customers of others, so he changes those that none of them uses.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from extensions import db
from models import (
    Customer,
    CustomerEmailTemplate,
    CustomerStatus,
    EmailTemplate,
    ServiceTemplate,
    ServiceTemplateEmailTemplate,
    ServiceTemplateVersion,
    TemplateKind,
)
from services.actors import Actor, Permission, groups_of
from services.errors import Forbidden, NotFound

MOST_LOOKED_AT = 1000
"""Customers of a template whose groups are looked at before an operator may change it."""

EVERYBODYS = "Welcome mails and password resets reach customers of all groups."


def get_template(actor: Actor, template_id: int) -> EmailTemplate:
    """A template of the provider's. Raises Forbidden and NotFound."""
    actor.require(Permission.TEMPLATES_READ)
    found = db.session.get(EmailTemplate, template_id, populate_existing=True)
    if found is None:
        raise NotFound("There is no such e-mail template.")
    return found


def may_create(actor: Actor, kind: TemplateKind) -> bool:
    """Welcome mails and password resets are for everybody, so who makes one works for all."""
    return actor.may(Permission.TEMPLATES_EDIT) and (
        actor.all_groups or kind is TemplateKind.GENERAL
    )


def why_not_changed(actor: Actor, template: EmailTemplate) -> str | None:
    """Why the actor may not change a template that he sees, None when he may."""
    return _why_not(db.session, actor, template.id, template.kind)


def require_change(
    connection: sa.Connection, actor: Actor, template_id: int, kind: TemplateKind
) -> None:
    """Raise Forbidden with the reason unless the actor may change the template."""
    reason = _why_not(connection, actor, template_id, kind)
    if reason is not None:
        raise Forbidden(reason)


def _why_not(asked: Any, actor: Actor, template_id: int, kind: TemplateKind) -> str | None:
    if not actor.may(Permission.TEMPLATES_EDIT):
        return "Your role does not include this action."
    if actor.all_groups:
        return None
    if kind is not TemplateKind.GENERAL:
        return f"{EVERYBODYS} Changing them takes somebody who works for all groups."
    using = (
        sa.select(CustomerEmailTemplate.customer_id)
        .where(CustomerEmailTemplate.template_id == template_id)
        .limit(MOST_LOOKED_AT + 1)
        .subquery()
    )
    mine = groups_of(actor)
    used, elsewhere = asked.execute(
        sa.select(
            sa.func.count(),
            sa.func.count().filter(
                Customer.status != CustomerStatus.DELETED, Customer.group_id.not_in(mine)
            ),
        )
        .select_from(using)
        .join(Customer, Customer.id == using.c.customer_id)
    ).one()
    cloned = sa.exists().where(
        ServiceTemplateEmailTemplate.template_id == template_id,
        ServiceTemplateEmailTemplate.version_id == ServiceTemplate.published_version_id,
        ServiceTemplateVersion.id == ServiceTemplate.published_version_id,
        ServiceTemplateVersion.group_id.not_in(mine),
    )
    if used > MOST_LOOKED_AT or elsewhere or asked.scalar(sa.select(cloned)):
        return (
            "Customers of other groups use this template. Changing it takes somebody who works for "
            "all groups; copy it to have one of your own."
        )
    return None
