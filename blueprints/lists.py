"""What the lists of all blueprints share: the parts of their state that stand in the URL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from services.paging import PAGE_SIZES

SEARCH_LENGTH = 200
_CURSOR_LENGTH = 1000
_MOST_PARAMETERS = 20


@dataclass(frozen=True, slots=True)
class Choice:
    """A line of a filter's menu; `query` leads to the list with it."""

    label: str
    query: str
    is_on: bool


def clean_search(text: str) -> str:
    """A search term without control characters, no longer than the field."""
    return "".join(each for each in text[:SEARCH_LENGTH] if each.isprintable()).strip()


def read_size(args: Mapping[str, str]) -> int:
    """Rows per page, the usual number where another than the offered ones is asked for."""
    return {str(size): size for size in PAGE_SIZES}.get(args.get("size", ""), PAGE_SIZES[0])


def size_parameter(size: int) -> int | None:
    """What an address says of the size: nothing of the usual one."""
    return size if size != PAGE_SIZES[0] else None


def read_cursor(args: Mapping[str, str]) -> str:
    return args.get("cursor", "")[:_CURSOR_LENGTH]


def parse_query(query: str) -> dict[str, str]:
    """The parameters of a query string that a form carries; none of one that is malformed."""
    try:
        return dict(parse_qsl(query, max_num_fields=_MOST_PARAMETERS))
    except ValueError:
        return {}
