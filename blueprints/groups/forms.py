"""The forms of groups. The rules are the service's."""

from __future__ import annotations

from wtforms import HiddenField, StringField

from blueprints.customers.forms import TextForm, parse_choice
from blueprints.forms import strip


class NewForm(TextForm):
    groupno = StringField("Number", filters=[strip])
    name = StringField("Name")

    @property
    def number(self) -> int | None:
        return parse_choice(self.groupno.data)


class RenameForm(TextForm):
    """`seen` is the name that its author saw."""

    name = StringField("Name")
    seen = HiddenField()
