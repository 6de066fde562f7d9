"""E-mail messages: compiled once per template version, language and provider, rendered per person.

Building a message object for each recipient is the largest single cost of bulk mail. So everything
that is the same for all is done once in `compile_message`: parsing, cleaning, layout, CSS, headers,
and the quoted-printable form of every line without a placeholder. `PreparedMessage.render` fills in
the rest.
"""

import binascii
import re
import secrets
import unicodedata
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime, parseaddr
from enum import StrEnum
from functools import lru_cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote, urlsplit

import css_inline
import idna
import jinja2
import markupsafe
import nh3

from services.placeholders import (
    Field,
    Kind,
    Node,
    OptionalPart,
    Placeholder,
    error_at,
    fields_of,
    parse,
)

MAIL_TEMPLATES = Path(__file__).resolve().parent.parent / "templates" / "email"
FALLBACK_LANGUAGE = "en"
DEFAULT_TEMPLATES: Mapping[str, str] = {
    "welcome": "Welcome",
    "password-update": "Password update",
    "voicemail-update": "Voicemail update",
    "password-reset": "Password reset",
}
"""Slug and name of the templates that a new installation starts with."""

_ACCENT = "#1f5fbf"
_RIGHT_TO_LEFT = frozenset({"ar", "dv", "fa", "he", "ps", "ur", "yi"})
_LINK_SCHEMES = frozenset({"http", "https", "mailto"})
# “=_” cannot occur in quoted-printable, so this never collides with a body.
_BOUNDARY = "=_foyer"


class MessageError(ValueError):
    """A template or a value that cannot become a message. The sentence never holds the value."""


class AddressError(MessageError):
    """An e-mail address that no mail can be sent to."""


@dataclass(frozen=True, kw_only=True)
class ProviderBranding:
    """What the layout says about the service provider. `accent` is `#rrggbb`."""

    name: str
    help_contact: str = ""
    help_link: str = ""
    accent: str = _ACCENT


@dataclass(frozen=True)
class RenderedMessage:
    """A message as pages show it; `html` is a whole document and belongs in a sandboxed frame."""

    subject: str
    text: str
    html: str


# --- Addresses and headers ---------------------------------------------------------------------

_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\u00a1-\U0010ffff]+"
_LOCAL = re.compile(rf"{_ATEXT}(?:\.{_ATEXT})*")
_DOMAIN = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*"
                     r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")  # fmt: skip
_PHRASE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")
_MESSAGE_ID = re.compile(r"<[!-;=?A-~]+@[!-;=?A-~]+>")
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_CONTROLS_IN_LINES = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]+")
_NEWLINES = re.compile("\r\n|[\r\n\x0b\x0c\x85\u2028\u2029]")
_SURROGATES = re.compile("[\ud800-\udfff]")
_PLAIN_HEADER_LENGTH = 60
_ENCODED_WORD_BYTES = 39  # 66 characters with its frame: fits behind the longest header name.


def envelope_address(address: str) -> tuple[str, bool]:
    """Return the address as the SMTP envelope wants it, and whether SMTPUTF8 is needed.

    An internationalised domain becomes punycode. Only a local part beyond ASCII needs SMTPUTF8.
    Raises AddressError.
    """
    local, at, domain = address.rpartition("@")
    if not at or not _LOCAL.fullmatch(local) or not local.isprintable():
        raise AddressError("The e-mail address is not valid.")
    needs_utf8 = not local.isascii()
    if needs_utf8:
        local = unicodedata.normalize("NFC", local)
    wire = f"{local}@{_ascii_domain(domain)}"
    if len(local.encode()) > 64 or len(wire.encode()) > 254:
        raise AddressError("The e-mail address is too long.")
    return wire, needs_utf8


@lru_cache(maxsize=4096)
def _ascii_domain(domain: str) -> str:
    ascii_domain = domain
    if not domain.isascii():
        try:
            ascii_domain = idna.encode(domain, uts46=True).decode()
        except (idna.IDNAError, UnicodeError):
            raise AddressError("The domain of the e-mail address is not valid.") from None
    if not _DOMAIN.fullmatch(ascii_domain) or len(ascii_domain) > 253:
        raise AddressError("The domain of the e-mail address is not valid.")
    return ascii_domain


def clean_line(value: str) -> str:
    """Return `value` on one line: control characters become spaces, lone surrogates U+FFFD."""
    if value.isprintable():
        return value
    return _SURROGATES.sub("\ufffd", _CONTROLS.sub(" ", value))


