"""The forms of e-mail templates: the editor, and the choice of customers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from wtforms import HiddenField, RadioField, StringField, TextAreaField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import AnyOf

from blueprints.forms import Form, at_most, parse_ids, strip
from config import LANGUAGES
from models import TemplateKind
from services.email_template_assignments import By, Choice, Verb
from services.email_template_texts import Part, TypedText, field_of
from services.errors import InvalidInput

KIND_WORDS = {
    TemplateKind.GENERAL: "General, chosen by its name",
    TemplateKind.WELCOME: "Welcome mail",
    TemplateKind.PASSWORD_RESET: "Password reset",
}
_PART_LABELS = {Part.SUBJECT: "subject", Part.TEXT: "text", Part.HTML: "HTML"}
_LONGEST_LIST = 200_000


def read_number(text: object, highest: int = 2**31 - 1) -> int:
    """A decimal number, -1 for anything else."""
    written = str(text or "")
    is_number = 0 < len(written) < 11 and written.isascii() and written.isdecimal()
    number = int(written) if is_number else -1
    return number if number <= highest else -1


class EditorForm(Form):
    """Name, note and texts of a template, and how its preview is to look.

    `version` is that of the template as it was seen, `told_empty` names the placeholders that its
    author knows to be empty for some, `template` is the id of one that is there already.
    """

    name = StringField("Name", filters=[strip])
    kind = RadioField(
        "Kind",
        choices=[SelectChoice(kind.value, word) for kind, word in KIND_WORDS.items()],
        default="general",
        validate_choice=False,
    )
    note = StringField("Note", filters=[strip])
    version = HiddenField()
    told_empty = HiddenField()
    template = HiddenField()
    language = StringField("Language")
    shown = StringField("Show")
    reader = StringField("For", filters=[strip])

    @property
    def typed(self) -> dict[str, TypedText]:
        return {
            language: TypedText(
                **{part.value: self[field_of(part, language)].data or "" for part in Part}
            )
            for language in LANGUAGES
        }

    @property
    def seen(self) -> int:
        return read_number(self.version.data)

    @property
    def told(self) -> list[str]:
        return (self.told_empty.data or "").split(",")

    @property
    def chosen_kind(self) -> TemplateKind:
        return {kind.value: kind for kind in TemplateKind}.get(
            self.kind.data or "", TemplateKind.GENERAL
        )

    @property
    def template_id(self) -> int:
        """0 while there is no template yet."""
        try:
            (found,) = parse_ids([self.template.data or ""])
        except (InvalidInput, ValueError):
            return 0
        return found

    def written(self) -> list[str]:
        """The languages that something was typed in."""
        return [each for each, text in self.typed.items() if not text.is_empty]


for _language, _word in LANGUAGES.items():
    for _part, _label in _PART_LABELS.items():
        _kind = StringField if _part is Part.SUBJECT else TextAreaField
        setattr(EditorForm, field_of(_part, _language), _kind(f"{_word} {_label}"))


def texts_data(texts: Mapping[str, TypedText]) -> dict[str, Any]:
    """The data of an EditorForm for texts as they are."""
    return {
        field_of(part, language): text.part(part)
        for language, text in texts.items()
        for part in Part
    }


class SeenForm(Form):
    """What every change carries: the version of the template that its author saw."""

    version = HiddenField()
    note = StringField("Note", filters=[strip])

    @property
    def seen(self) -> int:
        return read_number(self.version.data)


BY_WORDS = {
    By.LISTED: "These web IDs",
    By.BUNDLE: "Customers with a bundle",
    By.GROUP: "Customers of a group",
    By.ALL: "All customers",
}


class AssignForm(Form):
    """Which customers are to have a template, or to have it no more."""

    verb = RadioField(
        "What",
        choices=[SelectChoice("assign", "Assign it"), SelectChoice("remove", "Remove it")],
        default="assign",
        validate_choice=False,
        validators=[AnyOf([each.value for each in Verb], message="Choose what is to be done.")],
    )
    by = RadioField(
        "Customers",
        choices=[SelectChoice(by.value, word) for by, word in BY_WORDS.items()],
        default="listed",
        validate_choice=False,
        validators=[AnyOf([each.value for each in By], message="Choose which customers.")],
    )
    web_ids = TextAreaField("Web IDs", validators=[at_most(_LONGEST_LIST)])
    bundle = HiddenField("Bundle")
    group = HiddenField("Group")
    confirmed = HiddenField()

    @property
    def chosen_verb(self) -> Verb:
        return Verb(self.verb.data)

    @property
    def choice(self) -> Choice:
        try:
            bundle_id = parse_ids([self.bundle.data or "0"])[0]
        except (InvalidInput, IndexError):
            bundle_id = 0
        return Choice(
            by=By(self.by.data),
            web_ids=self.web_ids.data or "",
            bundle_id=bundle_id,
            groupno=max(0, read_number(self.group.data)),
        )


def languages_to_open(form: EditorForm) -> Collection[str]:
    """Which languages stand open in the editor: those with a fault, or else the first written."""
    faulty = {
        language
        for language in LANGUAGES
        if any(form[field_of(part, language)].errors for part in Part)
    }
    return faulty or {next(iter(form.written()), next(iter(LANGUAGES)))}
