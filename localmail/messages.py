"""What a received message shows to a reader, whatever its sender did to it.

The standard library's parser defers most of its work to the moment a header or body is read, and
hostile input makes it raise nearly anything there. Each such read goes through `_guarded`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage, Message
from email.parser import BytesHeaderParser
from typing import TypeVar, cast

T = TypeVar("T")

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class Attachment:
    """A part that is neither the text nor the HTML; `content` is decoded."""

    name: str
    content_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Readable:
    """The parts of a message, decoded; an absent or unreadable part is empty."""

    headers: tuple[tuple[str, str], ...]
    text: str
    html: str
    attachments: tuple[Attachment, ...]

    def header(self, name: str) -> str:
        """Give the first header of that name, without regard to case, or an empty string."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted), "")


def subject_of(raw: bytes) -> str:
    """Give the decoded subject, or an empty string."""

    def read() -> str:
        headers = BytesHeaderParser(policy=policy.default).parsebytes(raw)
        return str(headers.get("Subject", ""))

    return visible(_guarded(read, ""))


def read_message(raw: bytes) -> Readable:
    """Take a message apart. Never raises on what the message holds."""
    message: Message = _guarded(
        lambda: message_from_bytes(raw, policy=policy.default), EmailMessage()
    )
    text, html = "", ""
    attachments: list[Attachment] = []
    for part in _leaves(message):
        kind = _guarded(part.get_content_type, "application/octet-stream")
        attached = _guarded(part.get_content_disposition, None) == "attachment"
        if kind == "text/plain" and not text and not attached:
            text = _text(part)
        elif kind == "text/html" and not html and not attached:
            html = _text(part)
        else:
            attachments.append(Attachment(_name(part), visible(kind), _bytes(part)))
    return Readable(_headers(message), text, html, tuple(attachments))


def visible(text: str) -> str:
    """Drop what could disturb a page or a line: controls, direction overrides, lone surrogates."""
    whole = text.encode("utf-8", "replace").decode()
    return _CONTROL.sub("", whole.replace("\r\n", "\n"))


def _leaves(message: Message) -> list[Message]:
    nothing: list[Message] = []
    parts: list[Message] = _guarded(lambda: list(message.walk()), nothing)
    return [part for part in parts if not part.is_multipart()]


def _headers(message: Message) -> tuple[tuple[str, str], ...]:
    nothing: list[tuple[str, str]] = []
    return tuple(
        (visible(name), visible(_decoded(name, str(value))))
        for name, value in _guarded(lambda: list(message.raw_items()), nothing)
    )


def _decoded(name: str, value: str) -> str:
    """Decode a header; one that cannot be decoded is given as it came."""
    return _guarded(lambda: str(policy.default.header_fetch_parse(name, value)), value)


def _name(part: Message) -> str:
    return visible(_guarded(lambda: str(part.get_filename() or ""), "")) or "unnamed"


def _text(part: Message) -> str:
    content: str | None = _guarded(lambda: str(cast(EmailMessage, part).get_content()), None)
    return visible(content if content is not None else _bytes(part).decode("utf-8", "replace"))


def _bytes(part: Message) -> bytes:
    payload: object = _guarded(lambda: part.get_payload(decode=True), None)
    return payload if isinstance(payload, bytes) else b""


def _guarded(read: Callable[[], T], otherwise: T) -> T:
    try:
        return read()
    except Exception:  # noqa: BLE001 - see the module's first lines
        return otherwise
