"""What the confirmation page sends."""

from __future__ import annotations

from wtforms import BooleanField, HiddenField, IntegerField
from wtforms.validators import InputRequired, Length, NumberRange
from wtforms.widgets import HiddenInput

from blueprints.forms import LARGEST_ID, Form, IdsField


class ConfirmForm(Form):
    """The recipients as they were shown, the text's version, and the page's random word."""

    users = IdsField()
    version = IntegerField(
        widget=HiddenInput(), validators=[InputRequired(), NumberRange(1, LARGEST_ID)]
    )
    recent = BooleanField()
    confirmation = HiddenField(validators=[InputRequired(), Length(max=64)])
