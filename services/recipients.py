"""Recipients: what a mail says about the person it goes to."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import sqlalchemy as sa

from config import LANGUAGES
from extensions import get_settings
from models import Bundle, Customer, User
from services.seals import Credentials

RECIPIENT_COLUMNS: tuple[sa.ColumnElement[Any], ...] = (
    User.login.label("login"),
    User.first_name.label("first_name"),
    User.last_name.label("last_name"),
    User.email.label("email"),
    User.extension.label("extension"),
    User.language.label("language"),
    Customer.name.label("customer_name"),
    Customer.language.label("customer_language"),
    Customer.setup_instructions.label("setup_instructions"),
    Customer.application_url.label("application_url"),
    Customer.connector.label("connector"),
    Bundle.name.label("bundle_name"),
    Bundle.services.label("services"),
)
"""Columns of User, joined outer with Customer and Bundle, that `placeholder_values` reads."""

HIDDEN = "••••••••"


def full_name(recipient: Any) -> str:
    return f"{recipient.first_name} {recipient.last_name}".strip()


def placeholder_values(recipient: Any, credentials: Credentials) -> dict[str, str]:
    """The value of every placeholder for a row of RECIPIENT_COLUMNS; empty where there is none."""
    settings = get_settings()
    return {
        "first name": recipient.first_name or full_name(recipient) or recipient.login,
        "last name": recipient.last_name,
        "full name": full_name(recipient) or recipient.login,
        "login": recipient.login,
        "email": recipient.email,
        "extension": recipient.extension,
        "portal password": credentials.portal,
        "application password": credentials.application,
        "portal link": f"{settings.public_url}/login",
        "application link": recipient.application_url or "",
        "help link": f"mailto:{settings.support_email}",
        "help contact": settings.support_email,
        "customer name": recipient.customer_name or settings.provider_name,
        "bundle": recipient.bundle_name or "",
        "services": recipient.services or "",
        "setup instructions": recipient.setup_instructions or "",
        "provider name": settings.provider_name,
    }


def pick_language(recipient: Any, available: Container[str]) -> str:
    """The recipient's language, else the customer's, else the first of LANGUAGES with a text."""
    for language in (recipient.language, recipient.customer_language, *LANGUAGES):
        if language in available:
            return str(language)
    raise LookupError("a template version has a text in at least one of LANGUAGES")
