"""Reset links: single-use under every race, few, and never in clear but in the mail."""

from __future__ import annotations

import re
import threading
from datetime import timedelta

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import ResetLink, Suppression, User, UserStatus, utcnow
from services import reset_links, sign_ins
from services.errors import InvalidInput
from services.smtp import ServerUnavailable
from services.system_mails import MailDelayed
from tests.support.factories import find_customer, make_user, save
from tests.support.smtp_sink import SmtpSink

NEW = "a-new-chosen-password"


@pytest.fixture
def user(app_context: Flask) -> User:
    return make_user(find_customer("CQ001"), password="the-old-password")


def ask(user: User) -> int:
    link_id = reset_links.request_reset(user.login)
    assert link_id is not None
    return link_id


def token_in(sink: SmtpSink) -> str:
    found = re.search(r"/password/choose/([\w-]+)", sink.mails[-1].text)
    assert found
    return found.group(1)


def test_a_link_is_spent_once_however_many_click_at_once(
    app_context: Flask, user: User, sink: SmtpSink
) -> None:
    reset_links.mail_reset_link(ask(user))
    token = token_in(sink)
    login = user.login
    db.session.commit()
    gate = threading.Barrier(4)
    done: list[str] = []
    failures: list[str] = []

    def use(number: int) -> None:
        with app_context.app_context():
            gate.wait()
            try:
                reset_links.use_link(token, f"{NEW}-{number}")
                done.append(f"{NEW}-{number}")
            except InvalidInput as error:
                failures.append(error.field)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 1
    assert failures == ["link"] * 3
    db.session.expire_all()
    sign_ins.sign_in(login, done[0])


def test_no_more_than_five_links_an_hour_go_to_one_account(user: User) -> None:
    assert all(reset_links.request_reset(user.login) for _ in range(5))
    assert reset_links.request_reset(user.login) is None
    db.session.execute(sa.update(ResetLink).values(requested_at=utcnow() - timedelta(minutes=61)))
    db.session.commit()
    assert reset_links.request_reset(user.login) is not None


@pytest.mark.parametrize(
    "login", ["nobody@nowhere.example", "", "\0", "x\0y", "x" * 9999, "\ud800"]
)
def test_nobody_gets_no_link(app_context: Flask, login: str) -> None:
    assert reset_links.request_reset(login) is None
    assert db.session.scalars(sa.select(ResetLink)).all() == []


def test_who_must_not_get_mail_gets_no_link(app_context: Flask) -> None:
    customer = find_customer("CQ001")
    save(Suppression(email_key="blocked@mail.example", reason="bounced"))
    for user in (
        make_user(customer, status=UserStatus.SUSPENDED),
        make_user(customer, status=UserStatus.DELETED),
        make_user(customer, email=""),
        make_user(customer, email="Blocked@Mail.example"),
    ):
        assert reset_links.request_reset(user.login) is None


def test_a_wish_waits_while_the_server_is_busy_and_is_found_again(
    user: User, sink: SmtpSink
) -> None:
    link_id = ask(user)
    sink.refuse(None, 451, "Later", times=1)
    with pytest.raises(MailDelayed):
        reset_links.mail_reset_link(link_id)
    assert reset_links.list_unmailed() == [link_id]
    assert reset_links.mail_reset_link(link_id)
    assert reset_links.list_unmailed() == []
    assert not reset_links.mail_reset_link(link_id), "mailed twice"
    assert len(sink.mails) == 1
    assert reset_links.find_link(token_in(sink)) is not None


def test_a_wish_waits_while_the_server_is_down(user: User, sink: SmtpSink) -> None:
    link_id = ask(user)
    sink.stop()
    with pytest.raises(ServerUnavailable):
        reset_links.mail_reset_link(link_id)
    assert reset_links.list_unmailed() == [link_id]


def test_a_wish_that_is_refused_for_good_is_closed(user: User, sink: SmtpSink) -> None:
    link_id = ask(user)
    sink.refuse(user.email, 550, "No such user")
    assert not reset_links.mail_reset_link(link_id)
    assert reset_links.list_unmailed() == []


def test_a_wish_of_yesterday_is_not_answered_any_more(user: User) -> None:
    ask(user)
    db.session.execute(sa.update(ResetLink).values(requested_at=utcnow() - timedelta(hours=2)))
    db.session.commit()
    assert reset_links.list_unmailed() == []


def test_using_one_link_spends_the_others(user: User, sink: SmtpSink) -> None:
    reset_links.mail_reset_link(ask(user))
    first = token_in(sink)
    reset_links.mail_reset_link(ask(user))
    second = token_in(sink)
    assert first != second
    reset_links.use_link(second, NEW)
    assert reset_links.find_link(first) is None
    assert reset_links.find_link(second) is None


def test_a_link_of_somebody_suspended_since_is_dead(user: User, sink: SmtpSink) -> None:
    reset_links.mail_reset_link(ask(user))
    user.status = UserStatus.SUSPENDED
    db.session.commit()
    with pytest.raises(InvalidInput) as caught:
        reset_links.use_link(token_in(sink), NEW)
    assert caught.value.field == "link"


def test_using_a_link_ends_every_session(user: User, sink: SmtpSink) -> None:
    _, session = sign_ins.sign_in(user.login, "the-old-password")
    reset_links.mail_reset_link(ask(user))
    reset_links.use_link(token_in(sink), NEW)
    assert sign_ins.find_session(session) is None
