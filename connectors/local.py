"""The local platform: accounts kept beside Foyer's own data, only as hashes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from connectors.base import AccountPassword, Refusal
from models import LocalPlatformAccount, table_of, utcnow
from services import passwords
from services.bulk_rows import upsert_rows
from services.transactions import run_transaction


class LocalConnector:
    def set_passwords(self, accounts: Sequence[AccountPassword]) -> Mapping[int, Refusal]:
        now = utcnow()
        rows = [
            (account.user_id, passwords.hash_generated(account.password), now)
            for account in accounts
        ]
        run_transaction(
            lambda connection: upsert_rows(
                connection,
                table_of(LocalPlatformAccount),
                ("user_id", "password_hash", "changed_at"),
                rows,
            )
        )
        return {}
