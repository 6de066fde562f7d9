"""The forms of groups. The rules are the service's."""

from __future__ import annotations

from wtforms import HiddenField, StringField

from blueprints.customers.forms import parse_choice
from blueprints.forms import Form, strip


class NewForm(Form):
    groupno = StringField("Number", filters=[strip])
    name = StringField("Name")

    @property
    def number(self) -> int | None:
        return parse_choice(self.groupno.data)


class RenameForm(Form):
    """`seen` is the name that its author saw."""

    name = StringField("Name")
    seen = HiddenField()
