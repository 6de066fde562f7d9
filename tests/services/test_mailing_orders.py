"""Mailings that other systems order: who may, whom they reach, and what a refusal leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import (
    ApiCredential,
    ApiScope,
    AuditEvent,
    Customer,
    CustomerBundle,
    Delivery,
    DeliveryState,
    EmailTemplateText,
    EmailTemplateVersion,
    Mailing,
    SkipReason,
    User,
    UserStatus,
    utcnow,
)
from services import mailings
from services.actors import Actor, Permission
from services.errors import Conflict, Forbidden, InvalidInput, InvalidInputs
from services.mailing_orders import MOST_BUNDLES, MailingOrder, order_mailing
from tests.support.factories import (
    actor_for,
    find_customer,
    make_bundle,
    make_template,
    make_user,
    make_welcome,
    save,
)

ADMIN = "prpkeAdmin@kenton-electronics.com"
NEWS = "Voicemail update"


@pytest.fixture(autouse=True)
def kenton(app_context: Flask) -> Customer:
    return find_customer("CQ001")


def order(customer: Customer, login: str = ADMIN, **given: Any) -> Mailing:
    return order_mailing(actor_for(login), customer, MailingOrder(**{"template": NEWS, **given}))


def count_mailings() -> int:
    return db.session.scalar(sa.select(sa.func.count(Mailing.id))) or 0


def faults_of(attempt: Callable[[], object]) -> list[str]:
    with pytest.raises(InvalidInputs) as refused:
        attempt()
    return [field for field, _ in refused.value.faults]


def test_who_may_mail_may_order(kenton: Customer) -> None:
    users = [make_user(kenton).id]
    for login in ("landlord@foyer.example", "operator@foyer.example", ADMIN):
        mailing = order(kenton, login, users=users, include_recent=True)
        assert mailing.created_by is not None
        assert mailing.created_by.login == login
        assert mailing.credential_id is None
    for login in ("auditor@foyer.example", "camille.gruber@kenton-electronics.com"):
        with pytest.raises(Forbidden):
            order(kenton, login, users=users)


def test_an_order_is_audited_as_every_confirmation_is(kenton: Customer) -> None:
    mailing = order(kenton, users=[make_user(kenton).id, make_user(kenton, email="").id])
    event = db.session.scalars(
        sa.select(AuditEvent).where(AuditEvent.action == "mailing.confirmed")
    ).one()
    assert (event.object_id, event.customer_id) == (mailing.id, kenton.id)
    assert event.detail == {"template": NEWS, "version": 1, "recipients": 1, "skipped": 1}


def test_logins_are_found_however_they_are_written(kenton: Customer) -> None:
    mailing = order(kenton, logins=[f" {ADMIN.upper()} ", ADMIN])
    assert mailing.total == 1
    assert faults_of(lambda: order(kenton, logins=["a\0b", "\ud800", "", ADMIN])) == [
        "logins.0",
        "logins.1",
        "logins.2",
    ]


def test_bundles_reach_the_customers_own_users_alone(kenton: Customer) -> None:
    bundle = make_bundle(kenton)
    harborlight = find_customer("CQ002")
    db.session.add(CustomerBundle(customer_id=harborlight.id, bundle_id=bundle.id))
    db.session.commit()
    own = make_user(kenton, bundle_id=bundle.id)
    make_user(harborlight, bundle_id=bundle.id)
    gone = make_user(kenton, bundle_id=bundle.id, status=UserStatus.DELETED)
    mailing = order(kenton, bundles=[bundle.name])
    rows = db.session.execute(
        sa.select(Delivery.user_id, Delivery.state, Delivery.skip_reason).where(
            Delivery.mailing_id == mailing.id
        )
    ).all()
    assert sorted(rows) == [
        (own.id, DeliveryState.QUEUED, None),
        (gone.id, DeliveryState.SKIPPED, SkipReason.DELETED),
    ]


def test_an_older_mail_with_passwords_is_replaced(kenton: Customer) -> None:
    welcome = make_welcome(kenton).name
    users = [make_user(kenton).id]
    first = order(kenton, template=welcome, users=users)
    order(kenton, template=welcome, users=users, include_recent=True)
    (replaced,) = db.session.scalars(sa.select(Delivery).where(Delivery.mailing_id == first.id))
    db.session.refresh(replaced)
    assert replaced.skip_reason is SkipReason.REPLACED


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"users": [1], "logins": [ADMIN]},
        {"users": [1], "logins": [ADMIN], "bundles": ["x"]},
        {"users": list(range(1, 1002))},
    ],
)
def test_one_way_of_naming_within_its_limit(kenton: Customer, given: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as refused:
        order(kenton, **given)
    assert refused.value.field == "users"
    with pytest.raises(InvalidInput) as refused:
        order(kenton, bundles=["x"] * (MOST_BUNDLES + 1))
    assert refused.value.field == "bundles"


def test_only_templates_of_the_customer_are_sent(kenton: Customer) -> None:
    users = [make_user(kenton).id]
    archived = make_template(kenton, name="Archived")
    archived.archived_at = utcnow()
    make_template(find_customer("CQ002"), name="Of another")
    for name in ("Archived", "Of another", "None", ""):
        with pytest.raises(InvalidInput) as refused:
            order(kenton, template=name, users=users)
        assert refused.value.field == "template"
    assert order(kenton, template="PASSWORD  reset", users=users).resets_portal_password


def test_a_refusal_leaves_nothing_behind(kenton: Customer) -> None:
    empty = make_bundle(kenton).name
    user = make_user(kenton)
    welcome = make_welcome(kenton)
    version = db.session.scalars(
        sa.select(EmailTemplateVersion.id).where(EmailTemplateVersion.template_id == welcome.id)
    ).one()
    db.session.execute(
        sa.update(EmailTemplateText)
        .where(EmailTemplateText.version_id == version, EmailTemplateText.language == "de")
        .values(text="Nothing secret", html="<p>Nothing secret</p>")
    )
    db.session.commit()
    with pytest.raises(Conflict, match="No user"):
        order(kenton, bundles=[empty])
    with pytest.raises(Conflict, match="different passwords"):
        order(kenton, template=welcome.name, users=[user.id])
    stranger = make_user(find_customer("CQ002")).id
    assert faults_of(lambda: order(kenton, users=[user.id, stranger])) == ["users.1"]
    assert count_mailings() == 0
    with db.engine.begin() as connection:  # Nothing is locked any more.
        connection.execute(sa.update(User).where(User.id == user.id).values(version=2))


def test_an_order_of_a_credential_names_it(kenton: Customer) -> None:
    row = save(ApiCredential(name="crm", may_send=True, secret_hash="x"))
    crm = Actor.from_credential(row.id, "crm", [ApiScope.SEND], all_groups=True)
    mailing = order_mailing(crm, kenton, MailingOrder(template=NEWS, users=[make_user(kenton).id]))
    assert (mailing.created_by_id, mailing.author) == (None, "API credential crm")


def test_who_sends_alone_steers_without_reading(kenton: Customer) -> None:
    row = save(ApiCredential(name="crm", may_send=True, secret_hash="x"))
    sender, reader = (
        Actor.from_credential(row.id, "crm", [scope], all_groups=True)
        for scope in (ApiScope.SEND, ApiScope.READ)
    )
    made = order(kenton, users=[make_user(kenton).id])
    assert mailings.get_mailing(reader, kenton, made.id).id == made.id
    assert mailings.get_mailing(sender, kenton, made.id, Permission.MAILINGS_SEND).id == made.id
    with pytest.raises(Forbidden):
        mailings.get_mailing(sender, kenton, made.id)
    with pytest.raises(Forbidden):
        mailings.get_mailing(reader, kenton, made.id, Permission.MAILINGS_SEND)
