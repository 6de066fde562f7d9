"""The language of the command window: what is read, what is refused and where, what is printed."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.command_language import (
    COMMANDS,
    MAX_COMMANDS,
    MAX_ERRORS,
    MAX_LINE,
    MAX_MAILING_ID,
    MAX_NAME,
    CancelMailing,
    Command,
    CommandError,
    CommandErrors,
    Excerpt,
    Help,
    ListBundles,
    ListCustomers,
    MailingStatus,
    Name,
    PauseMailing,
    RefusedLine,
    ResendWelcomeEmail,
    ResumeMailing,
    SendEmail,
    can_be_written,
    excerpt,
    format_command,
    parse,
    read,
    split_lines,
    suggest,
)

DOCS = Path(__file__).resolve().parents[2] / "docs" / "commands.md"

RESEND = "<BN1>;<BN2>|<CUSTWEBID1>;<CUSTWEBID2>"
SEND = "<TEMPLATE>|<BN1>;<BN2>|<CUSTWEBID1>;<CUSTWEBID2>"
BUNDLES = "names of bundles, separated by “;”"
CUSTOMERS = "web IDs of customers, separated by “;”"
NO_GAP = "a name, or no “;”"
NUMBER = "the number of one mailing, such as 17"
ANY = ", ".join(f"$${entry.word}$$" for entry in COMMANDS)


def names(*texts: str) -> tuple[Name, ...]:
    return tuple(Name(text) for text in texts)


def resend(bundles: str, customers: str) -> ResendWelcomeEmail:
    return ResendWelcomeEmail(names(*bundles.split(";")), names(*customers.split(";")))


def errors_of(text: str) -> tuple[CommandError, ...]:
    with pytest.raises(CommandErrors) as caught:
        parse(text)
    return caught.value.errors


THE_MANUALS_EXAMPLES = [
    (
        "$$RESEND WELCOME EMAIL$$ Entry3PhoneNextGenBundle|CQ001",
        resend("Entry3PhoneNextGenBundle", "CQ001"),
    ),
    (
        "$$RESEND WELCOME EMAIL$$ Entry3PhoneNextGenBundle|CQ001;CQ002;CQ003",
        resend("Entry3PhoneNextGenBundle", "CQ001;CQ002;CQ003"),
    ),
    (
        "$$RESEND WELCOME EMAIL$$ Entry3PhoneNextGenBundle;Stand4PhoneNextGenBundle "
        "|CQ001;CQ002;CQ003",
        resend("Entry3PhoneNextGenBundle;Stand4PhoneNextGenBundle", "CQ001;CQ002;CQ003"),
    ),
]


@pytest.mark.parametrize(("text", "command"), THE_MANUALS_EXAMPLES)
def test_the_manuals_examples_are_read_as_they_stand(text: str, command: Command) -> None:
    assert parse(text) == (command,)


def test_the_manuals_examples_are_read_together() -> None:
    text = "\r\n".join(text for text, _ in THE_MANUALS_EXAMPLES)

    assert parse(text) == tuple(command for _, command in THE_MANUALS_EXAMPLES)


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("$$resend Welcome eMail$$A|B", resend("A", "B")),
        ("  $$ RESEND   WELCOME\u00a0EMAIL $$  A ; B | C ;\tD  ", resend("A;B", "C;D")),
        ("\ufeff$$RESEND WELCOME EMAIL$$\u00a0A\u200b|\u3000B\u00a0", resend("A", "B")),
        ("$$RESEND WELCOME EMAIL$$ A;B;A;a|C;C", resend("A;B;a", "C")),
        ("$$RESEND WELCOME EMAIL$$ $$A$$|#B", resend("$$A$$", "#B")),
        ("$$RESEND WELCOME EMAIL$$ Büro  3|東京\u3000支社", resend("Büro  3", "東京\u3000支社")),
        (f"$$RESEND WELCOME EMAIL$$ {'A' * MAX_NAME}|B", resend("A" * MAX_NAME, "B")),
        ("$$SEND EMAIL$$ Voicemail\u00a0update |A|B;C",
         SendEmail(Name("Voicemail update"), names("A"), names("B", "C"))),
        ("$$LIST BUNDLES$$ A;B", ListBundles(names("A", "B"))),
        ("$$LIST BUNDLES$$ ", ListBundles()),
        ("$$LIST CUSTOMERS$$ A", ListCustomers(names("A"))),
        ("$$LIST CUSTOMERS$$", ListCustomers()),
        ("$$MAILING STATUS$$ 17", MailingStatus(17)),
        ("$$MAILING STATUS$$ " + "0" * 9000 + "17", MailingStatus(17)),
        ("$$PAUSE MAILING$$1", PauseMailing(1)),
        ("$$RESUME MAILING$$ 2 ", ResumeMailing(2)),
        (f"$$CANCEL MAILING$$ {MAX_MAILING_ID}", CancelMailing(MAX_MAILING_ID)),
        ("$$HELP$$", Help()),
    ],
)  # fmt: skip
def test_a_command_is_read(text: str, command: Command) -> None:
    assert parse(text) == (command,)


@pytest.mark.parametrize("text", ["", " ", "\n\n", "# $$HELP$$", "\t# \x00 \n\u00a0\r\n\ufeff"])
def test_blank_lines_and_comments_are_passed_over(text: str) -> None:
    assert parse(text) == ()


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\u2028", "\u2029", "\x85"])
def test_every_line_end_counts_once(end: str) -> None:
    assert parse(f"$$HELP$${end}$$PAUSE MAILING$$ 3{end}") == (Help(), PauseMailing(3))
    assert errors_of(f"# first{end}{end}$$HELP")[0].line == 3


def test_names_and_commands_know_their_places() -> None:
    (_, command) = parse("$$HELP$$\n $$SEND EMAIL$$ News | A ; B;A|C")
    assert isinstance(command, SendEmail)
    assert command.error("Nobody to mail.", "users") == CommandError(
        2, 2, 14, "Nobody to mail.", "users"
    )
    assert [(each.column, each.text) for each in command.bundles] == [(24, "A"), (28, "B")]
    assert command.template.error("There is no such template.", "a template") == CommandError(
        2, 17, 4, "There is no such template.", "a template"
    )

    (pause,) = parse("$$PAUSE MAILING$$ 1234")
    assert pause.error("There is no mailing 1234.", NUMBER).column == 19
    assert pause.place.length == 4
    assert pause == PauseMailing(1234)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # The command's word
        ("$$RESEND WELCOM EMAIL$$ A|B", [(1, 23,
         "There is no command “RESEND WELCOM EMAIL”. Did you mean “RESEND WELCOME EMAIL”?",
         "$$RESEND WELCOME EMAIL$$")]),
        (" $$Resend$$ A|B", [(2, 10,
         "There is no command “Resend”. Did you mean “RESEND WELCOME EMAIL”?",
         "$$RESEND WELCOME EMAIL$$")]),
        ("$$DROP TABLE$$", [(1, 14, "There is no command “DROP TABLE”.", ANY)]),
        ("$$ $$ A", [(1, 5, "There is no command between “$$” and “$$”.", ANY)]),
        ("$$$$", [(1, 4, "There is no command between “$$” and “$$”.", ANY)]),
        ("$$$HELP$$", [(1, 9, "There is no command “$HELP”. Did you mean “HELP”?", "$$HELP$$")]),
        ("RESEND WELCOME EMAIL A|B", [(1, 20,
         "“RESEND WELCOME EMAIL” does not stand between “$$” and “$$”.",
         "$$RESEND WELCOME EMAIL$$")]),
        ("resend  welcome email$$ A|B", [(1, 23,
         "“RESEND WELCOME EMAIL” does not stand between “$$” and “$$”.",
         "$$RESEND WELCOME EMAIL$$")]),
        ("$$RESEND WELCOME EMAIL A;;B|C", [
         (1, 22, "“RESEND WELCOME EMAIL” does not stand between “$$” and “$$”.",
          "$$RESEND WELCOME EMAIL$$"),
         (26, 1, "There is no name before this “;”.", NO_GAP)]),
        ("  $HELP$", [(3, 6, "“HELP” does not stand between “$$” and “$$”.", "$$HELP$$")]),
        ("$$HELLO", [(1, 2, "The “$$” after the command is missing.", "$$ behind the command")]),
        ("HELLO$$ A", [(1, 5, "A command begins with “$$”.", ANY)]),
        ("  Dear all", [(3, 4, "A command begins with “$$”.", ANY)]),
        ("HELPING", [(1, 7, "A command begins with “$$”.", ANY)]),
        # The bars
        ("$$RESEND WELCOME EMAIL$$", [
         (1, 24, "RESEND WELCOME EMAIL needs bundles and customers.", RESEND)]),
        ("$$SEND EMAIL$$ ", [
         (1, 14, "SEND EMAIL needs a template, bundles and customers.", SEND)]),
        ("$$RESEND WELCOME EMAIL$$ A; B ", [
         (26, 4, "The “|” between bundles and customers is missing.", RESEND)]),
        ("$$SEND EMAIL$$ News|CQ001", [
         (16, 10, "A “|” between a template, bundles and customers is missing.", SEND)]),
        ("$$RESEND WELCOME EMAIL$$ A||B", [
         (28, 1, "RESEND WELCOME EMAIL takes one “|”; this is one too many.", RESEND)]),
        ("$$RESEND WELCOME EMAIL$$ A|B|C;", [
         (29, 1, "RESEND WELCOME EMAIL takes one “|”; this is one too many.", RESEND),
         (31, 1, "There is no name after this “;”.", NO_GAP)]),
        ("$$SEND EMAIL$$ T|A|B|C|D", [
         (21, 1, "SEND EMAIL takes 2 “|”; this is one too many.", SEND)]),
        ("$$LIST BUNDLES$$ A|B", [
         (19, 1, "LIST BUNDLES takes no “|”; this is one too many.", "<CUSTWEBID1>;<CUSTWEBID2>")]),
        # Empty sets
        ("$$RESEND WELCOME EMAIL$$ |A", [(26, 1, "There is no bundle here.", BUNDLES)]),
        ("$$RESEND WELCOME EMAIL$$ A | ", [(28, 1, "There is no customer here.", CUSTOMERS)]),
        ("$$RESEND WELCOME EMAIL$$ |", [
         (26, 1, "There is no bundle here.", BUNDLES),
         (26, 1, "There is no customer here.", CUSTOMERS)]),
        ("$$RESEND WELCOME EMAIL$$ ; ;|A", [(26, 3, "There is no bundle here.", BUNDLES)]),
        ("$$SEND EMAIL$$ |A|B", [(16, 1, "There is no template here.", "the name of a template")]),
        ("$$SEND EMAIL$$ T| |B", [(17, 1, "There is no bundle here.", BUNDLES)]),
        ("$$LIST CUSTOMERS$$ ;", [(20, 1, "There is no bundle here.", BUNDLES)]),
        # Empty names
        ("$$RESEND WELCOME EMAIL$$ ;A|B", [(26, 1, "There is no name before this “;”.", NO_GAP)]),
        ("$$RESEND WELCOME EMAIL$$ A; ;B|C", [
         (29, 1, "There is no name before this “;”.", NO_GAP)]),
        ("$$RESEND WELCOME EMAIL$$ A;;;;B|C", [
         (28, 3, "There is no name before this “;”.", NO_GAP)]),
        ("$$RESEND WELCOME EMAIL$$ ;;A;;B;|;C;;", [
         (26, 2, "There is no name before this “;”.", NO_GAP),
         (30, 1, "There is no name before this “;”.", NO_GAP),
         (32, 1, "There is no name after this “;”.", NO_GAP),
         (34, 1, "There is no name before this “;”.", NO_GAP),
         (36, 2, "There is no name after this “;”.", NO_GAP)]),
        # Names
        (f"$$LIST BUNDLES$$ A;{'B' * 65}", [
         (20, 65, "This name has 65 characters.", "a name of 64 characters at most")]),
        ("$$SEND EMAIL$$ T;U|A|B", [
         (17, 1, "One template can be sent at a time.", "the name of a template")]),
        # Numbers
        ("$$MAILING STATUS$$", [(1, 18, "MAILING STATUS needs the number of a mailing.", NUMBER)]),
        ("$$PAUSE MAILING$$ 0", [(19, 1, "The numbers of mailings begin at 1.", NUMBER)]),
        ("$$PAUSE MAILING$$ -1", [(19, 2, "“-1” is not the number of a mailing.", NUMBER)]),
        ("$$RESUME MAILING$$ 1;2", [(20, 3, "“1;2” is not the number of a mailing.", NUMBER)]),
        ("$$CANCEL MAILING$$ ١٢", [(20, 2, "“١٢” is not the number of a mailing.", NUMBER)]),
        ("$$CANCEL MAILING$$ ²", [(20, 1, "“²” is not the number of a mailing.", NUMBER)]),
        (f"$$CANCEL MAILING$$ {MAX_MAILING_ID + 1}", [
         (20, 19, "No mailing has so large a number.", NUMBER)]),
        (f"$$CANCEL MAILING$$ {'9' * 9000}", [
         (20, 9000, "No mailing has so large a number.", NUMBER)]),
        # A command that stands alone
        ("$$HELP$$ me out", [
         (10, 6, "HELP takes nothing behind it.", "the end of the line")]),
        # Characters
        ("$$LIST BUNDLES$$ A\x00;B\x1b\x07", [
         (19, 1, "The character U+0000 cannot be part of a command.",
          "text without control characters"),
         (22, 2, "The character U+001B cannot be part of a command.",
          "text without control characters")]),
        ("$$LIST BUNDLES$$ \ud83d", [
         (18, 1, "The character U+D83D cannot be part of a command.",
          "text without control characters")]),
        # Limits
        ("$$LIST BUNDLES$$ ".ljust(MAX_LINE + 9, "A"), [
         (MAX_LINE + 1, 9, "The line is longer than 100,000 characters.",
          "100,000 characters at most; make several commands of it")]),
    ],
)  # fmt: skip
def test_an_error_says_where_it_is_and_what_was_expected(
    text: str, expected: list[tuple[int, int, str, str]]
) -> None:
    assert errors_of(text) == tuple(CommandError(1, *each) for each in expected)
    assert [error.line for error in errors_of(f"$$HELP$$\n\n{text}")] == [3] * len(expected)


def test_the_errors_of_all_lines_are_told_in_order() -> None:
    found = errors_of("$$HELP$$ x\r\n$$HELP$$\r\n# $$\r\n$$LIST BUNDLES$$ A;;B;\r\nhello")

    assert [(error.line, error.column) for error in found] == [(1, 10), (4, 20), (4, 22), (5, 1)]


def test_lines_with_errors_hide_none_of_the_others() -> None:
    reading = read("$$HELP$$ x\n# $$\n$$LIST BUNDLES$$ A\n\nhello\n$$PAUSE MAILING$$ 3")

    assert reading.lines == (
        RefusedLine(line=1),
        ListBundles(names("A")),
        RefusedLine(line=5),
        PauseMailing(3),
    )
    assert [(error.line, error.column) for error in reading.errors] == [(1, 10), (5, 1)]


@pytest.mark.parametrize(
    ("text", "known"),
    [
        # Names whose part in the command is certain
        ("$$RESEND WELCOME EMAIL$$ A;;B|C;", {"bundles": "A;B", "customers": "C"}),
        ("$$RESEND WELCOME EMAIL$$ |C;D", {"customers": "C;D"}),
        ("$$RESEND WELCOME EMAIL A|B", {"bundles": "A", "customers": "B"}),
        (f"$$RESEND WELCOME EMAIL$$ A;{'B' * 65}|C", {"bundles": "A", "customers": "C"}),
        ("$$SEND EMAIL$$ T|;A|B", {"templates": "T", "bundles": "A", "customers": "B"}),
        ("$$SEND EMAIL$$ T;|A|B", {"templates": "T", "bundles": "A", "customers": "B"}),
        ("$$LIST BUNDLES$$ A;;B", {"customers": "A;B"}),
        ("$$LIST CUSTOMERS$$ ;A", {"bundles": "A"}),
        # Names whose part is not
        ("$$RESEND WELCOME EMAIL$$ A;B", {}),
        ("$$RESEND WELCOME EMAIL$$ A||B", {}),
        ("$$SEND EMAIL$$ A|B", {}),
        ("$$SEND EMAIL$$ T|A|B|C", {}),
        ("$$SEND EMAIL$$ T;U|A|B", {"bundles": "A", "customers": "B"}),
        ("$$LIST BUNDLES$$ A|B", {}),
        ("$$RESENDD$$ A|B", {}),
        ("A|B", {}),
        ("$$RESEND WELCOME EMAIL$$ A\x00;B|C", {"bundles": "B", "customers": "C"}),
        ("$$LIST BUNDLES$$ ".ljust(MAX_LINE + 1, "A"), {}),
        # Numbers of what may be steered
        ("$$PAUS MAILING$$ 17", {"mailing_ids": {17}}),
        ("PAUSE MAILING 017", {"mailing_ids": {17}}),
        ("$$PAUSE MAILING$$ 1;2 3a 0", {"mailing_ids": {1, 2}}),
        ("$$HELP$$ $$PAUSE MAILING$$ 4", {"mailing_ids": {4}}),
        (f"pause {'9' * 9000} {'0' * 9000}5", {"mailing_ids": {5}}),
        ("$$LIST BUNDLES$$ 1;;2", {"customers": "1;2"}),
    ],
)  # fmt: skip
def test_of_a_line_with_errors_is_kept_what_is_certain(text: str, known: dict[str, Any]) -> None:
    (line,) = read(text).lines

    sets = {key: names(*value.split(";")) for key, value in known.items() if key != "mailing_ids"}
    assert line == RefusedLine(
        line=1,
        templates=sets.get("templates", ()),
        bundles=sets.get("bundles", ()),
        customers=sets.get("customers", ()),
        mailing_ids=frozenset(known.get("mailing_ids", ())),
    )


def test_reading_ends_where_nothing_more_would_be_told() -> None:
    many = read("$$HELP$$\n" * (MAX_COMMANDS + 5))
    assert many.lines == (Help(),) * MAX_COMMANDS + (RefusedLine(line=MAX_COMMANDS + 1),)
    assert len(many.errors) == 1

    wrong = read("$$LIST BUNDLES$$ A" + ";;A" * (MAX_ERRORS + 1) + "\n$$HELP$$")
    assert len(wrong.lines) == 1


def test_errors_read_as_sentences() -> None:
    with pytest.raises(CommandErrors) as caught:
        parse("$$PAUSE MAILING$$ 0")

    assert caught.value.message == (
        "Line 1, column 19: The numbers of mailings begin at 1. "
        "Expected: the number of one mailing, such as 17."
    )


def test_a_text_has_a_thousand_commands_at_most() -> None:
    assert len(parse("$$HELP$$\n\n# more\n" * MAX_COMMANDS)) == MAX_COMMANDS

    (error,) = errors_of("$$HELP$$\n" * (MAX_COMMANDS + 5))
    assert (error.line, error.column, error.length) == (MAX_COMMANDS + 1, 1, 8)
    assert error.message == "There are more than 1,000 commands."


def test_more_errors_than_anyone_reads_are_cut_short() -> None:
    found = errors_of("$$LIST BUNDLES$$ A" + ";;A" * 30_000)

    assert len(found) == MAX_ERRORS + 1
    assert found[-1].message == "There are more than 1,000 errors. The first 1,000 are listed."


@pytest.mark.parametrize("filler", [";", "|", "$", " ", "A;", "\u00a0", "\x00", "$ ", "RESEND "])
def test_long_lines_are_read_in_linear_time(filler: str) -> None:
    for head in ("$$LIST BUNDLES$$ ", "", "$$", "$$RESEND WELCOME EMAIL"):
        line = (head + filler * MAX_LINE)[: MAX_LINE - 1] + "x"
        started = time.process_time()
        with suppress(CommandErrors):
            parse(line)
        assert time.process_time() - started < 2


@pytest.mark.parametrize("entry", COMMANDS, ids=lambda entry: entry.word)
def test_every_example_can_be_pasted_and_is_documented(entry) -> None:
    (command,) = parse(entry.example)

    assert format_command(command) == entry.example
    assert entry.example.startswith(f"$${entry.word}$$")
    assert entry.usage.startswith(f"$${entry.word}$$")
    documented = DOCS.read_text()
    assert f"`{entry.usage}`" in documented
    assert entry.example in documented


@pytest.mark.parametrize(
    "text",
    ["", " A", "A ", "A;B", "A|B", "A\nB", "A\x85B", "A\u2028B", "A\tB", "A\u00a0B", "A\x00",
     "\udc80", "\ufeffA", "A" * 65],
)  # fmt: skip
def test_a_name_that_cannot_be_written_is_no_name(text: str) -> None:
    assert not can_be_written(text)
    with pytest.raises(ValueError, match="cannot be written"):
        Name(text)


def test_a_command_that_cannot_be_written_is_no_command() -> None:
    for make in (
        lambda: ResendWelcomeEmail((), names("A")),
        lambda: ResendWelcomeEmail(names("A"), names("A", "A")),
        lambda: SendEmail(Name("T"), names("A"), ()),
        lambda: ListBundles(names("A", "A")),
        lambda: MailingStatus(0),
        lambda: CancelMailing(MAX_MAILING_ID + 1),
    ):
        with pytest.raises(ValueError):  # noqa: PT011
            make()


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("cq001", ["CQ002", "CQ001"], "CQ001"),
        ("entry3phonenextgenbundle", ["Entry3PhoneNextGenBundles", "Entry3PhoneNextGenBundle"],
         "Entry3PhoneNextGenBundle"),
        ("Voicemail  update", ["Voicemail update"], "Voicemail update"),
        ("Bu\u0308ro", ["Büro"], "Büro"),
        ("Entry3PhoneNexGenBundle", ["Stand4PhoneNextGenBundle", "Entry3PhoneNextGenBundle"],
         "Entry3PhoneNextGenBundle"),
        ("Entry3", ["Stand4PhoneNextGenBundle", "Entry3PhoneNextGenBundle"],
         "Entry3PhoneNextGenBundle"),
        ("<CUSTWEBID1>", ["CQ001", "CQ002"], None),
        ("CQ001", ["CQ001"], None),
        ("CQ001", [], None),
        ("", ["A"], None),
        ("x" * 90_000, ["A"], None),
    ],
)  # fmt: skip
def test_a_name_is_suggested_when_one_is_alike(
    name: str, known: list[str], expected: str | None
) -> None:
    assert suggest(name, known) == expected


def test_an_excerpt_shows_the_place_and_nothing_that_harms_a_terminal() -> None:
    line = f"$$LIST BUNDLES$$ {'A' * 50};\x1b;{'B' * 50}"
    (error,) = errors_of(line)

    shown = excerpt(line, error, context=10)

    assert shown == Excerpt(f"…{'A' * 9};", "\ufffd", f";{'B' * 9}…")
    assert excerpt("$$\tHELP$$ x", CommandError(1, 11, 1, "", "")) == Excerpt("$$ HELP$$ ", "x", "")


written_names = st.text(min_size=1, max_size=MAX_NAME).filter(can_be_written).map(Name)
sets = st.lists(written_names, min_size=1, max_size=5, unique=True).map(tuple)
numbers = st.integers(1, MAX_MAILING_ID)
commands = st.one_of(
    st.builds(ResendWelcomeEmail, sets, sets),
    st.builds(SendEmail, written_names, sets, sets),
    st.builds(ListBundles, sets | st.just(())),
    st.builds(ListCustomers, sets | st.just(())),
    *(
        st.builds(kind, numbers)
        for kind in (MailingStatus, PauseMailing, ResumeMailing, CancelMailing)
    ),
    st.just(Help()),
)
pieces = [
    *"$|;#A1\t\x00\u00a0\u2028\ud800", "$$", "\r\n", "$$RESEND WELCOME EMAIL$$ ", "$$send email$$",
    "$$LIST BUNDLES$$", "$$PAUSE MAILING$$ ", "$$HELP$$", "HELP", "CQ001;", "B" * 70,
]  # fmt: skip
texts = st.text(st.characters()) | st.lists(st.sampled_from(pieces)).map("".join)


@settings(deadline=None)
@given(st.lists(commands, max_size=5))
def test_what_is_printed_back_parses_to_the_same_commands(printed: list[Command]) -> None:
    lines = [format_command(command) for command in printed]

    assert parse("\n".join(lines)) == tuple(printed)
    assert [format_command(command) for command in parse("\r\n".join(lines))] == lines


def outcome(text: str) -> tuple[tuple[Command, ...], tuple[CommandError, ...]]:
    try:
        return parse(text), ()
    except CommandErrors as refused:
        return (), refused.errors


@settings(deadline=None)
@given(texts)
@example("$$RESEND WELCOME EMAIL$$ |")
def test_any_text_is_read_or_refused_with_places_inside_it(text: str) -> None:
    lines = split_lines(text)
    _, errors = outcome(text)
    for error in errors:
        assert 1 <= error.line <= len(lines)
        line = lines[error.line - 1]
        assert 1 <= error.column < error.column + error.length <= len(line) + 1
        assert error.message
        assert error.expected
        assert excerpt(line, error).marked
        str(error).encode()


@settings(deadline=None)
@given(texts)
@example("$$RESEND WELCOME EMAIL$$ A\u00a0B;\tC|D;E;D")
def test_what_was_read_stands_where_it_says_and_can_be_printed(text: str) -> None:
    lines = split_lines(text)
    read, _ = outcome(text)
    for command in read:
        assert parse(format_command(command)) == (command,)
        for each in (*getattr(command, "bundles", ()), *getattr(command, "customers", ())):
            written = lines[each.line - 1][each.column - 1 :][: len(each.text)]
            assert re.sub(r"[\t\u00a0\u2007\u202f]", " ", written) == each.text


@settings(deadline=None)
@given(st.lists(texts | commands.map(format_command), max_size=8))
@example(["$$HELP$$ x", "$$HELP$$", "A;;B", "$$RESEND WELCOME EMAIL$$ A;|B"])
def test_each_line_is_read_as_if_it_stood_alone(written: list[str]) -> None:
    lines = [line for text in written for line in split_lines(text)]
    alone = [read(line) for line in lines]

    together = read("\n".join(lines))

    assert together.errors == tuple(
        replace(error, line=number)
        for number, reading in enumerate(alone, start=1)
        for error in reading.errors
    )
    assert together.lines == tuple(
        replace(each, line=number) if isinstance(each, RefusedLine) else each
        for number, reading in enumerate(alone, start=1)
        for each in reading.lines
    )


@settings(deadline=None)
@given(texts)
@example("$$RESEND WELCOME EMAIL$$ A;;\u00a0B|\tC\u00a0D")
def test_names_of_lines_with_errors_stand_where_they_say(text: str) -> None:
    lines = split_lines(text)
    for each in read(text).lines:
        if not isinstance(each, RefusedLine):
            continue
        for name in (*each.templates, *each.bundles, *each.customers):
            assert name.line == each.line
            written = lines[each.line - 1][name.column - 1 :][: len(name.text)]
            assert re.sub(r"[\t\u00a0\u2007\u202f]", " ", written) == name.text
