"""Texts read as commands, and every error of grammar in them, at its place.

The grammar is written down in docs/commands.md.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from services.command_errors import MAX_ERRORS, CommandError, CommandErrors, Place, limit_errors
from services.command_spelling import (
    FORBIDDEN,
    FORBIDDEN_RUN,
    MAX_NAME,
    PLAIN_SPACE,
    REPLACEMENT,
    SPACE_RUN,
    SPACES,
    shortened,
    split_lines,
    suggest,
)
from services.command_words import (
    COMMANDS,
    MAX_MAILING_ID,
    CancelMailing,
    Command,
    Help,
    ListBundles,
    ListCustomers,
    MailingStatus,
    Name,
    PauseMailing,
    ResendWelcomeEmail,
    ResumeMailing,
    SendEmail,
)

MAX_LINE = 100_000
MAX_COMMANDS = 1_000


class _Role(StrEnum):
    TEMPLATE = "template"
    BUNDLE = "bundle"
    CUSTOMER = "customer"


_Sets = Sequence[tuple[Name, ...]]


@dataclass(frozen=True)
class _SetsForm:
    """A command with sets of names, separated by bars; `optional` allows none at all."""

    roles: tuple[_Role, ...]
    build: Callable[[_Sets, Place], Command]
    optional: bool = False


@dataclass(frozen=True)
class _NumberForm:
    """A command on the mailing with a number."""

    build: Callable[[int, Place], Command]


@dataclass(frozen=True)
class _BareForm:
    """A command that stands alone."""

    build: Callable[[Place], Command]


_Form = _SetsForm | _NumberForm | _BareForm


_FORMS: dict[str, _Form] = {
    "RESEND WELCOME EMAIL": _SetsForm(
        (_Role.BUNDLE, _Role.CUSTOMER),
        lambda sets, place: ResendWelcomeEmail(sets[0], sets[1], place=place),
    ),
    "SEND EMAIL": _SetsForm(
        (_Role.TEMPLATE, _Role.BUNDLE, _Role.CUSTOMER),
        lambda sets, place: SendEmail(sets[0][0], sets[1], sets[2], place=place),
    ),
    "LIST BUNDLES": _SetsForm(
        (_Role.CUSTOMER,), lambda sets, place: ListBundles(sets[0], place=place), optional=True
    ),
    "LIST CUSTOMERS": _SetsForm(
        (_Role.BUNDLE,), lambda sets, place: ListCustomers(sets[0], place=place), optional=True
    ),
    "MAILING STATUS": _NumberForm(lambda number, place: MailingStatus(number, place=place)),
    "PAUSE MAILING": _NumberForm(lambda number, place: PauseMailing(number, place=place)),
    "RESUME MAILING": _NumberForm(lambda number, place: ResumeMailing(number, place=place)),
    "CANCEL MAILING": _NumberForm(lambda number, place: CancelMailing(number, place=place)),
    "HELP": _BareForm(lambda place: Help(place=place)),
}


_HOW = {
    _Role.TEMPLATE: "the name of a template",
    _Role.BUNDLE: "names of bundles, separated by “;”",
    _Role.CUSTOMER: "web IDs of customers, separated by “;”",
}
_NUMBER = "the number of one mailing, such as 17"
_ANY_COMMAND = ", ".join(f"$${entry.word}$$" for entry in COMMANDS)


# A known command whose marks are missing or incomplete.
_UNMARKED = re.compile(
    rf"\$*[{SPACES}]*("
    + "|".join(entry.word.replace(" ", f"[{SPACES}]+") for entry in COMMANDS)
    + rf")(?!\w)(?:[{SPACES}]*\$+)?",
    re.IGNORECASE,
)

# A number that stands alone in a line that cannot be read.
_MAILING_ID = re.compile(r"(?<!\w)0*([1-9][0-9]{0,18})(?!\w)", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class RefusedLine:
    """A line with errors of grammar, and what can be said of it all the same.

    Names are here when it is certain what they should be names of. `mailing_ids` are the numbers
    in a line that would steer a mailing, or whose command is unknown.
    """

    line: int
    templates: tuple[Name, ...] = ()
    bundles: tuple[Name, ...] = ()
    customers: tuple[Name, ...] = ()
    mailing_ids: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Reading:
    """The lines of a text that are neither blank nor comments, and their errors of grammar.

    Both are in the order of the text, and end early where a text has more than MAX_COMMANDS
    commands or MAX_ERRORS errors: what lies behind that would not be told.
    """

    lines: tuple[Command | RefusedLine, ...]
    errors: tuple[CommandError, ...]


def parse(text: str) -> tuple[Command, ...]:
    """Return the commands of a text, one per line; blank lines and `#` comments are passed over.

    Raises CommandErrors with the errors of all lines: MAX_ERRORS of them, and one that says so.
    """
    reading = read(text)
    if reading.errors:
        raise CommandErrors(limit_errors(reading.errors))
    return tuple(each for each in reading.lines if not isinstance(each, RefusedLine))


def read(text: str) -> Reading:
    """Read a text as `parse` does, on past lines with errors."""
    lines: list[Command | RefusedLine] = []
    errors: list[CommandError] = []
    for number, written in enumerate(split_lines(text), start=1):
        content = written.strip(SPACES)
        if not content or content.startswith("#"):
            continue
        line = _Line(number, written)
        if len(lines) == MAX_COMMANDS:
            line.refuse(
                (0, len(written)),
                f"There are more than {MAX_COMMANDS:,} commands.",
                f"{MAX_COMMANDS:,} commands at most; run the others afterwards",
            )
            lines.append(RefusedLine(line=number))
        elif len(written) > MAX_LINE:
            line.refuse(
                (MAX_LINE, len(written)),
                f"The line is longer than {MAX_LINE:,} characters.",
                f"{MAX_LINE:,} characters at most; make several commands of it",
            )
            lines.append(RefusedLine(line=number))
        else:
            lines.append(_read_line(line))
        errors.extend(sorted(line.errors, key=lambda error: error.column))
        if len(lines) > MAX_COMMANDS or len(errors) > MAX_ERRORS:
            break
    return Reading(tuple(lines), tuple(errors))


_Span = tuple[int, int]
"""Offsets in a line: from the first, up to the second."""


class _Line:
    """One line under the parser, its errors, and its names as far as their roles are certain."""

    def __init__(self, number: int, written: str) -> None:
        self.number = number
        self.text = FORBIDDEN.sub(REPLACEMENT, written)
        self.errors: list[CommandError] = []
        self.names: dict[_Role, tuple[Name, ...]] = {}
        for run in FORBIDDEN_RUN.finditer(written):
            code = f"U+{ord(run.group()[0]):04X}"
            self.refuse(
                run.span(),
                f"The character {code} cannot be part of a command.",
                "text without control characters",
            )

    def refuse(self, span: _Span, message: str, expected: str) -> None:
        place = self.place(span)
        self.errors.append(CommandError(place.line, place.column, place.length, message, expected))

    def place(self, span: _Span) -> Place:
        return Place(self.number, span[0] + 1, span[1] - span[0])

    def trimmed(self, span: _Span) -> _Span:
        """The span without the spaces at its ends; both offsets are its end when it is blank."""
        part = self.text[slice(*span)]
        start = span[1] - len(part.lstrip(SPACES))
        return start, start + len(part.strip(SPACES))

    def rest(self, start: int) -> _Span:
        return self.trimmed((start, len(self.text)))


@dataclass(frozen=True)
class _Head:
    """A command's word and where it stands, marks included."""

    word: str
    span: _Span


