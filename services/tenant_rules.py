"""What the words of a new tenant may be: name, short name, and the administrator's user name.

Pure rules; whether a word is taken is looked up by registration_drafts.
"""

from __future__ import annotations

LOGIN_PREFIX = "prp"
"""Stands before the user name in the final ID, as in `prpkeAdmin@kenton-electronics.com`."""


def check_name(text: str) -> str:
    """The tenant's name as it is stored. Raises InvalidInput naming `name`."""
    raise NotImplementedError


def check_short_name(text: str) -> str:
    """Raises InvalidInput naming `short_name`."""
    raise NotImplementedError


def suggest_short_name(name: str) -> str:
    """KentonElectronics → ke; empty when nothing can be made of the name."""
    raise NotImplementedError


def check_user_name(text: str) -> str:
    """Raises InvalidInput naming `user_name`."""
    raise NotImplementedError


def make_login(user_name: str, suffix: str) -> str:
    """The final ID of the tenant's administrator."""
    return f"{LOGIN_PREFIX}{user_name}@{suffix}"
