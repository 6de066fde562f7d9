"""The list's state as it stands in the URL, and the controls that lead from one to another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

from blueprints.lists import (
    Choice,
    clean_search,
    parse_query,
    read_cursor,
    read_size,
    size_parameter,
)
from blueprints.tenant_creation.words import WAITING_WORDS
from models import Group
from services.paging import PAGE_SIZES
from services.request_states import Waiting
from services.subscription_requests import RequestFilter, RequestSort

SORTS = {
    RequestSort.NEWEST: "Newest first",
    RequestSort.OLDEST: "Oldest first",
    RequestSort.NAME: "By name",
    RequestSort.LONGEST_WAITING: "Longest waiting first",
}


@dataclass(frozen=True, slots=True)
class RequestList:
    """One state of the list: what is shown, how many rows, and from where."""

    wanted: RequestFilter = field(default_factory=RequestFilter)
    size: int = PAGE_SIZES[0]
    cursor: str = ""

    @classmethod
    def read(cls, args: Mapping[str, str], groups: Sequence[Group]) -> RequestList:
        """From the parameters of a URL; what is malformed or unknown counts as not given."""
        offered = {str(group.groupno): group.id for group in groups}
        sorts = {str(sort): sort for sort in RequestSort}
        return cls(
            RequestFilter(
                search=clean_search(args.get("q", "")),
                waiting=_SLUGS.get(args.get("where", "")),
                group_id=offered.get(args.get("group", "")),
                sort=sorts.get(args.get("sort", ""), RequestSort.NEWEST),
            ),
            size=read_size(args),
            cursor=read_cursor(args),
        )

    @classmethod
    def parse(cls, query: str, groups: Sequence[Group]) -> RequestList:
        """From a query string, as `query_of` writes it."""
        return cls.read(parse_query(query), groups)

    def to(self, *, cursor: str = "", size: int | None = None, **wanted: Any) -> RequestList:
        """The state after a change; it starts at the first page unless `cursor` says otherwise."""
        return RequestList(replace(self.wanted, **wanted), size or self.size, cursor)

    @property
    def cleared(self) -> RequestList:
        """The same size without any filter; an order that is itself a filter goes, too."""
        sort = self.wanted.sort
        kept = RequestSort.NEWEST if sort is RequestSort.LONGEST_WAITING else sort
        return RequestList(RequestFilter(sort=kept), self.size)


_SLUGS = {word.name.lower(): word for word in Waiting}


@dataclass(frozen=True, slots=True)
class Counter:
    """A number of requests that is a filter, too; `slug` names its element."""

    slug: str
    label: str
    symbol: str
    colour: str
    number: int
    query: str
    is_on: bool


class Controls:
    """What leads from one state of the list to another, given the groups that the reader sees."""

    def __init__(self, shown: RequestList, groups: Sequence[Group]) -> None:
        self.shown = shown
        self._groups = groups
        self._numbers = {group.id: group.groupno for group in groups}

    def query_of(self, state: RequestList) -> str:
        """The query string of a state; empty for the list as it opens."""
        pairs = [("q", state.wanted.search), *self._parameters(state), ("cursor", state.cursor)]
        return urlencode([(name, value) for name, value in pairs if value])

    def _parameters(self, state: RequestList) -> list[tuple[str, str]]:
        wanted = state.wanted
        values = {
            "where": wanted.waiting.name.lower() if wanted.waiting else None,
            "group": self._numbers.get(wanted.group_id) if wanted.group_id else None,
            "sort": wanted.sort if wanted.sort is not RequestSort.NEWEST else None,
            "size": size_parameter(state.size),
        }
        return [(name, str(value)) for name, value in values.items() if value]

    @property
    def here(self) -> str:
        return self.query_of(self.shown)

    @property
    def cleared(self) -> str:
        return self.query_of(self.shown.cleared)

    @property
    def first(self) -> str:
        return self.query_of(self.shown.to())

    @property
    def state(self) -> list[tuple[str, str]]:
        """The parameters that a new search keeps."""
        return self._parameters(self.shown)

    def counters(self, counts: Mapping[Waiting, int]) -> list[Counter]:
        """All, and each word that there is a request for or that is on."""
        on = self.shown.wanted.waiting
        everything = Counter(
            "all",
            "All",
            "list-checks",
            "neutral",
            sum(counts.values()),
            self.query_of(self.shown.to(waiting=None)),
            on is None,
        )
        found = [everything]
        for word in Waiting:
            label, colour, symbol = WAITING_WORDS[word]
            query = self.query_of(self.shown.to(waiting=word))
            counter = Counter(
                word.name.lower(), label, symbol, colour, counts[word], query, word is on
            )
            if counts[word] or word is on:
                found.append(counter)
        return found

    def menus(self) -> dict[str, list[Choice]]:
        """The other filters and the order with their choices, by their labels."""
        wanted = self.shown.wanted
        menus = {}
        if len(self._groups) > 1:
            words = {None: "All groups"} | {each.id: each.name for each in self._groups}
            menus["Group"] = [
                Choice(word, self.query_of(self.shown.to(group_id=each)), each == wanted.group_id)
                for each, word in words.items()
            ]
        menus["Order"] = [
            Choice(word, self.query_of(self.shown.to(sort=sort)), sort is wanted.sort)
            for sort, word in SORTS.items()
        ]
        return menus

    def chips(self) -> list[tuple[str, str, str]]:
        """What is on: label, value, and the query without it."""
        wanted, shown = self.shown.wanted, self.shown
        chips = []
        if wanted.search:
            chips.append(("Search", wanted.search, self.query_of(shown.to(search=""))))
        if wanted.waiting is not None:
            label = WAITING_WORDS[wanted.waiting].label
            chips.append(("Where it stands", label, self.query_of(shown.to(waiting=None))))
        if wanted.group_id is not None:
            name = next(each.name for each in self._groups if each.id == wanted.group_id)
            chips.append(("Group", name, self.query_of(shown.to(group_id=None))))
        if wanted.sort is RequestSort.LONGEST_WAITING and wanted.waiting is None:
            newest = self.query_of(shown.to(sort=RequestSort.NEWEST))
            chips.append(("Only", "Open requests", newest))
        return chips
