"""Mailings: the confirmation, the progress page, the list, and what one may do to a mailing."""

from __future__ import annotations

import csv
import io
import re
from datetime import timedelta

import pytest
import sqlalchemy as sa

from extensions import db, queues
from models import (
    AuditEvent,
    Delivery,
    DeliveryState,
    EmailTemplate,
    Mailing,
    MailingState,
    MailLine,
    Role,
    SelectedUser,
    SkipReason,
    Suppression,
    TemplateKind,
    User,
    UserStatus,
    utcnow,
)
from tests.support import factories
from tests.support.pages import Page

ADMIN = "prpkeAdmin@kenton-electronics.com"
URL = "/customers/CQ001/mailings"
HTMX = {"HX-Request": "true"}


@pytest.fixture
def alice(sign_in_as):
    """The administrator of CQ001."""
    return sign_in_as(ADMIN)


@pytest.fixture
def bob(sign_in_as):
    """An auditor."""
    return sign_in_as("auditor@foyer.example")


@pytest.fixture
def charlie(sign_in_as):
    """The administrator of another customer."""
    return sign_in_as("prphlAdmin@harborlight.example")


@pytest.fixture
def people(app):
    """Ids of five users of CQ001 who can be mailed."""
    with app.app_context():
        suppressed = sa.select(Suppression.email_key)
        return list(db.session.scalars(
            sa.select(User.id).where(
                User.customer_id == 1, User.role == Role.USER, User.email != "",
                User.status == UserStatus.ACTIVE, User.email_key.not_in(suppressed),
            ).order_by(User.name_key).limit(5)
        ))  # fmt: skip


@pytest.fixture
def welcome(app):
    return template_id(app, TemplateKind.WELCOME)


def template_id(app, kind, name=None):
    with app.app_context():
        query = sa.select(EmailTemplate.id).where(EmailTemplate.kind == kind)
        query = query.where(EmailTemplate.name == name) if name else query
        return db.session.scalars(query).one()


def select(client, ids):
    data = {"selected": [str(each) for each in ids], "shown": ""}
    assert client.submit("/customers/CQ001/users/selection", data).status_code == 303


def confirm_form(page: Page) -> dict:
    return page.fields(page.one("form", class_="confirm-bar"))


def confirm(client, template, ids, **changes):
    """Select, open the confirmation and send; returns the id of the mailing."""
    select(client, ids)
    page = client.page(f"{URL}/new?template={template}")
    response = client.post(URL, data=confirm_form(page) | changes)
    assert response.status_code == 303, response.text
    return int(response.location.rpartition("/")[2])


def row(app, mailing_id):
    with app.app_context():
        return db.session.get(Mailing, mailing_id)


def deliveries(app, mailing_id):
    with app.app_context():
        return db.session.query(Delivery).filter_by(mailing_id=mailing_id).order_by("id").all()


def change(app, model, condition, **values):
    with app.app_context():
        db.session.execute(sa.update(model).where(condition).values(**values))
        db.session.commit()


def main(page: Page) -> str:
    return page.text(page.one("main"))


def jobs(app, queue="interactive"):
    with app.app_context():
        return [job.args for job in queues[queue].jobs]


# --- The confirmation --------------------------------------------------------------------------


def test_the_confirmation_shows_who_gets_it_what_changes_and_the_mail(alice, welcome, people):
    select(alice, people)
    page = alice.page(f"{URL}/new?template={welcome}")
    words = main(page)
    assert page.text(page.one("h1")) == "Resend Welcome Mail"
    assert "5 users will get it" in words
    assert "Both passwords of these 5 users will be reset" in words
    assert "Foyer Communications" in page.text(page.one("p", class_="mail-subject"))
    send = page.one("form", class_="confirm-bar").find("button")
    assert page.text(send) == "Reset passwords and send to 5"
    assert "••••••••" in page.text(page.one("pre"))


