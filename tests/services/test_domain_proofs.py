"""The proof of a domain: asked for by setting, of one suffix, and told in plain words."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask import Flask

from models import RequestState, SubscriptionRequest
from services import domain_proofs, registration_drafts, registration_submission
from services.actors import Actor
from services.domain_proofs import DnsResolver, ResolverSilent
from services.errors import Conflict, InvalidInput, NotFound
from services.registration_drafts import Tab
from services.registration_submission import DraftFaults
from tests.support.dns_server import DnsServer
from tests.support.registrations import make_draft, make_prospect

NAME = "_foyer-challenge.bergmann.example"


@pytest.fixture
def name_server() -> Iterator[DnsServer]:
    with DnsServer() as server:
        yield server


@pytest.fixture
def settings_changes(name_server: DnsServer) -> dict[str, str]:
    return {"DOMAIN_PROOF": "yes", "DNS_SERVERS": f"127.0.0.1:{name_server.port}"}


@pytest.fixture
def prospect(app_context: Flask) -> Actor:
    return make_prospect()


@pytest.fixture
def draft(prospect: Actor) -> SubscriptionRequest:
    return make_draft(prospect)


def value_for(draft: SubscriptionRequest) -> str:
    challenge = domain_proofs.find_challenge(draft)
    assert challenge is not None
    assert challenge.name == NAME
    return challenge.value


def refusal(prospect: Actor, draft: SubscriptionRequest) -> str:
    with pytest.raises(InvalidInput) as caught:
        domain_proofs.prove_domain(prospect, draft.id)
    assert caught.value.field == "upn_suffix"
    return caught.value.message


def test_a_tenant_is_created_once_its_domain_is_proved(
    prospect: Actor, draft: SubscriptionRequest, name_server: DnsServer
) -> None:
    with pytest.raises(DraftFaults) as caught:
        registration_submission.submit(prospect, draft.id, draft_version=draft.draft_version)
    (fault,) = caught.value.check.faults
    assert fault.field == "upn_suffix"
    assert "not proved yet that bergmann.example is yours" in fault.message
    value = value_for(draft)
    name_server.texts[NAME] = [("v=spf1 -all",), (value[:20], value[20:])]
    draft = domain_proofs.prove_domain(prospect, draft.id)
    assert draft.domain_proved_at is not None
    challenge = domain_proofs.find_challenge(draft)
    assert challenge is not None
    assert challenge.proved
    request = registration_submission.submit(prospect, draft.id, draft_version=draft.draft_version)
    assert request.state is RequestState.SCHEDULED
    assert request.domain_proved_at == draft.domain_proved_at


def test_what_was_proved_is_not_looked_up_again(
    prospect: Actor, draft: SubscriptionRequest, name_server: DnsServer
) -> None:
    name_server.texts[NAME] = [(value_for(draft),)]
    first = domain_proofs.prove_domain(prospect, draft.id)
    assert name_server.asked == [NAME]
    again = domain_proofs.prove_domain(prospect, draft.id)
    assert name_server.asked == [NAME]
    assert again.domain_proved_at == first.domain_proved_at


def test_a_record_that_is_not_there_is_told(prospect: Actor, draft: SubscriptionRequest) -> None:
    assert f"There is no TXT record at {NAME} yet" in refusal(prospect, draft)


def test_a_name_without_texts_is_told(
    prospect: Actor, draft: SubscriptionRequest, name_server: DnsServer
) -> None:
    name_server.texts[NAME] = []
    assert f"There is no TXT record at {NAME} yet" in refusal(prospect, draft)


def test_another_value_is_told_with_the_one_that_it_has_to_be(
    prospect: Actor, draft: SubscriptionRequest, name_server: DnsServer
) -> None:
    name_server.texts[NAME] = [("foyer-domain-proof=of-another-draft" + "x" * 100,)]
    told = refusal(prospect, draft)
    assert "has another value: “foyer-domain-proof=of-another-draftxx" in told
    assert "x" * 60 not in told
    assert value_for(draft) in told


def test_a_name_server_that_fails_is_told(
    prospect: Actor, draft: SubscriptionRequest, name_server: DnsServer
) -> None:
    name_server.broken = True
    assert "No name server answered" in refusal(prospect, draft)


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_a_name_server_that_is_silent_is_not_waited_for_long(
    app_context: Flask, name_server: DnsServer
) -> None:
    name_server.silent = True
    with pytest.raises(ResolverSilent):
        DnsResolver(seconds=0.2).find_texts(NAME)
    assert name_server.asked


def test_a_proof_is_of_the_suffix_that_was_typed_then(
    prospect: Actor, draft: SubscriptionRequest, name_server: DnsServer
) -> None:
    name_server.texts[NAME] = [(value_for(draft),)]
    draft = domain_proofs.prove_domain(prospect, draft.id)
    for suffix, proved in (("other.example", False), ("Bergmann.example.", True)):
        draft = registration_drafts.save_tab(
            prospect,
            draft.id,
            Tab.TENANT,
            {"upn_suffix": suffix},
            draft_version=draft.draft_version,
        )
        challenge = domain_proofs.find_challenge(draft)
        assert challenge is not None
        assert challenge.proved is proved
        assert registration_drafts.check(draft).is_ready is proved


class ChangingResolver:
    """Somebody types in another window while the record is looked up."""

    def __init__(self, prospect: Actor, draft: SubscriptionRequest, **typed: str) -> None:
        self.change = (prospect, draft.id, Tab.TENANT, typed)
        self.version = draft.draft_version
        self.value = value_for(draft)

    def find_texts(self, name: str) -> list[str]:
        registration_drafts.save_tab(*self.change, draft_version=self.version)
        return [self.value]


def test_a_suffix_changed_meanwhile_is_not_proved(
    prospect: Actor, draft: SubscriptionRequest
) -> None:
    resolver = ChangingResolver(prospect, draft, upn_suffix="victim.example")
    with pytest.raises(Conflict, match="changed in another window"):
        domain_proofs.prove_domain(prospect, draft.id, resolver=resolver)
    draft = registration_drafts.get_draft(prospect, draft.id)
    assert draft.domain_proved_at is None


def test_another_field_typed_meanwhile_is_kept(prospect: Actor, draft: SubscriptionRequest) -> None:
    resolver = ChangingResolver(prospect, draft, user_name="other")
    draft = domain_proofs.prove_domain(prospect, draft.id, resolver=resolver)
    assert draft.domain_proved_at is not None
    assert registration_drafts.form_values(draft, Tab.TENANT)["user_name"] == "other"


def test_who_looks_again_and_again_has_to_wait(
    prospect: Actor, draft: SubscriptionRequest, name_server: DnsServer
) -> None:
    told = [refusal(prospect, draft) for _ in range(12)]
    assert all("There is no TXT record" in each for each in told[:10])
    assert "Too many attempts. Try again in" in told[11]
    assert len(name_server.asked) < 12


def test_a_faulty_suffix_has_no_challenge(prospect: Actor, draft: SubscriptionRequest) -> None:
    draft = registration_drafts.save_tab(
        prospect,
        draft.id,
        Tab.TENANT,
        {"upn_suffix": "not a domain\0"},
        draft_version=draft.draft_version,
    )
    assert domain_proofs.find_challenge(draft) is None
    assert "has a space" in refusal(prospect, draft)


def test_somebody_elses_draft_does_not_exist(draft: SubscriptionRequest) -> None:
    with pytest.raises(NotFound):
        domain_proofs.prove_domain(make_prospect("other@other.example"), draft.id)


def test_the_tokens_of_two_drafts_differ(draft: SubscriptionRequest, app_context: Flask) -> None:
    other = make_draft(make_prospect("other@other.example"))
    assert value_for(draft) != value_for(other)


class TestWithoutTheSetting:
    @pytest.fixture
    def settings_changes(self) -> dict[str, str]:
        return {}

    def test_nothing_is_asked_for(self, prospect: Actor, draft: SubscriptionRequest) -> None:
        assert domain_proofs.find_challenge(draft) is None
        assert domain_proofs.prove_domain(prospect, draft.id).domain_proved_at is None
        assert registration_drafts.check(draft).is_ready
