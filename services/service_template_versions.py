"""Editing service templates: every save is a version, and one of them is published.

A version never changes, so that a request keeps what it was made with. The name, the audience and
the place in the list belong to the template itself. Who saves says which version he saw.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import aliased, contains_eager, joinedload, selectinload

from connectors import list_connectors
from extensions import db
from models import (
    Audience,
    Bundle,
    EmailTemplate,
    Group,
    OptionKind,
    ServiceOption,
    ServiceTemplate,
    ServiceTemplateVersion,
    StartRule,
    TemplateKind,
    fold,
    is_storable,
    table_of,
    utcnow,
)
from services.actors import Actor, Permission, groups_of
from services.audit_events import record_event
from services.bulk_rows import update_rows
from services.errors import Conflict, InvalidInput, InvalidInputs, NotFound, ServiceError, Stale
from services.general_parameters import LARGEST_NUMBER
from services.paging import Page, keyset_page, parse_id_key
from services.parameter_rules import PARAMETERS, read_value, shown_text, text_of, title_of
from services.setup_instructions import Way, check_text
from services.transactions import run_session_transaction

LONGEST_NAME = 64
LONGEST_DESCRIPTION = 1000
LONGEST_URL = 500
MOST_OPTIONS = 20
MOST_CHOICES = 30
_LONGEST_LABEL = 64
_LONGEST_HELP = 255
_LONGEST_OPTION_NAME = 32
_LARGEST_COUNT = 1_000_000
_OPTION_NAME = re.compile(r"[a-z][a-z0-9_]*")
_SHOWN = 40

AUDIENCE_WORDS = {
    Audience.EVERYBODY: "Everybody",
    Audience.INVITED: "By invitation",
    Audience.STAFF: "Staff only",
}
START_WORDS = {
    StartRule.IMMEDIATE: "At once",
    StartRule.OFF_PEAK: "During off-peak hours",
    StartRule.AT_APPROVAL: "When the approver says",
}
KIND_WORDS = {
    OptionKind.CHOICE: "One of several choices",
    OptionKind.COUNT: "A number",
    OptionKind.YES_NO: "Yes or no",
}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TypedOption:
    """A service option as it is typed; `choices` has one in each line."""

    label: str = ""
    name: str = ""
    help: str = ""
    kind: str = OptionKind.CHOICE
    choices: str = ""
    minimum: str = ""
    maximum: str = ""
    default: str = ""


@dataclass(frozen=True, slots=True)
class TypedTemplate:
    """A service template as it is typed.

    `parameters` are texts by name, `must_replace` names. Faults name the fields `name`,
    `description`, …, `parameter_<name>`, and `option_<place>_<part>`, counted from 0.
    """

    name: str
    description: str
    group_id: int
    needs_approval: bool
    start_rule: str
    connector: str
    application_url: str
    setup_instructions: str
    bundles: Sequence[int]
    email_templates: Sequence[int]
    parameters: Mapping[str, str]
    must_replace: Collection[str]
    options: Sequence[TypedOption]


@dataclass(frozen=True, slots=True)
class Listed:
    """A line of the list: a template with its newest version."""

    template: ServiceTemplate
    newest: ServiceTemplateVersion


@dataclass(frozen=True, slots=True)
class Offered:
    """What a template can be made of."""

    groups: list[Group]
    bundles: list[Bundle]
    email_templates: list[EmailTemplate]
    connectors: list[str]


# --- Reading -------------------------------------------------------------------------------------


def _is_newest() -> sa.ColumnElement[bool]:
    other = aliased(ServiceTemplateVersion)
    newest = sa.select(sa.func.max(other.number)).where(other.template_id == ServiceTemplate.id)
    return sa.and_(
        ServiceTemplateVersion.template_id == ServiceTemplate.id,
        ServiceTemplateVersion.number == newest.scalar_subquery(),
    )


def _in_scope(actor: Actor) -> sa.ColumnElement[bool]:
    """Who works for some groups sees the templates whose newest version is for one of them."""
    actor.require(Permission.CUSTOMERS_READ)
    actor.require(Permission.TEMPLATES_READ)
    if actor.all_groups:
        return sa.true()
    return ServiceTemplateVersion.group_id.in_(groups_of(actor))


def list_templates(
    actor: Actor, *, archived: bool = False, size: int = 25, cursor: str = ""
) -> Page[Listed]:
    """A page of the templates in the order in which they are offered. Raises Forbidden."""
    is_archived = ServiceTemplate.archived_at.is_not(None)
    query = (
        sa.select(ServiceTemplateVersion)
        .join(ServiceTemplate, _is_newest())
        .where(_in_scope(actor), is_archived if archived else ~is_archived)
        .options(
            contains_eager(ServiceTemplateVersion.template).joinedload(
                ServiceTemplate.published_version
            ),
            joinedload(ServiceTemplateVersion.group),
            selectinload(ServiceTemplateVersion.bundles),
        )
    )
    return keyset_page(
        lambda statement: [
            Listed(version.template, version) for version in db.session.scalars(statement)
        ],
        query,
        key=ServiceTemplate.position.expression,
        row_id=ServiceTemplate.id.expression,
        key_of=lambda listed: (str(listed.template.position), listed.template.id),
        parse_key=parse_id_key,
        size=size,
        cursor=cursor,
    )


def get_template(actor: Actor, template_id: int) -> Listed:
    """A template with its newest version. Raises Forbidden, and NotFound outside the scope."""
    found = db.session.execute(
        sa.select(ServiceTemplate, ServiceTemplateVersion)
        .join(ServiceTemplateVersion, _is_newest())
        .where(ServiceTemplate.id == template_id, _in_scope(actor))
        .options(*_loaded())
    ).one_or_none()
    if found is None:
        raise NotFound("There is no such service template, or it is not yours to see.")
    return Listed(*found)


def _loaded() -> list[Any]:
    version = ServiceTemplateVersion
    return [
        joinedload(version.group),
        joinedload(version.created_by),
        joinedload(version.template),
        selectinload(version.options),
        selectinload(version.bundles),
        selectinload(version.email_templates),
    ]


def list_versions(
    template: ServiceTemplate, *, size: int = 25, cursor: str = ""
) -> Page[ServiceTemplateVersion]:
    """A page of a template's versions, newest first, with who saved them.

    The caller has found the template in the actor's scope.
    """
    number = ServiceTemplateVersion.number.expression
    return keyset_page(
        lambda query: db.session.scalars(query).all(),
        sa.select(ServiceTemplateVersion)
        .where(ServiceTemplateVersion.template_id == template.id)
        .options(joinedload(ServiceTemplateVersion.created_by)),
        key=number,
        row_id=number,
        key_of=lambda row: (str(row.number), row.number),
        parse_key=parse_id_key,
        descending=True,
        size=size,
        cursor=cursor,
    )


def get_version(template: ServiceTemplate, number: int) -> ServiceTemplateVersion:
    """The version `number` of a template that the caller has found. Raises NotFound."""
    found = None
    if 0 < number <= LARGEST_NUMBER:
        found = db.session.scalar(
            sa.select(ServiceTemplateVersion)
            .where(
                ServiceTemplateVersion.template_id == template.id,
                ServiceTemplateVersion.number == number,
            )
            .options(*_loaded())
        )
    if found is None:
        raise NotFound(f"{template.name} has no version {number}.")
    return found


def list_offered_parts(version: ServiceTemplateVersion | None = None) -> Offered:
    """What a template may be made of, and what `version` is made of although it is archived."""
    kept_bundles = [each.id for each in version.bundles] if version else []
    kept_templates = [each.id for each in version.email_templates] if version else []
    bundles = sa.or_(Bundle.archived_at.is_(None), Bundle.id.in_(kept_bundles))
    templates = sa.or_(EmailTemplate.archived_at.is_(None), EmailTemplate.id.in_(kept_templates))
    return Offered(
        list(db.session.scalars(sa.select(Group).order_by(Group.groupno))),
        list(db.session.scalars(sa.select(Bundle).where(bundles).order_by(Bundle.name))),
        list(
            db.session.scalars(
                sa.select(EmailTemplate)
                .where(templates, EmailTemplate.kind != TemplateKind.PASSWORD_RESET)
                .order_by(EmailTemplate.kind != TemplateKind.WELCOME, EmailTemplate.name_key)
            )
        ),
        list_connectors(),
    )


def find_obstacles(version: ServiceTemplateVersion) -> list[str]:
    """Why a version cannot be published: a sentence for each thing that a tenant would lack."""
    obstacles = []
    if not any(each.archived_at is None for each in version.bundles):
        obstacles.append(
            "It has no bundle that is in use, so that users of a new tenant could be given "
            "nothing. Choose one."
        )
    if not any(
        each.kind is TemplateKind.WELCOME and each.archived_at is None
        for each in version.email_templates
    ):
        obstacles.append(
            "It has no welcome mail, so that users of a new tenant would never get their "
            "passwords. Choose an e-mail template of the kind Welcome."
        )
    if version.connector not in list_connectors():
        obstacles.append(
            f"The application platform “{version.connector}” is not installed here. Choose another."
        )
    return obstacles


def describe(version: ServiceTemplateVersion) -> dict[str, str]:
    """What a version says, as titles and texts in the order of the page; empty where nothing."""
    said = {
        "Description": version.description,
        "Group": f"{version.group.groupno}, {version.group.name}",
        "Approval": "Needed" if version.needs_approval else "Not needed",
        "Start": START_WORDS[version.start_rule],
        "Application platform": version.connector,
        "Application address": version.application_url,
        "Setup instructions": version.setup_instructions,
        "Bundles": ", ".join(each.name for each in version.bundles),
        "E-mail templates": ", ".join(each.name for each in version.email_templates),
    }
    for option in version.options:
        said[f"Option {option.name}"] = _describe_option(option)
    for name, parameter in PARAMETERS.items():
        shown = shown_text(parameter, version.parameters.get(name, parameter.default))
        must = " (must be replaced)" if name in version.must_replace else ""
        said[title_of(parameter)] = f"{shown}{must}"
    return said


def _describe_option(option: ServiceOption) -> str:
    match option.kind:
        case OptionKind.CHOICE:
            rule = f"one of {', '.join(option.choices)}"
        case OptionKind.COUNT:
            rule = f"{option.minimum:,} to {option.maximum:,}"
        case OptionKind.YES_NO:
            rule = "yes or no"
    text = f"{option.position + 1}. {option.label}: {rule}; {option.default} by default."
    return f"{text} {option.help}".strip()


def differences(
    before: ServiceTemplateVersion, after: ServiceTemplateVersion
) -> list[tuple[str, str, str]]:
    """Title, text before and text after of what differs between two versions."""
    old, new = describe(before), describe(after)
    titles = dict.fromkeys([*new, *old])
    return [
        (title, old.get(title, ""), new.get(title, ""))
        for title in titles
        if old.get(title, "") != new.get(title, "")
    ]


def typed_from(version: ServiceTemplateVersion) -> TypedTemplate:
    """A version as it would be typed."""
    return TypedTemplate(
        name=version.template.name,
        description=version.description,
        group_id=version.group_id,
        needs_approval=version.needs_approval,
        start_rule=version.start_rule,
        connector=version.connector,
        application_url=version.application_url,
        setup_instructions=version.setup_instructions,
        bundles=[each.id for each in version.bundles],
        email_templates=[each.id for each in version.email_templates],
        parameters={
            name: text_of(parameter, version.parameters.get(name, parameter.default))
            for name, parameter in PARAMETERS.items()
        },
        must_replace=list(version.must_replace),
        options=[
            TypedOption(
                label=option.label,
                name=option.name,
                help=option.help,
                kind=option.kind,
                choices="\n".join(option.choices),
                minimum="" if option.minimum is None else str(option.minimum),
                maximum="" if option.maximum is None else str(option.maximum),
                default=option.default,
            )
            for option in version.options
        ],
    )


# --- What was typed ------------------------------------------------------------------------------


class _Faults:
    """Collects what is wrong, so that all of it is told at once."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []

    def add(self, field: str, message: str) -> None:
        self.found.append((field, message))

    def text(self, field: str, label: str, typed: str, longest: int, *, lines: bool = False) -> str:
        """The text without blanks around it, if it is one that can be kept."""
        text = typed.strip()
        if len(text) > longest:
            self.add(field, f"{label} has {len(text):,} characters. The limit is {longest:,}.")
        elif not is_storable(text) or not all(
            letter.isprintable() or (lines and letter in "\r\n\t") for letter in text
        ):
            self.add(field, f"{label} contains a character that cannot be seen. Type it by hand.")
        else:
            return text.replace("\r\n", "\n")
        return ""


