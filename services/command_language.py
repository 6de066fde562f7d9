"""The language of the maintenance command window: commands, their grammar, their errors.

One line is one command: `$$RESEND WELCOME EMAIL$$ <BN1>;<BN2>|<CUSTWEBID1>;<CUSTWEBID2>`.
Everything here is pure: whether a bundle or customer exists is for others to check, and the
parsed names and commands remember their places so that those errors can point at them, too.
The grammar is written down in docs/commands.md.
"""

from __future__ import annotations

import difflib
import itertools
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from services.errors import ServiceError

MAX_NAME = 64
MAX_LINE = 100_000
MAX_COMMANDS = 1_000
MAX_ERRORS = 1_000
MAX_MAILING_ID = 2**63 - 1

# What text pasted from pages, mails and spreadsheets has around and between words: the spaces of
# Unicode, the tab, and two that have no width (U+200B and U+FEFF, the byte order mark).
_SPACES = (
    " \t\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u200b\u202f\u205f\u3000\ufeff"
)
_PLAIN_SPACE = {ord(each): " " for each in "\t\u00a0\u2007\u202f"}
_SPACE_RUN = re.compile(f"[{_SPACES}]+")
_LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
# Control characters, and halves of surrogate pairs, which no database and no terminal takes.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff]")
_FORBIDDEN_RUN = re.compile(f"{_FORBIDDEN.pattern}+")
_REPLACEMENT = "\ufffd"
_MAILING_ID = re.compile(r"(?<!\w)0*([1-9][0-9]{0,18})(?!\w)", re.ASCII)
_SHOWN = 60


@dataclass(frozen=True)
class Place:
    """Characters of a line; line and column are counted from 1."""

    line: int
    column: int
    length: int


@dataclass(frozen=True)
class CommandError:
    """What is wrong where, and what was expected there.

    Line and column are counted from 1, column and length in characters. The place is always one
    of characters that were written, so that it can be underlined.
    """

    line: int
    column: int
    length: int
    message: str
    expected: str

    def __str__(self) -> str:
        return f"Line {self.line}, column {self.column}: {self.message} Expected: {self.expected}."


class CommandErrors(ServiceError):
    """Every error of a text, in the order of their places."""

    def __init__(self, errors: Iterable[CommandError]) -> None:
        self.errors = tuple(sorted(errors, key=lambda error: (error.line, error.column)))
        super().__init__("\n".join(str(error) for error in self.errors))


@dataclass(frozen=True)
class Name:
    """A bundle, customer or template as written, with its place, which equality ignores.

    Raises ValueError for a text that the language cannot write; see `can_be_written`.
    """

    text: str
    line: int = field(default=1, compare=False)
    column: int = field(default=1, compare=False)

    def __post_init__(self) -> None:
        if not can_be_written(self.text):
            raise ValueError("this name cannot be written in a command")

    def __str__(self) -> str:
        return self.text

    def error(self, message: str, expected: str) -> CommandError:
        """Return an error that points at this name."""
        return CommandError(self.line, self.column, len(self.text), message, expected)


@dataclass(frozen=True, kw_only=True)
class _Placed:
    """`place` is what an error of the command as a whole points at; equality ignores it."""

    place: Place = field(default=Place(1, 1, 1), compare=False, repr=False)

    def error(self, message: str, expected: str) -> CommandError:
        """Return an error that points at the command's word, or at its mailing's number."""
        at = self.place
        return CommandError(at.line, at.column, at.length, message, expected)


@dataclass(frozen=True)
class ResendWelcomeEmail(_Placed):
    """Reset passwords and send the welcome mail to these customers' users of these bundles."""

    bundles: tuple[Name, ...]
    customers: tuple[Name, ...]

    def __post_init__(self) -> None:
        _check_set(self.bundles)
        _check_set(self.customers)


@dataclass(frozen=True)
class SendEmail(_Placed):
    """Send a template to these customers' users of these bundles."""

    template: Name
    bundles: tuple[Name, ...]
    customers: tuple[Name, ...]

    def __post_init__(self) -> None:
        _check_set(self.bundles)
        _check_set(self.customers)


@dataclass(frozen=True)
class ListBundles(_Placed):
    """List the bundles of these customers; of all in the actor's scope when there are none."""

    customers: tuple[Name, ...] = ()

    def __post_init__(self) -> None:
        _check_set(self.customers, optional=True)


@dataclass(frozen=True)
class ListCustomers(_Placed):
    """List the customers that have these bundles; all in the actor's scope when there are none."""

    bundles: tuple[Name, ...] = ()

    def __post_init__(self) -> None:
        _check_set(self.bundles, optional=True)


@dataclass(frozen=True)
class _OfMailing(_Placed):
    mailing_id: int

    def __post_init__(self) -> None:
        if not 1 <= self.mailing_id <= MAX_MAILING_ID:
            raise ValueError("a mailing's number is from 1 to 2^63 - 1")


@dataclass(frozen=True)
class MailingStatus(_OfMailing):
    """Show how far a mailing is."""


@dataclass(frozen=True)
class PauseMailing(_OfMailing):
    """Hold a mailing."""


