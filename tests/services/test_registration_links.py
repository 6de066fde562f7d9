"""Registration links: single-use under every race, few, for the one mailbox that proved itself."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db, queues
from models import (
    AuditEvent,
    RegistrationLink,
    Role,
    SignInSession,
    Suppression,
    User,
    UserStatus,
    fold,
    utcnow,
)
from services import registration_drafts, registration_links, reset_links, sign_ins
from services.actors import Actor
from services.errors import Conflict, InvalidInput, Throttled
from services.registration_links import DeadLink, Entered
from services.smtp import ServerUnavailable
from services.system_mails import MailDelayed
from tests.support.factories import find_user, make_invitation, make_user, save
from tests.support.smtp_sink import SmtpSink, Stage

ADA = "ada@harbour.example"
PASSWORD = "violet teapot on the moon"

by_mode = pytest.mark.parametrize(
    ("settings_changes", "mode"),
    [({"REGISTRATION": mode}, mode) for mode in ("open", "invitation", "closed")],
    ids=["open", "invitation", "closed"],
)
one_database = pytest.mark.parametrize("engine_name", ["sqlite"])


def ask(email: str = ADA, **more: str) -> int:
    link_id = registration_links.request_link(email, **more)
    assert link_id is not None
    return link_id


def token_in(sink: SmtpSink) -> str:
    found = re.search(r"/tenant-registration/link/([\w-]+)", sink.mails[-1].text)
    assert found
    return found.group(1)


def mail(sink: SmtpSink, email: str = ADA) -> str:
    """The token of a link that was asked for and mailed."""
    assert registration_links.mail_link(ask(email))
    return token_in(sink)


def enter(sink: SmtpSink, email: str = ADA) -> Entered:
    return registration_links.use_link(mail(sink, email))


def row(link_id: int) -> RegistrationLink:
    return db.session.get_one(RegistrationLink, link_id, populate_existing=True)


def shift(**back: timedelta) -> None:
    """Move times of all links into the past."""
    db.session.execute(
        sa.update(RegistrationLink).values({name: utcnow() - by for name, by in back.items()})
    )
    db.session.commit()


def why_dead(token: str) -> str:
    """What both looking at a link and using it say; neither spends it."""
    with pytest.raises(DeadLink) as looking:
        registration_links.get_link(token)
    with pytest.raises(DeadLink) as using:
        registration_links.use_link(token)
    assert looking.value.message == using.value.message
    return using.value.message


def make_prospect(email: str = ADA, **changes: Any) -> User:
    return make_user(role=Role.PROSPECT, login=f"prospect:{email}", email=email, **changes)


def at_once(app: Flask, jobs: list[Callable[[], object]]) -> list[object]:
    """Run `jobs` in threads that begin together; their results, or the errors they raise."""
    db.session.commit()
    gate = threading.Barrier(len(jobs))
    results: list[object] = []

    def run(job: Callable[[], object]) -> None:
        with app.app_context():
            gate.wait()
            try:
                results.append(job())
            except Exception as error:  # noqa: BLE001 - the test looks at it
                results.append(error)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    db.session.expire_all()
    return results


# --- Asking --------------------------------------------------------------------------------------


def test_a_link_comes_by_mail_in_the_language_of_the_wish(
    app_context: Flask, sink: SmtpSink
) -> None:
    words = {"en": "Someone, probably you", "de": "jemand", "fr": "Quelqu", "nl": "Iemand"}
    for language, word in words.items():
        registration_links.mail_link(ask(f"{language}@harbour.example", language=language))
        sent = sink.mails[-1]
        assert sent.recipient == f"{language}@harbour.example"
        assert sent.message["Content-Language"] == language
        assert word in sent.text
        assert token_in(sink) in sent.html
        for part in (sent.text, sent.html, str(sent.message["Subject"])):
            assert "((" not in part
            assert "[[" not in part
    registration_links.mail_link(ask("ja@harbour.example", language="ja"))
    assert sink.mails[-1].message["Content-Language"] == "en"


def test_neither_rows_nor_queue_nor_audit_hold_a_working_link(
    app_context: Flask, sink: SmtpSink
) -> None:
    link_id = ask()
    job = queues["default"].jobs[0]
    assert (job.func_name, list(job.args)) == (
        "jobs.registration_links.mail_registration_link",
        [link_id],
    )
    assert row(link_id).token_hash is None
    registration_links.mail_link(link_id)
    token = token_in(sink)
    with db.engine.connect() as connection:
        for table in db.metadata.sorted_tables:
            assert token not in repr(connection.execute(sa.select(table)).all()), table.name
    hashed = row(link_id).token_hash
    assert hashed
    with pytest.raises(DeadLink):
        registration_links.use_link(hashed)


def test_no_more_than_five_links_an_hour_go_to_one_address(app_context: Flask) -> None:
    for number in range(5):
        ask(ADA.upper() if number % 2 else ADA)
    assert registration_links.request_link(ADA) is None
    assert ask("bob@harbour.example")
    shift(requested_at=timedelta(minutes=61))
    assert ask()


def test_many_who_ask_at_once_get_five_links(app_context: Flask) -> None:
    def wish(number: int) -> Callable[[], object]:
        return lambda: registration_links.request_link(ADA, address=f"192.0.2.{number}")

    results = at_once(app_context, [wish(number) for number in range(12)])
    assert not [each for each in results if isinstance(each, Exception)]
    assert results.count(None) == 7
    count = sa.select(sa.func.count()).select_from(RegistrationLink)
    assert db.session.scalar(count) == 5


def test_an_invitation_does_not_use_up_the_links_of_its_address(app_context: Flask) -> None:
    for _ in range(5):
        make_invitation(email=ADA)
    assert ask()


def test_a_network_that_asks_for_many_has_to_wait_and_others_need_not(app_context: Flask) -> None:
    for number in range(20):
        ask(f"name{number}@harbour.example", address=f"2001:db8::{number:x}")
    with pytest.raises(Throttled) as caught:
        ask("one.more@harbour.example", address="2001:db8::ffff")
    assert caught.value.retry_after >= 1
    assert ask("elsewhere@harbour.example", address="2001:db8:0:1::1")


def test_every_address_costs_the_same(app_context: Flask) -> None:
    """The same statements in the same order, so that not even a clock tells them apart."""
    make_prospect("known@harbour.example")
    make_prospect("barred@harbour.example", status=UserStatus.SUSPENDED)
    save(Suppression(email_key="returned@harbour.example", reason="bounced"))
    make_user(role=Role.OPERATOR, email="staff@harbour.example")
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    def statements_for(name: str) -> list[str]:
        db.session.remove()
        statements.clear()
        ask(f"{name}@harbour.example", address="192.0.2.7")
        return list(statements)

    statements_for("first")  # The first of a network is counted anew.
    sa.event.listen(db.engine, "before_cursor_execute", note)
    try:
        unknown = statements_for("unknown")
        for name in ("known", "barred", "returned", "staff"):
            assert statements_for(name) == unknown, name
    finally:
        sa.event.remove(db.engine, "before_cursor_execute", note)
    assert unknown


@pytest.mark.parametrize(
    "email",
    [
        "",
        " ",
        "ada",
        "ada@",
        "@harbour.example",
        "ada@harbour",
        "ada@@harbour.example",
        "ada@harbour.example\nBcc: b@c.example",
        "ada@har\0bour.example",
        "\ud800@harbour.example",
        "ada@\ud800.example",
        "a" * 300 + "@harbour.example",
        "a@" + "b" * 400 + ".example",
        "x" * 100_000,
        "<script>@harbour.example",
        "ada@[192.0.2.1]",
        '"a b"@harbour.example',
        "\ufdfa" * 40 + "@harbour.example",
    ],
)
@one_database
def test_what_is_no_address_is_refused_at_its_field(app_context: Flask, email: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        registration_links.request_link(email)
    assert caught.value.field == "email"
    assert db.session.scalars(sa.select(RegistrationLink)).all() == []


@pytest.mark.parametrize(
    "email", ["jürgen@müller.example", "用户@例子.example", "O'Hara+x@a-b.example"]
)
def test_addresses_of_all_the_world_get_in(app_context: Flask, sink: SmtpSink, email: str) -> None:
    entered = enter(sink, email)
    assert fold(entered.user.email) == fold(email)
    assert enter(sink, email).user.id == entered.user.id


# --- Mailing -------------------------------------------------------------------------------------


@by_mode
@one_database
def test_who_is_mailed_when_registration_is_open_by_invitation_or_closed(
    app_context: Flask, sink: SmtpSink, mode: str
) -> None:
    make_prospect("known@harbour.example")
    invited = make_invitation(email="invited@harbour.example", mailed_at=None)
    for name in ("known", "unknown"):
        registration_links.mail_link(ask(f"{name}@harbour.example"))
    registration_links.mail_link(invited.id)
    wanted = {
        "open": {"known", "unknown", "invited"},
        "invitation": {"known", "invited"},
        "closed": {"known"},
    }
    assert {each.recipient.partition("@")[0] for each in sink.mails} == wanted[mode]


def test_who_must_not_get_mail_gets_none(app_context: Flask, sink: SmtpSink) -> None:
    save(Suppression(email_key="returned@harbour.example", reason="It does not exist."))
    make_prospect("barred@harbour.example", status=UserStatus.SUSPENDED)
    make_prospect("deleted@harbour.example", status=UserStatus.DELETED)
    for name in ("Returned", "barred", "deleted"):
        link_id = ask(f"{name}@harbour.example")
        assert not registration_links.mail_link(link_id)
        assert row(link_id).ended_at is not None
    assert sink.mails == []
    assert registration_links.list_unmailed() == []


def test_a_links_time_begins_when_it_is_mailed(app_context: Flask, sink: SmtpSink) -> None:
    wish, invitation = ask(), make_invitation(mailed_at=None).id
    shift(requested_at=timedelta(minutes=50), expires_at=timedelta(minutes=-10))
    for link_id in (wish, invitation):
        assert registration_links.mail_link(link_id)
    left = row(wish).expires_at - utcnow()
    assert timedelta(minutes=59) < left <= timedelta(minutes=60)
    left = row(invitation).expires_at - utcnow()
    assert timedelta(days=13, hours=23) < left <= timedelta(days=14)


def test_a_link_waits_while_the_server_is_busy_and_is_found_again(
    app_context: Flask, sink: SmtpSink
) -> None:
    link_id = ask()
    sink.refuse(None, 451, "Come back later", times=1)
    with pytest.raises(MailDelayed):
        registration_links.mail_link(link_id)
    assert "Come back later" in row(link_id).answer
    assert registration_links.list_unmailed() == [], "asked again at once"
    shift(claimed_at=timedelta(minutes=6))
    assert registration_links.list_unmailed() == [link_id]
    assert registration_links.mail_link(link_id)
    assert row(link_id).answer == ""
    assert not registration_links.mail_link(link_id), "mailed twice"
    assert len(sink.mails) == 1


def test_a_link_waits_while_the_server_is_down(app_context: Flask, sink: SmtpSink) -> None:
    link_id = ask()
    sink.stop()
    with pytest.raises(ServerUnavailable):
        registration_links.mail_link(link_id)
    assert registration_links.list_unmailed() == [link_id]


def test_a_link_that_is_refused_for_good_ends_with_the_servers_words(
    app_context: Flask, sink: SmtpSink
) -> None:
    link_id = ask()
    sink.refuse(ADA, 550, "5.1.1 No such mailbox")
    assert not registration_links.mail_link(link_id)
    assert "No such mailbox" in row(link_id).answer
    assert row(link_id).ended_at is not None
    assert registration_links.list_unmailed() == []


def test_a_wish_is_tried_for_an_hour_and_an_invitation_for_a_day(app_context: Flask) -> None:
    wish, invitation = ask(), make_invitation(mailed_at=None).id
    assert set(registration_links.list_unmailed()) == {wish, invitation}
    shift(requested_at=timedelta(minutes=61))
    assert registration_links.list_unmailed() == [invitation]
    assert not registration_links.mail_link(wish)
    shift(requested_at=timedelta(hours=25))
    assert registration_links.list_unmailed() == []


def test_after_a_crash_only_the_newest_mail_works(app_context: Flask, sink: SmtpSink) -> None:
    link_id = ask()
    registration_links.mail_link(link_id)
    first = token_in(sink)
    db.session.execute(
        sa.update(RegistrationLink).values(
            mailed_at=None, claimed_at=utcnow() - timedelta(minutes=6)
        )
    )
    db.session.commit()
    assert registration_links.list_unmailed() == [link_id]
    assert registration_links.mail_link(link_id)
    assert "not known" in why_dead(first)
    registration_links.use_link(token_in(sink))


def test_one_job_at_a_time_mails_a_link(app_context: Flask, sink: SmtpSink) -> None:
    link_id = ask()
    results = at_once(app_context, [lambda: registration_links.mail_link(link_id)] * 4)
    assert sorted(results, key=str) == [False, False, False, True]
    assert len(sink.mails) == 1


def test_a_link_that_was_used_before_its_mail_was_recorded_is_not_mailed_again(
    app_context: Flask, sink: SmtpSink
) -> None:
    """The server's answer hangs, while the reader is there already."""
    link_id = ask()
    db.session.commit()
    sink.hang(Stage.END)

    def work() -> None:
        with app_context.app_context():
            registration_links.mail_link(link_id)

    worker = threading.Thread(target=work)
    worker.start()
    sink.wait_until_hanging()
    db.session.execute(sa.update(RegistrationLink).values(used_at=utcnow()))
    db.session.commit()
    sink.release()
    worker.join()
    shift(claimed_at=timedelta(minutes=6))
    assert registration_links.list_unmailed() == []
    assert not registration_links.mail_link(link_id)