def test_the_mail_is_framed_under_a_policy_of_its_own(alice, welcome, people):
    select(alice, people)
    frame = alice.page(f"{URL}/new?template={welcome}").one("iframe")
    assert frame.get("sandbox") == ""
    response = alice.get(frame.get("src"))
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "sandbox;" in policy
    assert "frame-ancestors 'self'" in policy
    assert "script-src" not in policy
    assert response.headers["X-Frame-Options"] == "SAMEORIGIN"
    assert "••••••••" in response.text


def test_every_reason_to_leave_somebody_out_is_said(app, alice, welcome, people):
    with app.app_context():
        customer = factories.find_customer("CQ001")
        ids = [
            factories.make_user(customer, first_name="No", last_name="Address", email="").id,
            factories.make_user(customer, first_name="Su", last_name="Spended",
                                status=UserStatus.SUSPENDED).id,
            factories.make_user(customer, first_name="Sup", last_name="Pressed",
                                email="stop@x.example").id,
        ]  # fmt: skip
        db.session.add(Suppression(email_key="stop@x.example", reason="bounced"))
        db.session.commit()
    confirm(alice, welcome, people[:1])
    select(alice, [*ids, *people[:2]])
    page = alice.page(f"{URL}/new?template={welcome}")
    reasons = dict(
        [page.text(part) for part in item][:2]
        for item in page.all("ul", class_="people")[1]
    )  # fmt: skip
    assert reasons["No Address"] == "No e-mail address"
    assert reasons["Su Spended"] == "Suspended"
    assert reasons["Sup Pressed"] == "The address is on the suppression list"
    assert list(reasons.values()).count("Mailed a few minutes ago") == 1
    assert "1 user will get it" in main(page)
    assert "4 will not" in main(page)


def test_those_mailed_lately_are_included_on_request(app, alice, welcome, people):
    confirm(alice, welcome, people[:2])
    select(alice, people[:3])
    url = f"{URL}/new?template={welcome}"
    page = alice.page(url)
    assert "Include 2 who were mailed in the last 10 minutes" in main(page)
    assert "1 user will get it" in main(page)
    page = alice.fragment(f"{url}&recent=1")
    assert "3 users will get it" in page.text()
    assert page.one("input", id="recent").get("checked") is not None
    response = alice.post(URL, data=confirm_form(page))
    mailing = row(app, int(response.location.rpartition("/")[2]))
    assert (mailing.total, mailing.skipped) == (3, 0)


def test_when_nobody_can_get_it_there_is_nothing_to_send(app, alice, welcome):
    with app.app_context():
        customer = factories.find_customer("CQ001")
        user = factories.make_user(customer, email="").id
    page = alice.page(f"{URL}/new?template={welcome}&user={user}")
    assert "Nobody will get it" in main(page)
    assert not page.all("iframe")
    assert page.one("form", class_="confirm-bar").find("button") is None


def test_a_template_without_passwords_changes_none(app, alice, people):
    template = template_id(app, TemplateKind.GENERAL, "Voicemail update")
    select(alice, people[:2])
    page = alice.page(f"{URL}/new?template={template}")
    assert "No password is changed" in main(page)
    assert page.text(page.one("form", class_="confirm-bar").find("button")) == "Send to 2"


def test_without_a_selection_one_is_sent_back_with_the_reason(alice, welcome):
    response = alice.get(f"{URL}/new?template={welcome}")
    assert response.location == "/customers/CQ001/users"
    assert "No user is selected" in alice.page(response.location).source


def test_hostile_names_are_shown_harmless(app, alice, welcome):
    with app.app_context():
        user = factories.make_user(
            factories.find_customer("CQ001"), first_name="<script>alert(1)</script>",
            last_name='"><img src=x>\r\nBcc: x@y.example',
        ).id  # fmt: skip
    page = alice.page(f"{URL}/new?template={welcome}&user={user}")
    assert not page.all("img")
    assert "<script>alert" not in page.source
    framed = alice.get(page.one("iframe").get("src"))
    assert "<script>alert" not in framed.text
    assert "<img src=x" not in framed.text


