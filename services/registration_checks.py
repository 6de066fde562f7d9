"""Checks of a draft: every field of the three tabs, what is missing, and what is taken.

The same rules judge a field as it is typed, a draft as it is shown, and all of it at its
submission. That a word is free is said by a look at customers and open requests; between that
look and the submission only the unique indexes decide.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa
from email_validator import EmailNotValidError, validate_email

from config import LANGUAGES, Settings
from extensions import db, get_settings
from models import (
    Customer,
    ServiceTemplateVersion,
    SubscriptionRequest,
    User,
    fold,
    is_storable,
)
from models.subscription_requests import HOLDS_NAMES
from services import (
    countries,
    domain_names,
    passwords,
    phone_numbers,
    request_passwords,
    service_templates,
    tenant_rules,
)
from services.actors import Actor
from services.domain_names import DomainName
from services.errors import InvalidInput
from services.passwords import Strength
from services.phone_numbers import PhoneNumber


class Tab(StrEnum):
    TEMPLATE = "template"
    TENANT = "tenant"
    CONTACT = "contact"


FIELDS: Mapping[Tab, tuple[str, ...]] = {
    Tab.TEMPLATE: ("template",),
    Tab.TENANT: ("name", "short_name", "upn_suffix", "user_name", "ani"),
    Tab.CONTACT: (
        "company",
        "street",
        "postal_code",
        "city",
        "region",
        "country",
        "contact_name",
        "contact_phone",
        "contact_email",
        "language",
        "time_zone",
    ),
}
"""The fields of each tab as the form names them. The template tab has the id of the template and
its options besides (service_templates.option_field); the tenant tab "password" and
"confirmation", which are never kept."""

LABELS: Mapping[str, str] = {
    "template": "Template",
    "name": "Name",
    "short_name": "Short Name",
    "upn_suffix": "UPN Suffix",
    "user_name": "User Name",
    "password": "Password",
    "confirmation": "Confirm Password",
    "ani": "ANI",
    "company": "Company",
    "street": "Street",
    "postal_code": "Postal code",
    "city": "City",
    "region": "Region",
    "country": "Country",
    "contact_name": "Contact person",
    "contact_phone": "Phone",
    "contact_email": "E-mail address",
    "language": "Language",
    "time_zone": "Time zone",
}
OPTIONAL = frozenset({"postal_code", "region"})
"""Many countries have none of them."""

MAX_LENGTHS: Mapping[str, int] = {
    "company": 128,
    "street": 200,
    "postal_code": 16,
    "city": 100,
    "region": 100,
    "contact_name": 128,
}
"""As long as their columns."""

_MAX_EMAIL = 320
_SHOWN = 60
_SUGGESTIONS = 20
_POSTAL_CODE = re.compile(r"[A-Z0-9]+(?:[ -][A-Z0-9]+)*")
_JOINERS = frozenset("\u200c\u200d")  # Persian needs them, and so do emoji.
_MORE_PASSWORD = "a few words in a row are easy to remember"  # noqa: S105


class TabState(StrEnum):
    """A tab is faulty, too, while a field that is needed is missing in it."""

    EMPTY = "empty"
    COMPLETE = "complete"
    FAULTY = "faulty"


@dataclass(frozen=True, slots=True)
class Fault:
    """`is_missing` where nothing is wrong but that nothing was typed yet."""

    tab: Tab
    field: str
    message: str
    is_missing: bool = False


@dataclass(frozen=True, slots=True)
class SummaryLine:
    """A line of what is chosen so far; only what is right."""

    tab: Tab
    label: str
    value: str


@dataclass(frozen=True, slots=True)
class DraftCheck:
    """`values` are the columns of the request that is made of a draft without faults."""

    tabs: Mapping[Tab, TabState]
    faults: list[Fault]
    summary: list[SummaryLine]
    template_version: ServiceTemplateVersion | None
    values: dict[str, Any] = field(repr=False)

    @property
    def is_ready(self) -> bool:
        return not self.faults

    def faults_of(self, tab: Tab) -> list[Fault]:
        return [each for each in self.faults if each.tab is tab]


@dataclass(frozen=True, slots=True)
class Verdict:
    """On one field as it is typed: `message` is the fault, or when `ok` a quiet confirmation."""

    ok: bool
    message: str = ""


@dataclass(frozen=True, slots=True)
class Verdicts:
    """On what is typed. `fields` has those that were typed and are not empty."""

    fields: Mapping[str, Verdict]
    short_name: str = ""
    """A suggestion that is free, while nothing is typed in its field."""
    login: str = ""
    """The final ID, as soon as user name and suffix are right."""
    suffix: DomainName | None = None
    ani: PhoneNumber | None = None
    strength: Strength | None = None


# --- What a draft holds --------------------------------------------------------------------------


def typed_values(request: SubscriptionRequest, tab: Tab) -> dict[str, str]:
    """What was typed on a tab so far."""
    typed: dict[str, str] = request.draft.get(tab, {})
    return typed


def form_values(request: SubscriptionRequest, tab: Tab) -> dict[str, str]:
    """What the fields of a tab show: what was typed, or what is prefilled. Never a password.

    On the template tab the options of every template that was looked at are in it, by field.
    """
    return {**prefilled_values(request, tab), **typed_values(request, tab)}


def prefilled_values(request: SubscriptionRequest, tab: Tab) -> dict[str, str]:
    prefilled: dict[str, str] = request.draft.get("prefilled", {}).get(tab, {})
    return prefilled


def is_untouched(request: SubscriptionRequest, tab: Tab) -> bool:
    """Whether nothing stands on a tab but what was prefilled."""
    prefilled = prefilled_values(request, tab)
    if any(
        text.strip() != prefilled.get(name, "") for name, text in typed_values(request, tab).items()
    ):
        return False
    return tab is not Tab.TENANT or not (
        request.password_hash or request.draft.get("password_fault")
    )


def is_proved(request: SubscriptionRequest, suffix: DomainName) -> bool:
    """Whether it was proved that the author holds `suffix`; another one needs another proof."""
    return request.domain_proved_at is not None and request.draft.get("proved") == suffix.ascii


# --- The whole draft -----------------------------------------------------------------------------


def check(request: SubscriptionRequest) -> DraftCheck:
    """Everything that is wrong or missing, by tab, and what is chosen so far."""
    checked = _Checked(
        request, {tab: form_values(request, tab) for tab in Tab}, _author_of(request)
    )
    return _check_all(checked, checked.check_password)


def check_order(actor: Actor, request: SubscriptionRequest, password: str) -> DraftCheck:
    """The same for what an actor asks for at once; `request` is not stored.

    An empty `password` is one that is to be made, and is right.
    """
    checked = _Checked(request, {tab: form_values(request, tab) for tab in Tab}, actor)
    return _check_all(checked, lambda: checked.check_new_password(password))


def check_details(
    actor: Actor, typed: Mapping[str, str], *, country: str
) -> tuple[dict[str, Any], list[Fault]]:
    """Judge some of the fields of a tenant that is there: their columns, and what is wrong.

    `country` is that of numbers without a country code, unless `typed` names another.
    """
    values = {tab: {name: typed[name] for name in FIELDS[tab] if name in typed} for tab in Tab}
    values[Tab.CONTACT].setdefault("country", country)
    checked = _Checked(SubscriptionRequest(draft={}), values, actor)
    for tab in Tab:
        for name in FIELDS[tab]:
            if name in typed:
                checked.check_field(tab, name)
    return checked.values, checked.faults


def _check_all(checked: _Checked, check_password: Callable[[], None]) -> DraftCheck:
    version = checked.check_template()
    for tab in (Tab.TENANT, Tab.CONTACT):
        for name in FIELDS[tab]:
            checked.check_field(tab, name)
        if tab is Tab.TENANT:
            checked.check_login()
            check_password()
    return DraftCheck(
        tabs={tab: checked.state_of(tab) for tab in Tab},
        faults=checked.faults,
        summary=checked.summary,
        template_version=version,
        values=checked.values,
    )


def _author_of(request: SubscriptionRequest) -> Actor:
    return Actor.from_user(db.session.get_one(User, request.created_by_id))


def judge(request: SubscriptionRequest, tab: Tab, typed: Mapping[str, str]) -> Verdicts:
    """Judge what is being typed on a tab, with the rest as the draft has it."""
    values = {each: form_values(request, each) for each in Tab}
    values[tab] |= typed
    checked = _Checked(request, values, _author_of(request))
    verdicts: dict[str, Verdict] = {}
    for name in FIELDS[tab]:
        if name not in typed or not typed[name].strip() or tab is Tab.TEMPLATE:
            continue
        faults = len(checked.faults)
        note = checked.check_field(tab, name)
        bad = checked.faults[faults:]
        verdicts[name] = Verdict(not bad, bad[0].message if bad else note)
    if tab is Tab.TEMPLATE:
        verdicts.update(_judge_options(checked, typed))
    if tab is not Tab.TENANT:
        return Verdicts(verdicts)
    login = checked.find_login(verdicts)
    strength = _judge_password(typed, login, verdicts)
    return Verdicts(
        verdicts,
        short_name=checked.suggest_short_name(),
        login=login,
        suffix=checked.suffix,
        ani=checked.ani,
        strength=strength,
    )


def _judge_options(checked: _Checked, typed: Mapping[str, str]) -> dict[str, Verdict]:
    checked.check_template()
    wrong = {fault.field: fault.message for fault in checked.faults}
    return {
        name: Verdict(name not in wrong, wrong.get(name, ""))
        for name, text in typed.items()
        if text.strip() and (name in wrong or name == "template" or name.startswith("option-"))
    }


def _judge_password(
    typed: Mapping[str, str], login: str, verdicts: dict[str, Verdict]
) -> Strength | None:
    password, confirmation = typed.get("password", ""), typed.get("confirmation", "")
    if password:
        strength = passwords.judge_strength(password, login=login)
        fault = find_password_fault(password, password, login)
        message = fault[1] if fault else f"Strength: {strength.word}."
        verdicts["password"] = Verdict(fault is None, message)
    if confirmation:
        same = password == confirmation
        verdicts["confirmation"] = Verdict(
            same, "Both are the same." if same else "The two passwords differ."
        )
    return strength if password else None


def find_password_fault(password: str, confirmation: str, login: str) -> tuple[str, str] | None:
    """Field and message of what is wrong with a password that is typed twice, without its length:
    the message is kept with the draft."""
    if not is_storable(password):
        return "password", "The password has a character that no keyboard types."
    if len(password) < passwords.MIN_LENGTH:
        return (
            "password",
            f"The password is too short. Use at least {passwords.MIN_LENGTH} characters; "
            f"{_MORE_PASSWORD}.",
        )
    if len(password) > passwords.MAX_LENGTH:
        return "password", f"The password is too long. The limit is {passwords.MAX_LENGTH}."
    try:
        passwords.check_policy(password, login=login)
    except InvalidInput as error:
        return "password", f"{error.message} Choose another; {_MORE_PASSWORD}."
    if password == confirmation:
        return None
    if not confirmation:
        return "confirmation", "Type the password a second time, in Confirm Password."
    return "confirmation", "The two passwords differ. Type the same one in both fields."


@dataclass(frozen=True, slots=True)
class _Judged:
    """The columns that a right field fills, how it is shown, and a quiet confirmation."""

    columns: dict[str, Any]
    shown: str
    note: str = ""


class _Checked:
    """One pass over the fields of a draft: each adds its columns and summary, or its fault."""

    def __init__(
        self,
        request: SubscriptionRequest,
        values: Mapping[Tab, Mapping[str, str]],
        author: Actor,
    ) -> None:
        self._request = request
        self._typed = values
        self._settings: Settings = get_settings()
        self.author = author
        self.faults: list[Fault] = []
        self.summary: list[SummaryLine] = []
        self.values: dict[str, Any] = {}
        self.suffix: DomainName | None = None
        self.ani: PhoneNumber | None = None

    def text(self, tab: Tab, name: str) -> str:
        return self._typed[tab].get(name, "").strip()

    def state_of(self, tab: Tab) -> TabState:
        if not any(fault.tab is tab for fault in self.faults):
            return TabState.COMPLETE
        return TabState.EMPTY if is_untouched(self._request, tab) else TabState.FAULTY

    def _add_fault(self, tab: Tab, name: str, message: str, *, is_missing: bool = False) -> None:
        self.faults.append(Fault(tab, name, message, is_missing))

    def _add_line(self, tab: Tab, label: str, value: str) -> None:
        if value:
            self.summary.append(SummaryLine(tab, label, value))

    # --- Template ---

    def check_template(self) -> ServiceTemplateVersion | None:
        typed = self.text(Tab.TEMPLATE, "template")
        if not typed:
            self._add_fault(Tab.TEMPLATE, "template", "No template is chosen.", is_missing=True)
            return None
        offered = service_templates.list_offered(self.author, self._request.invitation)
        version = next((each for each in offered if str(each.template_id) == typed), None)
        if version is None:
            self._add_fault(
                Tab.TEMPLATE, "template", "The template is not offered any more. Choose another."
            )
            return None
        invitation = self._request.invitation
        invited_to = invitation.group_id if invitation is not None else None
        self.values |= {
            "template_version_id": version.id,
            "group_id": invited_to or version.group_id,
            "options": self._check_options(version),
        }
        return version

    def _check_options(self, version: ServiceTemplateVersion) -> dict[str, Any]:
        self._add_line(Tab.TEMPLATE, "Template", version.template.name)
        chosen = {}
        for option in version.options:
            name = service_templates.option_field(version, option)
            try:
                value = service_templates.check_option(
                    version, option, self.text(Tab.TEMPLATE, name)
                )
            except InvalidInput as error:
                self._add_fault(Tab.TEMPLATE, name, error.message)
                continue
            chosen[option.name] = value
            self._add_line(Tab.TEMPLATE, option.label, service_templates.show_option(value))
        return chosen

    # --- Tenant and contact ---

    def check_field(self, tab: Tab, name: str) -> str:
        """Judge one field; returns its quiet confirmation, if it is right and there is one."""
        typed, label = self.text(tab, name), LABELS[name]
        if not typed:
            self.values[name] = ""
            if name not in OPTIONAL:
                self._add_fault(tab, name, f"{label} is missing.", is_missing=True)
            return ""
        try:
            judged = _JUDGES[name](self, name, typed)
        except InvalidInput as error:
            self._add_fault(tab, name, error.message)
            return ""
        self.values |= judged.columns
        self._add_line(tab, label, judged.shown)
        return judged.note

    def judge_name(self, _name: str, typed: str) -> _Judged:
        name = tenant_rules.check_name(typed, provider=self._settings.provider_name)
        key = fold(name)
        self._check_free("name", "name_key", key, f"The name {name}", "Choose another one.")
        return _Judged({"name": name, "name_key": key}, name, f"{name} is free.")

    def judge_short_name(self, _name: str, typed: str) -> _Judged:
        name = tenant_rules.check_short_name(typed, provider=self._settings.provider_name)
        key = fold(name)
        self._check_free(
            "short_name", "short_name_key", key, f"The short name {name}", "Choose another one."
        )
        return _Judged({"short_name": name, "short_name_key": key}, name, f"{name} is free.")

    def judge_suffix(self, name: str, typed: str) -> _Judged:
        suffix = domain_names.parse_suffix(
            typed, allow_reserved=not self._settings.is_production, field=name
        )
        if not self.author.is_staff and suffix.ascii in _own_domains(self._settings):
            raise InvalidInput(
                name, f"The UPN suffix {suffix.unicode} is the service provider's own."
            )
        self._check_free(
            "upn_suffix",
            "upn_suffix",
            suffix.ascii,
            f"The UPN suffix {suffix.unicode}",
            f"If the domain is your company's, write to {self._settings.support_email}.",
        )
        self.suffix = suffix
        both = f"{suffix.unicode} ({suffix.ascii})" if suffix.is_international else suffix.ascii
        if self._settings.domain_proof and not self._is_proved(suffix):
            note = f"{both} is free. It has to be proved by a DNS record."
        else:
            note = f"{both} is free."
        proved_at = self._request.domain_proved_at if self._is_proved(suffix) else None
        return _Judged({"upn_suffix": suffix.ascii, "domain_proved_at": proved_at}, both, note)

    def judge_user_name(self, _name: str, typed: str) -> _Judged:
        name = tenant_rules.check_user_name(typed)
        # A suffix that is taken still shows what the final ID would be.
        try:
            suffix = domain_names.parse_suffix(
                self.text(Tab.TENANT, "upn_suffix"),
                allow_reserved=not self._settings.is_production,
            )
        except InvalidInput:
            return _Judged({}, "")
        login = tenant_rules.make_login(name, suffix.unicode)
        return _Judged({}, "", f"The final ID is {login}.")

    def judge_ani(self, name: str, typed: str) -> _Judged:
        number = phone_numbers.parse_number(typed, self._country(), field=name, label="ANI")
        self.ani = number
        return _Judged({"ani": number.e164}, number.international, _both_ways(number))

    def judge_phone(self, name: str, typed: str) -> _Judged:
        number = phone_numbers.parse_number(typed, self._country(), field=name, label="Phone")
        return _Judged({"contact_phone": number.e164}, number.international, _both_ways(number))

    def judge_text(self, name: str, typed: str) -> _Judged:
        text = clean_text(typed, name, LABELS[name], MAX_LENGTHS[name])
        return _Judged({name: text}, text)

    def judge_postal_code(self, name: str, typed: str) -> _Judged:
        text = clean_text(typed, name, LABELS[name], MAX_LENGTHS[name]).upper()
        if not _POSTAL_CODE.fullmatch(text):
            raise InvalidInput(
                name,
                f"Postal code: “{text}” has a character that is neither a letter from A to Z, a "
                "digit, a space nor a hyphen.",
            )
        return _Judged({name: text}, text)

    def judge_country(self, name: str, typed: str) -> _Judged:
        if not countries.is_country(typed):
            raise InvalidInput(name, f"Country: “{typed[:_SHOWN]}” is not in the list.")
        return _Judged({name: typed}, countries.country_name(typed))

    def judge_email(self, name: str, typed: str) -> _Judged:
        email = check_email(typed, name, LABELS[name])
        return _Judged({"contact_email": email, "contact_email_key": fold(email)}, email)

    def judge_language(self, name: str, typed: str) -> _Judged:
        if typed not in LANGUAGES:
            raise InvalidInput(name, f"Language: “{typed[:_SHOWN]}” is not in the list.")
        return _Judged({name: typed}, LANGUAGES[typed])

    def judge_time_zone(self, name: str, typed: str) -> _Judged:
        if not countries.is_time_zone(typed):
            raise InvalidInput(name, f"Time zone: “{typed[:_SHOWN]}” is not in the list.")
        return _Judged({name: typed}, countries.time_zone_name(typed))

    def _country(self) -> str:
        """Of numbers without a country code: the contact's, or the provider's."""
        typed = self.text(Tab.CONTACT, "country")
        return typed if countries.is_country(typed) else self._settings.provider_country

    def _is_proved(self, suffix: DomainName) -> bool:
        return is_proved(self._request, suffix)

    # --- Over several fields ---

    def check_login(self) -> None:
        """The final ID, the proof of its domain."""
        if self.suffix is None:
            return
        if self._settings.domain_proof and not self._is_proved(self.suffix):
            self._add_fault(
                Tab.TENANT,
                "upn_suffix",
                f"It is not proved yet that {self.suffix.unicode} is yours. Add the DNS record "
                "that is shown, then check it.",
            )
        if any(fault.field == "user_name" for fault in self.faults):
            return
        try:
            login = self._free_login(self.suffix)
        except InvalidInput as error:
            self._add_fault(Tab.TENANT, error.field, error.message)
            return
        self.values["admin_login"] = login
        self._add_line(Tab.TENANT, "Final ID", domain_names.shown_login(login))

    def find_login(self, verdicts: dict[str, Verdict]) -> str:
        """The final ID of what is typed, empty while it has faults; adds those to `verdicts`."""
        try:
            if self.suffix is None:
                self.judge_suffix("upn_suffix", self.text(Tab.TENANT, "upn_suffix"))
            if self.suffix is None:
                return ""
            tenant_rules.check_user_name(self.text(Tab.TENANT, "user_name"))
        except InvalidInput:
            return ""
        try:
            return self._free_login(self.suffix)
        except InvalidInput as error:
            if error.field in verdicts:
                verdicts[error.field] = Verdict(False, error.message)
            return ""

    def _free_login(self, suffix: DomainName) -> str:
        user_name = tenant_rules.check_user_name(self.text(Tab.TENANT, "user_name"))
        login = tenant_rules.check_login(user_name, suffix.ascii)
        taken = sa.select(User.id).where(User.login_key == fold(login))
        if db.session.scalar(taken) is not None:
            raise InvalidInput("user_name", f"The final ID {login} is taken. Choose another name.")
        return login

    def check_password(self) -> None:
        """The password that is set, once more if the login that it must differ from is new."""
        request = self._request
        if request.password_hash is None or request.password_seal is None:
            known: dict[str, str] = request.draft.get("password_fault") or {}
            self._add_fault(
                Tab.TENANT,
                known.get("field", "password"),
                known.get("message", "Password is missing."),
                is_missing=not known,
            )
            return
        try:
            password = request_passwords.open_password(request.password_seal)
        except request_passwords.SealBroken:
            self._add_fault(
                Tab.TENANT, "password", "The password cannot be read any more. Type it again."
            )
            return
        login = self.values.get("admin_login", "")
        if login == request.draft.get("password_login", ""):
            return
        fault = find_password_fault(password, password, login)
        if fault is not None:
            self._add_fault(Tab.TENANT, *fault)

    def check_new_password(self, password: str) -> None:
        """A password that is typed once, if it is."""
        fault = find_password_fault(password, password, self.values.get("admin_login", ""))
        if password and fault is not None:
            self._add_fault(Tab.TENANT, *fault)

    def suggest_short_name(self) -> str:
        """A short name that is free, while none is typed."""
        if self.text(Tab.TENANT, "short_name"):
            return ""
        base = tenant_rules.suggest_short_name(self.text(Tab.TENANT, "name"))
        longest = tenant_rules.SHORT_NAME_LENGTH[1]
        for number in range(1, _SUGGESTIONS if base else 1):
            ending = str(number) if number > 1 else ""
            suggested = base[: longest - len(ending)] + ending
            if find_holder("short_name_key", fold(suggested), self._request.id) is None:
                return suggested
        return ""

    def _check_free(self, name: str, column: str, key: str, what: str, advice: str) -> None:
        holder = find_holder(column, key, self._request.id)
        if holder is None:
            return
        if holder.is_of(self.author):
            raise InvalidInput(
                name, f"{what} is in your own request {holder.request_id} already. {advice}"
            )
        raise InvalidInput(name, f"{what} is taken. {advice}")


_JUDGES: Mapping[str, Callable[[_Checked, str, str], _Judged]] = {
    "name": _Checked.judge_name,
    "short_name": _Checked.judge_short_name,
    "upn_suffix": _Checked.judge_suffix,
    "user_name": _Checked.judge_user_name,
    "ani": _Checked.judge_ani,
    "company": _Checked.judge_text,
    "street": _Checked.judge_text,
    "postal_code": _Checked.judge_postal_code,
    "city": _Checked.judge_text,
    "region": _Checked.judge_text,
    "country": _Checked.judge_country,
    "contact_name": _Checked.judge_text,
    "contact_phone": _Checked.judge_phone,
    "contact_email": _Checked.judge_email,
    "language": _Checked.judge_language,
    "time_zone": _Checked.judge_time_zone,
}


# --- Who holds a word ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has a word: a request of a person or a credential, or a customer, which has none."""

    request_id: int | None = None
    created_by_id: int | None = None
    credential_id: int | None = None

    def is_of(self, actor: Actor) -> bool:
        """Whether it is a request that the actor made."""
        maker = (self.created_by_id, self.credential_id)
        return self.request_id is not None and maker == (actor.user_id, actor.credential_id)


