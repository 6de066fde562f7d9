"""What the users of a customer may be: logins, names, addresses, extensions, roles and bundles."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from config import LANGUAGES
from models import Customer, Role, User, fold
from services import domain_names
from services.bundles import OwnBundles
from services.errors import InvalidInput, InvalidInputs
from services.registration_checks import check_email, clean_text
from services.tenant_rules import MAX_LOGIN, check_user_name

NAME_LENGTH = 64
EXTENSION_LENGTH = 16
ROLES = (Role.USER, Role.CUSTOMER_ADMIN)
"""The roles that a customer's users can be given."""

_NAMES = {"first_name": "The first name", "last_name": "The last name"}
_EXTENSION = re.compile(rf"[0-9]{{1,{EXTENSION_LENGTH}}}")
_LONGEST_EMAIL_KEY = 320
_SHOWN = 64

Fault = tuple[str, str]
"""A field and what is wrong about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUser:
    """A user as he was typed. He has a `login`, or a `user_name` to which the customer's UPN
    suffix is added. An empty `language` is the customer's; `bundle` is a name."""

    login: str = ""
    user_name: str = ""
    first_name: str = ""
    last_name: str = ""
    email: str = ""
    extension: str = ""
    language: str = ""
    bundle: str = ""
    role: Role = Role.USER


class UserRules:
    """What the users of one customer may be; each rule raises InvalidInput naming its field."""

    def __init__(self, customer: Customer) -> None:
        self._customer = customer
        self._suffix = customer.upn_suffix
        self._language = customer.language
        self._bundles = OwnBundles(customer)

    def judge_new(self, new: NewUser, *, needs_address: bool) -> tuple[dict[str, Any], list[Fault]]:
        """The columns of a new user and what is wrong; the columns are whole if nothing is."""
        values, faults = self._judge(
            {
                "login": new,
                "names": ({"first_name": new.first_name, "last_name": new.last_name}, {}),
                "email": new.email,
                "extension": new.extension,
                "language": new.language.strip() or self._language,
                "role": new.role,
                "bundle": new.bundle,
            }
        )
        if needs_address and not new.email.strip():
            faults.append(("email", "The welcome mail needs an e-mail address."))
        if not new.bundle.strip():
            faults += self._miss_bundle(new.role)
        return values, faults

    def judge_changes(
        self, user: User, given: dict[str, Any]
    ) -> tuple[dict[str, Any], list[Fault]]:
        """The same for what is given of a change."""
        asked = {name: text for name, text in given.items() if name not in _NAMES}
        if names := {name: text for name, text in given.items() if name in _NAMES}:
            asked["names"] = names, {name: getattr(user, name) for name in _NAMES}
        values, faults = self._judge(asked)
        if given.keys() & {"bundle", "role"}:
            had = user.bundle.name if user.bundle is not None else ""
            if not given.get("bundle", had).strip():
                faults += self._miss_bundle(given.get("role", user.role))
        return values, faults

    def _judge(self, asked: dict[str, Any]) -> tuple[dict[str, Any], list[Fault]]:
        values: dict[str, Any] = {}
        faults = []
        for name, typed in asked.items():
            try:
                values |= getattr(self, f"_judge_{name}")(typed)
            except InvalidInput as error:
                faults.append((error.field, error.message))
            except InvalidInputs as error:
                faults += error.faults
        return values, faults

    def _miss_bundle(self, role: Role) -> list[Fault]:
        """Administrators can do without; others cannot, where there is one to have."""
        if role is Role.CUSTOMER_ADMIN or not self._bundles:
            return []
        return [("bundle", f"A user has one of the customer's bundles. {self._bundles.offer()}")]

    def _judge_login(self, new: NewUser) -> dict[str, Any]:
        login, user_name = new.login.strip(), new.user_name.strip()
        if bool(login) == bool(user_name):
            raise InvalidInput("login", "Give either a login or a user name.")
        if login:
            user_name, _, domain = domain_names.ascii_login(login).rpartition("@")
            if domain.lower() != self._suffix or not user_name:
                shown = domain_names.show_name(self._suffix).unicode
                raise InvalidInput(
                    "login", f"A login of this customer ends with @{shown}, its own UPN suffix."
                )
        try:
            whole = f"{check_user_name(user_name)}@{self._suffix}"
        except InvalidInput as error:
            raise InvalidInput("login" if login else "user_name", error.message) from None
        if len(whole) > MAX_LOGIN:
            raise InvalidInput(
                "login" if login else "user_name",
                f"The login {whole[:_SHOWN]}… has {len(whole)} characters. "
                f"The limit is {MAX_LOGIN}.",
            )
        return {"login": whole, "login_key": fold(whole)}

    def _judge_names(self, typed: tuple[dict[str, str], dict[str, str]]) -> dict[str, Any]:
        """The names that are typed, with those that stay."""
        given, kept = typed
        values, faults = dict(kept), []
        for field, text in given.items():
            try:
                values[field] = _judge_single_name(field, text)
            except InvalidInput as error:
                faults.append((error.field, error.message))
        if faults:
            raise InvalidInputs(faults)
        # A letter can fold to as many as eighteen.
        return {
            **values,
            "name_key": fold(f"{values['first_name']} {values['last_name']}")[:260],
            "surname_key": fold(values["last_name"])[:130],
        }

    def _judge_email(self, typed: str) -> dict[str, Any]:
        """Without an address a user gets no mail, and every mailing says so."""
        email = check_email(typed.strip(), "email", "The e-mail address") if typed.strip() else ""
        key = fold(email)
        if len(key) > _LONGEST_EMAIL_KEY:
            raise InvalidInput("email", "The e-mail address is too long.")
        return {"email": email, "email_key": key}

    def _judge_extension(self, typed: str) -> dict[str, Any]:
        extension = typed.strip()
        if extension and not _EXTENSION.fullmatch(extension):
            raise InvalidInput(
                "extension", f"An extension is a number of up to {EXTENSION_LENGTH} digits."
            )
        return {"extension": extension}

    def _judge_language(self, typed: str) -> dict[str, Any]:
        language = typed.strip()
        if language not in LANGUAGES:
            raise InvalidInput(
                "language", f"“{language[:_SHOWN]}” is none of {', '.join(LANGUAGES)}."
            )
        return {"language": language}

    def _judge_role(self, role: Role) -> dict[str, Any]:
        if role not in ROLES:
            raise InvalidInput("role", f"The role is one of {', '.join(ROLES)}.")
        return {"role": role}

    def _judge_bundle(self, typed: str) -> dict[str, Any]:
        if not typed.strip():
            return {"bundle": "", "bundle_id": None}
        bundle = self._bundles.get(typed)
        return {"bundle": bundle.name, "bundle_id": bundle.id}


def _judge_single_name(field: str, text: str) -> str:
    if text.strip():
        return clean_text(text, field, _NAMES[field], NAME_LENGTH)
    if field == "last_name":
        raise InvalidInput(field, "The last name is missing.")
    return ""
