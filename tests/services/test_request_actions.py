"""What is done with requests: rules, races, and invariants after any sequence of steps."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy.exc import IntegrityError

from extensions import db
from models import (
    AuditEvent,
    NotificationKind,
    OffPeakWindow,
    ProvisioningRun,
    RequestCount,
    RequestNotification,
    RequestState,
    RequestTransition,
    Role,
    RunState,
    StartRule,
    SubscriptionRequest,
    table_of,
    utcnow,
)
from services import provisioning, request_actions
from services.actors import SYSTEM, Actor
from services.errors import Conflict, Forbidden, InvalidInput, NotFound, ServiceError
from services.request_actions import RequestChanged, Start
from services.request_states import (
    AUTHOR_ACTIONS,
    ENDED,
    HOLDS_NAMES,
    STAFF_ACTIONS,
    TRANSITIONS,
    RequestAction,
)
from services.request_transitions import move
from services.transactions import run_transaction
from tests.support.factories import make_group, make_user
from tests.support.requests import (
    actor_of,
    author_of,
    count_rows,
    make_operator,
    make_prospect,
    make_request,
    make_service_template,
    pass_on,
)

pytestmark = [pytest.mark.empty_database, pytest.mark.usefixtures("app_context")]
S = RequestState
A = RequestAction


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The requests that workers are asked to look at."""
    asked: list[int] = []
    monkeypatch.setattr(provisioning, "start", asked.append)
    return asked


def operator() -> Actor:
    return actor_of(make_operator(first_name="Olga", last_name="Operator"))


def again(request: SubscriptionRequest) -> SubscriptionRequest:
    return db.session.get_one(SubscriptionRequest, request.id, populate_existing=True)


def make_run(request_id: int, state: RunState) -> None:
    with db.engine.begin() as connection:
        found = table_of(ProvisioningRun)
        changed = connection.execute(
            sa.update(found).where(found.c.request_id == request_id).values(state=state)
        ).rowcount
        if not changed:
            connection.execute(sa.insert(found).values(request_id=request_id, state=state))


def failed() -> SubscriptionRequest:
    request = make_request(S.FAILED)
    make_run(request.id, RunState.FAILED)
    return request


def do(actor: Actor, action: RequestAction, request_id: int, version: int, **words: Any) -> Any:
    """An action by its name, with what it needs."""
    call: Callable[..., Any] = getattr(request_actions, action.value)
    if action in (A.REJECT, A.ASK_FOR_CHANGES):
        words.setdefault("reason", "Because")
    if action is A.SCHEDULE_AT:
        words.setdefault("at", utcnow() + timedelta(days=1))
    if action is A.APPROVE:
        words.setdefault("start", Start.NOW)
    return call(actor, request_id, version=version, **words)


# --- What each leads to ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule_", "is_due"), [(StartRule.IMMEDIATE, True), (StartRule.OFF_PEAK, False)]
)
def test_approving_follows_the_template(rule_: StartRule, is_due: bool, started: list[int]) -> None:
    # One window that is not now.
    later = (utcnow() + timedelta(hours=3)).astimezone(UTC)
    db.session.execute(sa.delete(OffPeakWindow))
    db.session.add(
        OffPeakWindow(days="1234567", from_minute=later.hour * 60, to_minute=later.hour * 60 + 59)
    )
    db.session.commit()
    request = make_request(version=make_service_template(start_rule=rule_))
    # What the approver says does not count where the template decides.
    at = utcnow() + timedelta(days=30)
    done = request_actions.approve(
        operator(), request.id, version=request.version, start=Start.AT, at=at
    )
    assert done.state is S.SCHEDULED
    assert done.scheduled_for is not None
    assert (done.scheduled_for <= utcnow()) is is_due
    assert done.scheduled_for < utcnow() + timedelta(hours=4)
    assert done.off_peak is not is_due
    assert started == [request.id]


