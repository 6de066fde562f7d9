"""The parts of a page that a list shows in every row, as functions.

They are what `macros/ui.html` and `macros/tables.html` give to templates under the same names. A
macro of Jinja costs tens of times as much, and half of a list's time went into them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import Any

from flask import Flask
from markupsafe import Markup, escape

from blueprints.formats import format_exact_time, format_relative_time
from blueprints.lists import Choice

STATE_ICONS = {
    "neutral": "circle",
    "good": "circle-check",
    "attention": "triangle-alert",
    "bad": "circle-x",
}


def _made(text: str) -> Markup:
    """What is put together here, each part of it escaped."""
    return Markup(text)  # noqa: S704 - see above


class Parts:
    """What templates call; `zone` answers for the reader of the page that is rendered."""

    def __init__(self, sprite: str, zone: Callable[[], tzinfo]) -> None:
        self._sprite = escape(sprite)
        self._zone = zone
        # A Markup equals the text that it was made of, and is escaped otherwise: never mix them up.
        self._icon = lru_cache(maxsize=512, typed=True)(self._make_icon)

    def icon(self, name: str, class_: str = "", **words: str) -> Markup:
        """A decorative sign from icons.svg; `class` is of its element."""
        return self._icon(name, words.get("class", class_))

    def _make_icon(self, name: str, class_: str) -> Markup:
        more = f" {escape(class_)}" if class_ else ""
        return _made(
            f'<svg class="icon{more}" aria-hidden="true" focusable="false">'
            f'<use href="{self._sprite}#{escape(name)}"/></svg>'
        )

    def pill(self, state: str, word: Any, symbol: str | None = None) -> Markup:
        """A state as sign and word: neutral, good, attention or bad."""
        icon = self._icon(symbol or STATE_ICONS[state], "")
        return _made(f'<span class="pill pill-{escape(state)}">{icon}{escape(word)}</span>')

    def time(self, at: datetime | None, never: Any = "Never") -> Markup:
        """Relative words for an aware time, the exact one in title and datetime."""
        if not at:
            return _made(f'<span class="muted">{escape(never)}</span>')
        zone = self._zone()
        exact = escape(format_exact_time(at, zone))
        words = escape(format_relative_time(at.astimezone(zone), datetime.now(UTC)))
        return _made(f'<time datetime="{at.isoformat()}" title="{exact}">{words}</time>')

    @staticmethod
    def truncated(text: Any) -> Markup:
        """One line, the whole in its title."""
        shown = escape(text)
        return _made(f'<span class="truncate" title="{shown}">{shown}</span>')

    @staticmethod
    def attributes(values: Mapping[str, Any] | None) -> Markup:
        """` name="value"` of each; None and False are left out, True is the name alone."""
        return _made(
            "".join(
                f" {escape(name)}" if value is True else f' {escape(name)}="{escape(value)}"'
                for name, value in (values or {}).items()
                if value is not None and value is not False
            )
        )

    @staticmethod
    def swap(href: str, target: str | None = None) -> Markup:
        """htmx attributes of a link that replaces `target`; nothing without one."""
        if not target:
            return Markup()
        href, target = escape(href), escape(target)
        return _made(
            f' hx-get="{href}" hx-target="{target}" hx-swap="outerHTML" hx-push-url="true" '
            f'hx-indicator="{target}"'
        )

    def choice(self, base: str, choice: Choice, target: str) -> Markup:
        """A line of a filter's menu, which leads to the list at `base` with it."""
        href = f"{base}?{choice.query}" if choice.query else base
        current = ' aria-current="true"' if choice.is_on else ""
        icon = self._icon("check", "" if choice.is_on else "icon-blank")
        return _made(
            f'<a class="menu-item" href="{escape(href)}"{current}{self.swap(href, target)}>'
            f"{icon}{escape(choice.label)}</a>"
        )

    @staticmethod
    def go(
        nav: Mapping[str, Any],
        query: str,
        *,
        caller: Callable[[], Markup],
        current: str | None = None,
        rel: str | None = None,
        top: bool = False,
        **words: str | None,
    ) -> Markup:
        """A step from one state of a list that can be selected from to another.

        Who may select gets a button of the form around the list, so that the ticks of this page are
        saved on the way, with scripts or without; others a link. `nav` has list_url, select_url,
        may_select and target, the list's element; `id` and `class` are of the control.
        """
        href = f"{nav['list_url']}?{query}" if query else nav["list_url"]
        target = escape(nav["target"])
        common = Parts.attributes({"id": words.get("id") or None, "aria-current": current or None})
        common += _made(
            f' hx-target="{target}" hx-swap="outerHTML{" show:window:top" if top else ""}" '
            f'hx-push-url="true" hx-indicator="{target}"'
        )
        css = escape(words.get("class") or "")
        if nav["may_select"]:
            url = escape(nav["select_url"])
            return _made(
                f'<button type="submit" class="as-link {css}" name="go" value="{escape(query)}" '
                f'formaction="{url}" hx-post="{url}" hx-sync="#main:queue last"{common}>'
                f"{caller()}</button>"
            )
        link = Parts.attributes({"rel": rel or None, "href": href, "hx-get": href})
        return _made(f'<a class="{css}"{link}{common}>{caller()}</a>')

    @staticmethod
    def td_select(value: Any, label: Any, checked: bool = False, name: str = "selected") -> Markup:
        """The cell with a row's checkbox. Put data-row on its <tr>."""
        ticked = " checked" if checked else ""
        return _made(
            f'<td class="select-cell"><label><input type="checkbox" name="{escape(name)}" '
            f'value="{escape(value)}" data-select-row{ticked}>'
            f'<span class="visually-hidden">Select {escape(label)}</span></label></td>'
        )


def init_app(app: Flask, *, zone: Callable[[], tzinfo]) -> None:
    """Give templates the parts, as `parts`."""
    app.jinja_env.globals["parts"] = Parts(f"{app.static_url_path}/icons.svg", zone)
