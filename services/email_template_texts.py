"""The texts of e-mail templates: what may be written, and what its author should know about it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from html.parser import HTMLParser
from typing import TypeVar
from urllib.parse import urlsplit

from config import LANGUAGES
from extensions import get_settings
from models import TemplateKind, is_storable
from services import messages
from services.email_templates import branding, sender
from services.errors import InvalidInputs
from services.mail_headers import MessageError, clean_lines
from services.mail_html import clean_html
from services.mail_plain_texts import text_from_html
from services.placeholders import (
    PLACEHOLDERS,
    Field,
    PlaceholderError,
    fields_of,
    parse,
    sample_values,
)

T = TypeVar("T")

SUBJECT_LENGTH = 255
TEXT_LENGTH = 20_000
HTML_LENGTH = 40_000
PORTAL_PASSWORD = "portal password"  # noqa: S105 - the name of a placeholder


class Part(StrEnum):
    SUBJECT = "subject"
    TEXT = "text"
    HTML = "html"


PART_WORDS = {Part.SUBJECT: "subject", Part.TEXT: "text", Part.HTML: "HTML"}
_LIMITS = {Part.SUBJECT: SUBJECT_LENGTH, Part.TEXT: TEXT_LENGTH, Part.HTML: HTML_LENGTH}


@dataclass(frozen=True, slots=True)
class TypedText:
    """One language of a template as somebody typed it."""

    subject: str = ""
    text: str = ""
    html: str = ""

    @property
    def is_empty(self) -> bool:
        return not (self.subject.strip() or self.text.strip() or self.html.strip())

    def part(self, part: Part) -> str:
        return {Part.SUBJECT: self.subject, Part.TEXT: self.text, Part.HTML: self.html}[part]


@dataclass(frozen=True, slots=True)
class ReadyText:
    """The same as it is kept: cleaned, and with a text. `prepared` is the message that it makes."""

    subject: str
    text: str
    html: str
    text_made: bool
    taken_out: tuple[str, ...]
    prepared: messages.PreparedMessage


def field_of(part: Part, language: str) -> str:
    """The name of a form's field."""
    return f"{part.value}_{language}"


# --- What may be written -------------------------------------------------------------------------


def check_texts(kind: TemplateKind, typed: Mapping[str, TypedText]) -> dict[str, ReadyText]:
    """The languages that have a text, ready to be kept, in the order of LANGUAGES.

    Raises InvalidInputs with every fault; fields are named as `field_of` does.
    """
    ready: dict[str, ReadyText] = {}
    faults: list[tuple[str, str]] = []
    written = [each for each in LANGUAGES if each in typed and not typed[each].is_empty]
    for language in written:
        try:
            ready[language] = check_text(language, typed[language])
        except InvalidInputs as error:
            faults += error.faults
    if not written:
        first = next(iter(LANGUAGES))
        faults.append(
            (field_of(Part.SUBJECT, first), "Write subject and HTML in at least one language.")
        )
    if not faults:
        faults += _faults_of_passwords(kind, ready)
    if faults:
        raise InvalidInputs(faults)
    return ready


def _faults_of_passwords(
    kind: TemplateKind, ready: Mapping[str, ReadyText]
) -> list[tuple[str, str]]:
    carried = {language: text.prepared.secrets for language, text in ready.items()}
    first, *others = carried
    different = [each for each in others if carried[each] != carried[first]]
    if different:
        names = " and ".join(LANGUAGES[each] for each in different)
        return [
            (
                field_of(Part.HTML, different[0]),
                f"{LANGUAGES[first]} carries {_passwords(carried[first])}, but not so {names}. "
                "Use the same password placeholders in each language: a password that is reset has "
                "to be in the mail.",
            )
        ]
    if kind is TemplateKind.PASSWORD_RESET and PORTAL_PASSWORD not in carried[first]:
        return [
            (
                field_of(Part.HTML, first),
                f"A password reset has to carry “(({PORTAL_PASSWORD}))”.",
            )
        ]
    return []


def _passwords(names: frozenset[str]) -> str:
    return " and ".join(f"the {each}" for each in sorted(names, reverse=True)) or "no password"


def check_text(language: str, typed: TypedText, *, mark: str = "") -> ReadyText:
    """One language, ready to be kept; `mark` stands before the subject of `prepared` alone.

    Raises InvalidInputs with its faults.
    """
    faults: list[tuple[str, str]] = []
    parts: dict[Part, str] = {}
    for part in Part:
        try:
            parts[part] = _read_part(language, part, typed.part(part))
        except _Fault as fault:
            faults.append((field_of(part, language), f"{_title(language, part)}: {fault}"))
    if faults:
        raise InvalidInputs(faults)
    html = parts[Part.HTML]
    cleaned = clean_html(html)
    text_made = not parts[Part.TEXT].strip()
    text = text_from_html(cleaned.html) if text_made else parts[Part.TEXT]
    subject = parts[Part.SUBJECT].strip()

    def prepare(html: str) -> messages.PreparedMessage:
        return messages.compile_message(
            mark + subject,
            text,
            html,
            language=language,
            sender=sender(),
            provider=branding(),
        )

    _try(language, Part.HTML, lambda: prepare(html))  # Places are those of what was typed.
    prepared = _try(language, Part.HTML, lambda: prepare(cleaned.html))
    _try(language, Part.HTML, lambda: prepared.preview(sample_values()))
    return ReadyText(subject, text, cleaned.html, text_made, cleaned.taken_out, prepared)


class _Fault(Exception):
    pass


