"""Orders: a tenant asked for at once, stored with its names held or not at all."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db, queues
from models import (
    ApiCredential,
    ApiScope,
    Customer,
    Group,
    RequestState,
    RequestTransition,
    StartRule,
    SubscriptionRequest,
    utcnow,
)
from services import passwords, registration_drafts, registration_orders, request_passwords
from services.actors import Actor
from services.errors import Forbidden, InvalidInputs
from services.registration_orders import Order
from services.transactions import run_transaction
from tests.support.api import make_credential
from tests.support.dns_server import DnsServer
from tests.support.factories import actor_for, make_customer, make_group
from tests.support.registrations import CONTACT, PASSWORD, TENANT
from tests.support.requests import count_rows, make_service_template, pass_on

S = RequestState
NAME = "_foyer-challenge.bergmann.example"


def order(**changes: Any) -> Order:
    values = {**TENANT, **CONTACT, **changes.pop("values", {})}
    return Order(**{"template": "Starter", "values": values, **changes})


def credential_actor(*scopes: ApiScope, name: str = "orders", all_groups: bool = False) -> Actor:
    make_credential(name, all_groups=all_groups)
    found = db.session.scalars(sa.select(ApiCredential).where(ApiCredential.name == name)).one()
    return Actor.from_credential(
        found.id, name, scopes or tuple(ApiScope), all_groups=all_groups, address="192.0.2.9"
    )


@pytest.fixture
def group(app_context: Flask) -> Group:
    return db.session.scalars(sa.select(Group).where(Group.groupno == 1)).one()


@pytest.fixture
def actor(app_context: Flask) -> Actor:
    return credential_actor()


def rows() -> int:
    return db.session.scalar(sa.select(sa.func.count(SubscriptionRequest.id))) or 0


def faults(caught: Any) -> dict[str, str]:
    return dict(caught.value.faults)


def test_it_goes_the_ways_of_a_registration(actor: Actor, group: Group) -> None:
    request = registration_orders.submit_order(actor, group, order(password=PASSWORD))
    assert request.state is S.SCHEDULED
    assert (request.created_by_id, request.credential_id) == (None, actor.credential_id)
    assert (request.group_id, request.admin_login) == (group.id, "prpbmAdmin@bergmann.example")
    assert request.contact_email_key == "beate@bergmann.example"
    assert request.options == {"lines": 5, "voicemail_to_email": True}
    assert passwords.verify(request.password_hash, PASSWORD)
    assert request.password_seal is not None
    assert request_passwords.open_password(request.password_seal) == PASSWORD
    assert PASSWORD not in str(request.draft)
    assert request.draft["tenant"]["name"] == "Bergmann"
    way = db.session.execute(
        sa.select(RequestTransition.to_state, RequestTransition.actor_login).order_by(
            RequestTransition.id
        )
    ).all()
    assert [tuple(each) for each in way] == [
        (S.SUBMITTED, "api:orders"),
        (S.SCHEDULED, "api:orders"),
    ]
    assert count_rows() == {(group.id, S.SCHEDULED): 1}
    assert [job.args for job in queues["provisioning"].jobs] == [[request.id]]


def test_a_password_that_is_made_is_sealed_for_the_platform(actor: Actor, group: Group) -> None:
    request = registration_orders.submit_order(actor, group, order())
    assert request.password_seal is not None
    made = request_passwords.open_password(request.password_seal)
    assert passwords.is_generated(request.password_hash)
    assert passwords.verify(request.password_hash, made)


def test_language_and_time_zone_have_defaults(actor: Actor, group: Group) -> None:
    values = {"language": "", "time_zone": "", "country": "NL"}
    request = registration_orders.submit_order(actor, group, order(values=values))
    assert (request.language, request.time_zone) == ("en", "Europe/Amsterdam")


def test_every_fault_is_told_and_no_draft_is_left(actor: Actor, group: Group) -> None:
    with pytest.raises(InvalidInputs) as caught:
        registration_orders.submit_order(
            actor,
            group,
            order(
                template="None",
                password="x",
                values={"name": "a b", "city": "", "contact_email": "no"},
                options={"lines": 1},
            ),
        )
    assert set(faults(caught)) == {"template", "password", "name", "city", "contact_email"}
    assert "“None”" in faults(caught)["template"]
    assert rows() == 0
    assert registration_drafts.list_drafts(actor_for("operator@foyer.example")) == []


def test_the_login_is_no_password(actor: Actor, group: Group) -> None:
    with pytest.raises(InvalidInputs) as caught:
        registration_orders.submit_order(
            actor, group, order(password="prpbmAdmin@bergmann.example")
        )
    assert "differ from the login" in faults(caught)["password"]


def test_a_withdrawn_template_and_one_of_other_groups_are_not_there(
    actor: Actor, group: Group
) -> None:
    withdrawn = make_service_template(name="Withdrawn", group_id=group.id)
    withdrawn.template.published_version_id = None
    db.session.commit()
    foreign = make_service_template(name="Foreign", group_id=make_group().id)
    for template in ("Withdrawn", "Foreign", foreign.template_id, withdrawn.template_id, 0, -1):
        with pytest.raises(InvalidInputs) as caught:
            registration_orders.submit_order(actor, group, order(template=template))
        assert set(faults(caught)) == {"template"}
    everywhere = credential_actor(name="everywhere", all_groups=True)
    made = registration_orders.submit_order(everywhere, group, order(template="FOREIGN"))
    assert made.group_id == group.id


def test_a_name_that_is_taken_between_the_look_and_the_transaction_is_told(
    actor: Actor, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Customer] = []

    def overtake(work: Any) -> Any:
        if not taken:
            taken.append(make_customer(name="Bergmann"))
            db.session.commit()
        return run_transaction(work)

    monkeypatch.setattr(registration_orders, "run_transaction", overtake)
    with pytest.raises(InvalidInputs) as caught:
        registration_orders.submit_order(actor, group, order())
    assert set(faults(caught)) == {"name"}
    assert rows() == 0
    assert count_rows() == {}


def test_names_are_free_again_when_the_request_is_cancelled(actor: Actor, group: Group) -> None:
    first = registration_orders.submit_order(actor, group, order(template="Business"))
    with pytest.raises(InvalidInputs) as caught:
        registration_orders.submit_order(actor, group, order())
    assert f"your own request {first.id}" in faults(caught)["upn_suffix"]
    pass_on(first, S.CANCELLED)
    assert registration_orders.submit_order(actor, group, order()).state is S.SCHEDULED


# --- Changes that were asked for -----------------------------------------------------------------


def returned(actor: Actor, group: Group, **changes: Any) -> SubscriptionRequest:
    """A request of the actor that the provider asked to be changed."""
    request = registration_orders.submit_order(actor, group, order(template="Business", **changes))
    pass_on(request, S.CHANGES_REQUESTED, comment="Another name.")
    return request


@pytest.mark.parametrize(
    "values",
    [{"name": "Bergmann2", "city": "Ghent"}, {"upn_suffix": "bergmann2.example"}],
    ids=["of the same suffix", "of the same name"],
)
def test_an_order_sent_again_is_the_request_that_was_to_be_changed(
    actor: Actor, group: Group, values: dict[str, str]
) -> None:
    before = returned(actor, group, password=PASSWORD)
    before_id, submitted_at = before.id, before.submitted_at
    again = registration_orders.submit_order(
        actor, group, order(template="Business", values=values)
    )
    assert (again.id, again.state, again.comment) == (before_id, S.AWAITING_APPROVAL, "")
    assert {name: getattr(again, name) for name in values} == values
    assert again.draft["tenant"]["name"] == again.name
    assert again.submitted_at == submitted_at
    assert passwords.verify(again.password_hash, PASSWORD), "the password before stays"
    assert rows() == 1
    assert count_rows() == {(group.id, S.AWAITING_APPROVAL): 1}
    with pytest.raises(InvalidInputs, match="your own request"):
        registration_orders.submit_order(actor, group, order())


def test_a_password_that_comes_with_the_change_replaces_the_one_before(
    actor: Actor, group: Group
) -> None:
    returned(actor, group, password=PASSWORD)
    again = registration_orders.submit_order(actor, group, order(password=f"{PASSWORD}-2"))
    assert passwords.verify(again.password_hash, f"{PASSWORD}-2")
    assert again.state is S.SCHEDULED, "of another template now"


def test_a_change_with_faults_changes_nothing(actor: Actor, group: Group) -> None:
    before = returned(actor, group)
    version = before.version
    with pytest.raises(InvalidInputs) as caught:
        registration_orders.submit_order(actor, group, order(values={"city": ""}))
    assert set(faults(caught)) == {"city"}
    kept = fresh(before)
    assert (kept.state, kept.city, kept.version) == (S.CHANGES_REQUESTED, "Brussels", version)


def test_the_request_of_another_credential_or_group_is_not_changed(
    app_context: Flask, group: Group
) -> None:
    everywhere = credential_actor(name="everywhere", all_groups=True)
    before = returned(everywhere, group)
    with pytest.raises(InvalidInputs) as caught:
        registration_orders.submit_order(credential_actor(name="other"), group, order())
    assert "is taken" in faults(caught)["name"]
    with pytest.raises(InvalidInputs) as caught:
        registration_orders.submit_order(everywhere, make_group(), order())
    assert "your own request" in faults(caught)["name"]
    assert fresh(before).state is S.CHANGES_REQUESTED


def test_a_change_that_somebody_overtakes_is_told(
    actor: Actor, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = returned(actor, group)
    overtaken: list[bool] = []

    def overtake(work: Any) -> Any:
        if not overtaken:
            overtaken.append(True)
            pass_on(fresh(before), S.SUBMITTED)
        return run_transaction(work)

    monkeypatch.setattr(registration_orders, "run_transaction", overtake)
    with pytest.raises(InvalidInputs, match="your own request"):
        registration_orders.submit_order(actor, group, order())
    assert fresh(before).state is S.SUBMITTED


# --- Who -----------------------------------------------------------------------------------------


def test_only_who_may_register_and_is_somebody_does(app_context: Flask, group: Group) -> None:
    for nobody in (
        credential_actor(ApiScope.READ, ApiScope.SEND, name="reader"),
        actor_for("auditor@foyer.example"),
        Actor.from_terminal("root"),
    ):
        with pytest.raises(Forbidden):
            registration_orders.submit_order(nobody, group, order())
    assert rows() == 0


# --- Waiting -------------------------------------------------------------------------------------


def test_waiting_ends_with_the_request_and_holds_nothing_open(
    app_context: Flask, actor: Actor, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = registration_orders.submit_order(actor, group, order())
    looks: list[bool] = []

    def sleep(_seconds: float) -> None:
        looks.append(db.session().in_transaction())
        pass_on(fresh(request), S.PROVISIONING if len(looks) == 1 else S.FAILED)
        db.session.commit()

    monkeypatch.setattr(time, "sleep", sleep)
    ended = registration_orders.wait_for_end(request, 60)
    assert ended.state is S.FAILED
    assert looks == [False, False]


def fresh(request: SubscriptionRequest) -> SubscriptionRequest:
    return db.session.get_one(SubscriptionRequest, request.id, populate_existing=True)


def test_what_does_not_move_is_not_waited_for(
    app_context: Flask, actor: Actor, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_service_template(
        name="By night", group_id=group.id, needs_approval=False, start_rule=StartRule.OFF_PEAK
    )

    def never(_seconds: float) -> None:
        raise AssertionError("it waits")

    waiting = registration_orders.submit_order(actor, group, order(template="Business"))
    later = {"name": "Later", "short_name": "later", "upn_suffix": "later.example"}
    planned = registration_orders.submit_order(
        actor, group, order(template="By night", values=later)
    )
    db.session.execute(
        sa.update(SubscriptionRequest)
        .where(SubscriptionRequest.id == planned.id)
        .values(scheduled_for=utcnow() + timedelta(minutes=2))
    )
    db.session.commit()
    monkeypatch.setattr(time, "sleep", never)
    assert registration_orders.wait_for_end(waiting, 60).state is S.AWAITING_APPROVAL
    assert registration_orders.wait_for_end(fresh(planned), 60).state is S.SCHEDULED


# --- The proof of the domain ---------------------------------------------------------------------


class TestWithProof:
    @pytest.fixture
    def name_server(self) -> Iterator[DnsServer]:
        with DnsServer() as server:
            yield server

    @pytest.fixture
    def settings_changes(self, name_server: DnsServer) -> dict[str, str]:
        return {"DOMAIN_PROOF": "yes", "DNS_SERVERS": f"127.0.0.1:{name_server.port}"}

    def test_the_record_to_add_is_told_and_then_found(
        self, actor: Actor, group: Group, name_server: DnsServer
    ) -> None:
        said = []
        for _ in range(2):
            with pytest.raises(InvalidInputs) as caught:
                registration_orders.submit_order(actor, group, order())
            assert set(faults(caught)) == {"upn_suffix"}
            said.append(faults(caught)["upn_suffix"])
        assert said[0] == said[1]
        assert f"TXT record at {NAME} with the value " in said[0]
        value = said[0].partition("with the value ")[2].partition(",")[0]
        name_server.texts[NAME] = [(value,)]
        request = registration_orders.submit_order(actor, group, order())
        assert request.domain_proved_at is not None
        assert request.draft["proved"] == "bergmann.example"

    def test_the_record_of_somebody_else_proves_nothing(
        self, actor: Actor, group: Group, name_server: DnsServer
    ) -> None:
        values = []
        for each in (actor, credential_actor(name="other")):
            with pytest.raises(InvalidInputs) as caught:
                registration_orders.submit_order(each, group, order())
            values.append(faults(caught)["upn_suffix"].partition("with the value ")[2])
        assert values[0] != values[1]
        name_server.texts[NAME] = [(values[1].partition(",")[0],)]
        with pytest.raises(InvalidInputs) as caught:
            registration_orders.submit_order(actor, group, order())
        assert "another value" in faults(caught)["upn_suffix"]
        assert rows() == 0


# --- Once ----------------------------------------------------------------------------------------


def test_many_equal_orders_at_once_are_one_request(
    app_context: Flask, actor: Actor, group: Group
) -> None:
    gate = threading.Barrier(6)
    outcomes: list[str] = []
    group_id = group.id
    db.session.commit()

    def place() -> None:
        with app_context.app_context():
            mine = db.session.get_one(Group, group_id)
            gate.wait()
            try:
                registration_orders.submit_order(actor, mine, order())
                outcomes.append("accepted")
            except InvalidInputs as error:
                outcomes.append(" ".join(sorted(name for name, _ in error.faults)))

    threads = [threading.Thread(target=place) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    db.session.rollback()
    assert outcomes.count("accepted") == 1
    refused = [set(each.split()) for each in outcomes if each != "accepted"]
    # The first may be accepted between two looks, one name after the other.
    assert all(each and each <= {"name", "short_name", "upn_suffix"} for each in refused)
    assert rows() == 1
    assert count_rows() == {(group_id, S.SCHEDULED): 1}
