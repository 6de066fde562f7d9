"""How the API refuses: RFC 9457 problems, and the one answer that the seed documents."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flask import Response, g, request

API_PREFIXES = ("/api/v1/", "/tiab/api/v1/")

INVALID_ACCESS = "Invalid access"
_BACK_WITHIN = "5"
_CHALLENGE = 'Basic realm="Foyer API", charset="UTF-8"'


@dataclass(frozen=True, slots=True)
class Problem:
    """A kind of refusal; `name` is the last part of its stable `type`."""

    name: str
    status: int
    title: str


PROBLEMS = {
    problem.name: problem
    for problem in (
        Problem("malformed-request", 400, "The request cannot be read"),
        Problem("no-such-address", 404, "There is no such address"),
        Problem("method-not-allowed", 405, "This address does not know the method"),
        Problem("conflict", 409, "The state of things does not allow this"),
        Problem("request-in-flight", 409, "The first request with this key is still under way"),
        Problem("answer-lost", 409, "The request was carried out and its answer was lost"),
        Problem("changed-meanwhile", 412, "It was changed since you read it"),
        Problem("too-large", 413, "The request is too large"),
        Problem("unsupported-media-type", 415, "The body is not JSON"),
        Problem("invalid-input", 422, "Some values cannot be accepted"),
        Problem("key-reused", 422, "The key belongs to another request"),
        Problem("too-many-requests", 429, "Too many requests"),
        Problem("internal-error", 500, "Something went wrong on our side"),
        Problem("unavailable", 503, "The service cannot answer at the moment"),
    )
}

_OF_STATUS = {
    400: "malformed-request",
    404: "no-such-address",
    405: "method-not-allowed",
    409: "conflict",
    412: "changed-meanwhile",
    413: "too-large",
    415: "unsupported-media-type",
    422: "invalid-input",
    429: "too-many-requests",
    503: "unavailable",
}


class Refused(Exception):
    """A refusal of the API itself; `errors` name the fields."""

    def __init__(
        self,
        name: str,
        detail: str,
        *,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.problem = PROBLEMS[name]
        self.detail = detail
        self.errors = errors
        self.headers = headers or {}
        super().__init__(detail)


class InvalidAccess(Exception):
    """The caller may not know or do this; `is_unknown` when nobody knows who he is."""

    def __init__(self, *, is_unknown: bool = False) -> None:
        self.is_unknown = is_unknown
        super().__init__(INVALID_ACCESS)


def is_api_request() -> bool:
    return request.path.startswith(API_PREFIXES)


def invalid_access(*, is_unknown: bool = False) -> Response:
    """The documented 403, one body for everything that the caller may not know or do."""
    response = Response(INVALID_ACCESS, 403, mimetype="text/plain")
    if is_unknown:
        response.headers["WWW-Authenticate"] = _CHALLENGE
    return response


def problem(
    name: str,
    detail: str | None = None,
    *,
    errors: Sequence[Mapping[str, str]] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """An application/problem+json answer; `detail` says what to do about it."""
    kind = PROBLEMS[name]
    body: dict[str, object] = {
        "type": f"/api/v1/problems/{kind.name}",
        "title": kind.title,
        "status": kind.status,
        "request_id": g.get("request_id", ""),
    }
    if detail:
        body["detail"] = detail
    if errors:
        body["errors"] = list(errors)
    return Response(
        json.dumps(body, ensure_ascii=False),
        kind.status,
        dict(headers or {}),
        mimetype="application/problem+json",
    )


def invalid_input(faults: Sequence[tuple[str, str]]) -> Response:
    """The 422 with every fault, pairs of a field and its message."""
    count = "One value" if len(faults) == 1 else f"{len(faults)} values"
    return problem(
        "invalid-input",
        f"{count} cannot be accepted.",
        errors=[{"field": field, "detail": message} for field, message in faults],
    )


def report_status(
    status: int, message: str | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """What `errors.report` answers to a caller of the API."""
    if status in {401, 403}:
        return invalid_access()
    if status == 503:
        headers = {"Retry-After": _BACK_WITHIN, **(headers or {})}
    known = _OF_STATUS.get(status, "malformed-request" if status < 500 else "internal-error")
    return problem(known, message, headers=headers)
