"""A credential sees its groups alone: what is not its own is told from nothing by nothing."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from blueprints.api.operations import OPERATIONS, Operation
from extensions import db
from models import (
    ApiScope,
    Bundle,
    Customer,
    CustomerBundle,
    Delivery,
    Mailing,
    RequestState,
    Suppression,
    User,
    WebhookEndpoint,
    WebhookEvent,
    WebhookMessage,
    WebhookSubscription,
)
from services import seals, welcome_mails
from services.actors import Actor
from tests.support.api import Caller, make_credential
from tests.support.factories import find_customer, make_template, save
from tests.support.requests import make_request, make_service_template

NOWHERE = 2**40
_VARYING = {"X-Request-ID"}


# --- Something of each kind, for a customer and its group --------------------------------------


def _first(statement: Any) -> int:
    """The first id, which has to be there."""
    return int(db.session.scalars(statement.limit(1)).one())


def _user(customer: Customer) -> int:
    return _first(
        sa.select(User.id).where(User.customer_id == customer.id, User.bundle_id.is_not(None))
    )


def _mailing(customer: Customer) -> int:
    landlord = db.session.scalars(
        sa.select(User).where(User.login_key.startswith("landlord"))
    ).one()
    welcome_mails.resend_to_administrators(
        Actor.from_user(landlord), customer.group.groupno, customer.custno
    )
    welcome_mails.begin_accepted()
    return _first(
        sa.select(Mailing.id).where(Mailing.customer_id == customer.id).order_by(-Mailing.id)
    )


def _request(customer: Customer) -> int:
    version = make_service_template(group_id=customer.group_id)
    return make_request(RequestState.AWAITING_APPROVAL, version).id


def _webhook(customer: Customer) -> int:
    endpoint = save(
        WebhookEndpoint(
            group_id=customer.group_id,
            url="https://hooks.example.com/",
            secret_seal=seals.sealer().encrypt(b"secret"),
        )
    )
    save(WebhookSubscription(endpoint_id=endpoint.id, event=WebhookEvent.CUSTOMER_CREATED))
    return endpoint.id


def _bundle(customer: Customer) -> int:
    return _first(
        sa.select(Bundle.id)
        .join(CustomerBundle, CustomerBundle.bundle_id == Bundle.id)
        .where(CustomerBundle.customer_id == customer.id)
    )


OBJECTS: dict[str, Callable[[Customer, dict[str, int]], int]] = {
    "user_id": lambda customer, _: _user(customer),
    "mailing_id": lambda customer, _: _mailing(customer),
    "delivery_id": lambda _, made: _first(
        sa.select(Delivery.id).where(Delivery.mailing_id == made["mailing_id"])
    ),
    "request_id": lambda customer, _: _request(customer),
    "webhook_id": lambda customer, _: _webhook(customer),
    "message_id": lambda customer, made: (
        save(
            WebhookMessage(
                endpoint_id=made["webhook_id"],
                event=WebhookEvent.CUSTOMER_CREATED,
                object_id=customer.id,
            )
        ).id
    ),
    "bundle_id": lambda customer, _: _bundle(customer),
    "template_id": lambda customer, _: make_template(customer=customer).id,
    "suppression_id": lambda customer, made: (
        save(
            Suppression(
                email_key=db.session.get_one(User, made["user_id"]).email_key,
                reason="550 No such mailbox",
            )
        ).id
    ),
}
"""By the name of the path's part; one that needs another stands after it."""


@dataclass(frozen=True)
class Place:
    groupno: int
    custno: int
    ids: dict[str, int] = field(default_factory=dict)


def make_place(web_id: str) -> Place:
    customer = find_customer(web_id)
    made: dict[str, int] = {}
    for name, make in OBJECTS.items():
        made[name] = make(customer, made)
        assert made[name], (web_id, name)
    return Place(customer.group.groupno, customer.custno, made)


# --- What a caller can tell --------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """All that tells one answer from another, and the work that it took."""

    status: int
    body: str
    headers: frozenset[tuple[str, str]]
    statements: int


@contextmanager
def counted(app: Flask) -> Iterator[list[str]]:
    found: list[str] = []

    def note(_c: Any, _cu: Any, statement: str, *_: Any) -> None:
        found.append(statement)

    with app.app_context():
        engine = db.engine
    sa.event.listen(engine, "before_cursor_execute", note)
    yield found
    sa.event.remove(engine, "before_cursor_execute", note)


_keys = itertools.count()


def look(app: Flask, caller: Caller, operation: Operation, place: Place) -> Seen:
    path = operation.path.replace("<groupno>", str(place.groupno))
    path = path.replace("<custno>", str(place.custno))
    for name in operation.parts:
        path = path.replace(f"<{name}>", str(place.ids.get(name, NOWHERE)))
    options: dict[str, Any] = {}
    if operation.body is not None:
        options["json"] = operation.example if operation.example is not None else {}
    headers = {}
    if operation.method == "POST":
        headers["Idempotency-Key"] = f"isolation-{next(_keys)}"
    with counted(app) as statements:
        response = caller.call(operation.method, path, headers=headers, **options)
    told = {(n, v) for n, v in response.headers.items() if n not in _VARYING}
    return Seen(response.status_code, response.text, frozenset(told), len(statements))


INVALID_ACCESS = (403, "Invalid access")


