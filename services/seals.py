"""Seals: credentials waiting to be mailed, encrypted with a key that is not in the database.

AES-GCM with a random nonce, both of the cryptography library; docs/decisions says why not Fernet,
whose seals of earlier releases are still opened.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from extensions import get_settings
from services import passwords

_VERSION = b"\x01"
_NONCE_BYTES = 12
_BETWEEN = b"\xff"  # Occurs in no UTF-8.


@dataclass(frozen=True, slots=True)
class Credentials:
    """Passwords for one recipient; an empty one is not reset."""

    portal: str = field(default="", repr=False)
    application: str = field(default="", repr=False)


class SealBroken(Exception):
    """The seal was made with a key that the settings no longer hold."""


class SealBox:
    """Keys in the form of Fernet's: the first seals, all open."""

    def __init__(self, keys: Sequence[str | bytes]) -> None:
        self._ciphers = [AESGCM(_derived(key)) for key in keys]
        self._earlier = MultiFernet([Fernet(key) for key in keys])

    def encrypt(self, data: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return _VERSION + nonce + self._ciphers[0].encrypt(nonce, data, None)

    def decrypt(self, sealed: bytes) -> bytes:
        """Raises SealBroken when none of the keys fits."""
        if not sealed.startswith(_VERSION):
            try:
                return self._earlier.decrypt(sealed)
            except InvalidToken as error:
                raise SealBroken from error
        nonce, data = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        for cipher in self._ciphers:
            try:
                return cipher.decrypt(nonce, data, None)
            except (InvalidTag, ValueError):  # ValueError for a nonce that is cut short.
                continue
        raise SealBroken


def _derived(key: str | bytes) -> bytes:
    """A key of its own: Fernet uses both halves of the given one."""
    return hashlib.blake2b(
        base64.urlsafe_b64decode(key), digest_size=32, person=b"foyer-seal-gcm"
    ).digest()


def make_credentials(*, portal: bool, application: bool) -> Credentials:
    return Credentials(
        portal=passwords.generate_password() if portal else "",
        application=passwords.generate_password() if application else "",
    )


def sealer() -> SealBox:
    """The settings' keys."""
    return SealBox(get_settings().seal_keys)


def seal(box: SealBox, credentials: Credentials) -> bytes:
    return box.encrypt(
        credentials.portal.encode("utf-8", "surrogatepass")
        + _BETWEEN
        + credentials.application.encode("utf-8", "surrogatepass")
    )


def unseal(box: SealBox, sealed: bytes) -> Credentials:
    """Raises SealBroken when none of the keys fits."""
    clear = box.decrypt(sealed)
    if not sealed.startswith(_VERSION):
        return Credentials(*json.loads(clear))
    portal, application = clear.split(_BETWEEN)
    return Credentials(
        portal.decode("utf-8", "surrogatepass"), application.decode("utf-8", "surrogatepass")
    )
