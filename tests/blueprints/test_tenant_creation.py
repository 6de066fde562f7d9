"""Tenant Creation Management as its readers see it: list, request, actions, what polls answer."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask

from extensions import db
from models import (
    ApiCredential,
    ProvisioningPolicy,
    RequestState,
    Role,
    StartRule,
    SubscriptionRequest,
    User,
    utcnow,
)
from services import provisioning
from services.request_states import RequestAction
from tests.support.factories import make_group, make_user, save
from tests.support.pages import CheckingClient, Page
from tests.support.requests import (
    make_operator,
    make_prospect,
    make_request,
    make_service_template,
    pass_on,
)

pytestmark = pytest.mark.empty_database
S = RequestState
SignIn = Callable[[str], CheckingClient]
URL = "/tenant-creation-management"


@pytest.fixture(autouse=True)
def _no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is provisioned here; the queue is not looked at."""
    monkeypatch.setattr(provisioning, "start", lambda request_id: None)


@pytest.fixture
def staff(app: Flask, sign_in_as: SignIn) -> CheckingClient:
    """An operator of all groups."""
    with app.app_context():
        login = make_operator(first_name="Olga", last_name="Operator").login
    return sign_in_as(login)


def made(
    app: Flask, state: RequestState = S.AWAITING_APPROVAL, **changes: Any
) -> SubscriptionRequest:
    with app.app_context():
        rule = changes.pop("rule", StartRule.IMMEDIATE)
        version = changes.pop("version", None) or make_service_template(start_rule=rule)
        request = make_request(state, version, **changes)
        db.session.expunge_all()
        return request


def read(app: Flask, request_id: int) -> SubscriptionRequest:
    with app.app_context():
        request = db.session.get_one(SubscriptionRequest, request_id)
        db.session.expunge_all()
        return request


def cells(page: Page, row: int = 0) -> list[str]:
    body = page.one("table").find("tbody")
    return [page.text(cell) for cell in list(body)[row]]


def rows(page: Page) -> list[str]:
    tables = page.all("table")
    return [page.text(each) for each in tables[0].find("tbody").iter("th")] if tables else []


# --- The list ----------------------------------------------------------------------------------


def test_a_row_says_where_the_request_stands(app: Flask, staff: CheckingClient) -> None:
    request = made(app, name="KentonElectronics")
    page = staff.page(URL)
    text = page.text(page.one("tbody"))
    for expected in ("KentonElectronics", "Waiting for you", "Approve or reject it"):
        assert expected in text
    assert page.one("a", href=f"{URL}/{request.id}") is not None


def test_a_request_of_another_system_has_no_author_in_its_row(
    app: Flask, staff: CheckingClient
) -> None:
    with app.app_context():
        caller = save(ApiCredential(name="crm", secret_hash="x", may_read=True))
        make_request(name="Kenton", created_by_id=None, credential_id=caller.id)
    row = staff.page(URL).one("tbody")
    assert row.find(".//th/a").text == "Kenton"
    assert [each.get("title") for each in row.findall(".//td[6]/span[@class='truncate']")] == [""]


def test_the_counters_are_filters(app: Flask, staff: CheckingClient) -> None:
    made(app, S.FAILED, name="Stuck1")
    made(app, S.FAILED, name="Stuck2")
    made(app, S.COMPLETED, name="Ready")
    page = staff.page(URL)
    counters = {page.text(link): link.get("href") for link in page.all("a", class_="counter")}
    assert set(counters) == {"All 3", "Stuck 2", "Done 1"}
    assert sorted(rows(staff.page(counters["Stuck 2"]))) == ["Stuck1", "Stuck2"]
    assert rows(staff.fragment(counters["Done 1"])) == ["Ready"]


def test_search_sort_and_pages_stand_in_the_address(app: Flask, staff: CheckingClient) -> None:
    with app.app_context():
        version = make_service_template()
    for number in range(30):
        made(app, version=version, name=f"Page{number:02}")
    made(app, version=version, name="Else")
    page = staff.page(f"{URL}?q=page&sort=name")
    assert rows(page) == [f"Page{number:02}" for number in range(25)]
    following = staff.page(page.one("a", id="page-next").get("href"))
    assert rows(following) == [f"Page{number:02}" for number in range(25, 30)]
    assert "Search: page" in following.text(following.one("a", class_="chip"))
    back = staff.page(following.one("a", id="page-previous").get("href"))
    assert rows(back) == rows(page)


