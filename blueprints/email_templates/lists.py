"""The list's state as it stands in the URL, and the controls that lead from one to another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

from blueprints.lists import Choice, clean_search, read_cursor, read_size, size_parameter
from models import TemplateKind
from services.email_template_lists import TemplateFilter
from services.paging import PAGE_SIZES

KINDS = {
    TemplateKind.WELCOME: "Welcome",
    TemplateKind.PASSWORD_RESET: "Password reset",
    TemplateKind.GENERAL: "General",
}


@dataclass(frozen=True, slots=True)
class TemplateList:
    """One state of the list: what is shown, how many rows, and from where."""

    wanted: TemplateFilter = field(default_factory=TemplateFilter)
    size: int = PAGE_SIZES[0]
    cursor: str = ""

    @classmethod
    def read(cls, args: Mapping[str, str]) -> TemplateList:
        """From the parameters of a URL; what is malformed or unknown counts as not given."""
        return cls(
            TemplateFilter(
                search=clean_search(args.get("q", "")),
                kind={each.value: each for each in TemplateKind}.get(args.get("kind", "")),
                archived=args.get("archived") == "yes",
                web_id=clean_search(args.get("customer", ""))[:16].upper(),
            ),
            read_size(args),
            read_cursor(args),
        )

    @property
    def is_filtered(self) -> bool:
        return self.wanted != TemplateFilter(archived=self.wanted.archived)

    @property
    def kept(self) -> list[tuple[str, str]]:
        """The parameters that a new search keeps."""
        values = {
            "kind": self.wanted.kind,
            "archived": "yes" if self.wanted.archived else None,
            "customer": self.wanted.web_id,
            "size": size_parameter(self.size),
        }
        return [(name, str(value)) for name, value in values.items() if value]

    @property
    def kept_but_customer(self) -> list[tuple[str, str]]:
        pairs = [("q", self.wanted.search), *self.kept]
        return [(name, value) for name, value in pairs if value and name != "customer"]

    @property
    def query(self) -> str:
        """The query string of this state; empty for the list as it opens."""
        pairs = [("q", self.wanted.search), *self.kept, ("cursor", self.cursor)]
        return urlencode([(name, value) for name, value in pairs if value])

    def to(self, *, cursor: str = "", size: int | None = None, **wanted: Any) -> TemplateList:
        """The state after a change; it starts at the first page unless `cursor` says otherwise."""
        return TemplateList(replace(self.wanted, **wanted), size or self.size, cursor)

    @property
    def cleared(self) -> TemplateList:
        return TemplateList(size=self.size)

    @property
    def menus(self) -> dict[str, list[Choice]]:
        """The filters with their choices, by the filter's label."""
        wanted = self.wanted
        kinds = [(None, "All kinds"), *KINDS.items()]
        return {
            "Kind": [
                Choice(word, self.to(kind=kind).query, kind is wanted.kind) for kind, word in kinds
            ],
            "State": [
                Choice(word, self.to(archived=archived).query, archived == wanted.archived)
                for archived, word in ((False, "In use"), (True, "Archived"))
            ],
        }

    @property
    def chips(self) -> list[tuple[str, str, str]]:
        """What is on: label, value, and the query without it."""
        wanted = self.wanted
        chips = []
        if wanted.search:
            chips.append(("Search", wanted.search, self.to(search="").query))
        if wanted.kind is not None:
            chips.append(("Kind", KINDS[wanted.kind], self.to(kind=None).query))
        if wanted.archived:
            chips.append(("State", "Archived", self.to(archived=False).query))
        if wanted.web_id:
            chips.append(("Used by", wanted.web_id, self.to(web_id="").query))
        return chips
