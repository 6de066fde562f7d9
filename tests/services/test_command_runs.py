"""Command runs: checked as a whole, shown before, run once, and all of it or nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import (
    AuditEvent,
    CommandRun,
    CommandRunState,
    CommandSource,
    Customer,
    CustomerBundle,
    CustomerEmailTemplate,
    CustomerStatus,
    Delivery,
    DeliveryState,
    EmailTemplate,
    EmailTemplateText,
    EmailTemplateVersion,
    Group,
    Lane,
    Mailing,
    MailingCustomer,
    MailingState,
    Role,
    SkipReason,
    Suppression,
    TemplateKind,
    User,
    UserStatus,
    table_of,
    utcnow,
)
from services import command_runs, mailing_controls, mailings
from services.actors import Actor
from services.command_language import MAX_ERRORS, CommandErrors
from services.command_plans import (
    CommandKind,
    Listing,
    MailingPlan,
    MailingStatus,
    Outcome,
    Plan,
    Steering,
    SteeringAction,
)
from services.email_templates import get_current_version
from services.errors import Forbidden, InvalidInput, NotFound
from tests.support.commands import (
    ENTRY,
    PREMIUM,
    STANDARD,
    errors_of,
    make_staff,
    only_mailing,
    submit,
    submit_and_run,
)
from tests.support.factories import (
    actor_for,
    find_customer,
    find_user,
    make_bundle,
    make_customer,
    make_group,
    make_template,
    make_user,
    make_welcome,
    save,
)

RESEND = "$$RESEND WELCOME EMAIL$$"
SEND = "$$SEND EMAIL$$"
WELCOME_CQ002 = f"{RESEND} {ENTRY}|CQ002"


@pytest.fixture
def operator(app_context: Flask) -> Actor:
    return actor_for("operator@foyer.example")


@pytest.fixture
def landlord(app_context: Flask) -> Actor:
    return actor_for("landlord@foyer.example")


def count(model: Any, *conditions: Any) -> int:
    db.session.rollback()
    query = sa.select(sa.func.count()).select_from(model).where(*conditions)
    return db.session.scalar(query) or 0


def mailing_of(run: CommandRun, line: int = 1) -> Mailing:
    db.session.rollback()
    query = sa.select(Mailing).where(Mailing.command_run_id == run.id, Mailing.command_line == line)
    return db.session.scalars(query.execution_options(populate_existing=True)).one()


def again(mailing: Mailing) -> Mailing:
    db.session.rollback()
    return db.session.get_one(Mailing, mailing.id, populate_existing=True)


def recipients_of(mailing: Mailing) -> set[str]:
    query = (
        sa.select(User.login)
        .join(Delivery, Delivery.user_id == User.id)
        .where(Delivery.mailing_id == mailing.id, Delivery.state == DeliveryState.QUEUED)
    )
    return set(db.session.scalars(query))


def skipped_of(mailing: Mailing) -> dict[SkipReason, int]:
    return mailings.count_skipped(mailing)


def forget_recent_mails() -> None:
    db.session.execute(sa.update(Delivery).values(created_at=utcnow() - timedelta(hours=1)))
    db.session.commit()


@contextmanager
def counted_statements() -> Iterator[list[str]]:
    seen: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        seen.append(statement)

    sa.event.listen(db.engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        sa.event.remove(db.engine, "before_cursor_execute", note)


# --- The rules ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{RESEND} {ENTRY}|CQ001", 37),
        (f"{RESEND} {ENTRY}|CQ001;CQ002;CQ003", 37 + 30 + 20),
        (f"{RESEND} {ENTRY};{STANDARD} |CQ001;CQ002;CQ003", 37 + 20 + 30 + 20),
        (f"$$resend  welcome email$$ {ENTRY} | CQ002 ; CQ002", 30),
        (f"{RESEND} {ENTRY};{ENTRY}|CQ002", 30),
        (f"{RESEND} {ENTRY};{STANDARD};{PREMIUM}|CQ001;CQ003", 37 + 20 + 20 + 10),
        (f"{SEND} Voicemail update|{STANDARD}|CQ001", 20),
        (f"{SEND} Welcome|{ENTRY}|CQ001;CQ002", 67),
        (f"{SEND} Password reset|{ENTRY}|CQ002;CQ003", 50),
    ],
)
def test_what_the_rules_allow_is_counted(operator: Actor, text: str, expected: int) -> None:
    assert command_runs.check(operator, text).recipients == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            f"{RESEND} {STANDARD}|CQ001;CQ002;CQ003",
            [
                (1, "CQ002", f"CQ002 does not have the bundle {STANDARD}. Assign it, or leave"),
                (1, "CQ003", f"CQ003 does not have the bundle {STANDARD}. Assign it, or leave"),
            ],
        ),
        (
            f"{RESEND} {ENTRY};{PREMIUM}|CQ001",
            [(1, PREMIUM, f"CQ001 does not have the bundle {PREMIUM}. Assign it, or leave")],
        ),
        (
            f"{RESEND} {ENTRY};{PREMIUM}|CQ001;CQ002",
            [(1, PREMIUM, f"Neither CQ001 nor CQ002 has the bundle {PREMIUM}.")],
        ),
        (
            f"{RESEND} {ENTRY};{PREMIUM}|CQ001;CQ002;CQ101",
            [(1, PREMIUM, f"None of CQ001, CQ002 and CQ101 has the bundle {PREMIUM}.")],
        ),
        (
            f"{RESEND} {ENTRY};{PREMIUM}|CQ001;CQ999",
            [(1, "CQ999", "There is no customer “CQ999”.")],
        ),
        (
            f"{RESEND} {ENTRY}|cq001",
            [(1, "cq001", "There is no customer “cq001”. Did you mean “CQ001”?")],
        ),
        (
            f"{RESEND} {ENTRY}|Harborlight",
            [(1, "Harborlight", "There is no customer “Harborlight”. Did you mean “CQ002”?")],
        ),
        (
            f"{RESEND} entry3phonenextgenbundle|CQ001",
            [(1, "entry3phonenextgenbundle", f"Did you mean “{ENTRY}”?")],
        ),
        (
            f"{RESEND} Nothing like it|CQ001",
            [(1, "Nothing like it", "There is no bundle “Nothing like it”.")],
        ),
        (
            f"{SEND} voicemail update|{ENTRY}|CQ001",
            [(1, "voicemail update", "Did you mean “Voicemail update”?")],
        ),
        (
            f"{SEND} Voicemail update|{ENTRY}|CQ001;CQ002",
            [(1, "CQ002", "CQ002 does not have the e-mail template “Voicemail update”.")],
        ),
        ("$$MAILING STATUS$$ 99", [(1, "99", "There is no mailing 99.")]),
        ("$$PAUSE MAILING$$ 9223372036854775807", [(1, "9223372036854775807", "no mailing")]),
        ("$$LIST BUNDLES$$ CQ001;CQ998", [(1, "CQ998", "no customer")]),
        ("$$LIST CUSTOMERS$$ Entry", [(1, "Entry", f"Did you mean “{ENTRY}”?")]),
        (
            f"# first\n{RESEND} X|CQ001\n\n$$RESUME MAILING$$ 5\n{SEND} Y|{ENTRY};Z|CQ997",
            [
                (2, "X", "no bundle"),
                (4, "5", "no mailing"),
                (5, "Y", "no e-mail template"),
                (5, "Z", "no bundle"),
                (5, "CQ997", "no customer"),
            ],
        ),
        (f"{RESEND} {ENTRY}\n{RESEND} {ENTRY}|CQ999", [(1, ENTRY, "missing")]),
    ],
)
def test_every_error_is_told_at_its_place(
    operator: Actor, text: str, expected: list[tuple[int, str, str]]
) -> None:
    found = errors_of(operator, text)
    assert [error[:2] for error in found] == [error[:2] for error in expected]
    for (_, _, message), (_, _, part) in zip(found, expected, strict=True):
        assert part in message
    assert count(CommandRun) == count(Mailing) == 0


def test_a_refused_text_leaves_nothing_behind(operator: Actor) -> None:
    with pytest.raises(CommandErrors):
        submit(operator, WELCOME_CQ002, f"{RESEND} {ENTRY}|CQ999")
    assert count(CommandRun) == count(Mailing) == count(AuditEvent) == 0


def test_a_great_many_errors_are_told_up_to_the_limit(operator: Actor) -> None:
    names = ";".join(f"X{number}" for number in range(MAX_ERRORS + 5))
    found = errors_of(operator, f"{RESEND} {ENTRY}|{names}")
    assert len(found) == MAX_ERRORS + 1
    assert "more than 1,000 errors" in found[-1][2]


@pytest.mark.parametrize("text", ["", "   ", "\n# only a comment\n\n"])
def test_a_text_without_commands_is_refused(operator: Actor, text: str) -> None:
    with pytest.raises(InvalidInput, match=r"\$\$HELP\$\$ lists") as caught:
        command_runs.check(operator, text)
    assert caught.value.field == "text"


def test_a_text_that_is_too_long_is_refused(operator: Actor) -> None:
    with pytest.raises(InvalidInput, match="500,001 characters"):
        command_runs.check(operator, "#" * 500_001)


def test_an_archived_template_cannot_be_sent(operator: Actor) -> None:
    template = make_template(find_customer("CQ001"), name="Old news")
    template.archived_at = utcnow()
    db.session.commit()
    ((_, marked, message),) = errors_of(operator, f"{SEND} Old news|{ENTRY}|CQ001")
    assert (marked, message) == ("Old news", "The e-mail template “Old news” is archived.")


def test_a_template_that_cannot_be_written_is_an_error_and_no_crash(operator: Actor) -> None:
    template = make_template(find_customer("CQ002"), name="Broken")
    db.session.execute(
        sa.update(EmailTemplateText)
        .where(EmailTemplateText.version_id == get_current_version(template).id)
        .values(text="((no such placeholder))")
    )
    db.session.commit()
    ((_, marked, message),) = errors_of(operator, f"{SEND} Broken|{ENTRY}|CQ002")
    assert marked == "Broken"
    assert "cannot be sent" in message


def test_customers_without_a_welcome_mail_are_named(operator: Actor) -> None:
    customer = make_customer(web_id="BARE1", group_id=find_customer("CQ001").group_id)
    make_bundle(customer, name="Bare")
    ((_, marked, message),) = errors_of(operator, f"{RESEND} Bare|BARE1")
    assert marked == "BARE1"
    assert "does not have a welcome e-mail" in message


def test_customers_with_different_welcome_mails_need_commands_of_their_own(
    operator: Actor,
) -> None:
    customer = make_customer(web_id="OTHER1", group_id=find_customer("CQ001").group_id)
    bundle = db.session.scalars(
        sa.select(CustomerBundle.bundle_id).where(
            CustomerBundle.customer_id == find_customer("CQ002").id
        )
    ).one()
    save(CustomerBundle(customer_id=customer.id, bundle_id=bundle))
    make_welcome(customer)
    make_user(customer, bundle_id=bundle)
    ((_, marked, message),) = errors_of(operator, f"{RESEND} {ENTRY}|CQ002;OTHER1")
    assert marked == RESEND
    assert "not have the same welcome e-mail" in message
    plan = command_runs.check(operator, f"{RESEND} {ENTRY}|CQ002\n{RESEND} {ENTRY}|OTHER1")
    assert [mailing.recipients for mailing in plan.mailings] == [30, 1]
    assert plan.mailings[0].template_id != plan.mailings[1].template_id


def test_the_newest_welcome_mail_that_all_have_is_sent(operator: Actor) -> None:
    newer = make_welcome(find_customer("CQ001"))
    assert only_mailing(command_runs.check(operator, f"{RESEND} {ENTRY}|CQ001")).template_id == (
        newer.id
    )
    both = only_mailing(command_runs.check(operator, f"{RESEND} {ENTRY}|CQ001;CQ002"))
    assert both.template == "Welcome"


def test_administrators_with_the_bundle_are_mailed_too(operator: Actor) -> None:
    customer = find_customer("CQ002")
    bundle_id = db.session.scalar(
        sa.select(CustomerBundle.bundle_id).where(CustomerBundle.customer_id == customer.id)
    )
    admin = db.session.scalars(
        sa.select(User).where(User.customer_id == customer.id, User.role == Role.CUSTOMER_ADMIN)
    ).one()
    admin.bundle_id = bundle_id
    db.session.commit()
    assert command_runs.check(operator, WELCOME_CQ002).recipients == 31


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (sa.delete(User), "no user of these customers has one of these bundles"),
        (
            sa.update(User).values(status=UserStatus.SUSPENDED),
            "All 30 users: 30 suspended.",
        ),
    ],
)
def test_nobody_to_mail_is_an_error_that_says_why(
    operator: Actor, change: Any, message: str
) -> None:
    customer = find_customer("CQ002")
    db.session.execute(change.where(User.customer_id == customer.id, User.bundle_id.is_not(None)))
    db.session.commit()
    ((line, marked, told),) = errors_of(operator, f"\n{WELCOME_CQ002}")
    assert (line, marked) == (2, RESEND)
    assert message in told


# --- Scope -------------------------------------------------------------------------------------


def test_other_groups_are_unknown_and_never_suggested(app_context: Flask) -> None:
    group = db.session.scalars(sa.select(Group).where(Group.groupno == 2)).one()
    northwind = make_staff(Role.OPERATOR, group)
    make_template(find_customer("CQ001"), name="Direct news")
    found = errors_of(
        northwind,
        f"{RESEND} {STANDARD};{ENTRY}|CQ101;CQ001;cq001;KentonElectronics\n"
        f"{SEND} Direct news|{STANDARD}|CQ101\n"
        f"{SEND} direct news|{STANDARD}|CQ101",
    )
    assert [(line, marked) for line, marked, _ in found] == [
        (1, ENTRY),
        (1, "CQ001"),
        (1, "cq001"),
        (1, "KentonElectronics"),
        (2, "Direct news"),
        (3, "direct news"),
    ]
    told = " ".join(message for _, _, message in found)
    assert "Did you mean “CQ001”" not in told
    assert f"Did you mean “{ENTRY}”" not in told
    assert "Did you mean “Direct news”" not in told
    assert command_runs.check(northwind, f"{RESEND} {STANDARD}|CQ101").recipients == 12


def test_listings_show_what_is_in_scope(app_context: Flask) -> None:
    group = db.session.scalars(sa.select(Group).where(Group.groupno == 2)).one()
    northwind = make_staff(Role.OPERATOR, group)
    plan = command_runs.check(northwind, "$$LIST CUSTOMERS$$\n$$LIST BUNDLES$$")
    rows = [line.result.rows for line in plan.lines if isinstance(line.result, Listing)]
    assert rows == [
        (("CQ101", "Larkspur", "Northwind", "active", STANDARD),),
        (("CQ101", "Larkspur", STANDARD),),
    ]


def test_a_mailing_of_another_group_is_unknown(operator: Actor) -> None:
    run = submit_and_run(operator, f"{RESEND} {STANDARD}|CQ001;CQ101")
    mailing = mailing_of(run)
    group = db.session.scalars(sa.select(Group).where(Group.groupno == 2)).one()
    northwind = make_staff(Role.OPERATOR, group)
    for word in ("MAILING STATUS", "PAUSE MAILING", "CANCEL MAILING"):
        ((_, _, message),) = errors_of(northwind, f"$${word}$$ {mailing.id}")
        assert message == f"There is no mailing {mailing.id}."
    with pytest.raises(NotFound):
        mailings.get_staff_mailing(northwind, mailing.id)
    assert mailings.list_staff_mailings(northwind).rows == []
    assert [each.id for each in mailings.list_staff_mailings(operator).rows] == [mailing.id]


@pytest.mark.parametrize(
    "role",
    [Role.AUDITOR, Role.CUSTOMER_ADMIN, Role.SUPERVISOR, Role.USER, Role.PROSPECT, None],
)
def test_other_roles_run_nothing(operator: Actor, role: Role | None) -> None:
    run = submit(operator, WELCOME_CQ002)
    actor = Actor(run.actor_id, "x", role, all_groups=True)
    for act in (
        lambda: command_runs.check(actor, "$$HELP$$"),
        lambda: submit(actor, "$$HELP$$"),
        lambda: command_runs.run(actor, run.id),
    ):
        with pytest.raises(Forbidden):
            act()
    assert count(Mailing) == 0


# --- The dry run -------------------------------------------------------------------------------


def test_the_dry_run_shows_rows_reasons_and_the_first_mail(operator: Actor) -> None:
    run = submit(operator, f"{RESEND} {ENTRY};{PREMIUM}|CQ003;CQ001")
    assert run.state is CommandRunState.PLANNED
    assert run.ran_at is None
    mailing = only_mailing(command_runs.plan_of(run))
    assert [(row.web_id, row.bundle, row.recipients) for row in mailing.rows] == [
        ("CQ001", ENTRY, 37),
        ("CQ003", ENTRY, 20),
        ("CQ003", PREMIUM, 10),
    ]
    assert mailing.rows[0].skipped == {
        SkipReason.NO_ADDRESS: 1,
        SkipReason.SUSPENDED: 1,
        SkipReason.SUPPRESSED: 1,
    }
    assert mailing.skipped == mailing.rows[0].skipped
    assert (mailing.resets_portal, mailing.resets_application) == (True, True)
    assert mailing.message is not None
    assert mailing.first.login in mailing.message.text
    assert mailing.message.text.count("••••••••") == 2
    assert mailing.message.html.count("••••••••") == 2
    assert count(Mailing) == count(Delivery) == 0


def test_what_is_kept_reads_back_as_it_was(operator: Actor) -> None:
    text = (
        f"{RESEND} {ENTRY}|CQ001;CQ002\n$$HELP$$\n$$LIST CUSTOMERS$$ {STANDARD}\n"
        f"{SEND} Voicemail update|{STANDARD}|CQ001"
    )
    plan = command_runs.check(operator, text)
    run = submit(operator, text)
    db.session.expire_all()
    assert command_runs.plan_of(run) == plan
    done = command_runs.run(operator, run.id)
    outcome = command_runs.outcome_of(done)
    db.session.expire_all()
    assert command_runs.outcome_of(done) == outcome
    assert Outcome.from_json({}) == Outcome()
    assert Plan.from_json({}) == Plan()


def test_the_dry_run_counts_what_is_then_frozen(operator: Actor) -> None:
    save(Suppression(email_key=find_user_of("CQ003").email_key, reason="bounced"))
    submit_and_run(operator, f"{RESEND} {PREMIUM}|CQ003")
    run = submit(
        operator,
        f"{RESEND} {ENTRY};{STANDARD};{PREMIUM}|CQ001;CQ002;CQ003;CQ101",
        f"{SEND} Voicemail update|{ENTRY}|CQ001",
    )
    plan = command_runs.plan_of(run)
    done = command_runs.run(operator, run.id)
    outcome = command_runs.outcome_of(done)
    assert done.state is CommandRunState.DONE
    for line, planned in zip(outcome.lines, plan.lines, strict=True):
        assert isinstance(planned.result, MailingPlan)
        mailing = mailing_of(run, line.line)
        assert mailing.queued == line.recipients == planned.result.recipients
        assert mailing.skipped == planned.result.skipped_total
        assert skipped_of(mailing) == planned.result.skipped == line.skipped
        first = db.session.scalars(
            sa.select(Delivery.user_id)
            .where(Delivery.mailing_id == mailing.id, Delivery.state == DeliveryState.QUEUED)
            .order_by(Delivery.next_attempt_at, Delivery.id)
        ).first()
        assert first == planned.result.first.user_id


def find_user_of(web_id: str) -> User:
    return db.session.scalars(
        sa.select(User)
        .where(User.customer_id == find_customer(web_id).id, User.bundle_id.is_not(None))
        .order_by(User.id)
        .limit(1)
    ).one()


def test_who_was_mailed_lately_is_left_out(operator: Actor) -> None:
    submit_and_run(operator, WELCOME_CQ002)
    ((_, _, message),) = errors_of(operator, WELCOME_CQ002)
    assert "All 30 users: 30 recently mailed." in message
    forget_recent_mails()
    assert command_runs.check(operator, WELCOME_CQ002).recipients == 30


def test_a_dry_run_of_many_lines_keeps_only_the_first_mails(operator: Actor) -> None:
    customer = make_customer(web_id="MANY1", group_id=find_customer("CQ001").group_id)
    make_template(customer, name="News")
    lines = []
    for _ in range(30):
        bundle = make_bundle(customer)
        make_user(customer, bundle_id=bundle.id)
        lines.append(f"{SEND} News|{bundle.name}|MANY1")
    plan = command_runs.check(operator, "\n".join(lines))
    assert [mailing.message is None for mailing in plan.mailings] == [False] * 25 + [True] * 5
    assert plan.recipients == 30


def test_no_rate_is_claimed_before_one_was_measured(operator: Actor) -> None:
    mailing = only_mailing(command_runs.check(operator, WELCOME_CQ002))
    assert (mailing.seconds, mailing.per_second) == (None, None)


def measured(operator: Actor, *, sent: int, seconds: float) -> None:
    now = utcnow()
    version = db.session.scalars(sa.select(EmailTemplateVersion.id).limit(1)).one()
    save(
        Mailing(
            customer_id=find_customer("CQ001").id,
            template_version_id=version,
            created_by_id=operator.user_id,
            confirmation=f"measured-{sent}-{seconds}",
            lane=Lane.BULK,
            state=MailingState.FINISHED,
            resets_portal_password=False,
            resets_application_password=False,
            total=sent,
            sent=sent,
            started_at=now - timedelta(seconds=seconds),
            finished_at=now,
        )
    )


def test_the_time_is_estimated_from_mailings_that_took_long_enough(operator: Actor) -> None:
    measured(operator, sent=500, seconds=100)
    measured(operator, sent=99, seconds=1000)
    measured(operator, sent=5000, seconds=0.5)
    mailing = only_mailing(command_runs.check(operator, WELCOME_CQ002))
    assert mailing.per_second == pytest.approx(5.0)
    assert mailing.seconds == 6
    measured(operator, sent=1000, seconds=100)
    measured(operator, sent=2000, seconds=100)
    assert mailings.estimate_rate() == pytest.approx(10.0), "the median"


@pytest.mark.parametrize(
    "settings_changes",
    [{"MAIL_MAX_PER_SECOND": "4", "MAIL_MAX_PER_SECOND_PER_DOMAIN": "2"}],
)
def test_the_estimate_keeps_to_the_ceilings(operator: Actor) -> None:
    measured(operator, sent=50_000, seconds=100)
    mailing = only_mailing(command_runs.check(operator, f"{RESEND} {ENTRY}|CQ001;CQ002;CQ003"))
    assert mailing.per_second == pytest.approx(4.0)
    assert mailing.seconds == 22
    mailing = only_mailing(command_runs.check(operator, WELCOME_CQ002))
    assert mailing.seconds == 15, "one customer's users share a domain"


# --- Two lines to the same users ---------------------------------------------------------------


def test_a_user_gets_a_template_once_per_text(operator: Actor) -> None:
    run = submit(operator, WELCOME_CQ002, f"{RESEND} {ENTRY}|CQ001;CQ002")
    first, second = command_runs.plan_of(run).mailings
    assert (first.recipients, second.recipients, second.already_named) == (30, 37, 30)
    assert second.skipped[SkipReason.RECENTLY_MAILED] == 30
    assert second.first.web_id == "CQ001"
    command_runs.run(operator, run.id)
    one, other = mailing_of(run, 1), mailing_of(run, 2)
    assert (one.queued, one.skipped) == (30, 0), "and the earlier line loses nobody"
    assert (other.queued, other.skipped) == (37, 33)
    assert recipients_of(one).isdisjoint(recipients_of(other))


@pytest.mark.parametrize("settings_changes", [{"RECENT_MAIL_MINUTES": "0"}])
def test_also_where_nothing_else_counts_as_recent(operator: Actor) -> None:
    run = submit_and_run(operator, WELCOME_CQ002, f"{RESEND} {ENTRY}|CQ001;CQ002")
    assert (mailing_of(run, 1).queued, mailing_of(run, 2).queued) == (30, 37)
    assert command_runs.check(operator, WELCOME_CQ002).recipients == 30


def test_the_same_line_twice_has_nobody_left(operator: Actor) -> None:
    ((line, _, message),) = errors_of(operator, f"{WELCOME_CQ002}\n{WELCOME_CQ002}")
    assert line == 2
    assert "30 recently mailed" in message


def test_two_lines_with_new_passwords_for_the_same_users_are_refused(operator: Actor) -> None:
    ((line, marked, message),) = errors_of(
        operator, f"{RESEND} {ENTRY}|CQ001;CQ002\n{SEND} Password reset|{ENTRY}|CQ002"
    )
    assert (line, marked) == (2, SEND)
    assert message.startswith("Line 1 mails a new portal password")
    plan = command_runs.check(
        operator,
        f"{RESEND} {ENTRY}|CQ001\n{SEND} Password reset|{ENTRY}|CQ002\n"
        f"{SEND} Voicemail update|{ENTRY}|CQ001",
    )
    assert [mailing.recipients for mailing in plan.mailings] == [37, 30, 37]


# --- Running -----------------------------------------------------------------------------------


def test_running_freezes_mailings_with_customers_lane_and_origin(operator: Actor) -> None:
    run = submit_and_run(operator, f"{RESEND} {ENTRY}|CQ001;CQ002", "", WELCOME_OF_LARKSPUR)
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


WELCOME_OF_LARKSPUR = f"{RESEND} {STANDARD}|CQ101"


def test_what_is_done_is_audited_without_secrets(operator: Actor) -> None:
    run = submit_and_run(operator, WELCOME_CQ002, WELCOME_OF_LARKSPUR)
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
    run_id = submit(operator, WELCOME_CQ002, WELCOME_OF_LARKSPUR).id
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


def delete_customer(web_id: str) -> None:
    find_customer(web_id).status = CustomerStatus.DELETED
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
    run = submit(operator, WELCOME_CQ002, WELCOME_OF_LARKSPUR)
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


# --- A newer command to the same users ---------------------------------------------------------


def test_a_command_replaces_older_mails_of_every_customer_it_shares(operator: Actor) -> None:
    older = mailing_of(submit_and_run(operator, f"{RESEND} {ENTRY}|CQ001;CQ002"))
    apart = mailing_of(submit_and_run(operator, WELCOME_OF_LARKSPUR))
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


# --- Steering ----------------------------------------------------------------------------------


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


def test_a_state_that_changes_before_run_undoes_the_lines_before(operator: Actor) -> None:
    mailing = mailing_of(submit_and_run(operator, WELCOME_CQ002))
    run = submit(operator, WELCOME_OF_LARKSPUR, f"$$PAUSE MAILING$$ {mailing.id}")
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


# --- Looking -----------------------------------------------------------------------------------


def test_a_text_that_only_looks_is_done_at_once(operator: Actor) -> None:
    run = submit(operator, "$$HELP$$", "$$LIST BUNDLES$$ CQ001;CQ101")
    assert run.state is CommandRunState.DONE
    assert run.ran_at is not None
    plan = command_runs.plan_of(run)
    assert not plan.changes_something
    assert [line.kind for line in plan.lines] == [CommandKind.HELP, CommandKind.LIST_BUNDLES]
    listing = plan.lines[1].result
    assert isinstance(listing, Listing)
    assert listing.rows == (
        ("CQ001", "KentonElectronics", ENTRY),
        ("CQ001", "KentonElectronics", STANDARD),
        ("CQ101", "Larkspur", STANDARD),
    )
    outcome = command_runs.outcome_of(run)
    assert [line.sentence for line in outcome.lines] == ["Listed 9 lines.", "Listed 3 lines."]
    assert count(AuditEvent) == 0


def test_customers_are_listed_by_their_bundles(operator: Actor) -> None:
    (line,) = command_runs.check(operator, f"$$LIST CUSTOMERS$$ {STANDARD};{PREMIUM}").lines
    assert isinstance(line.result, Listing)
    assert [row[0] for row in line.result.rows] == ["CQ001", "CQ003", "CQ101"]
    assert line.result.rows[0][-1] == f"{ENTRY};{STANDARD}"


def test_long_listings_say_how_much_is_left_out(
    operator: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.command_dry_runs.ROWS_PER_LINE", 3)
    monkeypatch.setattr("services.command_dry_runs.ROWS_PER_PLAN", 5)
    plan = command_runs.check(
        operator, f"$$LIST CUSTOMERS$$\n$$LIST CUSTOMERS$$\n{RESEND} {ENTRY}|CQ001;CQ002"
    )
    first, second, mailing = (line.result for line in plan.lines)
    assert isinstance(first, Listing)
    assert isinstance(second, Listing)
    assert (len(first.rows), first.rows_left_out) == (3, 1)
    assert (len(second.rows), second.rows_left_out) == (2, 2)
    assert isinstance(mailing, MailingPlan)
    assert (len(mailing.rows), mailing.rows_left_out, mailing.recipients) == (0, 2, 67)


# --- Many names --------------------------------------------------------------------------------


@pytest.fixture
def thousand(app_context: Flask) -> list[str]:
    """The web IDs of 1,000 customers with one user of one bundle each."""
    bundle = make_bundle(name="Wide")
    template_id = db.session.scalars(
        sa.select(EmailTemplate.id).where(EmailTemplate.kind == TemplateKind.WELCOME)
    ).one()
    group_id = make_group().id
    rows = [
        {
            "group_id": group_id,
            "custno": 500_000 + number,
            "web_id": f"W{number:04}",
            "name": f"Wide {number}",
            "name_key": f"wide {number}",
            "short_name": f"w{number}",
            "short_name_key": f"w{number}",
            "upn_suffix": f"w{number}.example",
            "created_at": utcnow(),
        }
        for number in range(1000)
    ]
    db.session.execute(sa.insert(table_of(Customer)), rows)
    ids = db.session.scalars(
        sa.select(Customer.id).where(Customer.group_id == group_id).order_by(Customer.web_id)
    ).all()
    db.session.execute(
        sa.insert(table_of(CustomerBundle)),
        [{"customer_id": each, "bundle_id": bundle.id} for each in ids],
    )
    db.session.execute(
        sa.insert(table_of(CustomerEmailTemplate)),
        [{"customer_id": each, "template_id": template_id} for each in ids],
    )
    db.session.execute(
        sa.insert(table_of(User)),
        [
            {
                "customer_id": each,
                "bundle_id": bundle.id,
                "role": Role.USER,
                "login": f"only@w{number}.example",
                "login_key": f"only@w{number}.example",
                "email": f"only@w{number}.example",
                "email_key": f"only@w{number}.example",
                "created_at": utcnow(),
            }
            for number, each in enumerate(ids)
        ],
    )
    db.session.commit()
    return [str(row["web_id"]) for row in rows]


def test_a_thousand_customers_take_as_many_statements_as_one(
    operator: Actor, thousand: list[str]
) -> None:
    with counted_statements() as for_one:
        command_runs.check(operator, f"{RESEND} Wide|W0001")
    with counted_statements() as for_all:
        plan = command_runs.check(operator, f"{RESEND} Wide|{';'.join(thousand)}")
    assert only_mailing(plan).customers == only_mailing(plan).recipients == 1000
    assert len(for_all) == len(for_one)
    run = submit(operator, f"{RESEND} Wide|{';'.join(thousand)}")
    with counted_statements() as to_run:
        done = command_runs.run(operator, run.id)
    assert command_runs.outcome_of(done).recipients == 1000
    assert count(MailingCustomer) == 1000
    assert len(to_run) < 40


def test_a_thousand_unknown_customers_are_a_thousand_errors_and_a_few_statements(
    operator: Actor, thousand: list[str]
) -> None:
    names = ";".join(name.lower() for name in thousand)
    with counted_statements() as seen:
        found = errors_of(operator, f"{RESEND} Wide|{names}")
    assert len(found) == 1000
    assert "Did you mean “W0000”?" in found[0][2]
    assert len(seen) < 150


# --- The history -------------------------------------------------------------------------------


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


# --- Who sees a mailing ------------------------------------------------------------------------


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
    alone = mailing_of(submit_and_run(operator, WELCOME_OF_LARKSPUR))
    delete_customer("CQ101")
    staff = make_staff(Role.OPERATOR, north)
    assert [each.id for each in mailings.list_staff_mailings(staff).rows] == [alone.id]
    assert mailings.get_staff_mailing(staff, alone.id).id == alone.id
    with pytest.raises(NotFound):
        mailings.get_staff_mailing(staff, both.id)
    assert mailings.list_staff_mailings(make_staff(Role.OPERATOR)).rows == []
