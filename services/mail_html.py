"""The HTML of mails: cleaned, set into the layout, styles inlined, split at its placeholders."""

import re
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import css_inline
import jinja2
import markupsafe
import nh3

from services.mail_headers import MessageError, clean_line, clean_lines
from services.placeholders import Field, Kind, Node, OptionalPart, error_at, parse

MAIL_TEMPLATES = Path(__file__).resolve().parent.parent / "templates" / "email"
FALLBACK_LANGUAGE = "en"

_ACCENT = "#1f5fbf"
_RIGHT_TO_LEFT = frozenset({"ar", "dv", "fa", "he", "ps", "ur", "yi"})
_LINK_SCHEMES = frozenset({"http", "https", "mailto"})


@dataclass(frozen=True, kw_only=True)
class ProviderBranding:
    """What the layout says about the service provider. `accent` is `#rrggbb`."""

    name: str
    help_contact: str = ""
    help_link: str = ""
    accent: str = _ACCENT


class Context(StrEnum):
    """Where a value stands, which decides how it is written."""

    TEXT = "text"
    HTML = "html"
    HREF = "href"
    HREF_PART = "href part"


def check_link(value: str) -> str:
    try:
        scheme = urlsplit(value).scheme.lower()
    except ValueError:
        scheme = ""
    if scheme not in _LINK_SCHEMES or re.search(r'[\s<>"]', value):
        raise MessageError("A link must begin with https://, http:// or mailto:.")
    return value