# --- Using ---------------------------------------------------------------------------------------


def test_the_first_use_makes_the_prospect_and_the_next_finds_him(
    app_context: Flask, sink: SmtpSink
) -> None:
    entered = enter(sink)
    user = entered.user
    assert (user.role, user.login, user.email) == (Role.PROSPECT, f"prospect:{ADA}", ADA)
    assert (user.full_name, user.shown_login) == (ADA, ADA)
    assert user.password_hash is None
    assert user.last_sign_in_at is not None
    assert entered.invitation_id is None
    session = sign_ins.find_session(entered.token)
    assert session is not None
    assert session.user_id == user.id
    again = enter(sink, ADA.upper().replace("HARBOUR.EXAMPLE", "harbour.example"))
    assert again.user.id == user.id
    assert sign_ins.find_session(entered.token) is not None
    events = list(db.session.scalars(sa.select(AuditEvent.action).order_by(AuditEvent.id)))
    used = ["registration_link.requested", "sign_in.succeeded", "registration_link.used"]
    assert events == [used[0], "prospect.created", *used[1:], *used]


def test_looking_at_a_link_does_not_spend_it(app_context: Flask, sink: SmtpSink) -> None:
    token = mail(sink)
    for _ in range(3):
        assert registration_links.get_link(token).email == ADA
    registration_links.use_link(token)
    assert why_dead(token) == "It has been used. Each link signs in once."