def test_a_template_that_is_none_is_not_there(alice, people):
    select(alice, people)
    for template in ("", "=", "=x", "=0", f"={2**63}", "=999999", "=1&template=2"):
        query = f"template{template}"
        assert alice.get(f"{URL}/new?{query}").status_code == 404, query
        assert alice.get(f"{URL}/preview?{query}&user={people[0]}").status_code == 404, query


def test_users_that_are_none_are_refused(alice, welcome):
    for user in ("x", "0", str(2**63), "9" * 5000, "%00"):
        assert alice.get(f"{URL}/new?template={welcome}&user={user}").status_code == 400, user


def test_the_template_of_another_customer_is_not_there(app, alice, people):
    with app.app_context():
        other = factories.make_template(factories.find_customer("CQ002")).id
    select(alice, people)
    assert alice.get(f"{URL}/new?template={other}").status_code == 404


# --- Sending -----------------------------------------------------------------------------------


def test_sending_freezes_the_recipients_and_asks_a_worker(app, alice, welcome, people):
    mailing_id = confirm(alice, welcome, people)
    mailing = row(app, mailing_id)
    assert (mailing.total, mailing.queued, mailing.state) == (5, 5, MailingState.RUNNING)
    assert jobs(app) == [(mailing_id,)] or jobs(app) == [[mailing_id]]
    with app.app_context():
        assert db.session.query(SelectedUser).count() == 0


def test_sent_twice_it_is_the_same_mailing(app, alice, welcome, people):
    select(alice, people)
    data = confirm_form(alice.page(f"{URL}/new?template={welcome}"))
    first, second = (alice.post(URL, data=data) for _ in range(2))
    assert first.status_code == second.status_code == 303
    assert first.location == second.location
    with app.app_context():
        assert db.session.query(Mailing).count() == 1
        assert db.session.query(Delivery).count() == 5


def test_a_queue_that_is_down_loses_nothing(app, alice, welcome, people, monkeypatch):
    from redis.exceptions import ConnectionError as NoConnection

    def refuse(*_args):
        raise NoConnection

    monkeypatch.setattr(type(queues), "enqueue", refuse)
    mailing_id = confirm(alice, welcome, people)
    assert row(app, mailing_id).queued == 5
    assert jobs(app) == []


def test_the_limit_holds_on_the_server(app, alice, welcome):
    with app.app_context():
        ids = list(db.session.scalars(
            sa.select(User.id).where(User.customer_id == 1).order_by(User.id).limit(26)
        ))  # fmt: skip
    select(alice, ids[:25])
    data = confirm_form(alice.page(f"{URL}/new?template={welcome}"))
    data["users"] = ",".join(map(str, ids))
    response = alice.post(URL, data=data)
    assert response.status_code == 400
    assert "26 users are selected" in response.text
    with app.app_context():
        assert db.session.query(Mailing).count() == 0


def test_nobody_elses_user_is_mailed(app, alice, welcome, people):
    with app.app_context():
        stranger = db.session.scalar(sa.select(User.id).where(User.customer_id == 2).limit(1))
    select(alice, people)
    data = confirm_form(alice.page(f"{URL}/new?template={welcome}"))
    data["users"] = f"{people[0]},{stranger}"
    assert alice.post(URL, data=data).status_code == 404
    with app.app_context():
        assert db.session.query(Mailing).count() == 0


WRONG = [
    {"version": ""}, {"version": "x"}, {"version": str(2**63)}, {"version": "999999"},
    {"users": "x"}, {"users": ""}, {"users": ",".join(map(str, range(1, 2001)))},
    {"confirmation": ""}, {"confirmation": "short"}, {"confirmation": "x" * 65},
    {"confirmation": "\0" * 20},
]  # fmt: skip


