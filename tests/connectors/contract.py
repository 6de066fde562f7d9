"""What every connector must do. Derive from ConnectorContract, with a fixture `connector`."""

from __future__ import annotations

import dataclasses
import secrets

import pytest
from flask import Flask

from connectors import (
    Account,
    AccountPassword,
    Connector,
    ConnectorRefused,
    PlatformTenant,
    TenantSettings,
)
from tests.support.factories import make_customer, make_user

SETTINGS = TenantSettings(
    short_name="ke",
    ani="+3225551234",
    language="nl",
    time_zone="Europe/Brussels",
    bundles=("Entry3PhoneNextGenBundle",),
    options={"lines": 7},
)
PASSWORD = "a door that opens 4 Kenton"


class ConnectorContract:
    """Tenants and accounts have names of their own in every test, and are left behind removed."""

    @pytest.fixture
    def connector(self) -> Connector:
        """Override it."""
        raise NotImplementedError

    @pytest.fixture
    def tenant(self, app_context: Flask) -> PlatformTenant:
        return make_tenant()

    @pytest.fixture
    def account(self, app_context: Flask, tenant: PlatformTenant) -> Account:
        return make_account(tenant)

    def test_a_tenant_is_created_with_an_administrator(
        self, connector: Connector, tenant: PlatformTenant, account: Account
    ) -> None:
        reference = connector.create_tenant(tenant, SETTINGS)
        assert 1 <= len(reference) <= 64
        tenant = dataclasses.replace(tenant, reference=reference)
        connector.create_account(tenant, account, PASSWORD)
        assert list(connector.health(tenant, [account])) == []
        connector.remove_tenant(tenant)

    def test_a_tenant_created_again_is_the_same(
        self, connector: Connector, tenant: PlatformTenant, account: Account
    ) -> None:
        first = connector.create_tenant(tenant, SETTINGS)
        connector.create_account(tenant, account, PASSWORD)
        assert connector.create_tenant(tenant, SETTINGS) == first
        assert list(connector.health(tenant, [account])) == [], "its account is gone"
        connector.remove_tenant(tenant)

    def test_an_account_created_again_is_the_same(
        self, connector: Connector, tenant: PlatformTenant, account: Account
    ) -> None:
        connector.create_tenant(tenant, SETTINGS)
        connector.create_account(tenant, account, PASSWORD)
        connector.create_account(tenant, account, PASSWORD[::-1])
        assert list(connector.health(tenant, [account])) == []
        connector.remove_tenant(tenant)

    def test_the_domain_of_another_tenant_is_refused(
        self, connector: Connector, tenant: PlatformTenant
    ) -> None:
        connector.create_tenant(tenant, SETTINGS)
        other = dataclasses.replace(make_tenant(), upn_suffix=tenant.upn_suffix)
        with pytest.raises(ConnectorRefused):
            connector.create_tenant(other, SETTINGS)
        assert list(connector.health(tenant, [])) == []
        assert connector.health(other, [])
        connector.remove_tenant(tenant)

    def test_an_account_needs_its_tenant(
        self, connector: Connector, tenant: PlatformTenant, account: Account
    ) -> None:
        with pytest.raises(ConnectorRefused):
            connector.create_account(tenant, account, PASSWORD)

    def test_passwords_are_set_as_often_as_asked(
        self, connector: Connector, tenant: PlatformTenant, account: Account
    ) -> None:
        connector.create_tenant(tenant, SETTINGS)
        connector.create_account(tenant, account, PASSWORD)
        for _ in range(2):
            wanted = AccountPassword(account.user_id, account.login, secrets.token_hex(12))
            assert dict(connector.set_passwords([wanted])) == {}
        assert list(connector.health(tenant, [account])) == []
        connector.remove_tenant(tenant)

    def test_a_suspended_tenant_is_not_well_until_it_is_resumed(
        self, connector: Connector, tenant: PlatformTenant, account: Account
    ) -> None:
        connector.create_tenant(tenant, SETTINGS)
        connector.create_account(tenant, account, PASSWORD)
        for _ in range(2):
            connector.suspend_tenant(tenant)
        assert len(connector.health(tenant, [account])) == 1
        for _ in range(2):
            connector.resume_tenant(tenant)
        assert list(connector.health(tenant, [account])) == []
        connector.remove_tenant(tenant)

    def test_an_account_is_removed_alone(
        self, connector: Connector, tenant: PlatformTenant, account: Account
    ) -> None:
        connector.create_tenant(tenant, SETTINGS)
        connector.create_account(tenant, account, PASSWORD)
        for _ in range(2):
            connector.remove_account(tenant, account)
        (fault,) = connector.health(tenant, [account])
        assert account.login in fault
        assert list(connector.health(tenant, [])) == []
        connector.remove_tenant(tenant)

    def test_a_tenant_is_removed_with_its_accounts_and_its_names_are_free(
        self, connector: Connector, tenant: PlatformTenant, account: Account
    ) -> None:
        """Found by its key: after a lost answer Foyer knows no other name for it."""
        connector.create_tenant(tenant, SETTINGS)
        connector.create_account(tenant, account, PASSWORD)
        for _ in range(2):
            connector.remove_tenant(tenant)
        assert connector.health(tenant, [account])
        again = dataclasses.replace(make_tenant(), name=tenant.name, upn_suffix=tenant.upn_suffix)
        connector.create_tenant(again, SETTINGS)
        assert connector.health(again, [account]), "an account has outlived its tenant"
        connector.remove_tenant(again)

    def test_removing_what_never_was_is_harmless(
        self, connector: Connector, tenant: PlatformTenant, account: Account
    ) -> None:
        connector.remove_account(tenant, account)
        connector.remove_tenant(tenant)

    def test_other_tenants_are_left_alone(
        self, connector: Connector, tenant: PlatformTenant, account: Account
    ) -> None:
        neighbour = make_tenant()
        person = make_account(neighbour)
        for each, whose in ((tenant, account), (neighbour, person)):
            connector.create_tenant(each, SETTINGS)
            connector.create_account(each, whose, PASSWORD)
        connector.suspend_tenant(tenant)
        connector.remove_account(tenant, account)
        connector.remove_tenant(tenant)
        assert list(connector.health(neighbour, [person])) == []
        connector.remove_tenant(neighbour)


def make_tenant() -> PlatformTenant:
    word = secrets.token_hex(4)
    return PlatformTenant(f"T{word.upper()}", f"Tenant{word}", f"{word}.example")


def make_account(tenant: PlatformTenant) -> Account:
    user = make_user(make_customer(), login=f"prpkeAdmin@{tenant.upn_suffix}")
    return Account(user.id, user.login, user.email, "Petra", "Kenton", "nl", True)
