"""The parts of a page that a list shows in every row, as functions.

They are what `macros/ui.html` and `macros/tables.html` give to templates under the same names. A
macro of Jinja costs tens of times as much, and half of a list's time went into them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import Any

from flask import Flask, current_app
from markupsafe import Markup, escape

from blueprints.formats import format_exact_time, format_relative_time
from blueprints.lists import Choice

STATE_ICONS = {
    "neutral": "circle",
    "good": "circle-check",
    "attention": "triangle-alert",
    "bad": "circle-x",
}

_UNSORTED = "chevrons-up-down"
_TOAST_STATES = {
    "message": "neutral",
    "info": "neutral",
    "success": "good",
    "warning": "attention",
    "error": "bad",
    "danger": "bad",
}


def made(text: str) -> Markup:
    """What has been put together of parts, each of them escaped."""
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
        return made(
            f'<svg class="icon{more}" aria-hidden="true" focusable="false">'
            f'<use href="{self._sprite}#{escape(name)}"/></svg>'
        )

    def pill(self, state: str, word: Any, symbol: str | None = None) -> Markup:
        """A state as sign and word: neutral, good, attention or bad."""
        icon = self._icon(symbol or STATE_ICONS[state], "")
        return made(f'<span class="pill pill-{escape(state)}">{icon}{escape(word)}</span>')

    def time(self, at: datetime | None, never: Any = "Never") -> Markup:
        """Relative words for an aware time, the exact one in title and datetime."""
        if not at:
            return made(f'<span class="muted">{escape(never)}</span>')
        zone = self._zone()
        exact = escape(format_exact_time(at, zone))
        words = escape(format_relative_time(at.astimezone(zone), datetime.now(UTC)))
        return made(f'<time datetime="{at.isoformat()}" title="{exact}">{words}</time>')

    def time_by(self, at: datetime | None, zone: tzinfo) -> Markup:
        """Relative words, the time by the clocks of `zone` in the title; nothing for None."""
        if at is None:
            return Markup()
        words = escape(format_relative_time(at.astimezone(self._zone()), datetime.now(UTC)))
        exact = escape(format_exact_time(at, zone))
        return made(f'<time datetime="{at.isoformat()}" title="{exact}">{words}</time>')

    def toast(self, message: Any, category: str = "neutral") -> Markup:
        """A message that was flashed: its category is a state or one of Flask's own words."""
        state = _TOAST_STATES.get(category, category)
        state = state if state in STATE_ICONS else "neutral"
        symbol = "info" if state == "neutral" else STATE_ICONS[state]
        alert = ' role="alert"' if state == "bad" else ""
        return made(
            f'<div class="toast toast-{state}" data-toast="{state}"{alert}>\n'
            f"  {self._icon(symbol, f'state-{state}')}\n"
            f'  <div class="toast-text">{escape(message)}</div>\n'
            f'  <button class="icon-button needs-script" type="button" data-dismiss>'
            f'{self._icon("x", "")}<span class="visually-hidden">Dismiss</span></button>\n'
            f"</div>"
        )

    @staticmethod
    def truncated(text: Any) -> Markup:
        """One line, the whole in its title."""
        shown = escape(text)
        return made(f'<span class="truncate" title="{shown}">{shown}</span>')

    @staticmethod
    def attributes(values: Mapping[str, Any] | None) -> Markup:
        """` name="value"` of each; None and False are left out, True is the name alone."""
        return made(
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
        return made(
            f' hx-get="{href}" hx-target="{target}" hx-swap="outerHTML" hx-push-url="true" '
            f'hx-indicator="{target}"'
        )

    def menu(self, label: str, base: str, choices: Sequence[Choice], target: str) -> Markup:
        """A filter of the list at `base` that is one of several values; `target` is the list."""
        id_ = f"filter-{label.lower()}"
        return self.filter_menu(label, id_, [self.choice(base, each, target) for each in choices])

    def filter_menu(self, label: str, id_: str, lines: Sequence[Markup]) -> Markup:
        """A menu with these lines below its button."""
        down, inside = self._icon("chevron-down", ""), "\n".join(lines)
        return made(
            f'<details class="menu filter-menu" data-menu>\n'
            f'<summary id="{escape(id_)}" class="button button-secondary button-small">'
            f"{escape(label)}{down}</summary>\n"
            f'<div class="menu-panel menu-start">\n{inside}\n</div>\n</details>'
        )

    def choice(self, base: str, choice: Choice, target: str) -> Markup:
        """A line of a filter's menu, which leads to the list at `base` with it."""
        href = f"{base}?{choice.query}" if choice.query else base
        current = ' aria-current="true"' if choice.is_on else ""
        icon = self._icon("check", "" if choice.is_on else "icon-blank")
        return made(
            f'<a class="menu-item" href="{escape(href)}"{current}{self.swap(href, target)}>'
            f"{icon}{escape(choice.label)}</a>"
        )

    def th(
        self,
        label: str,
        href: str | None = None,
        sort: str | None = None,
        current: str | None = None,
        descending: bool = False,
        target: str | None = None,
        numeric: bool = False,
    ) -> Markup:
        """A column's head. With `href` it sorts: by this column, or the other way round."""
        is_current = sort is not None and sort == current
        css = " numeric" if numeric else ""
        direction = "descending" if descending else "ascending"
        order = f' aria-sort="{direction}"' if is_current else ""
        content = escape(label)
        if href:
            arrow = ("arrow-down" if descending else "arrow-up") if is_current else _UNSORTED
            content = made(
                f'<a id="sort-{escape(sort)}" class="sort" href="{escape(href)}"'
                f"{self.swap(href, target)}>{content}{self._icon(arrow, '')}</a>"
            )
        return made(f'<th scope="col" class="{css}"{order}>{content}</th>\n')

    def filter_chips(
        self,
        chips: Sequence[tuple[str, Any, str]],
        clear_href: str,
        target: str | None = None,
    ) -> Markup:
        """What is on, each with the address that removes it. Nothing when nothing is on."""
        if not chips:
            return Markup()
        cross = f'{self._icon("x", "")}<span class="visually-hidden">Remove this filter</span>'
        lines = [
            made(
                f'<a class="chip" href="{escape(href)}"{self.swap(href, target)}>'
                f'<span><span class="chip-label">{escape(label)}:</span> {escape(value)}</span>'
                f"{cross}</a>"
            )
            for label, value, href in chips
        ]
        cleared = self.swap(clear_href, target)
        return self.chips(
            lines,
            made(f'<a class="chip-clear" href="{escape(clear_href)}"{cleared}>Clear all</a>'),
        )

    @staticmethod
    def chips(lines: Sequence[Markup], clear: Markup | str) -> Markup:
        """Filters that are on, and what takes them all away; nothing without any."""
        if not lines:
            return Markup()
        items = "\n".join(f"<li>{line}</li>" for line in (*lines, clear))
        return made(f'<ul class="chips" aria-label="Filters that are on">\n{items}\n</ul>')

    def pager(
        self,
        previous_href: str | None,
        next_href: str | None,
        sizes: Sequence[tuple[int, str, bool]] = (),
        shown: str | None = None,
        target: str | None = None,
    ) -> Markup:
        """Keyset paging: previous and next may be None. `shown` says what is on the page."""
        segments = []
        for size, href, is_current in sizes:
            current = ' aria-current="true"' if is_current else ""
            segments.append(
                made(
                    f'<a id="page-size-{size}" class="segment" href="{escape(href)}"{current}'
                    f"{self.swap(href, target)}>{size}</a>"
                )
            )
        steps = []
        for rel, word, href in (
            ("previous", "Previous", previous_href),
            ("next", "Next", next_href),
        ):
            label = self.step_label(rel, word)
            steps.append(
                made(
                    f'<a id="page-{rel}" class="button button-secondary button-small" '
                    f'rel="{rel[:4]}" href="{escape(href)}"{self.swap(href, target)}>{label}</a>'
                )
                if href
                else self.no_step(label)
            )
        return self.pager_of(shown or "", segments, *steps)

    @staticmethod
    def pager_of(
        shown: str, segments: Sequence[Markup], previous: Markup, following: Markup
    ) -> Markup:
        """A pager of these parts; `segments` lead to other sizes of the page."""
        sizes = ""
        if segments:
            items = "\n".join(f"<li>{each}</li>" for each in segments)
            sizes = (
                '<div class="pager-sizes"><span id="page-size-label">Rows</span>\n'
                f'<ul class="segments" aria-labelledby="page-size-label">\n{items}\n</ul>\n'
                "</div>\n"
            )
        return made(
            f'<nav class="pager" aria-label="Pages">\n<p class="pager-shown">{escape(shown)}</p>\n'
            f'{sizes}<div class="pager-steps">\n{previous}{following}\n</div>\n</nav>'
        )

    def step_label(self, rel: str, word: str) -> Markup:
        """What is on a step of a pager."""
        if rel == "next":
            return made(f"{word}{self._icon('chevron-right', '')}")
        return made(f"{self._icon('chevron-left', '')}{word}")

    @staticmethod
    def no_step(label: Markup) -> Markup:
        """In the place of a step that leads nowhere."""
        return made(
            '<span class="button button-secondary button-small" aria-disabled="true">'
            f"{label}</span>"
        )

    @staticmethod
    def td_select(value: Any, label: Any, checked: bool = False, name: str = "selected") -> Markup:
        """The cell with a row's checkbox. Put data-row on its <tr>."""
        ticked = " checked" if checked else ""
        return made(
            f'<td class="select-cell"><label><input type="checkbox" name="{escape(name)}" '
            f'value="{escape(value)}" data-select-row{ticked}>'
            f'<span class="visually-hidden">Select {escape(label)}</span></label></td>'
        )


def get_parts() -> Parts:
    """The parts of the current application's pages."""
    parts: Parts = current_app.extensions["parts"]
    return parts


def init_app(app: Flask, *, zone: Callable[[], tzinfo]) -> None:
    """Give templates the parts, as `parts`; some as filters, too.

    Jinja calls a filter directly, and where all that it needs is known, once: when it compiles the
    template. `asset` is the address of a static file.
    """
    parts = Parts(f"{app.static_url_path}/icons.svg", zone)
    app.extensions["parts"] = app.jinja_env.globals["parts"] = parts
    app.add_template_filter(parts.icon, "icon")
    app.add_template_filter(parts.toast, "toast")
    app.add_template_filter(lambda name: f"{app.static_url_path}/{name}", "asset")
