"""Registrations for tests: a prospect, and a draft filled with what is right."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from extensions import db
from models import Role, ServiceTemplate, SubscriptionRequest, fold
from services import registration_drafts
from services.actors import Actor
from services.registration_drafts import Tab
from tests.support.factories import make_user

PASSWORD = "violet-anchor-42-piano"
TENANT = {
    "name": "Bergmann",
    "short_name": "bm",
    "upn_suffix": "bergmann.example",
    "user_name": "bmAdmin",
    "ani": "02 555 01 23",
}
CONTACT = {
    "company": "Bergmann & Söhne",
    "street": "Rue de la Loi 16",
    "postal_code": "1000",
    "city": "Brussels",
    "region": "",
    "country": "BE",
    "contact_name": "Beate Bergmann",
    "contact_phone": "+32 475 12 34 56",
    "contact_email": "beate@bergmann.example",
    "language": "de",
    "time_zone": "Europe/Brussels",
}


def make_prospect(email: str = "beate@bergmann.example", **changes: Any) -> Actor:
    """Somebody whose e-mail address a link has verified."""
    login = f"prospect:{fold(email)}"
    user = make_user(role=Role.PROSPECT, login=login, email=email, **changes)
    return Actor.from_user(user, "192.0.2.7")


def find_template(name: str) -> ServiceTemplate:
    return db.session.scalars(
        sa.select(ServiceTemplate).where(ServiceTemplate.name_key == fold(name))
    ).one()


def fill_draft(
    actor: Actor,
    request: SubscriptionRequest,
    *,
    template: str = "Starter",
    password: str = PASSWORD,
    **changes: str,
) -> SubscriptionRequest:
    """Save all three tabs; `changes` are of fields, by name."""
    template_id = str(find_template(template).id)
    for tab, typed in (
        (Tab.TEMPLATE, {"template": template_id}),
        (Tab.TENANT, TENANT),
        (Tab.CONTACT, CONTACT),
    ):
        request = registration_drafts.save_tab(
            actor,
            request.id,
            tab,
            {name: changes.get(name, text) for name, text in typed.items()},
            draft_version=request.draft_version,
            password=password if tab is Tab.TENANT else "",
            confirmation=password if tab is Tab.TENANT else "",
        )
    return request


def make_draft(actor: Actor, **changes: str) -> SubscriptionRequest:
    """A draft of the actor that can be submitted."""
    return fill_draft(actor, registration_drafts.start_draft(actor), **changes)
