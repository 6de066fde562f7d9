"""Mails as they will look, for a frame on a page."""

from __future__ import annotations

from flask import Response

# Mail is shown in a frame of its own: its styles are inline, and nothing in it may run or load.
_FRAME_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox; frame-ancestors 'self'"
)


def frame_mail(html: str) -> Response:
    """The mail alone, as an answer that only a frame of our own pages may show."""
    headers = {"Content-Security-Policy": _FRAME_POLICY, "X-Frame-Options": "SAMEORIGIN"}
    return Response(html, headers=headers)