def test_a_link_gets_one_session_however_many_press_at_once(
    app_context: Flask, sink: SmtpSink
) -> None:
    token = mail(sink)
    results = at_once(app_context, [lambda: registration_links.use_link(token)] * 5)
    assert sum(isinstance(each, Entered) for each in results) == 1
    assert sum(isinstance(each, DeadLink) for each in results) == 4
    assert len(db.session.scalars(sa.select(SignInSession)).all()) == 1
    assert len(db.session.scalars(sa.select(User).where(User.role == Role.PROSPECT)).all()) == 1


def test_two_links_of_a_newcomer_at_once_make_one_account(
    app_context: Flask, sink: SmtpSink
) -> None:
    tokens = [mail(sink), mail(sink)]
    results = at_once(app_context, [partial(registration_links.use_link, each) for each in tokens])
    entered = [each for each in results if isinstance(each, Entered)]
    assert entered
    assert all(isinstance(each, Entered | DeadLink) for each in results), results
    assert len(db.session.scalars(sa.select(User).where(User.role == Role.PROSPECT)).all()) == 1


def test_using_a_link_ends_the_others_that_were_asked_for(
    app_context: Flask, sink: SmtpSink
) -> None:
    first, other = mail(sink), mail(sink, "bob@harbour.example")
    invitation = make_invitation(email=ADA, mailed_at=None)
    registration_links.mail_link(invitation.id)
    invited = token_in(sink)
    waiting = ask()
    enter(sink)
    assert "used since" in why_dead(first)
    assert not registration_links.mail_link(waiting)
    registration_links.use_link(other)
    registration_links.use_link(invited)  # An invitation is not a wish.


