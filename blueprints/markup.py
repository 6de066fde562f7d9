"""The parts of pages that lists show by the hundred, and those around them, as functions.

Templates call them as `parts`, or by the names that `macros/ui.html` and its neighbours give them.
A macro of Jinja costs tens of times as much (docs/decisions/0030-lists-by-functions.md).
"""

from __future__ import annotations

import re
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


_needs_escaping = re.compile("[&<>'\"]").search


def as_text(value: Any) -> str:
    """A value as it stands in a page or in an attribute: escaped, unless it is markup already.

    What it returns can be given to it again. `escape` does the same at twice the cost, and most
    texts have nothing to escape.
    """
    if type(value) is str and _needs_escaping(value) is None:
        return value
    return escape(value)


def made(text: str) -> Markup:
    """What has been put together of parts, each of them through `as_text`."""
    return Markup(text)  # noqa: S704 - see above


class Parts:
    """What templates call; `zone` answers for the reader of the page that is rendered.

    What ends in `_text` is the same for what puts rows together: text that is markup, but does not
    say so. Only `made` may have it.
    """

    def __init__(self, sprite: str, zone: Callable[[], tzinfo]) -> None:
        self._sprite = as_text(sprite)
        self._zone = zone
        # A Markup equals the text that it was made of, and is escaped otherwise: never mix them up.
        self._icon = lru_cache(maxsize=512, typed=True)(self._make_icon)

    def icon(self, name: str, class_: str = "", **words: str) -> Markup:
        """A decorative sign from icons.svg; `class` is of its element."""
        return self._icon(name, words.get("class", class_))

    def _make_icon(self, name: str, class_: str) -> Markup:
        more = f" {as_text(class_)}" if class_ else ""
        return made(
            f'<svg class="icon{more}" aria-hidden="true" focusable="false">'
            f'<use href="{self._sprite}#{as_text(name)}"/></svg>'
        )

    def pill(self, state: str, word: Any, symbol: str | None = None) -> Markup:
        """A state as sign and word: neutral, good, attention or bad."""
        return made(self.pill_text(state, word, symbol))

    def pill_text(self, state: str, word: Any, symbol: str | None = None) -> str:
        icon = self._icon(symbol or STATE_ICONS[state], "")
        return f'<span class="pill pill-{as_text(state)}">{icon}{as_text(word)}</span>'

    def time(self, at: datetime | None, never: Any = "Never") -> Markup:
        """Relative words for an aware time, the exact one in title and datetime."""
        return made(self.time_text(at, never))

    def time_text(self, at: datetime | None, never: Any = "Never") -> str:
        if not at:
            return f'<span class="muted">{as_text(never)}</span>'
        return self.time_by_text(at, self._zone())

    def time_by(self, at: datetime | None, zone: tzinfo) -> Markup:
        """Relative words, the time by the clocks of `zone` in the title; nothing for None."""
        return made(self.time_by_text(at, zone) if at else "")

    def time_by_text(self, at: datetime, zone: tzinfo) -> str:
        words = as_text(format_relative_time(at.astimezone(self._zone()), datetime.now(UTC)))
        exact = as_text(format_exact_time(at, zone))
        return f'<time datetime="{at.isoformat()}" title="{exact}">{words}</time>'

    def toast(self, message: Any, category: str = "neutral") -> Markup:
        """A message that was flashed: its category is a state or one of Flask's own words."""
        state = _TOAST_STATES.get(category, category)
        state = state if state in STATE_ICONS else "neutral"
        symbol = "info" if state == "neutral" else STATE_ICONS[state]
        alert = ' role="alert"' if state == "bad" else ""
        return made(
            f'<div class="toast toast-{state}" data-toast="{state}"{alert}>\n'
            f"  {self._icon(symbol, f'state-{state}')}\n"
            f'  <div class="toast-text">{as_text(message)}</div>\n'
            f'  <button class="icon-button needs-script" type="button" data-dismiss>'
            f'{self._icon("x", "")}<span class="visually-hidden">Dismiss</span></button>\n'
            f"</div>"
        )

    def truncated(self, text: Any) -> Markup:
        """One line, the whole in its title."""
        return made(self.truncated_text(text))

    @staticmethod
    def truncated_text(text: Any) -> str:
        shown = as_text(text)
        return f'<span class="truncate" title="{shown}">{shown}</span>'

    def button(
        self,
        label: Any,
        variant: str = "secondary",
        type: str = "submit",  # noqa: A002 - as in HTML
        name: str | None = None,
        value: Any = None,
        symbol: str | None = None,
        attrs: Mapping[str, Any] | None = None,
    ) -> Markup:
        """A button: primary (one per view), secondary, danger or quiet."""
        icon = self._icon(symbol, "") if symbol else ""
        more = self.attributes({"name": name, "value": value, **(attrs or {})})
        return made(
            f'<button class="button button-{as_text(variant)}" type="{as_text(type)}"{more}>'
            f"{icon}{as_text(label)}</button>"
        )

    def button_link(
        self,
        label: Any,
        href: str,
        variant: str = "secondary",
        symbol: str | None = None,
        attrs: Mapping[str, Any] | None = None,
    ) -> Markup:
        """Looks like a button, goes somewhere."""
        icon = self._icon(symbol, "") if symbol else ""
        return made(
            f'<a class="button button-{as_text(variant)}" href="{as_text(href)}"'
            f"{self.attributes(attrs)}>{icon}{as_text(label)}</a>"
        )

    def empty_state(self, text: Any, action: Any = None, symbol: str = "inbox") -> Markup:
        """One sentence why there is nothing, and one action."""
        return made(
            f'<div class="empty-state">{self._icon(symbol, "")}<p>{as_text(text)}</p>'
            f"{as_text(action or '')}</div>"
        )

    @staticmethod
    def page_header(
        title: Any,
        lead: Any = None,
        state: Any = None,
        caller: Callable[[], Markup] | None = None,
    ) -> Markup:
        """The h1 of a page, with what can be done beside it."""
        below = f'<p class="lead">{as_text(lead)}</p>' if lead else ""
        actions = f'<div class="page-header-actions">{caller()}</div>' if caller else ""
        return made(
            f'<div class="page-header">\n<div class="page-header-text">\n'
            f'<div class="page-header-title"><h1>{as_text(title)}</h1>{as_text(state or "")}'
            f"</div>\n{below}\n</div>\n{actions}\n</div>"
        )

    def breadcrumbs(self, items: Sequence[tuple[Any, str | None]]) -> Markup:
        """The way to a page; the last of it is the page itself."""
        *above, (here, _) = items
        lines = []
        for label, href in above:
            if href:
                arrow = self._icon("chevron-right", "")
                lines.append(f'<a href="{as_text(href)}">{as_text(label)}</a>{arrow}')
            else:
                lines.append(f"<span>{as_text(label)}</span>")
        lines.append(f'<span aria-current="page">{as_text(here)}</span>')
        steps = "\n".join(f"<li>{line}</li>" for line in lines)
        return made(
            '<nav class="breadcrumbs" aria-label="Breadcrumbs">\n'
            f'<ol class="breadcrumbs-list">\n{steps}\n</ol>\n</nav>'
        )

    def search_form(
        self,
        action: str,
        value: str = "",
        label: str = "Search",
        name: str = "q",
        target: str | None = None,
        state: Sequence[tuple[str, str]] = (),
    ) -> Markup:
        """The one search field of a page; `state` is what a search keeps."""
        action, words = as_text(action), as_text(label)
        live = ""
        if target:
            place = as_text(target)
            live = (
                f' hx-get="{action}" hx-trigger="input delay:200ms from:find input[type=search], '
                f'submit" hx-target="{place}" hx-swap="outerHTML" hx-push-url="true" '
                f'hx-sync="this:replace" hx-indicator="{place}"'
            )
        return made(
            f'<form class="search" role="search" method="get" action="{action}"{live}>\n'
            f'<label class="visually-hidden" for="search">{words}</label>\n'
            f"{self._icon('search', '')}\n"
            f'<input id="search" class="search-input" type="search" name="{as_text(name)}" '
            f'value="{as_text(value or "")}" placeholder="{words}" maxlength="200" '
            f'autocomplete="off" spellcheck="false" data-search>\n'
            f'<kbd class="search-key needs-script" aria-hidden="true">/</kbd>\n'
            f"{self.search_state(state)}\n</form>"
        )

    @staticmethod
    def search_state(pairs: Sequence[tuple[str, str]], oob: bool = False) -> Markup:
        """The hidden fields of `search_form`; alone for an out-of-band swap."""
        swapped = ' hx-swap-oob="true"' if oob else ""
        fields = "".join(
            f'<input type="hidden" name="{as_text(name)}" value="{as_text(value)}">'
            for name, value in pairs
        )
        return made(f'<span id="search-state"{swapped}>{fields}</span>')

    @staticmethod
    def attributes(values: Mapping[str, Any] | None) -> Markup:
        """` name="value"` of each; None and False are left out, True is the name alone."""
        return made(
            "".join(
                f" {as_text(name)}" if value is True else f' {as_text(name)}="{as_text(value)}"'
                for name, value in (values or {}).items()
                if value is not None and value is not False
            )
        )

    @staticmethod
    def swap(href: str, target: str | None = None) -> Markup:
        """htmx attributes of a link that replaces `target`; nothing without one."""
        if not target:
            return Markup()
        href, place = as_text(href), as_text(target)
        return made(
            f' hx-get="{href}" hx-target="{place}" hx-swap="outerHTML" hx-push-url="true" '
            f'hx-indicator="{place}"'
        )

    def menu_of_choices(
        self, label: str, base: str, choices: Sequence[Choice], target: str
    ) -> Markup:
        """A filter of the list at `base` that is one of several values; `target` is the list."""
        id_ = f"filter-{label.lower()}"
        return self.menu_of_lines(label, id_, [self.choice(base, each, target) for each in choices])

    def menu_of_lines(self, label: str, id_: str, lines: Sequence[Markup]) -> Markup:
        """A menu with these lines below its button."""
        down, inside = self._icon("chevron-down", ""), "\n".join(lines)
        return made(
            f'<details class="menu filter-menu" data-menu>\n'
            f'<summary id="{as_text(id_)}" class="button button-secondary button-small">'
            f"{as_text(label)}{down}</summary>\n"
            f'<div class="menu-panel menu-start">\n{inside}\n</div>\n</details>'
        )

    def choice(self, base: str, choice: Choice, target: str) -> Markup:
        """A line of a filter's menu, which leads to the list at `base` with it."""
        href = f"{base}?{choice.query}" if choice.query else base
        current = ' aria-current="true"' if choice.is_on else ""
        icon = self._icon("check", "" if choice.is_on else "icon-blank")
        return made(
            f'<a class="menu-item" href="{as_text(href)}"{current}{self.swap(href, target)}>'
            f"{icon}{as_text(choice.label)}</a>"
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
        content = as_text(label)
        if href:
            arrow = ("arrow-down" if descending else "arrow-up") if is_current else _UNSORTED
            content = made(
                f'<a id="sort-{as_text(sort)}" class="sort" href="{as_text(href)}"'
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
                f'<a class="chip" href="{as_text(href)}"{self.swap(href, target)}>'
                f'<span><span class="chip-label">{as_text(label)}:</span> {as_text(value)}</span>'
                f"{cross}</a>"
            )
            for label, value, href in chips
        ]
        cleared = self.swap(clear_href, target)
        return self.chips(
            lines,
            made(f'<a class="chip-clear" href="{as_text(clear_href)}"{cleared}>Clear all</a>'),
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
        for size, leads_to, is_current in sizes:
            current = ' aria-current="true"' if is_current else ""
            segments.append(
                made(
                    f'<a id="page-size-{size}" class="segment" href="{as_text(leads_to)}"{current}'
                    f"{self.swap(leads_to, target)}>{size}</a>"
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
                    f'rel="{rel[:4]}" href="{as_text(href)}"{self.swap(href, target)}>{label}</a>'
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
            f'<nav class="pager" aria-label="Pages">\n<p class="pager-shown">{as_text(shown)}</p>\n'
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
    def th_select(label: str = "Select all on this page") -> Markup:
        """The head of the column of boxes; selects the page, with scripts only."""
        return made(
            '<th scope="col" class="select-cell"><input class="needs-script" type="checkbox" '
            f'data-select-page aria-label="{as_text(label)}">'
            '<span class="visually-hidden">Selected</span></th>'
        )

    def td_select(
        self, value: Any, label: Any, checked: bool = False, name: str = "selected"
    ) -> Markup:
        """The cell with a row's checkbox. Put data-row on its <tr>."""
        return made(self.td_select_text(value, label, checked, name))

    @staticmethod
    def td_select_text(
        value: Any, label: Any, checked: bool = False, name: str = "selected"
    ) -> str:
        ticked = " checked" if checked else ""
        return (
            f'<td class="select-cell"><label><input type="checkbox" name="{as_text(name)}" '
            f'value="{as_text(value)}" data-select-row{ticked}>'
            f'<span class="visually-hidden">Select {as_text(label)}</span></label></td>'
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
