"""Envelope senders that say which mail came back: `bounces+<delivery>-<mac>@example.com` (VERP).

The MAC is what makes a returned mail believable: nobody who has not been sent the mail, or carried
it, knows the address.
"""

from __future__ import annotations

import hmac
import re
from hashlib import blake2b

from config import Settings
from services.mail_headers import envelope_address

_MAC_BYTES = 8
_LONGEST = 512
# Whatever a server puts before it (BATV's and SRS's tags, another delimiter) is left aside.
_TAG = re.compile(rf"(?:\A|[^0-9a-z])([1-9][0-9]{{0,18}})-([0-9a-f]{{{_MAC_BYTES * 2}}})\Z")


class BounceAddresses:
    """Writes and reads the addresses of one installation. Immutable; share it between threads."""

    def __init__(self, settings: Settings) -> None:
        self._key = blake2b(
            settings.secret_key.encode(), digest_size=32, person=b"foyer-bounce"
        ).digest()
        sender, _ = envelope_address(settings.bounce_address or settings.mail_default_sender)
        local, _, domain = sender.rpartition("@")
        self._before, self._after = f"{local}+", f"@{domain}"
        self._plain_sender = "" if settings.bounce_address else sender

    def address_for(self, delivery_id: int) -> str:
        """The envelope sender of a delivery's mail, in ASCII and lower case after the `+`.

        The sender of all mail where BOUNCE_ADDRESS is off.
        """
        if self._plain_sender:
            return self._plain_sender
        return f"{self._before}{delivery_id}-{self._mac(delivery_id)}{self._after}"

    def find_delivery(self, address: str) -> int | None:
        """The id of the delivery whose address this is; None when the MAC does not fit.

        The domain is not compared, and case, quotes, angle brackets and what stands before the tag
        do not matter: servers rewrite them on the way.
        """
        if len(address) > _LONGEST:
            return None
        text = address.strip().strip("<>").lower()
        local = text.rpartition("@")[0] or text
        found = _TAG.search(local.strip('"'))
        if found is None:
            return None
        delivery_id = int(found[1])
        return delivery_id if hmac.compare_digest(found[2], self._mac(delivery_id)) else None

    def _mac(self, delivery_id: int) -> str:
        # Keyed BLAKE2b is a MAC by itself, and half the price of HMAC.
        return blake2b(b"%d" % delivery_id, key=self._key, digest_size=_MAC_BYTES).hexdigest()