def clean_lines(value: str) -> str:
    """Return `value` with LF as its only line end and no control characters but tab."""
    value = _NEWLINES.sub("\n", value)
    return _SURROGATES.sub("\ufffd", _CONTROLS_IN_LINES.sub("", value))


def _header_text(value: str) -> str:
    """Return an unstructured header's value in ASCII, folded, RFC 2047 where needed."""
    value = clean_line(value).strip()
    if value.isascii() and len(value) <= _PLAIN_HEADER_LENGTH and "=?" not in value:
        return value
    return _encoded_words(value)


def _address_header(name: str, display_name: str, address: str) -> str:
    """Return a whole header line, without its line end, for one address in envelope form."""
    phrase = _phrase(" ".join(clean_line(display_name).split()))
    if not phrase:
        return f"{name}: {address}"
    head = f"{name}: {phrase}"
    width = len(head) - (head.rfind("\n") + 1) + len(address) + 3
    return f"{head}{' ' if width <= 78 else chr(13) + chr(10) + ' '}<{address}>"


def _phrase(text: str) -> str:
    if not text.isascii() or len(text) > _PLAIN_HEADER_LENGTH or "=?" in text:
        return _encoded_words(text)
    if not text or _PHRASE.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _encoded_words(text: str) -> str:
    words: list[str] = []
    chunk = b""
    for character in text:
        encoded = character.encode()
        if len(chunk) + len(encoded) > _ENCODED_WORD_BYTES:
            words.append(b64encode(chunk).decode())
            chunk = b""
        chunk += encoded
    words.append(b64encode(chunk).decode())
    return "\r\n ".join(f"=?utf-8?b?{word}?=" for word in words)


def dot_stuff(message: bytes) -> bytes:
    """Double the dot at the start of each line (RFC 5321, 4.5.2). Lines end in CRLF."""
    if message.startswith(b"."):
        message = b"." + message
    return message.replace(b"\r\n.", b"\r\n..")


# --- Prepared messages -------------------------------------------------------------------------


class _Context(StrEnum):
    """Where a value stands, which decides how it is written."""

    TEXT = "text"
    HTML = "html"
    HREF = "href"
    HREF_PART = "href part"


def _link(value: str) -> str:
    try:
        scheme = urlsplit(value).scheme.lower()
    except ValueError:
        scheme = ""
    if scheme not in _LINK_SCHEMES or re.search(r'[\s<>"]', value):
        raise MessageError("A link must begin with https://, http:// or mailto:.")
    return value


def _escape(value: str) -> str:
    return str(markupsafe.escape(value))


_WRITERS: Mapping[_Context, Callable[[str], str]] = {
    _Context.TEXT: lambda value: value.replace("\n", "\r\n"),
    _Context.HTML: lambda value: _escape(value).replace("\n", "<br>\r\n"),
    _Context.HREF: lambda value: _escape(_link(value)) if value else "",
    _Context.HREF_PART: lambda value: _escape(quote(value, safe="@")),
}


@dataclass(frozen=True, slots=True)
class _Slot:
    """All the ways in which one message writes one placeholder: (key, writer) pairs."""

    placeholder: Placeholder
    writers: tuple[tuple[str, Callable[[str], str]], ...]


@dataclass(frozen=True, slots=True)
class _Group:
    """An optional part: a `%` pattern that is left out when one of `names` is empty."""

    key: str
    names: tuple[str, ...]
    pattern: str


@dataclass(frozen=True, slots=True)
class _Pattern:
    """One part of a message as `%` patterns over keys.

    `chunks` hold whole lines: bytes are quoted-printable already, strings are patterns.
    """

    whole: str
    chunks: tuple[bytes | str, ...]
    groups: tuple[_Group, ...]

    def text(self, fields: dict[str, str]) -> str:
        self._fill_groups(fields)
        return self.whole % fields

    def quoted(self, fields: dict[str, str]) -> bytes:
        self._fill_groups(fields)
        return b"".join(
            [
                chunk if isinstance(chunk, bytes) else _quoted_printable(chunk % fields)
                for chunk in self.chunks
            ]
        )

    def _fill_groups(self, fields: dict[str, str]) -> None:
        for group in self.groups:
            present = all(fields[name] for name in group.names)
            fields[group.key] = group.pattern % fields if present else ""


