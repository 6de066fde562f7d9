"""Commands on a terminal: tables line up, carets point, and no text can drive the terminal."""

from __future__ import annotations

import pytest
from flask import Flask

from services import command_runs
from services.command_language import CommandError, CommandErrors
from services.command_plans import CommandKind, LinePlan, Listing, Plan
from services.command_texts import error_lines, plan_lines, table_lines
from tests.support.commands import ENTRY
from tests.support.factories import actor_for, find_customer


def test_columns_are_as_wide_as_what_is_in_them() -> None:
    rows = [("CQ001", "Ä", "1,204"), ("X", "日本", "7")]
    assert list(table_lines(("Customer", "Name", "Users"), rows)) == [
        "Customer  Name  Users",
        "CQ001     Ä     1,204",
        "X         日本      7",
    ]


def test_an_empty_table_is_its_header() -> None:
    assert list(table_lines(("Customer", "Name"), [])) == ["Customer  Name"]


@pytest.mark.parametrize(
    ("text", "column", "length", "pointed"),
    [
        ("$$HLP$$", 1, 7, "$$HLP$$"),
        ("\t$$HLP$$", 2, 7, "$$HLP$$"),
        (f"{'x' * 60}日本{'y' * 60}", 61, 2, "日本"),
        ("a\x1b[31mb", 2, 1, "\ufffd"),
    ],
)
def test_the_caret_is_under_the_place(text: str, column: int, length: int, pointed: str) -> None:
    error = CommandError(1, column, length, "This is wrong.", "something else")
    _, line, caret, expected = error_lines(text, CommandErrors([error]))
    assert expected == "  Expected: something else."
    assert "\x1b" not in line
    before = line[: line.index(pointed)]
    assert len(caret) - len(caret.lstrip(" ")) == len(before)
    assert set(caret.strip()) == {"^"}
    assert len(caret.strip()) == sum(2 if each in "日本" else 1 for each in pointed)


def test_names_cannot_drive_the_terminal() -> None:
    listing = Listing(("Customer",), (("a\x1b]0;owned\x07\u202eb\nc",),), rows_left_out=1_000)
    plan = Plan((LinePlan(3, "$$LIST CUSTOMERS$$", CommandKind.LIST_CUSTOMERS, listing),))
    lines = list(plan_lines(plan))
    assert lines == [
        "Line 3: $$LIST CUSTOMERS$$",
        "  Customer",
        "  a\ufffd]0;owned\ufffd\ufffdb c",
        "  … and 1,000 more.",
    ]


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_the_mail_of_a_template_is_shown_once(app_context: Flask) -> None:
    find_customer("CQ001").name = "Kenton \x1b[31mElectronics"
    plan = command_runs.check(
        actor_for("operator@foyer.example"),
        f"$$RESEND WELCOME EMAIL$$ {ENTRY}|CQ001\n$$RESEND WELCOME EMAIL$$ {ENTRY}|CQ002\n"
        f"$$SEND EMAIL$$ Voicemail update|{ENTRY}|CQ001",
    )
    lines = list(plan_lines(plan))
    assert sum("Subject:" in line for line in lines) == 2
    assert "Together: 104 recipients, 6 skipped." in lines
    assert "\x1b" not in "\n".join(lines)


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_a_mailing_is_told_in_figures(app_context: Flask) -> None:
    operator = actor_for("operator@foyer.example")
    run = command_runs.submit_at_terminal(operator, f"$$RESEND WELCOME EMAIL$$ {ENTRY}|CQ002")
    command_runs.run(operator, run.id)
    lines = plan_lines(command_runs.check(operator, "$$MAILING STATUS$$ 1\n$$CANCEL MAILING$$ 1"))
    assert list(lines) == [
        "Line 1: $$MAILING STATUS$$ 1",
        "  Mailing 1, Welcome: running",
        "  30 recipients: 30 queued",
        "",
        "Line 2: $$CANCEL MAILING$$ 1",
        "  Mailing 1, Welcome, is running and ends for good. 30 of 30 are waiting.",
    ]