@dataclass(frozen=True)
class ResumeMailing(_OfMailing):
    """Let a mailing go on."""


@dataclass(frozen=True)
class CancelMailing(_OfMailing):
    """End a mailing."""


@dataclass(frozen=True)
class Help(_Placed):
    """List the commands."""


Command = (
    ResendWelcomeEmail
    | SendEmail
    | ListBundles
    | ListCustomers
    | MailingStatus
    | PauseMailing
    | ResumeMailing
    | CancelMailing
    | Help
)


@dataclass(frozen=True)
class CommandHelp:
    """One command as people learn it: the example can be pasted."""

    word: str
    usage: str
    example: str
    summary: str


COMMANDS: tuple[CommandHelp, ...] = (
    CommandHelp(
        "RESEND WELCOME EMAIL",
        "$$RESEND WELCOME EMAIL$$ <BN1>;<BN2>|<CUSTWEBID1>;<CUSTWEBID2>",
        "$$RESEND WELCOME EMAIL$$ Entry3PhoneNextGenBundle|CQ001;CQ002;CQ003",
        "Resets passwords and sends the welcome e-mail to the users of these customers who have "
        "one of these bundles.",
    ),
    CommandHelp(
        "SEND EMAIL",
        "$$SEND EMAIL$$ <TEMPLATE>|<BN1>;<BN2>|<CUSTWEBID1>;<CUSTWEBID2>",
        "$$SEND EMAIL$$ Voicemail update|Entry3PhoneNextGenBundle|CQ001",
        "Sends an e-mail template to the users of these customers who have one of these bundles.",
    ),
    CommandHelp(
        "LIST BUNDLES",
        "$$LIST BUNDLES$$ <CUSTWEBID1>;<CUSTWEBID2>",
        "$$LIST BUNDLES$$ CQ001;CQ002",
        "Lists the bundles of these customers; without customers, of all you may see.",
    ),
    CommandHelp(
        "LIST CUSTOMERS",
        "$$LIST CUSTOMERS$$ <BN1>;<BN2>",
        "$$LIST CUSTOMERS$$ Entry3PhoneNextGenBundle",
        "Lists the customers that have one of these bundles; without bundles, all you may see.",
    ),
    CommandHelp(
        "MAILING STATUS",
        "$$MAILING STATUS$$ <ID>",
        "$$MAILING STATUS$$ 17",
        "Shows how far a mailing is.",
    ),
    CommandHelp(
        "PAUSE MAILING",
        "$$PAUSE MAILING$$ <ID>",
        "$$PAUSE MAILING$$ 17",
        "Holds a mailing; mails that are on their way still arrive.",
    ),
    CommandHelp(
        "RESUME MAILING",
        "$$RESUME MAILING$$ <ID>",
        "$$RESUME MAILING$$ 17",
        "Lets a paused mailing go on.",
    ),
    CommandHelp(
        "CANCEL MAILING",
        "$$CANCEL MAILING$$ <ID>",
        "$$CANCEL MAILING$$ 17",
        "Ends a mailing for good; mails that were sent stay sent.",
    ),
    CommandHelp("HELP", "$$HELP$$", "$$HELP$$", "Lists the commands."),
)
"""Every command, in the order in which people see them."""


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
    rf"\$*[{_SPACES}]*("
    + "|".join(entry.word.replace(" ", f"[{_SPACES}]+") for entry in COMMANDS)
    + rf")(?!\w)(?:[{_SPACES}]*\$+)?",
    re.IGNORECASE,
)


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
        content = written.strip(_SPACES)
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


def limit_errors(errors: Sequence[CommandError]) -> list[CommandError]:
    """Return the errors that are told: MAX_ERRORS, and a last one when there are more."""
    if len(errors) <= MAX_ERRORS:
        return [*errors]
    more = errors[MAX_ERRORS]
    return [
        *errors[:MAX_ERRORS],
        CommandError(
            more.line,
            more.column,
            more.length,
            f"There are more than {MAX_ERRORS:,} errors. The first {MAX_ERRORS:,} are listed.",
            "fewer errors",
        ),
    ]


def format_command(command: Command) -> str:
    """Return the command as one canonical line, which parses to the same command."""
    match command:
        case ResendWelcomeEmail():
            return f"$$RESEND WELCOME EMAIL$$ {_set(command.bundles)}|{_set(command.customers)}"
        case SendEmail():
            sets = (_set((command.template,)), _set(command.bundles), _set(command.customers))
            return f"$$SEND EMAIL$$ {'|'.join(sets)}"
        case ListBundles():
            return f"$$LIST BUNDLES$$ {_set(command.customers)}".rstrip(" ")
        case ListCustomers():
            return f"$$LIST CUSTOMERS$$ {_set(command.bundles)}".rstrip(" ")
        case MailingStatus():
            return f"$$MAILING STATUS$$ {command.mailing_id}"
        case PauseMailing():
            return f"$$PAUSE MAILING$$ {command.mailing_id}"
        case ResumeMailing():
            return f"$$RESUME MAILING$$ {command.mailing_id}"
        case CancelMailing():
            return f"$$CANCEL MAILING$$ {command.mailing_id}"
        case Help():
            return "$$HELP$$"


