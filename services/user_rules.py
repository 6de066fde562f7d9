"""What the users of a customer may be: logins, names, addresses, extensions, roles and bundles."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from config import LANGUAGES
from models import Customer, Role, User, fold
from services import domain_names
from services.actors import Actor
from services.bundles import OwnBundles
from services.errors import Forbidden, InvalidInput, InvalidInputs
from services.permission_profiles import OwnProfiles
from services.registration_checks import check_email, clean_text
from services.tenant_rules import MAX_LOGIN, check_user_name

NAME_LENGTH = 64
EXTENSION_LENGTH = 16
ROLES = (Role.USER, Role.SUPERVISOR, Role.CUSTOMER_ADMIN)
"""The roles that a customer's users can be given."""

ROLE_WORDS = {
    Role.USER: "a user",
    Role.SUPERVISOR: "a supervisor",
    Role.CUSTOMER_ADMIN: "an administrator",
}

_NAMES = {"first_name": "The first name", "last_name": "The last name"}
_EXTENSION = re.compile(rf"[0-9]{{1,{EXTENSION_LENGTH}}}")
_LONGEST_EMAIL_KEY = 320
_SHOWN = 64

Fault = tuple[str, str]
"""A field and what is wrong about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUser:
    """A user as he was typed. He has a `login`, or a `user_name` to which the customer's UPN
    suffix is added. An empty `language` is the customer's; `bundle` and `profile` are names."""

    login: str = ""
    user_name: str = ""
    first_name: str = ""
    last_name: str = ""
    email: str = ""
    extension: str = ""
    language: str = ""
    bundle: str = ""
    role: Role = Role.USER
    profile: str = ""


def by_login(typed: str) -> NewUser:
    """Nobody yet but for what was typed as his login: the whole of it, or what is before the @."""
    name = typed.strip()
    return NewUser(login=name) if "@" in name else NewUser(user_name=name)


def roles_within(actor: Actor) -> tuple[Role, ...]:
    """Users of which roles the actor may add and change: to a supervisor all others are closed.

    Otherwise he could make himself an administrator, or have an administrator's mail sent to him.
    """
    return (Role.USER,) if actor.role is Role.SUPERVISOR else ROLES


def require_reach(actor: Actor, user: User) -> None:
    """Raise Forbidden where a user's role is beyond the actor."""
    if user.role not in roles_within(actor):
        raise Forbidden(_beyond(user))


def _beyond(user: User) -> str:
    return (
        f"{user.full_name} is {ROLE_WORDS[user.role]}. Only an administrator or the service "
        "provider can change that account."
    )


class UserRules:
    """What the users of one customer may be when `actor` says so.

    Each rule raises InvalidInput naming its field.
    """

    def __init__(self, customer: Customer, actor: Actor) -> None:
        self._customer = customer
        self._roles = roles_within(actor)
        self._suffix = customer.upn_suffix
        self._language = customer.language
        self._bundles = OwnBundles(customer)
        self._profiles = OwnProfiles(customer)
        self._judges: dict[str, Callable[[Any], dict[str, Any]]] = {
            "login": self.judge_login,
            "names": self._judge_names,
            "email": self._judge_email,
            "extension": self._judge_extension,
            "language": self._judge_language,
            "role": self._judge_role,
            "bundle": self._judge_bundle,
            "profile": self._judge_profile,
        }

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
                "profile": (new.role, new.profile),
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
        if user.role not in self._roles:
            return {}, [("login", _beyond(user))]
        asked = {name: text for name, text in given.items() if name not in _NAMES}
        if names := {name: text for name, text in given.items() if name in _NAMES}:
            asked["names"] = names, {name: getattr(user, name) for name in _NAMES}
        if given.keys() & {"role", "profile"}:
            role = given.get("role", user.role)
            has = user.profile.name if user.profile is not None and role is user.role else ""
            asked["profile"] = role, given.get("profile", has)
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
                values |= self._judges[name](typed)
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

    def judge_login(self, new: NewUser) -> dict[str, Any]:
        """The columns of a login."""
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
        if role not in self._roles:
            raise InvalidInput(
                "role",
                f"Only an administrator or the service provider can make somebody "
                f"{ROLE_WORDS[role]}.",
            )
        return {"role": role}

    def _judge_profile(self, asked: tuple[Role, str]) -> dict[str, Any]:
        """A supervisor has one of the customer's profiles, and nobody else has any."""
        role, name = asked
        if role is not Role.SUPERVISOR:
            if name.strip():
                raise InvalidInput("profile", "Only a supervisor has a permission profile.")
            return {"profile": "", "profile_id": None}
        if not name.strip():
            raise InvalidInput(
                "profile",
                f"A supervisor has one of the customer's permission profiles. "
                f"{self._profiles.offer()}",
            )
        profile = self._profiles.get(name)
        return {"profile": profile.name, "profile_id": profile.id}

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
