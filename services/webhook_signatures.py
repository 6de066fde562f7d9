"""Signatures of requests that other systems send, as Standard Webhooks has them."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import datetime, timedelta

_TOLERANCE = timedelta(minutes=5)
_PREFIX = "whsec_"
_LONGEST = 4096


def sign(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    """The signature of a request, as it stands in the header `webhook-signature`."""
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    signed = f"{message_id}.{timestamp}.".encode("utf-8", "surrogatepass") + body
    return f"v1,{base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()}"


def is_signed(
    secret: str, message_id: str, timestamp: str, signatures: str, body: bytes, now: datetime
) -> bool:
    """Whether one of `signatures`, separated by blanks, is ours and the time is about `now`."""
    if not (message_id and timestamp.isascii() and timestamp.isdecimal() and len(timestamp) < 12):
        return False
    if abs(now.timestamp() - int(timestamp)) > _TOLERANCE.total_seconds():
        return False
    wanted = sign(secret, message_id, timestamp, body).encode()
    given = signatures[:_LONGEST].encode("utf-8", "surrogatepass").split()
    return any(hmac.compare_digest(each, wanted) for each in given)
