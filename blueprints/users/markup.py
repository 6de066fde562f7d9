"""The Users tab's rows, and what leads from one state of the list to another, as HTML.

Functions, because a list shows them by the hundred: see `blueprints.markup`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from flask import url_for
from markupsafe import Markup

from blueprints.lists import Choice
from blueprints.markup import Parts, as_text, get_parts, made
from blueprints.users.lists import Column
from models import Customer, Role, User, UserStatus, WelcomeState

_TARGET = "#users-table"
_ARROWS = {"descending": "arrow-down", "ascending": "arrow-up"}


def welcome(user: User, is_on_its_way: bool = False) -> Markup:
    """How the last welcome mail ended, and when."""
    return made(_welcome(get_parts(), user, is_on_its_way))


def _welcome(parts: Parts, user: User, is_on_its_way: bool) -> str:
    if is_on_its_way:
        return parts.pill_text("neutral", "On its way", "clock")
    if user.welcome.state is WelcomeState.NEVER:
        return '<span class="muted">Never</span>'
    is_sent = user.welcome.state is WelcomeState.SENT
    pill = parts.pill_text("good", "Sent") if is_sent else parts.pill_text("bad", "Failed")
    return f'<span class="row">{pill} {parts.time_text(user.welcome.at)}</span>'


def rows(
    users: Iterable[User],
    *,
    list_url: str,
    on_their_way: Collection[int],
    selected: Collection[int] | None,
) -> Markup:
    """Rows of the table; with boxes unless `selected` is None."""
    parts, base = get_parts(), as_text(list_url)
    return made(
        "\n".join(_row(parts, base, user, user.id in on_their_way, selected) for user in users)
    )


def _row(
    parts: Parts,
    base: str,
    user: User,
    is_on_its_way: bool,
    selected: Collection[int] | None,
) -> str:
    name, extension = as_text(user.full_name), as_text(user.extension)
    box = "" if selected is None else parts.td_select_text(user.id, name, user.id in selected)
    hidden = ' class="phone-hide"' if user.login == user.email else ""
    email = '<span class="muted">No address</span>'
    if user.email:
        email = parts.truncated_text(user.email)
    seen = parts.time_text(user.last_sign_in_at)
    bundle = parts.truncated_text(user.bundle.name) if user.bundle else ""
    status = (
        '<span class="secondary">Active</span>'
        if user.status is UserStatus.ACTIVE
        else parts.pill_text("attention", "Suspended", "circle-pause")
    )
    return (
        f'<tr data-row>\n{box}\n<th scope="row"><a class="truncate" href="{base}/{user.id}" '
        f'title="{name}">{name}</a>{_role(user)}</th>\n'
        f"<td{hidden}>{parts.truncated_text(user.login)}</td>\n<td>{email}</td>\n"
        f'<td data-label="Ext.">{extension}</td>\n<td class="wide-only">{bundle}</td>\n'
        f"<td>{status}</td>\n"
        f'<td data-label="Welcome mail">{_welcome(parts, user, is_on_its_way)}</td>\n'
        f'<td class="wide-only" data-label="Last sign-in">{seen}</td>\n'
        f"</tr>"
    )


def _role(user: User) -> str:
    if user.role is Role.CUSTOMER_ADMIN:
        return '<span class="secondary role">Administrator</span>'
    if user.profile is None:
        return ""
    words = f"Supervisor: {as_text(user.profile.name)}"
    return f'<span class="secondary role truncate" title="{words}">{words}</span>'


class Ways:
    """What leads from one state of the list to another.

    Who may select gets buttons of the form around the list, so that the ticks of this page are
    saved on the way, with scripts or without; others get links.
    """

    def __init__(self, customer: Customer, *, may_select: bool) -> None:
        self.list_url = url_for("users.index", web_id=customer.web_id)
        self.select_url = url_for("users.select", web_id=customer.web_id)
        self.may_select = may_select
        self._list, self._select = as_text(self.list_url), as_text(self.select_url)
        self._icon = get_parts().icon

    def go(
        self,
        query: str,
        content: Any,
        css: str,
        id_: str = "",
        *,
        is_current: bool = False,
        rel: str = "",
    ) -> Markup:
        """A step to the state of the list that `query` is; `rel` is of a step to another page."""
        words, content = as_text(query), as_text(content)
        named = f' id="{id_}"' if id_ else ""
        current = ' aria-current="true"' if is_current else ""
        top = " show:window:top" if rel else ""
        common = (
            f'{named}{current} hx-target="{_TARGET}" hx-swap="outerHTML{top}" '
            f'hx-push-url="true" hx-indicator="{_TARGET}"'
        )
        if self.may_select:
            return made(
                f'<button type="submit" class="as-link {css}" name="go" value="{words}" '
                f'formaction="{self._select}" hx-post="{self._select}" '
                f'hx-sync="#main:queue last"{common}>{content}</button>'
            )
        href = f"{self._list}?{words}" if words else self._list
        leads = f' rel="{rel}"' if rel else ""
        return made(f'<a class="{css}"{leads} href="{href}" hx-get="{href}"{common}>{content}</a>')

    def head(self, column: Column) -> Markup:
        """A column's head; the current one shows its direction."""
        sorted_ = f' aria-sort="{column.direction}"' if column.direction else ""
        content: Any = as_text(column.label)
        if column.sort is not None:
            icon = self._icon(_ARROWS.get(column.direction or "", "chevrons-up-down"))
            content = made(f"{content}{icon}")
            content = self.go(column.query or "", content, "sort", f"sort-{column.sort}")
        return made(f'<th scope="col" class="{column.css}"{sorted_}>{content}</th>')

    def filter_menu(self, label: str, choices: Sequence[Choice]) -> Markup:
        """A filter that is one of several values."""
        id_ = f"filter-{label.lower().replace(' ', '-')}"
        lines = []
        for number, choice in enumerate(choices, 1):
            icon = self._icon("check", "" if choice.is_on else "icon-blank")
            content = made(f"{icon}{as_text(choice.label)}")
            line = self.go(
                choice.query, content, "menu-item", f"{id_}-{number}", is_current=choice.is_on
            )
            lines.append(line)
        return get_parts().menu_of_lines(label, id_, lines)

    def chips(self, chips: Sequence[tuple[str, str, str]], cleared: str) -> Markup:
        """The filters that are on, each removable."""
        cross = made(f'{self._icon("x")}<span class="visually-hidden">Remove this filter</span>')
        return get_parts().chips(
            [
                self.go(
                    query,
                    made(
                        f'<span class="chip-text"><span class="chip-label">{as_text(label)}:'
                        f"</span> {as_text(value)}</span>{cross}"
                    ),
                    "chip",
                )
                for label, value, query in chips
            ],
            self.go(cleared, "Clear all", "chip-clear") if chips else "",
        )

    def pager(
        self,
        shown: str,
        sizes: Iterable[tuple[int, str, bool]],
        previous: str | None,
        following: str | None,
    ) -> Markup:
        """Steps to the neighbours, None where there is none, and to other sizes of the page."""
        segments = [
            self.go(query, size, "segment", f"page-size-{size}", is_current=is_current)
            for size, query, is_current in sizes
        ]
        return get_parts().pager_of(
            shown,
            segments,
            self._step("prev", "Previous", previous),
            self._step("next", "Next", following),
        )

    def _step(self, rel: str, word: str, query: str | None) -> Markup:
        label = get_parts().step_label(rel, word)
        if query is None:
            return get_parts().no_step(label)
        css = "button button-secondary button-small"
        return self.go(query, label, css, f"page-{rel}", rel=rel)
