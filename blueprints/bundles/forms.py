"""The forms of bundles. The rules are the service's."""

from __future__ import annotations

from wtforms import StringField, TextAreaField

from blueprints.customers.forms import TextForm, VersionForm


class DescribeForm(VersionForm):
    services = TextAreaField("Services")


class NewForm(TextForm):
    name = StringField("Name")
    services = TextAreaField("Services")
