"""Connectors by the name that a customer's row carries.

Besides those that come with Foyer, every installed package may bring some: as entry points of the
group `foyer.connectors`, whose names are the names of the connectors.
"""

from __future__ import annotations

from importlib.metadata import entry_points

from connectors.base import Connector
from connectors.faulty import FaultyConnector
from connectors.local import LocalConnector

GROUP = "foyer.connectors"
_CONNECTORS: dict[str, type[Connector]] = {"local": LocalConnector, "faulty": FaultyConnector}


def get_connector(name: str) -> Connector:
    """Raises KeyError for a name that no connector bears."""
    if name in _CONNECTORS:
        return _CONNECTORS[name]()
    for entry in entry_points(group=GROUP, name=name):
        made: Connector = entry.load()()
        return made
    raise KeyError(name)


def list_connectors() -> list[str]:
    """The names that a service template may have, sorted."""
    return sorted({*_CONNECTORS, *(entry.name for entry in entry_points(group=GROUP))})