@pytest.mark.parametrize("start", list(Start))
def test_the_approver_chooses_where_the_template_leaves_it(start: Start) -> None:
    request = make_request(version=make_service_template(start_rule=StartRule.AT_APPROVAL))
    actor = operator()
    with pytest.raises(InvalidInput) as refused:
        request_actions.approve(actor, request.id, version=request.version)
    assert refused.value.field == "start"
    at = utcnow() + timedelta(days=3)
    done = request_actions.approve(actor, request.id, version=request.version, start=start, at=at)
    assert (done.scheduled_for == at) is (start is Start.AT)
    assert done.off_peak is (start is Start.OFF_PEAK)


def test_without_off_peak_hours_nothing_waits_for_them() -> None:
    db.session.execute(sa.delete(OffPeakWindow))
    db.session.commit()
    request = make_request(version=make_service_template(start_rule=StartRule.OFF_PEAK))
    actor = operator()
    with pytest.raises(Conflict, match="No off-peak hours"):
        request_actions.approve(actor, request.id, version=request.version)
    assert again(request).version == request.version
    outcome = request_actions.approve_many(actor, {request.id: request.version})
    assert "No off-peak hours" in outcome.refused[request.id]


def test_a_reason_is_on_the_request_in_the_timeline_and_in_the_mail() -> None:
    actor = operator()
    for action, state, kind in (
        (A.REJECT, S.REJECTED, NotificationKind.REJECTED),
        (A.ASK_FOR_CHANGES, S.CHANGES_REQUESTED, NotificationKind.CHANGES_REQUESTED),
        (A.CANCEL, S.CANCELLED, NotificationKind.CANCELLED),
    ):
        request = make_request()
        reason = "First line\r\nsecond – Übung 漢字 "
        done = do(actor, action, request.id, request.version, reason=reason)
        assert (done.state, done.comment) == (state, "First line\nsecond – Übung 漢字")
        line = db.session.scalars(
            sa.select(RequestTransition).order_by(RequestTransition.id.desc()).limit(1)
        ).one()
        assert (line.reason, line.actor_id) == (done.comment, actor.user_id)
        mail = db.session.scalars(
            sa.select(RequestNotification).where(RequestNotification.transition_id == line.id)
        ).one()
        assert mail.kind is kind
        event = db.session.scalars(
            sa.select(AuditEvent).where(AuditEvent.object_id == request.id)
            .order_by(AuditEvent.id.desc()).limit(1)
        ).one()  # fmt: skip
        assert (event.action, event.actor_id) == (f"request.{state}", actor.user_id)


@pytest.mark.parametrize("action", [A.REJECT, A.ASK_FOR_CHANGES])
@pytest.mark.parametrize("reason", ["", " \r\n\t", "x" * 2001, "a\0b", "\ud800"])
def test_a_reason_that_cannot_be_kept(action: RequestAction, reason: str) -> None:
    request = make_request()
    with pytest.raises(InvalidInput) as refused:
        do(operator(), action, request.id, request.version, reason=reason)
    assert refused.value.field == "reason"
    assert again(request).version == request.version


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (timedelta(minutes=-2), "has passed"),
        (timedelta(days=366), "more than a year ahead"),
        (timedelta(days=300_000), "more than a year ahead"),
    ],
)
def test_a_start_that_is_out_of_reach(change: timedelta, said: str) -> None:
    request = make_request(S.SCHEDULED)
    at = utcnow() + change
    actor = operator()
    with pytest.raises(InvalidInput, match=said):
        request_actions.schedule_at(actor, request.id, version=request.version, at=at)
    chosen = {request.id: request.version}
    with pytest.raises(InvalidInput, match=said):
        request_actions.schedule_many(actor, chosen, start=Start.AT, at=at)
    assert again(request).scheduled_for == request.scheduled_for


def test_the_minute_that_runs_is_not_over() -> None:
    request = make_request(S.SCHEDULED)
    at = utcnow().replace(second=0, microsecond=0)
    done = request_actions.schedule_at(operator(), request.id, version=request.version, at=at)
    assert done.scheduled_for == at


def test_failed_runs_are_retried_or_rolled_back(started: list[int]) -> None:
    actor = operator()
    for action, state, run_state in (
        (A.RETRY, S.PROVISIONING, RunState.RUNNING),
        (A.ROLL_BACK, S.ROLLING_BACK, RunState.ROLLING_BACK),
    ):
        request = failed()
        assert do(actor, action, request.id, request.version).state is state
        run = db.session.scalars(
            sa.select(ProvisioningRun).where(ProvisioningRun.request_id == request.id)
        ).one()
        assert run.state is run_state
        assert started.pop() == request.id


