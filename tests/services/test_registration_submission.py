"""Create Tenant: once, however often it is pressed, and one of those who want the same name."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from flask import Flask
from sqlalchemy.engine import Connection

from extensions import db, queues
from models import (
    AuditEvent,
    Group,
    OffPeakWindow,
    RegistrationLink,
    RequestCount,
    RequestNotification,
    RequestState,
    RequestTransition,
    StartRule,
    SubscriptionRequest,
    utcnow,
)
from services import (
    passwords,
    registration_drafts,
    registration_submission,
    request_passwords,
)
from services.actors import SYSTEM, Actor
from services.errors import Conflict, NotFound, ServiceError
from services.registration_drafts import StaleDraft, Tab
from services.registration_submission import DraftFaults
from services.request_transitions import move
from services.transactions import run_transaction
from tests.support.factories import actor_for, make_customer, make_group, save
from tests.support.registrations import PASSWORD, fill_draft, make_draft, make_prospect
from tests.support.requests import count_rows, make_service_template

S = RequestState
AT_ONCE = 8


@pytest.fixture
def prospect(app_context: Flask) -> Actor:
    return make_prospect()


@pytest.fixture
def draft(prospect: Actor) -> SubscriptionRequest:
    return make_draft(prospect)


def submit(actor: Actor, draft: SubscriptionRequest) -> SubscriptionRequest:
    return registration_submission.submit(actor, draft.id, draft_version=draft.draft_version)


def faults(error: DraftFaults) -> dict[str, str]:
    return {fault.field: fault.message for fault in error.check.faults}


def way(request: SubscriptionRequest) -> list[tuple[str, str]]:
    rows = db.session.execute(
        sa.select(RequestTransition.from_state, RequestTransition.to_state)
        .where(RequestTransition.request_id == request.id)
        .order_by(RequestTransition.id)
    )
    return [(row.from_state, row.to_state) for row in rows]


def check_counters() -> None:
    """The counters say what the rows do."""
    rows = db.session.execute(
        sa.select(RequestCount.group_id, RequestCount.state, RequestCount.requests)
    )
    assert {(g, s): number for g, s, number in rows if number} == count_rows()


def together(app: Flask, jobs: list[Callable[[], object]]) -> list[object]:
    """What the jobs return or raise, each in a thread of its own, all at once."""
    gate = threading.Barrier(len(jobs))
    outcomes: list[object] = []

    def run(job: Callable[[], object]) -> None:
        with app.app_context():
            gate.wait()
            try:
                outcomes.append(job())
            except ServiceError as error:
                outcomes.append(error)

    db.session.commit()
    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


# --- Accepted ------------------------------------------------------------------------------------


def test_a_complete_draft_becomes_a_request(prospect: Actor, draft: SubscriptionRequest) -> None:
    before = utcnow()
    request = submit(prospect, draft)
    assert request.id == draft.id
    assert request.state is S.SCHEDULED
    assert request.submitted_at is not None
    assert request.scheduled_for is not None
    assert before <= request.submitted_at <= request.scheduled_for <= utcnow()
    assert (request.name, request.name_key) == ("Bergmann", "bergmann")
    assert (request.short_name, request.upn_suffix) == ("bm", "bergmann.example")
    assert request.admin_login == "prpbmAdmin@bergmann.example"
    assert request.ani == "+3225550123"
    assert request.company == "Bergmann & Söhne"
    assert (request.city, request.country, request.language) == ("Brussels", "BE", "de")
    assert request.contact_email_key == "beate@bergmann.example"
    assert request.options == {"lines": 5, "voicemail_to_email": True}
    assert request.group_id is not None
    assert passwords.verify(request.password_hash, PASSWORD)
    assert request.password_seal is not None
    assert request_passwords.open_password(request.password_seal) == PASSWORD
    assert way(request) == [(S.DRAFT, S.SUBMITTED), (S.SUBMITTED, S.SCHEDULED)]
    check_counters()
    (job,) = queues["provisioning"].jobs
    assert (job.func_name, job.args) == ("jobs.provisioning.provision", [request.id])
    actions = db.session.scalars(
        sa.select(AuditEvent.action)
        .where(AuditEvent.object_id == request.id, AuditEvent.object_type == "request")
        .order_by(AuditEvent.id)
    ).all()
    assert actions == ["draft.started", "request.submitted", "request.scheduled"]


def test_a_template_with_approval_waits_for_it(prospect: Actor) -> None:
    request = submit(prospect, make_draft(prospect, template="Business"))
    assert request.state is S.AWAITING_APPROVAL
    assert request.scheduled_for is None
    assert queues["provisioning"].count == 0
    check_counters()


@pytest.fixture
def off_peak_template(app_context: Flask) -> str:
    make_service_template(name="By night", needs_approval=False, start_rule=StartRule.OFF_PEAK)
    return "By night"


def set_windows(*windows: OffPeakWindow) -> None:
    db.session.execute(sa.delete(OffPeakWindow))
    db.session.add_all(windows)
    db.session.commit()


def test_an_off_peak_start_waits_for_its_window_and_is_announced(
    prospect: Actor, off_peak_template: str
) -> None:
    opens = datetime.now(UTC) + timedelta(days=2)
    day = str(opens.isoweekday())
    set_windows(OffPeakWindow(days=day, from_minute=600, to_minute=660))
    request = submit(prospect, make_draft(prospect, template=off_peak_template))
    assert request.state is S.SCHEDULED
    assert request.off_peak
    assert request.scheduled_for is not None
    assert request.scheduled_for > utcnow() + timedelta(hours=12)
    mails = db.session.scalars(sa.select(RequestNotification.email)).all()
    assert mails == ["beate@bergmann.example"]


def test_without_off_peak_hours_the_provider_chooses_the_start(
    prospect: Actor, off_peak_template: str
) -> None:
    set_windows()
    request = submit(prospect, make_draft(prospect, template=off_peak_template))
    assert request.state is S.AWAITING_APPROVAL
    reason = db.session.scalars(
        sa.select(RequestTransition.reason)
        .where(RequestTransition.request_id == request.id)
        .order_by(RequestTransition.id.desc())
    ).first()
    assert reason == "No off-peak hours are planned, so the provider chooses when to start."


def test_after_some_tenants_of_one_person_the_provider_looks_at_the_next(
    prospect: Actor, app_context: Flask
) -> None:
    def register(actor: Actor, number: int) -> SubscriptionRequest:
        request = fill_draft(
            actor,
            registration_drafts.start_draft(actor),
            name=f"Bergmann{number}",
            short_name=f"bm{number}",
            upn_suffix=f"bergmann{number}.example",
        )
        return registration_submission.submit(
            actor, request.id, draft_version=request.draft_version
        )

    most = registration_submission.MOST_UNSEEN
    states = [register(prospect, number).state for number in range(most + 1)]
    assert states == [RequestState.SCHEDULED] * most + [RequestState.AWAITING_APPROVAL]
    other = make_prospect("another@elsewhere.example")
    assert register(other, 77).state is RequestState.SCHEDULED


def test_staff_submits_for_a_customer(app_context: Flask) -> None:
    operator = actor_for("operator@foyer.example")
    request = submit(operator, make_draft(operator))
    assert request.state is S.SCHEDULED
    assert request.created_by_id == operator.user_id


def test_an_invited_request_is_of_the_group_of_its_invitation(app_context: Flask) -> None:
    prospect = make_prospect("guest@guests.example")
    group: Group = make_group()
    save(
        RegistrationLink(
            email="guest@guests.example",
            email_key="guest@guests.example",
            invited_by_id=actor_for("operator@foyer.example").user_id,
            group_id=group.id,
            expires_at=utcnow(),
            used_at=utcnow(),
        )
    )
    request = submit(prospect, make_draft(prospect))
    assert request.group_id == group.id
    check_counters()


# --- Refused -------------------------------------------------------------------------------------


def test_a_faulty_draft_is_not_submitted_and_every_fault_is_told(prospect: Actor) -> None:
    draft = make_draft(prospect, name="Ken ton", ani="", city="")
    with pytest.raises(DraftFaults) as caught:
        submit(prospect, draft)
    assert set(faults(caught.value)) == {"name", "ani", "city"}
    stored = registration_drafts.get_draft(prospect, draft.id)
    assert (stored.state, stored.draft_version) == (S.DRAFT, draft.draft_version)
    assert way(stored) == []


def test_an_empty_draft_is_not_submitted(prospect: Actor) -> None:
    draft = registration_drafts.start_draft(prospect)
    with pytest.raises(DraftFaults) as caught:
        submit(prospect, draft)
    assert {fault.tab for fault in caught.value.check.faults} == set(Tab)


def test_what_another_window_changed_is_looked_at_first(
    prospect: Actor, draft: SubscriptionRequest
) -> None:
    opened = draft.draft_version
    registration_drafts.save_tab(
        prospect, draft.id, Tab.CONTACT, {"city": "Ghent"}, draft_version=opened
    )
    with pytest.raises(StaleDraft) as caught:
        registration_submission.submit(prospect, draft.id, draft_version=opened)
    assert caught.value.tab is None
    assert registration_drafts.get_draft(prospect, draft.id).state is S.DRAFT


def test_somebody_elses_draft_is_not_submitted(draft: SubscriptionRequest) -> None:
    for stranger in (make_prospect("other@other.example"), actor_for("landlord@foyer.example")):
        with pytest.raises(NotFound):
            submit(stranger, draft)


def test_a_template_withdrawn_meanwhile_is_told(prospect: Actor) -> None:
    version = make_service_template(name="Short-lived")
    draft = make_draft(prospect, template="Short-lived")
    version.template.published_version_id = None
    db.session.commit()
    with pytest.raises(DraftFaults) as caught:
        submit(prospect, draft)
    assert "not offered any more" in faults(caught.value)["template"]


# --- Once ----------------------------------------------------------------------------------------


def test_pressed_again_the_request_is_returned(prospect: Actor, draft: SubscriptionRequest) -> None:
    version = draft.draft_version
    first = submit(prospect, draft)
    for again_with in (version, version + 1, 0, 10**30):
        again = registration_submission.submit(prospect, draft.id, draft_version=again_with)
        assert (again.id, again.version) == (first.id, first.version)
    assert len(way(first)) == 2
    assert queues["provisioning"].count == 1


def test_pressed_many_times_at_once_it_is_one_request_and_one_transition(
    app_context: Flask, prospect: Actor, draft: SubscriptionRequest
) -> None:
    draft_id, version = draft.id, draft.draft_version

    def press() -> object:
        request = registration_submission.submit(prospect, draft_id, draft_version=version)
        return request.id, request.state

    outcomes = together(app_context, [press] * AT_ONCE)
    assert outcomes == [(draft_id, S.SCHEDULED)] * AT_ONCE
    assert way(draft) == [(S.DRAFT, S.SUBMITTED), (S.SUBMITTED, S.SCHEDULED)]
    assert queues["provisioning"].count == 1
    check_counters()


def test_a_press_that_comes_late_does_not_submit_again(
    prospect: Actor, draft: SubscriptionRequest
) -> None:
    """Between the first press and its repeat the provider asked for changes."""
    version = draft.draft_version
    draft = fill_draft(prospect, draft, template="Business")
    version = draft.draft_version
    request = submit(prospect, draft)
    ask_for_changes(request)
    with pytest.raises(StaleDraft):
        registration_submission.submit(prospect, draft.id, draft_version=version)
    assert registration_drafts.get_draft(prospect, draft.id).state is S.CHANGES_REQUESTED


def ask_for_changes(request: SubscriptionRequest) -> None:
    def work(connection: Connection) -> None:
        move(
            connection,
            request.id,
            S.AWAITING_APPROVAL,
            S.CHANGES_REQUESTED,
            actor=SYSTEM,
            reason="Another name.",
            comment="Another name.",
        )

    run_transaction(work)


def test_a_request_sent_back_is_changed_and_submitted_again(prospect: Actor) -> None:
    first = submit(prospect, make_draft(prospect, template="Business"))
    submitted_at, group_id = first.submitted_at, first.group_id
    ask_for_changes(first)
    draft = registration_drafts.get_draft(prospect, first.id)
    assert draft.comment == "Another name."
    other = make_service_template(name="Of another group")
    draft = fill_draft(prospect, draft, template="Of another group", name="Bergmann2")
    second = submit(prospect, draft)
    assert second.id == first.id
    assert (second.state, second.name, second.comment) == (S.AWAITING_APPROVAL, "Bergmann2", "")
    assert second.submitted_at == submitted_at
    assert second.group_id == other.group_id != group_id
    assert [to for _, to in way(second)][-2:] == [S.SUBMITTED, S.AWAITING_APPROVAL]
    check_counters()


# --- Who gets the name ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "word"),
    [("name", "Kenton"), ("short_name", "knt"), ("upn_suffix", "kenton.example")],
)
def test_of_two_who_want_the_same_word_one_gets_it(
    app_context: Flask, field: str, word: str
) -> None:
    drafts = []
    for number, spelled in enumerate((word.lower(), word.upper())):
        prospect = make_prospect(f"p{number}@prospects.example")
        words = {
            "name": f"Tenant{number}",
            "short_name": f"t{number}",
            "upn_suffix": f"t{number}.example",
            field: spelled,
        }
        drafts.append((prospect, make_draft(prospect, **words)))
    ids = [(actor, draft.id, draft.draft_version) for actor, draft in drafts]

    def press(actor: Actor, draft_id: int, version: int) -> Callable[[], object]:
        return lambda: registration_submission.submit(actor, draft_id, draft_version=version).state

    outcomes = together(app_context, [press(*each) for each in ids])
    (refused,) = [each for each in outcomes if isinstance(each, DraftFaults)]
    assert [each for each in outcomes if each is not refused] == [S.SCHEDULED]
    assert set(faults(refused)) == {field}
    assert "is taken" in faults(refused)[field]
    db.session.expire_all()
    states = Counter(db.session.scalars(sa.select(SubscriptionRequest.state)))
    assert states == {S.SCHEDULED: 1, S.DRAFT: 1}
    check_counters()


def test_many_who_want_one_name_leave_one_request(app_context: Flask) -> None:
    ids = []
    for number in range(AT_ONCE):
        prospect = make_prospect(f"p{number}@prospects.example")
        draft = make_draft(
            prospect, short_name=f"t{number}", upn_suffix=f"t{number}.example", name="Kenton"
        )
        ids.append((prospect, draft.id, draft.draft_version))

    def press(actor: Actor, draft_id: int, version: int) -> Callable[[], object]:
        return lambda: registration_submission.submit(actor, draft_id, draft_version=version).state

    outcomes = together(app_context, [press(*each) for each in ids])
    refused = [each for each in outcomes if isinstance(each, DraftFaults)]
    assert len(refused) == AT_ONCE - 1
    assert all(set(faults(each)) == {"name"} for each in refused)
    check_counters()


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """`between(work)`: have `work` done once, after the check and before the transaction."""

    def arrange(work: Callable[[], object]) -> None:
        waiting = [work]

        def interrupted(job: Callable[[Connection], object]) -> object:
            if waiting:
                waiting.pop()()
                db.session.commit()
            return run_transaction(job)

        monkeypatch.setattr(registration_submission, "run_transaction", interrupted)

    return arrange


def test_a_customer_made_since_the_check_has_the_name(
    prospect: Actor, draft: SubscriptionRequest, between: Callable
) -> None:
    """Its request is completed, so that no index of requests stands in the way."""
    between(lambda: make_customer(name="BERGMANN"))
    with pytest.raises(DraftFaults) as caught:
        submit(prospect, draft)
    assert set(faults(caught.value)) == {"name"}
    assert registration_drafts.get_draft(prospect, draft.id).state is S.DRAFT
    assert way(draft) == []
    check_counters()


def test_a_request_made_since_the_check_has_the_suffix(
    prospect: Actor, draft: SubscriptionRequest, between: Callable
) -> None:
    other = make_prospect("other@other.example")
    rival = make_draft(other, name="Rival", short_name="rv")

    def work() -> None:
        run_submit = registration_submission.submit
        run_submit(other, rival.id, draft_version=rival.draft_version)

    between(work)
    with pytest.raises(DraftFaults) as caught:
        submit(prospect, draft)
    assert set(faults(caught.value)) == {"upn_suffix"}
    check_counters()


def test_what_is_typed_since_the_check_is_not_submitted_unchecked(
    prospect: Actor, draft: SubscriptionRequest, between: Callable
) -> None:
    between(
        lambda: registration_drafts.save_tab(
            prospect,
            draft.id,
            Tab.TENANT,
            {"name": "not a name"},
            draft_version=draft.draft_version,
        )
    )
    with pytest.raises(StaleDraft):
        submit(prospect, draft)
    assert registration_drafts.get_draft(prospect, draft.id).state is S.DRAFT


def test_a_holder_that_gives_up_meanwhile_stands_in_nobodys_way(
    prospect: Actor, draft: SubscriptionRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index refuses, but when the draft is checked again the name is free."""
    other = make_prospect("other@other.example")
    rival = make_draft(other, template="Business", short_name="rv", upn_suffix="rival.example")
    tries: list[int] = []

    def interrupted(job: Callable[[Connection], object]) -> object:
        tries.append(1)
        if len(tries) == 1:
            registration_submission.submit(other, rival.id, draft_version=rival.draft_version)
            db.session.commit()
            try:
                return run_transaction(job)
            finally:
                run_transaction(
                    lambda connection: move(
                        connection, rival.id, S.AWAITING_APPROVAL, S.CANCELLED, actor=SYSTEM
                    )
                )
        return run_transaction(job)

    monkeypatch.setattr(registration_submission, "run_transaction", interrupted)
    assert submit(prospect, draft).state is S.SCHEDULED
    check_counters()


def test_a_refusal_that_stays_unexplained_ends(
    prospect: Actor, draft: SubscriptionRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_job: object) -> None:
        raise registration_submission.Taken

    monkeypatch.setattr(registration_submission, "run_transaction", refuse)
    with pytest.raises(Conflict, match="Try again in a minute"):
        submit(prospect, draft)
