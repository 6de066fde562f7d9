"""What a service template may be: its texts, its general parameters, its service options."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa

from connectors import list_connectors
from extensions import db
from models import (
    Bundle,
    EmailTemplate,
    Group,
    OptionKind,
    StartRule,
    fold,
    is_storable,
)
from services.errors import InvalidInput, InvalidInputs
from services.parameter_rules import PARAMETERS, read_value
from services.setup_instructions import check_text

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


def check_template(typed: TypedTemplate) -> tuple[str, dict[str, Any], list[dict[str, Any]]]:
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
