"""Connectors by the name that a customer's row carries."""

from __future__ import annotations

from connectors.base import Connector
from connectors.faulty import FaultyConnector
from connectors.local import LocalConnector

_CONNECTORS: dict[str, type[Connector]] = {"local": LocalConnector, "faulty": FaultyConnector}


def get_connector(name: str) -> Connector:
    """Raises KeyError for a name that no connector bears."""
    return _CONNECTORS[name]()