def _read_line(line: _Line) -> Command | RefusedLine:
    """Return the line's command, or what is known of it when the line has errors, now in `line`."""
    head = _read_head(line)
    command = None if head is None else _read_arguments(line, head)
    if command is not None and not line.errors:
        return command
    may_steer = head is None or not isinstance(_FORMS[head.word], _SetsForm)
    ids = _MAILING_ID.findall(line.text) if may_steer else ()
    return RefusedLine(
        line=line.number,
        templates=line.names.get(_Role.TEMPLATE, ()),
        bundles=line.names.get(_Role.BUNDLE, ()),
        customers=line.names.get(_Role.CUSTOMER, ()),
        mailing_ids=frozenset(map(int, ids)),
    )


def _read_arguments(line: _Line, head: _Head) -> Command | None:
    match _FORMS[head.word]:
        case _SetsForm() as form:
            return _read_sets(line, head, form)
        case _NumberForm() as form:
            return _read_number(line, head, form)
        case _BareForm() as form:
            return _read_nothing(line, head, form)


def _read_head(line: _Line) -> _Head | None:
    """Return the command's word; also one whose marks are missing, after refusing that."""
    start, end = line.rest(0)
    opened = line.text.startswith("$$", start)
    closing = line.text.find("$$", start + 2 if opened else start)
    if opened and closing >= 0:
        span = (start, closing + 2)
        word = SPACE_RUN.sub(" ", line.text[start + 2 : closing]).strip(" ").upper()
        if word in _FORMS:
            return _Head(word, span)
        _refuse_word(line, span, line.text[start + 2 : closing].strip(SPACES))
        return None
    if unmarked := _UNMARKED.match(line.text, start):
        word = SPACE_RUN.sub(" ", unmarked.group(1)).upper()
        line.refuse(
            unmarked.span(), f"“{word}” does not stand between “$$” and “$$”.", f"$${word}$$"
        )
        return _Head(word, unmarked.span())
    if opened:
        line.refuse(
            (start, start + 2), "The “$$” after the command is missing.", "$$ behind the command"
        )
    else:
        space = SPACE_RUN.search(line.text, start, end)
        stop = closing if closing > start else space.start() if space else end
        line.refuse((start, stop), "A command begins with “$$”.", _ANY_COMMAND)
    return None


