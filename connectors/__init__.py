"""Connectors: the application platforms on which a customer's users have accounts."""

from connectors.base import AccountPassword, Connector, Refusal
from connectors.registry import get_connector

__all__ = ["AccountPassword", "Connector", "Refusal", "get_connector"]
