"""Changes of customers: judged as at registration, over the version that was seen, on record."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import ApiScope, AuditEvent, Customer, CustomerStatus
from services import customer_changes, registration_checks
from services.actors import Actor
from services.errors import Forbidden, InvalidInputs, NotFound, ServiceError, Stale
from tests.support.factories import actor_for, make_customer

OPERATOR = "operator@foyer.example"


@pytest.fixture
def customer(app_context: Flask) -> Customer:
    return make_customer(
        company="Kenton", city="Brussels", country="BE", region="Brabant", language="en"
    )


@pytest.fixture
def operator(app_context: Flask) -> Actor:
    return actor_for(OPERATOR)


def events() -> list[AuditEvent]:
    query = sa.select(AuditEvent).where(AuditEvent.action == "customer.updated")
    return list(db.session.scalars(query.order_by(AuditEvent.id)))


def test_what_changed_is_on_record_and_nothing_else(customer: Customer, operator: Actor) -> None:
    changed = customer_changes.update_customer(
        operator, customer, {"city": " Ghent ", "company": "Kenton", "contact_phone": "02 5550123"}
    )
    assert (changed.city, changed.contact_phone, changed.version) == ("Ghent", "+3225550123", 2)
    (event,) = events()
    assert event.detail == {
        "before": {"city": "Brussels", "contact_phone": ""},
        "after": {"city": "Ghent", "contact_phone": "+3225550123"},
    }
    assert (event.customer_id, event.actor_login) == (customer.id, OPERATOR)


def test_what_is_as_it_was_makes_no_version(customer: Customer, operator: Actor) -> None:
    same = customer_changes.update_customer(operator, customer, {"city": "Brussels"}, versions={1})
    assert same.version == 1
    assert not events()


def test_a_number_is_of_the_country_that_comes_with_it(customer: Customer, operator: Actor) -> None:
    changed = customer_changes.update_customer(
        operator, customer, {"country": "NL", "ani": "020 555 0123"}
    )
    assert (changed.country, changed.ani) == ("NL", "+31205550123")


def test_region_and_postal_code_may_be_emptied(customer: Customer, operator: Actor) -> None:
    assert customer_changes.update_customer(operator, customer, {"region": ""}).region == ""


@pytest.mark.parametrize(
    "name",
    [each for each in customer_changes.CHANGEABLE if each not in registration_checks.OPTIONAL],
)
def test_nothing_else_may_be(customer: Customer, operator: Actor, name: str) -> None:
    with pytest.raises(InvalidInputs) as caught:
        customer_changes.update_customer(operator, customer, {name: " "})
    assert [field for field, _ in caught.value.faults] == [name]


def test_every_fault_is_told_and_nothing_changes(customer: Customer, operator: Actor) -> None:
    wrong = {
        "city": "Ghent",
        "contact_email": "no",
        "language": "xx",
        "ani": "1",
        "company": "x" * 129,
    }
    with pytest.raises(InvalidInputs) as caught:
        customer_changes.update_customer(operator, customer, wrong)
    assert {field for field, _ in caught.value.faults} == set(wrong) - {"city"}
    db.session.refresh(customer)
    assert (customer.city, customer.version) == ("Brussels", 1)


@pytest.mark.parametrize("name", ["name", "short_name", "upn_suffix", "status", "version"])
def test_identities_are_not_changed(customer: Customer, operator: Actor, name: str) -> None:
    with pytest.raises(ValueError, match="not changeable"):
        customer_changes.update_customer(operator, customer, {name: "other"})


def test_who_saw_another_version_is_told(customer: Customer, operator: Actor) -> None:
    customer_changes.update_customer(operator, customer, {"city": "Ghent"}, versions={1})
    with pytest.raises(Stale):
        customer_changes.update_customer(operator, customer, {"city": "Liège"}, versions={1})
    assert len(events()) == 1
    assert customer_changes.update_customer(operator, customer, {"city": "Liège"}).version == 3


def test_one_that_was_deleted_meanwhile_is_gone(customer: Customer, operator: Actor) -> None:
    db.session.execute(
        sa.update(Customer).where(Customer.id == customer.id).values(status=CustomerStatus.DELETED)
    )
    with pytest.raises(NotFound):
        customer_changes.update_customer(operator, customer, {"city": "Ghent"})


def test_who_may_not_write_changes_nothing(customer: Customer) -> None:
    reader = Actor.from_credential(1, "reader", [ApiScope.READ, ApiScope.SEND], all_groups=True)
    for actor in (reader, actor_for("auditor@foyer.example")):
        with pytest.raises(Forbidden):
            customer_changes.update_customer(actor, customer, {"city": "Ghent"})


def race(app: Flask, customer_id: int, cities: list[str], **options: Any) -> list[object]:
    gate = threading.Barrier(len(cities))
    outcomes: list[object] = []
    actor = actor_for(OPERATOR)
    db.session.commit()

    def change(city: str) -> None:
        with app.app_context():
            customer = db.session.get_one(Customer, customer_id)
            gate.wait()
            try:
                done = customer_changes.update_customer(actor, customer, {"city": city}, **options)
                outcomes.append(done.version)
            except ServiceError as error:
                outcomes.append(type(error))

    threads = [threading.Thread(target=change, args=(city,)) for city in cities]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    db.session.rollback()
    return outcomes


def test_of_those_who_saw_the_same_one_changes_it(app_context: Flask, customer: Customer) -> None:
    outcomes = race(app_context, customer.id, ["Ghent", "Liège", "Namur"], versions={1})
    assert outcomes.count(Stale) == 2
    assert 2 in outcomes
    assert len(events()) == 1


def test_without_versions_each_change_is_one_after_the_other(
    app_context: Flask, customer: Customer
) -> None:
    race(app_context, customer.id, ["Ghent", "Liège", "Namur"])
    db.session.refresh(customer)
    assert customer.version == 4
    before = [event.detail["before"]["city"] for event in events()]
    after = [event.detail["after"]["city"] for event in events()]
    assert before == ["Brussels", *after[:-1]]
    assert after[-1] == customer.city
