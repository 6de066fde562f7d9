"""What the words of a new tenant may be: name, short name, and the administrator's user name.

Pure rules; whether a word is taken is looked up by registration_drafts. A name may be of any
script: it is shown, and never typed to sign in. Short name and user name become parts of logins
and of names on platforms, which have to be typed on every keyboard: they are ASCII.
"""

from __future__ import annotations

import re
import unicodedata

from models import fold
from services.domain_names import mixes_scripts
from services.errors import InvalidInput

LOGIN_PREFIX = "prp"
"""Stands before the user name in the final ID, as in `prpkeAdmin@kenton-electronics.com`."""

NAME_LENGTH = (2, 64)
SHORT_NAME_LENGTH = (2, 16)
USER_NAME_LENGTH = (2, 61)
"""With the prefix, 64: what stands before the @ of an address can have no more."""

MAX_LOGIN = 254
"""The final ID can be an e-mail address, too, so that it has the limit of one (RFC 5321)."""

RESERVED = frozenset(
    """
    admin administrator administrators all anonymous anybody api auditor auditors bounces config
    customer customers default demo everybody everyone foyer guest guests help helpdesk hostmaster
    info konos landlord landlords local localhost login mail mailer mailerdaemon me nobody none
    noreply null operator operators owner portal postmaster prospect prospects provider providers
    public registration root security self serviceprovider setup sp static status super superuser
    support sys sysadmin system template templates tenant tenants test tiab undefined unknown user
    users webmaster www
    """.split()
)
"""Words that people would take for the service provider, or software for something else."""

_ONLY = "must not contain spaces, underscores, or special characters"
_USER_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9]|[.-](?=[A-Za-z0-9]))*")
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z][a-z]+|[a-z]+|[0-9]+")
_SUGGESTED = 8
_MARKS_IN_A_ROW = 2
_PLAIN = str.maketrans({"ß": "ss", "ø": "o", "Ø": "O", "æ": "ae", "Æ": "Ae", "œ": "oe", "ł": "l"})
_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")


def check_name(text: str, *, provider: str = "") -> str:
    """The tenant's name as it is stored: of letters and digits of any script, composed.

    `provider` is the service provider's own name, which is reserved as well. Raises InvalidInput
    naming `name`.
    """
    name = _composed(text, "name", "The name", NAME_LENGTH)
    if not _is_word(name):
        raise InvalidInput("name", f"The name {_ONLY}. {_without(name)}".strip())
    if mixes_scripts(name):
        raise InvalidInput(
            "name",
            "The name mixes letters of scripts that look alike, such as Latin and Cyrillic. "
            "Type it again in one script.",
        )
    # What is compared can be longer than what is typed: ß is ss without regard to case.
    if len(fold(name)) > NAME_LENGTH[1]:
        raise InvalidInput(
            "name",
            f"The name has {len(fold(name))} letters when ligatures are written out. "
            f"The limit is {NAME_LENGTH[1]}.",
        )
    _check_free_of_reserved(name, "name", "The name", provider)
    return name


def check_short_name(text: str, *, provider: str = "") -> str:
    """ASCII letters and digits. Raises InvalidInput naming `short_name`."""
    name = _composed(text, "short_name", "The short name", SHORT_NAME_LENGTH)
    if not _is_word(name):
        message = f"The short name {_ONLY}. {_without(name)}"
        raise InvalidInput("short_name", message.strip())
    if not name.isascii():
        raise InvalidInput(
            "short_name", "The short name is part of logins. Use the letters a to z and digits."
        )
    _check_free_of_reserved(name, "short_name", "The short name", provider)
    return name


def suggest_short_name(name: str) -> str:
    """KentonElectronics → ke, Kenton → kenton; empty when nothing can be made of the name."""
    plain = unicodedata.normalize("NFKD", name[: 2 * NAME_LENGTH[1]].translate(_PLAIN))
    plain = "".join(letter for letter in plain if letter.isascii() and letter.isalnum())
    words: list[str] = _WORDS.findall(plain)
    initials = "".join(word if word.isdigit() or word.isupper() else word[0] for word in words)
    for suggested in (initials, plain):
        short = suggested.lower()[: SHORT_NAME_LENGTH[1] if suggested is initials else _SUGGESTED]
        if len(words) > 1 or suggested is plain:
            try:
                return check_short_name(short)
            except InvalidInput:
                continue
    return ""


def check_user_name(text: str) -> str:
    """Letters, digits, dots and hyphens. Raises InvalidInput naming `user_name`."""
    name = _composed(text, "user_name", "The user name", USER_NAME_LENGTH)
    if not _USER_NAME.fullmatch(name):
        raise InvalidInput(
            "user_name",
            "The user name consists of the letters a to z, digits, dots and hyphens. It begins and "
            "ends with a letter or digit, and no two dots or hyphens stand side by side.",
        )
    return name


def make_login(user_name: str, suffix: str) -> str:
    """The final ID of the tenant's administrator."""
    return f"{LOGIN_PREFIX}{user_name}@{suffix}"


def check_login(user_name: str, suffix: str) -> str:
    """The final ID of two words that are right. Raises InvalidInput naming `upn_suffix`."""
    login = make_login(user_name, suffix)
    if len(login) > MAX_LOGIN:
        raise InvalidInput(
            "upn_suffix",
            f"The final ID, {login[:40]}…, has {len(login)} characters. The limit is {MAX_LOGIN}; "
            "use a shorter user name or a shorter domain.",
        )
    return login


def _composed(text: str, field: str, label: str, limits: tuple[int, int]) -> str:
    lowest, highest = limits
    if len(text) <= 10 * highest:
        text = unicodedata.normalize("NFKC", text.strip())
    if len(text) > highest:
        raise InvalidInput(field, f"{label} has {len(text):,} characters. The limit is {highest}.")
    if len(text) < lowest:
        raise InvalidInput(field, f"{label} has {len(text)} of at least {lowest} characters.")
    return text


def _is_word(name: str) -> bool:
    marks = _MARKS_IN_A_ROW
    for letter in name:
        category = unicodedata.category(letter)
        if category in {"Mn", "Mc"}:
            marks += 1
            if marks > _MARKS_IN_A_ROW or _is_hidden(letter):
                return False
        elif category in {"Lu", "Ll", "Lt", "Lo", "Lm", "Nd"} and not _is_hidden(letter):
            marks = 0
        else:
            return False
    return True


def _is_hidden(letter: str) -> bool:
    """Letters and marks that show nothing, or look like an apostrophe."""
    return (
        letter in _INVISIBLE
        or "\u02b0" <= letter <= "\u02ff"
        or "\ufe00" <= letter <= "\ufe0f"
        or "\U000e0100" <= letter <= "\U000e01ef"
    )


def _without(name: str) -> str:
    """A proposal, where leaving out what is wrong leaves a name."""
    proper = "".join(letter for letter in name if _is_word(letter))
    return f"Write {proper}, for example." if len(proper) >= NAME_LENGTH[0] else ""


def _check_free_of_reserved(name: str, field: str, label: str, provider: str) -> None:
    own = "".join(letter for letter in fold(provider) if letter.isalnum())
    if fold(name) in RESERVED or (own and fold(name) == own):
        raise InvalidInput(field, f"{label} {name} is reserved. Choose another one.")
