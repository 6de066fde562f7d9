"""The list's state as it stands in the URL, and the controls that lead from one to another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from blueprints.lists import Choice, clean_search, read_cursor, read_size, size_parameter
from models import Group, Role
from services.paging import PAGE_SIZES
from services.staff_accounts import ROLES, StaffState

ROLE_WORDS = {
    Role.LANDLORD: "Landlord administrator",
    Role.OPERATOR: "Operator",
    Role.AUDITOR: "Auditor",
}
STATE_WORDS = {
    StaffState.ACTIVE: "Active",
    StaffState.INVITED: "Invited",
    StaffState.SUSPENDED: "Suspended",
}
_LARGEST_GROUPNO = 2**31 - 1


@dataclass(frozen=True, slots=True)
class StaffList:
    """One state of the list: who is shown, how many rows, and from where."""

    search: str = ""
    role: Role | None = None
    state: StaffState | None = None
    groupno: int | None = None
    size: int = PAGE_SIZES[0]
    cursor: str = ""

    @classmethod
    def read(cls, args: Mapping[str, str]) -> StaffList:
        """From the parameters of a URL; what is malformed or unknown counts as not given."""
        return cls(
            clean_search(args.get("q", "")),
            {each.value: each for each in ROLES}.get(args.get("role", "")),
            {each.value: each for each in StaffState}.get(args.get("status", "")),
            _read_groupno(args.get("group", "")),
            read_size(args),
            read_cursor(args),
        )

    @property
    def is_filtered(self) -> bool:
        return bool(self.search or self.role or self.state or self.groupno)

    @property
    def kept(self) -> list[tuple[str, str]]:
        """The parameters that a new search keeps."""
        values = {
            "role": self.role,
            "status": self.state,
            "group": self.groupno,
            "size": size_parameter(self.size),
        }
        return [(name, str(value)) for name, value in values.items() if value]

    @property
    def query(self) -> str:
        """The query string of this state; empty for the list as it opens."""
        pairs = [("q", self.search), *self.kept, ("cursor", self.cursor)]
        return urlencode([(name, value) for name, value in pairs if value])

    def to(self, *, cursor: str = "", **changes: Any) -> StaffList:
        """The state after a change; it starts at the first page unless `cursor` says otherwise."""
        return replace(self, cursor=cursor, **changes)

    @property
    def cleared(self) -> StaffList:
        return StaffList(size=self.size)

    def filters(self, groups: Sequence[Group]) -> list[tuple[str, str, list[Choice]]]:
        """Id, label and choices of each filter's menu."""
        roles = [(None, "All"), *((each, ROLE_WORDS[each]) for each in ROLES)]
        states = [(None, "All"), *STATE_WORDS.items()]
        numbers = [(None, "All"), *((each.groupno, _name_group(each)) for each in groups)]
        return [
            ("role", "Role", [self._choice("role", *each) for each in roles]),
            ("status", "Status", [self._choice("state", *each) for each in states]),
            ("group", "Group", [self._choice("groupno", *each) for each in numbers]),
        ]

    def _choice(self, name: str, value: Any, word: str) -> Choice:
        return Choice(word, self.to(**{name: value}).query, value == getattr(self, name))

    def chips(self, groups: Sequence[Group]) -> list[tuple[str, str, str]]:
        """What is on: label, value, and the query without it."""
        chips = []
        if self.search:
            chips.append(("Search", self.search, self.to(search="").query))
        if self.role is not None:
            chips.append(("Role", ROLE_WORDS[self.role], self.to(role=None).query))
        if self.state is not None:
            chips.append(("Status", STATE_WORDS[self.state], self.to(state=None).query))
        if self.groupno is not None:
            names = {each.groupno: _name_group(each) for each in groups}
            shown = names.get(self.groupno, str(self.groupno))
            chips.append(("Group", shown, self.to(groupno=None).query))
        return chips


def _name_group(group: Group) -> str:
    return f"{group.groupno} {group.name}"


def _read_groupno(text: str) -> int | None:
    if not (text.isascii() and text.isdecimal() and len(text) < 11):
        return None
    number = int(text)
    return number if 0 < number <= _LARGEST_GROUPNO else None
