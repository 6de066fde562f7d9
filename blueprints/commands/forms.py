"""What the maintenance command window sends."""

from __future__ import annotations

from wtforms import TextAreaField

from blueprints.forms import Form


class CommandForm(Form):
    """The text of the window. What it may hold, the language says."""

    text = TextAreaField("Commands")