def test_links_that_are_old_unknown_or_nonsense_are_dead(
    app_context: Flask, sink: SmtpSink
) -> None:
    token = mail(sink)
    shift(expires_at=timedelta(seconds=1))
    assert why_dead(token) == "It is too old."
    for nonsense in ("", "x", "\0", "\ud800", "x" * 100_000, token.swapcase(), token + "="):
        assert "not known" in why_dead(nonsense)


@by_mode
@one_database
def test_who_gets_in_when_the_setting_changes_under_a_link(
    app_context: Flask, sink: SmtpSink, mode: str
) -> None:
    def link_to(name: str, **values: Any) -> str:
        token = f"token-of-{name}"
        email = f"{name}@harbour.example"
        save(
            RegistrationLink(
                email=email,
                email_key=email,
                token_hash=registration_links._hash(token),
                expires_at=utcnow() + timedelta(hours=1),
                **values,
            )
        )
        return token

    make_prospect("known@harbour.example")
    inviter = find_user("operator@foyer.example").id
    tokens = {
        "known": link_to("known"),
        "unknown": link_to("unknown"),
        "invited": link_to("invited", invited_by_id=inviter),
    }
    allowed = {
        "open": {"known", "unknown", "invited"},
        "invitation": {"known", "invited"},
        "closed": {"known"},
    }[mode]
    for name, token in tokens.items():
        if name in allowed:
            registration_links.get_link(token)
            registration_links.use_link(token)
        else:
            assert "invitation" in (why := why_dead(token)) or "closed" in why
    made = db.session.scalars(sa.select(User.email).where(User.role == Role.PROSPECT))
    assert {email.partition("@")[0] for email in made} == allowed | {"known"}