def _check(typed: TypedTemplate) -> tuple[str, dict[str, Any], list[dict[str, Any]]]:
    """The name, the columns of the version, and those of its options. Raises InvalidInputs."""
    faults = _Faults()
    name = faults.text("name", "The name", typed.name, LONGEST_NAME)
    if not name and not faults.found:
        faults.add("name", "The name is missing. Registrants choose by it.")
    elif len(fold(name)) > LONGEST_NAME:
        faults.add("name", f"The name is longer than {LONGEST_NAME} characters in lower case.")
    values: dict[str, Any] = {
        "description": faults.text(
            "description", "The description", typed.description, LONGEST_DESCRIPTION, lines=True
        ),
        "needs_approval": typed.needs_approval,
        "application_url": _check_url(faults, typed.application_url),
    }
    if db.session.get(Group, typed.group_id) is None:
        faults.add("group", "No group is chosen. New tenants belong to one.")
    values["group_id"] = typed.group_id
    values["start_rule"] = _check_start(faults, typed)
    values["connector"] = typed.connector
    if typed.connector not in list_connectors():
        faults.add("connector", "The application platform is none of those that are installed.")
    try:
        values["setup_instructions"] = check_text(typed.setup_instructions, "setup_instructions")
    except InvalidInput as error:
        faults.add(error.field, error.message)
    values["parameters"] = _check_parameters(faults, typed.parameters)
    values["must_replace"] = [name for name in PARAMETERS if name in typed.must_replace]
    values["bundles"] = _check_rows(faults, "bundles", Bundle, typed.bundles)
    values["email_templates"] = _check_rows(
        faults, "email_templates", EmailTemplate, typed.email_templates
    )
    options = _check_options(faults, typed.options)
    if faults.found:
        raise InvalidInputs(faults.found)
    return name, values, options


