"""The form of a permission profile: its name, and a box for each item."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wtforms import Field, StringField
from wtforms.validators import InputRequired

from blueprints.forms import SeenForm, strip
from models import PermissionProfile
from services.actors import delegated
from services.profile_items import ITEMS


class PermissionsField(Field):  # type: ignore[misc]
    """Check boxes of permissions; the value is a frozenset of Permission."""

    def process_data(self, value: Any) -> None:
        self.data = frozenset(value or ())

    def process_formdata(self, valuelist: Sequence[Any]) -> None:
        self.data = frozenset(
            item.permission for item in ITEMS if item.permission.value in valuelist
        )


class ProfileForm(SeenForm):
    """A new profile has no version."""

    name = StringField("Name", filters=[strip], validators=[InputRequired("Give it a name.")])
    permissions = PermissionsField("Supervisors with it may")


def fill_in(profile: PermissionProfile) -> dict[str, Any]:
    """The data of a ProfileForm for a profile as it is."""
    return {
        "version": profile.version,
        "name": profile.name,
        "permissions": delegated(profile.permissions),
    }