def _quoted_printable(text: str) -> bytes:
    # b2a_qp takes its line ends from the first one in the data; `text` always ends in CRLF.
    return binascii.b2a_qp(text.encode(), istext=True)


class _PatternBuilder:
    """Collects the keys that the parts of one message use."""

    def __init__(self) -> None:
        self.contexts: dict[str, set[_Context]] = {}
        self.placeholders: dict[str, Placeholder] = {}
        self._groups = 0

    def build(self, nodes: tuple[Node, ...], contexts: Iterator[_Context]) -> _Pattern:
        """Return the pattern of `nodes`; `contexts` gives one context per field, in order."""
        parts: list[str] = []
        groups: list[_Group] = []
        for node in nodes:
            if isinstance(node, OptionalPart):
                names = tuple({f"{field.placeholder.name}|given": None for field in node.nodes
                               if isinstance(field, Field)})  # fmt: skip
                inner = "".join(self._piece(part, contexts) for part in node.nodes)
                self._groups += 1
                groups.append(_Group(f"group {self._groups}", names, inner))
                parts.append(f"%(group {self._groups})s")
            else:
                parts.append(self._piece(node, contexts))
        whole = "".join(parts)
        if not whole.endswith("\r\n"):
            whole += "\r\n"
        return _Pattern(whole, tuple(_chunks(whole)), tuple(groups))

    def slots(self) -> tuple[_Slot, ...]:
        return tuple(
            _Slot(
                placeholder,
                tuple(
                    (f"{name}|{where}", _WRITERS[where]) for where in sorted(self.contexts[name])
                ),
            )
            for name, placeholder in self.placeholders.items()
        )

    def _piece(self, node: str | Field, contexts: Iterator[_Context]) -> str:
        if isinstance(node, str):
            return node.replace("\n", "\r\n").replace("%", "%%")
        context = next(contexts)
        name = node.placeholder.name
        self.placeholders[name] = node.placeholder
        self.contexts.setdefault(name, set()).add(context)
        return f"%({name}|{context})s"


def _chunks(whole: str) -> Iterator[bytes | str]:
    """Split a pattern into runs of whole lines, encoding those that are the same for all."""
    run: list[str] = []
    filled = False
    for line in whole.removesuffix("\r\n").split("\r\n"):
        if run and filled != ("%(" in line):
            yield _finish(run, filled)
            run = []
        filled = "%(" in line
        run.append(line + "\r\n")
    yield _finish(run, filled)


def _finish(run: list[str], filled: bool) -> bytes | str:
    return "".join(run) if filled else _quoted_printable("".join(run).replace("%%", "%"))


@dataclass(frozen=True)
class PreparedMessage:
    """A message ready to be filled for many recipients. Immutable; share it between threads."""

    envelope_from: str
    language: str
    _slots: tuple[_Slot, ...]
    _subject: _Pattern
    _text: _Pattern
    _html: _Pattern
    _head: bytes
    _tail: bytes

    @property
    def placeholders(self) -> frozenset[str]:
        """Names of the placeholders that need a value."""
        return frozenset(slot.placeholder.name for slot in self._slots)

    @property
    def secrets(self) -> frozenset[str]:
        """Names of the credentials that the message carries."""
        return frozenset(slot.placeholder.name for slot in self._slots if slot.placeholder.secret)

    def render(
        self,
        values: Mapping[str, str],
        *,
        to_name: str,
        to_address: str,
        message_id: str,
        date: datetime,
    ) -> bytes:
        """Return the final message: CRLF line ends, not dot-stuffed.

        `message_id` includes its angle brackets and `date` is aware. ASCII only, unless the local
        part of `to_address` needs SMTPUTF8. Raises MessageError for a missing value or a link
        that is none, AddressError for the address, ValueError for the other two.
        """
        if not _MESSAGE_ID.fullmatch(message_id) or len(message_id) > 250:
            raise ValueError("message_id must look like <id@domain>")
        if date.tzinfo is None:
            raise ValueError("date must be aware")
        fields = self._fields(values)
        address, _ = envelope_address(to_address)
        subject = _header_text(self._subject.text(fields))
        head = (
            f"{_address_header('To', to_name, address)}\r\nSubject: {subject}\r\n"
            f"Date: {format_datetime(date)}\r\nMessage-ID: {message_id}\r\n"
        ).encode()
        return b"".join(
            (
                head,
                self._head,
                self._text.quoted(fields),
                _HTML_HEAD,
                self._html.quoted(fields),
                self._tail,
            )
        )

    def preview(self, values: Mapping[str, str]) -> RenderedMessage:
        """Return the message for a page. Raises MessageError."""
        fields = self._fields(values)
        return RenderedMessage(
            clean_line(self._subject.text(fields)).strip(),
            self._text.text(fields).replace("\r\n", "\n"),
            self._html.text(fields).replace("\r\n", "\n"),
        )

    def _fields(self, values: Mapping[str, str]) -> dict[str, str]:
        """Return every key that the patterns use, groups excepted."""
        fields: dict[str, str] = {}
        for slot in self._slots:
            placeholder = slot.placeholder
            try:
                value = values[placeholder.name]
            except KeyError:
                raise MessageError(f"There is no value for “(({placeholder.name}))”.") from None
            if not value.isprintable():
                multiline = placeholder.kind is Kind.MULTILINE
                value = clean_lines(value).strip("\n") if multiline else clean_line(value)
            fields[f"{placeholder.name}|given"] = value.strip()
            for key, write in slot.writers:
                try:
                    fields[key] = write(value)
                except MessageError as error:
                    raise MessageError(f"“(({placeholder.name}))”: {error}") from None
        return fields


