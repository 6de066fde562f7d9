"""The administrator's password of a tenant to be: hashed for Foyer, sealed for the platform."""

from __future__ import annotations

from services import passwords
from services.seals import SealBroken, sealer

__all__ = ["SealBroken", "open_password", "seal_password"]


def seal_password(password: str) -> tuple[str, bytes]:
    """The columns `password_hash` (argon2id) and `password_seal` of a request."""
    return passwords.hash_chosen(password), sealer().encrypt(password.encode())


def open_password(seal: bytes) -> str:
    """The password in clear, for the platform alone. Raises SealBroken when no key fits."""
    return sealer().decrypt(seal).decode()
