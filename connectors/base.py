"""What Foyer asks of an application platform."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


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


class ConnectorUnavailable(Exception):
    """The platform as a whole does not answer. The message is shown to operators: no secrets."""


class Connector(Protocol):
    def set_passwords(self, accounts: Sequence[AccountPassword]) -> Mapping[int, Refusal]:
        """Set the passwords; returns the refusals by user id, empty when all went well.

        Setting the same password again must be harmless: a call is repeated after a crash.
        Raises ConnectorUnavailable when the platform cannot be reached.
        """