@pytest.mark.parametrize(
    "query",
    ["where=nonsense", "group=999999999999999999999", "sort=%00", "size=7", "cursor=%ff",
     "q=%00%ed%a0%80", "q=" + "x" * 5000, "where=for_you&sort=waiting&size=100"],
)  # fmt: skip
def test_a_malformed_address_is_the_list(app: Flask, staff: CheckingClient, query: str) -> None:
    made(app)
    staff.page(f"{URL}?{query}")
    staff.fragment(f"{URL}?{query}")


def test_each_empty_list_says_why(app: Flask, staff: CheckingClient, sign_in_as: SignIn) -> None:
    assert "Nobody has asked for a tenant" in staff.page(URL).text()
    assert "No request matches these filters" in staff.page(f"{URL}?q=zz").text()
    with app.app_context():
        prospect = make_prospect().login
    assert "You have not asked for a tenant yet" in sign_in_as(prospect).page(URL).text()


def test_requests_outside_the_groups_are_not_there(app: Flask, sign_in_as: SignIn) -> None:
    with app.app_context():
        mine, other = make_group(), make_group()
        login = make_operator(mine).login
        auditor = make_operator(mine, role=Role.AUDITOR).login
        own = make_service_template(group_id=mine.id)
        foreign = make_service_template(group_id=other.id)
    seen, hidden = made(app, version=own), made(app, version=foreign)
    for each in (login, auditor):
        client = sign_in_as(each)
        assert rows(client.page(URL)) == [seen.name]
        client.page(f"{URL}/{hidden.id}", status=404)
        news = client.fragment(f"{URL}/news?rows={hidden.id}.0")
        assert not news.all("span", id=f"request-{hidden.id}-word")
    client = sign_in_as(login)
    for action in RequestAction:
        word = action.value.replace("_", "-")
        assert client.get(f"{URL}/{hidden.id}/{word}").status_code == 404
        refused = client.submit(f"{URL}/{hidden.id}/{word}", {"version": hidden.version})
        assert refused.status_code == 404
    outcome = client.submit(f"{URL}/actions/approve", {"chosen": f"{hidden.id}.{hidden.version}"})
    assert "not yours to see" in outcome.text
    assert read(app, hidden.id).state is S.AWAITING_APPROVAL


def test_auditors_look_and_do_not_act(app: Flask, sign_in_as: SignIn) -> None:
    with app.app_context():
        login = make_operator(role=Role.AUDITOR).login
    request = made(app)
    client = sign_in_as(login)
    page = client.page(f"{URL}/{request.id}")
    assert not [f for f in page.all("form") if f"{URL}/{request.id}" in (f.get("action") or "")]
    assert not client.page(URL).all("input", type="checkbox", name="selected")
    for action in RequestAction:
        word = action.value.replace("_", "-")
        assert client.get(f"{URL}/{request.id}/{word}").status_code == 403
        refused = client.submit(f"{URL}/{request.id}/{word}", {"version": 3, "reason": "x"})
        assert refused.status_code == 403
    assert client.submit(f"{URL}/actions", {"action": "approve"}).status_code == 403
    chosen = {"chosen": f"{request.id}.{request.version}"}
    assert client.submit(f"{URL}/actions/approve", chosen).status_code == 403
    assert read(app, request.id).version == request.version


def test_a_customers_people_have_no_such_page(app: Flask, sign_in_as: SignIn) -> None:
    with app.app_context():
        login = make_user(role=Role.LANDLORD).login
    assert "Tenant Creation Management" in sign_in_as(login).page("/account/profile").text()


# --- CSV ---------------------------------------------------------------------------------------


def test_the_export_defuses_formulas(app: Flask, staff: CheckingClient) -> None:
    made(app, S.FAILED, name="Out", company="=1+1", contact_name="@SUM(A1)")
    made(app, name="Else")
    response = staff.submit(f"{URL}/export", {"here": "where=stuck"})
    assert response.mimetype == "text/csv"
    (row,) = csv.DictReader(io.StringIO(response.text.lstrip("\ufeff")))
    assert (row["Name"], row["Company"], row["Contact"]) == ("Out", "'=1+1", "'@SUM(A1)")
    assert "password" not in response.text.lower()