def _refuse_word(line: _Line, span: _Span, word: str) -> None:
    if not word:
        line.refuse(span, "There is no command between “$$” and “$$”.", _ANY_COMMAND)
        return
    meant = suggest(word, _FORMS)
    hint = f" Did you mean “{meant}”?" if meant else ""
    line.refuse(
        span,
        f"There is no command “{shortened(word)}”.{hint}",
        f"$${meant}$$" if meant else _ANY_COMMAND,
    )


def _read_sets(line: _Line, head: _Head, form: _SetsForm) -> Command | None:
    given = line.rest(head.span[1])
    if given[0] == given[1]:
        if form.optional:
            return form.build([()], line.place(head.span))
        line.refuse(head.span, f"{head.word} needs {_listed(form.roles)}.", _arguments(head.word))
        return None
    parts = _split(line.text, "|", given)
    fits = len(parts) == len(form.roles)
    if not fits:
        _refuse_bars(line, head, form, parts)
    sets = [_read_names(line, part) for part in parts]
    if fits:
        for index, role in enumerate(form.roles):
            _check_role(line, role, parts, index)
        line.names = {
            role: _certain(names, role) for role, names in zip(form.roles, sets, strict=True)
        }
    return None if line.errors else form.build(sets, line.place(head.span))


def _certain(names: tuple[Name, ...], role: _Role) -> tuple[Name, ...]:
    """The names without those of which it is not known what was meant.

    Those are several templates, which may be one with a `;` in its name, and names with a
    character that had to be replaced.
    """
    if role is _Role.TEMPLATE and len(names) > 1:
        return ()
    return tuple(name for name in names if REPLACEMENT not in name.text)


def _refuse_bars(line: _Line, head: _Head, form: _SetsForm, parts: list[_Span]) -> None:
    """Refuse a line with too few bars, or with too many, where the first surplus one stands."""
    wanted, found = len(form.roles) - 1, len(parts) - 1
    if found < wanted:
        what = "The “|”" if wanted == 1 else "A “|”"
        line.refuse(
            (parts[0][0], parts[-1][1]),
            f"{what} between {_listed(form.roles)} is missing.",
            _arguments(head.word),
        )
        return
    surplus = (parts[wanted][1], parts[wanted][1] + 1)
    takes = {0: "no “|”", 1: "one “|”"}.get(wanted, f"{wanted} “|”")
    line.refuse(surplus, f"{head.word} takes {takes}; this is one too many.", _arguments(head.word))