def test_a_retry_without_a_failed_run_changes_nothing() -> None:
    request = make_request(S.FAILED)
    with pytest.raises(Conflict):
        request_actions.retry(operator(), request.id, version=request.version)
    assert again(request).state is S.FAILED


# --- Who may -----------------------------------------------------------------------------------


@pytest.mark.parametrize("action", list(A))
def test_each_action_is_for_operators_in_scope(action: RequestAction) -> None:
    group = make_group()
    version = make_service_template(group_id=group.id)
    state = next(state for state, actions in STAFF_ACTIONS.items() if action in actions)
    author = make_prospect()
    request = make_request(state, version, created_by_id=author.id)
    elsewhere = actor_of(make_operator(make_group()))
    with pytest.raises(NotFound):
        do(elsewhere, action, request.id, request.version)
    auditor = actor_of(make_operator(group, role=Role.AUDITOR))
    with pytest.raises(Forbidden):
        do(auditor, action, request.id, request.version)
    with pytest.raises(NotFound):
        do(actor_of(make_prospect()), action, request.id, request.version)
    if action in AUTHOR_ACTIONS.get(state, ()):
        assert do(actor_of(author), action, request.id, request.version).version == 4
    else:
        with pytest.raises(Forbidden):
            do(actor_of(author), action, request.id, request.version)
        assert again(request).version == request.version


def test_what_is_offered_is_what_can_be_done() -> None:
    staff, auditor = operator(), actor_of(make_operator(role=Role.AUDITOR))
    author = make_prospect()
    for state in set(S) - {S.DRAFT}:
        request = make_request(state, created_by_id=author.id)
        offered = request_actions.available_actions
        assert offered(staff, request) == STAFF_ACTIONS.get(state, ())
        assert offered(auditor, request) == ()
        assert offered(actor_of(author), request) == AUTHOR_ACTIONS.get(state, ())
        assert offered(actor_of(make_prospect()), request) == ()


# --- Two at once -------------------------------------------------------------------------------


def test_the_second_is_told_by_whom_and_what_it_is_now() -> None:
    first, second = operator(), actor_of(make_operator())
    request = make_request()
    seen = request.version
    request_actions.reject(first, request.id, version=seen, reason="No such company")
    with pytest.raises(RequestChanged) as told:
        request_actions.approve(second, request.id, version=seen)
    assert told.value.message == (
        "Olga Operator changed this request in the meantime: it is rejected. "
        "What you asked for was not done."
    )
    with pytest.raises(RequestChanged, match="You changed this request in the meantime"):
        request_actions.reject(first, request.id, version=seen, reason="Once more")
    author = Actor.from_user(author_of(again(request)))
    with pytest.raises(RequestChanged, match=r"^The provider changed this request"):
        request_actions.cancel(author, request.id, version=seen)


def test_what_went_on_by_itself_is_nobodys() -> None:
    request = make_request(S.SCHEDULED)
    seen = request.version
    pass_on(request, S.PROVISIONING)
    with pytest.raises(RequestChanged, match="gone on in the meantime: it is being provisioned"):
        request_actions.start_now(operator(), request.id, version=seen)


def in_threads(app: Flask, *calls: Callable[[], object]) -> list[object]:
    """Each call in a thread and context of its own, all let loose at once; answers or refusals."""
    gate = threading.Barrier(len(calls))
    answers: list[object] = [None] * len(calls)

    def run(number: int, call: Callable[[], object]) -> None:
        with app.app_context():
            gate.wait()
            try:
                answers[number] = call()
            except ServiceError as error:
                answers[number] = error
            finally:
                db.session.remove()

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


