"""What may be attached: which kinds of files, how each is recognised, how they may be called.

A file has to be what its name says, by its first bytes: who opens a PDF gets one. Kinds in which
programs can hide, such as those of office suites, archives and HTML, are not among them.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from models import fold
from services.errors import InvalidInput

LONGEST_NAME = 100
_LONGEST_ENDING = 16
_PDF_WITHIN = 1024  # Readers look for its mark this far.
_FORBIDDEN = re.compile(r'[<>:"/\\|?*%;=\u2028\u2029]+')
_SPOKEN_CONTROLS = "\t\n\r\f"


def _starts_with(*marks: bytes) -> Callable[[bytes], bool]:
    return lambda content: content.startswith(marks)


def _is_webp(content: bytes) -> bool:
    return content[:4] == b"RIFF" and content[8:12] == b"WEBP"


def _is_text(content: bytes) -> bool:
    """Whether it is UTF-8 without control characters that have no meaning in a text."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return all(
        letter in _SPOKEN_CONTROLS or unicodedata.category(letter) != "Cc" for letter in text
    )


def _is_text_that_begins(mark: str) -> Callable[[bytes], bool]:
    def check(content: bytes) -> bool:
        begun = content.removeprefix(codecs.BOM_UTF8)[:200].lstrip().upper()
        return begun.startswith(mark.encode()) and _is_text(content)

    return check


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of file: its content type on the wire, its endings, and how it is recognised."""

    label: str
    content_type: str
    endings: tuple[str, ...]
    is_one: Callable[[bytes], bool]


KINDS = (
    Kind("PDF", "application/pdf", ("pdf",), lambda content: b"%PDF-" in content[:_PDF_WITHIN]),
    Kind("PNG", "image/png", ("png",), _starts_with(b"\x89PNG\r\n\x1a\n")),
    Kind("JPEG", "image/jpeg", ("jpg", "jpeg"), _starts_with(b"\xff\xd8\xff")),
    Kind("GIF", "image/gif", ("gif",), _starts_with(b"GIF87a", b"GIF89a")),
    Kind("WebP", "image/webp", ("webp",), _is_webp),
    Kind("text", "text/plain; charset=utf-8", ("txt",), _is_text),
    Kind("vCard", "text/vcard; charset=utf-8", ("vcf",), _is_text_that_begins("BEGIN:VCARD")),
    Kind(
        "iCalendar",
        "text/calendar; charset=utf-8",
        ("ics",),
        _is_text_that_begins("BEGIN:VCALENDAR"),
    ),
)
_BY_ENDING = {ending: kind for kind in KINDS for ending in kind.endings}
ENDINGS = ", ".join(f".{ending}" for ending in _BY_ENDING)
"""All of them, as a file field's `accept` takes them."""


def clean_name(name: str) -> str:
    """The name under which a file is kept: of one line, and safe in headers and on disks.

    Directories go, and so do characters that no file name can have on some system, control
    characters, and those that only turn the direction of what is read. What is too long is cut
    before its ending. May be empty.
    """
    name = name.replace("\\", "/").rpartition("/")[2]
    name = unicodedata.normalize("NFKC", name)
    name = "".join(" " if _is_space(letter) else letter for letter in name if _is_shown(letter))
    name = " ".join(_FORBIDDEN.sub("-", name).split()).strip(". ")
    stem, dot, ending = name.rpartition(".")
    if not dot or len(ending) > _LONGEST_ENDING:
        stem, dot, ending = name, "", ""
    stem = stem.rstrip(". ")
    while stem and _length(f"{stem}{dot}{ending}") > LONGEST_NAME:
        stem = stem[:-1].rstrip(". ")
    return f"{stem}{dot}{ending}"


def _is_space(letter: str) -> bool:
    return unicodedata.category(letter) in {"Zs", "Zl", "Zp"} or letter in _SPOKEN_CONTROLS


def _is_shown(letter: str) -> bool:
    return unicodedata.category(letter) not in {"Cc", "Cf", "Cs", "Co", "Cn"} or _is_space(letter)


def _length(name: str) -> int:
    return max(len(name), len(fold(name)))


def kind_of(name: str, content: bytes) -> Kind:
    """The kind of a file with a cleaned name. Raises InvalidInput for what may not be attached."""
    stem, dot, ending = name.rpartition(".")
    kind = _BY_ENDING.get(ending.casefold()) if dot and stem else None
    if kind is None:
        shown = f"“{name}”" if name else "The file"
        raise InvalidInput(
            "file", f"{shown} is none of the kinds that can go with a mail: {ENDINGS}."
        )
    if not content:
        raise InvalidInput("file", f"“{name}” is empty.")
    if not kind.is_one(content):
        if kind.content_type.startswith("text/plain"):
            raise InvalidInput(
                "file", f"“{name}” is not plain text in UTF-8. Save it as UTF-8 and upload it anew."
            )
        raise InvalidInput(
            "file",
            f"“{name}” is called a {kind.label} file, but its content is none. Save it as "
            f"{kind.label} and upload it anew.",
        )
    return kind
