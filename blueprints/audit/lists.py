"""The trail's state as it stands in the URL, and the chips that take it back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any
from urllib.parse import urlencode

from blueprints.audit.words import action_words, noun_of
from blueprints.lists import clean_search, parse_query, read_cursor, read_size, size_parameter
from services.audit_trail import AuditFilter
from services.paging import PAGE_SIZES

_OBJECT = re.compile(r"([a-z_]{1,32}):(\d{1,18})", re.ASCII)
_ACTION = re.compile(r"[a-z_]{1,40}\.[a-z_]{1,40}", re.ASCII)


@dataclass(frozen=True, slots=True)
class AuditList:
    """One state of the list: what is shown, how many rows, and from where."""

    wanted: AuditFilter = field(default_factory=AuditFilter)
    size: int = PAGE_SIZES[0]
    cursor: str = ""

    @classmethod
    def read(cls, args: Mapping[str, str]) -> AuditList:
        """From the parameters of a URL; what is malformed counts as not given."""
        action, named = args.get("action", ""), _OBJECT.fullmatch(args.get("object", ""))
        return cls(
            AuditFilter(
                search=clean_search(args.get("q", "")),
                actor=clean_search(args.get("actor", "")),
                action=action if _ACTION.fullmatch(action) else "",
                object_type=named[1] if named else "",
                object_id=int(named[2]) if named else None,
                web_id=clean_search(args.get("customer", ""))[:16],
                on_behalf=args.get("behalf") == "1",
                since=_day(args.get("from", "")),
                until=_day(args.get("to", "")),
            ),
            size=read_size(args),
            cursor=read_cursor(args),
        )

    @classmethod
    def parse(cls, query: str) -> AuditList:
        """From a query string, as `query` writes it."""
        return cls.read(parse_query(query))

    @property
    def state(self) -> list[tuple[str, str]]:
        """The parameters of filters and size, which a new search keeps."""
        wanted = self.wanted
        named = f"{wanted.object_type}:{wanted.object_id}" if wanted.object_type else None
        values = {
            "actor": wanted.actor,
            "action": wanted.action,
            "object": named,
            "customer": wanted.web_id,
            "behalf": "1" if wanted.on_behalf else None,
            "from": wanted.since,
            "to": wanted.until,
            "size": size_parameter(self.size),
        }
        return [(name, str(value)) for name, value in values.items() if value]

    @property
    def query(self) -> str:
        """The query string of this state; empty for the list as it opens."""
        pairs = [("q", self.wanted.search), *self.state, ("cursor", self.cursor)]
        return urlencode([(name, value) for name, value in pairs if value])

    def to(self, *, cursor: str = "", size: int | None = None, **wanted: Any) -> AuditList:
        """The state after a change; it starts at the first page unless `cursor` says otherwise."""
        return AuditList(replace(self.wanted, **wanted), size or self.size, cursor)

    @property
    def cleared(self) -> AuditList:
        return AuditList(size=self.size)

    @property
    def kept(self) -> list[tuple[str, str]]:
        """The parameters that the form of the filters has no field for."""
        own = {"actor", "action", "customer", "behalf", "from", "to"}
        pairs = [("q", self.wanted.search), *self.state]
        return [(name, value) for name, value in pairs if value and name not in own]

    def chips(self, object_name: str = "") -> list[tuple[str, str, str]]:
        """What is on: label, value, and the query without it."""
        wanted = self.wanted
        chips: list[tuple[str, str, dict[str, Any]]] = [
            ("Search", wanted.search, {"search": ""}),
            ("Who", wanted.actor and f"{wanted.actor}…", {"actor": ""}),
            ("What", wanted.action and action_words(wanted.action), {"action": ""}),
            ("Customer", wanted.web_id.upper(), {"web_id": ""}),
            ("On behalf", "of somebody" if wanted.on_behalf else "", {"on_behalf": False}),
            ("From", _shown(wanted.since), {"since": None}),
            ("To", _shown(wanted.until), {"until": None}),
        ]
        if wanted.object_type:
            name = object_name or f"{noun_of(wanted.object_type)} {wanted.object_id}"
            chips.append(("Object", name, {"object_type": "", "object_id": None}))
        return [
            (label, value, self.to(**without).query) for label, value, without in chips if value
        ]


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if len(text) == 10 else None
    except ValueError:
        return None


def _shown(day: date | None) -> str:
    return f"{day.day} {day:%B} {day.year}" if day else ""
