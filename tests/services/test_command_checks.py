"""What commands may name: the rules, their errors at their places, and scope."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import (
    AuditEvent,
    CommandRun,
    Customer,
    CustomerBundle,
    CustomerEmailTemplate,
    EmailTemplate,
    EmailTemplateText,
    Group,
    Mailing,
    MailingCustomer,
    Role,
    TemplateKind,
    User,
    UserStatus,
    table_of,
    utcnow,
)
from services import command_runs, mailings
from services.actors import Actor
from services.command_language import MAX_ERRORS, CommandErrors
from services.command_plans import (
    Listing,
)
from services.email_templates import get_current_version
from services.errors import Forbidden, InvalidInput, NotFound
from tests.support.commands import (
    ENTRY,
    PREMIUM,
    RESEND,
    SEND,
    STANDARD,
    WELCOME_CQ002,
    count,
    counted_statements,
    errors_of,
    mailing_of,
    make_staff,
    only_mailing,
    submit,
    submit_and_run,
)
from tests.support.factories import (
    actor_for,
    find_customer,
    make_bundle,
    make_customer,
    make_group,
    make_template,
    make_user,
    make_welcome,
    save,
)


@pytest.fixture
def operator(app_context: Flask) -> Actor:
    return actor_for("operator@foyer.example")


# --- The rules ------------------------------------------------------------------------------------


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
        # Grammar, names, assignments and numbers in one go
        (
            f"{RESEND} {ENTRY}\n{RESEND} {ENTRY}|CQ999",
            [(1, ENTRY, "missing"), (2, "CQ999", "no customer")],
        ),
        (
            f"{RESEND} {ENTRY}|CQ999\n{RESEND} {ENTRY}",
            [(1, "CQ999", "no customer"), (2, ENTRY, "missing")],
        ),
        (
            f"$$HELPP$$\n{RESEND} {STANDARD}|CQ002\n$$PAUSE MAILING$$ x\n"
            f"{SEND} Voicemail update|{ENTRY}|CQ002\n$$PAUSE MAILING$$ 99\nhello",
            [
                (1, "$$HELPP$$", "no command"),
                (2, "CQ002", "does not have the bundle"),
                (3, "x", "not the number"),
                (4, "CQ002", "does not have the e-mail template"),
                (5, "99", "no mailing"),
                (6, "hello", "begins with"),
            ],
        ),
        (
            f"{RESEND} {ENTRY.lower()};;{ENTRY}|cq001;",
            [
                (1, ENTRY.lower(), f"Did you mean “{ENTRY}”?"),
                (1, ";", "no name before"),
                (1, "cq001", "Did you mean “CQ001”?"),
                (1, ";", "no name after"),
            ],
        ),
        (
            f"{SEND} voicemail update|X;|CQ001",
            [
                (1, "voicemail update", "Did you mean “Voicemail update”?"),
                (1, "X", "no bundle"),
                (1, ";", "no name after"),
            ],
        ),
        # What the rest of a line with errors would be held against is not known
        (f"{RESEND} {PREMIUM};|CQ001", [(1, ";", "no name after")]),
        (f"{SEND} Voicemail update|;{ENTRY}|CQ002", [(1, ";", "no name before")]),
        (f"{SEND} Voicemail;update|{ENTRY}|CQ001", [(1, ";", "One template")]),
        (f"{RESEND} {ENTRY};CQ999", [(1, f"{ENTRY};CQ999", "missing")]),
        (f"{RESEND} {ENTRY}|CQ001|CQ999", [(1, "|", "one too many")]),
        (f"{RESEND} {ENTRY}\x00|CQ001", [(1, "\0", "U+0000")]),
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


@pytest.mark.parametrize("wrong", [f"{RESEND} {ENTRY}|CQ999", f"{RESEND} {ENTRY}", "$$HELPP$$"])
def test_a_refused_text_leaves_nothing_behind(operator: Actor, wrong: str) -> None:
    with pytest.raises(CommandErrors):
        submit(operator, WELCOME_CQ002, "$$HELP$$", wrong)
    assert count(CommandRun) == count(Mailing) == count(AuditEvent) == 0


def test_a_great_many_errors_are_told_up_to_the_limit(operator: Actor) -> None:
    names = ";".join(f"X{number}" for number in range(MAX_ERRORS + 5))
    found = errors_of(operator, f"{RESEND} {ENTRY}|{names}")
    assert len(found) == MAX_ERRORS + 1
    assert "more than 1,000 errors" in found[-1][2]


def test_the_limit_is_for_errors_of_all_kinds_together(operator: Actor) -> None:
    pairs = (MAX_ERRORS + 2) // 2
    found = errors_of(operator, f"{RESEND} {ENTRY}|X\n$$HELPP$$\n" * pairs)
    assert len(found) == MAX_ERRORS + 1
    assert [line for line, _, _ in found] == list(range(1, MAX_ERRORS + 2))
    assert "more than 1,000 errors" in found[-1][2]


def test_names_that_are_alike_are_suggested_for_the_first_lines_first(operator: Actor) -> None:
    lines = [f"{RESEND} {ENTRY};;|cq001"] + [f"{RESEND} {ENTRY}|cq001"] * 30
    found = [message for _, _, message in errors_of(operator, "\n".join(lines))]
    assert "Did you mean" in found[1]
    assert "Did you mean" not in found[-1]


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


def test_nobody_to_mail_is_told_beside_what_is_wrong_in_other_lines(operator: Actor) -> None:
    db.session.execute(
        sa.update(User)
        .where(User.customer_id == find_customer("CQ002").id)
        .values(status=UserStatus.SUSPENDED)
    )
    db.session.commit()
    found = errors_of(
        operator,
        f"$$HELPP$$\n{WELCOME_CQ002}\n$$LIST CUSTOMERS$$\n{RESEND} {ENTRY}|CQ999\n{WELCOME_CQ002};",
    )
    assert [(line, marked) for line, marked, _ in found] == [
        (1, "$$HELPP$$"),
        (2, RESEND),
        (4, "CQ999"),
        (5, ";"),
    ]
    assert "All 30 users: 30 suspended." in found[1][2]
    assert count(CommandRun) == 0


def test_nothing_is_listed_for_a_text_with_errors(operator: Actor) -> None:
    with counted_statements() as without:
        errors_of(operator, "$$HELPP$$")
    with counted_statements() as with_listings:
        errors_of(operator, "$$HELPP$$\n$$LIST BUNDLES$$\n$$LIST CUSTOMERS$$")
    assert len(with_listings) == len(without)


def test_a_line_with_errors_takes_nobody_from_the_lines_below(operator: Actor) -> None:
    found = errors_of(operator, f"{WELCOME_CQ002};\n{RESEND} {ENTRY}|CQ002;CQ999\n{WELCOME_CQ002}")
    assert [(line, marked) for line, marked, _ in found] == [(1, ";"), (2, "CQ999")]


# --- Scope ----------------------------------------------------------------------------------------


def test_other_groups_are_unknown_and_never_suggested(app_context: Flask) -> None:
    group = db.session.scalars(sa.select(Group).where(Group.groupno == 2)).one()
    northwind = make_staff(Role.OPERATOR, group)
    make_template(find_customer("CQ001"), name="Direct news")
    found = errors_of(
        northwind,
        f"{RESEND} {STANDARD};{ENTRY}|CQ101;CQ001;cq001;KentonElectronics\n"
        f"{SEND} Direct news|{STANDARD}|CQ101\n"
        f"{SEND} direct news|{STANDARD}|CQ101\n"
        f"{SEND} direct news|{ENTRY};|cq001",
    )
    assert [(line, marked) for line, marked, _ in found] == [
        (1, ENTRY),
        (1, "CQ001"),
        (1, "cq001"),
        (1, "KentonElectronics"),
        (2, "Direct news"),
        (3, "direct news"),
        (4, "direct news"),
        (4, ENTRY),
        (4, ";"),
        (4, "cq001"),
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


# --- Many names -----------------------------------------------------------------------------------


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


def test_a_thousand_lines_with_errors_are_looked_up_by_a_few_statements(operator: Actor) -> None:
    with counted_statements() as seen:
        found = errors_of(operator, "\n".join(f"{RESEND} {ENTRY}|X{n};" for n in range(500)))
    assert len(found) == 1000
    assert len(seen) < 150