def test_a_form_that_is_wrong_sends_nothing(app, alice, welcome, people):
    select(alice, people)
    data = confirm_form(alice.page(f"{URL}/new?template={welcome}"))
    for changes in WRONG:
        assert alice.post(URL, data=data | changes).status_code in {400, 404}, changes
    with app.app_context():
        assert db.session.query(Mailing).count() == 0


def test_an_auditor_reads_and_cannot_send(app, alice, bob, welcome, people):
    mailing_id = confirm(alice, welcome, people)
    page = bob.page(f"{URL}/{mailing_id}")
    assert "Pause" not in main(page)
    assert bob.get(f"{URL}/new?template={welcome}&user={people[0]}").status_code == 403
    for path in ("", f"/{mailing_id}/pause", f"/{mailing_id}/cancel", f"/{mailing_id}/retry"):
        assert bob.submit(f"{URL}{path}").status_code == 403
    assert bob.submit(f"{URL}/{mailing_id}/export").status_code == 200


def test_a_stranger_finds_nothing(app, alice, charlie, welcome, people):
    mailing_id = confirm(alice, welcome, people)
    other = "/customers/CQ002/mailings"
    assert charlie.get(URL).status_code == 404
    for base in (URL, other):
        assert charlie.get(f"{base}/{mailing_id}").status_code == 404
        assert charlie.get(f"{base}/{mailing_id}/progress").status_code == 404
        for verb in ("pause", "resume", "cancel", "retry", "export"):
            assert charlie.submit(f"{base}/{mailing_id}/{verb}").status_code == 404
    assert row(app, mailing_id).state is MailingState.RUNNING


# --- The progress ------------------------------------------------------------------------------


def test_the_page_polls_while_mails_wait_and_then_stops(app, alice, welcome, people, sink, work):
    mailing_id = confirm(alice, welcome, people)
    page = alice.page(f"{URL}/{mailing_id}")
    polled = page.one("div", id="mailings-progress")
    assert polled.get("hx-trigger") == "foyer-tick from:body"
    assert page.one("noscript") is not None
    assert "0 of 5 sent" in main(page)
    quiet = alice.fragment(polled.get("hx-get"))
    assert quiet.one("strong", id="count-queued").text == "5"
    assert not quiet.all("p", id="mailings-said"), "says something although nothing has changed"
    work()
    response = alice.get(polled.get("hx-get"), headers=HTMX)
    assert response.headers["HX-Trigger"] == "mailing-ended"
    ended = Page(response.text)
    assert ended.one("div", id="mailings-progress").get("hx-get") is None
    assert "Finished. 5 of 5 sent." in ended.text(ended.one("p", id="mailings-said"))
    assert ended.one("strong", id="count-sent").text == "5"
    page = alice.page(f"{URL}/{mailing_id}")
    assert not page.all("noscript")
    assert "Finished. 5 of 5 sent." in main(page)
    assert "250 " in main(page)


def test_polling_reads_no_delivery(app, alice, welcome, people):
    mailing_id = confirm(alice, welcome, people)
    read: list[str] = []
    with app.app_context():
        engine = db.engine
    sa.event.listen(
        engine, "before_cursor_execute", lambda *args: read.append(args[2]), named=False
    )
    assert alice.get(f"{URL}/{mailing_id}/progress", headers=HTMX).status_code == 200
    assert read
    assert not [statement for statement in read if "deliveries" in statement]


def test_polling_does_not_keep_the_session_alive(app, alice, welcome, people):
    from models import SignInSession

    mailing_id = confirm(alice, welcome, people)
    before = utcnow() - timedelta(minutes=30)
    change(app, SignInSession, sa.true(), last_seen_at=before)
    alice.get(f"{URL}/{mailing_id}/progress", headers=HTMX)
    with app.app_context():
        assert db.session.query(SignInSession).one().last_seen_at == before


