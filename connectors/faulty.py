"""A platform that fails, hangs or is slow as told, for demonstrations and tests.

It reads VAR_DIR/faulty-connector.json at every call; docs/connectors.md has examples:

- `"down": true` for a platform that cannot be reached, `"delay": seconds` for one that is slow;
- `"refuse": {"login": "transient" | "permanent"}` for accounts whose password it will not set;
- `"rules"`, each with a `do`: "fail" (in passing), "refuse" (for good), "hang" (for as long as the
  rule is there) or "wait" (`seconds`). A rule is about every call unless it names an `operation`
  (a method of a connector) or a `tenant` (key, name or UPN suffix). With `"when": "after"` the
  platform does what was asked before it fails or hangs, and only the answer is lost.

What it does not refuse goes to the local platform.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from connectors.base import (
    Account,
    AccountPassword,
    ConnectorRefused,
    ConnectorUnavailable,
    PlatformTenant,
    Refusal,
    TenantSettings,
)
from connectors.local import LocalConnector
from extensions import get_settings

T = TypeVar("T")

_LOOK_SECONDS = 0.05
_NO_ANSWER = "The application platform does not answer."
_REFUSED = "The application platform refused."


class FaultyConnector:
    def __init__(self) -> None:
        self._local = LocalConnector()
        self._path = get_settings().var_dir / "faulty-connector.json"

    def set_passwords(self, accounts: Sequence[AccountPassword]) -> Mapping[int, Refusal]:
        ordered = self._orders().get("refuse", {})
        refusals = {
            account.user_id: Refusal(_REFUSED, order == "transient")
            for account in accounts
            if (order := ordered.get(account.login))
        }
        accepted = [account for account in accounts if account.user_id not in refusals]
        self._call("set_passwords", None, lambda: self._local.set_passwords(accepted))
        return refusals

    def create_tenant(self, tenant: PlatformTenant, settings: TenantSettings) -> str:
        return self._call(
            "create_tenant", tenant, lambda: self._local.create_tenant(tenant, settings)
        )

    def create_account(self, tenant: PlatformTenant, account: Account, password: str) -> None:
        self._call(
            "create_account", tenant, lambda: self._local.create_account(tenant, account, password)
        )

    def suspend_tenant(self, tenant: PlatformTenant) -> None:
        self._call("suspend_tenant", tenant, lambda: self._local.suspend_tenant(tenant))

    def resume_tenant(self, tenant: PlatformTenant) -> None:
        self._call("resume_tenant", tenant, lambda: self._local.resume_tenant(tenant))

    def remove_account(self, tenant: PlatformTenant, account: Account) -> None:
        self._call("remove_account", tenant, lambda: self._local.remove_account(tenant, account))

    def remove_tenant(self, tenant: PlatformTenant) -> None:
        self._call("remove_tenant", tenant, lambda: self._local.remove_tenant(tenant))

    def health(self, tenant: PlatformTenant, accounts: Sequence[Account]) -> Sequence[str]:
        return self._call("health", tenant, lambda: self._local.health(tenant, accounts))

    def _call(self, operation: str, tenant: PlatformTenant | None, do: Callable[[], T]) -> T:
        orders = self._orders()
        time.sleep(orders.get("delay", 0))
        if orders.get("down"):
            raise ConnectorUnavailable(_NO_ANSWER)
        self._follow("before", operation, tenant)
        result = do()
        self._follow("after", operation, tenant)
        return result

    def _follow(self, when: str, operation: str, tenant: PlatformTenant | None) -> None:
        for rule in self._rules(when, operation, tenant):
            match rule["do"]:
                case "fail":
                    raise ConnectorUnavailable(rule.get("reason", _NO_ANSWER))
                case "refuse":
                    raise ConnectorRefused(rule.get("reason", _REFUSED))
                case "wait":
                    time.sleep(rule["seconds"])
                case "hang":
                    while rule in self._rules(when, operation, tenant):
                        time.sleep(_LOOK_SECONDS)

    def _rules(self, when: str, operation: str, tenant: PlatformTenant | None) -> Iterator[Any]:
        names = {tenant.key, tenant.name, tenant.upn_suffix} if tenant else set()
        for rule in self._orders().get("rules", ()):
            if (
                rule.get("when", "before") == when
                and rule.get("operation", operation) == operation
                and ("tenant" not in rule or rule["tenant"] in names)
            ):
                yield rule

    def _orders(self) -> dict[str, Any]:
        try:
            orders: dict[str, Any] = json.loads(self._path.read_text())
        except FileNotFoundError:
            return {}
        return orders