# --- A request ---------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [state for state in S if state is not S.DRAFT])
def test_a_request_in_each_state_has_a_page(
    app: Flask, staff: CheckingClient, sign_in_as: SignIn, state: RequestState
) -> None:
    with app.app_context():
        author = make_prospect()
        login, author_id = author.login, author.id
    request = made(app, state, created_by_id=author_id, password_hash="secret-hash")
    for client in (staff, sign_in_as(login)):
        page = client.page(f"{URL}/{request.id}")
        text = page.text()
        for expected in (request.upn_suffix, request.contact_email, request.admin_login):
            assert expected in text
        assert "secret-hash" not in page.source
        assert "sealed" not in page.source
        assert "Begun" not in text
        assert "Submitted" in text


def test_drafts_lead_to_the_wizard(app: Flask, sign_in_as: SignIn) -> None:
    with app.app_context():
        author = make_prospect()
        login, author_id = author.login, author.id
    draft = made(app, S.DRAFT, created_by_id=author_id)
    response = sign_in_as(login).get(f"{URL}/{draft.id}")
    assert response.location == f"/tenant-registration/{draft.id}"


def test_what_was_typed_is_shown_harmlessly(app: Flask, staff: CheckingClient) -> None:
    nasty = "<script>alert(1)</script>\"'"
    request = made(app, company=nasty, contact_name=nasty, city="Łódź \u202e\U0001f600")
    page = staff.page(f"{URL}/{request.id}")
    assert nasty in page.text()
    reason = "<b>not bold</b>\r\nsecond line"
    data = {"version": request.version, "reason": reason}
    staff.submit(f"{URL}/{request.id}/reject", data)
    page = staff.page(f"{URL}/{request.id}")
    assert "<b>not bold</b> second line" in page.text()
    assert not page.all("b")


def test_the_timeline_has_every_transition(app: Flask, staff: CheckingClient) -> None:
    request = made(app)
    data = {"version": request.version, "reason": "Another suffix"}
    staff.submit(f"{URL}/{request.id}/ask-for-changes", data)
    page = staff.page(f"{URL}/{request.id}")
    lines = [page.text(line) for line in page.one("ol", class_="timeline")]
    assert lines[0].startswith("Changes asked for You, ")
    assert lines[0].endswith("Another suffix")
    assert [line.split(" By itself")[0] for line in lines[1:]] == [
        "Waits for approval",
        "Submitted",
    ]


def test_registrants_see_the_provider_and_not_its_people(
    app: Flask, staff: CheckingClient, sign_in_as: SignIn
) -> None:
    with app.app_context():
        author = make_prospect()
        login, author_id = author.login, author.id
    request = made(app, created_by_id=author_id)
    data = {"version": request.version, "reason": "Another suffix"}
    staff.submit(f"{URL}/{request.id}/ask-for-changes", data)
    page = sign_in_as(login).page(f"{URL}/{request.id}")
    assert "The provider" in page.text()
    assert "Olga" not in page.source
    assert "Another suffix" in page.text()
    link = page.one("a", href=f"/tenant-registration/{request.id}")
    assert page.text(link) == "Make the changes"


# --- Actions -----------------------------------------------------------------------------------


def test_approving_is_one_button(app: Flask, staff: CheckingClient) -> None:
    request = made(app)
    page = staff.page(f"{URL}/{request.id}")
    form = page.one("form", action=f"{URL}/{request.id}/approve")
    done = staff.submit(f"{URL}/{request.id}/approve", page.fields(form), follow_redirects=True)
    assert "Approved." in done.text
    now = read(app, request.id)
    assert now.state is S.SCHEDULED
    assert now.scheduled_for is not None
    assert now.scheduled_for <= utcnow()


