"""The list's state as it stands in the URL, and the controls that lead from one to another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from blueprints.lists import Choice, clean_search, read_cursor, read_size, size_parameter
from models import CredentialState
from services.paging import PAGE_SIZES

_STATES = {
    CredentialState.ACTIVE: "Active",
    CredentialState.EXPIRED: "Expired",
    CredentialState.REVOKED: "Revoked",
}


@dataclass(frozen=True, slots=True)
class CredentialList:
    """One state of the list: what is shown, how many rows, and from where."""

    search: str = ""
    state: CredentialState | None = None
    size: int = PAGE_SIZES[0]
    cursor: str = ""

    @classmethod
    def read(cls, args: Mapping[str, str]) -> CredentialList:
        """From the parameters of a URL; what is malformed or unknown counts as not given."""
        return cls(
            clean_search(args.get("q", "")),
            {each.value: each for each in CredentialState}.get(args.get("state", "")),
            read_size(args),
            read_cursor(args),
        )

    @property
    def is_filtered(self) -> bool:
        return bool(self.search or self.state)

    @property
    def kept(self) -> list[tuple[str, str]]:
        """The parameters that a new search keeps."""
        values = {"state": self.state, "size": size_parameter(self.size)}
        return [(name, str(value)) for name, value in values.items() if value]

    @property
    def query(self) -> str:
        """The query string of this state; empty for the list as it opens."""
        pairs = [("q", self.search), *self.kept, ("cursor", self.cursor)]
        return urlencode([(name, value) for name, value in pairs if value])

    def to(self, *, cursor: str = "", **changes: Any) -> CredentialList:
        """The state after a change; it starts at the first page unless `cursor` says otherwise."""
        return replace(self, cursor=cursor, **changes)

    @property
    def cleared(self) -> CredentialList:
        return CredentialList(size=self.size)

    @property
    def choices(self) -> list[Choice]:
        """The filter by state."""
        return [
            Choice(word, self.to(state=state).query, state is self.state)
            for state, word in [(None, "All"), *_STATES.items()]
        ]

    @property
    def chips(self) -> list[tuple[str, str, str]]:
        """What is on: label, value, and the query without it."""
        chips = []
        if self.search:
            chips.append(("Search", self.search, self.to(search="").query))
        if self.state is not None:
            chips.append(("State", _STATES[self.state], self.to(state=None).query))
        return chips
