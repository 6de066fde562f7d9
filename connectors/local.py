"""The local platform: tenants and accounts kept beside Foyer's own data, passwords as hashes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from connectors.base import (
    Account,
    AccountPassword,
    ConnectorRefused,
    PlatformTenant,
    Refusal,
    TenantSettings,
)
from extensions import db
from models import LocalPlatformAccount, LocalPlatformTenant, table_of, utcnow
from services import passwords
from services.breaths import paced
from services.bulk_rows import upsert_rows
from services.transactions import run_transaction, upsert

_TENANTS = table_of(LocalPlatformTenant)
_ACCOUNTS = table_of(LocalPlatformAccount)


class LocalConnector:
    """A tenant's reference is its key."""

    def set_passwords(self, accounts: Sequence[AccountPassword]) -> Mapping[int, Refusal]:
        now = utcnow()
        rows = [
            (account.user_id, passwords.hash_generated(account.password), now)
            for account in paced(accounts)
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

    def create_tenant(self, tenant: PlatformTenant, settings: TenantSettings) -> str:
        def work(connection: sa.Connection) -> None:
            connection.execute(
                upsert(_TENANTS)
                .values(
                    reference=tenant.key,
                    name=tenant.name,
                    upn_suffix=tenant.upn_suffix,
                    settings={"bundles": list(settings.bundles), "options": dict(settings.options)},
                    created_at=utcnow(),
                )
                .on_conflict_do_nothing()
            )
            if not _is_there(connection, tenant):
                raise ConnectorRefused(f"Another tenant has the UPN suffix {tenant.upn_suffix}.")

        run_transaction(work)
        return tenant.key

    def create_account(self, tenant: PlatformTenant, account: Account, password: str) -> None:
        hashed = passwords.hash_chosen(password)

        def work(connection: sa.Connection) -> None:
            if not _is_there(connection, tenant):
                raise ConnectorRefused(f"There is no tenant {tenant.key}.")
            values = {
                "password_hash": hashed,
                "changed_at": utcnow(),
                "tenant_reference": tenant.key,
            }
            connection.execute(
                upsert(_ACCOUNTS)
                .values(user_id=account.user_id, **values)
                .on_conflict_do_update(index_elements=["user_id"], set_=values)
            )

        run_transaction(work)

    def suspend_tenant(self, tenant: PlatformTenant) -> None:
        _set_suspended(tenant, True)

    def resume_tenant(self, tenant: PlatformTenant) -> None:
        _set_suspended(tenant, False)

    def remove_account(self, tenant: PlatformTenant, account: Account) -> None:
        run_transaction(
            lambda connection: connection.execute(
                sa.delete(_ACCOUNTS).where(
                    _ACCOUNTS.c.user_id == account.user_id,
                    _ACCOUNTS.c.tenant_reference == tenant.key,
                )
            )
        )

    def remove_tenant(self, tenant: PlatformTenant) -> None:
        run_transaction(
            lambda connection: connection.execute(
                sa.delete(_TENANTS).where(_TENANTS.c.reference == tenant.key)
            )
        )

    def health(self, tenant: PlatformTenant, accounts: Sequence[Account]) -> Sequence[str]:
        with db.engine.connect() as connection:
            suspended = connection.scalar(
                sa.select(_TENANTS.c.suspended).where(_TENANTS.c.reference == tenant.key)
            )
            if suspended is None:
                return [f"There is no tenant {tenant.key}."]
            faults = [f"The tenant {tenant.key} is suspended."] if suspended else []
            return faults + [
                f"There is no account {account.login}."
                for account in accounts
                if not _has_account(connection, tenant, account)
            ]


def _is_there(connection: sa.Connection, tenant: PlatformTenant) -> bool:
    found = connection.scalar(
        sa.select(_TENANTS.c.reference).where(_TENANTS.c.reference == tenant.key)
    )
    return found is not None


def _has_account(connection: sa.Connection, tenant: PlatformTenant, account: Account) -> bool:
    found = connection.scalar(
        sa.select(_ACCOUNTS.c.user_id).where(
            _ACCOUNTS.c.user_id == account.user_id, _ACCOUNTS.c.tenant_reference == tenant.key
        )
    )
    return found is not None


def _set_suspended(tenant: PlatformTenant, suspended: bool) -> None:
    def work(connection: sa.Connection) -> None:
        changed = connection.execute(
            sa.update(_TENANTS)
            .where(_TENANTS.c.reference == tenant.key)
            .values(suspended=suspended)
        )
        if not changed.rowcount:
            raise ConnectorRefused(f"There is no tenant {tenant.key}.")

    run_transaction(work)
