"""What the pages of an import send. The columns of a file are as many as it has."""

from __future__ import annotations

from flask import request
from wtforms import BooleanField, FileField, RadioField, SelectField, StringField

from blueprints.forms import Form, at_most
from models import UserImport
from services.tabular_files import DELIMITERS, ENCODINGS
from services.user_import_columns import FIELDS
from services.user_imports import Choices
from services.xlsx_files import LONGEST_CELL

_ONLY_ADD, _UPDATE = "add", "update"
_LEAVE, _EMPTY = "leave", "empty"
_DELIMITER_WORDS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
"""Delimiters as forms send them: browsers change blanks at the ends of values."""


class UploadForm(Form):
    file = FileField("File")


class LayoutForm(Form):
    """How a file is read, where that was not detected as it should be."""

    encoding = SelectField("Encoding", choices=dict(ENCODINGS))
    delimiter = SelectField(
        "Delimiter", choices={_DELIMITER_WORDS[each]: name for each, name in DELIMITERS.items()}
    )
    sheet = SelectField("Sheet")
    headed = BooleanField("The first row has headings")
    layout = StringField("File")  # Where the service's refusal is shown.

    @classmethod
    def of(cls, imported: UserImport) -> LayoutForm:
        """The form of a file, which a request may have filled."""
        form = cls(
            data={
                "encoding": imported.encoding,
                "delimiter": _DELIMITER_WORDS.get(imported.delimiter),
                "sheet": str(imported.sheet),
                "headed": imported.has_headings,
            }
        )
        form.sheet.choices = {str(place): name for place, name in enumerate(imported.sheets)}
        if imported.kind == "xlsx":
            del form.encoding, form.delimiter
        else:
            del form.sheet
        return form

    @property
    def chosen(self) -> dict[str, str]:
        """Encoding and delimiter as the service names them; empty for a workbook."""
        if "encoding" not in self:
            return {"encoding": "", "delimiter": ""}
        words = {word: each for each, word in _DELIMITER_WORDS.items()}
        return {
            "encoding": str(self.encoding.data),
            "delimiter": words.get(self.delimiter.data, ""),
        }

    @property
    def chosen_sheet(self) -> int:
        return int(self.sheet.data) if "sheet" in self and self.sheet.data else 0


class ChoicesForm(Form):
    mode = RadioField(
        "Users who are there already",
        choices={
            _ONLY_ADD: "Add new users only: a login that is taken is a fault",
            _UPDATE: "Add new users, and update those who have the login",
        },
        default=_ONLY_ADD,
    )
    empty = RadioField(
        "An empty cell of a user who is updated",
        choices={
            _LEAVE: "Leaves what is known",
            _EMPTY: "Empties it; role and language stay as they are",
        },
        default=_LEAVE,
    )
    sends_welcome = BooleanField("Send welcome mails to those who are added")

    def choices(self, imported: UserImport) -> Choices:
        """What was sent, with the field of each column of the file."""
        return Choices(
            columns=read_columns(imported),
            updates=self.mode.data == _UPDATE,
            empties=self.empty.data == _EMPTY,
            sends_welcome=bool(self.sends_welcome.data),
        )

    @classmethod
    def of(cls, imported: UserImport) -> ChoicesForm:
        """The form as it was saved last."""
        return cls(
            formdata=None,
            data={
                "mode": _UPDATE if imported.updates else _ONLY_ADD,
                "empty": _EMPTY if imported.empties else _LEAVE,
                "sends_welcome": imported.sends_welcome,
            },
        )


def read_columns(imported: UserImport) -> list[str]:
    """The field that was sent for each column; empty for none, and for what is no field."""
    sent = (request.form.get(f"column-{place}", "") for place in range(len(imported.headings)))
    return [name if name in FIELDS else "" for name in sent]


class RowForm(Form):
    """One row of a file, by fields; those without a column are not asked for."""

    login = StringField(FIELDS["login"], validators=[at_most(LONGEST_CELL - 1)])
    user_name = StringField(FIELDS["user_name"], validators=[at_most(LONGEST_CELL - 1)])
    first_name = StringField(FIELDS["first_name"], validators=[at_most(LONGEST_CELL - 1)])
    last_name = StringField(FIELDS["last_name"], validators=[at_most(LONGEST_CELL - 1)])
    email = StringField(FIELDS["email"], validators=[at_most(LONGEST_CELL - 1)])
    extension = StringField(FIELDS["extension"], validators=[at_most(LONGEST_CELL - 1)])
    bundle = StringField(FIELDS["bundle"], validators=[at_most(LONGEST_CELL - 1)])
    role = StringField(FIELDS["role"], validators=[at_most(LONGEST_CELL - 1)])
    profile = StringField(FIELDS["profile"], validators=[at_most(LONGEST_CELL - 1)])
    language = StringField(FIELDS["language"], validators=[at_most(LONGEST_CELL - 1)])

    def keep(self, names: set[str], position: int) -> None:
        """Have no other fields than these, with ids that no other row has."""
        for name in FIELDS:
            if name in names:
                self[name].id = f"row-{position}-{name}"
            else:
                del self[name]
