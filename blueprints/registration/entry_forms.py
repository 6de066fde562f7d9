"""The forms of getting in: the wish for a link, and the invitation."""

from __future__ import annotations

from typing import Any

from wtforms import SelectField, StringField, TextAreaField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import InputRequired

from blueprints.forms import Form, at_most, one_line, strip
from config import LANGUAGES
from models import Group, ServiceTemplateVersion
from services.invitations import MESSAGE_LENGTH

_LONGEST_EMAIL = 320


class LinkForm(Form):
    """`homepage` is hidden from people: only programs fill it in."""

    email = StringField(
        "E-mail address",
        filters=[strip],
        validators=[
            InputRequired("Enter your e-mail address."),
            at_most(_LONGEST_EMAIL),
            one_line,
        ],
    )
    homepage = StringField("Leave this field empty")


def _row_id(value: Any) -> int | None:
    """The id that a select sends; WTForms tells a text that is none apart from the choices."""
    text = str(value or "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None


_NOT_OFFERED = "This is not offered (any more). Choose one of the list."


class InvitationForm(Form):
    """Choices of templates and groups are the actor's own; empty is none."""

    email = StringField(
        "E-mail address",
        filters=[strip],
        validators=[
            InputRequired("Enter the e-mail address to invite."),
            at_most(_LONGEST_EMAIL),
            one_line,
        ],
    )
    language = SelectField(
        "Language of the mail",
        choices=[SelectChoice(*each) for each in LANGUAGES.items()],
        invalid_choice_message=_NOT_OFFERED,
    )
    template = SelectField("Template", invalid_choice_message=_NOT_OFFERED)
    group = SelectField("Group", invalid_choice_message=_NOT_OFFERED)
    message = TextAreaField("Message", validators=[at_most(MESSAGE_LENGTH)])

    def offer(
        self, templates: list[ServiceTemplateVersion], groups: list[Group], *, needs_group: bool
    ) -> None:
        self.template.choices = [
            SelectChoice("", "Let the invited choose"),
            *(SelectChoice(str(each.template_id), each.template.name) for each in templates),
        ]
        self.group.choices = [
            SelectChoice(str(each.id), f"{each.groupno} {each.name}") for each in groups
        ]
        if not needs_group or len(groups) > 1:
            self.group.choices.insert(0, SelectChoice("", "As the template has it"))

    @property
    def template_id(self) -> int | None:
        return _row_id(self.template.data)

    @property
    def group_id(self) -> int | None:
        return _row_id(self.group.data)