def test_the_progress_without_htmx_leads_to_the_page(alice, welcome, people):
    mailing_id = confirm(alice, welcome, people)
    response = alice.get(f"{URL}/{mailing_id}/progress")
    assert response.location == f"{URL}/{mailing_id}"


def test_counts_lead_to_the_recipients_in_that_state(app, alice, welcome, people, sink, work):
    with app.app_context():
        first = db.session.get_one(User, people[0])
        sink.refuse(first.email, 550, "No such person here")
        name = first.full_name
    mailing_id = confirm(alice, welcome, people)
    work()
    page = alice.page(f"{URL}/{mailing_id}")
    assert "Finished with failures" in main(page)
    assert "550 " in main(page)
    assert "No such person here" in main(page)
    failed = alice.fragment(f"{URL}/{mailing_id}?state=failed")
    assert [failed.text(r.find("th")) for r in failed.all("tr", data_row="")] == [name]
    sent = alice.fragment(f"{URL}/{mailing_id}?state=sent")
    assert len(sent.all("tr", data_row="")) == 4
    assert "No recipient is cancelled" in alice.page(f"{URL}/{mailing_id}?state=cancelled").source


def test_every_skip_reason_has_its_words(app, alice, welcome, people):
    mailing_id = confirm(alice, welcome, people)
    wanted = {
        SkipReason.NO_ADDRESS: "No e-mail address",
        SkipReason.RECENTLY_MAILED: "Mailed a few minutes ago",
        SkipReason.SUSPENDED: "Suspended",
        SkipReason.DELETED: "Deleted",
        SkipReason.SUPPRESSED: "The address is on the suppression list",
        SkipReason.ADDRESS_CHANGED: "The address was changed after the confirmation",
        SkipReason.REPLACED: "A newer mailing took its place",
    }
    assert set(wanted) == set(SkipReason)
    one = deliveries(app, mailing_id)[0].id
    for reason, words in wanted.items():
        change(app, Delivery, Delivery.id == one, state="skipped", skip_reason=reason)
        assert words in main(alice.page(f"{URL}/{mailing_id}"))


def test_recipients_are_paged_both_ways(app, alice, welcome, people):
    mailing_id = confirm(alice, welcome, people)
    with app.app_context():
        rest = list(db.session.scalars(
            sa.select(User.id).where(User.customer_id == 1, User.id.not_in(people))
        ))  # fmt: skip
        extra = {"state": "cancelled", "email": "x@y.example", "mailing_id": mailing_id}
        db.session.execute(sa.insert(Delivery), [{**extra, "user_id": each} for each in rest])
        number = len(rest)
        db.session.execute(sa.update(Mailing).values(
            total=Mailing.total + number, cancelled=Mailing.cancelled + number
        ))  # fmt: skip
        db.session.commit()
    first = alice.page(f"{URL}/{mailing_id}")
    assert len(first.all("tr", data_row="")) == 50
    second = alice.fragment(first.one("a", id="page-next").get("href"))
    assert len(second.all("tr", data_row="")) == 5 + number - 50
    back = alice.fragment(second.one("a", id="page-previous").get("href"))
    assert [back.text(r) for r in back.all("tr", data_row="")] == [
        first.text(r) for r in first.all("tr", data_row="")
    ]


def test_a_mail_server_that_is_down_is_said_with_the_next_try(app, alice, welcome, people):
    mailing_id = confirm(alice, welcome, people)
    with app.app_context():
        until = utcnow() + timedelta(seconds=100)
        db.session.add(MailLine(name="smtp", blocked_until=until, failures=1,
                                reason="Connection refused by mail.example"))  # fmt: skip
        db.session.commit()
    seen = alice.fragment(f"{URL}/{mailing_id}/progress?seen=running")
    assert "The mail server does not answer. Nothing is lost." in seen.text(
        seen.one("p", id="mailings-said")
    )
    words = main(alice.page(f"{URL}/{mailing_id}"))
    assert "The mail server does not answer" in words
    assert "Connection refused by mail.example" in words
    assert re.search(r"The next try is in \d minutes?", words)