def _check_url(faults: _Faults, typed: str) -> str:
    url = faults.text("application_url", "The application address", typed, LONGEST_URL)
    if not url:
        return ""
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in {"http", "https"} and bool(parts.hostname) and " " not in url
    except ValueError:
        is_address = False
    if not is_address:
        faults.add(
            "application_url",
            "The application address is no web address. Write it like https://collab.example.com.",
        )
    return url


def _check_start(faults: _Faults, typed: TypedTemplate) -> StartRule:
    try:
        rule = StartRule(typed.start_rule)
    except ValueError:
        faults.add("start_rule", "Choose when tenants of this template are set up.")
        return StartRule.IMMEDIATE
    if rule is StartRule.AT_APPROVAL and not typed.needs_approval:
        faults.add(
            "start_rule",
            "Nobody approves requests for this template, so that nobody can say when it is set up. "
            "Ask for approval, or choose another start.",
        )
    return rule


def _check_parameters(faults: _Faults, typed: Mapping[str, str]) -> dict[str, Any]:
    values = {}
    for name, parameter in PARAMETERS.items():
        try:
            values[name] = read_value(parameter, typed.get(name, ""))
        except InvalidInput as error:
            faults.add(f"parameter_{name}", error.message)
    return values


def _check_rows(faults: _Faults, field: str, model: type[Any], ids: Sequence[int]) -> list[Any]:
    """The rows of ids, in no order that matters."""
    wanted = set(ids)
    found = list(db.session.scalars(sa.select(model).where(model.id.in_(wanted)))) if wanted else []
    if len(found) != len(wanted):
        faults.add(field, "One of those chosen is no longer there. Look through them again.")
    return found


