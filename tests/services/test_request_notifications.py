"""Notifications about requests, as their readers get them, whatever happens on the way."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from config import LANGUAGES
from extensions import db, queues
from jobs import sweeps
from models import (
    AuditEvent,
    NotificationKind,
    RequestNotification,
    RequestState,
    SubscriptionRequest,
    Suppression,
    utcnow,
)
from services import noted_mails, provisioning_policy, request_notifications, system_mails
from services.actors import SYSTEM, Actor
from services.errors import Conflict, Forbidden, NotFound
from services.request_transitions import Moved, move
from services.transactions import run_transaction
from tests.support.factories import actor_for, make_group, save
from tests.support.requests import (
    actor_of,
    author_of,
    make_operator,
    make_prospect,
    make_request,
    make_service_template,
)
from tests.support.smtp_sink import SinkMail, SmtpSink, Stage

K, S = NotificationKind, RequestState
OPERATOR = "operator@foyer.example"
WINTER_NIGHT = datetime(2031, 1, 14, 21, 30, tzinfo=UTC)
SUMMER_NIGHT = datetime(2031, 7, 14, 21, 30, tzinfo=UTC)

WAYS: dict[NotificationKind, tuple[RequestState, RequestState]] = {
    K.SCHEDULED: (S.AWAITING_APPROVAL, S.SCHEDULED),
    K.COMPLETED: (S.PROVISIONING, S.COMPLETED),
    K.FAILED: (S.PROVISIONING, S.FAILED),
    K.REJECTED: (S.AWAITING_APPROVAL, S.REJECTED),
    K.CANCELLED: (S.AWAITING_APPROVAL, S.CANCELLED),
    K.CHANGES_REQUESTED: (S.AWAITING_APPROVAL, S.CHANGES_REQUESTED),
}
"""The transition that each kind of notification tells of."""

one_database = pytest.mark.parametrize("engine_name", ["sqlite"])


def note(
    kind: NotificationKind, *, reason: str = "", enqueue: bool = False, **changes: Any
) -> RequestNotification:
    """A notification of a request that has just gone the way of `kind`."""
    scheduled_for = changes.pop("scheduled_for", WINTER_NIGHT)
    off_peak = changes.pop("off_peak", False)
    from_state, to_state = WAYS[kind]
    request = make_request(from_state, **changes)
    forget(request)
    values: dict[str, Any] = {}
    if kind is K.SCHEDULED:
        values = {"scheduled_for": scheduled_for, "off_peak": off_peak}

    def work(connection: sa.Connection) -> Moved:
        return move(
            connection, request.id, from_state, to_state, actor=SYSTEM, reason=reason, **values
        )

    moved = run_transaction(work)
    assert moved.notification_id is not None
    if enqueue:
        request_notifications.start_mail([moved])
    return read(moved.notification_id)


def forget(request: SubscriptionRequest) -> None:
    """Drop the notifications of the way that the request took before."""
    db.session.execute(
        sa.delete(RequestNotification).where(RequestNotification.request_id == request.id)
    )
    db.session.commit()


def read(notification_id: int) -> RequestNotification:
    return db.session.get_one(RequestNotification, notification_id, populate_existing=True)


def mail(notification: RequestNotification, sink: SmtpSink) -> SinkMail:
    assert request_notifications.mail_notification(notification.id)
    return sink.mails[-1]


def words(html: str) -> str:
    body = html[html.index("<body") :]
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


# --- What they say -----------------------------------------------------------------------------


@one_database
@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", K)
def test_each_kind_is_mailed_in_each_language(
    app_context: Flask, sink: SmtpSink, kind: NotificationKind, language: str
) -> None:
    notification = note(
        kind, language=language, name="Kenton", reason="Because", contact_name="Zoë Łuk"
    )
    got = mail(notification, sink)
    assert got.recipients == (notification.email,)
    assert got.message_id == notification.message_id
    assert got.message["Content-Language"] == language
    assert got.message["Auto-Submitted"] == "auto-generated"
    assert "Kenton" in got.message["Subject"]
    greeting = {"en": "Hello", "de": "Guten Tag", "fr": "Bonjour", "nl": "Hallo"}[language]
    assert f"{greeting} Zoë Łuk," in got.text
    assert f"{greeting} Zoë Łuk," in words(got.html)
    for body in (got.text, got.html):
        assert not re.search(r"\(\(|\)\)|\[\[|\]\]", body)
        assert "\r\n\r\n\r\n" not in got.text
    assert f'lang="{language}"' in got.html


@one_database
def test_no_two_texts_are_the_same(app_context: Flask, sink: SmtpSink) -> None:
    """A folder copied and forgotten would be one."""
    notes = {kind: note(kind, reason="Why") for kind in K}
    previews = [
        request_notifications.preview(actor_for(OPERATOR), notes[kind].id, language)
        for kind in K
        for language in LANGUAGES
    ]
    for texts in ([each.subject for each in previews], [each.text for each in previews]):
        assert len({re.sub(r"Tenant\d+|/\d+|t\d+\.", "", text) for text in texts}) == len(texts)


@one_database
@pytest.mark.parametrize("language", LANGUAGES)
def test_success_says_how_to_get_in_and_what_comes_next(
    app_context: Flask, sink: SmtpSink, language: str
) -> None:
    service = make_service_template(application_url="https://collab.example/start")
    notification = note(
        K.COMPLETED, version=service, language=language, admin_login="prpkeAdmin@kenton.example"
    )
    got = mail(notification, sink)
    for body in (got.text, got.html):
        assert "/login" in body
        assert "prpkeAdmin@kenton.example" in body
        assert "https://collab.example/start" in body
        assert "/password/forgot" in body
        assert "Callback Folder" in body
    assert [line[:2] for line in got.text.splitlines() if re.match(r"\d\. ", line)] == [
        "1.",
        "2.",
        "3.",
        "4.",
    ]
    chosen = {"en": "you chose", "de": "gewählt haben", "fr": "choisi", "nl": "hebt gekozen"}
    assert chosen[language] in got.text


@one_database
def test_success_without_a_platform_of_its_own_names_none(
    app_context: Flask, sink: SmtpSink
) -> None:
    got = mail(note(K.COMPLETED), sink)
    assert "platform" not in got.text + words(got.html)


@one_database
@pytest.mark.parametrize(
    ("language", "moment", "expected"),
    [
        (
            "en",
            WINTER_NIGHT,
            "Tuesday, 14 January 2031, 22:30 (Central European Standard Time)",
        ),
        (
            "de",
            SUMMER_NIGHT,
            "Montag, 14. Juli 2031, 23:30 (Mitteleuropäische Sommerzeit)",
        ),
        ("fr", WINTER_NIGHT, "mardi 14 janvier 2031, 22:30 (heure normale d’Europe centrale)"),
        ("nl", SUMMER_NIGHT, "maandag 14 juli 2031, 23:30 (Midden-Europese zomertijd)"),
    ],
)
def test_the_planned_time_is_by_the_readers_clock_and_in_his_words(
    app_context: Flask, sink: SmtpSink, language: str, moment: datetime, expected: str
) -> None:
    got = mail(
        note(K.SCHEDULED, language=language, scheduled_for=moment, time_zone="Europe/Brussels"),
        sink,
    )
    assert expected in got.text
    assert expected in words(got.html)


@one_database
def test_without_a_zone_of_his_own_the_readers_clock_is_the_providers(
    app_context: Flask, sink: SmtpSink
) -> None:
    provisioning_policy.change_limits(
        actor_for("landlord@foyer.example"), version=1, time_zone="Asia/Tokyo", max_runs=4
    )
    got = mail(note(K.SCHEDULED, time_zone="Nowhere/Else"), sink)
    assert "Wednesday, 15 January 2031, 06:30 (Japan Standard Time)" in got.text


@one_database
def test_an_off_peak_start_is_told_with_the_end_of_its_window(
    app_context: Flask, sink: SmtpSink
) -> None:
    at = datetime(2031, 1, 14, 22, 0, tzinfo=UTC)  # Nights are from 22:00 to 06:00 UTC.
    end = "Wednesday, 15 January 2031, 06:00 (Coordinated Universal Time)"
    planned = mail(note(K.SCHEDULED, scheduled_for=at, off_peak=True, time_zone="UTC"), sink)
    assert f"which last until {end}" in planned.text
    chosen = mail(note(K.SCHEDULED, scheduled_for=at, off_peak=False, time_zone="UTC"), sink)
    assert "off-peak" not in chosen.text + words(chosen.html)


HOSTILE = 'Line one <script>alert("x")</script>\r\nLine two & ((login)) [[x]]\n\n=?utf-8?q?x?='


@one_database
@pytest.mark.parametrize("kind", [K.REJECTED, K.CANCELLED, K.CHANGES_REQUESTED])
def test_what_staff_wrote_arrives_as_it_was_typed(
    app_context: Flask, sink: SmtpSink, kind: NotificationKind
) -> None:
    got = mail(note(kind, reason=HOSTILE), sink)
    assert HOSTILE.replace("\r\n", "\n") in got.text.replace("\r\n", "\n")
    assert "<script" not in got.html
    assert "&lt;script&gt;" in got.html
    assert re.search(
        r"&lt;/script&gt;\s*<br\s*/?>\s*Line two &amp; \(\(login\)\) \[\[x\]\]", got.html
    )


@one_database
@pytest.mark.parametrize("kind", [K.REJECTED, K.CANCELLED, K.CHANGES_REQUESTED])
def test_without_a_reason_there_is_no_gap_where_it_would_be(
    app_context: Flask, sink: SmtpSink, kind: NotificationKind
) -> None:
    got = mail(note(kind, reason=""), sink)
    for body in (got.text, words(got.html)):
        assert "reason:" not in body
        assert "wrote:" not in body
    assert "panel" not in got.html.partition("</style>")[2]
    assert "\r\n\r\n\r\n" not in got.text


@one_database
def test_names_cannot_bring_headers(app_context: Flask, sink: SmtpSink) -> None:
    got = mail(
        note(
            K.REJECTED,
            reason="No",
            contact_name="Eve\r\nBcc: all@victims.example\r\n\r\nHello",
            name="X\r\nBcc: more@victims.example",
            name_key="x",
        ),
        sink,
    )
    assert got.message["Bcc"] is None
    assert got.recipients == (got.message["To"].addresses[0].addr_spec,)
    assert len(got.message.get_all("Subject", [])) == 1
    assert "X Bcc: more@victims.example" in got.message["Subject"]


@one_database
def test_only_who_can_open_the_request_gets_links_to_it(app_context: Flask, sink: SmtpSink) -> None:
    own = mail(note(K.CHANGES_REQUESTED, reason="Why"), sink)
    request_id = read_by_message(own).request_id
    assert f"/tenant-registration/{request_id}/template" in own.text
    assert f'/tenant-registration/{request_id}/template"' in own.html
    assert own.text.count("/tenant-registration\r\n") == 1
    for kind, path in ((K.SCHEDULED, "/tenant-creation-management/"), (K.REJECTED, "/tenant-reg")):
        assert path in mail(note(kind, reason="Why"), sink).text
        by_staff = mail(note(kind, reason="Why", created_by_id=make_operator().id), sink)
        assert "/tenant-" not in by_staff.text + by_staff.html


def read_by_message(got: SinkMail) -> RequestNotification:
    return db.session.scalars(
        sa.select(RequestNotification).where(RequestNotification.message_id == got.message_id)
    ).one()


@one_database
def test_a_language_without_texts_reads_english(app_context: Flask, sink: SmtpSink) -> None:
    got = mail(note(K.REJECTED, language="pt-BR", reason="x"), sink)
    assert "cannot accept" in got.text


# --- Mailing -----------------------------------------------------------------------------------


def test_a_transition_is_told_once(
    app_context: Flask, sink: SmtpSink, work: Callable[[], None]
) -> None:
    notification = note(K.REJECTED, reason="No", enqueue=True)
    queues.enqueue("default", "jobs.requests.mail_notification", notification.id)
    work()
    assert [each.message_id for each in sink.mails] == [notification.message_id]
    after = read(notification.id)
    assert after.mailed_at is not None
    assert (after.claimed_at, after.answer, after.attempts) == (None, "", 1)
    assert not request_notifications.mail_notification(notification.id)
    assert request_notifications.list_unmailed() == []


def test_what_the_queue_lost_the_sweep_finds(
    app_context: Flask, sink: SmtpSink, work: Callable[[], None]
) -> None:
    notification = note(K.REJECTED, reason="No")
    assert notification.id in request_notifications.list_unmailed()
    sweeps.sweep()
    work()
    assert [each.message_id for each in sink.mails] == [notification.message_id]


def test_jobs_at_the_same_moment_mail_once(app_context: Flask, sink: SmtpSink) -> None:
    notification = note(K.REJECTED, reason="No")
    gate = threading.Barrier(4)
    results: list[bool] = []

    def run() -> None:
        with app_context.app_context():
            gate.wait()
            results.append(request_notifications.mail_notification(notification.id))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False, False, False, True]
    assert len(sink.mails) == 1


class Killed(BaseException):
    """Stands for `kill -9`: nothing of ours runs after it."""


def test_a_repeat_after_a_crash_is_the_same_message(
    app_context: Flask, sink: SmtpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    notification = note(K.REJECTED, reason="No")
    written_at = utcnow().replace(microsecond=0) - timedelta(hours=1)
    notification.created_at = written_at
    db.session.commit()
    with monkeypatch.context() as patch:

        def killed(*_: Any, **__: Any) -> None:
            raise Killed

        patch.setattr(noted_mails.NotedMails, "_note", killed)
        with pytest.raises(Killed):
            request_notifications.mail_notification(notification.id)
    assert len(sink.mails) == 1
    db.session.rollback()
    assert not request_notifications.mail_notification(notification.id), "the lease holds"
    assert notification.id not in request_notifications.list_unmailed()
    set_claim(notification, utcnow() - timedelta(minutes=6))
    assert notification.id in request_notifications.list_unmailed()
    assert request_notifications.mail_notification(notification.id)
    first, second = sink.mails
    assert first.data == second.data
    assert first.message_id == notification.message_id
    assert first.message["Date"].datetime == written_at


def set_claim(notification: RequestNotification, at: datetime) -> None:
    db.session.execute(
        sa.update(RequestNotification)
        .where(RequestNotification.id == notification.id)
        .values(claimed_at=at)
    )
    db.session.commit()


def be_due(notification: RequestNotification) -> None:
    db.session.execute(
        sa.update(RequestNotification)
        .where(RequestNotification.id == notification.id)
        .values(next_attempt_at=utcnow() - timedelta(seconds=1))
    )
    db.session.commit()


def test_a_server_that_is_down_is_waited_for_without_charge(
    app_context: Flask, sink: SmtpSink
) -> None:
    notification = note(K.REJECTED, reason="No")
    sink.stop()
    for _ in range(10):  # More often than there are delays.
        assert not request_notifications.mail_notification(notification.id)
        waiting = read(notification.id)
        assert (waiting.attempts, waiting.claimed_at, waiting.failed_at) == (0, None, None)
        assert waiting.next_attempt_at > utcnow()
        assert "refuses" in waiting.answer
        be_due(notification)
    sink.start()
    mail(notification, sink)
    assert read(notification.id).answer == ""


@pytest.mark.parametrize("code", [451, 550])
def test_a_sender_that_is_refused_is_nobodys_end(
    app_context: Flask, sink: SmtpSink, code: int
) -> None:
    notification = note(K.REJECTED, reason="No")
    sink.refuse(None, code, "Sender unknown", at=Stage.MAIL, times=1)
    assert not request_notifications.mail_notification(notification.id)
    waiting = read(notification.id)
    assert (waiting.attempts, waiting.failed_at) == (0, None)
    be_due(notification)
    mail(notification, sink)


def test_a_mailbox_that_is_full_is_tried_later_each_time_and_then_given_up(
    app_context: Flask, sink: SmtpSink
) -> None:
    notification = note(K.REJECTED, reason="No")
    sink.refuse(notification.email, 452, "Mailbox full")
    waits = []
    for _ in range(6):
        before = utcnow()
        assert not request_notifications.mail_notification(notification.id)
        waiting = read(notification.id)
        assert waiting.failed_at is None
        assert "Mailbox full" in waiting.answer
        assert not request_notifications.mail_notification(notification.id), "it is not due"
        waits.append((waiting.next_attempt_at - before).total_seconds())
        be_due(notification)
    assert [round(wait, -1) for wait in waits] == [60, 300, 900, 3600, 10800, 21600]
    assert not request_notifications.mail_notification(notification.id)
    ended = read(notification.id)
    assert ended.failed_at is not None
    assert "Mailbox full" in ended.answer
    assert request_notifications.list_unmailed() == []
    assert sink.mails == []


def test_an_address_that_is_refused_ends_it_with_the_servers_words(
    app_context: Flask, sink: SmtpSink
) -> None:
    notification = note(K.REJECTED, reason="No")
    sink.refuse(notification.email, 550, "5.1.1 No such user " + "x" * 900)
    assert not request_notifications.mail_notification(notification.id)
    ended = read(notification.id)
    assert ended.failed_at is not None
    assert ended.mailed_at is None
    assert "5.1.1 No such user" in ended.answer
    assert len(ended.answer) <= 500


@one_database
@pytest.mark.parametrize(
    "address", ["not an address", "x@", "a@b\r\nBcc: c@d.example", "ü" * 70 + "@x.example"]
)
def test_an_address_that_is_none_ends_it(app_context: Flask, sink: SmtpSink, address: str) -> None:
    notification = note(K.REJECTED, reason="No", contact_email=address)
    assert not request_notifications.mail_notification(notification.id)
    assert read(notification.id).failed_at is not None
    assert sink.mails == []


def test_a_suppressed_address_gets_no_system_mail_either(
    app_context: Flask, sink: SmtpSink
) -> None:
    notification = note(K.REJECTED, reason="No", contact_email="Gone@Nowhere.example")
    save(Suppression(email_key="gone@nowhere.example", reason="The mailbox does not exist."))
    assert not request_notifications.mail_notification(notification.id)
    ended = read(notification.id)
    assert ended.failed_at is not None
    assert ended.answer == ("Not sent, for this address gets no mail: The mailbox does not exist.")
    assert sink.mails == []


@one_database
def test_a_notification_that_is_none_is_no_work(app_context: Flask, sink: SmtpSink) -> None:
    assert not request_notifications.mail_notification(999_999)


@one_database
def test_a_queue_that_is_down_loses_nothing(
    app_context: Flask, sink: SmtpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    from redis.exceptions import ConnectionError as NoQueue

    def broken(*_: Any) -> None:
        raise NoQueue

    with monkeypatch.context() as patch:
        patch.setattr(type(queues), "enqueue", broken)
        notification = note(K.REJECTED, reason="No", enqueue=True)
    assert notification.id in request_notifications.list_unmailed()


# --- Sending again -----------------------------------------------------------------------------


@pytest.fixture
def operator(app_context: Flask) -> Actor:
    return actor_for(OPERATOR)


def test_sending_again_goes_to_the_contact_as_it_is_now(
    operator: Actor, sink: SmtpSink, work: Callable[[], None]
) -> None:
    notification = note(K.REJECTED, reason="No <b>way</b>", enqueue=True)
    work()
    request = db.session.get_one(SubscriptionRequest, notification.request_id)
    request.contact_email, request.language = "new@contact.example", "de"
    db.session.commit()
    again = request_notifications.resend(operator, notification.id)
    work()
    first, second = sink.mails
    assert second.recipients == ("new@contact.example",)
    assert second.message["Content-Language"] == "de"
    assert first.message_id != second.message_id == again.message_id
    assert "No <b>way</b>" in second.text
    assert read(again.id).resent_by_id == operator.user_id
    event = db.session.scalars(
        sa.select(AuditEvent).where(AuditEvent.action == "request_notification.resent")
    ).one()
    assert (event.object_id, event.actor_id) == (request.id, operator.user_id)


def test_pressed_twice_on_one_page_it_is_one_mail(
    operator: Actor, sink: SmtpSink, work: Callable[[], None]
) -> None:
    notification = note(K.REJECTED, reason="No", enqueue=True)
    work()
    first = request_notifications.resend(operator, notification.id)
    second = request_notifications.resend(operator, notification.id)
    assert first.id == second.id
    work()
    assert request_notifications.resend(operator, notification.id).id == first.id
    work()
    assert len(sink.mails) == 2
    third = request_notifications.resend(operator, first.id)  # Who has seen the second.
    work()
    assert third.id not in {notification.id, first.id}
    assert len(sink.mails) == 3


def test_two_who_send_again_at_the_same_moment_send_once(
    app_context: Flask, operator: Actor, sink: SmtpSink, work: Callable[[], None]
) -> None:
    notification = note(K.REJECTED, reason="No", enqueue=True)
    work()
    gate = threading.Barrier(4)
    sent: list[int] = []

    def run() -> None:
        with app_context.app_context():
            gate.wait()
            sent.append(request_notifications.resend(operator, notification.id).id)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(sent)) == 1
    work()
    assert len(sink.mails) == 2


def test_one_that_waits_is_tried_at_once_instead(
    operator: Actor, sink: SmtpSink, work: Callable[[], None]
) -> None:
    notification = note(K.REJECTED, reason="No")
    sink.refuse(notification.email, 451, "Later", times=1)
    request_notifications.mail_notification(notification.id)
    assert not request_notifications.mail_notification(notification.id)
    assert request_notifications.resend(operator, notification.id).id == notification.id
    work()
    assert [each.message_id for each in sink.mails] == [notification.message_id]


def test_one_that_was_given_up_can_be_sent_again(
    operator: Actor, sink: SmtpSink, work: Callable[[], None]
) -> None:
    notification = note(K.REJECTED, reason="No")
    sink.refuse(notification.email, 550, "No", times=1)
    request_notifications.mail_notification(notification.id)
    again = request_notifications.resend(operator, notification.id)
    work()
    assert [each.message_id for each in sink.mails] == [again.message_id]


def test_a_suppressed_address_has_to_be_cleared_first(
    operator: Actor, sink: SmtpSink, work: Callable[[], None]
) -> None:
    notification = note(K.REJECTED, reason="No", contact_email="gone@nowhere.example")
    request_notifications.mail_notification(notification.id)
    save(Suppression(email_key="gone@nowhere.example", reason="It bounced."))
    request = db.session.get_one(SubscriptionRequest, notification.request_id)
    found = request_notifications.find_suppression(request)
    assert found is not None
    with pytest.raises(Conflict, match=r"It bounced\."):
        request_notifications.resend(operator, notification.id)
    work()
    assert len(sink.mails) == 1
    request_notifications.resend(operator, notification.id, clear_suppression=True)
    work()
    assert len(sink.mails) == 2
    assert request_notifications.find_suppression(request) is None
    event = db.session.scalars(
        sa.select(AuditEvent).where(AuditEvent.action == "suppression.cleared")
    ).one()
    assert event.detail == {"email": "gone@nowhere.example", "reason": "It bounced."}


def test_only_who_manages_requests_sends_again_and_only_his(app_context: Flask) -> None:
    notification = note(K.REJECTED, reason="No")
    author = author_of(db.session.get_one(SubscriptionRequest, notification.request_id))
    stranger = actor_of(make_prospect())
    elsewhere = actor_of(make_operator(make_group()))
    for actor, refusal in (
        (actor_of(author), Forbidden),
        (actor_for("auditor@foyer.example"), Forbidden),
        (stranger, NotFound),
        (elsewhere, NotFound),
    ):
        with pytest.raises(refusal):
            request_notifications.resend(actor, notification.id)
    for actor in (stranger, elsewhere):
        with pytest.raises(NotFound):
            request_notifications.preview(actor, notification.id)
    assert "cannot accept" in request_notifications.preview(actor_of(author), notification.id).text
    rows = sa.select(sa.func.count()).select_from(RequestNotification)
    assert db.session.scalar(rows.where(RequestNotification.resent_by_id.is_not(None))) == 0


def test_the_list_has_the_newest_first(operator: Actor) -> None:
    notification = note(K.FAILED)
    request_notifications.mail_notification(notification.id)
    db.session.execute(sa.update(RequestNotification).values(mailed_at=utcnow()))
    db.session.commit()
    again = request_notifications.resend(operator, notification.id)
    request = db.session.get_one(SubscriptionRequest, notification.request_id)
    listed = request_notifications.list_notifications(request)
    assert [each.id for each in listed] == [again.id, notification.id]


@one_database
def test_message_ids_are_never_the_same(app_context: Flask) -> None:
    made = {system_mails.new_message_id() for _ in range(1000)}
    assert len(made) == 1000
    assert all(re.fullmatch(r"<[0-9a-f]{32}@foyer\.example>", each) for each in made)
