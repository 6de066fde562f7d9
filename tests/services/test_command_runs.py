"""Command runs: run once, all of it or nothing; steering, history, and who sees a mailing."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import (
    AuditEvent,
    CommandRunState,
    CommandSource,
    Customer,
    CustomerBundle,
    CustomerStatus,
    Delivery,
    EmailTemplate,
    EmailTemplateVersion,
    Group,
    Lane,
    Mailing,
    MailingCustomer,
    MailingState,
    Role,
    SkipReason,
    TemplateKind,
    User,
    UserStatus,
    utcnow,
)
from services import command_runs, mailing_controls, mailings
from services.actors import Actor
from services.command_plans import (
    MailingStatus,
    Steering,
    SteeringAction,
)
from services.email_templates import get_current_version
from services.errors import Forbidden, NotFound
from tests.support.commands import (
    ENTRY,
    RESEND,
    SEND,
    STANDARD,
    WELCOME_CQ002,
    WELCOME_CQ101,
    again,
    count,
    delete_customer,
    errors_of,
    find_user_of,
    forget_recent_mails,
    mailing_of,
    make_staff,
    skipped_of,
    submit,
    submit_and_run,
)
from tests.support.factories import (
    actor_for,
    find_customer,
    find_user,
    make_template,
    make_welcome,
    save,
)


@pytest.fixture
def operator(app_context: Flask) -> Actor:
    return actor_for("operator@foyer.example")


@pytest.fixture
def landlord(app_context: Flask) -> Actor:
    return actor_for("landlord@foyer.example")


# --- Running --------------------------------------------------------------------------------------


def test_running_freezes_mailings_with_customers_lane_and_origin(operator: Actor) -> None:
    run = submit_and_run(operator, f"{RESEND} {ENTRY}|CQ001;CQ002", "", WELCOME_CQ101)
    assert run.state is CommandRunState.DONE
    assert run.ran_at is not None
    wide, narrow = mailing_of(run, 1), mailing_of(run, 3)
    assert wide.customer_id is None
    assert narrow.customer_id == find_customer("CQ101").id
    for mailing, web_ids in ((wide, {"CQ001", "CQ002"}), (narrow, {"CQ101"})):
        assert mailing.lane is Lane.BULK
        assert mailing.created_by_id == operator.user_id
        assert mailing.state is MailingState.RUNNING
        named = sa.select(Customer.web_id).join(
            MailingCustomer, MailingCustomer.customer_id == Customer.id
        )
        found = db.session.scalars(named.where(MailingCustomer.mailing_id == mailing.id))
        assert set(found) == web_ids
    assert {mailing.id for mailing in command_runs.started_mailings(run)} == {wide.id, narrow.id}
    outcome = command_runs.outcome_of(run)
    assert [line.mailing_id for line in outcome.lines] == [wide.id, narrow.id]
    assert outcome.recipients == 67 + 12


def test_what_is_done_is_audited_without_secrets(operator: Actor) -> None:
    run = submit_and_run(operator, WELCOME_CQ002, WELCOME_CQ101)
    events = db.session.scalars(sa.select(AuditEvent).order_by(AuditEvent.id)).all()
    assert [event.action for event in events] == [
        "mailing.confirmed",
        "mailing.confirmed",
        "command.run",
    ]
    assert [event.detail.get("command_run") for event in events[:2]] == [run.id, run.id]
    assert events[-1].object_id == run.id
    assert events[-1].detail["recipients"] == 42
    assert {event.actor_login for event in events} == {operator.login}


def test_pressing_run_again_runs_nothing_again(operator: Actor) -> None:
    run = submit_and_run(operator, WELCOME_CQ002)
    same = command_runs.run(operator, run.id)
    assert (same.id, same.state, same.ran_at) == (run.id, run.state, run.ran_at)
    assert count(Mailing) == 1
    assert count(AuditEvent, AuditEvent.action == "command.run") == 1


def test_run_pressed_at_the_same_moment_runs_once(app_context: Flask, operator: Actor) -> None:
    run_id = submit(operator, WELCOME_CQ002, WELCOME_CQ101).id
    gate = threading.Barrier(4)
    states: list[CommandRunState] = []
    failures: list[BaseException] = []

    def press() -> None:
        with app_context.app_context():
            gate.wait()
            try:
                states.append(command_runs.run(operator, run_id).state)
            except BaseException as error:  # noqa: BLE001
                failures.append(error)

    threads = [threading.Thread(target=press) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert states == [CommandRunState.DONE] * 4
    assert count(Mailing) == 2
    assert count(Delivery) == 42
    assert count(AuditEvent, AuditEvent.action == "command.run") == 1


def test_only_who_submitted_it_can_run_it(operator: Actor, landlord: Actor) -> None:
    run = submit(operator, WELCOME_CQ002)
    assert command_runs.may_run(operator, run)
    assert not command_runs.may_run(landlord, run)
    with pytest.raises(Forbidden):
        command_runs.run(landlord, run.id)
    assert count(Mailing) == 0
    done = command_runs.run(operator, run.id)
    assert not command_runs.may_run(operator, done)


def unassign(web_id: str) -> None:
    customer_id = find_customer(web_id).id
    db.session.execute(sa.delete(User).where(User.customer_id == customer_id))
    db.session.execute(sa.delete(CustomerBundle).where(CustomerBundle.customer_id == customer_id))
    db.session.commit()


def suspend(web_id: str) -> None:
    find_customer(web_id).status = CustomerStatus.SUSPENDED
    db.session.commit()


def archive_welcome(_web_id: str) -> None:
    template = db.session.scalars(
        sa.select(EmailTemplate).where(EmailTemplate.kind == TemplateKind.WELCOME)
    ).one()
    template.archived_at = utcnow()
    db.session.commit()


def give_another_welcome(web_id: str) -> None:
    make_welcome(find_customer(web_id))


def leave_the_group(_web_id: str) -> None:
    operator = find_user("operator@foyer.example")
    operator.all_groups = False
    db.session.commit()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (unassign, "CQ101 does not have the bundle"),
        (suspend, "All 12 users: 12 suspended."),
        (delete_customer, "There is no customer “CQ101”."),
        (archive_welcome, "does not have a welcome e-mail"),
        (give_another_welcome, "which the dry run did not show"),
    ],
)
def test_what_has_changed_since_the_dry_run_stops_all_of_it(
    operator: Actor, change: Any, message: str
) -> None:
    """The first command could still run; it must not, when the second cannot."""
    run = submit(operator, WELCOME_CQ002, WELCOME_CQ101)
    change("CQ101")
    events = count(AuditEvent)
    refused = command_runs.run(operator, run.id)
    assert refused.state is CommandRunState.REFUSED
    assert refused.ran_at is not None
    outcome = command_runs.outcome_of(refused)
    assert outcome.lines == ()
    assert any(message in error.message for error in outcome.errors)
    assert command_runs.started_mailings(refused) == []
    assert count(Mailing) == count(Delivery) == count(MailingCustomer) == 0
    assert count(AuditEvent) == events + 1
    assert command_runs.run(operator, run.id).state is CommandRunState.REFUSED


def test_who_has_lost_the_group_cannot_run_it(operator: Actor) -> None:
    run = submit(operator, WELCOME_CQ002)
    leave_the_group("")
    refused = command_runs.run(actor_for("operator@foyer.example"), run.id)
    assert refused.state is CommandRunState.REFUSED
    assert count(Mailing) == 0


def test_the_mail_that_was_shown_is_the_mail_that_is_sent(operator: Actor) -> None:
    template = make_template(find_customer("CQ002"), name="News")
    run = submit(operator, f"{SEND} News|{ENTRY}|CQ002")
    shown = get_current_version(template)
    save(EmailTemplateVersion(template_id=template.id, number=2))
    command_runs.run(operator, run.id)
    assert mailing_of(run).template_version_id == shown.id


def test_the_outcome_says_when_the_number_has_changed(operator: Actor) -> None:
    run = submit(operator, WELCOME_CQ002)
    user = find_user_of("CQ002")
    user.status = UserStatus.SUSPENDED
    db.session.commit()
    (line,) = command_runs.outcome_of(command_runs.run(operator, run.id)).lines
    assert "goes to 29 users (the dry run said 30)" in line.sentence
    assert "1 suspended" in line.sentence


def test_a_comment_may_hold_what_databases_refuse(operator: Actor) -> None:
    run = submit(operator, "# a\0b\ud800c", "$$HELP$$")
    db.session.expire_all()
    assert run.text == "# a\ufffdb?c\n$$HELP$$"


# --- A newer command to the same users ------------------------------------------------------------


def test_a_command_replaces_older_mails_of_every_customer_it_shares(operator: Actor) -> None:
    older = mailing_of(submit_and_run(operator, f"{RESEND} {ENTRY}|CQ001;CQ002"))
    apart = mailing_of(submit_and_run(operator, WELCOME_CQ101))
    forget_recent_mails()
    newer = mailing_of(submit_and_run(operator, f"{RESEND} {ENTRY}|CQ002;CQ003"))
    assert newer.queued == 50
    older = again(older)
    assert (older.queued, older.state) == (37, MailingState.RUNNING)
    assert skipped_of(older)[SkipReason.REPLACED] == 30
    assert again(apart).queued == 12
    forget_recent_mails()
    submit_and_run(operator, f"{RESEND} {ENTRY}|CQ001")
    assert again(older).state is MailingState.FINISHED


# --- Steering -------------------------------------------------------------------------------------


def test_mailings_are_steered_line_by_line(operator: Actor) -> None:
    mailing = mailing_of(submit_and_run(operator, WELCOME_CQ002))
    run = submit(
        operator,
        f"$$MAILING STATUS$$ {mailing.id}",
        f"$$PAUSE MAILING$$ {mailing.id}",
        f"$$RESUME MAILING$$ {mailing.id}",
    )
    status, pause, resume = (line.result for line in command_runs.plan_of(run).lines)
    assert isinstance(status, MailingStatus)
    assert (status.state, status.total, status.counters["queued"]) == ("running", 30, 30)
    assert isinstance(pause, Steering)
    assert (pause.action, pause.state) == (SteeringAction.PAUSE, MailingState.RUNNING)
    assert isinstance(resume, Steering)
    assert resume.state is MailingState.PAUSED, "as the line above leaves it"
    assert again(mailing).state is MailingState.RUNNING
    done = command_runs.run(operator, run.id)
    assert again(mailing).state is MailingState.RUNNING
    actions = db.session.scalars(sa.select(AuditEvent.action).order_by(AuditEvent.id)).all()
    assert actions[-3:] == ["mailing.paused", "mailing.resumed", "command.run"]
    assert [each.id for each in command_runs.started_mailings(done)] == [mailing.id]


def test_cancelling_by_command_ends_what_waits(operator: Actor) -> None:
    mailing = mailing_of(submit_and_run(operator, WELCOME_CQ002))
    submit_and_run(operator, f"$$CANCEL MAILING$$ {mailing.id}")
    ended = again(mailing)
    assert (ended.state, ended.cancelled, ended.queued) == (MailingState.CANCELLED, 30, 0)
    ((_, marked, message),) = errors_of(operator, f"$$RESUME MAILING$$ {mailing.id}")
    assert marked == str(mailing.id)
    assert message == f"Mailing {mailing.id} is cancelled, so it cannot be resumed."


def test_a_line_that_an_earlier_line_forbids_is_refused(operator: Actor) -> None:
    mailing = mailing_of(submit_and_run(operator, WELCOME_CQ002))
    ((line, _, message),) = errors_of(
        operator, f"$$PAUSE MAILING$$ {mailing.id}\n$$PAUSE MAILING$$ {mailing.id}"
    )
    assert line == 2
    assert message.endswith("It is paused by line 1.")


@pytest.mark.parametrize(
    "above", ["$$RESUM MAILING$$ {0}", "RESUME MAILING {0}", "$$RESUME MAILING$$ {0};"]
)
def test_a_state_is_not_held_against_what_a_line_above_may_have_meant(
    operator: Actor, above: str
) -> None:
    mailing = mailing_of(submit_and_run(operator, WELCOME_CQ002))
    submit_and_run(operator, f"$$PAUSE MAILING$$ {mailing.id}")
    pause = f"$$PAUSE MAILING$$ {mailing.id}"
    ((line, _, _),) = errors_of(operator, f"{above.format(mailing.id)}\n{pause}")
    assert line == 1
    found = errors_of(operator, f"{pause}\n{above.format(mailing.id + 1)}\n{pause}")
    assert [line for line, _, _ in found] == [1, 2, 3]
    (_, _, message) = found[2]
    assert message == f"Mailing {mailing.id} is paused, so it cannot be paused."


def test_a_state_that_changes_before_run_undoes_the_lines_before(operator: Actor) -> None:
    mailing = mailing_of(submit_and_run(operator, WELCOME_CQ002))
    run = submit(operator, WELCOME_CQ101, f"$$PAUSE MAILING$$ {mailing.id}")
    mailing_controls.cancel_mailing(operator, mailing)
    refused = command_runs.run(operator, run.id)
    assert refused.state is CommandRunState.REFUSED
    assert count(Mailing) == 1


def test_an_older_mailing_that_a_line_replaces_whole_cannot_be_paused_after_it(
    operator: Actor,
) -> None:
    older = mailing_of(submit_and_run(operator, WELCOME_CQ002))
    forget_recent_mails()
    run = submit(operator, WELCOME_CQ002, f"$$PAUSE MAILING$$ {older.id}")
    refused = command_runs.run(operator, run.id)
    assert refused.state is CommandRunState.REFUSED
    (error,) = command_runs.outcome_of(refused).errors
    assert (error.line, "is finished" in error.message) == (2, True)
    assert again(older).queued == 30, "nothing was replaced either"


# --- The history ----------------------------------------------------------------------------------


def test_the_history_is_paged_newest_first(operator: Actor, landlord: Actor) -> None:
    ids = [submit(operator, "$$HELP$$").id for _ in range(3)]
    planned = submit(landlord, WELCOME_CQ002).id
    page = command_runs.list_runs(operator, size=2)
    assert [run.id for run in page.rows] == [planned, ids[2]]
    rest = command_runs.list_runs(operator, size=2, cursor=page.next or "")
    assert [run.id for run in rest.rows] == [ids[1], ids[0]]
    of_state = command_runs.list_runs(operator, state=CommandRunState.PLANNED)
    assert [run.id for run in of_state.rows] == [planned]
    mine = command_runs.list_runs(landlord, mine=True)
    assert [run.id for run in mine.rows] == [planned]
    junk = command_runs.list_runs(operator, cursor="junk")
    assert junk.rows[0].id == planned


def test_who_sees_which_runs(operator: Actor, landlord: Actor) -> None:
    direct, northwind = (
        db.session.scalars(sa.select(Group).where(Group.groupno == number)).one()
        for number in (1, 2)
    )
    of_north, other_of_north = (
        make_staff(Role.OPERATOR, northwind),
        make_staff(Role.OPERATOR, northwind),
    )
    of_both = make_staff(Role.OPERATOR, direct, northwind)
    auditor_of_north = make_staff(Role.AUDITOR, northwind)
    auditor_of_both = make_staff(Role.AUDITOR, direct, northwind)
    terminal = Actor.from_terminal("root")
    everywhere = actor_for("auditor@foyer.example")
    runs = {
        actor.login: submit(actor, "$$HELP$$").id
        for actor in (operator, of_north, of_both, terminal)
    }

    def seen(actor: Actor) -> set[str]:
        visible = {run.id for run in command_runs.list_runs(actor, size=100).rows}
        for run_id in runs.values():
            if run_id in visible:
                assert command_runs.get_run(actor, run_id).id == run_id
            else:
                with pytest.raises(NotFound):
                    command_runs.get_run(actor, run_id)
        return {login for login, run_id in runs.items() if run_id in visible}

    for actor in (operator, landlord, terminal, everywhere):
        assert seen(actor) == set(runs)
    assert seen(of_north) == {of_north.login}
    assert seen(other_of_north) == set()
    assert seen(auditor_of_north) == {of_north.login}
    assert seen(auditor_of_both) == {of_north.login, of_both.login}
    admin = actor_for("prpkeAdmin@kenton-electronics.com")
    with pytest.raises(Forbidden):
        command_runs.list_runs(admin)
    with pytest.raises(Forbidden):
        command_runs.get_run(admin, runs[operator.login])


def test_a_terminal_has_no_user_and_is_still_somebody(app_context: Flask) -> None:
    terminal = Actor.from_terminal("root")
    run = command_runs.submit_at_terminal(terminal, WELCOME_CQ002)
    assert (run.actor_id, run.actor_login, run.source) == (
        None,
        "terminal:root",
        CommandSource.TERMINAL,
    )
    with pytest.raises(Forbidden):
        command_runs.run(Actor.from_terminal("other"), run.id)
    command_runs.run(terminal, run.id)
    assert mailing_of(run).author == "terminal:root"
    event = db.session.scalars(
        sa.select(AuditEvent).where(AuditEvent.action == "command.run")
    ).one()
    assert (event.actor_id, event.actor_login) == (None, "terminal:root")


# --- Who sees a mailing ---------------------------------------------------------------------------


def test_a_customer_sees_a_commands_mailing_only_when_it_is_his_alone(operator: Actor) -> None:
    wide = mailing_of(submit_and_run(operator, f"{RESEND} {ENTRY}|CQ001;CQ002"))
    alone = mailing_of(submit_and_run(operator, f"{RESEND} {STANDARD}|CQ001"))
    admin, kenton = actor_for("prpkeAdmin@kenton-electronics.com"), find_customer("CQ001")
    assert [each.id for each in mailings.list_mailings(admin, kenton).rows] == [alone.id]
    assert mailings.get_mailing(admin, kenton, alone.id).id == alone.id
    with pytest.raises(NotFound):
        mailings.get_mailing(admin, kenton, wide.id)
    for act in (
        lambda: mailings.get_staff_mailing(admin, alone.id),
        lambda: mailings.list_staff_mailings(admin),
    ):
        with pytest.raises(Forbidden):
            act()
    for staff in (operator, actor_for("auditor@foyer.example")):
        assert mailings.get_staff_mailing(staff, wide.id).id == wide.id
        listed = [each.id for each in mailings.list_staff_mailings(staff).rows]
        assert listed == [alone.id, wide.id]
    mailing_controls.pause_mailing(operator, wide)
    assert again(wide).state is MailingState.PAUSED


def test_staff_of_a_group_sees_mailings_of_its_customers_alone(operator: Actor) -> None:
    north = db.session.scalars(sa.select(Group).where(Group.groupno == 2)).one()
    both = mailing_of(submit_and_run(operator, f"{RESEND} {STANDARD}|CQ001;CQ101"))
    forget_recent_mails()
    alone = mailing_of(submit_and_run(operator, WELCOME_CQ101))
    delete_customer("CQ101")
    staff = make_staff(Role.OPERATOR, north)
    assert [each.id for each in mailings.list_staff_mailings(staff).rows] == [alone.id]
    assert mailings.get_staff_mailing(staff, alone.id).id == alone.id
    with pytest.raises(NotFound):
        mailings.get_staff_mailing(staff, both.id)
    assert mailings.list_staff_mailings(make_staff(Role.OPERATOR)).rows == []
