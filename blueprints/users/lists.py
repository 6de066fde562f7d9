"""The Users tab's state as it stands in the URL, and the controls that lead from one to another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, TypeVar
from urllib.parse import urlencode

from blueprints.lists import (
    Choice,
    clean_search,
    parse_query,
    read_cursor,
    read_size,
    size_parameter,
)
from models import Bundle, EmailTemplate, Role, TemplateKind, UserStatus
from services.actors import Actor
from services.paging import PAGE_SIZES
from services.user_states import PERMISSIONS, Change
from services.users import Mailed, UserFilter, UserSort

Word = TypeVar("Word", bound=StrEnum)

EXPORT = "export"
_STATUSES = {UserStatus.ACTIVE: "Active", UserStatus.SUSPENDED: "Suspended"}
ROLE_WORDS = {
    Role.CUSTOMER_ADMIN: "Administrator",
    Role.SUPERVISOR: "Supervisor",
    Role.USER: "User",
}
_ROLES = {
    Role.CUSTOMER_ADMIN: "Administrators",
    Role.SUPERVISOR: "Supervisors",
    Role.USER: "Users",
}
CHANGE_WORDS = {
    Change.BUNDLE: "Change bundle",
    Change.SUSPEND: "Suspend",
    Change.RESUME: "Resume",
    Change.DELETE: "Delete",
}
_MAILED = {Mailed.NEVER: "Never mailed", Mailed.FAILED: "Last mail failed"}


@dataclass(frozen=True, slots=True)
class UserList:
    """One state of the list: what is shown, how many rows, and from where."""

    wanted: UserFilter = field(default_factory=UserFilter)
    size: int = PAGE_SIZES[0]
    cursor: str = ""

    @classmethod
    def read(cls, args: Mapping[str, str], bundles: Sequence[Bundle]) -> UserList:
        """From the parameters of a URL; what is malformed or unknown counts as not given."""
        offered = {str(bundle.id): bundle.id for bundle in bundles}
        status = _word(UserStatus, args.get("status"))
        role = _word(Role, args.get("role"))
        return cls(
            UserFilter(
                search=clean_search(args.get("q", "")),
                bundle_id=offered.get(args.get("bundle", "")),
                status=status if status in _STATUSES else None,
                role=role if role in _ROLES else None,
                profile_id=_row_id(args.get("profile", "")),
                mailed=_word(Mailed, args.get("mailed")),
                never_signed_in=args.get("signed_in") == "never",
                sort=_word(UserSort, args.get("sort")) or UserSort.NAME,
                descending=args.get("order") == "desc",
            ),
            size=read_size(args),
            cursor=read_cursor(args),
        )

    @classmethod
    def parse(cls, query: str, bundles: Sequence[Bundle]) -> UserList:
        """From a query string, as `query` writes it."""
        return cls.read(parse_query(query), bundles)

    def _parameters(self) -> dict[str, Any]:
        """All parameters but the cursor; those that say nothing have no value."""
        wanted = self.wanted
        return {
            "q": wanted.search,
            "bundle": wanted.bundle_id,
            "status": wanted.status,
            "role": wanted.role,
            "profile": wanted.profile_id,
            "mailed": wanted.mailed,
            "signed_in": "never" if wanted.never_signed_in else None,
            "sort": wanted.sort if wanted.sort is not UserSort.NAME else None,
            "order": "desc" if wanted.descending else None,
            "size": size_parameter(self.size),
        }

    @property
    def state(self) -> list[tuple[str, str]]:
        """The parameters of filters, order and size, which a new search keeps."""
        values = self._parameters()
        return [(name, str(value)) for name, value in values.items() if value and name != "q"]

    @property
    def query(self) -> str:
        """The query string of this state; empty for the list as it opens."""
        return self.queries()(cursor=self.cursor)

    def queries(self) -> Callable[..., str]:
        """What gives the query strings of further states by the parameters that change, without a
        value to take one away. They start at the first page."""
        values = self._parameters()

        def query(**changed: Any) -> str:
            pairs = [(name, value) for name, value in (values | changed).items() if value]
            return urlencode(pairs) if pairs else ""

        return query

    def to(self, *, cursor: str = "", size: int | None = None, **wanted: Any) -> UserList:
        """The state after a change; it starts at the first page unless `cursor` says otherwise."""
        return UserList(replace(self.wanted, **wanted), size or self.size, cursor)

    @property
    def cleared(self) -> UserList:
        """The same order and size without any filter."""
        kept = UserFilter(sort=self.wanted.sort, descending=self.wanted.descending)
        return UserList(kept, self.size)


def _word(words: type[Word], value: str | None) -> Word | None:
    try:
        return words(value or "")
    except ValueError:
        return None


def _row_id(text: str) -> int | None:
    plain = len(text) < 19 and text.isascii() and text.isdecimal()
    return int(text) or None if plain else None


# --- Controls: each leads to a query ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Column:
    """A head of the table; `query` sorts by it, None where it does not sort."""

    label: str
    sort: UserSort | None = None
    query: str | None = None
    direction: str | None = None
    css: str = ""


_COLUMNS: tuple[tuple[str, UserSort | None, str], ...] = (
    ("Name", UserSort.NAME, ""),
    ("Login", UserSort.LOGIN, ""),
    ("E-mail", UserSort.EMAIL, ""),
    ("Ext.", UserSort.EXTENSION, ""),
    ("Bundle", None, "wide-only"),
    ("Status", None, ""),
    ("Last welcome mail", UserSort.WELCOME, ""),
    ("Last sign-in", UserSort.SIGN_IN, "wide-only"),
)


def columns_of(shown: UserList) -> list[Column]:
    """The heads of the table; the current one leads to the other direction."""
    found, query_of = [], shown.queries()
    for label, sort, css in _COLUMNS:
        if sort is None:
            found.append(Column(label, css=css))
            continue
        current = sort is shown.wanted.sort
        down = shown.wanted.descending
        query = query_of(
            sort=sort if sort is not UserSort.NAME else None,
            order="desc" if current and not down else None,
        )
        direction = ("descending" if down else "ascending") if current else None
        found.append(Column(label, sort, query, direction, css))
    return found


def menus_of(shown: UserList, bundles: Sequence[Bundle]) -> dict[str, list[Choice]]:
    """The filters with their choices, by the filter's label."""
    wanted, query_of = shown.wanted, shown.queries()

    def choices(name: str, any_word: str, words: Mapping[Any, str], current: Any) -> list[Choice]:
        return [
            Choice(word, query_of(**{name: value}), value == current)
            for value, word in [(None, any_word), *words.items()]
        ]

    names = {each.id: each.name for each in bundles}

    return {
        "Bundle": choices("bundle", "All bundles", names, wanted.bundle_id),
        "Status": choices("status", "Active and suspended", _STATUSES, wanted.status),
        "Role": choices("role", "Every role", _ROLES, wanted.role),
        "Welcome mail": choices("mailed", "Mailed or not", _MAILED, wanted.mailed),
        "Sign-in": [
            Choice("Signed in or not", query_of(signed_in=None), not wanted.never_signed_in),
            Choice("Never signed in", query_of(signed_in="never"), wanted.never_signed_in),
        ],
    }