def test_a_suspended_prospect_is_neither_signed_in_nor_stays_so(
    app_context: Flask, sink: SmtpSink
) -> None:
    entered = enter(sink)
    token = mail(sink)
    entered.user.status = UserStatus.SUSPENDED
    db.session.commit()
    assert "stopped" in why_dead(token)
    assert sign_ins.find_session(entered.token) is None
    entered.user.status = UserStatus.ACTIVE
    db.session.commit()
    registration_links.use_link(token)  # The refusal has not spent it.


def test_an_account_belongs_to_one_mailbox_and_to_none_that_is_written_almost_the_same(
    app_context: Flask, sink: SmtpSink
) -> None:
    """Folded keys are equal; mail to the one does not come to the other."""
    mine, others = "gross@harbour.example", "groß@harbour.example"
    assert fold(mine) == fold(others)
    early = mail(sink, others)
    entered = enter(sink, mine)
    assert "almost the same" in why_dead(early) or "used since" in why_dead(early)
    late = ask(others)
    assert not registration_links.mail_link(late)
    assert sink.mails[-1].recipient == mine
    invitation = make_invitation(email=others, mailed_at=None)
    assert not registration_links.mail_link(invitation.id)
    assert enter(sink, mine).user.id == entered.user.id


def test_two_mailboxes_with_one_key_at_once_get_one_account(
    app_context: Flask, sink: SmtpSink
) -> None:
    tokens = [mail(sink, "gross@harbour.example"), mail(sink, "groß@harbour.example")]
    results = at_once(app_context, [partial(registration_links.use_link, each) for each in tokens])
    entered = [each for each in results if isinstance(each, Entered)]
    assert len(entered) == 1, results
    [account] = db.session.scalars(sa.select(User).where(User.role == Role.PROSPECT))
    assert account.email == entered[0].user.email


