"""Webhooks as landlord administrators see them, without scripts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from flask import Flask

from extensions import db
from models import MessageState, WebhookAttempt, WebhookEndpoint, utcnow
from tests.support.pages import CheckingClient, Page
from tests.support.webhook_receiver import Receiver, Reply
from tests.support.webhooks import (
    SECRET,
    fresh,
    make_endpoint,
    make_message,
    messages,
    opened,
    send_all,
)

LANDLORD, OPERATOR = "landlord@foyer.example", "operator@foyer.example"
URL = "/webhooks"
HOSTILE = '<script>alert("x")</script> {{ 7 * 7 }}'

SignInAs = Callable[[str], CheckingClient]


@pytest.fixture
def landlord(sign_in_as: SignInAs) -> CheckingClient:
    return sign_in_as(LANDLORD)


@pytest.fixture
def endpoint_id(app: Flask) -> int:
    with app.app_context():
        return make_endpoint("https://hooks.example.com/foyer?token=abc").id


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


def row(app: Flask, endpoint_id: int) -> WebhookEndpoint:
    with app.app_context():
        return fresh(endpoint_id)


def rows(page: Page) -> list[str]:
    return [page.text(each) for each in page.all("tr", data_row="")]


def press(client: CheckingClient, path: str, action: str) -> Page:
    """Send the form of a page that leads to `action`, and follow where it goes."""
    page = client.page(path)
    form = page.one("form", action=action)
    response = client.post(action, data=page.fields(form))
    if response.status_code == 303:
        return client.page(response.location)
    assert response.status_code == 200, response.status_code
    return Page(response.text)


def test_the_list_shows_who_is_told_what(
    app: Flask, endpoint_id: int, landlord: CheckingClient
) -> None:
    with app.app_context():
        make_endpoint("https://failing.example.com/", failing_since=utcnow(), groupno=2)
        make_endpoint("https://off.example.com/", disabled_at=utcnow())
        make_endpoint("https://gone.example.com/", deleted_at=utcnow())
    page = landlord.page(URL)
    off, failing, good = rows(page)
    assert "off.example.com" in off
    assert "Disabled" in off
    assert "Failing" in failing
    assert "hooks.example.com" in good
    assert "Enabled" in good
    assert "Mail ended" in good
    assert "Request moved" in good
    page.one("a", href=f"{URL}/{endpoint_id}")


def test_the_bar_leads_there_for_landlords_alone(
    landlord: CheckingClient, sign_in_as: SignInAs
) -> None:
    link = landlord.page(URL).one("a", href=URL, aria_current="page")
    assert link is not None
    assert not sign_in_as(OPERATOR).page("/customers").all("a", href=URL)


def test_an_empty_list_says_how_to_add_one(landlord: CheckingClient) -> None:
    page = landlord.page(URL)
    assert "through the REST API" in page.text(page.one("main"))


def test_pages_of_the_list_and_of_messages(
    app: Flask, landlord: CheckingClient, endpoint_id: int
) -> None:
    with app.app_context():
        endpoint = fresh(endpoint_id)
        for _ in range(30):
            make_message(endpoint)
            make_endpoint()
    for path in (URL, f"{URL}/{endpoint_id}"):
        first = landlord.page(path)
        assert len(rows(first)) == 25
        (following,) = first.all("a", rel="next")
        second = landlord.page(following.get("href"))
        assert len(rows(second)) in {5, 6}
        (back,) = second.all("a", rel="prev")
        assert rows(landlord.page(back.get("href"))) == rows(first)
        assert len(rows(landlord.page(f"{path}?size=50"))) in {30, 31}


def test_messages_by_state(app: Flask, landlord: CheckingClient, endpoint_id: int) -> None:
    with app.app_context():
        endpoint = fresh(endpoint_id)
        waiting = make_message(endpoint).id
        make_message(endpoint, attempts=2)
        failed = make_message(endpoint, state=MessageState.FAILED, ended_at=utcnow()).id
    path = f"{URL}/{endpoint_id}"
    assert len(rows(landlord.page(path))) == 3
    (shown,) = rows(landlord.page(f"{path}?state=failed"))
    assert f"msg_{failed}" in shown
    assert len(rows(landlord.page(f"{path}?state=waiting"))) == 2
    page = landlord.page(f"{path}?state=delivered")
    assert "No message matches." in page.text()
    assert len(rows(landlord.page(f"{path}?state=lost"))) == 3
    fragment = landlord.get(f"{path}?state=failed", headers={"HX-Request": "true"})
    assert fragment.text.lstrip().startswith('<div id="webhooks-messages"')
    assert f"msg_{waiting}" not in fragment.text


def test_a_message_shows_its_attempts_and_what_is_posted(
    app: Flask, landlord: CheckingClient, endpoint_id: int
) -> None:
    with app.app_context():
        message = make_message(fresh(endpoint_id), body='{"type":"endpoint.test","data":{}}')
        db.session.add_all(
            [
                WebhookAttempt(
                    message_id=message.id, milliseconds=1204, status=500, answer=HOSTILE
                ),
                WebhookAttempt(
                    message_id=message.id, milliseconds=3, answer="The connection was refused."
                ),
            ]
        )
        db.session.commit()
        path = f"{URL}/{endpoint_id}/messages/{message.id}"
    response = landlord.get(path)
    page = Page(response.text)
    second, first = rows(page)
    assert "No answer" in second
    assert "The connection was refused." in second
    assert "500" in first
    assert "1,204" in first
    assert '<script>alert("x")' not in response.text
    assert "{{ 7 * 7 }}" in response.text
    assert '"type": "endpoint.test"' in page.text(page.one("pre"))


@pytest.mark.parametrize("settings_changes", [{"WEBHOOK_PRIVATE_TARGETS": "yes"}])
def test_a_test_and_a_replay_from_the_pages(
    app: Flask, landlord: CheckingClient, receiver: Receiver
) -> None:
    with app.app_context():
        endpoint_id = make_endpoint(receiver.url).id
    receiver.reply(Reply(404))
    path = f"{URL}/{endpoint_id}"
    page = press(landlord, path, f"{path}/test")
    assert "The test is on its way." in page.text()
    with app.app_context():
        send_all(endpoint_id)
        (message,) = messages()
    path = f"{path}/messages/{message.id}"
    assert "404" in rows(landlord.page(path))[0]
    page = press(landlord, path, f"{path}/replay")
    assert "sent again" in page.text()
    with app.app_context():
        send_all(endpoint_id)
    assert "Delivered" in landlord.page(path).text()
    first, second = receiver.requests
    assert (first.id, first.body) == (second.id, second.body)


def test_disabling_says_what_it_means_and_can_be_undone(
    app: Flask, landlord: CheckingClient, endpoint_id: int
) -> None:
    path = f"{URL}/{endpoint_id}"
    page = landlord.page(f"{path}/disable")
    assert "not told later" in page.text()
    assert row(app, endpoint_id).disabled_at is None
    page = press(landlord, f"{path}/disable", f"{path}/disable")
    found = row(app, endpoint_id)
    assert found.disabled_at is not None
    assert found.disabled_reason == f"Disabled by {LANDLORD}."
    assert LANDLORD in page.text(page.one("main"))
    assert not page.all("form", action=f"{path}/test")
    press(landlord, path, f"{path}/enable")
    assert row(app, endpoint_id).disabled_at is None


def test_a_disabled_one_sends_nothing(
    app: Flask, landlord: CheckingClient, endpoint_id: int
) -> None:
    with app.app_context():
        message_id = make_message(fresh(endpoint_id)).id
    path = f"{URL}/{endpoint_id}"
    press(landlord, f"{path}/disable", f"{path}/disable")
    for action in (f"{path}/test", f"{path}/messages/{message_id}/replay"):
        response = landlord.submit(action, {})
        assert "Enable it first." in landlord.page(response.location).text()
    with app.app_context():
        assert len(messages()) == 1


def test_a_new_secret_is_shown_once(app: Flask, landlord: CheckingClient, endpoint_id: int) -> None:
    path = f"{URL}/{endpoint_id}/rotate-secret"
    page = landlord.page(path)
    data = page.fields(page.one("form", action=path))
    response = landlord.post(path, data=data)
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    (secret,) = set(re.findall(r"whsec_[A-Za-z0-9+/=]+", response.text))
    stored = row(app, endpoint_id)
    with app.app_context():
        assert opened(stored.secret_seal) == secret
        assert opened(stored.previous_seal) == SECRET
    again = landlord.post(path, data=data)  # As by going back and sending it once more.
    assert again.status_code == 303
    assert "cannot be shown again" in landlord.page(again.location).text()
    assert row(app, endpoint_id).secret_seal == stored.secret_seal
    for each in (URL, f"{URL}/{endpoint_id}", path):
        assert secret not in landlord.get(each).text
    assert "less than a day ago" in landlord.page(path).text()


@pytest.mark.parametrize("version", ["", "x", "0", "-1", str(10**30), "\0", "1.5"])
@pytest.mark.parametrize("action", ["disable", "enable", "rotate-secret"])
@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_a_form_without_the_right_version_changes_nothing(
    app: Flask, landlord: CheckingClient, endpoint_id: int, action: str, version: str
) -> None:
    before = row(app, endpoint_id)
    response = landlord.submit(f"{URL}/{endpoint_id}/{action}", {"version": version})
    assert response.status_code == 303
    after = row(app, endpoint_id)
    assert (after.version, after.disabled_at, after.secret_seal) == (
        before.version,
        None,
        before.secret_seal,
    )


def test_what_is_not_there(app: Flask, landlord: CheckingClient, endpoint_id: int) -> None:
    with app.app_context():
        other = make_message(make_endpoint()).id
        gone = make_endpoint(deleted_at=utcnow()).id
    for path in (
        f"{URL}/{gone}",
        f"{URL}/{10**18}",
        f"{URL}/{10**30}",
        f"{URL}/x",
        f"{URL}/{endpoint_id}/messages/{other}",
        f"{URL}/{endpoint_id}/messages/{10**18}",
    ):
        assert landlord.get(path).status_code == 404


def test_a_page_says_why_it_was_disabled_and_that_it_fails(
    app: Flask, landlord: CheckingClient, endpoint_id: int
) -> None:
    with app.app_context():
        disabled = make_endpoint(
            disabled_at=utcnow(), disabled_reason="Every attempt has failed for 5 days."
        ).id
        failing = make_endpoint(failing_since=utcnow() - timedelta(hours=3)).id
    assert "failed for 5 days" in landlord.page(f"{URL}/{disabled}").text()
    page = landlord.page(f"{URL}/{failing}").text()
    assert "Every attempt fails" in page
    assert "3 hours ago" in page
