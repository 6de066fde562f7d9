"""What the three tabs send, and how their fields are shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from flask import request
from wtforms import EmailField, PasswordField, SelectField, StringField, TelField

from blueprints.forms import Form
from config import LANGUAGES
from models import ServiceTemplateVersion
from services import countries
from services.errors import InvalidInput
from services.registration_drafts import FIELDS, LABELS, Tab
from services.service_templates import option_field

_LARGEST_VERSION = 2**31 - 1
_UNSEEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


class _TabForm(Form):
    """A tab as it is shown: from the draft, which has what was typed, never from the request."""

    class Meta(Form.Meta):
        def wrap_formdata(self, _form: Any, _formdata: Any) -> Any:
            return None


class TenantForm(_TabForm):
    name = StringField(LABELS["name"])
    short_name = StringField(LABELS["short_name"])
    upn_suffix = StringField(LABELS["upn_suffix"])
    user_name = StringField(LABELS["user_name"])
    password = PasswordField("Password")
    confirmation = PasswordField("Confirm Password")
    ani = TelField(LABELS["ani"])


def _countries() -> dict[str, str]:
    offered = {each.code: each.name for each in countries.list_countries()}
    return {"": "Choose a country", **offered}


def _time_zones() -> dict[str, str]:
    offered = {each.code: each.name for each in countries.list_time_zones()}
    return {"": "Choose a time zone", **offered}


class ContactForm(_TabForm):
    company = StringField(LABELS["company"])
    street = StringField(LABELS["street"])
    postal_code = StringField(LABELS["postal_code"])
    city = StringField(LABELS["city"])
    region = StringField(LABELS["region"])
    country = SelectField(LABELS["country"], choices=_countries)
    contact_name = StringField(LABELS["contact_name"])
    contact_phone = TelField(LABELS["contact_phone"])
    contact_email = EmailField(LABELS["contact_email"])
    language = SelectField(LABELS["language"], choices=LANGUAGES)
    time_zone = SelectField(LABELS["time_zone"], choices=_time_zones)


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
    return {
        name: make_visible(request.form.getlist(name)[-1]) for name in names if name in request.form
    }


def make_visible(text: str) -> str:
    """What cannot stand in a page, and what nobody types, as the sign for it."""
    return _UNSEEN.sub("\ufffd", text)


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
