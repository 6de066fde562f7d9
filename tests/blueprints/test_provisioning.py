"""The page of the plan: what it says, and every form of it without JavaScript."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask

from blueprints.provisioning.plans import describe_window
from extensions import db
from models import RequestState, utcnow
from services import provisioning_policy
from services.actors import Actor
from services.off_peak import Window
from tests.support.factories import actor_for, find_user, make_group
from tests.support.pages import CheckingClient, Page
from tests.support.requests import make_operator, make_request

LANDLORD, OPERATOR, AUDITOR = (
    f"{name}@foyer.example" for name in ("landlord", "operator", "auditor")
)
URL = "/provisioning"
SOON = utcnow().date() + timedelta(days=3)

SignInAs = Callable[[str], CheckingClient]
one_database = pytest.mark.parametrize("engine_name", ["sqlite"])


def submit_page(client: CheckingClient, path: str, **changes: Any) -> Any:
    """Open a page and send its form as a browser would, with `changes`; None leaves a field out."""
    page = client.page(path)
    form = page.one("form", action=path)
    data = page.fields(form) | changes
    return client.post(
        path, data={name: value for name, value in data.items() if value is not None}
    )


def plan_lines(page: Page) -> list[str]:
    return [page.text(item) for each in page.all("ul", class_="plan-lines") for item in each]


# --- Looking -----------------------------------------------------------------------------------


def test_the_page_says_what_is_planned(app: Flask, sign_in_as: SignInAs) -> None:
    page = sign_in_as(OPERATOR).page(URL)
    text = page.text()
    assert "Going on" in text
    assert "Every day, 22:00 to 06:00 the next day" in text
    assert re.search(r"off-peak (hours are from|now, until) \w+day,? \d", text)
    days = [page.text(row) for row in page.one("table").iter("tr")][1:]
    assert len(days) == 7
    assert "today" in days[0]
    assert all("00:00 to 06:00, 22:00 to 24:00" in day for day in days)
    assert "A landlord administrator can change" in text
    assert not [a for a in page.all("a") if "/windows" in (a.get("href") or "")]


def test_bars_show_what_the_words_say(app: Flask, sign_in_as: SignInAs) -> None:
    page = sign_in_as(AUDITOR).page(URL)
    bars = re.findall(r'class="day-bar-open" x="([\d.]+)" width="([\d.]+)"', page.source)
    assert bars == [("0.0", "60.0"), ("220.0", "20.0")] * 7


def test_what_waits_is_shown(app: Flask, sign_in_as: SignInAs) -> None:
    client = sign_in_as(LANDLORD)
    before = [page_figure(client, label) for label in ("Due now", "Scheduled in all")]
    with app.app_context():
        make_request(RequestState.SCHEDULED)
        due = make_request(RequestState.SCHEDULED)
        due.scheduled_for = utcnow() - timedelta(minutes=1)
        db.session.commit()
    assert page_figure(client, "Due now") == before[0] + 1
    assert page_figure(client, "Scheduled in all") == before[1] + 2
    assert "The next planned start is" in client.page(URL).text()


def page_figure(client: CheckingClient, label: str) -> int:
    page = client.page(URL)
    texts = [page.text(item) for item in page.one("ul", class_="figures")]
    (found,) = (text for text in texts if text.startswith(label))
    return int(found.removeprefix(label).replace(",", ""))


@one_database
def test_the_bar_at_the_left_leads_there(app: Flask, sign_in_as: SignInAs) -> None:
    link = sign_in_as(AUDITOR).page(URL).one("a", href=URL, aria_current="page")
    assert "".join(link.itertext()).strip() == "Provisioning"


# --- The switch --------------------------------------------------------------------------------


def test_pausing_and_going_on(app: Flask, sign_in_as: SignInAs) -> None:
    client = sign_in_as(OPERATOR)
    response = submit_page(client, f"{URL}/pause", reason="Power <b>cut</b> & more")
    assert (response.status_code, response.location) == (303, URL)
    page = client.page(URL)
    assert "All provisioning is paused" in page.text()
    assert "Power <b>cut</b> & more" in page.text()
    assert "<b>cut</b>" not in page.source
    with app.app_context():
        assert f"{find_user(OPERATOR).full_name} paused it" in page.text()
    assert not page.all("a", href=f"{URL}/pause")
    form = page.one("form", action=f"{URL}/resume")
    client.post(form.get("action"), data=page.fields(form))
    assert "All provisioning is paused" not in client.page(URL).text()
    with app.app_context():
        assert provisioning_policy.find_pause() is None


def test_the_second_who_pauses_is_told_by_whom(app: Flask, sign_in_as: SignInAs) -> None:
    client = sign_in_as(LANDLORD)
    with app.app_context():
        provisioning_policy.pause(actor_for(OPERATOR), reason="First")
    response = submit_page(client, f"{URL}/pause", reason="Second")
    assert response.status_code == 303
    page = client.page(URL)
    assert "has paused provisioning already" in page.text()
    assert "First" in page.text()
    assert "Second" not in page.text()


@one_database
def test_who_works_for_some_groups_sees_no_switch_and_has_none(
    app: Flask, sign_in_as: SignInAs
) -> None:
    with app.app_context():
        login = make_operator(make_group()).login
    client = sign_in_as(login)
    assert "Pause" not in client.page(URL).text()
    assert client.submit(f"{URL}/pause", {"reason": "Mine"}).status_code == 403
    assert client.submit(f"{URL}/resume").status_code == 403
    with app.app_context():
        assert provisioning_policy.find_pause() is None


@one_database
@pytest.mark.parametrize("reason", ["", "   ", "x" * 501, "a\tb", "\0"])
def test_a_reason_that_is_none_comes_back_with_the_form(
    app: Flask, sign_in_as: SignInAs, reason: str
) -> None:
    response = submit_page(sign_in_as(LANDLORD), f"{URL}/pause", reason=reason)
    assert response.status_code == 422
    page = Page(response.text)
    assert "One thing to correct" in page.text()
    if reason.strip() and reason.isprintable():
        assert page.one("input", name="reason").get("value") == reason


# --- The plan ----------------------------------------------------------------------------------


def test_a_window_is_added_changed_and_removed(app: Flask, sign_in_as: SignInAs) -> None:
    client = sign_in_as(LANDLORD)
    response = submit_page(
        client, f"{URL}/windows/new", days=["6", "7"], from_time="08:30", to_time="20:00"
    )
    assert (response.status_code, response.location) == (303, URL)
    page = client.page(URL)
    assert "Saturday and Sunday, 08:30 to 20:00" in page.text()
    (link,) = (a for a in page.all("a") if "Saturday" in page.text(a))
    path = link.get("href")
    response = submit_page(client, path, days=["1", "2", "3", "4", "5"], to_time="08:30")
    assert response.status_code == 303
    page = client.page(URL)
    assert "Monday to Friday, 08:30 to 08:30 the next day, 24 hours" in page.text()
    page = client.page(path)
    form = page.one("form", action=f"{path}/remove")
    assert client.post(f"{path}/remove", data=page.fields(form)).status_code == 303
    assert "Monday to Friday" not in client.page(URL).text()
    assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    ("days", "hours", "words"),
    [
        ({1}, (0, 0), "Monday, all day"),
        ({1, 2}, (60, 0), "Monday and Tuesday, 01:00 to 24:00"),
        ({1, 2, 3}, (60, 60), "Monday to Wednesday, 01:00 to 01:00 the next day, 24 hours"),
        ({1, 3, 7}, (0, 1439), "Monday, Wednesday and Sunday, 00:00 to 23:59"),
        (set(range(1, 8)), (1439, 1), "Every day, 23:59 to 00:01 the next day"),
    ],
)
def test_windows_are_told_in_words(days: set[int], hours: tuple[int, int], words: str) -> None:
    assert describe_window(Window(frozenset(days), *hours)) == words


def test_a_date_gets_an_exception_and_loses_it(app: Flask, sign_in_as: SignInAs) -> None:
    client = sign_in_as(LANDLORD)
    response = submit_page(
        client, f"{URL}/exceptions/new", day=SOON.isoformat(), kind="none", note="Stock<taking>"
    )
    assert response.status_code == 303
    page = client.page(URL)
    line = f"{SOON.day} {SOON:%B %Y}: no off-peak hours, Stock<taking>"
    assert line in page.text()
    (row,) = (each for each in page.one("table").iter("tr") if "Stock" in page.text(each))
    assert "None" in page.text(row)
    form = page.one("form", action=f"{URL}/exceptions/{SOON.isoformat()}/remove")
    client.post(form.get("action"), data=page.fields(form))
    assert line not in client.page(URL).text()


def test_limits_are_changed(app: Flask, sign_in_as: SignInAs) -> None:
    client = sign_in_as(LANDLORD)
    path = f"{URL}/limits"
    assert submit_page(client, path, max_runs="12", time_zone="Europe/Brussels").status_code == 303
    text = client.page(URL).text()
    assert "Running, of 12 at once" in text
    assert "By the clocks of Europe/Brussels." in text


def test_a_zone_by_an_older_name_stays_chosen(app: Flask, sign_in_as: SignInAs) -> None:
    with app.app_context():
        provisioning_policy.change_limits(
            landlord(), version=1, time_zone="Asia/Calcutta", max_runs=4
        )
    client = sign_in_as(LANDLORD)
    assert submit_page(client, f"{URL}/limits", max_runs="5").status_code == 303
    assert "By the clocks of Asia/Calcutta." in client.page(URL).text()


def landlord() -> Actor:
    return actor_for(LANDLORD)


def test_the_second_editor_sees_both_and_decides(app: Flask, sign_in_as: SignInAs) -> None:
    client = sign_in_as(LANDLORD)
    path = f"{URL}/windows/new"
    page = client.page(path)
    data = page.fields(page.one("form", action=path)) | {
        "days": ["3"],
        "from_time": "01:00",
        "to_time": "02:00",
    }
    with app.app_context():
        provisioning_policy.add_window(landlord(), version=1, days={7}, from_minute=0, to_minute=60)
    response = client.post(path, data=data)
    assert response.status_code == 409
    page = Page(response.text)
    assert "Somebody else changed the plan" in page.text()
    assert "Sunday, 00:00 to 01:00" in plan_lines(page)
    form = page.one("form", action=path)
    typed = page.fields(form)
    assert (typed["days"], typed["from_time"], typed["to_time"]) == (["3"], ["01:00"], ["02:00"])
    assert client.post(path, data=typed).status_code == 303
    assert {"Sunday, 00:00 to 01:00", "Wednesday, 01:00 to 02:00"} <= {
        line.partition("Change")[0].strip() for line in plan_lines(client.page(URL))
    }


@one_database
def test_removing_what_somebody_else_changed_is_told(app: Flask, sign_in_as: SignInAs) -> None:
    client = sign_in_as(LANDLORD)
    with app.app_context():
        provisioning_policy.add_exception(landlord(), version=1, day=SOON, all_day=True, note="")
    path = f"{URL}/exceptions/{SOON.isoformat()}/remove"
    assert client.submit(path, {"version": "1"}).status_code == 303
    page = client.page(URL)
    assert "Somebody else changed the plan" in page.text()
    assert "off-peak all day" in page.text()


@one_database
@pytest.mark.parametrize(
    ("path", "good", "bad", "sentence"),
    [
        ("windows/new", {"days": ["1"], "from_time": "01:00", "to_time": "02:00"}, change, sentence)
        for change, sentence in (
            ({"days": None}, "Tick at least one day"),
            ({"days": ["9", "x"]}, "Tick at least one day"),
            ({"from_time": ""}, "From: write a time"),
            ({"from_time": None}, "From: write a time"),
            ({"from_time": "24:00"}, "From: write a time"),
            ({"to_time": "25:61"}, "Until: write a time"),
            ({"to_time": "\0"}, "Until: write a time"),
            ({"to_time": "1" * 5000}, "Until: write a time"),
            ({"to_time": "٠١:٠٠"}, "Until: write a time"),
        )
    ]
    + [
        ("exceptions/new", {"day": SOON.isoformat(), "kind": "none", "note": ""}, change, sentence)
        for change, sentence in (
            ({"day": ""}, "Choose a date."),
            ({"day": "25/12/2026"}, "write year, month and day"),
            ({"day": "2020-01-01"}, "is over"),
            ({"day": "9999-12-31"}, "years ahead"),
            ({"day": "0001-01-01"}, "is over"),
            ({"kind": "sometimes"}, "Choose what the date is."),
            ({"note": "x" * 101}, "The limit is 100"),
            ({"note": "a\0b"}, "cannot be seen"),
        )
    ]
    + [
        ("limits", {"max_runs": "4", "time_zone": "UTC"}, change, sentence)
        for change, sentence in (
            ({"max_runs": ""}, "write a whole number"),
            ({"max_runs": "0"}, "write a whole number"),
            ({"max_runs": "101"}, "write a whole number"),
            ({"max_runs": "1e3"}, "write a whole number"),
            ({"max_runs": "9" * 5000}, "write a whole number"),
            ({"time_zone": "Europe/Atlantis"}, "This is no time zone."),
            ({"time_zone": "\0"}, "This is no time zone."),
        )
    ],
)
def test_what_is_wrong_comes_back_with_what_was_typed(
    app: Flask,
    sign_in_as: SignInAs,
    path: str,
    good: dict[str, Any],
    bad: dict[str, Any],
    sentence: str,
) -> None:
    client = sign_in_as(LANDLORD)
    response = submit_page(client, f"{URL}/{path}", **(good | bad))
    assert response.status_code == 422
    page = Page(response.text)
    assert sentence in page.text()
    summary = page.one("div", class_="error-summary")
    ids = {element.get("id") for element in page.root.iter()}
    for link in summary.iter("a"):
        assert link.get("href")[1:] in ids
    kept = page.fields(page.one("form", action=f"{URL}/{path}"))
    for name in good.keys() - bad.keys() - {"kind", "time_zone"}:
        assert kept[name] == (good[name] if isinstance(good[name], list) else [good[name]])
    with app.app_context():
        assert provisioning_policy.load().version == 1


@one_database
@pytest.mark.parametrize("seen", ["", "x", "-1", "1.5", "9" * 40, "٣", "\0"])
def test_a_version_that_is_none_changes_nothing(
    app: Flask, sign_in_as: SignInAs, seen: str
) -> None:
    client = sign_in_as(LANDLORD)
    data = {"version": seen, "days": ["1"], "from_time": "01:00", "to_time": "02:00"}
    assert client.submit(f"{URL}/windows/new", data).status_code == 400
    with app.app_context():
        assert provisioning_policy.load().version == 1


@one_database
@pytest.mark.parametrize(
    "path",
    [
        f"windows/{10**30}",
        "windows/0",
        "windows/999999",
        "exceptions/2026-13-45/remove",
        "exceptions/%00/remove",
        "exceptions/2020-01-01/remove",
    ],
)
def test_what_is_not_there_is_not_found(app: Flask, sign_in_as: SignInAs, path: str) -> None:
    client = sign_in_as(LANDLORD)
    if path.startswith("windows"):
        assert client.get(f"{URL}/{path}").status_code == 404
        path += "/remove"
    assert client.submit(f"{URL}/{path}", {"version": "1"}).status_code == 404


def test_without_any_hours_the_page_warns(app: Flask, sign_in_as: SignInAs) -> None:
    with app.app_context():
        (window,) = provisioning_policy.load().windows
        assert isinstance(window, provisioning_policy.PlannedWindow)
        provisioning_policy.remove_window(landlord(), window.id, version=1)
    text = sign_in_as(LANDLORD).page(URL).text()
    assert "No off-peak hours are planned." in text
    assert "There are none. Requests that wait for off-peak hours cannot be scheduled." in text
