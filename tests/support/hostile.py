"""Texts that try to become something else: markup, templates, headers, formulas; and their traces.

`poison` puts them into every column of the demo data that a page or a mail may show. `traces_in`
says what has become of them in a page, a mail or an export.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator
from email.message import EmailMessage
from typing import Any
from urllib.parse import urlsplit

import html5lib
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from extensions import db

MARK = "zq7"
"""In every text, so that its place on a page is found."""

TEXTS = (
    f"<script>alert('{MARK}')</script>",
    f"\"><img src=x onerror=alert('{MARK}')>",
    f"' onmouseover='alert(1)' {MARK}='",
    f"</textarea></title></style><svg/onload=alert(1)>{MARK}",
    f"javascript:alert('{MARK}')",
    f"{MARK}{{{{ 7 * 191913 }}}}{{% print(7 * 191913) %}}${{7*191913}}",
    f"((first name)) ((portal password)) {MARK}",
    f"{MARK}\r\nBcc: {MARK}@evil.example\r\n\r\n<b>body</b>",
    f"{MARK}\nSubject: taken over",
    f"=cmd|' /C calc'!{MARK}",
    f"+1+1|{MARK}",
    f"@SUM(1+1)*{MARK}",
    f"\t=1+{MARK}",
    f"\u202e\u2066{MARK}\u2069 \u05e9\u05dc\u05d5\u05dd <i>",
    f"{MARK}<b>" + "x" * 300,
    f"<!--{MARK}--><a href='//evil.example'>]]>&lt;&amp;",
)
_BREAKS_OUT = f'"><i {MARK}>'
"""Ends an attribute or stands in a text: in either it becomes an element, unless it is escaped."""
EVALUATED = "1343391"
"""What the template texts would come to."""

_SCHEMES = {"", "http", "https", "mailto", "tel", "data"}
_ADDRESSES = ("href", "src", "action", "formaction", "hx-get", "hx-post")
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")

_TYPED = set(
    "name first_name last_name description reason note comment company street city region title "
    "postal_code contact_name contact_phone answer bounce_reason holder mandate services text "
    "setup_instructions extension pause_reason disabled_reason user_agent filename label".split()
)
"""Columns that hold what people, other systems or mail servers wrote."""

_TRUSTED = {
    "audit_events",  # Takes no changes; it gets events of its own.
    "email_template_texts",  # Cleaned when they are saved, through the form.
}


def poison() -> int:
    """Put hostile texts into the columns of the database in turn; returns into how many."""
    texts, count = itertools.cycle(TEXTS), 0
    for table in db.metadata.sorted_tables:
        if table.name in _TRUSTED:
            continue
        for column in table.columns:
            if _is_shown(column):
                count += _put(table, column, next(texts))
    db.session.commit()
    return count


def _is_shown(column: sa.Column[Any]) -> bool:
    is_text = isinstance(column.type, sa.String) and not isinstance(column.type, sa.Enum)
    return is_text and column.name in _TYPED and not column.primary_key


def _put(table: sa.Table, column: sa.Column[Any], text: str) -> bool:
    length = getattr(column.type, "length", None) or 2000
    value = f"{text}{_BREAKS_OUT}" if text.startswith(_FORMULA_STARTS) else f"{_BREAKS_OUT}{text}"
    statements = [sa.update(table).values({column: value[:length]})]
    if "id" in table.c:  # Where a text can stand but once, the row's number tells it from others.
        numbered = sa.literal(value[: length - 6]).concat(sa.cast(table.c.id, sa.String))
        statements.append(sa.update(table).values({column: numbered}))
    for statement in statements:
        try:
            with db.session.begin_nested():
                db.session.connection().execute(statement)
        except IntegrityError:
            continue
        return True
    return False


def text_fields_of(form: Any) -> set[str]:
    """Names of the fields of a form that somebody may type anything into."""
    typed = {None, "text", "search", "email", "tel", "url", "password"}
    return {
        element.get("name")
        for element in form.iter()
        if element.get("name")
        and (element.tag == "textarea" or (element.tag == "input" and element.get("type") in typed))
    }


# --- Traces ----------------------------------------------------------------------------------


def traces_in(html: str) -> Iterator[str]:
    """What a text of the corpus has become part of, in a page, a fragment or a mail."""
    root = html5lib.parse(html, namespaceHTMLElements=False)
    for element in root.iter():
        if not isinstance(element.tag, str):
            if MARK in (element.text or ""):
                yield "a comment"
            continue
        handlers = [name for name in element.attrib if str(name).lower().startswith("on")]
        if handlers or MARK in element.attrib:
            yield f"<{element.tag}> with {sorted(map(str, element.attrib))}"
        if element.tag in {"script", "style"} and MARK in "".join(element.itertext()):
            yield f"<{element.tag}>"
        for name in _ADDRESSES:
            address = (element.get(name) or "").strip()
            if urlsplit(address).scheme.lower() not in _SCHEMES:
                yield f"{name}={address[:60]}"
            if address.startswith("//"):
                yield f"{name} to another server: {address[:60]}"
        if element.tag in {"svg", "img"} and element.get("src") == "x":
            yield "an image"
    if EVALUATED in "".join(root.itertext()):
        yield "a template that was evaluated"


def traces_in_mail(mail: EmailMessage) -> Iterator[str]:
    """The same for a mail: its headers, its text and its HTML."""
    for name, value in mail.items():
        if name.lower() in {"bcc", "cc"} or "\n" in str(value) or "\r" in str(value):
            yield f"a header {name}"
    if len(mail.get_all("Subject") or []) != 1:
        yield "more than one subject"
    for part in mail.walk():
        if part.get_content_type() == "text/html":
            yield from traces_in(part.get_content())
        elif part.get_content_type() == "text/plain" and EVALUATED in part.get_content():
            yield "a template that was evaluated"


def traces_in_csv(text: str) -> Iterator[str]:
    """Cells of an export that a spreadsheet would take for formulas."""
    for row in csv.reader(io.StringIO(text.lstrip("\ufeff"))):
        yield from (cell[:40] for cell in row if cell.startswith(_FORMULA_STARTS))