@pytest.mark.parametrize("_time", range(3))
def test_of_operators_in_a_race_one_wins(app: Flask, _time: int) -> None:
    actors = [actor_of(make_operator()) for _ in range(4)]
    request = make_request()
    number, version = request.id, request.version
    db.session.commit()
    answers = in_threads(
        app,
        lambda: request_actions.approve(actors[0], number, version=version),
        lambda: request_actions.reject(actors[1], number, version=version, reason="No"),
        lambda: request_actions.cancel(actors[2], number, version=version),
        lambda: request_actions.approve_many(actors[3], {number: version}).done or Conflict(""),
    )
    losers = [each for each in answers if isinstance(each, ServiceError)]
    assert len(losers) == 3, answers
    assert all(isinstance(each, Conflict) for each in losers)
    assert again(request).version == version + 1
    assert_counters()


def test_of_two_plans_at_once_one_wins(app: Flask) -> None:
    actors = [operator(), operator()]
    request = make_request(S.SCHEDULED)
    number, version = request.id, request.version
    times = [utcnow() + timedelta(days=days) for days in (1, 2)]
    db.session.commit()
    answers = in_threads(
        app,
        lambda: request_actions.schedule_at(actors[0], number, version=version, at=times[0]),
        lambda: request_actions.schedule_at(actors[1], number, version=version, at=times[1]),
    )
    (loser,) = (place for place, each in enumerate(answers) if isinstance(each, RequestChanged))
    assert again(request).scheduled_for == times[1 - loser]
    assert again(request).version == version + 1


def test_bulk_actions_at_once_do_not_block_one_another(app: Flask) -> None:
    versions = [make_service_template() for _ in range(2)]
    requests = [make_request(version=versions[number % 2]) for number in range(12)]
    chosen = {each.id: each.version for each in requests}
    backwards = dict(reversed(chosen.items()))
    actors = [operator(), operator()]
    db.session.commit()
    answers: Any = in_threads(
        app,
        lambda: request_actions.approve_many(actors[0], chosen),
        lambda: request_actions.approve_many(actors[1], backwards),
    )
    done = [*answers[0].done, *answers[1].done]
    assert sorted(done) == sorted(chosen)
    refused = answers[0].refused | answers[1].refused
    assert set(refused) == set(chosen)
    assert_counters()


# --- Several at once ---------------------------------------------------------------------------


def test_bulk_actions_name_what_they_leave_alone(started: list[int]) -> None:
    group = make_group()
    version = make_service_template(group_id=group.id)
    fine, stale, other_state = (
        make_request(version=version),
        make_request(version=version),
        make_request(S.FAILED, version),
    )
    foreign = make_request()
    actor = actor_of(make_operator(group))
    chosen = {each.id: each.version for each in (fine, stale, other_state, foreign)}
    chosen[stale.id] -= 1
    chosen[10**15] = 1
    outcome = request_actions.approve_many(actor, chosen)
    assert outcome.done == started == [fine.id]
    assert "gone on in the meantime: it waits for approval" in outcome.refused[stale.id]
    assert "it has failed" in outcome.refused[other_state.id]
    assert "not yours to see" in outcome.refused[foreign.id]
    assert "not yours to see" in outcome.refused[10**15]
    assert again(foreign).version == foreign.version


def test_bulk_approval_asks_for_a_start_only_where_it_is_needed() -> None:
    chooses = make_request(version=make_service_template(start_rule=StartRule.AT_APPROVAL))
    immediate = make_request()
    actor = operator()
    chosen = {each.id: each.version for each in (chooses, immediate)}
    outcome = request_actions.approve_many(actor, chosen)
    assert outcome.done == [immediate.id]
    assert outcome.refused == {chooses.id: "Choose when provisioning starts."}
    at = utcnow() + timedelta(days=1)
    chosen = {chooses.id: chooses.version}
    assert request_actions.approve_many(actor, chosen, start=Start.AT, at=at).done == [chooses.id]
    assert again(chooses).scheduled_for == at


def test_bulk_scheduling() -> None:
    requests = [make_request(S.SCHEDULED) for _ in range(3)]
    actor = operator()
    chosen = {each.id: each.version for each in requests}
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
    outcome = request_actions.schedule_many(actor, chosen, start=Start.AT, at=at)
    assert sorted(outcome.done) == sorted(chosen)
    assert {again(each).scheduled_for for each in requests} == {at}


