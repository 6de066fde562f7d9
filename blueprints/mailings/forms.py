"""What the confirmation page sends."""

from __future__ import annotations

from flask_wtf import FlaskForm
from wtforms import BooleanField, HiddenField, IntegerField
from wtforms.validators import InputRequired, Length, NumberRange
from wtforms.widgets import HiddenInput

from blueprints.users.forms import LARGEST_ID, IdsField


class ConfirmForm(FlaskForm):  # type: ignore[misc]
    """The recipients as they were shown, the text's version, and the page's random word."""

    users = IdsField()
    version = IntegerField(
        widget=HiddenInput(), validators=[InputRequired(), NumberRange(1, LARGEST_ID)]
    )
    recent = BooleanField()
    confirmation = HiddenField(validators=[InputRequired(), Length(max=64)])