def _check_options(faults: _Faults, typed: Sequence[TypedOption]) -> list[dict[str, Any]]:
    if len(typed) > MOST_OPTIONS:
        faults.add("options", f"{MOST_OPTIONS} options are the most.")
        return []
    options: list[dict[str, Any]] = []
    taken: dict[str, int] = {}
    for place, option in enumerate(typed):
        checked = _check_option(faults, f"option_{place}_", place, option)
        if (name := checked["name"]) in taken:
            faults.add(
                f"option_{place}_name",
                f"Option {taken[name] + 1} is called “{name}”, too. Each needs a name of its own.",
            )
        elif name:
            taken[name] = place
        options.append(checked)
    return options


def _check_option(faults: _Faults, prefix: str, place: int, option: TypedOption) -> dict[str, Any]:
    this = f"Option {place + 1}"
    before = len(faults.found)
    label = faults.text(f"{prefix}label", f"{this}: the label", option.label, _LONGEST_LABEL)
    if not label and len(faults.found) == before:
        faults.add(f"{prefix}label", f"{this} has no label. Say what the registrant chooses.")
    name = option.name.strip() or _name_from(label)
    if (name or label) and (not _OPTION_NAME.fullmatch(name) or len(name) > _LONGEST_OPTION_NAME):
        faults.add(
            f"{prefix}name",
            f"{this}: “{name[:_SHOWN]}” cannot be its name. Write up to {_LONGEST_OPTION_NAME} "
            "small letters, digits and underscores, a letter first.",
        )
    values: dict[str, Any] = {
        "position": place,
        "name": name[:_LONGEST_OPTION_NAME],
        "label": label,
        "help": faults.text(f"{prefix}help", f"{this}: the help", option.help, _LONGEST_HELP),
        "choices": [],
        "minimum": None,
        "maximum": None,
        "default": option.default.strip(),
    }
    try:
        values["kind"] = OptionKind(option.kind)
    except ValueError:
        faults.add(f"{prefix}kind", f"{this}: choose what kind it is.")
        return values
    match values["kind"]:
        case OptionKind.CHOICE:
            _check_choices(faults, prefix, this, option, values)
        case OptionKind.COUNT:
            _check_count(faults, prefix, this, option, values)
        case OptionKind.YES_NO:
            values["default"] = values["default"].casefold() or "no"
            if values["default"] not in {"yes", "no"}:
                faults.add(f"{prefix}default", f"{this}: the default is yes or no.")
    return values


