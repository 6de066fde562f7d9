"""Named placeholders of e-mail templates: the list, the syntax, the errors.

A template writes `((first name))`; case and inner spaces do not matter. A part in `[[ … ]]` is left
out when a placeholder inside it has no value. Such parts are not nested. Templates are edited by
people, so there is nothing to execute: no expressions, no loops, no attributes.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """How a value is written into a message."""

    TEXT = "text"
    URL = "url"
    MULTILINE = "multiline"


@dataclass(frozen=True)
class Placeholder:
    """One entry of the list that template editors choose from.

    `secret` values are credentials: never shown in previews or stored in clear.
    `shared` values are the same for many recipients, so that rendering may keep them.
    `system_only` values exist in the system's own mails alone.
    """

    name: str
    description: str
    sample: str
    kind: Kind = Kind.TEXT
    secret: bool = False
    shared: bool = False
    system_only: bool = False


_ALL = (
    Placeholder("first name", "First name of the user", "Ada"),
    Placeholder("last name", "Last name of the user", "Kenton"),
    Placeholder("full name", "First and last name of the user", "Ada Kenton"),
    Placeholder("login", "Name that the user signs in with", "ada@kenton-electronics.com"),
    Placeholder("email", "E-mail address of the user", "ada.kenton@kenton-electronics.com"),
    Placeholder("extension", "Internal telephone number of the user", "2041"),
    Placeholder(
        "portal password", "New password for the portal", "samp-LePa-ssword-7Kx2", secret=True
    ),
    Placeholder(
        "application password",
        "New password for the customer's application platform",
        "samp-LePa-ssword-4Mt9",
        secret=True,
    ),
    Placeholder(
        "portal link",
        "Address of the portal",
        "https://portal.example/login",
        kind=Kind.URL,
        shared=True,
    ),
    Placeholder(
        "application link",
        "Address of the customer's application platform",
        "https://apps.example",
        kind=Kind.URL,
        shared=True,
    ),
    Placeholder(
        "help link",
        "Address of the help page",
        "https://portal.example/help",
        kind=Kind.URL,
        shared=True,
    ),
    Placeholder("help contact", "Whom to ask for help", "help@portal.example", shared=True),
    Placeholder("customer name", "Name of the customer", "KentonElectronics", shared=True),
    Placeholder("bundle", "Bundle of the user", "Entry3PhoneNextGenBundle", shared=True),
    Placeholder(
        "services",
        "Services of the user, one per line",
        "Desk phone\nVoicemail\nMobile app",
        kind=Kind.MULTILINE,
        shared=True,
    ),
    Placeholder(
        "setup instructions",
        "What the customer wants its users to do first",
        "Install the app on your phone.\nSign in with your login and the application password.",
        kind=Kind.MULTILINE,
        shared=True,
    ),
    Placeholder(
        "provider name", "Name of the service provider", "Foyer Communications", shared=True
    ),
    Placeholder(
        "reset link",
        "Link to choose a new password, good for one use",
        "https://portal.example/password/sample",
        kind=Kind.URL,
        secret=True,
        system_only=True,
    ),
    Placeholder("valid for", "How long the link works", "30 minutes", system_only=True),
    Placeholder(
        "tenant name", "Name of the tenant of a request", "KentonElectronics", system_only=True
    ),
    Placeholder(
        "planned start",
        "When the tenant is to be set up, in the reader's time zone",
        "Saturday, 21 November 2026, 22:00 (Central European Standard Time)",
        system_only=True,
    ),
    Placeholder(
        "planned end",
        "End of the off-peak hours of the planned start",
        "Sunday, 22 November 2026, 06:00 (Central European Standard Time)",
        system_only=True,
    ),
    Placeholder(
        "reason",
        "What the provider wrote about a request",
        "The name is that of another company.\nChoose your own.",
        kind=Kind.MULTILINE,
        system_only=True,
    ),
    Placeholder(
        "request link",
        "Address of a request, for who may open it",
        "https://portal.example/tenant-creation-management/1",
        kind=Kind.URL,
        system_only=True,
    ),
    Placeholder(
        "change link",
        "Address where a request is changed, for who may open it",
        "https://portal.example/tenant-registration/1/template",
        kind=Kind.URL,
        system_only=True,
    ),
    Placeholder(
        "registration page",
        "Address where a prospect gets in",
        "https://portal.example/tenant-registration",
        kind=Kind.URL,
        system_only=True,
    ),
    Placeholder(
        "registration link",
        "Link that signs a prospect in, good for one use",
        "https://portal.example/tenant-registration/link/sample",
        kind=Kind.URL,
        secret=True,
        system_only=True,
    ),
    Placeholder("valid until", "Last day of an invitation", "5 December 2026", system_only=True),
    Placeholder("inviter", "Who invites to register", "Omar Operator", system_only=True),
    Placeholder(
        "service template", "What an invitation is for", "Contact centre", system_only=True
    ),
    Placeholder(
        "message",
        "What the inviter wrote",
        "As we said on the telephone.\nCall me if anything is unclear.",
        kind=Kind.MULTILINE,
        system_only=True,
    ),
    Placeholder(
        "forgot link",
        "Address where one asks for a new password",
        "https://portal.example/password/forgot",
        kind=Kind.URL,
        system_only=True,
    ),
    Placeholder("account", "Bank account, masked", "•••• 4321", system_only=True),
    Placeholder(
        "account holder", "Holder of a bank account", "Kenton Electronics Ltd", system_only=True
    ),
    Placeholder(
        "changed at",
        "When something was changed, in the reader's time zone",
        "Saturday, 21 November 2026, 22:00 (Central European Standard Time)",
        system_only=True,
    ),
    Placeholder(
        "what happened",
        "What was changed about somebody's second factors",
        "An authenticator app was set up as second factor.",
        system_only=True,
    ),
    Placeholder("network address", "Where a change was made from", "192.0.2.17", system_only=True),
    Placeholder(
        "invitation link",
        "Link by which a new member of staff chooses a password, good for one use",
        "https://portal.example/staff/welcome/sample",
        kind=Kind.URL,
        secret=True,
        system_only=True,
    ),
)

PLACEHOLDERS: Mapping[str, Placeholder] = {entry.name: entry for entry in _ALL}
"""Every placeholder by name, in the order in which editors see them."""


class PlaceholderError(ValueError):
    """A fault in a template, with its place (both counted from 1) and, if known, what was meant."""

    def __init__(self, problem: str, line: int, column: int, suggestion: str | None = None) -> None:
        self.problem = problem
        self.line = line
        self.column = column
        self.suggestion = suggestion
        super().__init__(f"Line {line}, column {column}: {problem}")


@dataclass(frozen=True)
class Field:
    """A placeholder in a parsed template; `start` is its offset in the source."""

    placeholder: Placeholder
    start: int


@dataclass(frozen=True)
class OptionalPart:
    """A part that is left out when one of its fields is empty; `start` is its offset."""

    nodes: tuple[str | Field, ...]
    start: int


Node = str | Field | OptionalPart

_MARK = re.compile(r"\(\(|\[\[|\]\]")
_SPACES = re.compile(r"(?:\s|&nbsp;)+")
_MAX_NAME = 60


def editor_placeholders() -> tuple[Placeholder, ...]:
    """Return what template editors may use, in the order to show."""
    return tuple(entry for entry in _ALL if not entry.system_only)


def sample_values() -> dict[str, str]:
    """Return a value for every placeholder, for previews. The passwords in it are made up."""
    return {entry.name: entry.sample for entry in _ALL}


def placeholders_in(text: str) -> set[str]:
    """Return the names of the placeholders that `text` uses. Raises PlaceholderError."""
    return {field.placeholder.name for field in fields_of(parse(text, system=True))}


def fields_of(nodes: tuple[Node, ...]) -> list[Field]:
    """Return the fields of parsed nodes in order, those in optional parts included."""
    fields: list[Field] = []
    for node in nodes:
        if isinstance(node, Field):
            fields.append(node)
        elif isinstance(node, OptionalPart):
            fields.extend(inner for inner in node.nodes if isinstance(inner, Field))
    return fields


def error_at(
    source: str, offset: int, problem: str, suggestion: str | None = None
) -> PlaceholderError:
    """Return the PlaceholderError for an offset in a template's source."""
    before = source[:offset]
    line = before.count("\n") + 1
    column = offset - (before.rfind("\n") + 1) + 1
    return PlaceholderError(problem, line, column, suggestion)


