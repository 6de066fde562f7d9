"""What the pages of webhooks are sent."""

from __future__ import annotations

from wtforms import IntegerField
from wtforms.widgets import HiddenInput

from blueprints.forms import Form

_LARGEST_VERSION = 2**31 - 1


class VersionForm(Form):
    """A change of the webhook that the reader has seen."""

    version = IntegerField(widget=HiddenInput())

    @property
    def versions(self) -> set[int]:
        """What the reader has seen; nothing where the field is none, which no webhook has."""
        seen = self.version.data
        return {seen} if isinstance(seen, int) and 0 < seen <= _LARGEST_VERSION else set()