def split_lines(text: str) -> list[str]:
    """Split a text into the lines that errors count: at CRLF, LF, CR, NEL, U+2028 and U+2029."""
    return _LINE_BREAK.split(text)


def can_be_written(name: str) -> bool:
    """Say whether commands can name this: up to 64 characters, no `;`, `|`, breaks or controls.

    Spaces at the ends cannot be written either, and inside only those that are plain or wide:
    tabs and non-breaking spaces are read as plain ones.
    """
    return (
        0 < len(name) <= MAX_NAME
        and ";" not in name
        and "|" not in name
        and name == name.strip(_SPACES).translate(_PLAIN_SPACE)
        and not _FORBIDDEN.search(name)
        and not _LINE_BREAK.search(name)
    )


def suggest(name: str, known: Iterable[str]) -> str | None:
    """Return which of the known names was probably meant, or None.

    First one that differs in case, spaces or Unicode form alone, then the only one that begins like
    this, then the most similar. Similarity takes time per known name: narrow them to thousands.
    """
    by_key: dict[str, str] = {}
    for each in known:
        if each != name:
            by_key.setdefault(_key(each), each)
    key = _key(name[: 2 * MAX_NAME])
    if key in by_key:
        return by_key[key]
    longer = [each for each in by_key if each.startswith(key)] if len(key) >= 3 else []
    if len(longer) == 1:
        return by_key[longer[0]]
    close = difflib.get_close_matches(key, by_key, n=1, cutoff=0.7)
    return by_key[close[0]] if close else None


@dataclass(frozen=True)
class Excerpt:
    """The part of a line around an error, fit to be shown; `marked` is what to underline."""

    before: str
    marked: str
    after: str


def excerpt(line: str, error: CommandError, *, context: int = 40) -> Excerpt:
    """Return what to show of the error's line: `context` characters on each side.

    What is left out becomes "…", control characters become U+FFFD, tabs become spaces.
    """
    start = error.column - 1
    end = start + error.length
    shown = _FORBIDDEN.sub(_REPLACEMENT, line).replace("\t", " ")
    before, marked, after = shown[:start], shown[start:end], shown[end:]
    return Excerpt(
        before if len(before) <= context else f"…{before[len(before) - context :]}",
        _shortened(marked, 2 * context),
        _shortened(after, context),
    )


_Span = tuple[int, int]
"""Offsets in a line: from the first, up to the second."""


class _Line:
    """One line under the parser, its errors, and its names as far as their roles are certain."""

    def __init__(self, number: int, written: str) -> None:
        self.number = number
        self.text = _FORBIDDEN.sub(_REPLACEMENT, written)
        self.errors: list[CommandError] = []
        self.names: dict[_Role, tuple[Name, ...]] = {}
        for run in _FORBIDDEN_RUN.finditer(written):
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
        start = span[1] - len(part.lstrip(_SPACES))
        return start, start + len(part.strip(_SPACES))

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
        word = _SPACE_RUN.sub(" ", line.text[start + 2 : closing]).strip(" ").upper()
        if word in _FORMS:
            return _Head(word, span)
        _refuse_word(line, span, line.text[start + 2 : closing].strip(_SPACES))
        return None
    if unmarked := _UNMARKED.match(line.text, start):
        word = _SPACE_RUN.sub(" ", unmarked.group(1)).upper()
        line.refuse(
            unmarked.span(), f"“{word}” does not stand between “$$” and “$$”.", f"$${word}$$"
        )
        return _Head(word, unmarked.span())
    if opened:
        line.refuse(
            (start, start + 2), "The “$$” after the command is missing.", "$$ behind the command"
        )
    else:
        space = _SPACE_RUN.search(line.text, start, end)
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
        f"There is no command “{_shortened(word)}”.{hint}",
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
    return tuple(name for name in names if _REPLACEMENT not in name.text)


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
    if not written.strip(_SPACES + ";"):
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
        name = line.text[start:end].translate(_PLAIN_SPACE)
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
        line.refuse(given, f"“{_shortened(written)}” is not the number of a mailing.", _NUMBER)
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


def _check_set(names: tuple[Name, ...], *, optional: bool = False) -> None:
    if not (names or optional):
        raise ValueError("a set has at least one name")
    if len(set(names)) < len(names):
        raise ValueError("a set has each name once")


def _set(names: tuple[Name, ...]) -> str:
    return ";".join(name.text for name in names)


def _arguments(word: str) -> str:
    """What a command's usage shows behind its word."""
    usage = next(entry.usage for entry in COMMANDS if entry.word == word)
    return usage.partition("$$ ")[2]


def _listed(roles: tuple[_Role, ...]) -> str:
    """The roles in words: "a template, bundles and customers"."""
    words = ["a template" if role is _Role.TEMPLATE else f"{role}s" for role in roles]
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _key(name: str) -> str:
    """What is left of a name when case, spaces and Unicode form do not count."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return _SPACE_RUN.sub(" ", folded).strip(" ")


def _shortened(text: str, limit: int = _SHOWN) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…"