@pytest.mark.parametrize("number", [0, request_actions.MOST_AT_ONCE + 1])
def test_a_bulk_action_has_its_limits(number: int) -> None:
    actor, chosen = operator(), dict.fromkeys(range(1, number + 1), 1)
    with pytest.raises(InvalidInput):
        request_actions.approve_many(actor, chosen)
    with pytest.raises(InvalidInput):
        request_actions.schedule_many(actor, chosen, start=Start.NOW)
    with pytest.raises(Forbidden):
        request_actions.approve_many(actor_of(make_user(role=Role.AUDITOR)), chosen)


# --- After any sequence ------------------------------------------------------------------------


def assert_counters() -> None:
    kept = {
        (row.group_id, row.state): row.requests
        for row in db.session.execute(sa.select(RequestCount.__table__))
        if row.requests
    }
    assert kept == count_rows()


class Requests(RuleBasedStateMachine):
    """Operators, registrants and the system, each doing what comes to mind.

    `world` are the requests of this run, by id, with the state that each must be in.
    """

    requests = Bundle("requests")

    def __init__(self) -> None:
        super().__init__()
        self.world: dict[int, RequestState] = {}
        self.versions = [make_service_template(start_rule=each) for each in StartRule]
        self.staff = operator()
        self.author = make_prospect()

    # Steps

    @rule(target=requests, kind=st.sampled_from(range(3)), needs=st.booleans())
    def submit(self, kind: int, needs: bool) -> int:
        state = S.AWAITING_APPROVAL if needs else S.SCHEDULED
        version = self.versions[kind]
        request = make_request(state, version, created_by_id=self.author.id)
        self.world[request.id] = state
        return request.id

    @rule(
        request_id=requests,
        action=st.sampled_from(A),
        is_stale=st.booleans(),
        reason=st.sampled_from(["", "Because"]),
        is_author=st.booleans(),
    )
    def act(
        self, request_id: int, action: RequestAction, is_stale: bool, reason: str, is_author: bool
    ) -> None:
        before = db.session.get_one(SubscriptionRequest, request_id, populate_existing=True)
        actor = actor_of(self.author) if is_author else self.staff
        table = AUTHOR_ACTIONS if is_author else STAFF_ACTIONS
        words = {"reason": reason} if action in (A.REJECT, A.ASK_FOR_CHANGES, A.CANCEL) else {}
        version, state = before.version - is_stale, before.state
        is_possible = (
            action in table.get(state, ())
            and not is_stale
            and not (action in (A.REJECT, A.ASK_FOR_CHANGES) and not reason)
        )
        try:
            after = do(actor, action, request_id, version, **words)
        except (Conflict, Forbidden, InvalidInput):
            assert not is_possible
        else:
            assert is_possible
            assert after.version == version + 1
            self.world[request_id] = after.state

    @rule(
        chosen=st.lists(requests, min_size=1, max_size=4, unique=True),
        stale=st.booleans(),
        is_approval=st.booleans(),
    )
    def act_on_many(self, chosen: list[int], stale: bool, is_approval: bool) -> None:
        seen = {
            each.id: each.version
            for each in db.session.scalars(
                sa.select(SubscriptionRequest).where(SubscriptionRequest.id.in_(chosen))
                .execution_options(populate_existing=True)
            )
        }  # fmt: skip
        if stale:
            seen[chosen[0]] -= 1
        call = request_actions.approve_many if is_approval else request_actions.schedule_many
        outcome = call(self.staff, seen, start=Start.OFF_PEAK)
        expected = S.AWAITING_APPROVAL if is_approval else S.SCHEDULED
        fit = {each for each in chosen if self.world[each] is expected}
        assert set(outcome.done) == (fit - {chosen[0]} if stale else fit)
        assert set(outcome.done) | set(outcome.refused) == set(chosen)
        self.world |= dict.fromkeys(outcome.done, S.SCHEDULED)

    @rule(request_id=requests, choice=st.integers(0, 9), dies=st.booleans())
    def go_on(self, request_id: int, choice: int, dies: bool) -> None:
        """The registrant submits again, or the system takes a step; it may die in the middle."""
        state = self.world[request_id]
        ways = sorted(TRANSITIONS[state]) if state in _GOES_ON else []
        if not ways:
            return
        to_state = ways[choice % len(ways)]

        def work(connection: sa.Connection) -> None:
            planned = utcnow() if to_state is S.SCHEDULED else None
            values: dict[str, Any] = {"scheduled_for": planned} if planned else {}
            move(connection, request_id, state, to_state, actor=SYSTEM, **values)
            if to_state is S.SUBMITTED:
                move(connection, request_id, to_state, S.AWAITING_APPROVAL, actor=SYSTEM)
            if dies:
                raise _Died

        try:
            run_transaction(work)
        except _Died:
            return
        self.world[request_id] = S.AWAITING_APPROVAL if to_state is S.SUBMITTED else to_state
        if to_state in _RUNS:
            make_run(request_id, _RUNS[to_state])

    @rule(request_id=requests, to_state=st.sampled_from(S))
    def try_another_way(self, request_id: int, to_state: RequestState) -> None:
        """What is not declared cannot happen, whoever asks for it."""
        state = self.world[request_id]
        if to_state in TRANSITIONS[state]:
            return
        with pytest.raises(ValueError, match="no way leads"):
            run_transaction(
                lambda connection: move(connection, request_id, state, to_state, actor=SYSTEM)
            )

    @rule(gone=consumes(requests))
    def forget(self, gone: int) -> None:
        """Only this test forgets: what stays behind must keep to the invariants."""

    @rule(target=requests)
    def rest(self) -> Any:
        return multiple()

    # What always holds

    @invariant()
    def rows_are_as_they_must_be(self) -> None:
        db.session.expire_all()
        for row in db.session.scalars(
            sa.select(SubscriptionRequest).where(SubscriptionRequest.id.in_(self.world))
        ):
            assert row.state is self.world[row.id]
            assert (row.password_seal is None) is (row.state in ENDED)
            assert (row.ended_at is not None) is (row.state in ENDED)
            assert row.state is not S.SCHEDULED or row.scheduled_for is not None

    @invariant()
    def counters_are_what_there_is(self) -> None:
        assert_counters()

    @invariant()
    def the_timeline_is_a_chain(self) -> None:
        lines = db.session.execute(
            sa.select(RequestTransition.__table__)
            .where(RequestTransition.request_id.in_(self.world))
            .order_by(RequestTransition.id)
        )
        at = dict.fromkeys(self.world, S.DRAFT)
        count = dict.fromkeys(self.world, 1)
        for line in lines:
            assert line.from_state is at[line.request_id]
            assert line.to_state in TRANSITIONS[line.from_state]
            at[line.request_id] = line.to_state
            count[line.request_id] += 1
        assert at == self.world
        rows = db.session.execute(
            sa.select(SubscriptionRequest.id, SubscriptionRequest.version).where(
                SubscriptionRequest.id.in_(self.world)
            )
        )
        assert {row.id: row.version for row in rows} == count

    def teardown(self) -> None:
        for request_id, state in self.world.items():
            assert is_held(request_id) is (state in HOLDS_NAMES)