def test_an_application_password_that_was_not_mailed_is_said_and_mended(
    app, alice, welcome, people, sink, work
):
    with app.app_context():
        user = db.session.get_one(User, people[0])
        sink.refuse(user.email, 550, "No", times=1)
    mailing_id = confirm(alice, welcome, people[:2])
    work()
    page = alice.page(f"{URL}/{mailing_id}")
    assert "was changed, but the mail with it was not sent" in main(page)
    assert "Application password changed, not mailed" in main(page)
    link = next(a for a in page.all("a") if page.text(a) == "Resend to 1")
    again = alice.page(link.get("href"))
    assert "1 user will get it" in main(again)
    alice.post(URL, data=confirm_form(again))
    work()
    words = main(alice.page(f"{URL}/{mailing_id}"))
    assert "was changed, but the mail with it was not sent" not in words


def test_a_strange_address_still_shows_the_mailing(alice, welcome, people):
    mailing_id = confirm(alice, welcome, people)
    for query in ("state=x", "after=x", "after=%00", "after=" + "A" * 3000, f"after={2**70}"):
        assert alice.get(f"{URL}/{mailing_id}?{query}").status_code == 200, query


def test_a_mailing_that_is_none_is_not_there(alice):
    for mailing_id in ("0", "999999", str(2**63 - 1), str(2**63), "9" * 99, "x"):
        assert alice.get(f"{URL}/{mailing_id}").status_code == 404, mailing_id
        assert alice.submit(f"{URL}/{mailing_id}/pause").status_code == 404, mailing_id


# --- Steering ----------------------------------------------------------------------------------


def steer(client, mailing_id, verb):
    response = client.submit(f"{URL}/{mailing_id}/{verb}")
    assert response.status_code == 303, response.text
    return client.page(response.location)


def test_pause_and_resume(app, alice, welcome, people, sink, work):
    mailing_id = confirm(alice, welcome, people)
    page = steer(alice, mailing_id, "pause")
    assert "Paused. Mails that are under way are finished first." in page.source
    assert row(app, mailing_id).state is MailingState.PAUSED
    work()
    assert row(app, mailing_id).queued == 5
    page = steer(alice, mailing_id, "resume")
    assert "Resumed." in page.source
    work()
    assert row(app, mailing_id).sent == 5


def test_cancel_says_what_will_happen_and_what_has(app, alice, welcome, people, work):
    mailing_id = confirm(alice, welcome, people)
    page = alice.page(f"{URL}/{mailing_id}")
    assert "cannot be taken back. This cannot be undone." in main(page)
    page = steer(alice, mailing_id, "cancel")
    assert "Cancelled 5 mails that waited." in page.source
    assert "Cancelled. 0 of 5 sent, 5 cancelled." in main(page)
    assert row(app, mailing_id).state is MailingState.CANCELLED
    states = {each.state for each in deliveries(app, mailing_id)}
    assert states == {DeliveryState.CANCELLED}


def test_retry_takes_the_failed_ones_again(app, alice, welcome, people, sink, work):
    with app.app_context():
        for each in people[:2]:
            sink.refuse(db.session.get_one(User, each).email, 550, "Not now", times=1)
    mailing_id = confirm(alice, welcome, people)
    work()
    assert row(app, mailing_id).failed == 2
    assert "Retry 2 failed" in main(alice.page(f"{URL}/{mailing_id}"))
    page = steer(alice, mailing_id, "retry")
    assert "Trying 2 mails again." in page.source
    work()
    assert (row(app, mailing_id).sent, row(app, mailing_id).failed) == (5, 0)


