"""Connectors: the application platforms on which a customer's users have accounts."""

from connectors.base import (
    Account,
    AccountPassword,
    Connector,
    ConnectorRefused,
    ConnectorUnavailable,
    PlatformTenant,
    Refusal,
    TenantSettings,
)
from connectors.registry import get_connector, list_connectors

__all__ = [
    "Account",
    "AccountPassword",
    "Connector",
    "ConnectorRefused",
    "ConnectorUnavailable",
    "PlatformTenant",
    "Refusal",
    "TenantSettings",
    "get_connector",
    "list_connectors",
]
