"""A platform that fails as told, for demonstrations and tests.

It reads VAR_DIR/faulty-connector.json at every call:
`{"down": true, "delay": seconds, "refuse": {"login": "transient" | "permanent"}}`.
What it does not refuse goes to the local platform.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence

from connectors.base import AccountPassword, ConnectorUnavailable, Refusal
from connectors.local import LocalConnector
from extensions import get_settings


class FaultyConnector:
    def set_passwords(self, accounts: Sequence[AccountPassword]) -> Mapping[int, Refusal]:
        path = get_settings().var_dir / "faulty-connector.json"
        orders = json.loads(path.read_text()) if path.exists() else {}
        time.sleep(orders.get("delay", 0))
        if orders.get("down"):
            raise ConnectorUnavailable("The application platform does not answer.")
        refusals = {
            account.user_id: Refusal("The application platform refused.", order == "transient")
            for account in accounts
            if (order := orders.get("refuse", {}).get(account.login))
        }
        LocalConnector().set_passwords(
            [account for account in accounts if account.user_id not in refusals]
        )
        return refusals
