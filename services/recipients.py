"""Recipients: what a mail says about the person it goes to."""

from __future__ import annotations

from collections.abc import Container
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from config import LANGUAGES, Settings
from extensions import get_settings
from models import Bundle, Customer, User
from services.seals import Credentials

USER_COLUMNS: tuple[sa.ColumnElement[Any], ...] = (
    User.login.label("login"),
    User.first_name.label("first_name"),
    User.last_name.label("last_name"),
    User.email.label("email"),
    User.extension.label("extension"),
    User.language.label("language"),
)
CUSTOMER_COLUMNS: tuple[sa.ColumnElement[Any], ...] = (
    Customer.name.label("customer_name"),
    Customer.language.label("customer_language"),
    Customer.setup_instructions.label("setup_instructions"),
    Customer.application_url.label("application_url"),
    Customer.connector.label("connector"),
    Customer.attachments_version.label("attachments_version"),
)
BUNDLE_COLUMNS: tuple[sa.ColumnElement[Any], ...] = (
    Bundle.name.label("bundle_name"),
    Bundle.services.label("services"),
)
RECIPIENT_COLUMNS = (*USER_COLUMNS, *CUSTOMER_COLUMNS, *BUNDLE_COLUMNS)
"""Columns of User, joined outer with Customer and Bundle, that `placeholder_values` reads."""

HIDDEN = "••••••••"
_SHARED_KEPT = 256


class RecipientValues:
    """Gives mails their values. Made once for many recipients; safe to share between threads."""

    def __init__(self, settings: Settings) -> None:
        self._of_all = {
            "portal link": f"{settings.public_url}/login",
            "help link": f"mailto:{settings.support_email}",
            "help contact": settings.support_email,
            "provider name": settings.provider_name,
        }
        self._shared_kept = lru_cache(_SHARED_KEPT)(self._shared)

    def values_for(
        self,
        user: Any,
        customer: Any,
        bundle: Any,
        credentials: Credentials,
    ) -> dict[str, str]:
        """The value of every placeholder; empty where there is none.

        The rows have USER_COLUMNS, CUSTOMER_COLUMNS and BUNDLE_COLUMNS, others besides do not
        matter. Staff have neither customer nor bundle.
        """
        return self._shared_kept(customer, bundle) | _own_values(user, credentials)

    def values_of_row(self, recipient: Any, credentials: Credentials) -> dict[str, str]:
        """The same for a row that has all of RECIPIENT_COLUMNS."""
        return self._shared(recipient, recipient) | _own_values(recipient, credentials)

    def _shared(self, customer: Any, bundle: Any) -> dict[str, str]:
        return self._of_all | {
            "customer name": (customer and customer.customer_name) or self._of_all["provider name"],
            "application link": (customer and customer.application_url) or "",
            "setup instructions": (customer and customer.setup_instructions) or "",
            "bundle": (bundle and bundle.bundle_name) or "",
            "services": (bundle and bundle.services) or "",
        }


def _own_values(user: Any, credentials: Credentials) -> dict[str, str]:
    # Reading a row's attribute costs as much as several entries of a dictionary: once for each.
    first, last, login = user.first_name, user.last_name, user.login
    name = f"{first} {last}".strip()
    return {
        "first name": first or name or login,
        "last name": last,
        "full name": name or login,
        "login": login,
        "email": user.email,
        "extension": user.extension,
        "portal password": credentials.portal,
        "application password": credentials.application,
    }


def full_name(recipient: Any) -> str:
    return f"{recipient.first_name} {recipient.last_name}".strip()


def placeholder_values(recipient: Any, credentials: Credentials) -> dict[str, str]:
    """The value of every placeholder for one row of RECIPIENT_COLUMNS."""
    return RecipientValues(get_settings()).values_of_row(recipient, credentials)


def pick_language(recipient: Any, available: Container[str]) -> str:
    """The recipient's language, else the customer's, else the first of LANGUAGES with a text."""
    return pick_language_for(recipient, recipient, available)


def pick_language_for(user: Any, customer: Any, available: Container[str]) -> str:
    """The same for a user and his customer, which staff do not have, in rows of their own."""
    if user.language in available:
        return str(user.language)
    for language in (customer and customer.customer_language, *LANGUAGES):
        if language in available:
            return str(language)
    raise LookupError("a template version has a text in at least one of LANGUAGES")