def chips_of(
    shown: UserList, bundles: Sequence[Bundle], profile: str = ""
) -> list[tuple[str, str, str]]:
    """What is on: label, value, and the query without it. `profile` is the name of the one that is
    looked for."""
    wanted = shown.wanted
    names = {each.id: each.name for each in bundles}
    chips = []
    if wanted.search:
        chips.append(("Search", wanted.search, shown.to(search="").query))
    if wanted.bundle_id is not None:
        chips.append(("Bundle", names[wanted.bundle_id], shown.to(bundle_id=None).query))
    if wanted.status is not None:
        chips.append(("Status", _STATUSES[wanted.status], shown.to(status=None).query))
    if wanted.role is not None:
        chips.append(("Role", _ROLES[wanted.role], shown.to(role=None).query))
    if wanted.profile_id is not None:
        name = profile or "One that is gone"
        chips.append(("Permission profile", name, shown.to(profile_id=None).query))
    if wanted.mailed is not None:
        chips.append(("Welcome mail", _MAILED[wanted.mailed], shown.to(mailed=None).query))
    if wanted.never_signed_in:
        chips.append(("Sign-in", "Never", shown.to(never_signed_in=False).query))
    return chips


@dataclass(frozen=True, slots=True)
class Action:
    """A line of *Select an Action*: a mail, a change of accounts, or (neither) the export."""

    value: str
    label: str
    template_id: int | None = None
    change: Change | None = None


def mails_for(templates: Sequence[EmailTemplate], reset: EmailTemplate | None) -> list[Action]:
    """What can be sent to selected users, given the templates that the customer may use."""
    mails = [each for each in templates if each.kind is not TemplateKind.PASSWORD_RESET]
    if reset is not None:
        mails.append(reset)
    return [Action(f"mail-{each.id}", action_label(each), each.id) for each in mails]


def changes_for(actor: Actor, *, has_bundles: bool) -> list[Action]:
    """How the actor may change selected users."""
    return [
        Action(change.value, label, change=change)
        for change, label in CHANGE_WORDS.items()
        if actor.may(PERMISSIONS[change]) and (change is not Change.BUNDLE or has_bundles)
    ]


def action_label(template: EmailTemplate) -> str:
    """What the action that sends a template is called."""
    if template.kind is TemplateKind.WELCOME:
        return "Resend Welcome Mail"
    if template.kind is TemplateKind.PASSWORD_RESET:
        return "Reset password"
    return template.name
