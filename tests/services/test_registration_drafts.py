"""Drafts: kept as typed, from any browser, by their author alone, in two windows at once."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from jobs.sweeps import sweep
from models import AuditEvent, RegistrationLink, RequestState, Role, SubscriptionRequest, utcnow
from services import passwords, registration_drafts, request_passwords
from services.actors import Actor
from services.errors import Conflict, Forbidden, NotFound
from services.registration_drafts import NotEditable, StaleDraft, Tab, TabState
from tests.support.factories import actor_for, find_customer, make_group, make_user, save
from tests.support.registrations import (
    CONTACT,
    PASSWORD,
    TENANT,
    find_template,
    make_draft,
    make_prospect,
)
from tests.support.requests import actor_of, make_operator, make_request, make_service_template

OTHER_PASSWORD = "copper-lantern-7-otter"


@pytest.fixture
def prospect(app_context: Flask) -> Actor:
    return make_prospect()


@pytest.fixture
def draft(prospect: Actor) -> SubscriptionRequest:
    return registration_drafts.start_draft(prospect)


def save_tenant(
    prospect: Actor, draft: SubscriptionRequest, version: int = 0, /, *secret: str, **typed: str
) -> SubscriptionRequest:
    return registration_drafts.save_tab(
        prospect,
        draft.id,
        Tab.TENANT,
        typed,
        draft_version=version or draft.draft_version,
        password=secret[0] if secret else "",
        confirmation=secret[-1] if secret else "",
    )


def faults(draft: SubscriptionRequest) -> dict[str, str]:
    return {fault.field: fault.message for fault in registration_drafts.check(draft).faults}


# --- Beginning -----------------------------------------------------------------------------------


def test_a_draft_begins_with_what_is_known_of_the_prospect(app_context: Flask) -> None:
    prospect = make_prospect("Bea@Bergmann.example", language="nl")
    draft = registration_drafts.start_draft(prospect)
    assert draft.state is RequestState.DRAFT
    assert registration_drafts.form_values(draft, Tab.CONTACT) == {
        "contact_email": "Bea@Bergmann.example",
        "language": "nl",
        "country": "BE",
        "time_zone": "Europe/Brussels",
    }
    checked = registration_drafts.check(draft)
    assert set(checked.tabs.values()) == {TabState.EMPTY}
    assert all(fault.is_missing for fault in checked.faults)


def test_staff_begins_for_somebody_else(app_context: Flask) -> None:
    draft = registration_drafts.start_draft(actor_for("operator@foyer.example"))
    shown = registration_drafts.form_values(draft, Tab.CONTACT)
    assert "contact_email" not in shown
    assert shown["country"] == "BE"


def test_beginning_again_before_anything_is_typed_gives_the_same_draft(
    prospect: Actor, draft: SubscriptionRequest
) -> None:
    assert registration_drafts.start_draft(prospect).id == draft.id
    save_tenant(prospect, draft, name="Kenton")
    assert registration_drafts.start_draft(prospect).id != draft.id


def test_a_draft_can_begin_with_a_template(prospect: Actor) -> None:
    business, invited = find_template("Business"), find_template("Contact centre")
    draft = registration_drafts.start_draft(prospect, template_id=business.id)
    assert registration_drafts.check(draft).tabs[Tab.TEMPLATE] is TabState.COMPLETE
    for template_id in (invited.id, 999_999, 10**30, -1):
        with pytest.raises(NotFound):
            registration_drafts.start_draft(prospect, template_id=template_id)


def test_who_has_many_drafts_submits_or_discards_one_first(prospect: Actor) -> None:
    for number in range(registration_drafts.MOST_DRAFTS):
        draft = registration_drafts.start_draft(prospect)
        save_tenant(prospect, draft, name=f"Kenton{number}")
    with pytest.raises(Conflict, match="You have 50 registrations"):
        registration_drafts.start_draft(prospect)
    registration_drafts.discard(prospect, draft.id)
    registration_drafts.start_draft(prospect)


def test_others_begin_nothing(app_context: Flask) -> None:
    administrator = make_user(find_customer("CQ001"), role=Role.CUSTOMER_ADMIN)
    nobody = Actor.from_terminal("root")
    for actor in (actor_of(administrator), actor_for("auditor@foyer.example"), nobody):
        with pytest.raises(Forbidden):
            registration_drafts.start_draft(actor)


# --- Invitations ---------------------------------------------------------------------------------


def invite(email: str, **changes: object) -> RegistrationLink:
    values: dict[str, object] = {
        "email": email,
        "email_key": email,
        "invited_by_id": actor_for("operator@foyer.example").user_id,
        "template_id": find_template("Contact centre").id,
        "language": "fr",
        "expires_at": utcnow() + timedelta(days=1),
        "used_at": utcnow(),
    }
    return save(RegistrationLink(**(values | changes)))


def test_an_invitation_presets_template_and_language(app_context: Flask) -> None:
    prospect = make_prospect("guest@guests.example")
    invitation = invite("guest@guests.example", group_id=make_group().id)
    draft = registration_drafts.start_draft(prospect, invitation_id=invitation.id)
    checked = registration_drafts.check(draft)
    assert checked.template_version is not None
    assert checked.template_version.template.name == "Contact centre"
    assert checked.values["group_id"] == invitation.group_id
    assert registration_drafts.form_values(draft, Tab.CONTACT)["language"] == "fr"
    assert registration_drafts.start_draft(prospect, invitation_id=invitation.id).id == draft.id


def test_an_accepted_invitation_is_found_until_it_led_to_a_request(app_context: Flask) -> None:
    prospect = make_prospect("guest@guests.example")
    invitation = invite("guest@guests.example")
    draft = registration_drafts.start_draft(prospect)
    assert draft.invitation_id == invitation.id
    registration_drafts.discard(prospect, draft.id)
    assert registration_drafts.start_draft(prospect).invitation_id == invitation.id
    make_request(created_by_id=prospect.user_id, invitation_id=invitation.id)
    assert registration_drafts.start_draft(prospect).invitation_id is None
    with pytest.raises(NotFound):
        registration_drafts.start_draft(prospect, invitation_id=invitation.id)


def test_an_invitation_is_of_its_address_and_has_to_be_accepted(app_context: Flask) -> None:
    prospect = make_prospect("guest@guests.example")
    foreign = invite("other@guests.example")
    waiting = invite("guest@guests.example", used_at=None)
    wish = invite("guest@guests.example", invited_by_id=None, template_id=None)
    for link in (foreign, waiting, wish):
        with pytest.raises(NotFound):
            registration_drafts.start_draft(prospect, invitation_id=link.id)
    assert registration_drafts.start_draft(prospect).invitation_id is None


# --- Whose it is ---------------------------------------------------------------------------------


def test_a_draft_is_its_authors_alone(prospect: Actor, draft: SubscriptionRequest) -> None:
    strangers = [
        make_prospect("other@other.example"),
        actor_for("landlord@foyer.example"),
        actor_of(make_operator()),
    ]
    for stranger in strangers:
        assert registration_drafts.list_drafts(stranger) == []
        for ask in (
            lambda who: registration_drafts.get_draft(who, draft.id),
            lambda who: registration_drafts.discard(who, draft.id),
            lambda who: registration_drafts.check_field(who, draft.id, Tab.TENANT, {}),
            lambda who: save_tenant(who, draft, name="Mine"),
        ):
            with pytest.raises(NotFound):
                ask(stranger)
    assert [each.id for each in registration_drafts.list_drafts(prospect)] == [draft.id]


@pytest.mark.parametrize("number", [0, -1, 2**63, 10**30, 999_999])
def test_a_number_that_is_no_draft_is_not_found(prospect: Actor, number: int) -> None:
    with pytest.raises(NotFound):
        registration_drafts.get_draft(prospect, number)


def test_what_was_submitted_is_edited_only_when_changes_are_asked_for(prospect: Actor) -> None:
    for state in RequestState:
        request = make_request(state, created_by_id=prospect.user_id)
        if state in {RequestState.DRAFT, RequestState.CHANGES_REQUESTED}:
            assert save_tenant(prospect, request, name="Kenton").draft["tenant"]
            continue
        with pytest.raises(NotEditable) as caught:
            save_tenant(prospect, request, name="Kenton")
        assert caught.value.request_id == request.id


# --- Keeping what is typed -----------------------------------------------------------------------


def test_everything_typed_is_kept_right_or_wrong(
    prospect: Actor, draft: SubscriptionRequest
) -> None:
    typed = {
        "name": "Kenton Electronics",
        "short_name": "  ",
        "upn_suffix": "https://",
        "user_name": "<b>",
        "ani": "call me",
    }
    save_tenant(prospect, draft, **typed)
    draft = registration_drafts.get_draft(prospect, draft.id)
    assert registration_drafts.form_values(draft, Tab.TENANT) == typed
    assert registration_drafts.check(draft).tabs[Tab.TENANT] is TabState.FAULTY


def test_fields_that_are_not_sent_stay_and_unknown_ones_are_not_kept(
    prospect: Actor, draft: SubscriptionRequest
) -> None:
    draft = save_tenant(prospect, draft, name="Kenton", ani="02 555 01 23")
    draft = save_tenant(prospect, draft, name="Kenton2", password="leaked", state="completed")
    assert registration_drafts.form_values(draft, Tab.TENANT) == {
        "name": "Kenton2",
        "ani": "02 555 01 23",
    }


def test_options_are_kept_for_each_template_that_was_looked_at(
    prospect: Actor, draft: SubscriptionRequest
) -> None:
    starter, business = find_template("Starter").id, find_template("Business").id
    invited = find_template("Contact centre").id
    typed = {
        "template": str(business),
        f"option-{starter}-lines": "7",
        f"option-{business}-lines": "70",
        f"option-{invited}-agents": "9",
        "option-1-nothing": "x",
    }
    draft = registration_drafts.save_tab(
        prospect, draft.id, Tab.TEMPLATE, typed, draft_version=draft.draft_version
    )
    del typed[f"option-{invited}-agents"], typed["option-1-nothing"]
    assert registration_drafts.form_values(draft, Tab.TEMPLATE) == typed
    assert registration_drafts.check(draft).values["options"]["lines"] == 70


def test_a_megabyte_is_kept_as_far_as_it_can_matter(
    prospect: Actor, draft: SubscriptionRequest
) -> None:
    draft = save_tenant(prospect, draft, name="x" * 1_000_000)
    assert len(registration_drafts.form_values(draft, Tab.TENANT)["name"]) == 2000
    assert "The limit is 64" in faults(draft)["name"]


def test_saving_what_is_there_changes_nothing(prospect: Actor, draft: SubscriptionRequest) -> None:
    first = save_tenant(prospect, draft, 0, PASSWORD, **TENANT)
    again = save_tenant(prospect, first, 1, PASSWORD, **TENANT)
    assert again.draft_version == first.draft_version
    contact = registration_drafts.form_values(first, Tab.CONTACT)
    same = registration_drafts.save_tab(
        prospect, draft.id, Tab.CONTACT, contact | {"city": ""}, draft_version=first.draft_version
    )
    assert same.draft_version == first.draft_version
    assert registration_drafts.check(same).tabs[Tab.CONTACT] is TabState.EMPTY


def test_a_prefilled_text_can_be_emptied(prospect: Actor, draft: SubscriptionRequest) -> None:
    draft = registration_drafts.save_tab(
        prospect, draft.id, Tab.CONTACT, {"contact_email": ""}, draft_version=1
    )
    assert registration_drafts.form_values(draft, Tab.CONTACT)["contact_email"] == ""
    assert faults(draft)["contact_email"] == "E-mail address is missing."


# --- Two windows ---------------------------------------------------------------------------------


def test_the_second_window_on_a_tab_is_told_what_differs(
    prospect: Actor, draft: SubscriptionRequest
) -> None:
    opened = draft.draft_version
    save_tenant(prospect, draft, opened, name="Kenton", ani="02 555 01 23")
    with pytest.raises(StaleDraft) as caught:
        save_tenant(
            prospect, draft, opened, PASSWORD, name="Harborlight", ani="02 555 01 23", user_name="x"
        )
    stale = caught.value
    assert stale.stored == {"name": "Kenton", "user_name": ""}
    assert stale.typed == {"name": "Harborlight", "user_name": "x"}
    assert stale.had_password
    assert stale.tab is Tab.TENANT
    stored = registration_drafts.get_draft(prospect, draft.id)
    assert registration_drafts.form_values(stored, Tab.TENANT)["name"] == "Kenton"
    assert not registration_drafts.has_password(stored)
    # It can go on with either.
    settled = save_tenant(prospect, draft, stale.current.draft_version, **stale.typed)
    assert registration_drafts.form_values(settled, Tab.TENANT) == {
        "name": "Harborlight",
        "user_name": "x",
        "ani": "02 555 01 23",
    }


def test_windows_on_different_tabs_lose_nothing(
    prospect: Actor, draft: SubscriptionRequest
) -> None:
    opened = draft.draft_version
    save_tenant(prospect, draft, opened, name="Kenton")
    after = registration_drafts.save_tab(
        prospect, draft.id, Tab.CONTACT, {"city": "Ghent"}, draft_version=opened
    )
    assert after.draft_version == opened + 2
    assert registration_drafts.form_values(after, Tab.TENANT)["name"] == "Kenton"
    assert registration_drafts.form_values(after, Tab.CONTACT)["city"] == "Ghent"


def test_a_save_whose_answer_was_lost_can_be_repeated(
    prospect: Actor, draft: SubscriptionRequest
) -> None:
    opened = draft.draft_version
    first = save_tenant(prospect, draft, opened, PASSWORD, name="Kenton")
    again = save_tenant(prospect, draft, opened, PASSWORD, name="Kenton")
    assert again.draft_version == first.draft_version
    short = save_tenant(prospect, draft, first.draft_version, "short", name="Kenton")
    again = save_tenant(prospect, draft, first.draft_version, "short", name="Kenton")
    assert again.draft_version == short.draft_version


def test_a_window_left_over_from_an_earlier_draft_is_stale(
    prospect: Actor, draft: SubscriptionRequest
) -> None:
    with pytest.raises(StaleDraft):
        save_tenant(prospect, draft, draft.draft_version + 1, name="Kenton")


def test_tabs_saved_at_the_same_moment_are_all_kept(
    app_context: Flask, prospect: Actor, draft: SubscriptionRequest
) -> None:
    opened, draft_id = draft.draft_version, draft.id
    starter = str(find_template("Starter").id)
    db.session.commit()
    jobs = [(Tab.TEMPLATE, {"template": starter}), (Tab.TENANT, TENANT), (Tab.CONTACT, CONTACT)]
    gate = threading.Barrier(len(jobs))
    failures: list[Exception] = []

    def save_one(tab: Tab, typed: dict[str, str]) -> None:
        with app_context.app_context():
            gate.wait()
            try:
                registration_drafts.save_tab(prospect, draft_id, tab, typed, draft_version=opened)
            except Conflict as error:
                failures.append(error)

    threads = [threading.Thread(target=save_one, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    after = registration_drafts.get_draft(prospect, draft_id)
    assert after.draft_version == opened + 3
    for tab, typed in jobs:
        shown = registration_drafts.form_values(after, tab)
        assert {name: shown.get(name, "") for name in typed} == typed


def test_of_windows_on_one_tab_at_the_same_moment_one_is_kept(
    app_context: Flask, prospect: Actor, draft: SubscriptionRequest
) -> None:
    opened, draft_id = draft.draft_version, draft.id
    gate = threading.Barrier(4)
    kept: list[str] = []
    stale: list[str] = []

    def save_one(name: str) -> None:
        with app_context.app_context():
            gate.wait()
            try:
                registration_drafts.save_tab(
                    prospect, draft_id, Tab.TENANT, {"name": name}, draft_version=opened
                )
                kept.append(name)
            except StaleDraft as error:
                stale.append(error.typed["name"])

    threads = [threading.Thread(target=save_one, args=(f"Kenton{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(kept), len(stale)) == (1, 3)
    after = registration_drafts.get_draft(prospect, draft_id)
    assert registration_drafts.form_values(after, Tab.TENANT)["name"] == kept[0]


# --- The password --------------------------------------------------------------------------------


def test_a_good_password_is_hashed_and_sealed_and_nowhere_else(
    prospect: Actor, draft: SubscriptionRequest
) -> None:
    draft = save_tenant(prospect, draft, 0, PASSWORD, **TENANT)
    assert draft.password_hash is not None
    assert draft.password_seal is not None
    assert draft.password_hash.startswith("$argon2id$")
    assert passwords.verify(draft.password_hash, PASSWORD)
    assert request_passwords.open_password(draft.password_seal) == PASSWORD
    row = db.session.execute(
        sa.text("SELECT * FROM subscription_requests WHERE id = :id"), {"id": draft.id}
    ).one()
    assert PASSWORD not in repr([bytes(v) if isinstance(v, memoryview) else v for v in row])
    assert PASSWORD not in repr(registration_drafts.form_values(draft, Tab.TENANT))
    assert PASSWORD not in repr(registration_drafts.check(draft))


def test_the_password_typed_last_counts(prospect: Actor, draft: SubscriptionRequest) -> None:
    draft = save_tenant(prospect, draft, 0, PASSWORD, **TENANT)
    draft = save_tenant(prospect, draft, 0, OTHER_PASSWORD, **TENANT)
    assert passwords.verify(draft.password_hash, OTHER_PASSWORD)
    draft = save_tenant(prospect, draft, 0, "too short", **TENANT)
    assert draft.password_hash is None
    assert draft.password_seal is None
    draft = save_tenant(prospect, draft, 0, PASSWORD, **TENANT)
    assert passwords.verify(draft.password_hash, PASSWORD)
    assert "password" not in faults(draft)


def test_empty_password_fields_leave_the_password_as_it_is(
    prospect: Actor, draft: SubscriptionRequest
) -> None:
    draft = save_tenant(prospect, draft, 0, PASSWORD, **TENANT)
    draft = save_tenant(prospect, draft, name="Other")
    assert passwords.verify(draft.password_hash, PASSWORD)
    refused = save_tenant(prospect, draft, 0, "too short", **TENANT)
    refused = save_tenant(prospect, refused, name="Another")
    assert "The password is too short" in faults(refused)["password"]


@pytest.mark.parametrize(
    ("typed", "field", "told"),
    [
        (("4-tigers",), "password", "The password is too short. Use at least 12 characters"),
        (("x" * 257,), "password", "The password is too long. The limit is 256"),
        (("y" * 1_000_000,), "password", "The password is too long. The limit is 256"),
        (("passwordpassword",), "password", "among the first that attackers try"),
        (("prpbmAdmin@bergmann.example",), "password", "must differ from the login"),
        (("violet-anchor\0-42",), "password", "a character that no keyboard types"),
        (("violet-anchor\ud800-42",), "password", "a character that no keyboard types"),
        ((PASSWORD, OTHER_PASSWORD), "confirmation", "The two passwords differ"),
        ((PASSWORD, ""), "confirmation", "Type the password a second time"),
        (("", PASSWORD), "password", "The password is too short"),
    ],
)
def test_a_refused_password_is_told_until_a_good_one_is_typed(
    prospect: Actor, draft: SubscriptionRequest, typed: tuple[str, ...], field: str, told: str
) -> None:
    draft = save_tenant(prospect, draft, 0, *typed, **TENANT)
    assert not registration_drafts.has_password(draft)
    assert told in faults(draft)[field]
    stored = repr(registration_drafts.get_draft(prospect, draft.id).draft)
    assert not typed[0] or typed[0] not in stored
    draft = save_tenant(prospect, draft, 0, PASSWORD, **TENANT)
    assert not {"password", "confirmation"} & set(faults(draft))


def test_passwords_of_every_script_are_taken(prospect: Actor, draft: SubscriptionRequest) -> None:
    password = "ключ-от-дома-鍵-🔑-מפתח"
    draft = save_tenant(prospect, draft, 0, password, **TENANT)
    assert draft.password_seal is not None
    assert request_passwords.open_password(draft.password_seal) == password


def test_a_login_typed_after_the_password_must_differ_from_it(
    prospect: Actor, draft: SubscriptionRequest
) -> None:
    draft = save_tenant(prospect, draft, 0, "prpvioletanchor42piano")
    assert "password" not in faults(draft)
    draft = save_tenant(prospect, draft, 0, **TENANT | {"user_name": "violetanchor42piano"})
    assert "must differ from the login" in faults(draft)["password"]


def test_a_seal_of_a_lost_key_asks_for_the_password_again(
    prospect: Actor, draft: SubscriptionRequest
) -> None:
    draft = save_tenant(prospect, draft, 0, PASSWORD, **TENANT)
    draft.password_seal = b"\x01" + b"sealed by nobody knows which key"
    db.session.commit()
    assert faults(draft)["password"] == "The password cannot be read any more. Type it again."


# --- The end -------------------------------------------------------------------------------------


def test_a_discarded_draft_is_gone_with_what_was_typed(
    prospect: Actor, draft: SubscriptionRequest
) -> None:
    draft = save_tenant(prospect, draft, 0, PASSWORD, **TENANT)
    registration_drafts.discard(prospect, draft.id)
    assert db.session.scalar(sa.select(sa.func.count()).select_from(SubscriptionRequest)) == 0
    with pytest.raises(NotFound):
        registration_drafts.discard(prospect, draft.id)
    actions = db.session.scalars(
        sa.select(AuditEvent.action).where(AuditEvent.actor_id == prospect.user_id)
    ).all()
    assert actions == ["draft.started", "draft.discarded"]


def test_what_the_provider_has_seen_is_not_discarded(prospect: Actor) -> None:
    request = make_request(RequestState.CHANGES_REQUESTED, created_by_id=prospect.user_id)
    with pytest.raises(Conflict, match="Cancel it"):
        registration_drafts.discard(prospect, request.id)
    assert registration_drafts.get_draft(prospect, request.id).id == request.id


def test_the_sweep_deletes_drafts_that_nobody_touched_for_30_days(prospect: Actor) -> None:
    def make(state: RequestState, days: float) -> int:
        request = make_request(state, created_by_id=prospect.user_id)
        request.changed_at = utcnow() - timedelta(days=days)
        db.session.commit()
        return request.id

    stale = make(RequestState.DRAFT, 30.01)
    kept = [
        make(RequestState.DRAFT, 29.9),
        make(RequestState.CHANGES_REQUESTED, 300),
        make(RequestState.AWAITING_APPROVAL, 300),
    ]
    db.session.commit()
    sweep()
    db.session.expire_all()
    left = db.session.scalars(
        sa.select(SubscriptionRequest.id).where(
            SubscriptionRequest.created_by_id == prospect.user_id
        )
    ).all()
    assert set(left) == set(kept)
    assert stale not in left
    assert registration_drafts.delete_stale_drafts() == 0


def test_drafts_are_listed_the_one_changed_last_first(prospect: Actor) -> None:
    version = make_service_template()
    ids = []
    for days in (3, 1, 2):
        request = make_request(RequestState.DRAFT, version, created_by_id=prospect.user_id)
        request.changed_at = utcnow() - timedelta(days=days)
        ids.append(request.id)
    db.session.commit()
    make_request(RequestState.SCHEDULED, version, created_by_id=prospect.user_id)
    listed = [each.id for each in registration_drafts.list_drafts(prospect)]
    assert listed == [ids[1], ids[2], ids[0]]


def test_a_draft_that_can_be_submitted_is_complete_on_every_tab(prospect: Actor) -> None:
    checked = registration_drafts.check(make_draft(prospect))
    assert checked.is_ready
    assert set(checked.tabs.values()) == {TabState.COMPLETE}
