"""What the pages of a customer send. The rules are the services'."""

from __future__ import annotations

import re
from typing import Any

from flask import request
from werkzeug.datastructures import MultiDict
from wtforms import (
    BooleanField,
    EmailField,
    HiddenField,
    RadioField,
    SelectField,
    StringField,
    TelField,
    TextAreaField,
)
from wtforms.fields.choices import SelectChoice

from blueprints.forms import LARGEST_ID, Form, strip
from blueprints.registration.wizard_forms import make_visible
from config import LANGUAGES
from services import countries
from services.errors import InvalidInput
from services.registration_checks import LABELS


class TextForm(Form):
    """A form whose texts can stand in a page again, whatever was sent."""

    class Meta(Form.Meta):
        def wrap_formdata(self, _form: Any, _formdata: Any) -> Any:
            pairs = [(name, make_visible(text)) for name, text in request.form.items(multi=True)]
            return MultiDict(pairs) or None


class VersionForm(TextForm):
    """What every change carries: the version of the customer that its author saw."""

    version = HiddenField()

    @property
    def seen(self) -> int:
        """That version. Raises InvalidInput where a page sends none."""
        written = str(self.version.data or "")
        if not re.fullmatch(r"[0-9]{1,9}", written):
            raise InvalidInput("version", "This page is incomplete. Open it again.")
        return int(written)


def _countries() -> dict[str, str]:
    return {each.code: each.name for each in countries.list_countries()}


def _time_zones() -> dict[str, str]:
    offered = {each.code: each.name for each in countries.list_time_zones()}
    return {"": "Choose a time zone", **offered}


class ContactFields(TextForm):
    """Company and contact, as Tenant Registration asks for them."""

    company = StringField(LABELS["company"])
    street = StringField(LABELS["street"])
    postal_code = StringField(LABELS["postal_code"])
    city = StringField(LABELS["city"])
    region = StringField(LABELS["region"])
    country = SelectField(LABELS["country"], choices=_countries, validate_choice=False)
    contact_name = StringField(LABELS["contact_name"])
    contact_email = EmailField(LABELS["contact_email"])
    contact_phone = TelField(LABELS["contact_phone"])
    language = SelectField(LABELS["language"], choices=LANGUAGES, validate_choice=False)
    time_zone = SelectField(LABELS["time_zone"], choices=_time_zones, validate_choice=False)


class EditForm(ContactFields, VersionForm):
    ani = TelField(LABELS["ani"])


class TenantFields(TextForm):
    name = StringField(LABELS["name"])
    short_name = StringField(LABELS["short_name"])
    upn_suffix = StringField(LABELS["upn_suffix"])
    user_name = StringField(LABELS["user_name"])
    ani = TelField(LABELS["ani"])


class NewForm(TenantFields, ContactFields):
    """A customer at once. Template and options have no fields here: they are cards."""

    group = SelectField("Group", validate_choice=False)


class GroupForm(VersionForm):
    group = SelectField("Group", validate_choice=False)

    @property
    def chosen(self) -> int | None:
        return parse_choice(self.group.data)


class ReasonForm(TextForm):
    reason = StringField("Reason", filters=[strip])


class DeleteForm(ReasonForm):
    web_id = StringField("Web ID", filters=[strip])


class AdministratorForm(ReasonForm):
    administrator = RadioField("Administrator", validate_choice=False)

    @property
    def chosen(self) -> int | None:
        return parse_choice(self.administrator.data)


class AssignForm(TextForm):
    bundle = SelectField("Bundle", validate_choice=False)

    @property
    def chosen(self) -> int | None:
        return parse_choice(self.bundle.data)


class MoveForm(TextForm):
    target = SelectField("To", validate_choice=False)
    remove = BooleanField("Then remove the bundle from the customer")

    @property
    def chosen(self) -> int | None:
        return parse_choice(self.target.data)


class ManyForm(TextForm):
    """Customers that are named, or all of a group."""

    whose = RadioField(
        "Customers",
        choices=[
            SelectChoice("named", "These customers"),
            SelectChoice("group", "All customers of a group"),
        ],
        default="named",
        validate_choice=False,
    )
    web_ids = TextAreaField("Web IDs")
    group = SelectField("Group", validate_choice=False)

    @property
    def chosen_group(self) -> int | None:
        return parse_choice(self.group.data)


def parse_choice(text: Any) -> int | None:
    """The id that was chosen; None for what is none, which no list offers."""
    written = str(text or "")
    if not re.fullmatch(r"[0-9]{1,19}", written, re.ASCII) or int(written) > LARGEST_ID:
        return None
    return int(written)
