"""Quoted-printable for SMTP DATA: lines that the wire takes as they are.

Stricter than RFC 2045 asks: no line begins with a dot, so nothing has to be dot-stuffed, and a bare
CR or LF cannot come out, whatever goes in. Pieces that are encoded each for itself make up one
text, because every piece begins on a line of its own.
"""

import re
from collections.abc import Iterator

SOFT_BREAK = "=\r\n"
"""Ends a line without ending the line of the text."""

_LONGEST = 75  # and a soft break's “=” makes 76
_ESCAPES = {
    byte: f"={byte:02X}" for byte in range(256) if not 32 <= byte < 127 and byte != ord("\t")
} | {ord("="): "=3D"}
# What is the same as it is, in quoted-printable, and in HTML.
_PLAIN = re.compile(rf"(?!\.)[ !#-%(-;?-~]{{0,{_LONGEST}}}")

is_plain = _PLAIN.fullmatch
"""Tell whether a value is the same as it is, encoded, and escaped for HTML."""


def encode(text: str) -> str:
    """Return `text`, whose lines end in LF, in ASCII with CRLF and lines of at most 76 characters.

    The last line is left open: behind it belongs a SOFT_BREAK and more, or what ends the line.
    """
    *lines, last = text.encode().decode("latin-1").split("\n")
    ended = [f"{_wrapped(_end_visible(line.translate(_ESCAPES)))}\r\n" for line in lines]
    return "".join((*ended, _wrapped(last.translate(_ESCAPES))))


def encode_piece(text: str) -> str:
    """Return `text` as `encode` does, with a SOFT_BREAK where it ends inside a line."""
    encoded = encode(text)
    return encoded if not encoded or encoded.endswith("\r\n") else encoded + SOFT_BREAK


def _end_visible(line: str) -> str:
    """Return the line with white space at its end encoded: mail servers may drop it."""
    return f"{line[:-1]}={ord(line[-1]):02X}" if line.endswith((" ", "\t")) else line


def _wrapped(line: str) -> str:
    if len(line) <= _LONGEST and not line.startswith("."):
        return line
    return SOFT_BREAK.join(_cut(line))


def _cut(line: str) -> Iterator[str]:
    """Cut an encoded line into those that fit, never inside an escape."""
    while True:
        if line.startswith("."):
            line = f"=2E{line[1:]}"
        if len(line) <= _LONGEST:
            yield line
            return
        escape = line.rfind("=", _LONGEST - 2, _LONGEST)
        end = _LONGEST if escape < 0 else escape
        yield line[:end]
        line = line[end:]
