"""Returned mails as the servers of this world write them, and junk."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.bounce_reports import LONGEST_REASON, Verdict, read_report
from tests.support import dsns

TO = "bounces+1204-0123456789abcdef@foyer.example"

Builder = Callable[[str], bytes]


def by_name(group: dict[str, Builder]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("build", group.values(), ids=group.keys())


@by_name(dsns.HARD)
def test_a_bad_address_is_told_in_the_servers_words_and_in_ours(build: Builder) -> None:
    report = read_report(build(TO))
    assert report.verdict is Verdict.HARD
    assert report.explanation.endswith(".")
    assert report.reason
    assert TO in report.addressed_to


@pytest.mark.parametrize(
    ("build", "status", "reason"),
    [
        (
            dsns.postfix,
            "5.1.1",
            "550 5.1.1 <ada@nowhere.example>: Recipient address rejected: "
            "User unknown in virtual mailbox table",
        ),
        (dsns.exim, "5.0.0", "550 No such user here"),
        (dsns.exim_old, "", "550 No such user here"),
        (dsns.exim_unrouteable, "", "Unrouteable address"),
        (dsns.qmail, "5.1.1", "Sorry, no mailbox here by that name. (#5.1.1)"),
        (dsns.encoded, "5.1.1", "550 5.1.1 User unknown"),
        (dsns.internationalised, "5.1.1", "550 5.1.1 <žofie@nowhere.example> neexistuje"),
    ],
)
def test_code_and_words_are_the_servers(build: Builder, status: str, reason: str) -> None:
    report = read_report(build(TO))
    assert (report.status, report.reason) == (status, reason)


@pytest.mark.parametrize(
    ("build", "explanation"),
    [
        (dsns.postfix, "The mailbox does not exist."),
        (dsns.postfix_no_such_host, "The domain does not exist or takes no mail."),
        (dsns.exim_unrouteable, "The domain does not exist or takes no mail."),
        (
            lambda to: dsns.gmail(to, status="5.2.1", words="550 5.2.1 The account is disabled"),
            "The mailbox is disabled.",
        ),
    ],
)
def test_why_the_address_is_bad_is_said_in_plain_words(build: Builder, explanation: str) -> None:
    assert read_report(build(TO)).explanation == explanation


@by_name(dsns.SOFT)
def test_a_failure_with_another_cause_is_none_of_the_address(build: Builder) -> None:
    report = read_report(build(TO))
    assert report.verdict is Verdict.SOFT
    assert not report.explanation
    assert report.reason


@by_name(dsns.NOTHING)
def test_what_reports_no_failure_is_none(build: Builder) -> None:
    assert read_report(build(TO)).verdict in {Verdict.NO_REPORT, Verdict.NOT_FINAL}


@pytest.mark.parametrize("action", ["delayed", "relayed", "delivered", "expanded", "DELAYED (no)"])
def test_an_action_that_is_not_a_failure_is_none_whatever_its_status(action: str) -> None:
    report = read_report(dsns.postfix(TO, action=action))
    assert report.verdict is Verdict.NOT_FINAL


def test_of_several_recipients_the_worst_counts() -> None:
    fields = (
        "Reporting-MTA: dns; mx\n\nAction: delivered\nStatus: 2.0.0\n\n"
        "Action: failed\nStatus: 5.2.2\nDiagnostic-Code: smtp; 552 full\n\n"
        "Action: failed\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550 gone\n"
    )
    report = read_report(dsns.report(TO, fields=fields))
    assert (report.verdict, report.reason) == (Verdict.HARD, "550 gone")


@by_name({**dsns.HARD, **dsns.SOFT, **dsns.NOTHING})
def test_nothing_of_the_returned_mail_is_taken_over(build: Builder) -> None:
    """It carries passwords."""
    report = read_report(build(TO))
    assert dsns.SECRET not in repr(report)
    assert "this line is one of the mail" not in report.reason


@pytest.mark.parametrize(
    "copy",
    [
        "--- Below this line is a copy of the message.\n\n550 5.1.1 written in the mail",
        "Return-Path: <x@y.example>\nSubject: 550 5.1.1 written in the mail\n",
        "------ This is a copy of your message. ------\n\nno such user, says the mail",
    ],
)
def test_where_the_mailer_gives_no_reason_the_mail_gives_none(copy: str) -> None:
    report = read_report(dsns.qmail(TO, f"Sorry, I gave up.\n\n{copy}"))
    assert (report.verdict, report.reason) == (Verdict.SOFT, "The mail came back.")


@pytest.mark.parametrize(("depth", "verdict"), [(3, Verdict.HARD), (40, Verdict.NO_REPORT)])
def test_parts_are_read_no_deeper_than_reports_are(depth: int, verdict: Verdict) -> None:
    """Each level costs time for every line below it."""
    raw = dsns.postfix(TO).partition(b"MIME-Version: 1.0\r\n")[2]
    for level in range(depth):
        head = f'Content-Type: multipart/mixed; boundary="x{level}"\r\n\r\n--x{level}\r\n'
        raw = head.encode() + raw
    assert read_report(b"From: Ada <ada@x.example>\r\n" + raw).verdict is verdict


def test_words_are_one_line_of_what_can_be_seen() -> None:
    report = read_report(
        dsns.postfix(TO, words="550 5.1.1 a\x00b\x1b[31m\u202ec\ud7ff\n\t<script>" + "x" * 2000)
    )
    assert report.reason.startswith("550 5.1.1 a b [31m c")
    assert "<script>" in report.reason  # What pages escape.
    assert report.reason.isprintable()
    assert len(report.reason) == LONGEST_REASON


@pytest.mark.parametrize("charset", ["x-none", "utf-16", "punycode", "iso-8859-1", "zlib", '"', ""])
def test_any_charset_is_survived(charset: str) -> None:
    header = f"Content-Type: text/plain; charset={charset}\r\nSubject:".encode()
    raw = dsns.qmail(TO).replace(b"Subject:", header, 1)
    assert read_report(raw).verdict is Verdict.HARD


def test_the_headers_tell_where_a_mail_came_back_to() -> None:
    other = "bounces+7-0123456789abcdef@foyer.example"
    raw = (
        f"Delivered-To: {other}\r\nX-Original-To: <{TO}>\r\nTo: Someone <{TO.upper()}>, "
        f'"x" <a@b.example>\r\nX-Unknown: nobody@foyer.example\r\n\r\n'
    ).encode()
    found = read_report(raw).addressed_to
    assert {other, TO, TO.upper()} <= set(found)
    assert "nobody@foyer.example" not in found


@given(st.binary(max_size=2000))
def test_any_bytes_are_read(raw: bytes) -> None:
    assert read_report(raw).verdict is Verdict.NO_REPORT


_PIECES = st.sampled_from(
    [
        b"\r\n",
        b"\n\n",
        b" ",
        b"--b\r\n",
        b"--b--\r\n",
        b"Content-Type: multipart/report; boundary=b\r\n",
        b"Content-Type: message/delivery-status\r\n",
        b"Content-Type: message/rfc822\r\n",
        b"Content-Type: multipart/digest; boundary*0*=utf-8''b\r\n",
        b"Content-Type: text/plain; charset*=x'y'%ff\r\n",
        b"Content-Transfer-Encoding: base64\r\n",
        b"Content-Transfer-Encoding: x-uuencode\r\n",
        b"From: MAILER-DAEMON\xff\r\n",
        b"To: =?utf-8?q?=ff?= <a@b>\r\n",
        b"X-Failed-Recipients: a@b\r\n",
        b"Action: failed\r\n",
        b"Status: 5.1.1\r\n",
        b"Diagnostic-Code: smtp; 550\r\n",
        b"begin 666 x\r\n",
        b"550 no such user\r\n",
    ]
)


@given(st.lists(st.one_of(_PIECES, st.binary(max_size=20)), max_size=30))
def test_any_pieces_of_reports_are_read(pieces: list[bytes]) -> None:
    """In any order: what was torn and put together again."""
    report = read_report(b"".join(pieces))
    assert report.reason.isprintable()
    assert len(report.reason) <= LONGEST_REASON
    assert bool(report.explanation) == (report.verdict is Verdict.HARD)


@given(st.text(), st.text(), st.text(st.characters(exclude_characters="\r\n"), max_size=100))
def test_any_field_is_read(action: str, status: str, words: str) -> None:
    raw = dsns.postfix(TO, action=f"failed\n{action}", status=status, words=words)
    assert TO in read_report(raw).addressed_to


@given(st.integers(0, 3000), st.binary(min_size=1, max_size=3))
def test_a_report_with_a_dent_is_read(place: int, dent: bytes) -> None:
    raw = dsns.exchange(TO)
    read_report(raw[:place] + dent + raw[place:])
    read_report(raw[:place])
