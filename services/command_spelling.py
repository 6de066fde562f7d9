"""How commands are spelled: their characters, lines and names, and what a wrong name may mean."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable

MAX_NAME = 64

# What text pasted from pages, mails and spreadsheets has around and between words: the spaces of
# Unicode, the tab, and two that have no width (U+200B and U+FEFF, the byte order mark).
SPACES = (
    " \t\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u200b\u202f\u205f\u3000\ufeff"
)
PLAIN_SPACE = {ord(each): " " for each in "\t\u00a0\u2007\u202f"}
SPACE_RUN = re.compile(f"[{SPACES}]+")
_LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
# Control characters, and halves of surrogate pairs, which no database and no terminal takes.
FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff]")
FORBIDDEN_RUN = re.compile(f"{FORBIDDEN.pattern}+")
REPLACEMENT = "\ufffd"
_SHOWN = 60


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
        and name == name.strip(SPACES).translate(PLAIN_SPACE)
        and not FORBIDDEN.search(name)
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


def shortened(text: str, limit: int = _SHOWN) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…"


def _key(name: str) -> str:
    """What is left of a name when case, spaces and Unicode form do not count."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return SPACE_RUN.sub(" ", folded).strip(" ")
