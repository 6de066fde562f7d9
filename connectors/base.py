"""What Foyer asks of an application platform. docs/connectors.md tells how to write a connector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class AccountPassword:
    """The password that an account shall have from now on."""

    user_id: int
    login: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an account was not changed; a transient refusal is worth another try."""

    reason: str
    transient: bool


@dataclass(frozen=True, slots=True)
class PlatformTenant:
    """A tenant as Foyer speaks of it.

    `key` is the customer's web ID: given out once, never again, so that a repeated call is known
    by it. `reference` is what `create_tenant` returned; it is empty while that is not known.
    """

    key: str
    name: str
    upn_suffix: str
    reference: str = ""


@dataclass(frozen=True, slots=True)
class TenantSettings:
    """What a new tenant starts with. `ani` is E.164, `language` and `time_zone` may be empty."""

    short_name: str
    ani: str
    language: str
    time_zone: str
    bundles: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Account:
    """A person's account within a tenant; `login` is his UPN."""

    user_id: int
    login: str
    email: str = ""
    first_name: str = ""
    last_name: str = ""
    language: str = ""
    is_administrator: bool = False


class ConnectorUnavailable(Exception):
    """The platform does not answer, or asks to come back later. Worth another try.

    The message is shown to operators: no secrets.
    """


class ConnectorRefused(Exception):
    """The platform will not do it, however often it is asked. Shown to operators: no secrets."""


class Connector(Protocol):
    """An application platform.

    Every call may be repeated: after a crash, after a call that was left because it took too long,
    or because the answer got lost. So each says what shall be, and a repeat finds that it is. A
    call raises ConnectorUnavailable or ConnectorRefused; any other exception counts as a fault
    that may pass. None of them runs inside a transaction of Foyer's.
    """

    def set_passwords(self, accounts: Sequence[AccountPassword]) -> Mapping[int, Refusal]:
        """Set the passwords; returns the refusals by user id, empty when all went well.

        Setting the same password again must be harmless: a call is repeated after a crash.
        Raises ConnectorUnavailable when the platform cannot be reached.
        """

    def create_tenant(self, tenant: PlatformTenant, settings: TenantSettings) -> str:
        """Create the tenant; returns the platform's own name for it, at most 64 characters.

        With the key of a tenant that is there already, nothing changes and its name is returned.
        """

    def create_account(self, tenant: PlatformTenant, account: Account, password: str) -> None:
        """Create an account that signs in with `password` and need not change it.

        With a login that the tenant has already, the password is set.
        """

    def suspend_tenant(self, tenant: PlatformTenant) -> None:
        """Keep everybody of the tenant out, and lose nothing. Harmless when he is out already."""

    def resume_tenant(self, tenant: PlatformTenant) -> None:
        """The opposite of suspending. Harmless when nobody is kept out."""

    def remove_account(self, tenant: PlatformTenant, account: Account) -> None:
        """Remove an account. Harmless when there is none, or no such tenant."""

    def remove_tenant(self, tenant: PlatformTenant) -> None:
        """Remove the tenant and all its accounts, so that its names are free again.

        Found by its key where `reference` is empty. Harmless when there is none.
        """

    def health(self, tenant: PlatformTenant, accounts: Sequence[Account]) -> Sequence[str]:
        """What keeps the tenant or one of `accounts` from working, a sentence for each fault."""
