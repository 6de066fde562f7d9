"""The history's state as it stands in the URL, and the controls that lead from one to another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from blueprints.lists import Choice, read_cursor
from models import CommandRunState

STATES = {
    CommandRunState.PLANNED: "Waiting for Run",
    CommandRunState.DONE: "Done",
    CommandRunState.REFUSED: "Refused",
}


@dataclass(frozen=True, slots=True)
class RunList:
    """One state of the history: whose runs, in which state, and from where."""

    state: CommandRunState | None = None
    mine: bool = False
    cursor: str = ""

    @classmethod
    def read(cls, args: Mapping[str, str]) -> RunList:
        """From the parameters of a URL; what is malformed or unknown counts as not given."""
        state = next((each for each in STATES if each == args.get("state")), None)
        return cls(state, args.get("by") == "me", read_cursor(args))

    @property
    def is_filtered(self) -> bool:
        return self.state is not None or self.mine

    @property
    def query(self) -> str:
        """The query string of this state; empty for the history as it opens."""
        values = {"state": self.state, "by": "me" if self.mine else None, "cursor": self.cursor}
        return urlencode({name: str(value) for name, value in values.items() if value})

    def to(self, *, cursor: str = "", **wanted: Any) -> RunList:
        """The state after a change; it starts at the first page unless `cursor` says otherwise."""
        return replace(self, cursor=cursor, **wanted)


def menus_of(shown: RunList) -> dict[str, list[Choice]]:
    """The filters with their choices, by the filter's label."""
    states = [(None, "Any state"), *STATES.items()]
    people = [(False, "Anybody"), (True, "Me")]
    return {
        "State": [
            Choice(word, shown.to(state=each).query, each == shown.state) for each, word in states
        ],
        "By": [
            Choice(word, shown.to(mine=each).query, each == shown.mine) for each, word in people
        ],
    }


def chips_of(shown: RunList) -> list[tuple[str, str, str]]:
    """What is on: label, value, and the query without it."""
    chips = []
    if shown.state is not None:
        chips.append(("State", STATES[shown.state], shown.to(state=None).query))
    if shown.mine:
        chips.append(("By", "Me", shown.to(mine=False).query))
    return chips