_PART_HEAD = (
    "Content-Type: text/{}; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n"
)
_HTML_HEAD = f"\r\n--{_BOUNDARY}\r\n{_PART_HEAD.format('html')}\r\n".encode()


def compile_message(
    subject: str,
    text: str,
    html: str,
    *,
    sender: str,
    provider: ProviderBranding,
    language: str,
    reply_to: str | None = None,
    system: bool = False,
) -> PreparedMessage:
    """Prepare a template for sending. Costs milliseconds; keep the result.

    `sender` and `reply_to` are addresses, with or without a name. `html` is the content that the
    layout surrounds. `system` allows the placeholders of the system's own mails.
    Raises PlaceholderError with the place of a fault, MessageError for the rest.
    """
    subject_nodes = parse(_source(subject, "subject"), system=system)
    for field in fields_of(subject_nodes):
        if field.placeholder.secret:
            raise error_at(
                subject, field.start, f"A subject cannot carry “(({field.placeholder.name}))”."
            )
    text_nodes = (*parse(_source(text, "text"), system=system), _text_footer(provider, language))
    html_nodes, html_contexts = _html_nodes(_source(html, "HTML"), provider, language, system)

    builder = _PatternBuilder()
    subject_pattern = builder.build(subject_nodes, _always(_Context.TEXT))
    text_pattern = builder.build(text_nodes, _always(_Context.TEXT))
    html_pattern = builder.build(html_nodes, iter(html_contexts))
    envelope_from, head = _common_headers(sender, reply_to, language)
    return PreparedMessage(
        envelope_from=envelope_from,
        language=language,
        _slots=builder.slots(),
        _subject=subject_pattern,
        _text=text_pattern,
        _html=html_pattern,
        _head=head,
        _tail=f"\r\n--{_BOUNDARY}--\r\n".encode(),
    )


def _source(written: str, part: str) -> str:
    cleaned = clean_lines(written)
    if not cleaned.strip():
        raise MessageError(f"The {part} of the template is empty.")
    return cleaned.strip() if part == "subject" else cleaned.rstrip() + "\n"


def _always(context: _Context) -> Iterator[_Context]:
    while True:
        yield context


def _common_headers(sender: str, reply_to: str | None, language: str) -> tuple[str, bytes]:
    """Return the envelope sender, and the headers that are the same for every recipient."""
    if not re.fullmatch(r"[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8})*", language):
        raise MessageError("The language is not a language tag.")
    envelope_from, line = _mailbox("From", sender)
    lines = [line]
    if reply_to:
        lines.append(_mailbox("Reply-To", reply_to)[1])
    lines += [
        "Auto-Submitted: auto-generated",
        "X-Auto-Response-Suppress: All",
        f"Content-Language: {language}",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/alternative; boundary="{_BOUNDARY}"',
        "",
        f"--{_BOUNDARY}",
        _PART_HEAD.format("plain"),
    ]
    return envelope_from, ("\r\n".join(lines) + "\r\n").encode()


