"""Idempotency-Key: who repeats a POST gets the answer of the first one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from flask import Response, request

from blueprints.api.problems import Refused
from services import idempotency
from services.idempotency import AnswerLost, InFlight, KeptAnswer, KeyReused

if TYPE_CHECKING:
    from blueprints.api.operations import Call

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
_VISIBLE = re.compile(r"[\x21-\x7e]{1,255}")
_KEPT_HEADERS = ("Content-Type", "Location", "ETag", "Link")


def has_key() -> bool:
    """Whether the request has a key."""
    return HEADER in request.headers


def answer_once(call: Call, view: Callable[[Call], Response]) -> Response:
    """What `view` answers, or what it answered to the first request with the key.

    Kept is the answer of a request that was carried out. A refusal did nothing, so it leaves the
    key free: the repeat is judged anew.
    """
    key = request.headers.get(HEADER)
    if key is None or call.operation.method != "POST":
        return view(call)
    if not _VISIBLE.fullmatch(key):
        raise Refused(
            "invalid-input",
            "One value cannot be accepted.",
            errors=[{"field": HEADER, "detail": "Use 1 to 255 visible ASCII characters."}],
        )
    try:
        held = idempotency.hold_key(call.actor.credential_id or 0, key, _fingerprint(call))
        if isinstance(held, KeptAnswer):
            return _replay(held)
        return _answer_first(call, view, held)
    except KeyReused:
        raise Refused(
            "key-reused",
            "This Idempotency-Key came with another path or body before. Use a new key for each "
            "request, and the same only to repeat it.",
        ) from None
    except InFlight as error:
        raise Refused(
            "request-in-flight",
            "Repeat it after the seconds in Retry-After to learn its answer.",
            headers={"Retry-After": str(error.retry_after)},
        ) from None
    except AnswerLost:
        raise Refused(
            "answer-lost",
            "It will not be carried out again. Look at what it was about to see what became of it.",
        ) from None


def _answer_first(
    call: Call, view: Callable[[Call], Response], held: idempotency.HeldKey
) -> Response:
    try:
        with idempotency.marked_done(held):
            response = view(call)
    except BaseException:
        idempotency.free_key(held)
        raise
    if response.status_code >= 400:
        idempotency.free_key(held)
        return response
    headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
    idempotency.keep_answer(
        held, KeptAnswer(response.status_code, headers, bytes(response.get_data()))
    )
    return response


def _replay(kept: KeptAnswer) -> Response:
    response = Response(kept.body, kept.status, {REPLAYED: "true"})
    if "Content-Type" not in kept.headers:
        response.headers.pop("Content-Type", None)
    response.headers.update(kept.headers)
    return response


def _fingerprint(call: Call) -> str:
    """The same below both bases, and however the body's JSON is written; no body is an empty
    one."""
    numbers = [call.groupno, call.custno]
    named = [call.operation.id, numbers, sorted(call.ids.items()), sorted(request.args.items())]
    body = json.dumps(json.loads(request.get_data() or b"{}"), sort_keys=True)
    return idempotency.fingerprint(json.dumps(named).encode(), body.encode())
