"""Mailings as other systems order them: a template by its name, to users of one customer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from extensions import db
from models import Customer, Lane, Mailing, User, UserStatus, fold, is_storable
from services import email_templates
from services.actors import Actor, Permission
from services.bundles import OwnBundles
from services.domain_names import ascii_login
from services.errors import Conflict, InvalidInput, InvalidInputs
from services.mailing_confirmations import accept_mailing, choose_mail, lane_for
from services.mailing_freezes import NAMED_USERS, USERS_OF_BUNDLES, Audience
from services.transactions import run_session_transaction

MOST_USERS = 1000
MOST_BUNDLES = 100
_SHOWN = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class MailingOrder:
    """What is sent to whom: users by id, users by login, or everybody who has one of `bundles`."""

    template: str
    users: Sequence[int] = ()
    logins: Sequence[str] = ()
    bundles: Sequence[str] = ()
    include_recent: bool = False


def order_mailing(actor: Actor, customer: Customer, order: MailingOrder) -> Mailing:
    """Freeze the recipients and accept the mailing; the caller enqueues it after.

    Who cannot be mailed is in it with the reason, as on the Users tab. Raises Forbidden,
    InvalidInput, InvalidInputs with everybody who is unknown, and Conflict when nobody has the
    bundles or the languages of the template carry different passwords.
    """
    actor.require(Permission.MAILINGS_SEND)
    template = email_templates.find_named_template(customer, order.template)
    if template is None:
        raise InvalidInput(
            "template",
            f"{customer.name} has no e-mail template “{order.template[:_SHOWN]}”.",
        )
    mail = choose_mail(template)
    audience, values, lane = _find_audience(customer, order)

    def work() -> Mailing:
        mailing = accept_mailing(
            actor,
            customer,
            mail,
            audience,
            values,
            lane=lane,
            include_recent=order.include_recent,
        )
        if not mailing.total:
            raise Conflict(f"No user of {customer.name} has these bundles, so nothing was sent.")
        db.session.commit()
        return mailing

    try:
        return run_session_transaction(work)
    except Exception:
        db.session.rollback()  # A refusal leaves no mailing without recipients behind.
        raise


def _find_audience(
    customer: Customer, order: MailingOrder
) -> tuple[Audience, dict[str, Any], Lane]:
    given = [name for name in ("users", "logins", "bundles") if getattr(order, name)]
    if len(given) != 1:
        raise InvalidInput("users", "Give one of users, logins and bundles.")
    (name,) = given
    most = MOST_BUNDLES if name == "bundles" else MOST_USERS
    if len(getattr(order, name)) > most:
        raise InvalidInput(name, f"{len(getattr(order, name)):,} are given. {most:,} is the most.")
    if name == "bundles":
        return USERS_OF_BUNDLES, {"bundle_ids": _find_bundles(customer, order.bundles)}, Lane.BULK
    ids = _find_users(customer, order)
    return NAMED_USERS, {"user_ids": ids}, lane_for(len(ids))


def _find_bundles(customer: Customer, names: Sequence[str]) -> list[int]:
    own, found, faults = OwnBundles(customer), [], []
    for position, name in enumerate(names):
        try:
            found.append(own.get(name, f"bundles.{position}").id)
        except InvalidInput as error:
            faults.append((error.field, error.message))
    if faults:
        raise InvalidInputs(faults)
    return list(dict.fromkeys(found))


def _find_users(customer: Customer, order: MailingOrder) -> list[int]:
    """Ids of the users that are named; one who is named twice gets one mail."""
    column: Any
    wanted: list[Any]
    if order.users:
        column, field, wanted = User.id, "users", list(order.users)
    else:
        column, field, wanted = User.login_key, "logins", list(map(_key_of, order.logins))
    rows = db.session.execute(
        sa.select(column.label("key"), User.id).where(
            column.in_(list(dict.fromkeys(wanted))),
            User.customer_id == customer.id,
            User.status != UserStatus.DELETED,
        )
    )
    found = {row.key: row.id for row in rows}
    faults = [
        (f"{field}.{position}", f"{customer.name} has no such user.")
        for position, key in enumerate(wanted)
        if key not in found
    ]
    if faults:
        raise InvalidInputs(faults)
    return list(dict.fromkeys(found[key] for key in wanted))


def _key_of(login: str) -> str:
    return fold(ascii_login(login.strip())) if is_storable(login) else ""