def test_the_approver_chooses_the_start_where_the_template_says_so(
    app: Flask, staff: CheckingClient
) -> None:
    request = made(app, rule=StartRule.AT_APPROVAL)
    page = staff.page(f"{URL}/{request.id}")
    ask = f"{URL}/{request.id}/approve"
    staff.page(page.one("a", href=ask).get("href"))
    refused = staff.submit(ask, {"version": request.version})
    assert refused.status_code == 422
    assert "Choose when provisioning starts." in refused.text
    refused = staff.submit(ask, {"version": request.version, "start": "at", "at": ""})
    assert refused.status_code == 422
    assert (
        'value="at" checked' in refused.text.replace("checked value", "value")
        or "checked" in refused.text
    )
    at = utcnow() + timedelta(days=2)
    data = {"version": request.version, "start": "at", "at": f"{at:%Y-%m-%dT%H:%M}"}
    assert staff.submit(ask, data).status_code == 303
    now = read(app, request.id)
    assert now.scheduled_for == at.replace(second=0, microsecond=0)


@pytest.mark.parametrize("word", ["reject", "ask-for-changes"])
@pytest.mark.parametrize("reason", ["", "  \n", "x" * 2001, "nul\0"])
def test_a_reason_is_needed_and_kept_as_typed(
    app: Flask, staff: CheckingClient, word: str, reason: str
) -> None:
    request = made(app)
    path = f"{URL}/{request.id}/{word}"
    staff.page(path)
    refused = staff.submit(path, {"version": request.version, "reason": reason})
    assert refused.status_code == 422
    page = Page(refused.text)
    assert page.all("div", class_="error-summary")
    if len(reason.strip()) > 10:
        assert "".join(page.one("textarea").itertext()).strip() == reason
    assert read(app, request.id).state is S.AWAITING_APPROVAL


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("", "Choose the day and the time."),
        ("tomorrow", "This is no day and time"),
        ("0001-01-01T00:00", "has passed"),
        ("9999-12-31T23:59", "more than a year ahead"),
        ("2020-01-01T00:00", "has passed"),
        ("2030-01-01T00:00+02:00", "Leave out the time zone"),
        ("x" * 50, "cannot be longer"),
        ("\0", "This is no day and time"),
    ],
)  # fmt: skip
def test_a_start_that_cannot_be(app: Flask, staff: CheckingClient, typed: str, said: str) -> None:
    request = made(app, S.SCHEDULED)
    data = {"version": request.version, "at": typed}
    refused = staff.submit(f"{URL}/{request.id}/schedule-at", data)
    assert refused.status_code == 422
    assert said in Page(refused.text).text()
    assert read(app, request.id).version == request.version


def test_times_are_by_the_providers_clocks(app: Flask, staff: CheckingClient) -> None:
    with app.app_context():
        db.session.get_one(ProvisioningPolicy, 1).time_zone = "Asia/Kathmandu"
        db.session.commit()
    request = made(app, S.SCHEDULED)
    at = (utcnow() + timedelta(days=3)).replace(hour=6, minute=15, second=0, microsecond=0)
    local = at + timedelta(hours=5, minutes=45)
    path = f"{URL}/{request.id}/schedule-at"
    assert "Asia/Kathmandu" in staff.page(path).text()
    data = {"version": request.version, "at": f"{local:%Y-%m-%dT%H:%M}"}
    assert staff.submit(path, data).status_code == 303
    assert read(app, request.id).scheduled_for == at
    assert f"{local:%H:%M}:00" in staff.page(f"{URL}/{request.id}").text()


def test_a_time_that_clocks_skip_is_refused(app: Flask, staff: CheckingClient) -> None:
    with app.app_context():
        db.session.get_one(ProvisioningPolicy, 1).time_zone = "Europe/Brussels"
        db.session.commit()
    request = made(app, S.SCHEDULED)
    data = {"version": request.version, "at": "2027-03-28T02:30"}
    refused = staff.submit(f"{URL}/{request.id}/schedule-at", data)
    assert refused.status_code == 422
    assert "is skipped on 28 March 2027" in refused.text


def test_the_second_operator_is_told(app: Flask, staff: CheckingClient, sign_in_as: SignIn) -> None:
    with app.app_context():
        other = make_operator(first_name="Otto", last_name="Other").login
    request = made(app)
    second = sign_in_as(other)
    page = second.page(f"{URL}/{request.id}")
    fields = page.fields(page.one("form", action=f"{URL}/{request.id}/approve"))
    data = {"version": request.version, "reason": "No such company"}
    staff.submit(f"{URL}/{request.id}/reject", data)
    late = second.submit(f"{URL}/{request.id}/approve", fields, follow_redirects=True)
    assert "Olga Operator changed this request in the meantime: it is rejected." in late.text
    assert read(app, request.id).state is S.REJECTED