class _Died(Exception):
    pass


_GOES_ON = {S.CHANGES_REQUESTED, S.SCHEDULED, S.PROVISIONING, S.ROLLING_BACK}
_RUNS = {
    S.PROVISIONING: RunState.RUNNING,
    S.FAILED: RunState.FAILED,
    S.COMPLETED: RunState.COMPLETED,
}


def is_held(request_id: int) -> bool:
    """Whether nobody else can have the names of a request."""
    table = table_of(SubscriptionRequest)
    held = []
    for column in ("name_key", "short_name_key", "upn_suffix"):
        with db.engine.connect() as connection:
            row = connection.execute(sa.select(table).where(table.c.id == request_id)).one()
            values = {**row._mapping, "id": None, "customer_id": None, "state": S.AWAITING_APPROVAL}
            del values["id"]
            others = {"name_key", "short_name_key", "upn_suffix"} - {column}
            values |= {each: f"{values[each]}x" for each in others}
            try:
                connection.execute(sa.insert(table).values(values))
            except IntegrityError:
                held.append(True)
            else:
                held.append(False)
            connection.rollback()
    assert len(set(held)) == 1, held
    return held[0]


def test_whatever_is_done_the_invariants_hold(app_context: Flask) -> None:
    run_state_machine_as_test(
        Requests,
        settings=settings(
            max_examples=15,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
