"""Where to go next, when the request itself says where."""

from __future__ import annotations

_LONGEST = 2000


def local_address(address: str | None) -> str | None:
    """`address` when it is a path of this site and nothing else, None otherwise.

    Browsers read a backslash as a slash and drop tabs and line breaks, so `/\\host` and
    `/<tab>/host` lead away as `//host` does.
    """
    if not address or len(address) > _LONGEST or not address.startswith("/"):
        return None
    if address.startswith("//") or "\\" in address or not address.isprintable():
        return None
    return address
