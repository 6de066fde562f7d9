"""Dry runs: what they count is what is then frozen, and what two lines do to the same users."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import (
    AuditEvent,
    CommandRunState,
    Delivery,
    DeliveryState,
    EmailTemplateVersion,
    Lane,
    Mailing,
    MailingState,
    SkipReason,
    Suppression,
    utcnow,
)
from services import command_runs, mailings
from services.actors import Actor
from services.command_plans import (
    CommandKind,
    Listing,
    MailingPlan,
    Outcome,
    Plan,
)
from tests.support.commands import (
    ENTRY,
    PREMIUM,
    RESEND,
    SEND,
    STANDARD,
    WELCOME_CQ002,
    count,
    errors_of,
    find_user_of,
    forget_recent_mails,
    mailing_of,
    only_mailing,
    recipients_of,
    skipped_of,
    submit,
    submit_and_run,
)
from tests.support.factories import (
    actor_for,
    find_customer,
    make_bundle,
    make_customer,
    make_template,
    make_user,
    save,
)


@pytest.fixture
def operator(app_context: Flask) -> Actor:
    return actor_for("operator@foyer.example")


# --- The dry run ----------------------------------------------------------------------------------


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


# --- Two lines to the same users ------------------------------------------------------------------


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


def test_a_line_whose_passwords_are_refused_takes_nobody_from_the_lines_below(
    operator: Actor,
) -> None:
    ((line, _, _),) = errors_of(
        operator,
        f"{RESEND} {ENTRY}|CQ002\n{SEND} Password reset|{ENTRY}|CQ001;CQ002\n"
        f"{SEND} Password reset|{ENTRY}|CQ001",
    )
    assert line == 2


# --- Looking --------------------------------------------------------------------------------------


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
