"""The mails about a request on its page: how each looks, what became of it, sending it again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Flask

from extensions import db
from models import RequestNotification, RequestState, SubscriptionRequest, Suppression
from services import request_notifications
from tests.support.factories import save
from tests.support.pages import CheckingClient, Page
from tests.support.requests import author_of, make_request
from tests.support.smtp_sink import SmtpSink

OPERATOR, AUDITOR = "operator@foyer.example", "auditor@foyer.example"
HOSTILE = "550 <script>alert(1)</script> {{ 7 * 7 }}"

SignInAs = Callable[[str], CheckingClient]
one_database = pytest.mark.parametrize("engine_name", ["sqlite"])


class Told:
    """A rejected request with its one notification, as ids and addresses."""

    def __init__(self) -> None:
        request = make_request(
            RequestState.REJECTED, contact_email="pat@new.example", language="de"
        )
        (notification,) = request_notifications.list_notifications(request)
        self.request_id, self.id = request.id, notification.id
        self.author = author_of(request).login
        self.page = f"/tenant-creation-management/{request.id}"
        self.url = f"{self.page}/notifications/{notification.id}"


@pytest.fixture
def told(app: Flask) -> Told:
    with app.app_context():
        return Told()


def section(page: Page) -> str:
    return page.text(page.one("section", aria_labelledby="notifications"))


def press(client: CheckingClient, told: Told, url: str = "") -> None:
    """Press the button of the notification on the request's page."""
    page = client.page(told.page)
    form = page.one("form", action=f"{url or told.url}/resend")
    response = client.post(form.get("action"), data=page.fields(form))
    assert (response.status_code, response.location) == (303, told.page)


def test_the_requests_page_says_what_became_of_each_mail(
    app: Flask, told: Told, sign_in_as: SignInAs, sink: SmtpSink
) -> None:
    client = sign_in_as(OPERATOR)
    assert "Rejection Waiting To pat@new.example" in section(client.page(told.page))
    sink.refuse("pat@new.example", 451, "Come back later", times=1)
    run(app, told)
    shown = section(client.page(told.page))
    assert "Come back later" in shown
    assert "The next try is in" in shown
    press(client, told)
    assert "had not been mailed yet" in client.page(told.page).text()
    run(app, told)
    assert "Rejection Mailed To pat@new.example" in section(client.page(told.page))


def run(app: Flask, told: Told) -> None:
    with app.app_context():
        request_notifications.mail_notification(told.id)


def test_a_refusal_is_shown_with_the_servers_words_to_staff_alone(
    app: Flask, told: Told, sign_in_as: SignInAs, sink: SmtpSink
) -> None:
    sink.refuse("pat@new.example", 550, HOSTILE)
    run(app, told)
    page = sign_in_as(AUDITOR).page(told.page)
    assert "Rejection Not sent" in section(page)
    assert HOSTILE.removeprefix("550 ") in section(page)
    assert "<script>alert" not in page.source
    page = sign_in_as(told.author).page(told.page)
    assert "Rejection Not sent" in section(page)
    assert "alert(1)" not in page.text()
    for shown in (page, sign_in_as(AUDITOR).page(told.page)):
        assert not shown.all("form", action=f"{told.url}/resend")


def test_sending_again_and_again(
    app: Flask, told: Told, sign_in_as: SignInAs, sink: SmtpSink, work: Callable[[], None]
) -> None:
    run(app, told)
    client = sign_in_as(OPERATOR)
    page = client.page(told.page)
    form = page.one("form", action=f"{told.url}/resend")
    for _ in range(2):  # Twice on one page is once.
        client.post(form.get("action"), data=page.fields(form))
    work()
    assert len(sink.mails) == 2
    page = client.page(told.page)
    assert "The notification is sent to pat@new.example again." in page.text()
    assert not page.all("form", action=f"{told.url}/resend"), "an older one has no button"
    with app.app_context():
        newest = request_notifications.list_notifications(
            db.session.get_one(SubscriptionRequest, told.request_id)
        )[0].id
    press(client, told, f"{told.page}/notifications/{newest}")
    work()
    assert len(sink.mails) == 3


def test_a_suppressed_address_is_named_and_cleared_in_sending(
    app: Flask, told: Told, sign_in_as: SignInAs, sink: SmtpSink, work: Callable[[], None]
) -> None:
    with app.app_context():
        save(Suppression(email_key="pat@new.example", reason="The mailbox does not exist."))
    run(app, told)
    client = sign_in_as(OPERATOR)
    shown = section(client.page(told.page))
    assert "pat@new.example gets no mail" in shown
    assert "Not sent, for this address gets no mail: The mailbox does not exist." in shown
    client.submit(f"{told.url}/resend")  # A page from before the suppression.
    assert "Clear the address to send to it again." in client.page(told.page).text()
    assert sink.mails == []
    press(client, told)
    work()
    assert len(sink.mails) == 1
    assert "gets no mail" not in section(client.page(told.page)).partition("Not sent")[0]


def test_the_mail_is_shown_as_its_reader_gets_it_and_in_each_language(
    told: Told, sign_in_as: SignInAs
) -> None:
    for login in (OPERATOR, AUDITOR, told.author):
        client = sign_in_as(login)
        page = client.page(told.url)
        assert "wurde nicht angenommen" in page.text()
        frame = page.one("iframe", sandbox="")
        response = client.get(frame.get("src"))
        assert "wurde nicht angenommen" in response.text
        assert "sandbox" in response.headers["Content-Security-Policy"]
        assert response.headers["X-Frame-Options"] == "SAMEORIGIN"
        other = client.page(f"{told.url}?language=fr")
        assert "n’a pas été acceptée" in other.text()
        assert "The reader gets it in Deutsch." in other.text()
        assert "n’a pas été" in client.get(f"{told.url}/mail?language=fr").text


@one_database
@pytest.mark.parametrize("language", ["", "xx", "../de", "\0", "x" * 5000, "DE"])
def test_a_language_that_is_none_is_the_readers(
    told: Told, sign_in_as: SignInAs, language: str
) -> None:
    client = sign_in_as(OPERATOR)
    for path in (told.url, f"{told.url}/mail"):
        response = client.get(path, query_string={"language": language})
        assert response.status_code == 200
        assert "nicht angenommen" in response.text


@one_database
def test_a_notification_is_found_below_its_own_request_alone(
    app: Flask, told: Told, sign_in_as: SignInAs
) -> None:
    with app.app_context():
        other = make_request(RequestState.REJECTED).id
        before = db.session.query(RequestNotification).count()
    client = sign_in_as(OPERATOR)
    for path in (
        f"/tenant-creation-management/{other}/notifications/{told.id}",
        f"{told.page}/notifications/999999",
        f"{told.page}/notifications/{10**30}",
        f"/tenant-creation-management/{10**30}/notifications/{told.id}",
    ):
        assert client.get(path).status_code == 404
        assert client.get(f"{path}/mail").status_code == 404
        assert client.submit(f"{path}/resend").status_code == 404
    with app.app_context():
        assert db.session.query(RequestNotification).count() == before
