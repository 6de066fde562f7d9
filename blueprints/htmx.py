"""One way to answer: the whole page to a browser, the partial it includes to htmx."""

from __future__ import annotations

from typing import Any

from flask import Response, make_response, redirect, render_template, request


def wants_fragment() -> bool:
    """Whether htmx asks; restoring from history wants the whole page."""
    headers = request.headers
    return bool(headers.get("HX-Request")) and not headers.get("HX-History-Restore-Request")


def respond(
    page: str, partial: str | None = None, *, status: int = 200, **context: Any
) -> Response:
    """Render `page`, or for htmx `partial` with messages beside it out of band."""
    if partial is not None and wants_fragment():
        body = render_template(partial, **context) + render_template("_toasts.html")
    else:
        body = render_template(page, **context)
    return make_response(body, status)


def go(location: str) -> Response:
    """Send the browser on after a change, with htmx or without."""
    if request.headers.get("HX-Request"):
        return Response(status=204, headers={"HX-Redirect": location})
    return redirect(location, 303)  # type: ignore[return-value]
