"""Draft, published versions, restoring, and the clone of a template; two editors at once."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import (
    AuditEvent,
    Customer,
    GeneralParameters,
    GeneralParametersVersion,
    Role,
    ServiceTemplateVersion,
)
from services import general_parameters
from services.actors import Actor
from services.errors import Conflict, Forbidden, NotFound
from services.general_parameters import DraftChanged, ParameterFaults, Parameters, values_of
from services.parameter_rules import PARAMETERS, default_values, text_of
from services.transactions import run_transaction
from tests.support.factories import actor_for, find_customer, make_customer, make_user
from tests.support.parameters import MAILBOX, typed
from tests.support.parameters import publish_parameters as publish

ADMIN = "prpkeAdmin@kenton-electronics.com"
OPERATOR = "operator@foyer.example"


@pytest.fixture
def kenton(app_context: Flask) -> Customer:
    return find_customer("CQ001")


@pytest.fixture
def admin(kenton: Customer) -> Actor:
    return actor_for(ADMIN)


def save(actor: Actor, customer: Customer, version: int, **changes: str) -> list[str]:
    return general_parameters.save_draft(actor, customer, typed(**changes), version=version)


def state_of(customer: Customer, login: str = ADMIN) -> Parameters:
    return general_parameters.get_parameters(actor_for(login), customer)


def events_of(customer: Customer) -> list[AuditEvent]:
    return list(
        db.session.scalars(
            sa.select(AuditEvent)
            .where(AuditEvent.customer_id == customer.id, AuditEvent.action.like("parameters.%"))
            .order_by(AuditEvent.id)
        )
    )


def count(model: Any) -> int:
    return db.session.scalar(sa.select(sa.func.count()).select_from(model)) or 0


# --- The draft -----------------------------------------------------------------------------------


def test_looking_at_parameters_that_nobody_saved_writes_nothing(kenton: Customer) -> None:
    found = state_of(kenton)
    assert (found.version, found.draft, found.published) == (0, default_values(), None)
    assert found.differing == []
    assert count(GeneralParameters) == 0


def test_what_is_saved_is_the_draft_and_says_who_and_when(kenton: Customer, admin: Actor) -> None:
    changed = save(admin, kenton, 0, callback_retries="5", opening_hours_monday="8-12")
    assert changed == ["callback_folder_email", "callback_retries", "opening_hours_monday"]
    found = state_of(kenton)
    assert found.version == 1
    assert found.draft["callback_folder_email"] == MAILBOX
    assert found.draft["callback_retries"] == 5
    assert found.draft["opening_hours_monday"] == [["08:00", "12:00"]]
    assert found.changed_by is not None
    assert found.changed_by.login == ADMIN
    assert found.published is None
    (event,) = events_of(kenton)
    assert (event.action, event.actor_login) == ("parameters.saved", ADMIN)
    assert event.detail["before"]["callback_retries"] == 3
    assert event.detail["after"]["callback_retries"] == 5
    assert set(event.detail["after"]) == set(changed)


def test_saving_what_is_there_already_is_no_change(kenton: Customer, admin: Actor) -> None:
    save(admin, kenton, 0)
    assert save(admin, kenton, 1) == []
    assert state_of(kenton).version == 1
    assert len(events_of(kenton)) == 1


def test_a_draft_may_lack_what_publishing_needs(kenton: Customer, admin: Actor) -> None:
    save(admin, kenton, 0, callback_folder_email="", callback_retries="4")
    assert state_of(kenton).draft["callback_folder_email"] == ""


def test_everything_that_means_nothing_is_named_at_once_and_nothing_is_saved(
    kenton: Customer, admin: Actor
) -> None:
    with pytest.raises(ParameterFaults) as refused:
        save(admin, kenton, 0, callback_retries="11", time_zone="Mars", opening_hours_friday="x")
    assert list(refused.value.faults) == ["callback_retries", "time_zone", "opening_hours_friday"]
    assert count(GeneralParameters) == 0
    assert events_of(kenton) == []


def test_a_number_without_its_country_is_one_of_the_customers(
    kenton: Customer, admin: Actor
) -> None:
    kenton.country = "BE"
    db.session.commit()
    save(admin, kenton, 0, number_shown="02 555 01 23")
    assert state_of(kenton).draft["number_shown"] == "+3225550123"


# --- Two editors ---------------------------------------------------------------------------------


def test_the_second_of_two_who_saw_the_same_draft_is_told(kenton: Customer, admin: Actor) -> None:
    save(admin, kenton, 0, callback_retries="4")
    for seen in (0, 2, -1, 10**12):
        with pytest.raises(DraftChanged):
            save(actor_for(OPERATOR), kenton, seen, callback_retries="5")
    assert state_of(kenton).draft["callback_retries"] == 4
    save(actor_for(OPERATOR), kenton, 1, callback_retries="5")
    assert state_of(kenton).draft["callback_retries"] == 5


def test_publishing_tells_those_who_have_the_page_open(kenton: Customer, admin: Actor) -> None:
    save(admin, kenton, 0)
    publish(admin, kenton)
    with pytest.raises(DraftChanged):
        save(actor_for(OPERATOR), kenton, 1, callback_retries="5")


def test_of_many_who_save_at_once_one_is_the_first(app: Flask) -> None:
    barrier = threading.Barrier(4)
    outcomes: list[Any] = []

    def run(number: int) -> None:
        with app.app_context():
            kenton, actor = find_customer("CQ001"), actor_for(ADMIN)
            db.session.commit()
            barrier.wait()
            try:
                outcomes.append(save(actor, kenton, 0, callback_retries=str(number)))
            except DraftChanged as error:
                outcomes.append(error)
            db.session.remove()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(type(each) is DraftChanged for each in outcomes) == [False, True, True, True]
    with app.app_context():
        found = state_of(find_customer("CQ001"))
        assert found.version == 1
        assert found.draft["callback_retries"] in range(4, 8)


def test_of_many_who_publish_at_once_one_does(app: Flask) -> None:
    barrier = threading.Barrier(4)
    outcomes: list[Any] = []

    def run() -> None:
        with app.app_context():
            kenton, actor = find_customer("CQ001"), actor_for(ADMIN)
            db.session.commit()
            barrier.wait()
            try:
                made = general_parameters.publish(actor, kenton, typed(), version=0)
            except DraftChanged:
                outcomes.append(0)
            else:
                outcomes.append(made.number if made else -1)
            db.session.remove()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [0, 0, 0, 1]


# --- Publishing ----------------------------------------------------------------------------------


def test_publishing_makes_a_version_with_who_and_when(kenton: Customer, admin: Actor) -> None:
    version = publish(admin, kenton, callback_retries="5")
    assert version is not None
    assert version.number == 1
    assert version.published_by is not None
    assert version.published_by.login == ADMIN
    assert version.values["callback_retries"] == 5
    found = state_of(kenton)
    assert found.published is not None
    assert found.published.number == 1
    assert found.differing == []
    saved, published = events_of(kenton)
    assert (saved.action, published.action) == ("parameters.saved", "parameters.published")
    assert published.detail["number"] == 1
    second = publish(admin, kenton, callback_retries="6")
    assert second is not None
    assert second.number == 2
    event = events_of(kenton)[-1]
    assert event.detail == {
        "number": 2,
        "before": {"callback_retries": 5},
        "after": {"callback_retries": 6},
    }
    assert general_parameters.get_version(admin, kenton, 1).values["callback_retries"] == 5


def test_the_draft_is_compared_field_by_field(kenton: Customer, admin: Actor) -> None:
    publish(admin, kenton)
    save(admin, kenton, state_of(kenton).version, time_zone="Europe/Paris", callback_retries="1")
    assert state_of(kenton).differing == ["callback_retries", "time_zone"]


def test_publishing_the_same_once_more_does_nothing(kenton: Customer, admin: Actor) -> None:
    publish(admin, kenton)
    before = len(events_of(kenton))
    assert publish(admin, kenton) is None
    assert count(GeneralParametersVersion) == 1
    assert len(events_of(kenton)) == before


def test_publishing_what_is_published_brings_the_draft_back_to_it(
    kenton: Customer, admin: Actor
) -> None:
    publish(admin, kenton)
    save(admin, kenton, state_of(kenton).version, callback_retries="9")
    assert publish(admin, kenton) is None
    assert state_of(kenton).differing == []


def test_a_missing_mailbox_stops_publishing_and_saves_nothing(
    kenton: Customer, admin: Actor
) -> None:
    with pytest.raises(ParameterFaults) as refused:
        publish(admin, kenton, callback_folder_email="", callback_retries="7")
    assert list(refused.value.faults) == ["callback_folder_email"]
    assert count(GeneralParameters) == count(GeneralParametersVersion) == 0


def test_discarding_makes_the_draft_what_is_published(kenton: Customer, admin: Actor) -> None:
    with pytest.raises(Conflict, match="Nothing is published yet"):
        general_parameters.discard_changes(admin, kenton, version=0)
    publish(admin, kenton, callback_retries="5")
    save(admin, kenton, state_of(kenton).version, callback_retries="6")
    with pytest.raises(DraftChanged):
        general_parameters.discard_changes(admin, kenton, version=1)
    version = state_of(kenton).version
    assert "callback_retries" in general_parameters.discard_changes(admin, kenton, version=version)
    assert state_of(kenton).draft["callback_retries"] == 5
    event = events_of(kenton)[-1]
    assert event.action == "parameters.discarded"
    assert event.detail["before"]["callback_retries"] == 6


# --- Earlier versions ----------------------------------------------------------------------------


def test_restoring_publishes_an_earlier_version_anew(kenton: Customer, admin: Actor) -> None:
    publish(admin, kenton, callback_retries="5")
    publish(admin, kenton, callback_retries="6")
    version = general_parameters.restore(actor_for(OPERATOR), kenton, 1, published=2)
    assert (version.number, version.restored_from) == (3, 1)
    assert version.values["callback_retries"] == 5
    assert version.published_by is not None
    assert version.published_by.login == OPERATOR
    found = state_of(kenton)
    assert found.draft["callback_retries"] == 5
    assert found.differing == []
    event = events_of(kenton)[-1]
    assert event.action == "parameters.restored"
    assert event.detail["restored_from"] == 1
    assert event.detail["before"] == {"callback_retries": 6}
    assert event.detail["after"] == {"callback_retries": 5}


def test_restoring_leaves_what_the_draft_has_changed(kenton: Customer, admin: Actor) -> None:
    publish(admin, kenton, callback_retries="5", callback_expiry_hours="10")
    publish(admin, kenton, callback_retries="6", callback_expiry_hours="20")
    version = state_of(kenton).version
    save(admin, kenton, version, callback_retries="7", callback_expiry_hours="20")
    general_parameters.restore(admin, kenton, 1, published=2)
    found = state_of(kenton)
    assert found.draft["callback_retries"] == 7  # Changed by somebody, so it stays.
    assert found.draft["callback_expiry_hours"] == 10  # As published, so it follows.
    assert found.differing == ["callback_retries"]


def test_restoring_tells_those_who_have_the_draft_open(kenton: Customer, admin: Actor) -> None:
    publish(admin, kenton, callback_retries="5")
    publish(admin, kenton, callback_retries="6")
    save(admin, kenton, state_of(kenton).version, callback_retries="7")
    seen = state_of(kenton).version
    general_parameters.restore(admin, kenton, 1, published=2)
    assert state_of(kenton).draft["callback_retries"] == 7
    with pytest.raises(DraftChanged):
        save(admin, kenton, seen, callback_retries="8")


def test_restoring_is_refused_where_something_else_is_published_by_now(
    kenton: Customer, admin: Actor
) -> None:
    publish(admin, kenton, callback_retries="5")
    publish(admin, kenton, callback_retries="6")
    publish(admin, kenton, callback_retries="7")
    with pytest.raises(Conflict, match="Version 3 was published in the meantime"):
        general_parameters.restore(admin, kenton, 1, published=2)
    with pytest.raises(Conflict, match="published already"):
        general_parameters.restore(admin, kenton, 3, published=3)
    assert count(GeneralParametersVersion) == 3


def test_a_version_whose_values_are_no_longer_allowed_is_not_restored(
    kenton: Customer, admin: Actor
) -> None:
    publish(admin, kenton)
    publish(admin, kenton, callback_retries="6")
    first = general_parameters.get_version(admin, kenton, 1)
    first.values = {**first.values, "time_zone": "Europe/Atlantis"}
    db.session.commit()
    with pytest.raises(ParameterFaults) as refused:
        general_parameters.restore(admin, kenton, 1, published=2)
    assert list(refused.value.faults) == ["time_zone"]
    assert count(GeneralParametersVersion) == 2


def test_a_parameter_that_came_later_has_its_default_in_older_versions(
    kenton: Customer, admin: Actor
) -> None:
    publish(admin, kenton)
    first = general_parameters.get_version(admin, kenton, 1)
    first.values = {
        name: value for name, value in first.values.items() if name != "callback_retries"
    } | {"a_parameter_of_old": 1}
    db.session.commit()
    assert list(values_of(first)) == list(PARAMETERS)
    assert values_of(first)["callback_retries"] == 3
    assert state_of(kenton).differing == []


def test_versions_are_listed_newest_first_in_pages(kenton: Customer, admin: Actor) -> None:
    for number in range(1, 6):
        publish(admin, kenton, callback_retries=str(number))
    page = general_parameters.list_versions(admin, kenton, size=2)
    assert [each.number for each in page.rows] == [5, 4]
    page = general_parameters.list_versions(admin, kenton, size=2, cursor=page.next or "")
    assert [each.number for each in page.rows] == [3, 2]
    page = general_parameters.list_versions(admin, kenton, size=2, cursor=page.next or "")
    assert ([each.number for each in page.rows], page.next) == ([1], None)


def test_a_version_of_another_customer_or_of_no_number_is_not_there(
    kenton: Customer, admin: Actor
) -> None:
    publish(actor_for(OPERATOR), find_customer("CQ002"))
    for number in (1, 0, -1, 2**31, 10**30):
        with pytest.raises(NotFound):
            general_parameters.get_version(admin, kenton, number)


# --- Who may -------------------------------------------------------------------------------------


def test_readers_read_and_only_editors_change(kenton: Customer, admin: Actor) -> None:
    publish(admin, kenton)
    auditor = actor_for("auditor@foyer.example")
    assert general_parameters.get_parameters(auditor, kenton).published is not None
    assert general_parameters.list_versions(auditor, kenton).rows
    user = actor_for(make_user(kenton).login)
    supervisor = actor_for(make_user(kenton, role=Role.SUPERVISOR).login)
    for actor in (auditor, user, supervisor):
        with pytest.raises(Forbidden):
            save(actor, kenton, 2)
        with pytest.raises(Forbidden):
            general_parameters.publish(actor, kenton, typed(), version=2)
        with pytest.raises(Forbidden):
            general_parameters.discard_changes(actor, kenton, version=2)
        with pytest.raises(Forbidden):
            general_parameters.restore(actor, kenton, 1, published=1)
    for actor in (user, supervisor):
        with pytest.raises(Forbidden):
            general_parameters.get_parameters(actor, kenton)


# --- New customers -------------------------------------------------------------------------------


def template(**changes: Any) -> ServiceTemplateVersion:
    """The demonstration's first version with other parameters, which is not saved."""
    version = db.session.scalars(sa.select(ServiceTemplateVersion).limit(1)).one()
    db.session.expunge(version)
    for name, value in changes.items():
        setattr(version, name, value)
    return version


