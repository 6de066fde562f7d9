"""The form of a service template, whose options come and go by buttons of their own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from typing import Any

from flask import request
from wtforms import (
    BooleanField,
    HiddenField,
    SelectField,
    SelectMultipleField,
    StringField,
    TextAreaField,
)
from wtforms.widgets import CheckboxInput, ListWidget

from blueprints.forms import LARGEST_ID, Form
from blueprints.parameters.forms import parse_number
from blueprints.setup.forms import visible
from config import LANGUAGES
from models import Audience, EmailTemplate, TemplateKind
from services.countries import list_time_zones
from services.parameter_rules import PARAMETERS, ParameterKind, shown_text
from services.service_template_rules import MOST_OPTIONS, TypedOption, TypedTemplate
from services.service_template_versions import (
    AUDIENCE_WORDS,
    KIND_WORDS,
    START_WORDS,
    Offered,
)

OPTION_PARTS = tuple(each.name for each in fields(TypedOption))
_OPTION_FIELD = re.compile(rf"option_([0-9]{{1,2}})_({'|'.join(OPTION_PARTS)})")
_ACT = re.compile(r"(add|remove|up|down)(?:-([0-9]{1,2}))?")


class _NothingSent(Form.Meta):
    """For a form that shows what is kept, although the request sends another."""

    def wrap_formdata(self, _form: Any, _formdata: Any) -> Any:
        return None


class _BoxesField(SelectMultipleField):  # type: ignore[misc]
    """Check boxes, any number of them."""

    widget = ListWidget(prefix_label=False)
    option_widget = CheckboxInput()


class _TemplateForm(Form):
    """What every service template has; options and parameters are added to it for each request.

    `seen` is the number of the version that the form was made of, 0 for a new template.
    """

    seen = HiddenField()
    name = StringField("Name")
    description = TextAreaField("Description")
    group = SelectField("Group", validate_choice=False)
    needs_approval = BooleanField("Requests have to be approved")
    start_rule = SelectField(
        "Start",
        choices={each.value: words for each, words in START_WORDS.items()},
        validate_choice=False,
    )
    connector = SelectField("Application platform", validate_choice=False)
    application_url = StringField("Application address")
    setup_instructions = TextAreaField("Setup instructions")
    bundles = _BoxesField("Bundles", validate_choice=False)
    email_templates = _BoxesField("E-mail templates", validate_choice=False)

    @property
    def seen_number(self) -> int:
        return parse_number(self.seen.data)

    def typed(self, options: Iterable[TypedOption]) -> TypedTemplate:
        return TypedTemplate(
            name=self.name.data or "",
            description=self.description.data or "",
            group_id=_id(self.group.data),
            needs_approval=bool(self.needs_approval.data),
            start_rule=self.start_rule.data or "",
            connector=self.connector.data or "",
            application_url=self.application_url.data or "",
            setup_instructions=self.setup_instructions.data or "",
            bundles=[_id(each) for each in self.bundles.data or []],
            email_templates=[_id(each) for each in self.email_templates.data or []],
            parameters={name: self[f"parameter_{name}"].data or "" for name in PARAMETERS},
            must_replace=[name for name in PARAMETERS if self[f"replace_{name}"].data],
            options=list(options),
        )

    def offer(self, offered: Offered) -> None:
        """Give the selects and boxes their choices."""
        groups = [(str(each.id), f"{each.groupno}, {each.name}") for each in offered.groups]
        self.group.choices = [("", "Choose a group"), *groups]
        self.connector.choices = [(each, each) for each in offered.connectors]
        if self.connector.data and self.connector.data not in offered.connectors:
            self.connector.choices.insert(0, (self.connector.data, self.connector.data))
        self.bundles.choices = [(str(each.id), each.name) for each in offered.bundles]
        self.email_templates.choices = [
            (str(each.id), _named_with_kind(each)) for each in offered.email_templates
        ]
        for name, parameter in PARAMETERS.items():
            field = self[f"parameter_{name}"]
            if parameter.kind is ParameterKind.LANGUAGE:
                choices = list(LANGUAGES.items())
            elif parameter.kind is ParameterKind.ZONE:
                choices = [(each.code, each.name) for each in list_time_zones()]
            else:
                continue
            value = field.data or ""
            if value not in dict(choices):
                choices.insert(0, (value, shown_text(parameter, value) or "Choose one"))
            field.choices = choices


def _named_with_kind(template: EmailTemplate) -> str:
    """The name, and that it is a welcome mail where the name does not say so."""
    is_welcome = template.kind is TemplateKind.WELCOME and "welcome" not in template.name_key
    return f"{template.name} (Welcome)" if is_welcome else template.name


def _id(text: str | None) -> int:
    """The id that a choice stands for; 0, which no row has, for what is none."""
    if text and len(text) < 20 and text.isascii() and text.isdecimal():
        return min(int(text), LARGEST_ID)
    return 0


def _form_class(options: int, *, is_sent: bool = False) -> type[_TemplateForm]:
    """The form with fields for so many options, and for each general parameter.

    Unless it `is_sent`, what the request sends is none of its concern.
    """
    made: dict[str, Any] = {} if is_sent else {"Meta": _NothingSent}
    for place in range(options):
        prefix, this = f"option_{place}_", f"Option {place + 1}"
        made |= {
            f"{prefix}label": StringField("Label", render_kw={"aria-label": f"{this}: label"}),
            f"{prefix}name": StringField("Name for other systems"),
            f"{prefix}help": StringField("Help"),
            f"{prefix}kind": SelectField(
                "Kind",
                choices={each.value: words for each, words in KIND_WORDS.items()},
                validate_choice=False,
            ),
            f"{prefix}choices": TextAreaField("Choices"),
            f"{prefix}minimum": StringField("Lowest"),
            f"{prefix}maximum": StringField("Highest"),
            f"{prefix}default": StringField("Default"),
        }
    for name, parameter in PARAMETERS.items():
        is_chosen = parameter.kind in {ParameterKind.LANGUAGE, ParameterKind.ZONE}
        made[f"parameter_{name}"] = (
            SelectField(parameter.label, choices=[], validate_choice=False)
            if is_chosen
            else StringField(parameter.label)
        )
        made[f"replace_{name}"] = BooleanField("The tenant has to replace it")
    return type("TemplateForm", (_TemplateForm,), made)


def sent_options() -> list[TypedOption]:
    """The options of the request, in their order; those left out leave no gap."""
    sent: dict[int, dict[str, str]] = {}
    for key in request.form:
        if found := _OPTION_FIELD.fullmatch(key):
            sent.setdefault(int(found[1]), {})[found[2]] = request.form[key]
    return [TypedOption(**sent[place]) for place in sorted(sent)]


def acted(options: list[TypedOption], act: str) -> tuple[list[TypedOption], int] | None:
    """The options after a button of theirs, and the place to go on at; None for no such button."""
    found = _ACT.fullmatch(act)
    if found is None:
        return None
    changed, what = list(options), found[1]
    if what == "add":
        if len(changed) < MOST_OPTIONS:
            changed.append(TypedOption())
        return changed, len(changed) - 1
    place = int(found[2] or -1)
    if not 0 <= place < len(changed):
        return None
    option = changed.pop(place)
    if what == "remove":
        return changed, min(place, len(changed) - 1)
    place = max(0, place - 1) if what == "up" else min(len(changed), place + 1)
    changed.insert(place, option)
    return changed, place


def form_of(typed: TypedTemplate, seen: int) -> _TemplateForm:
    """The form with what was typed, whether it was here or is kept."""
    data: dict[str, Any] = {
        "seen": str(seen),
        "name": typed.name,
        "description": typed.description,
        "group": str(typed.group_id or ""),
        "needs_approval": typed.needs_approval,
        "start_rule": typed.start_rule,
        "connector": typed.connector,
        "application_url": typed.application_url,
        "setup_instructions": typed.setup_instructions,
        "bundles": [str(each) for each in typed.bundles],
        "email_templates": [str(each) for each in typed.email_templates],
    }
    for name in PARAMETERS:
        data[f"parameter_{name}"] = typed.parameters.get(name, "")
        data[f"replace_{name}"] = name in typed.must_replace
    for place, option in enumerate(typed.options):
        data |= {f"option_{place}_{part}": text for part, text in asdict(option).items()}
    shown = {
        name: visible(value) if isinstance(value, str) else value for name, value in data.items()
    }
    return _form_class(len(typed.options))(data=shown)


def sent_template() -> tuple[TypedTemplate, int]:
    """What the request's form has, and the version that its sender has seen."""
    form = _form_class(0, is_sent=True)()
    return form.typed(sent_options()), form.seen_number


class PublishForm(Form):
    """To whom a version is offered; `number` is the version."""

    number = HiddenField()
    audience = SelectField(
        "Who may pick it",
        choices={each.value: words for each, words in AUDIENCE_WORDS.items()},
        validate_choice=False,
    )

    @property
    def version(self) -> int:
        return parse_number(self.number.data)

    @property
    def chosen(self) -> Audience | None:
        known: Mapping[str, Audience] = {each.value: each for each in Audience}
        return known.get(self.audience.data or "")