def test_an_account_made_between_the_look_and_the_making_is_not_anothers(
    app_context: Flask,
) -> None:
    """What the race above meets now and then, always."""
    link = row(ask("groß@harbour.example"))
    make_prospect("gross@harbour.example")
    with pytest.raises(DeadLink):
        registration_links._make_prospect(link, "")


def test_a_session_is_replaced_by_the_one_of_the_link(app_context: Flask, sink: SmtpSink) -> None:
    operator = find_user("operator@foyer.example")
    before = sign_ins.begin_session(operator)
    db.session.commit()
    registration_links.use_link(mail(sink), replaces=before)
    assert sign_ins.find_session(before) is None


def test_a_prospect_has_no_password_and_gets_none(app_context: Flask) -> None:
    prospect = make_prospect(password=PASSWORD)
    assert reset_links.request_reset(prospect.login) is None
    with pytest.raises(InvalidInput):
        sign_ins.sign_in(prospect.login, PASSWORD)


@by_mode
@one_database
def test_what_may_be_begun_is_as_the_setting_says(
    app_context: Flask, sink: SmtpSink, mode: str
) -> None:
    prospect, invited = make_prospect(), make_prospect("invited@harbour.example")
    make_invitation(email=invited.email, used_at=utcnow())
    allowed = {"open": {ADA, invited.email}, "invitation": {invited.email}, "closed": set()}[mode]
    for user in (prospect, invited):
        if user.email in allowed:
            registration_drafts.start_draft(Actor.from_user(user))
        else:
            with pytest.raises(Conflict):
                registration_drafts.start_draft(Actor.from_user(user))
    staff = Actor.from_user(find_user("operator@foyer.example"))
    registration_drafts.start_draft(staff)


# --- Cleaning up ---------------------------------------------------------------------------------


def test_what_is_of_no_use_any_more_is_forgotten(app_context: Flask) -> None:
    day = timedelta(days=1)
    old = ask("old@harbour.example")
    accepted = make_invitation(used_at=utcnow() - 200 * day).id
    lapsed = make_invitation().id
    shift(requested_at=2 * day, expires_at=91 * day)
    young = ask("young@harbour.example")
    recent = make_invitation(expires_at=utcnow() - 80 * day).id
    registration_links.delete_stale_links()
    kept = set(db.session.scalars(sa.select(RegistrationLink.id)))
    assert kept == {accepted, young, recent}
    assert not {old, lapsed} & kept


def test_an_invitation_that_no_server_took_for_a_day_has_failed(app_context: Flask) -> None:
    silent = make_invitation(mailed_at=None)
    busy = make_invitation(mailed_at=None, answer="451 Greylisted")
    mailed = make_invitation()
    shift(requested_at=timedelta(hours=25))
    fresh = make_invitation(mailed_at=None)
    registration_links.delete_stale_links()
    states = {
        each.id: row(each.id).state_at(utcnow()).value for each in (silent, busy, mailed, fresh)
    }
    assert list(states.values()) == ["failed", "failed", "mailed", "waiting"]
    assert row(busy.id).answer == "451 Greylisted"
    assert "within a day" in row(silent.id).answer
