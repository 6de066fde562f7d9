"""What the three tabs send, and how their fields are shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from flask import request
from wtforms import EmailField, PasswordField, SelectField, StringField, TelField

from blueprints.forms import Form
from config import LANGUAGES
from models import ServiceTemplateVersion
from services import countries
from services.errors import InvalidInput
from services.registration_drafts import FIELDS, Tab
from services.service_templates import option_field

_LARGEST_VERSION = 2**31 - 1


class _TabForm(Form):
    """A tab as it is shown: from the draft, which has what was typed, never from the request."""

    class Meta(Form.Meta):
        def wrap_formdata(self, _form: Any, _formdata: Any) -> Any:
            return None


class TenantForm(_TabForm):
    name = StringField("Name")
    short_name = StringField("Short Name")
    upn_suffix = StringField("UPN Suffix")
    user_name = StringField("User Name")
    password = PasswordField("Password")
    confirmation = PasswordField("Confirm Password")
    ani = TelField("ANI")


class ContactForm(_TabForm):
    company = StringField("Company")
    street = StringField("Street")
    postal_code = StringField("Postal code")
    city = StringField("City")
    region = StringField("Region")
    country = SelectField("Country")
    contact_name = StringField("Contact person")
    contact_phone = TelField("Phone")
    contact_email = EmailField("E-mail")
    language = SelectField("Language", choices=list(LANGUAGES.items()))
    time_zone = SelectField("Time zone")

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.country.choices = _choices("Choose a country", countries.list_countries())
        self.time_zone.choices = _choices("Choose a time zone", countries.list_time_zones())


def _choices(empty: str, offered: Iterable[countries.Choice]) -> list[tuple[str, str]]:
    return [("", empty), *((each.code, each.name) for each in offered)]


def make_form(tab: Tab, values: Mapping[str, str]) -> _TabForm:
    """The form of a tab with `values` in its fields; the template tab has cards instead."""
    if tab is Tab.TENANT:
        return TenantForm(data=dict(values))
    return ContactForm(data=dict(values)) if tab is Tab.CONTACT else _TabForm()


def read_typed(tab: Tab, offered: Iterable[ServiceTemplateVersion]) -> dict[str, str]:
    """What the request has of a tab's fields; of the options those of the `offered` templates.

    A box that is not ticked sends the hidden field before it, one that is sends both.
    """
    names = list(FIELDS[tab])
    if tab is Tab.TEMPLATE:
        names += [option_field(each, option) for each in offered for option in each.options]
    return {name: request.form.getlist(name)[-1] for name in names if name in request.form}


def read_password() -> tuple[str, str]:
    """Password and confirmation as they were typed."""
    return request.form.get("password", ""), request.form.get("confirmation", "")


def read_version() -> int:
    """The version of the draft that the page was made from. Raises InvalidInput."""
    text = request.form.get("draft_version", "")
    if not (
        text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= _LARGEST_VERSION
    ):
        raise InvalidInput("draft_version", "This page is incomplete. Open it again.")
    return int(text)
