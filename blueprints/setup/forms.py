"""The forms of setup instructions: the text, and a file."""

from __future__ import annotations

import re

from wtforms import FileField, HiddenField, TextAreaField

from blueprints.forms import Form
from blueprints.parameters.forms import parse_number

_UNSEEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]")


def visible(text: str) -> str:
    """A text as a page can show it: what no page may hold is seen as the sign for that."""
    return _UNSEEN.sub("\ufffd", text)


class TextForm(Form):
    """The text; `version` is that of the setup instructions as they were seen."""

    version = HiddenField()
    text = TextAreaField("Text")

    @property
    def seen(self) -> int:
        """-1, which no version is, for what is no number."""
        return parse_number(self.version.data)


class FileForm(Form):
    """A file, which is read from the request: forms read fields alone."""

    file = FileField("File")
