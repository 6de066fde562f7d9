"""The plain text of a mail, made from its HTML where nobody wrote one."""

from __future__ import annotations

import re
from html.parser import HTMLParser

_BLOCKS = frozenset(
    "p div h1 h2 h3 blockquote pre ul ol li dl dt dd table thead tbody tr hr br".split()
)
_APART = frozenset("p h1 h2 h3 blockquote pre ul ol dl table hr".split())
_HIDDEN = frozenset({"style", "script", "title", "head"})
_OPTIONAL = re.compile(r"(\[\[|\]\])")
_SPACES = re.compile(r"[ \t\n\r\f]+")


def text_from_html(source: str) -> str:
    """Return `source` as plain text, lines ending in LF.

    Placeholders and optional parts stay where they are. A link is its words with its address behind
    them, an item of a list begins with a hyphen, paragraphs are an empty line apart.
    """
    writer = _Writer()
    writer.feed(source)
    writer.close()
    text = "".join(writer.written)
    text = re.sub(r"[ \t]+\n", "\n", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


class _Writer(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.written: list[str] = []
        self._breaks = 0
        self._space = False
        self._links: list[tuple[str, int]] = []
        self._hidden = 0
        self._verbatim = 0
        self._marker = ""
        self._opened = False
        """Whether an optional part has just begun, at whose start nothing has to stand apart."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _HIDDEN:
            self._hidden += 1
        elif tag == "a":
            self._links.append((dict(attrs).get("href") or "", len(self.written)))
        elif tag == "img":
            self.handle_data(dict(attrs).get("alt") or "")
        elif tag in ("td", "th"):
            self._space = True
        elif tag == "br":
            self._break(min(self._breaks + 1, 2))
        elif tag in _BLOCKS:
            self._break(2 if tag in _APART else 1)
        if tag == "li":
            self._marker = "- "
        elif tag == "pre":
            self._verbatim += 1
        elif tag == "hr":
            self._put("---")
            self._break(2)

    def handle_endtag(self, tag: str) -> None:
        if tag in _HIDDEN:
            self._hidden = max(0, self._hidden - 1)
        elif tag == "a" and self._links:
            address, start = self._links.pop()
            words = "".join(self.written[start:]).strip()
            address = address.removeprefix("mailto:")
            if address and not address.startswith("#") and address != words:
                self._put(f": {address}" if words else address)
        elif tag in _BLOCKS and tag not in ("br", "hr"):
            self._break(2 if tag in _APART else 1)
        if tag == "pre":
            self._verbatim = max(0, self._verbatim - 1)

    def handle_data(self, data: str) -> None:
        if self._hidden or not data:
            return
        if self._verbatim:
            self._put(data)
            return
        for piece in _OPTIONAL.split(_SPACES.sub(" ", data)):
            self._write(piece)

    def _write(self, piece: str) -> None:
        if piece == "]]":  # What was to stand apart stands apart from what follows.
            self.written.append(piece)
            return
        if piece.startswith(" "):
            self._space = True
        if inner := piece.strip(" "):
            self._put(inner)
            self._space = piece.endswith(" ")
        self._opened = (self._opened and not inner) or piece == "[["

    def _break(self, count: int) -> None:
        self._breaks = max(self._breaks, count)
        self._space = False

    def _put(self, text: str) -> None:
        if self._breaks and self.written and not self._opened:
            self.written.append("\n" * self._breaks)
        elif self._space and self.written:
            self.written.append(" ")
        self._breaks, self._space = 0, False
        self.written.append(self._marker + text)
        self._marker = ""