def clone(customer: Customer, version: ServiceTemplateVersion) -> Parameters:
    run_transaction(
        lambda connection: general_parameters.clone_into(connection, customer.id, version)
    )
    return state_of(customer, OPERATOR)


def test_a_new_customer_starts_with_the_templates_values(app_context: Flask) -> None:
    customer = make_customer()
    found = clone(
        customer,
        template(
            parameters={
                "callback_folder_email": "callbacks@foyer.example",
                "callback_retries": 4,
                "opening_hours_monday": "8-12",
                "time_zone": "Europe/Brussels",
                "not_one_of_ours": 1,
            },
            must_replace=["callback_folder_email", "not_one_of_ours"],
        ),
    )
    assert found.version == 1
    assert found.published is None
    assert found.draft == default_values() | {
        "callback_folder_email": "callbacks@foyer.example",
        "callback_retries": 4,
        "opening_hours_monday": [["08:00", "12:00"]],
        "time_zone": "Europe/Brussels",
    }
    assert found.must_replace == {"callback_folder_email": "callbacks@foyer.example"}
    (event,) = events_of(customer)
    assert (event.action, event.actor_login) == ("parameters.cloned", "system")


def test_what_the_registration_told_is_better_than_the_templates_values(
    app_context: Flask,
) -> None:
    customer = make_customer(time_zone="America/New_York", language="fr", ani="+12125550123")
    version = template(
        parameters={
            "time_zone": "Europe/Brussels",
            "greeting_language": "nl",
            "number_shown": "+3225550100",
        },
        must_replace=["number_shown"],
    )
    found = clone(customer, version)
    assert found.draft["time_zone"] == "America/New_York"
    assert found.draft["greeting_language"] == "fr"
    assert found.draft["number_shown"] == "+12125550123"
    assert found.must_replace == {"number_shown": "+3225550100"}


