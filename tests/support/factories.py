"""Rows for tests: plain functions with overrides. They commit; give them an application context."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from extensions import db
from models import (
    Bundle,
    Customer,
    CustomerBundle,
    CustomerEmailTemplate,
    EmailTemplate,
    EmailTemplateText,
    EmailTemplateVersion,
    Group,
    PermissionProfile,
    RegistrationLink,
    Role,
    TemplateKind,
    User,
    Welcome,
    WelcomeState,
    fold,
    utcnow,
)
from services import mail_texts, passwords
from services.actors import Actor

_numbers = itertools.count(1)


def save(row: Any) -> Any:
    db.session.add(row)
    db.session.commit()
    return row


def make_group(**changes: Any) -> Group:
    number = next(_numbers)
    return save(Group(**{"groupno": 1000 + number, "name": f"Group {number}", **changes}))


def make_bundle(customer: Customer | None = None, **changes: Any) -> Bundle:
    number = next(_numbers)
    bundle = save(Bundle(**{"name": f"Bundle{number}", "services": "Desk phone", **changes}))
    if customer is not None:
        save(CustomerBundle(customer_id=customer.id, bundle_id=bundle.id))
    return bundle


def make_customer(**changes: Any) -> Customer:
    number = next(_numbers)
    values: dict[str, Any] = {
        "custno": 100_000 + number,
        "web_id": f"T{number}",
        "name": f"Customer{number}",
        "short_name": f"c{number}",
        "upn_suffix": f"c{number}.example",
        **changes,
    }
    values.setdefault("name_key", fold(values["name"]))
    values.setdefault("short_name_key", fold(values["short_name"]))
    if "group_id" not in values:
        values["group_id"] = make_group().id
    return save(Customer(**values))


def make_profile(customer: Customer, *permissions: str, **changes: Any) -> PermissionProfile:
    """A permission profile of `customer` with these words of permissions."""
    values: dict[str, Any] = {
        "customer_id": customer.id,
        "name": f"Profile {next(_numbers)}",
        "permissions": [str(each) for each in permissions],
        **changes,
    }
    values.setdefault("name_key", fold(values["name"]))
    return save(PermissionProfile(**values))


def make_user(customer: Customer | None = None, **changes: Any) -> User:
    """A user of `customer` (or staff, when the role says so) with a chosen `password`.

    `welcome_state` and `welcome_at` say how the last welcome mail to him ended.
    A supervisor has a profile without any permission, unless another `profile_id` is given.
    """
    number = next(_numbers)
    suffix = customer.upn_suffix if customer else "foyer.example"
    values: dict[str, Any] = {
        "role": Role.USER,
        "login": f"user{number}@{suffix}",
        "first_name": "Given",
        "last_name": f"Name{number:04}",
        "email": f"user{number}@{suffix}",
        "customer_id": customer.id if customer else None,
        **changes,
    }
    if values["role"] is Role.SUPERVISOR and customer and "profile_id" not in values:
        values["profile_id"] = make_profile(customer).id
    welcomed = {name: values.pop(f"welcome_{name}", None) for name in ("state", "at")}
    if (password := values.pop("password", None)) is not None:
        values["password_hash"] = passwords.hash_generated(password)
    values.setdefault("login_key", fold(values["login"]))
    values.setdefault("email_key", fold(values["email"]))
    values.setdefault("name_key", fold(f"{values['first_name']} {values['last_name']}"))
    values.setdefault("surname_key", fold(values["last_name"]))
    user = save(User(**values))
    if any(welcomed.values()):
        note_welcomes(Welcome.user_id == user.id, **welcomed)
    return user


def note_welcomes(
    *conditions: sa.ColumnElement[bool],
    state: WelcomeState | str | None,
    at: datetime | None = None,
) -> None:
    """Have the last welcome mails to these users have ended so; without `state` they were sent."""
    values = {"state": WelcomeState(state or WelcomeState.SENT), "at": at}
    db.session.execute(sa.update(Welcome).where(*conditions).values(values))
    db.session.commit()


def make_template(
    customer: Customer | None = None,
    *,
    kind: TemplateKind = TemplateKind.GENERAL,
    slug: str = "voicemail-update",
    name: str | None = None,
) -> EmailTemplate:
    """A template with the default texts of `slug`, assigned to `customer`."""
    name = name or f"Template {next(_numbers)}"
    template = save(EmailTemplate(name=name, name_key=fold(name), kind=kind))
    version = save(EmailTemplateVersion(template_id=template.id, number=1))
    for language, (subject, text, html) in mail_texts.load_default_template(slug).items():
        save(
            EmailTemplateText(
                version_id=version.id, language=language, subject=subject, text=text, html=html
            )
        )
    if customer is not None:
        save(CustomerEmailTemplate(customer_id=customer.id, template_id=template.id))
    return template


def make_welcome(customer: Customer) -> EmailTemplate:
    return make_template(customer, kind=TemplateKind.WELCOME, slug="welcome")


def make_invitation(**changes: Any) -> RegistrationLink:
    """An invitation by the operator in the name of group 1, which was mailed."""
    number = next(_numbers)
    values: dict[str, Any] = {
        "email": f"invited{number}@prospect.example",
        "invited_by_id": find_user("operator@foyer.example").id,
        "mailed_at": utcnow(),
        "expires_at": utcnow() + timedelta(days=14),
        **changes,
    }
    if "group_id" not in values:
        values["group_id"] = db.session.scalars(sa.select(Group.id).where(Group.groupno == 1)).one()
    values.setdefault("email_key", fold(values["email"]))
    return save(RegistrationLink(**values))


def find_user(login: str) -> User:
    return db.session.scalars(sa.select(User).where(User.login_key == fold(login))).one()


def find_customer(web_id: str) -> Customer:
    return db.session.scalars(sa.select(Customer).where(Customer.web_id == web_id)).one()


def actor_for(login: str) -> Actor:
    return Actor.from_user(find_user(login), "192.0.2.1")