def _check_role(line: _Line, role: _Role, parts: list[_Span], index: int) -> None:
    """Refuse a set that is empty, or that has several names where one is wanted."""
    part = parts[index]
    written = line.text[slice(*part)]
    if not written.strip(SPACES + ";"):
        semicolons = (part[0] + written.find(";"), part[0] + written.rfind(";") + 1)
        bar = parts[index - 1][1] if index else part[1]
        span = semicolons if ";" in written else (bar, bar + 1)
        line.refuse(span, f"There is no {role} here.", _HOW[role])
    elif role is _Role.TEMPLATE and ";" in written:
        at = part[0] + written.find(";")
        line.refuse((at, at + 1), "One template can be sent at a time.", _HOW[role])


def _read_names(line: _Line, part: _Span) -> tuple[Name, ...]:
    """Return the names of a set, each once; refuse those that are too long or missing."""
    names: dict[str, Name] = {}
    raw = _split(line.text, ";", part)
    spans = [line.trimmed(each) for each in raw]
    given = [index for index, (start, end) in enumerate(spans) if start < end]
    for index in given:
        start, end = spans[index]
        if end - start > MAX_NAME:
            line.refuse(
                (start, end),
                f"This name has {end - start:,} characters.",
                f"a name of {MAX_NAME} characters at most",
            )
            continue
        name = line.text[start:end].translate(PLAIN_SPACE)
        names.setdefault(name, Name(name, line.number, start + 1))
    if given:
        _refuse_gaps(line, raw, given)
    return tuple(names.values())


def _refuse_gaps(line: _Line, raw: list[_Span], given: list[int]) -> None:
    """Refuse each run of surplus semicolons once. `given` are the indexes of names in `raw`."""
    expected = "a name, or no “;”"
    first, last = given[0], given[-1]
    if first > 0:
        line.refuse(
            (raw[0][1], raw[first - 1][1] + 1), "There is no name before this “;”.", expected
        )
    for left, right in itertools.pairwise(given):
        if right > left + 1:
            span = (raw[left + 1][1], raw[right - 1][1] + 1)
            line.refuse(span, "There is no name before this “;”.", expected)
    if last < len(raw) - 1:
        line.refuse((raw[last][1], raw[-2][1] + 1), "There is no name after this “;”.", expected)


def _read_number(line: _Line, head: _Head, form: _NumberForm) -> Command | None:
    given = line.rest(head.span[1])
    written = line.text[slice(*given)]
    digits = written.lstrip("0")
    if not written:
        line.refuse(head.span, f"{head.word} needs the number of a mailing.", _NUMBER)
    elif not (written.isascii() and written.isdigit()):
        line.refuse(given, f"“{shortened(written)}” is not the number of a mailing.", _NUMBER)
    elif not digits:
        line.refuse(given, "The numbers of mailings begin at 1.", _NUMBER)
    elif len(digits) > len(str(MAX_MAILING_ID)) or int(digits) > MAX_MAILING_ID:
        line.refuse(given, "No mailing has so large a number.", _NUMBER)
    else:
        return form.build(int(digits), line.place(given))
    return None


def _read_nothing(line: _Line, head: _Head, form: _BareForm) -> Command | None:
    given = line.rest(head.span[1])
    if given[0] < given[1]:
        line.refuse(given, f"{head.word} takes nothing behind it.", "the end of the line")
        return None
    return form.build(line.place(head.span))


def _split(text: str, separator: str, span: _Span) -> list[_Span]:
    """The spans between the separators: one more than there are separators."""
    spans = []
    start = span[0]
    for part in text[slice(*span)].split(separator):
        spans.append((start, start + len(part)))
        start += len(part) + 1
    return spans


def _arguments(word: str) -> str:
    """What a command's usage shows behind its word."""
    usage = next(entry.usage for entry in COMMANDS if entry.word == word)
    return usage.partition("$$ ")[2]


def _listed(roles: tuple[_Role, ...]) -> str:
    """The roles in words: "a template, bundles and customers"."""
    words = ["a template" if role is _Role.TEMPLATE else f"{role}s" for role in roles]
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
