"""Audit events in words: actions, fields, values, and where their objects are found."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from flask import current_app, url_for

from models import AuditEvent
from services.actors import Actor, Permission
from services.audit_objects import NamedObject
from services.audit_trail import NamedCustomer

_NOUNS = {
    "api_credential": "API credential",
    "sign_in": "Sign-in",
    "email_template": "E-mail template",
    "user_import": "User import",
    "command_run": "Command run",
}
_PARTS = {"id": "number", "ani": "ANI", "upn": "UPN", "url": "URL", "api": "API", "email": "e-mail"}


def noun_of(word: str) -> str:
    """`api_credential` as `API credential`, `mailing` as `Mailing`."""
    return _NOUNS.get(word) or _sentence(word)


@lru_cache(maxsize=512)
def action_words(action: str) -> str:
    """`mailing.confirmed` as `Mailing confirmed`."""
    noun, _, past = action.partition(".")
    return f"{noun_of(noun)} {past.replace('_', ' ')}"


def field_words(name: str) -> str:
    """`contact_email` as `Contact e-mail`."""
    return _sentence(name) or "Value"


def _sentence(word: str) -> str:
    text = " ".join(_PARTS.get(part, part) for part in word.split("_"))
    return text[:1].upper() + text[1:]


def value_words(value: Any) -> str:
    """A value of an event's detail as text; empty for nothing."""
    match value:
        case None | "" | [] | {}:
            return ""
        case bool():
            return "Yes" if value else "No"
        case str() | int() | float():
            return str(value)
        case list() if all(isinstance(each, (str, int)) for each in value):
            return ", ".join(map(str, value))
    return json.dumps(value, ensure_ascii=False, indent=1)


@dataclass(frozen=True, slots=True)
class Link:
    """What an event was done to: words for it, and where it is found, if it is."""

    label: str
    href: str | None = None


def object_link(
    actor: Actor, event: AuditEvent, named: NamedObject | None, customer: NamedCustomer | None
) -> Link | None:
    """The object of an event; by its number where its name is gone, None where it has none."""
    kind, number = event.object_type, event.object_id
    customer = customer if customer is not None and customer.is_open else None
    if kind in _OF_CUSTOMER:
        label, endpoint, permission = _OF_CUSTOMER[kind]
        if customer is None or not actor.may(permission):
            return Link(label)
        return Link(label, url_for(endpoint, web_id=customer.web_id))
    if not kind or number is None:
        return None
    label = named.name if named else f"{noun_of(kind)} {number}"
    if named is not None and customer is not None:
        if kind == "customer" and actor.may(Permission.USERS_READ):
            return Link(label, url_for("customer_home.index", web_id=customer.web_id))
        if named.customer_id == customer.id and kind in _WITHIN_CUSTOMER:
            endpoint, argument, permission = _WITHIN_CUSTOMER[kind]
            if actor.may(permission):
                values: dict[str, Any] = {"web_id": customer.web_id, argument: number}
                return Link(label, url_for(endpoint, **values))
    return Link(label, _numbered(actor, kind, number) if named or kind == "command_run" else None)


_WITHIN_CUSTOMER = {
    "user": ("users.show", "user_id", Permission.USERS_READ),
    "mailing": ("mailings.show", "mailing_id", Permission.MAILINGS_READ),
    "permission_profile": ("profiles.show", "profile_id", Permission.PROFILES_EDIT),
}
_OF_CUSTOMER = {
    "parameters": ("General parameters", "parameters.index", Permission.PARAMETERS_READ),
    "direct_debit": ("Direct debit", "customer_home.index", Permission.USERS_READ),
    "suppression": ("Suppressed address", "suppressions.index", Permission.MAILINGS_READ),
}
_OF_STAFF = {
    "mailing": ("staff_mailings.show", "mailing_id", Permission.MAILINGS_READ),
    "request": ("tenant_creation.show", "request_id", Permission.REQUESTS_READ),
    "command_run": ("commands.show", "run_id", Permission.COMMANDS_READ),
    "api_credential": ("credentials.show", "credential_id", Permission.CREDENTIALS_MANAGE),
    "bundle": ("bundles.show", "bundle_id", Permission.CUSTOMERS_READ),
    "service_template": (
        "service_templates.show",
        "template_id",
        Permission.TEMPLATES_READ,
    ),
    "email_template": ("email_templates.show", "template_id", Permission.TEMPLATES_READ),
}


def _numbered(actor: Actor, kind: str, number: int) -> str | None:
    """The page that staff have for an object, by its number alone."""
    if kind not in _OF_STAFF or not actor.is_staff:
        return None
    endpoint, argument, permission = _OF_STAFF[kind]
    if endpoint not in current_app.view_functions or not actor.may(permission):
        return None
    values: dict[str, Any] = {argument: number}
    return url_for(endpoint, **values)
