"""The forms of bundles. The rules are the service's."""

from __future__ import annotations

from wtforms import StringField, TextAreaField

from blueprints.customers.forms import VersionForm
from blueprints.forms import Form


class DescribeForm(VersionForm):
    services = TextAreaField("Services")


class NewForm(Form):
    name = StringField("Name")
    services = TextAreaField("Services")
