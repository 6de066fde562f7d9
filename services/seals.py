"""Seals: credentials waiting to be mailed, encrypted with a key that is not in the database."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from extensions import get_settings
from services import passwords


@dataclass(frozen=True, slots=True)
class Credentials:
    """Passwords for one recipient; an empty one is not reset."""

    portal: str = field(default="", repr=False)
    application: str = field(default="", repr=False)


class SealBroken(Exception):
    """The seal was made with a key that the settings no longer hold."""


def make_credentials(*, portal: bool, application: bool) -> Credentials:
    return Credentials(
        portal=passwords.generate_password() if portal else "",
        application=passwords.generate_password() if application else "",
    )


def sealer() -> MultiFernet:
    """The settings' keys: the first seals, all open."""
    return MultiFernet([Fernet(key) for key in get_settings().seal_keys])


def seal(box: MultiFernet, credentials: Credentials) -> bytes:
    return box.encrypt(json.dumps([credentials.portal, credentials.application]).encode())


def unseal(box: MultiFernet, sealed: bytes) -> Credentials:
    """Raises SealBroken when none of the keys fits."""
    try:
        portal, application = json.loads(box.decrypt(sealed))
    except InvalidToken as error:
        raise SealBroken from error
    return Credentials(portal, application)
