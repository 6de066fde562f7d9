"""The list of requests: who sees which, in which order, found by what, and the counters."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extensions import db
from models import (
    ApiCredential,
    ApiScope,
    AuditEvent,
    RequestState,
    Role,
    SubscriptionRequest,
    utcnow,
)
from services import subscription_requests
from services.actors import Actor
from services.csv_export import stream_csv
from services.errors import Forbidden, NotFound
from services.request_states import Waiting, waiting_for
from services.subscription_requests import (
    RequestFilter,
    RequestSort,
    count_by_waiting,
    export_requests,
    get_request,
    get_requests,
    has_submitted,
    list_requests,
    waiting_of,
)
from tests.support.factories import make_customer, make_group, make_user, save
from tests.support.requests import (
    actor_of,
    author_of,
    make_operator,
    make_prospect,
    make_request,
    make_service_template,
    pass_on,
)

pytestmark = [pytest.mark.empty_database, pytest.mark.usefixtures("app_context")]
S = RequestState


def landlord() -> Actor:
    return actor_of(make_user(role=Role.LANDLORD))


def names(actor: Actor, *, size: int = 25, **wanted: object) -> list[str]:
    page = list_requests(actor, RequestFilter(**wanted), size=size)  # type: ignore[arg-type]
    return [request.name for request in page.rows]


# --- Scope -------------------------------------------------------------------------------------


def test_staff_see_what_was_submitted_in_their_groups() -> None:
    mine, other = make_group(), make_group()
    seen = make_request(version=make_service_template(group_id=mine.id))
    hidden = make_request(version=make_service_template(group_id=other.id))
    for role in (Role.OPERATOR, Role.AUDITOR):
        actor = actor_of(make_operator(mine, role=role))
        assert names(actor) == [seen.name]
        assert get_request(actor, seen.id).name == seen.name
        with pytest.raises(NotFound):
            get_request(actor, hidden.id)
        assert get_requests(actor, [hidden.id, seen.id]) == [seen]
        assert sum(count_by_waiting(actor).values()) == 1
    everything = actor_of(make_operator())
    assert set(names(everything)) == {seen.name, hidden.name}


def test_staff_without_a_group_see_nothing() -> None:
    group = make_group()
    make_request(version=make_service_template(group_id=group.id))
    user = make_operator(group)
    user.all_groups = False
    nobody = actor_of(make_user(role=Role.OPERATOR))
    assert names(nobody) == []
    assert names(nobody, search="t") == []
    assert sum(count_by_waiting(nobody).values()) == 0


def test_staff_see_their_own_drafts_and_no_others() -> None:
    me, colleague = make_operator(), make_operator()
    mine = make_request(S.DRAFT, created_by_id=me.id)
    theirs = make_request(S.DRAFT, created_by_id=colleague.id)
    assert names(actor_of(me)) == [mine.name]
    assert count_by_waiting(actor_of(me))[Waiting.FOR_YOU] == 1
    assert names(actor_of(me), waiting=Waiting.FOR_YOU) == [mine.name]
    with pytest.raises(NotFound):
        get_request(actor_of(me), theirs.id)
    assert sum(count_by_waiting(landlord()).values()) == 0


def test_what_a_credential_asked_for_waits_for_nobody_here() -> None:
    """It has no author, so it is never the reader's own, nor left out as if it were."""
    credential = save(ApiCredential(name="crm", may_write=True, secret_hash="x"))
    made = {"created_by_id": None, "credential_id": credential.id}
    group = make_group()
    asked = make_request(
        S.CHANGES_REQUESTED, make_service_template(group_id=group.id), name="Asked", **made
    )
    make_request(S.DRAFT, **made)
    crm = Actor.from_credential(credential.id, "crm", list(ApiScope), all_groups=True)
    terminal = Actor.from_terminal("root")
    for actor in (landlord(), crm, terminal):
        assert names(actor) == [asked.name]
        assert names(actor, waiting=Waiting.FOR_REGISTRANT) == [asked.name]
        assert names(actor, waiting=Waiting.FOR_YOU) == []
        assert waiting_of(actor, asked) is Waiting.FOR_REGISTRANT
        assert count_by_waiting(actor)[Waiting.FOR_REGISTRANT] == 1
        assert not has_submitted(actor)