def _name_from(label: str) -> str:
    """A name for a label: “Telephone lines” is `telephone_lines`."""
    word = re.sub(r"[^a-z0-9]+", "_", fold(label)).strip("_")
    return word[:_LONGEST_OPTION_NAME].strip("_")


def _check_choices(
    faults: _Faults, prefix: str, this: str, option: TypedOption, values: dict[str, Any]
) -> None:
    choices = [" ".join(line.split()) for line in option.choices.splitlines() if line.strip()]
    field = f"{prefix}choices"
    if len(choices) < 2:
        faults.add(field, f"{this} has fewer than two choices. Write one in each line.")
    elif len(choices) > MOST_CHOICES:
        faults.add(field, f"{this} has {len(choices)} choices. {MOST_CHOICES} is the most.")
    elif len(set(choices)) < len(choices):
        faults.add(field, f"{this} has a choice twice.")
    else:
        for choice in choices:
            faults.text(field, f"{this}: “{choice[:_SHOWN]}”", choice, _LONGEST_LABEL)
    values["choices"] = choices
    values["default"] = " ".join(values["default"].split()) or (choices[0] if choices else "")
    if choices and values["default"] not in choices:
        faults.add(f"{prefix}default", f"{this}: the default is none of the choices.")


def _check_count(
    faults: _Faults, prefix: str, this: str, option: TypedOption, values: dict[str, Any]
) -> None:
    lowest = _read_count(faults, f"{prefix}minimum", f"{this}: the lowest number", option.minimum)
    highest = _read_count(faults, f"{prefix}maximum", f"{this}: the highest number", option.maximum)
    if lowest is None or highest is None:
        return
    if highest < lowest:
        faults.add(f"{prefix}maximum", f"{this}: {highest:,} is less than {lowest:,}.")
        return
    typed = values["default"] or str(lowest)
    default = _read_count(faults, f"{prefix}default", f"{this}: the default", typed)
    if default is not None and not lowest <= default <= highest:
        faults.add(
            f"{prefix}default",
            f"{this}: the default {default:,} is not from {lowest:,} to {highest:,}.",
        )
    values |= {"minimum": lowest, "maximum": highest, "default": str(default)}


