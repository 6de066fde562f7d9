"""Reasons that people give for what they do to a customer; they stand in the audit trail."""

from __future__ import annotations

from models import is_storable
from services.errors import InvalidInput

LONGEST_REASON = 500


def check_reason(reason: str) -> str:
    """The reason on one line. Raises InvalidInput naming `reason`."""
    if not is_storable(reason):
        raise InvalidInput(
            "reason", "The reason contains a character that cannot be kept. Type it by hand."
        )
    reason = " ".join(reason.split())
    if not reason:
        raise InvalidInput("reason", "Write why. It stands in the audit trail.")
    if len(reason) > LONGEST_REASON:
        raise InvalidInput(
            "reason", f"The reason has {len(reason):,} characters. The limit is {LONGEST_REASON}."
        )
    return reason
