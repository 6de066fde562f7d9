"""What the list of suppressed addresses is sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from blueprints.forms import Form, IdsField, parse_ids
from services.errors import InvalidInput


def parse_addresses(values: Sequence[str]) -> list[int]:
    """The ids of suppressions in `values`, each once. Raises InvalidInput for what is none."""
    try:
        return parse_ids(values)
    except InvalidInput:
        raise InvalidInput("address", "An address named in this request is not one.") from None


class AddressesField(IdsField):
    def process_formdata(self, valuelist: Sequence[Any]) -> None:
        self.data = parse_addresses(valuelist)


class ClearForm(Form):
    """The confirmation; `address` are ids of suppressions."""

    address = AddressesField()