def _read_count(faults: _Faults, field: str, label: str, typed: str) -> int | None:
    text = typed.strip()
    if text.isascii() and text.isdecimal() and len(text) < 10 and int(text) <= _LARGEST_COUNT:
        return int(text)
    faults.add(
        field, f"{label} is a whole number from 0 to {_LARGEST_COUNT:,}. Write it in digits."
    )
    return None


# --- Changing ------------------------------------------------------------------------------------


def create_template(actor: Actor, typed: TypedTemplate) -> ServiceTemplate:
    """A new template with its first version, the last in the list and not published.

    Raises Forbidden, and InvalidInputs with every fault.
    """
    actor.require(Permission.SERVICE_TEMPLATES_EDIT)

    def create() -> ServiceTemplate:
        name, values, options = _check(typed)
        last = sa.select(sa.func.coalesce(sa.func.max(ServiceTemplate.position), 0) + 1)
        template = ServiceTemplate(
            name=name,
            name_key=fold(name),
            audience=Audience.STAFF,
            position=last.scalar_subquery(),
        )
        db.session.add(template)
        _flush_name(name)
        version = _add_version(actor, template, 1, values, options)
        _record(actor, template, "created", {"after": {"Name": name, **_told(describe(version))}})
        return template

    return _write(create)


def save_template(
    actor: Actor, template: ServiceTemplate, typed: TypedTemplate, *, seen: int
) -> ServiceTemplateVersion | None:
    """Make what was typed the newest version; None where only the name, or nothing, changed.

    `seen` is the number of the version that the actor has seen. Raises Forbidden, InvalidInputs,
    Stale when there is a newer one, and Conflict for an archived template.
    """
    actor.require(Permission.SERVICE_TEMPLATES_EDIT)
    template_id = template.id

    def save() -> ServiceTemplateVersion | None:
        held = _hold(template_id)
        newest = _newest_of(held)
        if newest.number != seen:
            raise Stale(
                f"Version {newest.number} was saved in the meantime, so nothing of yours was. "
                "Compare it with what you typed, and save again."
            )
        name, values, options = _check(typed)
        if name != held.name:
            _record(
                actor, held, "renamed", {"before": {"Name": held.name}, "after": {"Name": name}}
            )
            held.name, held.name_key = name, fold(name)
            _flush_name(name)
        if _is_same(newest, values, options):
            return None
        version = _add_version(actor, held, newest.number + 1, values, options)
        _record_version(actor, held, "saved", newest, version)
        return version

    return _write(save)


def restore_version(
    actor: Actor, template: ServiceTemplate, number: int, *, seen: int
) -> ServiceTemplateVersion:
    """Make version `number` the newest once more, as a new one, which is not published by that.

    Raises Forbidden, NotFound, Stale when there is a newer version than `seen`, and Conflict where
    it says what the newest says, or the template is archived.
    """
    actor.require(Permission.SERVICE_TEMPLATES_EDIT)
    template_id = template.id

    def restore() -> ServiceTemplateVersion:
        held = _hold(template_id)
        newest, wanted = _newest_of(held), get_version(held, number)
        if newest.number != seen:
            raise Stale(
                f"Version {newest.number} was saved in the meantime, so nothing was restored. "
                "Compare with it, and restore again if you still want to."
            )
        if not differences(newest, wanted):
            raise Conflict(f"Version {newest.number} says what version {number} says.")
        values = {name: getattr(wanted, name) for name in _COLUMNS}
        values |= {
            "bundles": list(wanted.bundles),
            "email_templates": list(wanted.email_templates),
            "restored_from": number,
        }
        options = [
            {name: getattr(each, name) for name in _OPTION_COLUMNS} for each in wanted.options
        ]
        version = _add_version(actor, held, newest.number + 1, values, options)
        _record_version(actor, held, "restored", newest, version)
        return version

    return _write(restore)