def test_what_the_second_operator_wrote_is_kept(
    app: Flask, staff: CheckingClient, sign_in_as: SignIn
) -> None:
    with app.app_context():
        other = make_operator().login
    second = sign_in_as(other)
    request = made(app)
    comment = {"version": request.version, "reason": "Another suffix"}
    staff.submit(f"{URL}/{request.id}/ask-for-changes", comment)
    words = "A long explanation of why this cannot be."
    data = {"version": request.version, "reason": words}
    late = second.submit(f"{URL}/{request.id}/reject", data)
    assert late.status_code == 409
    page = Page(late.text)
    form = page.one("form", action=f"{URL}/{request.id}/reject")
    fields = page.fields(form)
    assert [text.strip() for text in fields["reason"]] == [words]
    assert second.submit(f"{URL}/{request.id}/reject", fields).status_code == 303
    assert read(app, request.id).state is S.REJECTED
    # Where it is too late for that, the words can still be taken away.
    late = second.submit(f"{URL}/{request.id}/cancel", data)
    assert late.status_code == 409
    page = Page(late.text)
    assert words in page.text(page.one("pre"))


def test_the_registrant_cancels_while_nothing_runs(app: Flask, sign_in_as: SignIn) -> None:
    with app.app_context():
        author = make_prospect()
        login, author_id = author.login, author.id
    client = sign_in_as(login)
    for state in (S.AWAITING_APPROVAL, S.CHANGES_REQUESTED, S.SCHEDULED):
        request = made(app, state, created_by_id=author_id)
        page = client.page(f"{URL}/{request.id}")
        ask = client.page(page.one("a", href=f"{URL}/{request.id}/cancel").get("href"))
        form = ask.one("form", action=f"{URL}/{request.id}/cancel")
        assert client.submit(form.get("action"), ask.fields(form)).status_code == 303
        assert read(app, request.id).state is S.CANCELLED
    for state in (S.PROVISIONING, S.FAILED, S.COMPLETED):
        request = made(app, state, created_by_id=author_id)
        assert not client.page(f"{URL}/{request.id}").all("a", href=f"{URL}/{request.id}/cancel")
        late = client.submit(
            f"{URL}/{request.id}/cancel", {"version": request.version}, follow_redirects=True
        )
        assert "What you asked for was not done." in late.text
        assert read(app, request.id).state is state


def test_registrants_do_nothing_else(app: Flask, sign_in_as: SignIn) -> None:
    with app.app_context():
        author = make_prospect()
        login, author_id = author.login, author.id
    client = sign_in_as(login)
    for state in (S.AWAITING_APPROVAL, S.SCHEDULED, S.FAILED):
        request = made(app, state, created_by_id=author_id)
        for action in set(RequestAction) - {RequestAction.CANCEL}:
            word = action.value.replace("_", "-")
            data = {"version": request.version, "reason": "x", "start": "now"}
            assert client.get(f"{URL}/{request.id}/{word}").status_code == 403
            assert client.submit(f"{URL}/{request.id}/{word}", data).status_code == 403
        assert read(app, request.id).version == request.version


@pytest.mark.parametrize("version", ["", "x", "-1", "0", "9" * 30, "\0"])
def test_a_version_of_nonsense(app: Flask, staff: CheckingClient, version: str) -> None:
    request = made(app)
    response = staff.submit(f"{URL}/{request.id}/approve", {"version": version})
    assert response.status_code == 400
    assert read(app, request.id).state is S.AWAITING_APPROVAL


@pytest.mark.parametrize("request_id", ["0", "9" * 19, "9" * 30, "-1", "x", "%00"])
def test_a_number_of_nonsense(staff: CheckingClient, request_id: str) -> None:
    for path in ("", "/approve", "/progress", "/nonsense"):
        assert staff.get(f"{URL}/{request_id}{path}").status_code in {302, 404}


# --- Several at once ---------------------------------------------------------------------------