def test_cloning_again_changes_nothing(app_context: Flask) -> None:
    customer = make_customer()
    clone(customer, template(parameters={"callback_retries": 4}))
    operator = actor_for(OPERATOR)
    save(operator, customer, 1, callback_retries="8")
    found = clone(customer, template(parameters={"callback_retries": 5}))
    assert found.draft["callback_retries"] == 8
    assert [event.action for event in events_of(customer)] == [
        "parameters.cloned",
        "parameters.saved",
    ]


def test_a_faulty_template_makes_a_draft_that_says_so_when_it_is_published(
    app_context: Flask,
) -> None:
    customer = make_customer()
    found = clone(
        customer,
        template(parameters={"callback_retries": "many", "opening_hours_monday": [[9, 5]]}),
    )
    assert found.draft["callback_retries"] == "many"
    texts = {name: text_of(PARAMETERS[name], value) for name, value in found.draft.items()}
    with pytest.raises(ParameterFaults) as refused:
        general_parameters.publish(actor_for(OPERATOR), customer, texts, version=1)
    assert {"callback_retries", "opening_hours_monday"} <= set(refused.value.faults)


def test_a_stand_in_has_to_be_replaced_before_anything_is_published(app_context: Flask) -> None:
    customer = make_customer()
    stand_in = "callbacks@foyer.example"
    clone(
        customer,
        template(
            parameters={"callback_folder_email": stand_in}, must_replace=["callback_folder_email"]
        ),
    )
    operator = actor_for(OPERATOR)
    save(operator, customer, 1, callback_folder_email=stand_in, callback_retries="4")
    with pytest.raises(ParameterFaults) as refused:
        publish(operator, customer, callback_folder_email=stand_in.upper())
    assert "only stands in" in refused.value.faults["callback_folder_email"]
    version = publish(operator, customer)
    assert version is not None
    with pytest.raises(ParameterFaults):
        publish(operator, customer, callback_folder_email=stand_in)
