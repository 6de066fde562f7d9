"""The pages of general parameters: editing, publishing, comparing, restoring; two editors."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from werkzeug.test import TestResponse

from extensions import db
from models import GeneralParameters, GeneralParametersVersion
from services.parameter_rules import PARAMETERS
from tests.support.factories import actor_for, find_customer
from tests.support.pages import CheckingClient, Page, check_page
from tests.support.parameters import MAILBOX, publish_parameters, typed

ADMIN = "prpkeAdmin@kenton-electronics.com"
OPERATOR = "operator@foyer.example"
AUDITOR = "auditor@foyer.example"
URL = "/customers/CQ001/general-parameters"

SignInAs = Callable[[str], CheckingClient]


@pytest.fixture
def admin(sign_in_as: SignInAs) -> CheckingClient:
    return sign_in_as(ADMIN)


@pytest.fixture
def published(app: Flask) -> None:
    """Version 1 with three retries, version 2 with five."""
    with app.app_context():
        for retries in ("3", "5"):
            publish_parameters(actor_for(ADMIN), find_customer("CQ001"), callback_retries=retries)


def form_of(client: CheckingClient) -> dict[str, Any]:
    """What a browser would send of the form as it is shown now."""
    page = client.page(URL)
    fields: dict[str, Any] = page.fields(page.one("form", action=URL))
    return fields


def post(
    client: CheckingClient, data: dict[str, Any], path: str = "", **changes: str
) -> TestResponse:
    return client.post(f"{URL}{path}", data={**data, **changes})


def note_of(page: Page, name: str) -> str:
    found = [each for each in page.all("ul") if each.get("id") == f"{name}-notes"]
    return page.text(found[0]) if found else ""


def error_of(page: Page, name: str) -> str:
    found = [each for each in page.all("p") if each.get("id") == f"{name}-error"]
    return page.text(found[0]) if found else ""


def value_of(page: Page, name: str) -> str:
    form = page.one("form", action=URL)
    value = page.fields(form)[name][0]
    assert isinstance(value, str)
    return value


def refused(response: TestResponse, status: int = 422) -> Page:
    assert response.status_code == status, response.location
    return check_page(response)


def drafts(app: Flask) -> list[dict[str, Any]]:
    with app.app_context():
        return list(db.session.scalars(sa.select(GeneralParameters.draft)))


def numbers(app: Flask) -> list[int]:
    with app.app_context():
        return sorted(db.session.scalars(sa.select(GeneralParametersVersion.number)))


# --- Editing -------------------------------------------------------------------------------------


def test_the_first_draft_is_of_defaults_and_says_what_it_lacks(admin: CheckingClient) -> None:
    page = admin.page(URL)
    assert value_of(page, "callback_retries") == "3"
    assert value_of(page, "opening_hours_monday") == "09:00\u201317:00"
    assert value_of(page, "opening_hours_sunday") == "closed"
    text = page.text()
    assert "Not published yet" in text
    assert "Before it can be published, correct:" in text
    assert page.one("a", href="#callback_folder_email") is not None
    assert not [form for form in page.all("form") if form.get("action") == f"{URL}/discard"]


def test_a_saved_draft_is_shown_as_it_was_understood_and_what_differs_is_marked(
    admin: CheckingClient, published: None
) -> None:
    data = form_of(admin)
    response = post(admin, data, callback_retries=" 7 ", opening_hours_monday="8-12 and 1pm-5pm")
    assert (response.status_code, response.location) == (303, URL)
    page = admin.page(URL)
    assert "The draft is saved." in page.text()
    assert value_of(page, "callback_retries") == "7"
    assert value_of(page, "opening_hours_monday") == "08:00\u201312:00, 13:00\u201317:00"
    assert note_of(page, "callback_retries") == "Published: 5 times"
    assert note_of(page, "opening_hours_monday") == "Published: 09:00\u201317:00"
    assert note_of(page, "time_zone") == ""
    assert "2 values differ from version 2" in page.text()
    field = page.one("input", name="callback_retries")
    assert "callback_retries-notes" in field.get("aria-describedby").split()


def test_saving_without_a_change_says_so(admin: CheckingClient) -> None:
    assert post(admin, form_of(admin)).status_code == 303
    assert "Nothing was changed." in admin.page(URL).text()


def test_everything_faulty_is_told_at_its_field_and_above_and_stays_as_typed(
    app: Flask, admin: CheckingClient
) -> None:
    wrong = {
        "callback_folder_email": "callbacks",
        "callback_retries": "eleven",
        "number_shown": "12",
        "opening_hours_friday": "17-9",
        "time_zone": "Europe/Atlantis",
        "greeting_language": "tlh",
    }
    page = refused(post(admin, form_of(admin), **wrong))
    summary = page.one("div", class_="error-summary")
    for name, text in wrong.items():
        assert value_of(page, name) == text
        assert error_of(page, name)
        assert error_of(page, name) in page.text(summary)
        field = next(f for f in page.root.iter() if f.get("name") == name)
        assert field.get("aria-invalid") == "true"
        assert f"{name}-error" in field.get("aria-describedby").split()
    assert "6 things to correct" in page.text(summary)
    assert drafts(app) == []


def test_a_page_that_sends_less_than_it_shows_is_refused(app: Flask, admin: CheckingClient) -> None:
    data = form_of(admin)
    del data["opening_hours_monday"]
    page = refused(post(admin, data))
    assert "Monday is missing from this page." in page.text()
    assert drafts(app) == []


# --- Publishing ----------------------------------------------------------------------------------


def test_publishing_saves_and_publishes_what_is_in_the_form(
    app: Flask, admin: CheckingClient
) -> None:
    response = post(admin, form_of(admin), "/publish", callback_folder_email=MAILBOX)
    assert (response.status_code, response.location) == (303, URL)
    page = admin.page(URL)
    assert "Version 1 is published." in page.text()
    assert "The draft is what is published." in page.text()
    assert value_of(page, "callback_folder_email") == MAILBOX
    assert numbers(app) == [1]
    assert post(admin, form_of(admin), "/publish").status_code == 303
    assert "Nothing differs" in admin.page(URL).text()
    assert numbers(app) == [1]


def test_publishing_twice_with_one_page_publishes_once(app: Flask, admin: CheckingClient) -> None:
    data = form_of(admin)
    assert post(admin, data, "/publish", callback_folder_email=MAILBOX).status_code == 303
    assert post(admin, data, "/publish", callback_folder_email=MAILBOX).status_code == 409
    assert numbers(app) == [1]


def test_publishing_without_a_mailbox_is_refused_at_its_field(
    app: Flask, admin: CheckingClient
) -> None:
    page = refused(post(admin, form_of(admin), "/publish", callback_retries="4"))
    assert "is missing. Enter it before you publish." in error_of(page, "callback_folder_email")
    assert value_of(page, "callback_retries") == "4"
    assert numbers(app) == []


def test_a_stand_in_is_marked_and_cannot_be_published(app: Flask, admin: CheckingClient) -> None:
    with app.app_context():
        db.session.add(
            GeneralParameters(
                customer_id=find_customer("CQ001").id,
                version=1,
                draft={"callback_folder_email": "callbacks@foyer.example"},
                must_replace={"callback_folder_email": "callbacks@foyer.example"},
            )
        )
        db.session.commit()
    page = admin.page(URL)
    assert note_of(page, "callback_folder_email") == "Only stands in for your own. Replace it."
    page = refused(post(admin, form_of(admin), "/publish"))
    assert "only stands in" in error_of(page, "callback_folder_email")
    assert post(admin, form_of(admin), "/publish", callback_folder_email=MAILBOX).status_code == 303
    assert note_of(admin.page(URL), "callback_folder_email") == ""


def test_changes_are_discarded_after_the_page_has_said_what_that_means(
    admin: CheckingClient, published: None
) -> None:
    post(admin, form_of(admin), callback_retries="9")
    page = admin.page(URL)
    form = page.one("form", action=f"{URL}/discard")
    assert "The draft becomes version 2 again." in page.text(form)
    assert "Discard 1 change" in page.text(form)
    data = page.fields(form)
    assert admin.post(f"{URL}/discard", data=data).status_code == 303
    page = admin.page(URL)
    assert "1 change discarded." in page.text()
    assert value_of(page, "callback_retries") == "5"
    assert admin.post(f"{URL}/discard", data=data).status_code == 303
    assert "Somebody else changed these parameters" in admin.page(URL).text()


# --- Two editors ---------------------------------------------------------------------------------


def test_the_later_of_two_editors_sees_both_values_and_may_then_save_his(
    app: Flask, admin: CheckingClient, published: None, sign_in_as: SignInAs
) -> None:
    operator = sign_in_as(OPERATOR)
    stale = form_of(operator)
    post(admin, form_of(admin), callback_retries="7", callback_expiry_hours="48")
    page = refused(post(operator, stale, callback_retries="8", greeting_language="nl"), 409)
    assert "Petra Kenton changed this draft while you had it open" in page.text()
    assert value_of(page, "callback_retries") == "8"
    assert "Saved meanwhile: 7 times. Saving replaces it." in note_of(page, "callback_retries")
    assert value_of(page, "callback_expiry_hours") == "48"
    assert "Changed meanwhile" in note_of(page, "callback_expiry_hours")
    assert value_of(page, "greeting_language") == "nl"
    assert "meanwhile" not in note_of(page, "greeting_language")
    assert drafts(app)[0]["callback_retries"] == 7
    again = page.fields(page.one("form", action=URL))
    assert post(operator, again).status_code == 303
    (draft,) = drafts(app)
    assert draft["callback_retries"] == 8
    assert draft["callback_expiry_hours"] == 48
    assert draft["greeting_language"] == "nl"


def test_overtaken_once_more_the_editor_is_told_once_more(
    app: Flask, admin: CheckingClient, published: None, sign_in_as: SignInAs
) -> None:
    operator = sign_in_as(OPERATOR)
    stale = form_of(operator)
    post(admin, form_of(admin), callback_retries="7")
    page = refused(post(operator, stale, callback_expiry_hours="12"), 409)
    post(admin, form_of(admin), callback_retries="6")
    again = page.fields(page.one("form", action=URL))
    page = refused(post(operator, again, "/publish"), 409)
    assert value_of(page, "callback_retries") == "6"
    assert value_of(page, "callback_expiry_hours") == "12"
    assert numbers(app) == [1, 2]


@pytest.mark.parametrize("seen", ["", "{", "[]", "7", "null", '"x"', "[" * 100_000, "\0"])
def test_without_knowing_what_was_seen_everything_typed_stays(
    admin: CheckingClient, published: None, seen: str
) -> None:
    stale = form_of(admin)
    post(admin, form_of(admin), callback_retries="7")
    page = refused(post(admin, stale, seen=seen), 409)
    assert value_of(page, "callback_retries") == "5"
    assert "Saved meanwhile: 7 times" in note_of(page, "callback_retries")


@pytest.mark.parametrize("version", ["", "x", "-1", "1.5", "9" * 5000, "\u0661", "\0"])
def test_a_version_that_is_none_overwrites_nothing(
    app: Flask, admin: CheckingClient, published: None, version: str
) -> None:
    data = form_of(admin)
    refused(post(admin, data, version=version, callback_retries="9"), 409)
    assert drafts(app)[0]["callback_retries"] == 5


# --- Versions ------------------------------------------------------------------------------------


def test_versions_are_listed_and_each_has_its_page(admin: CheckingClient, published: None) -> None:
    page = admin.page(f"{URL}/versions")
    links = [each.get("href") for each in page.all("a") if "/versions/" in each.get("href", "")]
    assert links == [f"{URL}/versions/2", f"{URL}/versions/1"]
    assert admin.fragment(f"{URL}/versions").all("table")
    assert "Published just now by Petra Kenton" in admin.page(links[1]).text()
    assert admin.get(f"{URL}/versions/3").status_code == 404
    assert admin.get(f"{URL}/versions/0").status_code == 404
    assert admin.get(f"{URL}/versions/{10**30}").status_code == 404


def test_where_nothing_is_published_the_list_says_so(admin: CheckingClient) -> None:
    assert "Nothing has been published" in admin.page(f"{URL}/versions").text()


def rows(page: Page) -> dict[str, str]:
    """What the comparison says of the parameters that differ."""
    found = {}
    for row in page.all("tr"):
        heads = list(row.iter("th"))
        if len(heads) == 1 and "Differs" in page.text(row):
            found[page.text(heads[0])] = " / ".join(page.text(each) for each in row.iter("td"))
    return found


def test_a_version_is_compared_with_whatever_one_chooses(
    admin: CheckingClient, published: None
) -> None:
    post(admin, form_of(admin), callback_retries="9", time_zone="Europe/Paris")
    assert rows(admin.page(f"{URL}/versions/1")) == {
        "Callback retries": "3 times / 5 times / Differs"
    }
    assert rows(admin.page(f"{URL}/versions/2")) == {
        "Callback retries": "5 times / 3 times / Differs"
    }
    draft = rows(admin.page(f"{URL}/versions/1?with=draft"))
    assert draft["Callback retries"] == "3 times / 9 times / Differs"
    assert "Time zone" in draft
    assert len(rows(admin.page(f"{URL}/versions/1?with=2"))) == 1
    for wanted in ("1", "3", "x", "-1", "\0", str(10**30), "published"):
        page = admin.page(f"{URL}/versions/1", query_string={"with": wanted})
        assert rows(page) == {"Callback retries": "3 times / 5 times / Differs"}


def test_an_earlier_version_is_restored_as_a_new_one(
    app: Flask, admin: CheckingClient, published: None
) -> None:
    page = admin.page(f"{URL}/versions/1")
    form = page.one("form", action=f"{URL}/versions/1/restore")
    assert "as version 3" in page.text(form)
    assert "That changes Callback retries." in page.text(form)
    assert admin.post(form.get("action"), data=page.fields(form)).location == URL
    page = admin.page(URL)
    assert "Version 3 is published. It says what version 1 said." in page.text()
    assert value_of(page, "callback_retries") == "3"
    assert numbers(app) == [1, 2, 3]
    assert "restoring version 1" in admin.page(f"{URL}/versions/3").text()
    assert not admin.page(f"{URL}/versions/3").all("form", action=f"{URL}/versions/3/restore")
    response = admin.submit(f"{URL}/versions/2/restore", {"published": "2"})
    assert response.location == f"{URL}/versions/2"
    assert "was published in the meantime" in admin.page(response.location).text()
    assert numbers(app) == [1, 2, 3]


def test_a_version_that_cannot_be_restored_says_why(
    app: Flask, admin: CheckingClient, published: None
) -> None:
    with app.app_context():
        first = db.session.scalars(
            sa.select(GeneralParametersVersion).where(GeneralParametersVersion.number == 1)
        ).one()
        first.values = {**first.values, "time_zone": "Europe/Atlantis"}
        db.session.commit()
    page = refused(admin.submit(f"{URL}/versions/1/restore", {"published": "2"}))
    assert "Version 1 cannot be restored as it is" in page.text()
    assert "Time zone" in page.text(page.one("div", class_="error-summary"))
    assert numbers(app) == [1, 2]


# --- As one types, and who only reads ------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "understood"),
    [
        ("opening_hours_monday=9-12%2C 1pm-5pm", "09:00\u201312:00, 13:00\u201317:00"),
        ("opening_hours_monday=", "Closed"),
        ("number_shown=%2B3225550123", "+32 2 555 01 23"),
        ("number_shown=1", ""),
        ("opening_hours_monday=soon", ""),
        ("unknown=1", ""),
        ("", ""),
    ],
)
def test_what_is_understood_is_said_as_one_types(
    admin: CheckingClient, query: str, understood: str
) -> None:
    response = admin.get(f"{URL}/check?{query}", headers={"HX-Request": "true"})
    assert response.status_code == 200
    assert response.text == understood


def test_readers_see_draft_and_versions_and_no_button(
    admin: CheckingClient, published: None, sign_in_as: SignInAs
) -> None:
    post(admin, form_of(admin), callback_retries="9")
    auditor = sign_in_as(AUDITOR)
    page = auditor.page(URL)
    assert "9 times" in page.text()
    assert "Published: 5 times" in page.text()
    main = page.one("main")
    assert not list(main.iter("form"))
    page = auditor.page(f"{URL}/versions/1")
    assert [form.get("method") for form in page.one("main").iter("form")] == ["get"]


# --- Bad input -----------------------------------------------------------------------------------

TEXTS = (
    "\0",
    "a\0b",
    "\x01\x1b[31m\x7f\x85",
    "\r\nBcc: x@y.example",
    "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
    "\u202e\u2066\ufeff",
    "-1",
    str(10**30),
    "9" * 5000,
    "nan",
    " ",
    "'; DROP TABLE users; --",
    "{{ 7 * 7 }}",
    "<script>alert(1)</script>",
    "\U0001f993" * 300,
    "9-" * 3000,
    "(" * 3000,
)


@pytest.mark.parametrize("path", ["", "/publish"])
def test_every_field_takes_anything_and_gives_it_back(
    app: Flask, admin: CheckingClient, path: str
) -> None:
    """All fields at once, each with the same hostile text: every reader is met."""
    data = form_of(admin)
    for text in TEXTS:
        response = post(admin, data, path, **dict.fromkeys(PARAMETERS, text))
        assert response.status_code == 422, text
        assert "<script>alert" not in response.text
        assert ">49<" not in response.text
        if text.isprintable():
            page = check_page(response)
            assert {value_of(page, name) for name in PARAMETERS} == {text}
    assert drafts(app) == []


def test_looking_up_what_is_understood_takes_anything(admin: CheckingClient) -> None:
    for text in TEXTS:
        query = dict.fromkeys(PARAMETERS, text)
        response = admin.get(f"{URL}/check", query_string=query, headers={"HX-Request": "true"})
        assert response.status_code == 200
        assert "<script>" not in response.text


def test_fields_given_twice_raw_bytes_and_ten_megabytes_are_refused(
    admin: CheckingClient,
) -> None:
    data = form_of(admin)
    token = data["csrf_token"][0]
    twice = {**data, "callback_retries": ["1", "2"]}
    assert admin.post(URL, data=twice).status_code in {303, 422}
    raw = f"csrf_token={token}&callback_retries=%ff%fe%ed%a0%80&version=%00&seen=%ff"
    form = "application/x-www-form-urlencoded"
    assert admin.post(URL, data=raw, content_type=form).status_code == 422
    large = {**data, "callback_folder_email": "x" * 10_000_000}
    assert admin.post(URL, data=large).status_code == 413
    assert admin.post(URL, json={"csrf_token": token}).status_code == 400


def test_a_form_can_be_posted_as_it_was_typed_in_full(app: Flask, admin: CheckingClient) -> None:
    """The texts of the tests' support are those of the page."""
    data = form_of(admin)
    assert {name: data[name][0] for name in PARAMETERS} == typed(callback_folder_email="")
    assert json.loads(data["seen"][0]) == typed(callback_folder_email="")