def test_approving_several(app: Flask, staff: CheckingClient) -> None:
    with app.app_context():
        version = make_service_template()
    several = [made(app, version=version) for _ in range(3)]
    running = made(app, S.PROVISIONING, version=version)
    page = staff.page(URL)
    fields = page.fields(page.one("form", id="requests-form"))
    fields |= {"selected": [each.id for each in (*several[:2], running)], "action": "approve"}
    asked = Page(staff.submit(f"{URL}/actions", fields).text)
    assert asked.text(asked.one("h1")) == "Approve 2 requests"
    assert "1 request will be left alone" in asked.text()
    form = asked.one("form", action=f"{URL}/actions/approve")
    done = staff.submit(form.get("action"), asked.fields(form), follow_redirects=True)
    assert "2 requests were approved." in done.text
    assert [read(app, each.id).state for each in several] == [
        S.SCHEDULED, S.SCHEDULED, S.AWAITING_APPROVAL,
    ]  # fmt: skip


def test_all_that_the_filters_show(app: Flask, staff: CheckingClient) -> None:
    with app.app_context():
        version = make_service_template()
    for _ in range(27):
        made(app, version=version)
    made(app, S.FAILED, version=version)
    page = staff.page(f"{URL}?where=for_you")
    assert "All 27 that the filters show" in page.text()
    fields = page.fields(page.one("form", id="requests-form"))
    asked = Page(staff.submit(f"{URL}/actions", fields | {"all": "1", "action": "approve"}).text)
    assert asked.text(asked.one("h1")) == "Approve 27 requests"


def test_those_that_changed_meanwhile_are_named(app: Flask, staff: CheckingClient) -> None:
    one, two = made(app), made(app)
    page = staff.page(URL)
    fields = page.fields(page.one("form", id="requests-form"))
    fields |= {"selected": [one.id, two.id], "action": "approve"}
    asked = Page(staff.submit(f"{URL}/actions", fields).text)
    with app.app_context():
        pass_on(db.session.get_one(SubscriptionRequest, two.id), S.REJECTED)
    form = asked.one("form", action=f"{URL}/actions/approve")
    outcome = Page(staff.submit(form.get("action"), asked.fields(form)).text)
    assert outcome.text(outcome.one("h1")) == "1 request was approved"
    assert f"{two.name}This request has gone on" in outcome.text().replace(f"{two.name} ", two.name)
    assert read(app, one.id).state is S.SCHEDULED


def test_scheduling_several_asks_when(app: Flask, staff: CheckingClient) -> None:
    several = [made(app, S.SCHEDULED) for _ in range(2)]
    data = {"selected": [each.id for each in several], "action": "schedule"}
    asked = Page(staff.submit(f"{URL}/actions", data).text)
    form = asked.one("form", action=f"{URL}/actions/schedule")
    fields = asked.fields(form)
    assert fields["at"] == [""]
    refused = staff.submit(form.get("action"), fields)
    assert refused.status_code == 422
    assert "Choose when provisioning starts." in refused.text
    refused = staff.submit(form.get("action"), fields | {"start": "at", "at": "2020-01-01T00:00"})
    assert refused.status_code == 422
    assert "has passed" in refused.text
    assert staff.submit(form.get("action"), fields | {"start": "now"}).status_code == 303
    for each in several:
        assert read(app, each.id).scheduled_for <= utcnow()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"action": "approve"}, "No request is chosen"),
        ({"action": "approve", "selected": "9223372036854775807"}, "No request is chosen"),
        ({"action": "nonsense", "selected": "{id}"}, "No action is chosen"),
        ({"selected": "{id}"}, "No action is chosen"),
    ],
)  # fmt: skip
def test_an_incomplete_choice(
    app: Flask, staff: CheckingClient, data: dict[str, str], said: str
) -> None:
    request = made(app)
    data = {name: value.replace("{id}", str(request.id)) for name, value in data.items()}
    refused = staff.submit(f"{URL}/actions", data)
    assert refused.status_code == 422
    assert said in refused.text
    assert staff.get(f"{URL}/actions?where=stuck").location == f"{URL}?where=stuck"