_TAGS = {
    *("p", "br", "hr", "div", "span", "h1", "h2", "h3", "blockquote", "pre", "code", "a", "img"),
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
_SIDES = ("", "-top", "-right", "-bottom", "-left")
_STYLES = {
    *("color", "background-color", "font-size", "font-style", "font-weight", "line-height"),
    *("text-align", "text-decoration", "vertical-align", "letter-spacing", "white-space"),
    *("width", "max-width", "height", "border-radius", "border-collapse"),
    *(f"{name}{side}" for name in ("padding", "margin", "border") for side in _SIDES),
}
"""None of these loads anything or leaves its place."""
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
_style_inliner = css_inline.CSSInliner(load_remote_stylesheets=False)


def base_language(language: str) -> str:
    return language.partition("-")[0].lower()


def _footer(language: str) -> tuple[str, str]:
    return _FOOTERS.get(base_language(language), _FOOTERS[FALLBACK_LANGUAGE])


def text_footer(provider: ProviderBranding, language: str) -> str:
    question, automatic = _footer(language)
    ways = [clean_line(way) for way in (provider.help_contact, provider.help_link) if way]
    lines = ["", clean_line(provider.name), automatic]
    if ways:
        lines.insert(2, f"{question} {' · '.join(ways)}")
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class CleanHtml:
    """HTML as it is kept, and what had to be taken out of what was typed, in words."""

    html: str
    taken_out: tuple[str, ...]


def clean_html(source: str) -> CleanHtml:
    """Keep of `source` what a mail may carry, its style sheets written into the elements.

    Placeholders and optional parts stay as they are. What is clean stays as it is.
    """
    marked, marks = _hide_marks(source)
    sheets = [found[1] for found in _STYLE_SHEET.finditer(marked)]
    styled = marked
    if sheets:
        styled = _style_inliner.inline_fragment(_STYLE_SHEET.sub("", marked), "\n".join(sheets))
    cleaned = _clean(styled)
    before, after = _Inventory(styled), _Inventory(cleaned)
    taken_out = tuple(_told(name, count) for name, count in (before.things - after.things).items())
    if not taken_out and not sheets and after.things == before.things:
        return CleanHtml(source, ())
    return CleanHtml(_show_marks(cleaned, marks).strip(), taken_out)


_STYLE_SHEET = re.compile(r"<style\b[^>]*>(.*?)</style\s*>", re.IGNORECASE | re.DOTALL)
_MARKS = re.compile(r"\(\([^()]*\)\)|\[\[|\]\]")


def _hide_marks(source: str) -> tuple[str, list[str]]:
    prefix = f"mark{secrets.token_hex(8)}x"
    found: list[str] = [prefix]

    def hide(mark: re.Match[str]) -> str:
        found.append(mark[0])
        return f"{prefix}{len(found) - 1}x"

    return _MARKS.sub(hide, source), found


def _show_marks(text: str, marks: Sequence[str]) -> str:
    return re.sub(rf"{marks[0]}(\d+)x", lambda found: marks[int(found[1])], text)


def _clean(source: str) -> str:
    return nh3.clean(
        source,
        tags=_TAGS,
        attributes={
            "*": {"style"},
            "a": {"href", "title"},
            "img": {"src", "alt", "width", "height"},
            "td": {"colspan"},
            "th": {"colspan"},
        },
        attribute_filter=_filter_attribute,
        allowed_classes=_CLASSES,
        filter_style_properties=_STYLES,
        url_schemes=set(_LINK_SCHEMES),
        link_rel=None,
    )


def _filter_attribute(tag: str, name: str, value: str) -> str | None:
    """Images come by https alone: what is sent in clear can be changed on its way."""
    return None if tag == "img" and name == "src" and not _HTTPS.match(value) else value


_HTTPS = re.compile("https://", re.IGNORECASE)
_SHOWN = 40


class _Inventory(HTMLParser):
    """What a piece of HTML consists of, counted."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.things: Counter[str] = Counter()
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.things[f"<{tag[:_SHOWN]}>"] += 1
        for name, value in attrs:
            at = f"at <{tag[:_SHOWN]}>"
            if name == "class":
                for each in set((value or "").split()):
                    self.things[f"the class “{each[:_SHOWN]}” {at}"] += 1
            elif name == "style":
                for declaration in (value or "").split(";"):
                    if style := declaration.partition(":")[0].strip().lower():
                        self.things[f"the style {style[:_SHOWN]} {at}"] += 1
            else:
                self.things[f"{name[:_SHOWN]} {at}"] += 1

    def handle_comment(self, data: str) -> None:
        self.things["a comment"] += 1

    def handle_decl(self, decl: str) -> None:
        self.things["the document type"] += 1


def _told(name: str, count: int) -> str:
    return name if count == 1 else f"{name} ({count} times)"


def html_nodes(
    source: str, provider: ProviderBranding, language: str, system: bool
) -> tuple[tuple[Node, ...], list[Context]]:
    """Return the nodes of the whole HTML document, and the context of each of its fields.

    Placeholders travel through cleaning, layout and inlining as random words that nothing in the
    template can imitate.
    """
    marks = _Marks(parse(source, system=system), source)
    cleaned = _clean(marks.text)
    question, automatic = _footer(language)
    document = _layouts.get_template("layout.html").render(
        content=markupsafe.Markup(cleaned),  # noqa: S704 - nh3 has just cleaned it
        provider=provider,
        help_link=check_link(provider.help_link) if provider.help_link else "",
        help_question=question,
        automatic=automatic,
        language=language,
        direction="rtl" if base_language(language) in _RIGHT_TO_LEFT else "ltr",
        **_accent(provider.accent),
    )
    return marks.find(clean_lines(_inliner.inline(document)).rstrip("\n") + "\n")


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

    def find(self, document: str) -> tuple[tuple[Node, ...], list[Context]]:
        """Return the document's nodes and its fields' contexts. Raises PlaceholderError."""
        pieces = re.split(rf"{self._prefix}(\d+)x", document)
        order = [int(number) for number in pieces[1::2]]
        places = _Places(self._prefix)
        places.feed(document)
        places.close()
        contexts: list[Context] = []
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

    def _context(self, places: "_Places", number: int, field: Field) -> Context:
        if number in places.elements:
            return Context.HTML
        attribute, before = places.attributes[number]
        if attribute == "href":
            if not before and field.placeholder.kind is Kind.URL:
                return Context.HREF
            if before.startswith(("https://", "http://", "mailto:")):
                return Context.HREF_PART
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