def parse(source: str, *, system: bool = False) -> tuple[Node, ...]:
    """Split a template into literal text, fields and optional parts.

    `system` allows the placeholders of the system's own mails. Newlines must be LF.
    Raises PlaceholderError for an unknown name, an unclosed mark or a nested optional part.
    """
    outer: list[Node] = []
    inner: list[str | Field] | None = None
    opened_at = position = 0
    while mark := _MARK.search(source, position):
        literal = source[position : mark.start()]
        target: list[Node] | list[str | Field] = outer if inner is None else inner
        if literal:
            target.append(literal)
        position = mark.end()
        match mark.group():
            case "((":
                field, position = _parse_field(source, mark.start(), system)
                target.append(field)
            case "[[":
                if inner is not None:
                    raise error_at(source, mark.start(), "An optional part cannot hold another.")
                inner, opened_at = [], mark.start()
            case _:
                if inner is None:
                    raise error_at(source, mark.start(), "“]]” without “[[” before it.")
                if not any(isinstance(node, Field) for node in inner):
                    raise error_at(
                        source, opened_at, "An optional part needs a placeholder to depend on."
                    )
                newlines = _newlines_to_take(source, opened_at, position)
                position += len(newlines)
                if newlines:
                    inner.append(newlines)
                outer.append(OptionalPart(tuple(inner), opened_at))
                inner = None
    if inner is not None:
        raise error_at(source, opened_at, "“[[” is not closed with “]]”.")
    if position < len(source):
        outer.append(source[position:])
    return tuple(outer)


