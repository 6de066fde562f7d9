"""E-mail messages: compiled once per template version, language and provider, rendered per person.

Building a message object for each recipient is the largest single cost of bulk mail. So everything
that is the same for all is done once in `compile_message`: parsing, cleaning, layout, CSS, headers,
and the quoted-printable form of every line without a placeholder. `PreparedMessage.render` fills in
the rest.
"""

import binascii
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from urllib.parse import quote

import markupsafe

from services.mail_headers import (
    MessageError,
    address_header,
    clean_line,
    clean_lines,
    envelope_address,
    header_text,
    mailbox,
)
from services.mail_html import Context, ProviderBranding, check_link, html_nodes, text_footer
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

# “=_” cannot occur in quoted-printable, so this never collides with a body.
_BOUNDARY = "=_foyer"
_MESSAGE_ID = re.compile(r"<[!-;=?A-~]+@[!-;=?A-~]+>")


@dataclass(frozen=True)
class RenderedMessage:
    """A message as pages show it; `html` is a whole document and belongs in a sandboxed frame."""

    subject: str
    text: str
    html: str


def _escape(value: str) -> str:
    return str(markupsafe.escape(value))


_WRITERS: Mapping[Context, Callable[[str], str]] = {
    Context.TEXT: lambda value: value.replace("\n", "\r\n"),
    Context.HTML: lambda value: _escape(value).replace("\n", "<br>\r\n"),
    Context.HREF: lambda value: _escape(check_link(value)) if value else "",
    Context.HREF_PART: lambda value: _escape(quote(value, safe="@")),
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
        self.contexts: dict[str, set[Context]] = {}
        self.placeholders: dict[str, Placeholder] = {}
        self._groups = 0

    def build(self, nodes: tuple[Node, ...], contexts: Iterator[Context]) -> _Pattern:
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

    def _piece(self, node: str | Field, contexts: Iterator[Context]) -> str:
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
        subject = header_text(self._subject.text(fields))
        head = (
            f"{address_header('To', to_name, address)}\r\nSubject: {subject}\r\n"
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
    text_nodes = (*parse(_source(text, "text"), system=system), text_footer(provider, language))
    document, html_contexts = html_nodes(_source(html, "HTML"), provider, language, system)

    builder = _PatternBuilder()
    subject_pattern = builder.build(subject_nodes, _always(Context.TEXT))
    text_pattern = builder.build(text_nodes, _always(Context.TEXT))
    html_pattern = builder.build(document, iter(html_contexts))
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


def _always(context: Context) -> Iterator[Context]:
    while True:
        yield context


def _common_headers(sender: str, reply_to: str | None, language: str) -> tuple[str, bytes]:
    """Return the envelope sender, and the headers that are the same for every recipient."""
    if not re.fullmatch(r"[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8})*", language):
        raise MessageError("The language is not a language tag.")
    envelope_from, line = mailbox("From", sender)
    lines = [line]
    if reply_to:
        lines.append(mailbox("Reply-To", reply_to)[1])
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
