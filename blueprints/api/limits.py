"""Rate limits, and the header fields that tell of them (draft-ietf-httpapi-ratelimit-headers)."""

from __future__ import annotations

from flask import Response, g

from blueprints.api.problems import Refused
from services import api_limits
from services.api_limits import Quota

HEADERS = ("RateLimit-Policy", "RateLimit")


def admit(credential_id: int) -> None:
    """Count a request of a known credential. Raises Refused when there were too many."""
    quota = api_limits.count_call(credential_id)
    g.api_quota = quota
    _refuse_when_used_up(quota)


def admit_unknown(address: str) -> None:
    """Count a request whose credentials are not valid, whether their name exists or not."""
    _refuse_when_used_up(api_limits.count_unknown(address))


def _refuse_when_used_up(quota: Quota | None) -> None:
    if quota is not None and quota.is_used_up:
        raise Refused(
            "too-many-requests",
            f"{quota.amount} requests in {quota.window} seconds are taken. "
            f"Go on in {quota.retry_after} seconds.",
            headers={"Retry-After": str(quota.retry_after)},
        )


def add_headers(response: Response) -> Response:
    quota: Quota | None = g.get("api_quota")
    if quota is not None:
        response.headers["RateLimit-Policy"] = f'"default";q={quota.amount};w={quota.window}'
        response.headers["RateLimit"] = f'"default";r={quota.remaining};t={quota.reset}'
    return response
