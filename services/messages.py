"""E-mail messages: compiled once per template version, language and provider, rendered per person.

Building a message object for each recipient is the largest single cost of bulk mail. So everything
that is the same for all is done once in `compile_message`: parsing, cleaning, layout, CSS, headers,
and the quoted-printable form of the text between placeholders. `PreparedMessage.render` fills in
the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from email.utils import format_datetime
from functools import cached_property, lru_cache

from services.attachment_parts import MIXED_OPENING
from services.mail_headers import (
    EnvelopeAddress,
    MessageError,
    address_value,
    clean_line,
    clean_lines,
    envelope_address,
    mailbox,
)
from services.mail_html import Context, ProviderBranding, html_nodes, text_footer
from services.message_layouts import (
    Layouts,
    Pieces,
    clean_values,
    encode_text,
    fill,
    pieces_of,
    placeholders_of,
)
from services.placeholders import error_at, fields_of, parse

# “=_” cannot occur in quoted-printable, so this never collides with a body.
_BOUNDARY = "=_foyer"
_CONTENT_TYPE = f'Content-Type: multipart/alternative; boundary="{_BOUNDARY}"'
_MESSAGE_ID = re.compile(r"<[!-;=?A-~]+@[!-;=?A-~]+>")


@dataclass(frozen=True)
class RenderedMessage:
    """A message as pages show it; `html` is a whole document and belongs in a sandboxed frame."""

    subject: str
    text: str
    html: str


@lru_cache(maxsize=64)
def _date_value(date: datetime, zone: tzinfo, fold: int) -> bytes:
    """`zone` and `fold` belong to the key: dates that differ in these alone are equal."""
    return format_datetime(date).encode()


class PreparedMessage:
    """A message ready to be filled for many recipients. Share it between threads."""

    def __init__(
        self,
        *,
        envelope_from: str,
        language: str,
        subject: Pieces,
        text: Pieces,
        html: Pieces,
        headers: str,
    ) -> None:
        """`headers` are those that are the same for every recipient."""
        self.envelope_from = envelope_from
        self.language = language
        self._headers = headers
        self._subject, self._text, self._html = subject, text, html
        self._placeholders = placeholders_of(subject, text, html)
        body = (
            headers + _part_head("plain"),
            *encode_text(text),
            _part_head("html"),
            *encode_text(html),
            f"\r\n--{_BOUNDARY}--\r\n",
        )
        self._layouts = Layouts(subject, body)

    @cached_property
    def before_attachments(self) -> PreparedMessage:
        """The same message as the first part of one with attachments.

        What it renders ends where an attachments' `wire_parts` go on.
        """
        return PreparedMessage(
            envelope_from=self.envelope_from,
            language=self.language,
            subject=self._subject,
            text=self._text,
            html=self._html,
            headers=self._headers.replace(_CONTENT_TYPE, f"{MIXED_OPENING}{_CONTENT_TYPE}"),
        )

    @property
    def placeholders(self) -> frozenset[str]:
        """Names of the placeholders that need a value."""
        return frozenset(each.name for each in self._placeholders)

    @property
    def secrets(self) -> frozenset[str]:
        """Names of the credentials that the message carries."""
        return frozenset(each.name for each in self._placeholders if each.secret)

    def render(
        self,
        values: Mapping[str, str],
        *,
        to_name: str,
        to_address: str,
        message_id: str,
        date: datetime,
        envelope_to: EnvelopeAddress | None = None,
    ) -> bytes:
        """Return the final message as SMTP's DATA takes it.

        Lines end in CRLF, the last one included, none begins with a dot, and there is no bare CR or
        LF: only the closing dot is missing. `message_id` includes its angle brackets and `date` is
        aware. `envelope_to` is what `envelope_address` made of `to_address`, where that is known.
        ASCII only, unless the local part of `to_address` needs SMTPUTF8. Raises MessageError for a
        missing value or a link that is none, AddressError for the address, ValueError for the
        other two.
        """
        if not _MESSAGE_ID.fullmatch(message_id) or len(message_id) > 250:
            raise ValueError("message_id must look like <id@domain>")
        if date.tzinfo is None:
            raise ValueError("date must be aware")
        if envelope_to is None:
            envelope_to, _ = envelope_address(to_address)
        return self._layouts.fill(
            values,
            to=address_value("To", to_name, envelope_to).encode(),
            date=_date_value(date, date.tzinfo, date.fold),
            message_id=message_id.encode(),
        )

    def preview(self, values: Mapping[str, str]) -> RenderedMessage:
        """Return the message for a page. Raises MessageError."""
        cleaned = clean_values(self._placeholders, values)
        return RenderedMessage(
            clean_line(fill(self._subject, cleaned)).strip(),
            fill(self._text, cleaned),
            fill(self._html, cleaned),
        )


def _part_head(subtype: str) -> str:
    return (
        f"\r\n--{_BOUNDARY}\r\nContent-Type: text/{subtype}; charset=utf-8\r\n"
        "Content-Transfer-Encoding: quoted-printable\r\n\r\n"
    )


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

    envelope_from, headers = _common_headers(sender, reply_to, language)
    return PreparedMessage(
        envelope_from=envelope_from,
        language=language,
        subject=pieces_of(subject_nodes, _always(Context.TEXT)),
        text=pieces_of(text_nodes, _always(Context.TEXT)),
        html=pieces_of(document, iter(html_contexts)),
        headers=headers,
    )


def _source(written: str, part: str) -> str:
    cleaned = clean_lines(written)
    if not cleaned.strip():
        raise MessageError(f"The {part} of the template is empty.")
    return cleaned.strip() if part == "subject" else cleaned.rstrip() + "\n"


def _always(context: Context) -> Iterator[Context]:
    while True:
        yield context


def _common_headers(sender: str, reply_to: str | None, language: str) -> tuple[str, str]:
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
        _CONTENT_TYPE,
    ]
    return envelope_from, "\r\n".join(lines) + "\r\n"
