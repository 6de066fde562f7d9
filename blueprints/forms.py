"""What the forms of all blueprints share: checks of shape, and refusals shown at their field."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

from flask import Response, request
from flask_wtf import FlaskForm
from wtforms import DateField, Field, HiddenField
from wtforms.validators import ValidationError

from blueprints.htmx import respond
from services.errors import InvalidInput, InvalidInputs, ServiceError, Throttled

Validator = Callable[[FlaskForm, Any], None]

LARGEST_ID = 2**63 - 1
MOST_IDS = 500
"""More than the largest page shows and the largest selection may mail."""


class Form(FlaskForm):  # type: ignore[misc]
    """A form of a page. It reads fields alone: in files and JSON, values need not be texts."""

    class Meta(FlaskForm.Meta):  # type: ignore[misc]
        def wrap_formdata(self, _form: Any, _formdata: Any) -> Any:
            return request.form or None


class SeenForm(Form):
    """What a change carries: the version of the row that its author saw."""

    version = HiddenField()

    @property
    def seen(self) -> int:
        """That version. Raises InvalidInput where a page sends none."""
        written = str(self.version.data or "")
        if not re.fullmatch(r"[0-9]{1,9}", written):
            raise InvalidInput("version", "This page is incomplete. Open it again.")
        return int(written)


class IdsField(Field):  # type: ignore[misc]
    """Ids of rows, from repeated values or from one with commas between."""

    data: list[int]

    def process_formdata(self, valuelist: Sequence[Any]) -> None:
        self.data = parse_ids(valuelist)

    def process_data(self, value: Any) -> None:
        self.data = list(value or [])


class DayField(DateField):  # type: ignore[misc]
    """A date; what cannot be read is refused with an example."""

    def process_formdata(self, valuelist: Sequence[Any]) -> None:
        try:
            super().process_formdata(valuelist)
        except ValueError:
            raise ValueError(
                f"{self.label.text}: write year, month and day, for example 2026-12-25."
            ) from None


def parse_ids(values: Sequence[str]) -> list[int]:
    """The ids in `values`, each once. Raises InvalidInput for what is none, or for too many."""
    words = [word for value in values for word in value.split(",") if word]
    if len(words) > MOST_IDS:
        raise InvalidInput("ids", f"{len(words):,} rows were selected. {MOST_IDS} is the most.")
    if not all(len(word) < 20 and word.isascii() and word.isdecimal() for word in words):
        raise InvalidInput("ids", "A row that this request names is none of the list.")
    ids = dict.fromkeys(int(word) for word in words)
    if any(not 0 < each <= LARGEST_ID for each in ids):
        raise InvalidInput("ids", "A row that this request names is none of the list.")
    return list(ids)


def strip(text: str | None) -> str | None:
    """A filter: without the blanks that pasting leaves around a text."""
    return text.strip() if text else text


def at_most(limit: int) -> Validator:
    """A validator: no more than `limit` characters.

    Without a `maxlength` on the field, which would cut what is pasted without a word.
    """

    def check(_form: FlaskForm, field: Any) -> None:
        length = len(field.data or "")
        if length > limit:
            raise ValidationError(
                f"{field.label.text} has {length:,} characters. The limit is {limit:,}."
            )

    return check


def one_line(_form: FlaskForm, field: Any) -> None:
    """A validator: no control characters, which nobody types and some databases refuse."""
    if any(unicodedata.category(letter) == "Cc" for letter in field.data or ""):
        raise ValidationError(
            f"{field.label.text} contains a character that cannot be seen. Type it by hand."
        )


def apply_refusal(form: FlaskForm, error: ServiceError) -> None:
    """Show what a service refused at the fields it names, or else above the form."""
    faults = (
        error.faults
        if isinstance(error, InvalidInputs)
        else [(getattr(error, "field", ""), error.message)]
    )
    for name, message in faults:
        if name in form:
            form[name].errors = [*form[name].errors, message]
        else:
            form.form_errors.append(message)


def refuse(page: str, form: FlaskForm, error: ServiceError, **context: Any) -> Response:
    """Answer with the form and what a service refused: 422, or 429 when it wants a pause."""
    apply_refusal(form, error)
    if not isinstance(error, Throttled):
        return respond(page, form=form, status=422, **context)
    response = respond(page, form=form, status=429, **context)
    response.headers["Retry-After"] = str(error.retry_after)
    return response