def is_refused(seen: Seen) -> bool:
    return (seen.status, seen.body) == INVALID_ACCESS and not any(
        name == "WWW-Authenticate" for name, _ in seen.headers
    )


# --- Tests -------------------------------------------------------------------------------------


def test_every_part_of_a_path_has_its_object() -> None:
    parts = {name for each in OPERATIONS for name in each.parts} - {"groupno", "custno"}
    assert parts <= set(OBJECTS), "add how to make one to OBJECTS"


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_what_is_ones_own_is_there(app: Flask) -> None:
    """Or the tests below would show nothing."""
    with app.app_context():
        own = make_place("CQ001")
    for each in OPERATIONS:
        if each.method == "GET":
            assert look(app, Caller(app), each, own).status in {200, 204}, each.id


def test_another_groups_customers_are_told_from_none_by_nothing(app: Flask) -> None:
    with app.app_context():
        foreign = make_place("CQ101")
        credential = make_credential(groups=(1,))
    caller = Caller(app, credential)
    caller.get("/group/1/customer/1001")  # Its use is noted once a minute.
    for each in OPERATIONS:
        places = {
            "a foreign customer": foreign,
            "no customer": Place(foreign.groupno, 999_999),
            "no group": Place(999_999, 999_999),
            "a foreign object of no customer": Place(foreign.groupno, 999_999, foreign.ids),
        }
        if "custno" in each.parts:
            places["below an own group"] = Place(1, foreign.custno, foreign.ids)
            places["no customer of an own group"] = Place(1, 999_999)
        seen = {name: look(app, caller, each, place) for name, place in places.items()}
        assert all(map(is_refused, seen.values())), (each.id, seen)
        assert len(set(seen.values())) == 1, (each.id, seen)


def test_a_customer_is_found_below_its_own_group_alone(app: Flask) -> None:
    """Also by a credential that is for both groups."""
    with app.app_context():
        place = make_place("CQ101")
        caller = Caller(app, make_credential(groups=(1, 2)))
    caller.get("/group/1/customer/1001")
    assert caller.get(f"/group/2/customer/{place.custno}").status_code == 200
    for each in OPERATIONS:
        if "custno" in each.parts:
            seen = look(app, caller, each, Place(1, place.custno, place.ids))
            assert is_refused(seen), (each.id, seen)
            assert seen == look(app, caller, each, Place(1, 999_999, place.ids)), each.id


def test_what_belongs_to_others_is_told_from_nothing_by_nothing(app: Flask) -> None:
    with app.app_context():
        own, sibling, foreign = map(make_place, ("CQ001", "CQ002", "CQ101"))
        credential = make_credential(groups=(1,))
    caller = Caller(app, credential)
    caller.get("/group/1/customer/1001")
    for each in OPERATIONS:
        named = [name for name in each.parts if name in OBJECTS]
        for name, other in itertools.product(named, (sibling, foreign)):
            if other is sibling and "custno" not in each.parts:
                continue  # Of the group, which is the credential's own.
            if name in SHARED:
                continue
            theirs = Place(own.groupno, own.custno, {**own.ids, name: other.ids[name]})
            nobodys = Place(own.groupno, own.custno, {**own.ids, name: NOWHERE})
            seen, missing = (look(app, caller, each, place) for place in (theirs, nobodys))
            assert is_refused(seen), (each.id, name, seen)
            assert seen == missing, (each.id, name)


SHARED = {"bundle_id"}
"""Those that customers have in common."""


def test_a_scope_that_is_not_granted_is_refused_like_what_is_not_there(app: Flask) -> None:
    with app.app_context():
        own = make_place("CQ001")
        callers = {
            scope: Caller(app, make_credential(f"all-but-{scope.value}", scopes=others))
            for scope in ApiScope
            for others in [tuple(set(ApiScope) - {scope})]
        }
    for caller in callers.values():
        caller.get("/group/1/customer/1001")
    for each in OPERATIONS:
        caller = callers[each.scope]
        seen = look(app, caller, each, own)
        assert is_refused(seen), (each.id, seen)
        assert seen == look(app, caller, each, Place(999_999, 999_999)), each.id


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_nobody_is_let_in(app: Flask) -> None:
    with app.app_context():
        own = make_place("CQ001")
    stranger, known_name = Caller(app, None), Caller(app, ("demo-api", "wrong"))
    for each in OPERATIONS:
        seen = look(app, stranger, each, own)
        assert (seen.status, seen.body) == INVALID_ACCESS, each.id
        assert ("WWW-Authenticate", 'Basic realm="Foyer API", charset="UTF-8"') in seen.headers
        assert look(app, known_name, each, own) == look(
            app, Caller(app, ("unknown", "wrong")), each, own
        )


def test_nothing_is_changed_by_those_who_may_not(app: Flask) -> None:
    with app.app_context():
        foreign = make_place("CQ101")
        credential = make_credential(groups=(1,))
        before = fingerprint()
    caller = Caller(app, credential)
    for each in OPERATIONS:
        look(app, caller, each, foreign)
    with app.app_context():
        assert fingerprint() == before


def fingerprint() -> dict[str, Any]:
    """How many rows each table has, but what notes the use of a credential."""
    counts = {}
    for table in db.metadata.sorted_tables:
        counts[table.name] = db.session.scalar(sa.select(sa.func.count()).select_from(table))
    return counts
