"""What the database itself refuses, whoever asks: on both databases the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from sqlalchemy.exc import IntegrityError

from extensions import db
from models import (
    AuditEvent,
    Bundle,
    Customer,
    CustomerBundle,
    Delivery,
    DeliveryClaim,
    DeliveryState,
    EmailTemplate,
    EmailTemplateVersion,
    Group,
    Lane,
    Mailing,
    MailingState,
    Role,
    SignInSession,
    SkipReason,
    Suppression,
    TemplateKind,
    User,
    UserStatus,
    utcnow,
)
from tests.support.factories import (
    actor_for,
    find_customer,
    find_user,
    make_bundle,
    make_customer,
    make_group,
    make_user,
    make_welcome,
    save,
)
from tests.support.promises import start_welcome

ADMIN = "prpkeAdmin@kenton-electronics.com"


def refused(make: Callable[[], Any]) -> None:
    with pytest.raises(IntegrityError):
        make()
    db.session.rollback()


@pytest.mark.parametrize(
    "changes",
    [
        {"login": ADMIN},
        {"login": ADMIN.upper()},
        {"login": " prpkeadmin@KENTON-electronics.com "},
        {"login": "", "login_key": "x"},
        {"role": Role.LANDLORD},
        {"role": Role.PROSPECT},
    ],
    ids=["login twice", "in capitals", "with blanks", "empty", "staff", "prospect"],
)
def test_users_that_cannot_be(app_context: Flask, changes: dict[str, Any]) -> None:
    customer = find_customer("CQ001")
    refused(lambda: make_user(customer, **changes))


def test_a_customers_user_without_customer_cannot_be(app_context: Flask) -> None:
    for role in (Role.USER, Role.SUPERVISOR, Role.CUSTOMER_ADMIN):
        refused(partial(make_user, role=role))


def test_a_login_is_one_across_customers_and_staff(app_context: Flask) -> None:
    refused(lambda: make_user(find_customer("CQ002"), login=ADMIN.swapcase()))
    refused(lambda: make_user(role=Role.OPERATOR, login="LANDLORD@foyer.example"))


def test_a_bundle_is_one_of_the_customers(app_context: Flask) -> None:
    customer = find_customer("CQ002")
    other = make_bundle()
    refused(lambda: make_user(customer, bundle_id=other.id))
    own = make_bundle(customer)
    assert make_user(customer, bundle_id=own.id).bundle == own
    refused(lambda: make_user(role=Role.OPERATOR, bundle_id=own.id))


def test_a_bundle_in_use_is_not_taken_away(app_context: Flask) -> None:
    customer = find_customer("CQ002")
    bundle = make_bundle(customer)
    make_user(customer, bundle_id=bundle.id)

    def take_away() -> None:
        db.session.execute(
            sa.delete(CustomerBundle).where(
                CustomerBundle.customer_id == customer.id, CustomerBundle.bundle_id == bundle.id
            )
        )
        db.session.commit()

    refused(take_away)


@pytest.mark.parametrize(
    "changes",
    [
        {"web_id": "CQ001"},
        {"web_id": "cq001"},
        {"web_id": "cq777"},
        {"web_id": ""},
        {"custno": 1001},
        {"custno": 0},
        {"custno": -1},
        {"upn_suffix": "kenton-electronics.com"},
        {"upn_suffix": "Kenton-Electronics.com"},
        {"name": "KENTONelectronics"},
        {"short_name": "KE"},
        {"group_id": 999_999},
    ],
    ids=str,
)
def test_customers_that_cannot_be(app_context: Flask, changes: dict[str, Any]) -> None:
    refused(lambda: make_customer(**changes))


@pytest.mark.parametrize(
    ("model", "values"),
    [
        (Group, {"groupno": 1, "name": "Second"}),
        (Group, {"groupno": 77, "name": "Direct"}),
        (Group, {"groupno": 0, "name": "None"}),
        (Bundle, {"name": "Entry3PhoneNextGenBundle"}),
        (Bundle, {"name": ""}),
        (EmailTemplate, {"name": "WELCOME", "name_key": "welcome", "kind": TemplateKind.GENERAL}),
        (EmailTemplate, {"name": "", "name_key": "", "kind": TemplateKind.GENERAL}),
        (EmailTemplateVersion, {"template_id": 1, "number": 1}),
        (EmailTemplateVersion, {"template_id": 1, "number": 0}),
        (EmailTemplateVersion, {"template_id": 999_999, "number": 1}),
        (Suppression, {"email_key": "", "reason": "x"}),
        (AuditEvent, {"action": "nothing"}),
        (SignInSession, {"token_hash": "x", "user_id": 999_999}),
        (DeliveryClaim, {"token": "x", "mailing_id": 999_999, "worker": "w"}),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_other_rows_that_cannot_be(app_context: Flask, model: Any, values: dict[str, Any]) -> None:
    if model is DeliveryClaim:
        values = {**values, "expires_at": utcnow()}
    refused(lambda: save(model(**values)))


def test_an_address_is_suppressed_once(app_context: Flask) -> None:
    save(Suppression(email_key="a@b.example", reason="bounced"))
    refused(lambda: save(Suppression(email_key="a@b.example", reason="complained")))


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("users", "role"),
        ("users", "status"),
        ("customers", "status"),
        ("deliveries", "state"),
        ("mailings", "state"),
        ("mailings", "lane"),
    ],
)
def test_a_word_that_nobody_knows_is_refused(app_context: Flask, table: str, column: str) -> None:
    start_welcome(actor_for(ADMIN), "CQ001", [make_user(find_customer("CQ001"))], enqueue=False)

    def write() -> None:
        db.session.execute(sa.text(f"UPDATE {table} SET {column} = 'bogus'"))  # noqa: S608
        db.session.commit()

    refused(write)


# --- Mailings and deliveries -------------------------------------------------------------------


@pytest.fixture
def mailing(app_context: Flask) -> Mailing:
    user = make_user(find_customer("CQ001"))
    mailing_id = start_welcome(actor_for(ADMIN), "CQ001", [user], enqueue=False)
    return db.session.get_one(Mailing, mailing_id)


def delivery_of(mailing: Mailing) -> Delivery:
    return db.session.scalars(sa.select(Delivery).where(Delivery.mailing_id == mailing.id)).one()


@pytest.mark.parametrize(
    "changes",
    [
        {"state": DeliveryState.SKIPPED},
        {"skip_reason": SkipReason.SUSPENDED},
        {"state": DeliveryState.SENDING},
        {"claim_token": "abc"},
        {"state": DeliveryState.SENT},
        {"sent_at": utcnow()},
        {"attempts": -1},
        {"state": DeliveryState.FAILED, "seal": b"sealed"},
        {"state": DeliveryState.FAILED, "pending_hash": "hash"},
        {"state": DeliveryState.CANCELLED, "seal": b"sealed"},
        {"state": DeliveryState.SENT, "sent_at": utcnow(), "pending_hash": "hash"},
    ],
    ids=lambda changes: "-".join(changes) + f"-{changes.get('state', '')}",
)
def test_deliveries_that_cannot_be(mailing: Mailing, changes: dict[str, Any]) -> None:
    """Above all: no secret in a delivery that has ended."""
    delivery = delivery_of(mailing)

    def write() -> None:
        for name, value in changes.items():
            setattr(delivery, name, value)
        db.session.commit()

    refused(write)


def test_a_user_is_once_in_a_mailing(mailing: Mailing) -> None:
    user_id = delivery_of(mailing).user_id
    refused(
        lambda: save(
            Delivery(
                mailing_id=mailing.id,
                user_id=user_id,
                state=DeliveryState.QUEUED,
                email="x@y.example",
            )
        )
    )


def test_a_user_has_one_seal_at_a_time(mailing: Mailing) -> None:
    """Two mails with different passwords on their way at once would break the second promise."""
    first = delivery_of(mailing)
    first.seal = b"one"
    db.session.commit()
    user = db.session.get_one(User, first.user_id)
    second_id = start_welcome(actor_for(ADMIN), "CQ001", [user], enqueue=False)
    db.session.refresh(first)
    first.state, first.skip_reason, first.seal = DeliveryState.QUEUED, None, b"one"
    second = delivery_of(db.session.get_one(Mailing, second_id))
    second.seal = b"two"
    refused(db.session.commit)


@pytest.mark.parametrize(
    "changes",
    [
        {"queued": 0},
        {"queued": -1, "sent": 2},
        {"total": 2},
        {"state": MailingState.FINISHED},
        {"state": MailingState.CANCELLED},
    ],
    ids=str,
)
def test_counters_that_cannot_be(mailing: Mailing, changes: dict[str, Any]) -> None:
    def write() -> None:
        for name, value in changes.items():
            setattr(mailing, name, value)
        db.session.commit()

    refused(write)


def test_a_word_of_confirmation_is_used_once_by_a_person(mailing: Mailing) -> None:
    def another(author: User) -> Mailing:
        return Mailing(
            customer_id=mailing.customer_id,
            template_version_id=mailing.template_version_id,
            created_by_id=author.id,
            confirmation=mailing.confirmation,
            lane=Lane.INTERACTIVE,
            resets_portal_password=True,
            resets_application_password=True,
        )

    author = db.session.get_one(User, mailing.created_by_id)
    refused(lambda: save(another(author)))
    save(another(find_user("landlord@foyer.example")))


def test_what_is_referred_to_is_not_deleted(mailing: Mailing) -> None:
    for statement in (
        sa.delete(User).where(User.id == delivery_of(mailing).user_id),
        sa.delete(Customer).where(Customer.id == mailing.customer_id),
        sa.delete(EmailTemplateVersion).where(
            EmailTemplateVersion.id == mailing.template_version_id
        ),
    ):

        def delete(statement: sa.Delete = statement) -> None:
            db.session.execute(statement)
            db.session.commit()

        refused(delete)


# --- Small derived properties ------------------------------------------------------------------


def test_a_person_without_a_name_is_called_by_login() -> None:
    assert User(first_name="", last_name="", login="a@b.example").full_name == "a@b.example"
    assert User(first_name="Ada", last_name="", login="a").full_name == "Ada"


def test_staff_are_the_providers_people() -> None:
    staff = {role for role in Role if User(role=role).is_staff}
    assert staff == {Role.LANDLORD, Role.OPERATOR, Role.AUDITOR}


@pytest.mark.parametrize("state", MailingState)
def test_a_mailing_is_open_until_it_has_ended(state: MailingState) -> None:
    ended = {MailingState.FINISHED, MailingState.CANCELLED}
    mailing = Mailing(state=state, queued=2, sending=3)
    assert mailing.is_open == (state not in ended)
    assert mailing.waiting == 5


def test_defaults_are_the_databases_too(app_context: Flask) -> None:
    """Rows written in bulk, past the ORM, get the same."""
    customer, group = make_customer(), make_group()
    db.session.execute(
        sa.text(
            "INSERT INTO users (role, login, login_key, customer_id, created_at) "
            "VALUES ('user', 'x@y', 'x@y', :customer, :now)"
        ).bindparams(sa.bindparam("now", utcnow(), type_=User.created_at.type)),
        {"customer": customer.id},
    )
    db.session.commit()
    user = find_user("x@y")
    assert user.status is UserStatus.ACTIVE
    assert (user.email, user.language, user.must_change_password) == ("", "en", False)
    assert group.id != customer.group_id


def test_a_welcome_template_of_ones_own_is_assigned(app_context: Flask) -> None:
    assert make_welcome(make_customer()).kind is TemplateKind.WELCOME