def test_a_state_is_a_filter() -> None:
    version = make_service_template()
    made = {state: make_request(state, version).name for state in (S.SCHEDULED, S.FAILED)}
    for state in S:
        expected = [made[state]] if state in made else []
        assert names(landlord(), state=state) == expected
        assert names(landlord(), state=state, search="tenant") == expected
    assert names(landlord(), state=S.FAILED, waiting=Waiting.SCHEDULED) == []
    assert RequestFilter(state=S.FAILED).is_filtered


def test_a_prospect_sees_what_he_made_in_every_state() -> None:
    me = make_prospect()
    version = make_service_template()
    own = [make_request(state, version, created_by_id=me.id) for state in (S.DRAFT, S.REJECTED)]
    foreign = make_request(version=version)
    actor = actor_of(me)
    assert sorted(names(actor)) == sorted(request.name for request in own)
    assert {word for word, number in count_by_waiting(actor).items() if number} == {
        waiting_for(state, is_staff=False, is_author=True) for state in (S.DRAFT, S.REJECTED)
    }
    with pytest.raises(NotFound):
        get_request(actor, foreign.id)
    assert names(actor, search=foreign.name) == []
    assert names(actor, search=f"#{foreign.id}") == []


@pytest.mark.parametrize("role", [Role.CUSTOMER_ADMIN, Role.SUPERVISOR, Role.USER])
def test_a_customers_people_see_none(role: Role) -> None:
    request = make_request()
    actor = actor_of(make_user(make_customer(), role=role))
    for call in (
        lambda: get_request(actor, request.id),
        lambda: list_requests(actor, RequestFilter()),
        lambda: count_by_waiting(actor),
        lambda: export_requests(actor, RequestFilter()),
    ):
        with pytest.raises(Forbidden):
            call()


def test_groups_are_offered_to_staff_alone() -> None:
    first, second = make_group(), make_group()
    listed = subscription_requests.list_groups
    assert listed(actor_of(make_operator(first))) == [first]
    assert {first, second} <= set(listed(landlord()))
    assert listed(actor_of(make_prospect())) == []


# --- Filters and orders ------------------------------------------------------------------------


def at(hours: int) -> datetime:
    return datetime(2026, 5, 1, tzinfo=UTC) + timedelta(hours=hours)


def test_the_orders() -> None:
    version = make_service_template()
    for number, (name, state) in enumerate(
        (("Bravo", S.FAILED), ("Alpha", S.SCHEDULED), ("Charlie", S.COMPLETED))
    ):
        request = make_request(state, version, name=name, submitted_at=at(number))
        request.changed_at = at(10 - number)
    db.session.commit()
    actor = landlord()
    assert names(actor) == ["Charlie", "Alpha", "Bravo"]
    assert names(actor, sort=RequestSort.OLDEST) == ["Bravo", "Alpha", "Charlie"]
    assert names(actor, sort=RequestSort.NAME) == ["Alpha", "Bravo", "Charlie"]
    # What has ended waits for nobody.
    assert names(actor, sort=RequestSort.LONGEST_WAITING) == ["Alpha", "Bravo"]
    assert names(actor, sort=RequestSort.LONGEST_WAITING, waiting=Waiting.DONE) == ["Charlie"]


def test_the_filters() -> None:
    first, second = make_group(), make_group()
    ones = make_service_template(group_id=first.id)
    twos = make_service_template(group_id=second.id)
    make_request(S.FAILED, ones, name="Stuck")
    make_request(S.AWAITING_APPROVAL, twos, name="Waits")
    make_request(S.ROLLING_BACK, twos, name="Undone")
    actor = landlord()
    assert names(actor, waiting=Waiting.STUCK) == ["Stuck"]
    assert names(actor, waiting=Waiting.FOR_YOU) == ["Waits"]
    assert names(actor, waiting=Waiting.WORKING) == ["Undone"]
    assert names(actor, waiting=Waiting.DONE) == []
    assert names(actor, group_id=first.id) == ["Stuck"]
    assert names(actor, group_id=first.id, waiting=Waiting.FOR_YOU) == []
    assert names(actor, group_id=first.id, search="wai") == []
    assert names(actor_of(make_operator(first)), group_id=second.id) == []
    assert names(actor, group_id=10**15) == []
    assert sum(count_by_waiting(actor, first.id).values()) == 1