def find_holder(column: str, key: str, request_id: int | None) -> Holder | None:
    """The customer, or the open request but `request_id`, that has `key` in `column`.

    A deleted customer's words are its own for as long as its row has them.
    """
    request = sa.select(
        SubscriptionRequest.id,
        SubscriptionRequest.created_by_id,
        SubscriptionRequest.credential_id,
    ).where(getattr(SubscriptionRequest, column) == key, HOLDS_NAMES)
    if request_id is not None:
        request = request.where(SubscriptionRequest.id != request_id)
    if (held := db.session.execute(request.limit(1)).one_or_none()) is not None:
        return Holder(held.id, held.created_by_id, held.credential_id)
    customer = sa.select(Customer.id).where(getattr(Customer, column) == key)
    return None if db.session.scalar(customer) is None else Holder()


def _own_domains(settings: Settings) -> Iterator[str]:
    for address in (settings.mail_default_sender, settings.support_email):
        yield address.rpartition("@")[2].lower()
    yield urlsplit(settings.public_url).hostname or ""


# --- Single texts --------------------------------------------------------------------------------


def clean_text(typed: str, name: str, label: str, limit: int) -> str:
    """A line of text of any script: composed, with single spaces. Raises InvalidInput."""
    if len(typed) <= 10 * limit:
        typed = unicodedata.normalize("NFC", " ".join(typed.split()))
    if len(typed) > limit:
        raise InvalidInput(name, f"{label} has {len(typed):,} characters. The limit is {limit}.")
    if any(_is_no_text(letter) for letter in typed):
        raise InvalidInput(name, f"{label} has a character that is none. Type it again.")
    if not any(letter.isalnum() for letter in typed):
        raise InvalidInput(name, f"{label} has neither a letter nor a digit.")
    return typed


def _is_no_text(letter: str) -> bool:
    """Controls, halves of pairs, and what turns the direction of the text around it."""
    return letter == "\ufffd" or (
        unicodedata.category(letter).startswith("C") and letter not in _JOINERS
    )


def check_email(typed: str, name: str, label: str) -> str:
    """An address by its form alone; no server is asked. Raises InvalidInput."""
    if len(typed) > _MAX_EMAIL:
        raise InvalidInput(
            name, f"{label} has {len(typed):,} characters. The limit is {_MAX_EMAIL}."
        )
    try:
        return validate_email(
            typed, check_deliverability=False, test_environment=not get_settings().is_production
        ).normalized
    except EmailNotValidError as error:
        raise InvalidInput(name, f"{label}: {error}") from None


def _both_ways(number: PhoneNumber) -> str:
    return f"{number.national}, from abroad {number.international}"