@pytest.mark.parametrize(
    "chosen", ["x", "1", "1.x", "1.0", "0.1", "1." + "9" * 30, "1.1," * 20_000]
)
def test_a_choice_of_nonsense(staff: CheckingClient, chosen: str) -> None:
    response = staff.submit(f"{URL}/actions/approve", {"chosen": chosen})
    assert response.status_code == 400
    assert staff.submit(f"{URL}/actions", {"selected": chosen, "action": "x"}).status_code in {
        400,
        422,
    }


# --- What polls answer -------------------------------------------------------------------------


def poll_of(page: Page, element: str = "requests-news") -> str | None:
    return page.one("div", id=element).get("hx-get")


def test_the_list_polls_for_what_has_changed(app: Flask, staff: CheckingClient) -> None:
    request = made(app)
    page = staff.page(URL)
    poll = poll_of(page)
    assert poll
    headers = {"HX-Request": "true"}
    assert staff.get(poll, headers=headers).status_code == 204
    with app.app_context():
        pass_on(db.session.get_one(SubscriptionRequest, request.id), S.SCHEDULED)
    news = staff.fragment(poll)
    assert "Scheduled" in news.text(news.one("span", id=f"request-{request.id}-word"))
    assert news.text(news.one("a", id="count-scheduled")) == "Scheduled 1"
    later = poll_of(news)
    assert later
    assert later != poll
    assert staff.get(later, headers=headers).status_code == 204
    made(app)
    assert "The list has changed." in staff.fragment(later).text()
    assert staff.get(poll).status_code == 302


def test_a_registrants_list_stops_when_all_has_ended(app: Flask, sign_in_as: SignIn) -> None:
    with app.app_context():
        author = make_prospect()
        login, author_id = author.login, author.id
    request = made(app, created_by_id=author_id)
    client = sign_in_as(login)
    poll = poll_of(client.page(URL))
    assert poll
    with app.app_context():
        pass_on(db.session.get_one(SubscriptionRequest, request.id), S.REJECTED)
    assert poll_of(client.fragment(poll)) is None
    assert poll_of(client.page(URL)) is None


def test_a_request_polls_until_it_has_ended(app: Flask, staff: CheckingClient) -> None:
    request = made(app, S.PROVISIONING)
    page = staff.page(f"{URL}/{request.id}")
    poll = poll_of(page, "request-progress")
    assert poll
    assert staff.get(poll, headers={"HX-Request": "true"}).status_code == 204
    with app.app_context():
        pass_on(db.session.get_one(SubscriptionRequest, request.id), S.FAILED)
    update = staff.fragment(poll)
    assert "Stuck" in update.text(update.one("span", id="request-word"))
    assert "Provisioning failed" in update.text(update.one("div", id="request-timeline"))
    assert "Retry from the failed step" in update.text(update.one("div", id="request-actions"))


@pytest.mark.parametrize("seen", ["", "~", "x~y~z", "~~a:b-c", "\x00", "1" * 5000])
def test_a_poll_of_nonsense(app: Flask, staff: CheckingClient, seen: str) -> None:
    request = made(app)
    headers = {"HX-Request": "true"}
    response = staff.get(
        f"{URL}/{request.id}/progress", query_string={"seen": seen}, headers=headers
    )
    assert response.status_code == 200
    for name in ("here", "rows", "counts", "number"):
        response = staff.get(f"{URL}/news", query_string={name: seen}, headers=headers)
        assert response.status_code == 200


# --- Where it leads ----------------------------------------------------------------------------


def test_a_prospect_comes_to_his_requests(app: Flask, sign_in_as: SignIn) -> None:
    with app.app_context():
        author = make_prospect()
        login, author_id = author.login, author.id
    client = sign_in_as(login)
    assert client.get("/").location == "/tenant-registration"
    made(app, S.DRAFT, created_by_id=author_id)
    assert client.get("/").location == "/tenant-registration"
    made(app, created_by_id=author_id)
    assert client.get("/").location == URL


def test_a_customers_people_are_refused(app: Flask, sign_in_as: SignIn) -> None:
    with app.app_context():
        login = make_customer_admin().login
    client = sign_in_as(login)
    assert client.get(URL).status_code == 403
    assert "Tenant Creation Management" not in client.page("/account/profile").text()


def make_customer_admin() -> User:
    from tests.support.factories import make_customer

    return make_user(make_customer(), role=Role.CUSTOMER_ADMIN)
