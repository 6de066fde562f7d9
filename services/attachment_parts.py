"""Attachments on the wire: encoded once, and the same bytes for every recipient."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from typing import NamedTuple
from urllib.parse import quote

# “=_” can stand in no base64 line, and what a message has inside is named otherwise.
_BOUNDARY = "=_files_foyer"
MIXED_OPENING = f'Content-Type: multipart/mixed; boundary="{_BOUNDARY}"\r\n\r\n--{_BOUNDARY}\r\n'
"""Headers' last line of a message with attachments, and what goes before its first part's own."""

_LINE_BYTES = 57  # Make 76 characters, the most that RFC 2045 allows.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9!#$&+^_`{}~. ()\[\],='@-]{1,50}")
_LONGEST_PIECE = 60


class AttachedFile(NamedTuple):
    """A file to attach; `name` is a cleaned one, `content_type` may have parameters."""

    name: str
    content_type: str
    content: bytes


def wire_parts(files: Iterable[AttachedFile]) -> bytes:
    """Return what follows a message's text: its attachments and its end.

    Ready for SMTP's DATA as messages are: ASCII lines of at most 78 characters that end in CRLF,
    none of which begins with a dot.
    """
    parts = [_part(file) for file in files]
    return b"".join((*parts, f"--{_BOUNDARY}--\r\n".encode()))


def _part(file: AttachedFile) -> bytes:
    head = (
        f"--{_BOUNDARY}\r\n"
        f"Content-Type: {file.content_type}\r\n"
        "Content-Transfer-Encoding: base64\r\n"
        f"Content-Disposition: attachment;\r\n{_file_name(file.name)}\r\n"
        "\r\n"
    )
    content = memoryview(file.content)
    lines = (
        b64encode(content[start : start + _LINE_BYTES])
        for start in range(0, len(content), _LINE_BYTES)
    )
    return b"".join((head.encode("ascii"), b"\r\n".join(lines), b"\r\n"))


def _file_name(name: str) -> str:
    """The parameter in folded lines: as it is where all programs read that, else by RFC 2231."""
    if _PLAIN_NAME.fullmatch(name):
        return f' filename="{name}"'
    return ";\r\n".join(f" filename*{at}*={piece}" for at, piece in enumerate(_pieces(name)))


def _pieces(name: str) -> Iterator[str]:
    """The name percent-encoded, in pieces of whole characters: some programs decode each alone."""
    piece = "utf-8''"
    for character in name:
        encoded = quote(character, safe="")
        if len(piece) + len(encoded) > _LONGEST_PIECE:
            yield piece
            piece = ""
        piece += encoded
    yield piece