def publish_version(
    actor: Actor, template: ServiceTemplate, number: int, audience: Audience
) -> None:
    """Offer version `number` to an audience, instead of what is published before.

    Raises Forbidden, NotFound, Conflict for an archived template, and InvalidInput with what the
    version lacks.
    """
    actor.require(Permission.SERVICE_TEMPLATES_EDIT)
    template_id = template.id

    def publish() -> None:
        held = _hold(template_id)
        version = get_version(held, number)
        if obstacles := find_obstacles(version):
            raise InvalidInput("publish", " ".join(obstacles))
        before = _publication(held)
        held.published_version_id, held.audience = version.id, audience
        db.session.flush()
        db.session.refresh(held)
        if before != (after := _publication(held)):
            _record(actor, held, "published", {"before": before, "after": after})

    _write(publish)


def unpublish(actor: Actor, template: ServiceTemplate) -> None:
    """Offer the template no more. Requests that were made with it stay. Raises Forbidden."""
    actor.require(Permission.SERVICE_TEMPLATES_EDIT)
    template_id = template.id

    def take_back() -> None:
        held = _hold(template_id, archived=None)
        if held.published_version_id is None:
            return
        before = _publication(held)
        held.published_version_id = None
        _record(actor, held, "unpublished", {"before": before, "after": {}})

    _write(take_back)


def archive_template(actor: Actor, template: ServiceTemplate) -> None:
    """Take the template out of the list, and back what is published. Raises Forbidden."""
    actor.require(Permission.SERVICE_TEMPLATES_EDIT)
    template_id = template.id

    def archive() -> None:
        held = _hold(template_id, archived=None)
        if held.archived_at is not None:
            return
        before = _publication(held)
        held.published_version_id, held.archived_at = None, utcnow()
        _record(actor, held, "archived", {"before": before, "after": {}})

    _write(archive)


def unarchive_template(actor: Actor, template: ServiceTemplate) -> None:
    """Put the template back into the list; it is not published by that. Raises Forbidden."""
    actor.require(Permission.SERVICE_TEMPLATES_EDIT)
    template_id = template.id

    def bring_back() -> None:
        held = _hold(template_id, archived=None)
        if held.archived_at is None:
            return
        held.archived_at = None
        _record(actor, held, "unarchived", {})

    _write(bring_back)


def move_template(actor: Actor, template: ServiceTemplate, way: Way) -> None:
    """Change places with the next template above or below; at the end of the list it stays.

    Raises Forbidden, and Conflict for an archived template.
    """
    actor.require(Permission.SERVICE_TEMPLATES_EDIT)
    template_id = template.id

    def move() -> None:
        held = _hold(template_id)
        own = sa.tuple_(ServiceTemplate.position, ServiceTemplate.id)
        place = sa.tuple_(sa.literal(held.position), sa.literal(held.id))
        up = way is Way.UP
        keys = (ServiceTemplate.position, ServiceTemplate.id)
        other = db.session.scalar(
            sa.select(ServiceTemplate)
            .where(own < place if up else own > place, ServiceTemplate.archived_at.is_(None))
            .order_by(*(each.desc() if up else each.asc() for each in keys))
            .limit(1)
            .with_for_update()
        )
        if other is None:
            return
        before = held.position
        if other.position == before:  # Two that were made at the same moment.
            _number_anew()
            db.session.refresh(held)
            db.session.refresh(other)
        held.position, other.position = other.position, held.position
        _record(
            actor,
            held,
            "moved",
            {
                "before": {"Position": before},
                "after": {"Position": held.position},
                "past": other.name,
            },
        )

    _write(move)


def _number_anew() -> None:
    """Give every template a place of its own, in the order that they have."""
    keys = (ServiceTemplate.position, ServiceTemplate.id)
    ids = db.session.scalars(sa.select(ServiceTemplate.id).order_by(*keys)).all()
    update_rows(
        db.session.connection(),
        table_of(ServiceTemplate),
        ("position",),
        [(each, place) for place, each in enumerate(ids, start=1)],
    )


_COLUMNS = (
    "description",
    "group_id",
    "needs_approval",
    "start_rule",
    "connector",
    "application_url",
    "setup_instructions",
    "parameters",
    "must_replace",
)
_OPTION_COLUMNS = (
    "position",
    "name",
    "label",
    "help",
    "kind",
    "choices",
    "minimum",
    "maximum",
    "default",
)


