"""Passwords: made by the system, chosen by people, and checked.

System-generated passwords carry more than 112 bits, so one salted PBKDF2-SHA256 round is enough for
them (NIST SP 800-63B, look-up secrets). Passwords that people choose are hashed with argon2id.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from binascii import b2a_base64
from dataclasses import dataclass
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from zxcvbn import zxcvbn

from services.errors import InvalidInput

ALPHABET = b"abcdefghjkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
"""55 letters and digits without look-alikes: 5.78 bits each."""

GENERATED_LENGTH = 20
MIN_LENGTH = 12
MAX_LENGTH = 256
_LOWEST_SCORE = 2

_SALT_BYTES = 16
_FAST_PREFIX = "$pbkdf2-sha256$1$"
_argon2 = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)

_USABLE = 256 - 256 % len(ALPHABET)
_SPREAD = bytes(ALPHABET[value % len(ALPHABET)] for value in range(256))
_UNUSABLE = bytes(range(_USABLE, 256))  # Dropping these keeps every letter equally likely.


def generate_password() -> str:
    """A password of 20 characters and 115 bits."""
    (password,) = generate_passwords(1)
    return password


def generate_passwords(count: int) -> list[str]:
    """So many of them, which costs less than one by one."""
    wanted = count * GENERATED_LENGTH
    letters = b""
    while len(letters) < wanted:
        letters += secrets.token_bytes(2 * wanted).translate(_SPREAD, _UNUSABLE)
    text = letters[:wanted].decode("ascii")
    return [text[at : at + GENERATED_LENGTH] for at in range(0, wanted, GENERATED_LENGTH)]


def hash_generated(password: str) -> str:
    """Hash for machine-made secrets only."""
    salt = os.urandom(_SALT_BYTES)
    digest = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 1)
    return f"{_FAST_PREFIX}{_b64(salt)}${_b64(digest)}"


def hash_chosen(password: str) -> str:
    """Hash for passwords that people choose."""
    return _argon2.hash(password)


def verify(stored: str | None, password: str) -> bool:
    """Whether `password` is the one hashed in `stored`; False for None and unknown formats."""
    if stored is None or len(password) > MAX_LENGTH:
        return False
    if stored.startswith(_FAST_PREFIX):
        salt, _, digest = stored.removeprefix(_FAST_PREFIX).partition("$")
        expected = base64.b64decode(digest)
        given = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), 1)
        return hmac.compare_digest(given, expected)
    try:
        return _argon2.verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False


def is_generated(stored: str | None) -> bool:
    """Whether `stored` is the hash of a machine-made password."""
    return stored is not None and stored.startswith(_FAST_PREFIX)


def spend_time(password: str) -> None:
    """Take as long as checking a chosen password, so that timing tells nothing of an account."""
    verify(_dummy_hash(), password)


def check_policy(password: str, *, login: str = "", field: str = "password") -> None:
    """Raise InvalidInput when a chosen password is too short, too long, common or the login."""
    if len(password) < MIN_LENGTH:
        raise InvalidInput(
            field,
            f"The password has {len(password)} characters. Use at least {MIN_LENGTH}; "
            "a few words in a row are easy to remember.",
        )
    if len(password) > MAX_LENGTH:
        raise InvalidInput(
            field, f"The password has {len(password)} characters. The limit is {MAX_LENGTH}."
        )
    folded = password.casefold()
    if login and (folded == login.casefold() or folded == login.casefold().partition("@")[0]):
        raise InvalidInput(field, "The password must differ from the login.")
    if _guess(password, login) < _LOWEST_SCORE:
        raise InvalidInput(field, "This password is among the first that attackers try.")


@dataclass(frozen=True, slots=True)
class Strength:
    """How hard a password is to guess: `score` from 0 to 4 and its word."""

    score: int
    word: str


_STRENGTH_WORDS = ("very weak", "weak", "fair", "good", "strong")


def judge_strength(password: str, *, login: str = "") -> Strength:
    """For people who choose one; what is refused is decided by `check_policy`."""
    if len(password) < MIN_LENGTH:
        return Strength(0, "too short")
    score = _guess(password, login)
    return Strength(score, _STRENGTH_WORDS[score])


def _guess(password: str, login: str) -> int:
    # The estimate looks at no more than this; beyond it every password is long enough.
    score: int = zxcvbn(password[:72], user_inputs=[login, *login.split("@")])["score"]
    return score


def _b64(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode("ascii")


@cache
def _dummy_hash() -> str:
    return hash_chosen(secrets.token_urlsafe(16))
