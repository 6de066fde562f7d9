"""The local platform: accounts kept beside Foyer's own data, only as hashes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from connectors.base import AccountPassword, Refusal
from models import LocalPlatformAccount, table_of, utcnow
from services import passwords
from services.transactions import run_transaction, upsert


class LocalConnector:
    def set_passwords(self, accounts: Sequence[AccountPassword]) -> Mapping[int, Refusal]:
        now = utcnow()
        rows = [
            {
                "user_id": account.user_id,
                "password_hash": passwords.hash_generated(account.password),
                "changed_at": now,
            }
            for account in accounts
        ]

        def work(connection: sa.Connection) -> None:
            insert = upsert(table_of(LocalPlatformAccount))
            connection.execute(
                insert.on_conflict_do_update(
                    index_elements=["user_id"],
                    set_={
                        "password_hash": insert.excluded.password_hash,
                        "changed_at": insert.excluded.changed_at,
                    },
                ),
                rows,
            )

        if rows:
            run_transaction(work)
        return {}
