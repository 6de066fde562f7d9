"""The list's state as it stands in the URL, and the controls that lead from one to another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

from blueprints.lists import Choice, clean_search, read_cursor, read_size, size_parameter
from models import Bundle, Group
from services.customers import CustomerFilter, CustomerSort, CustomerState
from services.paging import PAGE_SIZES

STATES = {
    CustomerState.ACTIVE: "Active",
    CustomerState.SUSPENDED: "Suspended",
    CustomerState.CLOSING: "Being deleted",
}


@dataclass(frozen=True, slots=True)
class CustomerList:
    """One state of the list: what is shown, how many rows, and from where."""

    wanted: CustomerFilter = field(default_factory=CustomerFilter)
    size: int = PAGE_SIZES[0]
    cursor: str = ""

    @classmethod
    def read(
        cls, args: Mapping[str, str], groups: Sequence[Group], bundles: Sequence[Bundle]
    ) -> CustomerList:
        """From the parameters of a URL; what is malformed or unknown counts as not given."""
        sort = args.get("sort", "")
        return cls(
            CustomerFilter(
                search=clean_search(args.get("q", "")),
                group_id={str(each.groupno): each.id for each in groups}.get(args.get("group", "")),
                bundle_id={str(each.id): each.id for each in bundles}.get(args.get("bundle", "")),
                state={str(each): each for each in CustomerState}.get(args.get("state", "")),
                sort={str(each): each for each in CustomerSort}.get(
                    sort.removeprefix("-"), CustomerSort.NAME
                ),
                descending=sort.startswith("-"),
            ),
            size=read_size(args),
            cursor=read_cursor(args),
        )

    def to(self, *, cursor: str = "", size: int | None = None, **wanted: Any) -> CustomerList:
        """The state after a change; it starts at the first page unless `cursor` says otherwise."""
        return CustomerList(replace(self.wanted, **wanted), size or self.size, cursor)

    @property
    def cleared(self) -> CustomerList:
        return CustomerList(
            CustomerFilter(sort=self.wanted.sort, descending=self.wanted.descending), self.size
        )


class Controls:
    """What leads from one state of the list to another, given what the reader may choose."""

    def __init__(
        self, shown: CustomerList, groups: Sequence[Group], bundles: Sequence[Bundle]
    ) -> None:
        self.shown = shown
        self._groups, self._bundles = groups, bundles
        self._numbers = {group.id: group.groupno for group in groups}

    def query_of(self, state: CustomerList) -> str:
        """The query string of a state; empty for the list as it opens."""
        pairs = [("q", state.wanted.search), *self._parameters(state), ("cursor", state.cursor)]
        return urlencode([(name, value) for name, value in pairs if value])

    def _parameters(self, state: CustomerList) -> list[tuple[str, str]]:
        wanted = state.wanted
        sort = f"{'-' if wanted.descending else ''}{wanted.sort}"
        values = {
            "group": self._numbers.get(wanted.group_id) if wanted.group_id else None,
            "state": wanted.state,
            "bundle": wanted.bundle_id,
            "sort": sort if sort != CustomerSort.NAME else None,
            "size": size_parameter(state.size),
        }
        return [(name, str(value)) for name, value in values.items() if value]

    @property
    def state(self) -> list[tuple[str, str]]:
        """The parameters that a new search keeps."""
        return self._parameters(self.shown)

    @property
    def cleared(self) -> str:
        return self.query_of(self.shown.cleared)

    @property
    def first(self) -> str:
        return self.query_of(self.shown.to())

    def sorted_by(self, name: str) -> str:
        """The list by a column, or the other way round where it is so already."""
        sort, wanted = CustomerSort(name), self.shown.wanted
        turned = wanted.order is sort and not wanted.descending
        return self.query_of(self.shown.to(sort=sort, descending=turned))

    def menus(self) -> dict[str, list[Choice]]:
        """The filters with their choices, by their labels."""
        wanted, menus = self.shown.wanted, {}
        if len(self._groups) > 1:
            words = {None: "All groups"} | {each.id: each.name for each in self._groups}
            menus["Group"] = self._choices("group_id", words, wanted.group_id)
        menus["State"] = self._choices("state", {None: "All", **STATES}, wanted.state)
        if self._bundles:
            words = {None: "All bundles"} | {each.id: each.name for each in self._bundles}
            menus["Bundle"] = self._choices("bundle_id", words, wanted.bundle_id)
        return menus

    def _choices(self, name: str, words: Mapping[Any, str], chosen: Any) -> list[Choice]:
        return [
            Choice(word, self.query_of(self.shown.to(**{name: value})), value == chosen)
            for value, word in words.items()
        ]

    def chips(self) -> list[tuple[str, str, str]]:
        """What is on: label, value, and the query without it."""
        wanted, shown = self.shown.wanted, self.shown
        chips = []
        if wanted.search:
            chips.append(("Search", wanted.search, self.query_of(shown.to(search=""))))
        if wanted.group_id is not None:
            name = next(each.name for each in self._groups if each.id == wanted.group_id)
            chips.append(("Group", name, self.query_of(shown.to(group_id=None))))
        if wanted.state is not None:
            chips.append(("State", STATES[wanted.state], self.query_of(shown.to(state=None))))
        if wanted.bundle_id is not None:
            name = next(each.name for each in self._bundles if each.id == wanted.bundle_id)
            chips.append(("Bundle", name, self.query_of(shown.to(bundle_id=None))))
        return chips