def test_what_can_not_be_done_any_more_says_so(app, alice, welcome, people, sink, work):
    mailing_id = confirm(alice, welcome, people)
    work()
    for verb in ("pause", "resume", "cancel"):
        assert "This mailing is finished" in steer(alice, mailing_id, verb).source
    assert "Nothing in this mailing has failed." in steer(alice, mailing_id, "retry").source
    assert row(app, mailing_id).state is MailingState.FINISHED


def test_htmx_is_sent_on_with_the_whole_window(alice, welcome, people):
    mailing_id = confirm(alice, welcome, people)
    response = alice.submit(f"{URL}/{mailing_id}/pause", headers=HTMX)
    assert (response.status_code, response.headers["HX-Redirect"]) == (204, f"{URL}/{mailing_id}")


# --- The download and the list -----------------------------------------------------------------


def test_the_download_has_every_recipient_and_opens_harmlessly(app, alice, welcome, people):
    with app.app_context():
        evil = factories.make_user(
            factories.find_customer("CQ001"), first_name="=1+1", last_name="@SUM", email=""
        ).id  # fmt: skip
    mailing_id = confirm(alice, welcome, [*people, evil])
    response = alice.submit(f"{URL}/{mailing_id}/export")
    assert response.mimetype == "text/csv"
    rows = list(csv.DictReader(io.StringIO(response.text.removeprefix("\ufeff"))))
    assert len(rows) == 6
    bad = next(each for each in rows if "1+1" in each["First name"])
    assert (bad["First name"], bad["Last name"]) == ("'=1+1", "'@SUM")
    assert (bad["State"], bad["Reason"]) == ("skipped", "no_address")
    with app.app_context():
        event = db.session.query(AuditEvent).filter_by(action="mailing.exported").one()
        assert event.object_id == mailing_id


def test_the_list_is_newest_first_and_paged_both_ways(app, alice, welcome, people):
    with app.app_context():
        admin = factories.find_user(ADMIN)
        version = db.session.scalar(sa.text("SELECT min(id) FROM email_template_versions"))
        for number in range(60):
            db.session.add(Mailing(
                customer_id=1, template_version_id=version, created_by_id=admin.id,
                confirmation=f"confirmation-{number:04}", lane="interactive", state="finished",
                resets_portal_password=True, resets_application_password=True,
            ))  # fmt: skip
            db.session.flush()
        db.session.commit()
        ids = list(db.session.scalars(sa.select(Mailing.id).order_by(Mailing.id.desc())))

    def listed(page):
        links = [link.get("href") for r in page.all("tr", data_row="") for link in r.iter("a")]
        return [int(link.rpartition("/")[2]) for link in links]

    pages = [alice.page(URL)]
    while pages[-1].all("a", id="page-next"):
        pages.append(alice.fragment(pages[-1].one("a", id="page-next").get("href")))
    assert [each for page in pages for each in listed(page)] == ids
    back = alice.page(pages[-1].one("a", id="page-previous").get("href"))
    assert listed(back) == listed(pages[-2])
    assert alice.get(f"{URL}?cursor=nonsense").status_code == 200


def test_a_customer_without_mailings_says_so(alice):
    assert "No mail has been sent to users of KentonElectronics" in alice.page(URL).source


def test_a_users_page_lists_his_mails(app, alice, welcome, people, sink, work):
    mailing_id = confirm(alice, welcome, people[:1])
    page = alice.page(f"/customers/CQ001/users/{people[0]}")
    assert "On its way" in main(page)
    work()
    page = alice.page(f"/customers/CQ001/users/{people[0]}")
    assert "On its way" not in main(page)
    assert [a for a in page.all("a") if a.get("href") == f"{URL}/{mailing_id}"]


def test_a_mailing_under_way_shows_on_the_users_tab(alice, welcome, people, sink, work):
    confirm(alice, welcome, people[:1])
    assert "On its way" in main(alice.page("/customers/CQ001/users?size=100"))
    work()
    page = alice.page("/customers/CQ001/users?size=100")
    assert "On its way" not in main(page)
    assert "Sent just now" in main(page)
