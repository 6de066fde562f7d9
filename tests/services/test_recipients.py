"""What a mail says about the person it goes to."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import Bundle, Customer, User
from services import recipients
from services.placeholders import PLACEHOLDERS
from services.seals import Credentials
from tests.support.factories import find_user

pytestmark = pytest.mark.parametrize("engine_name", ["sqlite"])


def recipient(**changes: Any) -> Any:
    values = {
        "login": "ada@kenton.example",
        "first_name": "Ada",
        "last_name": "Lovelace",
        "email": "ada@mail.example",
        "extension": "200",
        "language": "fr",
        "customer_name": "Kenton",
        "customer_language": "de",
        "setup_instructions": "Plug it in",
        "application_url": "https://app.example",
        "connector": "local",
        "bundle_name": "Entry",
        "services": "Desk phone",
    }
    return SimpleNamespace(**{**values, **changes})


def test_every_placeholder_has_a_value(app_context: Flask) -> None:
    values = recipients.placeholder_values(recipient(), Credentials("p", "a"))
    assert set(values) == set(PLACEHOLDERS) - system_only()
    assert (values["portal password"], values["application password"]) == ("p", "a")
    assert values["help link"] == f"mailto:{values['help contact']}"


def system_only() -> set[str]:
    return {"reset link", "valid for"}


@pytest.mark.parametrize(
    ("changes", "first", "full"),
    [
        ({}, "Ada", "Ada Lovelace"),
        ({"first_name": ""}, "Lovelace", "Lovelace"),
        ({"last_name": ""}, "Ada", "Ada"),
        ({"first_name": "", "last_name": ""}, "ada@kenton.example", "ada@kenton.example"),
    ],
)
def test_somebody_without_a_name_is_addressed_all_the_same(
    app_context: Flask, changes: dict[str, str], first: str, full: str
) -> None:
    values = recipients.placeholder_values(recipient(**changes), Credentials())
    assert (values["first name"], values["full name"]) == (first, full)


def test_staff_have_neither_customer_nor_bundle(app_context: Flask) -> None:
    """Columns of an outer join are None; a mail never says so."""
    row = db.session.execute(
        sa.select(*recipients.RECIPIENT_COLUMNS)
        .select_from(User)
        .outerjoin(Customer, Customer.id == User.customer_id)
        .outerjoin(Bundle, Bundle.id == User.bundle_id)
        .where(User.id == find_user("landlord@foyer.example").id)
    ).one()
    values = recipients.placeholder_values(row, Credentials())
    assert not [value for value in values.values() if "None" in value]
    assert values["customer name"] == "Foyer Communications"


@pytest.mark.parametrize(
    ("available", "language"),
    [
        ({"en", "de", "fr"}, "fr"),
        ({"en", "de"}, "de"),
        ({"en", "nl"}, "en"),
        ({"nl"}, "nl"),
    ],
)
def test_the_language_falls_back_to_the_customers_and_then_to_any(
    app_context: Flask, available: set[str], language: str
) -> None:
    assert recipients.pick_language(recipient(), available) == language


def test_a_version_without_texts_is_no_version(app_context: Flask) -> None:
    with pytest.raises(LookupError):
        recipients.pick_language(recipient(), set())