def _read_part(language: str, part: Part, typed: str) -> str:
    if not is_storable(typed):
        raise _Fault("it contains a character that cannot be stored. Type it by hand.")
    text = clean_lines(typed)
    if len(text) > _LIMITS[part]:
        raise _Fault(f"it has {len(text):,} characters. The limit is {_LIMITS[part]:,}.")
    if not text.strip():
        if part is Part.TEXT:
            return ""
        raise _Fault(f"write the {PART_WORDS[part]}, or leave {LANGUAGES[language]} empty.")
    if part is Part.SUBJECT and "\n" in text.strip():
        raise _Fault("it has to be one line.")
    try:
        fields = fields_of(parse(text))
    except PlaceholderError as error:
        raise _Fault(str(error)) from None
    secret = next((each for each in fields if each.placeholder.secret), None)
    if part is Part.SUBJECT and secret is not None:
        raise _Fault(f"a subject cannot carry “(({secret.placeholder.name}))”.")
    return text


def _try(language: str, part: Part, work: Callable[[], T]) -> T:
    try:
        return work()
    except (MessageError, PlaceholderError) as error:
        fault = f"{_title(language, part)}: {error}"
        raise InvalidInputs([(field_of(part, language), fault)]) from None


def _title(language: str, part: Part) -> str:
    return f"{LANGUAGES[language]} {PART_WORDS[part]}"


# --- What its author should know -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Remark:
    """Something that is no fault; `state` is that of a notice."""

    state: str
    sentence: str


def find_remarks(kind: TemplateKind, texts: Mapping[str, ReadyText]) -> list[Remark]:
    """What the author of texts that can be sent should know, the weightiest first."""
    found = [*_remarks_on_passwords(kind, texts), *_remarks_on_languages(texts)]
    for language, text in texts.items():
        found += _remarks_on_links(LANGUAGES[language], text)
        if text.text_made:
            found.append(
                Remark(
                    "neutral",
                    f"{LANGUAGES[language]} has no text of its own: it is made from the HTML.",
                )
            )
    return found


def _remarks_on_passwords(kind: TemplateKind, texts: Mapping[str, ReadyText]) -> list[Remark]:
    found = []
    carried = frozenset().union(*(text.prepared.secrets for text in texts.values()))
    if carried and kind is TemplateKind.GENERAL:
        found.append(
            Remark(
                "attention",
                f"Sending it resets {_passwords(carried)} of everybody who gets it, because the "
                "mail carries a new one.",
            )
        )
    if kind is TemplateKind.WELCOME and PORTAL_PASSWORD not in carried:
        found.append(
            Remark(
                "attention",
                "It carries no portal password: who gets it cannot sign in by this mail alone.",
            )
        )
    for language, text in texts.items():
        for name in sorted(text.prepared.secrets):
            lacking = [
                PART_WORDS[part]
                for part, source in ((Part.TEXT, text.text), (Part.HTML, text.html))
                if name not in names_in(source)
            ]
            found += [
                Remark(
                    "attention",
                    f"The {LANGUAGES[language]} {part} lacks the {name}: whose mail program shows "
                    "that part does not learn it.",
                )
                for part in lacking
            ]
    return found


def _remarks_on_languages(texts: Mapping[str, ReadyText]) -> list[Remark]:
    missing = [word for language, word in LANGUAGES.items() if language not in texts]
    if not missing:
        return []
    instead = LANGUAGES[next(iter(texts))]
    return [
        Remark(
            "attention",
            f"There is no text in {_listed(missing)}. Who has such a language gets that of his "
            f"customer, or else {instead}.",
        )
    ]


_LINK = re.compile(r"http://[^\s<>\"')\]]+", re.IGNORECASE)


def _remarks_on_links(language: str, text: ReadyText) -> list[Remark]:
    places = _Addresses()
    places.feed(text.html)
    places.close()
    unsafe = [each for each in places.links if each.lower().startswith("http://")]
    unsafe += _LINK.findall(text.text)
    found = [
        Remark("attention", f"{language}: {_short(link)} is a link without https.")
        for link in dict.fromkeys(unsafe)
    ]
    own = _host_of(get_settings().public_url)
    hosts = dict.fromkeys(map(_host_of, places.images))
    return found + [
        Remark(
            "attention",
            f"{language}: an image is loaded from {_short(host)}. Many mail programs do not show "
            "it, and who runs that server sees who reads the mail.",
        )
        for host in hosts
        if host and host != own
    ]


def _host_of(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return address


class _Addresses(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.links: list[str] = []
        self.images: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if (tag, name) == ("a", "href"):
                self.links.append(value or "")
            elif (tag, name) == ("img", "src"):
                self.images.append(value or "")


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:80] + "…"


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


# --- Placeholders in use -------------------------------------------------------------------------


def names_in(source: str) -> set[str]:
    """The placeholders that a text which can be sent uses."""
    return {field.placeholder.name for field in fields_of(parse(clean_lines(source)))}


def names_shown_always(source: str) -> set[str]:
    """Those of them that stand outside optional parts, where a gap is left without them."""
    return {node.placeholder.name for node in parse(clean_lines(source)) if isinstance(node, Field)}


def placeholders_used(texts: Mapping[str, ReadyText]) -> dict[str, bool]:
    """The placeholders of all languages in the order of the list; True for those that stand outside
    optional parts somewhere."""
    used: set[str] = set()
    always: set[str] = set()
    for text in texts.values():
        for source in (text.subject, text.text, text.html):
            used |= names_in(source)
            always |= names_shown_always(source)
    return {name: name in always for name in PLACEHOLDERS if name in used}