def _write(work: Callable[[], T]) -> T:
    """Run `work` in a transaction of its own, whole or not at all."""

    def run() -> T:
        done = work()
        db.session.commit()
        return done

    db.session.commit()  # What was read before belongs to another transaction.
    try:
        return run_session_transaction(run)
    except (ServiceError, IntegrityError):
        db.session.rollback()
        raise


def _hold(template_id: int, *, archived: bool | None = False) -> ServiceTemplate:
    """The template as it is, which nobody else changes meanwhile. Raises Conflict and NotFound."""
    db.session.execute(
        # Changes nothing, but from here on everybody else who writes has to wait.
        sa.update(ServiceTemplate)
        .where(ServiceTemplate.id == template_id)
        .values(position=ServiceTemplate.position)
        .execution_options(synchronize_session=False)
    )
    held = db.session.get(ServiceTemplate, template_id, populate_existing=True)
    if held is None:
        raise NotFound("There is no such service template.")
    if archived is False and held.archived_at is not None:
        raise Conflict(f"{held.name} is archived. Bring it back before you change it.")
    return held


def _newest_of(template: ServiceTemplate) -> ServiceTemplateVersion:
    return db.session.scalars(
        sa.select(ServiceTemplateVersion)
        .where(ServiceTemplateVersion.template_id == template.id)
        .order_by(ServiceTemplateVersion.number.desc())
        .limit(1)
        .options(*_loaded())
    ).one()


def _flush_name(name: str) -> None:
    taken = sa.select(ServiceTemplate.id).where(ServiceTemplate.name_key == fold(name))
    try:
        db.session.flush()
    except IntegrityError:
        db.session.rollback()
        if db.session.scalar(taken) is None:
            raise
        raise InvalidInputs(
            [("name", f"There is a service template “{name}” already, perhaps an archived one.")]
        ) from None


def _add_version(
    actor: Actor,
    template: ServiceTemplate,
    number: int,
    values: Mapping[str, Any],
    options: Iterable[Mapping[str, Any]],
) -> ServiceTemplateVersion:
    version = ServiceTemplateVersion(
        template_id=template.id,
        number=number,
        created_by_id=actor.user_id,
        options=[ServiceOption(**option) for option in options],
        **values,
    )
    db.session.add(version)
    db.session.flush()
    db.session.refresh(version, ["bundles", "email_templates", "options"])
    return version


def _is_same(
    version: ServiceTemplateVersion, values: Mapping[str, Any], options: Sequence[Mapping[str, Any]]
) -> bool:
    kept = [{name: getattr(each, name) for name in _OPTION_COLUMNS} for each in version.options]
    return (
        all(getattr(version, name) == values[name] for name in _COLUMNS if name != "parameters")
        and kept == list(options)
        and _known(version.parameters) == values["parameters"]
        and {each.id for each in version.bundles} == {each.id for each in values["bundles"]}
        and {each.id for each in version.email_templates}
        == {each.id for each in values["email_templates"]}
    )


def _known(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: parameters.get(name, each.default) for name, each in PARAMETERS.items()}


def _publication(template: ServiceTemplate) -> dict[str, Any]:
    if template.published_version is None:
        return {}
    return {
        "Version": template.published_version.number,
        "Audience": AUDIENCE_WORDS[template.audience],
    }


def _record_version(
    actor: Actor,
    template: ServiceTemplate,
    action: str,
    before: ServiceTemplateVersion,
    after: ServiceTemplateVersion,
) -> None:
    changes = differences(before, after)
    _record(
        actor,
        template,
        action,
        {
            "number": after.number,
            "before": {title: old for title, old, _ in changes},
            "after": {title: new for title, _, new in changes},
        },
    )


def _told(said: Mapping[str, str]) -> dict[str, str]:
    return {title: text for title, text in said.items() if text}


def _record(actor: Actor, template: ServiceTemplate, what: str, detail: dict[str, Any]) -> None:
    record_event(
        actor,
        f"service_template.{what}",
        object_type="service_template",
        object_id=template.id,
        detail={"name": template.name, **detail},
    )