def _mailbox(header: str, written: str) -> tuple[str, str]:
    name, address = parseaddr(written)
    wire, needs_utf8 = envelope_address(address)
    if needs_utf8:
        raise AddressError(f"The address in {header} must be ASCII before the @.")
    return wire, _address_header(header, name, wire)


# --- HTML --------------------------------------------------------------------------------------

_TAGS = {
    *("p", "br", "hr", "div", "span", "h1", "h2", "h3", "blockquote", "pre", "code", "a"),
    *("strong", "b", "em", "i", "u", "s", "small", "sub", "sup"),
    *("ul", "ol", "li", "dl", "dt", "dd", "table", "thead", "tbody", "tr", "th", "td"),
}
_CLASSES: dict[str, set[str]] = {
    "a": {"button"},
    "code": {"secret"},
    "p": {"muted"},
    "span": {"muted"},
    "div": {"muted", "panel"},
}
_FOOTERS: Mapping[str, tuple[str, str]] = {
    "en": ("Need help?", "This message was sent automatically."),
    "de": ("Brauchen Sie Hilfe?", "Diese Nachricht wurde automatisch gesendet."),
    "fr": ("Besoin d\u2019aide ?", "Ce message a été envoyé automatiquement."),
    "nl": ("Hulp nodig?", "Dit bericht is automatisch verzonden."),
}
_layouts = jinja2.Environment(
    loader=jinja2.FileSystemLoader(MAIL_TEMPLATES),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_inliner = css_inline.CSSInliner(load_remote_stylesheets=False, keep_at_rules=True)


def _base(language: str) -> str:
    return language.partition("-")[0].lower()


def _footer(language: str) -> tuple[str, str]:
    return _FOOTERS.get(_base(language), _FOOTERS[FALLBACK_LANGUAGE])


def _text_footer(provider: ProviderBranding, language: str) -> str:
    question, automatic = _footer(language)
    ways = [clean_line(way) for way in (provider.help_contact, provider.help_link) if way]
    lines = ["", clean_line(provider.name), automatic]
    if ways:
        lines.insert(2, f"{question} {' · '.join(ways)}")
    return "\n".join(lines) + "\n"


def _html_nodes(
    source: str, provider: ProviderBranding, language: str, system: bool
) -> tuple[tuple[Node, ...], list[_Context]]:
    """Return the nodes of the whole HTML document, and the context of each of its fields.

    Placeholders travel through cleaning, layout and inlining as random words that nothing in the
    template can imitate.
    """
    marks = _Marks(parse(source, system=system), source)
    cleaned = nh3.clean(
        marks.text,
        tags=_TAGS,
        attributes={"a": {"href", "title"}, "td": {"colspan"}, "th": {"colspan"}},
        allowed_classes=_CLASSES,
        url_schemes=set(_LINK_SCHEMES),
        link_rel=None,
    )
    question, automatic = _footer(language)
    document = _layouts.get_template("layout.html").render(
        content=markupsafe.Markup(cleaned),  # noqa: S704 - nh3 has just cleaned it
        provider=provider,
        help_link=_link(provider.help_link) if provider.help_link else "",
        help_question=question,
        automatic=automatic,
        language=language,
        direction="rtl" if _base(language) in _RIGHT_TO_LEFT else "ltr",
        **_accent(provider.accent),
    )
    return marks.find(clean_lines(_inliner.inline(document)))


def _accent(colour: str) -> dict[str, str]:
    """Return the button's colour and the text colour that can be read on it."""
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", colour):
        colour = _ACCENT
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    # Equal contrast with black and with white lies at this luminance (WCAG 2, 1.4.3).
    return {"accent": colour, "on_accent": "#ffffff" if luminance < 0.179 else "#111111"}


class _Marks:
    """Words that stand for the fields and the ends of optional parts of an HTML template."""

    def __init__(self, nodes: tuple[Node, ...], source: str) -> None:
        self._prefix = f"mark{secrets.token_hex(8)}x"
        self._source = source
        self._things: list[Field | OptionalPart | None] = []
        written: list[str] = []
        for node in nodes:
            if isinstance(node, OptionalPart):
                written.append(self._mark(node))
                written.extend(self._write(inner) for inner in node.nodes)
                written.append(self._mark(None))
            else:
                written.append(self._write(node))
        self.text = "".join(written)

    def _write(self, node: str | Field) -> str:
        return node if isinstance(node, str) else self._mark(node)

    def _mark(self, thing: Field | OptionalPart | None) -> str:
        self._things.append(thing)
        return f"{self._prefix}{len(self._things) - 1}x"

    def find(self, document: str) -> tuple[tuple[Node, ...], list[_Context]]:
        """Return the document's nodes and its fields' contexts. Raises PlaceholderError."""
        pieces = re.split(rf"{self._prefix}(\d+)x", document)
        order = [int(number) for number in pieces[1::2]]
        places = _Places(self._prefix)
        places.feed(document)
        places.close()
        contexts: list[_Context] = []
        outer: list[Node] = [pieces[0]]
        inner: list[str | Field] = []
        part: OptionalPart | None = None
        for expected, thing in enumerate(self._things):
            start = thing.start if thing else part.start if part else 0
            if expected >= len(order) or order[expected] != expected:
                raise error_at(self._source, start, "Nothing can be filled in at this place.")
            following = pieces[2 * expected + 2]
            if isinstance(thing, OptionalPart):
                part, inner = thing, []
                self._check_whole(places, expected, thing)
                inner.append(following)
            elif isinstance(thing, Field):
                contexts.append(self._context(places, expected, thing))
                (outer if part is None else inner).extend((thing, following))
            else:
                outer.extend((OptionalPart(tuple(inner), start), following))
                part = None
        if len(order) > len(self._things):
            raise MessageError("The HTML of the template cannot be read.")
        return tuple(outer), contexts

    def _check_whole(self, places: "_Places", number: int, part: OptionalPart) -> None:
        end = next(n for n in range(number, len(self._things)) if self._things[n] is None)
        opened, closed = places.elements.get(number), places.elements.get(end)
        if opened is None or opened != closed:
            raise error_at(
                self._source, part.start, "An optional part must hold whole elements of the HTML."
            )

    def _context(self, places: "_Places", number: int, field: Field) -> _Context:
        if number in places.elements:
            return _Context.HTML
        attribute, before = places.attributes[number]
        if attribute == "href":
            if not before and field.placeholder.kind is Kind.URL:
                return _Context.HREF
            if before.startswith(("https://", "http://", "mailto:")):
                return _Context.HREF_PART
            raise error_at(
                self._source, field.start, "A link must begin with a placeholder for a link."
            )
        raise error_at(self._source, field.start, "Nothing can be filled in at this place.")


class _Places(HTMLParser):
    """Notes for each mark the element that it is in, or the attribute and what precedes it."""

    _VOID = frozenset({"br", "hr", "img", "meta", "link", "col", "input", "wbr"})

    def __init__(self, prefix: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: dict[int, int] = {}
        self.attributes: dict[int, tuple[str, str]] = {}
        self._mark = re.compile(rf"{prefix}(\d+)x")
        self._open = [0]
        self._count = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            for mark in self._mark.finditer(value or ""):
                self.attributes[int(mark[1])] = (name, (value or "")[: mark.start()])
        if tag not in self._VOID:
            self._count += 1
            self._open.append(self._count)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self._VOID:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        for mark in self._mark.finditer(data):
            self.elements[int(mark[1])] = self._open[-1]


# --- Texts that come with the system -----------------------------------------------------------


def load_system_mail(name: str, language: str) -> tuple[str, str, str]:
    """Return subject, text and HTML of one of the system's own mails, in English if need be."""
    folder = MAIL_TEMPLATES / name
    found = _base(language)
    if not (folder / f"{found}.subject.txt").is_file():
        found = FALLBACK_LANGUAGE
    return _read(folder, found, "")


def load_default_template(slug: str) -> dict[str, tuple[str, str, str]]:
    """Return subject, text and HTML by language of one of DEFAULT_TEMPLATES. Raises KeyError."""
    if slug not in DEFAULT_TEMPLATES:
        raise KeyError(slug)
    folder = MAIL_TEMPLATES / "defaults" / slug
    languages = sorted(path.name.partition(".")[0] for path in folder.glob("*.subject.txt"))
    return {language: _read(folder, language, "body.") for language in languages}


def _read(folder: Path, language: str, infix: str) -> tuple[str, str, str]:
    subject = (folder / f"{language}.subject.txt").read_text(encoding="utf-8").strip()
    text = (folder / f"{language}.{infix}txt").read_text(encoding="utf-8")
    html = (folder / f"{language}.{infix}html").read_text(encoding="utf-8")
    return subject, text, html
