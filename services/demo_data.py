"""Demonstration data: a provider with four customers that are believable and always the same."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, TypeVar

import sqlalchemy as sa

from extensions import db, get_settings
from models import (
    ApiCredential,
    ApiCredentialGroup,
    Audience,
    Base,
    Bundle,
    Customer,
    CustomerBundle,
    CustomerEmailTemplate,
    EmailTemplate,
    EmailTemplateText,
    EmailTemplateVersion,
    Group,
    OptionKind,
    PermissionProfile,
    Role,
    ServiceOption,
    ServiceTemplate,
    ServiceTemplateVersion,
    StartRule,
    Suppression,
    TemplateKind,
    User,
    UserStatus,
    Welcome,
    fold,
    table_of,
    utcnow,
)
from services import mail_texts, passwords
from services.bulk_rows import load_rows, rebuilt_indexes
from services.errors import Conflict, InvalidInput
from services.transactions import run_transaction

PASSWORD = "foyer-demo-1"  # noqa: S105
API_CREDENTIAL = ("demo-api", "foyer-demo-api-secret-0001")
MAX_USERS = 1_000_000
_MANY = 50_000

GROUPS = {1: "Direct", 2: "Northwind"}
BUNDLES = {
    "Entry3PhoneNextGenBundle": "Desk phone\nVoicemail",
    "Stand4PhoneNextGenBundle": "Desk phone\nMobile app\nVoicemail\nAudio conferencing",
    "Prem5PhoneNextGenBundle": (
        "Desk phone\nMobile app\nVoicemail\nVideo conferencing\nCall recording"
    ),
}
_ENTRY, _STANDARD, _PREMIUM = BUNDLES


@dataclass(frozen=True, slots=True)
class DemoCustomer:
    web_id: str
    name: str
    short_name: str
    upn_suffix: str
    custno: int
    groupno: int
    users: dict[str, int]
    """How many users have which bundle."""
    administrator: tuple[str, str]
    language: str = "en"


CUSTOMERS = (
    DemoCustomer(
        "CQ001",
        "KentonElectronics",
        "ke",
        "kenton-electronics.com",
        1001,
        1,
        {_ENTRY: 40, _STANDARD: 20},
        ("Petra", "Kenton"),
    ),
    DemoCustomer(
        "CQ002",
        "Harborlight",
        "hl",
        "harborlight.example",
        1002,
        1,
        {_ENTRY: 30},
        ("Hanne", "Lund"),
    ),
    DemoCustomer(
        "CQ003",
        "Ostrava",
        "os",
        "ostrava.example",
        1003,
        1,
        {_ENTRY: 20, _PREMIUM: 10},
        ("Otakar", "Svoboda"),
        "de",
    ),
    DemoCustomer(
        "CQ101", "Larkspur", "la", "larkspur.example", 2001, 2, {_STANDARD: 12}, ("Laura", "Park")
    ),
)
STAFF = {
    "landlord@foyer.example": (Role.LANDLORD, "Lena", "Hofmann"),
    "operator@foyer.example": (Role.OPERATOR, "Omar", "Nasser"),
    "auditor@foyer.example": (Role.AUDITOR, "Aude", "Marchand"),
}
TEMPLATES = {
    "welcome": ("Welcome", TemplateKind.WELCOME),
    "password-update": ("Password update", TemplateKind.GENERAL),
    "voicemail-update": ("Voicemail update", TemplateKind.GENERAL),
    "password-reset": ("Password reset", TemplateKind.PASSWORD_RESET),
}


@dataclass(frozen=True, slots=True)
class DemoServiceTemplate:
    name: str
    audience: Audience
    description: str
    groupno: int
    needs_approval: bool
    start_rule: StartRule
    bundles: tuple[str, ...]
    options: tuple[dict[str, Any], ...]


_LINES = {"label": "Telephone lines", "kind": OptionKind.COUNT}
SERVICE_TEMPLATES = (
    DemoServiceTemplate(
        "Starter",
        Audience.EVERYBODY,
        "Desk phones and voicemail for a small office. Ready a minute after you ask for it.",
        1,
        False,
        StartRule.IMMEDIATE,
        (_ENTRY,),
        (
            _LINES | {"name": "lines", "minimum": 1, "maximum": 20, "default": "5"},
            {
                "name": "voicemail_to_email",
                "label": "Voicemail by e-mail",
                "help": "New messages arrive as attachments, too.",
                "kind": OptionKind.YES_NO,
                "default": "yes",
            },
        ),
    ),
    DemoServiceTemplate(
        "Business",
        Audience.EVERYBODY,
        "Phones, mobile apps and conferencing. We check your request, then set it up at night.",
        1,
        True,
        StartRule.OFF_PEAK,
        (_ENTRY, _STANDARD),
        (
            _LINES | {"name": "lines", "minimum": 5, "maximum": 500, "default": "25"},
            {
                "name": "numbers",
                "label": "Telephone numbers",
                "kind": OptionKind.CHOICE,
                "choices": ["Keep ours", "New local numbers", "New national numbers"],
                "default": "Keep ours",
            },
            {
                "name": "recording",
                "label": "Call recording",
                "help": "Calls are kept for 90 days.",
                "kind": OptionKind.YES_NO,
                "default": "no",
            },
        ),
    ),
    DemoServiceTemplate(
        "Contact centre",
        Audience.INVITED,
        "Smart Queues with callbacks, recording and supervisors, planned together with you.",
        2,
        True,
        StartRule.AT_APPROVAL,
        (_STANDARD, _PREMIUM),
        (
            {
                "name": "agents",
                "label": "Agents at once",
                "kind": OptionKind.COUNT,
                "minimum": 5,
                "maximum": 2000,
                "default": "20",
            },
            {
                "name": "routing",
                "label": "Routing of calls",
                "kind": OptionKind.CHOICE,
                "choices": ["Longest idle", "Skills", "Round robin"],
                "default": "Longest idle",
            },
        ),
    ),
)
_ONLY_FIRST_CUSTOMER = {"password-update", "voicemail-update"}

_SETUP_INSTRUCTIONS = (
    "Install the collaboration app on your phone and your computer.\n"
    "Sign in with your login and the application password.\n"
    "Record your voicemail greeting."
)
_PARAMETERS = {"callback_folder_email": "callbacks@foyer.example", "time_zone": "Europe/Brussels"}

_FIRST_NAMES = (
    "Ada Amara Anouk Antoine Aroha Bastian Beatriz Björn Camille Carlos Chiara Daan Dilara Eero "
    "Elif Emeka Fatima Femke Finn Freya Gitte Hannah Hiro Ines Ismail Jana Joost Jürgen Kaia Kofi "
    "Lars Leila Lotte Luc Maeve Malik Marijke Mateo Mei Mila Nadia Niamh Noor Olek Oskar Paula "
    "Priya Quentin Rania Renée Ruben Sanne Søren Stella Tariq Thijs Uma Vera Wim Yara Zoë Łukasz"
).split()
_LAST_NAMES = (
    "Abbott Adeyemi Aydın Bakker Becker Bennett Bianchi Bjerke Carter Castillo Chen Claes Costa "
    "Dekker Dubois Eriksson Evans Farouk Fischer Fontaine García Gruber Haas Hughes Ibrahim Iyer "
    "Jansen Jensen Kaya Keller Kowalski Kruger Lambert Larsen Lefèvre Lindqvist Maas Marín Meyer "
    "Moreau Müller Murphy Nakamura Novák Nyström O'Brien Okafor Olsen Peeters Petrov Quinn Rossi "
    "Sato Schäfer Silva Smit Tanaka Thompson Türk Visser Wagner Wójcik Young Zeller"
).split()
_PLAIN = str.maketrans(
    {"ı": "i", "ğ": "g", "ş": "s", "ø": "o", "Ø": "o", "ł": "l", "Ł": "l", "ß": "ss", "'": ""}
)


def load_demo_data() -> list[tuple[str, str]]:
    """Create what is missing of the demonstration; returns (login, role) to sign in with.

    Running it again changes nothing. Raises Conflict when the settings say production.
    """
    if get_settings().is_production:
        raise Conflict("Demonstration data is refused in production: its passwords are public.")
    hashed = passwords.hash_chosen(PASSWORD)
    groups = {number: _group(number, name) for number, name in GROUPS.items()}
    bundles = {name: _bundle(name, services) for name, services in BUNDLES.items()}
    for login, (role, first, last) in STAFF.items():
        _person(login, role, first, last, hashed, email=login)
    templates = {slug: _template(slug, name, kind) for slug, (name, kind) in TEMPLATES.items()}
    for demo in CUSTOMERS:
        _customer(demo, groups[demo.groupno], bundles, templates, hashed)
    for position, service in enumerate(SERVICE_TEMPLATES):
        _service_template(position, service, groups[service.groupno], bundles, templates)
    _api_credential(groups[1])
    db.session.commit()
    return _sign_ins()


def _sign_ins() -> list[tuple[str, str]]:
    words = {Role.LANDLORD: "landlord administrator"}
    found = [(login, words.get(role, role.value)) for login, (role, _, _) in STAFF.items()]
    found += [(_admin_login(demo), "customer administrator") for demo in CUSTOMERS]
    for web_id, role in ((CUSTOMERS[1].web_id, Role.SUPERVISOR), ("CQ001", Role.USER)):
        login = db.session.scalar(
            sa.select(User.login)
            .join(Customer, Customer.id == User.customer_id)
            .where(Customer.web_id == web_id, User.role == role)
            .order_by(User.id)
            .limit(1)
        )
        found += [(login, role.value)] if login is not None else []
    return found


def _admin_login(demo: DemoCustomer) -> str:
    return f"prp{demo.short_name}Admin@{demo.upn_suffix}"


def _api_credential(group: Group) -> None:
    name, secret = API_CREDENTIAL
    if db.session.scalar(sa.select(ApiCredential.id).where(ApiCredential.name == name)) is None:
        credential = _added(
            ApiCredential(
                name=name,
                description="Demonstration: all scopes, group 1",
                may_read=True,
                may_write=True,
                may_send=True,
                secret_hash=passwords.hash_generated(secret),
            )
        )
        _added(ApiCredentialGroup(credential_id=credential.id, group_id=group.id))


def _group(number: int, name: str) -> Group:
    group = db.session.scalar(sa.select(Group).where(Group.groupno == number))
    return group or _added(Group(groupno=number, name=name))


def _bundle(name: str, services: str) -> Bundle:
    bundle = db.session.scalar(sa.select(Bundle).where(Bundle.name == name))
    return bundle or _added(Bundle(name=name, services=services))


def _template(slug: str, name: str, kind: TemplateKind) -> EmailTemplate:
    found = db.session.scalar(sa.select(EmailTemplate).where(EmailTemplate.name_key == fold(name)))
    if found is not None:
        return found
    template = _added(EmailTemplate(name=name, name_key=fold(name), kind=kind))
    version = _added(EmailTemplateVersion(template_id=template.id, number=1))
    for language, (subject, text, html) in mail_texts.load_default_template(slug).items():
        db.session.add(
            EmailTemplateText(
                version_id=version.id, language=language, subject=subject, text=text, html=html
            )
        )
    return template


def _service_template(
    position: int,
    demo: DemoServiceTemplate,
    group: Group,
    bundles: dict[str, Bundle],
    templates: dict[str, EmailTemplate],
) -> None:
    key = fold(demo.name)
    if db.session.scalar(sa.select(ServiceTemplate.id).where(ServiceTemplate.name_key == key)):
        return
    template = _added(
        ServiceTemplate(name=demo.name, name_key=key, audience=demo.audience, position=position)
    )
    version = _added(
        ServiceTemplateVersion(
            template_id=template.id,
            number=1,
            description=demo.description,
            group_id=group.id,
            needs_approval=demo.needs_approval,
            start_rule=demo.start_rule,
            application_url="https://collab.foyer.example",
            setup_instructions=_SETUP_INSTRUCTIONS,
            parameters=dict(_PARAMETERS),
            must_replace=["callback_folder_email"],
            bundles=[bundles[name] for name in demo.bundles],
            email_templates=[
                each for each in templates.values() if each.kind is not TemplateKind.PASSWORD_RESET
            ],
            options=[
                ServiceOption(position=number, **option)
                for number, option in enumerate(demo.options)
            ],
        )
    )
    template.published_version_id = version.id


def _person(
    login: str,
    role: Role,
    first: str,
    last: str,
    hashed: str,
    *,
    email: str,
    customer_id: int | None = None,
) -> None:
    if db.session.scalar(sa.select(User.id).where(User.login_key == fold(login))) is not None:
        return
    _added(
        User(
            login=login,
            login_key=fold(login),
            role=role,
            first_name=first,
            last_name=last,
            name_key=fold(f"{first} {last}"),
            surname_key=fold(last),
            email=email,
            email_key=fold(email),
            customer_id=customer_id,
            password_hash=hashed,
            all_groups=role in {Role.LANDLORD, Role.OPERATOR, Role.AUDITOR},
        )
    )


def _customer(
    demo: DemoCustomer,
    group: Group,
    bundles: dict[str, Bundle],
    templates: dict[str, EmailTemplate],
    hashed: str,
) -> None:
    if db.session.scalar(sa.select(Customer.id).where(Customer.web_id == demo.web_id)) is not None:
        return
    customer = _added(_new_customer(demo, group))
    for name in demo.users:
        db.session.add(CustomerBundle(customer_id=customer.id, bundle_id=bundles[name].id))
    for slug, template in templates.items():
        if template.kind is TemplateKind.PASSWORD_RESET:
            continue
        if slug not in _ONLY_FIRST_CUSTOMER or demo is CUSTOMERS[0]:
            db.session.add(CustomerEmailTemplate(customer_id=customer.id, template_id=template.id))
    db.session.flush()
    login = _admin_login(demo)
    _person(
        login,
        Role.CUSTOMER_ADMIN,
        *demo.administrator,
        hashed,
        email=f"admin@{demo.upn_suffix}",
        customer_id=customer.id,
    )
    bundle_of = [bundles[name].id for name, count in demo.users.items() for _ in range(count)]
    rows = _user_rows(demo.upn_suffix, customer.id, bundle_of, hashed)
    load_rows(db.session.connection(), table_of(User), _USER_COLUMNS, rows)
    if demo is CUSTOMERS[0]:
        _make_exceptions(customer)
    if demo is CUSTOMERS[1]:
        _make_supervisor(customer)


def _make_exceptions(customer: Customer) -> None:
    """One user without an address, one suspended, one whose address is suppressed."""
    users = db.session.scalars(
        sa.select(User)
        .where(User.customer_id == customer.id, User.role == Role.USER)
        .order_by(User.id)
        .limit(15)
    ).all()
    users[4].email = users[4].email_key = ""
    users[9].status = UserStatus.SUSPENDED
    key = users[14].email_key
    if db.session.scalar(sa.select(Suppression.id).where(Suppression.email_key == key)) is None:
        db.session.add(Suppression(email_key=key, reason="The mailbox does not exist."))


def _make_supervisor(customer: Customer) -> None:
    """The last of the users looks after the others, with a profile of what a front desk does."""
    name = "Front desk"
    profile = _added(
        PermissionProfile(
            customer_id=customer.id,
            name=name,
            name_key=fold(name),
            permissions=[
                "users.read",
                "users.edit",
                "users.suspend",
                "mailings.read",
                "mailings.send",
            ],
        )
    )
    user = db.session.scalars(
        sa.select(User).where(User.customer_id == customer.id).order_by(User.id.desc()).limit(1)
    ).one()
    user.role, user.profile_id = Role.SUPERVISOR, profile.id


def _new_customer(demo: DemoCustomer, group: Group) -> Customer:
    return Customer(
        group_id=group.id,
        custno=demo.custno,
        web_id=demo.web_id,
        name=demo.name,
        name_key=fold(demo.name),
        short_name=demo.short_name,
        short_name_key=fold(demo.short_name),
        upn_suffix=demo.upn_suffix,
        language=demo.language,
        contact_email=f"admin@{demo.upn_suffix}",
        application_url=f"https://collab.{demo.upn_suffix}",
        setup_instructions=_SETUP_INSTRUCTIONS,
    )


_USER_COLUMNS = (
    "customer_id",
    "bundle_id",
    "role",
    "login",
    "login_key",
    "first_name",
    "last_name",
    "name_key",
    "surname_key",
    "email",
    "email_key",
    "extension",
    "language",
    "password_hash",
    "created_at",
)


def _user_rows(
    suffix: str, customer_id: int, bundle_ids: Iterable[int], hashed: str | None
) -> Iterator[tuple[Any, ...]]:
    """Rows of _USER_COLUMNS, one per bundle: names in an order that depends on the suffix."""
    shuffled = random.Random(suffix)  # noqa: S311
    firsts = [(name, fold(name), _plain(name)) for name in _shuffled(shuffled, _FIRST_NAMES)]
    lasts = [(name, fold(name), _plain(name)) for name in _shuffled(shuffled, _LAST_NAMES)]
    languages = ("en", "en", "en", "de", "fr", "nl")
    rounds = len(firsts) * len(lasts)
    now = utcnow()
    for number, bundle_id in enumerate(bundle_ids):
        first, first_key, first_plain = firsts[number % len(firsts)]
        last, last_key, last_plain = lasts[(number + number // len(firsts)) % len(lasts)]
        again = str(number // rounds + 1) if number >= rounds else ""
        login = f"{first_plain}.{last_plain}{again}@{suffix}"
        yield (
            customer_id,
            bundle_id,
            Role.USER,
            login,
            login,
            first,
            last,
            f"{first_key} {last_key}",
            last_key,
            login,
            login,
            str(2001 + number),
            languages[number % len(languages)],
            hashed,
            now,
        )


def _shuffled(order: random.Random, names: list[str]) -> list[str]:
    return order.sample(names, len(names))


def _plain(name: str) -> str:
    decomposed = unicodedata.normalize("NFKD", name.lower().translate(_PLAIN))
    return "".join(letter for letter in decomposed if letter.isascii() and letter.isalnum())


def add_bulk_customer(web_id: str, users: int) -> Customer:
    """Add a customer of group 1 with `users` users, bundles Entry and Standard in turn.

    Raises InvalidInput for the number or a web ID that is taken, Conflict in production.
    """
    if get_settings().is_production:
        raise Conflict("Demonstration data is refused in production.")
    if not 0 <= users <= MAX_USERS:
        raise InvalidInput("users", f"{users:,} users were asked for. The limit is {MAX_USERS:,}.")
    web_id = web_id.strip().upper()
    if not (1 <= len(web_id) <= 16 and web_id.isascii() and web_id.isalnum()):
        raise InvalidInput("customer", f"{web_id!r} is not 1 to 16 letters and digits.")
    if db.session.scalar(sa.select(Customer.id).where(Customer.web_id == web_id)) is not None:
        raise InvalidInput("customer", f"There is a customer {web_id} already.")
    load_demo_data()
    demo = DemoCustomer(
        web_id,
        f"Demo {web_id}".replace(" ", ""),
        f"d{web_id.lower()}"[:16],
        f"{web_id.lower()}.example",
        (db.session.scalar(sa.select(sa.func.max(Customer.custno))) or 0) + 1,
        1,
        {_ENTRY: 0, _STANDARD: 0},
        ("Dana", "Moss"),
    )
    groups = {group.groupno: group for group in db.session.scalars(sa.select(Group))}
    bundles = {bundle.name: bundle for bundle in db.session.scalars(sa.select(Bundle))}
    templates = {
        "welcome": db.session.scalars(
            sa.select(EmailTemplate).where(EmailTemplate.kind == TemplateKind.WELCOME)
        ).one()
    }
    _customer(demo, groups[1], bundles, templates, passwords.hash_chosen(PASSWORD))
    db.session.commit()
    customer = db.session.scalars(sa.select(Customer).where(Customer.web_id == web_id)).one()
    _insert_users(customer, [bundles[_ENTRY].id, bundles[_STANDARD].id], users)
    return customer


def _insert_users(customer: Customer, bundle_ids: list[int], users: int) -> None:
    """All in one transaction, so that an interrupted run leaves a customer without users."""

    def work(connection: sa.Connection) -> None:
        chosen = islice(cycle(bundle_ids), users)
        rows = _user_rows(customer.upn_suffix, customer.id, chosen, None)
        with ExitStack() as stack:
            for table in (table_of(User), table_of(Welcome)) if users > _MANY else ():
                stack.enter_context(rebuilt_indexes(connection, table))
            load_rows(connection, table_of(User), _USER_COLUMNS, rows)

    run_transaction(work)


Row = TypeVar("Row", bound=Base)


def _added(row: Row) -> Row:
    db.session.add(row)
    db.session.flush()
    return row