def _newlines_to_take(source: str, start: int, end: int) -> str:
    """Return the newlines that go with an optional part on lines of its own.

    Without this, leaving the part out would leave a hole where it stood.
    """
    before = source[:start]
    after = source[end : end + 2]
    if before and not before.endswith("\n"):
        return ""
    alone = not before or before.endswith("\n\n")
    if alone and after == "\n\n":
        return "\n\n"
    return "\n" if after.startswith("\n") else ""


def _parse_field(source: str, start: int, system: bool) -> tuple[Field, int]:
    """Return the field that begins at `start`, and the offset behind it."""
    end = source.find("))", start)
    written = source[start + 2 : end]
    if end < 0 or "((" in written:
        raise error_at(source, start, "“((” is not closed with “))”.")
    name = _SPACES.sub(" ", written).strip().casefold()
    found = PLACEHOLDERS.get(name)
    if found is None or (found.system_only and not system):
        raise _unknown(source, start, name, system)
    return Field(found, start), end + 2


def _unknown(source: str, start: int, name: str, system: bool) -> PlaceholderError:
    known = [entry.name for entry in _ALL if system or not entry.system_only]
    close = difflib.get_close_matches(name[:_MAX_NAME], known, n=1)
    shown = name if len(name) <= _MAX_NAME else name[:_MAX_NAME] + "…"
    problem = f"There is no placeholder “(({shown}))”."
    if close:
        return error_at(source, start, f"{problem} Did you mean “(({close[0]}))”?", close[0])
    return error_at(source, start, problem)
