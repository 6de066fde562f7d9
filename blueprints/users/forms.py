"""What the Users tab is sent: ticked boxes and where the reader goes next."""

from __future__ import annotations

from wtforms import StringField
from wtforms.validators import Length

from blueprints.forms import Form, IdsField


class SelectionForm(Form):
    """The form around the list. `at` is the list's query, `go` the query that comes next.

    `go` is "search" when the reader searches; what for is in `q`.
    """

    selected = IdsField()
    shown = IdsField()
    at = StringField(validators=[Length(max=2000)])
    go = StringField(validators=[Length(max=2000)])
    q = StringField(validators=[Length(max=200)])
    action = StringField(validators=[Length(max=40)])