def test_what_staff_made_waits_for_them_and_not_for_the_registrant() -> None:
    me = make_operator()
    mine = make_request(S.CHANGES_REQUESTED, created_by_id=me.id)
    theirs = make_request(S.CHANGES_REQUESTED)
    actor = actor_of(me)
    assert names(actor, waiting=Waiting.FOR_YOU) == [mine.name]
    assert names(actor, waiting=Waiting.FOR_REGISTRANT) == [theirs.name]
    counts = count_by_waiting(actor)
    assert (counts[Waiting.FOR_YOU], counts[Waiting.FOR_REGISTRANT]) == (1, 1)
    outside = actor_of(make_operator(make_group()))
    assert sum(count_by_waiting(outside).values()) == 0


@pytest.mark.parametrize(
    "term",
    ["kenton", "KENTON", "  Kenton ", "ke1", "kenton-electronics.c", "Anna@", "\uff2benton"],
)
def test_search_is_by_the_beginning_of_each_searched_word(term: str) -> None:
    found = make_request(
        name="KentonElectronics",
        short_name="ke1",
        short_name_key="ke1",
        upn_suffix="kenton-electronics.com",
        contact_email="Anna@else.example",
    )
    make_request(name="Other")
    for actor in (landlord(), Actor.from_user(author_of(found))):
        for sort in RequestSort:
            assert names(actor, search=term, sort=sort) == ["KentonElectronics"]


@pytest.mark.parametrize(
    "term", ["electronics", "%", "_", "zz", "a\0b", "\ud800", "#", "#0", "9" * 30]
)
def test_search_finds_nothing_else(term: str) -> None:
    make_request(name="KentonElectronics")
    assert names(landlord(), search=term) == []


def test_search_by_number_keeps_to_the_filters() -> None:
    request = make_request(S.FAILED)
    actor = landlord()
    for term in (f"{request.id}", f"#{request.id}"):
        assert names(actor, search=term) == [request.name]
        assert names(actor, search=term, waiting=Waiting.STUCK) == [request.name]
        assert names(actor, search=term, waiting=Waiting.DONE) == []
        assert names(actor, search=term, group_id=request.group_id) == [request.name]
        assert names(actor, search=term, group_id=make_group().id) == []


def test_a_search_that_is_too_wide_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription_requests, "SEARCH_CAP", 3)
    version = make_service_template()
    for number in range(4):
        make_request(version=version, name=f"Wide{number}")
    wide = list_requests(landlord(), RequestFilter(search="wide"))
    assert (len(wide.rows), wide.is_cut) == (3, True)
    narrow = list_requests(landlord(), RequestFilter(search="wide1"))
    assert (len(narrow.rows), narrow.is_cut) == (1, False)


# --- Paging ------------------------------------------------------------------------------------


@pytest.mark.parametrize("sort", list(RequestSort))
@pytest.mark.parametrize("is_limited", [False, True])
def test_paging_visits_every_request_once(sort: RequestSort, is_limited: bool) -> None:
    groups = [make_group(), make_group()]
    me = make_operator(*groups) if is_limited else make_operator()
    versions = [make_service_template(group_id=group.id) for group in groups]
    moment = utcnow()
    for number in range(12):
        # Equal keys, too, so that the id decides.
        state = (S.AWAITING_APPROVAL, S.SCHEDULED, S.FAILED)[number % 3]
        make_request(
            state, versions[number % 2], submitted_at=moment, name=f"Page{number % 4:02}x{number}"
        )
    make_request(S.DRAFT, created_by_id=me.id, name="Draft")
    evens = sa.update(SubscriptionRequest).where(SubscriptionRequest.id % 2 == 0)
    db.session.execute(evens.values(changed_at=moment))
    db.session.commit()
    actor, wanted = actor_of(me), RequestFilter(sort=sort)
    whole = [each.id for each in list_requests(actor, wanted, size=100).rows]
    assert len(whole) == len(set(whole)) == (12 if sort is RequestSort.LONGEST_WAITING else 13)
    forwards: list[int] = []
    cursor: str | None = ""
    pages = []
    while cursor is not None:
        page = list_requests(actor, wanted, size=5, cursor=cursor)
        pages.append([each.id for each in page.rows])
        forwards += pages[-1]
        last, cursor = page, page.next
    assert forwards == whole
    for expected in reversed(pages[:-1]):
        assert last.previous is not None
        last = list_requests(actor, wanted, size=5, cursor=last.previous)
        assert [each.id for each in last.rows] == expected
    assert last.previous is None


