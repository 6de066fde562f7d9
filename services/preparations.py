"""What a provider needs before its first customer, each thing building on those before it."""

from __future__ import annotations

from dataclasses import astuple, dataclass

import sqlalchemy as sa

from extensions import db
from models import Bundle, EmailTemplate, Group, ServiceTemplate, TemplateKind
from services.actors import Actor, Permission


@dataclass(frozen=True, slots=True)
class Preparations:
    """Which of them are there, in the order in which they are made."""

    has_group: bool
    has_bundle: bool
    has_welcome: bool
    has_service_template: bool

    @property
    def is_complete(self) -> bool:
        return all(astuple(self))


def find_preparations(actor: Actor) -> Preparations | None:
    """None for who cannot make all of them."""
    if not actor.may(Permission.SERVICE_TEMPLATES_EDIT) or not actor.all_groups:
        return None
    wanted = (
        sa.exists(sa.select(Group.id)),
        sa.exists(sa.select(Bundle.id).where(Bundle.archived_at.is_(None))),
        sa.exists(
            sa.select(EmailTemplate.id).where(
                EmailTemplate.kind == TemplateKind.WELCOME, EmailTemplate.archived_at.is_(None)
            )
        ),
        sa.exists(
            sa.select(ServiceTemplate.id).where(ServiceTemplate.published_version_id.is_not(None))
        ),
    )
    return Preparations(*db.session.execute(sa.select(*wanted)).one())
