"""What a mail says about the person it goes to."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db, get_settings
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
    return {name for name, entry in PLACEHOLDERS.items() if entry.system_only}


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
    values = recipients.placeholder_values(joined_row("landlord@foyer.example"), Credentials())
    assert not [value for value in values.values() if "None" in value]
    assert values["customer name"] == "Foyer Communications"


def user_customer_and_bundle(login: str) -> tuple[Any, Any, Any]:
    user = find_user(login)

    def row(columns: Any, model: Any, key: int | None) -> Any:
        return db.session.execute(sa.select(*columns).where(model.id == key)).one_or_none()

    return (
        row(recipients.USER_COLUMNS, User, user.id),
        row(recipients.CUSTOMER_COLUMNS, Customer, user.customer_id),
        row(recipients.BUNDLE_COLUMNS, Bundle, user.bundle_id),
    )


def joined_row(login: str) -> Any:
    return db.session.execute(
        sa.select(*recipients.RECIPIENT_COLUMNS)
        .select_from(User)
        .outerjoin(Customer, Customer.id == User.customer_id)
        .outerjoin(Bundle, Bundle.id == User.bundle_id)
        .where(User.id == find_user(login).id)
    ).one()


def test_rows_of_their_own_say_the_same_as_one_row(app_context: Flask) -> None:
    logins = db.session.scalars(
        sa.select(sa.func.min(User.login)).group_by(User.customer_id, User.bundle_id)
    ).all()
    values = recipients.RecipientValues(get_settings())
    assert len(logins) > 3

    for login in (*logins, *logins):
        made = values.values_for(*user_customer_and_bundle(login), Credentials("p", "a"))
        assert made == recipients.placeholder_values(joined_row(login), Credentials("p", "a"))


def test_a_customer_that_was_renamed_has_its_new_name_in_the_next_mail(app_context: Flask) -> None:
    values = recipients.RecipientValues(get_settings())
    login = db.session.scalars(sa.select(User.login).where(User.customer_id.is_not(None))).first()
    assert login is not None
    values.values_for(*user_customer_and_bundle(login), Credentials())
    db.session.execute(sa.update(Customer).values(name="Renamed"))

    made = values.values_for(*user_customer_and_bundle(login), Credentials())

    assert made["customer name"] == "Renamed"


def test_no_password_is_kept_for_the_next_recipient(app_context: Flask) -> None:
    values = recipients.RecipientValues(get_settings())
    login = db.session.scalars(sa.select(User.login).where(User.customer_id.is_not(None))).first()
    assert login is not None
    rows = user_customer_and_bundle(login)

    values.values_for(*rows, Credentials("p", "a"))
    made = values.values_for(*rows, Credentials())

    assert (made["portal password"], made["application password"]) == ("", "")


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


@pytest.mark.parametrize(
    ("customer", "language"), [(recipient(), "de"), (None, "en")], ids=["customer", "staff"]
)
def test_a_customer_in_a_row_of_its_own_has_a_language_too(
    app_context: Flask, customer: Any, language: str
) -> None:
    found = recipients.pick_language_for(recipient(), customer, {"en", "de"})
    assert found == language


def test_a_version_without_texts_is_no_version(app_context: Flask) -> None:
    with pytest.raises(LookupError):
        recipients.pick_language(recipient(), set())