@pytest.mark.parametrize("cursor", ["x", "====", "W10", "\ud800", "a" * 1000])
def test_a_cursor_of_nonsense_gives_the_first_page(cursor: str) -> None:
    request = make_request()
    for sort in RequestSort:
        page = list_requests(landlord(), RequestFilter(sort=sort), cursor=cursor)
        assert page.rows == [request]


def test_parts_beyond_one_statement_are_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.paging._STRANDS_AT_ONCE", 2)
    monkeypatch.setattr(subscription_requests, "_SELECTS_AT_ONCE", 3)
    groups = [make_group() for _ in range(5)]
    for number in (3, 1, 4, 0, 2):
        version = make_service_template(group_id=groups[number].id)
        make_request(version=version, name=f"Merged{4 - number}")
    actor = actor_of(make_operator(*groups))
    in_order = [f"Merged{number}" for number in range(5)]
    assert names(actor, sort=RequestSort.NAME) == in_order
    assert names(actor, sort=RequestSort.NAME, search="merged") == in_order


# --- Counters ----------------------------------------------------------------------------------


def test_counters_follow_each_transition() -> None:
    request = make_request(S.AWAITING_APPROVAL)
    actor = landlord()
    for state in (S.CHANGES_REQUESTED, S.SUBMITTED, S.SCHEDULED, S.PROVISIONING, S.COMPLETED):
        pass_on(request, state)
        counts = count_by_waiting(actor)
        word = waiting_for(state, is_staff=True, is_author=False)
        assert {each: number for each, number in counts.items() if number} == {word: 1}


# --- Steps and timeline ------------------------------------------------------------------------


def test_the_timeline_is_the_newest_lines_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription_requests, "TIMELINE_CAP", 2)
    request = make_request(S.SCHEDULED)
    lines = subscription_requests.list_transitions(request)
    assert [line.to_state for line in lines][-1] is S.SCHEDULED
    assert len(lines) == 2


# --- Export ------------------------------------------------------------------------------------


def test_the_export_has_what_the_filter_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription_requests, "_EXPORTED_AT_ONCE", 2)
    version = make_service_template()
    for number in range(5):
        make_request(S.FAILED, version, name=f"Out{number}", company="=HYPERLINK()")
    make_request(name="Else")
    rows = list(export_requests(landlord(), RequestFilter(waiting=Waiting.STUCK)))
    assert [row[1] for row in rows] == ["Out4", "Out3", "Out2", "Out1", "Out0"]
    text = "".join(stream_csv(subscription_requests.EXPORT_HEADER, rows))
    read = list(csv.DictReader(io.StringIO(text.lstrip("\ufeff"))))
    assert {row["Company"] for row in read} == {"'=HYPERLINK()"}
    assert {row["Where it stands"] for row in read} == {"stuck"}
    event = db.session.query(AuditEvent).filter_by(action="requests.exported").one()
    assert event.detail == {"filtered": True}


@given(typed=st.one_of(st.none(), st.integers(), st.text(), st.dictionaries(st.text(), st.text())))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_a_draft_has_a_name_whatever_was_typed(app_context: Flask, typed: object) -> None:
    request = SubscriptionRequest(name="", draft={"tenant": {"name": typed}})
    assert subscription_requests.name_of(request).strip()
    assert subscription_requests.name_of(SubscriptionRequest(name="", draft={"tenant": typed}))
