"""What the columns of an imported file are: guessed from their headings, and their words read.

Headings are known in the languages of the product, and as the export writes them, so that what was
exported can be imported as it is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from config import LANGUAGES
from models import Role
from services.csv_export import undefuse
from services.errors import InvalidInput

FIELDS = {
    "login": "Login",
    "user_name": "User name",
    "first_name": "First name",
    "last_name": "Last name",
    "email": "E-mail",
    "extension": "Extension",
    "bundle": "Bundle",
    "role": "Role",
    "profile": "Permission profile",
    "language": "Language",
}
"""The fields that a column can be, with their labels."""

_HEADINGS = {
    "login": (
        "login, login id, final id, upn, user principal name, sign-in, logon, "
        "anmeldename, anmeldung, benutzerkennung, kennung, "
        "identifiant, nom de connexion, connexion, aanmeldnaam, gebruikersaccount"
    ),
    "user_name": (
        "user name, username, user, user id, account, benutzername, benutzer, konto, "
        "nom d'utilisateur, utilisateur, compte, gebruikersnaam, gebruiker"
    ),
    "first_name": (
        "first name, firstname, given name, forename, first, vorname, rufname, "
        "prénom, voornaam, roepnaam"
    ),
    "last_name": (
        "last name, lastname, surname, family name, name, last, nachname, familienname, zuname, "
        "nom, nom de famille, achternaam, familienaam, naam"
    ),
    "email": (
        "e-mail, email, mail, e-mail address, email address, mail address, "
        "e-mail-adresse, emailadresse, mailadresse, adresse e-mail, adresse mail, courriel, "
        "adresse électronique, e-mailadres, mailadres"
    ),
    "extension": (
        "extension, ext, ext., extension number, internal number, phone extension, "
        "nebenstelle, durchwahl, nst, nebenstellennummer, poste, numéro de poste, numéro interne, "
        "toestel, toestelnummer, doorkiesnummer, intern nummer"
    ),
    "bundle": (
        "bundle, bundle name, package, service package, paket, dienstpaket, leistungspaket, "
        "forfait, offre, bouquet, pakket, dienstenpakket, bundel"
    ),
    "role": "role, rolle, benutzerrolle, rôle, fonction, rol, functie, user role",
    "profile": (
        "permission profile, profile, profil, berechtigungsprofil, profil d'autorisation, "
        "machtigingsprofiel, profiel"
    ),
    "language": "language, lang, sprache, langue, taal, preferred language, locale",
}

_ROLES = {
    Role.USER: (
        "user, users, standard, benutzer, anwender, utilisateur, gebruiker, member, employee"
    ),
    Role.CUSTOMER_ADMIN: (
        "customer_admin, customer admin, customer administrator, administrator, admin, "
        "administrateur, beheerder"
    ),
    Role.SUPERVISOR: "supervisor, superviseur, teamleiter",
}
ROLE_WORDS = {
    Role.USER: "User",
    Role.CUSTOMER_ADMIN: "Administrator",
    Role.SUPERVISOR: "Supervisor",
}
"""The roles as the export writes them."""

_LANGUAGES = {
    "en": "english, englisch, anglais, engels",
    "de": "deutsch, german, allemand, duits",
    "fr": "français, french, französisch, frans",
    "nl": "nederlands, dutch, niederländisch, néerlandais, flemish",
    "es": "español, spanish, spanisch, espagnol, spaans",
}
_NO_LETTERS = re.compile(r"[^a-z0-9]+")
_SHOWN = 64


def _plain(text: str) -> str:
    """Without case, accents, and what stands between words."""
    letters = unicodedata.normalize("NFKD", text[:200].casefold().replace("ß", "ss"))
    return _NO_LETTERS.sub("", "".join(each for each in letters if not unicodedata.combining(each)))


def _words(listed: dict[str, str]) -> dict[str, str]:
    return {_plain(word): key for key, words in listed.items() for word in words.split(",")}


_FIELD_OF = _words(_HEADINGS)
_ROLE_OF = _words({role.value: words for role, words in _ROLES.items()})
_LANGUAGE_OF = _words(
    {code: f"{code}, {words}" for code, words in _LANGUAGES.items() if code in LANGUAGES}
)


def guess_columns(headings: Sequence[str], remembered: dict[str, str]) -> list[str]:
    """The field of each column, empty where none is known; each field once.

    `remembered` are fields by the headings of an earlier file.
    """
    taken: set[str] = set()
    found = []
    for heading in headings:
        field = remembered.get(heading.strip()) if heading.strip() else None
        if field is None:
            field = _FIELD_OF.get(_plain(heading), "")
        if field in taken or field not in FIELDS:
            field = ""
        if field:
            taken.add(field)
        found.append(field)
    if "login" in found and "user_name" in found:
        found[found.index("user_name")] = ""
    return found


def has_headings(first: Sequence[str]) -> bool:
    """Whether the first record of a file looks like headings."""
    given = [cell for cell in first if cell.strip()]
    if any(_plain(cell) in _FIELD_OF for cell in given):
        return True
    return not any("@" in cell or cell.strip().isdecimal() for cell in given)


def name_columns(first: Sequence[str], width: int, *, headed: bool) -> list[str]:
    """What the columns are called: by their headings, or by their letters."""
    names = [
        undefuse(cell).strip()[:_SHOWN] if headed else ""
        for cell in [*first, *[""] * width][:width]
    ]
    return [name or f"Column {_letters(number)}" for number, name in enumerate(names)]


def _letters(number: int) -> str:
    text = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        text = chr(65 + rest) + text
    return text


def check_columns(columns: Sequence[str]) -> None:
    """Raise InvalidInput naming `columns` for fields that cannot be told from these columns."""
    chosen = [field for field in columns if field]
    twice = next((field for field in chosen if chosen.count(field) > 1), None)
    if twice is not None:
        raise InvalidInput(
            "columns", f"Two columns are the field “{FIELDS[twice]}”. Leave one of them out."
        )
    if {"login", "user_name"} <= set(chosen):
        raise InvalidInput(
            "columns",
            "One column is the login and another one the user name, which is its first part. "
            "Leave one of them out.",
        )
    if not {"login", "user_name"} & set(chosen):
        raise InvalidInput(
            "columns",
            "No column is the login. Say which one it is: the whole login, or the user name, to "
            "which the customer's UPN suffix is added.",
        )


def read_role(text: str) -> Role:
    """A role by a word for it; an empty text is a user. Raises InvalidInput naming `role`."""
    if not text.strip():
        return Role.USER
    found = _ROLE_OF.get(_plain(text))
    if found is None:
        offered = ", ".join(ROLE_WORDS.values())
        raise InvalidInput("role", f"“{text.strip()[:_SHOWN]}” is none of {offered}.")
    return Role(found)


def read_language(text: str) -> str:
    """The code of a language that is named in any of ours; others are given back as they are."""
    return _LANGUAGE_OF.get(_plain(text), text.strip()) if text.strip() else ""
