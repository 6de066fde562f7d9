"""The form of the general parameters, and what stands beside its fields."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flask_wtf import FlaskForm
from wtforms import HiddenField, SelectField, StringField
from wtforms.validators import ValidationError

from blueprints.forms import Form
from config import LANGUAGES
from services.countries import list_time_zones
from services.general_parameters import Parameters
from services.parameter_rules import PARAMETERS, ParameterKind, shown_text, text_of


def _sent(_form: FlaskForm, field: Any) -> None:
    """A validator: the page sends every field, and one that lacks is no empty one."""
    if not field.raw_data:
        raise ValidationError(f"{field.label.text} is missing from this page. Load it again.")


class ParametersForm(Form):
    """A text for each parameter; what the texts mean is for the service to say.

    `version` is that of the draft, `seen` the texts (as JSON, by name) that the page was made
    with: they tell what its reader has changed.
    """

    version = HiddenField()
    seen = HiddenField()

    @property
    def typed(self) -> dict[str, str]:
        return {name: self[name].data or "" for name in PARAMETERS}

    @property
    def draft_version(self) -> int:
        """-1, which no draft has, for what is no number."""
        return parse_number(self.version.data)

    def list_choices(self) -> None:
        """Give the selects their choices, and the value that is none of them, so that it shows."""
        for name, parameter in PARAMETERS.items():
            if parameter.kind is ParameterKind.LANGUAGE:
                choices = list(LANGUAGES.items())
            elif parameter.kind is ParameterKind.ZONE:
                choices = [(each.code, each.name) for each in list_time_zones()]
            else:
                continue
            value = self[name].data or ""
            if value not in dict(choices):
                choices.insert(0, (value, shown_text(parameter, value) or "Choose one"))
            self[name].choices = choices

    def note_seen(self, parameters: Parameters) -> None:
        self.version.data = str(parameters.version)
        self.seen.data = json.dumps(texts_of(parameters.draft))


for _name, _parameter in PARAMETERS.items():
    _is_chosen = _parameter.kind in {ParameterKind.LANGUAGE, ParameterKind.ZONE}
    setattr(
        ParametersForm,
        _name,
        SelectField(_parameter.label, choices=[], validate_choice=False, validators=[_sent])
        if _is_chosen
        else StringField(_parameter.label, validators=[_sent]),
    )


def form_of(parameters: Parameters) -> ParametersForm:
    """The form as it is first shown, with the draft in it."""
    form = ParametersForm(formdata=None, data=texts_of(parameters.draft))
    form.note_seen(parameters)
    return form


def texts_of(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: text_of(parameter, values[name]) for name, parameter in PARAMETERS.items()}


def parse_number(text: str | None) -> int:
    """A decimal number of at most nine digits, -1 for anything else."""
    return int(text) if text and len(text) < 10 and text.isascii() and text.isdecimal() else -1


# --- Beside the fields ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Note:
    """A line below a field; `state` is that of a pill."""

    state: str
    text: str


Notes = dict[str, list[Note]]


def notes_of(form: ParametersForm, parameters: Parameters) -> Notes:
    """How what is in the fields differs from what is published, and which only stands in."""
    notes: Notes = {}
    published = parameters.published
    for name, parameter in PARAMETERS.items():
        text = form[name].data or ""
        lines = []
        if name in parameters.must_replace:
            stand_in = text_of(parameter, parameters.must_replace[name])
            if text.casefold() == stand_in.casefold():
                lines.append(Note("attention", "Only stands in for your own. Replace it."))
        if published is not None:
            value = published.values.get(name, parameter.default)
            if text != text_of(parameter, value):
                lines.append(Note("neutral", f"Published: {shown_text(parameter, value)}"))
        notes[name] = lines
    return notes


def merge(form: ParametersForm, parameters: Parameters) -> Notes:
    """Make of a form that came too late one that saves on top of what `parameters` are now.

    Fields that its reader left as they were show what another has saved since. Where he changed
    one, his text stays, with a note of the other value if there is one.
    """
    seen = _seen_by(form)
    now = texts_of(parameters.draft)
    told: Notes = {name: [] for name in PARAMETERS}
    for name, parameter in PARAMETERS.items():
        typed, before, current = form[name].data or "", seen.get(name), now[name]
        if current in {before, typed}:
            continue
        if typed == before:
            form[name].data = current
            told[name].append(Note("neutral", "Changed meanwhile by the other person."))
        else:
            saved = shown_text(parameter, parameters.draft[name])
            told[name].append(Note("attention", f"Saved meanwhile: {saved}. Saving replaces it."))
    form.note_seen(parameters)
    notes = notes_of(form, parameters)
    return {name: told[name] + notes[name] for name in PARAMETERS}


def _seen_by(form: ParametersForm) -> dict[str, str]:
    """What the page showed at first; nothing where that cannot be read."""
    try:
        seen = json.loads(form.seen.data or "")
    except (ValueError, RecursionError):
        return {}
    return seen if isinstance(seen, dict) else {}
