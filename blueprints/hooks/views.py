"""Addresses that other systems send to; each request is signed (Standard Webhooks)."""

from __future__ import annotations

import json
import logging
from typing import Any

from flask import Blueprint, Response, request

from blueprints.security import public
from extensions import csrf, get_settings
from models import utcnow
from services.bounces import record_bounce
from services.webhook_signatures import is_signed

bp = Blueprint("hooks", __name__, url_prefix="/hooks")
csrf.exempt(bp)

log = logging.getLogger(__name__)

_RETRY_SECONDS = 60


@bp.post("/bounce")
@public
def bounce() -> Response:
    """Take a returned mail: as it is (message/rfc822), or in JSON with its envelope recipient."""
    secret = get_settings().bounce_hook_secret
    if not secret:
        return _answer(404, "There is no such address here.")
    if request.mimetype not in {"message/rfc822", "application/json"}:
        return _answer(415, "Send message/rfc822, or application/json with recipient and message.")
    body = request.get_data()
    if not _is_signed(secret, body):
        return _answer(401, "The signature or its time is wrong.")
    recipient, raw = _content(body)
    if raw is None:
        return _answer(400, "The JSON has no text named message.")
    result = record_bounce(raw, recipient)
    log.info("%s", result.sentence)
    if result.try_again:
        return _answer(503, result.sentence, {"Retry-After": str(_RETRY_SECONDS)})
    return Response(status=204)


def _is_signed(secret: str, body: bytes) -> bool:
    headers = request.headers
    return is_signed(
        secret,
        headers.get("webhook-id", ""),
        headers.get("webhook-timestamp", ""),
        headers.get("webhook-signature", ""),
        body,
        utcnow(),
    )


def _content(body: bytes) -> tuple[str | None, bytes | None]:
    """Envelope recipient and message of a request; no message where there is none."""
    if request.mimetype == "message/rfc822":
        return None, body
    try:
        content: Any = json.loads(body)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or not isinstance(content.get("message"), str):
        return None, None
    recipient = content.get("recipient")
    message = content["message"].encode("utf-8", "replace")
    return (recipient if isinstance(recipient, str) else None), message


def _answer(status: int, sentence: str, headers: dict[str, str] | None = None) -> Response:
    return Response(f"{sentence}\n", status, headers, mimetype="text/plain")
